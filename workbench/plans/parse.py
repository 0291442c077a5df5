"""Plan files: YAML to a plan, with the line of everything that is wrong, and back.

YAML is read by its 1.2 core rules, as editors do: `no` and `on` are texts.  What YAML 1.1 and 1.2
read differently and what JSON does not hold is refused, so that a file means one thing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from workbench.errors import PlanInvalid, PlanProblem
from workbench.plans.document import BAD, Findings, to_data
from workbench.plans.kinds import load_kinds
from workbench.plans.references import Place
from workbench.plans.spec import Plan
from workbench.plans.validate import build_plan, check_plan, completed

__all__ = ["check_plan", "completed", "load_plan", "parse_plan", "to_yaml"]

LARGEST_BYTES = 1_000_000
MOST_VALUES = 100_000
"""Values a file may have once its aliases are written out."""

_TAG = "tag:yaml.org,2002:"
_NULL = re.compile(r"^(?:~|null|Null|NULL|)$")
_BOOL = re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$")
_INT = re.compile(r"^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$")
_FLOAT = re.compile(r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?)$")
_NO_NUMBER = re.compile(r"^(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$")
# PyYAML 6 folds these within single quotes, and they are lost.
_BREAKS = re.compile("[\r\x85\u2028\u2029]")
# What does not survive in a block: white space at the beginning, or at the end of a line.
_NO_BLOCK = re.compile(r"\A\s|[ \t]$|\t", re.MULTILINE)
_PLAIN = (
    ("null", _NULL, ["~", "n", "N", ""]),
    ("bool", _BOOL, list("tTfF")),
    ("int", _INT, list("-+0123456789")),
    ("float", _FLOAT, list("-+.0123456789")),
    ("float", _NO_NUMBER, list("-+.")),
)


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """Composes nodes by the core rules of YAML 1.2, and knows YAML 1.1's dates to refuse them."""

    yaml_implicit_resolvers: Mapping[str, Any] = {
        first: [rule for rule in rules if rule[0] == f"{_TAG}timestamp"]
        for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]
    """Puts in quotes what YAML 1.1 or 1.2 would not read as a text."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


for _name, _pattern, _first in _PLAIN:
    _Loader.add_implicit_resolver(f"{_TAG}{_name}", _pattern, _first)
    _Dumper.add_implicit_resolver(f"{_TAG}{_name}", _pattern, _first)


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    """Write texts of several lines as blocks, where YAML keeps every character of those."""
    style = None
    if _BREAKS.search(text):
        style = '"'
    elif "\n" in text and not _NO_BLOCK.search(text):
        style = "|"
    return dumper.represent_scalar(f"{_TAG}str", text, style=style)


_Dumper.add_representer(str, _text)


def load_plan(path: str | Path) -> Plan:
    """Read a plan file.

    Raises:
        PlanInvalid: When it cannot be read, or something is wrong with it: everything is told.
    """
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except OSError as exc:
        problem = PlanProblem(f"cannot be read: {exc.strerror or exc}.", file=str(path))
        raise PlanInvalid(Path(path).name, [problem]) from exc
    except UnicodeDecodeError as exc:
        line = exc.object.count(b"\n", 0, exc.start) + 1
        problem = PlanProblem("This is not UTF-8.", line, "Save the file as UTF-8.", str(path))
        raise PlanInvalid(Path(path).name, [problem]) from exc
    return parse_plan(text, path=path)


def parse_plan(text: str, *, path: str | Path | None = None) -> Plan:
    """Read the text of a plan file.

    Args:
        path: Where it stands, for messages and for relative paths in it.

    Raises:
        PlanInvalid: When something is wrong with it: everything is told.
    """
    file = None if path is None else str(path)
    found = Findings(file)
    text = text.replace("\r\n", "\n")
    data = _document(text, found)
    plan = None if data is BAD else build_plan(data, found, source=text)
    if plan is None or found.problems:
        name = Path(file).name if file else _name_of(data)
        problems = sorted(found.problems, key=lambda problem: problem.line or 0)
        raise PlanInvalid(name, problems)
    return plan


def _name_of(data: Any) -> str:
    name = data.get("plan") if isinstance(data, Mapping) else None
    return name if isinstance(name, str) else "given"


def to_yaml(plan: Plan) -> str:
    """Return the text of a plan's file; reading it gives an equal plan."""
    text: str = yaml.dump(
        to_data(plan, load_kinds()),
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        width=100,
    )
    return text


def _document(text: str, found: Findings) -> Any:
    """Return the plain data of a YAML text; its lines and problems go to `found`."""
    if len(text.encode("utf-8", "surrogatepass")) > LARGEST_BYTES:
        found.add((), f"A plan file has at most {LARGEST_BYTES} bytes.")
        return BAD
    try:
        node = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        found.lines = {(): mark.line + 1} if mark else {}
        lines = text.splitlines()
        line = lines[mark.line] if mark and mark.line < len(lines) else ""
        found.add((), f"This is not YAML: {exc.problem or exc.context}.", _yaml_hint(exc, line))
        return BAD
    except yaml.reader.ReaderError as exc:
        found.lines = {(): text.count("\n", 0, exc.position) + 1}
        found.add((), f"This is not YAML: the character U+{exc.character:04X} is not allowed.")
        return BAD
    except RecursionError:
        found.add((), "This is nested too deep.")
        return BAD
    if node is None:
        found.add((), "The file is empty.")
        return BAD
    return _Reader(found).read(node)


def _yaml_hint(error: yaml.MarkedYAMLError, line: str) -> str | None:
    """Return what people most often mean where YAML cannot be read."""
    problem = str(error.problem)
    if "\\t" in problem:
        return "Indent with spaces."
    flow = re.search(r"[{,]\s*\w+:\s*(list\[\w+\])", line)
    if flow:
        return f'Within braces put it in quotes: type: "{flow[1]}".'
    if "expected ',' or" in problem:
        return "Within braces and brackets put texts with punctuation in quotes."
    if "mapping values are not allowed" in problem:
        return "Put a text that holds a colon in quotes."
    if "cannot start any token" in problem or "expected alphabetic" in problem:
        return "Put a text that begins with such a character in quotes."
    return None


class _Reader:
    """Turns the nodes of one document into plain values."""

    def __init__(self, found: Findings) -> None:
        self._found = found
        self._lines: dict[Place, int] = {}
        found.lines = self._lines
        self._left = MOST_VALUES
        self._open: set[int] = set()

    def read(self, node: yaml.Node) -> Any:
        """Return the document's value; `BAD` when it cannot be read at all."""
        try:
            return self._value(node, ())
        except _TooMany:
            self._lines.clear()
            self._lines[()] = 1
            self._found.problems.clear()
            message = f"With its aliases written out the file has more than {MOST_VALUES} values."
            self._found.add((), message)
            return BAD
        except RecursionError:
            self._found.add((), "This is nested too deep.")
            return BAD

    def _value(self, node: yaml.Node, place: Place) -> Any:
        self._left -= 1
        if self._left < 0:
            raise _TooMany
        self._lines.setdefault(place, node.start_mark.line + 1)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, place)
        if id(node) in self._open:
            return self._refuse(place, "An alias holds itself.")
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.SequenceNode) and node.tag == f"{_TAG}seq":
                return [self._value(item, (*place, i)) for i, item in enumerate(node.value)]
            if isinstance(node, yaml.MappingNode) and node.tag == f"{_TAG}map":
                return self._mapping(node, place)
        finally:
            self._open.discard(id(node))
        return self._refuse(place, f"The tag {_short(node.tag)} is not allowed.")

    def _mapping(self, node: yaml.MappingNode, place: Place) -> Any:
        values: dict[Any, Any] = {}
        first: dict[Any, int] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                self._at(line, "A key must be a text.")
                continue
            key = self._scalar(key_node, place)
            if key is BAD:
                continue
            if key == "<<" and key_node.style is None:
                self._at(line, "Merge keys (`<<`) are not read.", "Write the fields out.")
            elif key in first:
                message = f"{key!r} is there twice; the first is in line {first[key]}."
                self._at(line, message)
            else:
                first[key] = line
                self._lines[(*place, str(key))] = line
                values[key] = self._value(value_node, (*place, str(key)))
        return values

    def _scalar(self, node: yaml.ScalarNode, place: Place) -> Any:
        text, tag = node.value, _short(node.tag)
        quoted = f'Put it in quotes: "{text}".'
        if tag == "!!str":
            return text
        if tag == "!!null" and _NULL.match(text):
            return None
        if tag == "!!bool" and _BOOL.match(text):
            return text.lower() == "true"
        if tag == "!!int" and _INT.match(text):
            digits = text.lstrip("+-")
            if len(digits) > 1 and digits[0] == "0" and digits.isdecimal():
                return self._refuse(place, f"{text} is read differently by different YAML.", quoted)
            if len(digits) > 40:
                return self._refuse(place, f"{text[:40]}... is too large.", "Write it as a text.")
            return int(text, 0)
        if tag == "!!float" and (_FLOAT.match(text) or _INT.match(text)):
            return float(text)
        if tag == "!!float" and _NO_NUMBER.match(text):
            return float(text.replace(".", ""))
        if tag == "!!timestamp":
            return self._refuse(place, f"{text} is a date or time in YAML.", quoted)
        return self._refuse(place, f"{text[:40]!r} cannot be read as {tag}.")

    def _refuse(self, place: Place, message: str, hint: str | None = None) -> Any:
        self._found.add(place, message, hint)
        return BAD

    def _at(self, line: int, message: str, hint: str | None = None) -> None:
        """Add a problem at a line that is not that of a value."""
        self._found.problems.append(PlanProblem(message, line, hint, self._found.file))


class _TooMany(Exception):
    """Raised when aliases would make a file too large."""


def _short(tag: str) -> str:
    return tag.replace(_TAG, "!!")
