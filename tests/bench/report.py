"""Figures, the table that is printed, and the page they are recorded on."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import psutil

PAGE = Path(__file__).parents[2] / "docs" / "benchmarks.md"
_INTRO = """# Benchmarks

`make bench` measures these figures and writes this page.
`make matrix` writes the table of ipykernels.
Each stands beside a named peer, limit or floor of the same run: trust the ratios, not the seconds.
"""


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure.

    Attributes:
        name: What was measured.
        value: The figure itself, in `unit`.
        beside: What it is compared with, and that figure.
        reached: Whether the target was reached; `None` when there is none.
        target: The target in words.
    """

    name: str
    value: float
    unit: str
    beside: str = ""
    target: str = ""
    reached: bool | None = None

    def cells(self) -> tuple[str, ...]:
        """Return the row of the table."""
        verdict = {True: "yes", False: "no", None: ""}[self.reached]
        return (self.name, f"{_round(self.value)} {self.unit}", self.beside, self.target, verdict)


HEADER = ("figure", "measured", "beside it", "target", "reached")


def _round(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def table(figures: Iterable[Figure]) -> str:
    """Return the figures as an aligned table that is also Markdown."""
    return aligned([HEADER, *(figure.cells() for figure in figures)])


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Return rows, the first of them the head, as an aligned Markdown table."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def record(section: str, figures: Sequence[Figure], notes: Sequence[str]) -> None:
    """Write one section of the page; the other sections stay as they are."""
    record_table(section, table(figures), notes)


def record_table(section: str, rows: str, notes: Sequence[str]) -> None:
    """Write a table of another kind as a section of the page."""
    page = PAGE.read_text(encoding="utf-8") if PAGE.exists() else _INTRO
    text = "\n".join([f"## {section}", "", environment(), "", rows, "", *notes, "", ""])
    pattern = re.compile(rf"^## {re.escape(section)}\n.*?(?=^## |\Z)", re.DOTALL | re.MULTILINE)
    if pattern.search(page):
        page = pattern.sub(lambda _: text, page)
    else:
        page = page.rstrip() + "\n\n" + text
    PAGE.write_text(page.rstrip() + "\n", encoding="utf-8")


def environment() -> str:
    """Return when and on what it was measured."""
    load = psutil.getloadavg()[0]
    return (
        f"Measured {datetime.now(UTC):%Y-%m-%d} on {platform.system()} {platform.machine()}, "
        f"{psutil.cpu_count()} cores, load {load:.1f}, Python {platform.python_version()}, "
        f"httpx {version('httpx')}, uvicorn {version('uvicorn')}, "
        f"xllamacpp {version('xllamacpp')}, ollama client {version('ollama')}."
    )


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which `share` (0 to 1) of the values lie; nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
