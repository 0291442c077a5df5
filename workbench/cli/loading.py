"""What a load goes through, on one line of a terminal."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from workbench.errors import WorkbenchError

if TYPE_CHECKING:
    from workbench.client.memory_api import MemoryClient
    from workbench.client.memory_values import ServerEvent
    from workbench.client.values import RunningModel
    from workbench.messages import GenerateConfig

_TICK_S = 1.0


class LoadPhases:
    """Writes where a load stands, over and over on one line.

    Args:
        model: Name of the model as it was typed.
        write: Takes text, as `print(..., end="")` does.
        clock: Gives seconds.
    """

    def __init__(
        self,
        model: str,
        write: Callable[[str], object],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = _bare(model)
        self._write = write
        self._clock = clock
        self._phase = ""
        self._since = clock()
        self._estimate_s: float | None = None
        self._own = False
        self._length = 0

    def feed(self, event: ServerEvent) -> None:
        """Take an event of the server."""
        fields = event.fields
        model = str(fields.get("model", ""))
        mine = _bare(model) == self._name
        self._own = self._own or (mine and event.event == "loading")
        if event.event == "unloading" and not (mine or self._own):
            waits = fields.get("waits_for")
            requests = "1 request" if waits == 1 else f"{waits} requests"
            self._enter(f"unloading {model}" + (f", waiting for {requests}" if waits else ""))
        elif mine and event.event in ("queued", "loading"):
            self._enter(event.event, estimate_s=fields.get("estimated_s"))
        elif mine and event.event == "load_stuck":
            self.note(f"{fields.get('diagnosis', 'stuck')}: {fields.get('action', '')}")
        elif mine and event.event == "load_warning":
            self.note(str(fields.get("text", "")))

    def _enter(self, phase: str, *, estimate_s: float | None = None) -> None:
        self._phase, self._since, self._estimate_s = phase, self._clock(), estimate_s
        self.tick()

    def tick(self) -> None:
        """Write the line anew."""
        if not self._phase:
            return
        text = f"{self._phase} {self._clock() - self._since:.0f} s"
        if self._estimate_s is not None:
            text += f" of about {max(1, round(self._estimate_s))} s"
        self._write(f"\r{text.ljust(self._length)}")
        self._length = len(text)

    def note(self, text: str) -> None:
        """Write something on a line of its own."""
        self.close()
        self._write(f"{text}\n")

    def close(self) -> None:
        """Leave no half line behind."""
        if self._length:
            self._write(f"\r{' ' * self._length}\r")
        self._length = 0


async def load_shown(
    client: MemoryClient,
    model: str,
    phases: LoadPhases,
    *,
    config: GenerateConfig,
    swap: bool,
    force: bool,
) -> RunningModel:
    """Load a model and show its phases meanwhile."""
    shown = [asyncio.create_task(_follow(client, phases)), asyncio.create_task(_tick(phases))]
    try:
        return await client.load(model, config=config, swap=swap, force=force)
    finally:
        for task in shown:
            task.cancel()
        await asyncio.gather(*shown, return_exceptions=True)
        phases.close()


async def _follow(client: MemoryClient, phases: LoadPhases) -> None:
    # A server that tells no events still loads.
    with contextlib.suppress(WorkbenchError):
        events = client.events()
        async with contextlib.aclosing(events):
            async for event in events:
                phases.feed(event)


async def _tick(phases: LoadPhases) -> None:
    while True:
        await asyncio.sleep(_TICK_S)
        phases.tick()


def _bare(model: str) -> str:
    return model.partition("@")[0].removesuffix(":latest").lower()
