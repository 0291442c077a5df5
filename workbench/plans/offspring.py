"""Ending a process and everything it started, whatever session that fled to."""

from __future__ import annotations

import contextlib
import os
import signal
import sys

import psutil

_ROUNDS = 50
_ADOPT = 36  # PR_SET_CHILD_SUBREAPER, linux/prctl.h


def adopt_orphans() -> None:
    """Let processes whose parent ends become children of this one, where the system can."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(_ADOPT, 1, 0, 0, 0)


def end_tree(pid: int) -> None:
    """Kill a process, its group and its descendants, but no workbench server among them.

    Everything is stopped first: what is stopped starts nothing more.
    """
    try:
        root = psutil.Process(pid)
        _signal(root, signal.SIGSTOP)
    except psutil.NoSuchProcess:
        end_group(pid)
        return
    found = _frozen(root)
    end_group(pid)
    for process in [*found, root]:
        _signal(process, signal.SIGKILL)


def end_descendants() -> None:
    """Kill what this process started and left behind, but no workbench server."""
    me = psutil.Process()
    for process in _frozen(me):
        _signal(process, signal.SIGKILL)


def end_group(pid: int) -> None:
    """Kill the process group that a process leads, as far as there still is one."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _frozen(root: psutil.Process) -> list[psutil.Process]:
    """Return the descendants of a process, stopped, as soon as no new ones come."""
    known: dict[int, psutil.Process] = {}
    for _ in range(_ROUNDS):
        new = [process for process in _below(root) if process.pid not in known]
        if not new:
            break
        for process in new:
            known[process.pid] = process
            _signal(process, signal.SIGSTOP)
    return list(known.values())


def _below(root: psutil.Process) -> list[psutil.Process]:
    """Return the descendants of a process, each after its parent, no server and nothing of one."""
    try:
        # One look at all processes of the machine, however many descendants there are.
        everyone = root.children(recursive=True)
    except psutil.Error:
        return []
    spared: set[int] = set()
    found = []
    for process in everyone:
        try:
            of_server = process.ppid() in spared or _is_server(process)
        except psutil.Error:
            continue
        if of_server:
            spared.add(process.pid)
        else:
            found.append(process)
    return found


def _is_server(process: psutil.Process) -> bool:
    """Whether it is a server that the code started by asking a model: it serves others too."""
    try:
        command = process.cmdline()
    except psutil.Error:
        return False
    return list(command[1:5]) == ["-P", "-m", "workbench", "serve"]


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    with contextlib.suppress(psutil.Error, OSError):
        process.send_signal(number)
