"""One request that wants a model: what it asks, its turn, and its hold on the model."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from workbench.errors import ResponseError, WorkbenchError
from workbench.messages import Phase
from workbench.server.backends.base import Lines, ModelEntry
from workbench.server.residency.lanes import RequestClass
from workbench.server.residency.profiles import Preferences, staying_s
from workbench.server.residency.resident import Lane, Resident, with_profile
from workbench.units import format_keep_alive

OnPhase = Callable[[Phase], None]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Want:
    """What one request asks of residency.

    Attributes:
        options: Its runner options.
        keep_alive_s: Seconds the model stays afterwards; `None` leaves it as it is.
        deadline_s: Seconds after which it does not want its turn any more.
        swap: Whether it agrees that others leave: asked for in `manual`, and for what another
            client loaded.
        force: Whether pinned and leased models may leave for it too.
        on_phase: Called while it waits, with seconds and bytes.
        actor: Who asks.
    """

    entry: ModelEntry
    options: Mapping[str, Any] = field(default_factory=dict)
    keep_alive_s: float | None = None
    embed: bool = False
    cls: RequestClass = "interactive"
    deadline_s: float | None = None
    swap: bool = False
    force: bool = False
    on_phase: OnPhase | None = None
    actor: str = "server"

    @property
    def agrees(self) -> bool:
        """Whether others may leave although the mode, or their owner, asks for consent."""
        return self.swap or self.force


@dataclass(eq=False)
class Ticket:
    """A request in the queue; `granted` ends when its turn comes, or cannot come."""

    want: Want
    lane: Lane
    granted: asyncio.Future[Resident]
    since: float = field(default_factory=time.monotonic)

    def tell(self, phase: Phase) -> None:
        """Say what is going on."""
        if self.want.on_phase is not None:
            self.want.on_phase(phase)

    def fail(self, error: WorkbenchError) -> None:
        """End the waiting with an error; does nothing when nobody waits any more."""
        if not self.granted.done():
            self.granted.set_exception(error)
            # Read here: who waited may have gone in this very turn of the loop.
            self.granted.exception()


class Hold:
    """A model held in memory for one request, until the request ends or is ended by force."""

    def __init__(self, resident: Resident, want: Want, wishes: Preferences, *, held: bool) -> None:
        self.resident = resident
        self._want = want
        self._wishes = wishes
        self._held = held
        self._aborted = False
        self._reader: asyncio.Task[Any] | None = None

    def body(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return the request as the backend gets it: it never reloads the model by accident."""
        resident = self.resident
        if not resident.backend.expires_models or not resident.backend.loads_models:
            return dict(body)
        sent = with_profile(body, resident.lane)
        asked_s = self._want.keep_alive_s
        seconds = staying_s(self._wishes, asked_s, held=self._held, host=True)
        if seconds is not None and seconds != asked_s:
            sent["keep_alive"] = format_keep_alive(seconds)
        return sent

    def abort(self) -> None:
        """End the request: its answer ends with an error."""
        self._aborted = True
        if self._reader is not None:
            self._reader.cancel()

    def _check(self) -> None:
        if self._aborted:
            raise ResponseError(
                f"model '{self.resident.name}' was unloaded by force",
                status=409,
                hint="Send the request again to load it.",
            )

    async def run(self, work: Awaitable[T]) -> T:
        """Await a piece of the request.

        Raises:
            ResponseError: When the model is unloaded by force meanwhile.
        """
        self._check()
        self._reader = asyncio.current_task()
        try:
            return await work
        except asyncio.CancelledError:
            if self._aborted and self._reader is not None:
                self._reader.uncancel()
                self._check()
            raise
        finally:
            self._reader = None

    async def lines(self, stream: AsyncIterator[Lines]) -> AsyncGenerator[Lines, None]:
        """Yield what a stream gives; whoever drives it, a forced end is seen between the pieces."""
        while True:
            try:
                # Not while a piece is on its way to the client: its sender is none of ours.
                lines = await self.run(anext(stream))
            except StopAsyncIteration:
                return
            yield lines
