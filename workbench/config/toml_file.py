"""The user's `workbench.toml`, read so that every error names its line and key."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from workbench.config.settings import SETTINGS, Setting, convert_value
from workbench.errors import ConfigError
from workbench.messages import nearest_names

# Tables that are written with [[...]] and read by modules of their own.
_LISTS = {"alert", "backend", "token"}


class TomlFile:
    """The user's file, with the line of each key for error messages.

    Args:
        named: Whether the user named it: then it must be there.
    """

    def __init__(self, path: Path, *, named: bool = False) -> None:
        self.path = path
        self._text = ""
        self.tables: dict[str, Any] = {}
        try:
            # Windows' Notepad begins a file with a byte order mark.
            self._text = path.read_text(encoding="utf-8-sig")
            self.tables = tomllib.loads(self._text)
        except FileNotFoundError as exc:
            if named:
                hint = "Correct WORKBENCH_CONFIG, or clear it."
                raise ConfigError("there is no such file.", file=str(path), hint=hint) from exc
        except OSError as exc:
            hint = "Make it a file that you may read, or move it away."
            text = f"cannot be read: {exc.strerror}."
            raise ConfigError(text, file=str(path), hint=hint) from exc
        except UnicodeDecodeError as exc:
            hint = "Save it again as UTF-8."
            raise ConfigError(f"cannot be read: {exc}.", file=str(path), hint=hint) from exc
        except tomllib.TOMLDecodeError as exc:
            found = re.search(r"at line (\d+)", str(exc))
            line = int(found[1]) if found else self._text.count("\n") + 1
            key = self._key_at(line)
            raise ConfigError(
                f"not valid TOML: {exc}.", file=str(path), line=line, key=key
            ) from exc

    def get(self, key: str) -> object:
        section, name = key.split(".", 1)
        table = self.tables.get(section)
        return table.get(name) if isinstance(table, dict) else None

    def convert(self, setting: Setting, value: object) -> Any:
        try:
            return convert_value(setting, value)
        except ValueError as exc:
            raise self.error(str(exc), setting.key) from exc

    def error(
        self, message: str, key: str, *, entry: int = 0, hint: str | None = None
    ) -> ConfigError:
        """Build the error about a key; `entry` counts the `[[...]]` it stands in from 0."""
        line = self.line(key, entry=entry)
        return ConfigError(message, file=str(self.path), line=line, key=key, hint=hint)

    def line(self, key: str, *, entry: int = 0) -> int | None:
        """Return the line (from 1) of `section.name`, else of the section it is missing in."""
        section, _, name = key.partition(".")
        dotted = rf"\s*\"?{re.escape(section)}\"?\s*(\.\s*\"?{re.escape(name)}\"?\s*)?="
        plain = rf"\s*\"?{re.escape(name)}\"?\s*="
        current, seen, found = "", -1, None
        for number, text in enumerate(self._text.split("\n"), start=1):
            header = re.match(r"\s*\[\[?\s*\"?([\w.-]+)\"?\s*\]\]?", text)
            if header:
                current = header[1]
                seen += current == section
                if current == section and seen == entry:
                    found = number
                    if not name:
                        return number
            inside = name and (current, seen) == (section, entry) and re.match(plain, text)
            if inside or (not current and re.match(dotted, text)):
                return number
        return found

    def _key_at(self, line: int) -> str | None:
        rows = self._text.split("\n")
        found = re.match(r"\s*([\w.-]+)\s*=", rows[line - 1]) if 0 < line <= len(rows) else None
        return found[1] if found else None

    def refuse_unknown(self) -> None:
        """Refuse keys that no setting has, with the nearest one."""
        known = {setting.key for setting in SETTINGS if "." in setting.key}
        sections = {key.split(".")[0] for key in known} | _LISTS
        for section, table in self.tables.items():
            if section not in sections:
                raise self._unknown(section, known | sections)
            if section in _LISTS:
                continue
            if not isinstance(table, dict):
                raise self.error(f"[{section}] must be a table.", section)
            for name in table:
                if f"{section}.{name}" not in known:
                    raise self._unknown(f"{section}.{name}", known)

    def _unknown(self, key: str, known: set[str]) -> ConfigError:
        near = nearest_names(key, sorted(known), count=1)
        hint = f"Did you mean {near[0]!r}?" if near else None
        return self.error(f"unknown key {key!r}.", key, hint=hint)
