"""A comparison where nobody looks: the answers, a table of figures, the votes; safe HTML."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

from workbench.chat.compare import Comparison
from workbench.chat.compare_export import figures
from workbench.units import format_seconds
from workbench.widgets.compare_picture import label_of, letter
from workbench.widgets.static_html import visible
from workbench.widgets.static_lanes import comparison_bundle

_VERDICTS = {"tie": "tie", "both_bad": "both bad"}
_HEAD = ("Prompt", "Answer", "Tokens", "Tokens/s", "First after", "Ended")


def static_bundle(comparison: Comparison | None, names: Sequence[str] = ()) -> dict[str, Any]:
    """Return a comparison as a mime bundle without a widget.

    Args:
        comparison: `None` before anything was asked.
        names: Who would be asked.
    """
    if comparison is None or not comparison.asked:
        who = html.escape(visible(", ".join(names) or "no models yet"))
        return {
            "text/html": f"<p>Nothing was asked yet: {who}.</p>",
            "text/plain": "(nothing was asked yet)",
        }
    bundle = comparison_bundle(comparison)
    page = bundle["text/html"].removesuffix("</div>") + _table(comparison) + _votes(comparison)
    return {**bundle, "text/html": page + "</div>"}


def _cell(text: object, tag: str = "td") -> str:
    return f"<{tag}>{html.escape(visible(str(text)))}</{tag}>"


def _table(comparison: Comparison) -> str:
    """Return the figures of every answer; of hidden ones only that they are there."""
    head = "".join(_cell(text, "th") for text in _HEAD)
    rows = []
    for asked in comparison.asked:
        hidden = comparison.hidden(asked.index)
        for name, answer in comparison.shown(asked.index):
            made = answer.generation
            cells = [asked.index, name, "", "", "", "hidden until the vote"]
            if not hidden and made is None:
                cells[-1] = answer.status
            elif not hidden and made is not None:
                cells[2:] = [
                    made.usage.output_tokens if made.usage.output_tokens is not None else "unknown",
                    f"{made.tokens_per_s:.1f}" if made.tokens_per_s is not None else "unknown",
                    format_seconds(made.ttft_s) if made.ttft_s is not None else "unknown",
                    made.stop_reason if made.error is None else figures(answer)[0],
                ]
            rows.append(f"<tr>{''.join(_cell(text) for text in cells)}</tr>")
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _votes(comparison: Comparison) -> str:
    if not comparison.votes:
        return ""
    rows = []
    for vote in comparison.votes:
        index = vote["turn"]
        text = label_of(comparison.asked[index].text)
        names = comparison.sides(index)
        told = {
            side: f"Answer {letter(names.index(vote[f'label_{side}']))}"
            if comparison.hidden(index)
            else vote[f"label_{side}"]
            for side in "ab"
        }
        verdict = vote["verdict"]
        won = _VERDICTS.get(verdict) or told[verdict]
        between = f"{told['a']} and {told['b']}"
        rows.append(f"<tr>{''.join(map(_cell, (index, text, between, won)))}</tr>")
    head = "".join(_cell(text, "th") for text in ("Prompt", "Text", "Between", "Better"))
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
