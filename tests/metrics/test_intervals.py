"""Intervals against published examples, tables, and by how often they hold what they are for."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from workbench.metrics.intervals import (
    Sums,
    median_ranks,
    median_ratio,
    rate_ratio,
    share_difference,
    t_cdf,
    t_quantile,
    wilson,
)

Floats = np.ndarray[tuple[int], np.dtype[np.float64]]


@pytest.mark.parametrize(
    ("degrees", "quantile"),
    [(1, 12.7062), (2, 4.3027), (3, 3.1824), (4, 2.7764), (9, 2.2622), (30, 2.0423), (120, 1.9799)],
)
def test_quantiles_are_those_of_the_tables(degrees: int, quantile: float) -> None:
    """The 97.5 % quantile for few and many degrees of freedom, to four digits."""
    assert quantile == pytest.approx(t_quantile(0.975, degrees), abs=5e-5)
    assert 0.975 == pytest.approx(t_cdf(t_quantile(0.975, degrees), degrees))


def test_normal_for_many_degrees() -> None:
    """Thousands of degrees of freedom are as good as the normal distribution, and fast."""
    assert 1.96 == pytest.approx(t_quantile(0.975, 10**9), abs=1e-3)
    assert t_quantile(0.975, 1000) == pytest.approx(t_quantile(0.975, 1001), abs=3e-3)


@pytest.mark.parametrize(
    ("of", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611)],
)
def test_shares_of_newcombe(of: int, n: int, low: float, high: float) -> None:
    """Wilson's interval in Newcombe's comparison of seven methods (1998, table I)."""
    assert (low, high) == pytest.approx(wilson(of, n, level=0.95), abs=5e-5)


@pytest.mark.parametrize(
    ("a", "b", "low", "high"),
    [
        ((48, 80), (56, 70), 0.0524, 0.3339),
        ((3, 10), (9, 10), 0.1705, 0.8090),
        ((0, 10), (10, 10), 0.6075, 1.0),
        ((0, 10), (0, 10), -0.2775, 0.2775),
    ],
)
def test_differences_of_newcombe(
    a: tuple[int, int], b: tuple[int, int], low: float, high: float
) -> None:
    """Method 10 in his comparison of eleven methods (1998, table II), shares of 0 and 1 too."""
    assert (low, high) == pytest.approx(share_difference(*a, *b, level=0.95), abs=5e-5)


def _median_interval(a: Floats, b: Floats) -> tuple[float, float] | None:
    sides = []
    for values in (np.sort(a), np.sort(b)):
        low, high = median_ranks(len(values))
        sides.append((float(np.median(values)), float(values[low - 1]), float(values[high - 1])))
    return median_ratio(sides[0], sides[1], len(a), len(b), level=0.95)


def _sums(tokens: Floats, seconds: Floats) -> Sums:
    x, y = tokens, seconds
    return Sums(len(x), x.sum(), y.sum(), (x * x).sum(), (y * y).sum(), (x * y).sum())


def _rate_interval(a: Floats, b: Floats) -> tuple[float, float] | None:
    # Answers of 1 to 200 tokens whose seconds are what differs.
    tokens = [np.linspace(1, 200, len(values)) for values in (a, b)]
    return rate_ratio(_sums(tokens[0], tokens[0] * a), _sums(tokens[1], tokens[1] * b), level=0.95)


@pytest.mark.parametrize("n", [6, 7, 20, 200])
@pytest.mark.parametrize(
    ("interval", "true"), [(_median_interval, 2.0), (_rate_interval, 0.5)], ids=["median", "rate"]
)
def test_intervals_hold_the_truth(
    n: int, interval: Callable[[Floats, Floats], tuple[float, float] | None], true: float
) -> None:
    """Of skewed draws of which one is twice the other, about 95 % of the intervals hold it."""
    draws = np.random.default_rng(5)
    held = 0
    for _ in range(2000):
        low, high = interval(draws.lognormal(0, 0.5, n), 2 * draws.lognormal(0, 0.5, 2 * n)) or (
            math.nan,
            math.nan,
        )
        held += low <= true <= high
    # Of six answers of very different lengths one or two make the rate.
    least = 0.9 if interval is _rate_interval and n < 10 else 0.925
    assert least < held / 2000 < 0.985


def test_what_cannot_be_known_has_no_interval() -> None:
    """Five values, equal ones, and zeros have none; what is left of cancelled sums is no spread."""
    five, six = np.arange(1.0, 6), np.arange(1.0, 7)
    assert _median_interval(five, six) is None
    assert _median_interval(np.ones(9), np.ones(9)) is None
    assert _median_interval(np.zeros(9), six) is None
    assert share_difference(1, 5, 1, 9, level=0.95) is None
    assert rate_ratio(_sums(five, five), _sums(six, six), level=0.95) is None
    equal = _sums(six * 1e7, six / 3)
    assert rate_ratio(equal, equal, level=0.95) is None
    assert rate_ratio(_sums(six, six * 0), _sums(six, six), level=0.95) is None


def test_ranks_of_many_values() -> None:
    """The exact and the approximate distance meet where one takes over from the other."""
    values = np.random.default_rng(1).lognormal(0, 1, 1000)
    more = np.append(values, np.median(values))
    low, high = _median_interval(values, values) or (0, 0)
    low2, high2 = _median_interval(more, more) or (0, 0)
    assert (low, high) == pytest.approx((low2, high2), rel=0.02)
