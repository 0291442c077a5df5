"""The queue of requests by model: gated + W, as a state machine without a clock or any I/O.

A lane is what one loaded model serves: in the server (backend, model key, runner profile).
Lanes that fit together in memory run together.  Between lanes that exclude each other the side that
is in memory is served until an excluded lane has waited W (by class: interactive or batch); then
the lanes in its way finish only what was waiting at that moment (the gate), leave, and the lane
that is due first comes in.  Requests that run are never interrupted.

The values it takes and gives (`Admit`, `Switch`, `Failed`, views) are in `lanes.py`.

The shell owns sockets, tasks and memory.  After every event (`submit`, `finish`, `cancel`,
`loaded`, `failed`, a lane gone by itself) and at `next_wakeup(now)` it does

```
for late in queue.expired(now): ...                  # their deadline passed: QueueTimeout
for action in queue.decide(now, resident, fits):
    match action:
        case Admit(ticket, lane): ...                # run it; finish(ticket, now) when it has ended
        case Switch(lane, leave): ...                # unload, load; then loaded() or failed()
```

- `resident`: the lanes that can take a request now.  One on its way out is not among them;
  one that `loaded` was called for is, from the next `decide` on.
- `fits(lanes)`: whether these lanes fit in memory together, beside whatever can never leave
  (pinned, leased, foreign).  A part of a set that fits must fit.  A lane that does not even fit
  alone is loaded alone: refuse it before `submit` when that cannot end well.
- `Switch.leave`: a choice of lanes that makes room by `fits`; the shell may unload others instead,
  except those with requests.  Several switches may be open when they fit together.
- `failed(lane, error, now)`: returns the requests of that lane, which are out of the queue then;
  the lanes that were to leave are served again if they are still `resident`.
- `cancel(ticket, now)` at any point, any number of times; a load that runs for it goes on.

`plan(now)` and `snapshot(now)` say what would happen if nothing new came.  `configure(...)` changes
W; `concurrency` and `load_s` are asked each time.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable
from typing import Generic, Literal

from workbench.server.residency.lanes import (
    Admit,
    Entry,
    Failed,
    LaneRequests,
    LaneState,
    LaneT,
    LaneView,
    PlannedStep,
    QueueView,
    RequestClass,
    Switch,
    SwitchReason,
    TicketT,
)

# A loop that asks one question after another is given this long to ask the next, before a lane
# that is not overdue takes its place: two such loops would else swap at every question.
LINGER_S = 0.25
# Weight of the newest request in the mean seconds per request.
NEWEST = 0.3


class LaneQueue(Generic[LaneT, TicketT]):
    """Requests that wait for models, and the order in which they run.

    Args:
        interactive_wait_s: W of requests that a person waits for.
        batch_wait_s: W of the others.
        concurrency: How many requests a lane may run at once.
        load_s: Seconds a lane takes to load, `None` when never measured; only for predictions.
        linger_s: How long an idle lane is kept for its next request.
    """

    def __init__(
        self,
        *,
        interactive_wait_s: float = 5.0,
        batch_wait_s: float = 60.0,
        concurrency: Callable[[LaneT], int] = lambda _: 1,
        load_s: Callable[[LaneT], float | None] = lambda _: None,
        linger_s: float = LINGER_S,
    ) -> None:
        self._wait_s: dict[RequestClass, float] = {
            "interactive": interactive_wait_s,
            "batch": batch_wait_s,
        }
        self._concurrency = concurrency
        self._load_s = load_s
        self._linger_s = linger_s
        self._lanes: dict[LaneT, LaneRequests[TicketT]] = {}
        self._entries: dict[TicketT, Entry[LaneT]] = {}
        self._deadlines: list[tuple[float, int, TicketT]] = []
        self._usable: frozenset[LaneT] = frozenset()
        self._loading: dict[LaneT, Switch[LaneT]] = {}
        # By closed lane: what was waiting when it was closed and has not run yet.
        self._gates: dict[LaneT, set[TicketT]] = {}
        # Kept when a lane has gone: it may come back.
        self._service_s: dict[LaneT, float] = {}
        self._number = 0

    @property
    def waiting(self) -> int:
        """Requests that wait."""
        return sum(lane.count for lane in self._lanes.values())

    @property
    def running(self) -> int:
        """Requests that run."""
        return sum(len(lane.running) for lane in self._lanes.values())

    @property
    def gated(self) -> int:
        """Requests that were waiting in a closed lane when it was closed, and have not run yet."""
        return sum(len(tickets) for tickets in self._gates.values())

    @property
    def loading(self) -> tuple[LaneT, ...]:
        """Lanes whose switch has not been answered yet."""
        return tuple(self._loading)

    def configure(
        self, *, interactive_wait_s: float | None = None, batch_wait_s: float | None = None
    ) -> None:
        """Change W, for those that wait already too; `None` leaves it as it is."""
        if interactive_wait_s is not None:
            self._wait_s["interactive"] = interactive_wait_s
        if batch_wait_s is not None:
            self._wait_s["batch"] = batch_wait_s

    def submit(
        self,
        ticket: TicketT,
        lane: LaneT,
        cls: RequestClass,
        now: float,
        *,
        deadline: float | None = None,
    ) -> None:
        """Add a request.

        Args:
            ticket: What it is known by; free again when it has finished or gone.
            deadline: When it is given up if it does not run by then; `None` waits for ever.

        Raises:
            ValueError: When a request with this ticket waits or runs.
        """
        if ticket in self._entries:
            raise ValueError(f"{ticket!r} is in the queue already")
        self._number += 1
        self._entries[ticket] = Entry(lane, cls, now, self._number)
        self._lanes.setdefault(lane, LaneRequests()).waiting[cls][ticket] = None
        if deadline is not None:
            heapq.heappush(self._deadlines, (deadline, self._number, ticket))

    def cancel(self, ticket: TicketT, now: float) -> Literal["waiting", "running"] | None:
        """Take a request out, wherever it is.

        Returns:
            Where it was; `None` when it has finished, failed or gone before.
        """
        entry = self._entries.get(ticket)
        if entry is None:
            return None
        if entry.admitted_at is not None:
            self._ended(ticket, now)
            return "running"
        self._remove_waiting(ticket)
        del self._entries[ticket]
        return "waiting"

    def finish(self, ticket: TicketT, now: float) -> None:
        """Say that a request has run to its end; does nothing for one that was cancelled."""
        entry = self._entries.get(ticket)
        if entry is None or entry.admitted_at is None:
            return
        lane = self._lanes[entry.lane]
        took_s = now - entry.admitted_at
        before_s = self._service_s.get(entry.lane, took_s)
        self._service_s[entry.lane] = (1 - NEWEST) * before_s + NEWEST * took_s
        lane.finished_at = now
        self._ended(ticket, now)

    def loaded(self, lane: LaneT, now: float) -> None:
        """Say that a switch has succeeded; `resident` holds the lane from now on."""
        if self._loading.pop(lane, None) is not None and lane in self._lanes:
            self._lanes[lane].last_used = now

    def failed(self, lane: LaneT, error: Exception) -> list[Failed[TicketT]]:
        """Say that a switch has failed, by its unload or its load.

        Returns:
            The requests that waited for the lane, oldest first; they are out of the queue, and the
            next one for this lane tries again.
        """
        self._loading.pop(lane, None)
        state = self._lanes.get(lane)
        tickets = [] if state is None else state.tickets()
        tickets.sort(key=lambda ticket: self._entries[ticket].number)
        for ticket in tickets:
            self._remove_waiting(ticket)
            del self._entries[ticket]
        return [Failed(ticket, error) for ticket in tickets]

    def expired(self, now: float) -> list[TicketT]:
        """Take out the requests that still wait and whose deadline has passed."""
        late = []
        while (first := self._first_deadline()) and first[0] <= now:
            ticket = heapq.heappop(self._deadlines)[2]
            self._remove_waiting(ticket)
            del self._entries[ticket]
            late.append(ticket)
        return late

    def decide(
        self, now: float, resident: Iterable[LaneT], fits: Callable[[frozenset[LaneT]], bool]
    ) -> list[Admit[LaneT, TicketT] | Switch[LaneT]]:
        """Return what to do now; it counts as begun.

        Args:
            resident: The lanes that can take a request.
            fits: Whether lanes fit in memory together.
        """
        self._usable = frozenset(resident) - self._in_switches()
        self._prune()
        wanted = self._wanted()
        reserved = self._reserve(now, wanted, fits)
        self._close(reserved, fits)
        admitted = self._admit(now)
        return [*admitted, *self._switch(now, wanted, reserved, fits)]

    def next_wakeup(self, now: float) -> float | None:
        """Return when to call `decide` again although nothing happens; `None`: not needed."""
        times = self._first_deadline()
        wanted = self._wanted()
        times += [due for lane in wanted if (due := self._due(lane)[0]) > now]
        if wanted:
            ends = [self._lingers_until(lane) for lane in self._usable]
            times += [end for end in ends if end > now]
        return min(times, default=None)

    def plan(self, now: float) -> tuple[PlannedStep[LaneT, TicketT], ...]:
        """Return in which order the requests that wait would run if nothing new came."""
        first: list[PlannedStep[LaneT, TicketT]] = []
        later: list[tuple[tuple[float, int], PlannedStep[LaneT, TicketT]]] = []
        for lane in self._by_due(lane for lane, state in self._lanes.items() if state.count):
            gate = self._gates.get(lane)
            tickets = self._lanes[lane].in_order()
            if lane in self._usable:
                now_served = tuple(t for t in tickets if gate is None or t in gate)
                behind = tuple(t for t in tickets if gate is not None and t not in gate)
                if now_served:
                    first.append(PlannedStep(lane, now_served, swap=False))
                if behind:
                    due = min(self._due_of(ticket) for ticket in behind)
                    later.append((due, PlannedStep(lane, behind, swap=True)))
            elif lane in self._loading:
                first.append(PlannedStep(lane, tickets, swap=True))
            else:
                later.append((self._due(lane), PlannedStep(lane, tickets, swap=True)))
        later.sort(key=lambda item: item[0])
        return (*first, *(step for _, step in later))

    def snapshot(self, now: float) -> QueueView[LaneT, TicketT]:
        """Return lanes, planned order, predicted swaps and W by class."""
        order = self.plan(now)
        shown = {lane for lane, state in self._lanes.items() if state.count or state.running}
        views = (self._view(lane, now) for lane in [*self._lanes] if lane in shown)
        swaps = sum(step.swap for step in order)
        return QueueView(tuple(views), order, swaps, dict(self._wait_s))

    # Order of lanes and requests.

    def _due_of(self, ticket: TicketT) -> tuple[float, int]:
        entry = self._entries[ticket]
        return entry.arrived + self._wait_s[entry.cls], entry.number

    def _due(self, lane: LaneT) -> tuple[float, int]:
        """Return when the first of a lane's requests has waited W, and its number."""
        heads = self._lanes[lane].heads().values()
        return min((self._due_of(ticket) for ticket in heads), default=(math.inf, 0))

    def _by_due(self, lanes: Iterable[LaneT]) -> list[LaneT]:
        return sorted(lanes, key=self._due)

    def _wanted(self) -> list[LaneT]:
        """Return the lanes that wait to be loaded, the one that is due first in front."""
        return self._by_due(
            lane
            for lane, state in self._lanes.items()
            if state.count and lane not in self._usable and lane not in self._loading
        )

    # The four steps of a decision.

    def _reserve(
        self, now: float, wanted: list[LaneT], fits: Callable[[frozenset[LaneT]], bool]
    ) -> list[LaneT]:
        """Return the overdue lanes that come in next: those due first that fit together.

        The first that does not fit beside them ends the row: nothing is closed yet for those who
        come after it.  So every other lane is loaded at most once before one that is overdue.
        """
        reserved: list[LaneT] = []
        for lane in wanted:
            overdue = self._due(lane)[0] <= now
            beside = frozenset([*self._loading, *reserved, lane])
            if not overdue or (reserved and not fits(beside)):
                break
            reserved.append(lane)
        return reserved

    def _close(self, reserved: list[LaneT], fits: Callable[[frozenset[LaneT]], bool]) -> None:
        """Close the lanes that are in the way of the reserved ones, and open all others.

        A lane that is closed already keeps its gate, also when it has run empty meanwhile or when
        the lane it was closed for has gone: what came later never goes before who is overdue.
        """
        if not reserved:
            self._gates = {}
            return
        keep, gates = set(reserved), {}
        for lane in sorted(self._usable, key=self._staying):
            if fits(frozenset(keep | {lane})):
                keep.add(lane)
            elif lane in self._gates:
                gates[lane] = self._gates[lane]
            else:
                state = self._lanes.get(lane)
                gates[lane] = set() if state is None else set(state.tickets())
        self._gates = gates

    def _staying(self, lane: LaneT) -> tuple[bool, bool, tuple[float, int]]:
        """Return what decides which of several lanes stays open: those with work, due first."""
        state = self._lanes.get(lane)
        due = (math.inf, 0) if state is None else self._due(lane)
        works = state is not None and bool(state.count or state.running)
        return lane in self._gates, not works, due

    def _admit(self, now: float) -> list[Admit[LaneT, TicketT]]:
        admitted = []
        ready = (lane for lane in self._usable if lane in self._lanes)
        for lane in self._by_due(ready):
            state = self._lanes[lane]
            places = max(1, self._concurrency(lane)) - len(state.running)
            for _ in range(places):
                ticket = self._next(lane)
                if ticket is None:
                    break
                entry = self._entries[ticket]
                entry.admitted_at = now
                state.begin(ticket, entry.cls, now)
                if lane in self._gates:
                    self._gates[lane].discard(ticket)
                admitted.append(Admit(ticket, lane, now - entry.arrived))
        return admitted

    def _next(self, lane: LaneT) -> TicketT | None:
        return self._lanes[lane].next(self._gates.get(lane))

    def _switch(
        self,
        now: float,
        wanted: list[LaneT],
        reserved: list[LaneT],
        fits: Callable[[frozenset[LaneT]], bool],
    ) -> list[Switch[LaneT]]:
        """Begin the switches that have nothing in their way."""
        busy = self._busy(now)
        ahead: set[LaneT] = set()
        begun: list[Switch[LaneT]] = []
        for lane in wanted:
            # What leaves for another switch is still there: should its unload fail, it stays.
            switching = self._in_switches()
            others = (busy | switching | ahead) - {lane}
            # One that is just leaving comes back only when that switch has ended.
            if lane in switching or (others and not fits(frozenset(others | {lane}))):
                if self._due(lane)[0] <= now:
                    # Whoever is due later comes in only where there is room for this one too.
                    ahead.add(lane)
                continue
            leave = self._leave(others | {lane}, fits)
            reason: SwitchReason = "fits" if not leave else "idle"
            if lane in reserved:
                reason = "overdue"
            waited_s = now - self._oldest(lane)
            begun.append(Switch(lane, tuple(leave), waited_s, reason))
            self._loading[lane] = begun[-1]
            self._usable -= set(leave)
            self._gates = {key: gate for key, gate in self._gates.items() if key in self._usable}
        return begun

    def _busy(self, now: float) -> set[LaneT]:
        """Return the lanes that may not leave: with requests, or kept for the next one."""
        busy = {lane for lane, state in self._lanes.items() if state.running}
        for lane in self._usable & self._lanes.keys():
            lingers = lane not in self._gates and self._lingers_until(lane) > now
            if lingers or self._next(lane) is not None:
                busy.add(lane)
        return busy

    def _leave(self, stay: set[LaneT], fits: Callable[[frozenset[LaneT]], bool]) -> list[LaneT]:
        """Return which idle lanes leave so that these fit; those used last stay if they can."""
        keep, leave = set(stay), []
        for lane in sorted(self._usable - stay, key=self._last_used, reverse=True):
            if fits(frozenset(keep | {lane})):
                keep.add(lane)
            else:
                leave.append(lane)
        return leave[::-1]

    # Small things.

    def _oldest(self, lane: LaneT) -> float:
        heads = self._lanes[lane].heads().values()
        return min(self._entries[ticket].arrived for ticket in heads)

    def _in_switches(self) -> set[LaneT]:
        """Return the lanes that are being loaded, and those that leave for them."""
        leaving = {lane for switch in self._loading.values() for lane in switch.leave}
        return leaving | self._loading.keys()

    def _last_used(self, lane: LaneT) -> float:
        state = self._lanes.get(lane)
        return -math.inf if state is None else state.last_used

    def _lingers_until(self, lane: LaneT) -> float:
        state = self._lanes.get(lane)
        return -math.inf if state is None else state.finished_at + self._linger_s

    def _first_deadline(self) -> list[float]:
        """Return the first deadline of a request that still waits, or nothing."""
        while self._deadlines:
            deadline, number, ticket = self._deadlines[0]
            entry = self._entries.get(ticket)
            if entry is not None and entry.number == number and entry.admitted_at is None:
                return [deadline]
            heapq.heappop(self._deadlines)
        return []

    def _remove_waiting(self, ticket: TicketT) -> None:
        entry = self._entries[ticket]
        del self._lanes[entry.lane].waiting[entry.cls][ticket]
        if entry.lane in self._gates:
            self._gates[entry.lane].discard(ticket)

    def _ended(self, ticket: TicketT, now: float) -> None:
        lane = self._lanes[self._entries.pop(ticket).lane]
        lane.running.discard(ticket)
        lane.last_used = now

    def _prune(self) -> None:
        """Forget lanes that have no work and are not in memory."""
        for lane, state in [*self._lanes.items()]:
            known = lane in self._usable or lane in self._loading
            if not (known or state.count or state.running):
                del self._lanes[lane]

    def _view(self, lane: LaneT, now: float) -> LaneView[LaneT]:
        state = self._lanes[lane]
        shown: LaneState = "serving" if lane in self._usable else "waiting"
        return LaneView(
            lane,
            "gated" if lane in self._gates else shown,
            running=len(state.running),
            waiting=state.count,
            interactive=len(state.waiting["interactive"]),
            batch=len(state.waiting["batch"]),
            oldest_s=now - self._oldest(lane) if state.count else None,
            bound_s=self._bound_s(lane, now),
        )

    def _bound_s(self, lane: LaneT, now: float) -> float | None:
        """Return in how many seconds a lane's first request runs at the latest.

        W of that request, then every other lane's load and work, then its own load.
        """
        state = self._lanes[lane]
        if not state.count:
            return None
        parts: list[float | None] = []
        if lane in self._usable and self._next(lane) is not None:
            full = len(state.running) >= max(1, self._concurrency(lane))
            return self._service_s.get(lane) if full else 0.0
        for other, work in self._lanes.items():
            if other != lane and (work.count or work.running):
                service_s = self._service_s.get(other)
                total = work.count + len(work.running)
                parts.append(None if service_s is None else service_s * total)
                parts.append(0.0 if other in self._usable else self._load_s(other))
        parts.append(self._load_s(lane))
        known = [part for part in parts if part is not None]
        if len(known) < len(parts):
            return None
        return max(0.0, self._due(lane)[0] - now) + math.fsum(known)
