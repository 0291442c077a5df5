from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

import workbench
from workbench.chat.dialogue_export import COLUMNS as DIALOGUE_COLUMNS
from workbench.chat.export import COLUMNS
from workbench.messages import StopReason

PAGE = (Path(__file__).parents[2] / "docs/reference/python.md").read_text(encoding="utf-8")


def documented(prefix: str) -> set[str]:
    return set(re.findall(rf"^\| `{prefix}\.(\w+)[`(]", PAGE, re.MULTILINE))


def public(kind: type, *, but: set[str] = frozenset()) -> set[str]:  # type: ignore[assignment]
    return {name for name in dir(kind) if not name.startswith("_")} - but


@pytest.mark.parametrize(
    ("names", "prefix"),
    [
        (public(workbench.Workbench) | {"client", "config"}, "wb"),
        (public(workbench.ChatSession, but={"open", "viewer"}), "session"),
        (public(workbench.WorkbenchClient), "client"),
        (public(workbench.Dialogue, but={"open", "viewer"}), "dialogue"),
    ],
    ids=["Workbench", "ChatSession", "WorkbenchClient", "Dialogue"],
)
def test_the_tables_name_every_method(names: set[str], prefix: str) -> None:
    """Every public method and property of a class has its row, and no row is of another name."""
    assert names == documented(prefix)


def test_the_table_of_stop_reasons_is_complete() -> None:
    """Every ending an answer can have is explained."""
    reasons = set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE))
    assert set(StopReason.__args__) <= reasons  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("heading", "columns"),
    [("### Columns of `to_frame()`", COLUMNS), ("### Columns of a dialogue", DIALOGUE_COLUMNS)],
    ids=["conversation", "dialogue"],
)
def test_the_columns_of_the_frame_are_documented(
    heading: str, columns: Mapping[str, tuple[str, str]]
) -> None:
    """The table of columns is the one the code uses, in its order."""
    part = PAGE.split(heading)[1].split("\n## ")[0]
    rows = re.findall(r"^\| (\w+) \| (.+?) \| ?(.*?) ?\|$", part, re.MULTILINE)
    assert [(name, *kind) for name, kind in columns.items()] == [
        row for row in rows if row[0] != "Column"
    ]
