"""Devices that a test makes up: `WORKBENCH_GPU_SCRIPT` names an address that tells them.

`GET` of it answers `{"devices": [...], "driver_version": ..., "reason": ...}`, as
`workbench.testing.ScriptedGpu` does.  A device has the figures of `GpuDevice`; those it leaves out
are unknown, by its `reason`.  The real GPUs of the machine are not looked at then.
"""

from __future__ import annotations

import json
import urllib.request
from typing import Any

import msgspec

from workbench.server.gpu.base import FIGURES, DeviceKind, GpuDevice, GpuProcess, GpuReport

ENVIRONMENT = "WORKBENCH_GPU_SCRIPT"
SOURCE = "script"
TIMEOUT_S = 2.0


class _Device(msgspec.Struct):
    id: str | None = None
    name: str | None = None
    kind: DeviceKind = "nvidia"
    total_bytes: int | None = None
    used_bytes: int | None = None
    free_bytes: int | None = None
    utilization_pct: float | None = None
    temperature_c: float | None = None
    power_w: float | None = None
    processes: list[GpuProcess] | None = None
    reason: str | None = None


class _Answer(msgspec.Struct):
    devices: list[_Device] = []
    driver_version: str | None = None
    reason: str | None = None


class ScriptedReader:
    """Reads the devices of a script over HTTP.

    Args:
        url: Its whole address.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        # Without the environment's proxies, which httpx and urllib use even for loopback.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def read(self) -> GpuReport:
        """Ask the script; one that does not answer or makes no sense is a reason."""
        try:
            with self._opener.open(self._url, timeout=TIMEOUT_S) as answer:
                said = msgspec.convert(json.load(answer), _Answer)
        except (OSError, ValueError, msgspec.MsgspecError) as exc:
            # URLError is an OSError.
            reason = f"the scripted GPU reader gave no answer: {exc}"
            return GpuReport(reason=reason, failed=True)
        devices = tuple(_device(row, index) for index, row in enumerate(said.devices))
        why = said.reason or (None if devices else "the script lists no GPU")
        return GpuReport(devices, said.driver_version, why)

    def close(self) -> None:
        """Nothing is kept open."""


def _device(row: _Device, index: int) -> GpuDevice:
    facts: dict[str, Any] = {name: getattr(row, name) for name in FIGURES}
    if row.processes is not None:
        facts["processes"] = tuple(row.processes)
    known = {name: SOURCE for name, value in facts.items() if value is not None}
    missing = {name: _reason(row, name) for name in FIGURES if name not in known}
    return GpuDevice(
        index,
        row.id or f"script-{index}",
        row.name,
        row.kind,
        sources=known,
        reasons=missing,
        **facts,
    )


def _reason(row: _Device, figure: str) -> str:
    """Return why a figure is missing; the reason may be one for all, or `figure: why; ...`."""
    said = row.reason or "the script does not tell"
    for part in said.split("; "):
        name, colon, why = part.partition(": ")
        if colon and name == figure:
            return why
    return said
