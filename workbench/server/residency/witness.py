"""Who says how much memory there is: the GPU's driver, or nobody."""

from __future__ import annotations

from typing import Protocol

from workbench.server.backends.base import Backend


class MemoryWitness(Protocol):
    """Figures about the memory that a backend's models take; `None` when nobody knows."""

    async def free_bytes(self, backend: Backend) -> int | None:
        """Return the free memory now."""
        ...

    async def total_bytes(self, backend: Backend) -> int | None:
        """Return the memory in all."""
        ...


class NoWitness:
    """Knows nothing: every unload is then unverified, and room is left to the backend."""

    async def free_bytes(self, backend: Backend) -> int | None:
        """Return `None`."""
        return None

    async def total_bytes(self, backend: Backend) -> int | None:
        """Return `None`."""
        return None
