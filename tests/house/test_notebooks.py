"""Notebooks in the repository are clean and can be given parameters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.house.files import files_under, relative, run_module

NOTEBOOKS = files_under(".", "*.ipynb")

pytestmark = pytest.mark.parametrize("path", NOTEBOOKS, ids=relative)


def code_cells(path: Path) -> list[dict[str, Any]]:
    """Return the code cells of a notebook file."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def test_notebook_has_no_outputs(path: Path) -> None:
    """No cell holds an output or a count of its executions."""
    kept = [c for c in code_cells(path) if c["outputs"] or c["execution_count"] is not None]
    assert [] == kept


def test_notebook_is_stripped(path: Path) -> None:
    """What `make hooks` runs at git add has nothing to strip."""
    done = run_module("nbstripout", "--keep-id", "--verify", str(path))
    assert done.returncode == 0, (
        f"{done.stdout}\nrun: make hooks, or nbstripout --keep-id {relative(path)}"
    )


def test_notebook_takes_parameters(path: Path) -> None:
    """The first code cell is the one that papermill replaces."""
    assert "parameters" in code_cells(path)[0]["metadata"].get("tags", [])
