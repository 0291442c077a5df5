"""What a child process writes, kept in a file up to a limit, with secrets left out."""

from __future__ import annotations

from collections.abc import Iterable
from io import BufferedWriter
from pathlib import Path

HEAD_BYTES = 512 * 1024
"""Bytes from the beginning that are kept."""

TAIL_BYTES = 64 * 1024
"""Bytes from the end that are kept, when there are more than the first."""

_LONGEST_LINE = 64 * 1024


class KeptStream:
    """Writes a stream into a file as it comes; the file is made with the first byte.

    Args:
        hidden: Texts that are replaced by `***`, as far as they lie within a line.
    """

    def __init__(self, path: Path, hidden: Iterable[str]) -> None:
        self.path = path
        self._hidden = [text.encode() for text in hidden if text]
        self._file: BufferedWriter | None = None
        self._rest = b""
        self._written = 0
        self._tail = bytearray()
        self._left_out = 0

    def feed(self, data: bytes) -> None:
        """Take what arrived."""
        data = self._rest + data
        end = data.rfind(b"\n") + 1
        if not end and len(data) > _LONGEST_LINE:
            end = len(data)
        self._rest = data[end:]
        self._keep(data[:end])

    def close(self) -> None:
        """Write what waits, and the end of what was left out."""
        self._keep(self._rest)
        self._rest = b""
        if self._file is None:
            return
        if self._left_out:
            self._file.write(f"\n… {self._left_out:,} bytes left out …\n".encode())
        self._file.write(self._tail)
        self._file.close()
        self._file = None

    def _keep(self, data: bytes) -> None:
        for text in self._hidden:
            data = data.replace(text, b"***")
        if not data:
            return
        if self._file is None:
            self._file = self.path.open("wb")
        head = data[: max(0, HEAD_BYTES - self._written)]
        if head:
            self._file.write(head)
            self._file.flush()
            self._written += len(head)
        self._tail += data[len(head) :]
        if (excess := len(self._tail) - TAIL_BYTES) > 0:
            del self._tail[:excess]
            self._left_out += excess
