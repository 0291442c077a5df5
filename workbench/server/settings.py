"""The settings of a running server: their values, where these come from, and changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from workbench.config import SETTINGS, SWAP_MODES, Config, Setting, convert_value
from workbench.errors import ResponseError
from workbench.messages import nearest_names
from workbench.server.events import Events
from workbench.server.residency.manager import Residency
from workbench.server.state import State

# Kinds as the clients know them.
_KINDS = {"bytes": "int"}


@dataclass(slots=True)
class _Value:
    value: Any
    source: str


class Settings:
    """Every setting of the server; changes are applied at once and remembered in `state.json`."""

    def __init__(self, config: Config, state: State, residency: Residency, events: Events) -> None:
        self._config = config
        self._state = state
        self._residency = residency
        self._events = events
        self._settings = {setting.key: setting for setting in SETTINGS}
        self._values = {
            setting.key: _Value(getattr(config, setting.field), config.sources[setting.key])
            for setting in SETTINGS
        }
        for entry in config.backends:
            key = f"swap.{entry.name}"
            self._settings[key] = Setting(
                key,
                "choice",
                config.fallbacks[key][0] if config.fallbacks[key][1] == "default" else None,
                "",
                f"Who makes room for models of {entry.name}: this server by itself, this server "
                "after asking, or the backend.",
                SWAP_MODES,
                changeable=True,
            )
            self._values[key] = _Value(entry.swap, entry.swap_source)

    def value(self, name: str) -> Any:
        """Return the value of a setting as it is now."""
        return self._values[name].value

    def rows(self) -> list[dict[str, Any]]:
        """Return every setting as our clients read it; the token is shown as set or not."""
        return [self._row(setting) for setting in self._settings.values()]

    def _row(self, setting: Setting) -> dict[str, Any]:
        found = self._values[setting.key]
        value = found.value
        if setting.key == "token":
            value = "set" if value else None
        return {
            "name": setting.key,
            "value": _plain(value),
            "default": _plain(setting.default),
            "source": found.source,
            "changeable": setting.changeable,
            "kind": _KINDS.get(setting.kind, setting.kind),
            "choices": list(setting.choices),
            "help": setting.doc,
        }

    def change(self, changes: dict[str, Any], *, actor: str) -> None:
        """Change settings, all or none; `None` takes a change back.

        Raises:
            ResponseError: With status 404 for an unknown name, 400 for a value that cannot be used,
                409 for a setting that cannot be changed now.
        """
        checked = {name: self._checked(name, value) for name, value in changes.items()}
        for name, found in checked.items():
            self._values[name] = found
            self._state.remember_setting(name, found.value if found.source == "state" else None)
            self._apply(name, found.value)
            self._events.emit("setting", name=name, value=_plain(found.value), actor=actor)

    def _checked(self, name: str, value: Any) -> _Value:
        setting = self._settings.get(name)
        if setting is None:
            near = nearest_names(name, sorted(self._settings), count=1)
            hint = f"Did you mean {near[0]!r}?" if near else None
            raise ResponseError(f"unknown setting {name!r}", status=404, hint=hint)
        now = self._values[name]
        if not setting.changeable:
            raise ResponseError(
                f"{name} cannot be changed while the server runs",
                status=409,
                hint=f"Set it in {self._config.file} and restart the server.",
            )
        if now.source == "flag" or now.source.startswith("environment"):
            raise ResponseError(
                f"{name} was set by {now.source}, which stands above a change", status=409
            )
        if value is None:
            fallback = self._config.fallbacks.get(name)
            if fallback is None:
                # Not changed when the server started: what it had then is what it falls back to.
                fallback = (getattr(self._config, setting.field), self._config.sources[name])
            return _Value(*fallback)
        try:
            return _Value(convert_value(setting, value), "state")
        except ValueError as exc:
            raise ResponseError(str(exc), status=400) from exc

    def _apply(self, name: str, value: Any) -> None:
        section, _, rest = name.partition(".")
        if section == "swap":
            self._with_hosts(lambda host: setattr(host.limits, "swap", value), only=rest)
        elif name == "queue.interactive_wait_s":
            self._residency.configure_queue(interactive_wait_s=value)
        elif name == "queue.batch_wait_s":
            self._residency.configure_queue(batch_wait_s=value)
        elif name == "queue.concurrency":
            self._with_hosts(lambda host: setattr(host.limits, "concurrency", value))
        elif section == "engine":
            self._apply_engine(rest, value)

    def _apply_engine(self, name: str, value: Any) -> None:
        if name == "memory_bytes":
            field, value = "budget_bytes", value or psutil.virtual_memory().total
        else:
            field = name
        engines = [entry.name for entry in self._config.backends if entry.kind == "llamacpp"]
        for engine in engines:
            self._with_hosts(lambda host: setattr(host.limits, field, value), only=engine)

    def _with_hosts(self, change: Callable[[Any], None], *, only: str | None = None) -> None:
        for name, host in self._residency.hosts.items():
            if only in (None, name):
                change(host)
                host.departures.rest_again()


def _plain(value: Any) -> Any:
    """Return a value as JSON has it."""
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value
