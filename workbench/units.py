"""Durations, sizes and times: parsing and printing, no state.

Seconds and bytes everywhere inside; other units exist only at the edges.
"""

from __future__ import annotations

import math
import re
import secrets
import time
from datetime import UTC, datetime, timedelta

FOREVER = math.inf
"""Seconds of a keep_alive that never ends."""

# Ollama's "forever" lands in the year 2318, which pandas' nanosecond timestamps cannot hold.
_LAST_USEFUL_YEAR = 2200

# Go counts a duration in nanoseconds with 63 bits.
_LONGEST_S = 292 * 365 * 86400

_GO_UNIT_SECONDS = {
    "ns": 1e-9,
    "us": 1e-6,
    "µs": 1e-6,
    "μs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
}
_DAY_UNITS = {"d": 1, "w": 7}
_GO_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?i?b?)", re.IGNORECASE)
_CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"


def parse_go_duration(text: str) -> float:
    """Read a Go duration such as `1h30m`, `-1m` or `0` as seconds.

    Raises:
        ValueError: When a unit is missing or the text is not a duration; the wording is Go's.
    """
    sign, rest = 1.0, text
    if rest[:1] in ("-", "+"):
        sign, rest = (-1.0 if rest[0] == "-" else 1.0), rest[1:]
    if rest == "0":
        return 0.0
    if not rest:
        raise ValueError(f'time: invalid duration "{text}"')
    total, position = 0.0, 0
    while position < len(rest):
        match = _GO_PART.match(rest, position)
        if match is None:
            number = re.match(r"\d+(?:\.\d*)?|\.\d+", rest[position:])
            problem = "missing unit in" if number else "invalid"
            raise ValueError(f'time: {problem} duration "{text}"')
        total += float(match[1]) * _GO_UNIT_SECONDS[match[2]]
        position = match.end()
    return sign * total


def parse_age(text: str) -> float:
    """Read a length of time such as `24h`, `7d`, `2w` or `1h30m` as seconds.

    Raises:
        ValueError: When it is none.
    """
    days = _DAY_UNITS.get(text[-1:])
    if days is None:
        return parse_go_duration(text)
    return float(text[:-1]) * days * 86_400


def parse_keep_alive(value: object) -> float | None:
    """Read Ollama's keep_alive as seconds; `None` means "leave as it is".

    A number is seconds, a string is a Go duration, anything negative is forever (`FOREVER`).

    Raises:
        ValueError: When the value is of another type or the text has no unit, as Ollama does.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"keep_alive must be a number of seconds or a duration, not {value!r}")
    try:
        seconds = parse_go_duration(value) if isinstance(value, str) else float(value)
    except OverflowError as exc:
        raise ValueError("keep_alive is too large") from exc
    if math.isnan(seconds):
        raise ValueError("keep_alive must be a number of seconds, not NaN")
    return FOREVER if seconds < 0 else seconds


def format_keep_alive(seconds: float) -> str | int:
    """Write a keep_alive the way every Ollama version reads it."""
    return -1 if seconds > _LONGEST_S else f"{seconds:.3f}s"


def parse_bytes(value: object) -> int:
    """Read a size: a number of bytes, or text such as `24GB` (10^9) or `512 MiB` (2^20).

    Raises:
        ValueError: When it is negative or not a size.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        if not (math.isfinite(value) and value >= 0 and value == int(value)):
            raise ValueError(f"not a size in bytes: {value!r}")
        return int(value)
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"not a size such as '24GB' or '512MiB': {value!r}")
    base = 1024 if "i" in match[2].lower() else 1000
    power = "bkmgt".index((match[2].lower() or "b")[0])
    return int(float(match[1]) * base**power)


def format_bytes(count: float | None) -> str:
    """Print a size with a binary unit, e.g. `1.5 GiB`; an unknown size is `unknown`."""
    if count is None:
        return "unknown"
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def format_seconds(seconds: float | None) -> str:
    """Print a duration for people, e.g. `120 ms`, `3.2 s`, `4 min 10 s`, `forever`."""
    if seconds is None:
        return "unknown"
    if math.isinf(seconds):
        return "forever"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 120:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def rfc3339(when: datetime) -> str:
    """Print a moment as Ollama does: UTC with microseconds and a `Z`."""
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def utc_now() -> datetime:
    """Return the present moment in UTC."""
    return datetime.now(UTC)


def parse_expires_at(text: str | None) -> tuple[datetime | None, bool]:
    """Read an `expires_at` as (moment, forever).

    Years after 2200 mean "forever" and give no moment; the zero time of Go and an empty or
    unreadable text give `(None, False)`.
    """
    if not text:
        return None, False
    # Python reads at most six digits of a second; Go writes nine.
    trimmed = re.sub(r"(\.\d{6})\d+", r"\1", text)
    try:
        year = int(trimmed[:4])
        if year > _LAST_USEFUL_YEAR:
            return None, True
        moment = datetime.fromisoformat(trimmed)
    except ValueError:
        return None, False
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (None, False) if year <= 1 else (moment.astimezone(UTC), False)


def expiry_after(seconds: float, *, now: datetime | None = None) -> datetime:
    """Return when a keep_alive of `seconds` from `now` ends; forever is Ollama's year 2318."""
    start = now or utc_now()
    if seconds > _LONGEST_S:
        return start.replace(year=2318, day=min(start.day, 28))
    return start + timedelta(seconds=seconds)


def sortable_id() -> str:
    """Return a new id of 26 characters that sorts by its time of creation (48 bit ms + 80 bit).

    The layout is that of a ULID, in lower case.
    """
    value = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    return "".join(_CROCKFORD[(value >> shift) & 31] for shift in range(125, -1, -5))
