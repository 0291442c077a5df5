"""Leases: they last while their holder says so."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.server.residency.leases import LeaseTable


def test_a_lease_protects_its_models_until_it_ends() -> None:
    """A leased model is leased until the time to live has passed, and not after."""
    table = LeaseTable()
    table.acquire(["a", "b", "a"], 30, "run 7", now=100.0)
    assert (True, True, False) == tuple(table.leased(name, 129.9) for name in "abc")
    assert not table.leased("a", 130.0)


def test_a_heartbeat_lets_it_last() -> None:
    """A heartbeat counts from now, with the same time to live or a new one."""
    table = LeaseTable()
    lease = table.acquire(["a"], 30, "run 7", now=0.0)
    beaten = table.heartbeat(lease.id, 20.0)
    assert beaten is not None
    assert 50.0 == beaten.expires_at
    longer = table.heartbeat(lease.id, 40.0, 60)
    assert longer is not None
    assert (100.0, 60) == (longer.expires_at, longer.ttl_s)


def test_a_late_heartbeat_does_not_wake_the_dead() -> None:
    """A lease that has ended is not prolonged, and is reported as ended all the same."""
    table = LeaseTable()
    lease = table.acquire(["a"], 30, "run 7", now=0.0)
    assert table.heartbeat(lease.id, 30.0) is None
    assert [lease] == table.expired(30.0)
    assert [] == table.expired(30.0)


def test_a_model_stays_leased_while_one_of_two_leases_lasts() -> None:
    """Releasing one lease leaves the other's promise."""
    table = LeaseTable()
    first = table.acquire(["a"], 30, "one", now=0.0)
    second = table.acquire(["a"], 30, "two", now=0.0)
    assert first == table.release(first.id)
    assert table.leased("a", 1.0)
    assert second == table.release(second.id)
    assert not table.leased("a", 1.0)
    assert table.release(second.id) is None


@pytest.mark.parametrize("ttl_s", [0, -1, float("inf"), float("nan")])
def test_a_lease_has_an_end(ttl_s: float) -> None:
    """A time to live that never ends, or has ended, is refused: its holder may die."""
    table = LeaseTable()
    with pytest.raises(ValueError, match="time to live"):
        table.acquire(["a"], ttl_s, "x", now=0.0)
    lease = table.acquire(["a"], 1, "x", now=0.0)
    with pytest.raises(ValueError, match="time to live"):
        table.heartbeat(lease.id, 0.5, ttl_s)


def test_a_lease_names_a_model() -> None:
    """A lease of nothing is refused."""
    with pytest.raises(ValueError, match="at least one model"):
        LeaseTable().acquire([], 30, "x", now=0.0)


STEPS = st.lists(
    st.tuples(st.sampled_from(["acquire", "beat", "release", "wait"]), st.integers(0, 9)),
    max_size=30,
)


@settings(deadline=None)
@given(STEPS)
def test_every_lease_ends_once(steps: list[tuple[str, int]]) -> None:
    """Each lease ends exactly once, by its holder or by itself, and never before its time."""
    table, now, ends, ended = LeaseTable(), 0.0, {}, []
    for what, number in steps:
        ids = [*ends]
        chosen = ids[number % len(ids)] if ids else ""
        if what == "acquire":
            lease = table.acquire([f"m{number % 3}"], number + 1, "x", now)
            ends[lease.id] = lease.expires_at
        elif what == "beat" and (beaten := table.heartbeat(chosen, now)):
            ends[chosen] = beaten.expires_at
        elif what == "release" and table.release(chosen):
            ended.append(chosen)
        elif what == "wait":
            now += number
            wakeup = table.next_wakeup()
            late = table.expired(now)
            assert bool(late) == (wakeup is not None and wakeup <= now)
            assert all(ends[lease.id] <= now for lease in late)
            ended += [lease.id for lease in late]
    lasting = [lease.id for lease in table.lasting(now)]
    unreported = [lease.id for lease in table.expired(now)]
    assert sorted(ends) == sorted([*ended, *lasting, *unreported])
