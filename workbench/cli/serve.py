"""`workbench serve`, `status`, `stop` and `logs`."""

from __future__ import annotations

import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from workbench.cli.base import json_option, open_workbench, print_json, safe, say
from workbench.errors import ServerNotRunning, WorkbenchError
from workbench.units import format_bytes, format_seconds

if TYPE_CHECKING:
    import psutil

    from workbench.client.values import BackendInfo, ServerInfo
    from workbench.runtime import ServerRecord

_STOP_S = 20.0
_FORCED_STOP_S = 3.0
_ANSWER_S = 2.0
_FOLLOW_S = 0.3


@click.command()
@click.option("--host", metavar="ADDRESS", help="Address to listen on; 127.0.0.1 by default.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help="Port to listen on; 11500 by default, or a free one if that is taken; 0 is a free one.",
)
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of conversations, models and state.",
)
@click.option(
    "--token",
    metavar="TEXT",
    help="Token that clients must send. Every user of this machine can read a command line: "
    "better set WORKBENCH_TOKEN.",
)
@click.option(
    "--idle-exit",
    metavar="TIME",
    help="End by itself after this time without work, such as 30m; 0, the default here, is never.",
)
@click.option("--allow-remote", is_flag=True, default=None, help="Allow other machines to connect.")
@click.option("--auto", is_flag=True, hidden=True)
def serve(
    host: str | None,
    port: int | None,
    data_dir: Path | None,
    token: str | None,
    idle_exit: str | None,
    allow_remote: bool | None,
    auto: bool,
) -> None:
    """Run the server until Ctrl-C.

    Notebooks and commands start one by themselves when none runs; this one stays in sight.
    It listens on this machine only, and wants a token.
    """
    from workbench.config import load_config
    from workbench.server.serve import run_server

    flags = {
        "server.host": host,
        "server.port": port,
        "data_dir": data_dir,
        "token": token,
        "server.idle_exit_s": idle_exit,
        "server.allow_remote": allow_remote,
    }
    raise click.exceptions.Exit(run_server(load_config(flags=flags), auto=auto))


@click.command(short_help="Make a token for somebody else.")
@click.argument("name")
@json_option
def token(name: str, as_json: bool) -> None:
    """Make a token for a person or program called NAME, and print it once.

    The hash that is printed with it goes into workbench.toml; the token itself is stored nowhere.
    """
    from workbench.config import load_config, new_token
    from workbench.config.tokens import is_token_name

    if not is_token_name(name):
        raise click.UsageError("A token's name is letters, digits, '.', '_' and '-'.")
    secret, digest = new_token()
    if as_json:
        print_json({"name": name, "token": secret, "sha256": digest})
        return
    say(f"Give {name} this token; it is not shown again:")
    click.echo(secret)
    say(f"Add this to {load_config().file} and start the server again:")
    click.echo(f'\n[[token]]\nname = "{name}"\nsha256 = "{digest}"')


@click.command(short_help="Say whether the server runs, and where.")
@json_option
def status(as_json: bool) -> None:
    """Say whether the server runs, where, and with which backends; starts none.

    The exit code is 1 when it does not run.
    """
    try:
        info = open_workbench(spawn=False).info()
    except ServerNotRunning as exc:
        if not as_json:
            raise
        print_json({"running": False, "reason": exc.reason})
        raise click.exceptions.Exit(1) from exc
    if as_json:
        print_json({"running": True, **asdict(info)})
        return
    rows = {
        "address": info.url,
        "version": info.version,
        "process": "unknown" if info.pid is None else str(info.pid),
        "memory": format_bytes(info.rss_bytes),
        "data": info.data_dir,
        "started": _started(info),
        "idle exit": "never" if not info.idle_exit_s else format_seconds(info.idle_exit_s),
    }
    for backend in info.backends:
        rows[backend.name] = f"{backend.kind}, {_found(backend)}"
    width = max(map(len, rows))
    for name, value in rows.items():
        click.echo(safe(f"{name.ljust(width)}  {value}".rstrip()))


def _started(info: ServerInfo) -> str:
    if info.started_at is None:
        return "unknown"
    moment = datetime.fromisoformat(info.started_at).astimezone(UTC)
    return f"{moment:%Y-%m-%d %H:%M} UTC{', by itself' if info.auto_started else ''}"


def _found(backend: BackendInfo) -> str:
    if backend.reachable:
        return backend.version or "reachable"
    if backend.source == "found":
        # Nobody configured it, so that it is not there is no error.
        return f"none at {backend.url} (embedded models need none)"
    return backend.error or "not reachable"


@click.command(short_help="Stop the server.")
@click.option("--force", is_flag=True, help="Kill it when it does not end by itself.")
def stop(force: bool) -> None:
    """Stop the server: answers are broken off, models leave memory, conversations are kept."""
    from workbench.config import load_config
    from workbench.runtime import find_server

    config = load_config()
    record = None if config.url is not None else find_server(config.data_dir)
    if record is None and config.url is None:
        say(f"not running for {config.data_dir}")
        return
    problem = _ask_to_stop()
    if record is not None:
        _await_end(record, problem, force)
    elif problem is not None:
        raise problem
    say(f"stopped {record.url if record else config.url}")


def _ask_to_stop() -> WorkbenchError | None:
    from workbench.client.door import client_config, open_client
    from workbench.portal import get_portal

    client = open_client(client_config(), spawn=False)
    try:
        ask = client.request_json("POST", "/workbench/v1/shutdown", {}, timeout_s=_ANSWER_S)
        get_portal().run(ask)
    except WorkbenchError as exc:
        return exc
    return None


def _await_end(record: ServerRecord, problem: WorkbenchError | None, force: bool) -> None:
    """Wait until the process has ended; the lock it held proves that the pid is the server's."""
    import psutil

    try:
        process = psutil.Process(record.pid)
        if problem is not None:
            process.terminate()
        if _ended_within(process, _FORCED_STOP_S if force else _STOP_S):
            return
        if not force:
            raise WorkbenchError(
                f"The server (process {record.pid}) has not ended within {_STOP_S:g} s.",
                hint="Kill it: workbench stop --force",
            )
        process.kill()
        _ended_within(process, _STOP_S)
    except psutil.NoSuchProcess:
        return


def _ended_within(process: psutil.Process, seconds: float) -> bool:
    """Whether a process ends in time; one whose parent has not asked for its end counts."""
    import psutil

    deadline = time.monotonic() + seconds
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@click.command(short_help="Print the end of the server's log.")
@click.option("-n", "--lines", default=50, show_default=True, help="How many lines to print.")
@click.option("-f", "--follow", is_flag=True, help="Go on with new lines until Ctrl-C.")
@click.option("--path", "only_path", is_flag=True, help="Print only where the file is.")
def logs(lines: int, follow: bool, only_path: bool) -> None:
    """Print the end of the log of the server that was started by itself."""
    from workbench.config import load_config
    from workbench.runtime import log_path, log_tail

    data_dir = load_config().data_dir
    path = log_path(data_dir)
    if only_path:
        click.echo(str(path))
        return
    if not path.exists():
        raise WorkbenchError(
            f"There is no log at {path}.",
            hint="Only a server that was started by itself writes one; `serve` logs to stderr.",
        )
    offset = path.stat().st_size
    text = log_tail(data_dir, lines=lines)
    if text:
        click.echo(safe(text))
    while follow:
        time.sleep(_FOLLOW_S)
        offset = _print_new(path, offset)


def _print_new(path: Path, offset: int) -> int:
    """Print what was added after `offset`, and return the new end; a rotated log begins anew."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            file.seek(offset if offset <= size else 0)
            added: Any = file.read()
            end = file.tell()
    except FileNotFoundError:
        return 0
    if added:
        click.echo(safe(added.decode("utf-8", "replace")), nl=False)
    return end
