"""Two hundred clients at once, half of whom leave."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from typing import Any

import httpx
import pytest

from tests.server.harness import ServerProcess

STREAMS = 200
TOKENS = 60
MAX_RSS_BYTES = 150_000_000
PATIENCE_S = 60.0


async def answer(client: httpx.AsyncClient, number: int) -> dict[str, Any]:
    """Stream one answer; every other client leaves after its first line."""
    body = {
        "model": "rand",
        "prompt": f"client {number}",
        "options": {"num_predict": TOKENS, "seed": number},
    }
    lines = []
    async with client.stream("POST", "/api/generate", json=body) as response:
        assert 200 == response.status_code
        # Closed at once: else the collector does it some time later, in another test.
        async with contextlib.aclosing(response.aiter_lines()) as arriving:
            async for line in arriving:
                lines.append(json.loads(line))
                if number % 2:
                    return {"left": True, **lines[-1]}
    return {"left": False, **lines[-1]}


async def crowd(server: ServerProcess) -> list[dict[str, Any]]:
    """Run all clients at once and return the last line each has read."""
    limits = httpx.Limits(max_connections=None)
    headers = {"Authorization": f"Bearer {server.token}"}
    async with httpx.AsyncClient(
        base_url=server.url, headers=headers, timeout=None, limits=limits, trust_env=False
    ) as client:
        return await asyncio.gather(*(answer(client, number) for number in range(STREAMS)))


def in_flight(server: ServerProcess) -> int:
    """Return how many requests hold a model."""
    loaded = server.http.get("/workbench/v1/models/loaded").json()["models"]
    return sum(int(model["in_flight"]) for model in loaded)


@pytest.mark.timeout(180)
def test_those_who_stay_get_whole_answers(server: ServerProcess) -> None:
    """A hundred clients get all their tokens while a hundred leave, and nothing stays behind."""
    answers = asyncio.run(crowd(server))
    stayed = [line for line in answers if not line["left"]]
    assert [(True, "length", TOKENS)] * (STREAMS // 2) == [
        (line["done"], line["done_reason"], line["eval_count"]) for line in stayed
    ]
    deadline = time.monotonic() + PATIENCE_S
    while in_flight(server) and time.monotonic() < deadline:
        pass
    assert 0 == in_flight(server)
    assert server.http.get("/workbench/v1/info").json()["rss_bytes"] < MAX_RSS_BYTES
    assert "failed unexpectedly" not in server.log()
