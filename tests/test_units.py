"""Durations, sizes and times at the edges."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.units import (
    FOREVER,
    expiry_after,
    format_bytes,
    format_keep_alive,
    format_seconds,
    parse_bytes,
    parse_expires_at,
    parse_go_duration,
    parse_keep_alive,
    rfc3339,
    sortable_id,
)

DURATIONS = {
    "0": 0.0,
    "-0": 0.0,
    "300ms": 0.3,
    "1.5h": 5400.0,
    "1h30m": 5400.0,
    "1h2m3.5s": 3723.5,
    ".5s": 0.5,
    "5.s": 5.0,
    "-1m": -60.0,
    "+2s": 2.0,
    "10µs": 1e-5,
    "10μs": 1e-5,
    "10us": 1e-5,
    "7ns": 7e-9,
}


@pytest.mark.parametrize("text", DURATIONS)
def test_go_duration_is_read_as_seconds(text: str) -> None:
    """A Go duration gives seconds, in every unit and sum of units."""
    assert DURATIONS[text] == pytest.approx(parse_go_duration(text))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("-1", 'time: missing unit in duration "-1"'),
        ("300", 'time: missing unit in duration "300"'),
        ("1.5", 'time: missing unit in duration "1.5"'),
        ("", 'time: invalid duration ""'),
        ("-", 'time: invalid duration "-"'),
        ("s", 'time: invalid duration "s"'),
        ("1x", 'time: missing unit in duration "1x"'),
        ("1 m", 'time: missing unit in duration "1 m"'),
        ("1e3s", 'time: missing unit in duration "1e3s"'),
        ("soon", 'time: invalid duration "soon"'),
    ],
)
def test_text_that_is_no_duration_is_refused_in_the_words_of_go(text: str, problem: str) -> None:
    """A missing unit and nonsense are told apart, in Go's words."""
    with pytest.raises(ValueError, match="time: ") as caught:
        parse_go_duration(text)
    assert problem == str(caught.value)


@given(st.integers(0, 10**6), st.integers(0, 59), st.integers(0, 999))
def test_durations_add_up(minutes: int, seconds: int, milliseconds: int) -> None:
    """The parts of a duration are added."""
    text = f"{minutes}m{seconds}s{milliseconds}ms"
    assert minutes * 60 + seconds + milliseconds / 1000 == pytest.approx(parse_go_duration(text))


@pytest.mark.parametrize(
    ("given_value", "seconds"),
    [
        (None, None),
        (0, 0.0),
        (300, 300.0),
        (0.5, 0.5),
        (-1, FOREVER),
        (-0.1, FOREVER),
        ("10m", 600.0),
        ("0", 0.0),
        ("0s", 0.0),
        ("-1m", FOREVER),
        ("1h30m", 5400.0),
    ],
)
def test_keep_alive_is_read_in_every_form(given_value: object, seconds: float | None) -> None:
    """Numbers are seconds, texts are durations, anything negative is for ever."""
    assert seconds == parse_keep_alive(given_value)


@pytest.mark.parametrize("value", ["-1", "300", "", True, False, [], {}, float("nan"), 10**400])
def test_keep_alive_of_another_kind_is_refused(value: object) -> None:
    """A text without a unit, a bool, a list and a number that is none raise ValueError."""
    with pytest.raises(ValueError, match=r"duration|keep_alive"):
        parse_keep_alive(value)


@given(st.floats(0, 1e9))
def test_keep_alive_survives_the_way_to_ollama(seconds: float) -> None:
    """What is written for Ollama is read back as the same time, to the millisecond."""
    assert seconds == pytest.approx(parse_keep_alive(format_keep_alive(seconds)), abs=1e-3)


@pytest.mark.parametrize("seconds", [FOREVER, 1e12])
def test_keep_alive_longer_than_go_can_count_is_for_ever(seconds: float) -> None:
    """A time that overflows Go's duration is sent as -1."""
    assert -1 == format_keep_alive(seconds)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, (None, False)),
        ("", (None, False)),
        ("soon", (None, False)),
        ("0001-01-01T00:00:00Z", (None, False)),
        ("2318-03-01T10:00:00.123456789Z", (None, True)),
        ("2024-05-06T07:08:09Z", (datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC), False)),
        (
            "2024-05-06T07:08:09.123456789Z",
            (datetime(2024, 5, 6, 7, 8, 9, 123456, tzinfo=UTC), False),
        ),
        (
            "2024-05-06T07:08:09.123456789+02:00",
            (datetime(2024, 5, 6, 5, 8, 9, 123456, tzinfo=UTC), False),
        ),
        ("2024-05-06T07:08:09.5-07:00", (datetime(2024, 5, 6, 14, 8, 9, 500000, UTC), False)),
        ("2024-05-06T07:08:09", (datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC), False)),
    ],
)
def test_expires_at_is_read(text: str | None, expected: tuple[datetime | None, bool]) -> None:
    """Nine digits, offsets, the zero time and the year 2318 are read without a lie."""
    assert expected == parse_expires_at(text)


def test_forever_is_written_as_ollama_writes_it() -> None:
    """A keep_alive without end expires in 2318, also on the 29th of February."""
    leap = datetime(2024, 2, 29, tzinfo=UTC)
    assert [2318, 2318] == [
        expiry_after(seconds, now=leap).year for seconds in (math.inf, 300 * 365 * 86400)
    ]
    assert (None, True) == parse_expires_at(rfc3339(expiry_after(math.inf)))


@given(
    st.datetimes(datetime(1990, 1, 1), datetime(2199, 12, 31), timezones=st.just(UTC)),
    st.integers(-12, 12),
)
def test_moments_survive_rfc3339(moment: datetime, hours: int) -> None:
    """A moment is printed in UTC and read back equal, whatever its zone was."""
    local = (moment + timedelta(hours=hours)).astimezone(UTC)
    assert (local, False) == parse_expires_at(rfc3339(local))


def test_ids_sort_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids of 26 characters sort as the milliseconds they were made in."""
    clock = iter([1, 999, 1_000, 1_700_000_000_000, 2**47])
    made = []
    for millisecond in clock:
        monkeypatch.setattr("time.time_ns", lambda now=millisecond: now * 1_000_000)
        made.append(sortable_id())
    assert (made, {26}) == (sorted(made), {len(name) for name in made})


def test_ids_are_unique() -> None:
    """A thousand ids of one moment differ."""
    assert 1000 == len({sortable_id() for _ in range(1000)})


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (None, "unknown"),
        (0, "0 B"),
        (1023, "1023 B"),
        (1536, "1.5 KiB"),
        (5 * 2**30, "5.0 GiB"),
        (3 * 2**40, "3.0 TiB"),
    ],
)
def test_sizes_are_printed(count: float | None, text: str) -> None:
    """A size has a binary unit, and an unknown one is not 0."""
    assert text == format_bytes(count)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "unknown"),
        (0.12, "120 ms"),
        (3.21, "3.2 s"),
        (250, "4 min 10 s"),
        (7260, "2 h 1 min"),
        (math.inf, "forever"),
    ],
)
def test_durations_are_printed(seconds: float | None, text: str) -> None:
    """A duration has the unit a person would use."""
    assert text == format_seconds(seconds)


@pytest.mark.parametrize(
    ("value", "size"),
    [
        (5, 5),
        (5.0, 5),
        ("7", 7),
        ("24GB", 24 * 10**9),
        ("24 gib", 24 << 30),
        ("1.5M", 1_500_000),
        ("2TiB", 2 << 40),
    ],
)
def test_sizes_are_read_in_bytes(value: object, size: int) -> None:
    """A number is bytes; units with an `i` count in 1024, the others in 1000."""
    assert size == parse_bytes(value)


@pytest.mark.parametrize("value", ["", "x", "-1", -1, 1.5, True, None, "1 GiBB", float("inf")])
def test_what_is_no_size_is_refused(value: object) -> None:
    """Anything else is refused by name."""
    with pytest.raises(ValueError, match="not a size"):
        parse_bytes(value)
