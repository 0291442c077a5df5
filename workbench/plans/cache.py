"""Results of steps by their key, so that the same work is not done twice in different runs.

An entry is a folder of the same form as a committed step.  It appears by one rename, is checked by
its hashes when it is taken, and the least recently used ones go when the cache grows too large.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from dataclasses import replace
from pathlib import Path

from workbench.errors import StoreError
from workbench.plans.artifacts import (
    STEP_FILE,
    StepFile,
    check_outputs,
    read_step,
    write_step,
)
from workbench.units import sortable_id

MAX_BYTES = 4 * 1024**3
"""Size the cache is brought back to after a run."""


class StepCache:
    """The cache of a data folder; making one touches nothing."""

    def __init__(self, data_dir: Path) -> None:
        self.folder = data_dir / "cache" / "steps"

    def take(self, key: str, attempt: Path) -> StepFile | None:
        """Copy an entry into the folder of an attempt; `None` when there is none that is whole."""
        entry = self.folder / key
        try:
            found = read_step(entry)
            if found is None or found.key != key:
                return None
            shutil.copytree(entry, attempt, symlinks=True, dirs_exist_ok=True)
            check_outputs(attempt, found)
            os.utime(entry)
        except (StoreError, OSError):
            # Damaged, or just removed by another run: the work is done instead.
            shutil.rmtree(entry, ignore_errors=True)
            shutil.rmtree(attempt, ignore_errors=True)
            attempt.mkdir(parents=True)
            return None
        return found

    def put(self, committed: Path, step: StepFile, *, run_id: str) -> None:
        """Keep a copy of a committed step; a disk that is full keeps none."""
        entry = self.folder / step.key
        if entry.exists():
            return
        partial = self.folder / f".{step.key}.{sortable_id()}"
        try:
            # A link that a step made is kept as one: what it leads to may be large, or a circle.
            shutil.copytree(committed, partial, symlinks=True)
            write_step(partial, replace(step, from_run=run_id))
            os.rename(partial, entry)
        except (OSError, shutil.Error):
            shutil.rmtree(partial, ignore_errors=True)

    def prune(self, max_bytes: int = MAX_BYTES) -> int:
        """Remove the least recently used entries until `max_bytes` are left; returns how many."""
        entries = []
        with contextlib.suppress(OSError):
            for entry in self.folder.iterdir():
                entries.append((entry.stat().st_mtime, entry, _size(entry)))
        total, removed = sum(size for _, _, size in entries), 0
        for _, entry, size in sorted(entries, key=lambda row: row[0]):
            if total <= max_bytes:
                break
            # Without its file it is no entry any more, so nobody takes half of it.
            (entry / STEP_FILE).unlink(missing_ok=True)
            shutil.rmtree(entry, ignore_errors=True)
            total, removed = total - size, removed + 1
        return removed


def _size(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            total += path.lstat().st_size if path.is_file() else 0
    return total
