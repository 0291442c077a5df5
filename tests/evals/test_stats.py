"""Strengths from paired comparisons, against published worked examples."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.errors import ConfigError
from workbench.evals.paired import Counts, has_davidson, newton, reach_of
from workbench.evals.stats import Fit, Interval, Pair, Strength, bradley_terry

# American League, eastern division, 1987: wins of the row over the column.
# Agresti, Categorical Data Analysis, 2nd ed. (2002), table 10.10; fitted in the vignette of the R
# package BradleyTerry2 (model baseballModel1), Baltimore as zero.
TEAMS = ("Milwaukee", "Detroit", "Toronto", "New York", "Boston", "Cleveland", "Baltimore")
WINS = (
    (0, 7, 9, 7, 7, 9, 11),
    (6, 0, 7, 5, 11, 9, 9),
    (4, 6, 0, 7, 7, 8, 12),
    (6, 8, 6, 0, 6, 7, 10),
    (6, 2, 6, 7, 0, 7, 12),
    (4, 4, 5, 6, 6, 0, 6),
    (2, 4, 1, 3, 1, 7, 0),
)
PUBLISHED = (1.5814, 1.4364, 1.2945, 1.2476, 1.1077, 0.6839, 0.0)

# Six brands of chocolate pudding: pair, preferences of each, no preference.
# Davidson, On extending the Bradley-Terry model to accommodate ties in paired comparison
# experiments, JASA 65 (1970) 317-328; estimates also in the vignette of the R package PlackettLuce.
PUDDING = """
12 19 22 16  13 16 19 12  23 19 19 10  14 18 23 13  24 23 19  9
34 19 20 15  15 13 19 18  25 16 20 12  35 16 15 17  45 17 14 16
16 18 21 12  26 22 20 12  36 13 18 10  46 14 19 18  56 11 21 12
"""
WORTH = {"1": 0.1388, "2": 0.1730, "3": 0.1617, "4": 0.1654, "5": 0.1587, "6": 0.2024}
NU = 0.747


def baseball() -> list[Pair]:
    """Return each game of the season."""
    return [
        Pair(TEAMS[i], TEAMS[j], 1)
        for i, row in enumerate(WINS)
        for j, count in enumerate(row)
        for _ in range(count)
    ]


def puddings() -> list[Pair]:
    """Return each comparison of two puddings."""
    numbers, found = iter(PUDDING.split()), []
    for pair, first, second, tied in zip(*[numbers] * 4, strict=True):
        found += [Pair(pair[0], pair[1], 1)] * int(first)
        found += [Pair(pair[0], pair[1], 0)] * int(second)
        found += [Pair(pair[0], pair[1], 0.5)] * int(tied)
    return found


def by_name(fit: Fit) -> dict[str, Strength]:
    """Return the items of a fit by their names."""
    return {item.name: item for item in fit.items}


def games(text: str) -> list[Pair]:
    """Return games such as `a>b a=c`; the prompt of each is its place."""
    found = []
    for number, game in enumerate(text.split()):
        points = {">": 1, "<": 0, "=": 0.5}[game[1]]
        found.append(Pair(game[0], game[2], points, cluster=str(number)))
    return found


@pytest.mark.parametrize("ties", ["half", "davidson"])
def test_baseball_as_published(ties: str) -> None:
    """Without ties both ways give Agresti's strengths of 1987, in his order."""
    fit = bradley_terry(baseball(), ties=ties, resamples=0)  # type: ignore[arg-type]
    items = by_name(fit)
    last = items["Baltimore"].strength
    assert last is not None
    found = [round((items[team].strength or 0.0) - last, 4) for team in TEAMS]
    assert list(PUBLISHED) == found
    assert list(TEAMS) == [item.name for item in fit.items]
    assert list(range(1, 8)) == [item.rank for item in fit.items]
    assert {0} == {item.group for item in fit.items}


def test_puddings_as_published() -> None:
    """Davidson's model gives the worths and the nu of his paper."""
    fit = bradley_terry(puddings(), ties="davidson", resamples=0)
    worth = {item.name: math.exp(item.strength or 0.0) for item in fit.items}
    total = sum(worth.values())
    assert WORTH == {name: round(value / total, 4) for name, value in sorted(worth.items())}
    assert fit.tie is not None and round(fit.tie, 3) == NU


def test_half_wins_give_everybody_his_points() -> None:
    """With ties as half wins the expected points of each are the points it has."""
    pairs = puddings()
    items = by_name(bradley_terry(pairs, resamples=0))
    for name, item in items.items():
        points = sum(
            pair.points if pair.first == name else 1 - pair.points
            for pair in pairs
            if name in (pair.first, pair.second)
        )
        expected = 0.0
        for pair in pairs:
            if name in (pair.first, pair.second):
                other = pair.second if pair.first == name else pair.first
                apart = (item.strength or 0.0) - (items[other].strength or 0.0)
                expected += 1 / (1 + math.exp(-apart))
        assert math.isclose(points, expected, abs_tol=1e-6)


def test_two_items_by_hand() -> None:
    """Three of four points against one other: odds of three, a win rate of three quarters."""
    best, other = bradley_terry(games("a>b a>b a>b a<b"), resamples=0).items
    assert best.strength is not None and other.strength is not None
    assert math.isclose(math.log(3), best.strength - other.strength, rel_tol=1e-9)
    assert math.isclose(0.75, best.win_rate or 0.0, rel_tol=1e-9)
    assert (3, 1, 0) == (best.wins, best.losses, best.ties)


@settings(max_examples=10)
@given(st.randoms(use_true_random=False))
def test_the_order_of_votes_does_not_matter(order: random.Random) -> None:
    """Shuffled votes, and votes with their sides swapped, give the same to the last bit."""
    pairs = [
        Pair(pair.first, pair.second, pair.points, cluster=str(number % 7))
        for number, pair in enumerate(puddings()[::5])
    ]
    shuffled = [
        pair
        if order.random() < 0.5
        else Pair(pair.second, pair.first, 1 - pair.points, pair.cluster)
        for pair in order.sample(pairs, len(pairs))
    ]
    assert bradley_terry(pairs, resamples=20) == bradley_terry(shuffled, resamples=20)


def test_an_undefeated_item_has_no_number() -> None:
    """Who lost nothing has no strength and says why; the others are compared among themselves."""
    items = by_name(bradley_terry(games("a>b a>c b>c c>b b>c"), resamples=0))
    assert items["a"].strength is None
    assert "lost nothing: its strength has no upper bound" == items["a"].note
    assert 1.0 == items["a"].win_rate
    apart = (items["b"].strength or 0.0) - (items["c"].strength or 0.0)
    assert math.isclose(math.log(2), apart, rel_tol=1e-9)
    assert items["b"].note.startswith("strengths within a group of 2: others are above or below")
    assert [1, 2, 3] == [items[name].rank for name in "abc"]


def test_a_point_that_is_never_won() -> None:
    """Who won nothing has no strength either."""
    items = by_name(bradley_terry(games("a>b"), resamples=0))
    assert ("won nothing: its strength has no lower bound", 0.0) == (
        items["b"].note,
        items["b"].win_rate,
    )


def test_between_two_certainties() -> None:
    """Who beat all of some and lost to all others is placed and has no distance."""
    items = by_name(bradley_terry(games("a>b b>c"), resamples=0))
    assert "above some and below others for sure: the distances have no bound" == items["b"].note
    assert (2, 0.5) == (items["b"].rank, items["b"].win_rate)


def test_groups_that_no_vote_links() -> None:
    """Two groups without a vote between them are not ranked against each other."""
    items = by_name(bradley_terry(games("a>b b>a a>b x>y y>x"), resamples=0))
    assert items["a"].group == items["b"].group != items["x"].group
    assert "strengths within a group of 2: no vote links it with others" == items["x"].note
    assert {None} == {item.win_rate for item in items.values()}
    assert [1, 2, 1, 1] == [items[name].rank for name in "abxy"]


def test_one_tie_makes_a_strength_finite() -> None:
    """A tie counts as half a point for both: nobody is undefeated after it."""
    items = by_name(bradley_terry(games("a>b a=b"), resamples=0))
    apart = (items["a"].strength or 0.0) - (items["b"].strength or 0.0)
    assert math.isclose(math.log(3), apart, rel_tol=1e-9)


@pytest.mark.parametrize("played", ["a>b a=b", "a=b b=c", "a>b b=c c=a"])
def test_davidson_needs_wins_beside_ties(played: str) -> None:
    """Where the model of ties has no finite answer this is said, and no number shown."""
    items = bradley_terry(games(played), ties="davidson", resamples=0).items
    assert {None} == {item.strength for item in items}
    assert all("ties='half' has an answer" in item.note for item in items)


def test_davidson_with_just_enough() -> None:
    """A circle of wins beside a tie has a finite answer."""
    fit = bradley_terry(games("a>b b>c c>a a=b"), ties="davidson", resamples=0)
    assert None not in {item.strength for item in fit.items}
    assert fit.tie is not None and 0 < fit.tie < 10


def test_davidson_is_fitted_exactly_where_it_has_an_answer() -> None:
    """Among random outcomes the fit runs away where the condition says so, and nowhere else."""
    draw = np.random.default_rng(0)
    there, away = [], []
    while len(there) < 60 or len(away) < 60:
        size = int(draw.integers(2, 5))
        wins = np.where(draw.random((size, size)) < 0.35, draw.integers(1, 4, (size, size)), 0)
        tied = np.tril(np.where(draw.random((size, size)) < 0.4, 1, 0), -1)
        counts = Counts((wins * (1 - np.eye(size))).astype(float), (tied + tied.T).astype(float))
        if not reach_of(counts.points).all() or not counts.ties.any():
            continue
        try:
            with np.errstate(all="ignore"):
                strengths, nu = newton(counts.part(None), davidson=True)
                largest = max(np.abs(strengths).max(), abs(np.log(nu[0])))
        except np.linalg.LinAlgError:
            largest = np.inf
        (there if has_davidson(counts) else away).append(largest)
    assert max(there) < 8 < 15 < min(away)


def test_only_ties_are_equal_strengths() -> None:
    """Nobody is better where nobody won."""
    fit = bradley_terry(games("a=b b=c"), resamples=0)
    assert [0.0, 0.0, 0.0] == [round(item.strength or 0.0, 9) for item in fit.items]
    assert [1, 1, 1] == [item.rank for item in fit.items]


def test_equal_strengths_have_one_rank() -> None:
    """Ten of twenty between two, and one of ten of a third against one of them: both are first."""
    played = [Pair("a", "b", 1)] * 9 + [Pair("a", "b", 0)]
    played += [Pair("a", "c", 1)] * 10 + [Pair("a", "c", 0)] * 10
    items = by_name(bradley_terry(played, resamples=0))
    assert math.isclose(items["a"].strength or 0.0, items["c"].strength or 1.0, rel_tol=1e-9)
    assert (1, 1, 3) == (items["a"].rank, items["c"].rank, items["b"].rank)


# --- intervals


def clustered(wins: int, losses: int, *, each: int = 1) -> list[Pair]:
    """Return votes of a against b on as many prompts, `each` of them on every prompt."""
    outcomes = [1] * wins + [0] * losses
    return [
        Pair("a", "b", points, cluster=f"{number:03}")
        for number, points in enumerate(outcomes)
        for _ in range(each)
    ]


def test_the_interval_of_a_share() -> None:
    """The bootstrap of 60 wins in 100 prompts is near the textbook interval of a share."""
    best = by_name(bradley_terry(clustered(60, 40), resamples=4000)).pop("a")
    low, high = best.win_interval.low, best.win_interval.high
    assert low is not None and high is not None
    # 0.6 -+ 1.96 * sqrt(0.6 * 0.4 / 100)
    assert math.isclose(0.504, low, abs_tol=0.015) and math.isclose(0.696, high, abs_tol=0.015)


def test_votes_on_one_prompt_are_not_independent() -> None:
    """Ten votes on each prompt say no more than one: the interval is as wide."""
    once = by_name(bradley_terry(clustered(12, 8), resamples=2000))["a"].interval
    tenfold = by_name(bradley_terry(clustered(12, 8, each=10), resamples=2000))["a"].interval
    assert math.isclose(once.low or 9.0, tenfold.low or 8.0, rel_tol=1e-9)
    assert math.isclose(once.high or 9.0, tenfold.high or 8.0, rel_tol=1e-9)


@pytest.mark.parametrize(
    ("clusters", "least", "most"), [(5, 0.78, 0.91), (40, 0.91, 0.98)], ids=["few", "many"]
)
def test_how_often_an_interval_holds_the_truth(clusters: int, least: float, most: float) -> None:
    """Of five prompts with four votes each, too seldom, as the docstring says; of forty, often."""
    chance = random.Random(5)
    held, rounds = 0, 200
    for _ in range(rounds):
        pairs = []
        for number in range(clusters):
            # Even on the whole, and each prompt leans its own way.
            odds = math.exp(chance.gauss(0, 1))
            pairs += [
                Pair("a", "b", float(chance.random() < odds / (1 + odds)), f"{number}")
                for _ in range(4)
            ]
        found = by_name(bradley_terry(pairs, resamples=300, seed=chance.randrange(10**6)))
        interval = found["a"].win_interval
        low, high = interval.low, interval.high
        held += (0.0 if low is None else low) <= 0.5 <= (1.0 if high is None else high)
    assert least < held / rounds < most


def test_a_bound_that_is_infinite_is_said() -> None:
    """With few votes many resamples have no loss; then there is no upper bound, and it says so."""
    best = by_name(bradley_terry(clustered(9, 1)))["a"]
    assert best.strength is not None and best.interval.low is not None
    assert best.interval.high is None
    assert "no upper bound: lost nothing in" in best.note
    assert 1.0 == best.win_interval.high


def test_one_cluster_has_no_interval() -> None:
    """Votes on a single prompt cannot be resampled."""
    fit = bradley_terry([Pair("a", "b", 1), Pair("a", "b", 0)])
    assert (0, 1) == (fit.resamples, fit.n_clusters)
    assert {Interval(None, None)} == {item.interval for item in fit.items}


def test_two_clusters_are_resampled() -> None:
    """Two prompts are enough to draw from; what is unbounded then is said."""
    fit = bradley_terry(clustered(1, 1, each=2))
    assert (1000, 2) == (fit.resamples, fit.n_clusters)
    assert all("no upper bound: lost nothing in" in item.note for item in fit.items)


@pytest.mark.parametrize(
    "pairs",
    [
        [Pair("a", "b", 0.5, cluster=str(n)) for n in range(5)],
        [Pair("a", "b", points, cluster=str(n)) for n in range(2) for points in (0, 1)],
    ],
    ids=["ties only", "prompts alike"],
)
def test_resamples_that_are_all_alike_give_no_interval(pairs: list[Pair]) -> None:
    """Five ties do not show that two are exactly equal: no interval of width 0 is told."""
    for item in bradley_terry(pairs).items:
        assert (0.0, Interval(None, None)) == (item.strength, item.interval)
        assert Interval(None, None) == item.win_interval
        assert "every resample gives the same" in item.note


def test_a_winless_item_in_resamples_has_no_lower_bound() -> None:
    """What loses everything in many resamples is below all others there, not unknown."""
    pairs = clustered(9, 1)
    pairs += [Pair("a", "c", n % 2, cluster=f"c{n}") for n in range(20)]  # type: ignore[arg-type]
    items = by_name(bradley_terry(pairs))
    assert (None, True) == (items["b"].interval.low, items["b"].interval.high is not None)
    assert "no lower bound: won nothing in 3" in items["b"].note
    a = items["a"]
    # Resamples in which b falls away are centred where a and c are, not around 0.
    assert a.interval.low is not None and a.interval.low > 0.0 and a.interval.high is not None


def test_others_keep_their_interval_beside_an_undefeated_one() -> None:
    """An item above all for sure does not spoil what is known of the others."""
    pairs = [Pair("b", "c", n % 5 > 1, cluster=str(n)) for n in range(40)]  # type: ignore[arg-type]
    pairs += [Pair("a", "b", 1, cluster=str(n)) for n in range(40)]
    items = by_name(bradley_terry(pairs))
    b = items["b"]
    assert b.interval.low is not None and b.interval.high is not None
    assert b.interval.low < (b.strength or 0.0) < b.interval.high
    assert Interval(None, None) == items["a"].interval


def test_many_models_take_little_time() -> None:
    """Ten models, two thousand votes and a thousand resamples are fitted together."""
    draw = random.Random(1)
    pairs = []
    for number in range(2000):
        i, j = draw.sample(range(10), 2)
        win = draw.random() < 1 / (1 + math.exp((j - i) / 5))
        pairs.append(Pair(f"m{i}", f"m{j}", int(win), cluster=str(number % 200)))
    fit = bradley_terry(pairs)
    assert [f"m{i}" for i in (9, 8, 7)] == sorted((i.name for i in fit.items[:3]), reverse=True)
    inside = [
        i for i in fit.items if (i.interval.low or 9) < (i.strength or 0) < (i.interval.high or -9)
    ]
    assert 10 == len(inside)


@pytest.mark.parametrize(
    ("pairs", "how"),
    [
        ([Pair("a", "a", 1)], {}),
        ([Pair("a", "b", 2)], {}),
        ([], {"ties": "elo"}),
        ([], {"level": 95}),
        ([], {"level": "x"}),
        ([], {"resamples": -1}),
    ],
)
def test_what_cannot_be_meant_is_refused(pairs: Iterable[Pair], how: dict[str, object]) -> None:
    """A comparison with itself or a setting that is none is an error."""
    with pytest.raises(ConfigError):
        bradley_terry(pairs, **how)  # type: ignore[arg-type]


def test_nothing_compared_is_an_empty_fit() -> None:
    """No votes are no error."""
    assert () == bradley_terry([]).items
