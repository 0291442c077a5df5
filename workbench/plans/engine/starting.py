"""Start a kernel: forked where that was asked for and can be, else spawned."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import zmq
import zmq.asyncio
from jupyter_client.kernelspec import NATIVE_KERNEL_NAME, NoSuchKernel
from jupyter_client.manager import AsyncKernelManager
from traitlets import TraitError

from workbench.errors import ConfigError
from workbench.messages import nearest_names
from workbench.plans.engine.forking import ForkKernelManager, can_fork
from workbench.plans.engine.kernels import (
    SHUTDOWN_S,
    KernelFolder,
    KernelNotReady,
    OwnKernels,
    RunningKernel,
    is_ipykernel,
)
from workbench.plans.engine.values import KernelKind


async def start_kernel(
    name: str,
    *,
    cwd: Path,
    env: Mapping[str, str],
    kind: KernelKind,
    timeout_s: float,
    arguments: Sequence[str] = (),
) -> RunningKernel:
    """Start a kernel and wait until it is ready; the folder of this process stays as it is.

    Args:
        name: Of its kernel spec; `python3` is this interpreter.
        env: Variables in addition to those of this process.
        kind: `fork` where it can be; else it is spawned.

    Raises:
        ConfigError: When no such kernel is installed, or its program is gone.
        PlanError: When it cannot be forked, or there is no folder for its sockets.
        KernelNotReady: When it does not start.
    """
    began = time.monotonic()
    forked = kind == "fork" and can_fork(name)
    transport = _transport(name)
    folder = await asyncio.to_thread(KernelFolder)
    manager = (ForkKernelManager if forked else AsyncKernelManager)(
        kernel_name=name,
        kernel_spec_manager=OwnKernels(),
        context=_context(),
        connection_file=str(folder.connection_file),
        transport=transport,
        shutdown_wait_time=SHUTDOWN_S,
    )
    try:
        extra = ["--HistoryManager.hist_file=:memory:"] if is_ipykernel(manager) else []
        async with asyncio.timeout(timeout_s):
            await manager.start_kernel(
                extra_arguments=[*extra, *arguments], cwd=str(cwd), env={**os.environ, **env}
            )
        kernel = RunningKernel(manager, folder)
    except BaseException as exc:
        manager.context.destroy(linger=0)
        folder.remove()
        if isinstance(exc, TimeoutError):
            raise KernelNotReady(f"there was no kernel within {timeout_s:.0f} s") from exc
        if isinstance(exc, OSError):
            raise _broken_kernel(name, exc) from exc
        raise
    try:
        await kernel.wait_ready(timeout_s)
    except BaseException:
        await kernel.kill()
        await kernel.stop()
        raise
    kernel.kind = "fork" if forked else "spawn"
    kernel.start_s = time.monotonic() - began
    return kernel


def language_of(name: str) -> str:
    """Return the language of an installed kernel.

    Raises:
        ConfigError: When there is no such kernel, or its spec is damaged.
    """
    try:
        return str(OwnKernels().get_kernel_spec(name).language)
    except NoSuchKernel as exc:
        raise _no_kernel(name) from exc
    except (OSError, ValueError, TypeError, TraitError) as exc:
        raise _broken_kernel(name, exc) from exc


def _transport(name: str) -> str:
    """Return how to talk to a kernel: not every kernel of another language knows of files."""
    return "ipc" if language_of(name) == "python" and sys.platform != "win32" else "tcp"


def _context() -> zmq.asyncio.Context:
    context = zmq.asyncio.Context()
    # By default 1,000 messages wait for a reader, and what is beyond is dropped in silence.
    context.setsockopt(zmq.RCVHWM, 0)
    # The kernel makes its sockets while we try; by default each try is 100 ms after the last.
    context.setsockopt(zmq.RECONNECT_IVL, 10)
    return context


def _no_kernel(name: str) -> ConfigError:
    known = [NATIVE_KERNEL_NAME, *OwnKernels().find_kernel_specs()]
    near = nearest_names(name, known, count=1)
    hint = (
        f"Did you mean {near[0]!r}?" if near else f"Installed: {', '.join(dict.fromkeys(known))}."
    )
    return ConfigError(f"There is no kernel {name!r}.", key="kernelspec", hint=hint)


def _broken_kernel(name: str, error: Exception) -> ConfigError:
    """Return what is told of a kernel whose spec or program is damaged, as after its removal."""
    return ConfigError(
        f"The kernel {name!r} cannot be started: {error}.",
        key="kernelspec",
        hint="Install it anew, or choose another one; see `jupyter kernelspec list`.",
    )
