"""Ask an engine for its health with the standard library: HTTP clients live in the backends."""

from __future__ import annotations

import asyncio
import contextlib

from workbench.server.engine.endpoint import Endpoint


async def http_status(endpoint: Endpoint, path: str) -> int | None:
    """Return the status of `GET path`, or `None` when nothing answers there yet."""
    try:
        if endpoint.socket_path is not None:
            reader, writer = await asyncio.open_unix_connection(str(endpoint.socket_path))
        else:
            reader, writer = await asyncio.open_connection(endpoint.host, endpoint.port)
    except OSError:
        return None
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: engine\r\nConnection: close\r\n\r\n".encode())
        await writer.drain()
        return _status(await reader.readline())
    except (OSError, ValueError):
        return None
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def _status(line: bytes) -> int | None:
    parts = line.split()
    return int(parts[1]) if len(parts) > 1 and parts[1].isdigit() else None
