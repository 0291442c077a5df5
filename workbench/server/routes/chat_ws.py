"""`/workbench/v1/chat`: the library's events over one WebSocket, several chats at once.

The client sends `{"type": "chat" | "generate", "id": ..., "body": {...}}` with a native body, and
`{"type": "cancel", "id": ...}`.  The server sends frames that carry the same id: `open`, `phase`,
`text`, `reasoning`, `tool_call`, `error` (with the partial text) and `end` (with the reason).
After an error in mid-stream, when no other chat runs, the server closes normally (1000).
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing
from typing import Any

import msgspec
from starlette.websockets import WebSocket, WebSocketDisconnect

from workbench.errors import ResponseError, WorkbenchError
from workbench.messages import (
    Failed,
    Finished,
    Opened,
    Phase,
    ReasoningDelta,
    StreamEvent,
    TextDelta,
    ToolCallDelta,
)
from workbench.server import schemas
from workbench.server.answer import Job, answer_lines
from workbench.server.auth import SUBPROTOCOL, TOKEN_NAME
from workbench.server.core import Core
from workbench.server.routes.common import deadline_of, keep_alive_of
from workbench.units import sortable_id
from workbench.wire.headers import PRIORITY, TRACEPARENT, read_context
from workbench.wire.ollama import StreamDecoder, error_body

log = logging.getLogger("workbench")

_BODIES: dict[str, type[Any]] = {
    "chat": schemas.ChatRequest,
    "generate": schemas.GenerateRequest,
}


class Start(msgspec.Struct, kw_only=True):
    """A message of the client."""

    type: str
    id: str = ""
    body: dict[str, Any] | None = None


async def chat_socket(socket: WebSocket) -> None:
    """Serve one connection until the client closes it."""
    offered = socket.scope.get("subprotocols") or []
    # A browser that offers protocols fails unless one of them is taken.
    known = [protocol for protocol in offered if protocol.startswith(SUBPROTOCOL)]
    await socket.accept(subprotocol=known[0] if known else None)
    connection = _Connection(socket, socket.app.state.core)
    try:
        # `disconnect` also comes after a close of ours.
        while (message := await socket.receive())["type"] != "websocket.disconnect":
            await connection.handle(message.get("text"))
    finally:
        await connection.close()


class _Connection:
    def __init__(self, socket: WebSocket, core: Core) -> None:
        self._socket = socket
        self._core = core
        self._chats: dict[str, asyncio.Task[None]] = {}
        self._sending = asyncio.Lock()

    async def handle(self, text: str | None) -> None:
        """Act on one message; a message that is wrong, or not text, gets an error frame."""
        message = Start(type="")
        try:
            if text is None:
                raise ResponseError("a message is JSON text, not bytes", status=400)
            message = msgspec.json.decode(text, type=Start)
            if message.type == "cancel":
                self._cancel(message.id)
            elif message.type in _BODIES:
                self._start(message)
            else:
                raise ResponseError(f"unknown message type {message.type!r}", status=400)
        except (msgspec.DecodeError, RecursionError) as exc:
            await self._error(message.id, ResponseError(f"not a message: {exc}", status=400))
        except WorkbenchError as exc:
            await self._error(message.id, exc)

    def _cancel(self, chat: str) -> None:
        task = self._chats.get(chat)
        if task is None:
            raise ResponseError(f"no chat {chat!r} runs", status=404)
        if not task.cancelling():
            task.cancel()

    def _start(self, message: Start) -> None:
        chat = message.id or sortable_id()
        if chat in self._chats:
            raise ResponseError(f"a chat {chat!r} already runs", status=409)
        task = asyncio.create_task(self._run(chat, message))
        self._chats[chat] = task
        task.add_done_callback(lambda _: self._chats.pop(chat, None))

    async def _run(self, chat: str, message: Start) -> None:
        decoder = StreamDecoder()
        try:
            job = await self._job(message)
            async with aclosing(answer_lines(self._core, job)) as batches:
                async for lines in batches:
                    for line in lines:
                        for event in decoder.feed(line):
                            await self._event(chat, event, decoder)
        except WorkbenchError as exc:
            await self._error(chat, exc, partial=decoder.partial)
            await self._send(chat, "end", reason="error")
        except asyncio.CancelledError:
            await self._send(chat, "end", reason="cancelled", partial=decoder.partial)
        except Exception as exc:
            log.exception("a chat over a socket failed unexpectedly")
            error = ResponseError(f"internal error: {type(exc).__name__}", status=500)
            await self._error(chat, error, partial=decoder.partial)
            await self._send(chat, "end", reason="error")
        else:
            await self._close_after_error(chat, decoder)

    async def _job(self, message: Start) -> Job:
        body = message.body or {}
        try:
            msgspec.convert(body, _BODIES[message.type])
        except msgspec.ValidationError as exc:
            raise ResponseError(f"the body is not as it must be: {exc}", status=400) from exc
        keep_alive_of(body)
        target = await self._core.catalog.resolve(body.get("model") or "")
        known = {**body, "model": target.entry.name, "stream": True}
        return Job(
            kind="chat" if message.type == "chat" else "generate",
            target=target,
            body=known,
            wants_events=True,
            context=read_context(self._socket.headers),
            client=self._socket.headers.get("user-agent", ""),
            token_name=self._socket.scope[TOKEN_NAME],
            interactive=self._socket.headers.get(PRIORITY, "interactive") != "batch",
            traceparent=self._socket.headers.get(TRACEPARENT),
            deadline_s=deadline_of(self._socket.headers),
        )

    async def _event(self, chat: str, event: StreamEvent, decoder: StreamDecoder) -> None:
        match event:
            case Opened(model, request_id):
                await self._send(chat, "open", model=model, request_id=request_id)
            case Phase(name, seconds, size, detail):
                await self._send(
                    chat, "phase", phase=name, seconds=seconds, bytes=size, detail=detail
                )
            case TextDelta(text):
                await self._send(chat, "text", text=text)
            case ReasoningDelta(text):
                await self._send(chat, "reasoning", text=text)
            case ToolCallDelta(call):
                arguments = dict(call.arguments)
                await self._send(chat, "tool_call", name=call.name, arguments=arguments)
            case Failed(error):
                await self._error(chat, error, partial=decoder.partial)
                await self._send(chat, "end", reason="error")
            case Finished(reason, usage, timings):
                await self._send(
                    chat,
                    "end",
                    reason=reason,
                    usage=msgspec.to_builtins(usage),
                    timings=msgspec.to_builtins(timings),
                )

    async def _close_after_error(self, chat: str, decoder: StreamDecoder) -> None:
        others = [name for name in self._chats if name != chat]
        if decoder.failed and not others:
            await self._socket.close(1000)

    async def _error(self, chat: str, error: WorkbenchError, *, partial: str = "") -> None:
        await self._send(chat, "error", **error_body(error), partial=partial)

    async def _send(self, chat: str, kind: str, **fields: Any) -> None:
        # An error body names its class in `type`; the frame's own type stands above it.
        if "type" in fields:
            fields["error_type"] = fields.pop("type")
        frame = msgspec.json.encode({"type": kind, "id": chat, **fields}).decode()
        async with self._sending:
            try:
                await self._socket.send_text(frame)
            except (WebSocketDisconnect, RuntimeError):
                # The client is gone; its chats are cancelled by `close`.
                return

    async def close(self) -> None:
        """Cancel every chat of this connection, which frees their models."""
        for task in list(self._chats.values()):
            task.cancel()
        await asyncio.gather(*self._chats.values(), return_exceptions=True)
