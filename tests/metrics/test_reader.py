from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import workbench.metrics
from tests.metrics.conftest import START, request_row
from workbench.errors import QueryFailed, SchemaTooNew, StoreError
from workbench.metrics import Metrics
from workbench.metrics.compact import compact
from workbench.metrics.journal import JournalWriter
from workbench.metrics.manifest import read_manifest
from workbench.metrics.schema import REQUESTS, SCHEMA, TABLES, Column, Migration, Schema

ENDLESS = (
    "SELECT sum(hash(a.range + b.range) % 7) FROM range(100000000) AS a, range(100000000) AS b"
)


def statuses(metrics: Metrics) -> dict[str, str]:
    """Return the status of each request."""
    frame = metrics.sql("SELECT id, status FROM requests")
    return dict(zip(frame["id"], frame["status"], strict=True))


def test_an_empty_store_can_be_asked(metrics: Metrics) -> None:
    """Before anything was written, every table is there and has no rows."""
    for table in [*TABLES, "calls"]:
        assert metrics.sql(f"FROM {table}").empty
    assert [] == metrics.problems()
    assert not metrics.folder.exists()


def test_a_file_is_no_store(tmp_path: Path) -> None:
    """Opening a file says that it is none."""
    path = tmp_path / "file"
    path.write_text("", encoding="utf-8")
    with pytest.raises(StoreError, match="not a folder"):
        workbench.metrics.open(path)


def test_types_are_those_of_the_schema(writer: JournalWriter, metrics: Metrics) -> None:
    """The columns of every table have the names and types of the schema, live and sealed."""
    for table in TABLES:
        writer.write(table, {"id": "x"})
    expected = {t.name: [(c.name, c.type) for c in t.columns] for t in TABLES.values()}

    def described() -> dict[str, list[tuple[str, str]]]:
        frames = {name: metrics.sql(f"DESCRIBE {name}") for name in TABLES}
        return {
            name: list(zip(frame["column_name"], frame["column_type"], strict=True))
            for name, frame in frames.items()
        }

    assert expected == described()
    writer.close()
    compact(metrics.folder)
    assert expected == described()


def test_times_are_utc(writer: JournalWriter, metrics: Metrics) -> None:
    """A time comes back as the moment it was, in UTC, whatever the zone of the machine."""
    writer.write("votes", {"id": "x", "ts": datetime(2026, 7, 1, 12, tzinfo=UTC)})
    frame = metrics.sql("SELECT ts, ts = TIMESTAMP '2026-07-01 12:00' AS same FROM votes")
    assert datetime(2026, 7, 1, 12) == frame["ts"][0].to_pydatetime()
    assert frame["same"][0]


def test_the_end_of_a_request_replaces_its_beginning(
    writer: JournalWriter, metrics: Metrics
) -> None:
    """The open row and the final one are one request, whose last row counts."""
    writer.write("requests", request_row(1, status="open", duration=None))
    assert {"r0001": "open"} == statuses(metrics)
    writer.write("requests", request_row(1, status="cancelled"))
    assert {"r0001": "cancelled"} == statuses(metrics)


def test_a_clock_that_goes_back_changes_nothing(writer: JournalWriter, metrics: Metrics) -> None:
    """The order of writing decides, not the times in the rows."""
    writer.write("requests", request_row(1, status="open"))
    writer.write("requests", request_row(1, ts=START - timedelta(days=3), status="ok"))
    writer.write("requests", request_row(1, ts=START - timedelta(days=5), status="error"))
    assert {"r0001": "error"} == statuses(metrics)


def test_an_end_is_never_replaced_by_a_beginning(folder: Path, metrics: Metrics) -> None:
    """An open row that is written after the end, as by a second writer, does not count."""
    for status in ("ok", "open"):
        with JournalWriter(folder) as writer:
            writer.write("requests", request_row(1, status=status))
    assert {"r0001": "ok"} == statuses(metrics)


def test_a_request_of_a_dead_server_is_lost(folder: Path, metrics: Metrics) -> None:
    """A row without its end reads `open` while its writer lives, and `lost` afterwards."""
    writer = JournalWriter(folder)
    writer.write("requests", request_row(1, status="open"))
    writer.write("requests", request_row(2))
    assert {"r0001": "open", "r0002": "ok"} == statuses(metrics)
    writer.close()
    assert {"r0001": "lost", "r0002": "ok"} == statuses(metrics)


def test_a_half_line_is_not_seen(folder: Path, writer: JournalWriter, metrics: Metrics) -> None:
    """A line that is still being written is no row."""
    writer.write("requests", request_row(1))
    (path,) = (folder / "live/requests").iterdir()
    with path.open("ab") as file:
        file.write(b'{"id":"r0002","status":"ok"')
        file.flush()
        assert {"r0001": "ok"} == statuses(metrics)
        file.write(b"}\n")
        file.flush()
        assert {"r0001": "ok", "r0002": "ok"} == statuses(metrics)


def test_readers_see_new_rows_at_once(writer: JournalWriter, metrics: Metrics) -> None:
    """Each query sees every row that was kept before it began."""
    for number in range(20):
        writer.write("votes", {})
        assert number + 1 == metrics.sql("SELECT count(*) AS n FROM votes")["n"][0]


def test_cursors_do_not_disturb_each_other(writer: JournalWriter, metrics: Metrics) -> None:
    """Several threads ask at once, each with its own cursor, while rows are written and sealed."""
    errors: list[Exception] = []

    def ask() -> None:
        cursor = metrics.cursor()
        try:
            for _ in range(10):
                frame = cursor.sql("SELECT count(*) AS n, count(DISTINCT id) AS d FROM votes")
                assert frame["n"][0] == frame["d"][0]
        except Exception as exc:
            errors.append(exc)
        finally:
            cursor.close()

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        writer.write("votes", {})
        writer.close()
        compact(metrics.folder)
    for thread in threads:
        thread.join()
    assert [] == errors


def test_reading_goes_on_when_files_vanish(folder: Path, metrics: Metrics) -> None:
    """A file that is merged away between two looks makes the reader look again."""
    for number in range(3):
        with JournalWriter(folder) as writer:
            writer.write("requests", request_row(number))
        compact(folder, grace_s=0)
        compact(folder, grace_s=0)
        assert number + 1 == len(statuses(metrics))


def test_a_broken_sealed_file_is_left_out(folder: Path, metrics: Metrics) -> None:
    """A Parquet file that cannot be read is named; the rows of the others are still read."""
    for number in (1, 2):
        with JournalWriter(folder) as writer:
            writer.write("requests", request_row(number))
        compact(folder, grace_s=0)
    first, second = (folder / file.name for file in read_manifest(folder).of("requests"))
    first.write_bytes(b"PAR1 no more")
    assert {"r0002": "ok"} == statuses(metrics)
    assert [first.name] == [Path(problem.file).name for problem in metrics.problems()]
    second.unlink()
    assert {} == statuses(metrics)
    assert 2 == len(metrics.problems())


# --- versions

RENAMED = replace(
    REQUESTS,
    columns=(
        *(column for column in REQUESTS.columns if column.name != "duration"),
        Column("duration_ms", "DOUBLE", "", "The duration, as another version names it."),
        Column("brand_new", "VARCHAR", "", "A column that older rows lack."),
    ),
)
NEWER = Schema(
    2,
    {**TABLES, "requests": RENAMED},
    (Migration(2, "requests", {"duration_ms": "duration * 1000"}, {"duration": "DOUBLE"}),),
)


@pytest.fixture
def newer(folder: Path) -> Iterator[Metrics]:
    """The store as the next version of the workbench reads it."""
    with workbench.metrics.open(folder, schema=NEWER) as metrics:
        yield metrics


def test_older_rows_are_migrated(folder: Path, newer: Metrics) -> None:
    """Live and sealed rows of an older version read as the newer one has them."""
    with JournalWriter(folder) as writer:
        writer.write("requests", request_row(1, duration=2.0))
    query = "SELECT id, duration_ms, brand_new FROM requests ORDER BY id"
    assert [2000.0] == list(newer.sql(query)["duration_ms"])
    compact(folder)
    with JournalWriter(folder) as writer:
        writer.write("requests", request_row(2, duration=3.0))
    frame = newer.sql(query)
    assert [2000.0, 3000.0] == list(frame["duration_ms"])
    assert frame["brand_new"].isna().all()


def test_two_versions_stand_side_by_side(folder: Path, newer: Metrics) -> None:
    """Files of both versions are read together, and sealed as the newer one."""
    with JournalWriter(folder) as writer:
        writer.write("requests", request_row(1, duration=2.0))
    compact(folder)
    live = folder / "live/requests/host-1-abc-000000.v2.jsonl"
    live.write_text('{"id":"r0002","status":"ok","duration_ms":7,"schema_v":2}\n', "utf-8")
    query = "SELECT duration_ms FROM requests ORDER BY id"
    assert [2000.0, 7.0] == list(newer.sql(query)["duration_ms"])
    compact(folder, schema=NEWER)
    assert {1, 2} == {file.schema_v for file in read_manifest(folder).files}
    assert [2000.0, 7.0] == list(newer.sql(query)["duration_ms"])


def test_newer_files_are_refused_and_kept(folder: Path, metrics: Metrics) -> None:
    """A table a newer version wrote raises `SchemaTooNew`; other tables can be read."""
    with JournalWriter(folder) as writer:
        writer.write("votes", {"id": "v"})
    live = folder / "live/requests/host-1-abc-000000.v2.jsonl"
    live.parent.mkdir(parents=True)
    live.write_text('{"id":"r0002","status":"ok","duration_ms":7,"schema_v":2}\n', "utf-8")
    with pytest.raises(SchemaTooNew) as caught:
        metrics.sql("FROM requests")
    assert (2, SCHEMA.version) == (caught.value.found, caught.value.supported)
    assert ["v"] == list(metrics.sql("SELECT id FROM votes")["id"])
    compact(folder)
    assert live.exists()
    compact(folder, schema=NEWER)
    report = compact(folder)
    assert report is not None
    assert ["requests"] == report.newer
    with pytest.raises(SchemaTooNew):
        metrics.sql("FROM requests")


# --- limits


def test_a_query_is_given_up_after_its_time(metrics: Metrics) -> None:
    """A query that takes too long is ended and says so, and the next one is answered."""
    with pytest.raises(QueryFailed, match="given up after"):
        metrics.sql(ENDLESS, timeout_s=0.3)
    assert 1 == metrics.sql("SELECT 1 AS one")["one"][0]


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGINT")
def test_interrupting_ends_a_query(folder: Path) -> None:
    """Ctrl-C during a query raises `KeyboardInterrupt`, and the store can be asked again."""
    code = (
        "import os, signal, sys, threading, workbench.metrics\n"
        "m = workbench.metrics.open(sys.argv[1])\n"
        "m.sql('SELECT 1')\n"
        "threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
        "try:\n"
        "    m.sql(sys.argv[2])\n"
        "except KeyboardInterrupt:\n"
        "    print(m.sql('SELECT 42 AS n')['n'][0])\n"
    )
    command = [sys.executable, "-c", code, folder, ENDLESS]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert "42\n" == done.stdout, done.stderr


def test_a_query_has_a_limit_of_memory(folder: Path) -> None:
    """A query that needs more memory than allowed fails with a hint, and nothing else does."""
    with workbench.metrics.open(folder, memory_limit="50MB", threads=1) as metrics:
        with pytest.raises(QueryFailed, match="more memory"):
            metrics.sql("SELECT list(range) FROM range(100000000)")
        assert 1 == metrics.sql("SELECT 1 AS one")["one"][0]


def test_a_result_has_a_limit_of_rows(metrics: Metrics) -> None:
    """More rows than allowed are refused, with the ways out; the limit itself is allowed."""
    assert 5000 == len(metrics.sql("FROM range(5000)", max_rows=5000))
    with pytest.raises(QueryFailed, match="more than 4999 rows"):
        metrics.sql("FROM range(5000)", max_rows=4999)


@pytest.mark.parametrize(
    "value",
    [
        "repeat('x', 1000)",
        "repeat('x', 1000)::BLOB",
        "{'a': repeat('x', 1000)}",
        "[{'a': repeat('x', 1000)}]",
        "range(125)",
    ],
    ids=["text", "bytes", "struct", "structs", "numbers"],
)
def test_a_result_has_a_limit_of_memory(metrics: Metrics, value: str) -> None:
    """Wide rows are refused by what they take, long before all of them are there."""
    query = f"SELECT {value} AS wide FROM range(900000)"
    with pytest.raises(QueryFailed, match=r"more than 30000000 bytes.*max_bytes"):
        metrics.sql(query, max_bytes=30_000_000)
    assert 5000 == len(metrics.sql(f"{query} LIMIT 5000", max_bytes=30_000_000))


@pytest.mark.parametrize("where", ["range > 3000", "range < 3000"], ids=["late", "early"])
@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("range::VARCHAR", "str"),
        ("range", "Int64"),
        ("range % 2 = 0", "boolean"),
        ("TIMESTAMP '2026-01-01'", "datetime64[us]"),
        ("[range]", "object"),
    ],
    ids=["text", "number", "truth", "moment", "list"],
)
def test_a_type_does_not_depend_on_where_nulls_lie(
    metrics: Metrics, where: str, value: str, kind: str
) -> None:
    """A column whose first or last thousands are null has the type of its values."""
    frame = metrics.sql(f"SELECT CASE WHEN {where} THEN {value} END AS a FROM range(40000)")
    assert kind == str(frame["a"].dtype)


def test_a_long_result_is_whole(metrics: Metrics) -> None:
    """A result that comes in several pieces is one frame, in order, whatever their size."""
    frame = metrics.sql(
        "SELECT range AS a, nullif(range, 1) AS b FROM range(1500000) WHERE range % 2 = 1",
    )
    assert 750_000 == len(frame) == len(set(frame["a"])) == len(set(frame.index))
    assert 1 == frame["b"].isna().sum()


def test_a_limit_holds_above_an_outer_join(writer: JournalWriter, metrics: Metrics) -> None:
    """LIMIT counts although a side of the join is empty, which DuckDB 2.0.1 gets wrong."""
    for number in range(50):
        writer.write("requests", request_row(number))
    writer.write("spans", {"id": "s", "kind": "step", "status": "ok"})
    query = "FROM requests AS r LEFT JOIN (FROM spans WHERE kind = 'none') AS s USING (id) LIMIT 1"
    assert [1, 1] == [len(metrics.sql(q)) for q in (query, "FROM calls LIMIT 1")]


# --- what follows from the tables


def test_tokens_per_second_is_a_sum_over_a_sum(writer: JournalWriter, metrics: Metrics) -> None:
    """A short answer weighs less than a long one, and one without a time does not count."""
    for number, tokens, seconds in ((1, 100, 1.0), (2, 1, 1.0), (3, 50, None)):
        values = {"gen_ai_usage_output_tokens": tokens, "ollama_eval_duration": seconds}
        writer.write("requests", request_row(number, **values))
    query = "tokens_per_s(gen_ai_usage_output_tokens, ollama_eval_duration)"
    assert 50.5 == metrics.sql(f"SELECT {query} AS v FROM requests")["v"][0]


def test_nothing_measured_is_null(metrics: Metrics) -> None:
    """A rate without any time is null, and not zero or infinite."""
    query = "SELECT tokens_per_s(a, b) AS v FROM (VALUES (5, 0.0), (6, NULL)) AS t(a, b)"
    assert metrics.sql(query)["v"].isna().all()


def test_a_call_is_counted_once(writer: JournalWriter, metrics: Metrics) -> None:
    """The client's span and the server's request are one call; each alone is one too."""
    span = {"kind": "client", "status": "ok", "ts": START}
    writer.write("requests", request_row(1, parent_span_id="aa", duration=2.0))
    writer.write("spans", {**span, "id": "s1", "span_id": "aa", "duration": 2.5})
    writer.write("requests", request_row(2, parent_span_id="foreign"))
    writer.write("spans", {**span, "id": "s2", "span_id": "bb", "status": "error", "duration": 1.0})
    writer.write("spans", {**span, "id": "s3", "span_id": "cc", "kind": "step"})
    frame = metrics.sql(
        "SELECT request_id, client_s, server_s, status, error_stage FROM calls ORDER BY id"
    ).astype(object)
    rows = frame.where(frame.notna(), None).values.tolist()
    assert [
        ["r0001", 2.5, 2.0, "ok", None],
        ["r0002", None, 2.0, "ok", None],
        [None, 1.0, None, "error", "connect"],
    ] == rows


def test_several_requests_of_a_span_share_its_time_once(
    writer: JournalWriter, metrics: Metrics
) -> None:
    """Where a client tried twice, the duration of its span stands at the last request only."""
    for number in (1, 2):
        writer.write("requests", request_row(number, parent_span_id="aa"))
    writer.write(
        "spans", {"id": "s", "span_id": "aa", "kind": "client", "status": "ok", "duration": 9.0}
    )
    frame = metrics.sql("SELECT id, client_s FROM calls ORDER BY id")
    assert [False, True] == list(frame["client_s"].notna())


def test_columns_are_listed(metrics: Metrics) -> None:
    """The schema can be read as a table, with units and meanings."""
    frame = metrics.tables()
    assert sum(len(table.columns) for table in TABLES.values()) == len(frame)
    row = frame[(frame["table"] == "requests") & (frame["column"] == "duration")].iloc[0]
    assert "s" == row["unit"]


def test_a_message_that_is_not_there_is_told(metrics: Metrics) -> None:
    """Asking for a message or text that is not kept says so."""
    with pytest.raises(StoreError, match="no message"):
        metrics.parts("sha")
    with pytest.raises(StoreError, match="not there"):
        metrics.text("0" * 64)
    with pytest.raises(StoreError, match="not the name"):
        metrics.text("../../etc/passwd")


def test_opening_seals_when_it_is_due(folder: Path) -> None:
    """With `compact`, many finished files are sealed in a process of its own."""
    with JournalWriter(folder, max_rows=1) as writer:
        for _ in range(12):
            writer.write("votes", {})
    with workbench.metrics.open(folder, compact=True) as metrics:
        while not read_manifest(folder).of("votes"):
            assert 12 == metrics.sql("SELECT count(*) AS n FROM votes")["n"][0]
