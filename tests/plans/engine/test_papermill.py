"""`papermill --engine workbench`, and what others make of our notebooks."""

from __future__ import annotations

import asyncio
import io
import os
import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import pytest
from nbclient.exceptions import CellTimeoutError, DeadKernelError

from tests.plans.engine.notebooks import execute_cells, printed, read, statuses, write
from workbench.errors import ConfigError
from workbench.plans.engine.papermill_engine import WorkbenchEngine
from workbench.plans.journal import read_lines

papermill = pytest.importorskip("papermill")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
_GROUP = "papermill.engine"


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register the engine as an installed entry point does."""
    engines = papermill.engines.papermill_engines
    monkeypatch.setitem(engines._engines, "workbench", WorkbenchEngine)


def run(path: Path, **options: Any) -> Any:
    """Run a notebook by papermill with our engine."""
    output = path.with_name("out.ipynb")
    given = {"engine_name": "workbench", "progress_bar": False, "cwd": str(path.parent)}
    return papermill.execute_notebook(str(path), str(output), **{**given, **options})


def test_papermill_runs_with_our_engine(tmp_path: Path) -> None:
    """Parameters, folder, progress, files of outputs and the journal work through papermill."""
    path = write(
        tmp_path / "in.ipynb", "n = 1", "import os\nprint(n, os.path.basename(os.getcwd()))"
    )
    out = io.StringIO()
    journal = str(tmp_path / "cells.jsonl")
    run(path, parameters={"n": 2}, stdout_file=out, journal=journal, progress_bar={"disable": True})
    notebook = read(tmp_path / "out.ipynb")
    assert f"2 {tmp_path.name}\n" == printed(notebook.cells[2]) == out.getvalue()
    assert ["completed"] * 3 == statuses(notebook)
    assert "notebook_finished" == read_lines(Path(journal))[0][-1]["event"]


def test_papermill_raises_for_a_failing_cell(tmp_path: Path) -> None:
    """A failing cell raises papermill's own error, with its markers in the notebook."""
    path = write(tmp_path / "in.ipynb", "n = 1", "1 / 0", "n")
    with pytest.raises(papermill.PapermillExecutionError, match="ZeroDivisionError"):
        run(path)
    cells = read(tmp_path / "out.ipynb").cells
    assert ["completed", "failed", "pending"] == [
        cell.metadata.papermill.status for cell in cells if "papermill" in cell.metadata
    ]


@pytest.mark.parametrize(
    ("cell", "options", "error"),
    [
        ("import os\nos.kill(os.getpid(), 9)", {}, DeadKernelError),
        ("import time\ntime.sleep(600)", {"execution_timeout": 1}, CellTimeoutError),
        # Papermill's own engine leaves no file at all in this case.
        ("import os\nos._exit(3)", {"request_save_on_cell_execute": False}, DeadKernelError),
    ],
)
def test_papermill_does_not_call_it_a_success(
    tmp_path: Path, cell: str, options: dict[str, Any], error: type[Exception]
) -> None:
    """What papermill's own engine marks as completed is failed, and the error is papermill's."""
    path = write(tmp_path / "in.ipynb", "n = 1", cell, "n")
    with pytest.raises(error):
        run(path, **options)
    notebook = read(tmp_path / "out.ipynb")
    assert ["completed", "failed", "pending"] == statuses(notebook)
    assert notebook.metadata.papermill.exception is True


def test_papermill_can_be_called_where_a_loop_runs(tmp_path: Path) -> None:
    """Called in a coroutine, it runs on another thread and returns when it is done."""
    path = write(tmp_path / "in.ipynb", "print('ran')")

    async def call() -> Any:
        return run(path)

    assert "ran\n" == printed(asyncio.run(call()).cells[0])


def test_an_unknown_option_is_refused(tmp_path: Path) -> None:
    """An option that neither we nor nbclient know is named, with the nearest."""
    path = write(tmp_path / "in.ipynb", "n = 1")
    with pytest.raises(ConfigError, match="no option 'execution_timeut'") as refused:
        run(path, execution_timeut=3)
    assert "Did you mean 'execution_timeout'?" == refused.value.hint


def test_the_declared_entry_point_is_the_engine() -> None:
    """What the package declares for papermill loads the engine."""
    text = (Path(__file__).parents[3] / "pyproject.toml").read_text("utf-8")
    declared = tomllib.loads(text)["project"]["entry-points"][_GROUP]["workbench"]
    assert WorkbenchEngine is EntryPoint("workbench", declared, _GROUP).load()


def test_the_installed_entry_point_is_the_engine() -> None:
    """Papermill finds the engine by its name in what is installed."""
    found = {entry.name: entry.value for entry in entry_points(group=_GROUP)}
    expected = f"{WorkbenchEngine.__module__}:{WorkbenchEngine.__name__}"
    assert expected == found.get("workbench"), "install the package again: pip install -e ."


def test_stock_papermill_and_nbval_accept_our_notebooks(tmp_path: Path) -> None:
    """A notebook of ours runs by papermill's own engine, and nbval finds the same outputs."""
    cells = ["n = 1", "for part in range(n):\n    print(part)", "display({'n': n})\nn"]
    execute_cells(tmp_path, cells, parameters={"n": 3})
    plugins = ["-p", "nbval.plugin", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *plugins, "--nbval", "out.ipynb"],
        cwd=tmp_path,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    run(tmp_path / "out.ipynb", engine_name=None, parameters={"n": 4})
    assert "0\n1\n2\n3\n" == printed(read(tmp_path / "out.ipynb").cells[2])
