"""How kernels are started: folders of sockets, and kernels that never are ready."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from pathlib import Path

import pytest

from tests.plans.engine.notebooks import read, statuses, write
from workbench.errors import PlanError
from workbench.plans.engine import aexecute
from workbench.plans.engine import kernels as module
from workbench.plans.engine.kernels import SOCKET_PATH_BYTES, KernelFolder


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("import time; time.sleep(600)", "the kernel was not ready within 1 s"),
        ("raise SystemExit(3)", "the kernel ended before it was ready (code 3)"),
    ],
)
def test_a_kernel_that_never_is_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, said: str
) -> None:
    """The run ends with the reason, no cell is begun, and the notebook says so."""
    spec = tmp_path / "kernels" / "broken"
    spec.mkdir(parents=True)
    argv = [sys.executable, "-c", program, "{connection_file}"]
    about = {"argv": argv, "display_name": "Broken", "language": "python"}
    (spec / "kernel.json").write_text(json.dumps(about), "utf-8")
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    path = write(tmp_path / "in.ipynb", "n = 1", kernel="broken")
    result = asyncio.run(aexecute(path, tmp_path / "out.ipynb", start_timeout_s=1.0))
    assert ("kernel_died", None, said) == (result.status, result.failed_cell, str(result.error))
    notebook = read(result.output)
    assert (["pending"], said) == (statuses(notebook), notebook.metadata.papermill.reason)


def test_sockets_have_short_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder for temporary files whose path is too long for a socket is not used."""
    deep = tmp_path / ("long" * 25)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    folder = KernelFolder()
    try:
        assert len(os.fsencode(folder.path / "k-ipc-5")) <= SOCKET_PATH_BYTES
        assert 0o700 == folder.path.stat().st_mode & 0o777
    finally:
        folder.remove()
    assert not folder.path.exists()


def test_no_folder_is_short_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no path is short enough, the error says what to set."""
    monkeypatch.setattr(module, "SOCKET_PATH_BYTES", 5)
    with pytest.raises(PlanError, match="no folder for the sockets") as refused:
        KernelFolder()
    assert refused.value.hint is not None and "TMPDIR" in refused.value.hint


def test_folders_of_killed_processes_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An old folder that nobody locks is removed by the next kernel; used and new ones stay."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    dead, young = tmp_path / "wbk-aaaaaaaa", tmp_path / "wbk-bbbbbbbb"
    for path in (dead, young):
        path.mkdir()
        (path / "lock").touch()
    used = KernelFolder()
    os.utime(dead, (1, 1))
    os.utime(used.path, (1, 1))
    other = KernelFolder()
    try:
        assert [False, True, True] == [p.exists() for p in (dead, young, used.path)]
    finally:
        used.remove()
        other.remove()
