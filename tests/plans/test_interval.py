"""An interval by hand, and by what it promises."""

from __future__ import annotations

import random

import pytest

from workbench.plans.interval import prediction_interval


def test_interval_of_a_small_sample() -> None:
    """Mean ± t(3) · s · √(1 + 1/4) for four values, worked out by hand."""
    found = prediction_interval([1.0, 2.0, 3.0, 4.0])
    assert (2.5, 4) == (found.mean, found.n)
    assert 1.290994 == pytest.approx(found.deviation, abs=1e-6)
    half = 3.182446 * 1.290994 * 1.25**0.5
    assert (2.5 - half, 2.5 + half) == pytest.approx((found.low, found.high), abs=1e-5)


def test_one_more_draw_lies_in_it_as_often_as_it_says() -> None:
    """Of normal draws, 95 % of the intervals of five hold the sixth."""
    draws = random.Random(1)
    held = 0
    for _ in range(2000):
        *sample, one_more = (draws.gauss(10, 3) for _ in range(6))
        held += prediction_interval(sample).holds(one_more)
    assert 0.95 == pytest.approx(held / 2000, abs=0.015)


def test_equal_values_hold_only_themselves() -> None:
    """Without any spread the interval is the value, within what floats cannot tell apart."""
    found = prediction_interval([0.1 + 0.2] * 3)
    assert found.holds(0.3) and not found.holds(0.301)
    with pytest.raises(ValueError, match="at least two"):
        prediction_interval([1.0])
