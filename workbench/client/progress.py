"""Printing how far a download is: one line that changes where it can, else a line per step."""

from __future__ import annotations

from collections.abc import Callable

from workbench.client.memory_values import PullProgress
from workbench.units import format_bytes

_WIDTH = 24


class PullPrinter:
    """Writes the progress of one download.

    Args:
        write: Takes text, as `print(..., end="")` does.
        live: Whether a line can be written over; else there is a line per step and no bar.
    """

    def __init__(self, write: Callable[[str], object], *, live: bool) -> None:
        self._write = write
        self._live = live
        self._step: tuple[str, str | None] | None = None
        self._length = 0

    def feed(self, progress: PullProgress) -> None:
        """Write what has changed."""
        step = (progress.status, progress.digest)
        if step != self._step:
            self.close()
            self._step = step
            if not self._live:
                known = progress.total_bytes is not None
                size = f" ({format_bytes(progress.total_bytes)})" if known else ""
                self._write(f"{progress.status}{size}\n")
        if self._live:
            text = str(progress) if progress.share is None else _bar(progress)
            self._write(f"\r{text.ljust(self._length)}")
            self._length = len(text)

    def close(self) -> None:
        """End an open line."""
        if self._length:
            self._write("\n")
        self._length = 0


def _bar(progress: PullProgress) -> str:
    filled = round(_WIDTH * (progress.share or 0.0))
    return f"[{'#' * filled}{'.' * (_WIDTH - filled)}] {progress}"
