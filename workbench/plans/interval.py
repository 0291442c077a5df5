"""Where one more draw from a handful of numbers lies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from workbench.metrics.intervals import t_quantile


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
