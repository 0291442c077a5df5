"""Frames of a selection: against plain questions to the same store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import workbench.metrics
from tests.widgets import metrics_store
from workbench.errors import QueryFailed, StoreError
from workbench.metrics.export import export
from workbench.metrics.figures import CHARTS
from workbench.metrics.journal import JournalWriter
from workbench.metrics.overview import FILTERS, Overview, Selection
from workbench.metrics.reader import Metrics

MOST_BYTES = 100_000


@pytest.fixture(scope="module")
def week(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Metrics]:
    """Open a store with a week of work."""
    folder = metrics_store.fill(tmp_path_factory.mktemp("week") / "metrics")
    with workbench.metrics.open(folder) as metrics:
        yield metrics


def overview(metrics: Metrics, **chosen: Any) -> Overview:
    """Return the overview of a selection."""
    return Overview(metrics, metrics.folder, Selection.of(**chosen))


def test_the_headline_is_what_sql_says(week: Metrics) -> None:
    """Counts, percentile, rate and share follow the rules of the named questions."""
    now, before = overview(week, model="gemma3:12b").headline()
    assert before is None
    row = week.sql(
        "SELECT count(*) AS n, quantile_cont(duration, 0.95) FILTER (status = 'ok' AND NOT cold) "
        "AS p95, sum(gen_ai_usage_output_tokens) / sum(ollama_eval_duration) AS rate, "
        "avg((status = 'error')::INT) AS failed FROM requests "
        "WHERE gen_ai_request_model = 'gemma3:12b'"
    ).iloc[0]
    assert row["n"] == now.requests
    measured = (now.p95_s, now.tokens_per_s, now.error_share)
    assert pytest.approx((row["p95"], row["rate"], row["failed"])) == measured


def test_the_time_before_has_the_same_length(week: Metrics) -> None:
    """A beginning and an end give the time just before; without a beginning there is none."""
    chosen = Selection.of("2026-11-10T00:00", "2026-11-12T00:00")
    before = chosen.before
    assert before is not None
    assert ("2026-11-08T00:00:00", "2026-11-10T00:00:00") == (
        str(before.since).replace(" ", "T"),
        str(before.until).replace(" ", "T"),
    )
    assert Selection.of(until="2026-11-12").before is None


def test_a_time_that_runs_backwards_is_refused() -> None:
    """An end that is not after the beginning raises with a hint."""
    with pytest.raises(StoreError, match="not after its beginning") as failure:
        Selection.of("2026-11-12", "2026-11-12")
    assert failure.value.hint is not None


@pytest.mark.parametrize("name", FILTERS)
def test_each_filter_narrows(week: Metrics, name: str) -> None:
    """Every value of every filter selects the requests that the list of choices counts."""
    for value, count in overview(week).choices()[name]:
        assert count == overview(week, **{name: value}).headline()[0].requests


@pytest.mark.parametrize("name", CHARTS)
def test_figures_are_small_and_have_units(week: Metrics, name: str) -> None:
    """Each chart has data, is under 100 kB, and takes the tables it names."""
    figure = CHARTS[name].draw(overview(week))
    assert figure.data
    assert len(figure.to_json()) < MOST_BYTES
    assert set(CHARTS[name].tables) <= {"requests", "gpu_samples", "model_events", "spans"}


@pytest.mark.parametrize("name", CHARTS)
def test_figures_of_nothing(tmp_path: Path, name: str) -> None:
    """On an empty store each chart is a readable empty figure."""
    with workbench.metrics.open(tmp_path / "none") as metrics:
        figure = CHARTS[name].draw(overview(metrics))
    assert not figure.data
    assert figure.layout.annotations[0].text


def test_a_page_of_rows(week: Metrics) -> None:
    """Rows come in the asked order, a page at a time, and an unknown order is refused."""
    first = overview(week).rows(by="output_tokens")
    second = overview(week).rows(by="output_tokens", offset=100)
    assert first["output_tokens"].is_monotonic_decreasing
    assert first["output_tokens"].iloc[-1] >= second["output_tokens"].iloc[0]
    assert not set(first["id"]) & set(second["id"])
    with pytest.raises(StoreError, match="cannot be ordered"):
        overview(week).rows(by="1; DROP TABLE requests")


def test_memory(week: Metrics) -> None:
    """Memory is the peak of each interval, and the card's own memory is told beside it."""
    held, events, limit_bytes = overview(week, since=86400).memory()
    assert metrics_store.CARD_BYTES == limit_bytes
    assert {"qwen3:4b", "llama3.2:3b", "gemma3:12b"} == set(held["model"])
    assert {"load"} == set(events["event"])
    assert 9_100_000_000 == held["bytes"].max()
    events = week.sql("SELECT DISTINCT model, digest FROM model_events").set_index("model")
    for model, rows in held.groupby("model"):
        assert {events["digest"][model]} == set(rows["model_digest"])


def test_gaps_are_single_ones_where_they_were_recorded(week: Metrics, tmp_path: Path) -> None:
    """The chart takes each gap where a setting kept them, else the median of each request."""
    frame, medians = overview(week).gaps()
    assert medians
    assert 600 == len(frame)
    with JournalWriter(tmp_path / "metrics") as writer:
        row = {"status": "ok", "gen_ai_request_model": "owl:7b", "chunk_gaps": [0.01, 0.02, 0.5]}
        writer.write("requests", row)
        with workbench.metrics.open(tmp_path / "metrics") as metrics:
            frame, medians = overview(metrics).gaps()
    assert not medians
    assert [0.01, 0.02, 0.5] == sorted(frame["gap_s"])


def test_only_the_condition_is_exported(week: Metrics, tmp_path: Path) -> None:
    """An export takes a condition; one that reaches for something else is refused."""
    where = Selection.of(since=86400, status="error", client="o'brien").condition()
    assert "client_name = 'o''brien'" in where
    chosen = Selection.of(status="error").condition()
    done = export(week.folder, tmp_path / "out", format="csv", tables=["requests"], where=chosen)
    assert overview(week, status="error").headline()[0].requests == done.rows["requests"]
    for escape in ("1 = 1); DROP TABLE requests; --", "id IN (FROM read_text('/etc/passwd'))"):
        with pytest.raises(QueryFailed):
            export(week.folder, tmp_path / "no", tables=["requests"], where=escape)
    assert not (tmp_path / "no").exists()


def test_a_query_can_be_ended(week: Metrics) -> None:
    """A cursor that is interrupted while idle still answers; nothing of it is broken."""
    cursor = week.cursor()
    cursor.interrupt()
    assert 600 == cursor.sql("SELECT count(*) AS n FROM requests")["n"][0]
    cursor.close()
