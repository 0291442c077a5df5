"""The journal of a run becomes rows of the metrics: run, steps and attempts, joined to requests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import workbench.metrics
from tests.plans.carried import write_run
from workbench.metrics import Metrics, charts
from workbench.metrics.journal import JournalWriter
from workbench.plans.attempts import Attempts
from workbench.plans.rows import RunRows, request_context, span_of


def line(second: float, event: str, **fields: Any) -> dict[str, Any]:
    return {"ts": f"2026-11-20T08:00:{second:09.6f}Z", "event": event, **fields}


FAILED = {"type": "StreamBroken", "message": "gone", "hint": None}
JOURNAL = (
    line(0, "run_started", pid=1, execution=1, resumed=False),
    line(1, "step_started", step="load", attempt=1, key="a", model="m"),
    line(2, "step_failed", step="load", attempt=1, error=FAILED, final=False, seconds=1.0),
    line(3, "step_started", step="load", attempt=2, key="a", model="m"),
    line(5, "step_committed", step="load", attempt=2, key="a", seconds=2.0, outputs={}),
    line(6, "step_started", step="report", attempt=1, key="b", total=2),
    line(6, "step_started", step="report", item=0, attempt=1, key="c"),
    line(7, "step_committed", step="report", item=0, attempt=1, key="c", seconds=1.0, outputs={}),
    line(7, "step_started", step="report", item=1, attempt=1, key="d"),
)
END = (
    line(30, "run_started", pid=2, execution=2, resumed=True),
    line(31, "step_started", step="report", attempt=2, key="b", total=2),
    line(31, "step_started", step="report", item=1, attempt=2, key="d"),
    line(32, "step_committed", step="report", item=1, attempt=2, key="d", seconds=1.0, outputs={}),
    line(32, "step_committed", step="report", attempt=2, key="b", seconds=1.5, outputs={}),
    line(33, "run_finished", status="done"),
)


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[JournalWriter]:
    with JournalWriter(tmp_path / "metrics") as journal:
        yield journal


@pytest.fixture
def metrics(tmp_path: Path) -> Iterator[Metrics]:
    with workbench.metrics.open(tmp_path / "metrics") as opened:
        yield opened


def record(tmp_path: Path, writer: JournalWriter, *parts: Any, **info: Any) -> None:
    """Write a run and its rows, the journal growing part by part."""
    run_id = info.get("run_id", "r1")
    folder = write_run(tmp_path / run_id, **info)
    rows = RunRows(folder, writer.write)
    for part in parts:
        with folder.journal.open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps(item) + "\n" for item in part))
        rows.poll()


def test_attempts_of_a_run() -> None:
    """Each attempt has its times, its end and its execution; what a kill left open is lost."""
    attempts = Attempts()
    attempts.take([*JOURNAL, *END])
    told = [(a.step, a.item, a.number, a.status, a.execution) for a in attempts.all]
    assert [
        ("load", None, 1, "failed", 1),
        ("load", None, 2, "done", 1),
        ("report", None, 1, "lost", 1),
        ("report", 0, 1, "done", 1),
        ("report", 1, 1, "lost", 1),
        ("report", None, 2, "done", 2),
        ("report", 1, 2, "done", 2),
    ] == told


def test_steps_are_one_row_each(tmp_path: Path, writer: JournalWriter, metrics: Metrics) -> None:
    """A step is one row with its time in seconds and its status, however often it was written."""
    record(tmp_path, writer, JOURNAL[:4], JOURNAL[4:], END)
    frame = metrics.steps()
    assert ["load", "report"] == list(frame["step"])
    assert [4.0, 1.5] == list(frame["duration_s"])
    assert ["done", "done"] == list(frame["status"])
    assert ["m", None] == [None if pd.isna(value) else value for value in frame["model"]]
    assert {"by-hand"} == set(frame["plan"])


def test_attempts_are_rows_below_their_step(
    tmp_path: Path, writer: JournalWriter, metrics: Metrics
) -> None:
    """Each attempt has the step as its parent, an item its index, and a failed one its error."""
    record(tmp_path, writer, [*JOURNAL, *END])
    frame = metrics.steps(attempts=True)
    assert ["load #1", "load #2", "report[0] #1", "report[1] #1", "report[1] #2"] == list(
        frame["name"]
    )
    assert ["failed", "done", "done", "lost", "done"] == list(frame["status"])
    assert "StreamBroken" == frame["error_type"][0]
    parents = metrics.sql("SELECT parent_span_id FROM spans WHERE attempt IS NOT NULL")
    assert {span_of("r1", "load"), span_of("r1", "report")} == set(parents["parent_span_id"])


def test_requests_join_their_step_and_attempt(
    tmp_path: Path, writer: JournalWriter, metrics: Metrics
) -> None:
    """Requests and tokens are counted at the step, and at the attempt that asked."""
    record(tmp_path, writer, [*JOURNAL, *END])
    for number, (item, attempt) in enumerate(((None, 1), (None, 2), (None, 2))):
        context = request_context(
            run_id="r1", run_key="k1", step="load", item=item, attempt=attempt
        )
        row = {name: value for name, value in context.items() if name != "priority" and value}
        tokens = {"gen_ai_usage_input_tokens": 10, "gen_ai_usage_output_tokens": 5}
        writer.write("requests", {"id": f"q{number}", "status": "ok", **row, **tokens})
    whole = metrics.steps()
    assert [3, 0] == list(whole["n"])
    assert 15 == whole["output_tokens"][0]
    assert [1, 2, 0, 0, 0] == list(metrics.steps(attempts=True)["n"])
    joined = metrics.sql(
        "SELECT count(*) AS n FROM requests r JOIN spans s ON r.parent_span_id = s.span_id "
        "AND r.trace_id = s.trace_id WHERE s.kind = 'step'"
    )
    assert 3 == joined["n"][0]


def test_run_row_is_open_until_its_end(
    tmp_path: Path, writer: JournalWriter, metrics: Metrics
) -> None:
    """A run is one row: open while it goes on, waiting when it stopped for an answer, then ok."""
    stop = line(20, "run_finished", status="waiting")
    seen = []
    folder = write_run(tmp_path / "r1", *JOURNAL)
    rows = RunRows(folder, writer.write)
    rows.poll()
    seen.append(metrics.runs()["status"][0])
    for part in ([stop], END[:1], END[1:]):
        rows.take(part)
        seen.append(metrics.runs()["status"][0])
    assert ["open", "waiting", "open", "ok"] == seen
    runs = metrics.sql("SELECT run_key, kind, plan_id, ended FROM runs")
    assert ["k1", "plan", "by-hand"] == runs.iloc[0, :3].tolist()


def test_last_runs_of_one_plan(tmp_path: Path, writer: JournalWriter, metrics: Metrics) -> None:
    """The newest runs are taken, of one plan when it is named; replays are left out."""
    for number in range(3):
        plan = "other" if number == 2 else "by-hand"
        record(tmp_path, writer, [*JOURNAL, *END], run_id=f"r{number}", plan=plan)
    record(tmp_path, writer, [*JOURNAL, *END], run_id="r9", mode="replay")
    assert {"r0", "r1", "r2"} == set(metrics.steps()["run_id"])
    assert {"r0", "r1"} == set(metrics.steps(plan="by-hand")["run_id"])
    assert 1 == metrics.steps(1)["run_id"].nunique()


def test_gantt_of_the_last_run(tmp_path: Path, writer: JournalWriter, metrics: Metrics) -> None:
    """The frame of a run is what the Gantt chart takes."""
    record(tmp_path, writer, [*JOURNAL, *END])
    figure = charts.gantt(metrics.steps(1))
    assert {"load", "report"} == {str(name) for bar in figure.data for name in bar.y}
