"""The kinds that lead a run: `decision` and `approval`."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from tests.plans.kinds.conftest import Begin
from tests.plans.kinds.context import problems_of, step_of
from workbench.client.api import WorkbenchClient
from workbench.errors import PlanError, StepFailed
from workbench.plans.kinds import load_kinds
from workbench.plans.kinds.base import Answer, Waiting
from workbench.testing import Reply, ScriptedOllama

BOTH = {"expr": "ask.errors == 0", "then": ["report", "send"], "else": "repair"}


@pytest.mark.parametrize(
    ("errors", "choice", "skipped"),
    [(0, True, {"repair"}), (2, False, {"report", "send"})],
)
def test_an_expression_takes_one_branch(
    begin: Begin, errors: int, choice: bool, skipped: set[str]
) -> None:
    """The steps of the branch that is not taken are skipped, with the reason."""
    done = begin("decision", values={"ask": {"errors": errors}}, **BOTH).run()
    assert {"choice": choice, "by": "expression"} == done.outputs
    assert skipped == set(done.skipped)
    assert {f"s chose {str(choice).lower()}"} == set(done.skipped.values())
    assert done.stop is None


def test_else_stop_ends_the_run(begin: Begin) -> None:
    """With `else: stop` a false expression stops what is left, a true one does not."""
    fields = {"expr": "n > 1", "else": "stop"}
    assert "s chose false" == begin("decision", values={"n": 1}, **fields).run().stop
    assert begin("decision", values={"n": 2}, **fields).run().stop is None


@pytest.mark.parametrize(
    ("value", "summary", "skipped"),
    [
        ("low", "low, by the expression", {"b", "c"}),
        (2, "2, by the expression", {"a", "c"}),
        (None, "else, by the expression", {"a", "b"}),
    ],
)
def test_cases(begin: Begin, value: Any, summary: str, skipped: set[str]) -> None:
    """The value of the expression names its case, as it is written in the plan."""
    fields = {"expr": "level", "cases": {"low": "a", "2": ["b"]}, "else": ["c"]}
    done = begin("decision", values={"level": value}, **fields).run()
    assert (summary, skipped) == (done.summary, set(done.skipped))


def test_a_value_that_is_no_case_fails(begin: Begin) -> None:
    """A value that no case names fails without `else`; expected and found are told."""
    attempt = begin("decision", values={"v": "x"}, expr="v", cases={"low": ["a"], "high": ["b"]})
    with pytest.raises(StepFailed, match="expected one of low, high, found x"):
        attempt.run()
    with pytest.raises(StepFailed, match="to be true or false, found 3"):
        begin("decision", values={"v": 3}, expr="v", then="a").run()
    with pytest.raises(PlanError, match="nothing"):
        begin("decision", values={"v": 3}, expr="nothing > 1", then="a").run()


def test_an_expression_over_a_frame(begin: Begin) -> None:
    """A number of a frame is as good as a number of JSON."""
    frame = pd.DataFrame({"score": [0.5, 0.75]})
    done = begin("decision", values={"t": {"rows": frame}}, expr="max(t.rows.score) > 0.6").run()
    assert True is done.outputs["choice"]


CHOICES = {"model": "m", "prompt": "Ship it?", "choices": {"yes": ["ship"], "no": "stop"}}


def test_a_model_chooses_by_schema(
    begin: Begin, client: WorkbenchClient, ollama: ScriptedOllama
) -> None:
    """The model is held to the names of the choices, and its choice takes the branch."""
    ollama.set_reply(Reply('{"choice": "no"}'))
    attempt = begin("decision", client=client, **CHOICES)
    done = attempt.run()
    assert {"choice": "no", "by": "model"} == done.outputs
    assert ("s chose no", {"ship"}) == (done.stop, set(done.skipped))
    config = attempt.asked[0][2]
    assert config is not None
    assert ["yes", "no"] == config.format["properties"]["choice"]["enum"]


def test_a_choice_of_the_bundled_model(begin: Begin, real: WorkbenchClient) -> None:
    """The engine answers within the schema, so that even a toy makes a choice."""
    done = begin(
        "decision",
        client=real,
        model="toy-tiny",
        prompt="Is 9 larger than 2?",
        choices=["yes", "no"],
        options={"temperature": 0},
    ).run()
    assert done.outputs["choice"] in ("yes", "no")
    assert {} == done.skipped


def test_a_second_answer_may_be_right(
    begin: Begin, client: WorkbenchClient, ollama: ScriptedOllama
) -> None:
    """An answer that is no choice is asked about once more, in the same conversation."""
    ollama.enqueue(Reply("perhaps"), Reply('{"choice": "yes"}'))
    attempt = begin("decision", client=client, **CHOICES)
    assert "yes" == attempt.run().outputs["choice"]
    assert ["user", "assistant", "user"] == [m.role for m in attempt.asked[1][1]]


def test_invalid_twice_is_failed(
    begin: Begin, client: WorkbenchClient, ollama: ScriptedOllama
) -> None:
    """Two answers that are no choice fail the step; no branch is taken by default."""
    ollama.enqueue(Reply("perhaps"), Reply('{"choice": "maybe"}'))
    attempt = begin("decision", client=client, **CHOICES)
    with pytest.raises(StepFailed, match=r"yes, no, found: perhaps \| \{\"choice\": \"maybe\"\}"):
        attempt.run()
    assert 2 == len(attempt.asked)


def test_the_expression_comes_first(
    begin: Begin, client: WorkbenchClient, ollama: ScriptedOllama
) -> None:
    """With both, the model is asked only where the expression gives null."""
    ollama.set_reply(Reply('{"choice": "no"}'))
    expr = "'yes' if n > 5 else None"
    sure = begin("decision", client=client, values={"n": 9}, expr=expr, **CHOICES)
    assert {"choice": "yes", "by": "expression"} == sure.run().outputs
    assert [] == sure.asked
    unsure = begin("decision", client=client, values={"n": 1}, expr=expr, **CHOICES)
    assert {"choice": "no", "by": "model"} == unsure.run().outputs


def test_branches_and_repeatable() -> None:
    """Every step a decision may choose is told once, and only a drawn choice is not repeatable."""
    kind = load_kinds()["decision"]
    assert ["report", "send", "repair"] == list(kind.branches(step_of("decision", **BOTH)))
    assert ["ship"] == list(kind.branches(step_of("decision", **CHOICES)))
    assert kind.repeatable(BOTH)
    assert not kind.repeatable(CHOICES)
    assert kind.repeatable({**CHOICES, "options": {"seed": 1}})


@pytest.mark.parametrize(
    ("fields", "line", "said"),
    [
        ({}, 1, "needs `expr` or `model`"),
        ({"model": "m", "choices": ["a", "b"]}, 5, "needs `prompt`"),
        ({"model": "m", "prompt": "?"}, 5, "needs `choices`"),
        ({**CHOICES, "else": "x"}, 4, "`else` does not go with a model"),
        ({"expr": "a", "choices": ["a", "b"]}, 6, "`choices` is for a model"),
        ({"expr": "a", "then": "x", "cases": {"a": "y"}}, 7, "do not go together"),
        ({"expr": "a", "else": ["stop", "x"]}, 4, "`stop` stands alone"),
        ({**CHOICES, "choices": ["a"]}, 6, "two choices"),
        ({"expr": "a", "then": "x", "foreach": {"m": [1]}}, 8, "runs once"),
    ],
)
def test_problems_of_decisions(fields: dict[str, Any], line: int, said: str) -> None:
    """Fields that do not go together are told with their line."""
    lines = {"": 1, "expr": 2, "then": 3, "else": 4, "model": 5, "choices": 6, "cases": 7}
    found = problems_of(step_of("decision", lines={**lines, "foreach": 8}, **fields))
    assert [(line, True)] == [(number, said in text) for number, text in found]


def test_approval_waits(begin: Begin) -> None:
    """Without an answer the step waits, and shows what it was told to, frames as rows."""
    frame = pd.DataFrame({"a": range(60)})
    with pytest.raises(Waiting) as caught:
        begin("approval", ask="Ship it?", show=[frame, "x"]).run()
    assert "Ship it?" == caught.value.ask
    assert {"rows", "total"} == set(caught.value.show[0])
    assert (50, 60) == (len(caught.value.show[0]["rows"]), caught.value.show[0]["total"])


def test_approval_answered(begin: Begin) -> None:
    """A yes is done, a no is a failure that names who and why; neither time nor name is content."""
    yes = Answer(True, "ada", "2026-01-01T00:00:00Z", "looks good")
    done = begin("approval", ask="?", answer=yes).run()
    assert {"approved": True, "note": "looks good"} == done.outputs
    with pytest.raises(StepFailed, match="refused by bob: too slow"):
        begin("approval", ask="?", answer=Answer(False, "bob", "now", "too slow")).run()
    kind = load_kinds()["approval"]
    assert not kind.repeatable({})
    assert {"text/plain": "approved: looks good"} == kind.mimebundle(done.outputs, {})
    assert 1 == len(problems_of(step_of("approval", ask="?", foreach={"a": [1]})))
