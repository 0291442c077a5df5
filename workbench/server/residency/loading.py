"""Brings a model into memory and sees that it is there as it was asked for.

A load runs in a task of its own: nobody who goes away aborts it.  Afterwards the backend's own
list is read: the context as asked, all of it on the GPU.  A part on the CPU although there was room
means that memory of the model before was not free yet: then it is unloaded, verified, and loaded
once more.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import Any

from workbench.errors import WorkbenchError
from workbench.server.backends.base import RunningModel
from workbench.server.events import Events
from workbench.server.residency.pace import Pace
from workbench.server.residency.resident import Resident
from workbench.server.residency.statecache import Snapshot, StateCache
from workbench.server.residency.unloading import Unloader
from workbench.server.residency.witness import MemoryWitness
from workbench.server.state import State
from workbench.units import format_bytes

log = logging.getLogger("workbench")

# A load that takes so many times its usual seconds is looked at.
STUCK_FACTOR = 3.0


@dataclass(frozen=True, slots=True)
class LoadOrder:
    """What a load needs to know besides the model.

    Attributes:
        keep_alive_s: Seconds it stays; `None` is the backend's default.
        actor: Who asked for it.
    """

    keep_alive_s: float | None
    actor: str


class Loader:
    """Loads models of one backend."""

    def __init__(
        self,
        cache: StateCache,
        unloader: Unloader,
        witness: MemoryWitness,
        state: State,
        events: Events,
        pace: Pace,
    ) -> None:
        self._cache = cache
        self._unloader = unloader
        self.witness = witness
        self._state = state
        self._events = events
        self._pace = pace
        # Loaded in part on the CPU although there was room, twice: it is not tried again.
        self._partial: set[tuple[str, int | None]] = set()

    async def load(self, resident: Resident, order: LoadOrder) -> None:
        """Load a model and fill in what was seen of it.

        Raises:
            WorkbenchError: The backend's own reason why it could not be loaded.
        """
        seconds = await self._once(resident, order)
        problem = self._partly(resident)
        if problem is not None and await self._should_fit(resident, order):
            self._warn(resident, f"{problem} It is unloaded and loaded again.")
            report = await self._unloader.unload(resident)
            resident.releasing = False
            if report.gone:
                seconds = await self._once(resident, order)
            problem = self._partly(resident)
            if problem is not None:
                self._partial.add(self._key(resident))
        if problem is not None:
            self._warn(resident, problem)
        resident.load_s = seconds
        if resident.lane.runner and not resident.entry.remote:
            self._remember(resident, seconds)
        self._events.emit(
            "loaded",
            model=resident.name,
            backend=resident.backend.name,
            digest=resident.entry.digest,
            seconds=round(seconds, 3),
            bytes=resident.size_bytes,
            vram_bytes=resident.vram_bytes,
            context_length=resident.context_length,
            offload_share=resident.offload_share,
            actor=order.actor,
        )

    def _remember(self, resident: Resident, seconds: float) -> None:
        digest, context = resident.entry.digest, resident.context_length
        self._state.remember_load(digest, seconds, context=context)
        if context and resident.size_bytes and resident.vram_bytes is not None:
            size, vram = resident.size_bytes, resident.vram_bytes
            self._state.remember_memory(digest, context, size, vram)

    @staticmethod
    def _key(resident: Resident) -> tuple[str, int | None]:
        return resident.entry.digest, resident.context_length

    async def _once(self, resident: Resident, order: LoadOrder) -> float:
        """Load once and read what came of it; returns the seconds it took."""
        backend, entry = resident.backend, resident.entry
        # A model that runs at another company is in nobody's memory here.
        if entry.remote or not backend.loads_models:
            return 0.0
        started = time.monotonic()
        with self._cache.moving():
            work = backend.load(
                entry.name, resident.lane.options, order.keep_alive_s, embed=resident.embed
            )
            await self._watched(asyncio.ensure_future(work), resident)
            seconds = time.monotonic() - started
            self._cache.mutated()
            snapshot = await self._cache.refresh()
        self._read(resident, snapshot)
        return seconds

    def _read(self, resident: Resident, snapshot: Snapshot) -> None:
        """Take what the backend says of the model, and warn when it is not as asked."""
        row = None if snapshot.stale else snapshot.find(resident.runner)
        resident.warnings.clear()
        if row is None:
            if snapshot.error is not None:
                text = f"What was loaded could not be verified: {snapshot.error.message}"
                self._warn(resident, text)
            return
        take_figures(resident, row)
        asked = resident.lane.options.get("num_ctx")
        if asked is not None and row.context_length not in (None, asked):
            self._warn(
                resident,
                f"The context is {row.context_length} tokens instead of the {asked} asked for.",
            )

    @staticmethod
    def _partly(resident: Resident) -> str | None:
        """Return what is wrong when a part of the model is on the CPU; all of it may be meant."""
        offload, vram = resident.offload_bytes, resident.vram_bytes
        if not offload or not vram or resident.lane.options.get("num_gpu") is not None:
            return None
        share = 100 * (resident.offload_share or 0.0)
        return (
            f"{format_bytes(offload)} of {format_bytes(resident.size_bytes)} ({share:.0f} %) "
            "are on the CPU: answers will be slow."
        )

    async def _should_fit(self, resident: Resident, order: LoadOrder) -> bool:
        """Whether the whole model has room on the GPU as far as anybody knows."""
        if self._key(resident) in self._partial:
            return False
        free = await self.witness.free_bytes(resident.backend)
        if free is None or resident.size_bytes is None or resident.vram_bytes is None:
            return False
        return resident.size_bytes <= free + resident.vram_bytes

    def _warn(self, resident: Resident, text: str) -> None:
        resident.warnings.append(text)
        self._events.emit(
            "load_warning",
            level=logging.WARNING,
            model=resident.name,
            backend=resident.backend.name,
            text=text,
        )

    async def _watched(self, work: asyncio.Future[None], resident: Resident) -> None:
        """Await a load; one that hangs is diagnosed, and the known remedy is tried once.

        Ollama's scheduler can wait for ever for a model that another request brought back to life
        while it was to leave (ollama #17408); any unload wakes it.
        """
        usual = self._state.load_seconds(
            resident.entry.digest, resident.lane.options.get("num_ctx")
        )
        limit_s = max(self._pace.stuck_s, STUCK_FACTOR * (usual or 0.0))
        watch = _Stillness(self._cache, self.witness)
        started = looked = time.monotonic()
        helped = False
        try:
            while True:
                done, _ = await asyncio.wait({work}, timeout=self._pace.moving_s)
                if done:
                    break
                seconds = time.monotonic() - started
                if seconds < limit_s or helped or time.monotonic() - looked < self._pace.moving_s:
                    continue
                looked = time.monotonic()
                if await watch.still(resident):
                    helped = True
                    await self._help(resident, seconds, usual)
            work.result()
        finally:
            if not work.done():
                work.cancel()

    async def _help(self, resident: Resident, seconds: float, usual: float | None) -> None:
        snapshot = self._cache.snapshot
        victim = _victim(snapshot, resident)
        action = "nothing is left to unload; restart the backend if it stays like this"
        if victim is not None and resident.backend.expires_models:
            action = f"asked {victim.name} to leave, which wakes a scheduler that waits for it"
            try:
                await resident.backend.unload(victim.name)
                self._cache.mutated()
            except WorkbenchError as exc:
                action = f"{victim.name} could not be asked to leave: {exc.message}"
        self._events.emit(
            "load_stuck",
            level=logging.WARNING,
            model=resident.name,
            backend=resident.backend.name,
            seconds=round(seconds, 1),
            expected_s=usual,
            diagnosis="the load is pending and neither the loaded models nor the memory change",
            action=action,
        )


class _Stillness:
    """Sees whether anything moves in a backend's memory."""

    def __init__(self, cache: StateCache, witness: MemoryWitness) -> None:
        self._cache = cache
        self._witness = witness
        self._before: tuple[Any, ...] | None = None
        self._equal = 0

    async def still(self, resident: Resident) -> bool:
        """Return whether three looks in a row found the same."""
        snapshot = await self._cache.refresh()
        loaded = tuple((item.runner, item.model.vram_bytes) for item in snapshot.seen)
        now = (loaded, await self._witness.free_bytes(resident.backend))
        self._equal = self._equal + 1 if now == self._before else 0
        self._before = now
        return self._equal >= 2


def _victim(snapshot: Snapshot, resident: Resident) -> RunningModel | None:
    """Return the model that the backend most likely waits for: the one to expire first."""
    others = [item.model for item in snapshot.seen if item.runner != resident.runner]
    return min(others, key=_ends, default=None)


def _ends(model: RunningModel) -> float:
    return float("inf") if model.expires_at is None else model.expires_at.timestamp()


def take_figures(resident: Resident, row: RunningModel) -> None:
    """Fill in what a backend says of a model."""
    resident.context_length = row.context_length
    if resident.backend.expires_models:
        resident.size_bytes = resident.size_bytes if row.size_bytes is None else row.size_bytes
        resident.vram_bytes = row.vram_bytes
        resident.expires_at = row.expires_at
        resident.forever = row.forever
    elif row.rss_bytes is not None:
        resident.size_bytes = max(resident.size_bytes or 0, row.rss_bytes)
