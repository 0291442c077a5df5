"""What happened in the memory of a scripted server, for any thread to read and wait for."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable
from typing import Literal

from workbench.testing.scripts import with_tag

EventKind = Literal[
    "queued",
    "stuck",
    "loading",
    "loaded",
    "load_aborted",
    "load_failed",
    "draining",
    "resurrected",
    "unloaded",
    "released",
    "restarted",
]


@dataclasses.dataclass(frozen=True)
class MemoryEvent:
    """One thing that happened to a model in memory.

    Args:
        at: Seconds of ``time.monotonic()``.
        event: What happened.
        model: Full name of the model, under which ``/api/ps`` lists it.
        reason: Why; the page about testing lists them.
        vram_bytes: Its memory on the GPU.
        used_bytes: Memory of the GPU that the server's models hold after it.
    """

    at: float
    event: EventKind
    model: str
    reason: str = ""
    vram_bytes: int = 0
    used_bytes: int = 0


class Journal:
    """The memory of the models by holder, and every event; safe to use from any thread."""

    def __init__(self) -> None:
        self._news = threading.Condition()
        self._events: list[MemoryEvent] = []
        self._held: dict[int, int] = {}
        self._present: dict[int, str] = {}
        self._other_bytes = 0

    @property
    def events(self) -> list[MemoryEvent]:
        """Everything that happened so far, oldest first."""
        with self._news:
            return list(self._events)

    @property
    def holders(self) -> dict[int, int]:
        """Bytes of the GPU by the number of the runner that holds them."""
        with self._news:
            return dict(self._held)

    @property
    def used_bytes(self) -> int:
        """Memory of the GPU that models hold, those that are gone from ``/api/ps`` too."""
        with self._news:
            return self._used()

    @property
    def other_bytes(self) -> int:
        """Memory of the GPU that other processes hold."""
        with self._news:
            return self._other_bytes

    @other_bytes.setter
    def other_bytes(self, value: int) -> None:
        with self._news:
            self._other_bytes = value
            self._news.notify_all()

    def count(self, event: EventKind, reason: str = "") -> int:
        """Return how often something happened, for a reason or for any."""
        return sum(
            item.event == event and reason in ("", item.reason.partition(" ")[0])
            for item in self.events
        )

    def note(
        self,
        event: EventKind,
        model: str,
        *,
        reason: str = "",
        holder: int = 0,
        vram_bytes: int = 0,
    ) -> None:
        """Write one event down and change what is held accordingly."""
        with self._news:
            if event == "loading":
                self._held[holder] = vram_bytes
            elif event == "loaded":
                self._present[holder] = model
            elif event == "unloaded":
                self._present.pop(holder, None)
            elif event == "released":
                self._held.pop(holder, None)
            elif event == "restarted":
                self._held.clear()
                self._present.clear()
            now = time.monotonic()
            self._events.append(MemoryEvent(now, event, model, reason, vram_bytes, self._used()))
            self._news.notify_all()

    def poke(self) -> None:
        """Let everything that waits look again."""
        with self._news:
            self._news.notify_all()

    def wait(self, true: Callable[[], bool], what: str, timeout_s: float) -> None:
        """Wait until something is so; raises TimeoutError with what did happen."""
        with self._news:
            if not self._news.wait_for(true, timeout_s):
                said = ", ".join(f"{item.event} {item.model}" for item in self._events[-5:])
                raise TimeoutError(f"{what} after {timeout_s} s; last: {said or 'nothing'}")

    def wait_for(self, event: EventKind, model: str, n: int, timeout_s: float) -> MemoryEvent:
        """Return the n-th event of a kind, counted from 1, as soon as it is there."""
        name = with_tag(model) if model else ""

        def found() -> list[MemoryEvent]:
            return [
                item for item in self._events if item.event == event and name in ("", item.model)
            ]

        self.wait(lambda: len(found()) >= n, f"{n} times {event} {model} not seen", timeout_s)
        return found()[n - 1]

    def is_present(self, model: str) -> bool:
        """Say whether a model is in memory; call it while waiting."""
        return with_tag(model) in self._present.values()

    def is_all_released(self) -> bool:
        """Say whether nothing holds memory that is gone from ``/api/ps``; for waiting too."""
        return not self._held.keys() - self._present.keys()

    def _used(self) -> int:
        return sum(self._held.values())
