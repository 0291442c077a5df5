"""`/workbench/v1/events` as a WebSocket: the same objects as over HTTP, one per text message."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

from starlette.websockets import WebSocket, WebSocketDisconnect

from workbench.server.auth import SUBPROTOCOL
from workbench.server.core import Core
from workbench.wire.ollama import encode_line


async def events_socket(socket: WebSocket) -> None:
    """Send events until the client closes; what it sends is read and left."""
    offered = socket.scope.get("subprotocols") or []
    # A browser that offers protocols fails unless one of them is taken.
    known = [protocol for protocol in offered if protocol.startswith(SUBPROTOCOL)]
    await socket.accept(subprotocol=known[0] if known else None)
    core: Core = socket.app.state.core
    recent = socket.query_params.get("recent", "1") != "0"
    sending = asyncio.create_task(_send(socket, core, recent=recent))
    leaving = asyncio.create_task(_gone(socket))
    try:
        await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not leaving.done():
            await socket.close(1001)
    finally:
        for task in (sending, leaving):
            task.cancel()
        await asyncio.gather(sending, leaving, return_exceptions=True)


async def _gone(socket: WebSocket) -> None:
    while (await socket.receive())["type"] != "websocket.disconnect":
        continue


async def _send(socket: WebSocket, core: Core, *, recent: bool) -> None:
    with core.residency.watched():
        async with aclosing(core.events.follow(recent=recent)) as following:
            async for event in following:
                try:
                    await socket.send_text(encode_line(event).decode().rstrip())
                except (WebSocketDisconnect, RuntimeError):
                    return
