"""One sampler of all devices for everybody, the low-memory warning, and the witness of release."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from workbench.server.gpu.base import FIGURES, GpuDevice, GpuReader, GpuReport
from workbench.server.gpu.guard import GuardedReader
from workbench.server.gpu.warning import LowMemory, Thresholds
from workbench.units import format_bytes

log = logging.getLogger("workbench")

Activity = Literal["busy", "idle", "nobody"]
Place = Literal["gpu", "host", "declared"]
"""Where a backend keeps its models: this machine's GPUs (its memory, when there is none), this
machine's memory, or a host of which only the declared size is known."""

FAST_S = 0.5
SLOW_S = 30.0
# Somebody who asked for the figures will ask again: a panel does every 2 s.
WATCHED_S = 5.0
READ_TIMEOUT_S = 2.0
HISTORY = 1200
# Callers that come together share a reading.
SHARED_S = 0.1


@dataclass(frozen=True, slots=True)
class NextLoad:
    """A load that would not fit on its device."""

    model: str
    backend: str
    needed_bytes: int | None
    free_bytes: int | None
    total_bytes: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class GpuSnapshot:
    """All devices at one moment.

    Attributes:
        taken_at: Seconds since 1970.
        devices: GPUs first, then the host's memory, then declared hosts.
        driver_version: The driver of the GPUs.
        reason: Why there is no GPU among them.
        failed: Whether GPUs may be there that could not be read.
        low: The devices whose low-memory warning stands.
        next_load: The load that would be split between GPU and CPU.
    """

    taken_at: float
    devices: tuple[GpuDevice, ...]
    driver_version: str | None = None
    reason: str | None = None
    failed: bool = False
    low: tuple[GpuDevice, ...] = ()
    next_load: NextLoad | None = None

    @property
    def gpus(self) -> tuple[GpuDevice, ...]:
        """The GPUs of this machine."""
        return tuple(item for item in self.devices if item.kind not in ("host", "declared"))

    def devices_of(self, backend: str, place: Place) -> tuple[tuple[GpuDevice, ...], str | None]:
        """Return the devices that hold a backend's models, or none and why they are not known."""
        if place == "declared":
            return tuple(item for item in self.devices if item.backend == backend), None
        if place == "gpu" and self.gpus:
            return self.gpus, None
        if place == "gpu" and self.failed:
            return (), self.reason
        # A Mac has one memory for both.
        own = [item for item in self.devices if item.kind in ("host", "apple")]
        return tuple(own[-1:]), None


@dataclass(frozen=True, slots=True)
class GpuSample:
    """One device at one moment, for charts and recorders; figures as in `GpuDevice`."""

    taken_at: float
    device: str
    total_bytes: int | None
    used_bytes: int | None
    free_bytes: int | None
    utilization_pct: float | None
    temperature_c: float | None
    power_w: float | None


class GpuMonitor:
    """Reads devices for everybody.

    2 Hz while models work or somebody looks, every 30 s while models are loaded or somebody is
    connected, not at all with nobody.

    Args:
        gpus: Reads this machine's GPUs.
        host: Reads this machine's memory.
        declared: Reader of each remote backend.
        places: Where each backend keeps its models.
        emit: Takes an event: its name, then fields.
        activity: What the server does now.
        thresholds: The limits of the warning as they are now.
    """

    def __init__(
        self,
        gpus: GpuReader,
        host: GpuReader,
        *,
        declared: Mapping[str, GpuReader],
        places: Mapping[str, Place],
        emit: Callable[..., None],
        activity: Callable[[], Activity] = lambda: "nobody",
        thresholds: Callable[[], Thresholds] = Thresholds,
        timeout_s: float = READ_TIMEOUT_S,
    ) -> None:
        self._gpus = GuardedReader(gpus, timeout_s=timeout_s)
        self._host = GuardedReader(host, timeout_s=timeout_s)
        self._declared = [GuardedReader(item, timeout_s=timeout_s) for item in declared.values()]
        self.places = dict(places)
        self._emit = emit
        self.activity = activity
        self._thresholds = thresholds
        self.next_load: Callable[[GpuSnapshot], NextLoad | None] = lambda _: None
        self.latest: GpuSnapshot | None = None
        self._latest_at = -math.inf
        self._seen_gpus: tuple[GpuDevice, ...] = ()
        self._low = LowMemory()
        self._offloads: str | None = None
        self._history: deque[GpuSample] = deque(maxlen=HISTORY)
        self._recorders: list[Callable[[GpuSnapshot], None]] = []
        self._reading: asyncio.Task[GpuSnapshot] | None = None
        self._sampler: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._watched_until = 0.0

    # ---- readings

    async def snapshot(self, *, max_age_s: float = SHARED_S) -> GpuSnapshot:
        """Return a reading that is at most this old; callers at the same time share one."""
        if self.latest is not None and time.monotonic() - self._latest_at <= max_age_s:
            return self.latest
        if self._reading is None:
            self._reading = asyncio.create_task(self._read())
            self._reading.add_done_callback(self._read_ended)
        return await asyncio.shield(self._reading)

    def _read_ended(self, task: asyncio.Task[GpuSnapshot]) -> None:
        self._reading = None
        if not task.cancelled() and task.exception() is not None:
            log.error("the devices could not be read", exc_info=task.exception())

    async def _read(self) -> GpuSnapshot:
        gpus, host, *declared = await asyncio.gather(
            self._gpus.read(), self._host.read(), *(item.read() for item in self._declared)
        )
        if gpus.devices:
            self._seen_gpus = gpus.devices
        elif self._seen_gpus:
            # They were there: a driver that lists none now has lost them.
            gpus = replace(gpus, failed=True)
        known = gpus.devices or _unread(self._seen_gpus, gpus)
        # A Mac's GPU is the host's memory already.
        unified = any(device.kind == "apple" for device in known)
        devices = (
            *known,
            *(() if unified else host.devices),
            *(device for report in declared for device in report.devices),
        )
        taken = GpuSnapshot(time.time(), devices, gpus.driver_version, gpus.reason, gpus.failed)
        taken = self._judge(taken)
        self.latest, self._latest_at = taken, time.monotonic()
        self._history.extend(_samples(taken))
        for record in list(self._recorders):
            try:
                record(taken)
            except Exception:
                # A recorder that fails must not take the figures from everybody.
                log.exception("a recorder of device figures failed")
        return taken

    def _judge(self, taken: GpuSnapshot) -> GpuSnapshot:
        """Add the warnings and tell what changed."""
        limits = self._thresholds()
        for device in taken.devices:
            change = self._low.update(device, limits)
            if change is not None:
                self._tell(change, device)
        low = tuple(device for device in taken.devices if self._low.is_low(device))
        taken = replace(taken, low=low)
        coming = self._coming(taken)
        if coming is not None and coming.model != self._offloads:
            self._emit(
                "next_load_offloads",
                level=logging.WARNING,
                model=coming.model,
                backend=coming.backend,
                needed_bytes=coming.needed_bytes,
                free_bytes=coming.free_bytes,
                reason=coming.reason,
                actor="server",
            )
        self._offloads = None if coming is None else coming.model
        return replace(taken, next_load=coming)

    def _coming(self, taken: GpuSnapshot) -> NextLoad | None:
        try:
            return self.next_load(taken)
        except Exception:
            log.exception("the next load could not be judged")
            return None

    def _tell(self, change: str, device: GpuDevice) -> None:
        low = change == "memory_low"
        free, total = format_bytes(device.free_bytes), format_bytes(device.total_bytes)
        self._emit(
            change,
            level=logging.WARNING if low else logging.INFO,
            device=device.id,
            name=device.name,
            free_bytes=device.free_bytes,
            total_bytes=device.total_bytes,
            reason=f"{free} of {total} are free",
            actor="server",
        )

    async def free_bytes(self, backend: str) -> int | None:
        """Return what is free now where a backend keeps its models; the witness of a release.

        `None` when nobody can see it, as on a remote host; `why_unknown` says why.
        """
        taken = await self.snapshot()
        if self.why_unknown(backend) is not None:
            return None
        devices, _ = taken.devices_of(backend, self.places[backend])
        return sum(device.free_bytes or 0 for device in devices)

    def why_unknown(self, backend: str) -> str | None:
        """Return why the free memory of a backend cannot be seen, or `None` when it can."""
        place = self.places.get(backend)
        if place is None or place == "declared":
            return "the host is remote: its memory cannot be read from here"
        if self.latest is None:
            return "nothing was read yet"
        devices, reason = self.latest.devices_of(backend, place)
        if not devices:
            return reason or "there is no device"
        missing = [item for item in devices if item.free_bytes is None]
        if missing:
            return missing[0].reasons.get("free_bytes") or missing[0].reason or "it is not told"
        return None

    # ---- history and recorders

    def history(self, seconds: float) -> list[GpuSample]:
        """Return the samples of the last seconds, at most `HISTORY` of them, oldest first."""
        since = time.time() - seconds
        return [sample for sample in self._history if sample.taken_at >= since]

    def subscribe(self, record: Callable[[GpuSnapshot], None]) -> Callable[[], None]:
        """Call `record` with every reading; it must not block. Returns how to stop that.

        A recorder is nobody who looks: it does not make the sampler run.
        """
        self._recorders.append(record)
        return lambda: self._recorders.remove(record)

    # ---- the sampler

    def wake(self, *, watched: bool = False) -> None:
        """Say that something begins, so that the sampler looks whether to run.

        Args:
            watched: Whether somebody looks at the figures.
        """
        if watched:
            self._watched_until = time.monotonic() + WATCHED_S
        if self._sampler is None:
            self._sampler = asyncio.create_task(self._sample())
        self._wake.set()

    async def _sample(self) -> None:
        while True:
            self._wake.clear()
            interval = self._interval_s()
            due = self._latest_at + interval if interval is not None else None
            if due is not None and due <= time.monotonic():
                await self._sample_once()
                continue
            # A request that is there may get its model at any moment.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if interval is None else FAST_S):
                    await self._wake.wait()

    async def _sample_once(self) -> None:
        try:
            await self.snapshot(max_age_s=0)
        except Exception:
            # It is in the log; the next reading may do better.
            await asyncio.sleep(FAST_S)

    def _interval_s(self) -> float | None:
        activity = self.activity()
        if activity == "busy" or time.monotonic() < self._watched_until:
            return FAST_S
        return SLOW_S if activity == "idle" else None

    async def close(self) -> None:
        """Read no more and close the readers."""
        tasks = [task for task in (self._sampler, self._reading) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        readers = (self._gpus, self._host, *self._declared)
        await asyncio.gather(*(reader.close() for reader in readers))


def _unread(seen: Iterable[GpuDevice], report: GpuReport) -> tuple[GpuDevice, ...]:
    """Return devices that were there, without the figures nobody could read now."""
    why = dict.fromkeys(FIGURES, report.reason or "not read")
    nothing: dict[str, Any] = dict.fromkeys(FIGURES)
    return tuple(replace(device, sources={}, reasons=why, **nothing) for device in seen)


def _samples(taken: GpuSnapshot) -> list[GpuSample]:
    return [
        GpuSample(
            taken.taken_at,
            device.id,
            device.total_bytes,
            device.used_bytes,
            device.free_bytes,
            device.utilization_pct,
            device.temperature_c,
            device.power_w,
        )
        for device in taken.devices
    ]
