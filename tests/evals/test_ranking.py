"""Rankings from rows of votes."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from workbench.app import Workbench
from workbench.client.door import client_config, open_client
from workbench.errors import ConfigError
from workbench.evals.ranking import rank
from workbench.metrics.journal import open_writer


def vote(
    a: str, b: str, verdict: str, prompt: str = "p1", *, digests: bool = True, **more: Any
) -> dict[str, Any]:
    """Return the row of a vote."""
    row = {
        "label_a": a,
        "label_b": b,
        "model_a": a,
        "model_b": b,
        "verdict": verdict,
        "prompt_sha": prompt,
        "voter": "v1",
    }
    if digests:
        row |= {"digest_a": f"sha256:{a}00000000", "digest_b": f"sha256:{b}00000000"}
    return {**row, **more}


def some() -> list[dict[str, Any]]:
    """Return votes on five prompts: a is best, b and c are near each other."""
    rows = []
    for number in range(5):
        prompt = f"p{number}"
        rows += [
            vote("a", "b", "a" if number else "b", prompt),
            vote("c", "b", ("a", "b", "tie", "both_bad", "a")[number], prompt),
            vote("a", "c", "a" if number < 4 else "b", prompt),
        ]
    return rows


def test_rows_become_a_ranking() -> None:
    """Models are ranked with strengths, intervals and counts."""
    found = rank(some())
    assert ["a", "c", "b"] == [one.name for one in found]
    assert (10, 8, 2, 0) == (found[0].votes, found[0].wins, found[0].losses, found[0].ties)
    assert 2 == found[1].ties == found[2].ties
    printed = repr(found)
    assert "RANK  MODEL  STRENGTH" in printed
    assert "95% intervals by resampling 5 prompts of 15 votes; a tie is half a win" in printed
    assert 3 == len(found.to_frame())


def test_the_order_of_rows_does_not_matter() -> None:
    """Shuffled rows give the same ranking."""
    rows = some()
    shuffled = random.Random(3).sample(rows, len(rows))
    assert rank(rows) == rank(shuffled)


def test_a_model_is_its_digest() -> None:
    """Two names of one digest are one model, under the newest; two digests of one name are two."""
    rows = [
        vote("m", "x", "a", ts="2026-01-01", digest_a="sha256:" + "1" * 64),
        vote("m:latest@gpu", "x", "b", ts="2026-01-02", digest_a="sha256:" + "1" * 64),
        vote("m:latest", "x", "tie", ts="2026-01-03", digest_a="sha256:" + "2" * 64),
    ]
    names = {one.name for one in rank(rows)}
    assert {"m (11111111)", "m (22222222)", "x"} == names


def test_votes_of_one_model_with_itself_need_labels() -> None:
    """Two temperatures of one model are left out by model, and ranked by label."""
    same = {"digest_a": "sha256:1", "digest_b": "sha256:1"}
    rows = [vote("cold", "warm", "a", **same), vote("cold", "warm", "b", **same)]
    by_model = rank(rows)
    assert "2 votes are left out: both answers are of one model" in repr(by_model)
    assert {"cold", "warm"} == {one.name for one in rank(rows, by="label")}


def test_few_clusters_are_told() -> None:
    """Below 20 prompts a note says that the intervals are too narrow; from 20 on it is gone."""
    rows = [
        vote("a", "b", "a" if number % 3 else "b", f"p{number}", id=f"v{number}")
        for number in range(20)
    ]
    assert "too narrow" not in repr(rank(rows))
    assert "Fewer than 20 prompts: the intervals are too narrow" in repr(rank(rows[:19]))
    assert "Fewer than 20 votes" in repr(rank(rows[:19], cluster="vote"))
    assert "too narrow" not in repr(rank(rows[:1])), "there is no interval"


def test_nothing_infinite_is_printed() -> None:
    """Who lost nothing is printed without a number, and why."""
    printed = repr(rank([vote("a", "b", "a"), vote("a", "b", "a", "p2")]))
    assert "none" in printed and "inf" not in printed and "nan" not in printed
    assert "a: lost nothing: its strength has no upper bound." in printed


@pytest.mark.parametrize(("cluster", "count"), [("prompt", 5), ("voter", 3), ("vote", 15)])
def test_what_is_resampled(cluster: Any, count: int) -> None:
    """Votes on one prompt, of one voter, or each by itself are drawn together."""
    rows = [{**row, "id": f"v{n}", "voter": f"u{n % 3}"} for n, row in enumerate(some())]
    assert count == rank(rows, cluster=cluster).n_clusters


def test_no_votes_is_no_error() -> None:
    """An empty store has an empty ranking."""
    assert "(no votes)" == repr(rank([]))


@pytest.mark.parametrize("how", [{"by": "size"}, {"cluster": "day"}, {"ties": "none"}])
def test_wrong_settings_are_told(how: dict[str, Any]) -> None:
    """A setting that is none is refused."""
    with pytest.raises(ConfigError):
        rank([], **how)


def test_votes_come_from_the_metrics(private_folders: Path) -> None:
    """`wb.rankings()` reads the rows, a changed vote once, and filters them."""
    config = client_config()
    with open_writer(config) as writer:
        for number, row in enumerate(some()):
            writer.write("votes", {"id": f"v{number:02}", "blind": number % 2 == 0, **row})
        # A voter changed his mind: the last version counts.
        writer.write("votes", {"id": "v00", "blind": True, **vote("a", "b", "a", "p0")})
    with Workbench(open_client(config, spawn=False), config=config) as wb:
        found = wb.rankings()
        assert (9, 1) == (found[0].wins, found[0].losses)
        assert 8 == wb.rankings(blind=True).n_votes
        assert 0 == wb.rankings(voter="nobody").n_votes
        assert 15 == wb.rankings(since=3600, cluster="vote", ties="davidson").n_votes
