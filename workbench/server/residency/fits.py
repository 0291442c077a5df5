"""Which models fit: the advisor with what it needs, fetched once and kept.

Metadata are asked for once per digest (a model's `show` with arrays is megabytes), what is loaded
and what is free are shared with everybody who asks.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from workbench.errors import WorkbenchError
from workbench.server.backends.base import Backend, ModelEntry, RunningModel
from workbench.server.gpu.base import GpuDevice
from workbench.server.gpu.monitor import GpuMonitor, GpuSnapshot, NextLoad
from workbench.server.names import same_name
from workbench.server.residency import advisor
from workbench.server.residency.advisor import Estimate, Fit, Measured, Offload, Part, Room
from workbench.server.residency.architecture import ModelFacts, facts_of
from workbench.server.residency.parts import OLLAMA_SHARE, Need, need_by_files
from workbench.server.state import State

log = logging.getLogger("workbench")

SHOW_TIMEOUT_S = 20.0
# A model whose metadata could not be had is asked about again after this.
AGAIN_S = 60.0
# How old what is loaded may be in a list before it is asked for anew.
LOADED_AGE_S = 2.0
# A host whose `ps` is blocked holds up nobody for longer.
LOADED_WAIT_S = 2.0
DEVICES_AGE_S = 2.0
# A list of fifty models must not fetch fifty answers of megabytes at once.
AT_ONCE = 2

_NUM_CTX = re.compile(r"^\s*num_ctx\s+(\d+)\s*$", re.MULTILINE)

Running = Callable[[Backend], Awaitable[list[RunningModel]]]


@dataclass(frozen=True, slots=True)
class Known:
    """What `show` told about a model.

    Attributes:
        facts: `None` when the metadata do not tell, with `problem`.
        num_ctx: The context that its parameters ask for.
        at: When it was asked, on the monotonic clock.
    """

    facts: ModelFacts | None
    num_ctx: int | None
    problem: str
    at: float


class Fits:
    """Answers whether models fit; a list's rows without waiting for anybody.

    Args:
        running: Returns what a backend has in memory, one answer for everybody.
        budget: Bytes that a backend's models may take together; `None`: as many as there are.
        coming: The model that will be loaded next, if anybody can tell.
    """

    def __init__(
        self,
        monitor: GpuMonitor,
        state: State,
        *,
        running: Running,
        budget: Callable[[str], int | None],
        coming: Callable[[], tuple[Backend, ModelEntry] | None] = lambda: None,
    ) -> None:
        self.monitor = monitor
        self._state = state
        self._ask_running = running
        self._budget = budget
        self._coming = coming
        self._known: dict[str, Known] = {}
        self._fetching: dict[str, asyncio.Task[Known]] = {}
        self._few = asyncio.Semaphore(AT_ONCE)
        self._loaded: dict[str, tuple[float, list[RunningModel]]] = {}
        self._refreshing: dict[str, asyncio.Task[None]] = {}
        self._reading: asyncio.Task[GpuSnapshot] | None = None

    # ---- answers

    async def fit(self, backend: Backend, entry: ModelEntry, *, num_ctx: int | None = None) -> Fit:
        """Return whether a model fits, after asking what is not known yet.

        Args:
            num_ctx: The context it would be loaded with; `None`: the one it would get.
        """
        if entry.remote:
            return _elsewhere()
        known = await self._facts(backend, entry)
        taken = await self.monitor.snapshot(max_age_s=DEVICES_AGE_S)
        await self._refresh(backend)
        return self._fit(backend, entry, known, taken, num_ctx)

    def fit_of(
        self, backend: Backend, entry: ModelEntry, *, taken: GpuSnapshot | None = None
    ) -> Fit:
        """Return whether a model fits as far as it is known, without waiting.

        What is missing or old is fetched in the background, for the next time.
        """
        if entry.remote:
            return _elsewhere()
        known = self._known.get(_key(backend, entry))
        if known is None or (known.facts is None and time.monotonic() - known.at > AGAIN_S):
            self._fetch(backend, entry)
        at, _ = self._loaded.get(backend.name, (float("-inf"), []))
        if time.monotonic() - at > LOADED_AGE_S:
            self._start_refresh(backend)
        if taken is None:
            taken = self.monitor.latest
            self._start_reading(taken)
        if known is None or taken is None:
            return advisor.unknown("it is being looked at")
        return self._fit(backend, entry, known, taken, None)

    async def need(self, backend: Backend, entry: ModelEntry, options: Mapping[str, Any]) -> Need:
        """Return what a load with these runner options takes, and needs free beside others.

        The second is for Ollama, which predicts by a formula of its own and evicts by that.
        """
        num_ctx = options.get("num_ctx")
        wished = num_ctx if isinstance(num_ctx, int) and num_ctx > 0 else None
        found = (await self.fit(backend, entry, num_ctx=wished)).estimate
        if found is None:
            return need_by_files(backend, entry)
        if not backend.expires_models:
            return Need(found.needed_bytes, found.needed_bytes)
        known = self._known.get(_key(backend, entry))
        if known is None or known.facts is None:
            return Need(found.needed_bytes, int(found.needed_bytes / OLLAMA_SHARE))
        predicted = advisor.ollama_predicted(known.facts, found.num_ctx)
        return Need(found.needed_bytes, max(found.needed_bytes, int(predicted / OLLAMA_SHARE)))

    def next_load(self, taken: GpuSnapshot) -> NextLoad | None:
        """Return the load that would be split, when the one that comes next would."""
        coming = self._coming()
        if coming is None:
            return None
        backend, entry = coming
        if self._in_memory(backend, entry) is not None:
            return None
        fit = self.fit_of(backend, entry, taken=taken)
        if not fit.offload.will:
            return None
        name = f"{entry.name}@{backend.name}"
        room = fit.room
        return NextLoad(
            name,
            backend.name,
            fit.needed_bytes,
            room.free_bytes,
            room.total_bytes,
            fit.offload.reason,
        )

    # ---- what is known

    async def _facts(self, backend: Backend, entry: ModelEntry) -> Known:
        known = self._known.get(_key(backend, entry))
        if known is not None and (known.facts or time.monotonic() - known.at <= AGAIN_S):
            return known
        # The answer is everybody's: one caller that goes away must not take it from the others.
        return await asyncio.shield(self._fetch(backend, entry))

    def _fetch(self, backend: Backend, entry: ModelEntry) -> asyncio.Task[Known]:
        key = _key(backend, entry)
        if key not in self._fetching:
            task = asyncio.create_task(self._ask(key, backend, entry))
            self._fetching[key] = task
            task.add_done_callback(lambda _: self._fetching.pop(key, None))
        return self._fetching[key]

    async def _ask(self, key: str, backend: Backend, entry: ModelEntry) -> Known:
        facts, num_ctx, problem = None, None, "its metadata do not describe its layers"
        try:
            async with self._few, asyncio.timeout(SHOW_TIMEOUT_S):
                shown = await backend.show(entry.name, verbose=True)
            info = shown.get("model_info")
            if isinstance(info, dict):
                facts = facts_of(info, weights_bytes=entry.size_bytes or 0)
            found = _NUM_CTX.search(str(shown.get("parameters") or ""))
            num_ctx = int(found[1]) if found else None
        except WorkbenchError as exc:
            problem = exc.message
        except TimeoutError:
            problem = f"its metadata did not come within {SHOW_TIMEOUT_S:g} s"
        except Exception as exc:
            log.exception("the metadata of %s could not be read", entry.name)
            problem = f"its metadata could not be read: {type(exc).__name__}"
        known = Known(facts, num_ctx, problem, time.monotonic())
        self._known[key] = known
        return known

    async def _refresh(self, backend: Backend) -> None:
        """Learn what is loaded; an answer that does not come leaves what was known."""
        await asyncio.wait({self._start_refresh(backend)}, timeout=LOADED_WAIT_S)

    def _start_refresh(self, backend: Backend) -> asyncio.Task[None]:
        """Begin to ask what is loaded; how often that is really asked is `running`'s matter."""
        if backend.name not in self._refreshing:
            task = asyncio.create_task(self._ask_loaded(backend))
            self._refreshing[backend.name] = task
            task.add_done_callback(lambda _: self._refreshing.pop(backend.name, None))
        return self._refreshing[backend.name]

    def _start_reading(self, taken: GpuSnapshot | None) -> None:
        """Begin to read the devices when the last reading is old."""
        old = taken is None or time.time() - taken.taken_at > DEVICES_AGE_S
        if old and (self._reading is None or self._reading.done()):
            reading = self.monitor.snapshot(max_age_s=DEVICES_AGE_S)
            self._reading = asyncio.create_task(reading)

    async def _ask_loaded(self, backend: Backend) -> None:
        try:
            self.saw(backend, await self._ask_running(backend))
        except WorkbenchError as exc:
            log.debug("what %s has loaded is not known: %s", backend.name, exc.message)

    def saw(self, backend: Backend, running: list[RunningModel]) -> None:
        """Take in what a backend has in memory, and keep what each model takes."""
        self._loaded[backend.name] = (time.monotonic(), running)
        for model in running:
            size = model.rss_bytes or model.size_bytes
            if not (size and model.digest and model.context_length):
                continue
            key = (model.digest, model.context_length)
            if model.rss_bytes is not None:
                # A process grows with what it reads: its largest size is what it needs.
                size = max(size, (self._state.measured_memory(*key) or (0, None))[0])
            self._state.remember_memory(*key, size, model.vram_bytes)

    def last_loaded(self, backend: str) -> list[RunningModel] | None:
        """Return what a backend had in memory when it was last asked; `None` before that."""
        found = self._loaded.get(backend)
        return None if found is None else found[1]

    def _in_memory(self, backend: Backend, entry: ModelEntry) -> RunningModel | None:
        running = self.last_loaded(backend.name) or []
        return next((item for item in running if same_name(item.name, entry.name)), None)

    # ---- the judgement

    def _fit(
        self,
        backend: Backend,
        entry: ModelEntry,
        known: Known,
        taken: GpuSnapshot,
        num_ctx: int | None,
    ) -> Fit:
        loaded = self._in_memory(backend, entry)
        room, devices = self._room(backend, loaded, taken)
        if not entry.size_bytes:
            return advisor.unknown("its server does not tell how large it is", room=room)
        wished = num_ctx or (loaded.context_length if loaded is not None else None)
        wished = wished or known.num_ctx or _usual_context(backend, known.facts, room)
        wished = advisor.context_of(known.facts, wished)
        prediction = None
        if backend.kind == "ollama" and known.facts and _free_of(devices) and room.on_gpu:
            writes = not entry.capabilities or "completion" in entry.capabilities
            prediction = advisor.ollama_rule(
                known.facts, wished, free_bytes=_free_of(devices), writes=writes
            )
        batch = prediction.batch if prediction else advisor.UBATCH
        found = self._estimate(backend, entry, known, wished, batch, room)
        if loaded is not None and (loaded.context_length or wished) == wished:
            return _as_loaded(loaded, found, room)
        return advisor.judge(found, room, prediction if room.loaded else None)

    def _estimate(
        self,
        backend: Backend,
        entry: ModelEntry,
        known: Known,
        num_ctx: int,
        batch: int,
        room: Room,
    ) -> Estimate:
        overhead = advisor.GPU_PROCESS_BYTES if room.on_gpu else advisor.ENGINE_PROCESS_BYTES

        def estimate(context: int) -> Estimate:
            if known.facts is None:
                size, why = entry.size_bytes or 0, known.problem
                return advisor.estimate_by_size(size, context, overhead_bytes=overhead, why=why)
            facts = replace(known.facts, weights_bytes=entry.size_bytes or 0)
            return advisor.estimate(facts, context, ubatch=batch, overhead_bytes=overhead)

        def measure(context: int) -> Estimate | None:
            measured = self._state.measured_memory(entry.digest, context)
            if measured is None:
                return None
            # The resident memory of a process of ours is all of it; Ollama adds up buffers only.
            left_out = 0 if backend.kind == "llamacpp" else overhead
            return advisor.with_measured(
                estimate(context), Measured(*measured), overhead_bytes=left_out
            )

        if exact := measure(num_ctx):
            return exact
        found = estimate(num_ctx)
        near = min(
            self._state.measured_contexts(entry.digest),
            key=lambda context: abs(context - num_ctx),
            default=None,
        )
        measured = None if near is None else measure(near)
        if near is None or measured is None:
            return found
        return advisor.from_neighbour(found, estimate(near), measured)

    def _room(
        self, backend: Backend, loaded: RunningModel | None, taken: GpuSnapshot
    ) -> tuple[Room, tuple[GpuDevice, ...]]:
        place = self.monitor.places.get(backend.name, "declared")
        devices, why = taken.devices_of(backend.name, place)
        on_gpu = bool(devices) and devices[0].kind not in ("host", "apple")
        others = [item for item in self.last_loaded(backend.name) or [] if item is not loaded]
        own = _held(loaded, on_gpu) if loaded is not None else 0
        free = _sum(device.free_bytes for device in devices)
        reasons = [item.reasons["free_bytes"] for item in devices if "free_bytes" in item.reasons]
        host = next((item for item in taken.devices if item.kind == "host"), None)
        room = Room(
            on_gpu=on_gpu,
            total_bytes=_sum(device.total_bytes for device in devices),
            # It leaves before it is loaded anew.
            free_bytes=None if free is None else free + own,
            held_bytes=sum(_held(item, on_gpu) for item in others),
            loaded=tuple(item.name for item in others),
            margin_bytes=advisor.GPU_MARGIN_BYTES * len(devices) if on_gpu else 0,
            budget_bytes=self._budget(backend.name),
            spill_bytes=None if host is None or place == "declared" else host.free_bytes,
            largest_bytes=_largest(devices) if on_gpu else None,
            reason=why or next(iter(reasons), None) or "there is no device",
        )
        return room, devices

    async def close(self) -> None:
        """Fetch no more."""
        tasks: list[asyncio.Task[Any]] = [*self._fetching.values(), *self._refreshing.values()]
        tasks += [self._reading] if self._reading is not None else []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _key(backend: Backend, entry: ModelEntry) -> str:
    return entry.digest or f"{backend.name}/{entry.name}"


def _elsewhere() -> Fit:
    text = "it runs at another company and takes no memory here"
    return Fit(
        "alongside",
        text,
        None,
        Room(),
        Part(True, text),
        Part(True, text),
        Offload(False, 0.0, text),
    )


def _usual_context(backend: Backend, facts: ModelFacts | None, room: Room) -> int:
    """Return the context of a load that names none."""
    if backend.kind == "ollama":
        return advisor.ollama_context(room.total_bytes if room.on_gpu else None)
    return (facts.context_length if facts is not None else None) or 4096


def _as_loaded(loaded: RunningModel, found: Estimate, room: Room) -> Fit:
    """Return the answer for a model that is in memory: what is true now."""
    size, vram = loaded.size_bytes, loaded.vram_bytes
    share = 1 - vram / size if size and vram is not None and room.on_gpu else 0.0
    part = Part(True, "it is loaded")
    if share > 0:
        text = f"it is loaded, {share:.0%} of it on the CPU"
        return Fit("offload", text, found, room, part, part, Offload(True, share, text))
    return Fit(
        "alongside", "it is loaded", found, room, part, part, Offload(False, 0.0, part.reason)
    )


def _held(model: RunningModel, on_gpu: bool) -> int:
    """Return what a model gives back when it leaves; a process on a GPU costs more than it says."""
    if not on_gpu:
        return model.rss_bytes or model.size_bytes or 0
    return model.vram_bytes if model.vram_bytes is not None else model.size_bytes or 0


def _free_of(devices: tuple[GpuDevice, ...]) -> list[int]:
    return [device.free_bytes for device in devices if device.free_bytes is not None]


def _largest(devices: tuple[GpuDevice, ...]) -> int | None:
    """Return the memory of the largest of several devices; `None` when one does not tell."""
    totals = [device.total_bytes for device in devices if device.total_bytes is not None]
    return max(totals) if len(totals) == len(devices) > 1 else None


def _sum(values: Iterable[int | None]) -> int | None:
    """Return the sum, `None` for nothing or when one of them is not known."""
    found = list(values)
    known = [value for value in found if value is not None]
    return sum(known) if known and len(known) == len(found) else None
