"""A small backend of our own that does what a test says, and a residency over it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

from workbench.errors import WorkbenchError
from workbench.messages import Phase
from workbench.server.backends.base import ModelEntry, Runner, RunningModel, Unloaded
from workbench.server.events import Events
from workbench.server.residency.host import Host
from workbench.server.residency.manager import Residency
from workbench.server.residency.pace import Pace
from workbench.server.residency.parts import Limits
from workbench.server.residency.resident import Resident, runner_options
from workbench.server.residency.tickets import Want
from workbench.server.state import State


class PlayBackend:
    """Loads and unloads as a test says; notes what was asked and refuses what may not happen."""

    name = "play"
    kind = "play"
    url = None
    loads_models = True

    def __init__(self, *, expires_models: bool = False) -> None:
        self.expires_models = expires_models
        self.loaded: dict[str, Mapping[str, Any]] = {}
        self.calls: list[tuple[str, str]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.pause: Callable[[], Coroutine[Any, Any, None]] = self.gate.wait
        self.fail_load: WorkbenchError | None = None
        self.fail_ps: WorkbenchError | None = None
        self.stays = False
        self.running = 0
        self.using: Counter[str] = Counter()

    async def runner_of(self, model: str, digest: str) -> Runner:
        """Every model is its own runner."""
        return Runner(model)

    def known_runner(self, model: str, digest: str) -> Runner | None:
        """Every model is its own runner."""
        return Runner(model)

    async def load(
        self, model: str, options: Mapping[str, Any], keep_alive: float | None, *, embed: bool
    ) -> None:
        """Load once the gate is open; what is loaded is loaded again only to renew it."""
        assert model not in self.loaded
        self.calls.append(("load", model))
        await self.pause()
        if self.fail_load:
            raise self.fail_load
        self.loaded[model] = dict(options)

    async def unload(self, model: str, *, embed: bool = False) -> Unloaded:
        """Unload once the gate is open; a model that is in use must never be asked to leave."""
        assert 0 == self.using[model]
        self.calls.append(("unload", model))
        await self.pause()
        assert 0 == self.using[model]
        if self.stays:
            return Unloaded(False)
        self.loaded.pop(model, None)
        return Unloaded(True, 10, 0)

    async def ps(self) -> list[RunningModel]:
        """List what is loaded."""
        self.calls.append(("ps", ""))
        if self.fail_ps:
            raise self.fail_ps
        return [RunningModel(name, name, 1) for name in self.loaded]


class Bench:
    """A residency over one backend, and its models."""

    def __init__(self, folder: Path, *, expires_models: bool = False, **limits: Any) -> None:
        self.backend = PlayBackend(expires_models=expires_models)
        self.events = Events()
        limits = {"keep_alive_s": 100.0, "max_loaded": 3, "budget_bytes": 100, **limits}
        waits = {name: limits.pop(name) for name in ("interactive_wait_s",) if name in limits}
        pace = Pace(moving_s=0.001, idle_s=0.01, gone_s=0.3, released_s=0.3, retry_s=0.05)
        self.residency = Residency(self.events, State(folder), pace=pace, **waits)
        self.host: Host = self.residency.add(self.backend, Limits(**limits))
        self.phases: list[Phase] = []

    def entry(self, name: str, size: int = 1) -> ModelEntry:
        """Return a model."""
        return ModelEntry(name, name, size)

    def use(
        self, name: str, *, size: int = 1, keep_alive: float | None = None, **options: Any
    ) -> Any:
        """Return the context of one request."""
        want = Want(
            self.entry(name, size),
            runner_options({"options": options}),
            keep_alive,
            on_phase=self.phases.append,
            actor="test",
        )
        return self.residency.use(self.backend, want)

    async def run(self, name: str, done: asyncio.Event | None = None, **options: Any) -> None:
        """Use a model until `done`."""
        async with self.use(name, **options) as hold:
            resident = hold.resident
            assert name in self.backend.loaded
            self.backend.using[name] += 1
            try:
                if done is not None:
                    await done.wait()
                assert resident.in_flight > 0
            finally:
                self.backend.using[name] -= 1

    def state(self, name: str) -> str:
        """Return the state of a model."""
        found = self.resident(name)
        return found.state if found else "absent"

    def resident(self, name: str) -> Resident | None:
        """Return a model in memory."""
        return self.host.residents.get(name)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Let the loop run until something is so."""
        async with asyncio.timeout(10):
            while not condition():  # noqa: ASYNC110 - what is awaited has no event
                await asyncio.sleep(0.001)

    def asked(self, what: str) -> int:
        """Return how often the backend was asked."""
        return sum(call == what for call, _ in self.backend.calls)


def go(work: Coroutine[Any, Any, None]) -> None:
    """Run a test's coroutine."""
    asyncio.run(work)


async def cancelled(task: asyncio.Task[Any]) -> None:
    """Cancel a task and wait for its end."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
