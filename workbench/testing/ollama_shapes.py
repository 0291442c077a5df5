"""The shapes, texts and numbers of Ollama's HTTP API, as values without sockets."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from workbench.testing.http import dumps
from workbench.testing.play import Stream
from workbench.testing.scripts import FakeModel, RecordedRequest, Reply, with_tag, words_in

NDJSON = "application/x-ndjson"
JSON = "application/json; charset=utf-8"
DEFAULT_KEEP_ALIVE_S = 300.0
DEFAULT_CONTEXT = 4096
_FOREVER_NS = 2**63 - 1
_GO_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_GO_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|ms|s|m|h)")
_PARAMETERS = re.compile(r"([\d.]+)([KMBT])")
_SCALE = {"K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}


class ApiError(Exception):
    """Raised when a request is to be answered with an error status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclasses.dataclass
class Resident:
    """A model in memory; it has no end before it was idle for the first time."""

    model: FakeModel
    context_length: int
    keep_alive_s: float
    expires_at: float | None
    size_bytes: int
    size_vram_bytes: int
    in_flight: int = 0

    @property
    def shown_end(self) -> float:
        """The end that is listed: not moved while a request runs, so it may have passed."""
        return time.time() + self.keep_alive_s if self.expires_at is None else self.expires_at


@dataclasses.dataclass
class Timings:
    """What the last line of an answer reports, in nanoseconds and tokens."""

    began: int = dataclasses.field(default_factory=time.perf_counter_ns)
    load: int = 0
    turn: int = 0
    first: int = 0
    prompt_tokens: int = 0
    tokens: int = 0

    def loaded(self) -> None:
        self.load = time.perf_counter_ns() - self.began

    def admitted(self) -> None:
        """Note that the runner takes the request; its wait for that is in no counter."""
        self.turn = time.perf_counter_ns() - self.began - self.load

    def fields(self) -> dict[str, int]:
        """Return the counters; zeros are absent, as in Ollama."""
        now = time.perf_counter_ns()
        first = self.first or now
        found = {
            "total_duration": now - self.began,
            "load_duration": self.load,
            "prompt_eval_count": self.prompt_tokens,
            "prompt_eval_duration": first - self.began - self.load - self.turn,
            "eval_count": self.tokens,
            "eval_duration": now - first if self.tokens else 0,
        }
        return {name: value for name, value in found.items() if value > 0}


def parse_keep_alive(value: Any) -> float | None:
    """Return the seconds of a keep_alive as Ollama reads it, ``None`` for absent.

    Forever is ``math.inf``. Raises ValueError with Ollama's text for what it refuses.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"Unsupported type: '{value}'")
    seconds = _go_duration(value) if isinstance(value, str) else float(value)
    return math.inf if seconds < 0 else seconds


def _go_duration(text: str) -> float:
    """Return the seconds of a Go duration such as ``1h30m``."""
    quoted = json.dumps(text)
    unsigned = text[1:] if text[:1] in ("-", "+") else text
    if unsigned == "0":
        return 0.0
    parts = _GO_PART.findall(unsigned)
    if unsigned and re.fullmatch(r"\d+\.?\d*|\.\d+", unsigned):
        raise ValueError(f"time: missing unit in duration {quoted}")
    if not parts or "".join(number + unit for number, unit in parts) != unsigned:
        raise ValueError(f"time: invalid duration {quoted}")
    seconds = sum(float(number) * _GO_UNITS[unit] for number, unit in parts)
    return -seconds if text.startswith("-") else seconds


def as_model(item: FakeModel | str) -> FakeModel:
    """Return the model, made with defaults when only its name is given."""
    return FakeModel(item) if isinstance(item, str) else item


def name_key(name: str) -> str:
    """Return the form in which Ollama compares names."""
    return with_tag(name).lower()


def body_of(request: RecordedRequest) -> dict[str, Any]:
    """Return the decoded body, or raise the 400 of a missing or broken one."""
    if not request.body:
        raise ApiError(400, "missing request body")
    if not isinstance(request.json, dict):
        raise ApiError(400, "invalid character in request body")
    return request.json


def model_name(body: Mapping[str, Any]) -> str:
    """Return the name in a body; older clients call the field ``name``."""
    return str(body.get("model") or body.get("name") or "")


def keep_alive_of(body: Mapping[str, Any]) -> float | None:
    """Return the seconds of a body's keep_alive, or raise its 400."""
    try:
        return parse_keep_alive(body.get("keep_alive"))
    except ValueError as exc:
        raise ApiError(400, str(exc)) from exc


def context_of(body: Mapping[str, Any], model: FakeModel) -> int | None:
    """Return the asked context in tokens, held below the model's own."""
    options = body.get("options") or {}
    if not isinstance(options, dict):
        raise ApiError(400, "json: cannot unmarshal options into a Go struct field")
    asked = options.get("num_ctx")
    if asked is None:
        return None
    if isinstance(asked, bool) or not isinstance(asked, int | float):
        raise ApiError(500, 'option "num_ctx" must be of type integer')
    return min(max(int(asked), 4), model.context_length)


def check_capabilities(body: Mapping[str, Any], model: FakeModel) -> None:
    """Raise the 400 for something the model cannot do."""
    if body.get("think") and "thinking" not in model.capabilities:
        raise ApiError(400, f"{json.dumps(model_name(body))} does not support thinking")
    if body.get("tools") and "tools" not in model.capabilities:
        full = f"registry.ollama.ai/library/{model.full_name}"
        raise ApiError(400, f"{full} does not support tools")


def prompt_tokens_of(reply: Reply, body: Any) -> int:
    """Return the scripted count, else the number of words in the request."""
    return words_in(body) if reply.prompt_tokens is None else reply.prompt_tokens


def thinking_of(body: Mapping[str, Any], reply: Reply) -> list[str]:
    """Return the reasoning tokens, none when the request turned thinking off."""
    return [] if body.get("think") is False else reply.thinking_tokens


def calls_of(reply: Reply) -> list[dict[str, Any]]:
    """Return the scripted tool calls in Ollama's form."""
    return [_call(reply, index) for index in range(len(reply.tool_calls))]


def _call(reply: Reply, index: int) -> dict[str, Any]:
    call = reply.tool_calls[index]
    function = {"index": index, "name": call.name, "arguments": dict(call.arguments)}
    return {"id": call.call_id(index), "function": function}


def said_line(
    request: RecordedRequest,
    *,
    text: str = "",
    thinking: str = "",
    calls: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Return the part of a line that both kinds of answer share."""
    line: dict[str, Any] = {"model": request.model, "created_at": go_time(time.time())}
    extra: dict[str, Any] = {"thinking": thinking} if thinking else {}
    if calls:
        extra["tool_calls"] = calls
    if request.path == "/api/chat":
        return line | {"message": {"role": "assistant", "content": text} | extra}
    return line | {"response": text} | extra


def done_fields(reply: Reply, timings: Timings) -> dict[str, Any]:
    """Return what the last line has besides the message."""
    done: dict[str, Any] = {"done": True, "done_reason": reply.done_reason}
    return done | timings.fields() | dict(reply.final)


def empty_answer(request: RecordedRequest, reason: str) -> dict[str, Any]:
    """Return the answer to a load or an unload; it carries no durations."""
    return said_line(request) | {"done": True, "done_reason": reason}


def stream_of(request: RecordedRequest, reply: Reply, timings: Timings) -> Stream:
    """Return the parts of a streamed answer to a chat or a generate."""

    def tail() -> list[bytes]:
        last = said_line(request) | done_fields(reply, timings)
        if request.path == "/api/generate":
            last.setdefault("context", [])
        return [line_of(last)]

    return Stream(NDJSON, _pieces(request, reply, timings), tail, error_line)


def _pieces(request: RecordedRequest, reply: Reply, timings: Timings) -> Iterator[bytes]:
    """Yield one line per token; the lines are joined by hand because benches need 20,000."""
    holder = '{"role":"assistant","content":' if request.path == "/api/chat" else ""
    before = f'{{"model":{json.dumps(request.model, ensure_ascii=False)},"created_at":"'
    middle = f'","message":{holder}' if holder else '","response":'
    after = '},"done":false}\n' if holder else ',"done":false}\n'
    texts = [(token, "") for token in reply.text_tokens]
    for text, thinking in [*(("", token) for token in thinking_of(request.json, reply)), *texts]:
        timings.first = timings.first or time.perf_counter_ns()
        timings.tokens += 1
        said = json.dumps(text, ensure_ascii=False)
        if thinking:
            said += f',"thinking":{json.dumps(thinking, ensure_ascii=False)}'
        yield f"{before}{go_time(time.time())}{middle}{said}{after}".encode()
    for index in range(len(reply.tool_calls)):
        timings.first = timings.first or time.perf_counter_ns()
        timings.tokens += 1
        yield line_of(said_line(request, calls=[_call(reply, index)]) | {"done": False})


def line_of(value: Any) -> bytes:
    """Return one NDJSON line."""
    return dumps(value) + b"\n"


def lines_of(values: Iterable[Mapping[str, Any]]) -> list[bytes]:
    """Return NDJSON lines."""
    return [line_of(value) for value in values]


def error_line(message: str) -> bytes:
    """Return the line of an error inside a stream."""
    return line_of({"error": message})


def go_time(seconds: float) -> str:
    """Return UTC in RFC 3339 with nine digits, as Go prints it."""
    whole = int(seconds)
    return f"{_go_date(whole)}.{int((seconds - whole) * 1e9):09d}Z"


@functools.lru_cache(maxsize=16)  # many lines fall into one second
def _go_date(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def _details(model: FakeModel) -> dict[str, Any]:
    return {
        "parent_model": "",
        "format": "gguf",
        "family": model.family,
        "families": [model.family],
        "parameter_size": model.parameter_size,
        "quantization_level": model.quantization_level,
    }


def tag_entry(model: FakeModel, modified_at: str) -> dict[str, Any]:
    """Return a model as ``/api/tags`` lists it."""
    lengths = {
        "context_length": model.context_length,
        "embedding_length": model.embedding_length,
    }
    entry = {
        "name": model.full_name,
        "model": model.full_name,
        "modified_at": modified_at,
        "size": model.size_bytes,
        "digest": model.full_digest,
        "details": _details(model) | lengths,
        "capabilities": list(model.capabilities),
    }
    return entry | _remote(model)


def _remote(model: FakeModel) -> dict[str, Any]:
    """Return where a model of the cloud runs; nothing for others."""
    if not model.remote:
        return {}
    name = model.full_name.removesuffix("-cloud").removesuffix(":cloud")
    return {"remote_model": name, "remote_host": "https://ollama.com:443"}


def ps_entry(item: Resident) -> dict[str, Any]:
    """Return a model in memory as ``/api/ps`` lists it."""
    model = item.model
    # Go's longest duration, about 292 years, stands for forever.
    forever = time.time() + _FOREVER_NS / 1e9
    return {
        "name": model.full_name,
        "model": model.full_name,
        "size": item.size_bytes,
        "digest": model.full_digest,
        "details": _details(model),
        "expires_at": go_time(min(item.shown_end, forever)),
        "size_vram": item.size_vram_bytes,
        "context_length": item.context_length,
    }


def show_answer(model: FakeModel, modified_at: str) -> dict[str, Any]:
    """Return a model as ``/api/show`` describes it."""
    size = _PARAMETERS.fullmatch(model.parameter_size)
    info = {
        "general.architecture": model.family,
        "general.parameter_count": int(float(size[1]) * _SCALE[size[2]]) if size else 0,
        f"{model.family}.context_length": model.context_length,
        f"{model.family}.embedding_length": model.embedding_length,
        f"{model.family}.block_count": 16,
        f"{model.family}.attention.head_count": 8,
        f"{model.family}.attention.head_count_kv": 8,
    }
    return {
        "license": "",
        "modelfile": f"FROM /models/blobs/sha256-{model.full_blob}\nTEMPLATE {model.template}\n",
        "parameters": model.parameters,
        "template": model.template,
        "details": _details(model),
        "model_info": info | dict(model.model_info),
        "capabilities": list(model.capabilities),
        "modified_at": modified_at,
    } | _remote(model)
