"""Cut a byte stream into NDJSON lines and server-sent events.

Only a line feed ends a line.  `str.splitlines` and httpx's `iter_lines` also cut at U+2028, U+2029
and U+0085, which are legal inside a JSON string, and so break an answer that contains them.
"""

from __future__ import annotations

from collections.abc import Iterator

from workbench.errors import ProtocolError

MAX_LINE_BYTES = 64 * 1024 * 1024
"""A longer line is refused: an answer of that size in one line is a fault, not a token."""


class LineSplitter:
    """Collects chunks of bytes and gives back whole lines, without line feeds and blank lines.

    Raises:
        ProtocolError: From `feed`, when a line grows past `max_bytes`.
    """

    def __init__(self, *, max_bytes: int = MAX_LINE_BYTES) -> None:
        self._rest: list[bytes] = []
        self._rest_bytes = 0
        self._max_bytes = max_bytes

    def feed(self, chunk: bytes) -> list[bytes]:
        """Take a chunk and return the lines it completed."""
        cut = chunk.rfind(b"\n")
        if cut < 0:
            self._keep(chunk)
            return []
        whole = chunk[:cut]
        if self._rest:
            whole = b"".join((*self._rest, whole))
            self._rest, self._rest_bytes = [], 0
        self._keep(chunk[cut + 1 :])
        # A model server may end lines with \r\n or put a blank line between them.
        return [line for line in whole.split(b"\n") if line and not line.isspace()]

    def _keep(self, part: bytes) -> None:
        if not part:
            return
        self._rest.append(part)
        self._rest_bytes += len(part)
        if self._rest_bytes > self._max_bytes:
            raise ProtocolError(f"A line of more than {self._max_bytes} bytes arrived.")

    def close(self) -> bytes:
        """Return what was left without a line end, and forget it."""
        rest, self._rest, self._rest_bytes = b"".join(self._rest), [], 0
        return rest if rest.strip() else b""


class SSESplitter:
    """Collects chunks of bytes and gives back the data of each server-sent event.

    Comments and the fields `event`, `id` and `retry` are left out; several `data` lines of one
    event are joined by a line feed.  Source: WHATWG HTML, section 9.2.6.
    """

    def __init__(self, *, max_bytes: int = MAX_LINE_BYTES) -> None:
        self._buffer = b""
        self._max_bytes = max_bytes

    def feed(self, chunk: bytes) -> list[bytes]:
        """Take a chunk and return the data of the events it completed."""
        buffer = (self._buffer + chunk).replace(b"\r\n", b"\n")
        *events, self._buffer = buffer.split(b"\n\n")
        if len(self._buffer) > self._max_bytes:
            raise ProtocolError(f"An event of more than {self._max_bytes} bytes arrived.")
        return [data for event in events if (data := self._data(event)) is not None]

    def close(self) -> bytes:
        """Return the data of a last event that was not ended by a blank line, or nothing."""
        rest, self._buffer = self._buffer, b""
        return self._data(rest) or b""

    @staticmethod
    def _data(event: bytes) -> bytes | None:
        parts = list(_data_lines(event))
        return b"\n".join(parts) if parts else None


def _data_lines(event: bytes) -> Iterator[bytes]:
    for line in event.split(b"\n"):
        if line.startswith(b"data:"):
            value = line[5:]
            yield value[1:] if value.startswith(b" ") else value
