"""Loads, drains and unloads under every order of events; the backend is a small one of our own."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from tests.server.residency_bench import Bench, cancelled, go
from workbench.errors import InsufficientMemory, LoadFailed, UnloadFailed, WorkbenchError
from workbench.server.backends.base import ModelEntry, RunningModel
from workbench.server.residency.tickets import Want


def test_requests_for_one_model_share_one_load(tmp_path: Path) -> None:
    """Any number of requests that come during a load wait for the same one."""

    async def main() -> None:
        bench = Bench(tmp_path)
        bench.backend.gate.clear()
        tasks = [asyncio.create_task(bench.run("a")) for _ in range(5)]
        await bench.until(lambda: bench.asked("load") == 1)
        bench.backend.gate.set()
        await asyncio.gather(*tasks)
        assert (1, "idle", 0) == (bench.asked("load"), bench.state("a"), bench.residency.in_flight)

    go(main())


def test_load_outlives_its_requester(tmp_path: Path) -> None:
    """Who asked first may leave during the load; the others get the model, and it expires."""

    async def main() -> None:
        bench = Bench(tmp_path, keep_alive_s=0.0)
        bench.backend.gate.clear()
        first = asyncio.create_task(bench.run("a"))
        await bench.until(lambda: bench.asked("load") == 1)
        second = asyncio.create_task(bench.run("a"))
        await cancelled(first)
        bench.backend.gate.set()
        await second
        await bench.until(lambda: bench.state("a") == "absent")
        assert (1, 1) == (bench.asked("load"), bench.asked("unload"))

    go(main())


def test_requester_that_leaves_as_the_load_ends_starts_the_keep_alive(tmp_path: Path) -> None:
    """A cancellation in the very turn in which the load ends does not keep the model for ever."""

    async def main() -> None:
        bench = Bench(tmp_path, keep_alive_s=0.0)
        bench.backend.gate.clear()
        task = asyncio.create_task(bench.run("a"))
        await bench.until(lambda: bench.asked("load") == 1)
        (ticket,) = bench.host.tickets
        ticket.granted.add_done_callback(lambda _: task.cancel())
        bench.backend.gate.set()
        await asyncio.gather(task, return_exceptions=True)
        await bench.until(lambda: bench.state("a") == "absent")

    go(main())


def test_failed_load_tells_everybody_and_is_tried_again(tmp_path: Path) -> None:
    """All who wait get the backend's reason; the next request loads anew."""

    async def main() -> None:
        bench = Bench(tmp_path)
        bench.backend.fail_load = LoadFailed("a", "bad file")
        results = await asyncio.gather(*(bench.run("a") for _ in range(3)), return_exceptions=True)
        assert ["bad file"] * 3 == [getattr(item, "reason", None) for item in results]
        assert ("absent", 0) == (bench.state("a"), bench.residency.in_flight)
        bench.backend.fail_load = None
        await bench.run("a")
        assert "idle" == bench.state("a")

    go(main())


def test_other_runner_options_wait_for_idle_and_reload(tmp_path: Path) -> None:
    """A request with another num_ctx waits for the running one; newcomers wait behind it."""

    async def main() -> None:
        bench = Bench(tmp_path)
        done = asyncio.Event()
        running = asyncio.create_task(bench.run("a", done, num_ctx=1))
        await bench.until(lambda: bench.state("a") == "busy")
        other = asyncio.create_task(bench.run("a", num_ctx=2))
        await bench.until(lambda: len(bench.host.tickets) == 2)
        late = asyncio.create_task(bench.run("a", num_ctx=2))
        assert 0 == bench.asked("unload")
        done.set()
        await asyncio.gather(running, other, late)
        assert ({"num_ctx": 2}, 2, 1) == (
            bench.backend.loaded["a"],
            bench.asked("load"),
            bench.asked("unload"),
        )

    go(main())


def test_options_a_request_does_not_name_are_those_of_the_loaded_model(tmp_path: Path) -> None:
    """No num_ctx takes the loaded one; another option is added to what was pinned."""

    async def main() -> None:
        bench = Bench(tmp_path)
        await bench.run("a", num_ctx=1)
        await bench.run("a")
        await bench.run("a", temperature=0.5)
        assert 1 == bench.asked("load")
        await bench.run("a", num_thread=2)
        assert {"num_ctx": 1, "num_thread": 2} == bench.backend.loaded["a"]

    go(main())


def test_requester_that_leaves_while_it_waits_for_a_swap_changes_nothing(tmp_path: Path) -> None:
    """The model serves on, without a reload."""

    async def main() -> None:
        bench = Bench(tmp_path)
        done = asyncio.Event()
        running = asyncio.create_task(bench.run("a", done, num_ctx=1))
        await bench.until(lambda: bench.state("a") == "busy")
        other = asyncio.create_task(bench.run("a", num_ctx=2))
        await bench.until(lambda: len(bench.host.tickets) == 2)
        await cancelled(other)
        assert "busy" == bench.state("a")
        done.set()
        await running
        await bench.run("a")
        assert (1, 0) == (bench.asked("load"), bench.asked("unload"))

    go(main())


def test_unload_that_has_begun_runs_to_its_end(tmp_path: Path) -> None:
    """Who asked for it may leave: the process is ended, and the next request loads anew."""

    async def main() -> None:
        bench = Bench(tmp_path)
        await bench.run("a")
        bench.backend.gate.clear()
        entry = bench.entry("a")
        first = asyncio.create_task(bench.residency.unload(bench.backend, entry))
        await bench.until(lambda: bench.asked("unload") == 1)
        await cancelled(first)
        assert "stopping" == bench.state("a")
        next_one = asyncio.create_task(bench.run("a"))
        again = asyncio.create_task(bench.residency.unload(bench.backend, entry))
        bench.backend.gate.set()
        await asyncio.gather(next_one, again)
        assert 2 == bench.asked("load")

    go(main())


def test_unload_waits_for_requests_and_only_theirs(tmp_path: Path) -> None:
    """Unloading a busy model waits for its requests; another model loads meanwhile."""

    async def main() -> None:
        bench = Bench(tmp_path)
        done = asyncio.Event()
        running = asyncio.create_task(bench.run("a", done))
        await bench.until(lambda: bench.state("a") == "busy")
        unload = asyncio.create_task(bench.residency.unload(bench.backend, bench.entry("a")))
        await bench.until(lambda: bench.state("a") == "stopping")
        await bench.run("b")
        assert not unload.done()
        done.set()
        await running
        report = await unload
        assert ("verified", 10, 0) == (report.verdict, report.bytes_before, report.bytes_after)

    go(main())


def test_unload_of_a_loading_model_lets_its_requests_finish(tmp_path: Path) -> None:
    """A request that waits for the load is served before the model leaves."""

    async def main() -> None:
        bench = Bench(tmp_path)
        bench.backend.gate.clear()
        task = asyncio.create_task(bench.run("a"))
        await bench.until(lambda: bench.asked("load") == 1)
        unload = asyncio.create_task(bench.residency.unload(bench.backend, bench.entry("a")))
        for _ in range(10):
            await asyncio.sleep(0)
        bench.backend.gate.set()
        await task
        assert ("verified", 1) == ((await unload).verdict, bench.asked("load"))

    go(main())


def test_verdicts_tell_what_was_seen(tmp_path: Path) -> None:
    """Absent, still loaded, and gone without proof are told apart."""

    async def main() -> None:
        bench = Bench(tmp_path)
        entry = bench.entry("a")
        absent = await bench.residency.unload(bench.backend, entry)
        await bench.run("a")
        bench.backend.stays = True
        stays = await bench.residency.unload(bench.backend, entry)
        bench.backend.stays = False
        host = Bench(tmp_path, expires_models=True)
        await host.run("a")
        gone = await host.residency.unload(host.backend, entry)
        assert ["absent", "still_loaded", "gone_unverified"] == [
            report.verdict for report in (absent, stays, gone)
        ]
        assert "idle" == bench.state("a")

    go(main())


def test_unload_that_is_called_off_while_it_drains_leaves_the_model(tmp_path: Path) -> None:
    """Who asked for it may leave before the requests have ended: the model serves on."""

    async def main() -> None:
        bench = Bench(tmp_path)
        done = asyncio.Event()
        running = asyncio.create_task(bench.run("a", done))
        await bench.until(lambda: bench.state("a") == "busy")
        unload = asyncio.create_task(bench.residency.unload(bench.backend, bench.entry("a")))
        await bench.until(lambda: bench.state("a") == "stopping")
        await cancelled(unload)
        assert "busy" == bench.state("a")
        done.set()
        await running
        assert 0 == bench.asked("unload")

    go(main())


def test_forced_unload_ends_requests(tmp_path: Path) -> None:
    """Requests that run end with an error that says why, and the model leaves at once."""

    async def main() -> None:
        bench = Bench(tmp_path)
        ended: list[str] = []

        async def hang() -> None:
            async with bench.use("a") as hold:
                try:
                    await hold.run(asyncio.Event().wait())
                except WorkbenchError as exc:
                    ended.append(exc.message)

        running = asyncio.create_task(hang())
        await bench.until(lambda: bench.state("a") == "busy")
        report = await bench.residency.unload(bench.backend, bench.entry("a"), force=True)
        await running
        assert ("verified", 1) == (report.verdict, report.waited_for)
        assert ["model 'a' was unloaded by force"] == ended

    go(main())


def test_host_that_does_not_say_what_is_loaded_is_never_read_as_empty(tmp_path: Path) -> None:
    """An unload whose list of loaded models fails is an error, not absent."""

    async def main() -> None:
        bench = Bench(tmp_path, expires_models=True)
        bench.backend.fail_ps = UnloadFailed("a", "the list failed")
        with pytest.raises(WorkbenchError, match="the list failed"):
            await bench.residency.unload(bench.backend, bench.entry("a"))
        await bench.run("a")
        assert 1 == bench.asked("load")

    go(main())


def test_list_older_than_our_own_load_is_dropped(tmp_path: Path) -> None:
    """A list that was asked for before a load ended does not make the model absent."""

    async def main() -> None:
        bench = Bench(tmp_path, expires_models=True)
        slow = asyncio.Event()
        real = bench.backend.ps

        async def late() -> list[RunningModel]:
            rows = await real()
            await slow.wait()
            return rows

        bench.backend.ps = late  # type: ignore[method-assign]
        poll = asyncio.create_task(bench.residency.running(bench.backend))
        await bench.until(lambda: bench.asked("ps") == 1)
        bench.backend.ps = real  # type: ignore[method-assign]
        await bench.run("a")
        slow.set()
        assert ["a"] == [model.name for model in await poll]
        await bench.run("a")
        assert 1 == bench.asked("load")

    go(main())


def test_keep_alive_zero_on_a_busy_host_model_reaches_the_host(tmp_path: Path) -> None:
    """The model leaves when its requests have ended, unless one of them says otherwise."""

    async def main() -> None:
        for keep_alive, unloads in ((None, 1), (60.0, 0)):
            bench = Bench(tmp_path, expires_models=True)
            done = asyncio.Event()
            running = asyncio.create_task(bench.run("a", done, keep_alive=keep_alive))
            await bench.until(lambda bench=bench: bench.state("a") == "busy")
            found = await bench.residency.find(bench.backend, bench.entry("a"))
            assert bench.residency.expire_when_idle(bench.backend, found)
            done.set()
            await running
            if unloads:
                await bench.until(lambda bench=bench: bench.asked("unload") == 1)
            for _ in range(20):
                await asyncio.sleep(0)
            assert unloads == bench.asked("unload")

    go(main())


def test_model_larger_than_the_budget_is_refused(tmp_path: Path) -> None:
    """What can never fit is refused at once, with both sizes, and nobody leaves for it."""

    async def main() -> None:
        bench = Bench(tmp_path)
        await bench.run("a")
        with pytest.raises(InsufficientMemory) as caught:
            await bench.run("b", size=101)
        assert (101, 100) == (caught.value.needed_bytes, caught.value.available_bytes)
        assert "idle" == bench.state("a")

    go(main())


def test_idle_model_of_low_priority_makes_room(tmp_path: Path) -> None:
    """With room for two, the third evicts the one that is wished for less."""

    async def main() -> None:
        for low, stays in (("a", "b"), ("b", "a")):
            bench = Bench(tmp_path, max_loaded=2)
            entry = bench.entry(low)
            await bench.residency.prefer(bench.backend, entry, actor="test", priority=1)
            other = bench.entry(stays)
            await bench.residency.prefer(bench.backend, other, actor="test", priority=5)
            for name in ("a", "b", "c"):
                await bench.run(name)
            assert {stays, "c"} == set(bench.backend.loaded)

    go(main())


def test_request_waits_for_a_busy_model_to_make_room(tmp_path: Path) -> None:
    """With room for one, a request waits for the other model's and is told so."""

    async def main() -> None:
        bench = Bench(tmp_path, max_loaded=1)
        done = asyncio.Event()
        running = asyncio.create_task(bench.run("a", done))
        await bench.until(lambda: bench.state("a") == "busy")
        waiting = asyncio.create_task(bench.run("b"))
        await bench.until(lambda: any("room in memory" in item.detail for item in bench.phases))
        # Who still fits on the loaded model is served meanwhile.
        await bench.run("a")
        done.set()
        await asyncio.gather(running, waiting)
        assert ({"b"}, 2) == (set(bench.backend.loaded), bench.asked("load"))

    go(main())


def test_newcomers_do_not_starve_who_waits_for_room(tmp_path: Path) -> None:
    """Once a request has waited long enough, newcomers to the busy model queue behind it."""

    async def main() -> None:
        bench = Bench(tmp_path, max_loaded=1, interactive_wait_s=0.0)
        done = asyncio.Event()
        running = asyncio.create_task(bench.run("a", done))
        await bench.until(lambda: bench.state("a") == "busy")
        waiting = asyncio.create_task(bench.run("b"))
        await bench.until(lambda: len(bench.host.tickets) == 2)
        newcomer = asyncio.create_task(bench.run("a"))
        done.set()
        await asyncio.gather(running, waiting, newcomer)
        loads = [model for call, model in bench.backend.calls if call == "load"]
        assert ["a", "b", "a"] == loads

    go(main())


def test_process_that_died_is_loaded_anew(tmp_path: Path) -> None:
    """A model whose process ended by itself is absent, also for a request that had held it."""

    async def main() -> None:
        bench = Bench(tmp_path)
        done = asyncio.Event()
        running = asyncio.create_task(bench.run("a", done))
        await bench.until(lambda: bench.state("a") == "busy")
        bench.backend.loaded.pop("a")
        bench.residency.forget(bench.backend, "a")
        assert "absent" == bench.state("a")
        await bench.run("a")
        done.set()
        await running
        assert (2, 0) == (bench.asked("load"), bench.residency.in_flight)

    go(main())


def test_model_of_another_company_is_not_loaded_here(tmp_path: Path) -> None:
    """A remote model needs no load and takes none of the memory."""

    async def main() -> None:
        bench = Bench(tmp_path, expires_models=True)
        entry = ModelEntry("far:cloud", "d", None, remote=True)
        async with bench.residency.use(bench.backend, Want(entry)):
            assert 0 == bench.asked("load")

    go(main())


@pytest.mark.parametrize("seed", range(30))
def test_cancellation_anywhere_leaves_nothing_behind(seed: int, tmp_path: Path) -> None:
    """Whatever is cancelled whenever: nobody's model leaves, all counters are 0, all is usable."""
    luck = random.Random(seed)
    trouble = ["some"]

    async def pause() -> None:
        for _ in range(luck.randrange(4)):
            await asyncio.sleep(0)
        if trouble and luck.random() < 0.1:
            raise LoadFailed("a", "bad luck")

    async def request(bench: Bench) -> None:
        done = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.call_later(luck.random() * 0.002, done.set)
        options = luck.choice([{}, {}, {"num_ctx": 1}, {"num_ctx": 2}])
        await bench.run(
            luck.choice("abc"),
            done,
            size=luck.choice([1, 40]),
            keep_alive=luck.choice([None, 0.0, 0.001]),
            **options,
        )

    async def main() -> None:
        bench = Bench(tmp_path, max_loaded=2, expires_models=seed % 5 == 0)
        bench.backend.pause = pause
        tasks: list[asyncio.Task[Any]] = []
        for _ in range(80):
            work: Coroutine[Any, Any, Any] = request(bench)
            if luck.random() < 0.15:
                work.close()
                entry = bench.entry(luck.choice("abc"))
                work = bench.residency.unload(bench.backend, entry)
            tasks.append(asyncio.create_task(work))
            for _ in range(luck.randrange(3)):
                await asyncio.sleep(0)
            if luck.random() < 0.4:
                luck.choice(tasks).cancel()
        async with asyncio.timeout(20):
            results = await asyncio.gather(*tasks, return_exceptions=True)
        odd = [
            item
            for item in results
            if isinstance(item, BaseException)
            and not isinstance(item, asyncio.CancelledError | LoadFailed | UnloadFailed)
        ]
        assert not odd
        assert 0 == bench.residency.in_flight
        trouble.clear()
        for name in "abc":
            async with asyncio.timeout(5):
                await bench.run(name, keep_alive=0.0)
        if not bench.backend.expires_models:
            await bench.until(lambda: not bench.residency.residents("play"))
            assert {} == bench.backend.loaded
        await bench.residency.close()

    go(main())
