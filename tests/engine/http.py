"""Talk to an engine process over its socket, without pooled connections."""

from __future__ import annotations

from typing import Any

import httpx

from workbench.server.engine.process import EngineProcess


def client(engine: EngineProcess, *, key: str | None = None) -> httpx.AsyncClient:
    """Return a client of `engine` with its key, or with another one."""
    return httpx.AsyncClient(
        transport=httpx.AsyncHTTPTransport(
            uds=str(engine.socket_path), limits=httpx.Limits(max_keepalive_connections=0)
        ),
        base_url=engine.base_url,
        headers={"Authorization": f"Bearer {engine.key if key is None else key}"},
        timeout=60,
        trust_env=False,
    )


async def complete(engine: EngineProcess, prompt: str, **options: Any) -> str:
    """Return the text after `prompt`."""
    async with client(engine) as http:
        answer = await http.post("/completion", json={"prompt": prompt, **options})
        answer.raise_for_status()
        return str(answer.json()["content"])
