"""Saves of a running notebook: whole or not at all, and never a burden.

A reader, or what a `kill -9` leaves, sees the file of one save, whole: it is written under another
name, synced, and renamed.  Saves are at least `every_s` apart and take at most 5 % of the time.
"""

from __future__ import annotations

import asyncio
import errno
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from nbformat import NotebookNode

from workbench.errors import StoreError
from workbench.plans.engine.notebook import snapshot, to_bytes
from workbench.units import sortable_id

_SHARE = 0.05
# What a killed process left half written is removed by the next run when it is older, in seconds.
_STALE_S = 600.0


class Saver:
    """Saves one notebook, again and again.

    Args:
        write: Puts the bytes of a notebook in their place, all or nothing.
        every_s: Least seconds between two saves; `None` saves at the end only.
        on_saved: Called on the loop's thread with bytes, seconds and the error or `None`.
    """

    def __init__(
        self,
        write: Callable[[bytes], None],
        *,
        every_s: float | None,
        on_saved: Callable[[int, float, str | None], None],
    ) -> None:
        self._write, self._every_s, self._on_saved = write, every_s, on_saved
        self._lock = threading.Lock()
        self._running: asyncio.Task[None] | None = None
        self._next = 0.0

    @property
    def live(self) -> bool:
        """Whether it saves while the notebook runs."""
        return self._every_s is not None

    def save_if_due(self, notebook: NotebookNode) -> None:
        """Begin a save on another thread when it is time for one; an error is told, not raised."""
        due = self._every_s is not None and time.monotonic() >= self._next
        if due and (self._running is None or self._running.done()):
            self._running = asyncio.ensure_future(self._attempt(snapshot(notebook)))

    async def save(self, notebook: NotebookNode) -> None:
        """Save now.

        Raises:
            StoreError: When it cannot be written.
        """
        if self._running is not None:
            await asyncio.wait({self._running})
        self._took(*await asyncio.to_thread(self._put, snapshot(notebook)))

    def save_blocking(self, notebook: NotebookNode) -> None:
        """Save for the last time, on this thread: for an end that cannot wait for the loop.

        Raises:
            StoreError: When it cannot be written.
        """
        self._took(*self._put(snapshot(notebook)))
        # What is still to be told of an earlier save would come after the end.
        self._on_saved = lambda *_: None

    async def _attempt(self, copy: dict[str, Any]) -> None:
        try:
            self._took(*await asyncio.to_thread(self._put, copy))
        except StoreError as exc:
            self._next = time.monotonic() + (self._every_s or 0)
            self._on_saved(0, 0.0, str(exc))

    def _put(self, copy: dict[str, Any]) -> tuple[int, float]:
        # The lock keeps the order: a save that is being made ends before the next begins.
        with self._lock:
            began = time.monotonic()
            data = to_bytes(copy)
            self._write(data)
            return len(data), time.monotonic() - began

    def _took(self, size: int, seconds: float) -> None:
        wait = max(self._every_s or 0.0, seconds * (1 / _SHARE - 1))
        self._next = time.monotonic() + wait
        self._on_saved(size, seconds, None)


def atomic_writer(path: Path) -> Callable[[bytes], None]:
    """Return what replaces a file by a whole one; a link stays, and what it names is replaced.

    Raises:
        StoreError: When the folder cannot be made.
    """
    target = Path(os.path.realpath(path))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep(target)
        if not os.access(target.parent, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as exc:
        raise _unwritable(path, exc) from exc

    def write(data: bytes) -> None:
        partial = target.with_name(f".{target.name}.{sortable_id()}.part")
        try:
            descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            with open(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, target)
        except OSError as exc:
            with suppress(OSError):
                partial.unlink()
            raise _unwritable(path, exc) from exc

    return write


def _unwritable(path: Path, error: OSError) -> StoreError:
    return StoreError(
        f"{path} cannot be written: {error.strerror or error}.",
        hint="Choose a folder that can be written, with room in it.",
    )


def _sweep(target: Path) -> None:
    for old in target.parent.glob(f".{target.name}.*.part"):
        with suppress(OSError):
            if time.time() - old.stat().st_mtime > _STALE_S:
                old.unlink()
