from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.errors import PlanError
from workbench.plans.expressions import evaluate
from workbench.plans.references import (
    column,
    is_reference,
    is_template,
    malformed_in,
    names_in,
    references_in,
    resolve,
)

SCOPE: dict[str, Any] = {
    "params": {"n": 3, "models": ["a", "b"]},
    "load": {"rows": [{"my-key": 1, "text": "ü"}], "frame": pd.DataFrame({"x": [1, 2]})},
}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("$params.n", 3),
        ("$params.models.1", "b"),
        ("$load.rows.0.my-key", 1),
        ("$load.frame.x", [1, 2]),
        ("n is ${params.n}, ${ load.rows.0.text }", "n is 3, ü"),
        ("${params.models}", '["a", "b"]'),
        ("${load.frame}", "x\n1\n2\n"),
        ({"a": ["$params.n", {"$params.n": "x"}]}, {"a": [3, {"$params.n": "x"}]}),
        ("costs $$5 and $5", "costs $5 and $5"),
        ("$$params.n", "$params.n"),
        ("$${params.n}", "${params.n}"),
        (r"^\d+$", r"^\d+$"),
        ("$params and more", "$params and more"),
        ({"$ref": "#/$defs/a"}, {"$ref": "#/$defs/a"}),
        (7, 7),
    ],
)
def test_references_are_replaced(value: object, expected: object) -> None:
    """A whole reference is the value itself, one within a text is filled in, `$$` is a dollar."""
    assert expected == resolve(value, SCOPE)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("$params.modles", "Did you mean 'models'?"),
        ("$lod.rows", "Did you mean 'load'?"),
        ("$load.rows.7", "a list of 1"),
        ("$params.n.x", "a single value"),
        ("$load.frame.y", "no column 'y'"),
        ("${params.}", "not a reference"),
    ],
)
def test_what_leads_nowhere_is_told(text: str, said: str) -> None:
    """A reference to nothing names what there is."""
    with pytest.raises(PlanError) as caught:
        resolve(text, SCOPE)
    assert said in str(caught.value)


def test_names_are_those_of_roots() -> None:
    """The names of a value are what its references begin with, wherever they stand."""
    assert {"a", "b", "c"} == names_in({"x": ["$a.y", "z ${b} $d", {"$e": "${c.0}"}], "$f": "$$g"})


@pytest.mark.parametrize("text", ["$load.rows[0]", "$params.", "a ${x y} b", "${}", "${open"])
def test_slips_are_found(text: str) -> None:
    """What looks like a reference and is none is found with its place."""
    assert [("a", 0)] == [place for place, _ in malformed_in({"a": [text]})]


@pytest.mark.parametrize("text", ["$$load.rows[0]", "$5", "cost: $ 5", "$load.rows", "^a$", "$"])
def test_dollars_are_no_slips(text: str) -> None:
    """A dollar that begins no reference is a dollar."""
    assert [] == list(malformed_in(text))


def test_kinds_of_text_are_told_apart() -> None:
    """A whole reference, a text with references, and a plain text."""
    texts = ["$a.b", "x ${a.b}", "x $a"]
    assert [True, False, False] == [is_reference(text) for text in texts]
    assert [False, True, False] == [is_template(text) for text in texts]


@given(
    st.recursive(st.text() | st.integers(), lambda x: st.lists(x) | st.dictionaries(st.text(), x))
)
def test_any_value_can_be_searched(value: object) -> None:
    """Every JSON value can be searched, and one without dollars stays as it is."""
    list(references_in(value))
    list(malformed_in(value))
    if "$" not in repr(value):
        assert value == resolve(value, {})


def test_what_is_missing_in_a_column_is_none() -> None:
    """Also in a column of whole numbers, whose NA is neither true nor false."""
    frame = pd.DataFrame({"n": pd.array([1, None], dtype="Int64"), "x": [0.5, float("nan")]})
    assert [[1, None], [0.5, None]] == [column(frame, "n"), column(frame, "x")]
    assert evaluate("t.n[1] is None and t.n[0] == 1", {"t": frame}) is True
