"""The memory of the machine itself: where embedded models live, and all there is without a GPU."""

from __future__ import annotations

import platform

import psutil

from workbench.server.gpu.base import GpuDevice, GpuReport

SOURCE = "psutil"


class HostReader:
    """Reads the memory and the load of this machine."""

    def __init__(self) -> None:
        # The first answer has nothing to compare with and reads 0; this one is thrown away.
        psutil.cpu_percent(interval=None)

    def read(self) -> GpuReport:
        """Ask the operating system."""
        memory = psutil.virtual_memory()
        figures = {
            "total_bytes": memory.total,
            "used_bytes": memory.total - memory.available,
            "free_bytes": memory.available,
            "utilization_pct": psutil.cpu_percent(interval=None),
        }
        reasons = dict.fromkeys(("temperature_c", "power_w"), "not measured for the host")
        reasons["processes"] = "every program of the machine uses it"
        device = GpuDevice(
            id="host",
            name=f"{platform.node() or 'this machine'} (memory)",
            kind="host",
            sources=dict.fromkeys(figures, SOURCE),
            reasons=reasons,
            **figures,
        )
        return GpuReport((device,))

    def close(self) -> None:
        """Nothing is kept open."""
