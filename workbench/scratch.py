"""Folders for what may be lost, which go when their process ends, however it ends.

A process that is killed removes nothing, so whoever makes such a folder next removes those whose
holder is gone.  A held lock says that it lives: process ids mean nothing where two process
namespaces share a folder.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
import weakref
from pathlib import Path

from workbench.locks import FileLock, is_locked

# A folder without a lock that is younger may belong to somebody who is about to take it.
STALE_AFTER_S = 60.0
LOCK = ".lock"


class ScratchFolder:
    """A new folder in the system's folder for temporary files, removed by `close`.

    Args:
        prefix: What its name begins with; folders of this prefix that nobody holds are removed.

    Attributes:
        path: The folder.
    """

    def __init__(self, prefix: str) -> None:
        base = Path(tempfile.gettempdir())
        sweep(base, prefix)
        self.path = Path(tempfile.mkdtemp(prefix=prefix, dir=base))
        self._lock = FileLock(self.path / LOCK)
        self._lock.acquire()
        self._remove = weakref.finalize(self, _remove, self.path, self._lock, os.getpid())

    def close(self) -> None:
        """Remove the folder with all in it; a second call does nothing.

        What was forgotten is closed with its object, at the latest when the process ends in order.
        """
        self._remove()


def _remove(path: Path, lock: FileLock, pid: int) -> None:
    if pid != os.getpid():
        # A copy made by fork; the folder is its parent's.
        return
    # Windows removes no file that is open.
    lock.release()
    shutil.rmtree(path, ignore_errors=True)


def sweep(base: Path, prefix: str) -> None:
    """Remove the folders of this user under `base` whose process has ended."""
    old = time.time() - STALE_AFTER_S
    for folder in base.glob(f"{prefix}*"):
        with contextlib.suppress(OSError):
            found = folder.lstat()
            mine = not hasattr(os, "getuid") or found.st_uid == os.getuid()
            if not mine or folder.is_symlink() or not folder.is_dir() or found.st_mtime > old:
                continue
            lock = folder / LOCK
            if not lock.exists() or not is_locked(lock):
                shutil.rmtree(folder, ignore_errors=True)
