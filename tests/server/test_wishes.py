"""Wishes for models on a host: what stays, what leaves, and who can keep it there for ever."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.server.test_hosts import PACE, Bench, go, until
from workbench.testing import FakeModel

QUICK = replace(PACE, heartbeat_s=0.2)


def keep_alives(bench: Bench) -> list[Any]:
    """Return the keep_alive of every request for text or a load that reached the host, in order."""
    return [
        request.json.get("keep_alive")
        for request in bench.server.requests
        if request.operation in ("load", "generate")
    ]


def test_pinned_model_is_renewed_with_a_finite_keep_alive(tmp_path: Path) -> None:
    """A pinned model's keep_alive is renewed again and again, and each one ends by itself."""

    async def work() -> None:
        async with Bench(tmp_path, pace=QUICK) as bench:
            bench.residency.start()
            await bench.use("a")
            entry = await bench.entry("a")
            await bench.residency.prefer(bench.backend, entry, actor="test", pinned=True)
            sent = len(keep_alives(bench))
            await until(lambda: len(keep_alives(bench)) >= sent + 3)
            renewed = [value for value in keep_alives(bench)[sent:] if value is not None]
            assert renewed
            # Negative is for ever, and so a dead server would hold the card.
            assert all(not str(value).startswith("-") for value in renewed)
            assert 1 == len(bench.server.loads)

    go(work())


def test_model_without_a_wish_is_not_renewed(tmp_path: Path) -> None:
    """A model that nobody pinned, leased or wants hot is left to its keep_alive."""

    async def work() -> None:
        async with Bench(tmp_path, pace=QUICK) as bench:
            bench.residency.start()
            await bench.use("a")
            await bench.use("b")
            entry = await bench.entry("b")
            await bench.residency.prefer(bench.backend, entry, actor="test", pinned=True)
            sent = len(bench.server.requests)
            await until(lambda: _loads_of("b", bench, sent) >= 3)
            assert 0 == _loads_of("a", bench, sent)

    go(work())


def _loads_of(name: str, bench: Bench, since: int) -> int:
    return sum(
        request.operation == "load" and request.json["model"].startswith(name)
        for request in bench.server.requests[since:]
    )


def test_model_leaves_after_its_longest_idle_time(tmp_path: Path) -> None:
    """`max_idle` ends the stay of a model whose requests asked for a longer one."""

    async def work() -> None:
        async with Bench(tmp_path) as bench:
            entry = await bench.entry("a")
            await bench.residency.prefer(bench.backend, entry, actor="test", max_idle_s=0.3)
            await bench.use("a", keep_alive_s=600.0)
            await until(lambda: "a:latest" not in bench.server.loaded)

    go(work())


def test_priority_is_mirrored_into_the_keep_alive(tmp_path: Path) -> None:
    """The host's own eviction takes the lower priority first, because its stay is shorter."""

    async def work() -> None:
        async with Bench(tmp_path) as bench:
            for name, priority in (("a", 9), ("b", 1)):
                entry = await bench.entry(name)
                await bench.residency.prefer(bench.backend, entry, actor="test", priority=priority)
            await bench.use("a")
            await bench.use("b")
            first, second = await bench.resident("a"), await bench.resident("b")
            assert first is not None
            assert second is not None
            assert first.expires_at is not None
            assert second.expires_at is not None
            assert first.expires_at > second.expires_at

    go(work())


def _lists(bench: Bench) -> int:
    return sum(request.operation == "tags" for request in bench.server.requests)


def test_hot_model_is_loaded_only_where_nobody_must_leave(tmp_path: Path) -> None:
    """A hot model is loaded at the start; one that needs the place of another waits."""

    async def work() -> None:
        models = [FakeModel("a", size_bytes=3 * 10**9), FakeModel("b", size_bytes=6 * 10**9)]
        async with Bench(tmp_path, *models) as bench:
            for name in ("a", "b"):
                entry = await bench.entry(name)
                await bench.residency.prefer(bench.backend, entry, actor="test", hot=True)
            bench.residency.start()
            await until(lambda: "a:latest" in bench.server.loaded)
            # Twice for the test, and once for each hot model.
            await until(lambda: _lists(bench) >= 4 and not bench.host.tickets)
            assert ["a:latest"] == bench.server.loads

    go(work())
