"""The server as a process: its seat, its port, its log and its end."""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import os
import secrets
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import uvicorn

from workbench._version import __version__
from workbench.config import Config, is_loopback
from workbench.errors import ConfigError, ServerNotRunning
from workbench.runtime import ServerRecord, ServerSeat, find_server, runtime_dir
from workbench.server.app import build_app
from workbench.server.core import Core, build_core
from workbench.server.protocol import Limits, guarded

log = logging.getLogger("workbench")

_FOLDER_HINT = "Choose a folder that you may write: --data-dir or WORKBENCH_DATA_DIR."
_PORT_ERRORS = {
    errno.EADDRINUSE: "Choose another --port; 0 takes a free one.",
    errno.EACCES: "Choose a --port of 1024 or more; lower ones are the administrator's.",
}

# Streams that run when the server ends get this long to see that they were cancelled.
GRACE_S = 3


def run_server(config: Config, *, auto: bool = False) -> int:
    """Serve until told to end; returns the exit code.

    Args:
        auto: Whether a client started this server: then it ends when nobody needs it.

    Raises:
        ServerNotRunning: When another server has the data folder.
        ConfigError: When the port is taken or the address is not allowed.
    """
    _check_address(config)
    _make_data_dir(config)
    seat = ServerSeat(config.data_dir)
    if not seat.take():
        running = find_server(config.data_dir)
        where = f" at {running.url} (process {running.pid})" if running else ""
        raise ServerNotRunning(
            f"another one serves {config.data_dir}{where}",
            hint="`workbench stop` ends it, or choose another --data-dir.",
        )
    try:
        listener = listen(config)
    except BaseException:
        seat.leave()
        raise
    _log_to_stderr()
    try:
        return asyncio.run(_serve(config, seat, listener, auto=auto))
    finally:
        listener.close()
        seat.leave()


def _check_address(config: Config) -> None:
    if is_loopback(config.host):
        return
    if not config.allow_remote or not config.allowed_hosts:
        raise ConfigError(
            f"{config.host} can be reached by other machines.",
            key="server.host",
            hint="Set server.allow_remote = true and server.allowed_hosts in workbench.toml.",
        )


def _make_data_dir(config: Config) -> None:
    try:
        config.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as exc:
        raise ConfigError(
            f"the data folder {config.data_dir} cannot be made: {exc.strerror}.",
            key="data_dir",
            hint=_FOLDER_HINT,
        ) from exc
    if not os.access(config.data_dir, os.W_OK | os.X_OK):
        raise ConfigError(
            f"the data folder {config.data_dir} cannot be written.",
            key="data_dir",
            hint=_FOLDER_HINT,
        )
    models = config.engine_models_dir
    if models.exists() and not models.is_dir():
        raise ConfigError(
            f"the models folder {models} is a file.",
            key="engine.models_dir",
            hint="Set engine.models_dir (WORKBENCH_MODELS_DIR) to a folder.",
        )


def listen(config: Config) -> socket.socket:
    """Listen on the port; only the default one may be replaced by a free one when it is taken."""
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    chosen = config.sources.get("server.port") != "default"
    for port in (config.port, 0):
        # Named as TCP: asyncio turns Nagle's delay off (40 ms per answer) only where it sees that.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((config.host.strip("[]"), port))
            # Two that start at once may both bind the port; only one of them can listen on it.
            listener.listen()
            return listener
        except OSError as exc:
            listener.close()
            if exc.errno != errno.EADDRINUSE or chosen:
                raise ConfigError(
                    f"cannot listen on {config.host}:{port}: {exc.strerror}.",
                    key="server.port" if exc.errno in _PORT_ERRORS else "server.host",
                    hint=_PORT_ERRORS.get(
                        exc.errno or 0, "Choose a --host that is an address of this machine."
                    ),
                ) from exc
    raise ConfigError(f"no free port on {config.host}.", key="server.port")


async def _serve(config: Config, seat: ServerSeat, listener: socket.socket, *, auto: bool) -> int:
    token = config.token or secrets.token_urlsafe(32)
    core = build_core(config, token=token, auto_started=auto, socket_folder=_socket_folder(seat))
    host, port = listener.getsockname()[:2]
    # What listens on every address is reached on this machine by loopback.
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    core.url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    await core.leave_out_self()
    server = _Server(core)
    _on_signals(asyncio.get_running_loop(), server.end)
    record = ServerRecord(
        core.url, token, __version__, str(config.data_dir), core.boot_id, os.getpid()
    )
    # What start-up made stays for life; the collector need not look at it again.
    gc.collect()
    gc.freeze()
    server.when_listening = lambda: _announce(seat, record, config, auto=auto)
    # Files that are new get their digests now, about a second per gigabyte, not at the first list.
    helpers = [
        asyncio.create_task(core.catalog.warm()),
        asyncio.create_task(_end_when_idle(core, server)),
    ]
    try:
        await server.serve(sockets=[listener])
    finally:
        for helper in helpers:
            helper.cancel()
        await asyncio.gather(*helpers, return_exceptions=True)
    log.info("server ended")
    return 0


def _socket_folder(seat: ServerSeat) -> Path:
    """Return a folder for engines' sockets, without those that a killed server left.

    Only the holder of the seat uses it, so whatever lies there is stale.
    """
    folder = runtime_dir() / seat.path.stem.replace("server-", "engines-")
    for left in folder.glob("*.sock"):
        left.unlink(missing_ok=True)
    return folder


class _Server(uvicorn.Server):
    """uvicorn without its signal handling, which re-raises before our seat is given back."""

    def __init__(self, core: Core) -> None:
        self.when_listening: Callable[[], None] = lambda: None
        self._events = core.events
        app = build_app(core, stop=self.end)
        limits = Limits(core.config.max_header_bytes, core.config.slow_client_s)
        super().__init__(
            uvicorn.Config(
                app,
                http=guarded(limits),
                ws="websockets-sansio",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_keep_alive=75,
                timeout_graceful_shutdown=GRACE_S,
                # Whatever the environment says: only a proxy on this machine may name its clients.
                forwarded_allow_ips="127.0.0.1",
                ws_max_size=core.config.max_body_bytes,
            )
        )

    def end(self) -> None:
        """End: streams that run are cancelled, engines are ended."""
        if self.should_exit:
            self.force_exit = True
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End what only listens at once, so that nobody waits for it; then the rest."""
        self._events.close()
        await super().shutdown(sockets=sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and only then tell clients where."""
        await super().startup(sockets=sockets)
        self.when_listening()

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve without touching signal handlers."""
        await self._serve(sockets)


def _on_signals(loop: asyncio.AbstractEventLoop, end: Callable[[], None]) -> None:
    def ended(name: str) -> None:
        log.info("signal %s", name)
        end()

    def handle(number: int, _: FrameType | None) -> None:
        # Only this is safe in a signal handler, which may interrupt the log in mid-line.
        loop.call_soon_threadsafe(ended, signal.Signals(number).name)

    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), handle)


def _announce(seat: ServerSeat, record: ServerRecord, config: Config, *, auto: bool) -> None:
    seat.publish(record)
    log.info("workbench %s serves %s at %s", __version__, config.data_dir, record.url)
    if not auto:
        print(f"Workbench server at {record.url} (data in {config.data_dir}).", flush=True)
        print("Clients on this machine find it by themselves; Ctrl-C ends it.", flush=True)


async def _end_when_idle(core: Core, server: _Server) -> None:
    limit = core.idle_exit_s
    if limit is None:
        return
    while True:
        await asyncio.sleep(max(0.05, min(5.0, limit / 4)))
        if core.idle_seconds() >= limit:
            core.events.emit("idle_exit", seconds=limit)
            server.end()
            return


def _log_to_stderr() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    for name, level in (("workbench", logging.INFO), ("uvicorn", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)
