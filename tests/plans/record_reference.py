"""The generated part of `docs/reference/record.md`.

Write it anew with `python -m tests.plans.record_reference`; a test compares it.
"""

from __future__ import annotations

import re
import sys

from tests.house.files import ROOT
from workbench.plans.record_fields import FIELDS

PAGE = ROOT / "docs" / "reference" / "record.md"
BLOCK = re.compile(r"(<!-- generated: fields -->\n).*?(<!-- end of generated -->)", re.DOTALL)


def renewed(text: str) -> str:
    """Return the page with its generated block made anew."""
    rows = [f"| `{path}` | {meaning} |" for path, meaning in FIELDS.items()]
    table = "\n".join(["| Field | Meaning |", "| --- | --- |", *rows])
    return BLOCK.sub(lambda match: f"{match[1]}\n{table}\n\n{match[2]}", text)


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"wrote {PAGE.relative_to(ROOT)}", file=sys.stderr)
