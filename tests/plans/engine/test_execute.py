"""Whole executions in spawned kernels: outputs, statuses, the journal, and bad input."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
import pytest

from tests.plans.engine.notebooks import execute_cells, printed, read, statuses, write
from workbench.errors import ConfigError, PlanError, StoreError
from workbench.plans.engine import EngineResult, aexecute, execute
from workbench.plans.journal import read_lines

_CELLS = (
    ("n = 1\nname = 'one'", "parameters"),
    "import os, sys\nprint(n, name, os.path.basename(os.getcwd()), os.environ['ASKED'])",
    "import time\nfor part in 'abc':\n    print(part)\n    time.sleep(0.3)\n"
    "print('e', file=sys.stderr)",
    "handle = display('first', display_id=True)",
    "handle.update('second')",
    ("print('as a step says')", "step:ask"),
    ("1 / 0", "raises-exception"),
    "for index in range(3000):\n    display(index)",
    "print(open('out.ipynb').read()[:1])",
)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[EngineResult, Any, list[Any], Path]:
    """Execute one notebook; return the result, what it wrote, the events and its folder."""
    folder = tmp_path_factory.mktemp("ran")
    events: list[Mapping[str, Any]] = []

    def status(cell: Any) -> Mapping[str, Any] | None:
        failed = {"status": "failed", "reason": "no answer", "step": "ask"}
        return failed if "step:ask" in cell.metadata.tags else None

    result, notebook = execute_cells(
        folder,
        _CELLS,
        parameters={"n": [2, "two"], "name": "Ünï 🙂\n"},
        env={"ASKED": "yes"},
        journal=folder / "cells.jsonl",
        cell_status=status,
        on_event=events.append,
    )
    return result, notebook, events, folder


def test_parameters_are_injected_as_papermill_does(ran: Any) -> None:
    """The values stand in a cell of their own after the defaults, and the kernel has them."""
    _, notebook, _, folder = ran
    assert ["injected-parameters"] == notebook.cells[1].metadata.tags
    assert f"[2, 'two'] Ünï 🙂\n {folder.name} yes\n" == printed(notebook.cells[2])
    assert {"n": [2, "two"], "name": "Ünï 🙂\n"} == notebook.metadata.papermill.parameters


def test_outputs_are_whole(ran: Any) -> None:
    """A stream is one output whatever its timing, displays are updated, and no burst is lost."""
    cells = ran[1].cells
    assert [("stdout", "a\nb\nc\n"), ("stderr", "e\n")] == [
        (out.name, out.text) for out in cells[3].outputs
    ]
    assert "'second'" == cells[4].outputs[0].data["text/plain"]
    assert list(map(str, range(3000))) == [out.data["text/plain"] for out in cells[8].outputs]
    assert "{\n" == printed(cells[9])


def test_a_step_that_failed_is_marked_and_stops_nothing(ran: Any) -> None:
    """What `cell_status` says stands in the cell; a cell that may raise is completed."""
    result, notebook, _, _ = ran
    assert ("done", None, None) == (result.status, result.error, result.failed_cell)
    expected = ["completed"] * len(notebook.cells)
    expected[6] = "failed"
    assert expected == statuses(notebook)
    about = notebook.cells[6].metadata.papermill
    assert ("no answer", "ask", True) == (about.reason, about.step, about.exception)
    assert notebook.metadata.papermill.exception is True
    assert ["failed"] == [run.status for run in result.cells if run.tags == ("step:ask",)]


def test_the_journal_tells_each_cell(ran: Any) -> None:
    """The journal has a line when a cell begins and one when it has ended; listeners see them."""
    _, notebook, events, folder = ran
    lines, _ = read_lines(folder / "cells.jsonl")
    assert ["notebook_started", "kernel_started"] == [line["event"] for line in lines[:2]]
    assert ("notebook_finished", "done") == (lines[-1]["event"], lines[-1]["status"])
    begun = [line for line in lines if line["event"] == "cell_started"]
    ended = [line for line in lines if line["event"] == "cell_finished"]
    assert list(range(10)) == [line["index"] for line in begun]
    assert [cell.id for cell in notebook.cells] == [line["cell"] for line in ended]
    assert statuses(notebook) == [line["status"] for line in ended]
    assert (["step:ask"], "no answer") == (ended[6]["tags"], ended[6]["reason"])
    assert ended[3]["seconds"] >= 0.9
    told = [event["event"] for event in events if event["event"] != "saved"]
    assert [line["event"] for line in lines] == told


def test_nothing_is_left_beside_the_output(ran: Any) -> None:
    """The folder holds the notebooks and the journal, and no file of a save."""
    assert {"in.ipynb", "out.ipynb", "cells.jsonl"} == set(os.listdir(ran[3]))


def test_a_failing_cell_stops_the_notebook(tmp_path: Path) -> None:
    """The cell that raised is failed, later ones are pending, and the error is in the result."""
    result, notebook = execute_cells(tmp_path, ["n = 1", "print('first')\n{}['key']", "n"])
    assert ["completed", "failed", "pending"] == statuses(notebook)
    assert ("failed", 1) == (result.status, result.failed_cell)
    assert result.error is not None
    assert ("KeyError", "'key'") == (result.error.name, result.error.message)
    assert "KeyError: 'key'" == notebook.metadata.papermill.reason
    assert ["stream", "error"] == [out.output_type for out in notebook.cells[1].outputs]
    assert "KeyError" in result.error.traceback[-1]


def test_a_notebook_may_end_itself(tmp_path: Path) -> None:
    """`sys.exit()` ends the run without an error, as with papermill."""
    result, notebook = execute_cells(tmp_path, ["import sys", "sys.exit()", "n"])
    assert ("done", None) == (result.status, result.error)
    assert ["completed", "completed", "pending"] == statuses(notebook)
    assert notebook.metadata.papermill.exception is None


def test_runs_at_once_keep_to_their_folders_and_leave_the_loop_free(tmp_path: Path) -> None:
    """Each kernel has its folder, all run at once, and tasks of the loop go on meanwhile."""
    meet = f"""
import os, pathlib, time
here = pathlib.Path.cwd()
(here.parent / f"{{here.name}}.here").touch()
while not os.path.exists({str(tmp_path / "go")!r}):
    time.sleep(0.01)
print(here.name)
"""
    before = Path.cwd()

    def here() -> bool:
        return len(list(tmp_path.glob("*.here"))) == 3

    async def let_them_go() -> None:
        while not here():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        (tmp_path / "go").touch()

    async def all_of_them() -> list[EngineResult]:
        runs = []
        for name in "abc":
            path = write(tmp_path / name / "in.ipynb", meet)
            runs.append(aexecute(path, path.with_name("out.ipynb")))
        watcher = asyncio.ensure_future(let_them_go())
        results = await asyncio.gather(*runs)
        await watcher
        return list(results)

    results = asyncio.run(all_of_them())
    assert ["done"] * 3 == [result.status for result in results]
    assert ["a\n", "b\n", "c\n"] == [printed(read(r.output).cells[0]) for r in results]
    assert before == Path.cwd()


def test_a_running_loop_is_not_blocked() -> None:
    """`execute` on a thread whose loop runs is refused, with the way that works."""

    async def call() -> None:
        execute(Path("in.ipynb"), Path("out.ipynb"))

    with pytest.raises(PlanError, match="an event loop runs") as refused:
        asyncio.run(call())
    assert refused.value.hint is not None and "await aexecute" in refused.value.hint


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"cwd": Path("/nowhere/at/all")}, "no folder"),
        ({"kernel": "thread"}, "spawn or fork"),
        ({"timeout": 3}, "no option 'timeout'"),
        ({"parameters": {"m": 1}}, "no parameter 'm'"),
        ({"parameters": {"n": {1: 2}}}, "its key 1 is no text"),
    ],
)
def test_bad_options_run_nothing(tmp_path: Path, options: dict[str, Any], said: str) -> None:
    """What cannot be executed is named, and no output is written."""
    path = write(tmp_path / "in.ipynb", "n = 1")
    with pytest.raises(ConfigError, match=said):
        asyncio.run(aexecute(path, tmp_path / "out.ipynb", **options))
    assert not (tmp_path / "out.ipynb").exists()


def test_a_kernel_that_is_not_installed_is_named(tmp_path: Path) -> None:
    """An unknown kernel is refused with the nearest name."""
    path = write(tmp_path / "in.ipynb", "n = 1", kernel="pyton3")
    with pytest.raises(ConfigError, match="no kernel 'pyton3'") as refused:
        asyncio.run(aexecute(path, tmp_path / "out.ipynb"))
    assert "Did you mean 'python3'?" == refused.value.hint


@pytest.mark.parametrize("text", ["", "{", "[]", '{"cells": 1}'])
def test_what_is_no_notebook_is_named(tmp_path: Path, text: str) -> None:
    """A file that is no notebook is refused with its path."""
    path = tmp_path / "in.ipynb"
    path.write_text(text, "utf-8")
    with pytest.raises(ConfigError, match=r"in\.ipynb cannot be read as a notebook"):
        asyncio.run(aexecute(path, tmp_path / "out.ipynb"))


def test_an_output_that_cannot_be_written_runs_nothing(tmp_path: Path) -> None:
    """The output's folder is tried before the kernel is asked for anything."""
    (tmp_path / "file").touch()
    path = write(tmp_path / "in.ipynb", "open('ran', 'w')")
    with pytest.raises(StoreError, match="cannot be written"):
        asyncio.run(aexecute(path, tmp_path / "file" / "out.ipynb", cwd=tmp_path))
    assert not (tmp_path / "ran").exists()


def test_an_older_notebook_gets_ids_and_a_kernel(tmp_path: Path) -> None:
    """A notebook of format 4.2 without a kernel is executed by this interpreter."""
    old = nbformat.v4.new_notebook()
    for source, tags in (("n = 1", ["parameters"]), ("print(n)", [])):
        old.cells.append(nbformat.v4.new_code_cell(source, metadata={"tags": tags}))
        del old.cells[-1]["id"]
    old.nbformat_minor = 2
    nbformat.write(old, tmp_path / "in.ipynb")
    result = asyncio.run(aexecute(tmp_path / "in.ipynb", tmp_path / "out.ipynb", {"n": 2}))
    cells = read(result.output).cells
    assert ("done", "2\n", True) == (result.status, printed(cells[-1]), bool(cells[-1].id))
