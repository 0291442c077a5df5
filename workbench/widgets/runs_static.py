"""The runs as HTML that is safe to keep, and as text: for papermill and saved notebooks."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from workbench.units import format_seconds
from workbench.widgets.runs_feed import Look
from workbench.widgets.static_html import visible
from workbench.widgets.static_table import table_html, table_text

RUNS_SHOWN = 50
_TITLES = ("Plan", "State", "Steps", "Started (UTC)", "Took", "Run")
_WORDS = {
    "starting": "starting",
    "running": "running",
    "waiting": "waits for an answer",
    "lost": "lost its process",
    "broken": "cannot be read",
}


def runs_html(found: Look) -> str:
    """Return the list as one HTML fragment: a table, and a line per trouble."""
    return table_html("Runs", _TITLES, _cells(found), _lines(found))


def runs_text(found: Look) -> str:
    """Return the list as text."""
    return table_text(_TITLES, _cells(found), _lines(found))


def _newest(found: Look) -> list[Mapping[str, Any]]:
    return sorted(found.rows.values(), key=lambda row: str(row["id"]), reverse=True)


def _cells(found: Look) -> list[tuple[str, ...]]:
    return [_row(row) for row in _newest(found)[:RUNS_SHOWN]]


def _row(row: Mapping[str, Any]) -> tuple[str, ...]:
    started, ended = row["started"], row["ended"]
    moment = started or row["created"]
    took = None if started is None or ended is None else ended - started
    return (
        visible(str(row["plan"] or "-")),
        _WORDS.get(row["status"], str(row["status"])),
        f"{row['done']} of {row['total']}" if row["total"] else "-",
        "-" if moment is None else f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M}",
        "-" if took is None else format_seconds(took),
        visible(str(row["id"])),
    )


def _lines(found: Look) -> list[str]:
    if found.store["state"] == "error":
        return [f"{found.store['folder']} cannot be read: {found.store['text']}"]
    if not found.rows:
        return ["There is no run yet. `workbench run PLAN` starts one."]
    rows = _newest(found)
    left = len(rows) + found.store.get("more", 0) - RUNS_SHOWN
    lines = [f"{left} older runs are not shown."] if left > 0 else []
    for row in rows[:RUNS_SHOWN]:
        lines += [f"{row['plan']} waits for your answer at {step}." for step in row["asks"]]
        if row["error"] is not None and row["status"] in ("failed", "broken"):
            lines.append(f"{row['plan'] or row['id']}: {row['error']['message']}")
    return lines
