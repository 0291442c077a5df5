"""Two times side by side: what `compare_periods` makes of the figures of each."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from workbench.metrics.intervals import (
    Sums,
    median_ratio,
    rate_ratio,
    share_difference,
)

if TYPE_CHECKING:
    import pandas as pd

_SHOWN = (
    *("n_a", "n_b", "ttft_p50_s_a", "ttft_p50_s_b", "ttft_p95_s_a", "ttft_p95_s_b"),
    *("tokens_per_s_a", "tokens_per_s_b", "n_ended_a", "n_ended_b"),
)
_MADE = (
    *("error_share_a", "error_share_b"),
    *("ttft_p50_ratio", "ttft_p50_ratio_low", "ttft_p50_ratio_high"),
    *("tokens_per_s_ratio", "tokens_per_s_ratio_low", "tokens_per_s_ratio_high"),
    *("error_share_difference", "error_share_difference_low", "error_share_difference_high"),
)


def compared(frame: pd.DataFrame, *, level: float) -> pd.DataFrame:
    """Return the columns of `compare_periods` from the sums of both times."""
    import pandas as pd

    counts = [name for name in frame.columns if name.startswith("n_")]
    frame = frame.assign(**{name: frame[name].fillna(0).astype("int64") for name in counts})
    rows = [_made(row, level) for row in frame.to_dict("records")]
    made = pd.DataFrame(rows, columns=list(_MADE), index=frame.index, dtype="float64")
    return pd.concat([frame[["model", *_SHOWN]], made], axis=1)


def _made(row: Mapping[Any, Any], level: float) -> dict[str, float]:
    shares = [_over(row[f"n_failed_{side}"], row[f"n_ended_{side}"]) for side in "ab"]
    figures = [
        *shares,
        _over(row["ttft_p50_s_b"], row["ttft_p50_s_a"]),
        *_ends(_median_ratio(row, level)),
        _over(row["tokens_per_s_b"], row["tokens_per_s_a"]),
        *_ends(rate_ratio(_sums(row, "a"), _sums(row, "b"), level=level)),
        shares[1] - shares[0],
        *_ends(_share_difference(row, level)),
    ]
    return dict(zip(_MADE, figures, strict=True))


def _over(above: float, below: float) -> float:
    return above / below if below else math.nan


def _ends(interval: tuple[float, float] | None) -> tuple[float, float]:
    return interval or (math.nan, math.nan)


def _median_ratio(row: Mapping[Any, Any], level: float) -> tuple[float, float] | None:
    a, b = (
        (row[f"ttft_p50_s_{side}"], row[f"ttft_low_{side}"], row[f"ttft_high_{side}"])
        for side in "ab"
    )
    return median_ratio(a, b, row["n_ttft_a"], row["n_ttft_b"], level=level)


def _share_difference(row: Mapping[Any, Any], level: float) -> tuple[float, float] | None:
    return share_difference(
        *(row["n_failed_a"], row["n_ended_a"], row["n_failed_b"], row["n_ended_b"]), level=level
    )


def _sums(row: Mapping[Any, Any], side: str) -> Sums:
    names = ("n_rate", "tokens", "seconds", "tokens2", "seconds2", "tokens_seconds")
    n, x, y, xx, yy, xy = (row[f"{name}_{side}"] for name in names)
    return Sums(n, x, y, xx, yy, xy)
