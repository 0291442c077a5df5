"""The line of a cell magic: options with the nearest name when one is wrong, and what is shared."""

from __future__ import annotations

import argparse
import keyword
import math
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn
from weakref import WeakKeyDictionary

from IPython.core.error import UsageError

from workbench.app import Workbench, connect
from workbench.errors import WorkbenchError
from workbench.messages import OPTION_TYPES, nearest_names
from workbench.units import parse_go_duration

NAME = "wb"
"""The variable whose workbench is used, where there is one."""

_OWN: WeakKeyDictionary[Any, Workbench] = WeakKeyDictionary()
_TRUE = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


@dataclass(frozen=True, slots=True)
class Option:
    """One option of a magic's line.

    Attributes:
        name: With its dashes.
        metavar: What its value is called; empty of a flag.
        help: One sentence.
        short: A form with one dash, or an empty string.
        kind: Type of the value.
    """

    name: str
    metavar: str
    help: str
    short: str = ""
    kind: type = str

    @property
    def field(self) -> str:
        """The name of its value."""
        return self.name.lstrip("-").replace("-", "_")


AS = Option("--as", "NAME", "Keep the result under this name.")
SYSTEM = Option("--system", "TEXT", "The system prompt.")
THINK = Option("--think", "HOW", "Whether or how hard to think: true, false, low, medium, high.")
KEEP_ALIVE = Option("--keep-alive", "TIME", "How long models stay loaded: seconds, or as 10m.")


def model_options() -> tuple[Option, ...]:
    """Return an option for each option of Ollama's API, such as `--temperature`."""
    return tuple(
        Option(f"--{name.replace('_', '-')}", kind.__name__.upper(), f"Ollama's `{name}`.")
        for name, kind in OPTION_TYPES.items()
    )


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{self.prog}: {message}\n{self.format_usage().rstrip()}")


class Line:
    """Reads the line of one magic.

    Args:
        magic: Its name, with the percent signs.
        options: Its options.
        models: How many names of models it takes: `one`, `some` or `none`.
        with_model_options: Whether options of Ollama's API may stand on the line.
    """

    def __init__(
        self,
        magic: str,
        options: Iterable[Option],
        *,
        models: str = "none",
        with_model_options: bool = False,
    ) -> None:
        self.magic = magic
        self.options = tuple(options)
        self.takes_models = models != "none"
        self.model_options = model_options() if with_model_options else ()
        self._parser = _Parser(prog=magic, add_help=False, allow_abbrev=False)
        if self.takes_models:
            many = "?" if models == "one" else "*"
            self._parser.add_argument("models", metavar="MODEL", nargs=many)
        for option in self.options:
            flags = [option.short, option.name] if option.short else [option.name]
            if option.metavar:
                self._parser.add_argument(
                    *flags, dest=option.field, metavar=option.metavar, type=option.kind
                )
            else:
                self._parser.add_argument(*flags, dest=option.field, action="store_true")
        for option in self.model_options:
            # Both forms are typed: that of Ollama and that of a command line.
            names = dict.fromkeys((option.name, f"--{option.field}"))
            self._parser.add_argument(*names, dest=option.field, help=argparse.SUPPRESS)

    @property
    def names(self) -> tuple[str, ...]:
        """Every option as it can be typed."""
        short = tuple(option.short for option in self.options if option.short)
        return (*(o.name for o in self.options), *(o.name for o in self.model_options), *short)

    def read(self, line: str) -> argparse.Namespace:
        """Return what stands on the line; `as` is a name that can be assigned to.

        Raises:
            UsageError: When something on it cannot be meant.
        """
        try:
            words = shlex.split(line)
        except ValueError as exc:
            hint = ' Put a text with an apostrophe in "double quotes".' if "'" in line else ""
            raise UsageError(f"{self.magic}: the line cannot be read: {exc}.{hint}") from exc
        given, rest = self._parser.parse_known_args(words)
        for word in rest:
            if word.startswith("-"):
                near = nearest_names(word.partition("=")[0], self.names, count=1)
                hint = f" Did you mean {near[0]}?" if near else f" There are {self._known()}."
                raise UsageError(f"{self.magic}: unknown option {word}.{hint}")
        if rest:
            raise UsageError(f"{self.magic}: {rest[0]!r} was not expected here.")
        for field in ("as", "output", "session"):
            name = getattr(given, field, None)
            if name is not None and (not name.isidentifier() or keyword.iskeyword(name)):
                raise UsageError(f"{self.magic}: {name!r} is no name of a variable.")
        return given

    def _known(self) -> str:
        return ", ".join(option.name for option in self.options)

    def options_of(self, given: argparse.Namespace) -> dict[str, Any]:
        """Return the options of Ollama's API on the line, as their types.

        Raises:
            UsageError: When a value is of another type.
        """
        found: dict[str, Any] = {}
        for option in self.model_options:
            text = getattr(given, option.field)
            if text is not None:
                found[option.field] = self._value(option, text)
        return found

    def _value(self, option: Option, text: str) -> Any:
        kind = OPTION_TYPES[option.field]
        if kind is list:
            return [text]
        try:
            if kind is bool:
                return _TRUE[text.lower()]
            return kind(text)
        except (KeyError, ValueError) as exc:
            wanted = {int: "an integer", float: "a number", bool: "true or false"}[kind]
            raise UsageError(f"{self.magic}: {option.name} is {wanted}, not {text!r}.") from exc


def thinking(text: str | None) -> bool | str | None:
    """Return what `--think` says."""
    return None if text is None else _TRUE.get(text.lower(), text)


def keeping(text: str | None) -> float | str | None:
    """Return what `--keep-alive` says: seconds, or a duration.

    Raises:
        UsageError: When it is no time.
    """
    try:
        seconds = None if text is None else float(text)
    except ValueError:
        return _duration(text or "")
    if seconds is not None and not math.isfinite(seconds):
        raise _no_keep_alive(text)
    return seconds


def _duration(text: str) -> str:
    try:
        parse_go_duration(text)
    except ValueError as exc:
        raise _no_keep_alive(text) from exc
    return text


def _no_keep_alive(text: str | None) -> UsageError:
    return UsageError(f"--keep-alive is seconds, or as 10m, not {text!r}; -1 is for ever.")


def workbench_of(shell: Any) -> Workbench:
    """Return the workbench of a shell: `wb` of its namespace, any other there, or one of ours."""
    named = shell.user_ns.get(NAME)
    if isinstance(named, Workbench):
        return named
    for value in tuple(shell.user_ns.values()):
        if isinstance(value, Workbench):
            return value
    if shell not in _OWN:
        _OWN[shell] = connect()
    return _OWN[shell]


def held_workbench(shell: Any) -> Workbench | None:
    """Return the workbench a shell has already; none is connected for it."""
    values: Mapping[str, Any] = shell.user_ns
    named = values.get(NAME)
    if isinstance(named, Workbench):
        return named
    found = next((one for one in tuple(values.values()) if isinstance(one, Workbench)), None)
    return found or _OWN.get(shell)


def sentence(error: WorkbenchError) -> str:
    """Return what an error says and hints, each as a sentence."""
    text = error.message.rstrip()
    text = text if text.endswith((".", "?", "!")) else f"{text}."
    return f"{text} {error.hint}" if error.hint else text


def usage_error(magic: str, error: WorkbenchError) -> UsageError:
    """Return an error of what was typed as IPython shows it without a traceback."""
    return UsageError(f"{magic}: {sentence(error)}")
