"""Notebooks for the tests of the engine, and what is read from them afterwards."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nbformat
import psutil

from workbench.plans.engine import EngineResult, aexecute

SLEEP = "import asyncio\nawait asyncio.sleep(600)"


def write(path: Path, *cells: str | tuple[str, str], kernel: str | None = "python3") -> Path:
    """Write a notebook with these code cells, the first of them tagged `parameters`.

    Args:
        cells: Sources, or pairs of source and tag.
        kernel: Name of its kernel; `None` names none.
    """
    made = []
    for index, cell in enumerate(cells):
        source, tag = cell if isinstance(cell, tuple) else (cell, "parameters" if not index else "")
        made.append(nbformat.v4.new_code_cell(source, metadata={"tags": [tag] if tag else []}))
    spec = {"name": kernel, "display_name": "Python 3", "language": "python"}
    metadata = {"kernelspec": spec} if kernel else {}
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=made, metadata=metadata), path)
    return path


def read(path: Path) -> Any:
    """Read a notebook and check it against nbformat's schema."""
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return notebook


def statuses(notebook: Any) -> list[str]:
    """Return what each cell says of itself."""
    return [cell.metadata.papermill.status for cell in notebook.cells]


def printed(cell: Any) -> str:
    """Return what a cell wrote to its standard output."""
    return "".join(
        out.text for out in cell.outputs if out.output_type == "stream" and out.name == "stdout"
    )


def execute_cells(
    folder: Path, cells: Sequence[str | tuple[str, str]], **options: Any
) -> tuple[EngineResult, Any]:
    """Execute these cells below `folder`; return the result and the notebook it wrote."""
    path = write(folder / "in.ipynb", *cells)
    result = asyncio.run(aexecute(path, folder / "out.ipynb", **options))
    return result, read(result.output)


def gone(pid: int, within_s: float = 20.0) -> bool:
    """Wait until a process is gone; return whether it is."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.02)
    return False


def wait_for(path: Path, within_s: float = 60.0) -> str:
    """Wait until a file has a whole line, and return its text."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if path.exists() and (text := path.read_text("utf-8")).endswith("\n"):
            return text
        time.sleep(0.01)
    raise AssertionError(f"{path} did not come; there are {os.listdir(path.parent)}")
