"""JSON schemas of plan files.

`plan_schema` is for editors; the parts of it are what `plans.document` reads a plan by, so that an
editor and `workbench plan check` agree.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, get_args

from workbench.plans.spec import PLAN_VERSION, Effects, OnError, OutputType, ParamType

if TYPE_CHECKING:
    from workbench.plans.kinds.base import Field, StepKind

Schema = Mapping[str, Any]

NAME = "^[a-z][a-z0-9_]{0,63}$"
_IDENTIFIER: Schema = {
    "type": "string",
    "pattern": NAME,
    "description": "a name of lower-case letters, digits and _",
}
_EXPRESSION: Schema = {"type": "string", "description": "an expression"}
_REFERENCE: Schema = {"type": "string", "pattern": r"^\$[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z0-9_-]+)*$"}
_SECONDS: Schema = {"type": "number", "exclusiveMinimum": 0, "maximum": 31_536_000}
_WAIT: Schema = {"type": "number", "minimum": 0, "maximum": 86_400}

STEP_FIELDS: Mapping[str, Schema] = {
    "id": {**_IDENTIFIER, "markdownDescription": "Name of the step; others refer to it by it."},
    "kind": {"type": "string", "markdownDescription": "What the step does."},
    "title": {"type": "string", "markdownDescription": "One line for lists, the graph and cells."},
    "needs": {
        "type": "array",
        "items": {"type": "string"},
        "uniqueItems": True,
        "markdownDescription": "Steps that must be done before, beyond those it refers to.",
    },
    "inputs": {
        "type": "object",
        "propertyNames": _IDENTIFIER,
        "markdownDescription": "Values by name, for kinds that take them.",
    },
    "outputs": {
        "anyOf": [
            {"type": "array", "items": _IDENTIFIER, "uniqueItems": True},
            {
                "type": "object",
                "propertyNames": _IDENTIFIER,
                "additionalProperties": {"enum": list(get_args(OutputType))},
            },
        ],
        "description": "a list of names, or a mapping of names to json or parquet",
        "markdownDescription": "Names of its results, each `json` or `parquet`.",
    },
    "foreach": {
        "type": "object",
        "minProperties": 1,
        "propertyNames": _IDENTIFIER,
        "additionalProperties": {
            "anyOf": [{"type": "array"}, _REFERENCE],
            "description": "a list, or a reference to one",
        },
        "markdownDescription": "Variables with lists: the step runs for each combination.",
    },
    "when": {**_EXPRESSION, "markdownDescription": "The step is skipped when this is false."},
    "retries": {
        "anyOf": [
            {"type": "integer", "minimum": 0, "maximum": 100},
            {
                "type": "object",
                "properties": {
                    "times": {"type": "integer", "minimum": 0, "maximum": 100},
                    "backoff_s": _WAIT,
                    "factor": {"type": "number", "minimum": 1, "maximum": 100},
                    "max_s": _WAIT,
                },
                "required": ["times"],
                "additionalProperties": False,
            },
        ],
        "description": "a whole number up to 100, or {times, backoff_s, factor, max_s}",
        "markdownDescription": "How often a failed attempt is made again.",
    },
    "timeout_s": {**_SECONDS, "markdownDescription": "Seconds one attempt may take."},
    "cache": {"type": "boolean", "markdownDescription": "Whether an equal result is taken again."},
    "max_parallel": {
        "type": "integer",
        "minimum": 1,
        "maximum": 1000,
        "markdownDescription": "Items of `foreach` at once.",
    },
    "effects": {
        "enum": list(get_args(Effects)),
        "markdownDescription": "`external`: an attempt that began is not begun again by itself.",
    },
    "on_error": {
        "enum": list(get_args(OnError)),
        "markdownDescription": "What a failed item of `foreach` does: `fail` the step, or `keep`.",
    },
}
"""The fields every step has, whatever its kind."""

PARAM: Schema = {
    "type": "object",
    "properties": {
        "type": {"enum": list(get_args(ParamType)), "markdownDescription": "What values it takes."},
        "default": {"markdownDescription": "Its value when none is given."},
        "required": {
            "type": "boolean",
            "markdownDescription": "`false`: may be left out though it has no default.",
        },
        "help": {"type": "string", "markdownDescription": "One line for forms and the notebook."},
        "choices": {
            "type": "array",
            "items": {"type": "string"},
            "minItems": 1,
            "uniqueItems": True,
            "markdownDescription": "The values of a `choice`.",
        },
        "env": {
            "type": "string",
            "pattern": "^[A-Za-z_][A-Za-z0-9_]*$",
            "description": "the name of an environment variable",
            "markdownDescription": "Environment variable that holds a `secret`.",
        },
    },
    "required": ["type"],
    "additionalProperties": False,
}

PLAN_FIELDS: Mapping[str, Schema] = {
    "plan": {
        "type": "string",
        "pattern": "^[a-z0-9]+(-[a-z0-9]+)*$",
        "maxLength": 64,
        "description": "a name of lower-case letters, digits and hyphens",
        "markdownDescription": "Name of the plan.",
    },
    "plan_version": {
        "type": "integer",
        "minimum": 1,
        "maximum": PLAN_VERSION,
        "markdownDescription": "Version of the form of this file.",
    },
    "goal": {"type": "string", "markdownDescription": "What the plan is for, in Markdown."},
    "params": {"type": "object", "markdownDescription": "Parameters by name."},
    "steps": {"type": "array", "minItems": 1, "markdownDescription": "What is done."},
}
PLAN: Schema = {
    "type": "object",
    "properties": PLAN_FIELDS,
    "required": ["plan", "steps"],
    "additionalProperties": False,
}


def step_schema(kind: StepKind) -> Schema:
    """Return the schema of a step of one kind; what may be a reference is not yet so in it."""
    return {
        "type": "object",
        "properties": {
            **STEP_FIELDS,
            **{name: field_schema(field) for name, field in kind.fields.items()},
        },
        "required": ["id", "kind", *(name for name, f in kind.fields.items() if f.required)],
        "additionalProperties": False,
    }


def field_schema(field: Field) -> Schema:
    """Return the schema of a field of a kind."""
    default: Schema = {"description": "an expression"} if field.expression else {}
    return {**default, **field.schema, "markdownDescription": field.doc}


def plan_schema(kinds: Mapping[str, StepKind]) -> dict[str, Any]:
    """Return the JSON schema (2020-12) of plan files for editors, with these kinds."""
    steps = [_editor_step(kind) for _, kind in sorted(kinds.items())]
    fields = dict(PLAN_FIELDS)
    fields["params"] = {
        **PLAN_FIELDS["params"],
        "propertyNames": _IDENTIFIER,
        "additionalProperties": PARAM,
    }
    fields["steps"] = {
        **PLAN_FIELDS["steps"],
        "items": {
            "type": "object",
            "properties": {
                "kind": {"enum": sorted(kinds), "markdownDescription": _listed(kinds)},
            },
            "required": ["id", "kind"],
            "allOf": steps,
        },
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Plan of the local model workbench",
        **PLAN,
        "properties": fields,
    }


def _editor_step(kind: StepKind) -> dict[str, Any]:
    """Return `if kind is this: then these fields`, which editors complete well."""
    schema = dict(step_schema(kind))
    properties = dict(schema["properties"])
    for name, field in kind.fields.items():
        if not (field.literal or field.expression):
            properties[name] = with_references(properties[name])
    properties["inputs"] = {**STEP_FIELDS["inputs"], "additionalProperties": True}
    return {
        "if": {"properties": {"kind": {"const": kind.name}}, "required": ["kind"]},
        "then": {**schema, "properties": properties},
    }


def _listed(kinds: Mapping[str, StepKind]) -> str:
    return "\n".join(f"- `{name}`: {kind.doc}" for name, kind in sorted(kinds.items()))


_BELOW_ONE = ("items", "additionalProperties", "contains", "not")
_BELOW_LIST = ("anyOf", "oneOf", "allOf", "prefixItems")
_BELOW_MAPPING = ("properties", "patternProperties", "$defs")


def with_references(schema: Schema | bool) -> Schema | bool:
    """Return a schema in which a reference may stand for every value."""
    if isinstance(schema, bool):
        return schema
    inner: dict[str, Any] = dict(schema)
    for name in _BELOW_ONE:
        if isinstance(inner.get(name), Mapping):
            inner[name] = with_references(inner[name])
    for name in _BELOW_LIST:
        if name in inner:
            inner[name] = [with_references(item) for item in inner[name]]
    for name in _BELOW_MAPPING:
        if name in inner:
            inner[name] = {key: with_references(item) for key, item in inner[name].items()}
    names = [name for name in ("markdownDescription", "description") if name in inner]
    about: dict[str, Any] = {name: inner.pop(name) for name in names}
    return {**about, "anyOf": [inner, _REFERENCE]} if inner else about
