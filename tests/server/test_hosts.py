"""Residency on an Ollama host that plays its scheduler: what is reported is what was seen."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Self

import pytest

from workbench.errors import SwapRequired, UnloadFailed, WorkbenchError
from workbench.server.backends.base import Backend, ModelEntry
from workbench.server.backends.ollama import OllamaBackend
from workbench.server.events import Events
from workbench.server.residency.manager import Residency
from workbench.server.residency.pace import Pace
from workbench.server.residency.parts import Limits
from workbench.server.residency.resident import Resident, UnloadReport, runner_options
from workbench.server.residency.tickets import Want
from workbench.server.state import State
from workbench.testing import FakeModel, ForeignClient, Reply, ScriptedOllama

GB = 10**9
MODELS = [
    FakeModel("a", size_bytes=3 * GB),
    FakeModel("b", size_bytes=3 * GB),
    FakeModel("c", size_bytes=3 * GB),
]
PACE = Pace(
    moving_s=0.02,
    idle_s=0.2,
    fresh_s=0.05,
    request_wait_s=5.0,
    gone_s=2.0,
    released_s=2.0,
    retry_s=0.2,
    stuck_s=0.4,
)


class Card:
    """A GPU reader that sees the scripted server's memory."""

    def __init__(self, host: ScriptedOllama) -> None:
        self._host = host

    async def free_bytes(self, backend: Backend) -> int | None:
        """Return what nobody holds."""
        total = self._host.memory_bytes or 0
        return total - self._host.used_bytes - self._host.other_bytes

    async def total_bytes(self, backend: Backend) -> int | None:
        """Return all of it."""
        return self._host.memory_bytes


class Bench:
    """A residency over a scripted host of 8 GB, with a card that can be read."""

    def __init__(
        self,
        folder: Path,
        *models: FakeModel,
        limits: Limits | None = None,
        pace: Pace = PACE,
        **script: Any,
    ) -> None:
        self.server = ScriptedOllama(models=models or MODELS, **({"memory_bytes": 8 * GB} | script))
        self._folder = folder
        self._limits = limits or Limits()
        self._pace = pace

    async def __aenter__(self) -> Self:
        self.server.start()
        self.events = Events()
        self.backend = OllamaBackend("ollama", self.server.url)
        self.residency = Residency(
            self.events, State(self._folder), witness=Card(self.server), pace=self._pace
        )
        self.host = self.residency.add(self.backend, self._limits)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.residency.close()
        await self.backend.close()
        self.server.close()

    async def entry(self, name: str) -> ModelEntry:
        """Return a model as the host lists it."""
        found = {item.name: item for item in await self.backend.models()}
        return found[f"{name}:latest"]

    async def use(self, name: str, **changes: Any) -> None:
        """Run one request on a model."""
        options = changes.pop("options", {})
        want = Want(await self.entry(name), runner_options({"options": options}), **changes)
        async with self.residency.use(self.backend, want) as hold:
            body = hold.body({"model": name, "prompt": "hi", "options": options})
            async with self.backend.stream("generate", body) as stream:
                async for _ in stream:
                    pass

    async def unload(self, name: str, **changes: Any) -> UnloadReport:
        """Unload a model."""
        entry = await self.entry(name)
        return await self.residency.unload(self.backend, entry, **changes)

    async def resident(self, name: str) -> Resident | None:
        """Return a model in memory as it is known here."""
        found = await self.residency.find(self.backend, await self.entry(name))
        return found[0] if found else None

    async def see(self) -> None:
        """Look at what the host has loaded."""
        await self.residency.snapshot(self.backend, max_age_s=0.0)

    def told(self, *names: str) -> list[dict[str, Any]]:
        """Return the events of these names."""
        return [item for item in self.events.recent if item["event"] in names]


def go(work: Coroutine[Any, Any, None]) -> None:
    """Run a test's coroutine, never for ever."""

    async def main() -> None:
        async with asyncio.timeout(60):
            await work

    asyncio.run(main())


async def until(condition: Any) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - a server in a thread has no event for it
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("lag_s", [0.0, 0.5])
def test_unload_is_verified_when_its_memory_is_back(lag_s: float, tmp_path: Path) -> None:
    """However late the driver frees it, the unload ends when it is free, and says how much."""

    async def main() -> None:
        async with Bench(tmp_path, vram_lag_s=lag_s) as bench:
            await bench.use("a")
            held = bench.server.used_bytes
            report = await bench.unload("a")
            assert ("verified", 0) == (report.verdict, bench.server.used_bytes)
            assert (held, 0) == (report.bytes_before, report.bytes_after)
            (told,) = bench.told("unloaded")
            assert ("verified", "asked for") == (told["verdict"], told["reason"])

    go(main())


def test_memory_that_does_not_come_back_is_said(tmp_path: Path) -> None:
    """A model that is gone while its memory is not is never called verified."""

    async def main() -> None:
        async with Bench(tmp_path, vram_lag_s=float("inf")) as bench:
            await bench.use("a")
            report = await bench.unload("a")
            assert "gone_unverified" == report.verdict
            assert report.reason and "came back" in report.reason
            assert report.bytes_after == report.bytes_before
            bench.server.release_vram()

    go(main())


def test_memory_that_another_process_takes_ends_the_waiting(tmp_path: Path) -> None:
    """What comes back and no longer changes is told with its bytes, before the time is over."""

    async def main() -> None:
        async with Bench(tmp_path, vram_lag_s=float("inf")) as bench:
            await bench.use("a")
            held = bench.server.used_bytes
            unloading = asyncio.create_task(bench.unload("a"))
            await until(lambda: not bench.server.loaded)
            # Most of what comes back is taken by somebody else at once.
            bench.server.other_bytes = held * 6 // 10
            bench.server.release_vram()
            report = await unloading
            assert "gone_unverified" == report.verdict
            assert report.bytes_after is not None and 0 < report.bytes_after < held

    go(main())


@pytest.mark.parametrize("lag_s", [0.0, 0.5])
def test_swap_waits_for_the_memory_so_that_nothing_is_split(lag_s: float, tmp_path: Path) -> None:
    """Our eviction comes before the load and is verified: Ollama never evicts by itself."""

    async def main() -> None:
        async with Bench(tmp_path, vram_lag_s=lag_s) as bench:
            for name in ("a", "b", "c", "a"):
                await bench.use(name)
                resident = await bench.resident(name)
                assert resident is not None and 0 == resident.offload_bytes
            assert (0, 0) == (bench.server.evictions, bench.server.reloads)
            assert ["verified"] * len(bench.told("unloaded")) == [
                item["verdict"] for item in bench.told("unloaded")
            ]
            assert bench.told("swap")

    go(main())


def test_options_never_reload_by_accident(tmp_path: Path) -> None:
    """Requests without options run on what is loaded; another context is a swap of our own."""

    async def main() -> None:
        async with Bench(tmp_path) as bench:
            await bench.use("a", options={"num_ctx": 2048})
            for options in ({}, {"temperature": 0.5}, {"num_ctx": 2048}):
                await bench.use("a", options=options)
            assert (0, 1) == (bench.server.reloads, len(bench.server.loads))
            await bench.use("a", options={"num_ctx": 1024})
            assert (0, 2) == (bench.server.reloads, len(bench.server.loads))
            (swap,) = bench.told("swap")
            assert ["a:latest"] == swap["evicted"]

    go(main())


def test_models_of_one_file_share_their_place(tmp_path: Path) -> None:
    """Two models FROM one GGUF are one runner: one load serves both, any unload ends both."""
    models = [
        FakeModel("base", size_bytes=3 * GB, blob="a" * 64),
        FakeModel("derived", size_bytes=3 * GB, blob="a" * 64),
    ]

    async def main() -> None:
        async with Bench(tmp_path, *models) as bench:
            await bench.use("base")
            await bench.use("derived")
            assert 1 == len(bench.server.loads)
            resident = await bench.resident("derived")
            assert resident is not None and "base:latest" == resident.name
            report = await bench.unload("derived")
            assert ("verified", set()) == (report.verdict, bench.server.loaded)

    go(main())


def test_model_of_another_client_leaves_only_with_consent(tmp_path: Path) -> None:
    """In auto a model that somebody else loaded is in the way; the refusal names it."""

    async def main() -> None:
        async with Bench(tmp_path) as bench:
            with ForeignClient(bench.server) as other:
                await asyncio.to_thread(other.load, "a")
                await asyncio.to_thread(other.load, "b")
                await bench.see()
                with pytest.raises(SwapRequired) as caught:
                    await bench.use("c")
                assert "foreign" in {row["reason"] for row in caught.value.plan["evict"]}
                assert {"a:latest", "b:latest"} == bench.server.loaded
                await bench.use("c", swap=True)
                assert "c:latest" in bench.server.loaded
                assert 0 == bench.server.evictions

    go(main())


def test_pinned_model_leaves_only_by_force(tmp_path: Path) -> None:
    """Pinned ones stay whatever is asked for; who is refused is told which they are."""

    async def main() -> None:
        async with Bench(tmp_path) as bench:
            for name in ("a", "b"):
                entry = await bench.entry(name)
                await bench.residency.prefer(bench.backend, entry, actor="test", pinned=True)
                await bench.use(name)
            for consent in ({}, {"swap": True}):
                with pytest.raises(SwapRequired) as caught:
                    await bench.use("c", **consent)
                assert ["pinned"] == [row["reason"] for row in caught.value.plan["evict"]]
            await bench.use("c", force=True)
            assert "c:latest" in bench.server.loaded

    go(main())


def test_leased_model_holds_until_its_lease_ends(tmp_path: Path) -> None:
    """A person is refused, a batch request waits for the end of the lease."""

    async def main() -> None:
        async with Bench(tmp_path) as bench:
            names = [f"{name}:latest@ollama" for name in ("a", "b")]
            lease = bench.residency.acquire_lease(names, 60.0, "a run")
            for name in ("a", "b"):
                await bench.use(name)
            with pytest.raises(SwapRequired) as caught:
                await bench.use("c")
            assert ["leased"] == [row["reason"] for row in caught.value.plan["evict"]]
            batch = asyncio.create_task(bench.use("c", cls="batch"))
            await asyncio.sleep(0.1)
            assert not batch.done()
            bench.residency.release_lease(lease.id)
            await batch
            assert "c:latest" in bench.server.loaded

    go(main())


def test_manual_mode_asks_with_the_plan(tmp_path: Path) -> None:
    """Nothing leaves before somebody agreed; what is loaded and fits needs no consent."""

    async def main() -> None:
        async with Bench(tmp_path, limits=Limits("manual")) as bench:
            for name in ("a", "b", "a"):
                await bench.use(name)
            with pytest.raises(SwapRequired) as caught:
                await bench.use("c")
            plan = caught.value.plan
            (row,) = plan["evict"]
            assert ("c:latest", "idle") == (plan["model"], row["reason"])
            assert row["bytes"] and row["reload_s"] is not None
            with pytest.raises(SwapRequired, match="a:latest"):
                await bench.use("a", options={"num_ctx": 1024})
            await bench.use("c", swap=True)
            assert "c:latest" in bench.server.loaded

    go(main())


def test_server_mode_leaves_room_to_the_host(tmp_path: Path) -> None:
    """In server mode nobody leaves by our doing."""

    async def main() -> None:
        async with Bench(tmp_path, limits=Limits("server")) as bench:
            for name in ("a", "b", "c"):
                await bench.use(name)
            assert ([], True) == (bench.told("unloading"), bench.server.evictions > 0)

    go(main())


def test_model_that_comes_back_is_left_alone(tmp_path: Path) -> None:
    """After a few returns we stop and say so; the next swap asks first."""

    async def main() -> None:
        async with Bench(tmp_path) as bench:
            await bench.use("a")
            with ForeignClient(bench.server) as other:
                other.resurrect("a")
                await bench.unload("a")
                await until(lambda: "a:latest" in bench.server.loaded)
                await bench.see()
                assert bench.told("resurrected")
                resident = await bench.resident("a")
                assert resident is not None and "foreign" == resident.owner

    go(main())


def test_model_that_others_use_is_still_loaded(tmp_path: Path) -> None:
    """An unload of what another client is using is not called done."""

    async def main() -> None:
        async with Bench(tmp_path) as bench:
            with ForeignClient(bench.server) as other:
                busy = await asyncio.to_thread(other.keep_busy, "a")
                report = await bench.unload("a")
                assert "still_loaded" == report.verdict
                assert report.reason and "another client" in report.reason
                busy.stop()
                await until(lambda: not bench.server.loaded)

    go(main())


def test_failed_unload_stops_the_swap(tmp_path: Path) -> None:
    """Nothing is loaded beside what does not leave; the error is visible, and a retry works."""

    async def main() -> None:
        async with Bench(tmp_path) as bench:
            await bench.use("a")
            await bench.use("b")
            with ForeignClient(bench.server) as other:
                held = [await asyncio.to_thread(other.keep_busy, name) for name in ("a", "b")]
                with pytest.raises(UnloadFailed):
                    await bench.use("c")
                assert "c:latest" not in bench.server.loads
                for busy in held:
                    busy.stop()
            await bench.use("c", swap=True)
            assert "c:latest" in bench.server.loaded

    go(main())


def test_model_deleted_while_loaded_is_said_to_stay(tmp_path: Path) -> None:
    """Its name is unknown to the host, so it cannot be asked to leave; nobody claims it did."""

    async def main() -> None:
        async with Bench(tmp_path) as bench:
            await bench.use("a")
            entry = await bench.entry("a")
            await bench.backend.delete("a:latest")
            report = await bench.residency.unload(bench.backend, entry)
            assert "still_loaded" == report.verdict
            assert report.reason and "deleted" in report.reason

    go(main())


def test_host_that_does_not_answer_keeps_what_was_known(tmp_path: Path) -> None:
    """A failed poll is stale, never empty; requests on the loaded model go on."""

    async def main() -> None:
        async with Bench(tmp_path) as bench:
            await bench.use("a")
            bench.server.set_reply(Reply(error_first=(500, "no")), to="ps")
            snapshot = await bench.residency.snapshot(bench.backend, max_age_s=0.0)
            assert (True, ["a:latest"]) == (
                snapshot.stale,
                [model.name for model in snapshot.models],
            )
            await bench.use("a")
            assert 1 == len(bench.server.loads)
            with pytest.raises(WorkbenchError, match="no"):
                await bench.unload("a")
            bench.server.set_reply(Reply(), to="ps")
            await bench.see()
            assert ["backend_down", "backend_up"] == [
                item["event"] for item in bench.told("backend_down", "backend_up")
            ]

    go(main())


def test_restarted_host_is_loaded_anew(tmp_path: Path) -> None:
    """After a restart nothing is loaded: that is seen, and the next request loads."""

    async def main() -> None:
        async with Bench(tmp_path) as bench:
            await bench.use("a")
            bench.server.restart(version="0.34.0")
            # The first look may meet the connection that broke: that is stale, not empty.
            while (await bench.residency.snapshot(bench.backend, max_age_s=0.0)).stale:
                continue
            assert await bench.resident("a") is None
            await bench.use("a")
            assert 2 == len(bench.server.loads)

    go(main())


def test_stuck_load_is_diagnosed_and_woken(tmp_path: Path) -> None:
    """A scheduler that waits for ever (ollama#17408) is told of, and an unload wakes it."""

    async def main() -> None:
        async with Bench(tmp_path, limits=Limits("server"), deadlock=True) as bench:
            for name in ("a", "b"):
                await bench.use(name)
            await bench.use("c")
            (told,) = bench.told("load_stuck")
            assert "c:latest" == told["model"]
            assert "asked" in told["action"] and told["seconds"] > 0

    go(main())


def test_load_that_was_split_is_tried_once_more(tmp_path: Path) -> None:
    """A part on the CPU although there is room is a late driver: unload, wait, load again."""

    class Early(Card):
        """Tells of memory as free that the host does not have yet."""

        async def free_bytes(self, backend: Backend) -> int | None:
            """Return all of it."""
            return await self.total_bytes(backend)

    async def main() -> None:
        async with Bench(tmp_path) as bench:
            bench.residency.use_witness(Early(bench.server))
            bench.server.other_bytes = 6 * GB
            loading = asyncio.create_task(bench.use("a"))
            await until(lambda: bench.server.unloads)
            bench.server.other_bytes = 0
            await loading
            resident = await bench.resident("a")
            assert resident is not None
            assert (0, 2) == (resident.offload_bytes, len(bench.server.loads))
            (warning,) = bench.told("load_warning")
            assert "loaded again" in warning["text"]

    go(main())


def test_model_larger_than_the_card_is_split_and_said(tmp_path: Path) -> None:
    """What does not fit is loaded in part on the CPU, with the numbers, and not tried again."""

    async def main() -> None:
        large = FakeModel("large", size_bytes=12 * GB)
        async with Bench(tmp_path, large) as bench:
            await bench.use("large")
            resident = await bench.resident("large")
            assert resident is not None and (resident.offload_bytes or 0) > 0
            assert ["large:latest"] == bench.server.loads
            (warning,) = bench.told("load_warning")
            assert "are on the CPU" in warning["text"]

    go(main())


def test_interrupted_requester_does_not_abort_the_load(tmp_path: Path) -> None:
    """Two want one model, one goes: there is one load, and the other is served."""

    async def main() -> None:
        slow = [FakeModel("a", size_bytes=3 * GB, load_s=0.5)]
        async with Bench(tmp_path, *slow) as bench:
            first = asyncio.create_task(bench.use("a"))
            await until(lambda: bench.server.loads)
            second = asyncio.create_task(bench.use("a"))
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
            await second
            assert ["a:latest"] == bench.server.loads

    go(main())


def test_everybody_shares_one_poll(tmp_path: Path) -> None:
    """However many watch, the host is asked once per interval."""

    async def main() -> None:
        async with Bench(tmp_path) as bench:
            await bench.use("a")
            asked = asyncio.gather(
                *(bench.residency.snapshot(bench.backend, max_age_s=0.0) for _ in range(50))
            )
            before = sum(item.operation == "ps" for item in bench.server.requests)
            await asked
            after = sum(item.operation == "ps" for item in bench.server.requests)
            assert after - before <= 2
            with bench.residency.watched(), bench.residency.watched():
                assert bench.host.cache.polling

    go(main())


def test_farewell_takes_only_what_is_ours(tmp_path: Path) -> None:
    """At the end of the server its models leave the host; those of others stay."""

    async def main() -> None:
        async with Bench(tmp_path) as bench:
            with ForeignClient(bench.server) as other:
                await asyncio.to_thread(other.load, "a")
            await bench.use("b")
            await bench.residency.close()
            await until(lambda: {"a:latest"} == bench.server.loaded)

    go(main())
