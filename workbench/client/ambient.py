"""What the running work is part of: sent with every request of the client, and put into its spans.

A step of a plan sets it for its tasks and threads; a child process takes it from its environment.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from types import MappingProxyType

VARIABLE = "WORKBENCH_CONTEXT"

_NOTHING: Mapping[str, object] = MappingProxyType({})
_CURRENT: ContextVar[Mapping[str, object]] = ContextVar("workbench_context", default=_NOTHING)


@contextlib.contextmanager
def working(context: Mapping[str, object]) -> Iterator[None]:
    """Send a context with every request of the block, and of the tasks that begin in it.

    Args:
        context: Fields of `wire.headers.CONTEXT`, `priority`, and of the trace `trace_id` (32 hex
            digits) and `parent_span_id` (16): the span the request's own is part of.
    """
    token = _CURRENT.set({**current_context(), **context})
    try:
        yield
    finally:
        _CURRENT.reset(token)


def current_context() -> Mapping[str, object]:
    """Return the context of the running task, else that of the process's environment."""
    return _CURRENT.get() or _of_environment()


def environment_of(context: Mapping[str, object]) -> dict[str, str]:
    """Return the variable by which a child process has this context."""
    known = {name: value for name, value in context.items() if value is not None}
    return {VARIABLE: json.dumps(known)}


def _of_environment() -> Mapping[str, object]:
    text = os.environ.get(VARIABLE)
    if not text:
        return _NOTHING
    try:
        found = json.loads(text)
    except ValueError:
        return _NOTHING
    return found if isinstance(found, dict) else _NOTHING
