"""Patterns: found or not, and never for ever."""

from __future__ import annotations

import pytest

from workbench.errors import PlanError, PlanInvalid
from workbench.plans.parse import parse_plan
from workbench.plans.patterns import search


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        (r"^\d+$", "42", True),
        (r"^\d+$", "forty-two", False),
        ("é$", "café", True),
        ("(?s)a.b", "a\nb", True),
        ("x", "x" * 2_000_000, True),
        ("", "", True),
        ("\ud800", "a lone \ud800", True),
    ],
    ids=["digits", "words", "accent", "flag", "long", "empty", "surrogate"],
)
def test_a_pattern_is_found_somewhere(pattern: str, text: str, found: bool) -> None:
    """It is `re.search`, whatever the text holds."""
    assert found is search(pattern, text)


def test_a_pattern_that_takes_for_ever_is_given_up() -> None:
    """Nested repeats end with an error that says what to do."""
    with pytest.raises(PlanError, match="not decided on a text of 61 characters") as caught:
        search(r"(a+)+$", "a" * 60 + "b", limit_s=0.2)
    assert "(a+)+" in str(caught.value.hint)


@pytest.mark.parametrize(
    "pattern", ["(", "a{99999999999999}", "(" * 3000 + ")" * 3000], ids=["open", "many", "deep"]
)
def test_no_pattern(pattern: str) -> None:
    """What is no pattern is told as such, by a run and by the check of a plan."""
    with pytest.raises(PlanError, match="is no pattern"):
        search(pattern, "text")
    step = f"{{id: a, kind: check, value: text, regex: '{pattern}'}}"
    with pytest.raises(PlanInvalid, match="this is no pattern"):
        parse_plan(f"plan: p\nsteps:\n  - {step}\n")
