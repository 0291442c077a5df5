"""The attempts at the steps of a run, as its journal tells them; pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

AttemptStatus = Literal["running", "done", "cached", "failed", "waiting", "cancelled", "lost"]

_ENDS: Mapping[str, AttemptStatus] = {
    "step_committed": "done",
    "step_cached": "cached",
    "step_failed": "failed",
    "step_waiting": "waiting",
    "step_cancelled": "cancelled",
}


@dataclass(slots=True)
class Attempt:
    """One attempt at a step, or at an item of its `foreach`.

    Attributes:
        item: Index of the item; `None` for the step itself.
        number: From 1.
        total: Items of the `foreach`, on the step itself; its attempts are those of the items.
        status: `lost` when the process was gone before it ended.
        seconds: From beginning to end, by a clock that never moves back.
        error: `{type, message, hint}`.
        execution: In which execution of the run it was made, from 1.
    """

    step: str
    item: int | None
    number: int
    execution: int
    started: datetime | None = None
    ended: datetime | None = None
    seconds: float | None = None
    status: AttemptStatus = "running"
    error: Mapping[str, Any] | None = None
    model: str | None = None
    key: str | None = None
    total: int | None = None
    from_run: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return what the record keeps of it."""
        return {
            "item": self.item,
            "attempt": self.number,
            "execution": self.execution,
            "started": iso(self.started),
            "ended": iso(self.ended),
            "seconds": self.seconds,
            "status": self.status,
            "error": None if self.error is None else dict(self.error),
        }


@dataclass(slots=True)
class Attempts:
    """All attempts of a run, in the order in which they began; `take` folds in further lines."""

    execution: int = 0
    all: list[Attempt] = field(default_factory=list)
    _open: dict[tuple[str, int | None], Attempt] = field(default_factory=dict)

    def take(self, lines: Iterable[Mapping[str, Any]]) -> list[Attempt]:
        """Fold in lines and return the attempts that changed, each once."""
        changed: dict[int, Attempt] = {}
        for line in lines:
            for attempt in self._take(line):
                changed[id(attempt)] = attempt
        return list(changed.values())

    def of(self, step: str) -> list[Attempt]:
        """Return the attempts at a step and its items."""
        return [attempt for attempt in self.all if attempt.step == step]

    def _take(self, line: Mapping[str, Any]) -> list[Attempt]:
        event = line["event"]
        if event == "run_started":
            self.execution = int(line.get("execution", self.execution + 1))
            return self._lost()
        if event == "run_finished":
            return self._lost()
        if "step" not in line:
            return []
        where = (str(line["step"]), line.get("item"))
        if event == "step_started":
            return [self._begin(where, line)]
        status = _ENDS.get(event)
        if status is None:
            return []
        attempt = self._open.pop(where, None) or self._begin(where, line)
        self._open.pop(where, None)
        attempt.status, attempt.ended = status, moment(line)
        attempt.seconds, attempt.error = line.get("seconds"), line.get("error")
        attempt.key = line.get("key", attempt.key)
        attempt.from_run = line.get("from_run")
        return [attempt]

    def _begin(self, where: tuple[str, int | None], line: Mapping[str, Any]) -> Attempt:
        step, item = where
        attempt = Attempt(
            step,
            item,
            number=int(line.get("attempt") or 1),
            execution=self.execution,
            started=moment(line),
            model=line.get("model"),
            key=line.get("key"),
            total=line.get("total"),
        )
        self.all.append(attempt)
        self._open[where] = attempt
        return attempt

    def _lost(self) -> list[Attempt]:
        """Give up on what had no end when the run ended, or was begun anew."""
        lost = list(self._open.values())
        for attempt in lost:
            attempt.status = "lost"
        self._open.clear()
        return lost


def one_model(attempts: Iterable[Attempt]) -> str | None:
    """Return the model that all attempts asked, when it is one."""
    models = {attempt.model for attempt in attempts if attempt.model is not None}
    return models.pop() if len(models) == 1 else None


def moment(line: Mapping[str, Any]) -> datetime | None:
    """Return when a line was written, in UTC; `None` when it does not say."""
    try:
        found = datetime.fromisoformat(str(line["ts"]))
        return found if found.tzinfo is not None else None
    except (KeyError, ValueError):
        return None


def iso(when: datetime | None) -> str | None:
    """Return a moment as text."""
    return None if when is None else when.isoformat().replace("+00:00", "Z")


def seconds_between(began: datetime | None, ended: datetime | None) -> float | None:
    """Return the seconds between two moments; `None` when the clock was set back meanwhile."""
    if began is None or ended is None or ended < began:
        return None
    return (ended - began).total_seconds()
