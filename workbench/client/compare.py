"""Where two JSON values differ, told so that a person finds the place; pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_CONTEXT = 24
_SHOWN = 60


class _Absent:
    """Stands for a field that one of two values does not have."""

    def __repr__(self) -> str:
        return "absent"


ABSENT = _Absent()


@dataclass(frozen=True, slots=True)
class Difference:
    """One place in which two values differ.

    Attributes:
        path: Where: `messages[1].content`; empty for the values themselves.
        a: What the first has there; `ABSENT` when it has nothing.
        b: What the second has there.
    """

    path: str
    a: Any
    b: Any

    @property
    def index(self) -> int | None:
        """The first character in which two texts differ, from 0; `None` for other values."""
        if isinstance(self.a, str) and isinstance(self.b, str):
            return first_index(self.a, self.b)
        return None

    def __str__(self) -> str:
        place = self.path or "the value"
        if (index := self.index) is None:
            return f"{place}: {short(self.a)} and {short(self.b)}"
        return f"{place}, character {index}: {near(self.a, index)} and {near(self.b, index)}"


def differences(a: Any, b: Any, path: str = "") -> Iterator[Difference]:
    """Yield the places in which two JSON values differ, in the order of the first."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        for name in [*a, *(name for name in b if name not in a)]:
            place = f"{path}.{name}" if path else str(name)
            yield from differences(a.get(name, ABSENT), b.get(name, ABSENT), place)
    elif _is_list(a) and _is_list(b):
        for index in range(max(len(a), len(b))):
            mine = a[index] if index < len(a) else ABSENT
            other = b[index] if index < len(b) else ABSENT
            yield from differences(mine, other, f"{path}[{index}]")
    elif a is not b and (type(a) is not type(b) or a != b) and not _same_number(a, b):
        yield Difference(path, a, b)


def first_index(a: str, b: str) -> int | None:
    """Return the first character in which two texts differ, from 0; `None` when they are equal."""
    if a == b:
        return None
    for index, (one, other) in enumerate(zip(a, b, strict=False)):
        if one != other:
            return index
    return min(len(a), len(b))


def near(text: str, index: int) -> str:
    """Return a text around a character, quoted."""
    begin, end = max(0, index - _CONTEXT), index + _CONTEXT
    before = "…" if begin else ""
    after = "…" if end < len(text) else ""
    return before + json.dumps(text[begin:end], ensure_ascii=False) + after


def short(value: Any) -> str:
    """Return a value as one line that is not too long."""
    text = repr(value) if value is ABSENT else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _same_number(a: Any, b: Any) -> bool:
    numbers = isinstance(a, int | float) and isinstance(b, int | float)
    # NaN is not equal to itself, and 1 is 1.0 in JSON.
    return (
        numbers and isinstance(a, bool) is isinstance(b, bool) and (a == b or (a != a and b != b))
    )
