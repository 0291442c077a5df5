"""Find the server a kernel is to use: the address given, the running one, or a new one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from workbench.client.api import WorkbenchClient
from workbench.client.http import Address, Deadlines
from workbench.client.records import Spool, spool_folder
from workbench.config import Config, load_config
from workbench.errors import ServerNotRunning
from workbench.metrics.journal import open_writer
from workbench.runtime import ServerRecord, ensure_server, find_server
from workbench.units import sortable_id


def client_config(
    *, url: str | None = None, token: str | None = None, data_dir: str | Path | None = None
) -> Config:
    """Read the configuration with what the caller gave laid over it."""
    return load_config(flags={"url": url, "token": token, "data_dir": data_dir})


def open_client(config: Config, *, spawn: bool = True) -> WorkbenchClient:
    """Return a client that finds its server at the first request; nothing is connected yet.

    Args:
        spawn: Whether a server may be started when none runs; never with `config.url`.
    """
    deadlines = Deadlines(config.first_token_s, config.stall_s)
    session = sortable_id()
    if config.url is not None:
        client = WorkbenchClient(
            config.url, token=config.token, deadlines=deadlines, session=session
        )
        folder = spool_folder(config.data_dir, config.url)
        client.records = Spool(folder, client.post_rows, session=session)
    else:
        resolve = resolver(config.data_dir, spawn=spawn)
        client = WorkbenchClient(None, resolve=resolve, deadlines=deadlines, session=session)
        client.records = open_writer(config, session_id=session)
    return client


def resolver(data_dir: Path, *, spawn: bool) -> Callable[[], Address]:
    """Return the blocking function that finds the server of `data_dir`, or starts it."""

    def resolve() -> ServerRecord:
        if spawn:
            return ensure_server(data_dir)
        found = find_server(data_dir)
        if found is None:
            raise ServerNotRunning(
                f"none is running for {data_dir}", hint="Start one: workbench serve."
            )
        return found

    return resolve
