"""The page about the HTTP API: what the OpenAPI document says, below a written introduction.

`python -m workbench.server.reference docs/reference/http.md` writes it anew; a test compares.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

MARK = "<!-- Below this line `python -m workbench.server.reference` writes. -->"


def page(text: str, document: Mapping[str, Any]) -> str:
    """Return the page with all below its mark made anew.

    There is a heading for every endpoint and for every type of a body.
    """
    head, _, _ = text.partition(MARK)
    lines = [head + MARK, ""]
    tag = ""
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if operation["tags"][0] != tag:
                tag = operation["tags"][0]
                lines += [f"## {tag} endpoints", ""]
            lines += _endpoint(f"{method.upper()} {path}", operation)
    lines += ["## Bodies", ""]
    for name, schema in document["components"]["schemas"].items():
        lines += _body(name, schema)
    return "\n".join(lines).rstrip() + "\n"


def _endpoint(title: str, operation: Mapping[str, Any]) -> Iterator[str]:
    yield f"### `{title}`"
    yield ""
    yield f"{operation['summary'].rstrip('.?')}."
    body = operation.get("requestBody")
    if body is not None:
        kind, content = next(iter(body["content"].items()))
        yield f"Body: {_type(content['schema']) if content['schema'] else f'`{kind}`'}."
    asked = [
        f"`{item['name']}` ({_type(item['schema'])}{', needed' if item['required'] else ''})"
        for item in operation.get("parameters", ())
        if item["in"] == "query"
    ]
    if asked:
        yield f"Query: {', '.join(asked)}."
    good = next(iter(operation["responses"].values()))
    kinds = " or ".join(f"`{kind.partition(';')[0]}`" for kind in good.get("content", ()))
    yield f"Answer: {kinds or 'empty'}."
    yield f"Statuses: {', '.join(operation['responses'])}."
    yield ""


def _body(name: str, schema: Mapping[str, Any]) -> Iterator[str]:
    yield f"### {name}"
    yield ""
    if "description" in schema:
        # The first paragraph; a sentence on a line of its own.
        yield schema["description"].partition("\n\n")[0].replace("\n", " ")
        yield ""
    required = schema.get("required", ())
    yield "| Field | Type | |"
    yield "|---|---|---|"
    for field, value in schema["properties"].items():
        yield f"| `{field}` | {_type(value)} | {'needed' if field in required else ''} |"
    yield ""


def _type(schema: Mapping[str, Any]) -> str:
    """Return a type in words; types of ours are links to their headings."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(_type(choice) for choice in schema["anyOf"])
    if "enum" in schema:
        return " or ".join(f"`{_shown(value)}`" for value in schema["enum"])
    kind = schema.get("type", "anything")
    if isinstance(kind, list):
        return " or ".join(kind)
    if kind == "array":
        return f"array of {_type(schema.get('items', {}))}"
    return str(kind)


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def main(path: Path) -> None:
    """Write the page anew."""
    from workbench.server.app import ENDPOINTS
    from workbench.server.openapi import document

    path.write_text(page(path.read_text(encoding="utf-8"), document(ENDPOINTS)), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
