"""What is wished for each model: priority, pin, hot, keep_alive, longest idle time.

The wishes are kept in `state.json`, by backend and name: a model that is pulled anew keeps them.
They reach an Ollama host as keep_alive, which is all it knows: it evicts the shortest first.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from workbench.server.residency.resident import Resident
from workbench.server.state import State

DEFAULT_PRIORITY = 5
# Ollama's own default, and what one step of priority adds to it.
USUAL_KEEP_ALIVE_S = 300.0
PRIORITY_STEP_S = 30.0
# Renewed again and again while this server lives, so that a dead one pins nothing for ever.
PINNED_KEEP_ALIVE_S = 7200.0


@dataclass(frozen=True, slots=True)
class Preferences:
    """The wishes for one model.

    Attributes:
        priority: 0 leaves first, 9 last.
        pinned: It never leaves to make room, except by force.
        hot: It is loaded when the server starts, and again when memory allows.
        keep_alive_s: Seconds it stays after its last request; infinite is for ever.
        max_idle_s: Seconds without a request after which it leaves, whatever its keep_alive.
    """

    priority: int = DEFAULT_PRIORITY
    pinned: bool = False
    hot: bool = False
    keep_alive_s: float | None = None
    max_idle_s: float | None = None

    @property
    def stays(self) -> bool:
        """Whether the model is kept in memory without requests."""
        return self.pinned or self.hot


USUAL = Preferences()


class Profiles:
    """The wishes for all models."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._wishes = {key: _read(row) for key, row in state.preferences().items()}

    def of(self, backend: str, name: str) -> Preferences:
        """Return the wishes for a model."""
        return self._wishes.get(_key(backend, name), USUAL)

    def of_resident(self, resident: Resident) -> Preferences:
        """Return the wishes for what is in memory: the strongest of all names that share it."""
        found = [
            wishes
            for name in resident.names
            if (wishes := self._wishes.get(_key(resident.backend.name, name))) is not None
        ]
        return strongest(found)

    def change(self, backend: str, name: str, **changes: Any) -> Preferences:
        """Change wishes and keep them."""
        key = _key(backend, name)
        wishes = replace(self._wishes.get(key, USUAL), **changes)
        self._wishes[key] = wishes
        self._state.remember_preferences(key, _written(wishes))
        return wishes

    def forget(self, backend: str, name: str) -> None:
        """Forget the wishes for a model that was deleted."""
        if self._wishes.pop(_key(backend, name), None) is not None:
            self._state.remember_preferences(_key(backend, name), {})

    def hot(self, backend: str) -> list[str]:
        """Return the models of a backend that are to be in memory, the most important first."""
        head = f"{backend}/"
        names = [
            (-wishes.priority, key.removeprefix(head))
            for key, wishes in self._wishes.items()
            if wishes.hot and key.startswith(head)
        ]
        return [name for _, name in sorted(names)]


def strongest(wishes: Iterable[Preferences]) -> Preferences:
    """Return what several names wish for the one model they share."""
    rows = list(wishes)
    if not rows:
        return USUAL
    kept = [row.keep_alive_s for row in rows if row.keep_alive_s is not None]
    idle = [row.max_idle_s for row in rows if row.max_idle_s is not None]
    return Preferences(
        max(row.priority for row in rows),
        any(row.pinned for row in rows),
        any(row.hot for row in rows),
        max(kept, default=None),
        min(idle, default=None),
    )


def staying_s(
    wishes: Preferences, asked_s: float | None, *, held: bool, host: bool
) -> float | None:
    """Return how long a model stays after its last request; `None` is the backend's default.

    Args:
        asked_s: The keep_alive of the request, which stands above the wish for the model.
        held: Whether it must not leave: pinned, hot or leased.
        host: Whether the backend counts by itself, and must outlive no server of ours.
    """
    if held:
        return PINNED_KEEP_ALIVE_S if host else math.inf
    seconds = wishes.keep_alive_s if asked_s is None else asked_s
    if seconds is None and host and wishes.priority != DEFAULT_PRIORITY:
        # Ollama evicts the shortest keep_alive first: so its order is ours.
        seconds = USUAL_KEEP_ALIVE_S + PRIORITY_STEP_S * (wishes.priority - DEFAULT_PRIORITY)
    if host and asked_s is None and seconds is not None:
        seconds = min(seconds, PINNED_KEEP_ALIVE_S)
    if wishes.max_idle_s is not None:
        seconds = wishes.max_idle_s if seconds is None else min(seconds, wishes.max_idle_s)
    return seconds


def _key(backend: str, name: str) -> str:
    return f"{backend}/{name.lower()}"


def _written(wishes: Preferences) -> dict[str, Any]:
    """Return what differs from the usual; JSON has no infinity, so for ever is -1."""
    row = {name: value for name, value in asdict(wishes).items() if value != getattr(USUAL, name)}
    return {name: -1 if value == math.inf else value for name, value in row.items()}


def _read(row: dict[str, Any]) -> Preferences:
    """Read what was written; what another version wrote in another form is left out."""
    kinds = {"priority": int, "pinned": bool, "hot": bool}
    wishes: dict[str, Any] = {}
    for item in fields(Preferences):
        value = row.get(item.name)
        kind = kinds.get(item.name, (int, float))
        if isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
            wishes[item.name] = math.inf if value == -1 and item.name.endswith("_s") else value
    return Preferences(**wishes)
