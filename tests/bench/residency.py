"""Models and memory over real sockets: a backlog by model, the control path, the polls."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.bench.report import Figure, percentile
from tests.server.harness import ServerProcess
from workbench.testing import FakeModel, RecordedRequest, Reply, ScriptedOllama

MODELS = ("a:latest", "b:latest", "c:latest")
CLIENTS, REQUESTS, LOAD_S, WAIT_S = 4, 30, 2.0, 30.0
GENERATION_S = (0.05, 0.2)
MODEL_BYTES = 6_000_000_000
ROUNDS = 300
WATCHERS, WATCHED_S = 20, 12.0

NOTES = (
    f"Over sockets: {CLIENTS} clients submit {REQUESTS} requests each at once, over "
    f"{len(MODELS)} models in turn, out of step, to the scripted Ollama with its scheduler, "
    f"memory for one model, load {LOAD_S:g} s, {GENERATION_S[0]:g} to {GENERATION_S[1]:g} s per "
    f"request, one at a time, W = {WAIT_S:g} s; the peer is that scheduler alone, which serves "
    "first come, first served.",
    f"Control path: {ROUNDS} requests on a warm model, through the server and straight at the "
    "same upstream in turn.",
    f"Polls: {WATCHERS} clients follow the events and ask for models in memory every second for "
    f"{WATCHED_S:g} s; the floor is one poll per 2 s, the shortest idle interval.",
)


def measure() -> list[Figure]:
    """Return the figures of models and memory."""
    return [*_backlog(), *_control_path(), *_polls()]


@dataclass(frozen=True, slots=True)
class _Served:
    total_s: float
    loads: int
    longest_s: float


def _seconds(client: int, number: int) -> float:
    """Return how long a request generates: spread evenly, the same in every run."""
    low, high = GENERATION_S
    return low + (high - low) * ((client * REQUESTS + number) * 37 % 100) / 99


def _reply(request: RecordedRequest) -> Reply:
    prompt = str((request.json or {}).get("prompt", "0"))
    return Reply(["done"], first_token_s=float(prompt))


def _host() -> ScriptedOllama:
    models = [
        FakeModel(name, size_bytes=MODEL_BYTES, load_s=LOAD_S, digest=f"{number + 1:064x}")
        for number, name in enumerate(MODELS)
    ]
    return ScriptedOllama(
        models=models,
        reply=_reply,
        memory_bytes=MODEL_BYTES * 3 // 2,
        margin_bytes=0,
        max_loaded=1,
        parallel=1,
    )


async def _submit(url: str, headers: dict[str, str]) -> tuple[float, float]:
    """Send everything at once; returns the whole time and the longest wait for an answer."""
    waits: list[float] = []
    started = time.perf_counter()

    async def ask(client: httpx.AsyncClient, number: int, who: int) -> None:
        model = MODELS[(number + who) % len(MODELS)]
        body = {"model": model, "prompt": f"{_seconds(who, number):.3f}", "stream": False}
        answer = await client.post(f"{url}/api/generate", json=body, headers=headers)
        answer.raise_for_status()
        waits.append(time.perf_counter() - started)

    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(timeout=None, trust_env=False, limits=limits) as client:
        jobs = [ask(client, number, who) for number in range(REQUESTS) for who in range(CLIENTS)]
        await asyncio.gather(*jobs)
    return time.perf_counter() - started, max(waits)


def _first_come() -> _Served:
    with _host() as host:
        total_s, longest_s = asyncio.run(_submit(host.url, {}))
        return _Served(total_s, len(host.loads), longest_s)


def _ours() -> _Served:
    with ExitStack() as stack:
        host = stack.enter_context(_host())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "workbench.toml").write_text(
            f"[queue]\ninteractive_wait_s = {WAIT_S}\nconcurrency = 1\n"
            f'[[backend]]\nname = "ollama"\nkind = "ollama"\nurl = "{host.url}"\n'
            f'vram = {MODEL_BYTES * 3 // 2}\nswap = "auto"\n'
        )
        server = stack.enter_context(ServerProcess(folder))
        headers = {"Authorization": f"Bearer {server.token}"}
        total_s, longest_s = asyncio.run(_submit(server.url, headers))
        return _Served(total_s, len(host.loads), longest_s)


def _backlog() -> list[Figure]:
    theirs, ours = _first_come(), _ours()
    ratio = ours.total_s / theirs.total_s
    work_s = sum(_seconds(who, number) for who in range(CLIENTS) for number in range(REQUESTS))
    bound_s = WAIT_S + work_s + LOAD_S * len(MODELS)
    return [
        Figure(
            "queue: a backlog on three models, memory for one, total",
            ours.total_s,
            "s",
            f"first come, first served: {theirs.total_s:.1f} s; floor: "
            f"{work_s + LOAD_S * len(MODELS):.1f} s",
            "at most 0.35x",
            ratio <= 0.35,
        ),
        Figure("queue: ratio of the two", ratio, "x", "", "at most 0.35x", ratio <= 0.35),
        Figure(
            "queue: loads in that backlog",
            ours.loads,
            "loads",
            f"first come, first served: {theirs.loads}; least possible: {len(MODELS)}",
            "within 1.2x of the least",
            ours.loads <= 1.2 * len(MODELS),
        ),
        Figure(
            "queue: longest wait for an answer in that backlog",
            ours.longest_s,
            "s",
            f"first come, first served: {theirs.longest_s:.1f} s; its bound: {bound_s:.1f} s",
            "within its bound",
            ours.longest_s <= bound_s,
        ),
    ]


def _control_path() -> list[Figure]:
    """Compare whole answers of one piece on a warm model, with and without the server."""
    with (
        ScriptedOllama(models=[FakeModel("a:latest")], reply=Reply(["done"])) as host,
        tempfile.TemporaryDirectory() as folder,
        ServerProcess(Path(folder) / "data", env={"OLLAMA_HOST": host.url}) as server,
        httpx.Client(timeout=60, trust_env=False) as client,
    ):
        headers = {"Authorization": f"Bearer {server.token}"}
        direct: list[float] = []
        through: list[float] = []
        for number in range(ROUNDS + 20):
            once, twice = _timed(client, host.url, {}), _timed(client, server.url, headers)
            # The first ones load, and open connections.
            if number >= 20:
                direct.append(once)
                through.append(twice)
    added = percentile(through, 0.95) - percentile(direct, 0.95)
    middle = statistics.median(through) - statistics.median(direct)
    return [
        Figure(
            "residency: added latency of the control path on a warm model, p95",
            added * 1000,
            "ms",
            f"direct p95 {percentile(direct, 0.95) * 1000:.2f} ms; added median "
            f"{middle * 1000:.2f} ms",
            "under 3 ms",
            added < 0.003,
        )
    ]


def _timed(client: httpx.Client, url: str, headers: dict[str, str]) -> float:
    body: dict[str, Any] = {"model": "a:latest", "prompt": "go", "stream": False}
    started = time.perf_counter()
    client.post(f"{url}/api/generate", json=body, headers=headers).raise_for_status()
    return time.perf_counter() - started


def _polls() -> list[Figure]:
    """Count the polls of a host that many watch."""
    with (
        ScriptedOllama(models=[FakeModel("a:latest")], reply=Reply(["done"])) as host,
        tempfile.TemporaryDirectory() as folder,
        ServerProcess(Path(folder) / "data", env={"OLLAMA_HOST": host.url}) as server,
    ):
        headers = {"Authorization": f"Bearer {server.token}"}
        server.http.post("/workbench/v1/load", json={"model": "a:latest"}).raise_for_status()
        before = _count(host)
        asyncio.run(_watch(server.url, headers))
        polls = _count(host) - before
    floor = WATCHED_S / 2.0
    return [
        Figure(
            f"residency: polls of a host that {WATCHERS} clients watch for {WATCHED_S:g} s",
            polls,
            "polls",
            f"one per 2 s: {floor:g}; one per question of each client: {WATCHERS * WATCHED_S:g}",
            "one per interval",
            polls <= floor + 2,
        )
    ]


def _count(host: ScriptedOllama) -> int:
    return sum(request.operation == "ps" for request in host.requests)


async def _watch(url: str, headers: dict[str, str]) -> None:
    async def one(client: httpx.AsyncClient) -> None:
        async with client.stream("GET", f"{url}/workbench/v1/events", headers=headers):
            for _ in range(int(WATCHED_S)):
                answer = await client.get(f"{url}/workbench/v1/models/loaded", headers=headers)
                answer.raise_for_status()
                await asyncio.sleep(1.0)

    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(timeout=60, trust_env=False, limits=limits) as client:
        await asyncio.gather(*(one(client) for _ in range(WATCHERS)))
