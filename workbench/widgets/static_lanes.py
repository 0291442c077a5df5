"""Dialogues and comparisons as HTML that is safe to keep; see `static_html` for the rules."""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import Any

from workbench.chat.compare import Comparison
from workbench.chat.compare_export import figures
from workbench.chat.compare_values import Answer, Asked
from workbench.chat.dialogue import Dialogue
from workbench.chat.dialogue_export import verdict_text
from workbench.chat.dialogue_log import title_of
from workbench.chat.dialogue_values import Turn
from workbench.chat.show import plain
from workbench.units import format_seconds
from workbench.widgets.snapshot import model_label
from workbench.widgets.static_html import STYLE, markdown_html, visible

_STYLE = """
.wb-static .wb-lanes{display:flex;flex-wrap:wrap;gap:.75rem;margin:0 0 1.25rem}
.wb-static .wb-lanes>.wb-turn{flex:1 1 16rem;min-width:0;margin:0}
.wb-static .wb-figures{font-size:.85em;color:var(--jp-content-font-color2,#666)}
"""


def _text(text: str) -> str:
    return html.escape(visible(text))


def _page(title: str, parts: Iterable[str]) -> str:
    return (
        f'<style>{STYLE}{_STYLE}</style><div class="wb-static" aria-label="{_text(title)}">'
        f"{''.join(parts)}</div>"
    )


def _turn(who: str, body: str, facts: Iterable[str], *, kind: str, ended: str = "") -> str:
    shown = "; ".join(map(_text, facts))
    foot = f'<div class="wb-figures">{shown}</div>' if shown else ""
    end = f'<div class="wb-end">{_text(ended)}</div>' if ended else ""
    return (
        f'<div class="wb-turn {kind}"><div class="wb-who">{_text(who)}</div>{body}{end}{foot}</div>'
    )


def _said(text: str, thinking: str) -> str:
    body = markdown_html(text) if text else ""
    if thinking:
        shown = f"<pre>{_text(thinking)}</pre>"
        body = f"<details><summary>Thinking</summary>{shown}</details>{body}"
    return body


# --- comparisons


def comparison_bundle(comparison: Comparison) -> dict[str, Any]:
    """Return a comparison as a mime bundle without a widget.

    Of a blind one that is not voted on, names and figures are left out, and the sides are in the
    order in which they are shown.
    """
    title = f"Comparison of {len(comparison.names)} models"
    parts = [_asked(comparison, asked) for asked in comparison.asked]
    lines = [_asked_text(comparison, asked) for asked in comparison.asked]
    return {
        "text/html": _page(title, parts or ["<p>Nothing was asked yet.</p>"]),
        "text/plain": "\n\n".join(lines) or "(nothing was asked yet)",
    }


def _asked(comparison: Comparison, asked: Asked) -> str:
    hidden = comparison.hidden(asked.index)
    lanes = [
        _turn(
            name,
            _said(answer.text, answer.thinking),
            [] if hidden else figures(answer),
            kind="wb-model",
            ended=_ended(answer),
        )
        for name, answer in comparison.shown(asked.index)
    ]
    question = _turn("You", markdown_html(asked.text), [], kind="wb-user")
    return f'{question}<div class="wb-lanes">{"".join(lanes)}</div>'


def _ended(answer: Answer) -> str:
    if answer.error is not None:
        return answer.error.message
    return "" if answer.stop_reason in (None, "stop") else str(answer.stop_reason)


def _asked_text(comparison: Comparison, asked: Asked) -> str:
    lines = [f"You: {plain(asked.text)}"]
    for name, answer in comparison.shown(asked.index):
        ended = _ended(answer)
        lines.append(f"{name}: {plain(answer.text)}{f' [{plain(ended)}]' if ended else ''}")
    return "\n\n".join(lines)


# --- dialogues


def dialogue_bundle(dialogue: Dialogue) -> dict[str, Any]:
    """Return a dialogue as a mime bundle without a widget."""
    transcript = dialogue.transcript
    parts = []
    if dialogue.setup.opening:
        parts.append(_turn("Opening", markdown_html(dialogue.setup.opening), [], kind="wb-user"))
    parts += [_dialogue_turn(turn) for turn in transcript.turns]
    if dialogue.stop_reason:
        parts.append(
            f'<div class="wb-end">{_text(f"{dialogue.state}: {dialogue.stop_reason}")}</div>'
        )
    for verdict in transcript.verdicts:
        parts.append(f'<div class="wb-end">{_text(verdict_text(verdict))}</div>')
    return {
        "text/html": _page(title_of(transcript), parts),
        "text/plain": dialogue.to_text(),
    }


def _dialogue_turn(turn: Turn) -> str:
    facts = [] if turn.human else [model_label(turn.model)]
    if turn.usage.output_tokens is not None:
        facts.append(f"{turn.usage.output_tokens} tokens")
    if turn.ttft_s is not None:
        facts.append(f"first after {format_seconds(turn.ttft_s)}")
    if turn.measured_swap_s:
        facts.append(f"swap {format_seconds(turn.measured_swap_s)}")
    ended = ""
    if turn.error is not None:
        ended = str(turn.error["message"])
    elif turn.status not in ("done", "writing"):
        ended = turn.status
    return _turn(
        turn.speaker,
        _said(turn.text, turn.thinking),
        filter(None, facts),
        kind="wb-user" if turn.human else "wb-model",
        ended=ended,
    )
