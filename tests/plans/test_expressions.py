from __future__ import annotations

import time
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.errors import PlanError, PlanProblem
from workbench.plans.expressions import LONGEST, check_expression, evaluate, paths_in
from workbench.plans.work import FUNCTIONS

SCOPE: dict[str, Any] = {
    "params": {"n": 3, "name": "Ada", "none": None},
    "ask": {
        "errors": 0,
        "text": ["yes", "no"],
        "table": [{"ok": True, "score": 0.5}, {"ok": False, "score": 1.5}],
        "odd-key": 1,
    },
    "load": {"frame": pd.DataFrame({"x": [1.0, 2.0, None], "t": ["a", "b", "c"]})},
    "many": list(range(100_000)),
}
# What a computation may take here, in seconds; it is stopped by work and not by time.
PATIENCE_S = 30.0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ask.errors == 0", True),
        ("params.n > 2 and params.name == 'Ada'", True),
        ("1 < params.n <= 2", False),
        ("params.none is None", True),
        ("ask['odd-key'] + 1", 2),
        ("ask.text[0]", "yes"),
        ("ask.text[-1:]", ["no"]),
        ("'a' in params.name", True),
        ("params.name in ['Ada', 'Bob']", True),
        ("'errors' not in ask", False),
        ("mean(r.score for r in ask.table)", 1.0),
        ("all(r.ok for r in ask.table)", False),
        ("sum(r.ok for r in ask.table) / len(ask.table)", 0.5),
        ("[r.score for r in ask.table if not r.ok]", [1.5]),
        ("max(ask.table[0].score, 2)", 2),
        ("min([], default=None)", None),
        ("sorted([3, 1, 2], reverse=True)", [3, 2, 1]),
        ("round(2.345, 1) if params.n else 0", 2.3),
        ("lower(strip('  A '))", "a"),
        ("int('7') + float('0.5')", 7.5),
        ("str(3) + 'x'", "3x"),
        ("7 // 2 * 2 + 7 % 2 - -1", 8),
        ("load.frame.x", [1.0, 2.0, None]),
        ("len(load.frame)", 3),
        ("abs(-2)", 2),
        ("any(x == 'b' for x in load.frame['t'])", True),
        ("params['n'] * 1.5", 4.5),
        ("(\n  params.n\n  == 3\n)", True),
    ],
)
def test_expressions_have_their_values(text: str, expected: object) -> None:
    """The language computes as Python does."""
    assert expected == evaluate(text, SCOPE)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os')",
        "().__class__",
        "params.__class__",
        "ask.text.append(1)",
        "lambda: 1",
        "f'{params}'",
        "(x := 1)",
        "2 ** 9",
        "{'a': 1}",
        "{1, 2}",
        "print(1)",
        "open('x')",
        "len(*[1])",
        "sorted([1], key=len)",
        "await x",
        "1 if",
        "a b",
        "",
        "x = 1",
        "import os",
        "1 << 3",
        "~1",
        "b'x'",
        "...",
        "1j",
        "[a for a, b in x]",
        "[a async for a in x]",
        "$params.n == 1",
        "9" * 200,
        "-" * 1500 + "1",
        "(" * 300 + ")" * 300,
        "a" * (LONGEST + 1),
        "a" + ".a" * 60,
        "\0",
    ],
)
def test_everything_else_is_refused(text: str) -> None:
    """What is not on the list is refused before anything is computed."""
    assert isinstance(check_expression(text), PlanProblem)
    with pytest.raises(PlanError):
        evaluate(text, SCOPE)


def test_dollar_is_explained() -> None:
    """Who writes a reference in an expression is told that names stand without `$`."""
    found = check_expression("$ask.errors == 0")
    assert isinstance(found, PlanProblem)
    assert "without `$`" in str(found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("'' or 'nobody'", True),
        ("'Ada' or 'nobody'", True),
        ("'Ada' and 0", False),
        ("[] or 0 or None", False),
        ("'Ada' if 'Ada' else 'nobody'", "Ada"),
    ],
)
def test_and_and_or_give_a_truth_value(text: str, expected: Any) -> None:
    """Never an operand, as the reference of plan files says."""
    found = evaluate(text, {})
    assert (type(expected), expected) == (type(found), found)


def test_names_are_found() -> None:
    """Names are the free ones; paths go as deep as the text says."""
    text = "len([r for r in ask.table if r.x == params.n]) > m['k'][0].z and ask[i] == 1"
    assert {"ask", "params", "m", "i"} == check_expression(text)
    expected = {("ask", "table"), ("params", "n"), ("m", "k", "0", "z"), ("ask",), ("i",)}
    assert expected == set(paths_in(text))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ask.eror", "Did you mean 'errors'?"),
        ("asks.errors", "Did you mean 'ask'?"),
        ("ask.table[0].skore", "Did you mean 'score'?"),
        ("ask.text[5]", "2 items"),
        ("params.name[3]", "3 characters"),
        ("params.name[-4] == ''", "3 characters"),
        ("params.name[True]", "no True"),
        ("params.name > 1", "a text and a number have no order"),
        ("1 / 0", "division by zero"),
        ("mean([])", "mean of nothing"),
        ("len(1)", "does not work with a number"),
        ("params.name * 3", "does not work with a text"),
        ("load.frame == 1", "whole table"),
        ("sum(ask.text)", "is not a number"),
        ("load.frame.y", "no column 'y'"),
    ],
)
def test_failures_are_told(text: str, said: str) -> None:
    """What cannot be computed names the expression and the reason."""
    with pytest.raises(PlanError) as caught:
        evaluate(text, SCOPE)
    assert said in str(caught.value)
    assert text in str(caught.value)


_DOUBLING = (
    "[z for a in [[0, 0]] "
    + " ".join(
        f"for {new} in [[{old}, {old}]]"
        for old, new in zip("abcdefghijklmnopqrs", "bcdefghijklmnopqrst", strict=True)
    )
    + " for z in [t == t, sorted([t, t]) == [t, t]]]"
)


@pytest.mark.parametrize(
    "text",
    [
        "[1 for a in many for b in many]",
        "sum(1 for a in many for b in many for c in many)",
        "len([many == many for a in many])",
        "[sorted(many) for a in many]",
        "[x in many for x in many]",
        _DOUBLING,
        " + ".join(["[s + s for s in ['" + "a" * 500 + "'] for i in many]"]),
        "1 " + "* 10000000000" * 30,
        "round(1, 0 - 1000000000)",
        "int('9' + '9999999999999999999999999999999999999999')",
    ],
    ids=range(10),
)
def test_work_is_limited(text: str) -> None:
    """Expressions that would take ages or all memory are stopped."""
    began = time.monotonic()
    with pytest.raises(PlanError):
        evaluate(text, SCOPE)
    assert time.monotonic() - began < PATIENCE_S


_ATOMS = st.sampled_from(
    ["1", "0", "2.5", "'a'", "None", "True", "params.n", "params.name", "ask.text", "ask.table",
     "x", "ask", "many", "load.frame", "load.frame.x", "[]", "'\\d'", "params['n']"]
)  # fmt: skip


def _grown(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    operators = ["+", "-", "*", "/", "//", "%", "==", "!=", "<", ">=", "in", "not in", "and", "or",
                 "is", "**", "@", "<<"]  # fmt: skip
    return st.one_of(
        st.builds("({} {} {})".format, inner, st.sampled_from(operators), inner),
        st.builds("{}({})".format, st.sampled_from([*FUNCTIONS, "eval"]), inner),
        st.builds("{}({}, {})".format, st.sampled_from(list(FUNCTIONS)), inner, inner),
        st.builds("[{} for x in {} if {}]".format, inner, inner, inner),
        st.builds("({} if {} else {})".format, inner, inner, inner),
        st.builds("{}[{}]".format, inner, inner),
        st.builds("{}[{}:{}]".format, inner, inner, inner),
        st.builds("not {}".format, inner),
        st.builds("(-{})".format, inner),
        st.builds("{}.{}".format, inner, st.sampled_from(["n", "text", "__class__", "x"])),
    )


@settings(max_examples=300)
@given(st.recursive(_ATOMS, _grown, max_leaves=12))
def test_only_plan_errors_come_out(text: str) -> None:
    """Whatever stands in an expression, it has a plain value or fails as a plan does."""
    scope = {**SCOPE, "many": list(range(200))}
    try:
        value = evaluate(text, scope)
    except PlanError:
        return
    assert value is None or isinstance(value, bool | int | float | str | list | dict | pd.DataFrame)


@settings(max_examples=200)
@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=60))
def test_any_text_is_judged(text: str) -> None:
    """Any text is an expression with names, or a problem that can be shown."""
    found = check_expression(text)
    assert isinstance(found, frozenset) or str(found)
