"""The playing of one script on one exchange: pace, pieces, faults."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from workbench.testing.http import Exchange
from workbench.testing.scripts import Reply

_COALESCED_BYTES = 16384
_YIELD_EVERY = 32


@dataclass(frozen=True)
class Stream:
    """The parts of one streamed answer, in the dialect of a server.

    Args:
        content_type: Of the whole response.
        pieces: One per token, tool call or progress line.
        tail: Makes the closing pieces once the others are sent.
        opening: Sent together with the first piece, and not counted.
        error: Makes the line of an error inside the stream.
        garbage: A line that is not JSON.
    """

    content_type: str
    pieces: Sequence[bytes] | Iterator[bytes]
    tail: Callable[[], list[bytes]]
    error: Callable[[str], bytes]
    opening: bytes = b""
    garbage: bytes = b"this is not JSON\n"


class ScriptedError(Exception):
    """Raised when the script ends an unstreamed answer with an error."""


class CutError(Exception):
    """Raised when the script has ended the answer before its end."""


class Pen:
    """Writes pieces as the script wants them cut, and stops where it says so."""

    def __init__(self, exchange: Exchange, reply: Reply, stream: Stream) -> None:
        self._exchange = exchange
        self._reply = reply
        self._stream = stream
        self._joins = reply.coalesce and reply.tokens_per_s is None
        self._held = b""
        self._left = reply.truncate_at_byte
        self._opening = stream.opening
        self._plain = reply.chunk_bytes is None and self._left is None and not reply.split_utf8

    def start(self) -> None:
        """Send status and headers unless they are out."""
        if not self._exchange.started:
            self._exchange.start(200, self._stream.content_type, headers=self._reply.headers)

    async def write(self, piece: bytes) -> None:
        """Write one piece; raise CutError where the body is to end."""
        self.start()
        if self._opening:
            piece, self._opening = self._opening + piece, b""
        if self._joins:
            self._held += piece
            if len(self._held) < _COALESCED_BYTES:
                return
            piece, self._held = self._held, b""
        await self._put(piece)

    async def flush(self) -> None:
        """Write what was held back."""
        held, self._held = self._held, b""
        if held:
            await self._put(held)

    async def _put(self, piece: bytes) -> None:
        if self._plain:
            self._exchange.chunk(piece)
            return
        cut = self._left is not None and self._left <= len(piece)
        if self._left is not None:
            piece = piece[: self._left]
            self._left -= len(piece)
        for part in _parts(piece, self._reply):
            self._exchange.chunk(part)
            await self._exchange.flushed()
        if cut:
            await finish_cut(self._exchange, self._reply)
            raise CutError


async def finish_cut(exchange: Exchange, reply: Reply) -> None:
    """End a truncated body in the way the script asks for."""
    if reply.cut == "reset":
        await exchange.reset()
    elif reply.cut == "close":
        await exchange.close()
    else:
        exchange.end()


async def play(exchange: Exchange, reply: Reply, stream: Stream) -> None:
    """Send one scripted stream, with its pace and its faults."""
    if reply.raw is not None:
        pieces: Sequence[bytes] | Iterator[bytes] = [reply.raw]
        stream = Stream(stream.content_type, pieces, list, stream.error)
    pen = Pen(exchange, reply, stream)
    if reply.headers_first:
        pen.start()
    if reply.truncate_at_byte == 0:
        pen.start()
        await finish_cut(exchange, reply)
        return
    try:
        await _play(exchange, reply, stream, pen)
        await pen.flush()
    except CutError:
        return
    pen.start()
    exchange.end()
    await exchange.flushed()


async def _play(exchange: Exchange, reply: Reply, stream: Stream, pen: Pen) -> None:
    marks = _marks(reply)
    request = exchange.request
    await asyncio.sleep(reply.first_token_s)
    began = time.monotonic()
    for count, piece in enumerate(stream.pieces, start=1):
        if count - 1 in marks:
            marks.remove(count - 1)
            if await _mark(exchange, reply, stream, pen, at=count - 1):
                return
        if reply.tokens_per_s is not None:
            await _pace(began + (count - 1) / reply.tokens_per_s)
        await pen.write(piece)
        request.pieces_sent = count
        if count % _YIELD_EVERY == 0:
            await asyncio.sleep(0)
        await exchange.room()
    for mark in sorted(marks):
        if await _mark(exchange, reply, stream, pen, at=mark):
            return
    if not reply.no_done:
        tail = stream.tail()
        for piece in [*tail, *(tail if reply.done_twice else [])]:
            await pen.write(piece)
    if reply.after_done:
        await pen.write(reply.after_done)


async def wait_out(exchange: Exchange, reply: Reply, pieces: int) -> None:
    """Spend the time and the faults of a stream whose pieces the client does not see."""
    marks = _marks(reply)
    await asyncio.sleep(reply.first_token_s)
    began = time.monotonic()
    for mark in sorted(marks):
        await _wait_pieces(reply, began, min(mark, pieces))
        if reply.stall_after == mark:
            await exchange.request.stall(reply.stall_s)
        if reply.error_after is not None and reply.error_after[0] == mark:
            raise ScriptedError(reply.error_after[1])
        if reply.reset_after == mark:
            await exchange.reset()
            raise CutError
    await _wait_pieces(reply, began, pieces)


async def send_body(exchange: Exchange, reply: Reply, body: bytes, content_type: str) -> None:
    """Send an unstreamed answer, cut where the script says so."""
    body = body if reply.raw is None else reply.raw
    at = reply.truncate_at_byte
    if at is None or at >= len(body):
        await exchange.send(200, body, content_type, headers=reply.headers)
        return
    exchange.start(200, content_type, length=len(body), headers=reply.headers)
    exchange.chunk(body[:at])
    # A body shorter than its Content-Length has no orderly end but a closed connection.
    await (exchange.reset() if reply.cut == "reset" else exchange.close())


def _marks(reply: Reply) -> set[int]:
    """Return the positions at which something happens."""
    found = {
        reply.stall_after,
        reply.error_after[0] if reply.error_after else None,
        reply.reset_after,
        reply.blank_line_after,
        reply.garbage_line_after,
    }
    return {position for position in found if position is not None}


async def _mark(exchange: Exchange, reply: Reply, stream: Stream, pen: Pen, *, at: int) -> bool:
    """Do what the script has for a position; say whether the stream ends there."""
    await pen.flush()
    if reply.blank_line_after == at:
        await pen.write(b"\n")
    if reply.garbage_line_after == at:
        await pen.write(stream.garbage)
    await pen.flush()
    if reply.stall_after == at:
        await exchange.request.stall(reply.stall_s)
    if reply.error_after is not None and reply.error_after[0] == at:
        await pen.write(stream.error(reply.error_after[1]))
        return True
    if reply.reset_after == at:
        pen.start()
        await exchange.reset()
        raise CutError
    return False


async def _pace(due: float) -> None:
    """Sleep until a moment of ``time.monotonic()``; late pieces catch up."""
    if (delay := due - time.monotonic()) > 0:
        await asyncio.sleep(delay)


async def _wait_pieces(reply: Reply, began: float, pieces: int) -> None:
    if reply.tokens_per_s is not None:
        await _pace(began + pieces / reply.tokens_per_s)


def _parts(piece: bytes, reply: Reply) -> list[bytes]:
    """Cut one piece into the HTTP chunks that the script asks for."""
    if reply.chunk_bytes is not None:
        size = reply.chunk_bytes
        return [piece[at : at + size] for at in range(0, len(piece), size)]
    inside = next((at for at, byte in enumerate(piece) if byte & 0xC0 == 0x80), 0)
    return [piece[:inside], piece[inside:]] if reply.split_utf8 and inside else [piece]
