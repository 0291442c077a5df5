"""Runs in processes of their own, with the kind of the tests in their kernels."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from workbench.plans.handle import RunHandle

LIMIT_S = 90.0


def offer_kinds(place: Path) -> str:
    """Make a folder that names the tests' kinds as an installed package does; for PYTHONPATH."""
    about = place / "tiny_kinds-1.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny-kinds\nVersion: 1\n")
    (about / "entry_points.txt").write_text("[workbench.kinds]\ntiny = tests.plans.runs.work\n")
    root = str(Path(__file__).parents[3])
    return os.pathsep.join([str(place), root, os.environ.get("PYTHONPATH", "")])


def until(what: Callable[[], bool], handle: RunHandle) -> None:
    """Wait for something that a run does; its log tells why it did not."""
    due = time.monotonic() + LIMIT_S
    while not what():
        if time.monotonic() > due:
            log = handle.folder.log.read_text() if handle.folder.log.exists() else ""
            raise TimeoutError(f"{handle.state()}\n{log}")
        time.sleep(0.01)


def began(handle: RunHandle, step: str) -> bool:
    """Whether a step is running."""
    return handle.state().step(step).status == "running"


def kill_runner(handle: RunHandle) -> None:
    """Kill the process of a run, without a chance to say anything."""
    pid = handle.state().pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    until(lambda: not handle.alive, handle)


def kill_kernel(handle: RunHandle) -> None:
    """Kill the kernel of a run."""
    os.kill(kernel_of(handle), signal.SIGKILL)


def kernel_of(handle: RunHandle) -> int:
    """Return the process of the kernel."""
    return int(handle.folder.kernel_lock.read_text())


def gone(pid: int) -> bool:
    """Whether a process has ended."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
