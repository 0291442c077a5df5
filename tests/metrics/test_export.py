"""Taking metrics out in every format, and in again."""

from __future__ import annotations

import csv
import json
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

import workbench.metrics
from tests.metrics.conftest import START, request_row
from workbench.errors import SchemaTooNew, StoreError
from workbench.metrics import Metrics
from workbench.metrics.compact import compact
from workbench.metrics.export import FORMATS, NOTE, export, import_metrics
from workbench.metrics.journal import JournalWriter
from workbench.metrics.schema import TABLES

TEXTS = ["=1+1", "'=x", "''+y", "@cmd", "-3", '"a",b\nc', "", None, "\u2028 ж", "\tz", "' plain"]
FOLDERS = ("parquet", "csv", "jsonl")


@pytest.fixture
def filled(writer: JournalWriter, folder: Path) -> Path:
    """A store with rows in every table, sealed and live, and texts that are hard to carry."""
    for number, text in enumerate(TEXTS):
        values: dict[str, Any] = {"client_name": text, "options": {"a": text, "b": [1, None]}}
        values |= {"messages_sha": ["x", 'y,"'] if number % 2 else []}
        writer.write("requests", request_row(number, **values))
        if number == 5:
            writer.close()
            compact(folder)
    for table in TABLES:
        if table != "requests":
            writer.write(table, {"id": f"{table}1", "ts": START})
    parts = [{"type": "text", "text": "long " * 20_000}]
    writer.write("messages", {"id": "sha", "role": "user", "parts": parts, "ts": START})
    writer.write("requests", request_row(99, status="open"))
    writer.close()
    return folder


def everything(folder: Path) -> dict[str, Any]:
    """Return every table of a store as a frame."""
    with workbench.metrics.open(folder) as metrics:
        return {name: metrics.sql(f"FROM {name} ORDER BY id") for name in [*TABLES, "calls"]}


def target(tmp_path: Path, form: str) -> Path:
    """Return where an export of a format goes."""
    return tmp_path / ("out.duckdb" if form == "duckdb" else "out")


@pytest.mark.parametrize("form", [*FOLDERS, "duckdb"])
def test_an_import_gives_equal_results(filled: Path, tmp_path: Path, form: str) -> None:
    """What was exported and imported into another store answers every query alike."""
    out = target(tmp_path, form)
    exported = export(filled, out, format=form)
    assert len(TEXTS) + 1 == exported.rows["requests"]
    other = tmp_path / "other"
    assert exported.rows == {**exported.rows, **import_metrics(other, out)}
    before, after = everything(filled), everything(other)
    assert [] == [name for name in before if not before[name].equals(after[name])]


@pytest.mark.parametrize("form", FOLDERS)
def test_long_texts_travel(filled: Path, tmp_path: Path, form: str) -> None:
    """The files of long texts are in the export and in the store it is imported into."""
    export(filled, tmp_path / "out", format=form)
    import_metrics(tmp_path / "other", tmp_path / "out")
    with workbench.metrics.open(tmp_path / "other") as metrics:
        assert "long " * 20_000 == metrics.parts("sha")[0]["text"]


def test_importing_twice_adds_nothing(filled: Path, tmp_path: Path) -> None:
    """Rows that are there already are not doubled, also in the store they came from."""
    export(filled, tmp_path / "out")
    before = everything(filled)
    for _ in range(2):
        import_metrics(filled, tmp_path / "out")
    after = everything(filled)
    assert [] == [name for name in before if not before[name].equals(after[name])]


def test_a_store_can_be_imported(filled: Path, tmp_path: Path) -> None:
    """The folder of another machine's store is imported as it is, live rows included."""
    import_metrics(tmp_path / "other", filled)
    before, after = everything(filled), everything(tmp_path / "other")
    assert [] == [name for name in before if not before[name].equals(after[name])]


def test_a_time_and_tables_can_be_chosen(filled: Path, tmp_path: Path) -> None:
    """Only rows of that time, and only those tables, are written."""
    how = {"since": START + timedelta(minutes=20), "until": START + timedelta(minutes=50)}
    exported = export(filled, tmp_path / "out", tables=["requests"], **how)
    assert {"requests": 3} == exported.rows
    assert {NOTE, "requests.parquet"} == set(os.listdir(exported.path))


@pytest.mark.parametrize("form", FORMATS)
def test_nothing_is_overwritten_unasked(filled: Path, tmp_path: Path, form: str) -> None:
    """What is at the place stays, unless overwriting is asked for."""
    out = target(tmp_path, form)
    out.write_text("mine", encoding="utf-8")
    with pytest.raises(StoreError, match="there already"):
        export(filled, out, format=form)
    assert "mine" == out.read_text(encoding="utf-8")
    export(filled, out, format=form, overwrite=True)
    assert out.is_dir() == (form != "duckdb")
    assert [] == list(tmp_path.glob(".*.tmp"))


def test_a_spreadsheet_computes_nothing(filled: Path, tmp_path: Path) -> None:
    """In CSV no text begins as a formula does; numbers are as they are, times say UTC."""
    export(filled, tmp_path / "out", format="csv")
    with (tmp_path / "out/requests.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [] == [row["client_name"] for row in rows if row["client_name"][:1] in tuple("=+-@\t\r")]
    assert {"'=1+1", "''=x", "'-3"} <= {row["client_name"] for row in rows}
    assert "2026-11-20T08:00:00.000000Z" == rows[0]["ts"]


def test_lines_of_json_are_plain(filled: Path, tmp_path: Path) -> None:
    """In JSON Lines a JSON column is JSON, and a time says UTC."""
    export(filled, tmp_path / "out", format="jsonl")
    with (tmp_path / "out/requests.jsonl").open(encoding="utf-8", newline="\n") as file:
        first = json.loads(file.readline())
    assert {"a": "=1+1", "b": [1, None]} == first["options"]
    assert "2026-11-20T08:00:00.000000Z" == first["ts"]


def test_a_database_is_ready_to_use(filled: Path, tmp_path: Path) -> None:
    """The DuckDB file holds the tables, their comments and the view of calls."""
    export(filled, tmp_path / "out.duckdb", format="duckdb")
    with duckdb.connect(str(tmp_path / "out.duckdb"), read_only=True) as connection:
        calls = connection.execute("SELECT count(*) FROM calls").fetchall()
        comment = connection.execute(
            "SELECT comment FROM duckdb_columns() "
            "WHERE table_name = 'requests' AND column_name = 'duration'"
        ).fetchall()
    assert [(len(TEXTS) + 1,)] == calls
    assert comment[0][0].endswith("[s]")


def test_traces_are_those_of_opentelemetry(filled: Path, tmp_path: Path) -> None:
    """Requests are client spans with OpenTelemetry's names, times in nanoseconds."""
    export(filled, tmp_path / "out", format="otlp-json")
    lines = (tmp_path / "out/traces.jsonl").read_text(encoding="utf-8").split("\n")
    spans = [
        span
        for line in filter(None, lines)
        for resource in json.loads(line)["resourceSpans"]
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
    ]
    assert len(TEXTS) + 2 == len(spans)
    span = next(span for span in spans if span["name"] == "chat m1")
    values = {item["key"]: item["value"] for item in span["attributes"]}
    assert {"intValue": "100"} == values["gen_ai.usage.input_tokens"]
    assert {"stringValue": "m1"} == values["gen_ai.request.model"]
    assert str(int(START.timestamp()) * 10**9) == span["startTimeUnixNano"]
    assert (32, 16, 3) == (len(span["traceId"]), len(span["spanId"]), span["kind"])


def test_samples_and_scores_are_metrics_and_logs(writer: JournalWriter, tmp_path: Path) -> None:
    """GPU samples become gauges, evaluations and model events become events."""
    writer.write("gpu_samples", {"hw_id": "0", "hw_gpu_memory_usage": 5, "host": "h"})
    writer.write("evaluations", {"gen_ai_evaluation_name": "exact"})
    export(writer.folder, tmp_path / "out", format="otlp-json")
    gauges = json.loads((tmp_path / "out/metrics.jsonl").read_text(encoding="utf-8"))
    found = gauges["resourceMetrics"][0]["scopeMetrics"][0]["metrics"]
    usage = next(m for m in found if m["name"] == "hw.gpu.memory.usage")
    assert ["5"] == [point["asInt"] for point in usage["gauge"]["dataPoints"]]
    logs = json.loads((tmp_path / "out/logs.jsonl").read_text(encoding="utf-8"))
    (record,) = logs["resourceLogs"][0]["scopeLogs"][0]["logRecords"]
    assert "gen_ai.evaluation.result" == record["eventName"]


@pytest.mark.parametrize(
    ("how", "match"),
    [
        ({"format": "xml"}, "xml"),
        ({"tables": ["reqests"]}, "Did you mean 'requests'"),
        ({"since": "soon"}, "not a time"),
        ({"tables": "reqests"}, "Did you mean 'requests'"),
        ({"tables": "votes", "where": "bakend = 'a'"}, "does not fit the table votes: .*bakend"),
    ],
    ids=["format", "table", "time", "one table", "condition"],
)
def test_mistakes_are_told(folder: Path, tmp_path: Path, how: dict[str, Any], match: str) -> None:
    """An unknown format, table or time is named, and nothing is made."""
    with pytest.raises(StoreError, match=match):
        export(folder, tmp_path / "out", **how)
    assert not (tmp_path / "out").exists()


def test_what_is_no_export_is_told(folder: Path, tmp_path: Path, filled: Path) -> None:
    """A place without an export, the store itself, and OpenTelemetry's files cannot be imported."""
    with pytest.raises(StoreError, match="There is no"):
        import_metrics(tmp_path / "other", tmp_path / "none")
    with pytest.raises(StoreError, match="neither an export nor a store"):
        import_metrics(tmp_path / "other", tmp_path)
    with pytest.raises(StoreError, match="the store itself"):
        import_metrics(folder, folder)
    (tmp_path / "file").write_text("no database", encoding="utf-8")
    with pytest.raises(StoreError, match="cannot be imported"):
        import_metrics(tmp_path / "other", tmp_path / "file")


def test_a_newer_export_is_refused(filled: Path, tmp_path: Path) -> None:
    """An export of a newer version raises and adds nothing."""
    out = export(filled, tmp_path / "out").path
    note = json.loads((out / NOTE).read_text(encoding="utf-8"))
    (out / NOTE).write_text(json.dumps({**note, "schema_v": 99}), encoding="utf-8")
    with pytest.raises(SchemaTooNew):
        import_metrics(tmp_path / "other", out)


def test_an_empty_store_is_exported(folder: Path, tmp_path: Path, metrics: Metrics) -> None:
    """A store without rows gives tables without rows."""
    assert {0} == set(export(folder, tmp_path / "out").rows.values())
    assert {0} == set(import_metrics(tmp_path / "other", tmp_path / "out").values())
