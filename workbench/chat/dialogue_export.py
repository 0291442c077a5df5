"""Write a dialogue in other forms: text, markdown, JSON, a notebook, a DataFrame."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import msgspec

from workbench.chat.dialogue_log import DialogueTranscript, title_of
from workbench.chat.dialogue_values import Turn
from workbench.chat.judge import Pair
from workbench.chat.notebook import code_cell
from workbench.chat.show import plain
from workbench.errors import ConfigError
from workbench.units import format_seconds, rfc3339

if TYPE_CHECKING:
    import pandas as pd
    from nbformat import NotebookNode

COLUMNS: Mapping[str, tuple[str, str]] = {
    "index": ("Int64", ""),
    "id": ("string", ""),
    "round": ("Int64", ""),
    "created_at": ("datetime64[ns, UTC]", "UTC"),
    "speaker": ("string", ""),
    "model": ("string", ""),
    "digest": ("string", ""),
    "text": ("string", ""),
    "thinking": ("string", ""),
    "status": ("string", ""),
    "stop_reason": ("string", ""),
    "picked": ("string", ""),
    "note": ("string", ""),
    "original": ("string", ""),
    "error": ("string", ""),
    "seed": ("Int64", ""),
    "config": ("string", "JSON"),
    "input_tokens": ("Int64", "tokens"),
    "output_tokens": ("Int64", "tokens"),
    "dropped_turns": ("Int64", "turns"),
    "ttft_s": ("Float64", "seconds"),
    "load_s": ("Float64", "seconds"),
    "elapsed_s": ("Float64", "seconds"),
    "tokens_per_s": ("Float64", "tokens/second"),
    "predicted_swap_s": ("Float64", "seconds"),
    "measured_swap_s": ("Float64", "seconds"),
    "messages_sha": ("string", ""),
    "request_id": ("string", ""),
}
"""Column of `to_frame` to its type and unit."""


def to_text(transcript: DialogueTranscript) -> str:
    """Return what was said as plain text, with what became of each turn."""
    opening = str(transcript.setup.get("opening") or "")
    parts = [plain(opening)] if opening else []
    parts += [f"{turn.speaker}{_marks(turn)}: {plain(turn.text)}" for turn in transcript.turns]
    if transcript.stop_reason:
        parts.append(f"({transcript.state}: {plain(transcript.stop_reason)})")
    parts += [f"({plain(verdict_text(verdict))})" for verdict in transcript.verdicts]
    return "\n\n".join(parts) or "(nothing was said)"


def _marks(turn: Turn) -> str:
    marks: list[str] = [] if turn.status == "done" else [turn.status]
    if turn.picked == "fallback":
        marks.append("in turn: the moderator named nobody")
    if turn.original is not None:
        marks.append("edited")
    if turn.error is not None:
        marks.append(f"{turn.error['type']}: {plain(str(turn.error['message']))}")
    return f" [{'; '.join(marks)}]" if marks else ""


def to_markdown(transcript: DialogueTranscript) -> str:
    """Return what was said as markdown text.

    A model's text stands in it as it came; show it only where markdown is sanitised.
    """
    parts = [f"# {title_of(transcript)}"]
    opening = str(transcript.setup.get("opening") or "")
    if opening:
        parts += ["## Opening", opening]
    for turn in transcript.turns:
        parts.append(f"## {turn.speaker} ({'; '.join(_facts(turn))})")
        if turn.thinking:
            parts.append("> " + turn.thinking.replace("\n", "\n> "))
        if turn.text:
            parts.append(turn.text)
    if transcript.stop_reason:
        parts.append(f"*{transcript.state}: {transcript.stop_reason}*")
    foreseen, measured = swap_seconds(transcript)
    if measured:
        parts.append(f"*swaps: {_swap(foreseen, measured)}*")
    for verdict in transcript.verdicts:
        parts.append(f"*{verdict_text(verdict)}*")
    return "\n\n".join(parts) + "\n"


def _swap(foreseen: float | None, measured: float) -> str:
    before = "not foreseen" if foreseen is None else f"{format_seconds(foreseen)} foreseen"
    return f"{format_seconds(measured)}, {before}"


def swap_seconds(transcript: DialogueTranscript) -> tuple[float | None, float]:
    """Return the seconds of all swaps as foreseen before each turn, and as they came.

    The first is `None` when one of them could not be foreseen.
    """
    turns = [turn for turn in transcript.turns if turn.measured_swap_s is not None]
    foreseen = [turn.predicted_swap_s for turn in turns]
    total = None if None in foreseen else sum(seconds or 0.0 for seconds in foreseen)
    return total, sum(turn.measured_swap_s or 0.0 for turn in turns)


def verdict_text(verdict: Mapping[str, Any]) -> str:
    """Return what a judge found, as a sentence without a full stop."""
    better = {"a": verdict["a"], "b": verdict["b"]}.get(str(verdict["winner"]), "a tie")
    how = "in both orders" if verdict["agreed"] else "the two orders disagree"
    return f"{verdict['judge']} judged {verdict['a']} and {verdict['b']}: {better} ({how})"


def _facts(turn: Turn) -> list[str]:
    if turn.human:
        return ["a person"]
    found = [turn.model or "unknown model"]
    if turn.status != "done":
        found.append(turn.status)
    if turn.picked == "fallback":
        found.append("in turn: the moderator named nobody")
    if turn.original is not None:
        found.append("edited by a person")
    if turn.error is not None:
        found.append(f"{turn.error['type']}: {turn.error['message']}")
    if turn.usage.output_tokens is not None:
        found.append(f"{turn.usage.output_tokens} tokens")
    if turn.ttft_s is not None:
        found.append(f"first after {format_seconds(turn.ttft_s)}")
    if turn.measured_swap_s:
        found.append(f"swap {_swap(turn.predicted_swap_s, turn.measured_swap_s)}")
    if turn.dropped_turns:
        found.append(f"without the {turn.dropped_turns} oldest turns")
    return found


def to_json(transcript: DialogueTranscript) -> str:
    """Return one document: the setup, every turn and side request, and why it ended."""
    return json.dumps(transcript.to_wire(), ensure_ascii=False, indent=2)


def to_notebook(transcript: DialogueTranscript) -> NotebookNode:
    """Return a notebook that sets the same dialogue up again, with its turns as plain outputs.

    A model's text appears only in plain-text outputs, where it cannot run as HTML or JavaScript.
    """
    # Imported here: nbformat takes a third of a second.
    import nbformat

    title = html.escape(title_of(transcript)).replace("`", "'")
    outputs = [{"output_type": "stream", "name": "stdout", "text": to_text(transcript) + "\n"}]
    cells = [
        {"cell_type": "markdown", "metadata": {}, "source": f"# {title}"},
        code_cell(_parameters(transcript.setup), metadata={"tags": ["parameters"]}),
        code_cell("import workbench\n\nwb = workbench.connect()"),
        code_cell(
            _call(transcript.setup),
            outputs=outputs,
            metadata={"workbench": {"turns": [turn.to_wire() for turn in transcript.turns]}},
        ),
    ]
    metadata = {
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
        "language_info": {"name": "python"},
        "workbench": {
            "dialogue": transcript.id,
            "created_at": rfc3339(transcript.created_at),
            "setup": transcript.setup,
            "digests": digests(transcript),
        },
    }
    document = {
        "nbformat": 4,
        "nbformat_minor": 5,
        "metadata": metadata,
        "cells": [{"id": f"cell-{index}", **cell} for index, cell in enumerate(cells)],
    }
    from_dict: Any = nbformat.from_dict
    return cast("NotebookNode", from_dict(document))


_SIMPLE = ("order", "turns", "memory", "human", "judge", "moderator", "seed", "schedule", "swap")


def _parameters(setup: Mapping[str, Any]) -> str:
    named = {name: setup.get(name) for name in ("opening", "participants")}
    named |= {name: setup.get(name) for name in _SIMPLE}
    named["stop"] = {
        str(rule["rule"]): {key: value for key, value in rule.items() if key != "rule"}
        for rule in setup.get("stop") or ()
        if rule["rule"] != "callable"
    }
    return "\n".join(f"{name} = {value!r}" for name, value in named.items())


def _call(setup: Mapping[str, Any]) -> str:
    lost = [f"# its stop rule {r['name']} was code" for r in setup["stop"] if "name" in r]
    if str(setup["order"]).startswith("callable "):
        lost.append(f"# its order was code: {setup['order']}")
    names = ",\n    ".join(f"{name}={name}" for name in (*_SIMPLE, "stop"))
    guard = ",\n    repetition=None" if setup.get("repetition") is None else ""
    return "\n".join(
        [
            *lost,
            "dialogue = wb.dialogue(\n    participants,\n    opening=opening,",
            f"    {names}{guard},\n)",
            "dialogue.run()",
            "print(dialogue.to_text())",
        ]
    )


def digests(transcript: DialogueTranscript) -> dict[str, str | None]:
    """Return the digest of each model that spoke."""
    return {turn.model: turn.digest for turn in transcript.turns if not turn.human}


def to_frame(transcript: DialogueTranscript) -> pd.DataFrame:
    """Return one row per turn with the columns of `COLUMNS`, in order."""
    import pandas as pd

    rows = [_row(turn) for turn in transcript.turns]
    frame = pd.DataFrame(rows, columns=list(COLUMNS), dtype="object")
    return frame.astype({name: kind for name, (kind, _) in COLUMNS.items()})


def _row(turn: Turn) -> dict[str, Any]:
    named = {name: getattr(turn, name, None) for name in COLUMNS}
    return {
        **named,
        "error": f"{turn.error['type']}: {turn.error['message']}" if turn.error else None,
        "config": msgspec.json.encode(turn.config).decode(),
        "input_tokens": turn.usage.input_tokens,
        "output_tokens": turn.usage.output_tokens,
    }


def pair_of(transcript: DialogueTranscript, a: str, b: str) -> Pair:
    """Return what two participants said, to be judged.

    Raises:
        ConfigError: When one of them said nothing.
    """
    said = {
        name: [turn for turn in transcript.turns if turn.speaker == name and turn.heard]
        for name in (a, b)
    }
    for name, turns in said.items():
        if not turns:
            raise ConfigError(f"{name} said nothing.", key="name")
    texts = ["\n\n".join(turn.text.strip() for turn in said[name]) for name in (a, b)]
    return Pair(
        task=str(transcript.setup.get("opening") or ""),
        a=texts[0],
        b=texts[1],
        names=(a, b),
        request_ids=(said[a][-1].request_id, said[b][-1].request_id),
    )
