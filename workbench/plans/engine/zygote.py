"""The process of the fork server: imports libraries once, then forks a kernel for each request.

Run as a script, with the number of a socket and the modules to import, by `forking`; it imports
only the standard library itself.  It never opens a file, a database, a device or a connection, and
it refuses to fork when it has a second thread: a lock such a thread holds would be held in every
kernel for ever.

The socket carries lines of JSON.
In: `{id, arguments, cwd, env}`.
Out: `{ready}` or `{error}` once, `{id, pid}` or `{id, error}` for each request, and `{pid, code}`
when a kernel has ended.
When the other end is closed, all kernels are killed and the process ends.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import random
import selectors
import signal
import socket
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG = 1
# How often it looks whether its parent is still there, in seconds.
_LOOK_S = 1.0
_BLAS_SETTERS = (
    "scipy_openblas_set_num_threads64_",
    "scipy_openblas_set_num_threads",
    "openblas_set_num_threads64_",
    "openblas_set_num_threads",
)


def threads() -> int:
    """Return how many threads this process has, those of libraries included."""
    return len(os.listdir("/proc/self/task"))


def preload(modules: list[str]) -> str | None:
    """Import modules; return why no kernel can be forked after it, or `None`."""
    # OpenBLAS starts its threads when numpy is imported; each kernel starts its own: see `_blas`.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    for name in modules:
        try:
            importlib.import_module(name)
        except ImportError as exc:
            return f"{name} cannot be imported: {exc}"
        if (count := threads()) > 1:
            return f"it has {count} threads after importing {name}"
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError as exc:
        return f"the system has no pidfd_open: {exc.strerror}"
    # What is imported stays: the collector of a kernel need not look at it, nor copy its pages.
    gc.freeze()
    return None


class Zygote:
    """Forks kernels, and tells of their ends.

    Args:
        channel: The connection to the process of the run.
    """

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._selector = selectors.DefaultSelector()
        self._selector.register(channel, selectors.EVENT_READ, 0)
        self._kernels: dict[int, int] = {}
        self._parent = os.getppid()
        self._buffer = b""

    def tell(self, **line: Any) -> None:
        """Send a line; nothing happens when nobody listens any more."""
        with suppress(OSError):
            self._channel.sendall(json.dumps(line).encode() + b"\n")

    def serve(self) -> dict[str, Any] | None:
        """Serve until the other end is gone, and return `None`; in a kernel, return its request."""
        while os.getppid() == self._parent:
            for key, _ in self._selector.select(timeout=_LOOK_S):
                if key.data:
                    self._reap(key.data)
                    continue
                received = self._channel.recv(1 << 16)
                if not received:
                    self._kill_all()
                    return None
                self._buffer += received
                while b"\n" in self._buffer:
                    line, self._buffer = self._buffer.split(b"\n", 1)
                    request = json.loads(line)
                    if self._fork(request):
                        return dict(request)
        self._kill_all()
        return None

    def _fork(self, request: dict[str, Any]) -> bool:
        """Fork; return whether this is the kernel."""
        if (count := threads()) > 1:
            self.tell(id=request["id"], error=f"it has {count} threads")
            return False
        zygote = os.getpid()
        try:
            pid = os.fork()
        except OSError as exc:
            self.tell(id=request["id"], error=f"no process can be made: {exc.strerror}")
            return False
        if pid == 0:
            self._leave()
            become_child(zygote, request)
            return True
        watch = os.pidfd_open(pid)
        self._kernels[pid] = watch
        self._selector.register(watch, selectors.EVENT_READ, pid)
        self.tell(id=request["id"], pid=pid)
        return False

    def _leave(self) -> None:
        self._selector.close()
        self._channel.close()
        for watch in self._kernels.values():
            os.close(watch)

    def _reap(self, pid: int) -> None:
        watch = self._kernels.pop(pid)
        self._selector.unregister(watch)
        os.close(watch)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        self.tell(pid=pid, code=code)

    def _kill_all(self) -> None:
        for pid in self._kernels:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)


def become_child(zygote: int, request: dict[str, Any]) -> None:
    """Make a forked process what a spawned one would be: session, signals, folder, chance."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != zygote:
        os._exit(1)
    os.setsid()
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"], JPY_PARENT_PID=str(zygote))
    time.tzset()
    tempfile.tempdir = None
    random.seed()
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()
    _blas()
    gc.enable()


def _blas() -> None:
    """Give the kernel as many threads for linear algebra as a spawned one would have."""
    wished = os.environ.get("OPENBLAS_NUM_THREADS") or os.environ.get("OMP_NUM_THREADS") or ""
    count = int(wished) if wished.isdigit() else len(os.sched_getaffinity(0))
    lines = Path("/proc/self/maps").read_text("utf-8").splitlines()
    for path in {line.split(maxsplit=5)[5] for line in lines if "openblas" in line}:
        library = ctypes.CDLL(path)
        for name in _BLAS_SETTERS:
            if hasattr(library, name):
                getattr(library, name)(count)
                break


def run_kernel(arguments: list[str], zygote: int) -> None:
    """Be a kernel until it is shut down."""
    from ipykernel.kernelapp import IPKernelApp

    sys.argv = ["ipykernel_launcher", *arguments]
    app: Any = IPKernelApp.instance()
    # The class read the variable when it was imported.
    app.initialize([*arguments, f"--IPKernelApp.parent_handle={zygote}"])
    widgets = sys.modules.get("ipywidgets")
    if widgets is not None:
        # It does so when it is imported in a kernel, which it was not.
        widgets.register_comm_target()
    app.start()


def main() -> int:
    """Serve on the socket whose number is the first argument."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    zygote = os.getpid()
    gc.disable()
    server = Zygote(channel)
    reason = preload(sys.argv[2].split(","))
    if reason is not None:
        server.tell(error=reason)
        return 1
    server.tell(ready=True)
    request = server.serve()
    if request is not None:
        run_kernel(request["arguments"], zygote)
    return 0


if __name__ == "__main__":
    # Modules beside this script are no top-level modules.
    if sys.path[0] == str(Path(__file__).parent):
        del sys.path[0]
    sys.exit(main())
