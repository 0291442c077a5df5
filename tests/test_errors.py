"""The classes of errors and their page."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from workbench import errors
from workbench.errors import SwapPlan, SwapRequired, WorkbenchError

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "errors.md"
CLASSES = [
    item
    for item in vars(errors).values()
    if inspect.isclass(item) and issubclass(item, WorkbenchError)
]


def test_every_class_has_its_heading() -> None:
    """The page has one heading for each class and no other, and says what it is a kind of."""
    text = PAGE.read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    assert {item.__name__ for item in CLASSES} == set(sections)
    wrong = [
        item.__name__
        for item in CLASSES
        if item is not WorkbenchError
        and f"A kind of `{item.__mro__[1].__name__}`." not in sections[item.__name__]
    ]
    assert not wrong


@pytest.mark.parametrize("item", CLASSES, ids=lambda item: item.__name__)
def test_class_says_when_it_is_raised(item: type[WorkbenchError]) -> None:
    """Its docstring begins with when it is raised."""
    assert (inspect.getdoc(item) or "").startswith("Raised when ")


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("idle", "swap=True (workbench load --swap), or let the server decide: set swap.b to auto"),
        ("foreign", "Another program loaded y. Load it with swap=True"),
        ("pinned", "y is pinned: free it, or load with force=True (workbench load --force)"),
        ("leased", "y is leased: free it, or load with force=True (workbench load --force)"),
    ],
)
def test_a_swap_says_which_consent_it_needs(reason: str, said: str) -> None:
    """What is pinned or leased needs more than what is idle or another program's."""
    plan: SwapPlan = {
        "model": "x",
        "backend": "b",
        "evict": [
            {"model": "z", "backend": "b", "bytes": 1, "reload_s": 1.0, "reason": "idle"},
            {"model": "y", "backend": "b", "bytes": None, "reload_s": None, "reason": reason},
        ],
        "needed_bytes": 2,
        "free_bytes": 1,
        "estimated_s": None,
    }
    error = SwapRequired(plan)
    assert "model 'x' fits only when z, y leaves memory" == error.message
    assert said in str(error.hint)
