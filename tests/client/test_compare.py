"""Where two JSON values differ, and how that is told."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.client.compare import ABSENT, differences, first_index

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("a", "b", "told"),
    [
        (
            {"x": [1, {"y": "abc"}]},
            {"x": [1, {"y": "abd"}]},
            'x[1].y, character 2: "abc" and "abd"',
        ),
        ({"x": 1}, {}, "x: 1 and absent"),
        ([1], [1, 2], "[1]: absent and 2"),
        ({"x": None}, {"x": 0}, "x: null and 0"),
        (True, 1, "the value: true and 1"),
        ("a" * 99 + "b", "a" * 99, 'the value, character 99: …"' + "a" * 24 + 'b" and …"'),
    ],
)
def test_the_place_is_told(a: Any, b: Any, told: str) -> None:
    """A difference names its path, both values, and of texts the first character."""
    (found,) = differences(a, b)
    assert str(found).startswith(told)


@given(values)
def test_a_value_does_not_differ_from_itself(value: Any) -> None:
    """Not even where it is NaN."""
    assert [] == list(differences(value, value))
    assert [] == list(differences({"n": math.nan, "one": 1}, {"n": math.nan, "one": 1.0}))


@given(st.text(), st.text())
def test_first_character_that_differs(a: str, b: str) -> None:
    """Before it both texts are equal, and there they are not."""
    index = first_index(a, b)
    if index is None:
        assert a == b
    else:
        assert a[:index] == b[:index] and a[index : index + 1] != b[index : index + 1]


def test_what_is_absent_is_no_null() -> None:
    """A field that is not there is another thing than one that is null."""
    (found,) = differences({}, {"x": None})
    assert (ABSENT, None) == (found.a, found.b)
