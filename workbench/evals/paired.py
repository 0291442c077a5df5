"""The likelihood of paired comparisons: who can be compared, and the strengths that fit best.

Pure numpy over matrices of outcomes; see `workbench.evals.stats` for what they mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Indexes = NDArray[np.intp]
Ties = Literal["half", "davidson"]

_STEPS = 60
_HALVINGS = 40
_CLOSE = 1e-10


@dataclass(frozen=True, slots=True)
class Counts:
    """Outcomes as matrices; the last two axes are items, what is before are resamples.

    Attributes:
        wins: How often the row's item beat the column's.
        ties: How often they tied; symmetric.
    """

    wins: Floats
    ties: Floats

    @property
    def points(self) -> Floats:
        return self.wins + self.ties / 2

    @property
    def games(self) -> Floats:
        return self.wins + np.swapaxes(self.wins, -1, -2) + self.ties

    def part(self, index: Any) -> Counts:
        return Counts(self.wins[index], self.ties[index])


def reach_of(points: Floats) -> Bools:
    """Return whether the row's item is above the column's by some chain of points; with itself."""
    size = points.shape[-1]
    above = np.asarray((points > 0) | np.eye(size, dtype=bool))
    for _ in range(size.bit_length()):
        above = (above.astype(np.float32) @ above.astype(np.float32)) > 0
    return above


def groups_of(above: Bools) -> list[NDArray[np.intp]]:
    """Return the sets of items that reach each other, in order of their first item."""
    both, left, found = above & above.T, set(range(len(above))), []
    while left:
        group = np.flatnonzero(both[min(left)])
        found.append(group)
        left -= set(group.tolist())
    return found


def has_davidson(counts: Counts) -> bool:
    """Whether Davidson's likelihood has a maximum, given that everybody reaches everybody.

    Without ties it is that of Bradley and Terry, which has one.

    It has none when strengths can drift apart by 1 along every win and by at most 1 along every
    tie while nu grows: when no chain of wins and ties comes back to its start with more wins than
    ties.  Ties only, or a win that is answered by ties alone, are such cases.
    """
    if not counts.ties.any():
        return True
    size = len(counts.wins)
    # Shortest paths over d_j <= d_i - 1 for a win of i over j, d_j <= d_i + 1 for a tie.
    longest = np.full((size, size), np.inf)
    longest[counts.ties > 0] = 1.0
    longest[counts.wins > 0] = -1.0
    distance = np.zeros(size)
    for _ in range(size):
        distance = np.minimum(distance, (distance[:, None] + longest).min(axis=0))
    return bool((np.minimum(distance, (distance[:, None] + longest).min(axis=0)) < distance).any())


@dataclass(frozen=True, slots=True)
class Group:
    """Items whose strengths can be told from each other.

    Attributes:
        members: Their indexes.
        strengths: Log of p, mean 0; NaN where the likelihood has no maximum, 0 of one alone.
        nu: Davidson's; 0 with half wins.
    """

    members: Indexes
    strengths: Floats
    nu: float

    @property
    def fitted(self) -> bool:
        """Whether its strengths are numbers that say something."""
        return len(self.members) > 1 and not np.isnan(self.strengths).any()


def fit_groups(counts: Counts, above: Bools, ties: Ties) -> list[Group]:
    """Return the groups of items with their strengths, in order of their first member."""
    found = []
    for members in groups_of(above):
        part = counts.part(np.ix_(members, members))
        if len(members) == 1:
            found.append(Group(members, np.zeros(1), 0.0))
        elif ties == "davidson" and not has_davidson(part):
            found.append(Group(members, np.full(len(members), np.nan), 0.0))
        else:
            strengths, nu = newton(part.part(None), davidson=ties == "davidson")
            found.append(Group(members, strengths[0], float(nu[0])))
    return found


def expected_points(strengths: Floats, nu: Floats) -> Floats:
    """Return the points the row's item can expect of one comparison with the column's."""
    half = (strengths[..., :, None] - strengths[..., None, :]) / 2
    tie = np.asarray(nu)[..., None, None]
    return np.asarray((np.exp(half) + tie / 2) / (np.exp(half) + np.exp(-half) + tie))


def win_rates(groups: list[Group], above: Bools) -> Floats:
    """Return the mean expected points of each item against all others.

    Against who is above it for sure it expects 0, against who is below 1; NaN of an item that
    cannot be compared with all: a mean over some would be another thing.
    """
    size = len(above)
    if size < 2:
        return np.full(size, np.nan)
    points = np.where(above & ~above.T, 1.0, np.where(above.T & ~above, 0.0, np.nan))
    for group in groups:
        points[np.ix_(group.members, group.members)] = expected_points(
            group.strengths, np.asarray(group.nu)
        )
    np.fill_diagonal(points, 0.0)
    return np.asarray(points.sum(axis=1) / (size - 1))


def newton(counts: Counts, *, davidson: bool) -> tuple[Floats, Floats]:
    """Return the strengths, mean 0, and nu of each of a batch; every one has a maximum.

    Davidson's model is an exponential family: the gradient is points and ties less their expected
    values, the Hessian their covariance.  With nu = 0 it is Bradley-Terry's, of points.
    """
    points, games = counts.points, counts.games
    tied = np.triu(counts.ties, 1).sum(axis=(-1, -2))
    batch, size = points.shape[0], points.shape[-1]
    with_ties = davidson & (tied > 0)
    x = np.zeros((batch, size + 1))
    # A first guess of log nu from the share of ties; without ties nu is 0.
    share = tied / np.maximum(np.triu(games, 1).sum(axis=(-1, -2)), 1)
    x[:, size] = np.log(np.clip(2 * share / np.maximum(1 - share, 0.02), 1e-3, 1e3))
    score = points.sum(axis=-1)
    value = _likelihood(x, points, tied, games, with_ties)
    for _ in range(_STEPS):
        gradient, curve = _derivatives(x, score, tied, games, with_ties)
        step = np.linalg.solve(curve, gradient[..., None])[..., 0]
        scale = np.ones(batch)
        for _ in range(_HALVINGS):
            tried = x + scale[:, None] * step
            better = _likelihood(tried, points, tied, games, with_ties)
            worse = better < value - 1e-12 * np.abs(value)
            if not worse.any():
                break
            scale[worse] /= 2
        x, value = x + scale[:, None] * step, better
        if np.abs(scale[:, None] * step).max(initial=0.0) < _CLOSE:
            break
    strengths = x[:, :size] - x[:, :size].mean(axis=1, keepdims=True)
    return strengths, np.where(with_ties, np.exp(x[:, size]), 0.0)


def _chances(x: Floats, with_ties: Bools) -> tuple[Floats, Floats]:
    """Return the expected points of the row against the column, and the chance of a tie."""
    half = (x[:, :-1, None] - x[:, None, :-1]) / 2
    nu = np.where(with_ties, np.exp(x[:, -1]), 0.0)[:, None, None]
    up, down = np.exp(half), np.exp(-half)
    total = up + down + nu
    return (up + nu / 2) / total, nu / total


def _likelihood(x: Floats, points: Floats, tied: Floats, games: Floats, with_ties: Bools) -> Floats:
    half = (x[:, :-1, None] - x[:, None, :-1]) / 2
    nu = np.where(with_ties, np.exp(x[:, -1]), 0.0)[:, None, None]
    total = np.log(np.exp(half) + np.exp(-half) + nu)
    # Of points p the row has exp(half) in the numerator p times, and the column the rest.
    inner = points * half - np.swapaxes(points, -1, -2) * half - games * total
    found = np.triu(inner, 1).sum(axis=(-1, -2))
    return np.asarray(found + np.where(with_ties, tied * x[:, -1], 0.0))


def _derivatives(
    x: Floats, score: Floats, tied: Floats, games: Floats, with_ties: Bools
) -> tuple[Floats, Floats]:
    """Return the gradient, and the negative of the Hessian with what it leaves free fixed."""
    expected, tie = _chances(x, with_ties)
    win = expected - tie / 2
    variance = games * (win + tie / 4 - expected**2)
    shared = games * (tie / 2 - expected * tie)
    size = score.shape[-1]
    gradient = np.empty_like(x)
    gradient[:, :size] = score - (games * expected).sum(axis=-1)
    half_tie = np.triu(games * tie, 1).sum(axis=(-1, -2))
    gradient[:, size] = np.where(with_ties, tied - half_tie, 0.0)
    curve = np.zeros((*x.shape, size + 1))
    curve[:, :size, :size] = -variance
    diagonal = np.arange(size)
    curve[:, diagonal, diagonal] = variance.sum(axis=-1)
    # Strengths are differences: their mean is held.
    curve[:, :size, :size] += 1.0 / size
    curve[:, :size, size] = curve[:, size, :size] = shared.sum(axis=-1)
    spread = np.triu(games * tie * (1 - tie), 1).sum(axis=(-1, -2))
    curve[:, size, size] = np.where(with_ties, spread, 1.0)
    return gradient, curve
