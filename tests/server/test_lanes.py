"""The queue's behaviour, one at a time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.server.lane_world import BATCH_S, INTERACTIVE_S, LINGER_S, World
from workbench.server.residency.lanes import Failed, LaneView, PlannedStep, RequestClass, Switch
from workbench.server.residency.queue import LaneQueue

ALONE = {"a": 1, "b": 1, "c": 1}


def lanes_of(world: World) -> list[str]:
    """Return the lanes of what was admitted, in order."""
    return [world.requests[ticket].lane for ticket in world.admitted]


def serving(lane: str, sizes: dict[str, int] = ALONE, room: int = 1) -> World:
    """Return a machine with one lane in memory and one request that runs on it."""
    world = World(sizes, room)
    world.submit(lane, "batch")
    world.loaded(lane)
    return world


def test_an_idle_machine_loads_at_once() -> None:
    """A request for a model that nothing is in the way of does not wait W."""
    world = World(ALONE, 1)
    ticket = world.submit("a", "batch")
    assert [Switch("a", (), 0.0, "fits")] == world.switches
    world.loaded("a")
    assert [ticket] == world.at("running")


def test_lanes_that_fit_run_together() -> None:
    """A second model that fits beside the first is loaded while the first is served."""
    world = serving("a", room=2)
    world.submit("b", "batch")
    world.loaded("b")
    assert ["a", "b"] == sorted(world.resident)
    assert 2 == len(world.at("running"))


def test_the_side_in_memory_is_served_until_w_has_passed() -> None:
    """Later requests of the lane in memory go first until the other lane has waited W."""
    world = serving("a")
    world.submit("b", "batch")
    for _ in range(4):
        world.tick(BATCH_S / 5)
        world.submit("a", "batch")
        world.finish(world.at("running")[0])
    assert ["a"] * 5 == lanes_of(world)
    assert ["a"] == [switch.lane for switch in world.switches]


def test_the_gate_lets_through_what_was_waiting_and_no_more() -> None:
    """When W has passed, what waits then is finished; what comes later waits for its next turn."""
    world = serving("a")
    before = world.submit("a", "batch")
    world.submit("b", "batch")
    world.tick(BATCH_S)
    after = world.submit("a", "interactive")
    for _ in range(2):
        world.finish(world.at("running")[0])
    assert Switch("b", ("a",), BATCH_S, "overdue") == world.switches[-1]
    assert before in world.admitted and after not in world.admitted
    world.drain()
    assert ["a", "a", "b", "a"] == lanes_of(world)


def test_a_person_waits_less_than_a_batch() -> None:
    """A lane with an interactive request is due after its own, shorter W."""
    world = serving("a")
    world.submit("b", "batch")
    person = world.submit("c", "interactive")
    world.submit("a", "batch")
    world.tick(INTERACTIVE_S)
    world.submit("a", "batch")
    for _ in range(2):
        world.finish(world.at("running")[0])
    assert "c" == world.switches[-1].lane
    world.loaded("c")
    assert [person] == world.at("running")


def test_a_batch_is_not_starved_beside_people() -> None:
    """In one lane every fifth request at the latest is a batch one."""
    world = serving("a")
    batch = world.submit("a", "batch")
    for _ in range(9):
        world.submit("a", "interactive")
    for _ in range(5):
        world.finish(world.at("running")[0])
    assert [batch] == world.at("running")


def test_a_batch_is_not_starved_by_people_on_another_lane() -> None:
    """People who never stop asking one model hold up a batch on another no longer than W."""
    world = serving("a")
    batch = world.submit("b", "batch")
    while batch in world.at("waiting"):
        world.submit("a", "interactive")
        world.tick(1.0)
        if world.loading:
            world.loaded("b")
        else:
            world.finish(world.at("running")[0])
        assert world.now <= BATCH_S + 3.0


def test_a_loop_is_given_a_moment_for_its_next_question() -> None:
    """An idle lane stays a moment before another takes its place, but not past W."""
    world = serving("a")
    world.submit("b", "batch")
    world.tick(1.0)
    world.finish(world.at("running")[0])
    assert world.now + LINGER_S == world.queue.next_wakeup(world.now)
    world.tick(LINGER_S / 2)
    world.submit("a", "batch")
    assert ["a", "a"] == lanes_of(world)
    world.finish(world.at("running")[0])
    world.tick(LINGER_S)
    assert "b" == world.switches[-1].lane


def test_what_was_used_last_stays_if_it_can() -> None:
    """Of two idle models of which one must leave, it is the one used longest ago."""
    world = World(ALONE, 2)
    for lane in ("b", "a"):
        world.submit(lane, "batch")
        world.loaded(lane)
        world.tick(1.0)
    for ticket in (1, 0):
        world.finish(ticket)
        world.tick(LINGER_S)
    world.submit("c", "batch")
    assert ("a",) == world.switches[-1].leave


def test_nothing_is_closed_for_a_lane_whose_turn_comes_later() -> None:
    """Of three overdue lanes only the first closes others, when the second must wait for it."""
    world = World({"a": 2, "b": 2, "first": 2, "second": 4, "third": 2}, 4)
    for lane in ("a", "b"):
        world.submit(lane, "batch")
        world.loaded(lane)
    for lane in ("first", "second", "third"):
        world.submit(lane, "batch")
        world.tick(0.5)
    for lane in ("a", "b"):
        world.submit(lane, "batch")
    world.tick(BATCH_S - 0.5)
    states = {view.lane: view.state for view in world.queue.snapshot(world.now).lanes}
    assert ("serving", "gated") == (states["a"], states["b"])
    assert ["waiting"] * 3 == [states[lane] for lane in ("first", "second", "third")]


def test_a_failed_switch_releases_its_own_requests_only() -> None:
    """The lane's requests get the error, the others wait on, and the next one tries again."""
    queue: LaneQueue[str, str] = LaneQueue()

    def fits(lanes: frozenset[str]) -> bool:
        return len(lanes) == 1

    queue.submit("one", "a", "batch", 0.0)
    queue.submit("two", "b", "batch", 0.0)
    queue.decide(0.0, [], fits)
    error = RuntimeError("no memory")
    assert [Failed("one", error)] == queue.failed("a", error)
    queue.submit("again", "a", "batch", 1.0)
    assert [Switch("b", (), 1.0, "fits")] == queue.decide(1.0, [], fits)
    assert (2, 0) == (queue.waiting, queue.running)


def test_a_failed_unload_leaves_the_others_served() -> None:
    """The lane that was to leave and is still there takes its requests again."""
    world = serving("a")
    world.submit("b", "batch")
    world.finish(world.at("running")[0])
    world.tick(LINGER_S)
    later = world.submit("a", "batch")
    world.failed("b", left=False)
    assert [later] == world.at("running")


def test_a_lane_that_leaves_is_not_loaded_at_the_same_time() -> None:
    """A request for a model on its way out waits until that switch has ended."""
    world = serving("c", {"a": 1, "b": 1, "c": 2}, room=3)
    world.finish(0)
    world.submit("a", "batch")
    world.loaded("a")
    world.tick(LINGER_S)
    world.submit("b", "batch")
    assert ("c",) == world.switches[-1].leave
    world.finish(1)
    world.submit("c", "batch")
    world.tick(LINGER_S)
    assert "b" == world.switches[-1].lane
    world.loaded("b")
    world.drain()
    assert "c" == world.switches[-1].lane


def test_a_load_goes_on_when_nobody_wants_it_any_more() -> None:
    """Cancelling the only request of a load leaves the load, and all counters at zero."""
    world = World(ALONE, 1)
    world.cancel(world.submit("a", "batch"))
    assert (0, 0, 0) == (world.queue.waiting, world.queue.running, world.queue.gated)
    other = world.submit("b", "interactive")
    assert 1 == len(world.switches)
    world.loaded("a")
    world.loaded("b")
    assert [other] == world.at("running")


def test_the_gate_opens_when_nobody_waits_behind_it() -> None:
    """When the overdue request is cancelled, the closed lane is served as before."""
    world = serving("a")
    overdue = world.submit("b", "batch")
    world.tick(BATCH_S)
    late = world.submit("a", "batch")
    world.cancel(overdue)
    world.finish(world.at("running")[0])
    assert [late] == world.at("running")


def test_a_request_is_given_up_at_its_deadline() -> None:
    """A request that still waits at its deadline leaves; one that runs does not."""
    queue: LaneQueue[str, str] = LaneQueue()
    queue.submit("runs", "a", "batch", 0.0, deadline=5.0)
    queue.submit("waits", "a", "batch", 0.0, deadline=7.0)
    queue.decide(0.0, ["a"], lambda lanes: True)
    assert 7.0 == queue.next_wakeup(0.0)
    assert [] == queue.expired(6.9)
    assert ["waits"] == queue.expired(7.0)
    assert (0, 1) == (queue.waiting, queue.running)


def test_a_ticket_is_known_once_at_a_time() -> None:
    """A ticket that waits or runs is refused a second time, and is free when it has ended."""
    queue: LaneQueue[str, str] = LaneQueue()
    queue.submit("x", "a", "batch", 0.0)
    with pytest.raises(ValueError, match="in the queue already"):
        queue.submit("x", "b", "batch", 0.0)
    queue.decide(0.0, ["a"], lambda lanes: True)
    queue.finish("x", 1.0)
    queue.submit("x", "b", "batch", 1.0)
    assert 1 == queue.waiting


def test_w_can_be_changed_while_requests_wait() -> None:
    """A shorter W counts for those that wait already."""
    world = serving("a")
    world.submit("b", "batch")
    world.submit("a", "batch")
    world.tick(2.0)
    world.queue.configure(batch_wait_s=1.0)
    assert {"interactive": INTERACTIVE_S, "batch": 1.0} == world.queue.snapshot(2.0).wait_bound_s
    assert 0 == world.queue.gated
    world.queue.decide(2.0, world.resident, world.fits)
    assert 1 == world.queue.gated


def test_the_plan_shows_order_and_swaps() -> None:
    """What is in memory comes first, then the lanes by their due time, each with one swap."""
    world = serving("a")
    b = [world.submit("b", "batch"), world.submit("b", "batch")]
    a = world.submit("a", "batch")
    c = world.submit("c", "interactive")
    view = world.queue.snapshot(world.now)
    expected = (
        PlannedStep("a", (a,), swap=False),
        PlannedStep("c", (c,), swap=True),
        PlannedStep("b", tuple(b), swap=True),
    )
    assert expected == view.order
    assert 2 == view.predicted_swaps


def test_the_plan_is_what_happens() -> None:
    """When nothing new comes, the requests run in the planned order with the planned swaps."""
    world = serving("a")
    for lane, cls in zip("abcabcbca", ["batch", "interactive", "batch"] * 3, strict=True):
        world.submit(lane, "interactive" if cls == "interactive" else "batch")
    world.tick(INTERACTIVE_S)
    view = world.queue.snapshot(world.now)
    done, swapped = len(world.admitted), len(world.switches)
    world.drain()
    assert [t for step in view.order for t in step.tickets] == world.admitted[done:]
    assert view.predicted_swaps == len(world.switches) - swapped


def test_the_view_of_a_lane_has_ages_and_a_bound() -> None:
    """A waiting lane shows its age and its bound: W, the others' work and load, its own load."""
    load_s = {"a": 2.0, "b": 3.0}
    queue: LaneQueue[str, int] = LaneQueue(batch_wait_s=60.0, load_s=load_s.get)
    queue.submit(1, "a", "batch", 0.0)
    queue.decide(0.0, ["a"], lambda lanes: len(lanes) == 1)
    queue.submit(2, "b", "batch", 0.0)
    assert queue.snapshot(0.0).lanes[1].bound_s is None
    queue.finish(1, 4.0)
    queue.submit(3, "a", "batch", 4.0)
    queue.submit(4, "a", "interactive", 4.0)
    queue.decide(4.0, ["a"], lambda lanes: len(lanes) == 1)
    # 4 s of 60 are over; two requests of a take 4 s each; b loads in 3 s.
    shown = LaneView("b", "waiting", 0, 1, 0, 1, oldest_s=4.0, bound_s=56.0 + 8.0 + 3.0)
    assert shown == queue.snapshot(4.0).lanes[1]
    served = LaneView("a", "serving", 1, 1, 0, 1, oldest_s=0.0, bound_s=4.0)
    assert served == queue.snapshot(4.0).lanes[0]


def fifo_loads(order: list[str], sizes: dict[str, int], room: int, resident: list[str]) -> int:
    """Count the loads of first come, first served; used longest ago leaves first."""
    held, loads = list(resident), 0
    for lane in order:
        if lane in held:
            held.remove(lane)
        else:
            loads += 1
            while held and sum(sizes[other] for other in [*held, lane]) > room:
                del held[0]
        held.append(lane)
    return loads


def ends(world: World) -> Iterator[None]:
    """Let everything end, one request at a time."""
    while world.at("waiting") or world.at("running") or world.loading:
        yield
        if world.loading:
            world.tick(2.0)
            world.loaded(min(world.loading))
        elif running := world.at("running"):
            world.tick(1.0)
            world.finish(running[0])
        else:
            wakeup = world.queue.next_wakeup(world.now)
            assert wakeup is not None
            world.tick(wakeup - world.now)


BACKLOG = st.lists(
    st.tuples(st.sampled_from("abcd"), st.sampled_from(["interactive", "batch"])), max_size=24
)


@settings(deadline=None, max_examples=60)
@given(
    BACKLOG,
    st.fixed_dictionaries({lane: st.integers(1, 3) for lane in "abcd"}),
    st.integers(3, 6),
    st.integers(1, 3),
)
def test_a_known_backlog_swaps_no_more_than_first_come_first_served(
    backlog: list[tuple[str, RequestClass]], sizes: dict[str, int], room: int, concurrency: int
) -> None:
    """Requests that are all there at the start load each model once, which is the least."""
    world = World(sizes, room, concurrency)
    for lane, cls in backlog:
        world.submit(lane, cls)
    for _ in ends(world):
        pass
    assert {lane for lane, _ in backlog} == {switch.lane for switch in world.switches}
    order = [lane for lane, _ in backlog]
    assert len(set(order)) == len(world.switches) <= fifo_loads(order, sizes, room, [])
    assert sorted(world.requests) == sorted(world.admitted)
