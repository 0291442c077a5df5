"""Models as clients read them: one row per model, one per model in memory.

What is not known is null, never 0.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from workbench.server.backends.base import Backend, ModelEntry, RunningModel
from workbench.server.catalog import Resolved
from workbench.server.core import Core
from workbench.server.residency.host import Host
from workbench.server.residency.profiles import Preferences, strongest
from workbench.server.residency.resident import ModelState, Resident
from workbench.server.residency.statecache import Snapshot
from workbench.units import rfc3339
from workbench.wire.ollama import error_body

# `ps` blocks while Ollama stops a runner; who asks for a list does not wait for that.
PS_WAIT_S = 2.0
# Of several uses of one model the first of these that is there is shown.
_ORDER: tuple[ModelState, ...] = ("busy", "loading", "stopping", "releasing", "idle")


@dataclass(frozen=True, slots=True)
class InMemory:
    """A model in a backend's memory in all its uses: an embedded one may run for text and vectors.

    Attributes:
        known: What is known of it here; nothing of a model that came a moment ago.
    """

    backend: Backend
    model: RunningModel
    known: Sequence[Resident]
    snapshot: Snapshot

    @property
    def state(self) -> ModelState:
        """Its state."""
        states = {resident.state for resident in self.known} or {"idle"}
        return next(name for name in _ORDER if name in states)

    @property
    def in_flight(self) -> int:
        """Requests that run on it from here."""
        return sum(resident.in_flight for resident in self.known)

    @property
    def stays_s(self) -> float | None:
        """Seconds it stays after its last request; `None` where the backend counts."""
        if self.backend.expires_models or not self.known:
            return None
        return max(resident.stays_s or 0.0 for resident in self.known)

    @property
    def forever(self) -> bool:
        """Whether it never leaves by itself."""
        return self.model.forever or self.stays_s == math.inf

    @property
    def expires_at(self) -> Any:
        """The last of its ends; `None` when it is not known, or while an engine is busy."""
        if self.backend.expires_models or not self.known:
            return self.model.expires_at
        ends = [resident.expires_at for resident in self.known if resident.expires_at]
        return max(ends) if ends and not self.in_flight else None


def in_memory(core: Core, backend: Backend, snapshot: Snapshot) -> list[InMemory]:
    """Join what a backend says is loaded with what is known of it here; one entry per runner."""
    seen: dict[str, list[RunningModel]] = {}
    for item in snapshot.seen:
        seen.setdefault(item.runner, []).append(item.model)
    known: dict[str, list[Resident]] = {}
    for resident in core.residency.residents(backend.name):
        known.setdefault(resident.runner.removesuffix("#embed"), []).append(resident)
    return [
        InMemory(backend, _joined(models), known.get(runner, []), snapshot)
        for runner, models in seen.items()
    ]


def _joined(models: list[RunningModel]) -> RunningModel:
    return replace(
        models[0],
        size_bytes=_total(item.size_bytes for item in models),
        rss_bytes=_total(item.rss_bytes for item in models),
        context_length=max((item.context_length or 0 for item in models), default=0) or None,
    )


def _total(values: Iterable[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


async def snapshots(core: Core, backends: Iterable[Backend]) -> list[tuple[Backend, Snapshot]]:
    """Return what is in the memory of the backends that can tell, asked at the same time.

    One that does not answer within `PS_WAIT_S` does not hold up the others: its last snapshot is
    returned, marked stale when it failed.
    """
    asked = [backend for backend in backends if backend.loads_models]

    async def look(backend: Backend) -> Snapshot:
        polling = asyncio.ensure_future(core.residency.snapshot(backend))
        done, _ = await asyncio.wait({polling}, timeout=PS_WAIT_S)
        if done:
            return polling.result()
        polling.cancel()
        return replace(core.residency.hosts[backend.name].cache.snapshot, stale=True)

    found = await asyncio.gather(*(look(backend) for backend in asked))
    return list(zip(asked, found, strict=True))


async def model_rows(core: Core) -> dict[str, Any]:
    """Return every model of every backend that answers, and the errors of the others."""
    listing, errors = await core.catalog.listing()
    names = [name for name in listing if name in core.residency.hosts]
    await snapshots(core, [core.backends[name] for name in names])
    routes = await core.catalog.routes(listing)
    rows: list[dict[str, Any]] = []
    for name in names:
        host, entries = core.residency.hosts[name], listing[name]
        host.learn(entries)
        evicts = await host.evictions(entries)
        rows += [model_row(core, host, item, evicts[item.name], routes) for item in entries]
    failed = [{"backend": name, **error_body(error)} for name, error in errors.items()]
    return {"models": rows, "errors": failed}


async def one_model_row(core: Core, target: Resolved) -> dict[str, Any]:
    """Return one model as it is listed."""
    host = core.residency.hosts[target.backend.name]
    await snapshots(core, [target.backend])
    listing, _ = await core.catalog.listing()
    evicts = await host.evictions([target.entry])
    routes = await core.catalog.routes(listing)
    return model_row(core, host, target.entry, evicts[target.entry.name], routes)


def model_row(
    core: Core,
    host: Host,
    entry: ModelEntry,
    evicts: list[str] | None,
    routes: Mapping[tuple[str, str], tuple[bool, str]],
) -> dict[str, Any]:
    """Return a model as our clients read it."""
    backend, details = host.backend, entry.details
    known = host.resident_of(entry)
    wishes = core.residency.profiles.of(backend.name, entry.name)
    routed, reason = routes.get(
        (backend.name, entry.name.lower()), (False, "it is not in the list of its backend")
    )
    return {
        "name": entry.name,
        "backend": backend.name,
        "kind": backend.kind,
        "digest": entry.digest or None,
        "size_bytes": entry.size_bytes,
        "context_length": entry.context_length,
        "parameter_size": details.get("parameter_size") or None,
        "quantization": details.get("quantization_level") or None,
        "family": details.get("family") or None,
        "capabilities": list(entry.capabilities),
        "toy": entry.toy,
        "remote": entry.remote,
        "state": _state(host, entry, known),
        "stale": host.cache.snapshot.stale and backend.loads_models,
        "load_s": core.state.load_seconds(entry.digest) if entry.digest else None,
        "evicts": evicts,
        "modified_at": entry.modified_at or None,
        **_wishes(wishes),
        "leased": core.residency.has_lease(backend.name, entry.name),
        **_residence(known),
        "fit": core.fits.fit_of(backend, entry).row(),
        "routed": routed,
        "route_reason": reason,
    }


def _state(host: Host, entry: ModelEntry, known: Sequence[Resident]) -> ModelState:
    if not host.backend.loads_models:
        return "unknown"
    states = {resident.state for resident in known}
    if states:
        return next(name for name in _ORDER if name in states)
    if host.is_queued(entry):
        return "queued"
    # A backend that never said what it has loaded is not one without anything loaded.
    return "unknown" if host.cache.snapshot.as_of is None else "absent"


def _wishes(wishes: Preferences) -> dict[str, Any]:
    return {
        "priority": wishes.priority,
        "pinned": wishes.pinned,
        "hot": wishes.hot,
        "keep_alive_s": shown_seconds(wishes.keep_alive_s),
        "max_idle_s": shown_seconds(wishes.max_idle_s),
    }


def shown_seconds(seconds: float | None) -> float | None:
    """Return seconds as JSON has them: for ever is -1."""
    return -1 if seconds == math.inf else seconds


def _residence(known: Sequence[Resident]) -> dict[str, Any]:
    if not known:
        return {
            "owner": None,
            "in_flight": 0,
            "vram_bytes": None,
            "loaded_context_length": None,
            "expires_at": None,
            "forever": False,
        }
    ends = [item.expires_at for item in known if item.expires_at and not item.forever]
    contexts = [item.context_length for item in known if item.context_length]
    return {
        "owner": "foreign" if any(item.owner == "foreign" for item in known) else "ours",
        "in_flight": sum(item.in_flight for item in known),
        "vram_bytes": _total(item.vram_bytes for item in known),
        "loaded_context_length": max(contexts, default=None),
        "expires_at": rfc3339(max(ends)) if ends else None,
        "forever": any(item.forever for item in known),
    }


def loaded_row(core: Core, item: InMemory) -> dict[str, Any]:
    """Return a model in memory as our clients read it."""
    model, known, backend = item.model, item.known, item.backend
    first = known[0] if known else None
    wishes = strongest(core.residency.profiles.of_resident(resident) for resident in known)
    expires_at = None if item.forever else item.expires_at
    as_of = item.snapshot.as_of
    offload = None
    if model.size_bytes is not None and model.vram_bytes is not None:
        offload = max(0, model.size_bytes - model.vram_bytes)
    return {
        "name": model.name,
        "backend": backend.name,
        "digest": model.digest,
        "state": item.state,
        "size_bytes": model.size_bytes,
        "vram_bytes": model.vram_bytes,
        "rss_bytes": model.rss_bytes,
        "context_length": model.context_length,
        "expires_at": rfc3339(expires_at) if expires_at else None,
        "forever": item.forever,
        "in_flight": item.in_flight,
        "load_s": core.state.load_seconds(model.digest, model.context_length),
        "owner": "foreign" if any(item.owner == "foreign" for item in known) else "ours",
        "stale": item.snapshot.stale,
        "as_of": rfc3339(as_of) if as_of else None,
        "offload_bytes": offload,
        "offload_share": offload / model.size_bytes if offload and model.size_bytes else offload,
        **_wishes(wishes),
        "leased": any(core.residency.is_leased(resident) for resident in known),
        "profile": first.lane.options if first else {},
        "warnings": [text for resident in known for text in resident.warnings],
    }


async def loaded_rows(core: Core) -> dict[str, Any]:
    """Return what is in memory, of every backend that can tell, and why others do not."""
    known, unreachable = await core.catalog.listing()
    failed = [{"backend": name, **error_body(error)} for name, error in unreachable.items()]
    rows: list[dict[str, Any]] = []
    for backend, snapshot in await snapshots(core, [core.backends[name] for name in known]):
        rows += [loaded_row(core, item) for item in in_memory(core, backend, snapshot)]
        if snapshot.error is not None:
            failed.append({"backend": backend.name, **error_body(snapshot.error)})
    return {"models": rows, "errors": failed}
