"""Bodies of the server's answers become values, or a protocol error that says why not."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from workbench.client.values import Backends, ModelInfo, RunningModel, Table
from workbench.errors import ProtocolError

T = TypeVar("T")
K = TypeVar("K", ModelInfo, RunningModel)


def own(name: str) -> str:
    """Return the path of one of the workbench's own endpoints."""
    return f"/workbench/v1/{name}"


def as_object(body: Any) -> dict[str, Any]:
    """Return a JSON object.

    Raises:
        ProtocolError: When it is something else.
    """
    if not isinstance(body, dict):
        raise ProtocolError(f"The answer is not a JSON object: {str(body)[:80]!r}.")
    return body


def convert(body: Any, kind: type[T]) -> T:
    """Return a body as a value; fields it has besides are left out.

    Raises:
        ProtocolError: When it is not of that form.
    """
    try:
        return msgspec.convert(body, kind)
    except msgspec.ValidationError as exc:
        raise ProtocolError(f"The answer is not of the expected form: {exc}.") from exc


def as_table(body: Any, kind: type[K], *, empty: str) -> Table[K]:
    """Return a list of models, and the backends that could not be asked."""
    parts = convert(body, Backends)
    errors = [(item.get("backend", ""), item.get("error", "")) for item in parts.errors]
    return Table((convert(row, kind) for row in parts.models), errors=errors, empty=empty)
