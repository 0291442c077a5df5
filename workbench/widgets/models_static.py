"""The models panel as HTML that is safe to keep, and as text: for papermill and saved notebooks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workbench.units import format_bytes
from workbench.widgets.models_picture import Picture, summary_rows
from workbench.widgets.static_html import visible
from workbench.widgets.static_table import table_html, table_text

_STATES = {
    "idle": "in memory",
    "busy": "answering",
    "absent": "not loaded",
    "queued": "waiting",
    "releasing": "unloading",
    "unknown": "state unknown",
}
_TITLES = ("Model", "Backend", "State", "Memory", "Context", "Priority")


def models_html(picture: Picture) -> str:
    """Return the panel as one HTML fragment: a table, and a line per device and per trouble."""
    return table_html("Models", _TITLES, _cells(picture), _lines(picture))


def models_text(picture: Picture) -> str:
    """Return the panel as text."""
    return table_text(_TITLES, _cells(picture), _lines(picture))


def _cells(picture: Picture) -> list[tuple[str, ...]]:
    return [_row(row) for row in summary_rows(picture["rows"].values())]


def _row(row: Mapping[str, Any]) -> tuple[str, ...]:
    name = visible(str(row["name"]).removesuffix(":latest"))
    state = str(row["state"])
    held = row.get("size_loaded") or row.get("vram")
    context = row.get("context")
    pinned = ", pinned" if row.get("pinned") else ""
    return (
        f"{name} (toy)" if row.get("toy") else name,
        visible(str(row["backend"])),
        _STATES.get(state, state),
        "-" if state == "absent" else format_bytes(held),
        "-" if context is None else str(context),
        f"{row.get('priority', 5)}{pinned}",
    )


def _lines(picture: Picture) -> list[str]:
    lines = []
    link = picture["link"]
    if link["state"] == "gone":
        lines.append(f"The server does not answer: {link['text']}")
    elif not picture["rows"]:
        lines.append("No model is installed.")
    for device in picture["devices"]:
        name = device["name"] or device["id"]
        free, total = format_bytes(device["free_bytes"]), format_bytes(device["total_bytes"])
        reason = f" ({device['reason']})" if device["reason"] else ""
        lines.append(f"{name}: {free} of {total} free{reason}")
    if picture["warning"]:
        lines.append(f"Warning: {picture['warning']['text']}")
    down = [backend for backend in picture["backends"] if not backend["reachable"]]
    return [*lines, *(f"{item['name']} is unreachable: {item['error']}" for item in down)]
