"""Which alerts of the server hold now, asked for while somebody looks.

The events are followed only where the server has rules: a subscriber makes it look at its GPUs
more often, and an enabled alert does so anyway.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any

from workbench.errors import WorkbenchError
from workbench.widgets.feed import Door, own

POLL_S = 15.0
ASK_S = 10.0
RETRY_S = 2.0
NAMES = ("alert", "alert_ended")

log = logging.getLogger("workbench")


class AlertFeed:
    """The alerts of one server; everything runs on the portal's loop.

    Args:
        door: Asks the server, and never starts one.
        changed: Called after every change.

    Attributes:
        picture: `state` (`unknown`, `ok` or `gone`), `text` (why it is gone), `active` (the
            alerts that hold, the oldest first), `rules` (how many there are).
    """

    def __init__(self, door: Door, changed: Callable[[], None]) -> None:
        self._door, self._changed = door, changed
        self._tasks: list[asyncio.Task[None]] = []
        self._wake = asyncio.Event()
        self.picture: dict[str, Any] = {"state": "unknown", "text": "", "active": [], "rules": 0}

    def start(self) -> None:
        """Begin to ask."""
        if not self._tasks:
            self._spawn(self._poll())

    def stop(self) -> None:
        """Ask no more."""
        for task in self._tasks:
            task.cancel()
        self._tasks = []

    async def ask(self) -> None:
        """Ask once."""
        new = {**self.picture, "state": "ok", "text": ""}
        try:
            body = await self._door.request_json("GET", own("alerts"), timeout_s=ASK_S)
            new["active"] = [dict(item) for item in body["active"]]
            new["rules"] = len(body["rules"])
        except WorkbenchError as exc:
            # An alert of a server that is gone says nothing any more.
            new |= {"state": "gone", "text": exc.message, "active": []}
        except (KeyError, TypeError, ValueError):
            # A server of another version: everything else still works.
            new |= {"active": [], "rules": 0}
        if new != self.picture:
            self.picture = new
            self._changed()

    async def _poll(self) -> None:
        while True:
            self._wake.clear()
            await self.ask()
            if self.picture["rules"] and len(self._tasks) == 1:
                self._spawn(self._follow())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await self._wake.wait()

    async def _follow(self) -> None:
        while True:
            lines = self._door.lines("GET", own("events"))
            try:
                async with contextlib.aclosing(lines):
                    async for event in lines:
                        if event.get("event") in NAMES:
                            self._wake.set()
            except WorkbenchError as exc:
                log.debug("the events of the server ended: %s", exc)
            self._wake.set()
            await asyncio.sleep(RETRY_S)

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(_report)
        self._tasks.append(task)


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("the feed of the alerts failed", exc_info=error)
