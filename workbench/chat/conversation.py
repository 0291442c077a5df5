"""The async core of a conversation: what is sent, what arrives, what is recorded.

Every answer is a task of its own on the portal, so that any thread can stop it and its end is
recorded however it ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from workbench.chat.store import FLUSH_S, ChatLog
from workbench.chat.transcript import Facts, Node, Record, Transcript
from workbench.chat.window import TokenMeter, Window, fit, prompt_budget, tools_bytes
from workbench.client.api import WorkbenchClient
from workbench.client.values import ModelInfo
from workbench.errors import ModelError, StoreError, WorkbenchError
from workbench.messages import (
    Failed,
    Finished,
    GenerateConfig,
    Generation,
    GenerationBuilder,
    Message,
    Opened,
    Phase,
    ReasoningDelta,
    StopReason,
    StreamEvent,
    TextDelta,
)
from workbench.portal import PortalFuture, Relay, get_portal

_LOOKUP_S = 5.0
# Below this many tokens no engine of today is full, and nothing needs to be asked.
_SMALL_PROMPT_TOKENS = 1024


@dataclass(frozen=True, slots=True)
class Ask:
    """How one answer is asked for.

    Attributes:
        model: `None` takes the default of the server.
        tools: JSON schemas of functions the model may ask for.
        preset: Digest of the preset that is asked with; the server's records carry it.
        kind: What asks, for the record; `None` is the client itself.
    """

    model: str | None
    system: str = ""
    config: GenerateConfig = field(default_factory=GenerateConfig)
    tools: tuple[dict[str, Any], ...] = ()
    preset: str | None = None
    kind: str | None = None


class Job:
    """One answer on its way.

    Attributes:
        future: Its result, once it has ended in whatever way.
        relay: Carries the events to one listener, or `None`.
        notices: What the person should know before the first token.
    """

    def __init__(
        self, node_id: str, ask: Ask, *, loop: asyncio.AbstractEventLoop, listened: bool
    ) -> None:
        self.node_id = node_id
        self._loop = loop
        self.begun = False
        self.ask = ask
        self.relay: Relay[StreamEvent] | None = Relay() if listened else None
        self.notices: list[str] = []
        self.builder = GenerationBuilder(ask.model or "")
        self.future: PortalFuture[Generation]
        self.digest: str | None = None
        self.dropped_turns = 0
        self.sent_at = time.perf_counter()
        self.stop_reason: StopReason | None = None
        self.unwritten: list[TextDelta | ReasoningDelta] = []
        self.timer: asyncio.TimerHandle | None = None

    def stop(self, reason: StopReason = "cancelled") -> None:
        """End the answer from any thread; the first reason counts."""
        if self.stop_reason is None:
            self.stop_reason = reason
            self._loop.call_soon_threadsafe(self._stop)

    def _stop(self) -> None:
        # A task cancelled before its first step never runs, and would leave nothing recorded.
        if self.begun:
            self.future.cancel()

    def seconds(self) -> float:
        """Return seconds since the request was sent."""
        return time.perf_counter() - self.sent_at


Observer = Callable[[Record | None, Sequence[StreamEvent]], None]
"""Told of each record that was applied, or of events that came; on any thread, must be quick."""


class Conversation:
    """A transcript, its file, and the client that continues it.

    Args:
        log: `None` keeps the conversation in memory only.
    """

    def __init__(
        self,
        client: WorkbenchClient,
        transcript: Transcript,
        *,
        log: ChatLog | None = None,
        default_model: str | None = None,
    ) -> None:
        self.client = client
        self.transcript = transcript
        self.log = log
        self.job: Job | None = None
        self.lock = threading.RLock()
        self.observers: list[Observer] = []
        self._default_model = default_model
        self._about: dict[str, ModelInfo | None] = {}
        self._loaded_context: dict[str, int] = {}
        self._meters: dict[str, TokenMeter] = {}

    def change(self, operation: Callable[[Transcript], Record], *, flush: bool = True) -> Record:
        """Apply an operation to the transcript and record it."""
        with self.lock:
            record = operation(self.transcript)
            if self.log is not None:
                self.log.append(record, flush=flush)
            for observer in tuple(self.observers):
                observer(record, ())
            return record

    def start(self, parent: str, ask: Ask, *, listened: bool) -> Job:
        """Begin an answer after message `parent`; from any thread.

        Raises:
            ModelError: When an answer is arriving already.
        """
        with self.lock:
            if self.job is not None:
                raise ModelError(
                    "This conversation is still being answered.", hint="Wait, or stop() it."
                )
            portal, config = get_portal(), ask.config.to_wire()
            facts = Facts(model=ask.model or "", system=ask.system, config=config)
            record = self.change(lambda transcript: transcript.begin(parent, facts))
            job = self.job = Job(record["id"], ask, loop=portal.loop, listened=listened)
            job.future = portal.start(self._answer(job))
            return job

    async def _answer(self, job: Job) -> Generation:
        last: StreamEvent | None = None
        reason: StopReason | None = None
        job.begun = True
        try:
            if job.stop_reason is not None:
                raise asyncio.CancelledError
            await self._exchange(job)
        except asyncio.CancelledError:
            # A task of its own: nobody above it waits for the cancellation to go on.
            reason = job.stop_reason or "cancelled"
            last = Finished(reason)
        except WorkbenchError as exc:
            last = Failed(exc)
            job.builder.add(last, at_s=job.seconds())
        finally:
            generation = job.builder.build(elapsed_s=job.seconds(), stop_reason=reason)
            self._end(job, generation)
            if job.relay is not None:
                if last is not None:
                    job.relay.push([last])
                job.relay.close()
        return generation

    async def _exchange(self, job: Job) -> None:
        """Send the conversation and take the answer; a prompt that is too long is cut once."""
        model = await self._model(job)
        window = await self._window(job, model)
        if await self._attempt(job, model, window, last=False):
            return
        self.meter(model).was_too_low()
        turns = window.dropped_turns + max(1, _turns(window) // 2)
        if await self._context_tokens(model, job.ask.config, 1 << 30) is not None:
            turns = window.dropped_turns + 1
        window = await self._window(job, model, drop_at_least=turns)
        await self._attempt(job, model, window, last=True)

    async def _attempt(self, job: Job, model: str, window: Window, *, last: bool) -> bool:
        """Return whether it was answered; false when the prompt was too long and may be cut."""
        final = last or _turns(window) <= 1
        await self._tell_dropped(job, window)
        ask, tokens_came = job.ask, False
        job.sent_at = time.perf_counter()
        batches = self.client.chat_batches(
            model,
            window.messages,
            config=replace(ask.config, truncate=False),
            tools=ask.tools,
            context=self._context(job),
        )
        try:
            async with contextlib.aclosing(batches):
                async for batch in batches:
                    end = batch[-1]
                    tokens_came = tokens_came or not all(_early(event) for event in batch)
                    refused = isinstance(end, Failed) and is_context_error(end.error)
                    if refused and not tokens_came and not final:
                        return False
                    await self._take(job, batch)
                    if isinstance(end, Finished) and end.usage.input_tokens:
                        self.meter(model).learn(
                            window.messages,
                            end.usage.input_tokens,
                            tools=tools_bytes(ask.tools),
                        )
        except WorkbenchError as exc:
            if final or tokens_came or not is_context_error(exc):
                raise
            return False
        return True

    def _context(self, job: Job) -> dict[str, object]:
        """Return what the request of a job tells about itself; turns count answers from 0."""
        nodes = self.transcript.ancestors(self.transcript.node(job.node_id).parent)
        context: dict[str, object] = {
            "conversation": self.transcript.id,
            "turn": sum(node.message.role == "assistant" for node in nodes),
            "preset": job.ask.preset,
        }
        if job.ask.kind is not None:
            context["client_kind"] = job.ask.kind
        return context

    async def _take(self, job: Job, batch: list[StreamEvent]) -> None:
        at_s = job.seconds()
        for event in batch:
            job.builder.add(event, at_s=at_s)
            if isinstance(event, TextDelta | ReasoningDelta):
                job.unwritten.append(event)
        if job.unwritten and job.timer is None and self.log is not None:
            loop = asyncio.get_running_loop()
            job.timer = loop.call_later(FLUSH_S, self._write_deltas, job)
        for observer in tuple(self.observers):
            observer(None, batch)
        if job.relay is not None:
            await job.relay.put(batch)

    def _write_deltas(self, job: Job) -> None:
        job.timer = None
        text = "".join(e.text for e in job.unwritten if isinstance(e, TextDelta))
        thinking = "".join(e.text for e in job.unwritten if isinstance(e, ReasoningDelta))
        job.unwritten.clear()
        if text or thinking:
            self.change(lambda tree: tree.delta(job.node_id, text=text, thinking=thinking))

    def _end(self, job: Job, generation: Generation) -> None:
        if job.timer is not None:
            job.timer.cancel()
        with self.lock:
            try:
                self._write_deltas(job)
                node = self.transcript.node(job.node_id)
                assert node.facts is not None
                facts = replace(
                    node.facts.ended(generation),
                    digest=job.digest,
                    dropped_turns=job.dropped_turns,
                )
                message = generation.to_message()
                self.change(lambda tree: tree.end(job.node_id, message, facts))
            finally:
                self.job = None

    # --- what is sent

    async def _model(self, job: Job) -> str:
        model, reason = job.ask.model or self._default_model, ""
        if model is None:
            default = await self.client.default_model()
            model, reason = default.model, default.reason
        job.builder.model = model
        if model not in self._about:
            about = self._about[model] = await self._look_up(model)
            if about is not None and about.toy and reason:
                # Told once, to whoever did not choose it himself.
                why = reason.removeprefix("toy model, ")
                job.notices.append(f"{model} is a toy model ({why})")
        about = self._about[model]
        job.digest = about.digest or None if about else None
        return model

    async def _look_up(self, model: str) -> ModelInfo | None:
        """Return what the server knows of a model; a plain Ollama knows nothing."""
        with contextlib.suppress(ModelError, TimeoutError):
            async with asyncio.timeout(_LOOKUP_S):
                models = await self.client.models()
            return next((info for info in models if is_named(info.name, info.backend, model)), None)
        return None

    def meter(self, model: str) -> TokenMeter:
        """Return what estimates the tokens of a model; it learns from each answer."""
        if model not in self._meters:
            about = self._about.get(model)
            # The bundled models have one token per byte.
            self._meters[model] = TokenMeter(1.0) if about and about.toy else TokenMeter()
        return self._meters[model]

    async def _window(self, job: Job, model: str, *, drop_at_least: int = 0) -> Window:
        with self.lock:
            node = self.transcript.node(job.node_id)
            path = list(self.transcript.ancestors(node.parent))[::-1] if node.parent else []
        messages = sendable(path)
        system = [Message("system", job.ask.system)] if job.ask.system else []
        meter, size = self.meter(model), tools_bytes(job.ask.tools)
        estimate = meter.estimate([*system, *messages], tools=size)
        context = await self._context_tokens(model, job.ask.config, estimate)
        budget = None
        if context is not None:
            budget = prompt_budget(context, num_predict=job.ask.config.options.get("num_predict"))
        return fit(
            system,
            messages,
            meter=meter,
            budget_tokens=budget,
            tools=size,
            drop_at_least=drop_at_least,
        )

    async def _context_tokens(
        self, model: str, config: GenerateConfig, estimate: int
    ) -> int | None:
        """Return the context the model runs with, or `None` when nobody says."""
        about = self._about.get(model)
        trained = about.context_length if about else None
        asked = config.options.get("num_ctx")
        if asked:
            return min(asked, trained) if trained else int(asked)
        if about is not None and about.kind == "llamacpp" and trained:
            return trained
        if estimate > _SMALL_PROMPT_TOKENS and model not in self._loaded_context:
            with contextlib.suppress(ModelError, TimeoutError):
                async with asyncio.timeout(_LOOKUP_S):
                    loaded = await self.client.loaded()
                for running in loaded:
                    if is_named(running.name, running.backend, model) and running.context_length:
                        self._loaded_context[model] = running.context_length
        return self._loaded_context.get(model)

    async def _tell_dropped(self, job: Job, window: Window) -> None:
        job.dropped_turns = window.dropped_turns
        if not window.dropped_turns:
            return
        notice = "the oldest turn does not fit the context and was not sent"
        if window.dropped_turns > 1:
            count = window.dropped_turns
            notice = f"the {count} oldest turns do not fit the context and were not sent"
        job.notices.append(notice)
        if job.relay is not None:
            await job.relay.put([Phase("reading prompt", detail=notice)])


def _turns(window: Window) -> int:
    return sum(message.role == "user" for message in window.messages)


def _early(event: StreamEvent) -> bool:
    return isinstance(event, Opened | Phase | Failed)


def is_named(name: str, backend: str, wanted: str) -> bool:
    """Whether a model is meant by `wanted`: `name[:tag][@backend]`, the tag `latest` left out."""
    base, _, where = wanted.partition("@")
    tagged = base if ":" in base.rpartition("/")[2] else f"{base}:latest"
    return name in (base, tagged) and where in ("", backend)


def is_context_error(error: WorkbenchError) -> bool:
    """Whether an engine refused a prompt because it is too long for the context."""
    text = error.message.lower()
    # Go says "context canceled" and "context deadline exceeded" of quite another context.
    return "context" in text and "context canceled" not in text and "deadline" not in text


def sendable(path: Sequence[Node]) -> list[Message]:
    """Return the messages a model is sent for a path.

    A turn whose answer failed before anything came is left out, its question with it; thinking is
    left out of all turns but the last, as chat templates expect.
    """
    messages: list[Message] = []
    for index, node in enumerate(path):
        following = path[index + 1] if index + 1 < len(path) else None
        if node.failed_empty:
            continue
        if node.message.role == "user" and following is not None and following.failed_empty:
            continue
        messages.append(node.message)
    last_user = max((i for i, m in enumerate(messages) if m.role == "user"), default=0)
    return [
        replace(message, thinking="") if index < last_user and message.thinking else message
        for index, message in enumerate(messages)
    ]


def unrecorded(log: ChatLog | None) -> list[StoreError]:
    """Return why a conversation is not on disk, if it is not."""
    return [log.error] if log is not None and log.error is not None else []
