"""Connections that Python opens beside the client: what no tape holds.

CPython tells its audit hooks of every `connect` of its `socket` module, whichever library makes
it.  What C code connects by itself (ZeroMQ of the kernel, DuckDB's httpfs) is not seen.
"""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

from workbench.client.tape import Recording, Replay, current_tape
from workbench.errors import ReplayMismatch

_OWN: ContextVar[bool] = ContextVar("workbench_own_connection", default=False)
_INTERNET = (socket.AF_INET, socket.AF_INET6)

_listeners: list[Callable[[str], None]] = []
_names: dict[object, str] = {}
_hooked = False


@contextlib.contextmanager
def own_connection() -> Iterator[None]:
    """Say that what is connected in the block is the client's own."""
    token = _OWN.set(True)
    try:
        yield
    finally:
        _OWN.reset(token)


def watch_connections(listener: Callable[[str], None]) -> Callable[[], None]:
    """Call `listener` with `host:port` of each TCP connection that is not the client's.

    The tape that is recorded where the connection is made gets a note; where one is played the
    connection is refused.  The listener is called in the connecting thread and must not connect.

    Returns:
        A function that ends the calls.
    """
    global _hooked
    _listeners.append(listener)
    if not _hooked:
        # It stays for the life of the process: Python knows no way to take one back.
        sys.addaudithook(_audit)
        _hooked = True

    def end() -> None:
        with contextlib.suppress(ValueError):
            _listeners.remove(listener)

    return end


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "socket.getaddrinfo":
        host, port = arguments[:2]
        if isinstance(host, str) and host:
            _names[port] = host
    elif event == "socket.connect" and _listeners and not _OWN.get():
        place = _place(*arguments[:2])
        if place is not None:
            _tell(place)


def _place(connecting: socket.socket, address: Any) -> str | None:
    """Return where a TCP connection goes, by its name when one was looked up for that port."""
    if connecting.family not in _INTERNET or connecting.type != socket.SOCK_STREAM:
        return None
    host, port = address[:2]
    return f"{_names.get(port) or _names.get(str(port)) or host}:{port}"


def _tell(place: str) -> None:
    tape = current_tape()
    if isinstance(tape, Replay):
        raise ReplayMismatch(
            f"it connects to {place}, and a replay connects to nothing.",
            tape=str(tape.path),
            hint="Only what goes through the workbench's client is on a tape.",
        )
    if isinstance(tape, Recording):
        tape.note(f"a connection to {place} beside the client")
    for listener in list(_listeners):
        listener(place)
