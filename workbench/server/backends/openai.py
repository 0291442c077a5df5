"""An OpenAI-compatible server: llama.cpp's, vLLM, LM Studio.

Such a server tells neither what is in memory nor how to take it out: that is "unknown" here, and
what cannot be done is refused by name.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any

import httpx
import msgspec

from workbench.errors import ModelError, ProtocolError, StreamBroken, UnsupportedOperation
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
from workbench.server.backends.http import (
    make_client,
    open_stream,
    request_json,
    secret_headers,
    translated,
)
from workbench.server.backends.ollama import FACTS_TIMEOUT_S, LIST_TIMEOUT_S
from workbench.wire.lines import SSESplitter
from workbench.wire.ollama import Kind
from workbench.wire.openai import NativeTranslator
from workbench.wire.openai_requests import openai_request


class OpenAIBackend:
    """One OpenAI-compatible server; implements `Backend`.

    Args:
        name: Name of the backend in `model@backend`.
        url: Address without `/v1`.
        token_env: Environment variable with its key; read at each start.
        headers_env: Further headers and the environment variables that hold their values.
    """

    kind = "openai"
    expires_models = True
    loads_models = False

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

    async def facts(self) -> BackendFacts:
        """Return whether it answers; these servers have no common way to tell their version."""
        try:
            await self._json("GET", "/v1/models", timeout_s=FACTS_TIMEOUT_S)
        except ModelError as exc:
            return BackendFacts(self.name, self.kind, self.url, error=exc.message)
        return BackendFacts(self.name, self.kind, self.url)

    async def _json(self, method: str, path: str, body: Any = None, **options: Any) -> Any:
        try:
            return await request_json(self._client, method, path, body, **options)
        except TimeoutError as exc:
            raise ProtocolError(f"{self.url}{path} did not answer in time.") from exc

    async def models(self) -> list[ModelEntry]:
        """Return the models it offers; they have no digest, so none is the same as another's."""
        body = await self._json("GET", "/v1/models", timeout_s=LIST_TIMEOUT_S)
        rows = body.get("data") if isinstance(body, dict) else None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise ProtocolError(
                f"{self.url} gave no list of models.", hint="Is it an OpenAI-compatible server?"
            )
        return [_entry(row) for row in rows if isinstance(row.get("id"), str) and row["id"]]

    async def ps(self) -> list[RunningModel]:
        """Refuse: nobody tells what is in its memory."""
        raise self._cannot("tell what it has in memory")

    async def show(self, model: str, *, verbose: bool = False) -> dict[str, Any]:
        """Refuse: its models are only names."""
        raise self._cannot("describe its models")

    async def runner_of(self, model: str, digest: str) -> Runner:
        """Return the name."""
        return Runner(model)

    def known_runner(self, model: str, digest: str) -> Runner | None:
        """Return the name."""
        return Runner(model)

    async def load(
        self, model: str, options: Mapping[str, Any], keep_alive: float | None, *, embed: bool
    ) -> None:
        """Do nothing: it loads by itself with the first request, if it has not yet."""

    async def unload(self, model: str, *, embed: bool = False) -> Unloaded:
        """Refuse: it has no way to unload."""
        raise self._cannot("unload models")

    def _cannot(self, what: str) -> UnsupportedOperation:
        return UnsupportedOperation(
            f"The backend {self.name!r} is an OpenAI-compatible server and cannot {what}.",
            hint="Do it with that server's own tools.",
        )

    @asynccontextmanager
    async def stream(self, kind: Kind, body: Mapping[str, Any]) -> AsyncIterator[Stream]:
        """Run a chat or generate request; native lines come out."""
        path, payload = openai_request(kind, body)
        model = str(body.get("asked") or body["model"])
        top = body.get("top_logprobs") or 0
        translator = NativeTranslator(kind, model, load_s=None, top_logprobs=top)
        async with open_stream(self._client, path, payload) as response:
            lines = self._native(response, translator)
            async with aclosing(lines):
                yield lines

    async def _native(
        self, response: httpx.Response, translator: NativeTranslator
    ) -> AsyncGenerator[Lines, None]:
        splitter = SSESplitter()
        head = b""
        with translated(self.url, streaming=True):
            async for chunk in response.aiter_raw():
                head = head or chunk[:200]
                batch: Lines = []
                for data in splitter.feed(chunk):
                    batch += self._translated(data, translator)
                if batch:
                    yield batch
        rest = translator.close()
        if rest:
            yield [line.rstrip(b"\n") for line in rest]
        if not translator.ended:
            if head.lstrip().startswith(b"<"):
                raise ProtocolError(f"{self.url} answered a page instead of a stream.")
            raise StreamBroken("the backend closed the stream before the end")

    def _translated(self, data: bytes, translator: NativeTranslator) -> Lines:
        try:
            return [line.rstrip(b"\n") for line in translator.feed(data)]
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, AttributeError) as exc:
            raise ProtocolError(f"{self.url} sent an event that is no answer.") from exc

    async def embed(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return the vectors of texts."""
        texts = body.get("input") or []
        texts = [texts] if isinstance(texts, str) else list(texts)
        request = {"model": body["model"], "input": texts, "encoding_format": "float"}
        if body.get("dimensions"):
            request["dimensions"] = body["dimensions"]
        answer: Any = {"data": [], "usage": {}}
        if texts:
            answer = await self._json("POST", "/v1/embeddings", request)
        if not isinstance(answer, dict) or not isinstance(answer.get("data"), list):
            raise ProtocolError(f"{self.url} gave no vectors.")
        return llama_requests.embed_body(body, answer, load_s=None)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


# Names say it when nothing else does; a wrong guess only moves a model in a list.
_VECTORS = re.compile(r"embed|bge|gte-|e5-|minilm", re.IGNORECASE)


def _entry(row: Mapping[str, Any]) -> ModelEntry:
    name = str(row["id"])
    meta = row.get("meta")
    facts = meta if isinstance(meta, dict) else {}
    length = row.get("max_model_len") or facts.get("n_ctx_train") or row.get("max_context_length")
    size = facts.get("size")
    kind = "embedding" if _VECTORS.search(name) else "completion"
    return ModelEntry(
        name=name,
        digest="",
        size_bytes=size if isinstance(size, int) else None,
        context_length=length if isinstance(length, int) else None,
        capabilities=(kind,),
    )
