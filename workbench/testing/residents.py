"""The memory of a scripted Ollama without a scheduler: no limit, nothing evicted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Any, Protocol

from workbench.testing.http import Exchange
from workbench.testing.ollama_shapes import (
    DEFAULT_CONTEXT,
    DEFAULT_KEEP_ALIVE_S,
    Resident,
    context_of,
)
from workbench.testing.scripts import FakeModel, Reply


class Memory(Protocol):
    """What holds the models of a scripted Ollama."""

    loads: list[str]

    def reset(self) -> None:
        """Begin with nothing in memory."""

    def present(self) -> list[Resident]:
        """Return what ``/api/ps`` lists, in no order."""

    def expire(self, model: FakeModel) -> None:
        """Do what Ollama does when asked to unload."""

    def hold(
        self,
        exchange: Exchange,
        reply: Reply,
        model: FakeModel,
        body: Mapping[str, Any],
        keep_alive_s: float | None,
    ) -> AbstractAsyncContextManager[AbstractAsyncContextManager[Any]]:
        """Return the context of one request, with the model in memory; gives its turn there."""


class Residents:
    """Models in memory by digest; what is loaded stays until its keep_alive is over."""

    def __init__(self) -> None:
        self.loads: list[str] = []
        self.reset()

    def reset(self) -> None:
        self._residents: dict[str, Resident] = {}
        self._load_lock = asyncio.Lock()

    def present(self) -> list[Resident]:
        """Drop what has expired and is idle; return the rest."""
        now = time.time()
        for digest, item in list(self._residents.items()):
            if item.in_flight == 0 and item.shown_end <= now:
                self._residents.pop(digest, None)
        return list(self._residents.values())

    def expire(self, model: FakeModel) -> None:
        """Unload as Ollama does: at once when idle, else when the last request ends."""
        item = self._residents.get(model.full_digest)
        if item is not None:
            item.keep_alive_s = 0.0
            item.expires_at = time.time()
            self.present()

    @asynccontextmanager
    async def hold(
        self,
        exchange: Exchange,
        reply: Reply,
        model: FakeModel,
        body: Mapping[str, Any],
        keep_alive_s: float | None,
    ) -> AsyncIterator[AbstractAsyncContextManager[Any]]:
        """Hold a model in memory for the time of a request, and load it first if need be.

        A client that leaves during the load aborts it, as in Ollama.
        """
        item = await self._loaded(exchange, reply, model, context_of(body, model))
        if keep_alive_s is not None:
            item.keep_alive_s = keep_alive_s
        item.in_flight += 1
        try:
            yield nullcontext()
        finally:
            item.in_flight -= 1
            item.expires_at = time.time() + item.keep_alive_s
            self.present()

    def _ready(self, digest: str, context: int | None) -> Resident | None:
        """Return the model if it is in memory with the asked context."""
        self.present()
        item = self._residents.get(digest)
        return item if item is not None and context in (None, item.context_length) else None

    async def _loaded(
        self, exchange: Exchange, reply: Reply, model: FakeModel, context: int | None
    ) -> Resident:
        """Return the model in memory; loads go one at a time and hold up no loaded model."""
        key = model.full_digest
        if (found := self._ready(key, context)) is not None:
            return found
        async with self._load_lock:
            if (found := self._ready(key, context)) is not None:
                return found
            self._residents.pop(key, None)
            self.loads.append(model.full_name)
            if reply.stall_load:
                await exchange.request.stall(reply.stall_s)
            await asyncio.sleep(model.load_s if reply.load_s is None else reply.load_s)
            length = context or min(DEFAULT_CONTEXT, model.context_length)
            item = Resident(
                model,
                context_length=length,
                keep_alive_s=DEFAULT_KEEP_ALIVE_S,
                expires_at=time.time() + DEFAULT_KEEP_ALIVE_S,
                size_bytes=model.size_bytes,
                size_vram_bytes=(
                    model.size_bytes if model.size_vram_bytes is None else model.size_vram_bytes
                ),
            )
            self._residents[key] = item
            return item
