"""What the panel shows of a run, as JSON values; pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from workbench.plans.folder import RunFolder
from workbench.plans.state import FINISHED, RunState, StepState
from workbench.widgets.runs_plan import PlanView
from workbench.widgets.runs_story import StepStory, Story, seconds_of

Row = dict[str, Any]

ACTIVE = ("starting", "running")
ENDED = ("done", "failed", "cancelled", "lost")
# A process needs a moment from its folder to its first line, on a loaded machine a long one.
START_S = 60.0
_LONGEST = 400
_ITEMS_DRAWN = 2000


def status_of(state: RunState, *, alive: bool, created: float | None, now: float) -> str:
    """Return the status of a run; one whose process is gone without an end is `lost`."""
    if alive or state.status not in ACTIVE:
        return state.status
    if state.status == "starting" and (created is None or now - created < START_S):
        return "starting"
    return "lost"


def info_of(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `run.json` says, as far as the panel shows it."""
    params, steps = found.get("params"), found.get("steps")
    return {
        "plan": _text(found.get("plan")),
        "name": _text(found.get("name")),
        "plan_hash": _text(found.get("plan_hash")),
        "run_key": _text(found.get("run_key")),
        "kind": _text(found.get("kind")) or "plan",
        "mode": _text(found.get("mode")) or "live",
        "parent": _text(found.get("parent_run_id")),
        "replay_of": _text(found.get("replay_of")),
        "who": _text(found.get("who")),
        "created": _moment(found.get("created")),
        "params": dict(params) if isinstance(params, Mapping) else {},
        "steps": [row for row in steps if isinstance(row, Mapping)]
        if isinstance(steps, list)
        else [],
    }


def row_of(
    folder: RunFolder,
    info: Mapping[str, Any],
    plan: PlanView,
    state: RunState,
    status: str,
    answered: frozenset[str],
) -> Row:
    """Return a run as a row of the list.

    Args:
        answered: Steps that have an answer the run has not read yet.
    """
    ids = [step.id for step in plan.steps] or list(state.steps)
    steps = [state.steps.get(name) or StepState(name) for name in ids]
    asks = [step.id for step in steps if step.status == "waiting" and step.id not in answered]
    failed = [step.id for step in steps if step.status == "failed"]
    error = state.error or next((step.error for step in steps if step.error), None)
    return {
        "id": folder.run_id,
        "plan": info["plan"] or plan.name or "notebook",
        "name": info["name"],
        "status": status,
        "created": info["created"],
        "started": seconds_of(state.started),
        "ended": seconds_of(state.ended),
        "execution": state.execution,
        "mode": info["mode"],
        "done": sum(step.status in FINISHED for step in steps),
        "total": len(steps),
        "active": [_doing(step) for step in steps if step.status in ("running", "retrying")],
        "asks": asks,
        "answered": sorted(answered),
        "failed": failed,
        "blocked": sum(step.status == "blocked" for step in steps),
        "error": short_error(error),
    }


def broken_row(folder: RunFolder, text: str) -> Row:
    """Return the row of a run whose `run.json` cannot be read."""
    empty: Row = dict.fromkeys(("name", "created", "started", "ended", "error"))
    lists: Row = {name: [] for name in ("active", "asks", "answered", "failed")}
    counts: Row = dict.fromkeys(("execution", "done", "total", "blocked"), 0)
    said = {"id": folder.run_id, "plan": "", "status": "broken", "mode": "live"}
    return {**empty, **lists, **counts, **said, "error": {"message": text, "hint": None}}


def run_of(
    folder: RunFolder, info: Mapping[str, Any], plan: PlanView, story: Story, log: str
) -> dict[str, Any]:
    """Return what stands about an open run besides its row and its steps."""
    known = [step.id for step in plan.steps]
    ids = [*known, *(name for name in story.state.steps if name not in known)]
    steps = [plan.step(name) for name in ids]
    return {
        "id": folder.run_id,
        **{name: info[name] for name in ("plan_hash", "run_key", "parent", "replay_of", "who")},
        "params": info["params"],
        "goal": plan.goal,
        "trouble": plan.trouble,
        "folder": str(folder.path),
        "notebook": str(folder.notebook) if folder.notebook.is_file() else None,
        "executions": list(story.executions),
        "last": story.last,
        "not_replayable": [_cut(reason) for reason in story.state.not_replayable],
        "log": log,
        "steps": [
            {
                "id": step.id,
                "kind": step.kind,
                "title": step.title,
                "needs": [name for name in step.needs if name in ids],
                "foreach": step.foreach,
            }
            for step in steps
        ],
    }


def step_of(
    step: StepState, story: StepStory | None, *, over: bool, answered: bool
) -> dict[str, Any]:
    """Return how far a step has come.

    Args:
        over: Whether the run has no process: what was at work is not any more.
        answered: Whether it has an answer that the run has not read yet.
    """
    spans = [dict(span) for span in story.spans] if story else []
    question = step.question if step.status == "waiting" and not answered else None
    lost = over and step.status in ("running", "retrying")
    return {
        "id": step.id,
        "status": "lost" if lost else "answered" if answered else step.status,
        "attempt": step.attempt,
        "started": seconds_of(step.started),
        "seconds": step.seconds,
        "done": step.done,
        "items": step.total,
        "errors": step.errors,
        "phase": step.phase if step.status == "running" else "",
        "model": step.model,
        "summary": _cut(step.summary),
        "reason": _cut(step.reason),
        "error": short_error(step.error),
        "ask": None if question is None else _cut(str(question.get("ask", "")), 2000),
        "asked_sha": None if question is None else question.get("sha256"),
        "why": None if question is None else question.get("reason"),
        "asked": story.asked if story and question is not None else None,
        "requests": len(step.requests),
        "spans": spans,
    }


def items_of(story: StepStory) -> list[dict[str, Any]]:
    """Return the items of a `foreach` in order, as many as can be drawn."""
    return [story.items[index] for index in sorted(story.items)][:_ITEMS_DRAWN]


def short_error(error: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return an error as it is shown: type, message, hint."""
    if error is None:
        return None
    return {
        "type": _text(error.get("type")),
        "message": _cut(str(error.get("message", "")), 4000),
        "hint": _text(error.get("hint")),
    }


def _doing(step: StepState) -> dict[str, Any]:
    return {
        "id": step.id,
        "phase": step.phase if step.status == "running" else "waits to try again",
        "done": step.done,
        "items": step.total,
    }


def _text(value: Any) -> str | None:
    return None if value is None or value == "" else str(value)


def _cut(text: str, longest: int = _LONGEST) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _moment(value: Any) -> float | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    try:
        return datetime.fromisoformat(str(value)).timestamp()
    except ValueError:
        return None
