"""What a journal tells beyond the present state: attempts, items, and when each step was at work.

Pure: lines in, JSON values out.  Moments are seconds since 1970.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from workbench.plans.state import RunState

Line = Mapping[str, Any]
Span = dict[str, Any]

# What a bar of the timeline stands for, by the event that ends it.
_ENDS = {"step_committed": "done", "step_failed": "failed", "step_cancelled": "cancelled"}
_MARKS = {"step_cached": "cached", "step_kept": "kept"}


@dataclass(slots=True)
class StepStory:
    """One step.

    Attributes:
        attempts: `{n, at, to, status, error, execution}`, the oldest first.
        items: Index to `{i, status, attempt, at, seconds, error}`, of a `foreach`.
        spans: `{at, to, kind}`; `to` is `None` while it lasts.  A mark has no length.
        asked: When it began to wait for a person.
    """

    attempts: list[dict[str, Any]] = field(default_factory=list)
    items: dict[int, dict[str, Any]] = field(default_factory=dict)
    spans: list[Span] = field(default_factory=list)
    asked: float | None = None


@dataclass(slots=True)
class Story:
    """A run: its state, and how it came there.

    Attributes:
        executions: When it was begun, and begun again.
        last: When the last line was written.
    """

    state: RunState = field(default_factory=RunState)
    steps: dict[str, StepStory] = field(default_factory=dict)
    executions: list[float] = field(default_factory=list)
    last: float | None = None

    def step(self, step_id: str) -> StepStory:
        """Return the story of a step."""
        return self.steps.setdefault(step_id, StepStory())

    def take(self, lines: Iterable[Line]) -> Story:
        """Fold in further lines; returns itself.

        A line that lacks what its event must have is left out: a newer program wrote it.
        """
        for line in lines:
            try:
                self.state.take([line])
                self._take(line)
            except (KeyError, TypeError, ValueError, AttributeError):
                continue
        return self

    def _take(self, line: Line) -> None:
        event, at = str(line["event"]), moment(line)
        if event == "run_started":
            self._close_all("lost")
            self.executions.append(at)
        elif event == "run_finished":
            self._close_all("cancelled" if line["status"] == "cancelled" else "lost", at)
        elif "step" in line and event != "request":
            story = self.step(str(line["step"]))
            if "item" in line:
                self._take_item(story, event, line, at)
            else:
                self._take_step(story, event, line, at)
        self.last = at

    def _close_all(self, kind: str, at: float | None = None) -> None:
        """End what was at work; a question stays open until it is answered."""
        for story in self.steps.values():
            span = _open(story.spans)
            if span is not None and span["kind"] != "waiting":
                span.update(to=at if at is not None else self.last, kind=kind)
                for attempt in story.attempts[-1:]:
                    if attempt["to"] is None:
                        attempt.update(to=span["to"], status=kind)

    def _take_step(self, story: StepStory, event: str, line: Line, at: float) -> None:
        if event == "step_started":
            _close(story.spans, at)
            story.spans.append({"at": at, "to": None, "kind": "running"})
            execution = len(self.executions)
            story.attempts.append(
                {"n": line["attempt"], "at": at, "to": None, "status": "running", "error": None}
                | {"execution": execution}
            )
        elif event in _ENDS:
            _close(story.spans, at, _ENDS[event])
            for attempt in story.attempts[-1:]:
                if attempt["to"] is None:
                    attempt.update(to=at, status=_ENDS[event], error=line.get("error"))
        elif event in _MARKS:
            story.spans.append({"at": at, "to": at, "kind": _MARKS[event]})
        elif event == "step_waiting":
            _close(story.spans, at, "done")
            story.asked = at
            story.spans.append({"at": at, "to": None, "kind": "waiting"})
            for attempt in story.attempts[-1:]:
                if attempt["to"] is None:
                    attempt.update(to=at, status="waiting")
        elif event == "step_answered":
            _close(story.spans, at)

    def _take_item(self, story: StepStory, event: str, line: Line, at: float) -> None:
        index = int(line["item"])
        item = story.items.setdefault(index, {"i": index, "status": "pending", "attempt": 0})
        if event == "step_started":
            item.update(status="running", attempt=line["attempt"], at=at)
        elif event == "step_committed":
            item.update(status="done", seconds=line.get("seconds"))
        elif event in _MARKS:
            item["status"] = _MARKS[event]
        elif event == "step_failed":
            error = line["error"]
            final = line.get("final", True)
            item.update(
                status="failed" if final else "retrying",
                seconds=line.get("seconds"),
                error=str(error.get("message", "")),
            )
        elif event == "step_cancelled":
            item["status"] = "cancelled"


def moment(line: Line) -> float:
    """Return when a line was written.

    Raises:
        ValueError: When it does not say.
    """
    return datetime.fromisoformat(str(line.get("ts"))).timestamp()


def seconds_of(when: datetime | None) -> float | None:
    """Return a moment as seconds since 1970."""
    return None if when is None else when.timestamp()


def _open(spans: list[Span]) -> Span | None:
    return spans[-1] if spans and spans[-1]["to"] is None else None


def _close(spans: list[Span], at: float, kind: str | None = None) -> None:
    span = _open(spans)
    if span is not None:
        span["to"] = at
        if kind is not None and span["kind"] == "running":
            span["kind"] = kind
