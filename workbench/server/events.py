"""Everything the server decides, as log lines and as events for whoever listens."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from typing import Any

log = logging.getLogger("workbench")

_RECENT = 200
_QUEUE = 1000


class Events:
    """A hub: `emit` never waits, and a listener that is too slow loses the oldest events.

    What a listener lost is told by the `lost` count of the next event it gets.
    """

    def __init__(self) -> None:
        self._recent: deque[dict[str, Any]] = deque(maxlen=_RECENT)
        self._listeners: set[_Listener] = set()
        self._sinks: list[Callable[[dict[str, Any]], None]] = []
        self._closed = False

    def subscribe(self, sink: Callable[[dict[str, Any]], None]) -> None:
        """Call `sink` with every event; it must not wait, and is nobody who listens."""
        self._sinks.append(sink)

    @property
    def listeners(self) -> int:
        """How many listen now."""
        return len(self._listeners)

    @property
    def recent(self) -> list[dict[str, Any]]:
        """The last events, oldest first."""
        return list(self._recent)

    def emit(self, event: str, *, level: int = logging.INFO, **fields: Any) -> None:
        """Record one event; fields are JSON values and never hold secrets or message text."""
        record = {"ts": time.time(), "event": event, **fields}
        self._recent.append(record)
        shown = " ".join(f"{key}={value}" for key, value in fields.items() if value is not None)
        log.log(level, "%s %s", event, shown)
        for listener in self._listeners:
            listener.put(record)
        for sink in self._sinks:
            sink(record)

    def close(self) -> None:
        """End what follows, after the events so far: the server goes."""
        self._closed = True
        for listener in self._listeners:
            listener.close()

    async def follow(self, *, recent: bool = True) -> AsyncGenerator[dict[str, Any], None]:
        """Yield the recent events, when asked, and then every new one; close it to stop.

        Ends by itself when the server goes.
        """
        listener = _Listener()
        if self._closed:
            listener.close()
        if recent:
            for record in self._recent:
                listener.put(record)
        self._listeners.add(listener)
        try:
            while (event := await listener.get()) is not None:
                yield event
        finally:
            self._listeners.discard(listener)


class _Listener:
    def __init__(self) -> None:
        self._queue: deque[dict[str, Any]] = deque()
        self._ready = asyncio.Event()
        self._lost = 0
        self._closed = False

    def close(self) -> None:
        self._closed = True
        self._ready.set()

    def put(self, record: dict[str, Any]) -> None:
        if len(self._queue) >= _QUEUE:
            self._queue.popleft()
            self._lost += 1
        self._queue.append(record)
        self._ready.set()

    async def get(self) -> dict[str, Any] | None:
        while not self._queue:
            if self._closed:
                return None
            self._ready.clear()
            await self._ready.wait()
        record = self._queue.popleft()
        if self._lost:
            record, self._lost = {**record, "lost": self._lost}, 0
        return record
