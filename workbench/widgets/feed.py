"""What the server says about its models, gathered once per process for every panel.

One subscription to the server's events and one slow poll serve all panels of a kernel, on the
portal's loop, and only while a view is attached.  An event makes the feed ask at once; what the
poll finds decides whether the server is there.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from workbench.client.door import open_client
from workbench.config import Config
from workbench.errors import WorkbenchError

POLL_S = 5.0
RETRY_S = 1.0
LONGEST_RETRY_S = 5.0
# Events come in groups; one question answers for all of a moment.
SETTLE_S = 0.2
ASK_S = 10.0
EVENTS_KEPT = 50
FINISHED_PULLS = 5

OFTEN = ("models", "models/loaded", "gpu", "queue")
RARELY = ("info", "settings")
# What a request does is seen in the queue and the states; a line each would hide the rest.
_QUIET = ("request", "unknown_option", "pull", "queued", "state")
_RESIDENT = ("loading", "stopping", "releasing", "queued")

log = logging.getLogger("workbench")


class Door(Protocol):
    """What a feed and a panel need of the client; `WorkbenchClient` is one."""

    async def request_json(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        timeout_s: float | None = None,
    ) -> Any:
        """Send a request and return its decoded JSON."""

    def lines(
        self, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Send a request and yield the objects of its NDJSON answer."""


def own(name: str) -> str:
    """Return the path of one of our endpoints."""
    return f"/workbench/v1/{name}"


@dataclass
class Link:
    """Whether the server answers; `since` is seconds since 1970."""

    state: Literal["connecting", "ok", "gone"] = "connecting"
    text: str = ""
    since: float = field(default_factory=time.time)


@dataclass
class Snapshot:
    """The last that is known.

    Attributes:
        parts: The last answer of each endpoint, by its name.
        reasons: Why an endpoint has no new answer.
        asked_at: When the answers were asked for, in seconds since 1970.
        since: When a model came into its present state, by `name@backend`.
        unload_s: Seconds its last unload took, by `name@backend`.
    """

    link: Link = field(default_factory=Link)
    parts: dict[str, Any] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    asked_at: float = 0.0
    events: list[dict[str, Any]] = field(default_factory=list)
    pulls: dict[str, dict[str, Any]] = field(default_factory=dict)
    since: dict[str, tuple[str, float]] = field(default_factory=dict)
    unload_s: dict[str, float] = field(default_factory=dict)


class ModelsFeed:
    """The shared knowledge about one server; everything runs on the portal's loop.

    Args:
        door: Asks the server, and never starts one.
    """

    def __init__(self, door: Door) -> None:
        self.snapshot = Snapshot()
        self._door = door
        self._listeners: list[Callable[[], None]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._pulls: dict[str, asyncio.Task[None]] = {}
        self._wake = asyncio.Event()
        self._rarely = True

    @property
    def running(self) -> bool:
        """Whether anybody listens, and the server is therefore asked."""
        return bool(self._tasks)

    def attach(self, listener: Callable[[], None]) -> None:
        """Call `listener` after every change; the first one starts the subscription."""
        if listener not in self._listeners:
            self._listeners.append(listener)
        if not self._tasks:
            self._rarely = True
            self._wake.clear()
            self._tasks = [asyncio.create_task(self._follow()), asyncio.create_task(self._poll())]
            for task in self._tasks:
                task.add_done_callback(_report)

    def detach(self, listener: Callable[[], None]) -> None:
        """Call it no more; the last one ends the subscription."""
        with contextlib.suppress(ValueError):
            self._listeners.remove(listener)
        if not self._listeners:
            for task in self._tasks:
                task.cancel()
            self._tasks = []

    def ask_soon(self, *, rarely: bool = False) -> None:
        """Ask the server again now; with `rarely`, for backends and settings too."""
        self._rarely = self._rarely or rarely
        self._wake.set()

    def put(self, name: str, body: Any) -> None:
        """Take an answer that somebody else was given."""
        self.snapshot.parts[name] = body
        self.changed()

    def changed(self) -> None:
        """Tell every listener."""
        for listener in list(self._listeners):
            listener()

    # --- asking

    async def ask(self) -> bool:
        """Ask the server for everything once; returns whether it answered."""
        names = [*OFTEN, *(RARELY if self._rarely else ())]
        self.snapshot.asked_at = time.time()
        answers = await asyncio.gather(*(self._get(name) for name in names))
        failures = {name: exc for name, (_, exc) in zip(names, answers, strict=True) if exc}
        for name, (body, exc) in zip(names, answers, strict=True):
            if exc is None:
                self.snapshot.parts[name] = body
                self.snapshot.reasons.pop(name, None)
            else:
                self.snapshot.reasons[name] = exc.message
        lost = failures.get("models")
        self._rarely = bool(lost) or "info" in failures or self._somebody_is_down()
        self._link("gone" if lost else "ok", lost.message if lost else "")
        if lost is None:
            self._note_states()
        self.changed()
        return lost is None

    def _somebody_is_down(self) -> bool:
        backends = (self.snapshot.parts.get("info") or {}).get("backends") or ()
        return any(backend.get("reachable") is False for backend in backends)

    async def _get(self, name: str) -> tuple[Any, WorkbenchError | None]:
        try:
            body = await self._door.request_json("GET", own(name), timeout_s=ASK_S)
        except WorkbenchError as exc:
            return None, exc
        if not isinstance(body, Mapping):
            return None, WorkbenchError(f"The answer of {name} is not a JSON object.")
        return body, None

    def _link(self, state: Literal["ok", "gone"], text: str) -> None:
        link = self.snapshot.link
        if link.state != state:
            self.snapshot.link = Link(state, text)
        elif link.text != text:
            link.text = text

    def _note_states(self) -> None:
        """Keep when a model came into a state that does not last."""
        since = self.snapshot.since
        seen = set()
        for row in self.snapshot.parts["models"].get("models") or ():
            key, state = f"{row.get('name')}@{row.get('backend')}", str(row.get("state"))
            if state in _RESIDENT:
                seen.add(key)
                if since.get(key, ("", 0.0))[0] != state:
                    since[key] = (state, time.time())
        for key in set(since) - seen:
            del since[key]

    async def _poll(self) -> None:
        wait_s = RETRY_S
        while True:
            self._wake.clear()
            answered = await self.ask()
            wait_s = POLL_S if answered else min(wait_s * 2, LONGEST_RETRY_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._wake.wait()
                await asyncio.sleep(SETTLE_S)
            if answered:
                wait_s = RETRY_S

    # --- hearing

    async def _follow(self) -> None:
        wait_s = RETRY_S
        while True:
            lines = self._door.lines("GET", own("events?recent=1"))
            try:
                async with contextlib.aclosing(lines):
                    async for event in lines:
                        wait_s = RETRY_S
                        self._heard(event)
            except WorkbenchError as exc:
                log.debug("the events of the server ended: %s", exc)
            self.ask_soon(rarely=True)
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, LONGEST_RETRY_S)

    def _heard(self, event: dict[str, Any]) -> None:
        snapshot, name = self.snapshot, str(event.get("event", ""))
        if event in snapshot.events:
            return  # recent events are told again after a connection was lost
        if not name.startswith(_QUIET) or name == "pulled":
            snapshot.events = [*snapshot.events, event][-EVENTS_KEPT:]
            self.changed()
        if name == "unloaded" and isinstance(event.get("seconds"), int | float):
            snapshot.unload_s[f"{event.get('model')}@{event.get('backend')}"] = event["seconds"]
        self.ask_soon(rarely=name.startswith("backend") or name == "setting")

    # --- downloads

    def pull(self, door: Door, model: str) -> None:
        """Begin a download that every panel shows; one that runs goes on."""
        task = self._pulls.get(model)
        if task is None or task.done():
            self.snapshot.pulls[model] = {"model": model, "status": "starting"}
            task = self._pulls[model] = asyncio.create_task(self._pull(door, model))
            task.add_done_callback(_report)
            self._forget_old_pulls()
            self.changed()

    def cancel_pull(self, model: str) -> None:
        """End a download, or take one that has ended out of the list."""
        task = self._pulls.pop(model, None)
        if task is not None:
            task.cancel()
        self.snapshot.pulls.pop(model, None)
        self.changed()

    async def _pull(self, door: Door, model: str) -> None:
        state = self.snapshot.pulls[model]
        lines = door.lines("POST", own("pull"), {"model": model})
        try:
            async with contextlib.aclosing(lines):
                async for line in lines:
                    state.update(line)
                    state["done"] = line.get("status") == "success"
                    self.changed()
        except WorkbenchError as exc:
            state.update(error=exc.message, hint=exc.hint)
        if not state.get("done") and not state.get("error"):
            state["error"] = "The download broke off; pull it again to go on."
        self.ask_soon()
        self.changed()

    def _forget_old_pulls(self) -> None:
        ended = [model for model, task in self._pulls.items() if task.done()]
        for model in ended[: max(0, len(ended) - FINISHED_PULLS)]:
            self.cancel_pull(model)


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("the feed of the models panel failed", exc_info=error)


_FEEDS: dict[tuple[int, str], ModelsFeed] = {}


def feed_of(config: Config, *, loop: asyncio.AbstractEventLoop) -> ModelsFeed:
    """Return the feed of a server; panels of one kernel share it.

    Args:
        config: Says which server; none is started by looking at it.
        loop: The portal's: a forked process has another one, and feeds of its own.
    """
    key = (id(loop), config.url or f"data folder {config.data_dir}")
    if key not in _FEEDS:
        _FEEDS[key] = ModelsFeed(open_client(config, spawn=False))
    return _FEEDS[key]
