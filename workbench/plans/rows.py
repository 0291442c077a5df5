"""Rows of the metrics from the journal of a run: the run, its steps and their attempts.

The ids follow from the run, so that rows which are written again count once.  A step is a span of
the kind `step`; its attempts, and those of its items, are spans of which it is the parent, and the
parents of the client's spans are the attempts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

from workbench.plans.attempts import Attempt, Attempts, moment, one_model
from workbench.plans.folder import RunFolder
from workbench.plans.info import RunInfo, read_info
from workbench.plans.journal import read_lines

Write = Callable[[str, Mapping[str, Any]], object]
"""Keeps a row of a table; `Records.write`."""

_STATUS = {
    "running": "open",
    "done": "ok",
    "cached": "ok",
    "failed": "error",
    "waiting": "waiting",
    "cancelled": "cancelled",
    "lost": "lost",
}


def trace_of(run_id: str) -> str:
    """Return the trace of a run, 32 hex digits."""
    return _digits(run_id, 32)


def span_of(run_id: str, step: str, item: int | None = None, attempt: int | None = None) -> str:
    """Return the span of a step, or of an attempt at it or at one of its items, 16 hex digits."""
    parts = (run_id, step, "" if item is None else str(item), "" if attempt is None else attempt)
    return _digits("\n".join(map(str, parts)), 16)


def request_context(
    *, run_id: str, run_key: str | None, step: str, item: int | None, attempt: int
) -> dict[str, object]:
    """Return what a request of an attempt carries: see `client.ambient.working`."""
    return {
        "run_id": run_id,
        "run_key": run_key,
        "step": step,
        "item": None if item is None else str(item),
        "attempt": attempt,
        "priority": "batch",
        "trace_id": trace_of(run_id),
        "parent_span_id": span_of(run_id, step, item, attempt),
    }


class RunRows:
    """Writes the rows of one run as its journal grows.

    Args:
        folder: The run; its `run.json` must be there.
        write: Where rows go.
    """

    def __init__(self, folder: RunFolder, write: Write) -> None:
        self._folder, self._write = folder, write
        self._info = read_info(folder)
        self._offset = 0
        self._attempts = Attempts()
        self._row = run_row(self._info, folder)

    def poll(self) -> None:
        """Write the rows that follow from the lines that were added; from one thread at a time."""
        lines, self._offset = read_lines(self._folder.journal, self._offset)
        if lines:
            self.take(lines)

    def take(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Write the rows that follow from lines of the journal."""
        listed = list(lines)
        for line in listed:
            if line["event"] in ("run_started", "run_finished"):
                self._run(line)
        changed = self._attempts.take(listed)
        for step in dict.fromkeys(attempt.step for attempt in changed):
            self._write("spans", self._step(step))
        for attempt in changed:
            if attempt.total is None:
                self._write("spans", self._span(attempt))

    def _run(self, line: Mapping[str, Any]) -> None:
        when = moment(line)
        if line["event"] == "run_started":
            self._row.setdefault("ts", when)
            self._write("runs", {**self._row, "status": "open"})
            return
        error = line.get("error") or {}
        ending = {
            "status": _STATUS.get(str(line["status"]), "error"),
            "ended": when,
            "error_type": error.get("type"),
            "error_message": error.get("message"),
        }
        self._write("runs", {**self._row, **_known(ending)})

    def _step(self, step: str) -> dict[str, Any]:
        attempts = self._attempts.of(step)
        # What earlier executions did is another piece of work; it was written when they did it.
        now = [a for a in attempts if a.execution == attempts[-1].execution]
        whole = next((a for a in reversed(now) if a.total is not None), None)
        last = whole or now[-1]
        began, ended = now[0].started, last.ended
        facts: dict[str, Any] = {
            "plan": self._info.plan,
            "status": last.status,
            "attempts": max(a.number for a in attempts),
            "execution": last.execution,
            "model": one_model(now),
            "items": None if whole is None else whole.total,
            "from_run": last.from_run,
        }
        return {
            **self._common(step, last, began),
            "id": span_of(self._info.run_id, step),
            "span_id": span_of(self._info.run_id, step),
            "name": step,
            "duration": last.seconds if len(now) == 1 or whole else _between(began, ended),
            "attributes": _known(facts),
        }

    def _span(self, attempt: Attempt) -> dict[str, Any]:
        run_id, step = self._info.run_id, attempt.step
        own = span_of(run_id, step, attempt.item, attempt.number)
        place = step if attempt.item is None else f"{step}[{attempt.item}]"
        facts = {"plan": self._info.plan, "status": attempt.status, "model": attempt.model}
        row = {
            **self._common(step, attempt, attempt.started),
            "id": own,
            "span_id": own,
            "parent_span_id": span_of(run_id, step),
            "item": None if attempt.item is None else str(attempt.item),
            "attempt": attempt.number,
            "name": f"{place} #{attempt.number}",
            "duration": attempt.seconds,
            "attributes": _known(facts),
        }
        return _known(row)

    def _common(self, step: str, attempt: Attempt, began: datetime | None) -> dict[str, Any]:
        error = attempt.error or {}
        row = {
            "ts": began,
            "run_id": self._info.run_id,
            "run_key": self._info.run_key,
            "trace_id": trace_of(self._info.run_id),
            "step": step,
            "kind": "step",
            "ended": attempt.ended,
            "status": _STATUS[attempt.status],
            "error_type": error.get("type"),
            "error_message": error.get("message"),
        }
        return _known(row)


def run_row(info: RunInfo, folder: RunFolder) -> dict[str, Any]:
    """Return the row of a run; what is not known is left out."""
    environment = info.identity.get("environment", {})
    code = info.identity.get("code", {})
    server = info.identity.get("server", {})
    row = {
        "id": info.run_id,
        "run_id": info.run_id,
        "run_key": info.run_key,
        "kind": "plan" if info.kind == "plan" else "papermill",
        "plan_id": info.plan,
        "parent_run_id": info.parent_run_id,
        "notebook": str(folder.notebook),
        "parameters": dict(info.params),
        "git_origin": code.get("git_origin"),
        "git_commit": code.get("git_commit"),
        "git_dirty": code.get("git_dirty"),
        "host": environment.get("host"),
        "os": environment.get("platform"),
        "python": environment.get("python"),
        "packages": environment.get("packages"),
        "workbench_version": environment.get("workbench"),
        "backend_versions": server.get("backend_versions"),
        "gpu_driver": server.get("gpu_driver"),
        "tags": _known({"plan_hash": info.plan_hash, "mode": info.mode, "name": info.name or None}),
    }
    return _known(row)


def _between(began: datetime | None, ended: datetime | None) -> float | None:
    if began is None or ended is None:
        return None
    return max(0.0, round((ended - began).total_seconds(), 6))


def _known(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if value is not None}


def _digits(text: str, count: int) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:count]
