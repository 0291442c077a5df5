"""Work that outlives who asked for it, and the bell that tells of changes."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

T = TypeVar("T")


class Tasks:
    """Tasks that run detached until they end, or until `close`."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run work that nobody needs to wait for."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            # Read here so that a load nobody waits for any more is not "never retrieved".
            task.exception()

    async def close(self, *, spare: Iterable[asyncio.Task[Any]] = ()) -> None:
        """Cancel all but `spare`, and wait for all."""
        for task in self._tasks - set(spare):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class Bell:
    """Rings when something has changed."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def ring(self) -> None:
        """Wake everybody who waits."""
        self._event.set()

    async def wait(self) -> None:
        """Wait for the next ring; nothing may be awaited between looking and this call."""
        self._event.clear()
        await self._event.wait()
