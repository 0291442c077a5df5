"""Values of a plan's parameters: from texts and JSON, typed and checked; pure but for file names.

What papermill would mangle on the way into a notebook is refused here (papermill 2.7: a tuple
becomes a text, bytes become a text, a name is pasted in as code, numbers from a command line are
guessed).
"""

from __future__ import annotations

import json
import keyword
import math
import os
import re
from collections.abc import Iterator, Mapping
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

from workbench.errors import ConfigError
from workbench.messages import nearest_names
from workbench.plans.conform import show
from workbench.plans.references import Place
from workbench.plans.spec import Param, Plan

DEEPEST = 50
"""How deep a value may be nested."""
LARGEST_BITS = 128

_INT = re.compile(r"[+-]?\d{1,30}")
_FLOAT = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
_ENV = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TRUE, _FALSE = frozenset({"true", "yes", "on", "1"}), frozenset({"false", "no", "off", "0"})


class Wrong(ValueError):
    """Raised when a value is not of a parameter's type; the message completes "must be ..."."""


def resolve_params(plan: Plan, given: Mapping[str, Any], *, texts: bool) -> dict[str, Any]:
    """Return a value for every parameter of a plan, in the plan's order.

    A file's path is made absolute: a default from the plan's folder, a given one from the current
    folder, or from the plan's where there is no such file.
    A secret's value is `{"env": NAME}`; what stands there is read only where it is used.

    Args:
        given: Values by name.
        texts: Whether they are texts, as a command line has them, and not JSON values.

    Raises:
        ConfigError: When a name is unknown, a value missing, of the wrong type or no JSON value,
            or a file does not exist.
    """
    known = [param.name for param in plan.params]
    for name in given:
        if name not in known:
            near = nearest_names(str(name), known, count=1)
            takes = f"It takes: {', '.join(known)}." if known else "It takes none."
            raise ConfigError(
                f"The plan {plan.name} has no parameter {name!r}.",
                key=str(name),
                file=plan.path,
                hint=f"Did you mean {near[0]!r}?" if near else takes,
            )
    return {param.name: _resolved(plan, param, given, texts=texts) for param in plan.params}


def must_be_given(param: Param) -> bool:
    """Whether a run cannot start without a value for it."""
    return param.required and param.default is None and param.type != "secret"


def _resolved(plan: Plan, param: Param, given: Mapping[str, Any], *, texts: bool) -> Any:
    value, folder = given.get(param.name), Path(plan.path).parent if plan.path else Path()
    folders = [Path(), folder]
    if value is None and param.type == "secret":
        value = param.env
    elif value is None:
        if must_be_given(param):
            hint = f"Give it as {param.name}=..." + (f": {param.help}" if param.help else ".")
            raise _error(plan, param, "has no value.", hint)
        if param.default is None:
            return None
        value, folders = param.default, [folder]
    try:
        typed = typed_value(param, value, texts=texts and param.name in given)
    except Wrong as exc:
        raise _error(plan, param, f"must be {exc}.") from None
    if param.type != "file":
        return typed
    places = [Path(os.path.abspath(place / typed)) for place in folders]
    for path in places:
        if path.is_file():
            return str(path)
    raise _error(plan, param, f"names no file: {places[0]}.")


def _error(plan: Plan, param: Param, message: str, hint: str | None = None) -> ConfigError:
    text = f"The parameter {param.name!r} {message}"
    return ConfigError(text, key=param.name, file=plan.path, line=param.line, hint=hint)


def typed_value(param: Param, value: Any, *, texts: bool = False) -> Any:
    """Return a value as the parameter's type has it.

    Args:
        texts: Whether the value is a text to be read, not a JSON value.

    Raises:
        Wrong: When it is no such value.
    """
    for place, message, hint in json_problems(value):
        where = f" (at {'.'.join(map(str, place))})" if place else ""
        raise Wrong(f"a JSON value, but {message}{where}. {hint}".rstrip(". "))
    if param.type.startswith("list["):
        return _list_of(param, value, texts=texts)
    return _single(param, param.type, value, texts=texts)


def _list_of(param: Param, value: Any, *, texts: bool) -> list[Any]:
    inner = param.type[len("list[") : -1]
    if texts and isinstance(value, str):
        if value.lstrip().startswith("["):
            try:
                value, texts = json.loads(value), False
            except ValueError as exc:
                raise Wrong(f"a list, and this is no JSON list: {exc}") from None
        else:
            value = [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, list):
        raise Wrong(f"a list, not {show(value)}")
    return [_single(param, inner, item, texts=texts) for item in value]


def _single(param: Param, kind: str, value: Any, *, texts: bool) -> Any:
    if texts and isinstance(value, str) and kind in ("int", "float", "bool"):
        value = _read(kind, value)
    truth = isinstance(value, bool)
    if kind == "bool" and truth:
        return value
    if kind == "int" and not truth and isinstance(value, int | float) and int(value) == value:
        return int(value)
    if kind == "float" and not truth and isinstance(value, int | float):
        return float(value)
    if kind == "str" and isinstance(value, str):
        return str(value)
    if kind in ("model", "file") and isinstance(value, str) and value.strip():
        return value.strip() if kind == "model" else value
    if kind == "choice":
        if value in param.choices:
            return value
        near = nearest_names(str(value), param.choices, count=1)
        meant = f"; did you mean {near[0]!r}?" if near else ""
        raise Wrong(f"one of {', '.join(param.choices)}, not {show(value)}{meant}")
    if kind == "secret":
        return _secret(value)
    words = {
        "int": "a whole number",
        "float": "a number",
        "bool": "true or false",
        "str": "a text",
        "model": "the name of a model",
        "file": "the path of a file",
    }
    raise Wrong(f"{words[kind]}, not {show(value)}")


def _read(kind: str, text: str) -> Any:
    """Return the number or truth value a text spells, or the text."""
    folded = text.strip().lower()
    if kind == "bool":
        return True if folded in _TRUE else False if folded in _FALSE else text
    if _INT.fullmatch(folded):
        return int(folded)
    if kind == "float" and _FLOAT.fullmatch(folded) and math.isfinite(float(folded)):
        return float(folded)
    return text


def _secret(value: Any) -> dict[str, str]:
    """Return where a secret stands; the value is not shown, it may be the secret itself."""
    name = value.get("env") if isinstance(value, Mapping) and set(value) == {"env"} else value
    if isinstance(name, str) and _ENV.fullmatch(name):
        return {"env": name}
    raise Wrong("the name of an environment variable that holds the secret, never the secret")


def name_problem(name: Any) -> str | None:
    """Return why a text cannot be the name of a parameter, or `None`."""
    if not isinstance(name, str) or not re.fullmatch(r"[a-z][a-z0-9_]{0,63}", name):
        return "must be a name of lower-case letters, digits and _"
    if keyword.iskeyword(name):
        return "is a word of Python, and the notebook could not hold it"
    return None


def json_problems(value: Any, place: Place = ()) -> Iterator[tuple[Place, str, str]]:
    """Yield place, reason and hint of everything in a value that JSON does not hold."""
    if len(place) > DEEPEST:
        yield place, f"it is nested deeper than {DEEPEST} levels", ""
    elif value is None or isinstance(value, bool):
        return
    elif isinstance(value, int):
        if value.bit_length() > LARGEST_BITS:
            yield place, "that number is too large", "Write it as a text."
    elif isinstance(value, float):
        if not math.isfinite(value):
            yield place, f"{value} is no number of JSON", "Leave it out, or write null."
    elif isinstance(value, str):
        if not _encodable(value):
            yield place, "a text has half of a surrogate pair", "It is not valid Unicode."
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if isinstance(key, str):
                yield from json_problems(item, (*place, key))
            else:
                yield (*place, str(key)), f"the key {key!r} is not a text", "Put it in quotes."
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from json_problems(item, (*place, index))
    else:
        yield place, *_foreign(value)


def _foreign(value: Any) -> tuple[str, str]:
    if isinstance(value, tuple):
        return "a tuple would become a text", "Use a list."
    if isinstance(value, bytes | bytearray):
        return "bytes would become a text", "Use a text, or name a file."
    if isinstance(value, datetime | date | time):
        return f"{value} is a date or time", "Put it in quotes."
    if isinstance(value, set | frozenset):
        return "a set has no order", "Use a list."
    return f"a {type(value).__name__} is no JSON value", "Use text, numbers, lists and mappings."


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
