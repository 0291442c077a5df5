"""A run as those see it who started it, or look at it from elsewhere."""

from __future__ import annotations

import asyncio
import html
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from workbench.client.values import Printed
from workbench.errors import PlanError, WorkbenchError
from workbench.plans.approvals import answer_question
from workbench.plans.artifacts import read_step
from workbench.plans.attempts import seconds_between
from workbench.plans.control import cancel_run
from workbench.plans.folder import RunFolder, all_runs
from workbench.plans.info import RunInfo, read_info
from workbench.plans.journal import read_lines
from workbench.plans.launch import Launched, relaunch
from workbench.plans.record import written_record
from workbench.plans.stage import Outputs
from workbench.plans.state import FINISHED, RunState, state_of
from workbench.portal import get_portal
from workbench.units import format_seconds, utc_now

_LOOK_S = 0.1
# A process that was started has its first line in the journal long before.
_START_S = 60.0
ENDED = frozenset({"done", "failed", "cancelled", "waiting", "lost"})
"""Statuses of a run that no process carries out any more."""


class RunHandle:
    """A run: its state, its events, and what can be done with it.

    It reads files only: looking at a run never disturbs it.  `wait`, `events` and what they build
    on have forms with an `a` in front for event loops.
    """

    def __init__(self, folder: RunFolder, *, launched: Launched | None = None) -> None:
        self._folder = folder
        self._process = launched.process if launched else None
        self._before = launched.executions if launched else 0
        self._info: RunInfo | None = None
        self._folded: RunState | None = None
        self._offset = 0
        self._reading = threading.Lock()

    def __repr__(self) -> str:
        return f"<RunHandle {self.run_id} {self.state().status}>"

    @property
    def run_id(self) -> str:
        """Id of the run."""
        return self.info.run_id

    @property
    def folder(self) -> RunFolder:
        """Where its files are."""
        return self._folder

    @property
    def path(self) -> Path:
        """Its folder."""
        return self._folder.path

    @property
    def notebook(self) -> Path:
        """Its notebook, with the outputs so far."""
        return self._folder.notebook

    @property
    def info(self) -> RunInfo:
        """What was started."""
        if self._info is None:
            self._info = read_info(self._folder)
        return self._info

    @property
    def alive(self) -> bool:
        """Whether a process carries it out now."""
        if self._process is not None and self._process.returncode is not None:
            return self._folder.alive
        return self._process is not None or self._folder.alive

    def state(self) -> RunState:
        """Return how far it is, as a value of its own."""
        # First: a run that ends between the two has written its last line.
        alive = self.alive
        with self._reading:
            lines, self._offset = read_lines(self._folder.journal, self._offset)
            folded = self._folded
            if folded is None:
                folded = state_of((), steps=[step["id"] for step in self.info.steps], alive=True)
                self._folded = folded
            folded.take(lines)
            steps = {name: replace(step) for name, step in folded.steps.items()}
            state = replace(folded, steps=steps)
        if not alive and (
            state.status == "running" or (state.status == "starting" and self._gave_up())
        ):
            state.status = "lost"
        elif alive and self._process is not None and state.execution == self._before:
            # Started again, and its first line is not there yet.
            state.status = "starting"
        return state

    def _gave_up(self) -> bool:
        if self._process is not None:
            return True
        try:
            created = datetime.fromisoformat(self.info.created)
        except ValueError:
            return True
        return (utc_now() - created).total_seconds() > _START_S

    def wait(self, timeout_s: float | None = None) -> RunState:
        """Wait until it has ended or waits for an answer, and return its state.

        Raises:
            TimeoutError: When it goes on after `timeout_s` seconds.
        """
        due = None if timeout_s is None else time.monotonic() + timeout_s
        while not self.rests:
            if due is not None and time.monotonic() > due:
                raise TimeoutError(f"run {self.run_id} goes on after {timeout_s:g} s")
            time.sleep(_LOOK_S)
        return self.state()

    async def await_(self, timeout_s: float | None = None) -> RunState:
        """Await what `wait` returns, on any event loop."""
        async with asyncio.timeout(timeout_s):
            async for _ in self.aevents():
                continue
        return await asyncio.to_thread(self.state)

    @property
    def rests(self) -> bool:
        """Whether nothing goes on: it has ended, or waits for an answer."""
        state = self.state()
        if not self.alive:
            return state.status in ENDED
        # A process that stays for an answer rests too, when nothing else goes on.
        statuses = {step.status for step in state.steps.values()}
        return self.info.wait and "waiting" in statuses and not statuses & {"running", "retrying"}

    def events(self, *, follow: bool = False) -> Iterator[Mapping[str, Any]]:
        """Yield the lines of its journal; with `follow` until it rests."""
        offset = 0
        while True:
            rests = self.rests
            lines, offset = read_lines(self._folder.journal, offset)
            yield from lines
            if not follow or rests:
                return
            time.sleep(_LOOK_S)

    async def aevents(self) -> AsyncIterator[Mapping[str, Any]]:
        """Yield the lines of its journal until it rests, on any event loop."""
        offset = 0
        while True:
            rests = await asyncio.to_thread(lambda: self.rests)
            lines, offset = await asyncio.to_thread(read_lines, self._folder.journal, offset)
            for line in lines:
                yield line
            if rests:
                return
            await asyncio.sleep(_LOOK_S)

    def cancel(self) -> None:
        """Ask it to stop.

        Raises:
            PlanError: When no process carries it out.
        """
        cancel_run(self._folder)

    def resume(self, *, force: bool = False) -> RunHandle:
        """Go on with it: what is committed and unchanged stays, the rest runs.

        Args:
            force: Go on although the notebook was edited; the edits are lost.

        Raises:
            PlanError: When the notebook or the plan in the folder was edited.
            PlanInvalid: When models are no longer installed.
        """
        launched = get_portal().run(relaunch(self._folder, force=force))
        return RunHandle(self._folder, launched=launched)

    def approve(
        self,
        step: str,
        yes: bool,
        *,
        note: str = "",
        who: str | None = None,
        sha256: str | None = None,
    ) -> None:
        """Answer what a step asks.

        A run whose process has ended goes on with `resume`.

        Args:
            sha256: Hash of the question that was read; `None` means the one that is asked now.

        Raises:
            PlanError: When the step asks nothing, or by now something else.
        """
        answer_question(self._folder, step, yes=yes, note=note, who=who, sha256=sha256)

    def record(self) -> dict[str, Any]:
        """Return its record; see `plans.record`.

        Raises:
            PlanError: When it has not ended yet.
            StoreError: When it cannot be read.
        """
        found = written_record(self._folder)
        if found is None:
            raise PlanError(
                f"Run {self.run_id} has no record yet.", hint="It is written when the run ends."
            )
        return found

    def outputs(self, step: str) -> Mapping[str, Any]:
        """Return the outputs of a step that is committed; tables are DataFrames.

        Raises:
            PlanError: When it is not committed.
            StoreError: When an artefact was changed on disk.
        """
        folder = self._folder.committed(step)
        found = read_step(folder)
        if found is None:
            raise PlanError(f"Step {step!r} of run {self.run_id} is not committed.")
        return Outputs(folder, found.outputs)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        """Return a static picture of how far it is."""
        state = self.state()
        title = f"{self.info.plan}: {state.status}"
        lines = [title, *(f"  {step.id}: {step.status}" for step in state.steps.values())]
        rows = "".join(
            f"<tr><td>{html.escape(step.id)}</td><td>{html.escape(step.status)}</td>"
            f"<td>{html.escape(_told(step))}</td></tr>"
            for step in state.steps.values()
        )
        page = f"<p><b>{html.escape(title)}</b> <code>{html.escape(self.run_id)}</code></p>"
        return {"text/plain": "\n".join(lines), "text/html": f"{page}<table>{rows}</table>"}


def _told(step: Any) -> str:
    if step.error is not None:
        return str(step.error.get("message", ""))
    if step.status == "waiting" and step.question is not None:
        return str(step.question.get("ask", ""))
    return str(step.summary or step.reason)


@dataclass(frozen=True)
class RunSummary(Printed):
    """One run in a list; seconds are from its first line to its last.

    Attributes:
        done: Steps that have ended well, of `steps`.
        waits: Ids of the steps that wait for an answer.
    """

    run_id: str
    plan: str
    name: str
    status: str
    created: str
    seconds: float | None
    done: int
    steps: int
    waits: tuple[str, ...]
    error: str | None
    path: str

    def cells(self) -> dict[str, str]:
        """Return column title to printed value."""
        told = f"asks: {', '.join(self.waits)}" if self.waits else self.error or ""
        return {
            "RUN": self.run_id,
            "PLAN": self.name or self.plan,
            "STATUS": self.status,
            "STEPS": f"{self.done}/{self.steps}" if self.steps else "",
            "TIME": "" if self.seconds is None else format_seconds(self.seconds),
            "CREATED": self.created[:19].replace("T", " "),
            "": told[:60],
        }


def list_runs(data_dir: Path, *, limit: int | None = None) -> list[RunSummary]:
    """Return the runs of a data folder, the newest first; what cannot be read is left out."""
    found: list[RunSummary] = []
    for folder in all_runs(data_dir):
        if limit is not None and len(found) >= limit:
            break
        try:
            found.append(summary_of(RunHandle(folder)))
        except WorkbenchError:
            continue
    return found


def summary_of(handle: RunHandle) -> RunSummary:
    """Return a run as lists show it."""
    info, state = handle.info, handle.state()
    steps = state.steps.values()
    ended = state.ended or (utc_now() if handle.alive else None)
    seconds = seconds_between(state.started, ended)
    return RunSummary(
        run_id=info.run_id,
        plan=info.plan,
        name=info.name,
        status=state.status,
        created=info.created,
        seconds=seconds,
        done=sum(1 for step in steps if step.status in FINISHED),
        steps=len(state.steps),
        waits=tuple(step.id for step in steps if step.status == "waiting"),
        error=None if state.error is None else str(state.error.get("message")),
        path=str(handle.path),
    )
