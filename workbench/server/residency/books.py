"""The books of one backend: what is in memory, whose it is, and what became of it."""

from __future__ import annotations

import logging
import time
from collections import Counter
from typing import Any

from workbench.server.backends.base import Backend, ModelEntry, RunningModel
from workbench.server.events import Events
from workbench.server.residency.loading import take_figures
from workbench.server.residency.resident import ModelState, Resident, make_lane
from workbench.server.residency.statecache import Snapshot

# A model that appears so soon after our unload of it has come back.
JUST_LEFT_S = 30.0


class Books:
    """What is in a backend's memory or on its way, by runner; every change is an event.

    Attributes:
        returns: How often a runner came back right after its unload.
        lost: How often one of ours was gone without our doing.
    """

    def __init__(self, backend: Backend, events: Events) -> None:
        self._backend = backend
        self._events = events
        self.residents: dict[str, Resident] = {}
        self.returns: Counter[str] = Counter()
        self.lost: Counter[str] = Counter()
        self._left_at: dict[str, float] = {}
        self._down = False

    def announce(self, resident: Resident, *, actor: str = "server", reason: str = "") -> None:
        """Say what became of a model, if anything did."""
        self._transition(resident, resident.state, reason, actor)

    def drop(self, resident: Resident, reason: str, actor: str, *, unloaded: bool = False) -> None:
        """Take a model that is gone out of the books; `unloaded`: by us."""
        if unloaded:
            self._left_at[resident.runner] = time.monotonic()
        if self.residents.get(resident.runner) is resident:
            del self.residents[resident.runner]
            self._transition(resident, "absent", reason, actor)

    def follow(self, snapshot: Snapshot) -> None:
        """Follow what the backend says; a failed poll changes nothing but the mark."""
        self._up_or_down(snapshot)
        if snapshot.stale or not self._backend.expires_models:
            return
        rows = {seen.runner: seen.model for seen in snapshot.seen}
        for runner, resident in list(self.residents.items()):
            row = rows.pop(runner, None)
            if resident.stopping or not resident.loaded:
                continue
            if row is not None:
                self._update(resident, row)
            elif not resident.in_flight and not resident.entry.remote:
                self.lost[runner] += resident.owner == "ours"
                self.drop(resident, "the backend no longer lists it", "backend")
        for runner, row in rows.items():
            self._adopt(runner, row)

    def _update(self, resident: Resident, row: RunningModel) -> None:
        before = resident.context_length
        take_figures(resident, row)
        if before is None or row.context_length in (None, before):
            return
        self._events.emit(
            "reloaded",
            level=logging.WARNING,
            model=resident.name,
            backend=self._backend.name,
            reason=f"another client changed its context from {before} to {row.context_length}",
        )
        resident.owner = "foreign"
        if not resident.in_flight:
            resident.lane = make_lane(resident.runner, {"num_ctx": row.context_length})

    def _adopt(self, runner: str, row: RunningModel) -> None:
        """Take a model into the books that another client loaded."""
        entry = ModelEntry(row.name, row.digest, row.size_bytes, details=row.details)
        options = {} if row.context_length is None else {"num_ctx": row.context_length}
        resident = Resident(self._backend, entry, make_lane(runner, options), owner="foreign")
        take_figures(resident, row)
        resident.loaded = True
        self.residents[runner] = resident
        left_at = self._left_at.pop(runner, None)
        if left_at is not None and time.monotonic() - left_at < JUST_LEFT_S:
            self.came_back(runner, row.name)
        self.announce(resident, actor="another client", reason="another client loaded it")

    def came_back(self, runner: str, name: str) -> None:
        """Say that a model is there again right after its unload."""
        self.returns[runner] += 1
        self._events.emit(
            "resurrected",
            level=logging.WARNING,
            model=name,
            backend=self._backend.name,
            count=self.returns[runner],
            reason="another client loaded it again after it was unloaded",
        )

    def _up_or_down(self, snapshot: Snapshot) -> None:
        down = snapshot.stale and snapshot.error is not None
        if down != self._down:
            self._down = down
            error = snapshot.error.message if snapshot.error else None
            kind = "backend_down" if down else "backend_up"
            self._events.emit(kind, backend=self._backend.name, error=error)

    def _transition(self, resident: Resident, state: ModelState, reason: str, actor: str) -> None:
        if state == resident.told:
            return
        # Every request does this twice.
        quiet = {state, resident.told} == {"idle", "busy"}
        before, resident.told = resident.told, state
        change: dict[str, Any] = {"from": before, "to": state}
        self._events.emit(
            "state",
            level=logging.DEBUG if quiet else logging.INFO,
            model=resident.name,
            backend=self._backend.name,
            digest=resident.entry.digest,
            **change,
            reason=reason,
            actor=actor,
        )
