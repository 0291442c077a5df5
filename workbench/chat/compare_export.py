"""Write a comparison in other forms: markdown, JSON, a notebook, a DataFrame."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from workbench.chat.notebook import code_cell, markdown_cell, notebook_of, printed
from workbench.chat.show import plain
from workbench.units import format_seconds, rfc3339

if TYPE_CHECKING:
    import pandas as pd
    from nbformat import NotebookNode

    from workbench.chat.compare import Comparison
    from workbench.chat.compare_values import Answer, Asked

COLUMNS: Mapping[str, tuple[str, str]] = {
    "prompt": ("Int64", ""),
    "question": ("string", ""),
    "name": ("string", ""),
    "model": ("string", ""),
    "digest": ("string", ""),
    "attempt": ("Int64", ""),
    "status": ("string", ""),
    "stop_reason": ("string", ""),
    "text": ("string", ""),
    "thinking": ("string", ""),
    "error": ("string", ""),
    "input_tokens": ("Int64", "tokens"),
    "output_tokens": ("Int64", "tokens"),
    "ttft_s": ("Float64", "seconds"),
    "load_s": ("Float64", "seconds"),
    "elapsed_s": ("Float64", "seconds"),
    "tokens_per_s": ("Float64", "tokens/second"),
    "request_id": ("string", ""),
    "prompt_sha": ("string", ""),
    "config": ("string", "JSON"),
}
"""Column of `to_frame` to its type and unit."""

SCHEMA = 1
"""Version of the JSON document."""

KIND = "workbench.comparison"


def to_frame(comparison: Comparison) -> pd.DataFrame:
    """Return one row per newest answer with the columns of `COLUMNS`, in order."""
    import pandas as pd

    rows = [_row(asked, one) for asked in comparison.asked for one in asked.answers.values()]
    frame = pd.DataFrame(rows, columns=list(COLUMNS), dtype="object")
    return frame.astype({name: kind for name, (kind, _) in COLUMNS.items()})


def _row(asked: Asked, answer: Answer) -> dict[str, Any]:
    generation = answer.generation
    row: dict[str, Any] = dict.fromkeys(COLUMNS)
    row.update(
        prompt=asked.index,
        question=asked.text,
        name=answer.lane,
        model=answer.model,
        digest=answer.digest,
        attempt=answer.attempt,
        status=answer.status,
        text=answer.text,
        thinking=answer.thinking or None,
        request_id=answer.request_id or None,
        prompt_sha=asked.sha,
        config=json.dumps(answer.contender.parameters(), ensure_ascii=False),
    )
    if generation is not None:
        error = generation.error
        row.update(
            stop_reason=generation.stop_reason,
            error=None if error is None else f"{type(error).__name__}: {error.message}",
            input_tokens=generation.usage.input_tokens,
            output_tokens=generation.usage.output_tokens,
            ttft_s=generation.ttft_s,
            load_s=generation.load_s,
            elapsed_s=generation.elapsed_s,
            tokens_per_s=generation.tokens_per_s,
        )
    return row


def to_json(comparison: Comparison) -> str:
    """Return one document: the sides, every prompt, every attempt, and the votes.

    `compare_reading.read` reads it back.
    """
    document = {
        "schema": SCHEMA,
        "kind": KIND,
        "id": comparison.id,
        "created_at": rfc3339(comparison.created_at),
        "blind": comparison.blind,
        "order_seed": comparison.order_seed,
        "revealed": comparison.revealed,
        "models": [
            {
                "name": side.name,
                "model": side.model,
                "system": side.system,
                "config": side.config.to_wire(),
            }
            for side in comparison.contenders
        ],
        "prompts": [
            {
                "index": asked.index,
                "sha": asked.sha,
                "messages": [message.to_wire() for message in asked.messages],
                "sides": list(comparison.sides(asked.index)),
                "answers": [_answer(one) for one in asked.answers.values()],
                "former": [_answer(one) for one in asked.former],
            }
            for asked in comparison.asked
        ],
        "votes": [{**vote, "ts": rfc3339(vote["ts"])} for vote in comparison.votes],
    }
    return json.dumps(document, ensure_ascii=False, indent=2)


def _answer(answer: Answer) -> dict[str, Any]:
    generation = answer.generation
    found: dict[str, Any] = {
        "id": answer.id,
        "name": answer.lane,
        "model": answer.model,
        "digest": answer.digest,
        "attempt": answer.attempt,
        "status": answer.status,
        "text": answer.text,
        "thinking": answer.thinking,
        "request_id": answer.request_id,
    }
    if generation is not None:
        error = generation.error
        found |= {
            "stop_reason": generation.stop_reason,
            "usage": msgspec.to_builtins(generation.usage),
            "timings": msgspec.to_builtins(generation.timings),
            "ttft_s": generation.ttft_s,
            "ttft_answer_s": generation.ttft_answer_s,
            "elapsed_s": generation.elapsed_s,
            "error": None
            if error is None
            else {"type": type(error).__name__, "message": error.message, "hint": error.hint},
        }
    return found


def figures(answer: Answer) -> list[str]:
    """Return what an answer took, in words; nothing while it is arriving."""
    generation = answer.generation
    if generation is None:
        return [answer.status]
    found: list[str] = []
    if generation.stop_reason != "stop":
        found.append(generation.stop_reason)
    if generation.error is not None:
        found.append(f"{type(generation.error).__name__}: {generation.error.message}")
    if generation.usage.output_tokens is not None:
        found.append(f"{generation.usage.output_tokens} tokens")
    if generation.ttft_s is not None:
        found.append(f"first after {format_seconds(generation.ttft_s)}")
    if generation.tokens_per_s is not None:
        found.append(f"{generation.tokens_per_s:.1f} tokens/s")
    return found


def to_markdown(comparison: Comparison) -> str:
    """Return every prompt with its answers as markdown text."""
    parts = [f"# Comparison of {', '.join(comparison.names)}"]
    for asked in comparison.asked:
        parts += [f"## Prompt {asked.index}", "> " + asked.text.replace("\n", "\n> ")]
        for answer in asked.answers.values():
            facts = "; ".join(figures(answer))
            parts.append(f"### {answer.lane}{f' ({facts})' if facts else ''}")
            if answer.thinking:
                parts.append("> " + answer.thinking.replace("\n", "\n> "))
            if answer.text:
                parts.append(answer.text)
    return "\n\n".join(parts) + "\n"


def to_notebook(comparison: Comparison) -> NotebookNode:
    """Return a notebook that asks the same prompts of the same models again.

    Options, digests and what was measured stand in the metadata under `workbench`.  A model's text
    appears only in plain-text outputs, where it cannot run as HTML or JavaScript.
    """
    models = [
        {
            "model": side.model,
            "name": side.name,
            **({"system": side.system} if side.system else {}),
            **side.config.to_wire(),
        }
        for side in comparison.contenders
    ]
    names = html.escape(", ".join(comparison.names)).replace("`", "'")
    cells = [
        markdown_cell(f"# Comparison of {names}"),
        code_cell(f"models = {models!r}", metadata={"tags": ["parameters"]}),
        code_cell("import workbench\n\nwb = workbench.connect()\ncomparison = wb.compare(models)"),
        *(_prompt_cell(asked) for asked in comparison.asked),
    ]
    facts = {"comparison": comparison.id, "created_at": rfc3339(comparison.created_at)}
    return notebook_of(cells, facts)


def _prompt_cell(asked: Asked) -> dict[str, Any]:
    lines = [f"comparison.ask({asked.text!r}, show=True);"]
    if len(asked.messages) > 1 or any(message.images for message in asked.messages):
        lines.insert(0, "# earlier messages and images of this prompt are not in the notebook")
    texts = [f"[{one.lane}]\n{plain(one.text)}\n" for one in asked.answers.values()]
    answers = [_answer(one) for one in asked.answers.values()]
    return code_cell(
        "\n".join(lines),
        outputs=printed("\n".join(texts)),
        metadata={"workbench": {"answers": answers}},
    )
