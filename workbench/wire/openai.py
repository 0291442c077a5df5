"""The OpenAI dialect, and its translation from and to the native (Ollama) one.

Two directions meet here: requests of OpenAI clients become native requests and native lines become
their answers; and native requests become requests of a llama.cpp server and its answers native
lines.  Field names follow the OpenAI API reference and llama.cpp's tools/server/README.md.
"""

from __future__ import annotations

import base64
import struct
import time
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from workbench.errors import ResponseError, WorkbenchError
from workbench.messages import Timings, Usage
from workbench.wire.ollama import Chunk, Kind, chunk_body, encode_line, final_body

# Ollama's sampling defaults (docs/modelfile.mdx); llama.cpp's own differ in top_p and min_p.
_SAMPLING_DEFAULTS: Mapping[str, Any] = {
    "temperature": 0.8,
    "top_k": 40,
    "top_p": 0.9,
    "min_p": 0.0,
    "typical_p": 1.0,
    "repeat_last_n": 64,
    "repeat_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "seed": -1,
}
_OPENAI_OPTIONS: Mapping[str, str] = {
    "temperature": "temperature",
    "top_p": "top_p",
    "seed": "seed",
    "max_tokens": "num_predict",
    "max_completion_tokens": "num_predict",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "stop": "stop",
}
_encode = msgspec.json.Encoder().encode


# ---- native request -> llama.cpp request


def sampling_fields(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return Ollama options as llama.cpp's sampling fields; Ollama's defaults fill the gaps."""
    fields = {name: options.get(name, value) for name, value in _SAMPLING_DEFAULTS.items()}
    predict = options.get("num_predict", -1)
    fields["n_predict"] = predict if predict >= 0 else -1
    if "num_keep" in options:
        fields["n_keep"] = options["num_keep"]
    if options.get("stop"):
        fields["stop"] = options["stop"]
    # A kept prefix changes the numerics of a repeat: equal seeds must give equal text.
    fields["cache_prompt"] = False
    return fields


def response_format(wanted: object) -> dict[str, Any]:
    """Return Ollama's `format` as OpenAI's `response_format` fields."""
    if isinstance(wanted, Mapping):
        return {"response_format": {"type": "json_schema", "json_schema": {"schema": dict(wanted)}}}
    return {"response_format": {"type": "json_object"}} if wanted == "json" else {}


def llama_messages(messages: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return native messages in the form llama.cpp's chat templates are given.

    Tool calls get ids and text arguments, and tool answers the id of the call they belong to:
    without them llama.cpp answers 500 "Missing tool call type".
    """
    out: list[dict[str, Any]] = []
    waiting: list[str] = []
    for message in messages:
        role = str(message.get("role", "user")).lower()
        body: dict[str, Any] = {"role": role, "content": _content(message)}
        calls = message.get("tool_calls") or []
        if calls:
            body["tool_calls"] = [
                _llama_call(call, f"call_{len(out)}_{number}") for number, call in enumerate(calls)
            ]
            waiting += [call["id"] for call in body["tool_calls"]]
        if message.get("thinking"):
            body["reasoning_content"] = message["thinking"]
        if role == "tool":
            given = message.get("tool_call_id")
            first = waiting.pop(0) if waiting else "call_0"
            body["tool_call_id"] = given or first
            if message.get("tool_name"):
                body["name"] = message["tool_name"]
        out.append(body)
    return out


def _content(message: Mapping[str, Any]) -> str | list[dict[str, Any]]:
    text = message.get("content") or ""
    images = message.get("images") or []
    if not images:
        return text
    parts: list[dict[str, Any]] = [{"type": "text", "text": text}] if text else []
    for image in images:
        url = image if image.startswith("data:") else f"data:image/png;base64,{image}"
        parts.append({"type": "image_url", "image_url": {"url": url}})
    return parts


def _llama_call(call: Mapping[str, Any], fallback_id: str) -> dict[str, Any]:
    function = call.get("function") or {}
    arguments = function.get("arguments")
    text = arguments if isinstance(arguments, str) else _encode(arguments or {}).decode()
    return {
        "id": call.get("id") or fallback_id,
        "type": "function",
        "function": {"name": function.get("name", ""), "arguments": text},
    }


# ---- llama.cpp answer -> native lines


class NativeTranslator:
    """Turns the events of one llama.cpp answer into native lines.

    Tool calls arrive in pieces and leave whole, before the final line, as Ollama sends them.

    Args:
        load_s: Seconds the model was loaded for this answer.
        top_logprobs: How many alternatives of a token are passed on.
    """

    def __init__(
        self, kind: Kind, model: str, *, load_s: float | None, top_logprobs: int = 20
    ) -> None:
        self._kind = kind
        self._model = model
        self._load_s = load_s
        self._top_logprobs = top_logprobs
        self._started = time.monotonic()
        self._calls: dict[int, dict[str, Any]] = {}
        self._finish: str | None = None
        self._final: tuple[Usage, Timings] | None = None
        self.ended = False

    def feed(self, data: bytes) -> list[bytes]:
        """Take the data of one event and return the native lines it makes."""
        if data == b"[DONE]":
            return self.close()
        event = msgspec.json.decode(data)
        if "error" in event:
            self.ended = True
            return [encode_line({"error": upstream_error(event["error"])})]
        lines: list[bytes] = []
        for choice in event.get("choices") or ():
            lines += self._choice(choice)
        if "content" in event:
            lines += self._completion(event)
        self._figures(event)
        return lines

    def _choice(self, choice: Mapping[str, Any]) -> list[bytes]:
        delta = choice.get("delta") or {}
        for call in delta.get("tool_calls") or ():
            self._add_call(call)
        text = delta.get("content") or choice.get("text") or ""
        # llama.cpp and older vLLM write the first name, newer vLLM and LM Studio the second.
        thinking = delta.get("reasoning_content") or delta.get("reasoning") or ""
        if choice.get("finish_reason"):
            self._finish = choice["finish_reason"]
        if not text and not thinking:
            return []
        logprobs = native_logprobs(choice.get("logprobs"), top=self._top_logprobs)
        return [
            encode_line(
                chunk_body(self._kind, self._model, text=text, thinking=thinking, logprobs=logprobs)
            )
        ]

    def _completion(self, event: Mapping[str, Any]) -> list[bytes]:
        """Read an event of llama.cpp's own /completion."""
        if event.get("stop"):
            self._finish = "length" if event.get("stop_type") == "limit" else "stop"
        text = event.get("content") or ""
        if not text:
            return []
        entries = {"content": event.get("completion_probabilities")}
        logprobs = native_logprobs(entries, top=self._top_logprobs)
        return [encode_line(chunk_body(self._kind, self._model, text=text, logprobs=logprobs))]

    def _add_call(self, piece: Mapping[str, Any]) -> None:
        call = self._calls.setdefault(
            piece.get("index", 0), {"id": "", "name": "", "arguments": ""}
        )
        function = piece.get("function") or {}
        call["id"] = piece.get("id") or call["id"]
        call["name"] += function.get("name") or ""
        call["arguments"] += function.get("arguments") or ""

    def _figures(self, event: Mapping[str, Any]) -> None:
        timings = event.get("timings")
        if not timings:
            usage = event.get("usage")
            if usage and self._final is None:
                counts = Usage(usage.get("prompt_tokens"), usage.get("completion_tokens"))
                self._final = counts, Timings(load_s=self._load_s)
            return
        prompt, cached = timings.get("prompt_n"), timings.get("cache_n") or 0
        whole = None if prompt is None else prompt + cached
        self._final = (
            Usage(whole, timings.get("predicted_n"), timings.get("cache_n")),
            Timings(
                total_s=None,
                load_s=self._load_s,
                prompt_s=_ms(timings.get("prompt_ms")),
                eval_s=_ms(timings.get("predicted_ms")),
            ),
        )

    def close(self) -> list[bytes]:
        """Return the last lines: the tool calls and the final line, when the answer finished."""
        if self.ended or self._finish is None:
            return []
        self.ended = True
        lines: list[bytes] = []
        if self._calls:
            calls = [_native_call(index, call) for index, call in sorted(self._calls.items())]
            lines.append(encode_line(chunk_body(self._kind, self._model, tool_calls=calls)))
        usage, timings = self._final or (Usage(), Timings(load_s=self._load_s))
        total = time.monotonic() - self._started + (self._load_s or 0.0)
        timings = Timings(total, timings.load_s, timings.prompt_s, timings.eval_s)
        reason = "length" if self._finish == "length" else "stop"
        lines.append(
            encode_line(
                final_body(
                    self._kind, self._model, done_reason=reason, usage=usage, timings=timings
                )
            )
        )
        return lines


def _ms(value: float | None) -> float | None:
    return None if value is None else value / 1000


def _native_call(index: int, call: Mapping[str, str]) -> dict[str, Any]:
    try:
        arguments = msgspec.json.decode(call["arguments"] or "{}")
    except msgspec.DecodeError:
        # The model wrote no valid JSON; the text is kept so that nothing is lost.
        arguments = {"_": call["arguments"]}
    function = {"index": index, "name": call["name"], "arguments": arguments}
    return {**({"id": call["id"]} if call["id"] else {}), "function": function}


def native_logprobs(logprobs: Mapping[str, Any] | None, *, top: int = 20) -> list[dict[str, Any]]:
    """Return OpenAI's `logprobs.content` in Ollama's form; values are natural logarithms."""
    entries = (logprobs or {}).get("content") or ()
    return [
        {**_logprob(entry), "top_logprobs": [_logprob(other) for other in _tops(entry)[:top]]}
        if _tops(entry)[:top]
        else _logprob(entry)
        for entry in entries
    ]


def _tops(entry: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return entry.get("top_logprobs") or []


def _logprob(entry: Mapping[str, Any]) -> dict[str, Any]:
    body: dict[str, Any] = {"token": entry.get("token", ""), "logprob": entry.get("logprob")}
    if entry.get("bytes"):
        body["bytes"] = entry["bytes"]
    return body


def upstream_error(error: object) -> str:
    """Return the text of an OpenAI error, which may be an object or a string."""
    if isinstance(error, Mapping):
        return str(error.get("message") or error)
    return str(error)


# ---- OpenAI request -> native request


def native_options(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sampling fields of an OpenAI request as Ollama options."""
    options = {
        option: body[name] for name, option in _OPENAI_OPTIONS.items() if body.get(name) is not None
    }
    if isinstance(options.get("stop"), str):
        options["stop"] = [options["stop"]]
    # OpenAI's default; Ollama's would be 0.8.
    options.setdefault("temperature", 1.0)
    options.setdefault("top_p", 1.0)
    return options


def native_chat(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return an OpenAI chat request as a native one.

    Raises:
        ResponseError: With status 400, when a content part cannot be translated.
    """
    native: dict[str, Any] = {
        "model": body.get("model", ""),
        "messages": [_native_message(message) for message in body.get("messages") or ()],
        "options": native_options(body),
        "stream": bool(body.get("stream")),
    }
    if body.get("tools") and body.get("tool_choice") != "none":
        native["tools"] = body["tools"]
    wanted = body.get("response_format") or {}
    if wanted.get("type") == "json_object":
        native["format"] = "json"
    elif wanted.get("type") == "json_schema":
        native["format"] = (wanted.get("json_schema") or {}).get("schema") or "json"
    effort = body.get("reasoning_effort")
    if effort:
        native["think"] = False if effort == "none" else effort
    if body.get("logprobs"):
        native["logprobs"] = True
        native["top_logprobs"] = body.get("top_logprobs") or 0
    return native


def native_completion(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return an OpenAI text completion request as a native generate request.

    Raises:
        ResponseError: With status 400, when there are several prompts or token ids.
    """
    prompt = body.get("prompt", "")
    if isinstance(prompt, list):
        if len(prompt) != 1 or not isinstance(prompt[0], str):
            raise ResponseError("prompt must be one text.", status=400)
        prompt = prompt[0]
    return {
        "model": body.get("model", ""),
        "prompt": prompt,
        "suffix": body.get("suffix") or "",
        "options": native_options(body),
        "stream": bool(body.get("stream")),
    }


def _native_message(message: Mapping[str, Any]) -> dict[str, Any]:
    role = message.get("role", "user")
    native: dict[str, Any] = {"role": "system" if role == "developer" else role}
    content = message.get("content")
    if isinstance(content, list):
        texts, images = _parts(content)
        native["content"] = "".join(texts)
        if images:
            native["images"] = images
    else:
        native["content"] = content or ""
    if message.get("tool_calls"):
        native["tool_calls"] = [_parsed_call(call) for call in message["tool_calls"]]
    if message.get("tool_call_id"):
        native["tool_call_id"] = message["tool_call_id"]
    thinking = message.get("reasoning") or message.get("reasoning_content")
    if thinking:
        native["thinking"] = thinking
    return native


def _parts(content: list[Any]) -> tuple[list[str], list[str]]:
    texts: list[str] = []
    images: list[str] = []
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind == "text":
            texts.append(part.get("text") or "")
        elif kind == "image_url":
            images.append(_image(part.get("image_url")))
        else:
            raise ResponseError(f"content part {kind!r} is not supported.", status=400)
    return texts, images


def _image(image: object) -> str:
    url = image.get("url", "") if isinstance(image, Mapping) else str(image)
    head, comma, data = url.partition(",")
    if not head.startswith("data:image/") or not comma:
        # Fetching an address that a request names would let it reach anything we reach.
        raise ResponseError("images must be data: URLs; remote ones are not fetched.", status=400)
    return data


def _parsed_call(call: Mapping[str, Any]) -> dict[str, Any]:
    function = call.get("function") or {}
    try:
        arguments = msgspec.json.decode(function.get("arguments") or "{}")
    except (msgspec.DecodeError, RecursionError) as exc:
        raise ResponseError("tool call arguments must be JSON.", status=400) from exc
    if not isinstance(arguments, dict):
        raise ResponseError("tool call arguments must be a JSON object.", status=400)
    return {
        "id": call.get("id", ""),
        "function": {"name": function.get("name", ""), "arguments": arguments},
    }


# ---- native lines -> OpenAI answer


class OpenAIWriter:
    """Turns native lines into the chunks of one OpenAI answer, streamed or whole."""

    def __init__(self, kind: Kind, model: str, request_id: str, *, usage: bool) -> None:
        self._kind = kind
        self._head: dict[str, Any] = {
            "id": ("chatcmpl-" if kind == "chat" else "cmpl-") + request_id,
            "object": "chat.completion.chunk" if kind == "chat" else "text_completion",
            "created": int(time.time()),
            "model": model,
        }
        self._usage = usage
        self._calls = 0
        self._role_sent = False

    def feed(self, chunk: Chunk, *, logprobs: Any = None) -> bytes:
        """Return the server-sent events of one native line and its `logprobs`."""
        text, thinking, calls = chunk.parts()
        out = b""
        delta: dict[str, Any] = {}
        if text:
            delta["content"] = text
        if thinking:
            delta["reasoning"] = thinking
        if calls:
            delta["tool_calls"] = [
                {"index": self._calls + number, **openai_call(call)}
                for number, call in enumerate(calls)
            ]
            self._calls += len(calls)
        if delta or not self._role_sent:
            out += self._event(delta, logprobs=logprobs)
        if chunk.done:
            out += self._event({}, finish=self.finish_reason(chunk))
            if self._usage:
                body = {**self._head, "choices": [], "usage": usage_body(chunk)}
                out += sse(body)
            out += b"data: [DONE]\n\n"
        return out

    def finish_reason(self, chunk: Chunk) -> str:
        """Return OpenAI's reason for the end of the answer."""
        if self._calls:
            return "tool_calls"
        return "length" if chunk.done_reason == "length" else "stop"

    def _event(
        self, delta: dict[str, Any], *, finish: str | None = None, logprobs: Any = None
    ) -> bytes:
        choice: dict[str, Any] = {"index": 0, "finish_reason": finish}
        if logprobs:
            choice["logprobs"] = openai_logprobs(logprobs)
        if self._kind == "chat":
            if not self._role_sent:
                delta = {"role": "assistant", **delta}
            choice["delta"] = delta
        else:
            choice["text"] = delta.get("content", "")
        self._role_sent = True
        return sse({**self._head, "choices": [choice]})

    def whole(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return the body of an answer that is not streamed, from a joined native body."""
        chunk = msgspec.convert(body, Chunk, strict=False)
        text, thinking, calls = chunk.parts()
        self._calls = len(calls)
        choice: dict[str, Any] = {"index": 0, "finish_reason": self.finish_reason(chunk)}
        if self._kind == "chat":
            message: dict[str, Any] = {"role": "assistant", "content": text}
            if thinking:
                message["reasoning"] = thinking
            if calls:
                message["tool_calls"] = [openai_call(call) for call in calls]
            choice["message"] = message
        else:
            choice["text"] = text
        if body.get("logprobs"):
            choice["logprobs"] = openai_logprobs(body["logprobs"])
        head = {**self._head, "object": self._head["object"].removesuffix(".chunk")}
        return {**head, "choices": [choice], "usage": usage_body(chunk)}


def openai_logprobs(logprobs: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return native logprobs in OpenAI's form, where absent fields are null or empty."""
    return {
        "content": [
            {
                **_with_bytes(entry),
                "top_logprobs": [_with_bytes(top) for top in _tops(entry)],
            }
            for entry in logprobs
        ]
    }


def _with_bytes(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {"bytes": None, **_logprob(entry)}


def openai_call(call: Any) -> dict[str, Any]:
    """Return a native tool call in OpenAI's form, whose arguments are text."""
    arguments = call.function.arguments
    text = arguments if isinstance(arguments, str) else _encode(arguments or {}).decode()
    return {
        "id": call.id or f"call_{call.function.index or 0}",
        "type": "function",
        "function": {"name": call.function.name, "arguments": text},
    }


def usage_body(chunk: Chunk) -> dict[str, int]:
    """Return OpenAI's `usage`; it has no way to say "unknown", so absent counts are 0 there."""
    prompt, completion = chunk.prompt_eval_count or 0, chunk.eval_count or 0
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


def sse(body: Mapping[str, Any]) -> bytes:
    """Write one server-sent event."""
    return b"data: " + _encode(body) + b"\n\n"


def openai_error(error: WorkbenchError, status: int) -> dict[str, Any]:
    """Return an error in OpenAI's form."""
    kind = {400: "invalid_request_error", 401: "authentication_error", 404: "not_found_error"}
    return {
        "error": {
            "message": str(error),
            "type": kind.get(status, "api_error"),
            "param": None,
            "code": None,
        }
    }


def embeddings_body(
    native: Mapping[str, Any], model: str, *, encoding: str = "float"
) -> dict[str, Any]:
    """Return a native embed answer in OpenAI's form."""
    tokens = native.get("prompt_eval_count") or 0
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": _vector(vector, encoding)}
            for index, vector in enumerate(native.get("embeddings") or ())
        ],
        "model": model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def _vector(vector: list[float], encoding: str) -> list[float] | str:
    if encoding != "base64":
        return vector
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
