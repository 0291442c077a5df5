"""One attempt at a step as its kind sees it: `StepContext`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

from workbench.client.ambient import current_context, environment_of
from workbench.client.tape import Tape
from workbench.errors import (
    ConnectionFailed,
    ReplayMismatch,
    RequestTimeout,
    ServerNotRunning,
    StreamBroken,
    WorkbenchError,
)
from workbench.messages import (
    GenerateConfig,
    Generation,
    GenerationBuilder,
    Message,
    Phase,
    StreamEvent,
    TextDelta,
)
from workbench.plans.kinds.base import Answer
from workbench.plans.spec import Step
from workbench.plans.stage import Stage
from workbench.units import format_seconds

PLAIN = GenerateConfig()
_FIRST_LOOK_S = 0.05
_LAST_LOOK_S = 2.0
_ASKED_AGAIN = 3

_SERVER = ("WORKBENCH_URL", "WORKBENCH_TOKEN", "WORKBENCH_CONFIG")


@dataclass
class Attempt:
    """What an attempt has at hand; see `kinds.base.StepContext`.

    Attributes:
        notes: Why a replay cannot stand for it.
        requests: One mapping for each request it made.
    """

    stage: Stage
    step: Step
    config: Mapping[str, Any]
    inputs: Mapping[str, Any]
    variables: Mapping[str, Any]
    values: Mapping[str, Any]
    item: int | None
    attempt: int
    step_key: str
    work_dir: Path
    run_id: str
    plan_dir: Path
    tape: Tape | None = None
    answer: Answer | None = None
    notes: list[str] = field(default_factory=list)
    requests: list[Mapping[str, Any]] = field(default_factory=list)
    _phase: str = ""

    async def ask(
        self,
        model: str,
        messages: Sequence[Message],
        *,
        config: GenerateConfig | None = None,
    ) -> Generation:
        """Ask a model; a server that is gone is waited for, within the run's limit.

        Raises:
            ModelError: When the answer could not be had or broke off.
            ServerNotRunning: When the server did not come back in time.
        """

        async def send() -> Generation:
            return await self._answer(model, messages, config or PLAIN)

        answer = await self._through_outage(send)
        self._keep(answer, model)
        return answer

    async def _answer(
        self, model: str, messages: Sequence[Message], config: GenerateConfig
    ) -> Generation:
        batches = self.stage.client.chat_batches(model, messages, config=config)
        builder, began = GenerationBuilder(model), perf_counter()
        async with aclosing(batches):
            async for batch in batches:
                at_s = perf_counter() - began
                for event in batch:
                    builder.add(event, at_s=at_s)
                    self._tell(event)
        answer = builder.build(elapsed_s=perf_counter() - began)
        if answer.error is not None:
            raise answer.error
        return answer

    def _tell(self, event: StreamEvent) -> None:
        if isinstance(event, Phase):
            self.phase(event.name, event.detail)
        elif isinstance(event, TextDelta):
            self.phase("writing")

    def _keep(self, answer: Generation, model: str) -> None:
        facts = {
            "request_id": answer.request_id,
            "model": answer.model,
            "digest": self.stage.digests.get(model),
            "input_tokens": answer.usage.input_tokens,
            "output_tokens": answer.usage.output_tokens,
            "seconds": answer.elapsed_s,
            "stop_reason": answer.stop_reason,
        }
        self.requests.append(facts)
        self._write("request", **facts)

    async def _through_outage(self, send: Callable[[], Awaitable[Generation]]) -> Generation:
        """Send a request, and again when the server was gone and is back."""
        loop = asyncio.get_running_loop()
        limit_s, due, times = self.stage.info.server_wait_s, None, 0
        lost: WorkbenchError | None = None
        while True:
            try:
                return await send()
            except ReplayMismatch:
                # Not asked again when it was recorded: that it broke off was the end of it.
                if lost is not None:
                    raise lost from None
                raise
            except (ConnectionFailed, StreamBroken, ServerNotRunning, RequestTimeout) as exc:
                times += 1
                if not _is_outage(exc) or times > _ASKED_AGAIN:
                    raise
                lost = exc
                if self.stage.replay is not None:
                    continue
                due = due or loop.time() + limit_s
                self.phase("waiting for the server", exc.message)
                if not await self._back_by(due):
                    raise ServerNotRunning(
                        f"it did not come back within {format_seconds(limit_s)}",
                        hint=f"Go on when it is there: workbench resume {self.run_id}",
                    ) from exc

    async def _back_by(self, due: float) -> bool:
        """Wait until the server answers; returns whether it did in time."""
        loop, pause_s = asyncio.get_running_loop(), _FIRST_LOOK_S
        while loop.time() < due:
            try:
                await self.stage.client.version()
                return True
            except WorkbenchError:
                await asyncio.sleep(min(pause_s, max(0.0, due - loop.time())))
                pause_s = min(2 * pause_s, _LAST_LOOK_S)
        return False

    def phase(self, name: str, detail: str = "") -> None:
        """Tell what the attempt does now; the same again is not told."""
        told = f"{name} {detail}"
        if told != self._phase:
            self._phase = told
            self._write("step_phase", phase=name, detail=detail or None)

    def not_replayable(self, reason: str) -> None:
        """Tell that this run did what a replay cannot repeat."""
        if reason not in self.notes:
            self.notes.append(reason)
            self._write("not_replayable", reason=reason)

    def environment(self) -> Mapping[str, str]:
        """Return the environment of a child process: server, run, tape, and named secrets."""
        env = {name: os.environ[name] for name in _SERVER if name in os.environ}
        env["WORKBENCH_DATA_DIR"] = self.stage.info.data_dir
        for name in _secrets_in(self.inputs):
            if name in os.environ:
                env[name] = os.environ[name]
        env |= environment_of(current_context())
        return env | (self.tape.environment() if self.tape is not None else {})

    def _write(self, event: str, **fields: Any) -> None:
        self.stage.journal.write(
            event, step=self.step.id, item=self.item, attempt=self.attempt, **fields
        )


def _is_outage(error: WorkbenchError) -> bool:
    return not isinstance(error, RequestTimeout) or error.phase == "connect"


def _secrets_in(value: Any) -> Iterator[str]:
    """Yield the environment variables that a value names as its secrets."""
    if isinstance(value, Mapping):
        if set(value) == {"env"} and isinstance(value["env"], str):
            yield value["env"]
        for item in value.values():
            yield from _secrets_in(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _secrets_in(item)
