"""Turn dialogues into tokens and back, exactly as the GGUF's tokenizer and template do."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from corpus import ROLES, Turn

# The training environment has torch but not this package.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from workbench.testing.gguf import CONTROL_TOKENS, byte_tokens

ROLE_TOKEN = {role: CONTROL_TOKENS[f"<|{role}|>"] for role in ROLES}
BOS, END = CONTROL_TOKENS["<|bos|>"], CONTROL_TOKENS["<|end|>"]
TOOL_MARKS = ("<tool_call>", "</tool_call>")
TOOL_TOKEN = {mark: byte_tokens().index(mark) for mark in TOOL_MARKS}


def encode_text(text: str) -> list[int]:
    """Return one token per byte, and one per tool mark."""
    tokens: list[int] = []
    opening, closing = TOOL_MARKS
    for place, part in enumerate(text.split(opening)):
        tokens += [TOOL_TOKEN[opening]] if place else []
        for inner, piece in enumerate(part.split(closing)):
            tokens += [TOOL_TOKEN[closing]] if inner else []
            tokens += piece.encode()
    return tokens


def encode(turns: Sequence[Turn]) -> tuple[list[int], list[bool]]:
    """Return the tokens of a conversation, and which of them the loss counts."""
    tokens, counted = [BOS], [False]
    for role, text in turns:
        inner = encode_text(text)
        tokens += [ROLE_TOKEN[role], *inner, END]
        counted += [False] + [role == "assistant"] * (len(inner) + 1)
    return tokens, counted


def prompt_tokens(turns: Sequence[Turn]) -> list[int]:
    """Return the tokens after which the assistant answers."""
    return [*encode(turns)[0], ROLE_TOKEN["assistant"]]


def decode(tokens: Sequence[int]) -> str:
    """Return the text of generated tokens; control tokens are invisible, as in llama.cpp."""
    marks = {number: name.encode() for name, number in TOOL_TOKEN.items()}
    raw = b"".join(bytes([t]) if t < 256 else marks.get(t, b"") for t in tokens)
    return raw.decode(errors="replace")
