"""Stop rules, orders and lanes: pure functions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.chat.dialogue_values import LaneTracker, Turn, View
from workbench.chat.orders import Call, calls_of, candidates, next_calls, next_in_turn
from workbench.chat.participants import Participant
from workbench.chat.stops import (
    GoalReached,
    JudgeSays,
    MaxSeconds,
    MaxTokens,
    MaxTurns,
    Phrase,
    Repetition,
    StopRule,
    overlap,
    rule_wire,
    rules_from_wire,
    stop_rules,
)
from workbench.errors import ConfigError, StreamBroken
from workbench.messages import (
    Failed,
    Finished,
    Opened,
    Phase,
    ReasoningDelta,
    TextDelta,
    Timings,
    Usage,
)

NAMES = ("Ann", "Bob", "Cat")
CAST = tuple(Participant(name, "m") for name in NAMES)


def said(*lines: tuple[str, str], **how: Any) -> View:
    """Return the view of a dialogue in which these lines were said."""
    turns = tuple(
        Turn(n, name, str(n), text=text, status="done", usage=Usage(output_tokens=10))
        for n, (name, text) in enumerate(lines)
    )
    return View(turns, CAST, how.pop("active", NAMES), **how)


LONG = "the quick brown fox jumps over the lazy dog again"


@pytest.mark.parametrize(
    ("rule", "view", "reason"),
    [
        (MaxTurns(2), said(("Ann", "a")), None),
        (MaxTurns(2), said(("Ann", "a"), ("Bob", "b")), "2 turns were taken"),
        (MaxTokens(20), said(("Ann", "a")), None),
        (MaxTokens(15), said(*[("Ann", "a")] * 2), "20 tokens were written, 15 were allowed"),
        (MaxSeconds(3), said(elapsed_s=2.9), None),
        (MaxSeconds(3), said(elapsed_s=3.1), "3.0 s have passed"),
        (Phrase("agreed"), said(), None),
        (Phrase("agreed"), said(("Bob", "AGREED!")), "Bob said 'agreed'"),
        (Phrase("agreed", by="Ann"), said(("Bob", "agreed")), None),
        (Phrase("agreed"), said(("Bob", "agreed"), ("Ann", "no")), None),
        (Repetition(), said(*[("Ann", LONG)] * 2), None),
        (
            Repetition(),
            said(*[("Ann", LONG)] * 3),
            "the last 2 turns repeat 80 % or more of what was said before",
        ),
        (Repetition(), said(("Ann", LONG), ("Bob", LONG), ("Ann", "something new")), None),
        (Repetition(times=1, back=1), said(("A", "x y"), ("B", "z"), ("A", "x y")), None),
    ],
)
def test_a_rule_gives_its_reason(rule: Any, view: View, reason: str | None) -> None:
    """Each rule looks at the view and says why the dialogue ends, or nothing."""
    assert reason == rule.check(view)


def test_failed_turns_do_not_count() -> None:
    """A turn that failed is no turn taken."""
    view = said(("Ann", "a"), ("Bob", "b"))
    failed = replace(view.turns[1], status="failed")
    assert MaxTurns(2).check(replace(view, turns=(view.turns[0], failed))) is None


@given(st.text(), st.text())
def test_overlap_is_a_share(text: str, other: str) -> None:
    """It is between 0 and 1, and 1 for a text with a word in it and itself."""
    assert 0 <= overlap(text, other) <= 1
    assert overlap(text, text) in (0.0, 1.0)
    assert overlap(f"{text} word", f"{text} word") == 1.0


RULES: list[StopRule] = [
    MaxTurns(3),
    MaxTokens(5),
    MaxSeconds(1.5),
    Phrase("x", "Ann"),
    Repetition(0.5, 1, 3),
    JudgeSays("q", 2),
    GoalReached("g", 3),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.rule)
def test_rules_are_read_back(rule: StopRule) -> None:
    """What is written of a rule is read as it was."""
    assert (rule,) == rules_from_wire([rule_wire(rule)])


def test_callables_are_kept_by_name() -> None:
    """Of a callable only the name is written, and it is left out when it is read."""

    def enough(view: View) -> bool:
        return True

    assert rule_wire(enough)["name"].endswith("enough")
    assert () == rules_from_wire([rule_wire(enough)])
    assert (enough,) == stop_rules(enough)


@pytest.mark.parametrize(
    "stop", [{"turns": "3"}, {"turns": True}, {"phrase": 1}, {"phrase": {"by": "x"}}, ["x"], 3]
)
def test_what_is_no_rule_is_refused(stop: Any) -> None:
    """The error says so before anything is sent."""
    with pytest.raises(ConfigError):
        stop_rules(stop)


def test_a_phrase_alone_is_told_how_to_be_written() -> None:
    """A text in place of a rule is likely meant as the phrase."""
    with pytest.raises(ConfigError, match="'agreed' is no stop rule") as caught:
        stop_rules("agreed")  # type: ignore[arg-type]
    assert "{'phrase': 'agreed'}" in str(caught.value.hint)


@given(st.lists(st.sampled_from(NAMES), max_size=6), st.sets(st.sampled_from(NAMES), min_size=1))
def test_the_next_in_turn_may_speak(spoke: list[str], active: set[str]) -> None:
    """It is one of those who may, the next after the last speaker; all come round."""
    order = tuple(name for name in NAMES if name in active)
    view = said(*[(name, "x") for name in spoke], active=order)
    came = []
    for _ in order:
        name = next_in_turn(view)
        assert name in active
        came.append(name)
        view = replace(view, turns=(*view.turns, Turn(9, name, "9", text="x", status="done")))
    assert active == set(came)


def test_orders_name_calls() -> None:
    """A broadcast calls everybody who may speak; nobody is called when all are muted."""
    assert [Call("Ann"), Call("Cat")] == next_calls("broadcast", said(active=("Ann", "Cat")))
    assert [] == next_calls("round_robin", said(active=()))
    assert ["Ann", "Cat"] == candidates(said(("Bob", "x")))
    assert ["Bob"] == candidates(said(("Bob", "x"), active=("Bob",)))
    assert [Call("Bob"), Call("Ann")] == calls_of(["Bob", "Ann", "Bob"], said())
    for wrong in (3, ["Ann", 3]):
        with pytest.raises(ConfigError):
            calls_of(wrong, said())


def test_a_lane_follows_an_answer() -> None:
    """Phases with their figures, then tokens with their rate, then what the engine counted."""
    tracker = LaneTracker(turn=3)
    steps = [
        (Opened("m"), 0.0),
        (Phase("queued", 0.1), 0.1),
        (Phase("unloading", bytes=7, detail="n"), 1.0),
        (Phase("loading", 0.0, 9), 2.0),
        (Phase("loading", 1.0, 9), 3.0),
        (Phase("reading prompt"), 4.0),
        (ReasoningDelta("hm"), 5.0),
        (TextDelta("a"), 6.0),
        (TextDelta("b"), 7.0),
    ]
    lanes = [tracker.feed([event], at_s=at_s) for event, at_s in steps]
    found = [(lane.phase, lane.seconds, lane.bytes, lane.tokens) for lane in lanes]
    assert [
        ("queued", 0.0, None, None),
        ("queued", 0.1, None, None),
        ("unloading", 0.0, 7, None),
        ("loading", 0.0, 9, None),
        ("loading", 1.0, 9, None),
        ("reading prompt", 0.0, None, None),
        ("thinking", 0.0, None, 1),
        ("writing", 0.0, None, 2),
        ("writing", 1.0, None, 3),
    ] == found
    assert (1.0, 5.0, 3.0) == (lanes[-1].tokens_per_s, lanes[-1].ttft_s, tracker.swap_s)
    end = Finished("length", Usage(5, 30), Timings(eval_s=3.0))
    done = tracker.feed([end], at_s=8.0)
    assert ("done", "length", 30, 10.0, 3) == (
        done.phase,
        done.detail,
        done.tokens,
        done.tokens_per_s,
        done.turn,
    )


def test_a_lane_ends_with_its_error() -> None:
    """Without any phase nobody knows of a swap."""
    tracker = LaneTracker()
    tracker.feed([TextDelta("a")], at_s=1.0)
    assert "StreamBroken" == tracker.feed([Failed(StreamBroken("x"))], at_s=2.0).detail
    assert tracker.swap_s is None
