"""Take an answer whole, or event by event from a thread or another event loop."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Generator
from typing import Generic, TypeVar

from workbench.messages import Generation, GenerationBuilder, StreamEvent
from workbench.portal import Portal, Relay

T = TypeVar("T")

Batches = AsyncGenerator[list[StreamEvent], None]


async def collect(batches: Batches, *, model: str) -> Generation:
    """Return the whole answer; one that broke off carries its error and the part that came."""
    began = time.perf_counter()
    builder = GenerationBuilder(model)
    async with contextlib.aclosing(batches):
        async for batch in batches:
            at_s = time.perf_counter() - began
            for event in batch:
                builder.add(event, at_s=at_s)
    return builder.build(elapsed_s=time.perf_counter() - began)


class Answering(Generic[T]):
    """Reads a stream on the portal for one consumer elsewhere.

    What goes wrong on the way is raised from the iterator, after what had arrived.
    """

    def __init__(self, portal: Portal, batches: AsyncGenerator[list[T], None]) -> None:
        self._portal = portal
        self._relay: Relay[T] = Relay()
        self._batches = batches

    async def _pump(self) -> None:
        try:
            async with contextlib.aclosing(self._batches) as batches:
                async for batch in batches:
                    await self._relay.put(batch)
        finally:
            self._relay.close()

    def events(self) -> Generator[T, None, None]:
        """Yield the events; leaving the loop closes the connection."""
        future = self._portal.future()
        try:
            future.begin(self._pump())
            while events := self._relay.take():
                yield from events
            self._portal.wait(future)
        finally:
            future.cancel()

    async def aevents(self) -> AsyncIterator[T]:
        """Yield the events on any event loop."""
        future = self._portal.future()
        try:
            future.begin(self._pump())
            while events := await self._relay.atake():
                for event in events:
                    yield event
            await self._portal.await_(future)
        finally:
            future.cancel()


async def singly(items: AsyncGenerator[T, None]) -> AsyncGenerator[list[T], None]:
    """Yield each item as a batch of its own."""
    async with contextlib.aclosing(items):
        async for item in items:
            yield [item]
