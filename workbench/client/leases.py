"""A lease: models that stay in memory while somebody here needs them."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from workbench.client.memory_api import MemoryClient
from workbench.errors import ConfigError, ResponseError, WorkbenchError
from workbench.portal import PortalFuture, get_portal

# Two of three signs of life may get lost.
_BEATS_PER_TTL = 3


class Lease:
    """Keeps models in memory from `open` to `close`; use it with `with` or `async with`.

    While it is open the portal says every `ttl_s / 3` seconds that the models are needed, also
    while a cell runs.  When the process dies nobody says so, and the server lets them go.

    Args:
        client: The door to the server.
        models: Names of the models.
        ttl_s: Seconds the lease lasts without a sign of life.
        holder: Who it is, as others see it; the server names the client unless given.
    """

    def __init__(
        self,
        client: MemoryClient,
        models: Sequence[str],
        *,
        ttl_s: float,
        holder: str | None = None,
    ) -> None:
        if not models or not ttl_s > 0:
            raise ConfigError("a lease needs models and a time above 0.", key="lease")
        self._client = client
        self.models = tuple(models)
        self.ttl_s = ttl_s
        self._holder = holder
        self._beating: PortalFuture[None] | None = None
        self._pid: int | None = None
        self.id: str | None = None
        self.lost: str | None = None

    def __repr__(self) -> str:
        state = "open" if self.id else "closed"
        if self.lost:
            state = f"lost: {self.lost}"
        return f"<Lease of {', '.join(self.models)} ({state})>"

    def open(self) -> Self:
        """Acquire it, and keep it until `close`.

        Raises:
            WorkbenchError: When the server does not grant it, or it is open already.
        """
        get_portal().run(self._acquire())
        return self

    def close(self) -> None:
        """Let the models go; a closed one is left as it is."""
        get_portal().run(self._release())

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        await get_portal().arun(self._acquire())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await get_portal().arun(self._release())

    async def _acquire(self) -> None:
        if self.id is not None:
            raise WorkbenchError("This lease is open already.", hint="Make another one.")
        info = await self._client.acquire_lease(self.models, ttl_s=self.ttl_s, holder=self._holder)
        self.id, self.lost, self._pid = info.id, None, os.getpid()
        # The server may have granted less.
        self.ttl_s = info.ttl_s or self.ttl_s
        self._beating = get_portal().start(self._beat(info.id))

    async def _beat(self, lease_id: str) -> None:
        loop = asyncio.get_running_loop()
        heard = loop.time()
        while self.lost is None:
            await asyncio.sleep(self.ttl_s / _BEATS_PER_TTL)
            try:
                async with asyncio.timeout(self.ttl_s):
                    await self._client.renew_lease(lease_id, ttl_s=self.ttl_s)
                heard = loop.time()
            except ResponseError as exc:
                self.lost = exc.message
            except (WorkbenchError, TimeoutError) as exc:
                # A server that restarts is back within the time to live; its answer then decides.
                if loop.time() - heard > self.ttl_s:
                    self.lost = f"the server was not heard of for {self.ttl_s:g} s: {exc}"

    async def _release(self) -> None:
        lease_id, self.id = self.id, None
        beating, self._beating = self._beating, None
        # A forked process has the object and not the lease.
        if lease_id is None or self._pid != os.getpid():
            return
        if beating is not None:
            beating.cancel()
        if self.lost is None:
            # What cannot be released expires.
            with contextlib.suppress(WorkbenchError):
                await self._client.release_lease(lease_id)
