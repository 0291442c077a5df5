"""The generated part of `docs/reference/metrics.md`.

Write it anew with `python -m tests.metrics.reference`; a test compares it.
"""

from __future__ import annotations

import re
import sys

from tests.house.files import ROOT
from workbench.metrics.schema import TABLES, Table

PAGE = ROOT / "docs" / "reference" / "metrics.md"
BLOCK = re.compile(r"(<!-- generated: tables -->\n).*?(<!-- end of generated -->)", re.DOTALL)


def table_section(table: Table) -> str:
    """Return a heading, what a row is, and a row for each column."""
    how = "It is written when it begins and again when it ends." if table.opens else ""
    lines = [f"### `{table.name}`", "", table.doc, *([how] if how else []), ""]
    lines += [
        "| Column | Type | Unit | Meaning | OpenTelemetry |",
        "| --- | --- | --- | --- | --- |",
    ]
    for c in table.columns:
        otel = f"`{c.otel}`" if c.otel else ""
        lines.append(f"| `{c.name}` | {c.type} | {c.unit} | {c.doc} | {otel} |")
    return "\n".join(lines)


def renewed(text: str) -> str:
    """Return the page with its generated block made anew."""
    tables = "\n\n".join(map(table_section, TABLES.values()))
    return BLOCK.sub(lambda match: f"{match[1]}\n{tables}\n\n{match[2]}", text)


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"wrote {PAGE.relative_to(ROOT)}", file=sys.stderr)
