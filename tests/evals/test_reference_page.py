"""The page of comparisons and rankings is complete."""

from __future__ import annotations

import inspect
import re

from tests.house.files import ROOT
from workbench.app import Workbench
from workbench.chat.compare import Comparison
from workbench.chat.compare_export import COLUMNS
from workbench.client.api import WorkbenchClient

TEXT = (ROOT / "docs/reference/comparison.md").read_text(encoding="utf-8")


def test_every_method_has_its_row() -> None:
    """Each public method, property and attribute of a comparison has its row."""
    one = Comparison(WorkbenchClient("http://127.0.0.1:9"), ["m"])
    names = {name for name in dir(one) if not name.startswith("_")} - {"viewer"}
    assert names == set(re.findall(r"^\| `comparison\.(\w+)[`(]", TEXT, re.MULTILINE))


def test_every_column_has_its_row() -> None:
    """The columns of the frame are those of the code, in their order."""
    part = TEXT.split("### Columns of a comparison's")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (\w+) \| (.+?) \| ?(.*?) ?\|$", part, re.MULTILINE)
    assert [(name, *kind) for name, kind in COLUMNS.items()] == rows[1:]


def test_every_argument_of_rankings_has_its_row() -> None:
    """Each argument of `wb.rankings()` is explained."""
    part = TEXT.split("\n## Rankings\n")[1]
    rows = re.findall(r"^\| `(\w+)` \|", part, re.MULTILINE)
    assert list(inspect.signature(Workbench.rankings).parameters)[1:] == rows
