"""What the way through the server costs: tokens per second, its processor time, added latency."""

from __future__ import annotations

import asyncio
import json
import statistics
import tempfile
import time
from datetime import datetime
from pathlib import Path

import httpx
import ollama
import psutil

from tests.bench.report import Figure, percentile
from tests.bench.upstream import MODEL, upstream
from tests.server.harness import ServerProcess
from workbench.app import connect
from workbench.messages import TextDelta
from workbench.wire.lines import LineSplitter

TOKENS = 20_000
ROUNDS = 5
LATENCY_TOKENS = 300


def _text(count: int) -> str:
    return " ".join(f"word{number % 97}" for number in range(count))


def measure() -> list[Figure]:
    """Return the figures of the relay."""
    return [*_throughput(), *_latency()]


def _throughput() -> list[Figure]:
    direct: list[float] = []
    through: list[float] = []
    plain: list[float] = []
    cpu_us: list[float] = []
    with (
        upstream(text=_text(TOKENS)) as url,
        tempfile.TemporaryDirectory() as folder,
        ServerProcess(Path(folder) / "data", env={"OLLAMA_HOST": url}) as server,
        connect(server.url, token=server.token) as wb,
    ):
        process = psutil.Process(server.process.pid)
        list(wb.generate("warm", model=MODEL, stream=True))
        for _ in range(ROUNDS):
            direct.append(_official(url))
            before = _cpu_s(process)
            through.append(_ours(wb))
            cpu_us.append((_cpu_s(process) - before) / TOKENS * 1e6)
            plain.append(_plain_httpx(url))
    ours, theirs = statistics.median(through), statistics.median(direct)
    ratio, cost = ours / theirs, statistics.median(cpu_us)
    return [
        Figure(
            "relay: 20,000 tokens, our client through the server",
            ours,
            "tokens/s",
            f"official ollama client, no server between: {theirs:,.0f} tokens/s",
            "at least 0.8x",
            ratio >= 0.8,
        ),
        Figure("relay: ratio of the two", ratio, "x", "", "at least 0.8x", ratio >= 0.8),
        Figure(
            "relay: floor, bare httpx with json.loads, no server between",
            statistics.median(plain),
            "tokens/s",
        ),
        Figure(
            "relay: processor time of the server per token",
            cost,
            "us",
            "",
            "under 25 us",
            cost < 25,
        ),
    ]


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _official(url: str) -> float:
    client = ollama.Client(host=url, trust_env=False)
    started, count = time.perf_counter(), 0
    for part in client.generate(MODEL, "go", stream=True):
        count += bool(part.response)
    assert count == TOKENS, count
    return count / (time.perf_counter() - started)


def _ours(wb: object) -> float:
    started, count = time.perf_counter(), 0
    for event in wb.generate("go", model=MODEL, stream=True):  # type: ignore[attr-defined]
        count += isinstance(event, TextDelta)
    assert count == TOKENS, count
    return count / (time.perf_counter() - started)


def _plain_httpx(url: str) -> float:
    started, count = time.perf_counter(), 0
    body = {"model": MODEL, "prompt": "go"}
    with httpx.stream("POST", url + "/api/generate", json=body, trust_env=False) as response:
        for line in response.iter_lines():
            count += bool(json.loads(line).get("response"))
    assert count == TOKENS, count
    return count / (time.perf_counter() - started)


def _latency() -> list[Figure]:
    """Compare how old tokens are when they arrive, at 100 tokens/s, with and without the server.

    The upstream writes the time into each line; all run on one machine and one clock.
    """
    rate = 100.0
    with (
        upstream(text=_text(LATENCY_TOKENS), tokens_per_s=rate) as url,
        tempfile.TemporaryDirectory() as folder,
        ServerProcess(Path(folder) / "data", env={"OLLAMA_HOST": url}) as server,
    ):
        headers = {"Authorization": f"Bearer {server.token}"}
        asyncio.run(_ages(server.url, headers, limit=1))
        direct, relayed = [], []
        for _ in range(2):
            # One after the other: at the same time each would be the other's load.
            direct += asyncio.run(_ages(url, {}))
            relayed += asyncio.run(_ages(server.url, headers))
    added = percentile(relayed, 0.95) - percentile(direct, 0.95)
    middle = statistics.median(relayed) - statistics.median(direct)
    return [
        Figure(
            "relay: added latency per token at 100 tokens/s, p95",
            added * 1000,
            "ms",
            f"direct p95 {percentile(direct, 0.95) * 1000:.2f} ms; added median "
            f"{middle * 1000:.2f} ms",
            "under 2 ms",
            added < 0.002,
        )
    ]


async def _ages(url: str, headers: dict[str, str], *, limit: int | None = None) -> list[float]:
    """Return how many seconds old each line is when it arrives."""
    ages: list[float] = []
    splitter = LineSplitter()
    body = {"model": MODEL, "prompt": "go"}
    async with (
        httpx.AsyncClient(timeout=60, trust_env=False) as client,
        client.stream("POST", url + "/api/generate", json=body, headers=headers) as response,
    ):
        async for chunk in response.aiter_raw():
            now = time.time()
            for line in splitter.feed(chunk):
                made = datetime.fromisoformat(json.loads(line)["created_at"][:26] + "+00:00")
                ages.append(now - made.timestamp())
            if limit is not None and len(ages) >= limit:
                break
    return ages
