"""The generated parts of `docs/reference/plan-file.md` and `step-kinds.md`.

Write them anew with `python -m tests.plans.reference`; a test compares them.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.house.files import ROOT
from workbench.plans.kinds import load_kinds
from workbench.plans.kinds.base import StepKind
from workbench.plans.schema import PARAM, PLAN, PLAN_FIELDS, STEP_FIELDS, field_schema
from workbench.plans.work import FUNCTIONS

FILE_PAGE = ROOT / "docs" / "reference" / "plan-file.md"
KINDS_PAGE = ROOT / "docs" / "reference" / "step-kinds.md"
BLOCK = re.compile(
    r"(<!-- generated: (?P<name>[\w ]+) -->\n).*?(<!-- end of generated -->)", re.DOTALL
)
_WORDS = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "`true` or `false`",
    "array": "list",
    "object": "mapping",
}


def bundled_kinds() -> dict[str, StepKind]:
    """Return the kinds that come with the program; a test may have registered others."""
    package = "workbench.plans.kinds."
    found = load_kinds().items()
    return {name: k for name, k in sorted(found) if type(k).__module__.startswith(package)}


def value_words(schema: Mapping[str, Any]) -> str:
    """Say what values a schema takes, as a table has room for it."""
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(map(value_words, schema["anyOf"])))
    if "type" not in schema:
        return "any value"
    types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    return " or ".join(_WORDS[name] for name in types)


def row(*cells: str) -> str:
    """Return a row of a table."""
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def table(fields: Mapping[str, Mapping[str, Any]], required: list[str]) -> str:
    """Return the fields of a schema as a table."""
    lines = [row("Field", "Value", "Meaning"), row("---", "---", "---")]
    for name, schema in fields.items():
        needed = " Required." if name in required else ""
        lines.append(row(f"`{name}`", value_words(schema), schema["markdownDescription"] + needed))
    return "\n".join(lines)


def functions() -> str:
    """Return the functions of expressions as a table."""
    lines = [row("Function", "Gives"), row("---", "---")]
    return "\n".join([*lines, *(row(f"`{name}`", doc) for name, doc in FUNCTIONS.items())])


def kind_section(kind: StepKind) -> str:
    """Return what a kind does, its fields, and its outputs."""
    lines = [kind.doc, "", row("Field", "Value", "Meaning"), row("---", "---", "---")]
    for name, field in kind.fields.items():
        value = value_words(field_schema(field))
        if field.expression:
            value += ", as expression"
        elif field.literal:
            value += ", without references"
        needed = " Required." if field.required else ""
        lines.append(row(f"`{name}`", value, field.doc + needed))
    outputs = ", ".join(f"`{name}` ({form})" for name, form in kind.default_outputs.items())
    return "\n".join([*lines, "", f"Outputs: {outputs or 'those the step names'}."])


def generated(name: str) -> str:
    """Return what a marked block must hold."""
    tables = {
        "plan fields": lambda: table(PLAN_FIELDS, PLAN["required"]),
        "parameter fields": lambda: table(PARAM["properties"], PARAM["required"]),
        "step fields": lambda: table(STEP_FIELDS, ["id", "kind"]),
        "functions": functions,
    }
    return tables[name]() if name in tables else kind_section(bundled_kinds()[name])


def renewed(page: Path) -> str:
    """Return a page with its generated blocks made anew."""
    return BLOCK.sub(
        lambda match: f"{match[1]}\n{generated(match['name'])}\n\n{match[3]}",
        page.read_text(encoding="utf-8"),
    )


if __name__ == "__main__":
    for reference in (FILE_PAGE, KINDS_PAGE):
        reference.write_text(renewed(reference), encoding="utf-8")
        print(f"wrote {reference.relative_to(ROOT)}", file=sys.stderr)
