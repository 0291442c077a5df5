"""A dialogue as its view is told of it: plain JSON values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from workbench.chat.dialogue import Dialogue
from workbench.chat.dialogue_export import verdict_text
from workbench.chat.dialogue_log import title_of
from workbench.chat.dialogue_values import LaneState, Turn
from workbench.chat.participants import Participant
from workbench.chat.staging import Staging
from workbench.chat.transcript import error_wire as kept_error
from workbench.errors import ModelNotFound, WorkbenchError
from workbench.widgets.lanes import COLOURS, lane_status
from workbench.widgets.snapshot import model_label

OPENING = "opening"
"""Id of the turn that shows the opening."""

_PULL = "Pull it, or choose another one in the parameters of its participant."
_UNHEARD = {"skipped": "skipped", "failed": "error"}


def turns_of(dialogue: Dialogue, turns: Sequence[Turn]) -> list[dict[str, Any]]:
    """Return the opening and every turn, oldest first."""
    colours = colours_of(dialogue)
    opening = {
        "mid": OPENING,
        "role": "user",
        "opening": True,
        "who": "Opening",
        "text": dialogue.setup.opening,
    }
    return [opening, *(_turn(dialogue, turn, colours) for turn in turns)]


def colours_of(dialogue: Dialogue) -> dict[str, int]:
    """Return the number of each participant's colour."""
    return {item.name: place % COLOURS for place, item in enumerate(dialogue.participants)}


def _turn(dialogue: Dialogue, turn: Turn, colours: Mapping[str, int]) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "mid": turn.id,
        "role": "assistant",
        "lane": turn.speaker,
        "who": turn.speaker,
        "index": turn.index,
        "text": turn.text,
    }
    if turn.human:
        return {**shown, "role": "user"}
    lane = dialogue.lanes.get(turn.speaker, LaneState())
    arriving = turn.status == "writing"
    phase = lane.phase if lane.turn == turn.index and lane.phase != "idle" else "queued"
    return {
        **shown,
        "think": turn.thinking,
        "model": model_label(turn.model),
        "colour": colours.get(turn.speaker, 0),
        "status": turn.status,
        "phase": phase if arriving else None,
        "reason": None if arriving else _UNHEARD.get(turn.status) or turn.stop_reason or "stop",
        "error": error_wire(turn.error) if turn.status == "failed" else None,
        "fig": figures(dialogue, turn),
        "swap": [turn.predicted_swap_s, turn.measured_swap_s],
        "dropped": turn.dropped_turns,
        "picked": turn.picked,
        "note": turn.note,
        "seed": turn.seed,
        "changed": turn.original is not None,
        "waiting": turn.id == dialogue.waiting_for,
    }


def error_wire(error: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return a turn's error as a view draws it."""
    if error is None:
        return None
    return {"text": error["message"], **{key: error.get(key) for key in ("type", "hint", "plan")}}


def problem_wire(error: WorkbenchError | None) -> dict[str, Any] | None:
    """Return what keeps the first turn from being taken as a view draws it."""
    if error is None:
        return None
    found = error_wire(kept_error(error)) or {}
    if isinstance(error, ModelNotFound):
        found["hint"] = found["hint"] or _PULL
    return found


def figures(dialogue: Dialogue, turn: Turn) -> dict[str, Any]:
    """Return what was measured of a turn; seconds and tokens, null when unknown."""
    usage = turn.usage
    known = [count for count in (usage.input_tokens, usage.output_tokens) if count is not None]
    need = dialogue.staging.need(turn.model)
    options = turn.config.get("options") or {}
    return {
        "ttft_s": turn.ttft_s,
        "tokens": usage.output_tokens,
        "tokens_s": turn.tokens_per_s,
        "prompt_tokens": usage.input_tokens,
        "elapsed_s": turn.elapsed_s,
        "ctx_used": sum(known) if known else None,
        "ctx": options.get("num_ctx") or (need.context if need is not None else None),
    }


def lanes_of(dialogue: Dialogue, turns: Sequence[Turn]) -> list[dict[str, Any]]:
    """Return a lane per participant, in order."""
    last = {turn.speaker: turn for turn in turns if not turn.human}
    colours, states, muted = colours_of(dialogue), dialogue.lanes, dialogue.muted
    found = []
    for item in dialogue.participants:
        need = dialogue.staging.need(item.model)
        state = states.get(item.name, LaneState())
        if state.phase == "idle":
            state = _ended(last.get(item.name))
        badges = [
            *(["muted"] if item.name in muted else []),
            *(["toy"] if need and need.toy else []),
        ]
        found.append(
            {
                "key": item.name,
                "name": item.name,
                "model": model_label(item.model),
                "title": item.model,
                "colour": colours[item.name],
                "muted": item.name in muted,
                "badges": badges,
                "status": lane_status(state),
            }
        )
    return found


def _ended(turn: Turn | None) -> LaneState:
    """Return how the last turn of a lane ended, for one that was opened from disk."""
    if turn is None or turn.status == "writing":
        return LaneState()
    failed = str(turn.error["type"]) if turn.status == "failed" and turn.error else None
    skipped = turn.status if turn.status == "skipped" else None
    return LaneState(
        "done",
        detail=failed or skipped or str(turn.stop_reason),
        tokens=turn.usage.output_tokens,
        tokens_per_s=turn.tokens_per_s,
        ttft_s=turn.ttft_s,
        turn=turn.index,
    )


def plan_of(staging: Staging, swap: tuple[float | None, float]) -> dict[str, Any] | None:
    """Return what a dialogue does to memory, or `None` before anybody asked.

    Args:
        staging: What was foreseen.
        swap: Seconds of the swaps so far: foreseen, and measured.
    """
    if not staging.needs:
        return None
    return {
        "together": staging.together,
        "reason": staging.reason,
        "loads": staging.loads,
        "swap_s": staging.swap_s,
        "so_far": {"foreseen": swap[0], "measured": swap[1]},
        "notices": list(staging.notices),
        "columns": [*staging.needs[0].cells()],
        "needs": [[*need.cells().values()] for need in staging.needs],
    }


def run_of(dialogue: Dialogue, turns: Sequence[Turn]) -> dict[str, Any]:
    """Return what a dialogue does, and what a person may do about it."""
    setup, taken = dialogue.setup, [t for t in turns if not t.human and t.status != "failed"]
    return {
        "state": dialogue.state,
        "reason": dialogue.stop_reason,
        "active": not dialogue.done,
        "pausing": dialogue.pausing,
        "taken": len(taken),
        "limit": setup.turns,
        "order": setup.order if isinstance(setup.order, str) else "rule of its own",
        "human": setup.human,
        "failed_turn": any(turn.status == "failed" for turn in turns),
        "waiting": dialogue.waiting_for,
        "seed": setup.seed,
        "verdicts": [verdict_text(verdict) for verdict in dialogue.transcript.verdicts],
    }


def people_of(participants: Sequence[Participant]) -> list[dict[str, Any]]:
    """Return every participant with its parameters, for the drawer."""
    return [item.to_wire() for item in participants]


def title(dialogue: Dialogue) -> str:
    """Return the title, else the first words of the opening."""
    return title_of(dialogue.transcript)
