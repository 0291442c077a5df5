"""Typed calls of the server's own endpoints and of `/api/*`."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from workbench.client.decode import as_object, convert, own
from workbench.client.http import Context, Deadlines
from workbench.client.memory_api import PLAIN, QUICK_S, MemoryClient
from workbench.client.values import DefaultModel, ServerInfo
from workbench.errors import ConfigError, ResponseError
from workbench.messages import GenerateConfig, Message, StreamEvent

Image = str | bytes | Path
"""Image bytes, the path of a file, or base64 text."""

_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")


class WorkbenchClient(MemoryClient):
    """The async client of one workbench server.

    `/api/*` calls also work against a plain Ollama.
    """

    async def info(self) -> ServerInfo:
        """Return what the server says about itself."""
        return convert(await self._get("info"), ServerInfo)

    async def default_model(self) -> DefaultModel:
        """Return the model to use when none is named.

        Raises:
            ResponseError: With status 404 when no model is installed.
        """
        try:
            return convert(await self._get("models/default"), DefaultModel)
        except ResponseError as exc:
            if exc.status != 404:
                raise
            raise ResponseError(
                "There is no model to use by default.",
                status=404,
                hint="Name one with model='...', or install one.",
            ) from exc

    async def post_rows(self, table: str, rows: list[dict[str, Any]]) -> None:
        """Give the server rows that this process recorded; a row given twice counts once."""
        body = {"table": table, "rows": rows}
        await self.request_json("POST", own("records"), body, timeout_s=QUICK_S)

    async def show(self, model: str) -> dict[str, Any]:
        """Return what `/api/show` says about a model: template, parameters, GGUF header."""
        return as_object(await self.request_json("POST", "/api/show", {"model": model}))

    async def version(self) -> str:
        """Return the version `/api/version` names."""
        body = await self.request_json("GET", "/api/version", timeout_s=QUICK_S)
        return str(as_object(body).get("version", ""))

    async def embed(
        self,
        texts: str | Sequence[str],
        model: str,
        *,
        config: GenerateConfig = PLAIN,
        context: Context | None = None,
    ) -> list[list[float]]:
        """Return one vector per text."""
        body = {"model": model, "input": texts, **config.to_wire()}
        answer = await self.request_json("POST", "/api/embed", body, context=context)
        vectors = convert(as_object(answer).get("embeddings"), list[list[float]])
        return vectors

    def chat_batches(
        self,
        model: str,
        messages: Iterable[Message],
        *,
        config: GenerateConfig = PLAIN,
        tools: Sequence[Mapping[str, Any]] = (),
        context: Context | None = None,
        deadlines: Deadlines | None = None,
    ) -> AsyncGenerator[list[StreamEvent], None]:
        """Ask for the next message and yield its events; see `stream_batches`."""
        body: dict[str, Any] = {
            "model": model,
            "messages": [message.to_wire() for message in messages],
            **config.to_wire(),
        }
        if tools:
            body["tools"] = list(tools)
        return self.stream_batches("/api/chat", body, context=context, deadlines=deadlines)

    def generate_batches(
        self,
        model: str,
        prompt: str,
        *,
        system: str | None = None,
        images: Sequence[str] = (),
        config: GenerateConfig = PLAIN,
        context: Context | None = None,
        deadlines: Deadlines | None = None,
    ) -> AsyncGenerator[list[StreamEvent], None]:
        """Ask for the answer to one prompt and yield its events; see `stream_batches`."""
        body: dict[str, Any] = {"model": model, "prompt": prompt, **config.to_wire()}
        if system is not None:
            body["system"] = system
        if images:
            body["images"] = list(images)
        return self.stream_batches("/api/generate", body, context=context, deadlines=deadlines)


def encode_images(images: Iterable[Image]) -> tuple[str, ...]:
    """Return each image as base64 text; reads files, so not for the event loop.

    Raises:
        ConfigError: When a text is neither the path of a file nor base64.
    """
    return tuple(_encode_image(image) for image in images)


def _encode_image(image: Image) -> str:
    if isinstance(image, bytes):
        return base64.b64encode(image).decode()
    if isinstance(image, Path):
        return base64.b64encode(image.read_bytes()).decode()
    # A name longer than any path is base64; asking the file system for it is an error.
    if len(image) < 1024 and Path(image).is_file():
        return base64.b64encode(Path(image).read_bytes()).decode()
    if not _BASE64.fullmatch(image):
        raise ConfigError(f"no image file {image[:80]!r}.", key="images")
    try:
        base64.b64decode(image, validate=True)
    except binascii.Error as exc:
        raise ConfigError(f"an image is not base64: {exc}.", key="images") from exc
    return image
