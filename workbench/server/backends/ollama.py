"""An Ollama server: bytes are relayed as they come, lists are read into our values."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any

import httpx
import msgspec

from workbench.errors import ModelError, ProtocolError
from workbench.messages import RUNNER_OPTIONS
from workbench.server.backends.base import (
    BackendFacts,
    Lines,
    ModelEntry,
    Runner,
    RunningModel,
    Stream,
    Unloaded,
)
from workbench.server.backends.http import (
    line_batches,
    make_client,
    open_stream,
    request_json,
    secret_headers,
    translated,
)
from workbench.server.names import canonical
from workbench.units import format_keep_alive, parse_expires_at
from workbench.wire.ollama import Kind

LIST_TIMEOUT_S = 5.0
# Facts are for a person who waits: a host that does not answer at once is shown as such.
FACTS_TIMEOUT_S = 1.0
# `ps` may wait for seconds while a runner is being stopped; that is not "server down".
PS_TIMEOUT_S = 10.0
# The weights and the adapters on them: what a runner is made of.
_FROM_BLOB = re.compile(r"^(?:FROM|ADAPTER)\s+\S*sha256[-:]([0-9a-f]{64})", re.MULTILINE)
_PARAMETER = re.compile(r"^(\w+)\s+\"?(-?\d+|true|false)\"?\s*$", re.MULTILINE)


class OllamaBackend:
    """One Ollama host; implements `Backend` and `ModelStore`.

    Args:
        name: Name of the backend in `model@backend`.
        url: Address without a path.
        token_env: Environment variable with a bearer token for it; read at each start.
        headers_env: Further headers and the environment variables that hold their values.
    """

    kind = "ollama"
    expires_models = True
    loads_models = True

    def __init__(
        self,
        name: str,
        url: str,
        *,
        token_env: str | None = None,
        headers_env: Iterable[tuple[str, str]] = (),
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.name = name
        self.url = url
        headers = secret_headers(token_env, headers_env)
        self._client = make_client(url, headers=headers, transport=transport)
        self._runners: dict[str, Runner] = {}

    async def facts(self) -> BackendFacts:
        """Return the version, or why the host cannot be reached; never raises."""
        try:
            body = await self._json("GET", "/api/version", timeout_s=FACTS_TIMEOUT_S)
        except ModelError as exc:
            return BackendFacts(self.name, self.kind, self.url, error=exc.message)
        version = body.get("version") if isinstance(body, dict) else None
        return BackendFacts(self.name, self.kind, self.url, version=version)

    async def _json(self, method: str, path: str, body: Any = None, **options: Any) -> Any:
        try:
            return await request_json(self._client, method, path, body, **options)
        except TimeoutError as exc:
            raise ProtocolError(f"{self.url}{path} did not answer in time.") from exc

    async def models(self) -> list[ModelEntry]:
        """Return the installed models."""
        body = await self._json("GET", "/api/tags", timeout_s=LIST_TIMEOUT_S)
        return [_entry(model) for model in _models(body, self.url)]

    async def ps(self) -> list[RunningModel]:
        """Return the loaded models; a GGUF model that is still loading is not among them."""
        body = await self._json("GET", "/api/ps", timeout_s=PS_TIMEOUT_S)
        return [_running(model) for model in _models(body, self.url)]

    async def show(self, model: str, *, verbose: bool = False) -> dict[str, Any]:
        """Return Ollama's own answer."""
        body: dict[str, Any] = await self._json(
            "POST", "/api/show", {"model": model, "verbose": verbose}
        )
        return body

    async def load(
        self, model: str, options: Mapping[str, Any], keep_alive: float | None, *, embed: bool
    ) -> None:
        """Load by an empty request, with the runner options of the requests that follow.

        Without the same options the request that follows would make Ollama load again.  A
        keep_alive of 0 is left to that request: with an empty one it would mean "unload".
        """
        body: dict[str, Any] = {"model": model}
        runner = {name: value for name, value in options.items() if name in RUNNER_OPTIONS}
        if runner:
            body["options"] = runner
        if "shift" in options:
            body["shift"] = options["shift"]
        if keep_alive:
            body["keep_alive"] = format_keep_alive(keep_alive)
        if embed:
            await self._json("POST", "/api/embed", {**body, "input": []})
        else:
            await self._json("POST", "/api/generate", {**body, "stream": False})

    async def runner_of(self, model: str, digest: str) -> Runner:
        """Return the GGUF blob of a model: models made FROM one file share one runner.

        A model that was deleted while loaded, or has no such file, is known by its digest.
        """
        known = self._runners.get(digest)
        if known is None:
            try:
                body = await self._json("POST", "/api/show", {"model": model}, timeout_s=5.0)
            except ModelError:
                return Runner(digest)
            known = self._runners[digest] = _runner(body, digest)
        return known

    def known_runner(self, model: str, digest: str) -> Runner | None:
        """Return what was learned of a model before."""
        return self._runners.get(digest)

    async def unload(self, model: str, *, embed: bool = False) -> Unloaded:
        """Ask the model to leave; Ollama answers at once, whatever becomes of it."""
        await self._json(
            "POST", "/api/generate", {"model": model, "keep_alive": 0, "stream": False}
        )
        return Unloaded(gone=False)

    @asynccontextmanager
    async def stream(self, kind: Kind, body: Mapping[str, Any]) -> AsyncIterator[Stream]:
        """Relay a chat or generate request; the answer's lines come out unchanged."""
        async with open_stream(self._client, f"/api/{kind}", {**body, "stream": True}) as response:
            lines = _coalesced(line_batches(response))
            async with aclosing(lines):
                yield lines

    async def embed(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return Ollama's own answer."""
        answer: dict[str, Any] = await self._json("POST", "/api/embed", body)
        return answer

    async def has_blob(self, digest: str) -> bool:
        """Ask the host whether it holds the blob."""
        with translated(self.url):
            response = await self._client.head(f"/api/blobs/{digest}")
        return response.status_code == 200

    async def put_blob(self, digest: str, chunks: AsyncIterator[bytes]) -> None:
        """Pass an upload on to the host, piece by piece."""
        with translated(self.url):
            response = await self._client.post(f"/api/blobs/{digest}", content=chunks)
        if response.status_code >= 400:
            raise ProtocolError(f"{self.url} refused the blob: {response.text[:200]}")

    def create(self, body: Mapping[str, Any]) -> AsyncIterator[bytes]:
        """Pass the request on; the lines of progress come out unchanged."""
        return self._relayed("/api/create", body)

    def pull(self, body: Mapping[str, Any]) -> AsyncIterator[bytes]:
        """Pass the request on; leaving the iterator cancels the download, which can be resumed."""
        return self._relayed("/api/pull", body)

    async def _relayed(self, path: str, body: Mapping[str, Any]) -> AsyncIterator[bytes]:
        stream = open_stream(self._client, path, {**body, "stream": True})
        async with stream as response, aclosing(line_batches(response)) as batches:
            async for lines in batches:
                for line in lines:
                    yield line

    async def copy(self, source: str, destination: str) -> None:
        """Give a model a second name on the host."""
        await self._json("POST", "/api/copy", {"source": source, "destination": destination})

    async def delete(self, model: str) -> None:
        """Remove a model from the host."""
        await self._json("DELETE", "/api/delete", {"model": model})

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


def _models(body: Any, url: str) -> list[_Model]:
    models = body.get("models") if isinstance(body, dict) else None
    if models is None and isinstance(body, dict) and "models" in body:
        return []
    if not isinstance(models, list):
        raise ProtocolError(f"{url} gave no list of models.", hint="Is it an Ollama server?")
    try:
        rows = msgspec.convert(models, list[_Model])
    except msgspec.ValidationError as exc:
        raise ProtocolError(
            f"{url} gave a list of models in an unknown form: {exc}.",
            hint="Is it an Ollama server?",
        ) from exc
    return [row for row in rows if row.name]


class _Model(msgspec.Struct):
    """A row of `tags` or `ps`; what a version leaves out is unknown."""

    name: str = ""
    digest: str = ""
    size: int | None = None
    size_vram: int | None = None
    context_length: int | None = None
    expires_at: str | None = None
    modified_at: str | None = None
    capabilities: list[str] | None = None
    remote_model: str | None = None
    details: dict[str, Any] | None = None


def _runner(show: Any, digest: str) -> Runner:
    """Read what Ollama loads for a model, and with which runner options unless a request says."""
    facts = show if isinstance(show, dict) else {}
    files = _FROM_BLOB.findall(str(facts.get("modelfile") or ""))
    options: dict[str, Any] = {}
    for name, value in _PARAMETER.findall(str(facts.get("parameters") or "")):
        if name in RUNNER_OPTIONS:
            options[name] = value == "true" if value in ("true", "false") else int(value)
    return Runner("+".join(files) or digest, options)


def _entry(model: _Model) -> ModelEntry:
    details = model.details or {}
    length = details.get("context_length")
    return ModelEntry(
        name=canonical(model.name),
        digest=model.digest.removeprefix("sha256:"),
        size_bytes=model.size,
        modified_at=model.modified_at or "",
        context_length=length if isinstance(length, int) else None,
        capabilities=tuple(model.capabilities or ()),
        remote=bool(model.remote_model) or model.name.endswith(("-cloud", ":cloud")),
        details=details,
    )


def _running(model: _Model) -> RunningModel:
    expires_at, forever = parse_expires_at(model.expires_at)
    return RunningModel(
        name=canonical(model.name),
        digest=model.digest.removeprefix("sha256:"),
        size_bytes=model.size,
        vram_bytes=model.size_vram,
        context_length=model.context_length,
        expires_at=expires_at,
        forever=forever,
        details=model.details or {},
    )


_COALESCE_LINES = 4096


async def _coalesced(batches: AsyncGenerator[Lines, None]) -> AsyncGenerator[Lines, None]:
    """Join batches that are already there, so that one write carries them all.

    A producer that is ahead never waits for a lone token: a batch leaves as soon as the loop has
    nothing more to read.
    """
    pending: Lines = []
    wake = asyncio.Event()
    room = asyncio.Event()
    room.set()
    failure: list[BaseException] = []

    async def read() -> None:
        try:
            async with aclosing(batches):
                async for lines in batches:
                    pending.extend(lines)
                    wake.set()
                    if len(pending) > _COALESCE_LINES:
                        room.clear()
                        await room.wait()
        except BaseException as exc:
            failure.append(exc)
            if isinstance(exc, asyncio.CancelledError):
                raise

    reader = asyncio.create_task(read())
    reader.add_done_callback(lambda _: wake.set())
    try:
        while True:
            if pending:
                lines, pending = pending, []
                room.set()
                yield lines
            elif reader.done():
                break
            else:
                wake.clear()
                await wake.wait()
        if failure:
            raise failure[0]
    finally:
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
