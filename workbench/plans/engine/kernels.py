"""Kernels of runs: over sockets in a private folder, of this interpreter, started without a chdir.

The default transport is TCP on ports that are free when they are chosen and may be taken when they
are bound (nteract/papermill#511).  A socket file in a folder of its own cannot clash.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from queue import Empty
from typing import Any

from ipykernel.kernelspec import RESOURCES, get_kernel_dict
from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.kernelspec import (
    NATIVE_KERNEL_NAME,
    KernelSpec,
    KernelSpecManager,
)
from jupyter_client.manager import AsyncKernelManager

from workbench.errors import PlanError
from workbench.locks import FileLock, is_locked
from workbench.plans.engine.values import KernelKind

# `sun_path` holds 108 bytes on Linux and 104 on macOS, the last of them a zero.
SOCKET_PATH_BYTES = 103 if sys.platform == "darwin" else 107
_PREFIX = "wbk-"
# An unlocked folder younger than this may belong to somebody who is about to lock it, in seconds.
_STALE_S = 60.0
SHUTDOWN_S = 5.0
"""How long a kernel may take to end by itself."""
# Executed in silence before the first cell.  ipykernel 7.4 ends its output thread while its control
# thread may still wait for it, and then hangs for 10 s (1 of 30 kernels): let that one end first.
# And it drops outputs in silence when 1,000 of them wait to be sent.
# The kernel of a notebook step tells what it connects to, see `plans.watching`.
_PRELUDE = """
import atexit, zmq
control = getattr(kernel, "control_thread", None)
if control is not None:
    atexit.register(control.join, 2)
outputs = kernel.iopub_thread
outputs.schedule(lambda: outputs.socket.setsockopt(zmq.SNDHWM, 0))
import contextlib, os
if "WORKBENCH_CONNECTIONS" in os.environ:
    with contextlib.suppress(ImportError):
        from workbench.plans.watching import watch
        watch()
"""
_PREPARE = f"exec({_PRELUDE!r}, {{'kernel': get_ipython().kernel}})"


class KernelNotReady(Exception):
    """Raised when a kernel ended, or did not answer in time, before its first cell."""


class KernelFolder:
    """A short private folder for the sockets and the connection file of one kernel.

    A lock says that it is in use; what killed processes left is removed by the next.
    """

    def __init__(self) -> None:
        self.path = _make_folder()
        self._lock = FileLock(self.path / "lock")
        self._lock.acquire()

    @property
    def connection_file(self) -> Path:
        """Where the kernel finds its sockets and the key of its session."""
        return self.path / "k.json"

    def remove(self) -> None:
        """Remove it with all that is in it."""
        self._lock.release()
        shutil.rmtree(self.path, ignore_errors=True)


def _make_folder() -> Path:
    bases = [Path(tempfile.gettempdir()), Path("/tmp")]
    for base in bases:
        longest = os.fsencode(base / f"{_PREFIX}12345678" / "k-ipc-99")
        if len(longest) <= SOCKET_PATH_BYTES and os.access(base, os.W_OK):
            _sweep(base)
            return Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
    raise PlanError(
        f"There is no folder for the sockets of a kernel: the path of {bases[0]} is too long.",
        hint="Set TMPDIR to a folder with a short path.",
    )


def _sweep(base: Path) -> None:
    for old in base.glob(f"{_PREFIX}????????"):
        with suppress(OSError):
            about = old.stat()
            mine = not hasattr(os, "getuid") or about.st_uid == os.getuid()
            if mine and time.time() - about.st_mtime > _STALE_S:
                lock = old / "lock"
                if not lock.exists() or not is_locked(lock):
                    shutil.rmtree(old, ignore_errors=True)


class OwnKernels(KernelSpecManager):
    """`python3` is this interpreter, whatever the user installed elsewhere under that name."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        if kernel_name == NATIVE_KERNEL_NAME:
            return KernelSpec(resource_dir=RESOURCES, **get_kernel_dict())
        return super().get_kernel_spec(kernel_name)


def is_ipykernel(manager: AsyncKernelManager) -> bool:
    """Return whether a kernel is ipykernel, under whatever name and of whatever interpreter."""
    spec = manager.kernel_spec
    return spec is not None and any("ipykernel" in argument for argument in spec.argv)


class RunningKernel:
    """A kernel that is ready for its first cell.

    Attributes:
        manager: Its process.
        client: Its messages.
        language: What it says of its language.
        kind: How it came to be: `spawn` or `fork`.
        start_s: Seconds until it was ready.
    """

    def __init__(self, manager: AsyncKernelManager, folder: KernelFolder) -> None:
        self.manager, self._folder = manager, folder
        self.client: AsyncKernelClient = manager.client(context=manager.context)
        self.language: Mapping[str, Any] = {}
        self.kind: KernelKind = "spawn"
        self.start_s = 0.0

    @property
    def pid(self) -> int | None:
        """Its process id."""
        return getattr(self.manager.provisioner, "pid", None)

    async def alive(self) -> bool:
        """Return whether its process runs."""
        return bool(await self.manager.is_alive())

    async def exit_code(self) -> int | None:
        """Return how its process ended; negative for a signal, `None` while it runs."""
        provisioner = self.manager.provisioner
        return None if provisioner is None else await provisioner.poll()

    async def interrupt(self) -> None:
        """Interrupt the running cell; nothing happens when the kernel is gone."""
        with suppress(RuntimeError, ProcessLookupError):
            await self.manager.interrupt_kernel()

    def wake(self) -> None:
        """Let its loop run once.

        ipykernel 7.4 asks its loop to cancel an interrupted `await`, and does not wake it: the cell
        would go on until something else comes.
        """
        self.client.kernel_info()

    async def kill(self) -> None:
        """Kill it and the processes of its group."""
        with suppress(ProcessLookupError):
            await self.manager._kill_kernel()

    async def wait_ready(self, timeout_s: float) -> None:
        """Wait until it answers and its outputs reach us.

        jupyter_client's own wait ends with 0.2 s in which nothing more may come.

        Raises:
            KernelNotReady: When it ends or does not answer in time.
        """
        self.client.start_channels(stdin=False, hb=False, control=False)
        deadline = time.monotonic() + timeout_s
        answered = heard = False
        while not (answered and heard):
            self.client.kernel_info()
            with suppress(Empty):
                answered = answered or await self._answer()
                await self.client.get_iopub_msg(timeout=1.0)
                heard = True
            if not await self.alive():
                code = await self.exit_code()
                raise KernelNotReady(f"the kernel ended before it was ready (code {code})")
            if time.monotonic() > deadline:
                raise KernelNotReady(f"the kernel was not ready within {timeout_s:.0f} s")
        if is_ipykernel(self.manager):
            self.client.execute(_PREPARE, silent=True, store_history=False, stop_on_error=False)

    async def _answer(self) -> bool:
        message = await self.client.get_shell_msg(timeout=1.0)
        if message["msg_type"] != "kernel_info_reply":
            return False
        self.language = message["content"].get("language_info", {})
        return True

    async def stop(self) -> None:
        """End it: it is asked first, so that its exit handlers run; then it is killed."""
        try:
            if await self.alive():
                await self.manager.request_shutdown()
                await self.manager.finish_shutdown(waittime=SHUTDOWN_S, pollinterval=0.02)
        except RuntimeError:
            await self.kill()
        finally:
            for channel in (self.client._shell_channel, self.client._iopub_channel):
                if channel is not None:
                    channel.stop()
            await self.manager.cleanup_resources()
            self.manager.context.destroy(linger=0)
            self._folder.remove()
