"""Apple's GPUs, which share the memory of the machine: `ioreg` and `sysctl`.

Not run on hardware: the parsers are tested on outputs of these programs.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Sequence

import psutil

from workbench.server.gpu.base import GpuDevice, GpuReport

IOREG = ("ioreg", "-r", "-d", "1", "-w", "0", "-c", "IOAccelerator")
SYSCTL = ("sysctl", "-n", "machdep.cpu.brand_string")
TOOL_TIMEOUT_S = 2.0

_UTILIZATION = re.compile(r'"Device Utilization %"\s*=\s*(\d+)')
_MODEL = re.compile(r'"model"\s*=\s*<?"([^"]+)">?')


def run_tool(command: Sequence[str]) -> str:
    """Run a program of the system and return what it prints.

    Raises:
        OSError: When it is missing.
        subprocess.SubprocessError: When it fails or takes too long.
    """
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=TOOL_TIMEOUT_S, check=True
    )
    return done.stdout


class AppleReader:
    """Reads the GPU of a Mac with Apple's chips.

    Memory is the machine's: what is free for a model is what is free for any program.

    Args:
        run: Runs a program and returns its output.
        system: The platform, as `sys.platform` names it.
    """

    def __init__(
        self, run: Callable[[Sequence[str]], str] = run_tool, *, system: str = sys.platform
    ) -> None:
        self._run = run
        self._system = system

    def read(self) -> GpuReport:
        """Ask the system; never raises."""
        if self._system != "darwin":
            return GpuReport(reason="this is not a Mac")
        try:
            listed = self._run(IOREG)
        except (OSError, subprocess.SubprocessError, ValueError) as exc:
            listed, why = "", f"ioreg failed: {exc}"
        else:
            why = "ioreg does not tell"
        utilization, name = utilization_of(listed), model_of(listed) or self._chip()
        memory = psutil.virtual_memory()
        sources = dict.fromkeys(("total_bytes", "used_bytes", "free_bytes"), "psutil (unified)")
        reasons = dict.fromkeys(("temperature_c", "power_w", "processes"), "macOS does not tell")
        if utilization is None:
            reasons["utilization_pct"] = why
        else:
            sources["utilization_pct"] = "ioreg"
        device = GpuDevice(
            id="apple",
            name=name,
            kind="apple",
            total_bytes=memory.total,
            used_bytes=memory.total - memory.available,
            free_bytes=memory.available,
            utilization_pct=utilization,
            sources=sources,
            reasons=reasons,
        )
        return GpuReport((device,))

    def _chip(self) -> str | None:
        try:
            return self._run(SYSCTL).strip() or None
        except (OSError, subprocess.SubprocessError, ValueError):
            return None

    def close(self) -> None:
        """Nothing is kept open."""


def utilization_of(listed: str) -> float | None:
    """Return how busy the GPU is in percent, from the output of `ioreg`."""
    found = [float(value) for value in _UTILIZATION.findall(listed)]
    return max(found) if found else None


def model_of(listed: str) -> str | None:
    """Return the name of the chip, from the output of `ioreg`."""
    found = _MODEL.search(listed)
    return found[1] if found else None
