"""Histograms in memory: cumulative ones for Prometheus, sliding ones for alerts.

Buckets grow by a constant factor, so a quantile is off by at most that factor however many values
there were, and a histogram takes a few hundred bytes.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import deque
from dataclasses import dataclass, field

GROWTH = 1.1
"""Factor from one bucket to the next: a quantile is at most 10 % off."""

_SMALLEST_S = 0.001
_SLICES = 30


def bucket_of(value: float) -> int:
    """Return the number of the bucket a value falls into; values up to 1 ms share bucket 0."""
    return 0 if value <= _SMALLEST_S else math.ceil(math.log(value / _SMALLEST_S, GROWTH) - 1e-9)


def bucket_end(number: int) -> float:
    """Return the largest value of a bucket."""
    return float(_SMALLEST_S * GROWTH**number)


@dataclass(slots=True)
class Slice:
    """Counts of one stretch of time."""

    begin: float
    buckets: dict[int, int] = field(default_factory=dict)
    good: int = 0
    bad: int = 0


class SlidingHistogram:
    """What ended within the last `window_s` seconds: durations, and how many failed.

    The window moves in thirtieths of its length.  The clock is the caller's.
    """

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._slices: deque[Slice] = deque()

    def add(self, now: float, *, duration_s: float | None, ok: bool) -> None:
        """Take one request; a duration of `None` counts only for the share of errors."""
        length = self._window_s / _SLICES
        begin = math.floor(now / length) * length
        if not self._slices or self._slices[-1].begin < begin:
            self._slices.append(Slice(begin))
            self._forget(now)
        last = self._slices[-1]
        if ok:
            last.good += 1
        else:
            last.bad += 1
        if duration_s is not None:
            number = bucket_of(duration_s)
            last.buckets[number] = last.buckets.get(number, 0) + 1

    def _forget(self, now: float) -> None:
        while self._slices and self._slices[0].begin <= now - self._window_s:
            self._slices.popleft()

    def count(self, now: float) -> int:
        """Return how many requests are in the window."""
        self._forget(now)
        return sum(part.good + part.bad for part in self._slices)

    def error_share(self, now: float) -> float | None:
        """Return the share that failed, 0 to 1; `None` without requests."""
        total = self.count(now)
        return sum(part.bad for part in self._slices) / total if total else None

    def quantile(self, now: float, share: float) -> float | None:
        """Return the duration that a share (0 to 1) of the requests did not exceed, in seconds."""
        self._forget(now)
        counts: dict[int, int] = {}
        for part in self._slices:
            for number, count in part.buckets.items():
                counts[number] = counts.get(number, 0) + count
        wanted = share * sum(counts.values())
        seen = 0
        for number in sorted(counts):
            seen += counts[number]
            if seen >= wanted:
                return bucket_end(number)
        return None


class CumulativeHistogram:
    """Counts since the start of the server, with fixed bounds, as Prometheus reads them.

    Args:
        bounds: Upper ends of the buckets, ascending; the last bucket has none.
    """

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        """Take one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value
