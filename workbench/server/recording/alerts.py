"""Alerts: rules over what the server has seen in the last minutes.

Pure: `AlertBoard` takes what happened and the time, and returns what changed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from workbench.config import AlertRule
from workbench.server.recording.histograms import SlidingHistogram

# A rule that fired ends when its figure is this much better than its limit, so that one that lies
# on the limit does not come and go.
_CLEAR = 0.9


@dataclass(frozen=True, slots=True)
class AlertChange:
    """An alert that began or ended.

    Attributes:
        value: The figure, in the unit of the rule's limit; `None` for a backend that is down.
        text: One sentence for a person.
    """

    rule: AlertRule
    kind: Literal["began", "ended"]
    subject: str
    value: float | None
    text: str


@dataclass(slots=True)
class AlertBoard:
    """The rules, what they watch, and which of them hold now.

    A rule without a model watches every model by itself, and likewise with backends and devices.
    """

    rules: tuple[AlertRule, ...]
    _seen: dict[tuple[str, str], SlidingHistogram] = field(default_factory=dict)
    _holds: dict[tuple[str, str], AlertChange] = field(default_factory=dict)

    @property
    def active(self) -> list[AlertChange]:
        """The alerts that hold now, the oldest first."""
        return list(self._holds.values())

    def request_ended(
        self, now: float, *, model: str, duration_s: float | None, ok: bool
    ) -> list[AlertChange]:
        """Take the end of a request and return what changed by it."""
        changes = []
        for rule in self.rules:
            if rule.kind not in ("p95", "error_share") or rule.model not in (None, model):
                continue
            seen = self._seen.get((rule.name, model))
            if seen is None:
                seen = self._seen[rule.name, model] = SlidingHistogram(rule.window_s)
            # A failed request is no slow one: its time says nothing of the model's speed.
            seen.add(now, duration_s=duration_s if ok else None, ok=ok)
            changes += self._judge_requests(rule, model, seen, now)
        return changes

    def tick(self, now: float) -> list[AlertChange]:
        """Judge again as the window moves on; called every few seconds."""
        changes = []
        for rule in self.rules:
            for (name, model), seen in list(self._seen.items()):
                if name == rule.name:
                    changes += self._judge_requests(rule, model, seen, now)
        return changes

    def _judge_requests(
        self, rule: AlertRule, model: str, seen: SlidingHistogram, now: float
    ) -> list[AlertChange]:
        count = seen.count(now)
        if not count:
            return self._set(rule, model, None, holds=False, text=f"{model}: no requests any more")
        if rule.kind == "p95":
            value = seen.quantile(now, 0.95)
            text = f"{model}: p95 of {count} requests is {_shown(value)} s"
        else:
            value = seen.error_share(now)
            text = f"{model}: {_shown(None if value is None else value * 100)} % of {count} failed"
        if value is None or count < rule.min_requests:
            return []
        return self._set(rule, model, value, holds=self._over(rule, model, value), text=text)

    def memory(self, device: str, free_share: float | None) -> list[AlertChange]:
        """Take the free share (0 to 1) of a device's memory; unknown changes nothing."""
        changes = []
        for rule in self.rules:
            if rule.kind != "low_memory" or free_share is None:
                continue
            held = (rule.name, device) in self._holds
            low = free_share < (rule.limit / _CLEAR if held else rule.limit)
            text = f"{device}: {free_share:.0%} of its memory is free"
            changes += self._set(rule, device, free_share, holds=low, text=text)
        return changes

    def backend(self, name: str, error: str | None) -> list[AlertChange]:
        """Take whether a backend answers."""
        changes = []
        for rule in self.rules:
            if rule.kind == "backend_down" and rule.backend in (None, name):
                text = f"{name} answers" if error is None else f"{name} does not answer: {error}"
                changes += self._set(rule, name, None, holds=error is not None, text=text)
        return changes

    def _over(self, rule: AlertRule, subject: str, value: float) -> bool:
        held = (rule.name, subject) in self._holds
        return value > rule.limit * (_CLEAR if held else 1.0)

    def _set(
        self, rule: AlertRule, subject: str, value: float | None, *, holds: bool, text: str
    ) -> list[AlertChange]:
        key = (rule.name, subject)
        if holds == (key in self._holds):
            return []
        change = AlertChange(rule, "began" if holds else "ended", subject, value, text)
        if holds:
            self._holds[key] = change
        else:
            del self._holds[key]
        return [change]


def _shown(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3g}"
