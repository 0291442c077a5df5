"""The values that travel between a model and a person: messages, options, events, results.

Pure data, no I/O.  Seconds, tokens and bytes; a missing measurement is `None`, never 0.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, TypedDict, cast

from workbench.errors import ConfigError, RequestTimeout, WorkbenchError

Role = Literal["system", "user", "assistant", "tool"]
StopReason = Literal["stop", "length", "tool_calls", "cancelled", "interrupted", "timeout", "error"]
PhaseName = Literal["queued", "unloading", "loading", "reading prompt"]

OPTION_TYPES: Mapping[str, type] = {
    "num_ctx": int,
    "num_batch": int,
    "num_gpu": int,
    "main_gpu": int,
    "use_mmap": bool,
    "num_thread": int,
    "draft_num_predict": int,
    "num_keep": int,
    "seed": int,
    "num_predict": int,
    "top_k": int,
    "top_p": float,
    "min_p": float,
    "typical_p": float,
    "repeat_last_n": int,
    "temperature": float,
    "repeat_penalty": float,
    "presence_penalty": float,
    "frequency_penalty": float,
    "stop": list,
}
"""Every option of Ollama's API with its type; source: docs/openapi.yaml and api/types.go, v0.33."""

RUNNER_OPTIONS = frozenset(
    {"num_ctx", "num_batch", "num_gpu", "main_gpu", "use_mmap", "num_thread", "draft_num_predict"}
)
"""Options that belong to a loaded model: a request that differs makes Ollama reload it."""

# Names people type that mean an option of another name; difflib alone would not find these.
_OPTION_ALIASES = {
    "max_tokens": "num_predict",
    "context_length": "num_ctx",
    "n_ctx": "num_ctx",
    "threads": "num_thread",
}


def nearest_names(name: str, known: Iterable[str], *, count: int = 3) -> list[str]:
    """Return up to `count` known names that look like `name`, the best first."""
    by_folded = {candidate.lower(): candidate for candidate in known}
    folded = name.lower()
    found = [key for key in by_folded if folded and (folded in key or key.split(":")[0] in folded)]
    found += difflib.get_close_matches(folded, by_folded, n=count, cutoff=0.5)
    return [by_folded[key] for key in dict.fromkeys(found)][:count]


def unknown_option(name: str) -> ConfigError:
    """Build the error for an option name that does not exist, with the nearest one."""
    near = [_OPTION_ALIASES[name]] if name in _OPTION_ALIASES else nearest_names(name, OPTION_TYPES)
    hint = f"Did you mean {near[0]!r}?" if near else f"Known options: {', '.join(OPTION_TYPES)}."
    return ConfigError(f"unknown option {name!r}.", key=name, hint=hint)


def check_option(name: str, value: object) -> object:
    """Return `value` as the option's type.

    Raises:
        ConfigError: When the option is unknown or the value is of another type.
    """
    if name not in OPTION_TYPES:
        raise unknown_option(name)
    kind = OPTION_TYPES[name]
    if kind is list:
        if isinstance(value, str):
            return [value]
        if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
            return list(value)
    elif kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        # JSON has no other: NaN would reach the model as null, so as its default.
        if math.isfinite(value):
            return float(value)
    elif kind is int and isinstance(value, float) and value.is_integer():
        return int(value)
    elif isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
        return value
    wanted = {int: "an integer", float: "a number", bool: "true or false", list: "text"}[kind]
    raise ConfigError(f"option {name!r} must be {wanted}, not {value!r}.", key=name)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A function a model asks for; it is shown and stored, never run by the chat."""

    name: str
    arguments: Mapping[str, Any]
    id: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation.

    Attributes:
        images: Base64 text of each image.
        tool_name: For the role `tool`: which function answered.
    """

    role: Role
    content: str = ""
    thinking: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    images: tuple[str, ...] = ()
    tool_name: str = ""
    tool_call_id: str = ""

    def to_wire(self) -> dict[str, Any]:
        """Return the message in Ollama's form, without empty fields."""
        wire: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.thinking:
            wire["thinking"] = self.thinking
        if self.images:
            wire["images"] = list(self.images)
        if self.tool_calls:
            wire["tool_calls"] = [
                {
                    **({"id": call.id} if call.id else {}),
                    "function": {"name": call.name, "arguments": dict(call.arguments)},
                }
                for call in self.tool_calls
            ]
        if self.tool_name:
            wire["tool_name"] = self.tool_name
        if self.tool_call_id:
            wire["tool_call_id"] = self.tool_call_id
        return wire

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> Message:
        """Read a message in Ollama's form; unknown fields are left out."""
        return cls(
            role=cast(Role, wire.get("role", "user")),
            content=wire.get("content") or "",
            thinking=wire.get("thinking") or "",
            tool_calls=tuple(
                ToolCall(
                    name=call["function"]["name"],
                    arguments=call["function"].get("arguments") or {},
                    id=call.get("id") or "",
                )
                for call in wire.get("tool_calls") or ()
            ),
            images=tuple(wire.get("images") or ()),
            tool_name=wire.get("tool_name") or "",
            tool_call_id=wire.get("tool_call_id") or "",
        )


class AnswerOptions(TypedDict, total=False):
    """What every way of asking takes by keyword; see `GenerateConfig` for the first three.

    The rest are options of Ollama's API.
    """

    think: bool | str | None
    format: str | Mapping[str, Any] | None
    keep_alive: float | str | None
    num_ctx: int
    num_batch: int
    num_gpu: int
    main_gpu: int
    use_mmap: bool
    num_thread: int
    draft_num_predict: int
    num_keep: int
    seed: int
    num_predict: int
    top_k: int
    top_p: float
    min_p: float
    typical_p: float
    repeat_last_n: int
    temperature: float
    repeat_penalty: float
    presence_penalty: float
    frequency_penalty: float
    stop: str | list[str]


@dataclass(frozen=True, slots=True)
class GenerateConfig:
    """How an answer is made: sampling and runner options, thinking, format, residency.

    Attributes:
        options: Ollama options by name, checked (`temperature`, `seed`, `num_ctx` ...).
        think: `None` leaves it to the model; a level is `low`, `medium`, `high` or `max`.
        format: `json`, or a JSON schema the answer must follow.
        keep_alive: Seconds, a duration as `10m`, negative for ever; `None` leaves it as it is.
        truncate: Whether the server may drop the oldest messages when the context is full.
        top_logprobs: How many alternatives per token, 0 to 20; `None` asks for no logprobs.
    """

    options: Mapping[str, Any] = field(default_factory=dict)
    think: bool | str | None = None
    format: str | Mapping[str, Any] | None = None
    keep_alive: float | str | None = None
    truncate: bool | None = None
    top_logprobs: int | None = None

    def __post_init__(self) -> None:
        checked = {name: check_option(name, value) for name, value in self.options.items()}
        object.__setattr__(self, "options", checked)
        if isinstance(self.format, str) and self.format not in ("", "json"):
            raise ConfigError("format must be 'json' or a JSON schema.", key="format")
        if self.top_logprobs is not None and not 0 <= self.top_logprobs <= 20:
            raise ConfigError("top_logprobs must be between 0 and 20.", key="top_logprobs")

    def merged(self, *, options: Mapping[str, Any] | None = None, **changes: Any) -> GenerateConfig:
        """Return a copy with `options` laid over these and every change that is not `None`."""
        kept = {name: value for name, value in changes.items() if value is not None}
        return replace(self, options={**self.options, **(options or {})}, **kept)

    def to_wire(self) -> dict[str, Any]:
        """Return the request fields in Ollama's form, without what is unset."""
        wire: dict[str, Any] = {}
        if self.options:
            wire["options"] = dict(self.options)
        for name in ("think", "format", "keep_alive", "truncate"):
            value = getattr(self, name)
            if value is not None and value != "":
                wire[name] = value
        if self.top_logprobs is not None:
            wire["logprobs"] = True
            wire["top_logprobs"] = self.top_logprobs
        return wire

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> GenerateConfig:
        """Read what `to_wire` wrote."""
        known = {item.name for item in fields(cls)}
        return cls(**{name: value for name, value in wire.items() if name in known})


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one request as the engine counted them; `None` when it did not say.

    Attributes:
        cached_input_tokens: Of the input, those that were in the engine's prefix cache.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_input_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds of one request as the engine reported them; `None` when it did not say.

    Attributes:
        load_s: Includes waiting for room; above 0 even for a warm model (Ollama's rule).
        prompt_s: Only the tokens that were not in the engine's prefix cache.
    """

    total_s: float | None = None
    load_s: float | None = None
    prompt_s: float | None = None
    eval_s: float | None = None


NO_USAGE = Usage()
NO_TIMINGS = Timings()


@dataclass(frozen=True, slots=True)
class Opened:
    """The request was accepted; `model` is the name the server resolved it to."""

    model: str
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class Phase:
    """What the server does before tokens come; `seconds` and `bytes` are the phase's own."""

    name: PhaseName
    seconds: float | None = None
    bytes: int | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class TextDelta:
    """A piece of the answer, in order."""

    text: str


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """A piece of the thinking before the answer, in order."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A complete tool call."""

    call: ToolCall


@dataclass(frozen=True, slots=True)
class Failed:
    """The answer ended with an error; everything that had arrived stays."""

    error: WorkbenchError


@dataclass(frozen=True, slots=True)
class Finished:
    """The answer ended; the last event of a stream that did not fail."""

    stop_reason: StopReason
    usage: Usage = NO_USAGE
    timings: Timings = NO_TIMINGS


StreamEvent = Opened | Phase | TextDelta | ReasoningDelta | ToolCallDelta | Failed | Finished


@dataclass(frozen=True, slots=True)
class Generation:
    """A whole answer with what was measured about it.

    Attributes:
        ttft_s: Seconds from sending to the first token of any kind; `None` without a token.
        ttft_answer_s: The same to the first token of the answer, after the thinking.
        load_s: Seconds the engine reports for loading and waiting for room.
        error: What ended it, when `stop_reason` is `error` or `timeout`.
    """

    text: str
    model: str
    stop_reason: StopReason
    thinking: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    usage: Usage = NO_USAGE
    timings: Timings = NO_TIMINGS
    ttft_s: float | None = None
    ttft_answer_s: float | None = None
    elapsed_s: float | None = None
    request_id: str = ""
    error: WorkbenchError | None = None

    @property
    def load_s(self) -> float | None:
        """Seconds the engine reports for loading and waiting for room."""
        return self.timings.load_s

    @property
    def tokens_per_s(self) -> float | None:
        """Output tokens per second of generation, or `None` when the engine did not say."""
        tokens, seconds = self.usage.output_tokens, self.timings.eval_s
        return tokens / seconds if tokens and seconds else None

    def __str__(self) -> str:
        return self.text

    def to_message(self) -> Message:
        """Return the answer as a message for the next request."""
        return Message("assistant", self.text, self.thinking, self.tool_calls)


class GenerationBuilder:
    """Collects stream events into a `Generation`; times are seconds since the request was sent."""

    def __init__(self, model: str) -> None:
        self.model = model
        self.request_id = ""
        self._text: list[str] = []
        self._thinking: list[str] = []
        self._calls: list[ToolCall] = []
        self._ttft_s: float | None = None
        self._ttft_answer_s: float | None = None
        self._end: Finished | Failed | None = None

    @property
    def text(self) -> str:
        """The answer so far."""
        return "".join(self._text)

    @property
    def thinking(self) -> str:
        """The thinking so far."""
        return "".join(self._thinking)

    @property
    def tool_calls(self) -> Sequence[ToolCall]:
        """The tool calls so far."""
        return self._calls

    def add(self, event: StreamEvent, *, at_s: float) -> None:
        """Take one event that arrived `at_s` seconds after the request was sent."""
        if isinstance(event, Opened):
            self.model, self.request_id = event.model, event.request_id
        elif isinstance(event, Failed | Finished):
            self._end = event
        elif not isinstance(event, Phase):
            if self._ttft_s is None:
                self._ttft_s = at_s
            if isinstance(event, ReasoningDelta):
                self._thinking.append(event.text)
                return
            if self._ttft_answer_s is None:
                self._ttft_answer_s = at_s
            if isinstance(event, TextDelta):
                self._text.append(event.text)
            else:
                self._calls.append(event.call)

    def build(
        self, *, elapsed_s: float | None = None, stop_reason: StopReason | None = None
    ) -> Generation:
        """Return what was collected; `stop_reason` is for an ending without a last event."""
        end = self._end
        finished = end if isinstance(end, Finished) else Finished(stop_reason or "interrupted")
        error = end.error if isinstance(end, Failed) else None
        reason: StopReason = finished.stop_reason
        if error is not None:
            reason = "timeout" if isinstance(error, RequestTimeout) else "error"
        return Generation(
            text=self.text,
            model=self.model,
            stop_reason=reason,
            thinking=self.thinking,
            tool_calls=tuple(self._calls),
            usage=finished.usage,
            timings=finished.timings,
            ttft_s=self._ttft_s,
            ttft_answer_s=self._ttft_answer_s,
            elapsed_s=elapsed_s,
            request_id=self.request_id,
            error=error,
        )
