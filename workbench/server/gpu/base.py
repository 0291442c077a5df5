"""The values that every reader of devices gives, and the protocol of a reader."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

DeviceKind = Literal["nvidia", "amd", "apple", "host", "declared"]

FIGURES = (
    "total_bytes",
    "used_bytes",
    "free_bytes",
    "utilization_pct",
    "temperature_c",
    "power_w",
    "processes",
)
"""The figures of a device; one that is missing has its reason in `GpuDevice.reasons`."""


@dataclass(frozen=True, slots=True)
class GpuProcess:
    """One process on a GPU; `used_bytes` is `None` where the driver does not tell."""

    pid: int
    name: str | None = None
    used_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class GpuDevice:
    """One device that holds models; a figure nobody told is `None` and has a reason.

    Attributes:
        index: Number in the order of its reader.
        id: What stays the same when the order changes: the UUID, the PCI address, the host.
        kind: Who tells: NVIDIA's driver, AMD's files, macOS, the operating system, or the
            configuration about a host that nobody can look into.
        backend: The backend a declared device belongs to.
        total_bytes: Its memory.
        used_bytes: Memory in use, by anybody.
        free_bytes: Memory that a new program can have.
        utilization_pct: Time it was busy, 0-100.
        temperature_c: Degrees Celsius.
        power_w: Watts.
        processes: Who uses it, where the driver tells.
        sources: Where each figure comes from.
        reasons: Why a figure is missing.
    """

    index: int = 0
    id: str = ""
    name: str | None = None
    kind: DeviceKind = "nvidia"
    backend: str | None = None
    total_bytes: int | None = None
    used_bytes: int | None = None
    free_bytes: int | None = None
    utilization_pct: float | None = None
    temperature_c: float | None = None
    power_w: float | None = None
    processes: tuple[GpuProcess, ...] | None = None
    sources: Mapping[str, str] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)

    @property
    def source(self) -> str:
        """Where its figures come from, each source once."""
        return ", ".join(dict.fromkeys(self.sources.values()))

    @property
    def reason(self) -> str | None:
        """Why figures are missing, as one line; `None` when none is."""
        return "; ".join(f"{name}: {why}" for name, why in self.reasons.items()) or None

    def as_json(self) -> dict[str, Any]:
        """Return the device as JSON values."""
        processes = self.processes
        return {
            "index": self.index,
            "id": self.id,
            "name": self.name,
            "kind": self.kind,
            "backend": self.backend,
            **{name: getattr(self, name) for name in FIGURES[:-1]},
            "processes": None
            if processes is None
            else [
                {"pid": row.pid, "name": row.name, "used_bytes": row.used_bytes}
                for row in processes
            ],
            "source": self.source,
            "sources": dict(self.sources),
            "reason": self.reason,
            "reasons": dict(self.reasons),
        }


@dataclass(frozen=True, slots=True)
class GpuReport:
    """The devices a reader sees; `reason` says why there is none.

    Attributes:
        failed: Whether the reason is an error, so that there may be devices nobody could see.
    """

    devices: tuple[GpuDevice, ...] = ()
    driver_version: str | None = None
    reason: str | None = None
    failed: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {
            "devices": [device.as_json() for device in self.devices],
            "driver_version": self.driver_version,
            "reason": self.reason,
        }


class GpuReader(Protocol):
    """One way of looking at devices.

    `read` blocks, never raises for what a device or a driver does, and is called in a worker
    thread, one call at a time.
    """

    def read(self) -> GpuReport:
        """Return what is there now."""
        ...

    def close(self) -> None:
        """Give back what reading needed."""
        ...
