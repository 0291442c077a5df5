"""Notebooks as papermill prepares them, and as bytes.

`nbformat.write` copies the whole notebook, checks it against its schema and writes it through the
slow half of `json`: 0.2 s for 20 MB, each time.  Here a snapshot shares all texts with the running
notebook, and is encoded on another thread.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import nbformat
from nbformat import NotebookNode

from workbench.errors import ConfigError

_SPLIT_MIMES = frozenset({"application/javascript", "image/svg+xml"})
_ERROR_MARKER = "papermill-error-cell-tag"
_PYTHON = {"name": "python3", "display_name": "Python 3", "language": "python"}


def read_notebook(path: Path) -> NotebookNode:
    """Return a notebook, in the newest form of nbformat 4 and with papermill's metadata.

    Raises:
        ConfigError: When there is no such notebook, or it is none.
    """
    if not path.is_file():
        raise ConfigError(f"There is no notebook {path}.", key="path")
    try:
        found = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
        notebook: NotebookNode = nbformat.v4.upgrade(found) or found  # type: ignore[no-untyped-call]
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.outputs = []
        nbformat.validate(notebook)
    except (
        OSError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        nbformat.ValidationError,
    ) as exc:
        reason = str(exc).splitlines()[0] if str(exc) else type(exc).__name__
        raise ConfigError(f"{path} cannot be read as a notebook: {reason}.", key="path") from exc
    notebook.metadata.setdefault("kernelspec", node(_PYTHON))
    notebook.cells = [
        cell for cell in notebook.cells if _ERROR_MARKER not in cell.metadata.get("tags", ())
    ]
    about = node(
        default_parameters=node(),
        parameters=node(),
        environment_variables=node(),
        version=version("papermill"),
    )
    notebook.metadata.setdefault("papermill", about)
    for cell in notebook.cells:
        cell.metadata.setdefault("tags", [])
    return notebook


def node(*parts: Mapping[str, Any], **fields: Any) -> NotebookNode:
    """Return a node of a notebook with these fields."""
    made: NotebookNode = NotebookNode(*parts, **fields)  # type: ignore[no-untyped-call]
    return made


def begin(notebook: NotebookNode) -> None:
    """Clear the outputs and mark every cell as pending, as papermill does."""
    about = papermill_of(notebook)
    about.update(start_time=now(), end_time=None, duration=None, exception=None)
    about.pop("reason", None)
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        cell.metadata["papermill"] = node(
            exception=None, start_time=None, end_time=None, duration=None, status="pending"
        )
        if cell.cell_type == "code":
            cell.execution_count = None
            cell.outputs = []


def kernel_of(notebook: NotebookNode) -> str:
    """Return the name of a notebook's kernel; without one it is this interpreter."""
    return str(notebook.metadata.get("kernelspec", {}).get("name") or _PYTHON["name"])


def papermill_of(part: NotebookNode) -> dict[str, Any]:
    """Return papermill's metadata of a notebook or a cell."""
    about: dict[str, Any] = part.metadata.setdefault("papermill", node())
    return about


def now() -> str:
    """Return the time as papermill writes it."""
    return datetime.now(UTC).isoformat()


def add_error(cell: NotebookNode, name: str, message: str) -> None:
    """Append an error to the outputs of a code cell."""
    if cell.cell_type == "code":
        error = {"ename": name, "evalue": message, "traceback": [message]}
        cell.outputs.append(node(output_type="error", **error))


def snapshot(notebook: NotebookNode) -> dict[str, Any]:
    """Return a copy that later changes of a running notebook do not reach; texts are shared."""
    metadata = {key: _shallow(value) for key, value in notebook.metadata.items()}
    return {**notebook, "metadata": metadata, "cells": [_cell(cell) for cell in notebook.cells]}


def _cell(cell: Mapping[str, Any]) -> dict[str, Any]:
    copy = dict(cell)
    copy["metadata"] = {key: _shallow(value) for key, value in cell["metadata"].items()}
    if "outputs" in cell:
        copy["outputs"] = [
            {key: _shallow(value) for key, value in out.items()} for out in cell["outputs"]
        ]
    return copy


def _shallow(value: Any) -> Any:
    if isinstance(value, dict):
        return dict(value)
    return list(value) if isinstance(value, list) else value


def to_bytes(copy: dict[str, Any]) -> bytes:
    """Return a snapshot as nbformat writes it: sorted, indented, long texts as lists of lines.

    The snapshot is changed: call it once.
    """
    for name in ("orig_nbformat", "orig_nbformat_minor", "signature"):
        copy["metadata"].pop(name, None)
    for cell in copy["cells"]:
        cell["metadata"].pop("trusted", None)
        if isinstance(cell["source"], str):
            cell["source"] = cell["source"].splitlines(keepends=True)
        for out in cell.get("outputs", ()):
            if out["output_type"] == "stream":
                text = out["text"]
                whole = text if isinstance(text, str) else "".join(text)
                out["text"] = whole.splitlines(keepends=True)
            elif "data" in out:
                out["data"] = {mime: _lines(mime, value) for mime, value in out["data"].items()}
    try:
        encoded = msgspec.json.encode(copy, order="sorted")
        return msgspec.json.format(encoded, indent=1) + b"\n"
    except (TypeError, ValueError, OverflowError, msgspec.MsgspecError):
        # A lone surrogate, an integer past 64 bits or a foreign object: slower, but never lost.
        return (json.dumps(copy, indent=1, sort_keys=True, default=str) + "\n").encode()


def _lines(mime: str, value: Any) -> Any:
    if isinstance(value, str) and (mime.startswith("text/") or mime in _SPLIT_MIMES):
        return value.splitlines(keepends=True)
    return value
