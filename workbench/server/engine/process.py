"""One engine process: started, watched and ended for certain.

A process serves one model and has a random key of its own, because anything that listens on
loopback can be called by every user of the machine.  Clients must not pool its connections: a
pooled one fails after a streamed answer in 10 to 30 % of the cases (measured).

Start it from the event loop of a long-lived thread: Linux kills the process when the *thread* that
spawned it ends, not only when the whole server does.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import signal
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil

from workbench.errors import BadModelFile, EngineExited, LoadFailed
from workbench.server.engine.endpoint import Endpoint, open_endpoint
from workbench.server.engine.gguf import GGUFHeader, read_header, shard_paths
from workbench.server.engine.probe import http_status
from workbench.server.engine.spec import EngineSpec
from workbench.server.engine.stderr import StderrTail

WORKER: Final = Path(__file__).with_name("worker.py")
KILL_WAIT_S: Final = 30.0
POLL_S: Final = 0.02


@dataclass(frozen=True, slots=True)
class StopReport:
    """How a process ended.

    Attributes:
        exited: Whether its end was seen: waited for, and its id is gone.
        returncode: Exit code, negative for a signal; `None` when it did not end.
        seconds: From the request to the end.
        rss_before_bytes: Resident memory before, `None` when it could not be read.
        means: What ended it: "already", "stdin", "term" or "kill".
    """

    exited: bool
    returncode: int | None
    seconds: float
    rss_before_bytes: int | None
    means: str


class EngineProcess:
    """A running engine; made by `start`, ended by `stop`.

    Attributes:
        spec: What it runs, clamped.
        pid: Process id.
        key: Bearer token that each request needs.
        started_at: Seconds since the epoch at which it was spawned.
        load_seconds: From the spawn until the model could answer.
    """

    def __init__(
        self, spec: EngineSpec, process: asyncio.subprocess.Process, endpoint: Endpoint, key: str
    ) -> None:
        self.spec = spec
        self.pid = process.pid
        self.key = key
        self.started_at = time.time()
        self.load_seconds = 0.0
        self._process = process
        self._endpoint = endpoint
        self._address = ""
        self._problem: str | None = None
        self._tail = StderrTail()
        self._began = time.monotonic()
        self._stopping: asyncio.Task[StopReport] | None = None
        self._psutil = _psutil_process(process.pid)
        self._drained = asyncio.create_task(self._drain())
        self._exit = asyncio.create_task(process.wait())
        self._exit.add_done_callback(lambda _: endpoint.remove())

    @classmethod
    async def start(
        cls,
        spec: EngineSpec,
        *,
        timeout_s: float,
        socket_folder: Path | None = None,
        on_spawned: Callable[[EngineProcess], object] | None = None,
    ) -> EngineProcess:
        """Spawn an engine and wait until its model can answer.

        Cancelling this ends the process before the cancellation goes on.

        Args:
            timeout_s: Seconds that loading may take; some files and contexts never finish.
            socket_folder: A private folder (mode 0700) of the server for unix sockets.
            on_spawned: Called with the process before its model is loaded: `pid` and `rss_bytes`
                work, so that a load can be watched; it must not raise.

        Raises:
            LoadFailed: With the engine's own reason, or when the time is over.
            ConfigError: When the `llama-server` binary is not known.
        """
        spec, problem = await asyncio.to_thread(prepared, spec)
        endpoint = open_endpoint(socket_folder, choose_port=spec.engine == "llama-server")
        key = secrets.token_urlsafe(32)
        try:
            process = await _spawn(spec, key)
        except OSError as exc:
            endpoint.remove()
            raise LoadFailed(spec.alias, f"no process could be started: {exc}") from exc
        engine = cls(spec, process, endpoint, key)
        engine._problem = problem
        try:
            if on_spawned is not None:
                on_spawned(engine)
            async with asyncio.timeout(timeout_s):
                await engine._become_ready()
        except TimeoutError as exc:
            await engine._abandon()
            raise LoadFailed(
                spec.alias,
                f"it was not ready after {timeout_s:g} s",
                hint="Raise engine.load_timeout_s, or lower num_ctx.",
            ) from exc
        except BaseException:
            await engine._abandon()
            raise
        engine.load_seconds = time.monotonic() - engine._began
        return engine

    @property
    def address(self) -> str:
        """The path of the unix socket, or `http://127.0.0.1:<port>`."""
        return self._address

    @property
    def socket_path(self) -> Path | None:
        """The unix socket, `None` on loopback."""
        return self._endpoint.socket_path

    @property
    def base_url(self) -> str:
        """The base of request URLs; over a socket the host in it has no meaning."""
        return self._address if self._endpoint.socket_path is None else "http://engine"

    @property
    def returncode(self) -> int | None:
        """Exit code, negative for a signal; `None` while it runs."""
        return self._process.returncode

    @property
    def stderr_tail(self) -> list[str]:
        """The last lines that the engine printed, the oldest first."""
        return self._tail.lines()

    def rss_bytes(self) -> int | None:
        """Return the resident memory in bytes (mapped files count), `None` when it is gone."""
        try:
            return int(self._psutil.memory_info().rss) if self._psutil is not None else None
        except psutil.Error:
            return None

    def reason(self) -> str | None:
        """Return why the process ended or failed, as far as its output and exit code say."""
        code = self.returncode
        if code is not None and code < 0 and -code != signal.SIGABRT:
            return _signal_reason(-code)
        if self.load_seconds:
            return self._tail.last_reason()
        return self._tail.first_reason()

    def exit_error(self) -> EngineExited:
        """Return the error for a request that lost this process."""
        return EngineExited(self.spec.alias, returncode=self.returncode, reason=self.reason())

    async def exited(self) -> int:
        """Wait for the end of the process and of its output; return the exit code."""
        code = await asyncio.shield(self._exit)
        await asyncio.shield(self._drained)
        return code

    async def stop(self, *, timeout_s: float = 10.0) -> StopReport:
        """End the process: close stdin, then SIGTERM, then SIGKILL; safe to call twice.

        Being cancelled does not stop the stopping.

        Args:
            timeout_s: Seconds that it may take before SIGKILL.
        """
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._stop(timeout_s))
        return await asyncio.shield(self._stopping)

    async def _stop(self, timeout_s: float) -> StopReport:
        began = time.monotonic()
        rss = self.rss_bytes()
        means = "already" if self._exit.done() else await self._end(timeout_s)
        await self._close_pipes()
        return StopReport(
            exited=self._exit.done() and not self._is_there(),
            returncode=self.returncode,
            seconds=time.monotonic() - began,
            rss_before_bytes=rss,
            means=means,
        )

    async def _end(self, timeout_s: float) -> str:
        means = ""
        for way, act, wait_s in self._ways_to_end(timeout_s):
            means = way
            with contextlib.suppress(ProcessLookupError):
                act()
            await asyncio.wait({self._exit}, timeout=wait_s)
            if self._exit.done():
                break
        return means

    def _ways_to_end(self, timeout_s: float) -> Iterable[tuple[str, Callable[[], object], float]]:
        if self.spec.engine == "xllamacpp":
            yield "stdin", self._close_stdin, timeout_s * 0.6
            yield "term", self._process.terminate, timeout_s * 0.4
        else:
            # A llama-server binary does not read its stdin.
            yield "term", self._process.terminate, timeout_s
        yield "kill", self._process.kill, KILL_WAIT_S

    async def _abandon(self) -> None:
        # Loading may be stuck inside C++, where neither stdin nor a handler is looked at.
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self.stop()

    def _close_stdin(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()

    async def _close_pipes(self) -> None:
        self._close_stdin()
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                await self._process.stdin.wait_closed()
        if self._exit.done():
            await self._drained

    def _is_there(self) -> bool:
        return self._psutil is not None and self._psutil.is_running()

    async def _drain(self) -> None:
        # A full pipe would block the engine in the middle of an answer.
        assert self._process.stderr is not None
        while data := await self._process.stderr.read(2**16):
            self._tail.feed(data)

    async def _become_ready(self) -> None:
        external = self.spec.engine == "llama-server"
        host, port = self._endpoint.host, self._endpoint.port
        settings: dict[str, Any] = {"parent_pid": os.getpid()}
        if external:
            settings["exec"] = self.spec.llama_server_arguments(host=host, port=port)
        else:
            settings |= self.spec.worker_settings(host=host, port=port, key=self.key)
        assert self._process.stdin is not None and self._process.stdout is not None
        with contextlib.suppress(OSError):
            self._process.stdin.write(json.dumps(settings).encode() + b"\n")
            await self._process.stdin.drain()
        # The one line of a worker; end of file when it died, or became a llama-server.
        line = await self._process.stdout.readline()
        if external:
            await self._poll_health()
            self._address = host if self.socket_path else f"http://{host}:{port}"
        else:
            self._address = await self._read_answer(line)

    async def _read_answer(self, line: bytes) -> str:
        try:
            answer = json.loads(line)
        except ValueError:
            answer = {}
        if "address" not in answer:
            await self.exited()
            raise self._load_failed(answer.get("error"))
        return str(self.socket_path or answer["address"])

    async def _poll_health(self) -> None:
        while await http_status(self._endpoint, "/health") != 200:
            await asyncio.wait({self._exit}, timeout=POLL_S)
            if self._exit.done():
                await self.exited()
                raise self._load_failed(None)

    def _load_failed(self, said: str | None) -> LoadFailed:
        fallback = f"the engine ended with exit code {self.returncode}"
        # The engine says "failed to read header"; our reader says what is wrong with it.
        hint = f"Its header: {self._problem}." if self._problem else None
        return LoadFailed(self.spec.alias, self.reason() or said or fallback, hint=hint)


def prepared(spec: EngineSpec) -> tuple[EngineSpec, str | None]:
    """Return the spec clamped to the header of its file, and what is wrong there; blocking.

    A file that cannot be read is no error here: the engine gives the true reason.

    Raises:
        LoadFailed: When the file or a number would kill or hang the engine.
        ConfigError: When the `llama-server` binary is not known.
    """
    header: GGUFHeader | None = None
    problem: str | None = None
    try:
        header = read_header(spec.model_path)
    except BadModelFile as exc:
        problem = exc.reason
    if header is not None and header.missing_bytes:
        problem = f"it is truncated, {header.missing_bytes} bytes are missing"
    file_bytes = 0
    for path in shard_paths(spec.model_path):
        with contextlib.suppress(OSError, ValueError):
            file_bytes += path.stat().st_size
    return spec.clamped(header, file_bytes=file_bytes), problem


async def _spawn(spec: EngineSpec, key: str) -> asyncio.subprocess.Process:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("LLAMA_")}
    # Without this, an abort starts a debugger that prints to stdout.
    environment["GGML_NO_BACKTRACE"] = "1"
    if spec.engine == "llama-server":
        environment |= spec.llama_server_environment(key=key)
    # By path, not by module name: -P hides the working folder, and the package may live there.
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        str(WORKER),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
        start_new_session=True,
    )


def _psutil_process(pid: int) -> psutil.Process | None:
    try:
        return psutil.Process(pid)
    except psutil.Error:
        return None


def _signal_reason(number: int) -> str:
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    if number == signal.SIGKILL:
        return f"it was killed ({name}); the system does this when memory runs out"
    return f"it was ended by {name}"
