"""Rows of `model_events` from the server's events: what happened to a model in memory."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

# The server's event to the table's, and whether it is a success; others are no events of a model.
_EVENTS: dict[str, tuple[str, bool]] = {
    "loaded": ("load", True),
    "load_failed": ("load_failed", False),
    "unloaded": ("unload", True),
    "unload_failed": ("unload", False),
    "swap": ("swap", True),
    "resurrected": ("resurrected", False),
    "load_warning": ("verify", False),
    "engine_exited": ("unload", False),
}


def model_event_row(event: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the row of an event, or `None` when it is not about a model in memory."""
    found = _EVENTS.get(str(event.get("event")))
    if found is None:
        return None
    name, good = found
    evicted = event.get("reason") == "evicted" and name == "unload"
    return {
        "ts": datetime.fromtimestamp(float(event["ts"]), UTC),
        "event": "evict" if evicted else name,
        "backend": event.get("backend"),
        "model": event.get("model"),
        "digest": event.get("digest"),
        "reason": event.get("reason") or event.get("text"),
        "requested_by": event.get("actor"),
        "duration": event.get("seconds"),
        "ok": good,
        "error_message": event.get("error"),
        "verdict": event.get("verdict"),
        "bytes_before": event.get("bytes_before"),
        "bytes_after": event.get("bytes_after"),
        "size_bytes": event.get("bytes"),
        "vram_bytes": event.get("vram_bytes"),
        "num_ctx": event.get("context_length"),
        "offload_share": event.get("offload_share"),
        "cold": event.get("cold"),
    }
