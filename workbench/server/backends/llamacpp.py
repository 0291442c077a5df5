"""The embedded backend: one engine process per loaded model, spoken to over its own HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx

from workbench.config import EMBEDDED
from workbench.errors import (
    BadModelFile,
    EngineExited,
    ModelNotFound,
    ResponseError,
    StreamBroken,
    UnsupportedOperation,
)
from workbench.server.backends import llama_requests
from workbench.server.backends.base import (
    BackendFacts,
    Lines,
    ModelEntry,
    Runner,
    RunningModel,
    Stream,
    Unloaded,
)
from workbench.server.backends.http import make_client, open_stream, request_json, translated
from workbench.server.engine.library import LibraryModel, ModelLibrary
from workbench.server.engine.process import EngineProcess
from workbench.server.engine.spec import EngineKind
from workbench.units import rfc3339
from workbench.wire.lines import SSESplitter
from workbench.wire.ollama import Kind, encode_line
from workbench.wire.openai import NativeTranslator, llama_messages

OnExit = Callable[[str, bool], None]


@dataclass
class _Worker:
    """A running engine and the client that speaks to it."""

    model: LibraryModel
    process: EngineProcess
    client: httpx.AsyncClient
    watch: asyncio.Task[None]
    load_s: float
    fresh: bool = True

    def take_load_s(self) -> float | None:
        """Return the load seconds for the request that caused the load, then `None`."""
        fresh, self.fresh = self.fresh, False
        return self.load_s if fresh else None


def _entry(model: LibraryModel) -> ModelEntry:
    return ModelEntry(
        name=model.name,
        digest=model.digest,
        size_bytes=model.size_bytes,
        modified_at=rfc3339(model.modified_at),
        context_length=model.header.context_length,
        capabilities=model.capabilities,
        toy=model.toy,
        details=llama_requests.details(model),
    )


class LlamaCppBackend:
    """Runs GGUF files; implements `Backend` and `ModelStore`.

    Args:
        library: Where the files are.
        socket_folder: A private folder for unix sockets; `None` uses loopback ports.
        on_exit: Called with (model, embed) when an engine ends that was not asked to.
    """

    kind = "llamacpp"
    url: str | None = None
    expires_models = False
    loads_models = True

    def __init__(
        self,
        library: ModelLibrary,
        *,
        name: str = EMBEDDED,
        engine: EngineKind = "xllamacpp",
        llama_server: Path | None = None,
        load_timeout_s: float = 300.0,
        socket_folder: Path | None = None,
        on_exit: OnExit | None = None,
    ) -> None:
        self.library = library
        self.name = name
        self._engine: EngineKind = engine
        self._llama_server = llama_server
        self._load_timeout_s = load_timeout_s
        self._socket_folder = socket_folder
        self.on_exit = on_exit
        self._workers: dict[tuple[str, bool], _Worker] = {}

    async def facts(self) -> BackendFacts:
        """Return which engine runs the models."""
        if self._engine == "llama-server":
            found = str(self._llama_server) if self._llama_server else None
            error = None if found else "no llama-server binary was found"
            return BackendFacts(self.name, self.kind, found, "llama-server", error)
        return BackendFacts(self.name, self.kind, None, f"xllamacpp {version('xllamacpp')}")

    async def models(self) -> list[ModelEntry]:
        """Return created, dropped-in and bundled models."""
        return [_entry(model) for model in await asyncio.to_thread(self.library.list)]

    async def find(self, name: str) -> ModelEntry:
        """Return one model by name or path; raises `ModelNotFound`."""
        try:
            return _entry(await asyncio.to_thread(self.library.get, name))
        except (OSError, RuntimeError, ValueError) as exc:
            # A path that is too long, of a folder that may not be read, of a user who is unknown.
            raise ModelNotFound(name) from exc

    async def ps(self) -> list[RunningModel]:
        """Return the running engines with their measured memory."""
        return [
            RunningModel(
                name=worker.model.name,
                digest=worker.model.digest,
                size_bytes=worker.process.rss_bytes() or worker.model.size_bytes,
                vram_bytes=None,
                rss_bytes=worker.process.rss_bytes(),
                context_length=worker.process.spec.n_ctx or None,
                details=llama_requests.details(worker.model),
            )
            for worker in self._workers.values()
        ]

    async def show(self, model: str, *, verbose: bool = False) -> dict[str, Any]:
        """Return Ollama's `show` body, made from the header of the file."""
        found = await asyncio.to_thread(self.library.get, model)
        return await asyncio.to_thread(llama_requests.show_body, found, verbose=verbose)

    async def runner_of(self, model: str, digest: str) -> Runner:
        """Return the name: every model has a process of its own."""
        return Runner(model.lower())

    def known_runner(self, model: str, digest: str) -> Runner | None:
        """Return the name."""
        return Runner(model.lower())

    async def load(
        self, model: str, options: Mapping[str, Any], keep_alive: float | None, *, embed: bool
    ) -> None:
        """Start an engine for the model; its key is (model, text or vectors)."""
        found = await asyncio.to_thread(self.library.get, model)
        if found.problem:
            raise BadModelFile(found.path.name, found.problem)
        spec = llama_requests.engine_spec(
            found, options, embed=embed, engine=self._engine, llama_server=self._llama_server
        )
        process = await EngineProcess.start(
            spec, timeout_s=self._load_timeout_s, socket_folder=self._socket_folder
        )
        transport = (
            httpx.AsyncHTTPTransport(
                uds=str(process.socket_path), limits=httpx.Limits(max_keepalive_connections=0)
            )
            if process.socket_path
            else None
        )
        # No keep-alive: a pooled connection fails after a streamed answer in 10-30 % of the cases.
        client = make_client(
            process.base_url,
            headers={"Authorization": f"Bearer {process.key}"},
            transport=transport,
            keep_alive=False,
        )
        key = (found.name, embed)
        watch = asyncio.create_task(self._watch(key, process))
        self._workers[key] = _Worker(found, process, client, watch, process.load_seconds)

    async def _watch(self, key: tuple[str, bool], process: EngineProcess) -> None:
        await process.exited()
        worker = self._workers.get(key)
        if worker is not None and worker.process is process:
            del self._workers[key]
            await worker.client.aclose()
            # Reads the last of stderr, so that the reason is known.
            await process.stop()
            if self.on_exit is not None:
                self.on_exit(*key)

    async def unload(self, model: str, *, embed: bool = False) -> Unloaded:
        """End the engine and verify that its process is gone."""
        worker = self._workers.pop((model, embed), None)
        if worker is None:
            return Unloaded(True)
        report = await worker.process.stop()
        await worker.client.aclose()
        return Unloaded(report.exited, report.rss_before_bytes, 0 if report.exited else None)

    def _worker(self, model: str, *, embed: bool = False) -> _Worker:
        worker = self._workers.get((model, embed))
        if worker is None:
            raise EngineExited(model, returncode=None, reason="it is not loaded")
        return worker

    @asynccontextmanager
    async def stream(self, kind: Kind, body: Mapping[str, Any]) -> AsyncIterator[Stream]:
        """Run a chat or generate request; native lines come out."""
        worker = self._worker(str(body["model"]))
        request = await self._prepared(worker, kind, body)
        path, payload = request
        model = str(body.get("asked") or body["model"])
        # Made before the request: the answer's total begins where the reading of the prompt does.
        translator = NativeTranslator(
            kind,
            model,
            load_s=worker.take_load_s(),
            top_logprobs=body.get("top_logprobs") or 0,
        )
        try:
            async with open_stream(worker.client, path, payload) as response:
                lines = self._native(worker, response, translator)
                async with aclosing(lines):
                    yield lines
        except (ResponseError, StreamBroken):
            raise
        except Exception:
            if worker.process.returncode is not None:
                raise worker.process.exit_error() from None
            raise

    async def _native(
        self, worker: _Worker, response: httpx.Response, translator: NativeTranslator
    ) -> AsyncGenerator[Lines, None]:
        splitter = SSESplitter()
        try:
            with translated("the engine", streaming=True):
                async for chunk in response.aiter_raw():
                    batch: Lines = []
                    for data in splitter.feed(chunk):
                        batch += [line.rstrip(b"\n") for line in translator.feed(data)]
                    if batch:
                        yield batch
        except StreamBroken:
            await self._settle(worker)
            if worker.process.returncode is None:
                raise
        if translator.ended:
            return
        rest = translator.close()
        if rest:
            yield [line.rstrip(b"\n") for line in rest]
            return
        await self._settle(worker)
        if worker.process.returncode is not None:
            raise worker.process.exit_error()
        raise StreamBroken("the engine closed the stream before the end")

    @staticmethod
    async def _settle(worker: _Worker) -> None:
        """Give a process that just died the moment it needs to be seen dead."""
        try:
            async with asyncio.timeout(1.0):
                await worker.process.exited()
        except TimeoutError:
            return

    async def _prepared(
        self, worker: _Worker, kind: Kind, body: Mapping[str, Any]
    ) -> tuple[str, dict[str, Any]]:
        if kind == "generate":
            return llama_requests.generate_request(worker.model, body)
        messages = llama_requests.with_manifest(worker.model, body.get("messages") or [])
        payload = llama_requests.chat_request(worker.model, body, messages)
        if body.get("truncate") is not False and len(messages) > 1:
            count = self._counter(worker, payload)
            room = (worker.process.spec.n_ctx or 0) - 1
            kept = await llama_requests.fitting(messages, room, count)
            payload["messages"] = llama_messages(kept)
        return "/v1/chat/completions", payload

    @staticmethod
    def _counter(
        worker: _Worker, payload: Mapping[str, Any]
    ) -> Callable[[list[Mapping[str, Any]]], Awaitable[int]]:
        async def count(messages: list[Mapping[str, Any]]) -> int:
            fields = {name: payload[name] for name in ("tools",) if name in payload}
            answer = await request_json(
                worker.client,
                "POST",
                "/v1/chat/completions/input_tokens",
                {"messages": llama_messages(messages), **fields},
            )
            return int(answer["input_tokens"])

        return count

    async def embed(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return the vectors of texts, each of length 1."""
        worker = self._worker(str(body["model"]), embed=True)
        texts = body.get("input") or []
        texts = [texts] if isinstance(texts, str) else list(texts)
        answer: dict[str, Any] = {"data": [], "usage": {}}
        if texts:
            fitting = [await self._cut(worker, body, text) for text in texts]
            answer = await request_json(worker.client, "POST", "/v1/embeddings", {"input": fitting})
        return llama_requests.embed_body(body, answer, load_s=worker.take_load_s())

    @staticmethod
    async def _cut(worker: _Worker, body: Mapping[str, Any], text: str) -> str | list[int]:
        """Return a text, or its first tokens when the context is too short for all of them."""
        spec = worker.process.spec
        limit = min(spec.n_ctx or spec.n_batch, spec.n_batch)
        # No token is shorter than a byte; a few are those that a model adds by itself.
        if len(text.encode()) + 4 <= limit:
            return text
        answer = await request_json(
            worker.client, "POST", "/tokenize", {"content": text, "add_special": True}
        )
        tokens: list[int] = answer["tokens"]
        if len(tokens) <= limit:
            return text
        if body.get("truncate") is False:
            raise ResponseError("the input length exceeds the context length", status=400)
        return tokens[:limit]

    # ---- the store of models

    async def has_blob(self, digest: str) -> bool:
        """Return whether an uploaded file is there."""
        with llama_requests.store_errors():
            return await asyncio.to_thread(self.library.has_blob, digest)

    async def put_blob(self, digest: str, chunks: AsyncIterator[bytes]) -> None:
        """Store an uploaded file; refuse it when its content has another digest."""
        with llama_requests.store_errors(), self.library.blob_writer(digest) as writer:
            async for chunk in chunks:
                await asyncio.to_thread(writer.write, chunk)

    async def create(self, body: Mapping[str, Any]) -> AsyncIterator[bytes]:
        """Make a model of another one, of a file, or of uploaded blobs."""
        if body.get("quantize") or body.get("adapters"):
            raise UnsupportedOperation(
                "The embedded backend does not quantize and does not apply adapters.",
                hint="Use llama.cpp's own tools and drop the GGUF into the models folder.",
            )
        # Everything is checked before the first line, so that a refusal has a status of its own.
        llama_requests.check_parameters(body.get("parameters"))
        if body.get("from") and not body.get("files"):
            await self.find(body["from"])
        with llama_requests.store_errors():
            await asyncio.to_thread(
                self.library.create,
                body["model"],
                from_=body.get("from"),
                files=body.get("files"),
                template=body.get("template"),
                system=body.get("system"),
                parameters=body.get("parameters"),
                license=body.get("license"),
                messages=body.get("messages"),
            )
        yield encode_line({"status": "writing manifest"})
        yield encode_line({"status": "success"})

    async def add(self, path: str, name: str | None) -> str:
        """Take in a GGUF file where it lies, under a name, and return its full name.

        Raises:
            ModelNotFound: When there is no such file.
            BadModelFile: When it is no model that can be loaded.
        """
        with llama_requests.store_errors():
            made = await asyncio.to_thread(self.library.add, path, name)
        return made.name

    def pull(self, body: Mapping[str, Any]) -> AsyncIterator[bytes]:
        """Refuse: there is no registry for the embedded backend."""
        raise UnsupportedOperation(
            "The embedded backend cannot pull models.",
            hint="Drop a GGUF file into the models folder, or pull on an Ollama backend.",
        )

    async def copy(self, source: str, destination: str) -> None:
        """Give a model a second name."""
        with llama_requests.store_errors():
            await asyncio.to_thread(self.library.copy, source, destination)

    async def delete(self, model: str) -> None:
        """Remove a created model, or a file of the models folder."""
        with llama_requests.store_errors():
            await asyncio.to_thread(self.library.delete, model)

    async def close(self) -> None:
        """End every engine, verified."""
        workers, self._workers = list(self._workers.values()), {}
        await asyncio.gather(*(worker.process.stop() for worker in workers))
        for worker in workers:
            await worker.client.aclose()
        await asyncio.gather(*(worker.watch for worker in workers), return_exceptions=True)
