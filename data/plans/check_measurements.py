"""Tests of the plan `clean-measurements`: each input of its step `tested` is a fixture."""

from __future__ import annotations

import pandas as pd


def test_no_gap_is_left(whole: pd.DataFrame) -> None:
    """The cleaned table has no missing value."""
    assert not whole.isna().any().any()


def test_every_station_has_its_mean(means: pd.DataFrame, whole: pd.DataFrame) -> None:
    """Each station stands once in the means."""
    assert sorted(set(whole["station"])) == list(means["station"])
