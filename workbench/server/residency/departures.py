"""How long models stay, and how they leave: drained, unloaded, seen to be gone."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from typing import Any

from workbench.errors import UnloadFailed, WorkbenchError
from workbench.server.backends.base import Backend
from workbench.server.residency.background import Bell, Tasks
from workbench.server.residency.books import Books
from workbench.server.residency.parts import Limits, Parts
from workbench.server.residency.profiles import Preferences, staying_s
from workbench.server.residency.resident import Resident, UnloadReport
from workbench.server.residency.statecache import StateCache
from workbench.server.residency.unloading import Unloader
from workbench.units import expiry_after

log = logging.getLogger("workbench")

# A model that comes back after its unload this often is left alone.
RESURRECTIONS = 3
# How long a model whose unload failed is left alone.
UNLOAD_AGAIN_S = 10.0


class Departures:
    """The keep_alive of one backend's models, and their unloads.

    Args:
        moved: Called after something has left, or has taken its leaving back.
    """

    def __init__(
        self,
        backend: Backend,
        books: Books,
        cache: StateCache,
        unloader: Unloader,
        parts: Parts,
        limits: Limits,
        tasks: Tasks,
        bell: Bell,
        moved: Callable[[], None],
    ) -> None:
        self._backend = backend
        self._books = books
        self._cache = cache
        self._unloader = unloader
        self._parts = parts
        self._events = parts.events
        self._limits = limits
        self._tasks = tasks
        self._bell = bell
        self._moved = moved

    def wishes(self, resident: Resident) -> Preferences:
        """Return what is wished for a model."""
        return self._parts.profiles.of_resident(resident)

    def held(self, resident: Resident) -> bool:
        """Whether a model stays in memory without requests."""
        return self.wishes(resident).stays or self._parts.leased(resident)

    def rest(self, resident: Resident, *, actor: str = "server", reason: str = "") -> None:
        """Begin the keep_alive of a model that nobody uses; does nothing for any other."""
        # One that has left was told absent; it is no news that it stops.
        if not self._is_there(resident):
            return
        self._books.announce(resident, actor=actor, reason=reason)
        if resident.state != "idle":
            return
        stop_timer(resident)
        if resident.leave_when_idle:
            resident.leave_when_idle = False
            self._tasks.spawn(self._leave_if_idle(resident, "its keep_alive is 0"))
            return
        if self._backend.expires_models:
            return
        seconds = self.count(resident)
        resident.forever = math.isinf(seconds)
        resident.expires_at = expiry_after(seconds)
        if not resident.forever:
            loop = asyncio.get_running_loop()
            resident.timer = loop.call_later(seconds, self._expire, resident)

    def count(self, resident: Resident) -> float:
        """Return how long an embedded model stays from when it is idle, and note it."""
        seconds = staying_s(
            self.wishes(resident), resident.keep_alive_s, held=self.held(resident), host=False
        )
        resident.stays_s = self._limits.keep_alive_s if seconds is None else seconds
        return resident.stays_s

    def rest_again(self) -> None:
        """Count anew for every idle model: wishes or leases have changed."""
        for resident in list(self._books.residents.values()):
            self.rest(resident)
        self._moved()

    def _expire(self, resident: Resident) -> None:
        resident.timer = None
        self._tasks.spawn(self._leave_if_idle(resident, "its keep_alive is over"))

    async def _leave_if_idle(self, resident: Resident, reason: str) -> None:
        # A request that came meanwhile keeps it; when it has ended, its timer runs.
        if resident.state != "idle" or resident.timer is not None:
            return
        if self._is_there(resident):
            await self.leave(resident, reason=reason, actor="server")

    async def leave(self, resident: Resident, *, reason: str, actor: str) -> UnloadReport:
        """Keep newcomers out until the requests have ended, then unload, verified.

        Who is cancelled while it drains takes the order back.  An unload that has begun runs to its
        end whoever goes, and everybody who wants it waits for the same one.

        Raises:
            UnloadFailed: When it is still there, or there again.
        """
        # Who waits for the load is served before the model leaves.
        while not resident.loaded and self._is_there(resident):
            await self._bell.wait()
        waits_for = resident.in_flight
        resident.draining += 1
        stop_timer(resident)
        self._books.announce(resident, actor=actor, reason=reason)
        try:
            while resident.in_flight and self._is_there(resident):
                await self._bell.wait()
            if not self._is_there(resident):
                return UnloadReport("absent", waited_for=waits_for)
            if resident.leaving is None:
                work = self._unload_now(resident, reason, actor, waits_for)
                resident.leaving = self._tasks.spawn(work)
            return await asyncio.shield(resident.leaving)
        finally:
            resident.draining -= 1
            self.rest(resident)
            self._moved()

    def _is_there(self, resident: Resident) -> bool:
        return self._books.residents.get(resident.runner) is resident

    async def _unload_now(
        self, resident: Resident, reason: str, actor: str, waits_for: int
    ) -> UnloadReport:
        facts: dict[str, Any] = {"model": resident.name, "backend": self._backend.name}
        self._events.emit("unloading", **facts, reason=reason, waits_for=waits_for, actor=actor)
        try:
            report = await self._unloader.unload(resident)
            for _ in range(RESURRECTIONS - 1):
                if report.verdict != "resurrected" or report.gone_s is None:
                    break
                self._books.came_back(resident.runner, resident.name)
                report = await self._unloader.unload(resident)
            if not report.gone:
                why = report.reason or "it is still loaded"
                raise UnloadFailed(resident.name, why, verdict=report.verdict)
        except WorkbenchError as exc:
            resident.leaving, resident.releasing = None, False
            if isinstance(exc, UnloadFailed) and exc.verdict == "resurrected":
                # Whoever brought it back wants it: it is theirs now.
                resident.owner = "foreign"
                self._books.came_back(resident.runner, resident.name)
            # It is tried again, but not at once and for ever.
            again_s = UNLOAD_AGAIN_S
            resident.keep_alive_s = max(resident.keep_alive_s or again_s, again_s)
            self._events.emit(
                "unload_failed", level=logging.WARNING, **facts, error=exc.message, actor=actor
            )
            raise
        stop_timer(resident)
        self._books.drop(resident, reason, actor, unloaded=True)
        self._bell.ring()
        self._events.emit(
            "unloaded",
            **facts,
            verdict=report.verdict,
            seconds=round(report.seconds, 3),
            gone_s=report.gone_s,
            released_s=report.released_s,
            bytes_before=report.bytes_before,
            bytes_after=report.bytes_after,
            reason=reason,
            actor=actor,
        )
        return report

    async def touch(self, resident: Resident) -> None:
        """Renew the keep_alive of an idle model on a host, with the options it was loaded with.

        Does nothing for one that is not there any more: that would load it.
        """
        snapshot = await self._cache.refresh()
        if snapshot.stale or snapshot.find(resident.runner) is None or not resident.usable:
            return
        seconds = staying_s(
            self.wishes(resident), resident.keep_alive_s, held=self.held(resident), host=True
        )
        if seconds is None:
            return
        try:
            await self._backend.load(
                resident.name, resident.lane.options, seconds, embed=resident.embed
            )
        except WorkbenchError as exc:
            log.warning("the keep_alive of %s was not renewed: %s", resident.name, exc)
        self._cache.mutated()


def stop_timer(resident: Resident) -> None:
    """Stop counting the keep_alive of a model."""
    if resident.timer is not None:
        resident.timer.cancel()
        resident.timer = None
