"""Which messages fit a model's context: pure functions and one estimate that learns.

An engine drops old messages silently when the context is full; here whole turns are dropped, the
oldest first, and their number is kept with the answer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workbench.messages import Message

# Role marks and separators that a chat template puts around each message.
_MESSAGE_TOKENS = 4
# English text and code in the tokenizers of current models; a byte tokenizer is 1.
GENERAL_BYTES_PER_TOKEN = 3.5
_CLAMP = (0.25, 12.0)


def message_bytes(message: Message) -> int:
    """Return the UTF-8 length of what a template puts into the prompt; images count nothing."""
    count = len(message.content.encode("utf-8", "replace"))
    count += len(message.thinking.encode("utf-8", "replace"))
    for call in message.tool_calls:
        count += len(call.name) + len(json.dumps(call.arguments, ensure_ascii=False).encode())
    return count


class TokenMeter:
    """Estimates the tokens of messages, corrected by what the engine counted before.

    Args:
        bytes_per_token: What to begin with.
    """

    def __init__(self, bytes_per_token: float = GENERAL_BYTES_PER_TOKEN) -> None:
        self.bytes_per_token = bytes_per_token

    def estimate(self, messages: Sequence[Message], *, tools: int = 0) -> int:
        """Return about how many tokens the messages and `tools` bytes of schemas take."""
        size = tools + sum(map(message_bytes, messages))
        return _MESSAGE_TOKENS * len(messages) + -int(-size // self.bytes_per_token)

    def learn(self, messages: Sequence[Message], input_tokens: int, *, tools: int = 0) -> None:
        """Take the engine's own count of a prompt."""
        size = tools + sum(map(message_bytes, messages))
        tokens = input_tokens - _MESSAGE_TOKENS * len(messages)
        # Images and a template's own words make short prompts say little.
        if size >= 64 and tokens > 0 and not any(message.images for message in messages):
            self.bytes_per_token = min(max(size / tokens, _CLAMP[0]), _CLAMP[1])

    def was_too_low(self) -> None:
        """Note that a prompt the estimate had let through did not fit."""
        self.bytes_per_token = max(self.bytes_per_token * 0.6, _CLAMP[0])


@dataclass(frozen=True, slots=True)
class Window:
    """What is sent: the messages, and how many of the oldest turns are not among them."""

    messages: tuple[Message, ...]
    dropped_turns: int = 0


def split_turns(messages: Sequence[Message]) -> list[list[Message]]:
    """Cut messages into turns: each begins with a message of the user."""
    turns: list[list[Message]] = []
    for message in messages:
        if message.role == "user" or not turns:
            turns.append([])
        turns[-1].append(message)
    return turns


def fit(
    system: Sequence[Message],
    messages: Sequence[Message],
    *,
    meter: TokenMeter,
    budget_tokens: int | None,
    tools: int = 0,
    drop_at_least: int = 0,
) -> Window:
    """Drop whole turns from the oldest on until the rest fits `budget_tokens`.

    The system prompt and the last turn always stay; when they alone do not fit, the engine says so.
    """
    turns = split_turns(messages)
    dropped = min(drop_at_least, max(len(turns) - 1, 0))
    while True:
        kept = [*system, *(message for turn in turns[dropped:] for message in turn)]
        fits = budget_tokens is None or meter.estimate(kept, tools=tools) <= budget_tokens
        if fits or dropped >= len(turns) - 1:
            return Window(tuple(kept), dropped)
        dropped += 1


def prompt_budget(context_tokens: int, *, num_predict: int | None) -> int:
    """Return how many tokens the prompt may take, leaving room for the answer."""
    reserve = min(512, context_tokens // 4)
    if num_predict is not None and num_predict > 0:
        reserve = min(num_predict, context_tokens // 2)
    return max(context_tokens - reserve, 1)


def tools_bytes(tools: Sequence[Mapping[str, Any]]) -> int:
    """Return the length of the tools' schemas as a template writes them."""
    return len(json.dumps(list(tools), ensure_ascii=False).encode()) if tools else 0
