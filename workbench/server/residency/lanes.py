"""What the queue of requests is made of: actions, views, and one lane's waiting requests."""

from __future__ import annotations

import math
from collections.abc import Hashable, Set
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

LaneT = TypeVar("LaneT", bound=Hashable)
TicketT = TypeVar("TicketT", bound=Hashable)

RequestClass = Literal["interactive", "batch"]
LaneState = Literal["serving", "waiting", "gated"]
SwitchReason = Literal["idle", "fits", "overdue"]

CLASSES: tuple[RequestClass, ...] = ("interactive", "batch")
# In a lane, one batch request comes after at most this many interactive ones.
INTERACTIVE_IN_A_ROW = 4


@dataclass(frozen=True, slots=True)
class Admit(Generic[LaneT, TicketT]):
    """Run a request now, on a lane that is in memory."""

    ticket: TicketT
    lane: LaneT
    waited_s: float


@dataclass(frozen=True, slots=True)
class Switch(Generic[LaneT]):
    """Load a lane, after others have left.

    Attributes:
        leave: Lanes without requests that make room, used longest ago first.
        waited_s: How long its oldest request has waited.
        reason: `fits`: nothing must leave; `idle`: what leaves has no work; `overdue`: W passed.
    """

    lane: LaneT
    leave: tuple[LaneT, ...]
    waited_s: float
    reason: SwitchReason


@dataclass(frozen=True, slots=True)
class Failed(Generic[TicketT]):
    """A request that cannot run because its lane could not be loaded."""

    ticket: TicketT
    error: Exception


@dataclass(frozen=True, slots=True)
class PlannedStep(Generic[LaneT, TicketT]):
    """Requests that run one after another on one lane; `swap`: it is loaded first."""

    lane: LaneT
    tickets: tuple[TicketT, ...]
    swap: bool


@dataclass(frozen=True, slots=True)
class LaneView(Generic[LaneT]):
    """One lane as people see it.

    Attributes:
        oldest_s: How long its oldest waiting request has waited; `None` when none waits.
        bound_s: Until that request runs at the latest, if nothing new comes; `None` when none waits
            or the seconds of a load or a request were never measured.
    """

    lane: LaneT
    state: LaneState
    running: int
    waiting: int
    interactive: int
    batch: int
    oldest_s: float | None
    bound_s: float | None


@dataclass(frozen=True, slots=True)
class QueueView(Generic[LaneT, TicketT]):
    """The whole queue as people see it."""

    lanes: tuple[LaneView[LaneT], ...]
    order: tuple[PlannedStep[LaneT, TicketT], ...]
    predicted_swaps: int
    wait_bound_s: dict[RequestClass, float]


@dataclass(slots=True)
class Entry(Generic[LaneT]):
    """Where a request is: it waits until `admitted_at` is set."""

    lane: LaneT
    cls: RequestClass
    arrived: float
    number: int
    admitted_at: float | None = None


@dataclass(slots=True)
class LaneRequests(Generic[TicketT]):
    """The requests of one lane, and whose turn it is among them."""

    # Dictionaries keep the order of arrival and let any request go at once.
    waiting: dict[RequestClass, dict[TicketT, None]] = field(
        default_factory=lambda: {"interactive": {}, "batch": {}}
    )
    running: set[TicketT] = field(default_factory=set)
    interactive_in_a_row: int = 0
    last_used: float = -math.inf
    finished_at: float = -math.inf

    @property
    def count(self) -> int:
        """Requests that wait."""
        return sum(len(tickets) for tickets in self.waiting.values())

    def tickets(self) -> list[TicketT]:
        """Return the requests that wait, by class."""
        return [ticket for cls in CLASSES for ticket in self.waiting[cls]]

    def heads(self) -> dict[RequestClass, TicketT]:
        """Return the oldest request of each class that has one."""
        return {cls: next(iter(self.waiting[cls])) for cls in CLASSES if self.waiting[cls]}

    def next(self, gate: set[TicketT] | None) -> TicketT | None:
        """Return the request to run next; with a gate, only one that is in it."""
        # A gate holds the front of both queues, so their heads decide.
        heads = {
            cls: ticket for cls, ticket in self.heads().items() if gate is None or ticket in gate
        }
        if not heads:
            return None
        return heads[_turn(heads.keys(), self.interactive_in_a_row)]

    def in_order(self) -> tuple[TicketT, ...]:
        """Return the requests that wait in the order in which they would run."""
        left = {cls: [*self.waiting[cls]][::-1] for cls in CLASSES}
        row, order = self.interactive_in_a_row, []
        while classes := {cls for cls in CLASSES if left[cls]}:
            cls = _turn(classes, row)
            order.append(left[cls].pop())
            row = _row_after(cls, row, batch_waits=bool(left["batch"]))
        return tuple(order)

    def begin(self, ticket: TicketT, cls: RequestClass, now: float) -> None:
        """Move a request from those that wait to those that run."""
        del self.waiting[cls][ticket]
        self.running.add(ticket)
        self.last_used = now
        self.interactive_in_a_row = _row_after(
            cls, self.interactive_in_a_row, batch_waits=bool(self.waiting["batch"])
        )


def _turn(classes: Set[RequestClass], row: int) -> RequestClass:
    """Return whose turn it is, of the classes that have a request."""
    if "interactive" not in classes or ("batch" in classes and row >= INTERACTIVE_IN_A_ROW):
        return "batch"
    return "interactive"


def _row_after(cls: RequestClass, row: int, *, batch_waits: bool) -> int:
    """Return how many interactive requests in a row have gone before a waiting batch one."""
    return row + 1 if cls == "interactive" and batch_waits else 0
