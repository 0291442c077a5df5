"""When memory is low, and when it is well again: two limits, so that a warning does not flicker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from workbench.server.gpu.base import GpuDevice

Change = Literal["memory_low", "memory_ok"]


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The limits of the low-memory warning.

    Attributes:
        warn_pct: Warn when less than this share of a device is free.
        warn_bytes: Warn when fewer bytes than this are free.
        clear_pct: Take the warning back when more than this share is free.
    """

    warn_pct: float = 10.0
    warn_bytes: int = 2**30
    clear_pct: float = 15.0


class LowMemory:
    """Which devices are low; a pure state machine fed with readings."""

    def __init__(self) -> None:
        self._low: set[str] = set()

    def is_low(self, device: GpuDevice) -> bool:
        """Whether the warning about a device stands."""
        return device.id in self._low

    def update(self, device: GpuDevice, limits: Thresholds) -> Change | None:
        """Take in a reading and return what it changes; an unknown figure changes nothing."""
        free, total = device.free_bytes, device.total_bytes
        if free is None or not total:
            return None
        share_pct = 100 * free / total
        low = share_pct < limits.warn_pct or free < limits.warn_bytes
        if low and device.id not in self._low:
            self._low.add(device.id)
            return "memory_low"
        # A small card may have the share and still not the bytes.
        if device.id in self._low and not low and share_pct > limits.clear_pct:
            self._low.discard(device.id)
            return "memory_ok"
        return None
