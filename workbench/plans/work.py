"""What expressions can do with values, each thing counted against a limit; see `expressions`."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Any

from workbench.errors import PlanError
from workbench.plans.references import is_frame, look_up

LIMIT = 2_000_000
"""How much work one expression may do: about one unit per value it looks at."""
LARGEST_BITS = 128
LONGEST_TEXT = 1_000_000

OPERATORS: Mapping[type[ast.operator], str] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.FloorDiv: "//",
    ast.Mod: "%",
}
FUNCTIONS: Mapping[str, str] = {
    "len": "How many items, characters, keys or rows.",
    "min": "The smallest of a list or of its arguments; `default=` for an empty list.",
    "max": "The largest, likewise.",
    "sum": "The sum of a list of numbers; `true` counts as 1.",
    "mean": "The mean of a list of numbers that is not empty.",
    "any": "Whether an item of a list is true.",
    "all": "Whether every item of a list is true.",
    "abs": "A number without its sign.",
    "round": "A number rounded, to so many digits.",
    "sorted": "A list in order; `reverse=True` turns it round.",
    "str": "A single value as text.",
    "int": "A number or text as a whole number.",
    "float": "A number or text as a number.",
    "lower": "A text in lower-case letters.",
    "strip": "A text without the white space around it.",
}
"""The functions, with what each gives."""

_ARITHMETIC: Mapping[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
}
_ORDER: Mapping[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


class Worker:
    """Does the work of one expression and stops it at the limit."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._left = limit

    def spend(self, units: int) -> None:
        """Count work.

        Raises:
            PlanError: When there was too much of it.
        """
        self._left -= units
        if self._left < 0:
            raise PlanError(
                "this is too much work for an expression.", hint="Use a `python` step for it."
            )

    def weigh(self, value: Any, *, times: int = 1) -> None:
        """Count everything in a value, as it takes to look at all of it `times` times."""
        stack = [value]
        while stack:
            item = stack.pop()
            if isinstance(item, str):
                self.spend((1 + len(item) // 64) * times)
            elif isinstance(item, Mapping):
                self.spend((1 + len(item)) * times)
                stack.extend(item.values())
            elif isinstance(item, list | tuple):
                self.spend((1 + len(item)) * times)
                stack.extend(item)
            else:
                self.spend(times)

    def part(self, value: Any, key: Any, name: str) -> Any:
        """Return a value by key, index or column; `name` is what `value` is called."""
        counted = isinstance(value, list | tuple | str)
        if isinstance(key, int) and not isinstance(key, bool) and counted:
            if -len(value) <= key < len(value):
                return self._known(value[key])
            what = "characters" if isinstance(value, str) else "items"
            raise PlanError(f"{name or 'it'} has {len(value)} {what}, there is no {key}.")
        if not isinstance(key, str):
            raise PlanError(f"{name or 'that'} has no {key!r}.")
        if is_frame(value):
            self.spend(len(value))
        if isinstance(value, Mapping) and key not in value and name:
            look_up((*name.split("."), key), _nested(name, value))
        return self._known(look_up((key,), value))

    def _known(self, value: Any) -> Any:
        """Return a value of a kind an expression can work with."""
        plain = value is None or isinstance(
            value, bool | int | float | str | list | tuple | Mapping
        )
        if plain or is_frame(value):
            return value
        raise PlanError(f"an expression cannot work with a {type(value).__name__}.")

    def items(self, value: Any) -> list[Any]:
        """Return the items of a list, or the keys of a mapping."""
        if isinstance(value, Mapping | list | tuple):
            self.spend(len(value))
            return list(value)
        raise PlanError(f"{_kind(value)} is not a list.")

    def cut(self, value: Any, start: Any, stop: Any, step: Any) -> Any:
        """Return a slice of a list or text."""
        if not isinstance(value, list | tuple | str):
            raise PlanError(f"{_kind(value)} has no parts.")
        self.spend(len(value) // (64 if isinstance(value, str) else 1))
        return value[start:stop:step]

    def truth(self, value: Any) -> bool:
        """Return whether a value is true; a DataFrame is when it has rows."""
        return len(value) > 0 if is_frame(value) else bool(value)

    def operate(self, sign: str, left: Any, right: Any) -> Any:
        """Return the result of an arithmetic operator; `+` also joins two texts or two lists."""
        if sign == "+" and isinstance(left, str) and isinstance(right, str):
            if len(left) + len(right) > LONGEST_TEXT:
                raise PlanError(f"a text has at most {LONGEST_TEXT} characters here.")
            self.spend((len(left) + len(right)) // 8)
            return left + right
        if sign == "+" and isinstance(left, list) and isinstance(right, list):
            self.spend(len(left) + len(right))
            return left + right
        for value in (left, right):
            if not isinstance(value, int | float):
                raise PlanError(f"`{sign}` does not work with {_kind(value)}.")
        return _bounded(_ARITHMETIC[sign](left, right))

    def compare(self, how: ast.cmpop, left: Any, right: Any) -> bool:
        """Return the result of a comparison."""
        if is_frame(left) or is_frame(right):
            raise PlanError("a whole table cannot be compared.", hint="Compare a column or len().")
        self.weigh(left)
        self.weigh(right)
        if isinstance(how, ast.Eq | ast.NotEq):
            return bool(left == right) is isinstance(how, ast.Eq)
        if isinstance(how, ast.Is | ast.IsNot):
            if not (right is None or isinstance(right, bool)):
                raise PlanError("`is` is for None, True and False; use `==`.")
            return (left is right) is isinstance(how, ast.Is)
        if isinstance(how, ast.In | ast.NotIn):
            if isinstance(right, str) and not isinstance(left, str):
                raise PlanError(f"{_kind(left)} cannot be in a text.")
            if not isinstance(right, str | list | tuple | Mapping):
                raise PlanError(f"nothing can be in {_kind(right)}.")
            found = left in list(right) if isinstance(right, Mapping) else left in right
            return found is isinstance(how, ast.In)
        try:
            return bool(_ORDER[type(how)](left, right))
        except TypeError:
            raise PlanError(f"{_kind(left)} and {_kind(right)} have no order.") from None

    def call(self, name: str, given: list[Any], named: Mapping[str, Any]) -> Any:
        """Return the result of a function of `FUNCTIONS`.

        Raises:
            PlanError: When it does not take such arguments.
        """
        function = getattr(self, f"_do_{name}")
        try:
            return function(*given, **named)
        except TypeError as exc:
            kinds = ", ".join(_kind(value) for value in given) or "nothing"
            raise PlanError(f"{name}() does not work with {kinds}.") from exc

    def _do_len(self, value: Any) -> int:
        return len(value)

    def _do_min(self, *values: Any, **named: Any) -> Any:
        return self._extreme(min, values, named)

    def _do_max(self, *values: Any, **named: Any) -> Any:
        return self._extreme(max, values, named)

    def _extreme(
        self, pick: Callable[..., Any], values: tuple[Any, ...], named: Mapping[str, Any]
    ) -> Any:
        found = self.items(values[0]) if len(values) == 1 else list(values)
        self.weigh(found)
        return pick(found, **named)

    def _do_sum(self, values: Any) -> Any:
        return _bounded(sum(self._numbers(values)))

    def _do_mean(self, values: Any) -> float:
        numbers = self._numbers(values)
        if not numbers:
            raise PlanError("the mean of nothing is not defined.")
        return float(sum(numbers) / len(numbers))

    def _numbers(self, values: Any) -> list[Any]:
        found = self.items(values)
        for value in found:
            if not isinstance(value, int | float):
                raise PlanError(f"{_kind(value)} is not a number.")
        return found

    def _do_any(self, values: Any) -> bool:
        return any(self.truth(value) for value in self.items(values))

    def _do_all(self, values: Any) -> bool:
        return all(self.truth(value) for value in self.items(values))

    def _do_abs(self, value: Any) -> Any:
        return abs(value)

    def _do_round(self, value: Any, digits: int | None = None) -> Any:
        if digits is not None and abs(digits) > 20:
            raise PlanError("round() takes at most 20 digits.")
        return round(value, digits)

    def _do_sorted(self, values: Any, reverse: bool = False) -> list[Any]:
        found = self.items(values)
        self.weigh(found, times=8)
        return sorted(found, reverse=reverse)

    def _do_str(self, value: Any) -> str:
        if isinstance(value, Mapping | list | tuple) or is_frame(value):
            raise PlanError(f"str() does not work with {_kind(value)}.")
        return str(value)

    def _do_int(self, value: Any) -> int:
        if isinstance(value, str) and len(value) > LARGEST_BITS:
            raise PlanError("that text is too long for a number.")
        return int(_bounded(int(value)))

    def _do_float(self, value: Any) -> float:
        if isinstance(value, str) and len(value) > LARGEST_BITS:
            raise PlanError("that text is too long for a number.")
        return float(value)

    def _do_lower(self, value: str) -> str:
        return self._text(value).lower()

    def _do_strip(self, value: str) -> str:
        return self._text(value).strip()

    def _text(self, value: Any) -> str:
        if not isinstance(value, str):
            raise PlanError(f"{_kind(value)} is not a text.")
        self.spend(len(value) // 8)
        return value


def _bounded(value: Any) -> Any:
    if isinstance(value, int) and value.bit_length() > LARGEST_BITS:
        raise PlanError("that number is too large.")
    return value


def _nested(name: str, value: Any) -> Mapping[str, Any]:
    """Return a scope in which `name` leads to `value`, so that a message can name all of it."""
    for part in reversed(name.split(".")):
        value = {part: value}
    found: Mapping[str, Any] = value
    return found


def _kind(value: Any) -> str:
    if value is None:
        return "None"
    if is_frame(value):
        return "a table"
    names = {bool: "a truth value", int: "a number", float: "a number", str: "a text"}
    if isinstance(value, Mapping):
        return "a mapping"
    return names.get(type(value), "a list")
