from __future__ import annotations

import re
from pathlib import Path

from workbench.plans import journal

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "journal.md"
_ROW = re.compile(r"^\| \w.*\|$", re.MULTILINE)


def test_the_page_has_every_event_of_the_journal() -> None:
    """The table in the reference is the one that stands beside the code."""
    assert _ROW.findall(journal.__doc__ or "") == _ROW.findall(PAGE.read_text(encoding="utf-8"))


def test_every_event_that_is_written_is_in_the_table() -> None:
    """What the code writes has its row."""
    rows = {row.split("|")[1].strip() for row in _ROW.findall(journal.__doc__ or "")}
    written: set[str] = set()
    modules = ("process", "opening", "runtime", "steps", "unit", "attempt")
    for path in (Path(journal.__file__).with_name(f"{name}.py") for name in modules):
        text = path.read_text(encoding="utf-8")
        written |= set(re.findall(r"\b(?:journal|self)\._?(?:journal\.)?write\(\s*\"(\w+)\"", text))
    assert {"step_started", "run_finished", "request"} <= written
    assert set() == written - rows
