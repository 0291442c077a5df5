"""References of a plan, found and filled in; pure.

A text that is `$load.rows` as a whole stands for the value itself.  `${load.rows}` within a longer
text is replaced by the value as text.  `$$` is a dollar.  Keys of mappings are never references.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from workbench.errors import PlanError
from workbench.messages import nearest_names

Place = tuple[str | int, ...]
"""Where something stands within a value: keys and indices."""

_PATH = r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z0-9_-]+)*"
_WHOLE = re.compile(rf"\$({_PATH})")
_INNER = re.compile(r"\$\$|\$\{([^{}]*)(\}?)")
_NAME = re.compile(_PATH)
# A single word that begins as a reference does and is none: `$load.rows[0]`, `$params.`.
_SLIP = re.compile(r"\$[A-Za-z_{]\S*")


@dataclass(frozen=True, slots=True)
class Reference:
    """One reference.

    Attributes:
        path: `("load", "rows")` for `$load.rows`.
        whole: Whether it stands for the value itself and not for a part of a text.
        place: Where it stands in the value that was searched.
    """

    path: tuple[str, ...]
    whole: bool = True
    place: Place = ()

    @property
    def root(self) -> str:
        """The step, variable or `params` it begins with."""
        return self.path[0]

    def __str__(self) -> str:
        name = ".".join(self.path)
        return f"${name}" if self.whole else f"${{{name}}}"


def is_reference(value: object) -> bool:
    """Whether a value is a text that stands for another value."""
    return isinstance(value, str) and _WHOLE.fullmatch(value) is not None


def is_template(value: object) -> bool:
    """Whether a value is a text with references in it."""
    return isinstance(value, str) and any(_pieces(value))


def references_in(value: Any) -> Iterator[Reference]:
    """Yield the references in a JSON value, in the order in which they stand there."""
    for place, text in _texts(value, ()):
        whole = _WHOLE.fullmatch(text)
        if whole:
            yield Reference(tuple(whole[1].split(".")), True, place)
        else:
            for inner in _pieces(text):
                if _NAME.fullmatch(inner.strip()):
                    yield Reference(tuple(inner.strip().split(".")), False, place)


def malformed_in(value: Any) -> Iterator[tuple[Place, str]]:
    """Yield the place and text of what looks like a reference and is none."""
    for place, text in _texts(value, ()):
        if _WHOLE.fullmatch(text):
            continue
        wrong = [m[0] for m in _INNER.finditer(text) if m[0] != "$$" and not _sound(m)]
        yield from ((place, piece) for piece in wrong)
        if not wrong and _SLIP.fullmatch(text) and not text.startswith("${"):
            yield place, text


def names_in(value: Any) -> set[str]:
    """Return the names that the references in a value begin with."""
    return {reference.root for reference in references_in(value)}


def resolve(value: Any, scope: Mapping[str, Any]) -> Any:
    """Return a value with each reference replaced by what the scope holds.

    Args:
        scope: `params`, ids of steps and variables to their values.

    Raises:
        PlanError: When the scope holds no such value.
    """
    if isinstance(value, str):
        return _resolved_text(value, scope)
    if isinstance(value, Mapping):
        return {key: resolve(item, scope) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [resolve(item, scope) for item in value]
    return value


def look_up(path: tuple[str, ...], scope: Mapping[str, Any]) -> Any:
    """Return what a path leads to: keys of mappings, indices of lists, columns of a DataFrame.

    Raises:
        PlanError: When it leads nowhere.
    """
    value: Any = scope
    for depth, part in enumerate(path):
        value = _part(value, part, ".".join(path[:depth]), ".".join(path))
    return value


def as_text(value: Any) -> str:
    """Return a value as it stands within a longer text: JSON, a DataFrame as CSV."""
    if isinstance(value, str):
        return value
    if is_frame(value):
        return str(value.to_csv(index=False))
    return json.dumps(value, ensure_ascii=False)


def is_frame(value: object) -> bool:
    """Whether a value is a DataFrame; pandas is not imported for it."""
    return hasattr(value, "columns") and hasattr(value, "iloc")


def column(frame: Any, name: str) -> list[Any]:
    """Return a column of a DataFrame as a list of JSON values; what is missing is `None`."""
    return [None if _is_missing(item) else _plain(item) for item in frame[name].tolist()]


def _is_missing(value: Any) -> bool:
    """Whether a value is NaN, NaT, or the NA of pandas, which is neither true nor false."""
    return type(value).__name__ == "NAType" or bool(value != value)


def _plain(value: Any) -> Any:
    """Return times as text, as JSON has none."""
    return value.isoformat() if hasattr(value, "isoformat") else value


def _part(value: Any, part: str, parent: str, whole: str) -> Any:
    if is_frame(value):
        names = [str(name) for name in value.columns]
        if part in names:
            return column(value, part)
        raise _nothing(whole, f"{parent} has no column {part!r}.", part, names)
    if isinstance(value, Mapping):
        if part in value:
            return value[part]
        where = f"{parent} has no {part!r}." if parent else f"Nothing is called {part!r} here."
        raise _nothing(whole, where, part, [str(key) for key in value])
    if isinstance(value, list | tuple):
        if part.isdecimal() and int(part) < len(value):
            return value[int(part)]
        raise PlanError(f"${whole} leads nowhere: {parent} is a list of {len(value)}.")
    raise PlanError(f"${whole} leads nowhere: {parent} is a single value.")


def _nothing(whole: str, reason: str, part: str, known: list[str]) -> PlanError:
    near = nearest_names(part, known, count=1)
    hint = f"Did you mean {near[0]!r}?" if near else f"It has: {', '.join(known) or 'nothing'}."
    return PlanError(f"${whole} leads nowhere: {reason}", hint=hint)


def _resolved_text(text: str, scope: Mapping[str, Any]) -> Any:
    whole = _WHOLE.fullmatch(text)
    if whole:
        return look_up(tuple(whole[1].split(".")), scope)

    def filled(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        if not _sound(match):
            raise PlanError(f"{match[0]!r} is not a reference.", hint="A dollar is written `$$`.")
        return as_text(look_up(tuple(match[1].strip().split(".")), scope))

    return _INNER.sub(filled, text)


def _sound(match: re.Match[str]) -> bool:
    return bool(match[2] and _NAME.fullmatch(match[1].strip()))


def _pieces(text: str) -> Iterator[str]:
    """Yield what stands between the braces of each `${}`."""
    return (m[1] for m in _INNER.finditer(text) if m[0] != "$$" and m[2])


def _texts(value: Any, place: Place) -> Iterator[tuple[Place, str]]:
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _texts(item, (*place, key))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _texts(item, (*place, index))
