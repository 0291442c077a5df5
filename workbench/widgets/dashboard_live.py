"""Keeps the dashboard's picture of a store up to date while somebody looks.

The files are looked at every second, which reads no rows.  When some have changed, what is drawn
from them is asked for again in a worker thread, piece by piece, and each piece is told at once.
Queries take at most a fifth of the time, however large the store is.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.errors import WorkbenchError
from workbench.metrics.figures import CHARTS
from workbench.metrics.overview import Overview
from workbench.widgets import dashboard_data as data

if TYPE_CHECKING:
    from workbench.metrics.reader import Metrics

LOOK_S = 1.0
LEAST_PAUSE_S = 2.0
PAUSE_FACTOR = 4.0
# A range such as the last hour moves on, though nothing is written.
MOVE_S = 60.0
RETRY_S = 10.0

ALL = "selection"
TABLE = "table"
DETAIL = "detail"

log = logging.getLogger("workbench")

Step = tuple[str, Callable[[Overview], Any]]


class Live:
    """The picture, and the task that keeps it; everything but queries runs on the portal's loop.

    Args:
        folder: The store.
        metrics: An open reader of it, or `None`.
        changed: Called after every change.
        say: Called with what a person should read.
    """

    def __init__(
        self,
        folder: Path,
        metrics: Metrics | None,
        *,
        changed: Callable[[], None],
        say: Callable[[Mapping[str, Any] | None], None],
    ) -> None:
        self.folder = folder
        self.filters = data.Filters()
        self.reader = data.Reader(folder, metrics)
        self._order = data.Order()
        self._changed, self._say = changed, say
        self._task: asyncio.Task[None] | None = None
        self._former: asyncio.Task[None] | None = None
        self._wake: asyncio.Event | None = None
        self._seen: dict[str, Any] = {}
        self._dirty: set[str] = {ALL}
        self._urgent = True
        self._generation = 0
        self._next_at = self._moved_at = 0.0
        self._parts: dict[str, Any] = {
            "store": {"state": "reading", "folder": str(folder), "text": "", "hint": None},
            "headline": None,
            "choices": {},
            "table": None,
            "detail": None,
            "busy": False,
        }
        self._charts: dict[str, Any] = {}
        self._detail_id: str | None = None

    @property
    def picture(self) -> dict[str, Any]:
        """What is known, as JSON values."""
        return {**self._parts, "filters": asdict(self.filters), "rows": dict(self._charts)}

    # --- what a person does

    def narrow(self, values: Mapping[str, Any]) -> None:
        """Change filters.

        Raises:
            StoreError: When a value cannot be used; nothing changes then.
        """
        self.filters = self.filters.changed(values)
        self._order = data.Order(self._order.by, self._order.descending)
        self._ask(ALL)

    def turn(self, values: Mapping[str, Any]) -> None:
        """Show another page of the requests, or order them anew."""
        self._order = self._order.changed(values)
        self._ask(TABLE)

    def look_at(self, request_id: Any) -> None:
        """Show one request, or with `None` none."""
        self._detail_id = None if request_id is None else str(request_id)
        if self._detail_id is None:
            self._put("detail", None)
        else:
            self._ask(DETAIL)

    def refresh(self) -> None:
        """Ask for everything now."""
        self._ask(ALL)

    def _ask(self, what: str) -> None:
        self._dirty.add(what)
        self._urgent = True
        self._generation += 1
        # What runs is of the old choice; nobody waits for its end.
        if what == ALL:
            self.reader.interrupt()
        if self._wake is not None:
            self._wake.set()

    # --- keeping up

    def start(self) -> None:
        """Begin to look at the files."""
        if self._task is None:
            self._wake = asyncio.Event()
            self._task = asyncio.get_running_loop().create_task(self._run(self._former))
            self._task.add_done_callback(_report)

    def stop(self) -> None:
        """End it, with the query that runs."""
        if self._task is not None:
            self.reader.interrupt()
            self._task.cancel()
            self._former, self._task = self._task, None
            # What changes meanwhile is found at the next look, which nobody should wait for.
            self._urgent = True

    async def _run(self, former: asyncio.Task[None] | None) -> None:
        if former is not None:
            await asyncio.wait([former])
        wake, working = self._wake, None
        assert wake is not None
        try:
            while True:
                wake.clear()
                working = asyncio.ensure_future(self._look())
                # Shielded: a thread is never left behind with the cursor.
                await asyncio.shield(working)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_S):
                        await wake.wait()
        finally:
            if working is not None and not working.done():
                self._generation += 1
                await asyncio.wait([working])
            with contextlib.suppress(RuntimeError):  # the process ends, and its threads with it
                await asyncio.to_thread(self.reader.close)

    async def _look(self) -> None:
        try:
            await self._look_at_files()
            if self._dirty and (self._urgent or time.monotonic() >= self._next_at):
                await self._refresh()
        except WorkbenchError as exc:
            self._urgent = False
            self._next_at = time.monotonic() + RETRY_S
            self._put("busy", False)
            self._put_store("error", exc.message, exc.hint)

    async def _look_at_files(self) -> None:
        try:
            seen = await asyncio.to_thread(data.signature, self.folder)
        except OSError as exc:
            self._put_store("error", f"{self.folder} cannot be read: {exc.strerror}.", None)
            return
        for table, state in seen.items():
            if self._seen.get(table) != state:
                self._dirty.add(table)
        self._seen = seen
        if self.filters.moves and time.monotonic() - self._moved_at > MOVE_S:
            self._dirty.add(ALL)

    async def _refresh(self) -> None:
        generation, dirty, began = self._generation, set(self._dirty), time.monotonic()
        self._put("busy", self._urgent)
        self._urgent = False
        if await asyncio.to_thread(data.is_unwritten, self.folder):
            self._empty()
        else:
            overview = await asyncio.to_thread(self.reader.overview, self.filters.selection())
            for name, ask in self._steps(dirty):
                value = await self._asked(ask, overview, generation)
                if generation != self._generation:
                    return
                self._take(name, value)
                if name == "headline" and not value["any"]:
                    self._empty()
                    break
            else:
                self._put_store("ok", "", None)
        self._dirty -= dirty
        now = time.monotonic()
        if ALL in dirty:
            self._moved_at = now
        self._next_at = now + max(LEAST_PAUSE_S, PAUSE_FACTOR * (now - began))
        self._put("busy", False)

    async def _asked(
        self, ask: Callable[[Overview], Any], overview: Overview, generation: int
    ) -> Any:
        try:
            return await asyncio.to_thread(ask, overview)
        except WorkbenchError:
            if generation == self._generation:
                raise
            # It was interrupted, because a person chose something else meanwhile.
            return None

    def _steps(self, dirty: set[str]) -> Iterator[Step]:
        """Yield what to ask for: first what stands at the top."""
        everything = ALL in dirty
        if everything or "requests" in dirty:
            yield "headline", data.headline_values
        if everything or dirty & {"requests", TABLE}:
            yield "table", partial(data.table_values, order=self._order)
        if self._detail_id is not None and dirty & {ALL, "requests", DETAIL}:
            yield "detail", partial(data.detail_values, request_id=self._detail_id)
        for name, chart in CHARTS.items():
            if everything or dirty.intersection(chart.tables):
                yield name, partial(data.figure_values, name=name)
        if everything or "requests" in dirty:
            yield "choices", Overview.choices

    def _take(self, name: str, value: Any) -> None:
        if name in CHARTS:
            if value is None:
                self._charts.pop(name, None)
            else:
                self._charts[name] = value
            self._changed()
            return
        self._put(name, value)
        if name == "headline":
            # The rest is drawn as it comes.
            self._put_store("ok", "", None)

    def _empty(self) -> None:
        self._charts.clear()
        self._put("headline", data.no_headline())
        self._put("table", None)
        self._put_store("empty", "", None)

    def _put_store(self, state: str, text: str, hint: str | None) -> None:
        new = {"state": state, "folder": str(self.folder), "text": text, "hint": hint}
        self._put("store", new)

    def _put(self, name: str, value: Any) -> None:
        if self._parts[name] != value:
            self._parts[name] = value
            self._changed()


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("the dashboard stopped looking at its store", exc_info=error)
