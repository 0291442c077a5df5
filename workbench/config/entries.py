"""One `[[...]]` entry of the toml file: what every kind of entry is read with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from workbench.config.toml_file import TomlFile
from workbench.errors import ConfigError
from workbench.messages import nearest_names


class Entry:
    """An entry; everything about it that is wrong is said with its line.

    Attributes:
        table: Name of the table, as in `[[table]]`.
        keys: The keys an entry may have.
    """

    table: ClassVar[str]
    keys: ClassVar[Sequence[str]]

    def __init__(self, toml: TomlFile, entry: object, number: int) -> None:
        self._toml = toml
        self._number = number
        self._entry: dict[str, Any] = entry if isinstance(entry, dict) else {}
        if not isinstance(entry, dict):
            raise self.error(f"write each {self.table} as [[{self.table}]].")
        for key in sorted(set(self._entry) - set(self.keys)):
            near = nearest_names(key, self.keys, count=1)
            hint = f"Did you mean {near[0]!r}?" if near else None
            raise self.error(f"unknown key '{self.table}.{key}'.", key, hint=hint)

    def error(self, message: str, key: str = "", *, hint: str | None = None) -> ConfigError:
        """Build the error about a key of this entry, or about the entry."""
        where = f"{self.table}.{key}" if key else self.table
        return self._toml.error(message, where, entry=self._number, hint=hint)

    def text(self, key: str) -> str | None:
        """Return a text that is not empty, or `None` when there is none."""
        value = self._entry.get(key)
        if value is not None and (not isinstance(value, str) or not value):
            raise self.error(f"{key} is text, not {value!r}.", key)
        return value

    def needed_text(self, key: str) -> str:
        """Return a text that must be there."""
        value = self.text(key)
        if value is None:
            article = "an" if self.table[0] in "aeiou" else "a"
            raise self.error(f'{article} {self.table} needs {key} = "...".', key)
        return value

    def one_of(self, key: str, known: Sequence[str]) -> str:
        """Return a text that is one of these."""
        value = self._entry.get(key)
        if value not in known:
            listed = ", ".join(repr(item) for item in known)
            raise self.error(
                f"unknown {self.table} {key} {value!r}.", key, hint=f"Known: {listed}."
            )
        return str(value)


def entries_of(toml: TomlFile, table: str) -> list[Any]:
    """Return the entries of a `[[table]]`."""
    entries = toml.tables.get(table, [])
    if not isinstance(entries, list):
        raise toml.error(f"write each {table} as [[{table}]].", table)
    return entries


def refuse_twins(toml: TomlFile, table: str, names: Iterable[str]) -> None:
    """Refuse two entries of one name."""
    seen: set[str] = set()
    for number, name in enumerate(names):
        if name in seen:
            text = f"two {table}s are named {name!r}."
            raise toml.error(text, f"{table}.name", entry=number)
        seen.add(name)
