"""Which models leave for another by cost: compared with trying every set."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.server.residency import policy
from workbench.server.residency.policy import HALF_LIFE_S, Occupant, RoomPlan, plan_room

GIB = 2**30


@st.composite
def occupants(draw: st.DrawFn, most: int = 6, *, idle: bool = False) -> list[Occupant]:
    """Draw models; powers of two as costs, so that sums of them are exact."""
    return [
        Occupant(
            f"m{number}",
            draw(st.none() | st.integers(0, 8)),
            reload_s=draw(st.none() | st.sampled_from([0.5, 1.0, 2.0, 4.0, 8.0])),
            last_used=draw(st.integers(0, 3)) * HALF_LIFE_S,
            priority=draw(st.integers(0, 9) if not idle else st.integers(4, 5)),
            pinned=not idle and draw(st.booleans()),
            leased=not idle and draw(st.integers(0, 4)) == 0,
            owner="ours" if idle else draw(st.sampled_from(["ours", "ours", "foreign", None])),
            busy=not idle and draw(st.integers(0, 3)) == 0,
        )
        for number in range(draw(st.integers(1 if idle else 0, most)))
    ]


NEEDED, BUDGET = st.none() | st.integers(0, 12), st.none() | st.integers(0, 24)
MOST = st.none() | st.integers(1, 5)


def fits(kept: list[Occupant], needed: int | None, budget: int | None, most: int | None) -> bool:
    """Return whether one more model has room beside these."""
    used = sum(model.size_bytes or 0 for model in kept)
    bytes_fit = needed is None or budget is None or used + needed <= budget
    return bytes_fit and (most is None or len(kept) < most)


def movable(model: Occupant, *, foreign: bool, force: bool) -> bool:
    """Return whether a model may leave once nothing runs on it."""
    kept = (model.pinned or model.leased) and not force
    return not kept and (foreign or model.owner != "foreign")


def levels_of_cost(leaving: tuple[Occupant, ...], models: list[Occupant]) -> list[float]:
    """Return what a set costs at each priority, the highest first; protected ones above all."""
    newest = max(model.last_used for model in models)
    costs = [0.0] * 20
    for model in leaving:
        seconds = policy.UNKNOWN_RELOAD_S if model.reload_s is None else model.reload_s
        weight = 0.5 ** ((newest - model.last_used) / HALF_LIFE_S)
        level = model.priority + 10 * (model.pinned or model.leased)
        costs[19 - level] += seconds * weight
    return costs


def sets_of(models: list[Occupant]) -> list[tuple[Occupant, ...]]:
    """Return every subset."""
    return [c for count in range(len(models) + 1) for c in combinations(models, count)]


@settings(deadline=None)
@given(occupants(), NEEDED, BUDGET, MOST, st.booleans(), st.booleans())
def test_the_cheapest_set_leaves(
    models: list[Occupant],
    needed: int | None,
    budget: int | None,
    most: int | None,
    foreign: bool,
    force: bool,
) -> None:
    """What leaves costs the least of all sets that make room, priority first; else it says why."""
    plan = plan_room(models, needed, budget, most, allow_foreign=foreign, force=force)
    allowed = [model for model in models if movable(model, foreign=foreign, force=force)]
    idle = [model for model in allowed if not model.busy]
    by_key = {model.key: model for model in models}
    rest = {
        leaving: [model for model in models if model not in leaving] for leaving in sets_of(idle)
    }
    good = [leaving for leaving, kept in rest.items() if fits(kept, needed, budget, most)]
    assert bool(good) == plan.possible
    if good:
        leaving = tuple(by_key[key] for key in plan.evict)
        assert set(plan.evict) in [{model.key for model in each} for each in good]

        def rank(leaving: tuple[Occupant, ...]) -> tuple[list[float], int]:
            freed = sum(model.size_bytes or 0 for model in leaving)
            return (levels_of_cost(leaving, models), freed)

        # The budget is large enough or nothing is in memory: then there is no cost to compare.
        if models:
            assert min(map(rank, good)) == rank(leaving)
        return
    assert () == plan.evict
    later = [model for model in models if model not in allowed]
    assert fits(later, needed, budget, most) == plan.wait
    assert plan.too_large == (None not in (needed, budget) and (needed or 0) > (budget or 0))
    if not plan.too_large:
        assert {model.key for model in models if model not in idle} == {k for k, _ in plan.blocked}


@settings(deadline=None)
@given(occupants(9, idle=True), NEEDED, BUDGET, MOST)
def test_many_models_leave_nearly_as_cheaply(
    models: list[Occupant], needed: int | None, budget: int | None, most: int | None
) -> None:
    """The quick way finds room whenever there is, at the best priority and three times the cost."""
    best = plan_room(models, needed, budget, most)
    if not best.evict:
        return
    free = [model for model in models if not model.busy]
    gap = policy._gap(models, needed, budget, most)
    chosen = policy._good(free, gap, policy._costs(free))
    kept = [model for model in models if model not in chosen]
    assert fits(kept, needed, budget, most)
    assert not [model for model in chosen if fits([*kept, model], needed, budget, most)]
    exact = levels_of_cost(tuple(m for m in models if m.key in best.evict), models)
    quick = levels_of_cost(tuple(chosen), models)
    top = next(level for level, cost in enumerate(exact) if cost)
    assert top == next(level for level, cost in enumerate(quick) if cost)
    assert quick[top] <= 3 * exact[top] + 1e-9


def test_thirty_models_are_planned_too() -> None:
    """More models than can be tried in every combination still make room, the low ones first."""
    models = [Occupant(f"m{n:02}", GIB, 1.0, float(n), priority=n // 10) for n in range(30)]
    plan = plan_room(models, 3 * GIB, 30 * GIB, None)
    assert ("m00", "m01", "m02") == plan.evict


SMALL = Occupant("small", 2, 4.0)


@pytest.mark.parametrize(
    ("expected", "models"),
    [
        pytest.param((), [SMALL], id="room already"),
        pytest.param(
            ("low",),
            [Occupant("low", 9, 60.0, priority=4), Occupant("high", 9, 1.0, priority=5)],
            id="low priority though it is dear",
        ),
        pytest.param(
            ("old",),
            [Occupant("new", 9, 4.0, 3 * HALF_LIFE_S), Occupant("old", 9, 8.0, 0.0)],
            id="used long ago though it loads slower",
        ),
        pytest.param(
            ("quick",),
            [Occupant("slow", 9, 30.0, 0.0), Occupant("quick", 9, 2.0, HALF_LIFE_S)],
            id="quick to load again",
        ),
        pytest.param(
            ("tight",),
            [Occupant("loose", 9, 4.0), Occupant("tight", 8, 4.0)],
            id="fewer bytes among equals",
        ),
    ],
)
def test_who_leaves(expected: tuple[str, ...], models: list[Occupant]) -> None:
    """Priority goes before reload seconds and recency, and these before bytes."""
    assert expected == plan_room(models, 10, 20, None).evict


def test_a_model_of_unknown_size_frees_nothing_known() -> None:
    """It leaves where the number of models counts, and never for bytes."""
    unknown, known = Occupant("unknown", None, 1.0), Occupant("known", 8, 50.0)
    assert ("known",) == plan_room([unknown, known], 8, 10, None).evict
    plan = plan_room([unknown, known], 1, 10, 2)
    assert (("unknown",), None) == (plan.evict, plan.freed_bytes)


def test_it_says_what_comes_back_and_what_it_costs() -> None:
    """The plan holds bytes and seconds of what leaves; seconds never measured are unknown."""
    one = Occupant("one", 6, 2.5)
    assert RoomPlan(("one",), freed_bytes=6, reload_s=2.5) == plan_room([one], 6, 10, None)
    plan = plan_room([replace(one, reload_s=None)], 6, 10, None)
    assert (6, None) == (plan.freed_bytes, plan.reload_s)


@pytest.mark.parametrize(
    ("reason", "model"),
    [
        ("busy", Occupant("m", 9, busy=True)),
        ("pinned", Occupant("m", 9, pinned=True, busy=True)),
        ("leased", Occupant("m", 9, leased=True)),
        ("foreign", Occupant("m", 9, owner="foreign")),
    ],
)
def test_who_may_not_leave_is_named(reason: str, model: Occupant) -> None:
    """Nothing leaves, and the plan says why; it is worth waiting only for busy ones."""
    plan = plan_room([model], 9, 10, None)
    assert RoomPlan(wait=reason == "busy", blocked=(("m", reason),)) == plan


def test_force_and_consent_are_two_things() -> None:
    """Force moves pinned and leased models, consent those of others, and neither busy ones."""
    pinned, foreign = Occupant("pinned", 9, pinned=True), Occupant("foreign", 9, owner="foreign")
    assert ("pinned",) == plan_room([pinned], 9, 10, None, force=True).evict
    assert () == plan_room([pinned], 9, 10, None, allow_foreign=True).evict
    assert ("foreign",) == plan_room([foreign], 9, 10, None, allow_foreign=True).evict
    assert () == plan_room([foreign], 9, 10, None, force=True).evict
    busy = replace(pinned, busy=True)
    assert (("pinned", "busy"),) == plan_room([busy], 9, 10, None, force=True).blocked


def test_a_pinned_model_leaves_last_of_all() -> None:
    """Forced, a pinned model of priority 0 still stays while an unpinned one of 9 suffices."""
    pinned = Occupant("pinned", 9, 1.0, priority=0, pinned=True)
    free = Occupant("free", 9, 90.0, priority=9)
    assert ("free",) == plan_room([pinned, free], 9, 20, None, force=True).evict


def test_a_model_larger_than_memory_is_too_large() -> None:
    """Nothing leaves for a model that has no room even alone."""
    assert RoomPlan(too_large=True) == plan_room([Occupant("m", 5)], 11, 10, None)


def test_costs_stay_above_nothing() -> None:
    """A model not used for years, or loaded in no time, does not leave in vain."""
    old = Occupant("old", 1, 0.0, -1e9)
    new = Occupant("new", 9, 5.0, 1e9)
    assert ("new",) == plan_room([old, new], 9, 10, None).evict
    assert math.isfinite(sum(policy._costs([old, new]).values()))
