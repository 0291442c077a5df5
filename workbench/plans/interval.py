"""Where one more draw from a handful of numbers lies: Student's t, without scipy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

_STEPS = 200


@dataclass(frozen=True, slots=True)
class Interval:
    """A two-sided interval around the mean of a sample.

    Attributes:
        level: Share of such intervals that hold what they are for, 0 to 1.
        deviation: Standard deviation of the sample, with n - 1.
        method: What it is for, and how it was computed.
    """

    low: float
    high: float
    mean: float
    deviation: float
    n: int
    level: float
    method: str

    def holds(self, value: float) -> bool:
        """Whether a value lies in it, within what floating point cannot tell apart."""
        slack = 1e-9 * max(1.0, abs(self.low), abs(self.high))
        return self.low - slack <= value <= self.high + slack


def prediction_interval(values: Sequence[float], *, level: float = 0.95) -> Interval:
    """Return the interval in which one more draw lies with probability `level`.

    mean ± t(n - 1) * s * sqrt(1 + 1/n): Student's prediction interval for normal draws (Hahn and
    Meeker, Statistical Intervals, 1991, section 4.7).

    Raises:
        ValueError: With fewer than two values.
    """
    n = len(values)
    if n < 2:
        raise ValueError("an interval needs at least two values")
    mean = math.fsum(values) / n
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    half = t_quantile(0.5 + level / 2, n - 1) * deviation * math.sqrt(1 + 1 / n)
    method = f"Student's t prediction interval of one more run, {n - 1} degrees of freedom"
    return Interval(mean - half, mean + half, mean, deviation, n, level, method)


def t_quantile(p: float, degrees: int) -> float:
    """Return the quantile of Student's t distribution, for p of at least 0.5."""
    low, high = 0.0, 1.0
    while t_cdf(high, degrees) < p:
        high *= 2
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if t_cdf(middle, degrees) < p else (low, middle)
    return (low + high) / 2


def t_cdf(t: float, degrees: int) -> float:
    """Return the share of Student's t distribution below t, for t of at least 0.

    The finite sums of Abramowitz and Stegun, 26.7.3 and 26.7.4.
    """
    angle = math.atan2(t, math.sqrt(degrees))
    sine, square = math.sin(angle), math.cos(angle) ** 2
    if degrees % 2:
        term, total = math.cos(angle), 0.0
        for k in range(1, degrees - 1, 2):
            total += term
            term *= square * (k + 1) / (k + 2)
        return 0.5 + (angle + sine * total) / math.pi
    term, total = 1.0, 0.0
    for k in range(0, degrees - 1, 2):
        total += term
        term *= square * (k + 1) / (k + 2)
    return 0.5 + sine * total / 2
