"""The Ollama dialect: stream lines to events, events and results to lines.

Durations on the wire are nanoseconds and zero values are absent (Go's omitempty), so a missing
number is unknown, not 0.  Shapes follow api/types.go of ollama v0.33.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

import msgspec

from workbench.errors import (
    AmbiguousModel,
    BadModelFile,
    ConfigError,
    EngineExited,
    InsufficientMemory,
    LoadFailed,
    ModelNotFound,
    ProtocolError,
    QueueTimeout,
    ResidencyError,
    ResponseError,
    StreamBroken,
    SwapPlan,
    SwapRequired,
    UnloadFailed,
    UnsupportedOperation,
    WorkbenchError,
)
from workbench.messages import (
    NO_TIMINGS,
    NO_USAGE,
    Failed,
    Finished,
    Opened,
    Phase,
    ReasoningDelta,
    StopReason,
    StreamEvent,
    TextDelta,
    Timings,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from workbench.units import rfc3339, utc_now

Kind = Literal["chat", "generate"]

NS = 1_000_000_000
_encode = msgspec.json.Encoder().encode


def encode_line(value: Mapping[str, Any]) -> bytes:
    """Write one NDJSON line with its line end."""
    return _encode(value) + b"\n"


class _Function(msgspec.Struct):
    name: str = ""
    arguments: dict[str, Any] | str | None = None
    index: int | None = None


class _Call(msgspec.Struct):
    function: _Function = msgspec.field(default_factory=_Function)
    id: str | None = None


class _Message(msgspec.Struct):
    content: str | None = None
    thinking: str | None = None
    tool_calls: list[_Call] | None = None


class Chunk(msgspec.Struct):
    """One line of a streamed chat or generate answer; what is not needed is not decoded."""

    model: str | None = None
    message: _Message | None = None
    response: str | None = None
    thinking: str | None = None
    tool_calls: list[_Call] | None = None
    done: bool = False
    done_reason: str | None = None
    error: Any = None
    workbench: dict[str, Any] | None = None
    total_duration: int | None = None
    load_duration: int | None = None
    prompt_eval_count: int | None = None
    prompt_eval_cached_count: int | None = None
    prompt_eval_duration: int | None = None
    eval_count: int | None = None
    eval_duration: int | None = None

    def parts(self) -> tuple[str, str, list[_Call]]:
        """Return the text, the thinking and the tool calls of either kind of line."""
        body = self.message
        if body is not None:
            return body.content or "", body.thinking or "", body.tool_calls or []
        return self.response or "", self.thinking or "", self.tool_calls or []


_chunk_decoder = msgspec.json.Decoder(Chunk)


def decode_chunk(line: bytes) -> Chunk:
    """Read one line.

    Raises:
        ProtocolError: When the line is not JSON or a known field is of another type.
    """
    try:
        return _chunk_decoder.decode(line)
    except msgspec.ValidationError as exc:
        raise ProtocolError(f"A line does not follow the Ollama protocol: {exc}.") from exc
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        shown = line[:80].decode("utf-8", "replace")
        raise ProtocolError(f"A line is not JSON: {shown!r}.") from exc


def seconds(duration_ns: int | None) -> float | None:
    """Turn nanoseconds into seconds; unknown stays unknown."""
    return None if duration_ns is None else duration_ns / NS


def error_text(error: object) -> str:
    """Return the text of an `error` field, which may be a string or an OpenAI-like object."""
    if isinstance(error, Mapping):
        return str(error.get("message") or error)
    return str(error)


class StreamDecoder:
    """Turns the lines of one answer into events and holds the text that has arrived.

    Feed it whole lines; call `close` when the bytes end.  It never raises for what a server sent:
    every fault becomes a `Failed` event, and the partial text stays readable.
    """

    def __init__(self) -> None:
        self._text: list[str] = []
        self._saw_tool_call = False
        self.opened = False
        self.ended = False
        self.failed = False

    @property
    def partial(self) -> str:
        """The text that has arrived."""
        return "".join(self._text)

    def feed(self, line: bytes) -> list[StreamEvent]:
        """Read one line; lines after the end are left out."""
        if self.ended:
            return []
        try:
            chunk = decode_chunk(line)
        except ProtocolError as exc:
            exc.partial = self.partial
            return [self.fail(exc)]
        return self._events(chunk)

    def _events(self, chunk: Chunk) -> list[StreamEvent]:
        if chunk.error is not None:
            return [self.fail(stream_error(chunk, partial=self.partial))]
        if chunk.workbench is not None:
            return self._own(chunk.workbench)
        events: list[StreamEvent] = []
        if not self.opened:
            self.opened = True
            events.append(Opened(chunk.model or ""))
        text, thinking, calls = chunk.parts()
        if thinking:
            events.append(ReasoningDelta(thinking))
        if text:
            self._text.append(text)
            events.append(TextDelta(text))
        for call in calls:
            self._saw_tool_call = True
            events.append(ToolCallDelta(_tool_call(call)))
        if chunk.done:
            self.ended = True
            events.append(self._finished(chunk))
        return events

    def _own(self, event: Mapping[str, Any]) -> list[StreamEvent]:
        kind = event.get("event")
        if kind == "opened":
            self.opened = True
            return [Opened(str(event.get("model", "")), str(event.get("request_id", "")))]
        if kind == "phase":
            name = event.get("phase", "queued")
            return [
                Phase(name, event.get("seconds"), event.get("bytes"), event.get("detail") or "")
            ]
        return []

    def _finished(self, chunk: Chunk) -> Finished:
        reason: StopReason = "length" if chunk.done_reason == "length" else "stop"
        if self._saw_tool_call and reason == "stop":
            reason = "tool_calls"
        return Finished(reason, usage_of(chunk), timings_of(chunk))

    def fail(self, error: WorkbenchError) -> Failed:
        """End the stream with an error."""
        self.ended = self.failed = True
        return Failed(error)

    def close(self, reason: str = "the connection closed before the end") -> list[StreamEvent]:
        """Say that the bytes ended; without a final line the answer is broken, never short."""
        if self.ended:
            return []
        return [self.fail(StreamBroken(reason, partial=self.partial))]


def usage_of(chunk: Chunk) -> Usage:
    """Return the token counts of a final line."""
    return Usage(chunk.prompt_eval_count, chunk.eval_count, chunk.prompt_eval_cached_count)


def timings_of(chunk: Chunk) -> Timings:
    """Return the durations of a final line, in seconds."""
    return Timings(
        total_s=seconds(chunk.total_duration),
        load_s=seconds(chunk.load_duration),
        prompt_s=seconds(chunk.prompt_eval_duration),
        eval_s=seconds(chunk.eval_duration),
    )


def _tool_call(call: _Call) -> ToolCall:
    arguments = call.function.arguments
    if isinstance(arguments, str):
        try:
            arguments = msgspec.json.decode(arguments)
        except msgspec.DecodeError:
            arguments = {"_": arguments}
    return ToolCall(call.function.name, arguments or {}, call.id or "")


def stream_error(chunk: Chunk, *, partial: str) -> WorkbenchError:
    """Build the error of an `{"error": ...}` line; our own server adds its type and fields."""
    details = chunk.workbench or {}
    error = error_from_body(None, {"error": chunk.error, **details})
    if isinstance(error, ResponseError | StreamBroken | ProtocolError):
        error.partial = partial
    return error


def error_from_body(status: int | None, body: object) -> WorkbenchError:
    """Build the error of a response from its status and JSON body.

    Bodies of our own server carry `type`, `hint` and the fields of the error class.
    """
    if not isinstance(body, Mapping):
        return ResponseError(f"The server answered {status}: {str(body)[:200]}", status=status)
    text = error_text(body.get("error", body))
    hint = body.get("hint")
    own = _own_error(body, text)
    if own is not None:
        return own
    if status == 404 and "not found" in text and "model" in text:
        error: ResponseError = ModelNotFound(_quoted(text))
        error.message = text
        return error
    return ResponseError(text, status=status, hint=hint if isinstance(hint, str) else None)


def _own_error(body: Mapping[str, Any], text: str) -> WorkbenchError | None:
    kind = body.get("type")
    model = str(body.get("model", ""))
    hint = body.get("hint")
    if kind == "ModelNotFound":
        return ModelNotFound(model, nearest=body.get("nearest") or ())
    if kind == "AmbiguousModel":
        return AmbiguousModel(model, body.get("backends") or ())
    if kind == "EngineExited":
        return EngineExited(model, returncode=body.get("returncode"), reason=body.get("reason"))
    if kind == "BadModelFile":
        reason = str(body.get("reason", ""))
        return BadModelFile(str(body.get("path", "")), reason, offset=body.get("offset"))
    if kind == "ConfigError":
        error = ConfigError(text, key=body.get("key"), hint=hint)
        # The text names them already.
        error.file, error.line = body.get("file"), body.get("line")
        return error
    if kind == "StreamBroken":
        return StreamBroken(str(body.get("reason", text)), hint=hint)
    if kind == "UnsupportedOperation":
        return UnsupportedOperation(text, hint=hint)
    if kind == "ProtocolError":
        return ProtocolError(text, hint=hint)
    return _residency_error(body, model)


def _residency_error(body: Mapping[str, Any], model: str) -> ResidencyError | None:
    kind, reason = body.get("type"), str(body.get("reason", ""))
    if kind == "LoadFailed":
        return LoadFailed(model, reason, hint=body.get("hint"))
    if kind == "UnloadFailed":
        return UnloadFailed(model, reason, verdict=str(body.get("verdict") or "still_loaded"))
    if kind == "InsufficientMemory":
        return InsufficientMemory(
            model,
            needed_bytes=int(body.get("needed_bytes", 0)),
            available_bytes=int(body.get("available_bytes", 0)),
            would_fit=[str(item) for item in body.get("would_fit") or ()],
        )
    if kind == "SwapRequired":
        return SwapRequired(_swap_plan(body.get("plan") or {}))
    if kind == "QueueTimeout":
        return QueueTimeout(
            model,
            waited_s=float(body.get("waited_s") or 0.0),
            retry_after_s=body.get("retry_after_s"),
        )
    return None


def _swap_plan(plan: Mapping[str, Any]) -> SwapPlan:
    return {
        "model": str(plan.get("model", "")),
        "backend": str(plan.get("backend", "")),
        "evict": [
            {
                "model": str(item.get("model", "")),
                "backend": str(item.get("backend", "")),
                "bytes": item.get("bytes"),
                "reload_s": item.get("reload_s"),
                "reason": str(item.get("reason", "")),
            }
            for item in plan.get("evict") or ()
        ],
        "needed_bytes": plan.get("needed_bytes"),
        "free_bytes": plan.get("free_bytes"),
        "estimated_s": plan.get("estimated_s"),
    }


def _quoted(text: str) -> str:
    for mark in ("'", '"'):
        parts = text.split(mark)
        if len(parts) >= 3:
            return parts[1]
    return ""


def error_body(error: WorkbenchError) -> dict[str, Any]:
    """Return an error as a JSON body: Ollama's `error` text, and what our clients read."""
    return {
        "error": error.message,
        "type": type(error).__name__,
        "hint": error.hint,
        **error.fields,
    }


def chunk_body(
    kind: Kind,
    model: str,
    *,
    text: str = "",
    thinking: str = "",
    tool_calls: list[dict[str, Any]] | None = None,
    logprobs: list[dict[str, Any]] | None = None,
    created_at: datetime | None = None,
) -> dict[str, Any]:
    """Return one streamed line of an answer, before encoding."""
    body: dict[str, Any] = {"model": model, "created_at": rfc3339(created_at or utc_now())}
    if kind == "chat":
        message: dict[str, Any] = {"role": "assistant", "content": text}
        if thinking:
            message["thinking"] = thinking
        if tool_calls:
            message["tool_calls"] = tool_calls
        body["message"] = message
    else:
        body["response"] = text
        if thinking:
            body["thinking"] = thinking
    body["done"] = False
    if logprobs:
        body["logprobs"] = logprobs
    return body


def final_body(
    kind: Kind,
    model: str,
    *,
    done_reason: str,
    usage: Usage = NO_USAGE,
    timings: Timings = NO_TIMINGS,
) -> dict[str, Any]:
    """Return the last line of an answer, before encoding; unknown figures are left out."""
    body = chunk_body(kind, model)
    body.update(done=True, done_reason=done_reason)
    figures = {
        "total_duration": _ns(timings.total_s),
        "load_duration": _ns(timings.load_s),
        "prompt_eval_count": usage.input_tokens,
        "prompt_eval_cached_count": usage.cached_input_tokens,
        "prompt_eval_duration": _ns(timings.prompt_s),
        "eval_count": usage.output_tokens,
        "eval_duration": _ns(timings.eval_s),
    }
    body.update({name: value for name, value in figures.items() if value})
    return body


def _ns(duration_s: float | None) -> int | None:
    return None if duration_s is None else round(duration_s * NS)


class Accumulator:
    """Joins the streamed lines of one answer into the single body of `stream: false`."""

    def __init__(self) -> None:
        self._text: list[str] = []
        self._thinking: list[str] = []
        self._tool_calls: list[Any] = []
        self._logprobs: list[Any] = []
        self._final: dict[str, Any] | None = None
        self.error: dict[str, Any] | None = None

    def feed(self, line: bytes) -> None:
        """Take one line.

        Raises:
            ProtocolError: When it is not a JSON object.
        """
        try:
            body = msgspec.json.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
            raise ProtocolError(f"A line is not JSON: {line[:80]!r}.") from exc
        if not isinstance(body, dict):
            raise ProtocolError(f"A line is not a JSON object: {line[:80]!r}.")
        if "error" in body:
            self.error = body
            return
        if "workbench" in body:
            return
        source = body.get("message") if isinstance(body.get("message"), dict) else body
        assert isinstance(source, dict)
        self._text.append(source.get("content") or source.get("response") or "")
        self._thinking.append(source.get("thinking") or "")
        self._tool_calls += source.get("tool_calls") or []
        self._logprobs += body.get("logprobs") or []
        if body.get("done") and self._final is None:
            self._final = body

    def result(self) -> dict[str, Any]:
        """Return the joined body.

        Raises:
            StreamBroken: When no final line came; it carries the partial text.
        """
        text, thinking = "".join(self._text), "".join(self._thinking)
        if self._final is None:
            raise StreamBroken("the backend closed the stream before the end", partial=text)
        body = dict(self._final)
        if "message" in body:
            message: dict[str, Any] = {"role": "assistant", "content": text}
            if thinking:
                message["thinking"] = thinking
            if self._tool_calls:
                message["tool_calls"] = self._tool_calls
            body["message"] = message
        else:
            body["response"] = text
            if thinking:
                body["thinking"] = thinking
        if self._logprobs:
            body["logprobs"] = self._logprobs
        return body
