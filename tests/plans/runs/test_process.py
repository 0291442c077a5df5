"""Runs in processes of their own: killed, resumed, cancelled, waited for."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

from tests.plans.runs.conftest import Here, counted
from tests.plans.runs.processes import (
    LIMIT_S,
    began,
    gone,
    kernel_of,
    kill_kernel,
    kill_runner,
    offer_kinds,
    until,
)
from tests.plans.runs.work import plan_of, work
from workbench.errors import ConfigError, PlanError
from workbench.plans.create import RunOptions
from workbench.plans.folder import RunFolder
from workbench.plans.handle import RunHandle
from workbench.plans.spec import Plan
from workbench.plans.start import approve_run, resume_run, start_notebook, start_run


@pytest.fixture(autouse=True)
def kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let kernels know the kind of the tests."""
    monkeypatch.setenv("PYTHONPATH", offer_kinds(tmp_path / "site"))


@pytest.fixture
def started() -> Iterator[list[RunHandle]]:
    """Yield a list of runs that are ended after the test, if they have not."""
    runs: list[RunHandle] = []
    yield runs
    for run in runs:
        until(lambda run=run: _ended(run), run)  # type: ignore[misc]


def _ended(run: RunHandle) -> bool:
    """Whether no process carries a run out; one that does is killed."""
    pid = run.state().pid
    if run.alive and pid is not None and not gone(pid):
        os.kill(pid, signal.SIGKILL)
    return not run.alive


def twelve(log: Path, gates: Path) -> Plan:
    """Return a plan of twelve steps that stop at three gates, until those are opened."""
    opened = {name: {"until": str(gates / name)} for name in ("s04", "s08", "s11")}
    steps = [
        work("s01", log=str(log), value=1),
        *(
            work(f"s{n:02}", log=str(log), value=f"${{s{n - 1:02}.value}}{n}", **_of(n, opened))
            for n in range(2, 12)
        ),
        work(
            "s12",
            foreach={"n": [1, 2, 3]},
            max_parallel=1,
            log=str(log),
            value="${s11.value}${n}",
            until=f"{gates}/item${{n}}",
        ),
    ]
    return plan_of(*steps)


def _of(number: int, opened: dict[str, dict[str, str]]) -> dict[str, str]:
    return opened.get(f"s{number:02}", {})


def test_a_run_that_is_killed_goes_on(here: Here, tmp_path: Path, started: list[RunHandle]) -> None:
    """Runner and kernel are killed five times: no committed step runs twice, nothing is lost."""
    log, gates = tmp_path / "log", tmp_path / "gates"
    gates.mkdir()
    (gates / "item1").touch()
    run = start_run(twelve(log, gates), data_dir=tmp_path / "data")
    started.append(run)
    until(lambda: began(run, "s04"), run)
    kernel = kernel_of(run)
    kill_runner(run)
    assert "lost" == run.state().status
    until(lambda: gone(kernel), run)
    (gates / "s04").touch()
    run = resume_run(run.folder)
    until(lambda: began(run, "s08"), run)
    kill_kernel(run)
    assert "failed" == run.wait(LIMIT_S).status
    assert "died" in str(run.state().error)
    notebook = nbformat.read(run.notebook, 4)  # type: ignore[no-untyped-call]
    statuses = {_tag(cell): cell.metadata.papermill.status for cell in notebook.cells}
    assert "completed" != statuses["step:s08"]
    (gates / "s08").touch()
    run = resume_run(run.folder)
    until(lambda: began(run, "s11"), run)
    kernel = kernel_of(run)
    kill_runner(run)
    until(lambda: gone(kernel), run)
    (gates / "s11").touch()
    run = resume_run(run.folder)
    run._process.kill()  # type: ignore[union-attr]
    until(lambda: not run.alive, run)
    run = resume_run(run.folder)
    until(lambda: "s12[1]" in counted(log), run)
    kernel = kernel_of(run)
    kill_runner(run)
    until(lambda: gone(kernel), run)
    for item in ("item2", "item3"):
        (gates / item).touch()
    run = resume_run(run.folder)
    assert "done" == run.wait(LIMIT_S).status
    once = {f"s{n:02}": 1 for n in range(1, 12)} | {f"s12[{i}]": 1 for i in range(3)}
    assert once | {"s04": 2, "s08": 2, "s11": 2, "s12[1]": 2} == counted(log)
    assert _content_of_an_undisturbed_run(here, tmp_path) == run.record()["content_hash"]


def _tag(cell: nbformat.NotebookNode) -> str:
    return next(iter(cell.metadata.get("tags", ())), "")


def _content_of_an_undisturbed_run(here: Here, tmp_path: Path) -> str:
    plan = twelve(tmp_path / "other-log", tmp_path / "gates")
    run = here.open(plan, eager=False)
    for step in plan.steps:
        here.ended(run, step.id)
    run.finish()
    found = json.loads((RunFolder(run.folder).record).read_text())
    return str(found["content_hash"])


def test_a_run_waits_for_an_answer_and_goes_on(tmp_path: Path, started: list[RunHandle]) -> None:
    """Its process ends with 75; an answer starts another one, which asks nothing."""
    plan = plan_of(work("ok", ask="Publish?"), work("after", "ok", value=1))
    run = start_run(plan, data_dir=tmp_path / "data")
    started.append(run)
    assert "waiting" == run.wait(LIMIT_S).status
    assert 75 == run._process.wait(LIMIT_S)  # type: ignore[union-attr]
    assert "Publish?" in run._repr_mimebundle_()["text/html"]
    resumed = approve_run(run.folder, "ok", yes=True, note="fine")
    assert resumed is not None
    assert "done" == resumed.wait(LIMIT_S).status
    assert 1 == resumed.outputs("after")["value"]
    assert 0 == resumed._process.wait(LIMIT_S)  # type: ignore[union-attr]


def test_a_run_can_stay_for_an_answer_and_be_cancelled(
    tmp_path: Path, started: list[RunHandle]
) -> None:
    """With `wait` the process goes on by itself; SIGTERM cancels, and a resume takes it up."""
    plan = plan_of(
        work("ok", ask="Publish?"), work("after", "ok", until=str(tmp_path / "gate"), value=1)
    )
    options = RunOptions(wait=True, out=tmp_path / "elsewhere")
    run = start_run(plan, data_dir=tmp_path / "data", options=options)
    started.append(run)
    assert "waiting" == run.wait(LIMIT_S).steps["ok"].status
    assert run.alive
    assert approve_run(run.folder, "ok", yes=True) is None
    until(lambda: began(run, "after"), run)
    os.kill(run.state().pid or 0, signal.SIGTERM)
    state = run.wait(LIMIT_S)
    assert ("cancelled", "cancelled") == (state.status, state.steps["after"].status)
    assert 130 == run._process.wait(LIMIT_S)  # type: ignore[union-attr]
    notebook = nbformat.read(run.notebook, 4)  # type: ignore[no-untyped-call]
    notebook.cells[0].source += "\nEdited."
    nbformat.write(notebook, run.notebook)  # type: ignore[no-untyped-call]
    with pytest.raises(PlanError, match="was edited") as refused:
        resume_run(run.folder)
    assert "--force" in str(refused.value.hint)
    (tmp_path / "gate").touch()
    assert "done" == resume_run(run.folder, force=True).wait(LIMIT_S).status
    assert "Edited" not in run.notebook.read_text()


def test_a_notebook_without_a_plan_is_run_the_same_way(
    tmp_path: Path, started: list[RunHandle]
) -> None:
    """It has a folder, a record and a process; a failing cell fails the run."""
    path = tmp_path / "sum.ipynb"
    cells = [
        nbformat.v4.new_code_cell("n = 1", metadata={"tags": ["parameters"]}),  # type: ignore[no-untyped-call]
        nbformat.v4.new_code_cell("print(100 // n)"),  # type: ignore[no-untyped-call]
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)  # type: ignore[no-untyped-call]
    run = start_notebook(path, {"n": 0}, data_dir=tmp_path / "data")
    started.append(run)
    state = run.wait(LIMIT_S)
    assert ("failed", "ZeroDivisionError") == (state.status, (state.error or {})["type"])
    assert "notebook" == run.record()["kind"]
    with pytest.raises(ConfigError, match="no notebook"):
        start_notebook(tmp_path / "none.ipynb", data_dir=tmp_path / "data")


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ('{"argv": ["no-such-program-x"], "display_name": "x", "language": "python"}', "No such"),
        ('{"argv": 5, "display_name": "x", "language": "python"}', "expected a list"),
        ('{"argv": ', "Expecting value"),
        ('{"argv": [], "display_name": "x", "language": "python"}', "out of range"),
    ],
    ids=["program", "type", "text", "unforeseen"],
)
def test_a_kernel_that_is_damaged_fails_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: str, said: str
) -> None:
    """The run has an end, a record and a reason, and can be resumed; it is not lost."""
    place = tmp_path / "jupyter" / "kernels" / "gone"
    place.mkdir(parents=True)
    (place / "kernel.json").write_text(spec)
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    about = {"kernelspec": {"name": "gone", "display_name": "gone", "language": "python"}}
    cell = nbformat.v4.new_code_cell("1")  # type: ignore[no-untyped-call]
    path = tmp_path / "some.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata=about), path)  # type: ignore[no-untyped-call]
    run = start_notebook(path, data_dir=tmp_path / "data")
    state = run.wait(LIMIT_S)
    assert "failed" == state.status
    assert said in (state.error or {})["message"]
    assert "failed" == run.record()["status"]
    kernel = '{"argv": ["%s", "-m", "ipykernel_launcher", "-f", "{connection_file}"]'
    rest = ', "display_name": "x", "language": "python"}'
    (place / "kernel.json").write_text(kernel % sys.executable + rest)
    assert "done" == resume_run(run.folder).wait(LIMIT_S).status


def test_a_folder_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    """One with files in it, and one that cannot be made."""
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    for place, reason in (("full", "not empty"), ("full/mine.txt/run", "cannot be written")):
        options = RunOptions(out=tmp_path / place)
        with pytest.raises(ConfigError, match=reason):
            start_run(plan_of(work("a")), data_dir=tmp_path / "data", options=options)
