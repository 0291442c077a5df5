"""Kernels that are forked from a process which has imported the usual libraries already.

A kernel spends most of its start with imports.  One process does them once, and each kernel is a
copy of it: as separate from the others as a spawned one, and ready several times sooner.  Linux
only.  The process is started by this one as a fresh program, so that it has one thread whatever
this one has; it ends with it, and its kernels with it.
"""

from __future__ import annotations

import asyncio
import atexit
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.kernelspec import NATIVE_KERNEL_NAME
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning.local_provisioner import LocalProvisioner

from workbench.errors import PlanError

PRELOADED = (
    "ipykernel.kernelapp",
    "ipykernel.ipkernel",
    "pandas",
    "duckdb",
    "plotly.graph_objects",
    "plotly.express",
    "httpx",
    "ipywidgets",
)
"""Modules a kernel from the server has imported; none of them does more than that at import."""

_MODULE = "ipykernel_launcher"
_SCRIPT = Path(__file__).with_name("zygote.py")
# What an interpreter reads when it starts, and a forked one cannot read again.
_AT_START = ("PYTHON", "LD_", "LC_", "LANG", "MALLOC_")


def can_fork(kernel_name: str) -> bool:
    """Return whether kernels of this name can be forked here: Linux, this interpreter."""
    return (
        sys.platform == "linux"
        and hasattr(os, "pidfd_open")
        and kernel_name in (NATIVE_KERNEL_NAME, "python")
    )


class ForkServer:
    """One process that forks kernels.

    Args:
        environment: Its variables; kernels have their own, but those that the interpreter reads
            when it starts.
        modules: What it imports.
    """

    def __init__(self, environment: Mapping[str, str], modules: Sequence[str] = PRELOADED) -> None:
        self._socket, theirs = socket.socketpair()
        self._ids = itertools.count(1)
        self._lock, self._sending = threading.Lock(), threading.Lock()
        self._asked: dict[int, Future[int]] = {}
        self._ends: dict[int, Future[int]] = {}
        self._refusal: str | None = None
        self.ready: Future[None] = Future()
        with theirs:
            command = [sys.executable, str(_SCRIPT), str(theirs.fileno()), ",".join(modules)]
            self._process = subprocess.Popen(
                command,
                env=dict(environment),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self._reader = threading.Thread(target=self._read, name="fork-server", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def usable(self) -> bool:
        """Whether it has not refused, nor ended."""
        return self._refusal is None

    def fork(self, arguments: Sequence[str], cwd: str, env: Mapping[str, str]) -> Future[int]:
        """Ask for a kernel; the future is its process id.

        The future raises PlanError when no kernel can be forked.
        """
        future: Future[int] = Future()
        with self._lock:
            number = next(self._ids)
            if self._refusal is None:
                self._asked[number] = future
        if self._refusal is not None:
            future.set_exception(_refused(self._refusal))
            return future
        request = {"id": number, "arguments": list(arguments), "cwd": cwd, "env": dict(env)}
        with self._sending, suppress(OSError):
            self._socket.sendall(json.dumps(request).encode() + b"\n")
        return future

    def end_of(self, pid: int) -> Future[int]:
        """Return the future exit code of a kernel; negative for a signal."""
        with self._lock:
            return self._ends.setdefault(pid, Future())

    def close(self) -> None:
        """End it and all its kernels."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._reader.join()
        self._process.wait()

    def _read(self) -> None:
        with self._socket, self._socket.makefile("rb") as lines:
            for line in lines:
                self._take(json.loads(line))
        self._gone("it has ended")

    def _take(self, line: Mapping[str, Any]) -> None:
        if "ready" in line:
            self.ready.set_result(None)
        elif "code" in line:
            _settle(self.end_of(line["pid"]), line["code"])
        elif "pid" in line:
            self.end_of(line["pid"])
            with self._lock:
                asked = self._asked.pop(line["id"])
            _settle(asked, line["pid"])
        elif "id" in line:
            with self._lock:
                asked = self._asked.pop(line["id"])
            asked.set_exception(_refused(line["error"]))
        else:
            self._gone(line["error"])

    def _gone(self, reason: str) -> None:
        with self._lock:
            self._refusal = self._refusal or reason
            asked, self._asked = self._asked, {}
            ends = list(self._ends.values())
        if not self.ready.done():
            self.ready.set_exception(_refused(reason))
        for future in asked.values():
            future.set_exception(_refused(reason))
        for end in ends:
            # They were killed with it.
            _settle(end, -signal.SIGKILL)


def _settle(future: Future[int], value: int) -> None:
    if not future.done():
        future.set_result(value)


def _unwanted(asked: Future[int]) -> None:
    """Kill a kernel that nobody waits for any more."""
    if asked.exception() is None:
        with suppress(ProcessLookupError):
            os.kill(asked.result(), signal.SIGKILL)


def _refused(reason: str) -> PlanError:
    return PlanError(
        f"The fork server cannot give a kernel: {reason}.",
        hint="Use kernel='spawn', or preload nothing that starts threads.",
    )


_servers: dict[tuple[tuple[str, str], ...], ForkServer] = {}
_servers_lock = threading.Lock()


def fork_server(environment: Mapping[str, str]) -> ForkServer:
    """Return the server of this process for such an environment; the first call starts it."""
    key = tuple(sorted(item for item in environment.items() if item[0].startswith(_AT_START)))
    with _servers_lock:
        server = _servers.get(key)
        if server is None or not server.usable:
            server = _servers[key] = ForkServer(environment)
        return server


def warm_up(env: Mapping[str, str] | None = None) -> None:
    """Start the fork server, if there can be one, before the first kernel is asked for.

    Args:
        env: Variables of the kernels to come, in addition to those of this process.
    """
    if can_fork(NATIVE_KERNEL_NAME):
        fork_server({**os.environ, **(env or {})})


def _forget() -> None:
    # The threads that read the answers are not in a copy of this process.
    global _servers_lock
    _servers_lock = threading.Lock()
    _servers.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


@atexit.register
def close_servers() -> None:
    """End the fork servers of this process and their kernels."""
    with _servers_lock:
        servers = list(_servers.values())
        _servers.clear()
    for server in servers:
        server.close()


class ForkedProcess:
    """The process of a forked kernel, with what jupyter_client needs of a `Popen`."""

    stdin = stdout = stderr = None

    def __init__(self, server: ForkServer, pid: int) -> None:
        self.pid = pid
        self._end = server.end_of(pid)

    def poll(self) -> int | None:
        """Return the exit code, or `None` while it runs."""
        return self._end.result() if self._end.done() else None

    def wait(self) -> int:
        """Wait until it has ended and return the exit code."""
        return self._end.result()

    def send_signal(self, signum: int) -> None:
        """Send it a signal, unless it has ended."""
        if not self._end.done():
            os.kill(self.pid, signum)

    def kill(self) -> None:
        """Kill it."""
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)


class ForkProvisioner(LocalProvisioner):
    """Launches a kernel by the fork server of this process."""

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        arguments = cmd[cmd.index(_MODULE) + 1 :]
        cwd, env = str(kwargs["cwd"]), kwargs["env"]
        server = await asyncio.to_thread(fork_server, env)
        asked = await asyncio.to_thread(server.fork, arguments, cwd, env)
        try:
            self.pid = self.pgid = await asyncio.shield(asyncio.wrap_future(asked))
        except asyncio.CancelledError:
            asked.add_done_callback(_unwanted)
            raise
        process: Any = ForkedProcess(server, self.pid)
        self.process, self.cwd = process, cwd
        return self.connection_info


class ForkKernelManager(AsyncKernelManager):
    """The manager of one forked kernel."""

    async def _async_pre_start_kernel(self, **kw: Any) -> tuple[list[str], dict[str, Any]]:
        cmd, kw = await super()._async_pre_start_kernel(**kw)
        if not isinstance(self.provisioner, ForkProvisioner):
            forked = ForkProvisioner(
                kernel_id=self.kernel_id, kernel_spec=self.kernel_spec, parent=self
            )
            forked.connection_info = self.get_connection_info()
            self.provisioner = forked
        return cmd, kw
