"""What goes on beside the requests: alerts as time passes, and sealing finished files."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import AbstractContextManager, ExitStack
from typing import Protocol

from workbench.metrics.retention import parse_retention
from workbench.metrics.spawn import compaction_due, spawn_compaction
from workbench.server.recording.recorder import Recorder

log = logging.getLogger("workbench")

TICK_S = 5.0
COMPACT_S = 60.0


class Watched(Protocol):
    """What an alert needs to be kept up to date."""

    def watch_backends(self) -> AbstractContextManager[None]:
        """Keep the backends' states fresh while the context is open."""
        ...

    async def read_devices(self) -> None:
        """Take a reading of the devices, which the recorder gets."""
        ...


class Keeper:
    """Judges alerts every few seconds, and lets a child process seal finished files.

    Args:
        retention_days: As the setting of that name has it.
    """

    def __init__(
        self, recorder: Recorder, retention_days: tuple[str, ...], watched: Watched
    ) -> None:
        self._recorder = recorder
        self._folder = recorder.writer.folder
        self._retention_days = parse_retention(retention_days)
        self._watched = watched
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin; without rules only files are looked after."""
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._seal())]
        if self._recorder.board.rules:
            self._tasks.append(loop.create_task(self._judge()))

    async def _judge(self) -> None:
        kinds = {rule.kind for rule in self._recorder.board.rules}
        with ExitStack() as stack:
            if "backend_down" in kinds:
                stack.enter_context(self._watched.watch_backends())
            while True:
                self._recorder.tell(self._recorder.board.tick(time.monotonic()))
                if "low_memory" in kinds:
                    await self._watched.read_devices()
                await asyncio.sleep(TICK_S)

    async def _seal(self) -> None:
        while True:
            await asyncio.sleep(COMPACT_S)
            try:
                if await asyncio.to_thread(compaction_due, self._folder):
                    await asyncio.to_thread(self._compact)
            except OSError as exc:
                # Rows are whole in their live files; sealing only makes reading faster.
                log.warning("the metrics could not be compacted: %s", exc)

    def _compact(self) -> None:
        spawn_compaction(self._folder, retention_days=self._retention_days).wait()

    async def close(self) -> None:
        """End; a child that seals goes on by itself."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
