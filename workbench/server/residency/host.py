"""One backend: what is in its memory, who waits for it, and what comes and goes.

Requests enter by `use`.  Everything that happens ends in `step`, which asks the queue what to do:
admit a request, or switch, which is a task of its own: make room, verified, then load, verified.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from workbench.errors import QueueTimeout, SwapRequired, WorkbenchError
from workbench.messages import Phase
from workbench.server.backends.base import Backend, ModelEntry, Runner
from workbench.server.residency.background import Bell, Tasks
from workbench.server.residency.books import Books
from workbench.server.residency.departures import Departures, stop_timer
from workbench.server.residency.lanes import Admit, Switch
from workbench.server.residency.loading import Loader, LoadOrder
from workbench.server.residency.parts import Limits, Parts
from workbench.server.residency.profiles import staying_s
from workbench.server.residency.queue import LaneQueue
from workbench.server.residency.resident import Lane, Resident, make_lane
from workbench.server.residency.room import Consent, Room, bytes_of
from workbench.server.residency.statecache import Snapshot, StateCache
from workbench.server.residency.tickets import Hold, Ticket, Want
from workbench.server.residency.unloading import Unloader
from workbench.server.residency.witness import MemoryWitness

log = logging.getLogger("workbench")

# How often those who wait hear how long it has taken.
PHASE_S = 0.5


class Host:
    """The residency of one backend.

    Attributes:
        residents: What is in memory or on its way, by runner.
        queue: Who waits for what.
        cache: What the backend says.
    """

    def __init__(self, backend: Backend, parts: Parts, limits: Limits) -> None:
        self.backend = backend
        self.limits = limits
        self._parts = parts
        self._events = parts.events
        self.books = Books(backend, parts.events)
        self.residents = self.books.residents
        self.cache = StateCache(backend, self._seen, pace=parts.pace)
        self.room = Room(backend, self.residents, limits, parts)
        self._unloader = Unloader(self.cache, parts.witness, parts.pace)
        self._loader = Loader(
            self.cache, self._unloader, parts.witness, parts.state, parts.events, parts.pace
        )
        self.queue: LaneQueue[Lane, Ticket] = LaneQueue(
            interactive_wait_s=parts.interactive_wait_s,
            batch_wait_s=parts.batch_wait_s,
            concurrency=lambda _: max(1, limits.concurrency),
            load_s=self.load_s,
        )
        self.tickets: set[Ticket] = set()
        self._entries: dict[str, ModelEntry] = {}
        self._learning: set[str] = set()
        self._holds: set[Hold] = set()
        self._phases: dict[Lane, Phase] = {}
        self._alarm: asyncio.TimerHandle | None = None
        self._bell = Bell()
        self._tasks = Tasks()
        self.departures = Departures(
            backend,
            self.books,
            self.cache,
            self._unloader,
            parts,
            limits,
            self._tasks,
            self._bell,
            self._moved,
        )

    # ---- requests

    @property
    def in_flight(self) -> int:
        """Requests that wait or run."""
        return len(self.tickets)

    @asynccontextmanager
    async def use(self, want: Want) -> AsyncIterator[Hold]:
        """Hold a model in memory for one request.

        Raises:
            WorkbenchError: When it cannot be loaded, or not without asking, or its turn came too
                late.
        """
        started = time.monotonic()
        runner = await self.backend.runner_of(want.entry.name, want.entry.digest)
        await self.look()
        lane = await self._admissible(runner, want, started)
        ticket = Ticket(want, lane, asyncio.get_running_loop().create_future(), started)
        self._entries[lane.runner] = want.entry
        deadline = None if want.deadline_s is None else started + want.deadline_s
        self.tickets.add(ticket)
        self.queue.submit(ticket, lane, want.cls, time.monotonic(), deadline=deadline)
        hold: Hold | None = None
        try:
            self.step()
            resident = await self._turn(ticket)
            resident.names.add(want.entry.name.lower())
            hold = Hold(
                resident,
                want,
                self.departures.wishes(resident),
                held=self.departures.held(resident),
            )
            self._holds.add(hold)
            yield hold
        finally:
            self._end(ticket, hold)

    async def look(self) -> None:
        """Follow what a backend with its own scheduler has loaded and dropped.

        A model that is in use is there: only what is idle may have left unseen.
        """
        self.cache.asked()
        if not self.backend.expires_models or not self.backend.loads_models:
            return
        if self.cache.is_fresh(self._parts.pace.fresh_s):
            return
        refresh = self._tasks.spawn(self.cache.refresh(max_age_s=self._parts.pace.fresh_s))
        await asyncio.wait({refresh}, timeout=self._parts.pace.request_wait_s)

    async def _admissible(self, runner: Runner, want: Want, started: float) -> Lane:
        """Return the lane of a request, after refusing what cannot or may not be loaded.

        A batch request waits for leases to end; a person is asked.
        """
        consent = Consent(want.swap, want.force)
        while True:
            lane = self._lane(runner, want)
            resident = self.residents.get(lane.runner)
            if resident is not None and resident.lane == lane:
                return lane
            await self.room.look(lane, want.entry)
            try:
                self.room.check(lane, want.entry, consent)
            except SwapRequired:
                if want.cls != "batch" or not self.room.only_leased(lane, consent):
                    raise
                await self._lease_or_deadline(want, started)
            else:
                return lane

    async def _lease_or_deadline(self, want: Want, started: float) -> None:
        if want.on_phase is not None:
            want.on_phase(Phase("queued", detail="waiting for a lease to end"))
        left = None
        if want.deadline_s is not None:
            left = started + want.deadline_s - time.monotonic()
            if left <= 0:
                raise QueueTimeout(want.entry.name, waited_s=time.monotonic() - started)
        try:
            async with asyncio.timeout(left):
                await self._bell.wait()
        except TimeoutError:
            return

    def _lane(self, runner: Runner, want: Want) -> Lane:
        """Return what serves a request: the model as it is loaded, or is going to be, if it suits.

        Options that a request does not name are those of the loaded model.
        """
        key = runner.id + ("#embed" if want.embed and not self.backend.expires_models else "")
        asked = {**runner.options, **want.options}
        resident = self.residents.get(key)
        if resident is not None and resident.suits(asked):
            return resident.lane
        coming = [*self.queue.loading, *(ticket.lane for ticket in self.tickets)]
        for lane in coming:
            if lane.runner == key and asked.items() <= lane.options.items():
                return lane
        return make_lane(key, {**(resident.lane.options if resident else {}), **asked})

    async def _turn(self, ticket: Ticket) -> Resident:
        """Wait for a request's turn, telling it what is going on."""
        if not ticket.granted.done() and ticket.lane not in self.queue.loading:
            model, backend = ticket.want.entry.name, self.backend.name
            self._events.emit("queued", model=model, backend=backend, actor=ticket.want.actor)
        while not ticket.granted.done():
            phase = self._phases.get(ticket.lane)
            if phase is None and ticket.lane not in self.queue.loading:
                waited_s = time.monotonic() - ticket.since
                phase = Phase("queued", waited_s, detail=self._ahead(ticket))
            if phase is not None:
                ticket.tell(phase)
            await asyncio.wait({ticket.granted}, timeout=PHASE_S)
        return ticket.granted.result()

    def _ahead(self, ticket: Ticket) -> str:
        names = {item.name for item in self.residents.values() if item.lane != ticket.lane}
        return f"waiting for room in memory ({', '.join(sorted(names))})" if names else ""

    def _end(self, ticket: Ticket, hold: Hold | None) -> None:
        """Take a request out, whether it ran or not."""
        now = time.monotonic()
        self.tickets.discard(ticket)
        if hold is not None:
            self._holds.discard(hold)
            self.queue.finish(ticket, now)
        else:
            self.queue.cancel(ticket, now)
        granted = ticket.granted
        if granted.done() and not granted.cancelled() and granted.exception() is None:
            resident = granted.result()
            resident.in_flight -= 1
            resident.last_used = now
            if hold is not None and ticket.want.keep_alive_s is not None:
                resident.keep_alive_s = ticket.want.keep_alive_s
                resident.leave_when_idle = False
            reason = "its requests have ended"
            self.departures.rest(resident, actor=ticket.want.actor, reason=reason)
        granted.cancel()
        self._bell.ring()
        self.step()

    # ---- what the queue decides

    def step(self) -> None:
        """Do what is to be done now; called after everything that happens."""
        now = time.monotonic()
        for ticket in self.queue.expired(now):
            waited_s = now - ticket.since
            again_s = self.load_s(ticket.lane) or self._parts.interactive_wait_s
            ticket.fail(
                QueueTimeout(ticket.want.entry.name, waited_s=waited_s, retry_after_s=again_s)
            )
        usable = [item.lane for item in self.residents.values() if item.usable]
        for action in self.queue.decide(now, usable, self._fits):
            match action:
                case Admit(ticket, lane):
                    self._admit(ticket, lane)
                case Switch():
                    self._tasks.spawn(self._switch(action))
        self._set_alarm(self.queue.next_wakeup(now), now)

    def _fits(self, lanes: frozenset[Lane]) -> bool:
        consent = {lane: self._consent(lane) for lane in lanes} if len(lanes) > 1 else {}
        return self.room.fits(lanes, consent)

    def _consent(self, lane: Lane) -> Consent:
        consent = Consent()
        for ticket in self.tickets:
            if ticket.lane == lane:
                consent |= Consent(ticket.want.swap, ticket.want.force)
        return consent

    def _set_alarm(self, at: float | None, now: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if at is not None:
            self._alarm = asyncio.get_running_loop().call_later(max(0.0, at - now), self.step)

    def _admit(self, ticket: Ticket, lane: Lane) -> None:
        resident = self.residents[lane.runner]
        resident.in_flight += 1
        stop_timer(resident)
        ticket.granted.set_result(resident)
        self.books.announce(resident, actor=ticket.want.actor, reason="a request")

    def _waiting(self, lane: Lane) -> list[Ticket]:
        return [item for item in self.tickets if item.lane == lane and not item.granted.done()]

    def _tell(self, lane: Lane, phase: Phase) -> None:
        self._phases[lane] = phase
        for ticket in self._waiting(lane):
            ticket.tell(phase)

    async def _switch(self, switch: Switch[Lane]) -> None:
        """Bring a lane into memory; who waits for it gets the error when that fails."""
        lane, started = switch.lane, time.monotonic()
        waiting = self._waiting(lane)
        actor = waiting[0].want.actor if waiting else "server"
        try:
            evicted = await self._clear(lane, actor)
            if self._waiting(lane):
                resident = await self._load(lane, actor)
                if evicted:
                    self._swapped(resident, evicted, switch, time.monotonic() - started, actor)
                self.queue.loaded(lane, time.monotonic())
            else:
                # Everybody has gone: nothing is loaded for nobody.
                self.queue.failed(lane, WorkbenchError("nobody waits for it"))
        except WorkbenchError as exc:
            for failed in self.queue.failed(lane, exc):
                failed.ticket.fail(exc)
        except BaseException as exc:
            if not isinstance(exc, asyncio.CancelledError):
                log.exception("a switch to %s failed unexpectedly", lane.runner)
            error = WorkbenchError(f"loading ended unexpectedly: {type(exc).__name__}")
            for failed in self.queue.failed(lane, error):
                failed.ticket.fail(error)
            raise
        finally:
            self._phases.pop(lane, None)
            self._bell.ring()
            self.step()

    def _swapped(
        self,
        resident: Resident,
        evicted: list[str],
        switch: Switch[Lane],
        seconds: float,
        actor: str,
    ) -> None:
        self._events.emit(
            "swap",
            model=resident.name,
            backend=self.backend.name,
            evicted=evicted,
            reason=switch.reason,
            actor=actor,
            predicted_s=self.load_s(switch.lane),
            seconds=round(seconds, 3),
        )
        lanes: dict[str, Any] = {"from": evicted, "to": resident.name}
        waited_s = round(switch.waited_s, 3)
        self._events.emit("lane_switch", **lanes, backend=self.backend.name, waited_s=waited_s)

    async def _clear(self, lane: Lane, actor: str) -> list[str]:
        """Make room for a lane, one model at a time; returns who left.

        Raises:
            SwapRequired: When what is in the way may not leave.
            UnloadFailed: When it did not leave.
        """
        entry = self._entry_of(lane)
        evicted: list[str] = []
        while self._waiting(lane):
            own = self.residents.get(lane.runner)
            consent = self._consent(lane)
            await self.room.look(lane, entry)
            self.room.check(lane, entry, consent)
            plan = self.room.plan(lane, consent)
            leaving = own or (self.residents[plan.evict[0]] if plan.evict else None)
            if leaving is not None:
                # One at a time: meanwhile another of them may be in use again.
                self._tell(lane, Phase("unloading", bytes=bytes_of(leaving), detail=leaving.name))
                reason = "other options" if leaving is own else f"makes room for {entry.name}"
                await self.departures.leave(leaving, reason=reason, actor=actor)
                evicted.append(leaving.name)
            elif plan.wait:
                self._tell(lane, Phase("queued", detail="waiting for room in memory"))
                await self._bell.wait()
            else:
                break
        return evicted

    def _entry_of(self, lane: Lane) -> ModelEntry:
        waiting = self._waiting(lane)
        return waiting[0].want.entry if waiting else self._entries[lane.runner]

    # ---- loading

    async def _load(self, lane: Lane, actor: str) -> Resident:
        wants = [ticket.want for ticket in self._waiting(lane)]
        want = wants[0]
        resident = Resident(self.backend, want.entry, lane, want.embed)
        resident.names |= {item.entry.name.lower() for item in wants}
        resident.size_bytes = want.entry.size_bytes
        if not self.backend.expires_models:
            # A process of ours is planned with as it was estimated, until it is known to be larger.
            resident.size_bytes = self.room.need_of(lane).size_bytes or resident.size_bytes
        wishes = self.departures.wishes(resident)
        host, held = self.backend.expires_models, self.departures.held(resident)
        resident.keep_alive_s = want.keep_alive_s
        staying = staying_s(wishes, want.keep_alive_s, held=held, host=host)
        self.residents[resident.runner] = resident
        self.books.announce(resident, actor=actor, reason="a request")
        usual = self.load_s(lane)
        facts: dict[str, Any] = {"model": resident.name, "backend": self.backend.name}
        self._events.emit("loading", **facts, estimated_s=usual, actor=actor)
        ticker = asyncio.ensure_future(self._tell_loading(resident, usual))
        try:
            await self._loader.load(resident, LoadOrder(staying, actor))
        except BaseException as exc:
            self.books.drop(resident, "its load failed", actor)
            self._bell.ring()
            if isinstance(exc, WorkbenchError):
                self._events.emit("load_failed", **facts, error=exc.message, actor=actor)
            raise
        finally:
            ticker.cancel()
        resident.loaded = True
        self.room.forget(lane)
        self.departures.rest(resident, actor=actor, reason="loaded")
        return resident

    async def _tell_loading(self, resident: Resident, usual: float | None) -> None:
        started = time.monotonic()
        detail = f"about {usual:.1f} s" if usual else ""
        while True:
            seconds = time.monotonic() - started
            phase = Phase("loading", seconds, resident.entry.size_bytes, detail)
            self._tell(resident.lane, phase)
            await asyncio.sleep(PHASE_S)

    def load_s(self, lane: Lane) -> float | None:
        """Return the seconds a lane took to load last time; `None` when it never was."""
        entry = self._entries.get(lane.runner)
        if entry is None:
            return None
        return self._parts.state.load_seconds(entry.digest, lane.options.get("num_ctx"))

    # ---- changes from outside

    def use_witness(self, witness: MemoryWitness) -> None:
        """Say who knows how much memory there is; before the first request."""
        self._unloader.witness = witness
        self._loader.witness = witness

    def name_of(self, lane: Lane) -> str:
        """Return the name of a lane's model."""
        resident = self.residents.get(lane.runner)
        entry = resident.entry if resident else self._entries.get(lane.runner)
        return entry.name if entry else lane.runner

    def resident_of(self, entry: ModelEntry) -> list[Resident]:
        """Return a model in all its uses, as far as is known without asking anybody."""
        runner = self.backend.known_runner(entry.name, entry.digest)
        if runner is None:
            same = entry.digest
            return [item for item in self.residents.values() if item.entry.digest == same]
        ids = (runner.id, f"{runner.id}#embed")
        return [item for key, item in self.residents.items() if key in ids]

    def is_queued(self, entry: ModelEntry) -> bool:
        """Whether somebody waits for a model that is not in memory."""
        return any(
            not ticket.granted.done() and ticket.want.entry.digest == entry.digest
            for ticket in self.tickets
            if ticket.want.entry.name.lower() == entry.name.lower()
        )

    def learn(self, entries: Iterable[ModelEntry]) -> None:
        """Find out in the background which models share a place in memory."""
        new = [
            item for item in entries if self.backend.known_runner(item.name, item.digest) is None
        ]
        new = [item for item in new if not item.remote and item.digest not in self._learning]
        if new:
            self._learning |= {item.digest for item in new}
            self._tasks.spawn(self._learn(new))

    async def _learn(self, entries: list[ModelEntry]) -> None:
        for entry in entries:
            await self.backend.runner_of(entry.name, entry.digest)

    async def evictions(self, entries: Iterable[ModelEntry]) -> dict[str, list[str] | None]:
        """Return for models, by name, who would leave if each were loaded now.

        `None` when that is decided elsewhere, or it never fits.
        """
        await self.room.measure()
        return {entry.name: self._evictions(entry) for entry in entries}

    def _evictions(self, entry: ModelEntry) -> list[str] | None:
        if self.resident_of(entry):
            return []
        runner = self.backend.known_runner(entry.name, entry.digest) or Runner(entry.digest)
        lane = make_lane(runner.id, runner.options)
        # A list waits for nobody.
        self.room.guess(lane, entry)
        return self.room.evicts(lane, entry)

    async def would_evict(self, want: Want) -> list[str] | None:
        """Return who would leave if a model were loaded now; `None` when that is not ours."""
        runner = await self.backend.runner_of(want.entry.name, want.entry.digest)
        lane = self._lane(runner, want)
        resident = self.residents.get(lane.runner)
        if resident is not None and resident.lane == lane:
            return []
        await self.room.look(lane, want.entry)
        return self.room.evicts(lane, want.entry)

    async def lane_of(self, entry: ModelEntry) -> Lane:
        """Return the lane of a request for a model that says nothing about how it is loaded."""
        runner = await self.backend.runner_of(entry.name, entry.digest)
        return self._lane(runner, Want(entry))

    def _moved(self) -> None:
        self._bell.ring()
        self.step()

    def abort_requests(self, resident: Resident) -> int:
        """End the requests that run on a model; returns how many."""
        ended = [hold for hold in self._holds if hold.resident is resident]
        for hold in ended:
            hold.abort()
        return len(ended)

    def _seen(self, snapshot: Snapshot) -> None:
        """Follow what the backend says."""
        self.books.follow(snapshot)
        if not snapshot.stale:
            self._parts.saw(self.backend, snapshot.models)
        self._bell.ring()
        self.step()

    def forget(self, runner: str, reason: str) -> Resident | None:
        """Say that a model is gone by itself; the next request loads it again."""
        resident = self.residents.get(runner)
        if resident is not None:
            stop_timer(resident)
            self.books.drop(resident, reason, "engine")
            self._bell.ring()
            self.step()
        return resident

    async def close(self) -> None:
        """End every load and timer; an unload that has begun is waited for.

        Only it still knows the process it ends.
        """
        self._set_alarm(None, 0.0)
        leaving = {item.leaving for item in self.residents.values() if item.leaving is not None}
        for resident in self.residents.values():
            stop_timer(resident)
        await self._tasks.close(spare=leaving)
        self._set_alarm(None, 0.0)
        await self.cache.close()
        self.residents.clear()
