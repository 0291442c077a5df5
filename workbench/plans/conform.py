"""Whether a value is as its JSON schema says, told in words.

The keywords that plans use are judged here: importing jsonschema takes most of a second, which each
command and each kernel would wait for.  A schema with any other keyword is judged by it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from workbench.messages import nearest_names
from workbench.plans.references import Place, is_reference, is_template

Schema = Mapping[str, Any]

_ANNOTATIONS = frozenset({"$comment", "default", "description", "examples", "title"}) | {
    "markdownDescription"
}
_BELOW = ("items", "additionalProperties", "propertyNames")
_TYPES: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "string": ("text", lambda v: isinstance(v, str)),
    "integer": ("a whole number", lambda v: _is_number(v) and int(v) == v),
    "number": ("a number", lambda v: _is_number(v)),
    "boolean": ("true or false", lambda v: isinstance(v, bool)),
    "array": ("a list", lambda v: isinstance(v, list)),
    "object": ("a mapping", lambda v: isinstance(v, Mapping)),
    "null": ("null", lambda v: v is None),
}


@dataclass(frozen=True, slots=True)
class Violation:
    """One way in which a value is not as its schema says; `place` is where in the value."""

    place: Place
    message: str
    hint: str | None = None
    keyword: str = ""


def violations(
    schema: Schema, value: Any, *, name: str = "", references: bool = False
) -> Iterator[Violation]:
    """Yield every way in which a value is not as its schema says.

    Args:
        name: What the value is called in messages.
        references: Whether a reference may stand for any value in it.
    """
    if _is_known(schema):
        yield from _Judge(name, references).judge(schema, value, ())
    else:
        yield from _by_jsonschema(schema, value, name=name, references=references)


def show(value: Any) -> str:
    """Return a value as a message shows it, shortened."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


class _Judge:
    """Judges one value."""

    def __init__(self, name: str, references: bool) -> None:
        self._name = name
        self._references = references

    def judge(self, schema: Any, value: Any, place: Place) -> Iterator[Violation]:
        """Yield what is wrong with a value, and with what lies in it."""
        if schema is True or (self._references and is_reference(value)):
            return
        called = ".".join(map(str, ((self._name,) if self._name else ()) + place)) or "it"
        if schema is False:
            yield Violation(place, f"{called} is not allowed.")
            return
        if "type" in schema:
            names = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
            if not any(_TYPES[name][1](value) for name in names):
                wanted = schema.get("description") or _words(names)
                message = f"{called} must be {wanted}, not {show(value)}."
                yield Violation(place, message, keyword="type")
        if self._references and is_template(value):
            return
        for keyword, wanted in schema.items():
            if keyword in _RULES:
                yield from _RULES[keyword](wanted, value, schema, place, called)
        yield from self._inner(schema, value, place)
        for inner in schema.get("allOf", ()):
            yield from self.judge(inner, value, place)
        for keyword in ("anyOf", "oneOf"):
            if keyword in schema:
                yield from self._branches(keyword, schema, value, place, called)

    def _inner(self, schema: Schema, value: Any, place: Place) -> Iterator[Violation]:
        if isinstance(value, list) and "items" in schema:
            for index, item in enumerate(value):
                yield from self.judge(schema["items"], item, (*place, index))
        if isinstance(value, Mapping):
            known, others = schema.get("properties", {}), schema.get("additionalProperties", True)
            for key, item in value.items():
                if "propertyNames" in schema:
                    yield from self.judge(schema["propertyNames"], key, (*place, key))
                if key in known:
                    yield from self.judge(known[key], item, (*place, key))
                elif others is not False:
                    yield from self.judge(others, item, (*place, key))

    def _branches(
        self, keyword: str, schema: Schema, value: Any, place: Place, called: str
    ) -> Iterator[Violation]:
        """Tell what is wrong in the branch the value was meant for, or what all of them want."""
        told = [list(self.judge(inner, value, place)) for inner in schema[keyword]]
        good = sum(not found for found in told)
        if good == 1 or (good and keyword == "anyOf"):
            return
        if good:
            yield Violation(place, f"{called} is more than one of what it may be.")
            return
        for found in told:
            if not any(v.keyword == "type" and v.place == place for v in found):
                yield from found
                return
        wanted = schema.get("description") or " or ".join(
            dict.fromkeys(_of_type(inner) for inner in schema[keyword])
        )
        yield Violation(place, f"{called} must be {wanted}, not {show(value)}.", keyword="type")


def _is_known(schema: Any) -> bool:
    """Whether every keyword of a schema is judged here."""
    if isinstance(schema, bool):
        return True
    if not isinstance(schema, Mapping):
        return False
    below = [schema[key] for key in _BELOW if key in schema]
    below += schema.get("properties", {}).values()
    below += [item for key in ("anyOf", "oneOf", "allOf") for item in schema.get(key, ())]
    return _KNOWN.issuperset(schema) and all(map(_is_known, below))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _same(a: Any, b: Any) -> bool:
    """Whether two JSON values are equal; `true` is not 1."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    return bool(a == b)


def _words(names: list[str]) -> str:
    return " or ".join(_TYPES[name][0] for name in names)


def _of_type(schema: Any) -> str:
    """Say what a branch wants."""
    if not isinstance(schema, Mapping) or "type" not in schema:
        return show(schema)
    types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    return str(schema.get("description") or _words(types))


# A rule gives what is wrong with a value, for one keyword of its schema.
Rule = Callable[[Any, Any, Schema, Place, str], Iterator[Violation]]


def _rule(applies: Callable[[Any], bool], good: Callable[[Any, Any], bool], words: str) -> Rule:
    """Return the rule of a keyword whose message is `words` with `wanted` and `value` filled in."""

    def rule(wanted: Any, value: Any, schema: Schema, place: Place, called: str) -> Iterator[Any]:
        if applies(value) and not good(value, wanted):
            text = words.format(wanted=show(wanted), value=show(value))
            yield Violation(place, f"{called} {text}.")

    return rule


def _at_least(applies: Callable[[Any], bool], what: str) -> Rule:
    """Return the rule of a keyword for the smallest size."""

    def rule(wanted: Any, value: Any, schema: Schema, place: Place, called: str) -> Iterator[Any]:
        if applies(value) and len(value) < wanted:
            text = "must not be empty" if wanted == 1 else f"must have at least {wanted} {what}"
            yield Violation(place, f"{called} {text}.")

    return rule


def _pattern(
    wanted: Any, value: Any, schema: Schema, place: Place, called: str
) -> Iterator[Violation]:
    # To Python a `$` is also the place before a last line break, to JSON schema the end alone.
    whole = re.sub(r"(?<!\\)\$$", r"\\Z", wanted)
    if isinstance(value, str) and not re.search(whole, value):
        rule = f"must be {schema['description']}" if "description" in schema else ""
        text = f"{rule}, not {show(value)}" if rule else f"does not match {wanted}: {show(value)}"
        yield Violation(place, f"{called} {text}.")


def _enum(
    wanted: Any, value: Any, schema: Schema, place: Place, called: str
) -> Iterator[Violation]:
    if not any(_same(value, item) for item in wanted):
        near = nearest_names(str(value), [str(item) for item in wanted], count=1)
        shown = ", ".join(show(item) for item in wanted)
        hint = f"Did you mean {near[0]!r}?" if near else None
        yield Violation(place, f"{called} must be one of {shown}, not {show(value)}.", hint)


def _required(
    wanted: Any, value: Any, schema: Schema, place: Place, called: str
) -> Iterator[Violation]:
    for name in wanted if isinstance(value, Mapping) else ():
        if name not in value:
            yield Violation(place, f"{_of(called)}{name!r} is missing.")


def _no_others(
    wanted: Any, value: Any, schema: Schema, place: Place, called: str
) -> Iterator[Violation]:
    known = schema.get("properties", {})
    for name in value if wanted is False and isinstance(value, Mapping) else ():
        if name not in known:
            near = nearest_names(str(name), known, count=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(known)}."
            yield Violation((*place, name), f"{_of(called)}unknown field {name!r}.", hint)


def _of(called: str) -> str:
    return "" if called == "it" else f"{called}: "


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _is_mapping(value: Any) -> bool:
    return isinstance(value, Mapping)


def _no_doubles(value: Any, wanted: Any) -> bool:
    return not wanted or not any(
        _same(item, other) for i, item in enumerate(value) for other in value[:i]
    )


_RULES: Mapping[str, Rule] = {
    "const": _rule(lambda v: True, _same, "must be {wanted}, not {value}"),
    "enum": _enum,
    "pattern": _pattern,
    "required": _required,
    "additionalProperties": _no_others,
    "minimum": _rule(_is_number, lambda v, w: v >= w, "must be at least {wanted}, not {value}"),
    "maximum": _rule(_is_number, lambda v, w: v <= w, "must be at most {wanted}, not {value}"),
    "exclusiveMinimum": _rule(
        _is_number, lambda v, w: v > w, "must be more than {wanted}, not {value}"
    ),
    "exclusiveMaximum": _rule(
        _is_number, lambda v, w: v < w, "must be less than {wanted}, not {value}"
    ),
    "minLength": _at_least(_is_text, "characters"),
    "maxLength": _rule(_is_text, lambda v, w: len(v) <= w, "has more than {wanted} characters"),
    "minItems": _at_least(_is_list, "items"),
    "maxItems": _rule(_is_list, lambda v, w: len(v) <= w, "has more than {wanted} items"),
    "uniqueItems": _rule(_is_list, _no_doubles, "names something twice: {value}"),
    "minProperties": _at_least(_is_mapping, "entries"),
    "maxProperties": _rule(_is_mapping, lambda v, w: len(v) <= w, "has more than {wanted} entries"),
}
_KNOWN = _ANNOTATIONS | _RULES.keys() | {
    "type", "properties", "propertyNames", "items", "anyOf", "oneOf", "allOf",
}  # fmt: skip


def _by_jsonschema(
    schema: Schema, value: Any, *, name: str, references: bool
) -> Iterator[Violation]:
    """Judge by jsonschema, in its words."""
    from jsonschema import Draft202012Validator, validators

    def tolerant(keyword: str, check: Any) -> Any:
        def checked(validator: Any, wanted: Any, instance: Any, schema: Any) -> Iterator[Any]:
            if is_reference(instance) or (keyword != "type" and is_template(instance)):
                return
            yield from check(validator, wanted, instance, schema) or ()

        return checked

    known = Draft202012Validator.VALIDATORS
    judge = Draft202012Validator
    if references:
        judge = validators.extend(judge, {key: tolerant(key, known[key]) for key in known})
    for error in judge(schema).iter_errors(value):
        place = tuple(error.absolute_path)
        called = ".".join(map(str, ((name,) if name else ()) + place)) or "it"
        yield Violation(place, f"{called}: {error.message}.")
