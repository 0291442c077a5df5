from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from tests.house.files import files_under, relative
from tests.plans import tiny
from workbench.errors import PlanInvalid
from workbench.plans.conform import violations
from workbench.plans.kinds import load_kinds
from workbench.plans.parse import parse_plan
from workbench.plans.schema import plan_schema, with_references

assert tiny

GOOD = """
plan: p
plan_version: 1
goal: x
params:
  n: {type: float, default: 0.5}
  key: {type: secret, env: KEY}
steps:
  - id: one
    kind: tiny_ask
    model: $params.name
    prompt: x ${params.n}
    foreach: {x: [1, 2], y: $params.names}
    options: {temperature: $params.n, stop: [$x], seed: 7, mode: $y}
    retries: {times: 2, backoff_s: 1}
    outputs: {text: json, frame: parquet}
    data: [1, {a: $x}]
  - {id: two, kind: tiny_pick, cases: {one: "params.n > 1"}}
"""


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    """Return a validator of the schema that editors use."""
    schema = plan_schema(load_kinds())
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def test_good_plans_are_valid(validator: Draft202012Validator) -> None:
    """A plan with every kind of value and reference is valid for an editor."""
    assert [] == [e.message for e in validator.iter_errors(yaml.safe_load(GOOD))]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("plan: p\n", "plan: P p\n"),
        ("plan: p\n", ""),
        ("plan_version: 1", "plan_version: 2"),
        ("type: float", "type: flaot"),
        ("env: KEY", "env: a b"),
        ("  n: {", "  N: {"),
        ("id: one", "id: One"),
        ("kind: tiny_ask", "kind: tiny_aks"),
        ("    model: $params.name\n", ""),
        ("model: $params.name", "modle: x"),
        ("temperature: $params.n", "temperature: hot"),
        ("temperature: $params.n", "temperature: -1"),
        ("mode: $y", "mode: fasst"),
        ("seed: 7", "sed: 7"),
        ("stop: [$x]", "stop: [1]"),
        ("x: [1, 2]", "x: 5"),
        ("times: 2", "tims: 2"),
        ("frame: parquet", "frame: csv"),
        ("cases: {one", "case: {one"),
    ],
)
def test_broken_plans_are_not_valid(validator: Draft202012Validator, old: str, new: str) -> None:
    """What `check` refuses by its form, an editor marks too."""
    assert old in GOOD
    broken = GOOD.replace(old, new)
    assert list(validator.iter_errors(yaml.safe_load(broken)))
    with pytest.raises(PlanInvalid):
        parse_plan(broken)


@pytest.mark.parametrize("path", files_under("data/plans", "*.yaml"), ids=relative)
def test_bundled_plans_are_valid(validator: Draft202012Validator, path: Any) -> None:
    """Every plan that comes with the program is valid for an editor."""
    found = validator.iter_errors(yaml.safe_load(path.read_text(encoding="utf-8")))
    assert [] == [f"{error.json_path}: {error.message}" for error in found]


def test_schema_describes_every_field(validator: Draft202012Validator) -> None:
    """Every field an editor completes says what it is."""
    schema: Any = validator.schema
    fields = dict(schema["properties"])
    for step in schema["properties"]["steps"]["items"]["allOf"]:
        fields |= step["then"]["properties"]
    assert [] == [name for name, field in fields.items() if not field.get("markdownDescription")]


@pytest.mark.parametrize(
    ("schema", "value", "expected"),
    [
        ({"type": "integer"}, "$a.b", []),
        ({"type": "integer"}, "${a.b}", ["x must be a whole number"]),
        ({"type": "string", "pattern": "^z"}, "${a.b}", []),
        ({"enum": ["a"]}, "$a.b", []),
        ({"type": "array", "items": {"type": "number"}}, [1, "$a", "b"], ["x.2 must be a number"]),
        ({"anyOf": [{"type": "null"}, {"type": "integer", "minimum": 3}]}, 2, ["at least 3"]),
        ({"anyOf": [{"type": "null"}, {"type": "integer"}]}, "q", ["null or a whole number"]),
        ({"type": ["null", "integer"]}, "q", ["null or a whole number"]),
        ({"const": 5}, 4, ["must be 5, not 4"]),
        ({"minLength": 1}, "", ["must not be empty"]),
        ({"required": ["a", "b"]}, {}, ["'a' is missing", "'b' is missing"]),
    ],
)
def test_violations_are_told_in_words(schema: Any, value: object, expected: list[str]) -> None:
    """What a value does against its schema is told by name; a reference may stand anywhere."""
    told = [found.message for found in violations(schema, value, name="x", references=True)]
    assert len(expected) == len(told)
    assert all(part in message for part, message in zip(expected, told, strict=True))


def test_references_may_stand_for_every_value() -> None:
    """The schema of an editor takes a reference at every depth, and nothing else that is wrong."""
    inner = {"type": "object", "properties": {"a": {"type": "array", "items": {"enum": [1]}}}}
    check = Draft202012Validator(with_references(inner))
    assert all(check.is_valid(good) for good in ("$x", {"a": "$x.y"}, {"a": [1, "$x"]}))
    assert not any(check.is_valid(bad) for bad in ("x", {"a": "x"}, {"a": [2]}, {"a": ["${x}"]}))


_SIMPLE: st.SearchStrategy[Any] = (
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.sampled_from([0.5, 1.0, "", "a", "ab", "b1"])
)
_VALUES = st.recursive(
    _SIMPLE,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "b", "cc"]), inner, max_size=3)
    ),
    max_leaves=8,
)
_TYPES = st.sampled_from(["string", "integer", "number", "boolean", "array", "object", "null"])
_SIZES = st.integers(0, 3)


def _schemas(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries(
        {},
        optional={
            "type": _TYPES | st.lists(_TYPES, min_size=1, max_size=2, unique=True),
            "enum": st.lists(_VALUES, min_size=1, max_size=3),
            "const": _VALUES,
            "pattern": st.sampled_from(["^a", "b$", "[0-9]"]),
            "description": st.just("something"),
            "minimum": _SIZES,
            "maximum": _SIZES,
            "exclusiveMinimum": _SIZES,
            "exclusiveMaximum": _SIZES,
            "minLength": _SIZES,
            "maxLength": _SIZES,
            "minItems": _SIZES,
            "maxItems": _SIZES,
            "uniqueItems": st.booleans(),
            "minProperties": _SIZES,
            "maxProperties": _SIZES,
            "required": st.lists(st.sampled_from(["a", "b"]), unique=True),
            "properties": st.dictionaries(st.sampled_from(["a", "b"]), inner, max_size=2),
            "additionalProperties": st.booleans() | inner,
            "propertyNames": inner,
            "items": inner,
            "anyOf": st.lists(inner, min_size=1, max_size=3),
            "oneOf": st.lists(inner, min_size=1, max_size=3),
            "allOf": st.lists(inner, min_size=1, max_size=2),
            "maxContains": _SIZES,
        },
    )


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(_schemas(st.booleans() | _schemas(st.booleans())), _VALUES)
def test_judgement_is_that_of_jsonschema(schema: Any, value: Any) -> None:
    """Whatever the schema, a value is good exactly when jsonschema says so."""
    assert Draft202012Validator(schema).is_valid(value) is not bool(list(violations(schema, value)))


def test_rare_keywords_are_judged_too() -> None:
    """A schema with a keyword that is not judged here is judged by jsonschema."""
    schema = {"type": "array", "contains": {"const": 1}}
    assert [] == list(violations(schema, [1], name="x", references=True))
    [found] = violations(schema, [2], name="x", references=True)
    assert found.message.startswith("x: ")
    assert [] == list(violations(schema, "$a.b", references=True))
