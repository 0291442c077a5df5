"""What a scripted server says and what it heard: plain values, no sockets."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import hashlib
import json
import math
import random
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

_WORDS = re.compile(r"\s*\S+|\s+$")
_DEFAULT_VECTOR_LENGTH = 64


@dataclass(frozen=True)
class ToolCall:
    """One tool call of a scripted answer."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    id: str = ""

    def call_id(self, index: int) -> str:
        """Return the given id, or one made from the position in the answer."""
        return self.id or f"call_{index}"


@dataclass(frozen=True)
class FakeModel:
    """A model a scripted server claims to have.

    Args:
        name: Name with tag; ``:latest`` is added when there is none.
        size_bytes: File size, and memory while loaded.
        size_vram_bytes: The most of its memory that the GPU takes; ``None`` means all of it.
        vram_bytes: Memory once loaded, in place of the file size; only with the scheduler.
        kv_bytes_per_token: Memory per token of context, on top; only with the scheduler.
        predicted_bytes: What the fit check takes it for; ``None`` is the memory it takes.
        oom_context: A load with more context tokens than this runs out of memory.
        blob: Hex digest of its model file, which aliases share; the digest when empty.
        context_length: Tokens the model was trained for.
        capabilities: As in Ollama: completion, tools, thinking, vision, embedding, insert.
        load_s: Seconds a load takes.
        embedding_length: Length of its embedding vectors.
        digest: Hex digest without prefix; made from the name when empty.
        model_info: Entries that replace or extend those of ``/api/show``.
    """

    name: str
    size_bytes: int = 2_000_000_000
    size_vram_bytes: int | None = None
    vram_bytes: int | None = None
    kv_bytes_per_token: int = 0
    predicted_bytes: int | None = None
    oom_context: int | None = None
    context_length: int = 8192
    capabilities: Sequence[str] = ("completion", "tools")
    load_s: float = 0.0
    family: str = "llama"
    parameter_size: str = "3.2B"
    quantization_level: str = "Q4_K_M"
    embedding_length: int = _DEFAULT_VECTOR_LENGTH
    digest: str = ""
    blob: str = ""
    template: str = "{{ .Prompt }}"
    parameters: str = ""
    model_info: Mapping[str, Any] = field(default_factory=dict)

    @property
    def full_name(self) -> str:
        """The name with its tag."""
        return with_tag(self.name)

    @property
    def full_digest(self) -> str:
        """The digest as 64 hex digits, without prefix."""
        return self.digest or hashlib.sha256(self.full_name.encode()).hexdigest()

    @property
    def full_blob(self) -> str:
        """The digest of the model file as 64 hex digits, without prefix."""
        return self.blob or self.full_digest

    @property
    def remote(self) -> bool:
        """Whether the name says that the model runs in Ollama's cloud."""
        tag = self.full_name.rpartition(":")[2]
        return tag == "cloud" or tag.endswith("-cloud")

    def memory_bytes(self, context_length: int) -> int:
        """Return what it takes when loaded with so many tokens of context."""
        weights = self.size_bytes if self.vram_bytes is None else self.vram_bytes
        return weights + self.kv_bytes_per_token * context_length


@dataclass(frozen=True)
class Reply:
    """What one request is answered with, and how the answer goes wrong.

    Positions (``stall_after`` and its kin) count streamed pieces: a piece is one token of
    the thinking or of the text, one tool call, or one progress line of a pull.
    A position past the end means just before the done line.

    Args:
        text: The answer; a string is cut into words, a sequence is taken as its tokens.
        thinking: The reasoning before the answer, cut in the same way.
        tool_calls: Calls streamed after the text.
        done_reason: ``stop`` or ``length``.
        prompt_tokens: Reported prompt tokens; ``None`` counts the words of the request.
        final: Entries put over the last line (Ollama) or the finish chunk (OpenAI).
        headers: Extra response headers.
        tokens_per_s: Rate; ``None`` is as fast as the socket takes it.
        first_token_s: Seconds between the load and the first piece.
        load_s: Seconds of the load, in place of the model's own.
        headers_first: Send status and headers once loaded; Ollama sends them with the first piece.
        coalesce: Join pieces into writes of up to 16 KiB when there is no rate.
        chunk_bytes: Cut the body anew into HTTP chunks of this many bytes.
        split_utf8: Cut each piece inside its first character of more than one byte.
        stall_load: Stay in the load until released.
        stall_after: Stall after this many pieces.
        stall_s: Seconds a stall lasts; ``None`` lasts until released.
        error_first: ``(status, message)`` in place of an answer.
        error_after: ``(pieces, message)``: an error line inside a stream of status 200.
        truncate_at_byte: End the body after this many bytes.
        cut: How a truncated body ends: ``end`` is an orderly end of the response, ``close``
            closes the connection without one, ``reset`` sends RST.
        reset_first: RST in place of any answer.
        reset_after: RST after this many pieces.
        no_done: End orderly, without the done line.
        done_twice: Send the done line twice.
        after_done: Raw bytes after the done line.
        blank_line_after: An empty line after this many pieces.
        garbage_line_after: A line that is not JSON after this many pieces.
        html_instead: Status of an HTML page sent in place of an answer, as a proxy does.
        raw: Body sent as it is in place of the scripted one.
    """

    text: str | Sequence[str] = ""
    thinking: str | Sequence[str] = ""
    tool_calls: Sequence[ToolCall] = ()
    done_reason: str = "stop"
    prompt_tokens: int | None = None
    final: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    tokens_per_s: float | None = None
    first_token_s: float = 0.0
    load_s: float | None = None
    headers_first: bool = False
    coalesce: bool = False
    chunk_bytes: int | None = None
    split_utf8: bool = False
    stall_load: bool = False
    stall_after: int | None = None
    stall_s: float | None = None
    error_first: tuple[int, str] | None = None
    error_after: tuple[int, str] | None = None
    truncate_at_byte: int | None = None
    cut: Literal["end", "close", "reset"] = "end"
    reset_first: bool = False
    reset_after: int | None = None
    no_done: bool = False
    done_twice: bool = False
    after_done: bytes = b""
    blank_line_after: int | None = None
    garbage_line_after: int | None = None
    html_instead: int | None = None
    raw: bytes | None = None

    def __post_init__(self) -> None:
        if self.tokens_per_s is not None and self.tokens_per_s <= 0:
            raise ValueError("tokens_per_s is above 0, or None for no limit")
        if self.chunk_bytes is not None and self.chunk_bytes < 1:
            raise ValueError("chunk_bytes is at least 1")

    @property
    def text_tokens(self) -> list[str]:
        """The tokens of the text, in order."""
        return tokens_of(self.text)

    @property
    def thinking_tokens(self) -> list[str]:
        """The tokens of the reasoning, in order."""
        return tokens_of(self.thinking)


class Gate:
    """A one-way switch that any thread opens and one event loop waits for."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._event = asyncio.Event()

    def open(self) -> None:
        """Let everything waiting, now and later, go on."""
        # A closed loop has nobody left who could wait.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._event.set)

    async def wait(self, timeout_s: float | None) -> None:
        """Wait until opened or until the time is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._event.wait()


class RecordedRequest:
    """One request as the server heard it, and what became of its answer.

    Attributes:
        operation: What was asked: ``chat``, ``generate``, ``load``, ``unload``, ``embed``,
            ``ps`` ...; empty for an unknown path.
        headers: Header names in lower case; of repeated headers the last.
        json: The decoded body, ``None`` when there is none or it is not JSON.
        reply: The script it is answered with.
        connection: Number of the connection it came over, from 1.
        received_at: Seconds of ``time.monotonic()`` when the body was complete.
        first_byte_at: The same when the first byte of the answer left, else ``None``.
        finished_at: The same when the server was done with it, else ``None``.
        pieces_sent: Streamed pieces written so far.
        disconnected: Set when the client left before the answer was complete.
        stalled: Set when the script has reached a stall.
        finished: Set when the server is done with the request, however it ended.
    """

    def __init__(
        self,
        *,
        method: str,
        target: str,
        headers: dict[str, str],
        body: bytes,
        gate: Gate,
        connection: int,
    ) -> None:
        self.method = method
        self.connection = connection
        self.path, _, self.query = target.partition("?")
        self.headers = headers
        self.body = body
        self.json: Any = _decoded(body)
        self.operation = ""
        self.reply: Reply | None = None
        self.received_at = 0.0
        self.first_byte_at: float | None = None
        self.finished_at: float | None = None
        self.pieces_sent = 0
        self.disconnected = threading.Event()
        self.stalled = threading.Event()
        self.finished = threading.Event()
        self._gate = gate

    def __repr__(self) -> str:
        return f"<RecordedRequest {self.method} {self.path} {self.operation or 'unknown'}>"

    @property
    def model(self) -> str:
        """The model name in the body, as it was sent; empty when there is none."""
        if not isinstance(self.json, dict):
            return ""
        return str(self.json.get("model") or self.json.get("name") or "")

    @property
    def images(self) -> list[bytes]:
        """The decoded images of the request, in order."""
        return list(_images(self.json)) if isinstance(self.json, dict) else []

    def release(self) -> None:
        """End a stall of this request, also one it has not reached yet."""
        self._gate.open()

    async def stall(self, timeout_s: float | None) -> None:
        """Wait on the server's loop until released or until the time is over."""
        self.stalled.set()
        await self._gate.wait(timeout_s)


ReplySource = Reply | Callable[[RecordedRequest], Reply]


def with_tag(name: str) -> str:
    """Return the model name with ``:latest`` when it carries no tag."""
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def tokens_of(text: str | Sequence[str]) -> list[str]:
    """Cut a string into words with their leading space; a sequence is taken as it is."""
    return _WORDS.findall(text) if isinstance(text, str) else list(text)


def words_in(value: Any) -> int:
    """Count the words of all message texts and prompts in a request body."""
    if isinstance(value, str):
        return len(value.split())
    if isinstance(value, list):
        return sum(words_in(item) for item in value)
    if isinstance(value, dict):
        keys = ("messages", "prompt", "system", "content", "text", "input")
        return sum(words_in(value.get(key)) for key in keys)
    return 0


def embedding(text: str, length: int) -> list[float]:
    """Return the unit vector that belongs to a text: the same in every process."""
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    source = random.Random(seed)
    vector = [source.gauss(0.0, 1.0) for _ in range(length)]
    norm = math.sqrt(sum(value * value for value in vector)) or 1.0
    return [value / norm for value in vector]


def _decoded(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None


def _images(body: dict[str, Any]) -> Iterator[bytes]:
    """Yield images of an Ollama or an OpenAI request body."""
    messages = [item for item in body.get("messages") or [] if isinstance(item, dict)]
    for holder in [body, *messages]:
        for encoded in holder.get("images") or []:
            yield _from_base64(str(encoded))
        content = holder.get("content")
        for part in content if isinstance(content, list) else []:
            if isinstance(part, dict) and part.get("type") == "image_url":
                yield _from_base64(str(part["image_url"]["url"]).partition(",")[2])


def _from_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        return b""
