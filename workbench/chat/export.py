"""Write a conversation in other forms: markdown, JSON, a notebook, a DataFrame."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from workbench.chat.notebook import code_cell, markdown_cell, notebook_of, printed
from workbench.chat.show import plain
from workbench.chat.store import title_of
from workbench.chat.transcript import Facts, Node, Transcript
from workbench.units import format_seconds, rfc3339

if TYPE_CHECKING:
    import pandas as pd
    from nbformat import NotebookNode

COLUMNS: Mapping[str, tuple[str, str]] = {
    "id": ("string", ""),
    "parent": ("string", ""),
    "created_at": ("datetime64[ns, UTC]", "UTC"),
    "role": ("string", ""),
    "text": ("string", ""),
    "thinking": ("string", ""),
    "tool_calls": ("string", "JSON"),
    "model": ("string", ""),
    "digest": ("string", ""),
    "stop_reason": ("string", ""),
    "error": ("string", ""),
    "input_tokens": ("Int64", "tokens"),
    "output_tokens": ("Int64", "tokens"),
    "dropped_turns": ("Int64", "turns"),
    "ttft_s": ("Float64", "seconds"),
    "load_s": ("Float64", "seconds"),
    "elapsed_s": ("Float64", "seconds"),
    "tokens_per_s": ("Float64", "tokens/second"),
    "request_id": ("string", ""),
    "config": ("string", "JSON"),
}
"""Column of `to_frame` to its type and unit."""


def to_jsonl(transcript: Transcript) -> str:
    """Return the records of a conversation, one per line, as its file holds them."""
    lines = [msgspec.json.encode(record).decode() for record in transcript.records()]
    return "\n".join(lines) + "\n"


def to_json(transcript: Transcript) -> str:
    """Return one document: the settings, every message of the tree, and the active path."""
    document = {
        **transcript.header(),
        "title": title_of(transcript),
        "settings": transcript.settings,
        "path": [node.id for node in transcript.path()],
        "messages": [node.to_wire() for node in transcript.nodes.values()],
    }
    return json.dumps(document, ensure_ascii=False, indent=2)


def to_markdown(transcript: Transcript) -> str:
    """Return the active path as markdown text.

    A model's text stands in it as it came; show it only where markdown is sanitised.
    """
    parts = [f"# {title_of(transcript) or 'Conversation'}"]
    system = transcript.settings.get("system")
    if system:
        parts += ["## System", str(system)]
    for node in transcript.path():
        parts.append(f"## {_heading(node)}")
        message = node.message
        if message.thinking:
            parts.append("> " + message.thinking.replace("\n", "\n> "))
        if message.content:
            parts.append(message.content)
        for call in message.tool_calls:
            arguments = json.dumps(dict(call.arguments), ensure_ascii=False)
            parts.append(f"Tool call: `{call.name}({arguments})`")
    return "\n\n".join(parts) + "\n"


def _heading(node: Node) -> str:
    if node.facts is None:
        name = node.message.role.capitalize()
        return f"{name} ({node.message.tool_name})" if node.message.tool_name else name
    return f"Assistant ({'; '.join(_facts_text(node.facts))})"


def _facts_text(facts: Facts) -> list[str]:
    found = [facts.model or "unknown model"]
    if facts.stop_reason not in (None, "stop"):
        found.append(str(facts.stop_reason))
    if facts.error:
        found.append(f"{facts.error['type']}: {facts.error['message']}")
    if facts.usage.output_tokens is not None:
        found.append(f"{facts.usage.output_tokens} tokens")
    if facts.ttft_s is not None:
        found.append(f"first after {format_seconds(facts.ttft_s)}")
    if facts.dropped_turns:
        found.append(f"without the {facts.dropped_turns} oldest turns")
    return found


def to_notebook(transcript: Transcript) -> NotebookNode:
    """Return a notebook that asks the same questions again, with the answers as plain outputs.

    Options, model digests and what was measured stand in the metadata under `workbench`.  A
    model's text appears only in plain-text outputs, where it cannot run as HTML or JavaScript.
    """
    title = html.escape(title_of(transcript) or "Conversation").replace("`", "'")
    cells = [
        markdown_cell(f"# {title}"),
        code_cell(_parameters(transcript), metadata={"tags": ["parameters"]}),
        code_cell(
            "import workbench\n\nwb = workbench.connect()\n"
            "session = wb.session(model, system=system, options=options, think=think)"
        ),
        *(_turn_cell(turn) for turn in _turns(transcript.path())),
    ]
    facts = {
        "conversation": transcript.id,
        "created_at": rfc3339(transcript.created_at),
        "settings": transcript.settings,
        "digests": _digests(transcript),
    }
    return notebook_of(cells, facts)


def _parameters(transcript: Transcript) -> str:
    settings = transcript.settings
    config = dict(settings.get("config") or {})
    values = {
        "model": settings.get("model") or _last_model(transcript),
        "system": settings.get("system") or None,
        "options": config.get("options") or {},
        "think": config.get("think"),
    }
    return "\n".join(f"{name} = {value!r}" for name, value in values.items())


def _turn_cell(turn: Sequence[Node]) -> dict[str, Any]:
    first = turn[0].message
    # The semicolon: else the value of the line would show beside the printed answer.
    lines = [f"session.ask({first.content!r}, show=True);"] if first.role == "user" else []
    if first.images:
        lines.insert(0, f"# {len(first.images)} images of this question are not in the notebook")
    tools = [node.message.tool_name for node in turn if node.message.role == "tool"]
    lines += [f"# a result of tool {name!r} followed" for name in tools]
    text = "\n".join(plain(n.message.content) for n in turn if n.message.role == "assistant")
    facts = [msgspec.to_builtins(node.facts) for node in turn if node.facts is not None]
    outputs = printed(f"{text}\n" if text else "")
    return code_cell("\n".join(lines), outputs=outputs, metadata={"workbench": {"answers": facts}})


def _turns(path: Sequence[Node]) -> list[list[Node]]:
    turns: list[list[Node]] = []
    for node in path:
        if node.message.role == "user" or not turns:
            turns.append([])
        turns[-1].append(node)
    return turns


def _last_model(transcript: Transcript) -> str | None:
    models = [node.facts.model for node in transcript.path() if node.facts is not None]
    return models[-1] if models else None


def _digests(transcript: Transcript) -> dict[str, str | None]:
    facts = [node.facts for node in transcript.path() if node.facts is not None]
    return {fact.model: fact.digest for fact in facts}


def to_frame(transcript: Transcript, *, all_branches: bool = False) -> pd.DataFrame:
    """Return one row per message with the columns of `COLUMNS`, in order."""
    import pandas as pd

    nodes = transcript.nodes.values() if all_branches else transcript.path()
    frame = pd.DataFrame([_row(node) for node in nodes], columns=list(COLUMNS), dtype="object")
    return frame.astype({name: kind for name, (kind, _) in COLUMNS.items()})


def _row(node: Node) -> dict[str, Any]:
    message, facts = node.message, node.facts
    calls = [{"name": call.name, "arguments": call.arguments} for call in message.tool_calls]
    row: dict[str, Any] = dict.fromkeys(COLUMNS)
    row.update(
        id=node.id,
        parent=node.parent,
        created_at=node.created_at,
        role=message.role,
        text=message.content,
        thinking=message.thinking,
        tool_calls=json.dumps(calls, ensure_ascii=False) if calls else None,
    )
    if facts is not None:
        row.update(
            model=facts.model,
            digest=facts.digest,
            stop_reason=facts.stop_reason,
            error=f"{facts.error['type']}: {facts.error['message']}" if facts.error else None,
            input_tokens=facts.usage.input_tokens,
            output_tokens=facts.usage.output_tokens,
            dropped_turns=facts.dropped_turns,
            ttft_s=facts.ttft_s,
            load_s=facts.timings.load_s,
            elapsed_s=facts.elapsed_s,
            tokens_per_s=facts.tokens_per_s,
            request_id=facts.request_id,
            config=json.dumps(facts.config, ensure_ascii=False),
        )
    return row
