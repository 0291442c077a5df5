"""What an open step shows: its inputs, its outputs read from their files, and its requests."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workbench.errors import WorkbenchError
from workbench.plans.folder import RunFolder
from workbench.plans.state import StepState
from workbench.widgets.runs_picture import items_of, short_error
from workbench.widgets.runs_plan import PlanStep
from workbench.widgets.runs_story import StepStory

ROWS_SHOWN = 20
COLUMNS_SHOWN = 12
TEXT_CHARS = 6000
CELL_CHARS = 200
LARGEST_BYTES = 4_000_000
REQUESTS_SHOWN = 100

Preview = dict[str, Any]


def step_detail(
    folder: RunFolder, plan: PlanStep, state: StepState, story: StepStory | None
) -> dict[str, Any]:
    """Return everything about a step as JSON values; files are read and their hashes compared."""
    requests = [_request(line) for line in state.requests[-REQUESTS_SHOWN:]]
    return {
        "id": plan.id,
        "kind": plan.kind,
        "title": plan.title,
        "inputs": [[name, _written(value)] for name, value in plan.inputs.items()],
        "config": [[name, _written(value)] for name, value in plan.config.items()],
        "outputs": [output_of(folder, plan.id, name, fact) for name, fact in state.outputs.items()],
        "requests": requests,
        "totals": _totals(state.requests),
        "attempts": list(story.attempts) if story else [],
        "items": items_of(story) if story else [],
        "total": state.total,
        "error": short_error(state.error),
        "question": _question(state),
        "answer": _answer(state),
        "key": state.key,
        "folder": str(folder.place(plan.id)),
    }


def _written(value: Any) -> str:
    """Return a value as it stands in the plan: references and texts as they are."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=1)
    return _cut(text)


def output_of(folder: RunFolder, step: str, name: str, fact: Mapping[str, Any]) -> Preview:
    """Return an output with a preview of its file.

    Args:
        fact: `{sha256, type, bytes, rows}` as the journal has it.
    """
    kind = "parquet" if fact.get("type") == "parquet" else "json"
    path = folder.committed(step) / "outputs" / f"{name}.{kind}"
    head = {"name": name, "type": kind, "bytes": fact.get("bytes"), "rows": fact.get("rows")}
    head |= {"path": str(path), "sha256": fact.get("sha256")}
    try:
        size = path.stat().st_size
        if size > LARGEST_BYTES:
            return {**head, "form": "long"}
        data = path.read_bytes()
    except OSError as exc:
        return {**head, "form": "gone", "text": f"{exc.strerror or exc}."}
    if fact.get("sha256") and hashlib.sha256(data).hexdigest() != fact["sha256"]:
        head["changed"] = True
    return {**head, **(_table_of(path) if kind == "parquet" else _json_of(data))}


def _json_of(data: bytes) -> Preview:
    try:
        return shown(json.loads(data))
    except ValueError as exc:
        return {"form": "gone", "text": f"It is no JSON: {exc}."}


def _table_of(path: Path) -> Preview:
    # Imported here: pandas and duckdb take a second.
    from workbench.metrics.parquet import read_parquet

    try:
        frame = read_parquet(path)
        rows = json.loads(frame.head(ROWS_SHOWN).to_json(orient="values", date_format="iso"))
    except (WorkbenchError, ValueError, OverflowError) as exc:
        return {"form": "gone", "text": f"It cannot be read: {exc}"}
    names = [str(name) for name in frame.columns]
    cells = [dict(zip(names, row, strict=True)) for row in rows]
    return _table(names, cells, of=len(frame))


def shown(value: Any) -> Preview:
    """Return a preview of a JSON value: a figure, a table, a text, or JSON."""
    if _is_figure(value):
        return {"form": "figure", "figure": {"data": value["data"], "layout": value["layout"]}}
    if isinstance(value, str):
        return {"form": "text", "text": _cut(value), "cut": max(0, len(value) - TEXT_CHARS)}
    if isinstance(value, list) and value and all(isinstance(row, dict) for row in value):
        columns = list(dict.fromkeys(name for row in value[:ROWS_SHOWN] for name in row))
        return _table(columns, value[:ROWS_SHOWN], of=len(value))
    text = json.dumps(value, ensure_ascii=False, indent=2)
    return {"form": "json", "text": _cut(text), "cut": max(0, len(text) - TEXT_CHARS)}


def _is_figure(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("data"), list)
        and isinstance(value.get("layout"), dict)
    )


def _table(columns: list[str], rows: list[dict[str, Any]], *, of: int | None = None) -> Preview:
    kept = columns[:COLUMNS_SHOWN]
    return {
        "form": "table",
        "columns": kept,
        "cells": [[_cell(row.get(name)) for name in kept] for row in rows],
        "of": of,
        "hidden": len(columns) - len(kept),
    }


def _cell(value: Any) -> str | float | int | None:
    if isinstance(value, bool):
        return str(value).lower()
    if value is None or isinstance(value, int | float):
        return value if value == value else None
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= CELL_CHARS else text[: CELL_CHARS - 1] + "…"


def _cut(text: str) -> str:
    return text[:TEXT_CHARS]


def _request(line: Mapping[str, Any]) -> dict[str, Any]:
    names = ("request_id", "model", "input_tokens", "output_tokens", "seconds", "stop_reason")
    return {name: line.get(name) for name in (*names, "item", "attempt")}


def _totals(lines: list[Mapping[str, Any]]) -> dict[str, Any]:
    def total(name: str) -> float | None:
        found = [line[name] for line in lines if isinstance(line.get(name), int | float)]
        return sum(found) if found else None

    names = ("input_tokens", "output_tokens", "seconds")
    return {"count": len(lines), **{name: total(name) for name in names}}


def _question(state: StepState) -> dict[str, Any] | None:
    if state.question is None:
        return None
    show = state.question.get("show")
    return {
        "ask": _cut(str(state.question.get("ask", ""))),
        "why": state.question.get("reason"),
        "show": None if show is None else shown(show),
        "open": state.status == "waiting",
    }


def _answer(state: StepState) -> dict[str, Any] | None:
    if state.answer is None:
        return None
    return {name: state.answer.get(name) for name in ("yes", "who", "when", "note")}
