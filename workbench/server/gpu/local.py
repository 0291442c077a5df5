"""The GPUs of this machine, whoever made them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace

from workbench.server.gpu.amd import AmdReader
from workbench.server.gpu.apple import AppleReader
from workbench.server.gpu.base import GpuReader, GpuReport
from workbench.server.gpu.nvml import NvmlReader
from workbench.server.gpu.scripted import ENVIRONMENT, ScriptedReader


class LocalReader:
    """Several readers as one; what NVIDIA's driver says is the reason when nobody sees a GPU.

    Args:
        readers: The readers, the one whose reason counts first.
    """

    def __init__(self, readers: Sequence[GpuReader]) -> None:
        self._readers = tuple(readers)

    def read(self) -> GpuReport:
        """Ask every reader and number the devices anew."""
        reports = [reader.read() for reader in self._readers]
        devices = [device for report in reports for device in report.devices]
        drivers = [report.driver_version for report in reports if report.driver_version]
        reasons = [report.reason for report in reports if report.reason]
        return GpuReport(
            tuple(replace(device, index=index) for index, device in enumerate(devices)),
            ", ".join(drivers) or None,
            None if devices else next(iter(reasons), "there is no GPU"),
            failed=any(report.failed for report in reports),
        )

    def close(self) -> None:
        """Close every reader."""
        for reader in self._readers:
            reader.close()


def local_reader(env: Mapping[str, str] | None = None) -> GpuReader:
    """Return the reader of this machine's GPUs, or the one a test scripts."""
    script = (os.environ if env is None else env).get(ENVIRONMENT)
    if script:
        return ScriptedReader(script)
    return LocalReader([NvmlReader(), AmdReader(), AppleReader()])


def read_gpus() -> GpuReport:
    """Ask every GPU of this machine once; never raises."""
    reader = local_reader()
    try:
        return reader.read()
    finally:
        reader.close()
