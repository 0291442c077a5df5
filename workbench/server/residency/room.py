"""Whether a model has room in a backend's memory, and who would leave for it.

The figures are gathered here; what follows from them is decided by `policy`, a pure function.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from workbench.errors import InsufficientMemory, Leaving, SwapRequired
from workbench.server.backends.base import Backend, ModelEntry
from workbench.server.residency.parts import Limits, Need, Parts, need_by_files
from workbench.server.residency.policy import Occupant, RoomPlan, plan_room
from workbench.server.residency.resident import Lane, Resident


@dataclass(frozen=True, slots=True)
class Consent:
    """Who has agreed that models leave: nobody, a person (`swap`), or one who insists (`force`)."""

    swap: bool = False
    force: bool = False

    def __or__(self, other: Consent) -> Consent:
        return Consent(self.swap or other.swap, self.force or other.force)


ALL = Consent(swap=True, force=True)


class Room:
    """The memory of one backend.

    Args:
        residents: What is in it, by runner; the caller keeps it up to date.

    Attributes:
        budget_bytes: Memory that models may take together, as read last; `None` when unknown.
        free_bytes: Memory that is free, as read last; `None` when unknown.
    """

    def __init__(
        self, backend: Backend, residents: Mapping[str, Resident], limits: Limits, parts: Parts
    ) -> None:
        self._backend = backend
        self._residents = residents
        self._limits = limits
        self._parts = parts
        self._needs: dict[Lane, Need] = {}
        self._guesses: dict[Lane, Need] = {}
        self.budget_bytes: int | None = None
        self.free_bytes: int | None = None

    @property
    def ours(self) -> bool:
        """Whether this server makes room; otherwise the backend does."""
        if not self._backend.loads_models:
            return False
        return self._limits.swap != "server" or not self._backend.expires_models

    async def look(self, lane: Lane, entry: ModelEntry) -> None:
        """Read what is needed to plan for a lane: its size, and the memory there is."""
        await self.measure()
        if lane in self._needs:
            return
        others = any(item.runner != lane.runner for item in self._residents.values())
        if others or not self._backend.expires_models:
            self._needs[lane] = await self.need(entry, lane.options)
        else:
            # The first model is loaded whatever it takes: its size need not be asked for.
            self._guesses[lane] = need_by_files(self._backend, entry)

    async def measure(self) -> None:
        """Read how much memory there is."""
        fixed = self._limits.budget_bytes
        known = sum(bytes_of(item) or 0 for item in self._residents.values())
        if fixed is not None or not self.ours:
            self.budget_bytes = fixed
            self.free_bytes = None if fixed is None else max(0, fixed - known)
            return
        self.free_bytes = await self._parts.witness.free_bytes(self._backend)
        total = await self._parts.witness.total_bytes(self._backend)
        if self.free_bytes is None:
            self.budget_bytes = total
        else:
            # What other programs hold is not ours to give.
            self.budget_bytes = self.free_bytes + known
            if total is not None:
                self.budget_bytes = min(total, self.budget_bytes)

    async def need(self, entry: ModelEntry, options: Mapping[str, Any]) -> Need:
        """Return what a model needs with these options."""
        if entry.remote:
            return Need(0, 0)
        if not self.ours or self.budget_bytes is None:
            # Nobody plans with it: the backend makes room.
            return need_by_files(self._backend, entry)
        return await self._parts.estimate(self._backend, entry, options)

    def forget(self, lane: Lane) -> None:
        """Estimate a lane anew: it was measured meanwhile."""
        self._needs.pop(lane, None)

    def fits(self, lanes: frozenset[Lane], consent: Mapping[Lane, Consent]) -> bool:
        """Whether lanes fit in memory together, beside what may not leave for them."""
        runners = {lane.runner for lane in lanes}
        if len(runners) < len(lanes):
            return False
        if not self.ours or len(lanes) < 2:
            return True
        agreed = Consent()
        for lane in lanes:
            agreed |= consent.get(lane, Consent())
        fixed = [
            item
            for item in self._residents.values()
            if item.runner not in runners and self._stays(item, agreed)
        ]
        limit = self._limits.max_loaded
        if limit is not None and len(lanes) + len(fixed) > max(1, limit):
            return False
        if self.budget_bytes is None:
            return True
        used = sum(bytes_of(item) or 0 for item in fixed)
        return used + sum(map(self._lane_bytes, lanes)) <= self.budget_bytes

    def _lane_bytes(self, lane: Lane) -> int:
        resident = self._residents.get(lane.runner)
        if resident is not None and resident.lane == lane and resident.loaded:
            return bytes_of(resident) or 0
        return self.need_of(lane).beside_bytes or 0

    def need_of(self, lane: Lane) -> Need:
        """Return what a lane needs, as it was estimated before it was queued."""
        return self._needs.get(lane) or self._guesses.get(lane) or Need()

    def _stays(self, resident: Resident, consent: Consent) -> bool:
        occupant = self._occupant(resident)
        protected = occupant.pinned or occupant.leased
        foreign = occupant.owner == "foreign"
        return (protected and not consent.force) or (
            foreign and not (consent.swap or consent.force)
        )

    def plan(self, lane: Lane, consent: Consent, *, patient: bool = False) -> RoomPlan:
        """Return who leaves so that a lane can be loaded, not counting its own runner.

        Args:
            patient: Whether models that are busy now count as idle: they will have finished.
        """
        if not self.ours:
            return RoomPlan()
        others = [
            self._occupant(item, patient=patient)
            for item in self._residents.values()
            if item.runner != lane.runner
        ]
        needed, budget = self.need_of(lane).beside_bytes, self.budget_bytes
        if needed is not None and budget is not None and self._backend.expires_models:
            # A larger one is split between GPU and CPU: it needs all there is.
            needed = min(needed, budget)
        return plan_room(
            others,
            needed,
            budget,
            self._limits.max_loaded,
            allow_foreign=consent.swap or consent.force,
            force=consent.force,
        )

    def _occupant(self, resident: Resident, *, patient: bool = False) -> Occupant:
        wishes = self._parts.profiles.of_resident(resident)
        # One that is stopping without requests can be waited for by unloading it.
        busy = resident.in_flight > 0 or not resident.loaded
        return Occupant(
            resident.runner,
            bytes_of(resident),
            self._parts.state.load_seconds(resident.entry.digest, resident.context_length),
            resident.last_used,
            wishes.priority,
            wishes.pinned,
            self._parts.leased(resident),
            resident.owner,
            busy and not patient,
        )

    def check(self, lane: Lane, entry: ModelEntry, consent: Consent) -> None:
        """Refuse what cannot be loaded, or not without asking.

        Raises:
            InsufficientMemory: When the model is larger than the memory there is.
            SwapRequired: When others must leave that may not leave without consent.
        """
        resident = self._residents.get(lane.runner)
        if resident is not None and resident.lane == lane:
            return
        plan = self.plan(lane, consent)
        if plan.too_large:
            raise InsufficientMemory(
                entry.name,
                needed_bytes=self.need_of(lane).size_bytes or 0,
                available_bytes=self.budget_bytes or 0,
                would_fit=self._parts.within(self._backend.name, self.budget_bytes or 0),
            )
        blocked = bool(plan.blocked) and not plan.wait
        # Another context of the same model is a swap too.
        replaced = resident is not None and self._stays(resident, consent)
        leaves = bool(plan.evict) or plan.wait or (resident is not None and self.ours)
        asks = self._limits.swap == "manual" and not (consent.swap or consent.force)
        if blocked or (replaced and self.ours) or (asks and leaves):
            raise self.swap_required(lane, entry)

    def only_leased(self, lane: Lane, consent: Consent) -> bool:
        """Whether nothing but leases is in the way: they end, so it can be waited for."""
        plan = self.plan(lane, consent)
        reasons = {reason for _, reason in plan.blocked}
        return bool(reasons) and reasons <= {"leased", "busy"} and "leased" in reasons

    def guess(self, lane: Lane, entry: ModelEntry) -> None:
        """Plan for a lane by the size of its files, as long as nothing better is known."""
        self._guesses[lane] = need_by_files(self._backend, entry)

    def evicts(self, lane: Lane, entry: ModelEntry) -> list[str] | None:
        """Return the names of who would leave if a model were loaded now.

        `None` when that is decided elsewhere, or it never fits.
        """
        if not self.ours or entry.remote or self.budget_bytes is None:
            return None
        if self.plan(lane, Consent()).too_large:
            return None
        return [resident.name for resident, _ in self.leaving(lane)]

    def leaving(self, lane: Lane) -> list[tuple[Resident, str]]:
        """Return who would have to leave for a lane if everybody agreed, and what each is now."""
        rows = [
            self._residents[key]
            for key in self.plan(lane, ALL, patient=True).evict
            if key in self._residents
        ]
        own = self._residents.get(lane.runner)
        if own is not None and own.lane != lane:
            rows.insert(0, own)
        return [(item, self._why(item, lane)) for item in rows]

    def _why(self, resident: Resident, lane: Lane) -> str:
        occupant = self._occupant(resident)
        if occupant.pinned:
            return "pinned"
        if occupant.leased:
            return "leased"
        if occupant.owner == "foreign":
            return "foreign"
        if resident.runner == lane.runner:
            return "other options"
        return "busy" if occupant.busy else "idle"

    def swap_required(self, lane: Lane, entry: ModelEntry) -> SwapRequired:
        """Return the refusal with the plan of the swap that somebody may agree to."""
        load = self._parts.state.load_seconds
        rows = [
            Leaving(
                model=item.name,
                backend=self._backend.name,
                bytes=bytes_of(item),
                reload_s=load(item.entry.digest, item.context_length),
                reason=reason,
            )
            for item, reason in self.leaving(lane)
        ]
        return SwapRequired(
            {
                "model": entry.name,
                "backend": self._backend.name,
                "evict": rows,
                "needed_bytes": self.need_of(lane).size_bytes,
                "free_bytes": self.free_bytes,
                "estimated_s": load(entry.digest, lane.options.get("num_ctx")),
            }
        )


def bytes_of(resident: Resident) -> int | None:
    """Return the memory a model takes of what is planned with; `None` when unknown."""
    if resident.entry.remote or resident.lane.options.get("num_gpu") == 0:
        return 0
    return resident.vram_bytes or resident.size_bytes
