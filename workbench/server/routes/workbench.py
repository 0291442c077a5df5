"""`/workbench/v1/*`: what the workbench's own clients ask."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing

import psutil
from starlette.requests import Request
from starlette.responses import Response

from workbench._version import __version__
from workbench.server.routes.common import (
    Endpoint,
    core_of,
)
from workbench.server.streaming import NDJSON, StreamResponse, json_response
from workbench.wire.ollama import encode_line

PROTOCOL_VERSION = 1

log = logging.getLogger("workbench")


async def info(request: Request) -> Response:
    """Describe the server and its backends."""
    core = core_of(request)
    facts = await asyncio.gather(*(backend.facts() for backend in core.backends.values()))
    sources = {entry.name: entry.source for entry in core.config.backends}
    process = psutil.Process()
    return json_response(
        {
            "name": "workbench",
            "version": __version__,
            "protocol": PROTOCOL_VERSION,
            "data_dir": str(core.config.data_dir),
            "boot_id": core.boot_id,
            "pid": process.pid,
            "started_at": core.started_at,
            "auto_started": core.auto_started,
            "url": core.url,
            "idle_exit_s": core.idle_exit_s,
            "rss_bytes": process.memory_info().rss,
            "backends": [
                {
                    "name": fact.name,
                    "kind": fact.kind,
                    "url": fact.url,
                    "reachable": fact.reachable,
                    "error": fact.error,
                    "version": fact.version,
                    "source": sources.get(fact.name, "found"),
                }
                for fact in facts
            ],
        }
    )


async def openapi(request: Request) -> Response:
    """Return the description of this API."""
    return json_response(request.app.state.openapi)


async def events(request: Request) -> Response:
    """Stream what the server decides, as NDJSON, until the client goes.

    Recent events come first, unless the query says `recent=0`.
    """
    core = core_of(request)
    recent = request.query_params.get("recent", "1") != "0"

    async def lines() -> AsyncGenerator[bytes, None]:
        with core.residency.watched():
            async with aclosing(core.events.follow(recent=recent)) as following:
                async for event in following:
                    yield encode_line(event)

    return StreamResponse(lines(), media_type=NDJSON)


async def shutdown(request: Request) -> Response:
    """End the server: requests that run are cancelled, engines are ended and seen to be gone."""
    log.info("shutdown was asked for")
    stop = request.app.state.stop
    asyncio.get_running_loop().call_later(0.05, stop)
    return json_response({"stopping": True})


_TAG = "Workbench"
_V1 = "/workbench/v1"
ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint("GET", f"{_V1}/info", info, "Describe the server", _TAG),
    Endpoint("GET", f"{_V1}/openapi.json", openapi, "Describe this API", _TAG),
    Endpoint("GET", f"{_V1}/events", events, "Follow what the server decides", _TAG,
             answers=("ndjson",), query=(("recent", "integer"),)),
    Endpoint("POST", f"{_V1}/shutdown", shutdown, "End the server", _TAG),
)  # fmt: skip
