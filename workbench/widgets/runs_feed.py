"""What happens to the runs of a data folder, followed once per process for every panel.

Only the new bytes of journals are read, in a worker thread, and only while a panel looks or wants
to be told when a run ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from workbench.plans.folder import RunFolder, all_runs, runs_dir
from workbench.plans.journal import read_lines
from workbench.plans.news import News
from workbench.plans.state import RunState
from workbench.widgets.runs_notify import Teller
from workbench.widgets.runs_picture import (
    ACTIVE,
    ENDED,
    broken_row,
    info_of,
    row_of,
    run_of,
    status_of,
    step_of,
)
from workbench.widgets.runs_plan import PlanView, plan_view
from workbench.widgets.runs_story import Story

# How long a line of a journal waits to be seen, and how long a run that somebody else started.
LOOK_S = 0.4
IDLE_LOOK_S = 2.0
RUNS_LISTED = 200
_LOG_BYTES = 4000

log = logging.getLogger("workbench")

T = TypeVar("T")


@dataclass
class Watched:
    """One run that is followed; only the thread that looks touches it.

    Attributes:
        story: `None` when it has ended and nobody has it open.
        size: Bytes of the journal that are folded in.
        read: Whether the plan's text was read.
        stamp: What the row was drawn from.
    """

    folder: RunFolder
    info: dict[str, Any] | None = None
    plan: PlanView = field(default_factory=PlanView)
    read: bool = False
    story: Story | None = None
    size: int = 0
    status: str = ""
    row: dict[str, Any] | None = None
    detail: dict[str, Any] | None = None
    stamp: tuple[Any, ...] = ()


@dataclass
class Look:
    """What one look found, as JSON values that nobody changes any more."""

    store: dict[str, Any]
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    details: dict[str, dict[str, Any]] = field(default_factory=dict)
    news: list[News] = field(default_factory=list)


class RunsFeed:
    """Follows the runs below a data folder; all but the look itself is on the portal's loop.

    Args:
        data_dir: The data folder; it need not exist.
    """

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.limit = RUNS_LISTED
        self.found = Look({"state": "reading", "folder": str(runs_dir(data_dir)), "text": ""})
        self._runs: dict[str, Watched] = {}
        self._teller = Teller()
        self._listeners: list[Callable[[], None]] = []
        self._hearers: list[Callable[[News], None]] = []
        self._opened: dict[int, str | None] = {}
        self._task: asyncio.Task[None] | None = None
        self._wake: asyncio.Event | None = None
        self._lock: asyncio.Lock | None = None

    @property
    def running(self) -> bool:
        """Whether anybody looks or listens, and the folder is therefore looked at."""
        return self._task is not None

    def attach(self, listener: Callable[[], None]) -> None:
        """Call `listener` after every change."""
        if listener not in self._listeners:
            self._listeners.append(listener)
        self._begin()

    def detach(self, listener: Callable[[], None]) -> None:
        """Call it no more; when nobody is left, nothing is looked at."""
        with contextlib.suppress(ValueError):
            self._listeners.remove(listener)
        self._end()

    def hear(self, hearer: Callable[[News], None]) -> None:
        """Call `hearer` when a run ends or waits, whether or not anybody looks."""
        self._hearers.append(hearer)
        self._begin()

    def unhear(self, hearer: Callable[[News], None]) -> None:
        """Call it no more."""
        with contextlib.suppress(ValueError):
            self._hearers.remove(hearer)
        self._end()

    def open(self, panel: object, run_id: str | None) -> None:
        """Follow one run step by step for a panel; `None` ends it."""
        self._opened[id(panel)] = run_id
        self.look_soon()

    def close(self, panel: object) -> None:
        """Forget what a panel had open."""
        self._opened.pop(id(panel), None)

    def more(self) -> None:
        """List further runs."""
        self.limit += RUNS_LISTED
        self.look_soon()

    def look_soon(self) -> None:
        """Look now."""
        if self._wake is not None:
            self._wake.set()

    async def look(self) -> None:
        """Look once, and tell the listeners what changed."""
        before = self.found
        self.found = await self.aside(lambda: self._look(set(self._opened.values())))
        if (before.store, before.rows) != (self.found.store, self.found.rows) or (
            before.details != self.found.details
        ):
            for listener in list(self._listeners):
                listener()
        for news in self.found.news:
            for hearer in list(self._hearers):
                hearer(news)

    async def aside(self, work: Callable[[], T]) -> T:
        """Do something with what is followed, in a worker thread, one thing at a time."""
        if self._lock is None:
            self._lock = asyncio.Lock()
        async with self._lock:
            return await asyncio.to_thread(work)

    def folder_of(self, run_id: str) -> RunFolder | None:
        """Return the folder of a run that is listed."""
        run = self._runs.get(run_id)
        return None if run is None else run.folder

    def is_unread(self, run_id: str, step: str) -> bool:
        """Whether a step has an answer that its run has not read yet."""
        row = self.found.rows.get(run_id)
        return row is not None and step in row["answered"]

    def watched(self, run_id: str) -> Watched | None:
        """Return a run that is followed with its whole story; only inside of `aside`."""
        run = self._runs.get(run_id)
        if run is not None and run.story is None and run.info is not None:
            self._follow(run, keep=True)
        return run

    # --- the watcher

    def _begin(self) -> None:
        if self._task is None and (self._listeners or self._hearers):
            self._wake = asyncio.Event()
            self._task = asyncio.get_running_loop().create_task(self._watch())
            self._task.add_done_callback(_report)

    def _end(self) -> None:
        if self._task is not None and not self._listeners and not self._hearers:
            self._task.cancel()
            self._task = None

    async def _watch(self) -> None:
        wake = self._wake
        assert wake is not None
        while True:
            wake.clear()
            await self.look()
            busy = any(row["status"] in ACTIVE for row in self.found.rows.values())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S if busy else IDLE_LOOK_S):
                    await wake.wait()

    # --- the look, in a worker thread

    def _look(self, opened: set[str | None]) -> Look:
        folder = runs_dir(self.data_dir)
        try:
            folders = list(all_runs(self.data_dir))
        except (OSError, UnicodeDecodeError) as exc:
            reason = getattr(exc, "strerror", None) or str(exc)
            hint = "Change the rights of the folder, or give another one as data_dir."
            store = {"state": "error", "folder": str(folder), "text": f"{reason}.", "hint": hint}
            return Look(store, self.found.rows, self.found.details)
        listed = folders[: self.limit]
        listed += [item for item in folders[self.limit :] if item.run_id in opened]
        self._runs = {f.run_id: self._runs.get(f.run_id) or Watched(f) for f in listed}
        store = {"state": "ok" if folders else "empty", "folder": str(folder), "text": ""}
        found = Look({**store, "more": max(0, len(folders) - self.limit)})
        for run_id, run in self._runs.items():
            self._refresh(run, keep=run_id in opened)
            assert run.row is not None
            found.rows[run_id] = run.row
            if run_id in opened and run.detail is not None:
                found.details[run_id] = run.detail
        found.news = self._teller.told(found.rows, {r: w.folder for r, w in self._runs.items()})
        return found

    def _refresh(self, run: Watched, *, keep: bool) -> None:
        if run.info is None:
            self._meet(run)
        if run.info is None:
            return
        self._follow(run, keep=keep)

    def _meet(self, run: Watched) -> None:
        """Read what was started; a file that cannot be read is named in the row."""
        try:
            found = json.loads(run.folder.info.read_text("utf-8"))
            if not isinstance(found, dict):
                raise ValueError("it is no JSON object")
        except (OSError, ValueError) as exc:
            reason = getattr(exc, "strerror", None) or str(exc)
            run.status = "broken"
            run.row = broken_row(run.folder, f"{run.folder.info} cannot be read: {reason}.")
            return
        run.info = info_of(found)
        run.plan = PlanView().of(run.info["steps"])
        if not run.plan.steps:
            self._read_plan(run)

    def _read_plan(self, run: Watched) -> None:
        """Read what the list does not need: what each step was given to do."""
        assert run.info is not None
        run.read = True
        with contextlib.suppress(OSError, UnicodeDecodeError):
            text = run.folder.plan.read_text("utf-8")
            run.plan = plan_view(text).of(run.info["steps"])

    def _follow(self, run: Watched, *, keep: bool) -> None:
        """Fold in what is new in the journal, and draw the run anew when something is."""
        assert run.info is not None
        if keep and not run.read:
            self._read_plan(run)
        size = _size(run.folder.journal)
        settled = run.status in ENDED or run.status == "waiting"
        alive = False if settled and size == run.size else run.folder.alive
        if run.story is None and run.row is not None and size == run.size and not keep:
            return
        # Whether it lives is looked at first: a process that has gone wrote its last line before.
        if run.story is None or size < run.size:
            run.story, run.size = Story(), 0
        lines, run.size = read_lines(run.folder.journal, run.size)
        run.story.take(lines)
        created = run.info["created"]
        run.status = status_of(run.story.state, alive=alive, created=created, now=time.time())
        self._draw(run, keep=keep)
        if not keep and run.status in ENDED:
            run.story = None

    def _draw(self, run: Watched, *, keep: bool) -> None:
        assert run.info is not None
        assert run.story is not None
        answered = _answered(run.folder, run.story.state)
        stamp = (run.size, run.status, keep, run.folder.notebook.is_file(), answered)
        if stamp == run.stamp and run.row is not None:
            return
        run.stamp = stamp
        run.row = row_of(run.folder, run.info, run.plan, run.story.state, run.status, answered)
        run.detail = self._detail(run, answered) if keep else None

    def _detail(self, run: Watched, answered: frozenset[str]) -> dict[str, Any]:
        assert run.info is not None
        assert run.story is not None
        trouble = run.status in ("lost", "failed")
        text = _tail(run.folder.log) if trouble else ""
        head = run_of(run.folder, run.info, run.plan, run.story, text)
        over = run.status not in ACTIVE
        state = run.story.state
        steps = {
            step["id"]: step_of(
                state.step(step["id"]),
                run.story.steps.get(step["id"]),
                over=over,
                answered=step["id"] in answered,
            )
            for step in head["steps"]
        }
        return {"run": head, "steps": steps}


def _answered(folder: RunFolder, state: RunState) -> frozenset[str]:
    """Return the steps whose question has an answer that the run has not read yet."""
    found = set()
    for step in state.steps.values():
        if step.status == "waiting" and step.question is not None:
            with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
                stored = json.loads(folder.answer(step.id).read_text("utf-8"))
                if stored["sha256"] == step.question.get("sha256"):
                    found.add(step.id)
    return frozenset(found)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _tail(path: Path) -> str:
    try:
        data = path.read_bytes()[-_LOG_BYTES:]
    except OSError:
        return ""
    return data.decode("utf-8", "replace").strip()


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("the runs panel stopped following its runs", exc_info=error)


_FEEDS: dict[tuple[int, Path], RunsFeed] = {}


def feed_of(data_dir: Path, *, loop: asyncio.AbstractEventLoop) -> RunsFeed:
    """Return the feed of a data folder; panels of one kernel share it.

    Args:
        loop: The portal's: a forked process has another one, and feeds of its own.
    """
    key = (id(loop), data_dir)
    if key not in _FEEDS:
        _FEEDS[key] = RunsFeed(data_dir)
    return _FEEDS[key]
