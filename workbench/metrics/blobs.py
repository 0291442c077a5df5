"""Long texts in files of their own, named by their SHA-256."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workbench.errors import StoreError
from workbench.metrics.layout import BLOBS
from workbench.metrics.schema import Table

LONG_TEXT_BYTES = 64 * 1024
"""A text longer than this stands in a file when its row is too long for a line."""

_SHORTER_TEXT_BYTES = 4 * 1024
_KEY = "$blob"
_SHA = re.compile(r"[0-9a-f]{64}")


def put_blob(folder: Path, text: str) -> str:
    """Keep a text and return its SHA-256; one that is there already is only marked as used.

    Raises:
        OSError: When the disk refuses.
    """
    data = text.encode("utf-8", "surrogatepass")
    sha = hashlib.sha256(data).hexdigest()
    path = folder / BLOBS / sha
    try:
        # Retention goes by the time of the last use.
        os.utime(path)
        return sha
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{sha}.{secrets.token_hex(4)}.tmp")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    return sha


def get_blob(folder: Path, sha: str) -> str:
    """Return a kept text.

    Raises:
        StoreError: When it is not there, or `sha` is no SHA-256.
    """
    if not _SHA.fullmatch(sha):
        raise StoreError(f"{sha!r} is not the name of a kept text.")
    try:
        return (folder / BLOBS / sha).read_bytes().decode("utf-8", "surrogatepass")
    except OSError as exc:
        raise StoreError(f"The text {sha} is not there any more: {exc.strerror}.") from exc


def outsource(folder: Path, table: Table, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row with its long texts put into files.

    In a JSON column a long text becomes `{"$blob": <sha256>, "n_chars": ...}`, elsewhere
    `blob:<sha256>`.
    """
    kinds = {column.name: column.type for column in table.columns}

    def moved(value: Any, *, inside_json: bool, limit: int) -> Any:
        if isinstance(value, str):
            if len(value.encode("utf-8", "surrogatepass")) <= limit:
                return value
            sha = put_blob(folder, value)
            return {_KEY: sha, "n_chars": len(value)} if inside_json else f"blob:{sha}"
        if isinstance(value, Mapping):
            return {k: moved(v, inside_json=inside_json, limit=limit) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [moved(item, inside_json=inside_json, limit=limit) for item in value]
        return value

    def whole(limit: int) -> dict[str, Any]:
        return {
            name: moved(value, inside_json=kinds[name] == "JSON", limit=limit)
            for name, value in row.items()
        }

    found = whole(LONG_TEXT_BYTES)
    # Many texts that are each short enough can make a row that is not.
    return whole(_SHORTER_TEXT_BYTES) if _n_chars(found) > 4 * LONG_TEXT_BYTES else found


def _n_chars(value: Any) -> int:
    if isinstance(value, str):
        return len(value)
    if isinstance(value, Mapping):
        return sum(map(_n_chars, value.values()))
    return sum(map(_n_chars, value)) if isinstance(value, list | tuple) else 0


def restore(folder: Path, value: Any) -> Any:
    """Return a JSON value with its long texts put back."""
    if isinstance(value, list):
        return [restore(folder, item) for item in value]
    if isinstance(value, dict):
        if _KEY in value:
            return get_blob(folder, str(value[_KEY]))
        return {key: restore(folder, item) for key, item in value.items()}
    return value
