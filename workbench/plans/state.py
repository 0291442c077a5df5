"""What a run is at: the lines of its journal, folded; pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from workbench.plans.attempts import moment

StepStatus = Literal[
    "pending",
    "running",
    "retrying",
    "waiting",
    "done",
    "cached",
    "kept",
    "failed",
    "blocked",
    "skipped",
    "cancelled",
]
RunStatus = Literal["starting", "running", "waiting", "done", "failed", "cancelled", "lost"]

FINISHED: frozenset[str] = frozenset({"done", "cached", "kept", "skipped"})
"""Statuses of a step after which those that need it can run (or are skipped with it)."""


@dataclass(slots=True)
class StepState:
    """One step, as far as it has come.

    Attributes:
        attempt: The last attempt, from 1; 0 before the first.
        started: When the first attempt of this execution began.
        seconds: How long the last attempt took, once it has ended.
        done: Items of a `foreach` that have ended, of `total`; `errors` of them failed.
        outputs: Name to `{sha256, type, bytes, rows}`.
        question: What it waits for: `{ask, show, reason}`.
        requests: One mapping for each request to a model.
    """

    id: str
    status: StepStatus = "pending"
    attempt: int = 0
    key: str | None = None
    model: str | None = None
    started: datetime | None = None
    ended: datetime | None = None
    seconds: float | None = None
    done: int = 0
    total: int | None = None
    errors: int = 0
    phase: str = ""
    outputs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    error: Mapping[str, Any] | None = None
    reason: str = ""
    question: Mapping[str, Any] | None = None
    answer: Mapping[str, Any] | None = None
    summary: str = ""
    requests: list[Mapping[str, Any]] = field(default_factory=list)


@dataclass(slots=True)
class RunState:
    """A run, as far as its journal tells.

    Attributes:
        execution: How often it was begun: 1, and one more for each resume.
        steps: In the order of the plan when it was given the ids, else as they began.
        not_replayable: Why a replay cannot stand for this run; empty when it can.
    """

    status: RunStatus = "starting"
    execution: int = 0
    pid: int | None = None
    started: datetime | None = None
    ended: datetime | None = None
    error: Mapping[str, Any] | None = None
    steps: dict[str, StepState] = field(default_factory=dict)
    not_replayable: list[str] = field(default_factory=list)

    def step(self, step_id: str) -> StepState:
        """Return a step, which is pending when nothing was told of it."""
        return self.steps.setdefault(step_id, StepState(step_id))

    def take(self, lines: Iterable[Mapping[str, Any]]) -> RunState:
        """Fold in further lines; returns itself."""
        for line in lines:
            self._take(line)
        return self

    def _take(self, line: Mapping[str, Any]) -> None:
        event, when = str(line["event"]), moment(line)
        if event == "run_started":
            self.status, self.execution, self.pid = "running", line["execution"], line.get("pid")
            self.started, self.ended, self.error = self.started or when, None, None
            for step in self.steps.values():
                if step.status not in FINISHED:
                    step.status = "pending"
        elif event == "run_finished":
            self.status, self.ended, self.error = line["status"], when, line.get("error")
        elif event == "not_replayable":
            self.not_replayable.append(str(line.get("reason", "")))
        elif "step" in line:
            self._take_step(self.step(line["step"]), event, line, when)

    def _take_step(
        self, step: StepState, event: str, line: Mapping[str, Any], when: datetime | None
    ) -> None:
        if event == "request":
            step.requests.append(line)
            return
        if event == "step_progress":
            step.done, step.total = line["done"], line["total"]
            step.errors = line.get("errors", 0)
            return
        if "item" in line:
            return
        if event == "step_phase":
            step.phase = line.get("phase", "")
        elif event == "step_started":
            if step.status in ("pending", "waiting"):
                step.started = when
            step.status, step.attempt = "running", line["attempt"]
            step.key, step.model = line.get("key"), line.get("model")
            step.total, step.error, step.ended = line.get("total", step.total), None, None
        elif event == "step_failed":
            step.status = "failed" if line.get("final", True) else "retrying"
            step.error, step.seconds, step.ended = line["error"], line.get("seconds"), when
        elif event in ("step_committed", "step_cached", "step_kept"):
            kinds: dict[str, StepStatus] = {
                "step_committed": "done",
                "step_cached": "cached",
                "step_kept": "kept",
            }
            step.status, step.outputs = kinds[event], line.get("outputs", {})
            step.key, step.error = line.get("key"), None
            step.summary = line.get("summary", step.summary)
            if event != "step_kept":
                step.seconds, step.ended = line.get("seconds"), when
        elif event == "step_waiting":
            step.status, step.question = "waiting", line
        elif event == "step_answered":
            step.answer = line
        else:
            ended: dict[str, StepStatus] = {
                "step_skipped": "skipped",
                "step_blocked": "blocked",
                "step_cancelled": "cancelled",
            }
            step.status = ended.get(event, step.status)
            step.reason = line.get("reason") or ", ".join(line.get("by", ()))


def state_of(
    lines: Iterable[Mapping[str, Any]], *, steps: Iterable[str] = (), alive: bool
) -> RunState:
    """Return the state the lines tell.

    Args:
        steps: Ids of the plan's steps, in order.
        alive: Whether a process carries the run out: one that began, has no end and no process is
            `lost`.
    """
    state = RunState(steps={step: StepState(step) for step in steps}).take(lines)
    if not alive and state.status == "running":
        state.status = "lost"
    return state
