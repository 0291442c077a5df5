"""Edges of residency on a scripted Ollama: slow lists, wrong figures, who may not leave."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.server.test_hosts import GB, PACE, Bench, Card, go, until
from workbench.errors import SwapRequired
from workbench.server.backends.base import Backend
from workbench.server.residency.departures import RESURRECTIONS
from workbench.server.residency.lanes import RequestClass
from workbench.server.residency.resident import Lane
from workbench.server.residency.room import Consent
from workbench.server.residency.tickets import Want
from workbench.server.residency.unloading import MOST_ASKS
from workbench.testing import FakeModel, ForeignClient, Reply

INSIST = Consent(force=True)
AGREE = Consent(swap=True)


class Overstated(Card):
    """A driver that calls all of the card free, whatever lies on it."""

    async def free_bytes(self, backend: Backend) -> int | None:
        """Return all of it."""
        return await self.total_bytes(backend)


def asked(bench: Bench, operation: str) -> int:
    """Return how often the host was asked for something."""
    return sum(item.operation == operation for item in bench.server.requests)


async def hold(bench: Bench, name: str, how: str, other: ForeignClient) -> None:
    """Bring a model into memory so that it may not leave, or may."""
    if how == "foreign":
        await asyncio.to_thread(other.load, name)
        await bench.see()
        return
    if how == "pinned":
        entry = await bench.entry(name)
        await bench.residency.prefer(bench.backend, entry, actor="test", pinned=True)
    elif how == "leased":
        bench.residency.acquire_lease([f"{name}:latest@ollama"], 60.0, "test")
    await bench.use(name)


async def lane(bench: Bench, name: str) -> Lane:
    """Return a model's lane, with what is needed to plan for it."""
    entry = await bench.entry(name)
    found = await bench.host.lane_of(entry)
    await bench.host.room.look(found, entry)
    return found


def test_list_that_comes_late_gives_a_verdict(tmp_path: Path) -> None:
    """A `ps` that takes longer than a model may take to leave still says who stays."""

    async def main() -> None:
        async with Bench(tmp_path, pace=replace(PACE, gone_s=0.1)) as bench:
            with ForeignClient(bench.server) as other:
                busy = await asyncio.to_thread(other.keep_busy, "a")
                bench.server.set_reply(Reply(stall_after=0, stall_s=0.3), to="ps")
                report = await bench.unload("a")
                assert "still_loaded" == report.verdict
                assert report.reason and "another client" in report.reason
                bench.server.set_reply(Reply(), to="ps")
                busy.stop()

    go(main())


def test_blocked_list_delays_requests_for_a_moment_only(tmp_path: Path) -> None:
    """While `ps` hangs, requests run on what is known to be loaded, and nothing is lost."""

    async def main() -> None:
        async with Bench(tmp_path, pace=replace(PACE, request_wait_s=0.1)) as bench:
            await bench.use("a")
            bench.server.set_reply(Reply(stall_after=0), to="ps")
            await asyncio.sleep(PACE.fresh_s)
            async with asyncio.timeout(10):
                await bench.use("a")
            resident = await bench.resident("a")
            assert (1, "idle") == (len(bench.server.loads), resident and resident.state)
            bench.server.set_reply(Reply(), to="ps")
            bench.server.release()

    go(main())


@pytest.mark.parametrize(
    ("how", "allowed"),
    [
        ("idle", (True, True, True)),
        ("pinned", (False, False, True)),
        ("leased", (False, False, True)),
        ("foreign", (False, True, True)),
    ],
)
def test_lanes_run_together_only_beside_who_stays(
    how: str, allowed: tuple[bool, ...], tmp_path: Path
) -> None:
    """Two models that fill the card run together only when the third may leave for them."""

    async def main() -> None:
        async with Bench(tmp_path) as bench:
            with ForeignClient(bench.server) as other:
                await hold(bench, "a", how, other)
                both = frozenset([await lane(bench, "b"), await lane(bench, "c")])
                found = [
                    bench.host.room.fits(both, dict.fromkeys(both, consent))
                    for consent in (Consent(), AGREE, INSIST)
                ]
                assert list(allowed) == found

    go(main())


@pytest.mark.parametrize(
    ("how", "consent"), [("pinned", "force"), ("leased", "force"), ("foreign", "swap")]
)
def test_other_context_of_a_model_that_stays_is_asked_for(
    how: str, consent: str, tmp_path: Path
) -> None:
    """Another context would unload the model: who may not leave may not be reloaded either."""

    async def main() -> None:
        async with Bench(tmp_path) as bench:
            with ForeignClient(bench.server) as other:
                await hold(bench, "a", how, other)
                with pytest.raises(SwapRequired) as caught:
                    await bench.use("a", options={"num_ctx": 1024})
                assert [("a:latest", how)] == [
                    (row["model"], row["reason"]) for row in caught.value.plan["evict"]
                ]
                assert (1, 0) == (len(bench.server.loads), bench.server.unloads)
                await bench.use("a", options={"num_ctx": 1024}, **{consent: True})
                assert (2, 0) == (len(bench.server.loads), bench.server.reloads)

    go(main())


def test_memory_is_never_planned_larger_than_the_card(tmp_path: Path) -> None:
    """A driver that tells too much free does not let the host evict by its own rule."""

    async def main() -> None:
        async with Bench(tmp_path, pace=replace(PACE, released_s=0.1)) as bench:
            bench.residency.use_witness(Overstated(bench.server))
            for name in ("a", "b", "c"):
                await bench.use(name)
            assert (0, 1) == (bench.server.evictions, len(bench.told("unloaded")))
            assert ["gone_unverified"] == [item["verdict"] for item in bench.told("unloaded")]

    go(main())


def test_memory_of_other_programs_is_not_ours_to_give(tmp_path: Path) -> None:
    """What others hold of the card makes one more of our models leave."""

    async def main() -> None:
        async with Bench(tmp_path) as bench:
            await bench.use("a")
            bench.server.other_bytes = 3 * GB
            await bench.use("b")
            resident = await bench.resident("b")
            assert resident is not None and 0 == resident.offload_bytes
            assert ({"b:latest"}, 0) == (bench.server.loaded, bench.server.evictions)

    go(main())


def test_model_of_another_company_is_never_unloaded(tmp_path: Path) -> None:
    """A cloud model is in nobody's memory: nothing is sent on to its company, nothing claimed."""

    async def main() -> None:
        async with Bench(tmp_path, FakeModel("big:cloud")) as bench:
            (entry,) = await bench.backend.models()
            async with bench.residency.use(bench.backend, Want(entry)):
                pass
            for _ in range(2):
                report = await bench.residency.unload(bench.backend, entry)
                assert ("absent", 0) == (report.verdict, asked(bench, "unload"))

    go(main())


def test_unload_while_the_host_loads_is_not_called_done_early(tmp_path: Path) -> None:
    """Ollama ignores an unload of what still loads: ours waits for the load, then verifies."""

    async def main() -> None:
        slow = [FakeModel("a", size_bytes=3 * GB, load_s=0.3)]
        async with Bench(tmp_path, *slow) as bench:
            using = asyncio.create_task(bench.use("a"))
            await until(lambda: bench.server.loads)
            report = await bench.unload("a")
            await using
            assert ("verified", set()) == (report.verdict, bench.server.loaded)

    go(main())


def test_unload_while_another_client_loads_claims_nothing(tmp_path: Path) -> None:
    """A model that somebody else is loading is not listed yet: absent, and never verified."""

    async def main() -> None:
        slow = [FakeModel("a", size_bytes=3 * GB, load_s=0.5)]
        async with Bench(tmp_path, *slow) as bench:
            with ForeignClient(bench.server) as other:
                loading = asyncio.create_task(asyncio.to_thread(other.load, "a"))
                await until(lambda: bench.server.loads)
                assert "absent" == (await bench.unload("a")).verdict
                await loading
                await bench.see()
                resident = await bench.resident("a")
                assert resident is not None and "foreign" == resident.owner

    go(main())


def test_tug_of_war_has_an_end(tmp_path: Path) -> None:
    """Who brings a model back again and again is not made to load it for as long as we can wait."""

    async def main() -> None:
        async with Bench(tmp_path, pace=replace(PACE, retry_s=0.05)) as bench:
            await bench.use("a")
            with ForeignClient(bench.server) as other:
                other.resurrect("a")
                await bench.unload("a")
                assert asked(bench, "unload") <= MOST_ASKS * RESURRECTIONS
                await until(lambda: "a:latest" in bench.server.loaded)
                await bench.see()
                resident = await bench.resident("a")
                assert resident is not None and "foreign" == resident.owner
                assert bench.told("resurrected")

    go(main())


def test_thousand_operations_reload_nothing(tmp_path: Path) -> None:
    """Requests, renewals and wishes in any order keep the options a model was loaded with."""

    async def main() -> None:
        rng = random.Random(7)
        async with Bench(tmp_path) as bench:
            entries = {name: await bench.entry(name) for name in ("a", "b")}
            await bench.use("a", options={"num_ctx": 2048, "num_thread": 2})
            await bench.use("b", options={"num_ctx": 1024})
            own: dict[str, dict[str, Any]] = {"a": {"num_ctx": 2048}, "b": {"num_ctx": 1024}}

            async def operate(name: str) -> None:
                what = rng.choice(["use", "touch", "touch", "wish", "see"])
                if what == "use":
                    options = rng.choice([{}, {"temperature": 0.1}, own[name]])
                    cls: RequestClass = rng.choice(["interactive", "batch"])
                    await bench.use(name, options=options, cls=cls)
                elif what == "touch":
                    resident = await bench.resident(name)
                    assert resident is not None
                    await bench.host.departures.touch(resident)
                elif what == "wish":
                    wish = {"priority": rng.randrange(10), "pinned": rng.random() < 0.5}
                    entry = entries[name]
                    await bench.residency.prefer(bench.backend, entry, actor="test", **wish)
                else:
                    await bench.see()

            for _ in range(40):
                await asyncio.gather(*(operate(rng.choice("ab")) for _ in range(25)))
            assert (0, 2, 0) == (
                bench.server.reloads,
                len(bench.server.loads),
                bench.residency.in_flight,
            )

    go(main())


def test_model_that_returns_while_its_memory_is_awaited_is_seen(tmp_path: Path) -> None:
    """A load that ends while we wait for the memory is no success of the unload before it."""

    async def main() -> None:
        slow = FakeModel("a", size_bytes=3 * GB, load_s=0.2)
        pace = replace(PACE, released_s=1.0)
        async with Bench(tmp_path, slow, pace=pace, vram_lag_s=0.4, recovery_s=0.5) as bench:
            await bench.use("a")
            with ForeignClient(bench.server) as other:
                other.resurrect("a", times=1)
                await bench.unload("a")
                assert (set(), ["a:latest"]) == (bench.server.loaded, other.resurrected)
                assert bench.told("resurrected")

    go(main())


def test_model_that_returns_each_time_is_left_after_a_few(tmp_path: Path) -> None:
    """Who brings a model back whenever it has gone keeps it: it is asked to leave so often only."""

    async def main() -> None:
        slow = FakeModel("a", size_bytes=3 * GB, load_s=0.2)
        pace = replace(PACE, released_s=1.0)
        async with Bench(tmp_path, slow, pace=pace, vram_lag_s=0.4, recovery_s=0.5) as bench:
            await bench.use("a")
            with ForeignClient(bench.server) as other:
                other.resurrect("a")
                report = await bench.unload("a")
                assert ("resurrected", RESURRECTIONS) == (report.verdict, asked(bench, "unload"))
                resident = await bench.resident("a")
                assert resident is not None and "foreign" == resident.owner

    go(main())


def test_model_that_is_brought_back_is_asked_a_few_times(tmp_path: Path) -> None:
    """One that is loaded again at once is asked again, but not for ever."""

    async def main() -> None:
        pace = replace(PACE, retry_s=0.5, gone_s=30.0)
        async with Bench(tmp_path, pace=pace) as bench:
            await bench.use("a")
            with ForeignClient(bench.server) as other:
                other.resurrect("a")
                # Whether a list of the host is made before or after its return is chance.
                bench.server.set_reply(Reply(stall_after=0, stall_s=0.2), to="ps")
                report = await bench.unload("a")
                asks = asked(bench, "unload")
                assert "resurrected" == report.verdict
                assert 1 < asks <= MOST_ASKS * RESURRECTIONS
                assert report.reason and "another client" in report.reason

    go(main())


def test_deleted_model_leaves_by_the_name_of_another_of_its_file(tmp_path: Path) -> None:
    """The host no longer knows the name it was loaded by; it is asked by the other one."""
    models = [FakeModel(name, size_bytes=3 * GB, blob="a" * 64) for name in ("base", "derived")]

    async def main() -> None:
        async with Bench(tmp_path, *models) as bench:
            await bench.use("base")
            await bench.use("derived")
            await bench.backend.delete("base:latest")
            report = await bench.unload("derived")
            assert ("verified", set()) == (report.verdict, bench.server.loaded)

    go(main())
