"""The async core of a comparison: the order of the requests, what arrives, what is told of it.

Every answer is a task of its own on the portal, so that any thread can stop it and its end is told
however it ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from workbench.chat.compare_values import (
    Answer,
    Asked,
    CompareState,
    ComparisonEvent,
    Contender,
    contenders,
)
from workbench.chat.dialogue_values import LaneState, LaneTracker
from workbench.chat.runners import Runner, by_runner, full_name, waves
from workbench.chat.staging import ModelNeed, Staging, fit_together, survey, wanted_models
from workbench.client.api import WorkbenchClient
from workbench.client.leases import Lease
from workbench.errors import (
    ConfigError,
    ConnectionFailed,
    ModelNotFound,
    ResidencyError,
    WorkbenchError,
)
from workbench.messages import (
    Failed,
    Finished,
    GenerateConfig,
    Message,
    StopReason,
    StreamEvent,
    nearest_names,
)
from workbench.portal import PortalFuture, get_portal
from workbench.units import sortable_id, utc_now

log = logging.getLogger("workbench")

Schedule = Literal["memory", "sequential"]
Listener = Callable[[ComparisonEvent], object]

_LEASE_S = 60.0
_WAITING = "waits for its turn"
# What another request to the same model would meet again.
_OF_THE_MODEL = (ModelNotFound, ResidencyError, ConnectionFailed)


class ComparisonRun:
    """The prompts and answers of a comparison, and what asks for them; see `Comparison`."""

    def __init__(
        self,
        client: WorkbenchClient,
        models: Iterable[str | Mapping[str, Any] | Contender],
        *,
        system: str | None,
        config: GenerateConfig,
        schedule: Schedule,
        swap: bool,
        kind: str | None,
    ) -> None:
        if schedule not in ("memory", "sequential"):
            raise ConfigError(
                f"no schedule {schedule!r}.", key="schedule", hint="Use 'memory' or 'sequential'."
            )
        self._system, self._config = system, config
        self.contenders = contenders(models, system=system, config=config)
        if not self.contenders:
            raise ConfigError("a comparison needs a model.", key="models")
        self.client = client
        self.id = sortable_id()
        self.created_at = utc_now()
        self.schedule = schedule
        self.swap = swap
        self.kind = kind
        self.asked: list[Asked] = []
        self.state: CompareState = "ready"
        self.error: WorkbenchError | None = None
        self._lock = threading.RLock()
        self._lanes = {one.name: LaneState() for one in self.contenders}
        self._listeners: list[Listener] = []
        self.staging = Staging()
        self._needs: dict[str, ModelNeed] = {}
        self._future: PortalFuture[range] | None = None
        self._tasks: dict[Answer, asyncio.Task[None]] = {}
        self._stopped: dict[str | None, StopReason] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the sides, in the order they were given."""
        return tuple(one.name for one in self.contenders)

    @property
    def lanes(self) -> dict[str, LaneState]:
        """What each side does now, with its figures."""
        return dict(self._lanes)

    @property
    def busy(self) -> bool:
        """Whether answers are arriving."""
        return self._future is not None and not self._future.done()

    @property
    def future(self) -> PortalFuture[range] | None:
        """The last asking; done when its answers have ended, with the indexes of its prompts."""
        return self._future

    def contender(self, name: str) -> Contender:
        """Return a side by its name.

        Raises:
            ConfigError: When there is none.
        """
        for one in self.contenders:
            if one.name == name:
                return one
        near = nearest_names(name, self.names, count=1)
        hint = f"Did you mean {near[0]!r}?" if near else f"There are {', '.join(self.names)}."
        raise ConfigError(f"{name!r} is not compared here.", key="models", hint=hint)

    def _asked(self, prompt: int) -> Asked:
        try:
            return self.asked[prompt]
        except TypeError:
            raise ConfigError(
                f"{prompt!r} is no prompt.", key="prompt", hint="Write its index, from 0."
            ) from None
        except IndexError:
            raise ConfigError(
                f"there is no prompt {prompt}; there are {len(self.asked)}.", key="prompt"
            ) from None

    # --- watching

    def observe(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` with each `ComparisonEvent`, and return what ends that.

        It is called on the portal's loop, for votes on the thread of the voter; it must be quick.
        """
        self._listeners.append(listener)

        def unobserve() -> None:
            with contextlib.suppress(ValueError):
                self._listeners.remove(listener)

        return unobserve

    def _tell(self, event: ComparisonEvent) -> None:
        for listener in tuple(self._listeners):
            try:
                listener(event)
            except Exception:
                log.exception("an observer of a comparison failed")

    def _enter(self, state: CompareState) -> None:
        self.state = state
        self._tell(ComparisonEvent("state"))

    # --- beginning

    def _idle(self) -> None:
        if self.busy:
            raise ConfigError(
                "This comparison is still being answered.",
                key="prompts",
                hint="Wait, or stop() it.",
            )

    def _start(self, cells: Callable[[], list[Answer]]) -> PortalFuture[range]:
        with self._lock:
            self._idle()
            self._stopped.clear()
            self.error = None
            future = self._future = get_portal().future()
            try:
                future.begin(self._run(cells))
            except KeyboardInterrupt:
                if not future.cancel():  # it was not handed over
                    self._future = None
                raise
            return future

    def _add(self, prompts: Sequence[tuple[Message, ...]]) -> list[Answer]:
        found: list[Answer] = []
        for messages in prompts:
            asked = Asked(len(self.asked), messages)
            self.asked.append(asked)
            found += [self._again(asked, side) for side in self.contenders]
            self._tell(ComparisonEvent("prompt", prompt=asked.index))
        return found

    def _again(self, asked: Asked, side: Contender) -> Answer:
        former = asked.answers.get(side.name)
        if former is not None:
            asked.former.append(former)
        attempt = 0 if former is None else former.attempt + 1
        answer = asked.answers[side.name] = Answer(asked.index, side, attempt=attempt)
        return answer

    # --- on the portal

    async def _run(self, make: Callable[[], list[Answer]]) -> range:
        self._enter("running")
        cells: list[Answer] = []
        try:
            await self._survey()
            cells = make()
            await self._work(cells)
        except BaseException as exc:
            self.error = exc if isinstance(exc, WorkbenchError) else None
            raise
        finally:
            for answer in cells:
                if not answer.ended:
                    self._end(answer, self._reason(answer.lane) or "cancelled")
            self._enter("failed" if self.error is not None else "done")
        indexes = [answer.prompt for answer in cells]
        return range(min(indexes, default=0), max(indexes, default=-1) + 1)

    async def _work(self, cells: Sequence[Answer]) -> None:
        for name in dict.fromkeys(answer.lane for answer in cells):
            self._show(name, LaneState("queued", detail=_WAITING))
        loaded = [name for name, need in self._needs.items() if need.loaded]
        groups = by_runner(cells, lambda answer: answer.contender.runner, loaded=loaded)
        work = {group[0].contender.runner: group for group in groups}
        for wave in self._waves(list(work)):
            models = [work[runner][0].contender.model for runner in wave]
            async with self._leased(models):
                await asyncio.gather(*(self._one_by_one(work[runner]) for runner in wave))

    async def _one_by_one(self, group: Sequence[Answer]) -> None:
        """Ask one runner; what is wrong with the model itself is not tried with each prompt."""
        wrong: WorkbenchError | None = None
        # Side by side: a side's answers follow each other, so that its system prompt stays cached.
        group = sorted(group, key=lambda item: self.names.index(item.lane))
        for answer in group:
            reason = self._reason(answer.lane)
            if reason is not None or wrong is not None:
                self._end(answer, reason or "error", wrong if reason is None else None)
                continue
            first = answer is group[0]
            task = self._tasks[answer] = asyncio.create_task(self._answer(answer, first=first))
            try:
                await asyncio.wait([task])
            finally:
                # Only when the whole comparison was cancelled from outside is it not done.
                task.cancel()
                self._tasks.pop(answer, None)
            if isinstance(answer.error, _OF_THE_MODEL):
                wrong = answer.error

    async def _answer(self, answer: Answer, *, first: bool) -> None:
        began = time.perf_counter()
        tracker = LaneTracker(answer.prompt)
        reason: StopReason | None = None
        error: WorkbenchError | None = None
        answer.status = "writing"
        self._tell(ComparisonEvent("answer", answer.prompt, answer.lane, answer))
        self._show(answer.lane, tracker.lane)
        try:
            if first and self.swap:
                await self._consent(answer.contender)
            async with contextlib.aclosing(self._batches(answer)) as batches:
                async for batch in batches:
                    at_s = time.perf_counter() - began
                    for event in batch:
                        answer.builder.add(event, at_s=at_s)
                    self._tell(
                        ComparisonEvent("events", answer.prompt, answer.lane, answer, events=batch)
                    )
                    self._show(answer.lane, tracker.feed(batch, at_s=at_s))
        except asyncio.CancelledError:
            reason = self._reason(answer.lane) or "cancelled"
        except WorkbenchError as exc:
            error = exc
        self._end(answer, reason, error, elapsed_s=time.perf_counter() - began)

    async def _consent(self, side: Contender) -> None:
        """Load a model with consent that others leave for it; a plain Ollama asks for none."""
        if self._needs[side.runner.model].backend:
            await self.client.load(side.model, config=side.config, swap=True)

    def _batches(self, answer: Answer) -> AsyncGenerator[list[StreamEvent], None]:
        side, asked = answer.contender, self.asked[answer.prompt]
        system = (Message("system", side.system),) if side.system else ()
        context: dict[str, object] = {
            "conversation": self.id,
            "turn": answer.prompt,
            "speaker": answer.lane,
            "attempt": answer.attempt,
            # One prompt is what somebody waits for; many are work that others may pass.
            "priority": "batch" if len(self.asked) > 1 else "interactive",
        }
        if self.kind is not None:
            context["client_kind"] = self.kind
        return self.client.chat_batches(
            side.model,
            (*system, *asked.messages),
            # Who is sent less of a prompt than others is not compared with them.
            config=replace(side.config, truncate=False),
            context=context,
        )

    def _end(
        self,
        answer: Answer,
        reason: StopReason | None = None,
        error: WorkbenchError | None = None,
        *,
        elapsed_s: float | None = None,
    ) -> None:
        if answer.ended:
            return
        last: Failed | Finished | None = None
        if error is not None:
            last = Failed(error)
        elif reason is not None:
            last = Finished(reason)
        if last is not None:
            answer.builder.add(last, at_s=elapsed_s or 0.0)
            self._tell(ComparisonEvent("events", answer.prompt, answer.lane, answer, events=[last]))
        generation = answer.builder.build(elapsed_s=elapsed_s, stop_reason=reason)
        need = self._needs.get(full_name(answer.contender.model))
        answer.digest = None if need is None else need.digest
        answer.end(generation)
        lane = self._lanes[answer.lane]
        # What ended without a last event of its own is told here.
        if last is not None or lane.turn != answer.prompt:
            reason_shown = generation.stop_reason if error is None else type(error).__name__
            lane = replace(lane, phase="done", detail=reason_shown, turn=answer.prompt)
        self._show(answer.lane, replace(lane, seconds=elapsed_s))
        self._tell(ComparisonEvent("answer", answer.prompt, answer.lane, answer))

    def _show(self, name: str, figures: LaneState) -> None:
        self._lanes[name] = figures
        self._tell(ComparisonEvent("lane", lane=name, figures=figures))

    def _stop(self, name: str | None, reason: StopReason) -> None:
        self._stopped.setdefault(name, reason)
        for answer, task in tuple(self._tasks.items()):
            if name in (None, answer.lane):
                task.cancel()

    def _reason(self, name: str) -> StopReason | None:
        """Return why a side is stopped; `None` when it is not."""
        return self._stopped.get(None) or self._stopped.get(name)

    # --- what the server knows

    async def _survey(self) -> None:
        """Learn what the models are and need; a plain Ollama says little.

        Raises:
            ModelNotFound: When one is not installed.
            InsufficientMemory: When one does not fit even alone.
        """
        roles = [(side.model, side.name, side.config.options) for side in self.contenders]
        self.staging = await survey(self.client, wanted_models(roles))
        self._needs = {full_name(need.model): need for need in self.staging.needs}

    def _waves(self, runners: Sequence[Runner]) -> list[list[Runner]]:
        return waves(runners, self._fit_together)

    def _fit_together(self, runners: Sequence[Runner]) -> bool:
        if self.schedule == "sequential":
            return False
        needs = [self._needs[runner.model] for runner in runners]
        # A plain Ollama says nothing of memory: then one model answers after the other.
        known = all(need.backend for need in needs)
        return known and fit_together(needs, self.staging.limits)[0] is True

    @contextlib.asynccontextmanager
    async def _leased(self, models: Sequence[str]) -> AsyncGenerator[None, None]:
        """Keep models in memory while they are asked; a plain Ollama has no leases."""
        lease = Lease(self.client, models, ttl_s=_LEASE_S, holder="comparison")
        async with contextlib.AsyncExitStack() as stack:
            with contextlib.suppress(WorkbenchError):
                await stack.enter_async_context(lease)
            yield
