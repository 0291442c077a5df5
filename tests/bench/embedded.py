"""The embedded engine through the whole path, beside llama.cpp's own HTTP server."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.bench.report import Figure
from tests.server.harness import ServerProcess
from workbench.app import connect
from workbench.messages import TextDelta
from workbench.server.engine.process import EngineProcess
from workbench.server.engine.spec import EngineSpec
from workbench.testing.gguf import make_gguf

TOKENS = 64
ROUNDS = 4
TOYS = ("toy-nano", "toy-tiny")


def measure() -> list[Figure]:
    """Return the figures of the embedded engine."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        (data / "models").mkdir(parents=True)
        model = make_gguf(data / "models" / "big.gguf", params=150_000_000)
        with ServerProcess(data) as server:
            figures = _speed(server, model)
            figures += _swap(server)
            figures += _crowd(server)
        return figures


def _speed(server: ServerProcess, model: Path) -> list[Figure]:
    """Take turns, so that both see the same load of the machine."""
    ours: list[float] = []
    theirs: list[float] = []
    with connect(server.url, token=server.token) as wb, asyncio.Runner() as runner:
        wb.load("big")
        engine = runner.run(
            EngineProcess.start(EngineSpec(model_path=model, alias="big"), timeout_s=120)
        )
        try:
            for _ in range(ROUNDS):
                ours.append(_through(wb))
                theirs.append(runner.run(_llama_http(engine)))
        finally:
            runner.run(engine.stop())
        wb.unload("big")
    ratio = statistics.median(ours) / statistics.median(theirs)
    return [
        Figure(
            "embedded: 150M random weights through the whole path",
            statistics.median(ours),
            "tokens/s",
            f"llama.cpp's own HTTP: {statistics.median(theirs):.1f} tokens/s",
            "at least 0.9x",
            ratio >= 0.9,
        ),
        Figure("embedded: ratio of the two", ratio, "x", "", "at least 0.9x", ratio >= 0.9),
    ]


def _through(wb: Any) -> float:
    started, count = time.perf_counter(), 0
    options = {"temperature": 0, "num_predict": TOKENS}
    for event in wb.generate("go", model="big", stream=True, **options):
        count += isinstance(event, TextDelta)
    return count / (time.perf_counter() - started)


async def _llama_http(engine: EngineProcess) -> float:
    transport = httpx.AsyncHTTPTransport(uds=str(engine.socket_path))
    body = {
        "messages": [{"role": "user", "content": "go"}],
        "temperature": 0,
        "n_predict": TOKENS,
        "stream": True,
        "cache_prompt": False,
    }
    headers = {"Authorization": f"Bearer {engine.key}"}
    started, count = time.perf_counter(), 0
    async with (
        httpx.AsyncClient(transport=transport, timeout=60, base_url=engine.base_url) as client,
        client.stream("POST", "/v1/chat/completions", json=body, headers=headers) as response,
    ):
        async for line in response.aiter_lines():
            count += '"content":"' in line
    return count / (time.perf_counter() - started)


def _swap(server: ServerProcess) -> list[Figure]:
    """Unload one bundled model and load the other, until its first token."""
    seconds: list[float] = []
    with connect(server.url, token=server.token) as wb:
        wb.load(TOYS[0])
        for number in range(2 * ROUNDS):
            old, new = TOYS[number % 2], TOYS[(number + 1) % 2]
            started = time.perf_counter()
            wb.unload(old)
            wb.generate("Hello!", model=new, num_predict=1)
            seconds.append(time.perf_counter() - started)
        for name in TOYS:
            wb.unload(name)
    median = statistics.median(seconds)
    return [
        Figure(
            "embedded: swap of bundled models, until the first token",
            median,
            "s",
            f"slowest of {len(seconds)}: {max(seconds):.2f} s",
            "under 0.5 s",
            median < 0.5,
        )
    ]


def _crowd(server: ServerProcess) -> list[Figure]:
    process = psutil.Process(server.process.pid)
    started = time.perf_counter()
    whole, peak = asyncio.run(_hundred_chats(server, process))
    seconds = time.perf_counter() - started
    return [
        Figure(
            "embedded: 100 chats at once on two bundled models, whole answers",
            whole,
            "chats",
            f"all in {seconds:.1f} s",
            "100, no error",
            whole == 100,
        ),
        Figure(
            "embedded: most resident memory of the server meanwhile",
            peak / 1e6,
            "MB",
            "",
            "under 150 MB",
            peak < 150e6,
        ),
    ]


async def _hundred_chats(server: ServerProcess, process: psutil.Process) -> tuple[int, int]:
    peak = 0
    headers = {"Authorization": f"Bearer {server.token}"}
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(
        base_url=server.url, headers=headers, timeout=300, trust_env=False, limits=limits
    ) as client:

        async def one(number: int) -> bool:
            nonlocal peak
            body = {
                "model": TOYS[number % 2],
                "messages": [{"role": "user", "content": "What is the capital of France?"}],
            }
            async with client.stream("POST", "/api/chat", json=body) as response:
                last = b""
                async for chunk in response.aiter_raw():
                    last = chunk
                    peak = max(peak, process.memory_info().rss)
            return b'"done":true' in last

        done = await asyncio.gather(*(one(number) for number in range(100)))
    return sum(done), peak
