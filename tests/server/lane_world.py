"""A machine with little memory for the queue to drive, and what must be true of it at all times."""

from __future__ import annotations

from dataclasses import dataclass, field

from workbench.server.residency.lanes import Admit, Failed, RequestClass, Switch
from workbench.server.residency.queue import LaneQueue

INTERACTIVE_S, BATCH_S = 5.0, 20.0
WAIT_S: dict[RequestClass, float] = {"interactive": INTERACTIVE_S, "batch": BATCH_S}
LINGER_S = 1.0


@dataclass
class Request:
    """A request as this machine remembers it; events are counted, not timed."""

    lane: str
    cls: RequestClass
    arrived: float
    event: int
    deadline: float | None = None
    place: str = "waiting"


@dataclass
class World:
    """Lanes with sizes, memory for some of them, and a queue that decides.

    Every event ends with the queue's decisions carried out and every rule checked.
    """

    sizes: dict[str, int]
    room: int
    concurrency: int = 1
    now: float = 0.0
    event: int = 0
    requests: dict[int, Request] = field(default_factory=dict)
    resident: dict[str, int] = field(default_factory=dict)
    loading: dict[str, tuple[str, ...]] = field(default_factory=dict)
    front: tuple[str, int, int] | None = None
    loads: dict[int, set[str]] = field(default_factory=dict)
    in_a_row: dict[str, int] = field(default_factory=dict)
    switches: list[Switch[str]] = field(default_factory=list)
    admitted: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.queue: LaneQueue[str, int] = LaneQueue(
            interactive_wait_s=INTERACTIVE_S,
            batch_wait_s=BATCH_S,
            concurrency=lambda _: self.concurrency,
            linger_s=LINGER_S,
        )

    def fits(self, lanes: frozenset[str]) -> bool:
        """Whether lanes fit in memory together."""
        return sum(self.sizes[lane] for lane in lanes) <= self.room

    def at(self, place: str) -> list[int]:
        """Return the requests at a place: waiting, running, done, cancelled, failed, late."""
        return [ticket for ticket, request in self.requests.items() if request.place == place]

    # What can happen.

    def submit(self, lane: str, cls: RequestClass, deadline_s: float | None = None) -> int:
        """Let a request arrive."""
        self.event += 1
        ticket = len(self.requests)
        deadline = None if deadline_s is None else self.now + deadline_s
        self.requests[ticket] = Request(lane, cls, self.now, self.event, deadline)
        self.queue.submit(ticket, lane, cls, self.now, deadline=deadline)
        self.settle()
        return ticket

    def finish(self, ticket: int) -> None:
        """Let a request that runs come to its end."""
        self.requests[ticket].place = "done"
        self.queue.finish(ticket, self.now)
        self.settle()

    def cancel(self, ticket: int) -> None:
        """Take a request out wherever it is."""
        place = self.requests[ticket].place
        known = place if place in ("waiting", "running") else None
        assert known == self.queue.cancel(ticket, self.now)
        if known:
            self.requests[ticket].place = "cancelled"
        self.settle()

    def loaded(self, lane: str) -> None:
        """Let a switch succeed."""
        self.event += 1
        del self.loading[lane]
        self.resident[lane] = self.event
        self.queue.loaded(lane, self.now)
        self.settle()

    def failed(self, lane: str, *, left: bool) -> None:
        """Let a switch fail, after or before the others have left."""
        leave = self.loading.pop(lane)
        if not left:
            self.resident |= dict.fromkeys(leave, self.event)
        error = RuntimeError(lane)
        waiting = [ticket for ticket in self.at("waiting") if self.requests[ticket].lane == lane]
        assert [Failed(ticket, error) for ticket in waiting] == self.queue.failed(lane, error)
        for ticket in waiting:
            self.requests[ticket].place = "failed"
        self.settle()

    def vanish(self, lane: str) -> None:
        """Let an idle lane leave memory by itself."""
        del self.resident[lane]
        for loads in self.loads.values():
            loads.discard(lane)
        self.settle()

    def tick(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds
        self.settle()

    def drain(self) -> None:
        """End everything that goes on, again and again, until nothing waits."""
        for _ in range(10 * (len(self.requests) + 2)):
            if running := self.at("running"):
                self.finish(running[0])
            elif self.loading:
                self.loaded(next(iter(self.loading)))
            elif self.at("waiting"):
                wakeup = self.queue.next_wakeup(self.now)
                assert wakeup is not None, "requests wait and nothing will ever happen"
                self.tick(wakeup - self.now)
            else:
                return
        raise AssertionError("requests wait for ever")

    # What is done and checked after each.

    def settle(self) -> None:
        """Carry out the queue's decisions and check every rule."""
        self.event += 1
        for ticket in self.queue.expired(self.now):
            request = self.requests[ticket]
            assert request.place == "waiting" and request.deadline is not None
            assert request.deadline <= self.now
            request.place = "late"
        self._note_front()
        for action in self.queue.decide(self.now, self.resident, self.fits):
            if isinstance(action, Admit):
                self._admit(action)
            else:
                self._begin(action)
        assert [] == self.queue.decide(self.now, self.resident, self.fits), "decided half"
        self._check()

    def _wanted(self) -> list[tuple[float, int, str]]:
        """Return the lanes that wait to be loaded: when due, by which request."""
        due: dict[str, tuple[float, int, str]] = {}
        for ticket in self.at("waiting"):
            request = self.requests[ticket]
            if request.lane not in self.resident and request.lane not in self.loading:
                mine = (request.arrived + WAIT_S[request.cls], ticket, request.lane)
                due[request.lane] = min(mine, due.get(request.lane, mine))
        return sorted(due.values())

    def _note_front(self) -> None:
        """Remember since when the lane that is due first is overdue."""
        overdue = [item for item in self._wanted() if item[0] <= self.now]
        self.loads = {ticket: self.loads.get(ticket, set()) for _, ticket, _ in overdue}
        if not overdue:
            self.front = None
        elif self.front is None or self.front[:2] != (overdue[0][2], overdue[0][1]):
            self.front = (overdue[0][2], overdue[0][1], self.event)

    def _admit(self, action: Admit[str, int]) -> None:
        request = self.requests[action.ticket]
        assert request.place == "waiting", "a request runs twice or after its end"
        assert request.lane == action.lane and action.lane in self.resident
        assert request.arrived + action.waited_s == self.now
        self.admitted.append(action.ticket)
        self._check_turn(request)
        if self.front is not None and not self.fits(frozenset({self.front[0], action.lane})):
            gate = max(self.front[2], self.resident[action.lane])
            assert request.event <= gate, "a later request went before an overdue lane"
        request.place = "running"

    def _check_turn(self, request: Request) -> None:
        """First come, first served in a class; one batch request after four others at most."""
        beside = [self.requests[ticket] for ticket in self.at("waiting")]
        beside = [other for other in beside if other.lane == request.lane]
        same = [other for other in beside if other.cls == request.cls]
        assert request.event == min(other.event for other in same)
        if request.cls == "interactive" and any(other.cls == "batch" for other in beside):
            self.in_a_row[request.lane] = self.in_a_row.get(request.lane, 0) + 1
            # Four since it waits, and those that went before it came do not count.
            assert self.in_a_row[request.lane] <= 4
        else:
            self.in_a_row[request.lane] = 0

    def _begin(self, action: Switch[str]) -> None:
        assert action.lane not in self.resident and action.lane not in self.loading
        leaving = {lane for leave in self.loading.values() for lane in leave}
        assert not leaving & {action.lane, *action.leave}, "loaded while it is unloaded"
        due = next(item for item in self._wanted() if item[2] == action.lane)
        passed = [item for item in self._wanted() if item < due and item[0] <= self.now]
        # One that is just leaving is passed by those that leave room for it.
        passed = [item for item in passed if item[2] not in leaving]
        assert not passed, "loaded before a lane that was due earlier"
        running = {self.requests[ticket].lane for ticket in self.at("running")}
        assert not running & set(action.leave), "a request would be interrupted"
        for ticket, loads in self.loads.items():
            if self.requests[ticket].lane != action.lane:
                assert action.lane not in loads, "loaded twice before a lane that was due earlier"
                loads.add(action.lane)
        for lane in action.leave:
            del self.resident[lane]
        self.loading[action.lane] = action.leave
        self.switches.append(action)

    def _check(self) -> None:
        held = {*self.resident, *self.loading}
        # A lane larger than memory is loaded alone.
        assert self.fits(frozenset(held)) or len(held) == 1, "more in memory than there is room for"
        running, waiting = self.at("running"), self.at("waiting")
        for lane in self.sizes:
            mine = [ticket for ticket in running if self.requests[ticket].lane == lane]
            assert len(mine) <= self.concurrency
        assert (len(waiting), len(running)) == (self.queue.waiting, self.queue.running)
        assert self.queue.gated <= self.queue.waiting
        if waiting and not running and not self.loading:
            assert self.queue.next_wakeup(self.now) is not None, "asleep with requests waiting"
        view = self.queue.snapshot(self.now)
        planned = [ticket for step in view.order for ticket in step.tickets]
        assert sorted(waiting) == sorted(planned)
        assert len(waiting) == sum(lane.waiting for lane in view.lanes)
