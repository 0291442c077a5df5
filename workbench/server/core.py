"""What the server is made of, put together from the configuration."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

from workbench import resources
from workbench.config import EMBEDDED, BackendConfig, Config, is_loopback
from workbench.metrics.layout import metrics_dir
from workbench.server.backends.base import Backend, ModelEntry
from workbench.server.backends.llamacpp import LlamaCppBackend
from workbench.server.backends.ollama import OllamaBackend
from workbench.server.backends.openai import OpenAIBackend
from workbench.server.catalog import Catalog
from workbench.server.engine.library import ModelLibrary
from workbench.server.events import Events
from workbench.server.gpu.monitor import Activity, GpuMonitor, GpuSnapshot
from workbench.server.gpu.warning import Thresholds
from workbench.server.memory import MonitorWitness, build_memory, models_on
from workbench.server.recording.alerts import AlertBoard
from workbench.server.recording.keeper import Keeper
from workbench.server.recording.recorder import Recorder
from workbench.server.residency.fits import Fits
from workbench.server.residency.manager import Residency
from workbench.server.residency.parts import Estimate, Limits, Need, need_by_files
from workbench.server.settings import Settings
from workbench.server.state import State
from workbench.units import sortable_id, utc_now

# A load does not wait longer for what its model will take: then its files say it.
ESTIMATE_S = 5.0


@dataclass
class Core:
    """The parts of one server; `close` gives everything back."""

    config: Config
    token: str = field(repr=False)
    auto_started: bool
    events: Events
    state: State
    residency: Residency
    backends: dict[str, Backend]
    catalog: Catalog
    settings: Settings
    recorder: Recorder
    gpu: GpuMonitor
    fits: Fits
    url: str = ""
    boot_id: str = field(default_factory=sortable_id)
    started_at: str = field(default_factory=lambda: utc_now().isoformat())
    requests: int = 0
    last_active: float = field(default_factory=time.monotonic)
    keeper: Keeper = field(init=False)
    _asking: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.keeper = Keeper(self.recorder, self.config.metrics_retention_days, self)

    @property
    def idle_exit_s(self) -> float | None:
        """Seconds without work after which it ends; `None` is never.

        A server that a person started ends by itself only when that was asked for.
        """
        asked = self.config.sources["server.idle_exit_s"] == "flag"
        return self.config.idle_exit_s or None if self.auto_started or asked else None

    @property
    def busy(self) -> bool:
        """Whether somebody would miss the server now."""
        return bool(
            self.requests
            or self.residency.in_flight
            or self.events.listeners
            or self.residency.needed
        )

    def activity(self) -> Activity:
        """What the sampler of devices goes by."""
        residents = [item for name in self.backends for item in self.residency.residents(name)]
        if self.residency.in_flight or any(item.state != "idle" for item in residents):
            return "busy"
        return "idle" if residents or self.busy else "nobody"

    def idle_seconds(self) -> float:
        """Seconds since the last request ended; 0 while one runs or somebody listens."""
        return 0.0 if self.busy else time.monotonic() - self.last_active

    async def leave_out_self(self) -> None:
        """Drop backends that are this server: OLLAMA_HOST may name it for other programs."""
        own = urlsplit(self.url)
        for name, backend in list(self.backends.items()):
            if not isinstance(backend, OllamaBackend):
                continue
            parts = urlsplit(backend.url)
            if parts.port == own.port and is_loopback(parts.hostname or ""):
                del self.backends[name]
                self.residency.remove(name)
                await backend.close()
                self.events.emit("backend_left_out", backend=name, reason="it is this server")

    def start(self) -> None:
        """Begin what goes on by itself."""
        self.residency.start()
        self.keeper.start()

    def record_devices(self, taken: GpuSnapshot) -> None:
        """Record a reading, with the models that were seen in memory last."""
        loaded = [
            (backend, self.fits.last_loaded(name) or ()) for name, backend in self.backends.items()
        ]
        for device in taken.devices:
            models = models_on(device, taken, self.gpu.places, loaded)
            self.recorder.device(device, taken.taken_at, models)

    def watch_backends(self) -> AbstractContextManager[None]:
        """Keep the backends' states fresh while the context is open."""
        return self.residency.watched()

    async def read_devices(self) -> None:
        """Take a reading of the devices, which the recorder gets."""
        await self.gpu.snapshot(max_age_s=1.0)

    async def close(self) -> None:
        """End loads and engines and close connections."""
        await self.keeper.close()
        await self.catalog.close()
        await self.fits.close()
        await self.gpu.close()
        await self.residency.close()
        for backend in self.backends.values():
            await backend.close()
        for task in self._asking.values():
            task.cancel()
        await asyncio.gather(*self._asking.values(), return_exceptions=True)
        await asyncio.to_thread(self.recorder.close)

    def ask_version(self, backend: Backend) -> None:
        """Learn the version of a backend for the records, once, beside the request."""
        name = backend.name
        if name not in self._asking and self.recorder.version_of(name) is None:
            self._asking[name] = asyncio.create_task(self._ask_version(backend))

    async def _ask_version(self, backend: Backend) -> None:
        try:
            facts = await backend.facts()
            self.recorder.remember_version(backend.name, facts.version)
        finally:
            del self._asking[backend.name]


def build_core(
    config: Config,
    *,
    token: str,
    auto_started: bool = False,
    socket_folder: Path | None = None,
) -> Core:
    """Make the parts of a server; nothing is started and nothing is connected yet."""
    events = Events()
    state = State(config.data_dir)
    residency = Residency(
        events,
        state,
        interactive_wait_s=config.queue_interactive_wait_s,
        batch_wait_s=config.queue_batch_wait_s,
    )
    backends = _make_backends(config, residency, socket_folder)
    quiet = [
        entry.name
        for entry in config.backends
        if entry.kind != "llamacpp" and entry.source == "found"
    ]
    catalog = Catalog(backends, residency, state, default_model=config.default_model, quiet=quiet)
    settings = Settings(config, state, residency, events)
    fits = build_memory(
        config,
        backends,
        residency=residency,
        catalog=catalog,
        state=state,
        events=events,
        budget_bytes=lambda name: residency.hosts[name].limits.budget_bytes,
        thresholds=lambda: Thresholds(
            settings.value("gpu.warn_pct"),
            settings.value("gpu.warn_bytes"),
            settings.value("gpu.warn_clear_pct"),
        ),
    )
    residency.tell_what_is_loaded(fits.saw)
    residency.use_witness(MonitorWitness(fits.monitor), _estimate_by(fits))
    recorder = _make_recorder(config, events)
    core = Core(
        config,
        token,
        auto_started,
        events,
        state,
        residency,
        backends,
        catalog,
        settings,
        recorder,
        fits.monitor,
        fits,
    )
    core.gpu.activity = core.activity
    core.gpu.subscribe(core.record_devices)
    return core


def _make_backends(
    config: Config, residency: Residency, socket_folder: Path | None
) -> dict[str, Backend]:
    """Return the configured backends by name, each known to residency."""
    backends: dict[str, Backend] = {}
    for entry in config.backends:
        if entry.kind == "llamacpp":
            embedded = embedded_backend(config, socket_folder, name=entry.name)
            embedded.on_exit = lambda model, embed, backend=embedded: residency.forget(
                backend, model, embed=embed
            )
            backends[entry.name] = embedded
        else:
            backends[entry.name] = remote_backend(entry)
        residency.add(backends[entry.name], limits_of(config, entry))
    return backends


def _make_recorder(config: Config, events: Events) -> Recorder:
    """Return the recorder, which hears every event from now on."""
    recorder = Recorder(
        metrics_dir(config.data_dir),
        record_text=config.metrics_record_text,
        fsync=config.metrics_fsync,
        chunk_gaps=config.metrics_chunk_gaps,
        emit=events.emit,
        board=AlertBoard(config.alerts),
    )
    events.subscribe(recorder.event)
    return recorder


def _estimate_by(fits: Fits) -> Estimate:
    """Return what estimates a load: the advisor where it knows how; else the files."""

    async def estimate(backend: Backend, entry: ModelEntry, options: Mapping[str, Any]) -> Need:
        if backend.kind in ("ollama", "llamacpp"):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ESTIMATE_S):
                    return await fits.need(backend, entry, options)
        return need_by_files(backend, entry)

    return estimate


def limits_of(config: Config, entry: BackendConfig) -> Limits:
    """Return what holds for a backend's memory, as configured."""
    if entry.kind != "llamacpp":
        return Limits(entry.swap, entry.vram_bytes, concurrency=config.queue_concurrency)
    return Limits(
        entry.swap,
        config.engine_memory_bytes or entry.vram_bytes or psutil.virtual_memory().total,
        config.engine_max_loaded,
        config.engine_keep_alive_s,
        config.queue_concurrency,
    )


def remote_backend(entry: BackendConfig) -> OllamaBackend | OpenAIBackend:
    """Return the backend of a host, as configured."""
    kind = OpenAIBackend if entry.kind == "openai" else OllamaBackend
    return kind(
        entry.name, entry.url or "", token_env=entry.token_env, headers_env=entry.headers_env
    )


def embedded_backend(
    config: Config, socket_folder: Path | None = None, *, name: str = EMBEDDED
) -> LlamaCppBackend:
    """Return the backend for GGUF files, as configured."""
    library = ModelLibrary(config.engine_models_dir, bundled_dirs=(resources.models_dir(),))
    found = shutil.which(config.engine_llama_server)
    return LlamaCppBackend(
        library,
        name=name,
        engine=config.engine_kind,
        llama_server=Path(found) if found else None,
        load_timeout_s=config.engine_load_timeout_s,
        socket_folder=socket_folder,
    )
