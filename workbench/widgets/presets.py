"""Named presets: system prompt, options and thinking, one JSON file each in the data folder."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workbench.errors import ConfigError, StoreError
from workbench.messages import GenerateConfig

_NAME = re.compile(r"[\w][\w .+-]{0,60}")


@dataclass(frozen=True, slots=True)
class Preset:
    """A named way of asking.

    Attributes:
        options: Ollama options.
    """

    name: str
    system: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    think: bool | str | None = None

    def to_json(self) -> str:
        """Return the text of its file; equal presets give equal text."""
        body = {"system": self.system, "options": dict(self.options), "think": self.think}
        return json.dumps(body, ensure_ascii=False, indent=1, sort_keys=True) + "\n"

    @property
    def digest(self) -> str:
        """First 16 hexadecimal digits of the SHA-256 of its file."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]


def presets_dir(data_dir: Path) -> Path:
    """Return where presets lie."""
    return data_dir / "presets"


def list_presets(data_dir: Path) -> list[Preset]:
    """Return every preset that can be read, by name."""
    found = []
    for path in sorted(presets_dir(data_dir).glob("*.json")):
        preset = _read(path)
        if preset is not None:
            found.append(preset)
    return found


def _read(path: Path) -> Preset | None:
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
        config = GenerateConfig(options=body.get("options") or {}, think=body.get("think"))
        return Preset(path.stem, str(body.get("system") or ""), config.options, config.think)
    except (OSError, ValueError, AttributeError, ConfigError):
        return None


def save_preset(data_dir: Path, preset: Preset) -> None:
    """Write a preset, replacing the one of that name.

    Raises:
        ConfigError: When the name cannot be a file's.
        StoreError: When it cannot be written.
    """
    path = _path(data_dir, preset.name)
    temporary = path.with_suffix(".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(preset.to_json(), encoding="utf-8")
        os.replace(temporary, path)
    except OSError as exc:
        raise StoreError(f"The preset could not be written: {exc.strerror}.") from exc


def delete_preset(data_dir: Path, name: str) -> None:
    """Remove a preset; one that is not there is fine."""
    _path(data_dir, name).unlink(missing_ok=True)


def _path(data_dir: Path, name: str) -> Path:
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"{name!r} cannot be the name of a preset.",
            key="preset",
            hint="Use letters, digits, spaces and . + - _, at most 60.",
        )
    return presets_dir(data_dir) / f"{name}.json"
