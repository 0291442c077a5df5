"""What a test sets, reads and awaits of a scripted Ollama's memory."""

from __future__ import annotations

import dataclasses
from typing import Any

from workbench.testing.memory import EventKind, Journal, MemoryEvent
from workbench.testing.scheduler import Limits, Scheduler
from workbench.testing.scripts import ReplySource
from workbench.testing.server import ScriptedServer


def scheduler_of(
    *, vram_lag_s: float | None, deadlock: bool | None, **limits: Any
) -> Scheduler | None:
    """Return a scheduler with what was given, ``None`` when nothing was."""
    given = {name: value for name, value in limits.items() if value is not None}
    if not given and vram_lag_s is None and deadlock is None:
        return None
    known = {item.name for item in dataclasses.fields(Limits)}
    if unknown := given.keys() - known:
        raise TypeError(f"no scheduler option {min(unknown)!r}")
    return Scheduler(Limits(**given), vram_lag_s=vram_lag_s or 0.0, deadlock=bool(deadlock))


class MemoryControls(ScriptedServer):
    """The part of a scripted server that shows and moves its scheduler, from any thread."""

    def __init__(
        self,
        scheduler: Scheduler | None,
        *,
        reply: ReplySource,
        version: str,
        host: str,
        port: int,
    ) -> None:
        super().__init__(reply=reply, host=host, port=port)
        self._scheduler = scheduler
        self._version = version

    @property
    def version(self) -> str:
        """What ``/api/version`` says."""
        return self._version

    @property
    def memory_bytes(self) -> int | None:
        """The memory of its GPU; ``None`` is without limit."""
        return self._scheduler.limits.memory_bytes if self._scheduler is not None else None

    @property
    def used_bytes(self) -> int:
        """Memory of the GPU that its models hold, those gone from ``/api/ps`` too."""
        return self.journal.used_bytes

    @property
    def other_bytes(self) -> int:
        """Memory of the GPU that other processes hold; may be set."""
        return self.journal.other_bytes

    @other_bytes.setter
    def other_bytes(self, value: int) -> None:
        scheduler = self._scheduled()
        self._on_loop(lambda: scheduler.set_other_bytes(value))

    @property
    def vram_lag_s(self) -> float:
        """Seconds until the memory of an unloaded model is back; may be set, inf is never."""
        return self._scheduled().vram_lag_s

    @vram_lag_s.setter
    def vram_lag_s(self, value: float) -> None:
        self._scheduled().vram_lag_s = value

    @property
    def deadlock(self) -> bool:
        """Whether a load that has to evict waits for anybody's unload; may be set."""
        return self._scheduled().deadlock

    @deadlock.setter
    def deadlock(self, value: bool) -> None:
        self._scheduled().deadlock = value

    @property
    def journal(self) -> Journal:
        """What happened in its memory, and who holds how much of it."""
        return self._scheduled().journal

    @property
    def history(self) -> list[MemoryEvent]:
        """Every event of its memory so far, oldest first."""
        return self.journal.events

    @property
    def reloads(self) -> int:
        """How often a model left because a request wanted other runner options."""
        return self.journal.count("unloaded", "reload")

    @property
    def evictions(self) -> int:
        """How often a model left to make room for another."""
        return self.journal.count("unloaded", "evicted")

    @property
    def unloads(self) -> int:
        """How often a model left, for whatever reason."""
        return self.journal.count("unloaded")

    def wait_for_event(
        self, event: EventKind, model: str = "", *, n: int = 1, timeout_s: float = 10.0
    ) -> MemoryEvent:
        """Return the n-th event of a kind, counted from 1, as soon as it is there.

        Args:
            event: The kind.
            model: Count only events of this model.
            n: Which one.
            timeout_s: Raises TimeoutError after this many seconds.
        """
        return self.journal.wait_for(event, model, n, timeout_s)

    def wait_until_loaded(self, model: str, *, timeout_s: float = 10.0) -> None:
        """Wait until a model is in memory; raises TimeoutError when it does not get there."""
        journal = self.journal
        journal.wait(lambda: journal.is_present(model), f"{model} not loaded", timeout_s)

    def wait_until_unloaded(self, model: str, *, timeout_s: float = 10.0) -> None:
        """Wait until a model is gone from ``/api/ps``; its memory may not be back yet."""
        journal = self.journal
        journal.wait(lambda: not journal.is_present(model), f"{model} not unloaded", timeout_s)

    def wait_until_released(self, *, timeout_s: float = 10.0) -> None:
        """Wait until the memory of everything unloaded is back; a load in progress holds some."""
        self.journal.wait(self.journal.is_all_released, "memory not released", timeout_s)

    def release_vram(self) -> None:
        """Give the memory of everything unloaded back now, whatever the lag."""
        self._on_loop(self._scheduled().release_vram)

    def run_out_of_memory(self) -> None:
        """Let every model leave, pinned ones too, as when a runner runs out of memory."""
        self._on_loop(self._scheduled().run_out_of_memory)

    def restart(self, *, version: str = "") -> None:
        """End and start again on the same port, with nothing in memory.

        Every connection is closed. The other processes keep their memory.

        Args:
            version: What it calls itself from now on.
        """
        self.close()
        self._version = version or self._version
        if self._scheduler is not None:
            self._scheduler.journal.note("restarted", "")
        self.start()

    def _scheduled(self) -> Scheduler:
        if self._scheduler is None:
            raise RuntimeError(f"{self!r} has no scheduler: make it with memory_bytes=")
        return self._scheduler
