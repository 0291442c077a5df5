"""What is in a backend's memory, asked once for everybody.

Three rules.  A poll that began before we changed something ourselves is older than that change: its
answer is dropped.  A failed poll never reads as "unloaded": the last snapshot is kept and marked
stale.  Nobody is polled for nobody: the loop runs while somebody watches, something moves, or a
request came a moment ago.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime

from workbench.errors import ConnectionFailed, RequestTimeout, WorkbenchError
from workbench.server.backends.base import Backend, RunningModel
from workbench.server.residency.pace import Pace
from workbench.units import utc_now

# `ps` blocks for seconds while Ollama stops a runner; that is not "the host is down".
PS_TIMEOUT_S = 10.0
# A host that is down is asked less and less often.
MOST_BACKOFF_S = 15.0


@dataclass(frozen=True, slots=True)
class Seen:
    """One loaded model, with the runner it is."""

    model: RunningModel
    runner: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What was in a backend's memory.

    Attributes:
        as_of: When it was asked; `None` before the first answer.
        at: The same on the monotonic clock.
        stale: Whether a later poll has failed.
        error: Why it failed.
        generation: How many changes of our own it knows of.
    """

    seen: tuple[Seen, ...] = ()
    as_of: datetime | None = None
    at: float = float("-inf")
    stale: bool = True
    error: WorkbenchError | None = None
    generation: int = 0

    @property
    def models(self) -> list[RunningModel]:
        """The models in memory."""
        return [item.model for item in self.seen]

    def find(self, runner: str) -> RunningModel | None:
        """Return the model of a runner, or `None`."""
        return next((item.model for item in self.seen if item.runner == runner), None)


class StateCache:
    """The snapshot of one backend.

    Args:
        changed: Called with every new snapshot that counts, and when the backend goes or comes.
    """

    def __init__(
        self, backend: Backend, changed: Callable[[Snapshot], None], *, pace: Pace
    ) -> None:
        self._backend = backend
        self._changed = changed
        self._pace = pace
        self._snapshot = Snapshot()
        self._generation = 0
        self._poll: asyncio.Task[None] | None = None
        self._poll_generation = 0
        self._loop_task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._moving = 0
        self._watching = 0
        self._asked_at = float("-inf")
        self._failures = 0

    @property
    def snapshot(self) -> Snapshot:
        """The last answer, however old."""
        return self._snapshot

    @property
    def polling(self) -> bool:
        """Whether the backend is asked again and again now."""
        return self._loop_task is not None and not self._loop_task.done()

    def mutated(self) -> None:
        """Say that we changed what is in memory: answers under way are older than that."""
        self._generation += 1

    @contextmanager
    def moving(self) -> Iterator[None]:
        """Poll fast while something loads or leaves."""
        self._moving += 1
        self._run()
        try:
            yield
        finally:
            self._moving -= 1

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Poll while somebody watches."""
        self._watching += 1
        self._run()
        try:
            yield
        finally:
            self._watching -= 1

    def asked(self) -> None:
        """Say that somebody makes use of it now: it is kept fresh for a while."""
        self._asked_at = time.monotonic()
        self._run()

    def is_fresh(self, max_age_s: float) -> bool:
        """Whether the snapshot is young, whole, and knows of all our own changes."""
        snapshot = self._snapshot
        young = time.monotonic() - snapshot.at <= max_age_s
        return young and not snapshot.stale and snapshot.generation == self._generation

    async def refresh(self, *, max_age_s: float = 0.0) -> Snapshot:
        """Return a snapshot that is at most so old, or the last one marked stale.

        Any number of callers share one poll.
        """
        begun = time.monotonic()
        while not self.is_fresh(max(max_age_s, time.monotonic() - begun)):
            if self._poll is None or self._poll_generation != self._generation:
                self._poll_generation = self._generation
                self._poll = asyncio.create_task(self._ask(self._generation))
            poll = self._poll
            # The answer is everybody's: who goes away must not take it from the others.
            await asyncio.wait({poll})
            if self._poll is poll:
                self._poll = None
            if self._snapshot.error is not None and self._poll_generation == self._generation:
                break
        return self._snapshot

    async def _ask(self, generation: int) -> None:
        at, as_of = time.monotonic(), utc_now()
        try:
            async with asyncio.timeout(PS_TIMEOUT_S):
                models = await self._backend.ps()
            seen = [Seen(model, await self._runner(model)) for model in models]
        except (WorkbenchError, TimeoutError) as exc:
            error = (
                exc if isinstance(exc, WorkbenchError) else RequestTimeout("total", PS_TIMEOUT_S)
            )
            self._failed(error)
            return
        if generation != self._generation:
            return
        self._failures = 0
        self._snapshot = Snapshot(tuple(seen), as_of, at, False, None, generation)
        self._changed(self._snapshot)

    async def _runner(self, model: RunningModel) -> str:
        return (await self._backend.runner_of(model.name, model.digest)).id

    def _failed(self, error: WorkbenchError) -> None:
        self._failures += 1
        first = self._snapshot.error is None
        self._snapshot = replace(self._snapshot, stale=True, error=error)
        # Blocked is not down: only a refused connection says that a host has gone.
        if first or isinstance(error, ConnectionFailed):
            self._changed(self._snapshot)

    def _run(self) -> None:
        self._wake.set()
        if not self.polling and self._backend.expires_models:
            self._loop_task = asyncio.create_task(self._loop())

    def _wanted(self) -> bool:
        recent = time.monotonic() - self._asked_at < self._pace.watched_s
        return bool(self._moving or self._watching or recent)

    async def _loop(self) -> None:
        while self._wanted():
            wait_s = self._pace.moving_s if self._moving else self._pace.idle_s
            wait_s = min(MOST_BACKOFF_S, wait_s * 2 ** min(self._failures, 6))
            self._wake.clear()
            # A move that begins meanwhile does not wait for the slow rhythm to end.
            was_moving = self._moving
            try:
                async with asyncio.timeout(wait_s):
                    while self._moving <= was_moving:
                        await self._wake.wait()
                        self._wake.clear()
            except TimeoutError:
                pass
            if self._wanted():
                await self.refresh(max_age_s=wait_s / 2)

    async def close(self) -> None:
        """Ask no more."""
        tasks = [task for task in (self._loop_task, self._poll) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
