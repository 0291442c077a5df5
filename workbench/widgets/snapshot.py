"""A conversation as the chat view is told of it: plain JSON values."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from workbench.chat.session import ChatSession
from workbench.chat.transcript import Facts, Node
from workbench.client.values import ModelInfo
from workbench.widgets.attachments import split_attachments
from workbench.widgets.frames import LiveAnswer

EXAMPLES = (
    "What is the capital of France?",
    "Make a plan to bake bread.",
    "What is 7 plus 8?",
)


def model_label(name: str) -> str:
    """Return a model's name as it is shown: without its backend and the tag everybody has."""
    return name.partition("@")[0].removesuffix(":latest")


def turns_of(session: ChatSession, live: LiveAnswer | None) -> list[dict[str, Any]]:
    """Return the messages of the active path, oldest first.

    Args:
        live: The answer on its way, whose text is not in the transcript yet.
    """
    return [_turn(session, node, live) for node in session.transcript.path()]


def _turn(session: ChatSession, node: Node, live: LiveAnswer | None) -> dict[str, Any]:
    message = node.message
    turn: dict[str, Any] = {"mid": node.id, "role": message.role, "sib": _siblings(session, node)}
    if message.role == "user":
        turn["text"], turn["attachments"] = split_attachments(message.content)
        turn["images"] = len(message.images)
        return turn
    turn["text"], turn["think"] = message.content, message.thinking
    if message.role == "tool":
        turn["name"] = message.tool_name
        return turn
    turn["tools"] = [
        {"name": call.name, "arguments": dict(call.arguments)} for call in message.tool_calls
    ]
    facts = node.facts or Facts()
    if live is not None and live.mid == node.id:
        turn["text"] = live.channels["text"].text
        turn["think"] = live.channels["think"].text
    turn.update(
        model=model_label(facts.model),
        phase=None if facts.stop_reason else "queued",
        reason=facts.stop_reason,
        error=_error(facts),
        fig=figures(facts),
        dropped=facts.dropped_turns,
    )
    return turn


def _siblings(session: ChatSession, node: Node) -> list[Any]:
    ids = [sibling.id for sibling in session.alternatives(node.id)]
    index = ids.index(node.id)
    before = ids[index - 1] if index else None
    after = ids[index + 1] if index + 1 < len(ids) else None
    return [index, len(ids), before, after]


def _error(facts: Facts) -> dict[str, Any] | None:
    if facts.error is None:
        return None
    found = {name: facts.error.get(name) for name in ("type", "hint", "plan")}
    return {**found, "text": facts.error["message"]}


def figures(facts: Facts) -> dict[str, Any]:
    """Return what was measured; seconds and tokens, null when unknown."""
    usage = facts.usage
    known = [count for count in (usage.input_tokens, usage.output_tokens) if count is not None]
    return {
        "ttft_s": facts.ttft_s,
        "tokens": usage.output_tokens,
        "tokens_s": facts.tokens_per_s,
        "prompt_tokens": usage.input_tokens,
        "load_s": facts.timings.load_s,
        "elapsed_s": facts.elapsed_s,
        "ctx_used": sum(known) if known else None,
    }


def model_rows(models: Sequence[ModelInfo]) -> list[dict[str, Any]]:
    """Return the models that can chat, for the picker; toys last."""
    rows: list[dict[str, Any]] = [
        {
            "name": _full_name(model, models),
            "backend": model.backend,
            "state": model.state,
            "toy": model.toy,
            "size_bytes": model.size_bytes,
            "load_s": model.load_s,
            "vision": "vision" in model.capabilities,
            "thinking": "thinking" in model.capabilities,
            "tools": "tools" in model.capabilities,
            "context_length": model.context_length,
            "evicts": [name.removesuffix(":latest") for name in model.evicts or ()],
            "fit": {"verdict": model.fit.verdict, "reason": model.fit.reason},
            "pinned": model.pinned,
            "remote": model.remote,
        }
        for model in models
        if not model.capabilities or "completion" in model.capabilities
    ]
    return sorted(rows, key=lambda row: (row["toy"], str(row["name"])))


def _full_name(model: ModelInfo, models: Sequence[ModelInfo]) -> str:
    short = model.name.removesuffix(":latest")
    twins = [other for other in models if other.name == model.name]
    return short if len(twins) == 1 else f"{short}@{model.backend}"


def context_limits(session: ChatSession, row: Mapping[str, Any] | None) -> dict[str, int | None]:
    """Return the context the next answer has and what the last one used, in tokens."""
    trained = row.get("context_length") if row else None
    asked = session.options.get("num_ctx")
    known = [int(size) for size in (asked, trained) if size]
    last = next((turn.answer for turn in reversed(session.turns) if turn.answer), None)
    used = figures(last.facts)["ctx_used"] if last is not None and last.facts else None
    return {"ctx": min(known) if known else None, "used": used}


class Pictures:
    """Numbers the pictures of a conversation, and leaves out of each what the last one held.

    A picture names the one it builds on in `base`; a view that does not hold that one asks for a
    whole picture, whose `base` is null.
    """

    def __init__(self) -> None:
        self.number = 0
        self._told: dict[str, Any] | None = None

    def whole(self, state: Mapping[str, Any], live: Collection[str]) -> dict[str, Any]:
        """Return everything.

        Args:
            state: What a view draws.
            live: Ids of the turns on their way, whose texts travel in frames.
        """
        self._told = _without_live_texts(state, live)
        self.number += 1
        return {"k": self.number, "base": None, "s": dict(state)}

    def next(self, state: Mapping[str, Any], live: Collection[str]) -> dict[str, Any]:
        """Return what changed: of the turns that did not, only their ids."""
        told = self._told
        if told is None or told["conv"]["cid"] != state["conv"]["cid"]:
            return self.whole(state, live)
        now = _without_live_texts(state, live)
        changed = {name: value for name, value in now.items() if told.get(name) != value}
        if "turns" in changed:
            held = {turn["mid"]: turn for turn in told["turns"]}
            changed["turns"] = [
                turn["mid"] if held.get(turn["mid"]) == turn else turn for turn in now["turns"]
            ]
        self._told = now
        self.number += 1
        return {"k": self.number, "base": self.number - 1, "s": changed}


def _without_live_texts(state: Mapping[str, Any], live: Collection[str]) -> dict[str, Any]:
    turns = [
        turn
        if turn["mid"] not in live
        else {name: value for name, value in turn.items() if name not in ("text", "think")}
        for turn in state["turns"]
    ]
    return {**state, "turns": turns}
