"""Hashes of contents: what the metrics name messages and options by.

The server computes them of what it relays, a kernel of what it sends; the same value has the same
hash on both sides, so that rows can be joined.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def content_sha(value: object) -> str:
    """Return the SHA-256 of a value as canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def message_role(message: Mapping[str, Any]) -> str:
    """Return the role of a message in Ollama's form."""
    return str(message.get("role") or "user").lower()


def message_parts(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the parts of a message in Ollama's form: thinking, text, images, tool calls."""
    parts: list[dict[str, Any]] = []
    content = message.get("content")
    if message.get("thinking"):
        parts.append({"type": "thinking", "content": str(message["thinking"])})
    if content:
        parts.append({"type": "text", "content": str(content)})
    for image in message.get("images") or ():
        parts.append({"type": "image", "content": str(image)})
    for call in message.get("tool_calls") or ():
        function = call.get("function", call) if isinstance(call, Mapping) else {}
        parts.append(
            {
                "type": "tool_call",
                "name": function.get("name"),
                "arguments": function.get("arguments"),
            }
        )
    return parts


def message_sha(message: Mapping[str, Any]) -> str:
    """Return the id that `messages` has for a message in Ollama's form."""
    return content_sha({"role": message_role(message), "parts": message_parts(message)})
