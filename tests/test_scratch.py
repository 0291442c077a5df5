"""Folders for what may be lost: gone with their process, also when that was killed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from workbench.metrics.compact import compact
from workbench.scratch import STALE_AFTER_S, ScratchFolder

# Opens the metrics, says where it spills, and stays.
_READER = """
import sys
from pathlib import Path
from workbench.metrics import open
found = open(Path(sys.argv[1]), compact=False)
print(found._spill.path, flush=True)
sys.stdin.read()
"""
_FORKED = """
import os, sys
from workbench.scratch import ScratchFolder
folder = ScratchFolder("workbench-fork-")
if os.fork() == 0:
    sys.exit(0)
os.wait()
sys.exit(0 if folder.path.is_dir() else 1)
"""


@pytest.fixture(autouse=True)
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder for temporary files of this test's own."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", None)
    return folder


@contextmanager
def reader(store: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Run a process that has the metrics open, and yield it with the folder it spills to."""
    process = subprocess.Popen(
        [sys.executable, "-c", _READER, str(store)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield process, Path(process.stdout.readline().strip())
    finally:
        process.kill()
        with process:
            process.wait()


def age(folder: Path) -> None:
    """Make a folder as old as one that may be swept."""
    then = time.time() - STALE_AFTER_S - 1
    os.utime(folder, (then, then))


def test_folder_of_a_killed_process_is_swept_and_no_other(base: Path, tmp_path: Path) -> None:
    """What kill -9 left is removed by the next to open the metrics; a living one's stays."""
    store = tmp_path / "metrics"
    store.mkdir()
    with reader(store) as (_, living), reader(store) as (killed, left):
        killed.kill()
        killed.wait()
        assert left.is_dir()
        age(left)
        age(living)
        with reader(store):
            assert (False, True) == (left.exists(), living.is_dir())


def test_folder_of_a_killed_compaction_is_swept(base: Path, tmp_path: Path) -> None:
    """A compaction leaves nothing, and takes away what a killed one and older versions left."""
    store = tmp_path / "metrics"
    store.mkdir()
    for name in ("workbench-compact-old", "workbench-compact-new", "elsewhere"):
        (base / name).mkdir()
        (base / name / "spilled").write_text("x")
    age(base / "workbench-compact-old")
    age(base / "elsewhere")
    compact(store)
    assert {"workbench-compact-new", "elsewhere"} == {path.name for path in base.iterdir()}


def test_process_that_ends_in_order_leaves_nothing(base: Path, tmp_path: Path) -> None:
    """Also where nobody closed the metrics."""
    store = tmp_path / "metrics"
    store.mkdir()
    with reader(store) as (process, spill):
        assert spill.is_dir()
        assert process.stdin is not None
        process.stdin.close()
        assert 0 == process.wait(60)
    assert [] == [path.name for path in base.glob("workbench-*")]


def test_link_is_not_followed(base: Path, tmp_path: Path) -> None:
    """A link of that name to a folder elsewhere is left alone, with what it points to."""
    target = tmp_path / "mine"
    target.mkdir()
    (target / "kept").write_text("x")
    (base / "workbench-test-link").symlink_to(target)
    then = time.time() - STALE_AFTER_S - 1
    os.utime(base / "workbench-test-link", (then, then), follow_symlinks=False)
    ScratchFolder("workbench-test-").close()
    assert (target / "kept").exists()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_copy_made_by_fork_removes_nothing(base: Path) -> None:
    """A forked process that ends does not take its parent's folder away."""
    assert 0 == subprocess.run([sys.executable, "-c", _FORKED], check=False).returncode
