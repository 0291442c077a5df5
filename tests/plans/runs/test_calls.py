"""`wb.run` and its kin, and the notebook of a plan without a process of a run around it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

from tests.plans.runs.processes import LIMIT_S, offer_kinds
from tests.plans.runs.work import plan_of, work
from workbench.app import Workbench
from workbench.client.door import client_config, open_client
from workbench.errors import PlanInvalid, StoreError
from workbench.plans.compile import compile_plan
from workbench.plans.folder import all_runs
from workbench.plans.spec import Param
from workbench.plans.state import state_of


@pytest.fixture(autouse=True)
def kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let kernels know the kind of the tests."""
    monkeypatch.setenv("PYTHONPATH", offer_kinds(tmp_path / "site"))


@pytest.fixture
def wb(tmp_path: Path) -> Iterator[Workbench]:
    """Yield a workbench whose server is not needed."""
    config = client_config(data_dir=tmp_path / "data")
    with Workbench(open_client(config, spawn=False), config=config) as made:
        yield made


PLAN = """\
plan_version: 1
plan: tried
params:
  word: {type: str, default: hello}
steps:
  - {id: say, kind: tiny_work, value: "${params.word}!"}
"""


def test_a_run_is_started_and_awaited_without_blocking_the_loop(
    wb: Workbench, tmp_path: Path
) -> None:
    """Other tasks have their turn while it is started and while it runs."""

    async def work_beside() -> None:
        began = last = time.monotonic()
        longest = 0.0
        running = asyncio.create_task(wb.arun(PLAN, {"word": "ahoy"}, name="mine", wait=True))
        while not running.done():
            await asyncio.sleep(0.01)
            longest, last = max(longest, time.monotonic() - last), time.monotonic()
        handle = running.result()
        assert "done" == handle.state().status
        assert "ahoy!" == handle.outputs("say")["value"]
        events = [line["event"] async for line in handle.aevents()]
        assert ("run_started", "run_finished") == (events[0], events[-1])
        assert longest < (last - began) / 2

    asyncio.run(work_beside())
    (row,) = wb.runs()
    assert ("mine", "tried", "done", 1) == (row.name, row.plan, row.status, row.done)
    assert "mine" in str(wb.runs())
    again = wb.resume(row.run_id[:22], wait=True)
    assert {"say": "kept"} == {name: step.status for name, step in again.state().steps.items()}
    assert row.run_id == wb.open_run(again.path).run_id
    with pytest.raises(StoreError, match="no run"):
        wb.open_run("nothing")


def test_every_problem_of_a_plan_is_told_before_it_starts(wb: Workbench) -> None:
    """Also of one that was built in Python."""
    with pytest.raises(PlanInvalid, match="tiny_wrk"):
        wb.run(PLAN.replace("tiny_work", "tiny_wrk"))
    with pytest.raises(PlanInvalid, match="nowhere"):
        wb.run(plan_of(work("a", value="$nowhere.value")))
    assert [] == wb.runs()


def test_the_notebook_runs_under_a_stock_papermill(tmp_path: Path, private_folders: Path) -> None:
    """Its steps begin at their cells, and the run has a folder and a record like any other."""
    plan = plan_of(
        work("a", value="${params.word}!"),
        work("b", value="$a.value"),
        params=(Param("word", "str", default="hello"),),
    )
    nbformat.write(compile_plan(plan), tmp_path / "plan.ipynb")  # type: ignore[no-untyped-call]
    done = subprocess.run(
        [sys.executable, "-m", "papermill", "plan.ipynb", "out.ipynb", "-p", "word", "ahoy"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S,
    )
    assert 0 == done.returncode, done.stderr
    shown = (tmp_path / "out.ipynb").read_text()
    assert "2 done" in shown
    (folder,) = all_runs(private_folders / "data")
    lines = [json.loads(line) for line in folder.journal.read_text().splitlines()]
    assert "done" == state_of(lines, alive=False).status
    assert folder.record.exists()
