from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tests.house.files import ROOT
from tests.plans.reference import BLOCK, FILE_PAGE, KINDS_PAGE, bundled_kinds, renewed
from workbench.errors import PlanInvalid
from workbench.plans.parse import parse_plan
from workbench.plans.schema import STEP_FIELDS

EXAMPLE = re.compile(r"^```yaml\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", [FILE_PAGE, KINDS_PAGE], ids=lambda page: page.name)
def test_reference_is_current(page: Path) -> None:
    """The generated blocks are those of today; `python -m tests.plans.reference` renews them."""
    assert renewed(page) == page.read_text(encoding="utf-8")


def test_every_kind_has_its_section() -> None:
    """Each kind has a heading, a generated block and an example."""
    text = KINDS_PAGE.read_text(encoding="utf-8")
    assert set(bundled_kinds()) == {match["name"] for match in BLOCK.finditer(text)}
    assert [] == [name for name in bundled_kinds() if f"\n## `{name}`\n" not in text]
    assert [] == [name for name in bundled_kinds() if f"kind: {name}\n" not in text]


def test_examples_of_plans_are_good() -> None:
    """The whole plan on the page of plan files is one."""
    text = FILE_PAGE.read_text(encoding="utf-8")
    wholes = [e for e in EXAMPLE.findall(text) if "\nsteps:" in e]
    assert 1 == len(wholes)
    assert ["ask", "enough", "lengths", "chart"] == [s.id for s in parse_plan(wholes[0]).steps]


def test_examples_of_kinds_are_steps() -> None:
    """Each example of a kind has sound fields; what it does not show is missing."""
    for example in EXAMPLE.findall(KINDS_PAGE.read_text(encoding="utf-8")):
        plan = {"plan": "p", "steps": yaml.safe_load(example)}
        try:
            parse_plan(yaml.safe_dump(plan))
        except PlanInvalid as exc:
            told = [problem.message for problem in exc.problems]
            assert [] == [m for m in told if "there is no" not in m], example


def test_no_kind_takes_a_field_of_every_step() -> None:
    """A field of a kind is not one that every step has."""
    taken = {name: set(kind.fields) & set(STEP_FIELDS) for name, kind in bundled_kinds().items()}
    assert {name: set() for name in taken} == taken


def test_every_field_of_a_kind_is_described() -> None:
    """Kinds and fields say what they are in sentences."""
    for name, kind in bundled_kinds().items():
        assert kind.doc.endswith("."), name
        assert [] == [f for f, about in kind.fields.items() if not about.doc.endswith(".")], name


def test_the_tutorial_tells_what_check_tells() -> None:
    """The plan of the tutorial is good, and its mistakes are told as the page says."""
    text = (ROOT / "docs" / "tutorial" / "checked-plan.md").read_text(encoding="utf-8")
    [plan] = EXAMPLE.findall(text)
    assert ["cities", "ask", "right", "release"] == [s.id for s in parse_plan(plan).steps]
    wrong = plan.replace("$cities.rows", "$cites.rows").replace("retries: 2", "retrys: 2")
    with pytest.raises(PlanInvalid) as caught:
        parse_plan(wrong, path="capitals.yaml")
    told = "\n".join(str(problem) for problem in caught.value.problems)
    assert f"```text\n{told}\n```" in text
