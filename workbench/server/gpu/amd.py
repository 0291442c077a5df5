"""AMD GPUs, from the files of the amdgpu driver under `/sys/class/drm`; no dependency.

Not run on hardware: tested on copies of such folders.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from workbench.server.gpu.base import GpuDevice, GpuReport

SOURCE = "sysfs"
AMD_VENDOR = "0x1002"
_CARD = re.compile(r"card(\d+)")


class AmdReader:
    """Reads every AMD GPU.

    Args:
        root: Folder of the cards.
    """

    def __init__(self, root: Path = Path("/sys/class/drm")) -> None:
        self._root = root

    def read(self) -> GpuReport:
        """Read the files of every card; never raises."""
        try:
            names = [path.name for path in self._root.iterdir()]
        except OSError:
            return GpuReport(reason=f"there is no {self._root}")
        numbers = sorted(int(match[1]) for name in names if (match := _CARD.fullmatch(name)))
        devices: list[GpuDevice] = []
        for number in numbers:
            folder = self._root / f"card{number}" / "device"
            if _line(folder / "vendor") == AMD_VENDOR:
                devices.append(_read(folder, len(devices), number))
        driver = _line(self._root.parent.parent / "module" / "amdgpu" / "version")
        return GpuReport(tuple(devices), driver, None if devices else "there is no AMD GPU")

    def close(self) -> None:
        """Nothing is kept open."""


def _read(folder: Path, index: int, number: int) -> GpuDevice:
    facts: dict[str, Any] = {}
    reasons = {"processes": "the driver's files do not name them"}

    def ask(name: str, question: Callable[[], float]) -> None:
        try:
            facts[name] = question()
        except FileNotFoundError:
            reasons[name] = "the driver has no such file"
        except (OSError, ValueError) as exc:
            # A card that sleeps or hangs answers with an error of input.
            reasons[name] = (exc.strerror if isinstance(exc, OSError) else None) or str(exc)

    ask("total_bytes", lambda: _number(folder / "mem_info_vram_total"))
    ask("used_bytes", lambda: _number(folder / "mem_info_vram_used"))
    ask("utilization_pct", lambda: float(_number(folder / "gpu_busy_percent")))
    # Thousandths of a degree, millionths of a watt.
    ask("temperature_c", lambda: _number(_sensor(folder, "temp1_input")) / 1e3)
    ask("power_w", lambda: _number(_sensor(folder, "power1_average", "power1_input")) / 1e6)
    if "total_bytes" in facts and "used_bytes" in facts:
        facts["free_bytes"] = max(0, facts["total_bytes"] - facts["used_bytes"])
    else:
        reasons["free_bytes"] = "total or used is not known"
    sources = dict.fromkeys(facts, SOURCE)
    name = _line(folder / "product_name") or f"AMD GPU {_line(folder / 'device') or ''}".strip()
    return GpuDevice(
        index, _address(folder, number), name, "amd", sources=sources, reasons=reasons, **facts
    )


def _address(folder: Path, number: int) -> str:
    """Return what names the card for good: its own number, else its place on the bus."""
    unique = _line(folder / "unique_id")
    if unique:
        return f"amd-{unique}"
    try:
        lines = (folder / "uevent").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        lines = []
    slots = [line.partition("=")[2] for line in lines if line.startswith("PCI_SLOT_NAME=")]
    return f"amd-{slots[0]}" if slots else f"amd-card{number}"


def _sensor(folder: Path, *names: str) -> Path:
    for name in names:
        for path in sorted(folder.glob(f"hwmon/hwmon*/{name}")):
            return path
    raise FileNotFoundError(names[0])


def _number(path: Path) -> int:
    return int(path.read_text(encoding="ascii").strip())


def _line(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip() or None
    except (OSError, ValueError):
        return None
