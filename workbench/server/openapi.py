"""The OpenAPI document, made from the table of endpoints and the types of their bodies."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import msgspec

from workbench._version import __version__
from workbench.server.routes.common import Endpoint

_MEDIA = {
    "json": "application/json; charset=utf-8",
    "ndjson": "application/x-ndjson",
    "sse": "text/event-stream",
    "text": "text/plain; charset=utf-8",
}
_MEANING = {
    201: "Made.",
    400: "The request is not as it must be.",
    401: "The token is missing or wrong.",
    403: "The Host, the Origin or the operation is not allowed.",
    404: "There is no such thing; `nearest` lists similar names.",
    408: "The request did not come within `server.slow_client_s`.",
    409: "The name means different models on several backends, or somebody has to agree first.",
    413: "The body is too large.",
    431: "The request line and headers are larger than `server.max_header_bytes`.",
    500: "The model's server failed; `error` holds its reason.",
    501: "The backend cannot do this.",
    502: "The backend cannot be reached, or broke off.",
    503: "Its turn did not come before its deadline.",
    504: "The backend did not answer in time.",
    507: "The model does not fit into memory.",
}
_READS = (400, 413)
_ALWAYS = (401, 403, 408, 431, 500, 502, 504)


def document(endpoints: Iterable[Endpoint]) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of these endpoints."""
    rows = list(endpoints)
    kinds = [row.body for row in rows if row.body is not None]
    _, schemas = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    schemas["Error"] = _error_schema()
    paths: dict[str, Any] = {}
    for row in rows:
        path = row.path.replace(":path}", "}")
        paths.setdefault(path, {})[row.method.lower()] = _operation(row)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Workbench server",
            "version": __version__,
            "description": "One server owns the memory of the GPUs; everything else is a client.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}],
    }


def _operation(row: Endpoint) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": f"{row.method.lower()}_{re.sub(r'[^a-z0-9]+', '_', row.path.lower())}",
        "summary": row.summary,
        "tags": [row.tag],
        "responses": _responses(row),
    }
    parameters = [_parameter(name) for name in re.findall(r"{(\w+)", row.path)]
    parameters += [
        {
            "name": name,
            "in": "query",
            "required": kind.endswith("!"),
            "schema": {"type": kind.rstrip("!")},
        }
        for name, kind in row.query
    ]
    if parameters:
        operation["parameters"] = parameters
    if row.body is not None:
        schema = {"$ref": f"#/components/schemas/{row.body.__name__}"}
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schema}},
        }
    elif row.method == "POST" and "blobs" in row.path:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/octet-stream": {"schema": {}}},
        }
    if row.path == "/":
        operation["security"] = []
    return operation


def _parameter(name: str) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    if name == "digest":
        schema["pattern"] = "^sha256[:-][0-9a-f]{64}$"
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _responses(row: Endpoint) -> dict[str, Any]:
    content: dict[str, Any] = {_MEDIA[kind]: {} for kind in row.answers if kind in _MEDIA}
    good: dict[str, Any] = {"description": "Done."}
    if content:
        good["content"] = content
    reads: tuple[int, ...] = (400,) if row.query else ()
    if row.body is not None or row.path.startswith("/api/blobs"):
        reads = _READS
    responses: dict[str, Any] = {} if 201 in row.statuses else {"200": good}
    # The root needs no token and asks no backend.
    always = _ALWAYS if row.path != "/" else (403,)
    for status in sorted({*reads, *always, *row.statuses}):
        responses[str(status)] = {"description": _MEANING[status]}
        if status >= 400 and row.method != "HEAD":
            responses[str(status)]["content"] = {
                _MEDIA["json"]: {"schema": {"$ref": "#/components/schemas/Error"}}
            }
            if status == 404 and "{" in row.path:
                # A path that cannot be such a name, as one with a line break, is no page at all.
                responses["404"]["content"][_MEDIA["text"]] = {}
    return responses


def _error_schema() -> dict[str, Any]:
    return {
        "type": "object",
        "description": "Ollama's `error` text with our fields, or OpenAI's object on /v1.",
        "properties": {
            "error": {"type": ["string", "object"]},
            "type": {"type": "string"},
            "hint": {"type": ["string", "null"]},
        },
        "required": ["error"],
    }
