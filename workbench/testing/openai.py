"""A scripted OpenAI-compatible server, as llama.cpp's server, vLLM and LM Studio are."""

from __future__ import annotations

import base64
import itertools
import json
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from workbench.testing.http import Exchange, dumps
from workbench.testing.play import CutError, ScriptedError, Stream, play, send_body, wait_out
from workbench.testing.scripts import (
    FakeModel,
    RecordedRequest,
    Reply,
    ReplySource,
    embedding,
    words_in,
)
from workbench.testing.server import Handling, Routes, ScriptedServer

_SSE = "text/event-stream"
_JSON = "application/json"
_DONE = b"data: [DONE]\n\n"


class ScriptedOpenAI(ScriptedServer):
    """An OpenAI-compatible server that answers from scripts.

    Operations: ``health``, ``models``, ``chat``, ``completions``, ``embeddings``.

    Args:
        models: The models it has; names are taken as they are.
        reply: Answers ``chat`` and ``completions``.
        api_key: Key that every request but ``health`` has to carry, ``None`` for none.
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
    """

    def __init__(
        self,
        *,
        models: Sequence[FakeModel | str] = ("llama3.2",),
        reply: ReplySource = Reply("Hello from a script."),  # noqa: B008 - frozen
        api_key: str | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        super().__init__(reply=reply, host=host, port=port)
        found = [FakeModel(item) if isinstance(item, str) else item for item in models]
        self._models = {item.name: item for item in found}
        self._api_key = api_key
        self._created = int(time.time())
        self._ids = itertools.count(1)

    def _routes(self) -> Routes:
        return {
            "/health": {"GET": ("health", self._health)},
            "/v1/models": {"GET": ("models", self._list)},
            "/v1/chat/completions": {"POST": ("chat", self._complete)},
            "/v1/completions": {"POST": ("completions", self._complete)},
            "/v1/embeddings": {"POST": ("embeddings", self._embed)},
        }

    def _text_operations(self) -> frozenset[str]:
        return frozenset({"chat", "completions"})

    def _error(self, status: int, message: str) -> Any:
        kinds = {401: "authentication_error", 404: "not_found_error", 503: "unavailable_error"}
        kind = kinds.get(status, "invalid_request_error" if status < 500 else "server_error")
        return {"error": {"message": message, "type": kind, "param": None, "code": status}}

    async def _scripted(self, exchange: Exchange, handle: Handling) -> None:
        key = exchange.request.headers.get("authorization", "")
        if self._api_key not in (None, key.removeprefix("Bearer ")) and (
            exchange.request.operation != "health"
        ):
            await exchange.send_json(401, self._error(401, "Invalid API Key"))
        elif exchange.request.method == "POST" and (problem := self._problem(exchange.request)):
            await exchange.send_json(problem[0], self._error(*problem))
        else:
            await super()._scripted(exchange, handle)

    def _problem(self, request: RecordedRequest) -> tuple[int, str] | None:
        if not isinstance(request.json, dict):
            return 400, "the request body is not a JSON object"
        if request.model not in self._models:
            return 404, f"The model `{request.model}` does not exist."
        return None

    async def _health(self, exchange: Exchange, reply: Reply) -> None:
        await self._deliver(exchange, reply, {"status": "ok"})

    async def _list(self, exchange: Exchange, reply: Reply) -> None:
        entries = [
            {"id": name, "object": "model", "created": self._created, "owned_by": "scripted"}
            for name in self._models
        ]
        await self._deliver(exchange, reply, {"object": "list", "data": entries})

    async def _complete(self, exchange: Exchange, reply: Reply) -> None:
        request = exchange.request
        answer = _Answer(request, reply, number=next(self._ids), created=int(time.time()))
        if request.json.get("stream"):
            await play(exchange, reply, answer.stream())
            return
        try:
            await wait_out(exchange, reply, answer.tokens)
        except ScriptedError as exc:
            await exchange.send_json(500, self._error(500, str(exc)))
        except CutError:
            return
        else:
            await send_body(exchange, reply, dumps(answer.whole()), _JSON)

    async def _embed(self, exchange: Exchange, reply: Reply) -> None:
        body = exchange.request.json
        texts = body.get("input") or []
        texts = [texts] if isinstance(texts, str) else texts
        length = int(
            body.get("dimensions") or self._models[exchange.request.model].embedding_length
        )
        vectors: list[Any] = [embedding(str(text), length) for text in texts]
        if body.get("encoding_format") == "base64":
            packed = [struct.pack(f"<{length}f", *vector) for vector in vectors]
            vectors = [base64.b64encode(item).decode() for item in packed]
        count = _prompt_tokens(reply, body)
        answer = {
            "object": "list",
            "model": exchange.request.model,
            "data": [
                {"object": "embedding", "index": index, "embedding": vector}
                for index, vector in enumerate(vectors)
            ],
            "usage": {"prompt_tokens": count, "total_tokens": count},
        }
        await self._deliver(exchange, reply, answer | dict(reply.final))


class _Answer:
    """One answer in OpenAI's two forms, for chat and for plain completions."""

    def __init__(
        self, request: RecordedRequest, reply: Reply, *, number: int, created: int
    ) -> None:
        self._body = request.json
        self._reply = reply
        self._chat = request.operation == "chat"
        kind = "chatcmpl" if self._chat else "cmpl"
        self._head = {"id": f"{kind}-{number}", "created": created, "model": request.model}
        self._thinking = reply.thinking_tokens if self._chat else []
        self._calls = list(reply.tool_calls) if self._chat else []
        self.tokens = len(reply.text_tokens) + len(self._thinking) + len(self._calls)

    def stream(self) -> Stream:
        """Return the pieces of the answer as server-sent events."""
        opening = self._event({"role": "assistant", "content": ""}) if self._chat else b""
        garbage = b"data: this is not JSON\n\n"
        return Stream(_SSE, self._pieces(), self._tail, _error_event, opening, garbage)

    def whole(self) -> dict[str, Any]:
        """Return the answer as one object."""
        text = "".join(self._reply.text_tokens)
        reason = None if self._reply.no_done else self._reason()
        choice: dict[str, Any] = {"index": 0, "finish_reason": reason, "logprobs": None}
        if self._chat:
            message: dict[str, Any] = {"role": "assistant", "content": text}
            if self._thinking:
                message["reasoning_content"] = "".join(self._thinking)
            if self._calls:
                indices = range(len(self._calls))
                message["tool_calls"] = [self._call(index) for index in indices]
                message["content"] = text or None
            choice["message"] = message
        else:
            choice["text"] = text
        kind = "chat.completion" if self._chat else "text_completion"
        whole = self._head | {"object": kind, "choices": [choice], "usage": self._usage()}
        return whole | dict(self._reply.final)

    def _pieces(self) -> Iterator[bytes]:
        """Yield one event per token; joined by hand because benches need 20,000."""
        mark = json.dumps("\0")
        text = {"content": "\0"} if self._chat else {"text": "\0"}
        for tokens, delta in (
            (self._thinking, {"reasoning_content": "\0"}),
            (self._reply.text_tokens, text),
        ):
            before, after = self._event(delta).decode().split(mark)
            for token in tokens:
                yield f"{before}{json.dumps(token, ensure_ascii=False)}{after}".encode()
        for index in range(len(self._calls)):
            yield self._call_events(index)

    def _call_events(self, index: int) -> bytes:
        """Return a call as its servers send it: the name first, then its arguments in parts."""
        call = self._call(index)
        arguments = call["function"]["arguments"]
        call["function"]["arguments"] = ""
        half = len(arguments) // 2
        deltas = [call | {"index": index}]
        for part in (arguments[:half], arguments[half:]):
            deltas.append({"index": index, "function": {"arguments": part}})
        return b"".join(self._event({"tool_calls": [delta]}) for delta in deltas)

    def _tail(self) -> list[bytes]:
        finish = self._event({} if self._chat else {"text": ""}, reason=self._reason())
        options = self._body.get("stream_options") or {}
        if not options.get("include_usage"):
            return [finish, _DONE]
        usage = self._chunk([]) | {"usage": self._usage()}
        return [finish, _event(usage), _DONE]

    def _event(self, delta: Mapping[str, Any], *, reason: str | None = None) -> bytes:
        choice: dict[str, Any] = {"index": 0, "finish_reason": reason}
        choice |= {"delta": delta} if self._chat else delta
        extra = dict(self._reply.final) if reason is not None else {}
        return _event(self._chunk([choice]) | extra)

    def _chunk(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        kind = "chat.completion.chunk" if self._chat else "text_completion"
        return self._head | {"object": kind, "choices": choices}

    def _call(self, index: int) -> dict[str, Any]:
        call = self._calls[index]
        function = {"name": call.name, "arguments": json.dumps(dict(call.arguments))}
        return {"id": call.call_id(index), "type": "function", "function": function}

    def _reason(self) -> str:
        return "tool_calls" if self._calls else self._reply.done_reason

    def _usage(self) -> dict[str, int]:
        prompt = _prompt_tokens(self._reply, self._body)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": self.tokens,
            "total_tokens": prompt + self.tokens,
        }


def _prompt_tokens(reply: Reply, body: Any) -> int:
    return words_in(body) if reply.prompt_tokens is None else reply.prompt_tokens


def _event(value: Any) -> bytes:
    return b"data: " + dumps(value) + b"\n\n"


def _error_event(message: str) -> bytes:
    return _event({"error": {"message": message, "type": "server_error", "code": 500}})
