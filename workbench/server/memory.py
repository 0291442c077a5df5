"""The devices and the advisor of one server, put together from its configuration."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from workbench.config import Config, is_this_machine
from workbench.server.backends.base import Backend, ModelEntry, RunningModel
from workbench.server.catalog import Catalog
from workbench.server.events import Events
from workbench.server.gpu.base import GpuDevice
from workbench.server.gpu.declared import DeclaredReader, Held
from workbench.server.gpu.host import HostReader
from workbench.server.gpu.local import local_reader
from workbench.server.gpu.monitor import GpuMonitor, GpuSnapshot, Place
from workbench.server.gpu.warning import Thresholds
from workbench.server.residency.fits import Fits
from workbench.server.residency.manager import Residency
from workbench.server.state import State


def build_memory(
    config: Config,
    backends: Mapping[str, Backend],
    *,
    residency: Residency,
    catalog: Catalog,
    state: State,
    events: Events,
    budget_bytes: Callable[[str], int | None],
    thresholds: Callable[[], Thresholds],
) -> Fits:
    """Make the sampler of devices and the advisor over it; nothing is read yet.

    The sampler rests until somebody gives it an `activity`.
    """
    places: dict[str, Place] = {
        entry.name: _place(entry.kind, entry.url, entry.vram_bytes) for entry in config.backends
    }
    found: list[Fits] = []

    def held(name: str) -> Held:
        running = found[0].last_loaded(name)
        if running is None:
            return Held(None, "what it has loaded is not known yet")
        return Held(sum((item.vram_bytes or 0) for item in running))

    def coming() -> tuple[Backend, ModelEntry] | None:
        last = catalog.last_known(state.last_model) if state.last_model else None
        return None if last is None else (last.backend, last.entry)

    monitor = GpuMonitor(
        local_reader(),
        HostReader(),
        declared={
            entry.name: DeclaredReader(entry.name, entry.vram_bytes, partial(held, entry.name))
            for entry in config.backends
            if places[entry.name] == "declared"
        },
        places=places,
        emit=events.emit,
        thresholds=thresholds,
    )
    fits = Fits(
        monitor,
        state,
        running=residency.running,
        budget=lambda name: budget_bytes(name) if places.get(name) == "host" else None,
        coming=coming,
    )
    found.append(fits)
    monitor.next_load = fits.next_load
    return fits


def _place(kind: str, url: str | None, vram_bytes: int | None) -> Place:
    """Return where a backend keeps its models.

    A size that is declared is believed: an address on loopback may be the end of a tunnel.
    """
    if kind == "llamacpp":
        return "host"
    return "gpu" if vram_bytes is None and is_this_machine(url) else "declared"


class MonitorWitness:
    """Says what the sampler of devices sees; implements residency's `MemoryWitness`.

    The memory of this machine is no witness of what a GPU holds: without a GPU that can be read
    nobody knows.
    """

    def __init__(self, monitor: GpuMonitor) -> None:
        self._monitor = monitor

    async def free_bytes(self, backend: Backend) -> int | None:
        """Return the free memory of the GPUs that a backend uses."""
        if not await self._gpus(backend):
            return None
        return await self._monitor.free_bytes(backend.name)

    async def total_bytes(self, backend: Backend) -> int | None:
        """Return their memory in all."""
        sizes = [device.total_bytes for device in await self._gpus(backend)]
        known = [size for size in sizes if size is not None]
        return sum(known) if known and len(known) == len(sizes) else None

    async def _gpus(self, backend: Backend) -> tuple[GpuDevice, ...]:
        place = self._monitor.places.get(backend.name)
        if place != "gpu":
            return ()
        taken = await self._monitor.snapshot()
        devices, _ = taken.devices_of(backend.name, place)
        return tuple(item for item in devices if item.kind not in ("host", "declared"))


def models_on(
    device: GpuDevice,
    taken: GpuSnapshot,
    places: Mapping[str, Place],
    loaded: Iterable[tuple[Backend, Sequence[RunningModel]]],
) -> list[dict[str, Any]]:
    """Return name, backend and bytes of the models on a device.

    Of several GPUs nobody tells how they share a model: its bytes are `None` then.
    """
    models: list[dict[str, Any]] = []
    for backend, running in loaded:
        devices, _ = taken.devices_of(backend.name, places.get(backend.name, "declared"))
        if device not in devices:
            continue
        on_gpu = device.kind not in ("host", "apple")
        for model in running:
            size = model.vram_bytes if on_gpu else model.rss_bytes or model.size_bytes
            known = size if len(devices) == 1 else None
            models.append({"name": model.name, "backend": backend.name, "bytes": known})
    return models
