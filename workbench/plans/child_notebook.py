"""Running the notebook of a `notebook` step, in its child process."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workbench.errors import PlanError, RunFailed
from workbench.plans.engine import run_notebook

OUTPUT = "notebook.ipynb"
"""Name of the notebook with its outputs, in the step's folder."""

_ADDED = {"papermill-error-cell-tag", "injected-parameters"}


def run_step_notebook(path: Path, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Run a notebook in this folder and write it, with its outputs, beside the folder.

    Returns:
        `cells`: how many it has; `content_hash`: of kinds, sources and outputs of its cells.

    Raises:
        PlanError: Which cell failed, and why.
    """
    here = Path.cwd()
    output = here.parent / OUTPUT
    try:
        result = run_notebook(path, output, parameters, cwd=here)
    except RunFailed as exc:
        raise PlanError(f"{path.name}: {_failed_cell(output)}{exc.reason}") from exc
    return {"cells": result.cells, "content_hash": content_hash(output)}


def content_hash(path: Path) -> str:
    """Return the SHA-256 of kinds, sources and outputs of a notebook's cells.

    Two runs that differ in nothing but times and ids have the same one.
    """
    notebook = json.loads(path.read_text("utf-8"))
    cells = [
        [cell["cell_type"], _joined(cell["source"]), _outputs(cell)] for cell in notebook["cells"]
    ]
    text = json.dumps(cells, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _outputs(cell: Mapping[str, Any]) -> list[Any]:
    outputs = []
    for output in cell.get("outputs", ()):
        kept = {k: v for k, v in output.items() if k not in ("execution_count", "metadata")}
        if "text" in kept:
            kept["text"] = _joined(kept["text"])
        if "data" in kept:
            kept["data"] = {
                kind: _joined(value) if kind.startswith("text/") else value
                for kind, value in kept["data"].items()
            }
        outputs.append(kept)
    return outputs


def _joined(text: Any) -> Any:
    return "".join(text) if isinstance(text, list) else text


def _failed_cell(path: Path) -> str:
    """Return which cell failed: its number from 1 and its first line; empty when none did."""
    try:
        cells = json.loads(path.read_text("utf-8"))["cells"]
    except (OSError, ValueError, KeyError):
        return ""
    # Cells that papermill put in have no number in the notebook the user knows.
    own = [cell for cell in cells if not _ADDED & set(cell["metadata"].get("tags", ()))]
    for number, cell in enumerate(own, 1):
        if cell["metadata"].get("papermill", {}).get("status") == "failed":
            lines = _joined(cell["source"]).strip().splitlines()
            return f"cell {number} ({lines[0] if lines else 'empty'}) failed: "
    return ""
