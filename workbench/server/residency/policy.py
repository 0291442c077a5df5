"""Which models must leave so that another fits: a pure function of a snapshot.

`plan_room` answers one of five things, to be read in this order:

- `too_large`: the model has no room even alone; refuse it, with the numbers.
- `evict`: unload these, then load.
- `wait`: busy models must finish first; ask again when something changes.
- `blocked` without `evict` and `wait`: what is in the way may not leave, and why; refuse or ask.
- none of these: there is room now.

One budget is one device or one host; models spread over several devices are not planned here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Reason = Literal["busy", "pinned", "leased", "foreign"]

# Above every priority of a model (0-9): pinned and leased ones leave last, and only by force.
PROTECTED = 10
# A model used this much longer ago than another is half as likely to be wanted again.
HALF_LIFE_S = 600.0
# What a reload is taken to cost before it was ever measured.
UNKNOWN_RELOAD_S = 5.0
# Every subset is tried up to here: 4096 of them.
EXHAUSTIVE = 12


@dataclass(frozen=True, slots=True)
class Occupant:
    """A model in memory, as the policy sees it.

    Attributes:
        size_bytes: Memory it holds; `None` when unknown: it can leave, but frees nothing known.
        reload_s: Measured seconds to load it again; `None` when never measured.
        last_used: Seconds of any one clock.
        priority: 0 leaves first, 9 last.
        busy: Whether requests run on it or it is being loaded; such a model cannot leave now.
        owner: `foreign` when another client loaded it.
    """

    key: str
    size_bytes: int | None
    reload_s: float | None = None
    last_used: float = 0.0
    priority: int = 5
    pinned: bool = False
    leased: bool = False
    owner: Literal["ours", "foreign"] | None = "ours"
    busy: bool = False


@dataclass(frozen=True, slots=True)
class RoomPlan:
    """What to do for one more model; the module says how to read it.

    Attributes:
        evict: Keys to unload, in order.
        wait: Whether busy models must finish before there is room.
        blocked: When there is no room now: what is in the way, and why it may not leave.
        freed_bytes: Memory that comes back; `None` when a leaving model's size is unknown.
        reload_s: Seconds to load all of `evict` again; `None` when one was never measured.
        too_large: Whether there is no room even with nothing else in memory.
    """

    evict: tuple[str, ...] = ()
    wait: bool = False
    blocked: tuple[tuple[str, Reason], ...] = ()
    freed_bytes: int | None = 0
    reload_s: float | None = 0.0
    too_large: bool = False

    @property
    def possible(self) -> bool:
        """Whether there is room now, or will be once `evict` has left."""
        return not (self.wait or self.blocked or self.too_large)


@dataclass(frozen=True, slots=True)
class _Gap:
    """What is missing for one more model: bytes, and models that must go by their number."""

    size_bytes: int
    count: int

    def filled(self, leaving: Sequence[Occupant]) -> bool:
        return len(leaving) >= self.count and _known_bytes(leaving) >= self.size_bytes


def plan_room(
    occupants: Sequence[Occupant],
    needed_bytes: int | None,
    budget_bytes: int | None,
    max_loaded: int | None,
    *,
    allow_foreign: bool = False,
    force: bool = False,
) -> RoomPlan:
    """Return the cheapest set of idle models that must leave, or why there is no such set.

    A model of higher priority stays while lower ones suffice.
    Among equals it is the least sum of reload seconds, halved for every `HALF_LIFE_S` a model was
    used longer ago; then the fewest bytes freed beyond need.
    With more than `EXHAUSTIVE` idle models the set is a good one and not always the best: no model
    leaves in vain, the highest priority that leaves is the lowest possible, and what leaves at that
    priority costs at most three times the least.

    Args:
        needed_bytes: `None` when unknown: then only the number of models counts.
        budget_bytes: Memory that all models may take together; `None` when unknown.
        max_loaded: How many models may be in memory; `None` without limit.
        allow_foreign: Whether models that another client loaded may leave.
        force: Whether pinned and leased models may leave.
    """
    gap = _gap(occupants, needed_bytes, budget_bytes, max_loaded)
    if budget_bytes is not None and (needed_bytes or 0) > budget_bytes:
        return RoomPlan(too_large=True)
    if gap.filled(()):
        return RoomPlan()
    kept: list[tuple[Occupant, Reason]] = []
    free: list[Occupant] = []
    for model in occupants:
        reason = _reason(model, allow_foreign=allow_foreign, force=force)
        if reason is None:
            free.append(model)
        else:
            kept.append((model, reason))
    if not gap.filled(free):
        finishing = [model for model, reason in kept if reason == "busy"]
        blocked = tuple((model.key, reason) for model, reason in kept)
        return RoomPlan(wait=gap.filled([*free, *finishing]), blocked=blocked)
    costs = _costs(free)
    chosen = _best(free, gap, costs) if len(free) <= EXHAUSTIVE else _good(free, gap, costs)
    leaving = sorted(chosen, key=lambda model: (_level(model), costs[model.key], model.key))
    sizes = [model.size_bytes for model in leaving]
    seconds = [model.reload_s for model in leaving]
    return RoomPlan(
        evict=tuple(model.key for model in leaving),
        freed_bytes=None if None in sizes else sum(size or 0 for size in sizes),
        reload_s=None if None in seconds else math.fsum(value or 0.0 for value in seconds),
    )


def _gap(
    occupants: Sequence[Occupant],
    needed_bytes: int | None,
    budget_bytes: int | None,
    max_loaded: int | None,
) -> _Gap:
    missing = 0
    if needed_bytes is not None and budget_bytes is not None:
        missing = max(0, _known_bytes(occupants) + needed_bytes - budget_bytes)
    # One place is always granted: a limit of none would refuse every model.
    count = 0 if max_loaded is None else max(0, len(occupants) + 1 - max(1, max_loaded))
    return _Gap(missing, count)


def _reason(model: Occupant, *, allow_foreign: bool, force: bool) -> Reason | None:
    """Return why a model may not leave; what lasts longest is named first."""
    if model.pinned and not force:
        return "pinned"
    if model.leased and not force:
        return "leased"
    if model.owner == "foreign" and not allow_foreign:
        return "foreign"
    return "busy" if model.busy else None


def _known_bytes(models: Sequence[Occupant]) -> int:
    return sum(model.size_bytes or 0 for model in models)


def _level(model: Occupant) -> int:
    return model.priority + (PROTECTED if model.pinned or model.leased else 0)


def _costs(models: Sequence[Occupant]) -> dict[str, float]:
    """Return what losing each model costs; never 0, so that nothing leaves in vain.

    Only the differences of `last_used` count: another "now" would scale all costs alike.
    """
    newest = max(model.last_used for model in models)
    costs = {}
    for model in models:
        seconds = UNKNOWN_RELOAD_S if model.reload_s is None else model.reload_s
        # Past 60 half-lives they are all alike, and the product stays above 0.
        halvings = min(60.0, (newest - model.last_used) / HALF_LIFE_S)
        costs[model.key] = max(seconds, 0.001) * 0.5**halvings
    return costs


def _best(free: Sequence[Occupant], gap: _Gap, costs: dict[str, float]) -> list[Occupant]:
    """Return the best of all sets that fill the gap."""
    levels = sorted({_level(model) for model in free}, reverse=True)
    best: tuple[tuple[object, ...], list[Occupant]] | None = None
    for mask in range(1, 1 << len(free)):
        chosen = [model for bit, model in enumerate(free) if mask >> bit & 1]
        if not gap.filled(chosen):
            continue
        by_level = [
            math.fsum(costs[model.key] for model in chosen if _level(model) == level)
            for level in levels
        ]
        keys = sorted(model.key for model in chosen)
        rank = (by_level, _known_bytes(chosen), keys)
        if best is None or rank < best[0]:
            best = (rank, chosen)
    assert best is not None
    return best[1]


def _good(free: Sequence[Occupant], gap: _Gap, costs: dict[str, float]) -> list[Occupant]:
    """Return a set that fills the gap, near the best one, in time that grows as n log n.

    Every level below the lowest that suffices is taken whole, which costs nothing by the order of
    priorities.  At that level the bytes are covered by the greedy rule of Gens and Levner for the
    minimum knapsack (at most twice the least cost), and the number by the cheapest ones (exact):
    together at most three times.  Then whatever is not needed stays, the dearest first.
    """
    below: list[Occupant] = []
    top: list[Occupant] = []
    for level in sorted({_level(model) for model in free}):
        top = [model for model in free if _level(model) == level]
        if gap.filled([*below, *top]):
            break
        below += top
    missing = gap.size_bytes - _known_bytes(below)
    covering = {model.key: model for model in _cover(top, missing, costs)}
    cheapest = sorted(top, key=lambda model: (costs[model.key], model.key))
    covering |= {model.key: model for model in cheapest[: max(0, gap.count - len(below))]}
    leaving = [*below, *covering.values()]
    for model in sorted(leaving, key=lambda m: (_level(m), costs[m.key], m.key), reverse=True):
        fewer = [other for other in leaving if other is not model]
        if gap.filled(fewer):
            leaving = fewer
    return leaving


def _cover(models: Sequence[Occupant], missing: int, costs: dict[str, float]) -> list[Occupant]:
    """Return models that free `missing` bytes, at no more than twice the least cost."""
    if missing <= 0:
        return []
    sized = [model for model in models if model.size_bytes]
    sized.sort(key=lambda model: (costs[model.key] / (model.size_bytes or 1), model.key))
    taken: list[Occupant] = []
    best: tuple[float, list[Occupant]] | None = None
    for model in sized:
        if _known_bytes(taken) + (model.size_bytes or 0) < missing:
            taken.append(model)
            continue
        # It completes the cover: one answer; going on without it may give a cheaper one.
        answer = [*taken, model]
        cost = math.fsum(costs[item.key] for item in answer)
        if best is None or cost < best[0]:
            best = (cost, answer)
    assert best is not None
    return best[1]
