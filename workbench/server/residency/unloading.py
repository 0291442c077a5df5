"""Takes a model out of memory and sees that it, and its memory, are gone.

Requests have ended before this begins.  An Ollama host answers "unloaded" to whatever it is asked,
lists a model no more before its memory is free, and keeps one that another client uses: so what is
reported here is what was seen.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from workbench.errors import ModelNotFound
from workbench.server.residency.pace import Pace
from workbench.server.residency.resident import Resident, UnloadReport, Verdict
from workbench.server.residency.statecache import StateCache
from workbench.server.residency.witness import MemoryWitness
from workbench.units import format_bytes, utc_now

# Of the memory a model held, so much must be free again; the driver keeps some for others.
RELEASED_SHARE = 0.75
# A rise of free memory below this part of the model is somebody else's doing.
RISING_SHARE = 0.05
# Somebody who brings a model back as often wants it: going on would only load it again and again.
MOST_ASKS = 3


@dataclass(frozen=True, slots=True)
class _Gone:
    seconds: float
    verdict: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class _Released:
    verified: bool
    seconds: float | None
    after_bytes: int | None
    reason: str | None = None


class Unloader:
    """Unloads models of one backend."""

    def __init__(self, cache: StateCache, witness: MemoryWitness, pace: Pace) -> None:
        self._cache = cache
        self.witness = witness
        self._pace = pace

    async def unload(self, resident: Resident) -> UnloadReport:
        """Unload a model that has no requests of ours.

        Raises:
            WorkbenchError: When the backend could not be asked.
        """
        if resident.entry.remote:
            # Its host would pass the request on to the company that runs it.
            return UnloadReport("absent")
        if not resident.backend.expires_models:
            return await self._end_process(resident)
        with self._cache.moving():
            return await self._ask_host(resident)

    async def _end_process(self, resident: Resident) -> UnloadReport:
        started = time.monotonic()
        seen = await resident.backend.unload(resident.name, embed=resident.embed)
        self._cache.mutated()
        seconds = time.monotonic() - started
        if not seen.gone:
            reason = "its process has not ended"
            return UnloadReport("still_loaded", seconds, reason=reason)
        # A process that has ended holds no memory: nothing else is needed to know it.
        return UnloadReport(
            "verified", seconds, seconds, seconds, seen.bytes_before, seen.bytes_after
        )

    async def _ask_host(self, resident: Resident) -> UnloadReport:
        started = time.monotonic()
        backend, held = resident.backend, resident.vram_bytes
        free_before = await self.witness.free_bytes(backend)
        if not await self._ask(resident):
            left = f" at {resident.expires_at:%H:%M} UTC" if resident.expires_at else ""
            reason = f"its files were deleted; it leaves when its keep_alive ends{left}"
            seconds = time.monotonic() - started
            return UnloadReport("still_loaded", seconds, bytes_before=held, reason=reason)
        gone = await self._await_gone(resident, started)
        if gone.verdict is not None:
            verdict: Verdict = "resurrected" if gone.verdict == "resurrected" else "still_loaded"
            return UnloadReport(
                verdict,
                time.monotonic() - started,
                bytes_before=held,
                bytes_after=held,
                reason=gone.reason,
            )
        resident.releasing = True
        released = await self._await_memory(resident, free_before, held)
        again = await self._cache.refresh()
        if not again.stale and again.find(resident.runner) is not None:
            reason = "another client loaded it again at once"
            return UnloadReport(
                "resurrected",
                time.monotonic() - started,
                gone.seconds,
                bytes_before=held,
                bytes_after=held,
                reason=reason,
            )
        return UnloadReport(
            "verified" if released.verified else "gone_unverified",
            time.monotonic() - started,
            gone.seconds,
            released.seconds,
            held,
            released.after_bytes,
            reason=released.reason,
        )

    async def _ask(self, resident: Resident) -> bool:
        """Ask the host to unload; `False` when it knows the model by none of its names.

        A model that was deleted while it was loaded can only be named by another model of the same
        file.
        """
        for name in (resident.name, *(resident.names - {resident.name.lower()})):
            try:
                await resident.backend.unload(name, embed=resident.embed)
            except ModelNotFound:
                continue
            self._cache.mutated()
            return True
        return False

    async def _await_gone(self, resident: Resident, started: float) -> _Gone:
        """Wait until the host no longer lists the model; ask again when it does not leave."""
        asked_at = started
        asks, known = 1, False
        while True:
            snapshot = await self._cache.refresh()
            now = time.monotonic()
            row = snapshot.find(resident.runner)
            known = known or not snapshot.stale
            if not snapshot.stale and row is None:
                return _Gone(now - started)
            ends = None if row is None else row.expires_at
            stays = row is not None and (row.forever or (ends is not None and ends > utc_now()))
            if now - started > self._pace.gone_s:
                break
            if stays and now - asked_at >= self._pace.retry_s:
                # A request of somebody else gave it a new keep_alive.
                if asks == MOST_ASKS:
                    break
                asks, asked_at = asks + 1, now
                await self._ask(resident)
            await asyncio.sleep(self._pace.moving_s)
        seconds = now - started
        if not known:
            return _Gone(seconds, "still_loaded", f"the host does not say: {snapshot.error}")
        if stays:
            reason = "another client uses it and keeps it loaded"
            return _Gone(seconds, "resurrected", reason)
        reason = f"it is still listed after {seconds:.0f} s; another client may be using it"
        return _Gone(seconds, "still_loaded", reason)

    async def _await_memory(
        self, resident: Resident, before: int | None, held: int | None
    ) -> _Released:
        """Wait until the memory is free again, or no longer changes, or for too long."""
        if not held:
            what = "it held no memory of a GPU" if held == 0 else "what it held was not known"
            return _Released(False, None, held, what)
        if before is None:
            return _Released(False, None, None, "nobody tells how much memory is free")
        started = time.monotonic()
        goal, rising = before + RELEASED_SHARE * held, before + RISING_SHARE * held
        samples: list[int] = []
        while (seconds := time.monotonic() - started) <= self._pace.released_s:
            free = await self.witness.free_bytes(resident.backend)
            if free is None:
                return _Released(False, None, None, "the free memory can no longer be read")
            if free >= goal:
                return _Released(True, seconds, max(0, held - (free - before)))
            samples.append(free)
            last = samples[-self._pace.plateau :]
            # Equal before anything came back only means that the driver is slow.
            if len(last) == self._pace.plateau and len(set(last)) == 1 and free > rising:
                break
            await asyncio.sleep(self._pace.moving_s)
        came = max(0, samples[-1] - before)
        reason = f"{format_bytes(came)} of {format_bytes(held)} came back in {seconds:.1f} s"
        return _Released(False, None, max(0, held - came), reason)
