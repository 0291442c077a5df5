"""Responses that stream, and that notice when the client has gone."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Mapping
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

T = TypeVar("T")

NDJSON = "application/x-ndjson"
SSE = "text/event-stream"


class ClientGone(Exception):
    """The client closed its connection; nobody is left to answer."""


def json_response(
    body: object, status: int = 200, *, headers: Mapping[str, str] | None = None
) -> Response:
    """Return a JSON body, encoded the way Ollama names it."""
    return Response(
        msgspec.json.encode(body),
        status_code=status,
        headers=dict(headers or {}),
        media_type="application/json; charset=utf-8",
    )


class StreamResponse(Response):
    """Sends the chunks of a generator; when the client goes, the generator is closed at once.

    Closing the generator is what frees the model, so it is awaited.
    """

    def __init__(
        self,
        chunks: AsyncGenerator[bytes, None],
        *,
        media_type: str,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status_code=200, headers=dict(headers or {}), media_type=media_type)
        # Starlette announces the length of its (empty) body; a stream has none.
        del self.headers["content-length"]
        self._chunks = chunks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the generator ends or the client goes."""
        try:
            with contextlib.suppress(ClientGone):
                await _while_connected(receive, self._send(send))
        finally:
            await self._chunks.aclose()

    async def _send(self, send: Send) -> None:
        async with contextlib.aclosing(self._chunks) as chunks:
            start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
            await send(start)
            async for chunk in chunks:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})


async def while_connected(request: Request, work: Awaitable[T]) -> T:
    """Await `work`, but cancel it when the client goes.

    Raises:
        ClientGone: When the client went first.
    """
    result: T = await _while_connected(request.receive, work)
    return result


async def _while_connected(receive: Receive, work: Awaitable[Any]) -> Any:
    async def gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            continue

    task = asyncio.ensure_future(work)
    watch = asyncio.create_task(gone())
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            raise ClientGone
        return task.result()
    finally:
        for item in (task, watch):
            item.cancel()
        await asyncio.gather(task, watch, return_exceptions=True)


async def started(chunks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """Wait for the first chunk, so that an error before it is raised here and gets a status.

    Returns:
        A generator of all the chunks.
    """
    try:
        first = await anext(chunks)
    except StopAsyncIteration:
        first = b""

    async def whole() -> AsyncGenerator[bytes, None]:
        async with contextlib.aclosing(chunks):
            if first:
                yield first
            async for chunk in chunks:
                yield chunk

    return whole()
