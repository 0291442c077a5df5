"""A scripted Ollama server: the endpoints of its HTTP API, and simple residency.

Shapes, texts and status codes follow ollama/ollama v0.33 (``server/routes.go``,
``api/types.go``). Its scheduler (fit, eviction, queue) is played when it is given a memory:
without one, what is loaded stays loaded until its keep_alive is over.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any

from workbench.testing.controls import MemoryControls, scheduler_of
from workbench.testing.http import Exchange, dumps
from workbench.testing.ollama_shapes import (
    JSON,
    NDJSON,
    ApiError,
    Timings,
    as_model,
    body_of,
    calls_of,
    check_capabilities,
    done_fields,
    empty_answer,
    error_line,
    go_time,
    keep_alive_of,
    line_of,
    lines_of,
    model_name,
    name_key,
    parse_keep_alive,
    prompt_tokens_of,
    ps_entry,
    said_line,
    show_answer,
    stream_of,
    tag_entry,
    thinking_of,
)
from workbench.testing.play import CutError, ScriptedError, Stream, play, send_body, wait_out
from workbench.testing.residents import Memory, Residents
from workbench.testing.scripts import (
    FakeModel,
    RecordedRequest,
    Reply,
    ReplySource,
    embedding,
    with_tag,
)
from workbench.testing.server import Handling, Routes


class ScriptedOllama(MemoryControls):
    """An Ollama server that answers from scripts.

    Operations: ``root``, ``version``, ``tags``, ``ps``, ``show``, ``chat``, ``generate``,
    ``load``, ``unload``, ``embed``, ``pull``, ``create``, ``copy``, ``delete``.

    Args:
        models: The models it has; a bare name is a model of default size.
        reply: Answers ``chat`` and ``generate``.
        pullable: Models that ``/api/pull`` finds.
        version: What ``/api/version`` says.
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
        memory_bytes: Memory of its GPU. With this or any of the following it plays Ollama's
            scheduler.
        max_loaded: Models in memory at once; 3.
        max_queue: Loads that wait behind the one in progress; 512.
        parallel: Answers at once per model; any number, where Ollama's own default is 1.
        default_num_ctx: Context of requests that ask for none; goes by the memory, as in Ollama.
        recovery_s: The longest that an unload waits for its memory before it wakes the load
            that waits for it; 5.
        margin_bytes: Memory that a load leaves free; 1 GiB, or an eighth of a smaller memory.
        resurrects: Whether a request with a keep_alive brings a draining model back; true.
        vram_lag_s: Seconds between the end of a runner and the return of its memory; 0, and
            infinity is never.
        deadlock: Whether the order to evict gets lost, as in ollama#17408: a load that needs
            room waits until anything is unloaded.
    """

    def __init__(
        self,
        *,
        models: Sequence[FakeModel | str] = ("llama3.2:latest",),
        reply: ReplySource = Reply("Hello from a script."),  # noqa: B008 - frozen
        pullable: Sequence[FakeModel | str] = (),
        version: str = "0.33.0",
        host: str = "127.0.0.1",
        port: int = 0,
        memory_bytes: int | None = None,
        max_loaded: int | None = None,
        max_queue: int | None = None,
        parallel: int | None = None,
        default_num_ctx: int | None = None,
        recovery_s: float | None = None,
        margin_bytes: int | None = None,
        resurrects: bool | None = None,
        vram_lag_s: float | None = None,
        deadlock: bool | None = None,
    ) -> None:
        scheduler = scheduler_of(
            memory_bytes=memory_bytes,
            max_loaded=max_loaded,
            max_queue=max_queue,
            parallel=parallel,
            default_num_ctx=default_num_ctx,
            recovery_s=recovery_s,
            margin_bytes=margin_bytes,
            resurrects=resurrects,
            vram_lag_s=vram_lag_s,
            deadlock=deadlock,
        )
        super().__init__(scheduler, reply=reply, version=version, host=host, port=port)
        self._models = {name_key(item.name): item for item in map(as_model, models)}
        self._pullable = {name_key(item.name): item for item in map(as_model, pullable)}
        self._modified_at = go_time(time.time())
        self._memory: Memory = Residents() if scheduler is None else scheduler

    def start(self) -> None:
        """Listen with nothing in memory; raises OSError when the port is taken."""
        self._memory.reset()
        super().start()

    @property
    def operations(self) -> frozenset[str]:
        """Everything that requests can ask for, and scripts can be for."""
        return super().operations | {"load", "unload"}

    @property
    def loaded(self) -> set[str]:
        """Full names of the models in memory; one that is still loading is not among them."""
        # Asked on the loop: between an answer's last byte and its end nothing else runs there.
        return self._on_loop(lambda: {item.model.full_name for item in self._memory.present()})

    @property
    def loads(self) -> list[str]:
        """Full names of the models in the order in which their loads began."""
        return self._memory.loads

    @property
    def models(self) -> set[str]:
        """Full names of the models on disk."""
        return self._on_loop(lambda: {item.full_name for item in self._models.values()})

    def _routes(self) -> Routes:
        return {
            "/": {"GET": ("root", self._root)},
            "/api/version": {"GET": ("version", self._get_version)},
            "/api/tags": {"GET": ("tags", self._tags)},
            "/api/ps": {"GET": ("ps", self._ps)},
            "/api/show": {"POST": ("show", self._show)},
            "/api/generate": {"POST": ("generate", self._generate)},
            "/api/chat": {"POST": ("chat", self._generate)},
            "/api/embed": {"POST": ("embed", self._embed)},
            "/api/pull": {"POST": ("pull", self._pull)},
            "/api/create": {"POST": ("create", self._create)},
            "/api/copy": {"POST": ("copy", self._copy)},
            "/api/delete": {"DELETE": ("delete", self._delete)},
        }

    def _text_operations(self) -> frozenset[str]:
        return frozenset({"chat", "generate"})

    def _error(self, status: int, message: str) -> Any:
        return {"error": message}

    def _operation(self, operation: str, request: RecordedRequest) -> str:
        if operation not in {"chat", "generate"} or not isinstance(request.json, dict):
            return operation
        if request.json.get("messages" if operation == "chat" else "prompt"):
            return operation
        if operation == "generate" and request.json.get("images"):
            return operation
        # Ollama takes any keep_alive that comes to zero: 0, "0", "0s".
        try:
            return "unload" if parse_keep_alive(request.json.get("keep_alive")) == 0 else "load"
        except ValueError:
            return "load"

    async def _scripted(self, exchange: Exchange, handle: Handling) -> None:
        try:
            await super()._scripted(exchange, handle)
        except ApiError as exc:
            await exchange.send_json(exc.status, self._error(exc.status, exc.message))

    async def _root(self, exchange: Exchange, reply: Reply) -> None:
        await send_body(exchange, reply, b"Ollama is running", "text/plain; charset=utf-8")

    async def _get_version(self, exchange: Exchange, reply: Reply) -> None:
        await self._deliver(exchange, reply, {"version": self._version})

    async def _tags(self, exchange: Exchange, reply: Reply) -> None:
        models = [tag_entry(model, self._modified_at) for model in self._models.values()]
        await self._deliver(exchange, reply, {"models": models})

    async def _ps(self, exchange: Exchange, reply: Reply) -> None:
        items = sorted(self._memory.present(), key=lambda item: item.shown_end, reverse=True)
        await self._deliver(exchange, reply, {"models": [ps_entry(item) for item in items]})

    async def _show(self, exchange: Exchange, reply: Reply) -> None:
        model = self._find(body_of(exchange.request), normalised=True)
        await self._deliver(exchange, reply, show_answer(model, self._modified_at))

    async def _generate(self, exchange: Exchange, reply: Reply) -> None:
        body = body_of(exchange.request)
        model = self._find(body)
        keep_alive_s = keep_alive_of(body)
        operation = exchange.request.operation
        if operation == "unload":
            if reply.raw is None and not model.remote:
                self._memory.expire(model)
            await self._deliver(exchange, reply, empty_answer(exchange.request, "unload"))
            return
        check_capabilities(body, model)
        timings = Timings()
        async with self._hold(exchange, reply, model, body, keep_alive_s) as turn:
            timings.loaded()
            if operation == "load":
                await self._deliver(exchange, reply, empty_answer(exchange.request, "load"))
                return
            async with turn:
                timings.admitted()
                if body.get("stream") is False:
                    await self._answer_whole(exchange, reply, timings)
                else:
                    timings.prompt_tokens = prompt_tokens_of(reply, body)
                    await play(exchange, reply, stream_of(exchange.request, reply, timings))

    async def _answer_whole(self, exchange: Exchange, reply: Reply, timings: Timings) -> None:
        """Answer a request with ``stream: false``."""
        text, thinking = reply.text_tokens, thinking_of(exchange.request.json, reply)
        count = len(text) + len(thinking) + len(reply.tool_calls)
        try:
            await wait_out(exchange, reply, count)
        except ScriptedError as exc:
            raise ApiError(500, str(exc)) from exc
        except CutError:
            return
        timings.prompt_tokens = prompt_tokens_of(reply, exchange.request.json)
        timings.tokens = count
        timings.first = timings.began + timings.load + timings.turn + int(reply.first_token_s * 1e9)
        said: dict[str, Any] = {"text": "".join(text), "thinking": "".join(thinking)}
        if reply.tool_calls:
            said["calls"] = calls_of(reply)
        line = said_line(exchange.request, **said)
        line |= {"done": False} if reply.no_done else done_fields(reply, timings)
        await send_body(exchange, reply, dumps(line), JSON)

    async def _embed(self, exchange: Exchange, reply: Reply) -> None:
        body = body_of(exchange.request)
        model = self._find(body, embedding=True)
        texts = body.get("input") or []
        texts = [texts] if isinstance(texts, str) else texts
        length = int(body.get("dimensions") or model.embedding_length)
        timings = Timings()
        async with self._hold(exchange, reply, model, body, keep_alive_of(body)) as turn, turn:
            timings.loaded()
            timings.prompt_tokens = prompt_tokens_of(reply, body)
            answer: dict[str, Any] = {
                "model": exchange.request.model,
                "embeddings": [embedding(str(text), length) for text in texts],
            }
            counted = ("total_duration", "load_duration", "prompt_eval_count")
            answer |= {key: val for key, val in timings.fields().items() if key in counted}
            await self._deliver(exchange, reply, answer | dict(reply.final))

    async def _pull(self, exchange: Exchange, reply: Reply) -> None:
        name = model_name(body_of(exchange.request))
        model = self._pullable.get(name_key(name)) or self._models.get(name_key(name))
        lines: list[dict[str, Any]] = [{"status": "pulling manifest"}]
        if model is None:
            await self._progress(
                exchange, reply, lines, error="pull model manifest: file does not exist"
            )
            return
        layer = {
            "status": f"pulling {model.full_digest[:12]}",
            "digest": f"sha256:{model.full_digest}",
            "total": model.size_bytes,
        }
        lines += [layer | {"completed": model.size_bytes * part // 4} for part in range(1, 5)]
        lines += [{"status": "verifying sha256 digest"}, {"status": "writing manifest"}]
        if await self._progress(exchange, reply, lines):
            self._models[name_key(name)] = dataclasses.replace(model, name=with_tag(name))

    async def _create(self, exchange: Exchange, reply: Reply) -> None:
        body = body_of(exchange.request)
        base = self._models.get(name_key(str(body.get("from") or "")))
        if base is None:
            raise ApiError(400, "neither 'from' or 'files' was specified")
        name = with_tag(model_name(body))
        model = dataclasses.replace(base, name=name, digest="", blob=base.full_blob)
        lines = [
            {"status": f"using existing layer sha256:{base.full_digest}"},
            {"status": "writing manifest"},
        ]
        if await self._progress(exchange, reply, lines):
            self._models[name_key(name)] = model

    async def _progress(
        self,
        exchange: Exchange,
        reply: Reply,
        lines: Sequence[Mapping[str, Any]],
        *,
        error: str = "",
    ) -> bool:
        """Send progress lines; say whether the script let them end in success."""
        success = {"status": "success"}
        if error:
            reply = dataclasses.replace(reply, error_after=(len(lines), error))
        if body_of(exchange.request).get("stream") is False:
            return await self._deliver(exchange, reply, success)
        reached = []

        def tail() -> list[bytes]:
            reached.append(True)
            return [line_of(success)]

        await play(exchange, reply, Stream(NDJSON, lines_of(lines), tail, error_line))
        return bool(reached)

    async def _copy(self, exchange: Exchange, reply: Reply) -> None:
        body = body_of(exchange.request)
        source, target = str(body.get("source") or ""), str(body.get("destination") or "")
        model = self._models.get(name_key(source))
        if model is None:
            raise ApiError(404, f"model {json.dumps(source)} not found")
        copy = dataclasses.replace(
            model, name=with_tag(target), digest=model.full_digest, blob=model.full_blob
        )
        self._models[name_key(target)] = copy
        await exchange.send(200, b"", JSON, headers=reply.headers)

    async def _delete(self, exchange: Exchange, reply: Reply) -> None:
        model = self._find(body_of(exchange.request))
        del self._models[name_key(model.name)]
        await exchange.send(200, b"", JSON, headers=reply.headers)

    def _hold(
        self,
        exchange: Exchange,
        reply: Reply,
        model: FakeModel,
        body: Mapping[str, Any],
        keep_alive_s: float | None,
    ) -> AbstractAsyncContextManager[AbstractAsyncContextManager[Any]]:
        """Return the context of one request, with its model in memory.

        A model of the cloud is in no memory here. That Ollama answers its empty requests as
        it does for others is a guess.
        """
        if model.remote:
            return nullcontext(nullcontext())
        return self._memory.hold(exchange, reply, model, body, keep_alive_s)

    def _find(
        self, body: Mapping[str, Any], *, normalised: bool = False, embedding: bool = False
    ) -> FakeModel:
        """Return the asked model, or raise the 404 of the endpoint."""
        name = model_name(body)
        model = self._models.get(name_key(name))
        if model is not None:
            return model
        if embedding:
            raise ApiError(404, f"model {json.dumps(name)} not found, try pulling it first")
        raise ApiError(404, f"model '{with_tag(name) if normalised else name}' not found")
