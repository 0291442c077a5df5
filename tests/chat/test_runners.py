"""The order of requests: pure, also for every order of what is asked."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from workbench.chat.runners import Runner, by_runner, full_name, runner_of, waves

A, B, C = Runner("a:latest"), Runner("b:latest"), Runner("c:latest")


@given(st.lists(st.sampled_from("abc")), st.sets(st.sampled_from("abc")))
def test_each_runner_is_one_group(names: list[str], loaded: set[str]) -> None:
    """Whatever the order, each model is a group of its own, in which the order stays."""
    items = list(enumerate(names))
    groups = by_runner(items, lambda item: runner_of(item[1], {}), loaded=loaded)
    assert len(set(names)) == len(groups)
    assert sorted(items) == sorted(item for group in groups for item in group)
    assert all(group == sorted(group) for group in groups)
    here = [group[0][1] in loaded for group in groups]
    assert sorted(here, reverse=True) == here


def test_runner_options_are_part_of_what_is_loaded() -> None:
    """A `num_ctx` makes another runner, a temperature does not; a missing tag is `latest`."""
    assert runner_of("m", {"temperature": 1.0}) == runner_of("m:latest", {})
    assert runner_of("m", {"num_ctx": 512}) != runner_of("m", {})
    assert 512 == runner_of("m", {"num_ctx": 512, "seed": 1}).num_ctx


def test_runners_of_one_model_stay_together() -> None:
    """A model asked with two contexts is not left for another one in between."""
    asked = [("m", 512), ("n", None), ("m", 1024), ("m", 512)]
    groups = by_runner(
        asked, lambda item: runner_of(item[0], {"num_ctx": item[1]} if item[1] else {})
    )
    assert [["m", "m"], ["m"], ["n"]] == [[name for name, _ in group] for group in groups]


def fit(runners: Sequence[Runner]) -> bool:
    """Whether what takes 6, 5 and 4 of 10 fits together."""
    return sum({"a:latest": 6, "b:latest": 5, "c:latest": 4}[r.model] for r in runners) <= 10


def test_what_fits_together_runs_together() -> None:
    """A wave takes what fits beside its first, also past one that does not."""
    assert [[A, C], [B]] == waves([A, B, C], fit)


def test_what_does_not_fit_runs_alone() -> None:
    """Where nothing fits beside anything, or nothing is known, each model is alone."""
    assert [[A], [B], [C]] == waves([A, B, C], lambda runners: False)


def test_one_model_is_never_loaded_twice_at_once() -> None:
    """Two contexts of one model follow each other even when both would fit."""
    larger = Runner("a:latest", (("num_ctx", 512),))
    assert [[A, C], [larger]] == waves([A, larger, C], lambda runners: True)


def test_a_name_without_a_tag_means_latest() -> None:
    """A bare name is that of the tag `latest`, whatever the host and the folders before it."""
    assert "hf.co/x/m:latest@gpu" == full_name("hf.co/x/m@gpu")
    assert "m:7b" == full_name("m:7b")
