"""A ranking of models from the votes in the metrics.

`both_bad` is a tie: it says that neither was better.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from workbench.chat.runners import short_name
from workbench.client.values import Printed, Table
from workbench.errors import ConfigError
from workbench.evals.paired import Ties
from workbench.evals.stats import Fit, Interval, Pair, Strength, bradley_terry

By = Literal["model", "label"]
Cluster = Literal["prompt", "voter", "vote"]

_POINTS = {"a": 1.0, "b": 0.0, "tie": 0.5, "both_bad": 0.5, "neither": 0.5}
_CLUSTERS = {"prompt": "prompt_sha", "voter": "voter", "vote": "id"}
_DIGITS = 8
_FEW = 20
"""Resampling fewer clusters than this shows too little of how they differ."""


@dataclass(frozen=True)
class Ranked(Printed):
    """One model of a ranking.

    Attributes:
        rank: 1 and one more for each that is better.
        strength: Log of its odds, the mean of its group being 0; `None` where it is no number.
        strength_low: Lower end of its interval; `None` without a bound.
        strength_high: Upper end.
        win_rate: Points it can expect against another one taken at random, 0 to 1.
        win_rate_low: Lower end of its interval.
        win_rate_high: Upper end.
        votes: Votes it was part of.
        group: Only strengths of one group can be compared.
        note: Why a number is missing.
    """

    name: str
    rank: int
    strength: float | None
    strength_low: float | None
    strength_high: float | None
    win_rate: float | None
    win_rate_low: float | None
    win_rate_high: float | None
    votes: int
    wins: int
    losses: int
    ties: int
    group: int
    note: str = ""

    def cells(self) -> dict[str, str]:
        """Return column title to printed value."""
        return {
            "RANK": str(self.rank),
            "MODEL": self.name,
            "STRENGTH": _shown(self.strength, self.strength_low, self.strength_high, "+.2f"),
            "WIN RATE": _shown(self.win_rate, self.win_rate_low, self.win_rate_high, ".0%"),
            "VOTES": str(self.votes),
            "WON": str(self.wins),
            "LOST": str(self.losses),
            "TIED": str(self.ties),
        }


def _shown(value: float | None, low: float | None, high: float | None, form: str) -> str:
    if value is None:
        return "none"
    ends = ["no bound" if end is None else format(end, form) for end in (low, high)]
    return f"{format(value, form)} ({' to '.join(ends)})"


class Ranking(Table[Ranked]):
    """Models by their strength, the best first; prints as a table with what to know below it.

    Attributes:
        n_votes: Votes that were counted.
        n_left_out: Votes that were not: of one model with itself, or of an unknown verdict.
        n_clusters: Prompts or voters that were resampled; with fewer than 20 the intervals are too
            narrow, and `notes` says so.
        level: Share of the intervals, 0 to 1.
        tie: Davidson's nu; `None` with half wins.
    """

    def __init__(self, fit: Fit, *, n_left_out: int, cluster: Cluster) -> None:
        super().__init__(map(_ranked, fit.items), empty="no votes")
        self.n_votes = fit.n_comparisons
        self.n_left_out = n_left_out
        self.n_clusters = fit.n_clusters
        self.level = fit.level
        self.tie = fit.tie
        self._cluster = cluster
        self._resamples = fit.resamples

    def __repr__(self) -> str:
        return "\n".join([super().__repr__(), *self.notes])

    @property
    def notes(self) -> list[str]:
        """What to know of the numbers, in sentences."""
        found = []
        if self and self._resamples:
            found.append(
                f"{self.level:.0%} intervals by resampling {self.n_clusters} {self._cluster}s "
                f"of {self.n_votes} votes; a tie is half a win for each"
                + ("." if self.tie is None else f" of nu {self.tie:.2f}.")
            )
            if self.n_clusters < _FEW:
                found.append(
                    f"Fewer than {_FEW} {self._cluster}s: the intervals are too narrow; of five, "
                    "those of 95% hold the truth in about 85 of 100 cases."
                )
        elif self:
            found.append(f"No intervals: all {self.n_votes} votes are of one {self._cluster}.")
        if self.n_left_out:
            found.append(
                f"{self.n_left_out} votes are left out: both answers are of one model, or the "
                "verdict is none."
            )
        return found + [f"{one.name}: {one.note}." for one in self if one.note]


def _ranked(item: Strength) -> Ranked:
    low_high = (item.interval.low, item.interval.high)
    rates: Interval = item.win_interval
    return Ranked(
        item.name,
        item.rank,
        item.strength,
        *low_high,
        item.win_rate,
        rates.low,
        rates.high,
        item.wins + item.losses + item.ties,
        item.wins,
        item.losses,
        item.ties,
        item.group,
        item.note,
    )


def rank(
    votes: Iterable[Mapping[str, Any]],
    *,
    by: By = "model",
    cluster: Cluster = "prompt",
    ties: Ties = "half",
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Ranking:
    """Return the ranking that votes give; their order does not matter.

    Intervals are by resampling clusters, and too narrow when these are few: 95% ones of 5 prompts
    with 4 votes each hold the true win rate in 84 to 88 of 100 cases, of 10 in 92, of 20 in 93.

    Args:
        votes: Rows of `votes`.
        by: `model` takes answers of one digest together, under the name it was last seen with;
            `label` goes by what the models are called in the comparisons, so that one model with
            two temperatures is two.
        cluster: What is resampled for the intervals: `prompt`, `voter` or `vote`.
        ties: `half` or `davidson`; see `workbench.evals.stats`.
        level: Share of the intervals, 0 to 1.
        resamples: How often to resample.
        seed: Of the resampling.

    Raises:
        ConfigError: When a setting is none.
    """
    if by not in ("model", "label"):
        raise ConfigError(f"no ranking by {by!r}.", key="by", hint="Use 'model' or 'label'.")
    if cluster not in _CLUSTERS:
        raise ConfigError(
            f"no cluster {cluster!r}.", key="cluster", hint=f"One of {', '.join(_CLUSTERS)}."
        )
    rows = list(votes)
    names = _names(rows) if by == "model" else {}
    pairs = []
    for row in rows:
        first, second = (_key(row, side, by) for side in "ab")
        points = _POINTS.get(str(row.get("verdict")))
        if first is None or second is None or first == second or points is None:
            continue
        where = str(row.get(_CLUSTERS[cluster]) or "")
        pairs.append(Pair(names.get(first, first), names.get(second, second), points, where))
    fit = bradley_terry(pairs, ties=ties, level=level, resamples=resamples, seed=seed)
    return Ranking(fit, n_left_out=len(rows) - len(pairs), cluster=cluster)


def _key(row: Mapping[str, Any], side: str, by: By) -> str | None:
    label = _text(row, f"label_{side}") or _text(row, f"model_{side}")
    return label if by == "label" else _text(row, f"digest_{side}") or label


def _text(row: Mapping[str, Any], column: str) -> str | None:
    value = row.get(column)
    # A missing text of a DataFrame is NaN.
    return value if isinstance(value, str) and value else None


def _names(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return the name of each digest: the last it was seen with, and its digest where two share."""
    found: dict[str, tuple[str, str]] = {}
    for row in rows:
        for side in "ab":
            key, name = _key(row, side, "model"), _text(row, f"model_{side}")
            seen = (str(row.get("ts") or ""), name or key or "")
            if key is not None and seen >= found.get(key, ("", "")):
                found[key] = seen
    shown = {key: short_name(name) for key, (_, name) in found.items()}
    names = list(shown.values())
    return {
        key: name if names.count(name) == 1 else f"{name} ({key.rpartition(':')[2][:_DIGITS]})"
        for key, name in shown.items()
    }
