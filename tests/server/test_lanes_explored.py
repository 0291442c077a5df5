"""The queue in every order of events, for a few requests on a few lanes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

import pytest

from tests.server.lane_world import BATCH_S, WAIT_S, World
from workbench.server.residency.lanes import RequestClass

Event = Callable[[World], object]
Arrival = tuple[str, RequestClass]

# Which request comes first, second, third; when each comes is explored.
ARRIVALS: dict[str, tuple[dict[str, int], int, tuple[Arrival, ...]]] = {
    "two that exclude each other": (
        {"a": 1, "b": 1},
        1,
        (("a", "batch"), ("b", "batch"), ("a", "batch"), ("b", "interactive")),
    ),
    "two beside each other or one large": (
        {"a": 1, "b": 1, "c": 2},
        2,
        (("a", "batch"), ("c", "batch"), ("b", "interactive"), ("a", "batch")),
    ),
    "a chain: a with b, b with c, a without c": (
        {"a": 2, "b": 1, "c": 2},
        3,
        (("a", "batch"), ("c", "batch"), ("b", "batch"), ("a", "interactive")),
    ),
    "larger than memory": (
        {"a": 3, "b": 1},
        2,
        (("b", "batch"), ("a", "batch"), ("b", "batch"), ("a", "batch")),
    ),
}
DEPTH = 8


def events(world: World, arrivals: tuple[Arrival, ...]) -> Iterator[Event]:
    """Yield everything that can happen next."""
    count = len(world.requests)
    if count < len(arrivals):
        lane, cls = arrivals[count]
        yield lambda w: w.submit(lane, cls)
    for ticket in [*world.at("waiting"), *world.at("running")]:
        yield lambda w, t=ticket: w.cancel(t)
    for ticket in world.at("running"):
        yield lambda w, t=ticket: w.finish(t)
    for lane in world.loading:
        yield lambda w, name=lane: w.loaded(name)
        yield lambda w, name=lane: w.failed(name, left=False)
        yield lambda w, name=lane: w.failed(name, left=True)
    if world.at("waiting"):
        yield lambda w: w.tick(BATCH_S)
        yield lambda w: w.tick(1.0)


def key(world: World) -> object:
    """Return what decides what can happen from here: ages beyond W are all alike."""

    def age(since: float, most: float) -> float:
        return min(world.now - since, most)

    lanes = sorted(world.sizes)
    queue = world.queue
    return (
        tuple(
            (r.place, age(r.arrived, WAIT_S[r.cls]) if r.place == "waiting" else 0)
            for r in world.requests.values()
        ),
        tuple(sorted(world.resident)),
        tuple(sorted(world.loading.items())),
        tuple(sorted((lane, tuple(sorted(gate))) for lane, gate in queue._gates.items())),
        tuple(age(queue._lingers_until(lane), 1.0) for lane in lanes),
        tuple(sorted(lanes, key=queue._last_used)),
        world.front is not None and world.front[:2],
        tuple(sorted((ticket, tuple(sorted(loads))) for ticket, loads in world.loads.items())),
    )


@pytest.mark.parametrize("name", ARRIVALS)
def test_every_order_of_events_keeps_every_rule(name: str) -> None:
    """No order of arrivals, ends, cancellations, loads, failures and waits breaks a rule."""
    sizes, room, arrivals = ARRIVALS[name]
    start = World(sizes, room)
    seen = {key(start)}
    frontier = [start]
    for _ in range(DEPTH):
        following = []
        for world in frontier:
            for event in events(world, arrivals):
                after = copy.deepcopy(world)
                event(after)
                if (state := key(after)) not in seen:
                    seen.add(state)
                    following.append(after)
        frontier = following
    for world in frontier:
        world.drain()
        assert (0, 0, 0) == (world.queue.waiting, world.queue.running, world.queue.gated)
    # An explorer that finds few states explores nothing.
    assert len(seen) > 300
    print(name, len(seen))
