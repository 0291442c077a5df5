"""A scripted reader of GPUs: figures that follow a scripted Ollama, over HTTP."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from workbench.testing.controls import MemoryControls
from workbench.testing.http import Exchange
from workbench.testing.scripts import Reply
from workbench.testing.server import Routes, ScriptedServer

_FIRST_PID = 4000


@dataclasses.dataclass(frozen=True)
class FakeGpu:
    """One device and what its driver says.

    Args:
        total_bytes: Its memory; ``None`` when the driver does not tell.
        follows: The scripted Ollama whose models lie in it; one with a memory.
        other_bytes: Memory that other processes hold; of a device that follows a server it is
            the server's ``other_bytes``, so that its loads find it taken.
        id: Stable name; made from the position when empty.
        name: What the product is called.
        kind: ``nvidia``, ``amd``, ``apple`` or ``host``.
        utilization_pct: 0 to 100.
        temperature_c: Degrees Celsius.
        power_w: Watts.
        tells_processes: Whether it lists the processes that hold memory; else it is null.
        not_supported: Names of figures that the driver refuses to tell: null, and named in
            the reason.
        reason: Why the device tells nothing at all, such as ``GPU is lost``.
    """

    total_bytes: int | None = 8 * 1024**3
    follows: MemoryControls | None = None
    other_bytes: int = 0
    id: str = ""
    name: str = "Scripted GPU"
    kind: str = "nvidia"
    utilization_pct: float | None = 0.0
    temperature_c: float | None = 40.0
    power_w: float | None = 20.0
    tells_processes: bool = True
    not_supported: Sequence[str] = ()
    reason: str = ""

    def figures(self, index: int) -> dict[str, Any]:
        """Return the device as the reader's answer has it."""
        said = {"id": self.id or f"GPU-{index}", "name": self.name, "kind": self.kind}
        if self.reason:
            return said | dict.fromkeys(_FIGURES) | {"reason": self.reason}
        holders = {} if self.follows is None else self.follows.journal.holders
        used = sum(holders.values()) + self.other_bytes
        found: dict[str, Any] = {
            "total_bytes": self.total_bytes,
            "used_bytes": used,
            "free_bytes": None if self.total_bytes is None else max(0, self.total_bytes - used),
            "utilization_pct": self.utilization_pct,
            "temperature_c": self.temperature_c,
            "power_w": self.power_w,
            "processes": self._processes(holders) if self.tells_processes else None,
        }
        found |= dict.fromkeys(self.not_supported)
        refused = [f"{figure}: Not Supported" for figure in self.not_supported]
        return said | found | {"reason": "; ".join(refused) or None}

    def _processes(self, holders: Mapping[int, int]) -> list[dict[str, Any]]:
        """Return one process per runner, and one for all others."""
        found = [(_FIRST_PID + number, "llama-server", held) for number, held in holders.items()]
        if self.other_bytes:
            found.append((_FIRST_PID, "other", self.other_bytes))
        return [{"pid": pid, "name": name, "used_bytes": held} for pid, name, held in found]


_FIGURES = (
    "total_bytes",
    "used_bytes",
    "free_bytes",
    "utilization_pct",
    "temperature_c",
    "power_w",
    "processes",
)


class ScriptedGpu(ScriptedServer):
    """A driver of GPUs that answers ``GET /gpu`` with what a test wants it to say.

    The server of the workbench reads it in place of a driver when ``WORKBENCH_GPU_SCRIPT``
    has its address: ``environment`` is that variable. The operation is ``gpu``; delays and
    faults are those of any reply.

    Args:
        devices: Its devices.
        follows: For one device with the memory of this server, which it follows.
        driver_version: What the driver calls itself.
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
    """

    def __init__(
        self,
        *devices: FakeGpu,
        follows: MemoryControls | None = None,
        driver_version: str | None = "580.00",
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        super().__init__(reply=Reply(), host=host, port=port)
        if follows is not None:
            device = FakeGpu(follows.memory_bytes, follows, follows.other_bytes)
            devices = (*devices, device)
        for device in devices:
            _share(device)
        self._devices = list(devices)
        self._driver_version = driver_version
        self._reason: str | None = None if devices else "the driver lists no GPU"
        self._change = threading.Lock()

    @property
    def environment(self) -> Mapping[str, str]:
        """The environment variable that makes a server of the workbench read it."""
        return {"WORKBENCH_GPU_SCRIPT": f"{self.url}/gpu"}

    def change(self, index: int = 0, **figures: Any) -> None:
        """Give a device other values for some of its fields.

        Args:
            index: Which device.
            figures: Fields of ``FakeGpu``.
        """
        with self._change:
            device = dataclasses.replace(self._devices[index], **figures)
            _share(device)
            self._devices[index] = device

    def fail(self, reason: str | None) -> None:
        """List no device and say why, as a driver that cannot be loaded; ``None`` ends that."""
        self._reason = reason

    def read(self) -> dict[str, Any]:
        """Return what a reader is told now."""
        with self._change:
            devices = list(enumerate(self._devices))
        if self._reason is not None:
            return {"devices": [], "driver_version": None, "reason": self._reason}
        found = [_followed(device).figures(index) for index, device in devices]
        return {"devices": found, "driver_version": self._driver_version, "reason": None}

    def _routes(self) -> Routes:
        return {"/gpu": {"GET": ("gpu", self._gpu)}}

    def _text_operations(self) -> frozenset[str]:
        return frozenset()

    def _error(self, status: int, message: str) -> Any:
        return {"error": message}

    async def _gpu(self, exchange: Exchange, reply: Reply) -> None:
        await self._deliver(exchange, reply, self.read())


def _share(device: FakeGpu) -> None:
    """Let the followed server find the memory of the other processes taken."""
    if device.follows is not None:
        device.follows.other_bytes = device.other_bytes


def _followed(device: FakeGpu) -> FakeGpu:
    if device.follows is None:
        return device
    return dataclasses.replace(device, other_bytes=device.follows.other_bytes)
