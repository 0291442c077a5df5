"""The models a run asks: found before anything runs, and kept in memory while they are needed."""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from workbench.client.api import WorkbenchClient
from workbench.client.leases import Lease
from workbench.errors import PlanInvalid, PlanProblem, WorkbenchError
from workbench.plans.identity import Identity
from workbench.plans.kinds import load_kinds
from workbench.plans.spec import Plan

log = logging.getLogger("workbench")

LEASE_S = 60.0
"""Seconds after which the server lets the models of a run go when its kernel is dead."""


def models_named(plan: Plan, params: Mapping[str, Any]) -> dict[str, int | None]:
    """Return the models a plan names before it runs, each with its line: parameters and fields."""
    found: dict[str, int | None] = {}
    for param in plan.params:
        if param.type in ("model", "list[model]"):
            value = params.get(param.name)
            for name in [value] if isinstance(value, str) else value or ():
                found.setdefault(name, param.line)
    kinds = load_kinds()
    for step in plan.steps:
        kind = kinds.get(step.kind)
        for name in kind.models(step.config) if kind else ():
            if "$" not in name:
                found.setdefault(name, step.lines.get("model", step.lines.get("")))
    return found


def missing_models(
    identity: Identity, named: Mapping[str, int | None], *, plan: str, file: str | None = None
) -> PlanInvalid | None:
    """Return the error that names every model that is not installed, each with its nearest.

    Args:
        named: Name to the line that names it.
    """
    problems = []
    for error in identity.missing:
        near = " or ".join(map(repr, error.nearest))
        hint = f"Did you mean {near}?" if near else "See `workbench models`."
        line = named.get(error.model)
        problems.append(PlanProblem(f"there is no model {error.model!r}.", line, hint, file))
    return PlanInvalid(plan, problems) if problems else None


class ModelRoom:
    """Keeps the models in memory that attempts are asking now.

    Models that do not fit together are not kept: a lease on one would keep the other waiting,
    which is of the same run.

    Args:
        client: The door to the server.
        holder: Who it is, as others see it.
    """

    def __init__(self, client: WorkbenchClient, holder: str) -> None:
        self._client = client
        self._holder = holder
        self._users: Counter[str] = Counter()
        self._lease: Lease | None = None
        self._fits: dict[tuple[str, ...], bool] = {}
        self._changing = False

    @contextlib.asynccontextmanager
    async def using(self, models: Sequence[str]) -> AsyncIterator[None]:
        """Keep models in memory for the block; a server that grants nothing is no hindrance."""
        self._users.update(models)
        try:
            if models:
                await self._follow()
            yield
        finally:
            self._users.subtract(models)
            if models:
                await self._follow()

    async def _follow(self) -> None:
        """Make the lease that of the models in use; changes meanwhile are seen by the loop."""
        if self._changing:
            return
        self._changing = True
        try:
            while (wanted := tuple(sorted(+self._users))) != self._held:
                await self._let_go()
                if not wanted:
                    return
                if not await self._together(wanted):
                    return
                await self._take(wanted)
        except WorkbenchError as exc:
            # An Ollama without our server in front knows no leases.
            log.info("the models of the run are not leased: %s", exc.message)
        finally:
            self._changing = False

    @property
    def _held(self) -> tuple[str, ...]:
        lost = self._lease is None or self._lease.lost is not None
        return () if lost or self._lease is None else self._lease.models

    async def _let_go(self) -> None:
        lease, self._lease = self._lease, None
        if lease is not None:
            await lease.__aexit__(None, None, None)

    async def _take(self, models: tuple[str, ...]) -> None:
        lease = Lease(self._client, models, ttl_s=LEASE_S, holder=self._holder)
        await lease.__aenter__()
        self._lease = lease

    async def _together(self, models: tuple[str, ...]) -> bool:
        """Whether models fit into memory side by side, as far as the server can tell."""
        if len(models) == 1:
            return True
        if models not in self._fits:
            answers = [await self._client.fits(model) for model in models]
            needed = [answer.needed_bytes for answer in answers]
            room = min((a.total_bytes for a in answers if a.total_bytes is not None), default=None)
            known = room is not None and None not in needed
            self._fits[models] = known and sum(n or 0 for n in needed) <= (room or 0)
        return self._fits[models]

    async def close(self) -> None:
        """Let all models go."""
        self._users.clear()
        with contextlib.suppress(WorkbenchError):
            await self._let_go()
