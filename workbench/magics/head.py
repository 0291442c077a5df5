"""The YAML head of a cell: values with the line of each, and errors that point at it.

YAML is read by its 1.2 core rules, as the files of plans are: `off` and `no` are texts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import yaml
from IPython.core.error import UsageError

from workbench.errors import ConfigError
from workbench.magics.line import sentence
from workbench.messages import nearest_names

RULE = "---"
"""The line between the head and the body of a cell."""

Where = tuple[str | int, ...]
"""How to get to a value: keys of mappings and indexes of lists."""

_TAG = "tag:yaml.org,2002:"
_FIRST_LINE = 2


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """Safe values only, no booleans but true and false, and no aliases.

    What is said once and meant several times can also be meant within itself, without end.
    """

    yaml_implicit_resolvers: Mapping[str, Any] = {
        first: [rule for rule in rules if rule[0] not in (f"{_TAG}bool", f"{_TAG}timestamp")]
        for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def _no_alias(loader: _Loader, parent: Any, index: Any) -> Any:
    if loader.check_event(yaml.AliasEvent):
        mark = loader.peek_event().start_mark
        raise yaml.composer.ComposerError(None, None, "aliases are not read here", mark)
    return yaml.composer.Composer.compose_node(loader, parent, index)


_Loader.compose_node = _no_alias
_Loader.add_implicit_resolver(
    f"{_TAG}bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)


def split_head(cell: str) -> tuple[str, str] | None:
    """Return what stands before and after the first line of three dashes, if there is one."""
    lines = cell.splitlines(keepends=True)
    for index, line in enumerate(lines):
        if line.rstrip() == RULE and "".join(lines[:index]).strip():
            return "".join(lines[:index]), "".join(lines[index + 1 :])
    return None


@dataclass(frozen=True, slots=True)
class Head:
    """The values of a head, and where each stands.

    Attributes:
        magic: Name of the magic, with the percent signs.
        text: The head as it was written.
        values: The mapping it is.
        places: Way to a value to its line and column in the text, from 0.
    """

    magic: str
    text: str
    values: dict[str, Any]
    places: Mapping[Where, tuple[int, int]] = field(default_factory=dict)

    def error(self, message: str, where: Where = ()) -> UsageError:
        """Return an error that shows the line of a value, with a mark below its beginning."""
        while where and where not in self.places:
            where = where[:-1]
        line, column = self.places.get(where, (0, 0))
        return _pointing(self.magic, message, self.text, line, column)

    def located(
        self,
        error: ConfigError,
        within: Where = (),
        *,
        related: Mapping[str, str] = MappingProxyType({}),
    ) -> UsageError:
        """Return an error of the library at the value it is about, as far as that is known.

        Args:
            error: Its `key` is searched, the nearest to `within` first.
            within: What the library was given when it raised it.
            related: Key to the one where it is told when it is not in the head.
        """
        for key in (error.key, related.get(error.key or "")):
            found = [w for w in self.places if w and w[: len(within)] == within and w[-1] == key]
            if found:
                return self.error(sentence(error), min(found, key=len))
        return self.error(sentence(error), within)

    def check(self, known: Iterable[str], where: Where = ()) -> None:
        """Refuse a key that is not known.

        Raises:
            UsageError: With the nearest name.
        """
        value: Any = self.values
        for step in where:
            value = value[step]
        if not isinstance(value, Mapping):
            raise self.error(f"a mapping is expected here, not {_shown(value)}.", where)
        names = tuple(known)
        for key in value:
            if key not in names:
                near = nearest_names(str(key), names, count=1)
                hint = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(names)}."
                raise self.error(f"unknown field {key!r}. {hint}", (*where, key))


def read_head(magic: str, text: str) -> Head:
    """Read a head.

    Raises:
        UsageError: When it is no YAML, or no mapping of texts; shows the line.
    """
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        places: dict[Where, tuple[int, int]] = {}
        if node is not None:
            _place(magic, text, node, (), places)
        values = None if node is None else loader.construct_document(node)
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        line, column = (mark.line, mark.column) if mark is not None else (0, 0)
        problem = exc.problem or exc.context or "not YAML"
        raise _pointing(magic, f"not YAML: {problem}.", text, line, column) from exc
    except yaml.YAMLError as exc:
        raise _pointing(magic, f"not YAML: {exc}.", text, 0, 0) from exc
    except RecursionError as exc:
        raise _pointing(magic, "the head is nested too deeply.", text, 0, 0) from exc
    finally:
        loader.dispose()
    if not isinstance(values, dict):
        raise _pointing(magic, "the head is a list of `field: value` lines.", text, 0, 0)
    return Head(magic, text, values, places)


def _place(
    magic: str, text: str, node: Any, where: Where, places: dict[Where, tuple[int, int]]
) -> None:
    """Note where each value stands: a mapping's by its key."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            mark = key.start_mark
            name = key.value if isinstance(key, yaml.ScalarNode) else None
            if name is None or key.tag != f"{_TAG}str":
                raise _pointing(magic, "a name is expected here.", text, mark.line, mark.column)
            if (*where, name) in places:
                raise _pointing(magic, f"{name!r} is given twice.", text, mark.line, mark.column)
            places[(*where, name)] = (mark.line, mark.column)
            _place(magic, text, value, (*where, name), places)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            places[(*where, index)] = (item.start_mark.line, item.start_mark.column)
            _place(magic, text, item, (*where, index), places)


def _pointing(magic: str, message: str, text: str, line: int, column: int) -> UsageError:
    lines = text.splitlines() or [""]
    line = min(line, len(lines) - 1)
    source = lines[line].replace("\t", " ")
    place = f"line {line + _FIRST_LINE} of the cell"
    return UsageError(f"{magic}, {place}: {message}\n\n    {source}\n    {' ' * column}^")


def _shown(value: Any) -> str:
    return "nothing" if value is None else repr(value)
