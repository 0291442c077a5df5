"""Names of the HTTP headers that carry the context of a request.

A client that sends none of them is served all the same: its User-Agent is the client, and its
requests are interactive.
"""

from __future__ import annotations

from collections.abc import Mapping

EVENTS = "Workbench-Events"
"""`1` asks for `{"workbench": {...}}` lines between the lines of the answer."""

REQUEST_ID = "Workbench-Request"
"""On every answer: the id of the request."""

WARNING = "Workbench-Warning"
"""On an answer: what was odd about the request, e.g. an option nobody knows."""

PRIORITY = "Workbench-Priority"
"""`interactive`, which is meant without it, or `batch`: nobody waits for it."""

DEADLINE = "Workbench-Deadline"
"""Seconds a request waits for its turn at most; then it is answered 503 with `Retry-After`."""

TRACEPARENT = "traceparent"

CONTEXT = {
    "run_id": "Workbench-Run",
    "run_key": "Workbench-Run-Key",
    "step": "Workbench-Step",
    "client_kind": "Workbench-Client",
    "session": "Workbench-Session",
    "conversation": "Workbench-Conversation",
    "turn": "Workbench-Turn",
    "speaker": "Workbench-Speaker",
    "item": "Workbench-Item",
    "epoch": "Workbench-Epoch",
    "attempt": "Workbench-Attempt",
    "preset": "Workbench-Preset",
}
"""Field name of a request's context to the header that carries it."""


def context_headers(context: Mapping[str, object]) -> dict[str, str]:
    """Write context fields as headers; fields that are `None` are left out.

    Raises:
        KeyError: When a field is not one of `CONTEXT`.
    """
    return {
        CONTEXT[name]: _ascii(str(value)) for name, value in context.items() if value is not None
    }


def read_context(headers: Mapping[str, str]) -> dict[str, str]:
    """Read the context fields that are present, e.g. `{"conversation": "01h..."}`."""
    return {name: headers[header] for name, header in CONTEXT.items() if header in headers}


def _ascii(text: str) -> str:
    # Header values are latin-1 without control characters; names of speakers may be anything.
    return "".join(c if " " <= c <= "~" else "?" for c in text)[:200]
