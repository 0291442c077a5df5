"""Exclusive file locks that a dead process cannot keep: the one seam over the systems' calls.

Looking whether a lock is held takes a shared lock for a moment, so that two who look never take
each other for the holder, and who acquires tries again for a moment before it believes a refusal.

POSIX: `flock` on a file of its own.  Windows: `msvcrt.locking` of its first byte (not run on
Windows yet).  The kernel drops the lock when the process ends, however it ends.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

# How long an acquirer puts up with somebody who only looks.
_PROBE_S = 0.2
_RETRY_S = 0.005


class FileLock:
    """An exclusive lock on `path`, held until `release` or the end of the process.

    The file stays when the lock is released: removing it would let two processes hold "the" lock
    on two different files.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._descriptor is not None

    def acquire(self, *, wait: bool = False) -> bool:
        """Take the lock and return whether it is ours; with `wait`, block until it is.

        Raises:
            OSError: When the file cannot be made.
        """
        if self._descriptor is not None:
            return True
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # O_CLOEXEC (Python's default) keeps the lock out of spawned children.
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            deadline = time.monotonic() + _PROBE_S
            while not (locked := _lock(descriptor, wait=wait)) and time.monotonic() < deadline:
                time.sleep(_RETRY_S)
        except BaseException:
            os.close(descriptor)
            raise
        if locked:
            self._descriptor = descriptor
        else:
            os.close(descriptor)
        return locked

    def release(self) -> None:
        """Give the lock back; does nothing when it is not held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Self:
        self.acquire(wait=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int, *, wait: bool = False, shared: bool = False) -> bool:
        try:
            msvcrt.locking(descriptor, msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _lock(descriptor: int, *, wait: bool = False, shared: bool = False) -> bool:
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        try:
            fcntl.flock(descriptor, kind | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return False
        return True


def is_locked(path: Path) -> bool:
    """Return whether another process (or another `FileLock`) holds the lock on `path`."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        return not _lock(descriptor, shared=True)
    finally:
        os.close(descriptor)
