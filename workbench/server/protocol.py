"""How long and how large what a client sends may be, before a route sees any of it.

uvicorn bounds none of it with its fast parser: a head of 2 MB is read, and a client that stops in
mid-request, or stops reading its answer, keeps its connection, and so a turn on a model, for ever.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from dataclasses import dataclass
from http import HTTPStatus
from typing import ClassVar, Literal

import msgspec
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from workbench.errors import ResponseError
from workbench.wire.ollama import error_body
from workbench.wire.openai import openai_error

if sys.platform == "linux":
    import fcntl
    import termios

log = logging.getLogger("workbench")

LEAST_RATE = 1024
"""Bytes per second below which a body counts as one that has stopped coming."""

# What a refused client still sends is read this long: a close before that would throw the answer
# away with what was not read (RFC 9112, 9.6).
LINGER_S = 2.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What a client may take.

    Attributes:
        head_bytes: Largest request line and headers together.
        slow_s: Seconds for the whole head of a request; and without progress for its body, and
            for reading an answer.
    """

    head_bytes: int
    slow_s: float


class _HeadTooLarge(Exception):
    """Ends the parser in the middle of a head."""


class GuardedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP, which refuses what is too large with 431 and what is too slow with 408.

    A running answer is never cut by a request behind it on the same connection, and an answer that
    has nothing to send for long is not touched.
    """

    limits: ClassVar[Limits]

    _part: Literal["idle", "head", "body", "socket"] = "idle"
    _begun = 0
    _head_bytes = 0
    _unparsed_bytes = 0
    _body_bytes = 0
    _unsent_bytes = 0
    _refused = False
    _receiving: asyncio.TimerHandle | None = None
    _sending: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request, but not for ever."""
        super().connection_made(transport)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Watch no more."""
        self._unwatch()
        if self._sending is not None:
            self._sending.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came, and watch what is still to come."""
        if self._refused:
            return
        before, self._begun = self._part, 0
        self._body_bytes += len(data)
        super().data_received(data)
        if self._ended():
            return
        if (before, self._begun) in (("head", 0), ("idle", 1)):
            # The parser holds a header back until its end, so its callbacks see none of it.
            self._unparsed_bytes += len(data)
        if self._part == "head" and self._unparsed_bytes > self.limits.head_bytes:
            self._refuse_large()
        elif self._part in ("head", "body") or (self._part == "idle" and self._silent()):
            self._watch()
        else:
            self._unwatch()

    def on_message_begin(self) -> None:
        """Begin to count a head."""
        super().on_message_begin()
        self._part, self._head_bytes, self._unparsed_bytes = "head", 0, 0
        self._begun += 1

    def on_url(self, url: bytes) -> None:
        """Count a piece of the address."""
        super().on_url(url)
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a header."""
        super().on_header(name, value)
        self._count(len(name) + len(value) + len(": \r\n"))

    def on_headers_complete(self) -> None:
        """Give the request to its route; from here on its body is watched."""
        # A socket is watched by its pings.
        upgraded = self.parser.should_upgrade() and self._should_upgrade()
        self._part = "socket" if upgraded else "body"
        self._unwatch()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Watch no more until the next request begins."""
        if self._part == "body":
            self._part = "idle"
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Say why the parser ended."""
        if self._head_bytes > self.limits.head_bytes:
            self._refuse_large()
        elif not self._answering():
            hint = "Speak HTTP/1.1 here; for https:// put a proxy in front."
            self._refuse(ResponseError("this is no HTTP request", status=400, hint=hint))
        else:
            self.transport.close()

    def pause_writing(self) -> None:
        """Watch a client that does not read as fast as it is written to."""
        super().pause_writing()
        self._watch_reader()

    def resume_writing(self) -> None:
        """Watch it no more."""
        if self._sending is not None:
            self._sending.cancel()
            self._sending = None
        super().resume_writing()

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > self.limits.head_bytes:
            raise _HeadTooLarge

    def _ended(self) -> bool:
        return self._refused or self.transport.is_closing()

    def _answering(self) -> bool:
        """Whether an earlier request of this connection has no whole answer yet."""
        # uvicorn has none before the first request, whatever its annotation says.
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete

    def _silent(self) -> bool:
        """Whether the connection waits for a request with nothing else to end it."""
        return not self._answering() and self.timeout_keep_alive_task is None

    def _watch(self) -> None:
        if self._receiving is None:
            self._body_bytes = 0
            self._receiving = self.loop.call_later(self.limits.slow_s, self._look)

    def _unwatch(self) -> None:
        if self._receiving is not None:
            self._receiving.cancel()
            self._receiving = None

    def _look(self) -> None:
        """End a connection whose time is over, unless it came on or waits for us."""
        self._receiving = None
        if self._ended():
            return
        if self._part == "idle":
            if self._silent():
                self.transport.close()
        elif self._part == "head" and self._answering():
            # It stands behind a running answer.
            self._watch()
        elif self._part == "head":
            self._refuse_slow("headers")
        elif self._waits_for_us() or self._body_bytes >= LEAST_RATE * self.limits.slow_s:
            self._watch()
        elif self.cycle.response_complete:
            # It was answered without its body, which nobody reads.
            self.transport.close()
        else:
            self._refuse_slow("body")

    def _waits_for_us(self) -> bool:
        """Whether a body does not come because we do not read it."""
        cycle = self.cycle
        asked = not cycle.waiting_for_100_continue
        answering = cycle.response_started and not cycle.response_complete
        return self.flow.read_paused or not asked or answering

    def _watch_reader(self) -> None:
        self._unsent_bytes = self._unsent()
        self._sending = self.loop.call_later(self.limits.slow_s, self._look_at_reader)

    def _look_at_reader(self) -> None:
        if self._unsent() < self._unsent_bytes:
            self._watch_reader()
            return
        log.warning(
            "a client read nothing of its answer for %g s and is let go", self.limits.slow_s
        )
        self.transport.abort()

    def _unsent(self) -> int:
        """Return how many bytes of the answer the client's side has not taken yet.

        The system takes megabytes at a time from us, so a slow reader moves nothing of ours for
        long; where the system tells (Linux), what it still holds counts too.
        """
        return self.transport.get_write_buffer_size() + _held_bytes(
            self.transport.get_extra_info("socket")
        )

    def _refuse_large(self) -> None:
        error = ResponseError(
            f"the request's headers are larger than {self.limits.head_bytes} bytes",
            status=431,
            hint="Send fewer headers, or raise server.max_header_bytes in workbench.toml.",
        )
        self._refuse(error)

    def _refuse_slow(self, part: str) -> None:
        error = ResponseError(
            f"the request's {part} did not come within {self.limits.slow_s:g} s",
            status=408,
            hint="Send it again at once, or raise server.slow_client_s in workbench.toml.",
        )
        self._refuse(error)

    def _refuse(self, error: ResponseError) -> None:
        """Answer in place of a route, read no more and close."""
        self._refused = True
        self._unwatch()
        if self.pipeline or (self._answering() and self._part != "body"):
            # The answer would stand in the middle of another.
            self.transport.close()
            return
        status = HTTPStatus(error.status or 400)
        openai = self._part != "idle" and self.url.startswith(b"/v1/")
        body = msgspec.json.encode(openai_error(error, status) if openai else error_body(error))
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\n"
            "content-type: application/json; charset=utf-8\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        if self.cycle is not None:
            # Its route waits for a body that is no longer read.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(LINGER_S, self.transport.close)


def _held_bytes(connection: socket.socket) -> int:
    """Return the bytes a system holds that the other side has not taken; 0 where it tells none."""
    if sys.platform != "linux":
        return 0
    return int.from_bytes(
        fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder
    )


def guarded(limits: Limits) -> type[GuardedProtocol]:
    """Return the protocol of a server with these limits."""
    return type("Guarded", (GuardedProtocol,), {"limits": limits})
