"""One request to a model, from its admission to its last line."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from workbench.errors import ResponseError, StreamBroken, WorkbenchError
from workbench.messages import Phase
from workbench.server.backends.base import Lines, Stream
from workbench.server.catalog import Resolved
from workbench.server.core import Core
from workbench.server.recording.recorder import Outcome, Recording
from workbench.server.recording.tap import Tap
from workbench.server.residency.resident import Resident, runner_options
from workbench.server.residency.tickets import Hold, Want
from workbench.units import parse_keep_alive, sortable_id
from workbench.wire.ollama import Kind, encode_line, error_body

log = logging.getLogger("workbench")

# How long a backend that is busy is asked again, and how soon at first.
BUSY_S = 30.0
BUSY_FIRST_S = 0.25


_REASONS: Mapping[Outcome, str] = {"ok": "finished", "cancelled": "cancelled", "error": "error"}


@dataclass(slots=True)
class Job:
    """A chat or generate request that was understood and whose model is known.

    Attributes:
        body: The native request, with the name the backend knows the model by.
        wants_events: Whether lines about queue and loading are sent between the answer's lines.
        context: Run, conversation, turn and so on, as the client told.
        client: Who asks: the User-Agent.
        token_name: Name of the token it showed; `None` for the server's own and for none.
        interactive: Whether a person waits for it.
        stream: Whether the client gets the answer piece by piece.
        traceparent: W3C trace context of the client's span.
        deadline_s: Seconds after which it does not want its turn any more.
    """

    kind: Kind
    target: Resolved
    body: dict[str, Any]
    wants_events: bool = False
    context: Mapping[str, str] = field(default_factory=dict)
    client: str = ""
    token_name: str | None = None
    interactive: bool = True
    stream: bool = True
    traceparent: str | None = None
    deadline_s: float | None = None
    id: str = field(default_factory=sortable_id)


def actor_name(client: str, token_name: str | None) -> str:
    """Return who asks, in words."""
    program = client[:80] or "unknown"
    return f"{token_name}: {program}" if token_name else program


def error_line(error: WorkbenchError) -> bytes:
    """Return the line that ends a broken answer: Ollama's `error`, and ours beside it."""
    details = error_body(error)
    return encode_line({"error": details.pop("error"), "workbench": details}).rstrip(b"\n")


def event_line(event: Mapping[str, Any]) -> bytes:
    """Return one of our own lines."""
    return encode_line({"workbench": event}).rstrip(b"\n")


async def answer_lines(core: Core, job: Job) -> AsyncGenerator[Lines, None]:
    """Run a request and yield the lines of its answer, as many at once as there are.

    Errors before the first line are raised when the client does not want events: it has seen no
    status yet.  Afterwards, and with events, they are a last `{"error": ...}` line.
    Leaving the generator cancels the request at the backend.
    """
    recording = begin_recording(core, job)
    tap = recording.tap
    sent = job.wants_events
    outcome: Outcome = "cancelled"
    core.events.emit(
        "request", level=logging.DEBUG, id=job.id, model=job.target.full_name, client=job.client
    )
    try:
        if job.wants_events:
            opened = {"event": "opened", "model": job.target.full_name, "request_id": job.id}
            yield [event_line(opened)]
        async with aclosing(_run(core, job, tap)) as batches:
            async for lines in batches:
                sent = True
                yield lines
        outcome = "error" if tap.error is not None else "ok"
    except WorkbenchError as exc:
        outcome, tap.failure = "error", exc
        if not sent:
            raise
        tap.error = exc.message
        yield [error_line(exc)]
    finally:
        recording.end(outcome, resident=_resident(core, job.target))
        core.events.emit("request_ended", **_summary(job, tap, outcome))


def begin_recording(core: Core, job: Job) -> Recording:
    """Record that a request was admitted."""
    target = job.target
    core.ask_version(target.backend)
    return core.recorder.begin(
        job.kind,
        request_id=job.id,
        backend=target.backend,
        entry=target.entry,
        body=job.body,
        context=job.context,
        user_agent=job.client,
        token_name=job.token_name,
        traceparent=job.traceparent,
        interactive=job.interactive,
        stream=job.stream,
    )


def _resident(core: Core, target: Resolved) -> Resident | None:
    """Return the model as it is in memory; `None` when that is not known."""
    for resident in core.residency.residents(target.backend.name):
        if resident.entry.digest == target.entry.digest:
            return resident
    return None


def _summary(job: Job, tap: Tap, outcome: Outcome) -> dict[str, Any]:
    return {
        **job.context,
        "id": job.id,
        "model": job.target.full_name,
        "client": job.client,
        "reason": _REASONS[outcome],
        "error": tap.error,
        "seconds": round(time.monotonic() - tap.started, 4),
        "ttft_s": None if tap.ttft_s is None else round(tap.ttft_s, 4),
        "output_tokens": tap.output_tokens,
    }


async def _run(core: Core, job: Job, tap: Tap) -> AsyncGenerator[Lines, None]:
    async with AsyncExitStack() as stack:
        admission = _Admission(core, job, tap, stack)
        async with aclosing(admission.phases()) as waiting:
            async for phases in waiting:
                if job.wants_events:
                    yield phases
        hold = admission.hold
        tap.admitted()
        if job.wants_events:
            # The model is there: from now to the first token it reads the prompt.
            yield [event_line(phase_event(Phase("reading prompt")))]
        if job.interactive:
            core.state.remember_model(job.target.full_name)
        stream = await stack.enter_async_context(_opened(job, hold))
        tap.connected()
        lines_of = await stack.enter_async_context(aclosing(hold.lines(stream)))
        async for lines in lines_of:
            whole, problem = tap.read(lines)
            if whole:
                yield whole
            if problem is not None:
                raise problem
        if not tap.done and tap.error is None:
            raise StreamBroken("the backend closed the stream before the end")


@asynccontextmanager
async def _opened(job: Job, hold: Hold) -> AsyncIterator[Stream]:
    """Open the answer's stream; a backend that is busy is asked again, later and later."""
    backend, body = job.target.backend, hold.body(job.body)
    deadline = time.monotonic() + min(BUSY_S, job.deadline_s or BUSY_S)
    wait_s = BUSY_FIRST_S
    while True:
        async with AsyncExitStack() as stack:
            opening = stack.enter_async_context(backend.stream(job.kind, body))
            try:
                stream = await hold.run(opening)
            except ResponseError as exc:
                if not _is_busy(exc) or time.monotonic() + wait_s > deadline:
                    raise
            else:
                yield stream
                return
        # Not all who were refused come again at the same moment.
        await hold.run(asyncio.sleep(wait_s * random.uniform(0.5, 1.0)))
        wait_s *= 2


def _is_busy(error: ResponseError) -> bool:
    """Whether a backend's queue is full, or its model is still loading (llama.cpp)."""
    text = error.message.lower()
    return error.status == 503 and ("server busy" in text or "loading model" in text)


class _Admission:
    """A request's way to its model; `hold` is there when `phases` has ended."""

    def __init__(self, core: Core, job: Job, tap: Tap, stack: AsyncExitStack) -> None:
        want = Want(
            job.target.entry,
            runner_options(job.body),
            parse_keep_alive(job.body.get("keep_alive")),
            cls="interactive" if job.interactive else "batch",
            deadline_s=job.deadline_s,
            on_phase=self._told,
            actor=actor_name(job.client, job.token_name),
        )
        self._use = core.residency.use(job.target.backend, want)
        self._stack = stack
        self._tap = tap
        self._phases: asyncio.Queue[Phase | None] = asyncio.Queue()
        self.hold: Hold

    def _told(self, phase: Phase) -> None:
        self._tap.phase(phase)
        self._phases.put_nowait(phase)

    async def phases(self) -> AsyncGenerator[Lines, None]:
        """Wait until the model is in memory; yields lines about what is going on meanwhile."""
        entering = asyncio.create_task(self._stack.enter_async_context(self._use))
        entering.add_done_callback(lambda _: self._phases.put_nowait(None))
        try:
            while (phase := await self._phases.get()) is not None:
                yield [event_line(phase_event(phase))]
            self.hold = await entering
        finally:
            entering.cancel()
            await asyncio.gather(entering, return_exceptions=True)


def phase_event(phase: Phase) -> dict[str, Any]:
    """Return a phase as the event of our own line; unknown figures are left out."""
    event: dict[str, Any] = {"event": "phase", "phase": phase.name}
    if phase.seconds is not None:
        event["seconds"] = round(phase.seconds, 3)
    if phase.bytes is not None:
        event["bytes"] = phase.bytes
    if phase.detail:
        event["detail"] = phase.detail
    return event
