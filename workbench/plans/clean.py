"""Removing the folders of runs that ended long ago; nothing is removed by itself."""

from __future__ import annotations

import contextlib
import os
import shutil
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from workbench.errors import WorkbenchError
from workbench.locks import FileLock, is_locked
from workbench.plans.folder import RunFolder, all_runs, runs_dir
from workbench.plans.info import read_info
from workbench.plans.journal import read_lines
from workbench.plans.state import RunState, state_of
from workbench.units import rfc3339, utc_now


@dataclass(frozen=True, slots=True)
class OldRun:
    """A run to which nothing happened for so long.

    Attributes:
        last: When something last happened to it, UTC, ISO 8601.
        size_bytes: What its folder takes; `None` for one that is kept.
        kept: Why it stays; empty for one that was removed, or would be.
    """

    run_id: str
    plan: str
    status: str
    last: str
    size_bytes: int | None = None
    kept: str = ""


def clean_runs(data_dir: Path, *, older_than_s: float, dry_run: bool = False) -> list[OldRun]:
    """Remove the folders of runs to which nothing happened for so long, and tell of each.

    What a run gave goes with it; its rows of metrics and what the cache keeps of it stay.  A run
    that goes on or waits for an answer stays, and so does a folder that somebody chose (`--out`).

    Args:
        older_than_s: Seconds since something last happened to a run.
        dry_run: Remove nothing.
    """
    try:
        limit = utc_now() - timedelta(seconds=older_than_s)
    except OverflowError:
        return []
    found = []
    for folder in all_runs(data_dir):
        last = _last(folder)
        if last < limit:
            told = _clean(folder, elsewhere=_is_elsewhere(folder, data_dir), dry_run=dry_run)
            found.append(replace(told, last=rfc3339(last)))
    return found


def _last(folder: RunFolder) -> datetime:
    """Return when something last happened to a run."""
    moments = [0.0]
    for path in (folder.info, folder.journal):
        with contextlib.suppress(OSError):
            moments.append(path.stat().st_mtime)
    return datetime.fromtimestamp(max(moments), UTC)


def _is_elsewhere(folder: RunFolder, data_dir: Path) -> bool:
    return folder.path.parent != runs_dir(data_dir) or folder.path.is_symlink()


def _clean(folder: RunFolder, *, elsewhere: bool, dry_run: bool) -> OldRun:
    """Remove an old run, unless there is a reason to keep it."""
    told = OldRun(folder.run_id, "", "broken", "")
    try:
        info = read_info(folder)
    except WorkbenchError:
        return replace(told, kept="its run.json cannot be read")
    told = replace(told, plan=info.plan)
    lock = FileLock(folder.lock)
    try:
        # Who removes a run holds its lock, so that nobody goes on with it meanwhile.
        free = not is_locked(folder.lock) if dry_run or elsewhere else lock.acquire()
        lines, _ = read_lines(folder.journal)
        state = state_of(lines, steps=[step["id"] for step in info.steps], alive=not free)
        told = replace(told, status=state.status, kept=_reason(folder, state, free, elsewhere))
        if told.kept:
            return told
        told = replace(told, size_bytes=_size(folder.path))
        if not dry_run:
            _empty(folder)
    except OSError as exc:
        return replace(told, size_bytes=None, kept=f"it cannot be removed: {exc.strerror}")
    finally:
        lock.release()
    if not dry_run:
        shutil.rmtree(folder.path, ignore_errors=True)
    return told


def _reason(folder: RunFolder, state: RunState, free: bool, elsewhere: bool) -> str:
    """Return why a run stays, or nothing."""
    if not free or is_locked(folder.kernel_lock):
        return "it goes on"
    # One that was lost while it waited asks again when it is resumed.
    if state.status == "waiting" or any(s.status == "waiting" for s in state.steps.values()):
        return "it waits for an answer"
    return f"it lies in {folder.path}" if elsewhere else ""


def _empty(folder: RunFolder) -> None:
    """Remove all but the lock; the file that makes it a run goes last, for another try."""
    for entry in folder.path.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry not in (folder.info, folder.lock):
            entry.unlink()
    folder.info.unlink()


def _size(folder: Path) -> int:
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(path, name)).st_size
    return total
