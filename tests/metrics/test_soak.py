from __future__ import annotations

import sys

import pytest

from tests.metrics.soak import run_soak


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_nothing_is_lost_or_doubled_when_processes_are_killed() -> None:
    """Every acknowledged row is read exactly once, while writers and compactors are killed."""
    counts = run_soak(6, writers=2, compactors=1)
    assert counts.acknowledged > 0
    assert min(counts.writer_kills, counts.compactor_kills, counts.queries) > 0
    assert (0, 0, []) == (counts.lost, counts.doubled, counts.reader_errors)
