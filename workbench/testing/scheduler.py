"""Ollama's scheduler: one load at a time, fit checks, evictions, memory that comes back late.

It follows ``server/sched.go`` of v0.33 as read, not as measured on a live server. Two loops
of Ollama are played: one that loads and makes room, a request at a time, and one that counts
requests out and unloads, which stands still while the memory of an unloaded model comes back.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import math
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Any

from workbench.testing.http import Exchange
from workbench.testing.memory import Journal
from workbench.testing.ollama_shapes import DEFAULT_KEEP_ALIVE_S, ApiError, Resident
from workbench.testing.rules import (
    Runner,
    RunnerOptions,
    bytes_on_gpu,
    default_context,
    fits_beside,
    reduced_context,
    reload_reason,
    runner_options,
    victim_of,
)
from workbench.testing.scripts import FakeModel, RecordedRequest, Reply

_BUSY = "server busy, please try again.  maximum pending requests exceeded"
_LOAD_OOM = "llama-server process has terminated: error: out of memory"
_RECOVERED_SHARE = 0.75


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a scheduler has to work with.

    Args:
        memory_bytes: Memory of the GPU; ``None`` is without limit.
        max_loaded: Models in memory at once (``OLLAMA_MAX_LOADED_MODELS``).
        max_queue: Loads that wait behind the one in progress (``OLLAMA_MAX_QUEUE``).
        parallel: Answers at once per model (``OLLAMA_NUM_PARALLEL``); ``None`` is any number.
        default_num_ctx: Context of requests that ask for none; ``None`` goes by the memory.
        recovery_s: The longest that an unload waits for its memory before the next load starts.
        margin_bytes: Memory that a load leaves free; ``None`` is llama-server's 1 GiB, and an
            eighth of a memory that is smaller than 8 GiB.
        resurrects: Whether a request with a keep_alive brings a draining model back, as in
            v0.33; later sources let it leave all the same.
    """

    memory_bytes: int | None = None
    max_loaded: int = 3
    max_queue: int = 512
    parallel: int | None = None
    default_num_ctx: int | None = None
    recovery_s: float = 5.0
    margin_bytes: int | None = None
    resurrects: bool = True

    @property
    def total_bytes(self) -> int:
        """The memory as a number that can be compared."""
        return sys.maxsize if self.memory_bytes is None else self.memory_bytes

    @property
    def kept_free_bytes(self) -> int:
        """What a load leaves free."""
        if self.margin_bytes is not None:
            return self.margin_bytes
        return 0 if self.memory_bytes is None else min(1024**3, self.memory_bytes // 8)

    def context_for(self, model: FakeModel, options: RunnerOptions) -> int:
        """Return the context of a load."""
        automatic = self.default_num_ctx or default_context(self.memory_bytes)
        return options.num_ctx or min(automatic, model.context_length)


class _Pending:
    """A request whose model has to be loaded first."""

    def __init__(
        self,
        request: RecordedRequest,
        reply: Reply,
        model: FakeModel,
        options: RunnerOptions,
        keep_alive_s: float | None,
    ) -> None:
        self.request = request
        self.reply = reply
        self.model = model
        self.options = options
        self.keep_alive_s = keep_alive_s
        self.done: asyncio.Future[Runner] = asyncio.get_running_loop().create_future()
        self.left = asyncio.Event()


class Scheduler:
    """The models of a scripted Ollama by model file, under Ollama's rules.

    Everything but the journal belongs to the server's event loop.

    Attributes:
        loads: Full names of the models in the order in which their loads began.
        journal: What happened, for other threads.
        vram_lag_s: Seconds between the end of a runner and the return of its memory.
        deadlock: Whether evictions get lost, as in ollama#17408.
    """

    def __init__(self, limits: Limits, *, vram_lag_s: float, deadlock: bool) -> None:
        self.limits = limits
        self.vram_lag_s = vram_lag_s
        self.deadlock = deadlock
        self.loads: list[str] = []
        self.journal = Journal()
        self._numbers = itertools.count(1)
        self.reset()

    def reset(self) -> None:
        """Begin with nothing in memory."""
        self._runners: dict[str, Runner] = {}
        self._lagging: dict[int, Runner] = {}
        self._timers: dict[int, asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Lock()
        self._news = asyncio.Event()
        self._steps: deque[Callable[[], None]] = deque()
        self._recovering = False
        self._pending = 0
        self._unloads = 0

    @property
    def free_bytes(self) -> int:
        """Memory that the driver calls free."""
        return max(0, self.limits.total_bytes - self.journal.used_bytes - self.journal.other_bytes)

    def present(self) -> list[Resident]:
        """Return what ``/api/ps`` lists; a loading model is not among them."""
        return list(self._runners.values())

    def set_other_bytes(self, value: int) -> None:
        """Let other processes hold so much of the memory."""
        self.journal.other_bytes = value
        self._pulse()

    def release_vram(self) -> None:
        """End the lag of everything unloaded so far."""
        for runner in list(self._lagging.values()):
            self._freed(runner)

    def run_out_of_memory(self) -> None:
        """Let every model leave, pinned ones too, as when a runner runs out of memory."""
        for runner in list(self._runners.values()):
            self._send_away(runner, "oom")

    def expire(self, model: FakeModel) -> None:
        """Do what Ollama does when asked to unload: at once when idle, else when drained.

        A model that is absent or still loading is not in the map, and nothing happens.
        """
        runner = self._runners.get(model.full_blob)
        if runner is not None:
            runner.expires_at = time.time()
            self._send_away(runner, "asked")

    @asynccontextmanager
    async def hold(
        self,
        exchange: Exchange,
        reply: Reply,
        model: FakeModel,
        body: Mapping[str, Any],
        keep_alive_s: float | None,
    ) -> AsyncIterator[AbstractAsyncContextManager[Any]]:
        """Hold a model in memory for the time of a request; yields its turn at the runner.

        A client that leaves during the load aborts it. One that leaves while an eviction
        makes room does not take the eviction back.
        """
        options = runner_options(body, model)
        pending = _Pending(exchange.request, reply, model, options, keep_alive_s)
        runner = await self._acquire(pending)
        try:
            yield runner.slots or nullcontext()
        finally:
            self._finish(runner)

    async def _acquire(self, pending: _Pending) -> Runner:
        """Return the loaded model: at once when it fits, else after a turn in the queue."""
        runner = self._runners.get(pending.model.full_blob)
        if runner is not None and not self._reload_reason(runner, pending):
            return self._use(runner, pending)
        if self._pending > self.limits.max_queue:
            raise ApiError(503, _BUSY)
        self._pending += 1
        self.journal.note("queued", pending.model.full_name)
        self._spawn(self._admit(pending))
        try:
            return await pending.done
        except asyncio.CancelledError:
            pending.left.set()
            if not pending.done.cancelled() and pending.done.exception() is None:
                self._finish(pending.done.result())
            raise

    async def _admit(self, pending: _Pending) -> None:
        """Take a turn of the one loop in which Ollama loads and evicts."""
        try:
            async with self._turn:
                runner = await self._place(pending)
        except ApiError as exc:
            if not pending.done.done():
                pending.done.set_exception(exc)
        else:
            if runner is not None and pending.done.done():
                self._finish(runner)
            elif runner is not None:
                pending.done.set_result(runner)
        finally:
            self._pending -= 1

    async def _place(self, pending: _Pending) -> Runner | None:
        """Make room and load; ``None`` when the client has left."""
        while not pending.left.is_set():
            runner = self._runners.get(pending.model.full_blob)
            if runner is None:
                victim = self._victim(pending)
                if victim is None:
                    return await self._load(pending)
                await self._make_leave(victim, pending, "evicted")
            elif differing := self._reload_reason(runner, pending):
                await self._make_leave(runner, pending, f"reload {differing}")
            else:
                return self._use(runner, pending)
        return None

    def _reload_reason(self, runner: Runner, pending: _Pending) -> str:
        context = self.limits.context_for(pending.model, pending.options)
        return reload_reason(runner, pending.options, context)

    def _victim(self, pending: _Pending) -> Runner | None:
        """Return who has to leave before the load; alone, a model is loaded unchecked."""
        if not self._runners:
            return None
        if len(self._runners) < self.limits.max_loaded:
            model = pending.model
            if pending.options.num_gpu == 0:
                return None
            predicted = model.predicted_bytes
            if predicted is None:
                predicted = self._needed_bytes(
                    model, self.limits.context_for(model, pending.options)
                )
            if fits_beside(predicted, self.free_bytes):
                return None
        return victim_of(self._runners.values())

    async def _make_leave(self, runner: Runner, pending: _Pending, reason: str) -> None:
        """Send a runner away and wait for an unload, whoever's it is.

        Ollama waits for ever for a victim that a concurrent request has brought back
        (#17408). Here it is sent away again when it is idle, unless ``deadlock`` is set: then
        the order to leave is lost, and the load waits until anything is unloaded.
        """
        seen = self._unloads
        if self.deadlock:
            self.journal.note("stuck", pending.model.full_name, reason=reason)
            await self._until(lambda: self._unloads > seen)
            return
        self._send_away(runner, reason)

        def stays() -> bool:
            here = self._runners.get(runner.blob) is runner
            return here and runner.in_flight == 0 and not runner.leaving

        await self._until(lambda: self._unloads > seen or stays())

    async def _load(self, pending: _Pending) -> Runner | None:
        """Load on what is free now; ``None`` when the client has left, which aborts it.

        After running out of memory there is one more try: with less context when that is
        automatic, and with every other model unloaded.
        """
        model, retried = pending.model, False
        context = self.limits.context_for(model, pending.options)
        while True:
            runner = self._begin(pending, context)
            if not await self._load_time(pending):
                self._end(runner, "load_aborted", "client left")
                return None
            if model.oom_context is None or context <= model.oom_context:
                self._runners[runner.blob] = runner
                self._note("loaded", runner)
                return self._use(runner, pending)
            self._end(runner, "load_failed", "out of memory")
            smaller = reduced_context(context) if pending.options.num_ctx is None else None
            if retried or (smaller is None and not self._runners):
                raise ApiError(500, _LOAD_OOM)
            context, retried = smaller or context, True
            self.run_out_of_memory()
            await self._until(lambda: not self._runners)

    def _begin(self, pending: _Pending, context: int) -> Runner:
        """Take the memory of a load; what does not fit now goes to the CPU."""
        model, parallel = pending.model, self.limits.parallel
        needed = self._needed_bytes(model, context)
        room = 0 if pending.options.num_gpu == 0 else self.free_bytes
        runner = Runner(
            model,
            context_length=context,
            keep_alive_s=DEFAULT_KEEP_ALIVE_S,
            expires_at=None,
            size_bytes=needed,
            size_vram_bytes=bytes_on_gpu(model, needed, room, self.limits.kept_free_bytes),
            options=pending.options,
            number=next(self._numbers),
            slots=None if parallel is None else asyncio.Semaphore(parallel),
        )
        self.loads.append(model.full_name)
        self._note("loading", runner)
        return runner

    async def _load_time(self, pending: _Pending) -> bool:
        """Spend the time of a load; say whether the client is still there at its end."""

        async def spend() -> None:
            if pending.reply.stall_load:
                await pending.request.stall(pending.reply.stall_s)
            scripted = pending.reply.load_s
            await asyncio.sleep(pending.model.load_s if scripted is None else scripted)

        work = {asyncio.ensure_future(spend()), asyncio.ensure_future(pending.left.wait())}
        try:
            await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in work:
                task.cancel()
        return not pending.left.is_set()

    def _use(self, runner: Runner, pending: _Pending) -> Runner:
        """Count a request in; its keep_alive holds for all, and brings back who was leaving."""
        runner.in_flight += 1
        self._stop_timer(runner)
        if pending.keep_alive_s is not None:
            runner.keep_alive_s = pending.keep_alive_s
            if pending.keep_alive_s <= 0:
                runner.leaving = runner.leaving or "asked"
            elif runner.leaving and self.limits.resurrects:
                self._note("resurrected", runner, reason=runner.leaving)
                runner.leaving = ""
        self._pulse()
        return runner

    def _finish(self, runner: Runner) -> None:
        self._step(lambda: self._count_out(runner))

    def _expired(self, runner: Runner) -> None:
        self._send_away(runner, "expired")

    def _send_away(self, runner: Runner, reason: str) -> None:
        """Unload now when idle, else when the last request ends."""
        self._stop_timer(runner)
        runner.keep_alive_s = 0.0
        runner.leaving = reason
        if runner.in_flight > 0:
            self._note("draining", runner, reason=reason)
        else:
            self._step(lambda: self._leave(runner, reason))

    def _step(self, step: Callable[[], None]) -> None:
        """Do something of the loop that counts out and unloads, in its turn."""
        if self._recovering:
            self._steps.append(step)
        else:
            step()

    def _count_out(self, runner: Runner) -> None:
        """End a request; the last one starts the keep_alive."""
        runner.in_flight -= 1
        if runner.in_flight == 0 and self._runners.get(runner.blob) is runner:
            if runner.keep_alive_s <= 0 or runner.leaving:
                self._unload(runner)
            else:
                runner.expires_at = time.time() + runner.keep_alive_s
                if runner.keep_alive_s < math.inf:
                    loop = asyncio.get_running_loop()
                    later = loop.call_later(runner.keep_alive_s, self._expired, runner)
                    self._timers[runner.number] = later
        self._pulse()

    def _leave(self, runner: Runner, reason: str) -> None:
        """Unload a runner that was idle when it was sent away, unless it is busy again."""
        if self._runners.get(runner.blob) is not runner:
            return
        if runner.in_flight > 0:
            runner.leaving = reason
            self._note("draining", runner, reason=reason)
        else:
            self._unload(runner)

    def _unload(self, runner: Runner) -> None:
        """Take a runner from ``/api/ps``, and only then its memory from the GPU."""
        self._stop_timer(runner)
        del self._runners[runner.blob]
        due = self.free_bytes + runner.size_vram_bytes * _RECOVERED_SHARE
        self._end(runner, "unloaded", runner.leaving or "asked")
        if self.free_bytes >= due:
            self._recovered()
        else:
            self._recovering = True
            self._spawn(self._recover(due))

    async def _recover(self, due_bytes: float) -> None:
        """Wait until so much memory is free, as Ollama does for up to 5 s.

        Ollama looks every 250 ms; here the return of the memory is an event. What a load, or
        another process, takes meanwhile is missing in what is free, as it is there.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.limits.recovery_s):
                await self._until(lambda: self.free_bytes >= due_bytes)
        self._recovering = False
        self._recovered()
        while self._steps and not self._recovering:
            self._steps.popleft()()

    def _recovered(self) -> None:
        """Wake the load that waits for an unload."""
        self._unloads += 1
        self._pulse()

    def _end(self, runner: Runner, event: Any, reason: str) -> None:
        """Note the end of a process and let its memory come back after the lag."""
        self._note(event, runner, reason=reason)
        self._lagging[runner.number] = runner
        if self.vram_lag_s <= 0:
            self._freed(runner)
        elif self.vram_lag_s < math.inf:
            asyncio.get_running_loop().call_later(self.vram_lag_s, self._freed, runner)

    def _freed(self, runner: Runner) -> None:
        if self._lagging.pop(runner.number, None) is not None:
            self._note("released", runner)
            self._pulse()

    def _needed_bytes(self, model: FakeModel, context: int) -> int:
        return model.memory_bytes(context * (self.limits.parallel or 1))

    def _stop_timer(self, runner: Runner) -> None:
        timer = self._timers.pop(runner.number, None)
        if timer is not None:
            timer.cancel()

    def _note(self, event: Any, runner: Runner, *, reason: str = "") -> None:
        self.journal.note(
            event,
            runner.model.full_name,
            reason=reason,
            holder=runner.number,
            vram_bytes=runner.size_vram_bytes,
        )

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _pulse(self) -> None:
        """Let everything that waits look again."""
        self._news.set()
        self._news = asyncio.Event()

    async def _until(self, true: Callable[[], bool]) -> None:
        while not true():
            await self._news.wait()
