"""What the devices that hold models tell: memory, load, temperature, power, processes."""

from workbench.server.gpu.base import GpuDevice, GpuProcess, GpuReader, GpuReport
from workbench.server.gpu.local import read_gpus

__all__ = ["GpuDevice", "GpuProcess", "GpuReader", "GpuReport", "read_gpus"]
