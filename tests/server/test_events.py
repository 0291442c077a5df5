"""The hub of events: nobody waits for a slow listener, and it is told what it lost."""

from __future__ import annotations

import asyncio
import re
from contextlib import aclosing
from pathlib import Path
from typing import Any

from tests.server.harness import ServerProcess
from workbench.server.events import _QUEUE, _RECENT, Events


def test_slow_listener_loses_the_oldest_and_is_told() -> None:
    """Past its queue the oldest go; the next event it gets says how many, and only that one."""

    async def main() -> list[dict[str, Any]]:
        events = Events()
        async with aclosing(events.follow()) as following:
            first = asyncio.ensure_future(anext(following))
            await asyncio.sleep(0)
            for number in range(_QUEUE + 11):
                events.emit("tick", number=number)
            return [await first, await anext(following)]

    first, second = asyncio.run(main())
    assert (11, 11) == (first["number"], first["lost"])
    assert (12, False) == (second["number"], "lost" in second)


def test_newcomer_gets_the_recent_events_first() -> None:
    """What happened just before is told again, in order, the oldest of it forgotten."""

    async def main() -> list[int]:
        events = Events()
        for number in range(_RECENT + 5):
            events.emit("tick", number=number)
        async with aclosing(events.follow()) as following:
            return [(await anext(following))["number"] for _ in range(_RECENT)]

    assert [*range(5, _RECENT + 5)] == asyncio.run(main())


def test_listener_that_left_is_forgotten() -> None:
    """Closing the iterator ends the listening at once."""

    async def main() -> list[int]:
        events = Events()
        following = events.follow()
        waiting = asyncio.ensure_future(anext(following))
        await asyncio.sleep(0)
        counts = [events.listeners]
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await following.aclose()
        return [*counts, events.listeners]

    assert [1, 0] == asyncio.run(main())


def test_server_that_goes_ends_what_follows() -> None:
    """Closing the hub ends every listener after the events so far, and later ones at once."""

    async def main() -> tuple[list[int], list[int]]:
        events = Events()
        events.emit("tick", number=1)
        following = events.follow()
        first = (await anext(following))["number"]
        events.emit("tick", number=2)
        events.close()
        rest = [event["number"] async for event in following]
        return [first, *rest], [event["number"] async for event in events.follow(recent=False)]

    assert ([1, 2], []) == asyncio.run(main())


def test_server_does_not_wait_for_its_listeners(tmp_path: Path) -> None:
    """A server that somebody listens to ends its streams whole at SIGTERM, and logs no error."""
    with ServerProcess(tmp_path) as server:
        path = "/workbench/v1/events"
        with server.http.stream("GET", path) as response:
            lines = response.iter_lines()
            server.http.post("/workbench/v1/load", json={"model": "toy-nano"}).raise_for_status()
            next(lines)
            server.process.terminate()
            # Raises when the connection broke off in mid-answer.
            assert all(line.startswith("{") for line in lines)
        assert 0 == server.process.wait(timeout=30)
    assert "Traceback" not in server.log()


def test_every_event_is_explained() -> None:
    """Each name that the server emits has its row in the reference of events."""
    root = Path(__file__).parents[2]
    page = (root / "docs" / "reference" / "events.md").read_text(encoding="utf-8")
    explained = set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
    emitted = set()
    for source in (root / "workbench" / "server").rglob("*.py"):
        text = source.read_text(encoding="utf-8")
        emitted |= set(re.findall(r"\bemit\(\s*\"(\w+)\"", text))
    assert set() == emitted - explained
