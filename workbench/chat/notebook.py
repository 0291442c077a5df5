"""Cells of the notebooks that conversations are written as."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from nbformat import NotebookNode


def markdown_cell(source: str) -> dict[str, Any]:
    """Return a cell of markdown; what a model wrote does not belong into one."""
    return {"cell_type": "markdown", "metadata": {}, "source": source}


def code_cell(
    source: str,
    *,
    outputs: Sequence[dict[str, Any]] = (),
    metadata: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return a cell of code that was not run here."""
    return {
        "cell_type": "code",
        "execution_count": None,
        "metadata": dict(metadata or {}),
        "outputs": list(outputs),
        "source": source,
    }


def printed(text: str) -> list[dict[str, Any]]:
    """Return the output of a cell that printed a text; none without one."""
    return [{"output_type": "stream", "name": "stdout", "text": text}] if text else []


def notebook_of(cells: Sequence[dict[str, Any]], facts: Mapping[str, Any]) -> NotebookNode:
    """Return a notebook of cells, with facts in its metadata under `workbench`."""
    # Imported here: nbformat takes a third of a second.
    import nbformat

    metadata = {
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
        "language_info": {"name": "python"},
        "workbench": dict(facts),
    }
    document = {
        "nbformat": 4,
        "nbformat_minor": 5,
        "metadata": metadata,
        "cells": [{"id": f"cell-{index}", **cell} for index, cell in enumerate(cells)],
    }
    from_dict: Any = nbformat.from_dict
    return cast("NotebookNode", from_dict(document))
