"""A remote host: nobody can look into it, so its memory is what the configuration declares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from workbench.server.gpu.base import FIGURES, GpuDevice, GpuReport


@dataclass(frozen=True, slots=True)
class Held:
    """What the models of a backend take, by its own word; `None` bytes have a reason."""

    used_bytes: int | None
    reason: str | None = None


class DeclaredReader:
    """The device of a remote backend: declared total, minus what its `ps` adds up to.

    Args:
        backend: Name of the backend.
        total_bytes: Its memory as the configuration declares it.
        held: Returns the last known sum of its models; must not block.
    """

    def __init__(self, backend: str, total_bytes: int | None, held: Callable[[], Held]) -> None:
        self._backend = backend
        self._total_bytes = total_bytes
        self._held = held

    def read(self) -> GpuReport:
        """Join the declared total with the last known sum."""
        total, held = self._total_bytes, self._held()
        sources: dict[str, str] = {}
        reasons = dict.fromkeys(FIGURES[3:], "the host is remote")
        free = None
        if total is None:
            reasons["total_bytes"] = "declare `vram` for this backend in workbench.toml"
        else:
            sources["total_bytes"] = "declared"
        if held.used_bytes is None:
            reasons["used_bytes"] = held.reason or "its models are not known"
        else:
            sources["used_bytes"] = "ps"
        if total is None or held.used_bytes is None:
            reasons["free_bytes"] = "total or used is not known"
        else:
            free = max(0, total - held.used_bytes)
            sources["free_bytes"] = "declared - ps"
        device = GpuDevice(
            id=f"declared-{self._backend}",
            name=f"{self._backend} (remote)",
            kind="declared",
            backend=self._backend,
            total_bytes=total,
            used_bytes=held.used_bytes,
            free_bytes=free,
            sources=sources,
            reasons=reasons,
        )
        return GpuReport((device,))

    def close(self) -> None:
        """Nothing is kept open."""
