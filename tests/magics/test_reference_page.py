"""The page of the magics is complete: each magic, option and field has its row."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest
from IPython.core.interactiveshell import InteractiveShell

from tests.house.files import ROOT
from workbench.magics import compare, dialogue
from workbench.magics.completion import LINES
from workbench.magics.line import Line, model_options

TEXT = (ROOT / "docs/reference/magics.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    """Return what stands below a heading."""
    return TEXT.split(f"\n## {title}\n")[1].split("\n## ")[0]


def test_every_magic_has_its_heading(shell: InteractiveShell) -> None:
    """The headings are the magics that `%load_ext workbench` adds, in no other number."""
    added = {
        f"%%{name}"
        for name, magic in shell.magics_manager.magics["cell"].items()
        if getattr(magic, "__module__", "") == "workbench.magics"
    }
    assert added == set(LINES) == set(re.findall(r"^## `(%%\w+)`$", TEXT, re.MULTILINE))


@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
def test_every_option_has_its_row(line: Line) -> None:
    """Each option of a line has its row, with what its value is called and what it does."""
    part = section(f"`{line.magic}`")
    rows = re.findall(r"^\| (?:`-\w`, )?`(--[\w-]+)` \| (\w*) ?\| (.+) \|$", part, re.MULTILINE)
    assert [(o.name, o.metavar, o.help) for o in line.options] == rows
    assert line.takes_models is ("| `MODEL` | |" in part)
    assert bool(line.model_options) is ("options of Ollama's API below" in part)


@pytest.mark.parametrize(
    ("magic", "fields"),
    [
        ("`%%dialogue`", {**dialogue.FIELDS, **dialogue.PARTICIPANT}),
        ("`%%compare`", compare.FIELDS),
    ],
)
def test_every_field_of_a_head_has_its_row(magic: str, fields: Mapping[str, str]) -> None:
    """Each field has its row with what it says."""
    rows = re.findall(r"^\| `([a-z_]+)` \| (.+) \|$", section(magic), re.MULTILINE)
    assert fields == dict(rows)


def test_every_option_of_the_models_has_its_row() -> None:
    """The options of Ollama's API are all there."""
    rows = re.findall(r"^\| `(--[\w-]+)` \| (\w+) \|$", section("Options of Ollama's API"), re.M)
    assert [(option.name, option.metavar) for option in model_options()] == rows
