"""How sure a comparison of two samples is, and Student's t, without scipy.

All take the values as independent draws.  Requests that follow each other share what the machine
did meanwhile, so the true uncertainty is rather larger than these intervals say.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

LEAST = 6
"""Fewer values than this give no interval: the median of five may lie outside all of them in more
than one of twenty samples."""

_EXACT = 1000
_STEPS = 200


@dataclass(frozen=True, slots=True)
class Sums:
    """What a ratio of sums is judged by.

    Attributes:
        n: Number of pairs.
        x: Sum of the numerators (tokens).
        y: Sum of the denominators (seconds).
        xx: Sum of the squared numerators.
        yy: Sum of the squared denominators.
        xy: Sum of the products.
    """

    n: int
    x: float
    y: float
    xx: float
    yy: float
    xy: float


def median_ranks(n: int) -> tuple[int, int]:
    """Return the ranks, from 1, of the two values whose distance tells how sure a median is."""
    low = max(1, round((n + 1) / 2 - math.sqrt(n)))
    return low, n + 1 - low


def median_ratio(
    a: tuple[float, float, float],
    b: tuple[float, float, float],
    n_a: int,
    n_b: int,
    *,
    level: float,
) -> tuple[float, float] | None:
    """Return an interval of the ratio of two medians, b over a, whatever the distributions.

    The variance of the logarithm of each median is read off two order statistics (Price and Bonett,
    "Distribution-free confidence intervals for difference and ratio of medians", Journal of
    Statistical Computation and Simulation 72, 2002).

    Args:
        a: Median, and the values at the two `median_ranks`, of the first; all above 0.
        b: The same of the second.
        n_a: Values of the first.
        n_b: Values of the second.
        level: Share of such intervals that hold the ratio, 0 to 1.

    Returns:
        Both ends, or `None` with fewer than `LEAST` values, without any spread, or with one that
        is not above 0.
    """
    if min(n_a, n_b) < LEAST or not all(value > 0 for value in (*a, *b)):
        return None
    variance = 0.0
    for n, (_, low, high) in ((n_a, a), (n_b, b)):
        variance += (math.log(high / low) / (2 * _deviations(n))) ** 2
    return _around(math.log(b[0] / a[0]), NormalDist().inv_cdf(0.5 + level / 2), variance)


def _deviations(n: int) -> float:
    """Return how many standard deviations of the median lie between it and a rank."""
    low, _ = median_ranks(n)
    if n > _EXACT:
        return (n / 2 - low + 0.5) / (math.sqrt(n) / 2)
    below = sum(math.comb(n, i) for i in range(low)) / 2**n
    return NormalDist().inv_cdf(1 - below)


def rate_ratio(a: Sums, b: Sums, *, level: float) -> tuple[float, float] | None:
    """Return an interval of the ratio of two ratios of sums (tokens per second), b over a.

    The variance of the logarithm of a ratio of sums by linearisation (Cochran, Sampling Techniques,
    1977, section 6.3), and Student's t with the degrees of freedom of Welch and Satterthwaite.  Of
    six or seven answers whose lengths differ a hundredfold it holds the ratio in 91 of 100, not 95.

    Returns:
        Both ends, or `None` with fewer than `LEAST` pairs, without any spread, or with a sum that
        is not above 0.
    """
    if min(a.n, b.n) < LEAST or min(a.x, a.y, b.x, b.y) <= 0:
        return None
    parts = [(_log_variance(s), s.n - 1) for s in (a, b)]
    variance = sum(part for part, _ in parts)
    below = sum(part**2 / degrees for part, degrees in parts)
    degrees = max(1, int(variance**2 / below)) if below > 0 else 1
    estimate = math.log((b.x / b.y) / (a.x / a.y))
    return _around(estimate, t_quantile(0.5 + level / 2, degrees), variance)


def _log_variance(s: Sums) -> float:
    rate = s.x / s.y
    squares = s.xx - 2 * rate * s.xy + rate * rate * s.yy
    # What is left of figures that cancel is no spread.
    if squares <= 1e-12 * s.xx:
        return 0.0
    return s.n / (s.n - 1) * squares / (s.x * s.x)


def _around(estimate: float, times: float, variance: float) -> tuple[float, float] | None:
    if not variance:
        return None
    half = times * math.sqrt(variance)
    return math.exp(estimate - half), math.exp(estimate + half)


def share_difference(
    of_a: int, n_a: int, of_b: int, n_b: int, *, level: float
) -> tuple[float, float] | None:
    """Return an interval of the difference of two shares, b minus a.

    Newcombe's hybrid score interval from Wilson's of each (Statistics in Medicine 17, 1998, method
    10); it holds for shares of 0 and 1 too.

    Returns:
        Both ends, or `None` with fewer than `LEAST` in either.
    """
    if min(n_a, n_b) < LEAST:
        return None
    a, b = of_a / n_a, of_b / n_b
    low_a, high_a = wilson(of_a, n_a, level=level)
    low_b, high_b = wilson(of_b, n_b, level=level)
    difference = b - a
    return (
        difference - math.hypot(b - low_b, high_a - a),
        difference + math.hypot(high_b - b, a - low_a),
    )


def wilson(of: int, n: int, *, level: float) -> tuple[float, float]:
    """Return Wilson's score interval of a share, `of` out of `n` (at least 1)."""
    z = NormalDist().inv_cdf(0.5 + level / 2)
    share = of / n
    middle = share + z * z / (2 * n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


def t_quantile(p: float, degrees: int) -> float:
    """Return the quantile of Student's t distribution, for p of at least 0.5."""
    if degrees > _EXACT:
        return NormalDist().inv_cdf(p)
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
