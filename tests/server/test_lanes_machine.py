"""The queue with a simulated machine: any events in any order."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.bench.simulation import Job, run
from tests.server.lane_world import BATCH_S, INTERACTIVE_S, WAIT_S, World
from workbench.server.residency.lanes import RequestClass
from workbench.server.residency.queue import LaneQueue

LANES = "abcd"
SIZES = st.fixed_dictionaries({lane: st.integers(1, 3) for lane in LANES})
CLASSES: st.SearchStrategy[RequestClass] = st.sampled_from(["interactive", "batch"])


class Machine(RuleBasedStateMachine):
    """Requests come, run, fail and go; `World` checks every rule after each event."""

    world: World

    @initialize(sizes=SIZES, room=st.integers(2, 5), concurrency=st.integers(1, 2))
    def begin(self, sizes: dict[str, int], room: int, concurrency: int) -> None:
        self.world = World(sizes, room, concurrency)

    @rule(
        lane=st.sampled_from(LANES),
        cls=CLASSES,
        deadline_s=st.none() | st.integers(1, 30).map(float),
        count=st.integers(1, 3),
    )
    def submit(self, lane: str, cls: RequestClass, deadline_s: float | None, count: int) -> None:
        for _ in range(count):
            self.world.submit(lane, cls, deadline_s)

    @precondition(lambda self: self.world.at("running"))
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        self.world.finish(data.draw(st.sampled_from(self.world.at("running"))))

    @precondition(lambda self: self.world.requests)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        self.world.cancel(data.draw(st.sampled_from(sorted(self.world.requests))))

    @precondition(lambda self: self.world.loading)
    @rule(data=st.data())
    def loaded(self, data: st.DataObject) -> None:
        self.world.loaded(data.draw(st.sampled_from(sorted(self.world.loading))))

    @precondition(lambda self: self.world.loading)
    @rule(data=st.data(), left=st.booleans())
    def failed(self, data: st.DataObject, left: bool) -> None:
        self.world.failed(data.draw(st.sampled_from(sorted(self.world.loading))), left=left)

    @precondition(lambda self: self.idle())
    @rule(data=st.data())
    def vanish(self, data: st.DataObject) -> None:
        self.world.vanish(data.draw(st.sampled_from(self.idle())))

    @rule(seconds=st.sampled_from([0.5, 1.0, 5.0, 20.0]))
    def tick(self, seconds: float) -> None:
        self.world.tick(seconds)

    def idle(self) -> list[str]:
        """Return the lanes in memory on which nothing runs."""
        world = self.world
        running = {world.requests[ticket].lane for ticket in world.at("running")}
        return sorted(set(world.resident) - running)

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        self.world.drain()
        assert (0, 0, 0) == (
            self.world.queue.waiting,
            self.world.queue.running,
            self.world.queue.gated,
        )
        ended = {"done", "cancelled", "failed", "late"}
        assert not [r for r in self.world.requests.values() if r.place not in ended]


TestMachine = Machine.TestCase
TestMachine.settings = settings(deadline=None, max_examples=80, stateful_step_count=40)


LANE_CLASSES = st.fixed_dictionaries(dict.fromkeys("abc", CLASSES))
REQUESTS = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 120), st.integers(1, 8)),
    min_size=1,
    max_size=40,
)


@settings(deadline=None, max_examples=100)
@given(LANE_CLASSES, REQUESTS, st.integers(1, 20))
def test_nobody_waits_past_the_bound(
    classes: dict[str, RequestClass], requests: list[tuple[str, int, int]], load: int
) -> None:
    """A wait is at most W, what waited in each lane before when it was closed, and the loads."""
    queue: LaneQueue[str, int] = LaneQueue(
        interactive_wait_s=INTERACTIVE_S, batch_wait_s=BATCH_S, linger_s=0.5
    )
    # Halves, so that sums are exact.
    jobs = [Job(lane, at / 2, run_s / 2, classes[lane]) for lane, at, run_s in requests]
    outcome = run(queue, jobs, load_s=load / 2)
    waits = [(job.wait_s, outcome.bound_s(job, WAIT_S[job.cls])) for job in outcome.jobs]
    assert [] == [(wait_s, bound_s) for wait_s, bound_s in waits if wait_s > bound_s]
