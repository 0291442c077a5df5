"""The models in memory: the door for requests, and for people who manage them.

Each backend has a `Host`; this puts them together with what they share: wishes, leases, settings.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack, contextmanager
from typing import Any

from workbench.errors import InsufficientMemory, ResponseError, UnloadFailed, WorkbenchError
from workbench.server.backends.base import Backend, ModelEntry, RunningModel
from workbench.server.events import Events
from workbench.server.residency.background import Tasks
from workbench.server.residency.host import Host
from workbench.server.residency.leases import Lease, LeaseTable
from workbench.server.residency.pace import Pace
from workbench.server.residency.parts import Estimate, Limits, Parts, Within, file_size
from workbench.server.residency.policy import RoomPlan
from workbench.server.residency.profiles import Preferences, Profiles
from workbench.server.residency.resident import Resident, UnloadReport, Verdict
from workbench.server.residency.room import Consent, bytes_of
from workbench.server.residency.statecache import Snapshot
from workbench.server.residency.tickets import Hold, Want
from workbench.server.residency.witness import MemoryWitness, NoWitness
from workbench.server.state import State

log = logging.getLogger("workbench")

# How often leases, heartbeats and hot models are looked at.
TEND_S = 1.0
# How often a hot model is tried again.
HOT_AGAIN_S = 30.0
# A hot model that the backend dropped so often is left alone until its wishes change.
HOT_LOSSES = 3
# The end of the server does not wait longer for its models to leave.
FAREWELL_S = 3.0
_NOBODY = Consent()


class Residency:
    """The models in memory, of every backend.

    Args:
        witness: Says how much memory there is.
        estimate: Says what a model will take before it was measured.
    """

    def __init__(
        self,
        events: Events,
        state: State,
        *,
        witness: MemoryWitness | None = None,
        estimate: Estimate = file_size,
        pace: Pace | None = None,
        interactive_wait_s: float = 5.0,
        batch_wait_s: float = 60.0,
    ) -> None:
        self._events = events
        self.profiles = Profiles(state)
        self._leases = LeaseTable()
        self._parts = Parts(
            events,
            state,
            self.profiles,
            witness or NoWitness(),
            self.is_leased,
            estimate,
            pace=pace or Pace(),
            interactive_wait_s=interactive_wait_s,
            batch_wait_s=batch_wait_s,
        )
        self.hosts: dict[str, Host] = {}
        self._tasks = Tasks()
        self._touched_at: dict[Resident, float] = {}
        self._hot_at: dict[tuple[str, str], float] = {}
        self._heating: dict[str, asyncio.Task[None]] = {}

    def add(self, backend: Backend, limits: Limits) -> Host:
        """Take a backend in."""
        host = self.hosts[backend.name] = Host(backend, self._parts, limits)
        return host

    def remove(self, name: str) -> None:
        """Leave a backend out; before the first request."""
        del self.hosts[name]

    def use_witness(self, witness: MemoryWitness, estimate: Estimate | None = None) -> None:
        """Say who knows about memory; before the first request."""
        self._parts.witness = witness
        if estimate is not None:
            self._parts.estimate = estimate
        for host in self.hosts.values():
            host.use_witness(witness)

    def tell_what_is_loaded(self, saw: Callable[[Backend, list[RunningModel]], None]) -> None:
        """Say who is told what a backend has in memory, whenever it was asked."""
        self._parts.saw = saw

    def name_what_fits(self, within: Within) -> None:
        """Say who knows which models would fit."""
        self._parts.within = within

    # ---- requests

    @property
    def in_flight(self) -> int:
        """Requests that hold a model, or wait for one."""
        return sum(host.in_flight for host in self.hosts.values())

    def use(self, backend: Backend, want: Want) -> AbstractAsyncContextManager[Hold]:
        """Hold a model in memory for one request.

        Raises:
            WorkbenchError: When it cannot be loaded, or not without asking, or its turn came too
                late.
        """
        return self.hosts[backend.name].use(want)

    def configure_queue(
        self, *, interactive_wait_s: float | None = None, batch_wait_s: float | None = None
    ) -> None:
        """Change how long requests wait for others' models."""
        if interactive_wait_s is not None:
            self._parts.interactive_wait_s = interactive_wait_s
        if batch_wait_s is not None:
            self._parts.batch_wait_s = batch_wait_s
        for host in self.hosts.values():
            host.queue.configure(interactive_wait_s=interactive_wait_s, batch_wait_s=batch_wait_s)
            host.step()

    # ---- what is in memory

    def residents(self, backend: str) -> list[Resident]:
        """Return what is in the memory of a backend, or on its way, as far as known."""
        host = self.hosts.get(backend)
        return [] if host is None else list(host.residents.values())

    async def look(self, backend: Backend) -> None:
        """Follow what a backend has loaded, without waiting long for one that is slow."""
        await self.hosts[backend.name].look()

    async def find(self, backend: Backend, entry: ModelEntry) -> list[Resident]:
        """Return a model in all its uses: an embedded one may run for text and vectors."""
        runner = await backend.runner_of(entry.name, entry.digest)
        residents = self.hosts[backend.name].residents
        keys = (runner.id, f"{runner.id}#embed")
        return [residents[key] for key in keys if key in residents]

    async def snapshot(self, backend: Backend, *, max_age_s: float | None = None) -> Snapshot:
        """Return what a backend says is in its memory; one poll serves everybody."""
        cache = self.hosts[backend.name].cache
        fresh_s = self._parts.pace.fresh_s if backend.expires_models else 0.0
        return await cache.refresh(max_age_s=fresh_s if max_age_s is None else max_age_s)

    async def running(self, backend: Backend) -> list[RunningModel]:
        """Return the loaded models of a backend.

        Raises:
            WorkbenchError: When it does not say, and never did.
        """
        snapshot = await self.snapshot(backend)
        if snapshot.error is not None and snapshot.as_of is None:
            raise snapshot.error
        return snapshot.models

    async def would_evict(
        self, backend: Backend, entry: ModelEntry, options: Mapping[str, Any]
    ) -> list[str] | None:
        """Return the models that would leave if this one were loaded now with these options.

        `None` when that is decided elsewhere, or it never fits.
        """
        return await self.hosts[backend.name].would_evict(Want(entry, options))

    async def room_bytes(self, backend: Backend, entry: ModelEntry) -> int | None:
        """Return how much would be left free beside a model; below 0 it does not fit.

        `None` when nobody knows.
        """
        room = self.hosts[backend.name].room
        await room.measure()
        needed = (await room.need(entry, {})).beside_bytes
        if needed is None or room.budget_bytes is None:
            return None
        # One that only fits after others have left is worse than one with little room beside them.
        free = room.free_bytes if room.free_bytes is not None else room.budget_bytes
        return free - needed

    # ---- leaving

    async def unload(
        self, backend: Backend, entry: ModelEntry, *, force: bool = False, actor: str = "server"
    ) -> UnloadReport:
        """Unload a model in every use, once its requests have finished.

        Args:
            force: Whether requests that run are ended with an error.

        Returns:
            The verdict; `absent` when it was not loaded.

        Raises:
            WorkbenchError: When the backend does not say what it has loaded, or cannot unload.
        """
        started = time.monotonic()
        if backend.expires_models:
            snapshot = await self.snapshot(backend, max_age_s=0.0)
            if snapshot.error is not None:
                raise snapshot.error
        host = self.hosts[backend.name]
        found = await self.find(backend, entry)
        waits_for = sum(resident.in_flight for resident in found)
        if force:
            for resident in found:
                host.abort_requests(resident)
        reports: list[UnloadReport] = []
        for resident in found:
            try:
                report = await host.departures.leave(resident, reason="asked for", actor=actor)
            except UnloadFailed as exc:
                verdict: Verdict = "resurrected" if exc.verdict == "resurrected" else "still_loaded"
                return UnloadReport(
                    verdict,
                    time.monotonic() - started,
                    bytes_before=resident.vram_bytes,
                    bytes_after=resident.vram_bytes,
                    waited_for=waits_for,
                    reason=exc.reason,
                )
            reports.append(report)
        return _together(reports, time.monotonic() - started, waits_for)

    def expire_when_idle(self, backend: Backend, residents: Sequence[Resident]) -> bool:
        """Let a busy or loading model leave after its requests, as Ollama's keep_alive 0 does.

        Returns:
            Whether it is busy or loading; an idle one is the caller's to unload.
        """
        busy = [item for item in residents if not item.loaded or item.in_flight]
        for resident in busy:
            resident.keep_alive_s = 0.0
            resident.leave_when_idle = True
        return bool(busy)

    def forget(self, backend: Backend, model: str, *, embed: bool = False) -> None:
        """Say that a model's process is gone by itself; the next request loads it again."""
        key = model.lower() + ("#embed" if embed else "")
        if self.hosts[backend.name].forget(key, "its process ended") is not None:
            self._events.emit("engine_exited", model=model, backend=backend.name)

    # ---- who watches

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Follow what the backends have loaded while somebody watches."""
        with ExitStack() as stack:
            for host in self.hosts.values():
                if host.backend.loads_models:
                    stack.enter_context(host.cache.watched())
            yield

    # ---- wishes

    async def check_pin(self, backend: Backend, entry: ModelEntry) -> None:
        """Refuse to pin what has no room beside the models that are pinned already.

        Raises:
            InsufficientMemory: With the numbers.
        """
        room = self.hosts[backend.name].room
        await room.measure()
        needed = (await room.need(entry, {})).size_bytes
        pinned = sum(
            bytes_of(item) or 0
            for item in self.residents(backend.name)
            if self.profiles.of_resident(item).pinned and item.entry.digest != entry.digest
        )
        if None in (needed, room.budget_bytes):
            return
        left = (room.budget_bytes or 0) - pinned
        if (needed or 0) > left:
            raise InsufficientMemory(
                entry.name,
                needed_bytes=needed or 0,
                available_bytes=max(0, left),
                would_fit=self._parts.within(backend.name, left),
            )

    async def prefer(
        self, backend: Backend, entry: ModelEntry, *, actor: str, **changes: Any
    ) -> Preferences:
        """Change the wishes for a model; what is loaded follows at once."""
        before = self.profiles.of(backend.name, entry.name)
        wishes = self.profiles.change(backend.name, entry.name, **changes)
        facts: dict[str, Any] = {"model": entry.name, "backend": backend.name, "actor": actor}
        if wishes.pinned != before.pinned:
            self._events.emit("pinned" if wishes.pinned else "unpinned", **facts)
        others = {name: _shown(value) for name, value in changes.items() if name != "pinned"}
        if others:
            self._events.emit("preferences", **facts, **others)
        host = self.hosts[backend.name]
        host.books.lost.clear()
        for resident in await self.find(backend, entry):
            resident.names.add(entry.name.lower())
            if backend.expires_models and backend.loads_models and not resident.in_flight:
                self._tasks.spawn(host.departures.touch(resident))
        host.departures.rest_again()
        self._hot_at.pop((backend.name, entry.name.lower()), None)
        return wishes

    # ---- leases

    def is_leased(self, resident: Resident) -> bool:
        """Whether somebody holds a lease on a model by any of its names."""
        now = time.monotonic()
        backend = resident.backend.name
        return any(self._leases.leased(_full(name, backend), now) for name in resident.names)

    def has_lease(self, backend: str, name: str) -> bool:
        """Whether somebody holds a lease on a model by this name."""
        return self._leases.leased(_full(name, backend), time.monotonic())

    @property
    def leases(self) -> list[Lease]:
        """The leases that last."""
        return self._leases.lasting(time.monotonic())

    def acquire_lease(self, models: Sequence[str], ttl_s: float, holder: str) -> Lease:
        """Promise that models stay; `models` are full names, with their backends.

        Raises:
            ResponseError: With status 400 when no model is named or the time is none.
        """
        try:
            named = [name.lower() for name in models]
            lease = self._leases.acquire(named, ttl_s, holder, time.monotonic())
        except ValueError as exc:
            raise ResponseError(str(exc), status=400) from exc
        self._events.emit("lease", id=lease.id, models=list(models), ttl_s=ttl_s, actor=holder)
        self._rest_again()
        return lease

    def renew_lease(self, lease_id: str, ttl_s: float | None = None) -> Lease:
        """Let a lease last from now on.

        Raises:
            ResponseError: With status 404 when it has ended, 400 when the time is none.
        """
        try:
            lease = self._leases.heartbeat(lease_id, time.monotonic(), ttl_s)
        except ValueError as exc:
            raise ResponseError(str(exc), status=400) from exc
        if lease is None:
            raise _no_lease(lease_id)
        return lease

    def release_lease(self, lease_id: str) -> Lease:
        """End a lease.

        Raises:
            ResponseError: With status 404 when it has ended before.
        """
        lease = self._leases.release(lease_id)
        if lease is None:
            raise _no_lease(lease_id)
        self._lease_ended(lease, "released")
        return lease

    def _lease_ended(self, lease: Lease, reason: str) -> None:
        self._events.emit(
            "lease_ended", id=lease.id, models=list(lease.models), actor=lease.holder, reason=reason
        )
        self._rest_again()

    def _rest_again(self) -> None:
        for host in self.hosts.values():
            host.departures.rest_again()

    # ---- what goes on by itself

    @property
    def needed(self) -> bool:
        """Whether somebody would miss the server although nothing runs: leases, pins, hot ones."""
        if self.leases:
            return True
        return any(
            host.departures.held(resident)
            for host in self.hosts.values()
            for resident in host.residents.values()
        )

    def start(self) -> None:
        """Begin to look after leases, heartbeats and hot models."""
        self._tasks.spawn(self._tend())

    async def _tend(self) -> None:
        while True:
            now = time.monotonic()
            for lease in self._leases.expired(now):
                self._lease_ended(lease, "expired")
            for host in self.hosts.values():
                self._renew(host, now)
                heating = self._heating.get(host.backend.name)
                if heating is None or heating.done():
                    work = self._heat(host, now)
                    self._heating[host.backend.name] = self._tasks.spawn(work)
            await asyncio.sleep(TEND_S)

    def _renew(self, host: Host, now: float) -> None:
        """Renew the keep_alive of what stays on a host: it ends soon after this server does."""
        if not host.backend.expires_models or not host.backend.loads_models:
            return
        for resident in host.residents.values():
            if not resident.usable or resident.in_flight or not host.departures.held(resident):
                continue
            if now - self._touched_at.get(resident, resident.last_used) >= (
                self._parts.pace.heartbeat_s
            ):
                self._touched_at = {
                    item: at
                    for item, at in self._touched_at.items()
                    if item.runner in host.residents or item.backend is not host.backend
                }
                self._touched_at[resident] = now
                self._tasks.spawn(host.departures.touch(resident))

    async def _heat(self, host: Host, now: float) -> None:
        """Load what is to be in memory, when there is room without anybody leaving.

        One after the other: what is on its way has its place before the next one is judged.
        """
        for name in self.profiles.hot(host.backend.name):
            key = (host.backend.name, name)
            if now - self._hot_at.get(key, float("-inf")) < HOT_AGAIN_S:
                continue
            self._hot_at[key] = now
            try:
                entry = await self._entry(host, name)
                if entry is None or await self.find(host.backend, entry):
                    continue
                lane = await host.lane_of(entry)
                if host.books.lost[lane.runner] >= HOT_LOSSES:
                    continue
                await host.room.look(lane, entry)
                if host.room.plan(lane, _NOBODY) == RoomPlan():
                    await self._load_hot(host, entry)
            except WorkbenchError as exc:
                log.info("%s is not loaded yet: %s", name, exc)

    @staticmethod
    async def _entry(host: Host, name: str) -> ModelEntry | None:
        entries = await host.backend.models()
        return next((item for item in entries if item.name.lower() == name), None)

    async def _load_hot(self, host: Host, entry: ModelEntry) -> None:
        async with host.use(Want(entry, cls="batch", actor="server (hot)")):
            return

    async def close(self) -> None:
        """End every load and timer; what this server loaded on a host leaves it."""
        await self._tasks.close()
        try:
            async with asyncio.timeout(FAREWELL_S):
                await asyncio.gather(*(_farewell(host) for host in self.hosts.values()))
        except TimeoutError:
            log.warning("a host did not answer in time; its models leave by their keep_alive")
        for host in self.hosts.values():
            await host.close()


async def _farewell(host: Host) -> None:
    """Ask what this server loaded on a host to leave; an engine of ours is ended elsewhere."""
    if not host.backend.expires_models or not host.backend.loads_models:
        return
    ours = [item for item in host.residents.values() if item.owner == "ours" and item.usable]
    for resident in ours:
        if resident.in_flight or resident.entry.remote:
            continue
        try:
            await host.backend.unload(resident.name, embed=resident.embed)
        except WorkbenchError as exc:
            log.info("%s was not unloaded: %s", resident.name, exc)


def _together(reports: Sequence[UnloadReport], seconds: float, waits_for: int) -> UnloadReport:
    """Return one report for all the uses of a model."""
    if not reports or all(report.verdict == "absent" for report in reports):
        return UnloadReport("absent", seconds, waited_for=waits_for)
    unverified = [report for report in reports if report.verdict == "gone_unverified"]
    return UnloadReport(
        "gone_unverified" if unverified else "verified",
        seconds,
        _most(report.gone_s for report in reports),
        _most(report.released_s for report in reports),
        _sum(report.bytes_before for report in reports),
        _sum(report.bytes_after for report in reports),
        waits_for,
        unverified[0].reason if unverified else None,
    )


def _most(values: Any) -> float | None:
    return max((value for value in values if value is not None), default=None)


def _sum(values: Any) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _full(name: str, backend: str) -> str:
    return f"{name}@{backend}".lower()


def _no_lease(lease_id: str) -> ResponseError:
    return ResponseError(
        f"no lease {lease_id!r}", status=404, hint="It has ended; acquire a new one."
    )


def _shown(value: Any) -> Any:
    return -1 if value == float("inf") else value
