"""What a dialogue needs of memory: asked before the first turn, kept by a lease while it runs.

Two models stay in memory only when they fit together.  Otherwise the lease is of the model that
speaks alone, and each change of model costs a swap, foreseen and measured.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from workbench.chat.conversation import is_named
from workbench.chat.runners import Runner, full_name
from workbench.client.api import WorkbenchClient
from workbench.client.leases import Lease
from workbench.client.memory_values import Fit
from workbench.client.values import ModelInfo, Printed, RunningModel, aligned
from workbench.errors import (
    InsufficientMemory,
    ModelError,
    ModelNotFound,
    ResponseError,
    SwapRequired,
    WorkbenchError,
)
from workbench.messages import RUNNER_OPTIONS, GenerateConfig
from workbench.units import format_bytes, format_seconds

LEASE_S = 60.0
_LOOKUP_S = 10.0


@dataclass(frozen=True)
class ModelNeed(Printed):
    """What the memory advisor says of one model of a dialogue; sizes are bytes.

    Attributes:
        roles: Who is played by it, or what it does.
        num_ctx: Tokens of context it is asked for; `None` leaves it to the server.
        context: Tokens of context it gets.
        verdict: `alone`, `alongside`, `offload`, `too_large` or `unknown`.
        capacity_bytes: What models of its backend may use together.
        loaded: Whether it is in memory; `None` when nobody says.
        load_s: Seconds a load takes: as measured, else by the size at the pace of another.
        load_source: `measured`, `by size` or empty.
        toy: Whether it is a bundled demonstration model.
    """

    model: str
    roles: tuple[str, ...] = ()
    num_ctx: int | None = None
    backend: str = ""
    digest: str | None = None
    context: int | None = None
    verdict: str = "unknown"
    needed_bytes: int | None = None
    free_bytes: int | None = None
    capacity_bytes: int | None = None
    loaded: bool | None = None
    load_s: float | None = None
    load_source: str = ""
    reason: str | None = None
    evicts: tuple[str, ...] | None = None
    toy: bool = False

    def cells(self) -> dict[str, str]:
        """Return column title to printed value."""
        load = "not known" if self.load_s is None else format_seconds(self.load_s)
        return {
            "MODEL": self.model,
            "PLAYS": ", ".join(self.roles),
            "NEEDS": format_bytes(self.needed_bytes),
            "OF": format_bytes(self.capacity_bytes),
            "FITS": self.verdict.replace("_", " "),
            "IN MEMORY": {True: "yes", False: "no", None: "unknown"}[self.loaded],
            "LOAD": f"{load} ({self.load_source})" if self.load_source else load,
        }


@dataclass(frozen=True)
class Staging(Printed):
    """What a dialogue will do to memory.

    Attributes:
        needs: One row per model.
        together: Whether all models stay in memory; `None` when nobody can tell.
        reason: Why.
        loads: How many loads the planned turns cost; `None` when the order is not known before.
        swap_s: Seconds of these loads; `None` when one of them is not known.
        notices: What a person should know, such as a model that runs partly on the CPU.
        limits: How many models a backend may have in memory, by its name, where that is known.
    """

    needs: tuple[ModelNeed, ...] = ()
    together: bool | None = None
    reason: str = ""
    loads: int | None = None
    swap_s: float | None = None
    notices: tuple[str, ...] = ()
    limits: Mapping[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = aligned([need.cells() for need in self.needs]) if self.needs else []
        stay = {True: "stay in memory together", False: "take turns in memory", None: "unknown"}
        lines.append(f"models: {stay[self.together]}{f' ({self.reason})' if self.reason else ''}")
        if self.loads is not None:
            long = "how long is not known" if self.swap_s is None else ""
            lines.append(f"loads: {self.loads}, {long or f'about {format_seconds(self.swap_s)}'}")
        return "\n".join([*lines, *self.notices])

    def need(self, model: str) -> ModelNeed | None:
        """Return the row of a model."""
        return next((need for need in self.needs if need.model == model), None)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A model that a dialogue will ask: for whom, and with which context."""

    model: str
    num_ctx: int | None = None
    roles: tuple[str, ...] = field(default=())


async def survey(client: WorkbenchClient, wanted: Sequence[Wanted]) -> Staging:
    """Ask the server about every model of a dialogue.

    Raises:
        ModelNotFound: When one is not installed.
        InsufficientMemory: When one does not fit even alone; with the advisor's figures.
        WorkbenchError: When the server cannot be asked.
    """
    listed, loaded = await _listed(client), await loaded_models(client)
    needs: list[ModelNeed] = []
    for item in wanted:
        found = await _fit(client, item)
        needs.append(_need(item, found, listed, loaded))
    needs = with_paces(needs, listed)
    for need in needs:
        if need.verdict == "too_large":
            raise InsufficientMemory(
                need.model,
                needed_bytes=need.needed_bytes or 0,
                available_bytes=need.capacity_bytes or 0,
                would_fit=_would_fit(listed, need),
            )
    limits = await _limits(client, listed)
    together, reason = fit_together(needs, limits)
    notices = tuple(
        f"{need.model} runs partly on the CPU: {need.reason}"
        for need in needs
        if need.verdict == "offload"
    )
    return Staging(tuple(needs), together, reason, notices=notices, limits=limits)


async def _listed(client: WorkbenchClient) -> list[ModelInfo]:
    # A plain Ollama does not know the question.
    with contextlib.suppress(ModelError, TimeoutError):
        async with asyncio.timeout(_LOOKUP_S):
            return await client.models()
    return []


async def _limits(client: WorkbenchClient, listed: Sequence[ModelInfo]) -> dict[str, int]:
    """Return how many models may be in memory, by backend; only the engine's limit is ours."""
    engines = {row.backend for row in listed if row.kind == "llamacpp"}
    if engines:
        with contextlib.suppress(ModelError, TimeoutError):
            async with asyncio.timeout(_LOOKUP_S):
                found = await client.settings()
            limit = next((item.value for item in found if item.name == "engine.max_loaded"), None)
            if isinstance(limit, int):
                return dict.fromkeys(engines, limit)
    return {}


async def loaded_models(client: WorkbenchClient) -> list[RunningModel] | None:
    """Return what is in memory; `None` when nobody says."""
    with contextlib.suppress(ModelError, TimeoutError):
        async with asyncio.timeout(_LOOKUP_S):
            return await client.loaded()
    return None


async def _fit(client: WorkbenchClient, item: Wanted) -> Fit | None:
    try:
        return await client.fits(item.model, num_ctx=item.num_ctx)
    except ModelNotFound:
        raise
    except ResponseError as exc:
        if exc.status != 404:
            raise
    # A plain Ollama: at least it says whether it has the model.
    await client.show(item.model)
    return None


def _need(
    item: Wanted,
    fit: Fit | None,
    listed: Sequence[ModelInfo],
    loaded: Sequence[RunningModel] | None,
) -> ModelNeed:
    about = next((row for row in listed if is_named(row.name, row.backend, item.model)), None)
    here = None
    if loaded is not None:
        here = any(is_named(row.name, row.backend, item.model) for row in loaded)
    need = ModelNeed(item.model, item.roles, item.num_ctx, loaded=here)
    if about is not None:
        measured = about.load_s is not None
        need = _replaced(
            need,
            backend=about.backend,
            digest=about.digest or None,
            load_s=about.load_s,
            load_source="measured" if measured else "",
            toy=about.toy,
        )
    if fit is None:
        return need
    # Free memory is told as if the model itself had left already.
    others = [
        row
        for row in loaded or ()
        if row.backend == fit.backend and not is_named(row.name, row.backend, item.model)
    ]
    capacity = None if fit.free_bytes is None else fit.free_bytes + sum(map(_held, others))
    budget = about.fit.budget_bytes if about is not None else None
    if budget is not None:
        capacity = budget if capacity is None else min(capacity, budget)
    return _replaced(
        need,
        backend=fit.backend,
        context=fit.num_ctx,
        verdict=fit.verdict,
        needed_bytes=fit.needed_bytes,
        free_bytes=fit.free_bytes,
        capacity_bytes=capacity,
        reason=fit.reason,
        evicts=fit.evicts,
    )


def _replaced(need: ModelNeed, **changes: object) -> ModelNeed:
    return ModelNeed(**{**vars(need), **changes})


def _held(row: RunningModel) -> int:
    return row.vram_bytes or row.rss_bytes or row.size_bytes or 0


def _would_fit(listed: Sequence[ModelInfo], need: ModelNeed) -> list[str]:
    fitting = [row.name for row in listed if row.fit.verdict in ("alone", "alongside")]
    return fitting[:3]


def with_paces(needs: Sequence[ModelNeed], listed: Sequence[ModelInfo]) -> list[ModelNeed]:
    """Return rows with the seconds of loads nobody measured, by size at the pace of another."""
    sizes = {row.name: row.size_bytes for row in listed}
    paces = {
        row.backend: row.load_s / row.size_bytes
        for row in listed
        if row.load_s is not None and row.size_bytes
    }
    filled: list[ModelNeed] = []
    for need in needs:
        size = next((sizes[n] for n in sizes if is_named(n, need.backend, need.model)), None)
        pace = paces.get(need.backend)
        if need.load_s is None and size and pace is not None:
            need = _replaced(need, load_s=size * pace, load_source="by size")
        filled.append(need)
    return filled


def fit_together(
    needs: Sequence[ModelNeed], limits: Mapping[str, int] | None = None
) -> tuple[bool | None, str]:
    """Return whether all models of each backend fit into its memory at once, and why.

    Args:
        needs: A row per model.
        limits: How many models a backend may have in memory.
    """
    by_backend: dict[str, list[ModelNeed]] = {}
    for need in needs:
        by_backend.setdefault(need.backend, []).append(need)
    unknown = ""
    for backend, rows in by_backend.items():
        if len(rows) == 1:
            continue
        limit = (limits or {}).get(backend)
        if limit is not None and len(rows) > limit:
            return False, f"{backend} keeps at most {limit} in memory"
        sizes = [row.needed_bytes for row in rows]
        capacities = [row.capacity_bytes for row in rows if row.capacity_bytes is not None]
        if None in sizes or not capacities:
            unknown = next((row.reason for row in rows if row.reason), None) or "sizes are unknown"
            continue
        total, capacity = sum(size or 0 for size in sizes), min(capacities)
        if total > capacity:
            wanted, there = format_bytes(total), format_bytes(capacity)
            return False, f"they need {wanted} and {there} are there"
    return (None, unknown) if unknown else (True, "")


def planned_loads(
    runners: Sequence[Runner], *, loaded: Sequence[str], together: bool
) -> list[Runner]:
    """Return which models a sequence of requests loads, in order.

    Args:
        runners: What each request needs in memory; the same model with other options is a load.
        loaded: Names of what is in memory at the beginning.
        together: Whether what is loaded stays; else each load takes the place of the others.
    """
    # With which options a model was loaded before is not asked: it is taken to suit.
    here: dict[str, Runner | None] = {full_name(name): None for name in loaded}
    loads: list[Runner] = []
    for runner in runners:
        known = here.get(runner.model)
        suits = known is None or set(runner.options) <= set(known.options)
        if runner.model not in here or not suits:
            loads.append(runner)
            here = {**(here if together else {}), runner.model: runner}
        elif known is None:
            here[runner.model] = runner
    return loads


def suits(row: RunningModel, options: Mapping[str, object]) -> bool:
    """Return whether a model in memory was loaded with the runner options of a request."""
    profile = row.profile or {}
    for name, value in options.items():
        have = profile.get(name, row.context_length if name == "num_ctx" else None)
        if name in RUNNER_OPTIONS and have not in (None, value):
            return False
    return True


class Stage:
    """Keeps the models of a running dialogue in memory, and foresees their swaps.

    Args:
        holder: Who holds the lease, as others see it.

    Attributes:
        staging: What the survey found.
    """

    def __init__(self, client: WorkbenchClient, *, holder: str) -> None:
        self._client = client
        self._holder = holder
        self.staging = Staging()
        self._leases: dict[str, Lease] = {}
        self._measured: dict[str, float] = {}
        self._changing = asyncio.Lock()

    async def survey(self, wanted: Sequence[Wanted]) -> Staging:
        """Ask about the models; see `survey`."""
        self.staging = await survey(self._client, wanted)
        return self.staging

    async def before(self, model: str, options: Mapping[str, object] | None = None) -> float | None:
        """Prepare for a turn of a model: lease it, and foresee the seconds until it is there.

        Args:
            model: Its name.
            options: Those of the request; a model that was loaded with others is loaded anew.

        Returns:
            0 when it is in memory; `None` when nobody can tell.
        """
        async with self._changing:
            loaded = await loaded_models(self._client)
            if loaded is None:
                return None
            rows = [row for row in loaded if is_named(row.name, row.backend, model)]
            await self._lease(model, here=bool(rows))
        ready = any(suits(row, options or {}) for row in rows)
        return 0.0 if ready else self.swap_s(model)

    async def is_loaded(self, model: str) -> bool:
        """Return whether a model is seen in memory now."""
        loaded = await loaded_models(self._client) or []
        return any(is_named(row.name, row.backend, model) for row in loaded)

    async def digest_of(self, model: str) -> str | None:
        """Return the digest of a model; `None` when nobody says."""
        need = self.staging.need(model)
        if need is not None:
            return need.digest
        rows = await _listed(self._client)
        found = next((row for row in rows if is_named(row.name, row.backend, model)), None)
        return found.digest or None if found is not None else None

    def swap_s(self, model: str) -> float | None:
        """Return the seconds a swap to a model is foreseen to take; `None` when unknown."""
        if model in self._measured:
            return self._measured[model]
        need = self.staging.need(model)
        return need.load_s if need is not None else None

    def took(self, model: str, seconds: float | None) -> None:
        """Learn how long a swap to a model took."""
        if seconds:
            self._measured[model] = seconds

    async def recover(self, error: WorkbenchError) -> bool:
        """Let our own models go where they alone kept another from being loaded."""
        if not isinstance(error, SwapRequired) or not self._leases:
            return False
        ours = [
            item
            for item in error.plan["evict"]
            if item["reason"] == "leased"
            and any(is_named(item["model"], item["backend"], model) for model in self._leases)
        ]
        if not ours:
            return False
        async with self._changing:
            await self._release()
        return True

    async def consent(self, model: str, config: GenerateConfig) -> None:
        """Load a model with consent that others leave for it.

        Raises:
            WorkbenchError: When it cannot be loaded.
        """
        await self._client.load(model, config=config, swap=True)

    async def _lease(self, model: str, *, here: bool) -> None:
        held = self._leases.get(model)
        if held is not None and held.lost is None:
            return
        if self._leases and not here and not await self._fits_beside(model):
            await self._release()
        # What cannot be leased is asked all the same: a plain Ollama knows no leases.
        with contextlib.suppress(WorkbenchError):
            lease = Lease(self._client, [model], ttl_s=LEASE_S, holder=self._holder)
            self._leases[model] = await lease.__aenter__()

    async def _fits_beside(self, model: str) -> bool:
        if self.staging.together is False:
            return False
        need = self.staging.need(model)
        with contextlib.suppress(WorkbenchError):
            fit = await self._client.fits(model, num_ctx=need.num_ctx if need else None)
            return bool(fit.alongside.fits) and not fit.offload.will and not fit.evicts
        return False

    async def close(self) -> None:
        """Let the models go."""
        async with self._changing:
            await self._release()

    async def _release(self) -> None:
        leases, self._leases = list(self._leases.values()), {}
        for lease in leases:
            await lease.__aexit__(None, None, None)


def wanted_models(roles: Sequence[tuple[str, str, Mapping[str, object]]]) -> list[Wanted]:
    """Return each model once, with the largest context that is asked of it.

    Args:
        roles: Model, role and options of whoever is asked.
    """
    found: dict[str, Wanted] = {}
    for model, role, options in roles:
        known = found.get(model, Wanted(model))
        asked = options.get("num_ctx")
        contexts = [c for c in (known.num_ctx, asked) if isinstance(c, int)]
        names = known.roles if role in known.roles else (*known.roles, role)
        found[model] = Wanted(model, max(contexts) if contexts else None, names)
    return list(found.values())
