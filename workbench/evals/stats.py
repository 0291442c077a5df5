"""Strengths from paired comparisons with ties: Bradley-Terry, pure numpy.

The chance that i beats j is p_i / (p_i + p_j), and the strength of i is log p_i (Bradley and Terry,
1952).  Ties are counted in one of two ways:

- `half`: a tie is half a win for each.  The fitted strengths then give every item the points it has
  (a win 1, a tie 1/2), they are finite as soon as everybody has lost half a point somewhere, and it
  is what chess ratings and public rankings of chat models do.  The default, because votes are few.
- `davidson`: ties have a chance of their own, nu * sqrt(p_i p_j) beside p_i and p_j (Davidson,
  1970).  A full model of all three outcomes, which needs a win and a loss of everybody, not only
  ties, to have a finite answer.

Both are log-linear models; the likelihood is concave and Newton's method finds its one maximum.
A maximum exists only where everybody can be reached from everybody by "took a point from" (Ford,
1957).  Where that is not so, strengths are given within the groups in which it is, and the rest is
said in words: no infinite strength is shown as a number.

The result does not depend on the order of the votes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from workbench.errors import ConfigError
from workbench.evals.paired import (
    Bools,
    Counts,
    Floats,
    Group,
    Ties,
    expected_points,
    fit_groups,
    has_davidson,
    newton,
    reach_of,
    win_rates,
)

# At once, so that many resamples of many items do not fill the memory.
_BATCH = 256
# Strengths that the data make equal differ in their last digits after the fit.
_EQUAL = 1e-8


@dataclass(frozen=True, slots=True)
class Pair:
    """One outcome between two items.

    Attributes:
        points: Of the first: 1 it won, 0 it lost, 0.5 a tie.
        cluster: Outcomes that belong together, such as those on one prompt, have the same one.
    """

    first: str
    second: str
    points: float
    cluster: str = ""


@dataclass(frozen=True, slots=True)
class Interval:
    """A range; `None` is no bound on that side, or none that could be found."""

    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Strength:
    """What is known of one item.

    Attributes:
        strength: Log of p, the mean of its group being 0; `None` where it is not a number.
        interval: Of the strength, by the bootstrap.
        win_rate: Expected points against another item of its group taken at random, 0 to 1; of an
            undefeated one 1.  `None` where it was compared with too few.
        win_interval: Of that, by the bootstrap.
        group: Strengths of one group can be compared with each other, others not; from 0.
        rank: 1 and one more for each item that is better for sure or by its strength.
        wins: Comparisons it won.
        losses: Comparisons it lost.
        ties: Comparisons without a winner.
        note: Why a number is missing, in words.
    """

    name: str
    strength: float | None
    interval: Interval
    win_rate: float | None
    win_interval: Interval
    group: int
    rank: int
    wins: int
    losses: int
    ties: int
    note: str = ""


@dataclass(frozen=True, slots=True)
class Fit:
    """Strengths of all items, the best first.

    Attributes:
        tie: Davidson's nu; `None` with half wins.
        n_comparisons: Outcomes that were counted.
        n_clusters: Clusters that were resampled.
        level: Share of the interval, 0 to 1.
        resamples: How often it was resampled; 0 where there was but one cluster.
    """

    items: tuple[Strength, ...]
    tie: float | None
    n_comparisons: int
    n_clusters: int
    level: float
    resamples: int


def bradley_terry(
    pairs: Iterable[Pair],
    *,
    ties: Ties = "half",
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Fit:
    """Return the strengths of everything that was compared, with bootstrap intervals.

    The bootstrap draws whole clusters with replacement and takes percentiles.  A resample in which
    an item loses nothing has no upper bound for it; when that happens in more than the tail of the
    resamples, the interval has none either.

    Of few clusters the intervals are too narrow: of 5 with 4 outcomes each, 95% ones hold the true
    win rate in 84 to 88 of 100 cases, of 20 in 93.

    Resamples that are all alike, as of ties only, say nothing of how sure one can be: no interval.

    Args:
        pairs: The outcomes, in any order.
        ties: `half` or `davidson`; see above.
        level: Share of the interval, 0 to 1.
        resamples: How often to draw; 0 gives no intervals.
        seed: Of the draws.

    Raises:
        ConfigError: When an item is compared with itself, or a setting is none.
    """
    if ties not in ("half", "davidson"):
        raise ConfigError(f"no way to count ties {ties!r}.", key="ties", hint="half or davidson.")
    if not _is_share(level):
        raise ConfigError(f"{level!r} is no level.", key="level", hint="Write 0.95.")
    if resamples < 0:
        raise ConfigError("resamples is at least 0.", key="resamples")
    listed = list(pairs)
    for one in listed:
        if one.first == one.second or one.points not in (0, 0.5, 1):
            raise ConfigError(f"{one!r} is no comparison of two items.", key="pairs")
    names = sorted({name for one in listed for name in (one.first, one.second)})
    clusters = sorted({one.cluster for one in listed})
    per_cluster = _counted(listed, names, clusters)
    counts = Counts(per_cluster.wins.sum(axis=0), per_cluster.ties.sum(axis=0))
    above = reach_of(counts.points)
    groups = fit_groups(counts, above, ties)
    drawn = resamples if len(clusters) > 1 else 0
    resampled = _bootstrap(per_cluster, _strengths(groups, len(names)), ties, drawn, seed)
    items = _items(names, counts, above, groups, resampled, level)
    nu = next((group.nu for group in groups if group.fitted), None)
    tie = nu if ties == "davidson" and sum(group.fitted for group in groups) == 1 else None
    return Fit(items, tie, len(listed), len(clusters), level, drawn)


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and 0 < value < 1


def _counted(pairs: Sequence[Pair], names: Sequence[str], clusters: Sequence[str]) -> Counts:
    """Return the outcomes of each cluster."""
    item = {name: index for index, name in enumerate(names)}
    place = {name: index for index, name in enumerate(clusters)}
    wins = np.zeros((len(clusters), len(names), len(names)))
    tied = np.zeros_like(wins)
    for one in pairs:
        where, i, j = place[one.cluster], item[one.first], item[one.second]
        if one.points == 0.5:
            tied[where, i, j] += 1
            tied[where, j, i] += 1
        elif one.points == 1:
            wins[where, i, j] += 1
        else:
            wins[where, j, i] += 1
    return Counts(wins, tied)


def _strengths(groups: Sequence[Group], size: int) -> Floats:
    """Return the strength of each item; NaN where it has none."""
    found = np.full(size, np.nan)
    for group in groups:
        if group.fitted:
            found[group.members] = group.strengths
    return found


# --- the bootstrap


def _bootstrap(
    counts: Counts, estimate: Floats, ties: Ties, resamples: int, seed: int
) -> tuple[Floats, Floats]:
    """Return strengths (infinite where unbounded) and win rates of each resample and item."""
    clusters, size = counts.wins.shape[0], counts.wins.shape[-1]
    draws = np.random.default_rng(seed)
    strengths, rates = [np.empty((0, size))], [np.empty((0, size))]
    for begin in range(0, resamples, _BATCH):
        many = min(_BATCH, resamples - begin)
        weights = draws.multinomial(clusters, np.full(clusters, 1 / clusters), size=many)
        drawn = Counts(
            np.tensordot(weights.astype(float), counts.wins, axes=1),
            np.tensordot(weights.astype(float), counts.ties, axes=1),
        )
        found = _resampled(drawn, estimate, ties)
        strengths.append(found[0])
        rates.append(found[1])
    return np.concatenate(strengths), np.concatenate(rates)


def _resampled(drawn: Counts, estimate: Floats, ties: Ties) -> tuple[Floats, Floats]:
    """Fit resamples: those in which all can be told apart together, the others one by one."""
    above = reach_of(drawn.points)
    strengths = np.full(drawn.wins.shape[:2], np.nan)
    rates = np.full_like(strengths, np.nan)
    whole = np.asarray(above.all(axis=(-1, -2)))
    if ties == "davidson":
        whole &= np.array([has_davidson(drawn.part(index)) for index in range(len(whole))])
    if whole.any():
        strengths[whole], nu = newton(drawn.part(whole), davidson=ties == "davidson")
        points = expected_points(strengths[whole], nu)
        rates[whole] = (points.sum(axis=-1) - 0.5) / max(points.shape[-1] - 1, 1)
        known = ~np.isnan(estimate)
        if known.any():
            # Centred where the estimate is: who has no strength is not in that mean.
            strengths[whole] -= strengths[whole][:, known].mean(axis=1, keepdims=True)
    for index in np.flatnonzero(~whole):
        one = drawn.part(index)
        strengths[index], rates[index] = _torn(one, above[index], estimate, ties)
    return strengths, rates


def _torn(drawn: Counts, above: Bools, estimate: Floats, ties: Ties) -> tuple[Floats, Floats]:
    """Return strengths and win rates where some are above others for sure.

    The largest group is centred where the estimate has it; who is above it for sure is infinitely
    so.
    """
    groups = fit_groups(drawn, above, ties)
    main = max(groups, key=lambda group: len(group.members))
    first, shown = main.members[0], np.full(len(above), np.nan)
    higher, lower = above[:, first] & ~above[first], above[first] & ~above[:, first]
    shown[higher], shown[lower] = np.inf, -np.inf
    if len(main.members) > 1:
        centre = estimate[main.members][~np.isnan(estimate[main.members])]
        shown[main.members] = main.strengths + (centre.mean() if len(centre) else 0.0)
    elif higher.any() != lower.any():
        shown[first] = -np.inf if higher.any() else np.inf
    return shown, win_rates(groups, above)


# --- what is told


def _items(
    names: Sequence[str],
    counts: Counts,
    above: Bools,
    groups: Sequence[Group],
    resampled: tuple[Floats, Floats],
    level: float,
) -> tuple[Strength, ...]:
    rates = win_rates(list(groups), above)
    sure = above & ~above.T
    found = []
    for number, group in enumerate(groups):
        for index, value in zip(group.members, group.strengths, strict=True):
            strength = float(value) if group.fitted else None
            interval, why = _interval(resampled[0][:, index], level)
            stronger = int((group.strengths > value + _EQUAL).sum()) if group.fitted else 0
            note = _note(counts, above, groups, group)
            found.append(
                Strength(
                    name=names[index],
                    strength=strength,
                    interval=interval if group.fitted else _UNKNOWN,
                    win_rate=None if np.isnan(rates[index]) else float(rates[index]),
                    win_interval=_interval(resampled[1][:, index], level)[0],
                    group=number,
                    rank=1 + int(sure[:, index].sum()) + stronger,
                    wins=int(counts.wins[index].sum()),
                    losses=int(counts.wins[:, index].sum()),
                    ties=int(counts.ties[index].sum()),
                    note="; ".join(filter(None, (note, why if group.fitted else ""))),
                )
            )
    return tuple(sorted(found, key=lambda item: (item.rank, item.name)))


def _note(counts: Counts, above: Bools, groups: Sequence[Group], group: Group) -> str:
    """Say why an item has no strength, or with what it can be compared."""
    inside = np.zeros(len(above), dtype=bool)
    inside[group.members] = True
    if len(group.members) > 1 and not group.fitted:
        return "too few wins beside the ties for a model of ties; ties='half' has an answer"
    if len(group.members) == 1:
        index = group.members[0]
        if not counts.points[:, index].any():
            return "lost nothing: its strength has no upper bound"
        if not counts.points[index].any():
            return "won nothing: its strength has no lower bound"
        return "above some and below others for sure: the distances have no bound"
    if len(groups) == 1:
        return ""
    linked = counts.games[inside][:, ~inside].any()
    why = "others are above or below it for sure" if linked else "no vote links it with others"
    return f"strengths within a group of {len(group.members)}: {why}"


def _interval(values: Floats, level: float) -> tuple[Interval, str]:
    """Return the percentiles of resamples, and why a bound is missing."""
    known = values[~np.isnan(values)]
    if not len(values):
        return _UNKNOWN, ""
    if len(known) < len(values) / 2:
        return _UNKNOWN, "no interval: most resamples do not compare it with the others"
    if known.min() == known.max():
        return _UNKNOWN, "no interval: every resample gives the same, as with ties only"
    # No interpolation: between a number and infinity there is none.
    tails = np.quantile(known, [(1 - level) / 2, (1 + level) / 2], method="inverted_cdf")
    low, high = (None if np.isinf(value) else float(value) for value in tails)
    why = []
    if low is None:
        why.append(f"no lower bound: won nothing in {np.isneginf(known).mean():.0%} of resamples")
    if high is None:
        why.append(f"no upper bound: lost nothing in {np.isposinf(known).mean():.0%} of resamples")
    return Interval(low, high), "; ".join(why)


_UNKNOWN = Interval(None, None)
