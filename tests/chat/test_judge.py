"""Judging pairs in both orders, and what is recorded of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from tests.chat.dialogues import NewDialogue, chats
from workbench.chat.exchange import choice_in
from workbench.chat.judge import Judge, Pair, as_judge, judge_pair, winner_of
from workbench.client.api import WorkbenchClient
from workbench.errors import ConfigError
from workbench.portal import get_portal
from workbench.testing import RecordedRequest, Reply, ScriptedOllama

PAIR = Pair("2 + 2?", "four", "five", names=("Ann", "Bob"), request_ids=("r1", "r2"), seed=3)


class Kept:
    """Keeps the rows that a client writes."""

    def __init__(self) -> None:
        self.run_id: str | None = None
        self.rows: list[dict[str, Any]] = []

    def write(self, table: str, row: Mapping[str, Any]) -> bool:
        """Keep a row."""
        if table == "evaluations":
            self.rows.append(dict(row))
        return True


def prefers(text: str) -> Callable[[RecordedRequest], Reply]:
    """Return a judge that prefers a text wherever it stands."""

    def reply(request: RecordedRequest) -> Reply:
        first = f"Text A:\n{text}" in request.json["messages"][-1]["content"]
        return Reply('{"choice": "A"}' if first else '{"choice": "B"}')

    return reply


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (prefers("four"), ("a", True, "Ann", ["a", "a"])),
        (prefers("five"), ("b", True, "Bob", ["b", "b"])),
        (Reply('{"choice": "A"}'), ("tie", False, "tie", ["a", "b"])),
        (Reply('{"choice": "tie"}'), ("tie", True, "tie", ["tie", "tie"])),
        (Reply("I cannot say"), ("tie", False, "tie", ["", ""])),
    ],
    ids=["first", "second", "prefers a place", "tie", "no answer"],
)
def test_both_orders_decide(
    pair: ScriptedOllama, reply: Any, expected: tuple[str, bool, str, list[str]]
) -> None:
    """A verdict is what both orders agree on; else it is a tie. Each order is a row."""
    pair.set_reply(reply)
    client = WorkbenchClient(pair.url)
    kept = client.records = Kept()
    try:
        verdict = judge_pair(client, Judge("judge"), PAIR)
    finally:
        get_portal().run(client.aclose())
    winner, agreed, name, seen = expected
    assert (winner, agreed, name) == (verdict.winner, verdict.agreed, verdict.name)
    assert seen == [item.winner for item in verdict.seen]
    assert ["ab", "ba"] == [row["order"] for row in kept.rows]
    assert [label or "none" for label in seen] == [
        row["gen_ai_evaluation_score_label"] for row in kept.rows
    ]
    row = kept.rows[0]
    assert ("r1", "r2", "judge", "pairwise") == tuple(
        row[key] for key in ("request_id_a", "request_id_b", "judge_model", "scorer_kind")
    )
    assert verdict.rubric_sha == row["rubric_sha"]
    assert name in str(verdict)


def test_it_is_asked_by_a_schema(pair: ScriptedOllama) -> None:
    """A, B or tie; once more when the answer is none of them; its options are its own."""
    pair.enqueue(Reply("hm"), Reply('{"choice": "A"}'), Reply('{"choice": "B"}'))
    client = WorkbenchClient(pair.url)
    try:
        verdict = judge_pair(client, Judge("judge", "Be fair.", {"temperature": 0.2}), PAIR)
    finally:
        get_portal().run(client.aclose())
    assert "a" == verdict.winner
    first, second, third = (request.json for request in chats(pair))
    assert ["A", "B", "tie"] == first["format"]["properties"]["choice"]["enum"]
    assert {"temperature": 0.2, "seed": 3} == first["options"]
    assert first == second
    assert "Text A:\nfive" in third["messages"][-1]["content"]


def test_a_dialogue_is_decided(new_dialogue: NewDialogue, pair: ScriptedOllama) -> None:
    """What each said is compared, and the verdict is kept with the dialogue."""

    def reply(request: RecordedRequest) -> Reply:
        if request.model != "judge":
            return Reply(f"turn {request.headers['workbench-turn']}")
        return prefers("turn 1\n\nturn 3")(request)

    pair.set_reply(reply)
    dialogue = new_dialogue(turns=4, judge="judge").run()
    verdict = dialogue.decide()
    assert ("Bob", True) == (verdict.name, verdict.agreed)
    assert ["judge", "judge"] == [aside.kind for aside in dialogue.asides]
    assert "b" == dialogue.transcript.verdicts[0]["winner"]
    told = "judge judged Ann and Bob: Bob (in both orders)"
    for form in (dialogue.to_markdown(), dialogue.to_text(), str(dialogue.to_notebook())):
        assert told in form
    with pytest.raises(ConfigError, match="said nothing"):
        dialogue.decide("Ann", "Zoe")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"choice": "Ann"}', "Ann"),
        (' {"choice": "ann "} ', "Ann"),
        ('{"choice": "[Bob]"}', "Bob"),
        ("Bob", "Bob"),
        ('"Bob"', "Bob"),
        ('{"choice": "Zoe"}', ""),
        ('{"choice": ["Ann"]}', ""),
        ("Ann or Bob", ""),
        ("", ""),
    ],
)
def test_a_choice_is_understood(text: str, expected: str) -> None:
    """A name in JSON or bare, in any case; nothing else."""
    assert expected == choice_in(text, ["Ann", "Bob"])


def test_what_an_order_means() -> None:
    """A and B are the places; a and b are the texts."""
    assert ["a", "b", "b", "a"] == [
        winner_of(choice, order) for order in ("ab", "ba") for choice in ("A", "B")
    ]


def test_what_is_no_judge_is_refused() -> None:
    """A judge needs a model, and options that exist."""
    for wrong in ({"model": ""}, {"modl": "x"}, {"model": "m", "options": {"temprature": 1}}):
        with pytest.raises(ConfigError):
            as_judge(wrong)
    assert as_judge(None) is None
