"""Compaction in a child process, for those who must not load duckdb."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from workbench.metrics.layout import alive, finished, live_files
from workbench.metrics.schema import TABLES

DUE_FILES = 8
"""Finished live files of one table from which sealing them pays."""


def compaction_due(folder: Path) -> bool:
    """Return whether some table has many finished live files."""
    for table in TABLES:
        files = live_files(folder, table)
        if len(files) >= DUE_FILES:
            living = alive(folder, (file.writer for file in files))
            if len(finished(files, living)) >= DUE_FILES:
                return True
    return False


def spawn_compaction(
    folder: Path, *, retention_days: Mapping[str, int] | None = None
) -> subprocess.Popen[bytes]:
    """Begin a compaction in a process of its own and return it; the caller waits for it.

    It outlives the caller, and ends at once when another one is at work.

    Raises:
        OSError: When no process can be made.
    """
    days = [f"--retention={table}={days}" for table, days in (retention_days or {}).items()]
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "workbench.metrics.compact", str(folder), *days],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
