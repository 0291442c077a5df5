"""Requests, models and one memory with a clock of its own: the same run for every queue."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Protocol

from workbench.server.residency.lanes import Admit, RequestClass, Switch
from workbench.server.residency.queue import LaneQueue

Action = Admit[str, int] | Switch[str]


@dataclass
class Job:
    """One request, and what became of it.

    Attributes:
        service_s: Seconds it runs.
        then: Number of the job that comes when this one has ended, `think_s` later.
    """

    lane: str
    arrived: float | None
    service_s: float
    cls: RequestClass = "batch"
    then: int | None = None
    think_s: float = 0.0
    started: float = 0.0

    @property
    def wait_s(self) -> float:
        """Seconds from arrival to start."""
        assert self.arrived is not None
        return self.started - self.arrived


@dataclass(frozen=True)
class Visit:
    """A stay of a lane in memory."""

    lane: str
    begun: float
    loaded: float


@dataclass
class Outcome:
    """How a run went."""

    jobs: list[Job]
    visits: list[Visit]
    total_s: float

    @property
    def swaps(self) -> int:
        """Loads, the first one included."""
        return len(self.visits)

    @property
    def mean_wait_s(self) -> float:
        """Seconds a request waits in the mean."""
        return fmean(job.wait_s for job in self.jobs)

    def max_wait_s(self, lane: str | None = None) -> float:
        """Seconds that the longest wait took, of one lane or of all."""
        return max(job.wait_s for job in self.jobs if lane in (None, job.lane))

    def bound_s(self, job: Job, wait_s: float) -> float:
        """Return how long a request may wait: W, the gated batches, the loads.

        After its W has passed, at `due`, the lane in memory and each that comes in before its own
        finish what waits at that moment, and its own lane those before it.
        """
        assert job.arrived is not None
        due, bound = job.arrived + wait_s, wait_s
        if job.started <= due:
            return bound
        ends = [visit.begun for visit in self.visits[1:]] + [self.total_s]
        for visit, end in zip(self.visits, ends, strict=True):
            if end <= due or visit.begun > job.started:
                continue
            closing = max(due, visit.loaded)
            bound += max(0.0, visit.loaded - max(due, visit.begun))
            for other in self.jobs:
                if other is job or other.lane != visit.lane or other.arrived is None:
                    continue
                left_s = other.started + other.service_s - closing
                before = other.lane != job.lane or other.started < job.started
                if before and other.arrived <= closing and left_s > 0 and other.started < end:
                    bound += min(other.service_s, left_s)
        return bound


class Queue(Protocol):
    """What the machine asks of a queue."""

    def submit(self, ticket: int, lane: str, cls: RequestClass, now: float) -> None: ...
    def finish(self, ticket: int, now: float) -> None: ...
    def loaded(self, lane: str, now: float) -> None: ...
    def next_wakeup(self, now: float) -> float | None: ...
    def decide(
        self, now: float, resident: Iterable[str], fits: Callable[[frozenset[str]], bool]
    ) -> Sequence[Action]: ...


Waiting = dict[int, tuple[float, str]]
Choice = Callable[[Waiting, str | None, float], int]


class OneByOne:
    """A queue that asks a plain rule for the next request; memory holds one model.

    Args:
        choose: Returns the next of the waiting requests (ticket to arrival and lane), given the
            lane in memory and the time.
    """

    def __init__(self, choose: Choice) -> None:
        self._choose = choose
        self._waiting: Waiting = {}
        self._busy = False

    def submit(self, ticket: int, lane: str, cls: RequestClass, now: float) -> None:
        self._waiting[ticket] = (now, lane)

    def finish(self, ticket: int, now: float) -> None:
        self._busy = False

    def loaded(self, lane: str, now: float) -> None:
        self._busy = False

    def next_wakeup(self, now: float) -> float | None:
        return None

    def decide(
        self, now: float, resident: Iterable[str], fits: Callable[[frozenset[str]], bool]
    ) -> Sequence[Action]:
        if self._busy or not self._waiting:
            return []
        held = tuple(resident)
        ticket = self._choose(self._waiting, held[0] if held else None, now)
        arrived, lane = self._waiting[ticket]
        self._busy = True
        if lane not in held:
            return [Switch(lane, held, now - arrived, "idle")]
        del self._waiting[ticket]
        return [Admit(ticket, lane, now - arrived)]


def first_come(waiting: Waiting, held: str | None, now: float) -> int:
    """Choose the oldest."""
    return min(waiting, key=lambda ticket: (waiting[ticket][0], ticket))


def greedy(waiting: Waiting, held: str | None, now: float) -> int:
    """Choose the oldest of the lane in memory while it has any."""
    mine = {ticket: item for ticket, item in waiting.items() if item[1] == held}
    return first_come(mine or waiting, held, now)


def naive(wait_s: float) -> Choice:
    """Choose as `greedy`, but the oldest of all when it has waited longer than W."""

    def choose(waiting: Waiting, held: str | None, now: float) -> int:
        oldest = first_come(waiting, held, now)
        overdue = now - waiting[oldest][0] > wait_s
        return oldest if overdue else greedy(waiting, held, now)

    return choose


def gated(wait_s: float, linger_s: float = 0.25) -> LaneQueue[str, int]:
    """Return the workbench's queue with one W for all."""
    return LaneQueue(interactive_wait_s=wait_s, batch_wait_s=wait_s, linger_s=linger_s)


def run(queue: Queue, jobs: Sequence[Job], *, load_s: float) -> Outcome:
    """Let the jobs go through a queue on a machine with memory for one model."""
    events: list[tuple[float, int, Callable[[float], None]]] = []
    number, resident, visits = 0, set[str](), []

    def at(time: float, do: Callable[[float], None]) -> None:
        nonlocal number
        number += 1
        heapq.heappush(events, (time, number, do))

    def arrive(ticket: int) -> Callable[[float], None]:
        def do(now: float) -> None:
            jobs[ticket].arrived = now
            queue.submit(ticket, jobs[ticket].lane, jobs[ticket].cls, now)

        return do

    def end(ticket: int) -> Callable[[float], None]:
        def do(now: float) -> None:
            queue.finish(ticket, now)
            job = jobs[ticket]
            if job.then is not None:
                at(now + job.think_s, arrive(job.then))

        return do

    def load(lane: str, begun: float) -> Callable[[float], None]:
        def do(now: float) -> None:
            visits.append(Visit(lane, begun, now))
            resident.add(lane)
            queue.loaded(lane, now)

        return do

    for ticket, job in enumerate(jobs):
        if job.arrived is not None:
            at(job.arrived, arrive(ticket))
    now = 0.0
    while events:
        now = events[0][0]
        while events and events[0][0] == now:
            heapq.heappop(events)[2](now)
        for action in queue.decide(now, resident, lambda lanes: len(lanes) <= 1):
            if isinstance(action, Admit):
                jobs[action.ticket].started = now
                at(now + jobs[action.ticket].service_s, end(action.ticket))
            else:
                resident.difference_update(action.leave)
                at(now + load_s, load(action.lane, now))
        wakeup = queue.next_wakeup(now)
        if wakeup is not None:
            at(wakeup, lambda _: None)
    ended = max(job.started + job.service_s for job in jobs)
    return Outcome(list(jobs), visits, ended)
