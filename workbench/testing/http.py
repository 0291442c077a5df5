"""A small HTTP/1.1 server side on bare asyncio sockets.

The known servers hide what a double has to control: where a chunk ends, a body that stops
at any byte, a connection that is reset, and the moment at which the client is gone.
"""

from __future__ import annotations

import array
import asyncio
import concurrent.futures
import contextlib
import itertools
import json
import re
import socket
import struct
import sys
import threading
import time
import weakref
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any, TypeVar

from workbench.testing.scripts import Gate, RecordedRequest

_HEAD_LIMIT_BYTES = 65536
_SIOCOUTQNSD = 0x894B  # linux/sockios.h: bytes in the send queue that were not sent yet
_HEX = re.compile(rb"[0-9a-fA-F]+")

T = TypeVar("T")
Handler = Callable[["Exchange"], Awaitable[None]]


class BadRequestError(Exception):
    """Raised when what the client sent is not HTTP/1.1."""


class Exchange:
    """One request and the way its answer takes to the socket."""

    def __init__(self, connection: Connection, request: RecordedRequest) -> None:
        self.request = request
        self.started = False
        self.must_close = request.headers.get("connection", "").lower() == "close"
        self._connection = connection
        self._chunked = False

    def start(
        self,
        status: int,
        content_type: str,
        *,
        length: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Send status and headers; without a length the body is chunked."""
        self.started = True
        self._chunked = length is None
        lines = [f"HTTP/1.1 {status} {_phrase(status)}", f"Content-Type: {content_type}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        lines.append(
            "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
        )
        if self.must_close:
            lines.append("Connection: close")
        self._write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))

    def chunk(self, data: bytes) -> None:
        """Send one piece of the body, as one HTTP chunk when the body is chunked."""
        if self.request.method == "HEAD" or not data:
            return
        self._write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    def end(self) -> None:
        """End the response in order."""
        if self._chunked and self.request.method != "HEAD":
            self._write(b"0\r\n\r\n")

    async def room(self) -> None:
        """Wait while the client reads slower than the answer is written."""
        await self._connection.writable.wait()

    async def send(
        self,
        status: int,
        body: bytes,
        content_type: str,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Send a whole response with its length."""
        self.start(status, content_type, length=len(body), headers=headers)
        self.chunk(body)
        await self._connection.flushed()

    async def send_json(
        self, status: int, value: Any, *, headers: Mapping[str, str] | None = None
    ) -> None:
        """Send a whole JSON response."""
        body = dumps(value)
        await self.send(status, body, "application/json; charset=utf-8", headers=headers)

    async def flushed(self) -> None:
        """Wait until everything written lies in the operating system."""
        await self._connection.flushed()

    async def close(self) -> None:
        """Close the connection without an end of the response."""
        await self._connection.flushed()
        self.must_close = True

    async def reset(self) -> None:
        """Send what was written so far, then RST."""
        self.must_close = True
        await self._connection.reset()

    def _write(self, data: bytes) -> None:
        if self.request.first_byte_at is None:
            self.request.first_byte_at = time.monotonic()
        self._connection.write(data)


class Connection(asyncio.Protocol):
    """One client connection: reads requests, notices at once when the client leaves."""

    def __init__(self, handler: Handler, open_connections: set[Connection], number: int) -> None:
        self.writable = asyncio.Event()
        self.writable.set()
        self.closed = asyncio.Event()
        self._handler = handler
        self._open = open_connections
        self._number = number
        self._buffer = bytearray()
        self._news = asyncio.Event()
        self._eof = False
        self._active: RecordedRequest | None = None
        self._transport: asyncio.Transport
        self._task: asyncio.Task[None]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to serve."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._open.add(self)
        self._task = asyncio.get_running_loop().create_task(self._serve())

    def data_received(self, data: bytes) -> None:
        """Keep what came for the reader."""
        self._buffer += data
        self._news.set()

    def eof_received(self) -> bool:
        """Take a closed sending side as a client that left, as Go's server does."""
        self._client_left()
        return True  # the serving task closes the transport

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the socket is closed."""
        self._client_left()
        self._open.discard(self)
        self.writable.set()
        self.closed.set()

    def pause_writing(self) -> None:
        """Make writers wait."""
        self.writable.clear()

    def resume_writing(self) -> None:
        """Let writers go on."""
        self.writable.set()

    def write(self, data: bytes) -> None:
        """Write bytes as they are."""
        self._transport.write(data)

    async def flushed(self) -> None:
        """Wait until the transport's own buffer is empty."""
        self._transport.set_write_buffer_limits(high=0)
        await self.writable.wait()
        self._transport.set_write_buffer_limits()

    async def reset(self) -> None:
        """Let the written bytes reach the client, then close with RST."""
        await self.flushed()
        sock = self._transport.get_extra_info("socket")
        deadline = time.monotonic() + 1.0
        # The kernel tells the length of its queue only to those who ask again.
        while _unsent_bytes(sock) and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    async def shut(self) -> None:
        """Close at once and wait until nothing of the connection is left."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._transport.abort()
        await self.closed.wait()

    def _client_left(self) -> None:
        self._eof = True
        self._news.set()
        if self._active is not None:
            self._active.disconnected.set()
            self._task.cancel()

    async def _serve(self) -> None:
        try:
            while (request := await self._read_request()) is not None:
                if await self._answer(request):
                    break
        except BadRequestError:
            self.write(
                b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            )
        finally:
            self._transport.close()

    async def _answer(self, request: RecordedRequest) -> bool:
        """Run the handler; say whether the connection is to be closed."""
        exchange = Exchange(self, request)
        self._active = request
        if self._eof:  # it left together with its last byte; the request is recorded all the same
            self._client_left()
        try:
            await self._handler(exchange)
        finally:
            self._active = None
            request.finished_at = time.monotonic()
            request.finished.set()
        return exchange.must_close

    async def _read_request(self) -> RecordedRequest | None:
        """Return the next request, or ``None`` when the client has no more."""
        head = await self._until(b"\r\n\r\n")
        if head is None:
            return None
        first, *lines = head.decode("latin-1").split("\r\n")
        parts = first.split(" ")
        if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
            raise BadRequestError(first)
        headers = dict(_header(line) for line in lines if line)
        if headers.get("expect", "").lower() == "100-continue":
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await self._read_body(headers)
        if body is None:
            return None
        request = RecordedRequest(
            method=parts[0],
            target=parts[1],
            headers=headers,
            body=body,
            gate=Gate(asyncio.get_running_loop()),
            connection=self._number,
        )
        request.received_at = time.monotonic()
        return request

    async def _read_body(self, headers: Mapping[str, str]) -> bytes | None:
        if headers.get("transfer-encoding", "").lower() != "chunked":
            length = headers.get("content-length", "0")
            if not length.isdigit():
                raise BadRequestError(length)
            return await self._exactly(int(length))
        body = bytearray()
        while (line := await self._until(b"\r\n")) is not None:
            size = _HEX.match(line)
            if size is None:
                raise BadRequestError(repr(line))
            data = await self._exactly(int(size.group(), 16) + 2)
            if data is None or len(data) == 2:
                return bytes(body) if data is not None else None
            body += data[:-2]
        return None

    async def _until(self, mark: bytes) -> bytes | None:
        """Take the bytes up to a mark; ``None`` when the client ended before it."""
        while (at := self._buffer.find(mark)) < 0:
            if len(self._buffer) > _HEAD_LIMIT_BYTES:
                raise BadRequestError("the head is too long")
            if not await self._more():
                return None
        taken = bytes(self._buffer[:at])
        del self._buffer[: at + len(mark)]
        return taken

    async def _exactly(self, count: int) -> bytes | None:
        """Take so many bytes; ``None`` when the client ended before them."""
        while len(self._buffer) < count:
            if not await self._more():
                return None
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    async def _more(self) -> bool:
        """Wait for more bytes; say whether any can still come."""
        if self._eof:
            return False
        self._news.clear()
        await self._news.wait()
        return True


class Listener:
    """A listening socket with an event loop in a thread of its own.

    It knows its handler by a weak reference, so that an owner who forgets to stop it can be
    collected and warn.
    """

    def __init__(self, handler: Handler, *, name: str) -> None:
        self._handler = weakref.WeakMethod(handler)
        self._connections: set[Connection] = set()
        self._numbers = itertools.count(1)
        self._ready: concurrent.futures.Future[int] = concurrent.futures.Future()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._address = ("", 0)
        self._loop: asyncio.AbstractEventLoop
        self._stop: asyncio.Event

    def start(self, host: str, port: int) -> int:
        """Listen and return the port; raises OSError when it is taken."""
        self._address = (host, port)
        self._thread.start()
        try:
            return self._ready.result()
        except OSError:
            self._thread.join()
            raise

    def stop(self) -> None:
        """Close every connection and end the thread."""
        self._loop.call_soon_threadsafe(self._stop.set)
        if self._thread is not threading.current_thread():
            self._thread.join()

    def read(self, function: Callable[[], T]) -> T:
        """Return what a function reads on the thread, between two steps of its loop."""
        if self._thread is threading.current_thread():
            return function()

        async def call() -> T:
            return function()

        return asyncio.run_coroutine_threadsafe(call(), self._loop).result()

    def _run(self) -> None:
        asyncio.run(self._main())

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        try:
            server = await self._loop.create_server(
                lambda: Connection(self._handle, self._connections, next(self._numbers)),
                *self._address,
            )
        except OSError as exc:
            self._ready.set_exception(exc)
            return
        self._ready.set_result(server.sockets[0].getsockname()[1])
        await self._stop.wait()
        server.close()
        await asyncio.sleep(0)  # a connection accepted just now is not in the set yet
        while self._connections:
            await asyncio.gather(*(item.shut() for item in list(self._connections)))

    async def _handle(self, exchange: Exchange) -> None:
        handler = self._handler()
        if handler is not None:
            await handler(exchange)


def dumps(value: Any) -> bytes:
    """Return compact JSON in UTF-8, with every character as itself."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _header(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon:
        raise BadRequestError(line)
    return name.strip().lower(), value.strip()


def _phrase(status: int) -> str:
    with contextlib.suppress(ValueError):
        return HTTPStatus(status).phrase
    return "Status"


def _unsent_bytes(sock: Any) -> int:
    """Return the bytes that the kernel holds back, 0 where it does not tell."""
    if sys.platform != "linux":
        return 0
    import fcntl  # only where it exists

    count = array.array("i", [0])
    try:
        fcntl.ioctl(sock.fileno(), _SIOCOUTQNSD, count, True)
    except OSError:
        return 0
    return count[0]
