from __future__ import annotations

import re

from tests.metrics.reference import PAGE, renewed
from workbench.metrics import Metrics
from workbench.metrics.queries import Questions
from workbench.metrics.schema import TABLES
from workbench.metrics.views import MACROS, VIEWS

TEXT = PAGE.read_text(encoding="utf-8")


def test_the_tables_are_current() -> None:
    """The generated block is that of today; `python -m tests.metrics.reference` renews it."""
    assert renewed(TEXT) == TEXT


def test_every_column_is_described() -> None:
    """Each table has a heading, and each of its columns a row with type, unit and meaning."""
    for table in TABLES.values():
        part = TEXT.split(f"\n### `{table.name}`\n")[1].split("\n### ")[0]
        rows = re.findall(r"^\| `(\w+)` \| (\S+) \| (.*?) \| (.+?) \| ", part, re.MULTILINE)
        assert [(c.name, c.type, c.unit, c.doc) for c in table.columns] == rows


def test_every_column_of_a_view_is_described(metrics: Metrics) -> None:
    """Each view has a heading, and each of its columns a row."""
    for view in VIEWS:
        part = TEXT.split(f"\n### `{view}`\n")[1].split("\n### ")[0]
        rows = re.findall(r"^\| `(\w+)` \| (\S+) \| ", part, re.MULTILINE)
        frame = metrics.sql(f"DESCRIBE {view}")
        assert list(zip(frame["column_name"], frame["column_type"], strict=True)) == rows


def test_every_question_is_described() -> None:
    """Each named question, method and function has its row."""
    rows = set(re.findall(r"^\| `(?:metrics\.)?(\w+)\(", TEXT, re.MULTILINE))
    public = {name for name in dir(Metrics) if not name.startswith("_")} - {"folder"}
    assert {name for name in vars(Questions) if not name.startswith("_")} <= public | {"sql"}
    assert public | set(MACROS) | {"open"} == rows
