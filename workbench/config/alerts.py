"""The `[[alert]]` entries of the toml file; without any, nothing is watched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

from workbench.config.entries import Entry, entries_of, refuse_twins
from workbench.config.toml_file import TomlFile
from workbench.units import parse_go_duration

AlertKind = Literal["p95", "error_share", "low_memory", "backend_down"]

ALERT_KINDS: tuple[AlertKind, ...] = ("p95", "error_share", "low_memory", "backend_down")
_UNITS = {
    "p95": "seconds up to 86400",
    "error_share": "a share from 0 to 1",
    "low_memory": "a free share from 0 to 1",
}
_MOST = {"p95": 86400.0, "error_share": 1.0, "low_memory": 1.0}
_MOST_REQUESTS = 1_000_000


@dataclass(frozen=True, slots=True)
class AlertRule:
    """One `[[alert]]`.

    Attributes:
        limit: Seconds for `p95`; a share from 0 to 1 of failed requests for `error_share` and of
            free memory for `low_memory`; unused for `backend_down`.
        window_s: How far back requests count.
        model: `name@backend`; `None` watches every model by itself.
        backend: Name of a backend; `None` watches every one.
        min_requests: Fewer than these say nothing yet.
    """

    name: str
    kind: AlertKind
    limit: float = 0.0
    window_s: float = 300.0
    model: str | None = None
    backend: str | None = None
    min_requests: int = 20


def read_alerts(toml: TomlFile, backends: Sequence[str]) -> tuple[AlertRule, ...]:
    """Return the rules of the file.

    Args:
        backends: Names that a rule may watch.

    Raises:
        ConfigError: When an entry cannot be used; names the file, line and key.
    """
    entries = entries_of(toml, "alert")
    rules = tuple(_Alert(toml, entry, number).read() for number, entry in enumerate(entries))
    refuse_twins(toml, "alert", (rule.name for rule in rules))
    for number, rule in enumerate(rules):
        if rule.backend is not None and rule.backend not in backends:
            text = f"there is no backend {rule.backend!r}, so this alert would never be raised."
            hint = f"Known: {', '.join(backends)}."
            raise toml.error(text, "alert.backend", entry=number, hint=hint)
    return rules


class _Alert(Entry):
    table = "alert"
    keys = ("name", "kind", "limit", "window", "model", "backend", "min_requests")

    def read(self) -> AlertRule:
        """Return the rule."""
        kind = cast(AlertKind, self.one_of("kind", ALERT_KINDS))
        return AlertRule(
            self.needed_text("name"),
            kind,
            0.0 if kind == "backend_down" else self._limit(kind),
            self._window(),
            self.text("model"),
            self.text("backend"),
            self._least(),
        )

    def _limit(self, kind: AlertKind) -> float:
        value = self._entry.get("limit")
        good = isinstance(value, int | float) and not isinstance(value, bool)
        # Not a number is not within either.
        if not good or not 0 < float(value or 0) <= _MOST[kind]:
            text = f"limit of {kind!r} is {_UNITS[kind]}, above 0, not {value!r}."
            raise self.error(text, "limit")
        return float(value or 0)

    def _window(self) -> float:
        value = self._entry.get("window", 300)
        try:
            seconds = parse_go_duration(value) if isinstance(value, str) else float(value)
        except (TypeError, ValueError):
            seconds = 0.0
        if not 1 <= seconds <= 86400:
            raise self.error(
                f"window is from 1 to 86400 seconds or a duration as '5m', not {value!r}.", "window"
            )
        return seconds

    def _least(self) -> int:
        value = self._entry.get("min_requests", 20)
        if (
            isinstance(value, bool)
            or not isinstance(value, int)
            or not (1 <= value <= _MOST_REQUESTS)
        ):
            text = f"min_requests is a whole number from 1 to {_MOST_REQUESTS}, not {value!r}."
            raise self.error(text, "min_requests")
        return value
