"""What NVIDIA's driver says about its GPUs; the only module that imports pynvml."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

from workbench.server.gpu.base import GpuDevice, GpuProcess, GpuReport

SOURCE = "NVML"
# A machine without a driver is not asked at every sample whether it has one by now.
RETRY_S = 60.0


class NvmlReader:
    """Reads every NVIDIA GPU; the library is opened at the first `read` and kept open.

    A driver that is reloaded or loses a GPU in mid-run is a reason in the next report, and the
    library is opened anew at the one after.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._nvml: ModuleType | None = None
        self._failed: tuple[float, GpuReport] | None = None

    def read(self) -> GpuReport:
        """Ask the driver for every GPU; never raises."""
        if self._failed is not None and self._clock() - self._failed[0] < RETRY_S:
            return self._failed[1]
        # Imported here: most commands need no GPU figures.
        import pynvml

        try:
            if self._nvml is None:
                pynvml.nvmlInit()
                self._nvml, self._failed = pynvml, None
        except pynvml.NVMLError as exc:
            # Without a driver no program can use a GPU; any other error hides what is there.
            absent = isinstance(
                exc, pynvml.NVMLError_LibraryNotFound | pynvml.NVMLError_DriverNotLoaded
            )
            report = GpuReport(reason=_reason(pynvml, exc), failed=not absent)
            self._failed = (self._clock(), report)
            return report
        try:
            driver = _text(pynvml.nvmlSystemGetDriverVersion())
            devices = tuple(_devices(pynvml))
        except pynvml.NVMLError as exc:
            # Opened anew next time: after an update of the driver the old handle stays dead.
            self.close()
            return GpuReport(reason=_reason(pynvml, exc), failed=True)
        return GpuReport(devices, driver, None if devices else "the driver lists no GPU")

    def close(self) -> None:
        """Close the library."""
        nvml, self._nvml = self._nvml, None
        if nvml is None:
            return
        try:
            nvml.nvmlShutdown()
        except nvml.NVMLError:
            # It is closed already, as after a reload of the driver.
            return


def _devices(nvml: Any) -> list[GpuDevice]:
    """Return the GPUs; a card that is cut into MIG devices is listed as these."""
    found: list[GpuDevice] = []
    for number in range(nvml.nvmlDeviceGetCount()):
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(number)
        except nvml.NVMLError as exc:
            why = {"device": _reason(nvml, exc)}
            found.append(GpuDevice(len(found), f"nvidia-{number}", reasons=why))
            continue
        parts = _mig_handles(nvml, handle)
        card = _read(nvml, handle, len(found), number)
        if not parts:
            found.append(card)
        for part in parts:
            found.append(_read(nvml, part, len(found), number, card=card))
    return found


def _mig_handles(nvml: Any, handle: Any) -> list[Any]:
    """Return the MIG devices of a card, none for a card that is not cut."""
    try:
        current, _ = nvml.nvmlDeviceGetMigMode(handle)
        if current != nvml.NVML_DEVICE_MIG_ENABLE:
            return []
        places = nvml.nvmlDeviceGetMaxMigDeviceCount(handle)
    except nvml.NVMLError:
        # Cards that cannot be cut say so.
        return []
    parts = []
    for place in range(places):
        try:
            parts.append(nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, place))
        except nvml.NVMLError:
            # An empty place.
            continue
    return parts


def _read(
    nvml: Any, handle: Any, index: int, number: int, *, card: GpuDevice | None = None
) -> GpuDevice:
    """Read one device, each figure by itself: MIG and integrated GPUs tell less.

    Args:
        card: The card a MIG device is cut from; its temperature and power are the part's.
    """
    facts: dict[str, Any] = {}
    reasons: dict[str, str] = {}

    def ask(name: str, question: Callable[[], Any]) -> None:
        try:
            facts[name] = question()
        except nvml.NVMLError as exc:
            reasons[name] = _reason(nvml, exc)

    ask("name", lambda: _text(nvml.nvmlDeviceGetName(handle)))
    ask("id", lambda: _text(nvml.nvmlDeviceGetUUID(handle)))
    ask("memory", lambda: nvml.nvmlDeviceGetMemoryInfo(handle))
    ask("utilization_pct", lambda: float(nvml.nvmlDeviceGetUtilizationRates(handle).gpu))
    ask("processes", lambda: _processes(nvml, handle))
    if card is None:
        ask(
            "temperature_c",
            lambda: float(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)),
        )
        ask("power_w", lambda: nvml.nvmlDeviceGetPowerUsage(handle) / 1000)
    else:
        facts |= {"temperature_c": card.temperature_c, "power_w": card.power_w}
        reasons |= {
            name: card.reasons[name]
            for name in ("temperature_c", "power_w")
            if name in card.reasons
        }
    memory = facts.pop("memory", None)
    if memory is not None:
        facts |= {f"{name}_bytes": int(getattr(memory, name)) for name in ("total", "used", "free")}
    sources = {
        name: SOURCE for name, value in facts.items() if value is not None and name not in _NAMES
    }
    facts.setdefault("id", f"nvidia-{number}")
    return GpuDevice(index, kind="nvidia", sources=sources, reasons=reasons, **facts)


_NAMES = ("id", "name")


def _processes(nvml: Any, handle: Any) -> tuple[GpuProcess, ...]:
    """Return who uses a device; a program that computes and draws is listed once."""
    found: dict[int, GpuProcess] = {}
    asked = (
        nvml.nvmlDeviceGetComputeRunningProcesses,
        nvml.nvmlDeviceGetGraphicsRunningProcesses,
    )
    refused: list[Exception] = []
    for question in asked:
        try:
            rows = question(handle)
        except nvml.NVMLError as exc:
            refused.append(exc)
            continue
        for row in rows:
            # None under Windows' WDDM, and for processes of another PID namespace.
            used = row.usedGpuMemory
            size = None if used is None else int(used)
            found[row.pid] = GpuProcess(int(row.pid), _process_name(nvml, row.pid), size)
    if len(refused) == len(asked):
        raise refused[0]
    return tuple(found.values())


def _process_name(nvml: Any, pid: int) -> str | None:
    try:
        # Only the program: its path and arguments are nobody's business here.
        return _text(nvml.nvmlSystemGetProcessName(pid)).rsplit("/", 1)[-1].split(" ")[0] or None
    except nvml.NVMLError:
        # It has ended, or is another user's.
        return None


def _text(value: str | bytes) -> str:
    # Older versions of the module give bytes.
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _reason(nvml: Any, error: Exception) -> str:
    known = {
        nvml.NVMLError_LibraryNotFound: "no NVIDIA driver is installed",
        nvml.NVMLError_DriverNotLoaded: "the NVIDIA driver is not loaded",
        nvml.NVMLError_NoPermission: "this user may not read the GPU",
        nvml.NVMLError_NotSupported: "the GPU does not tell",
        nvml.NVMLError_GpuIsLost: "the GPU is lost: the driver cannot reach it any more",
        nvml.NVMLError_Uninitialized: "the driver was reloaded",
    }
    for kind, text in known.items():
        if isinstance(error, kind):
            return text
    return str(error)
