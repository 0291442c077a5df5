"""One request of a dialogue, from asking to its last event; and questions with few answers."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec

from workbench.chat.conversation import is_context_error
from workbench.chat.dialogue_values import LaneState, LaneTracker
from workbench.chat.window import TokenMeter, prompt_budget
from workbench.client.api import WorkbenchClient
from workbench.errors import WorkbenchError
from workbench.messages import (
    Failed,
    Finished,
    GenerateConfig,
    Generation,
    GenerationBuilder,
    Message,
    Opened,
    Phase,
    StopReason,
    StreamEvent,
)

Take = Callable[[list[StreamEvent], LaneState], None]
Recover = Callable[[WorkbenchError], Awaitable[bool]]
"""Puts right what refused a request, if it can; returns whether to ask again."""


def messages_sha(messages: Sequence[Message]) -> str:
    """Return the SHA-256 of messages as they are sent."""
    wire = [message.to_wire() for message in messages]
    return hashlib.sha256(msgspec.json.encode(wire)).hexdigest()


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked.

    Attributes:
        model: Its name.
        messages: All that is meant to be sent.
        config: Options, thinking, format.
        context: Conversation, turn, speaker and so on, for the server's records.
        context_tokens: What the model's context holds; `None` when nobody says.
        shorter: Returns the messages without so many of the oldest lines.
        droppable: How many lines may be left out.
    """

    model: str
    messages: Sequence[Message]
    config: GenerateConfig = field(default_factory=GenerateConfig)
    context: Mapping[str, object] = field(default_factory=dict)
    context_tokens: int | None = None
    shorter: Callable[[int], Sequence[Message]] | None = None
    droppable: int = 0

    def fitted(self, meter: TokenMeter, *, at_least: int = 0) -> tuple[Sequence[Message], int]:
        """Return what is sent, and how many of the oldest lines do not fit the context."""
        budget = None
        if self.context_tokens is not None:
            predict = self.config.options.get("num_predict")
            budget = prompt_budget(self.context_tokens, num_predict=predict)
        for dropped in range(at_least, self.droppable + 1):
            messages = self.messages if self.shorter is None else self.shorter(dropped)
            if budget is None or meter.estimate(messages) <= budget:
                return messages, dropped
        return messages, self.droppable


class Exchange:
    """Asks once and follows the answer; what came stays, however it ends.

    Attributes:
        sent: The messages that were sent.
        dropped: How many of the oldest lines did not fit the context and were not.
        tracker: What the model does.
    """

    def __init__(
        self, client: WorkbenchClient, request: Request, *, meter: TokenMeter, turn: int | None
    ) -> None:
        self._client = client
        self._request = request
        self._meter = meter
        self._builder = GenerationBuilder(request.model)
        self._began = time.perf_counter()
        self._was_cut = False
        self.tracker = LaneTracker(turn)
        self.sent, self.dropped = request.fitted(meter)

    @property
    def text(self) -> str:
        """The answer so far."""
        return self._builder.text

    @property
    def thinking(self) -> str:
        """The thinking so far."""
        return self._builder.thinking

    def seconds(self) -> float:
        """Return the seconds since it was asked."""
        return time.perf_counter() - self._began

    async def run(
        self, take: Take, *, changed: Callable[[], None], recover: Recover | None = None
    ) -> None:
        """Ask and hand over the events as they arrive.

        A prompt that is too long is cut once; what else refused it before the first token may be
        put right once, and it is asked again.

        Args:
            take: Gets the events that arrived together, and what the model does after them.
            changed: Called when other messages are sent than were at first.
            recover: Gets a refusal, and returns whether to ask again.

        Raises:
            WorkbenchError: When there was no answer; one that broke off ends in `Failed`.
        """
        self._began = time.perf_counter()
        while (refusal := await self._attempt(take)) is not None:
            if is_context_error(refusal) and self._cut():
                changed()
            elif recover is None or not await recover(refusal):
                raise refusal
            else:
                recover = None

    def _cut(self) -> bool:
        """Leave about half of the lines out, once; returns whether that was possible."""
        left = self._request.droppable - self.dropped
        if self._was_cut or left <= 0:
            return False
        self._was_cut = True
        self._meter.was_too_low()
        at_least = self.dropped + max(1, left // 2)
        self.sent, self.dropped = self._request.fitted(self._meter, at_least=at_least)
        return True

    async def _attempt(self, take: Take) -> WorkbenchError | None:
        """Ask once; returns what refused it before the first token."""
        request, tokens_came = self._request, False
        batches = self._client.chat_batches(
            request.model,
            self.sent,
            config=replace(request.config, truncate=False),
            context=request.context,
        )
        try:
            async with contextlib.aclosing(batches):
                async for batch in batches:
                    early = all(isinstance(e, Opened | Phase | Failed) for e in batch)
                    tokens_came = tokens_came or not early
                    end = batch[-1]
                    if isinstance(end, Failed) and not tokens_came:
                        return end.error
                    self._take(batch, take)
        except WorkbenchError as exc:
            if tokens_came:
                raise
            return exc
        return None

    def _take(self, batch: list[StreamEvent], take: Take) -> None:
        at_s = self.seconds()
        for event in batch:
            self._builder.add(event, at_s=at_s)
        end = batch[-1]
        if isinstance(end, Finished) and end.usage.input_tokens:
            self._meter.learn(self.sent, end.usage.input_tokens)
        take(batch, self.tracker.feed(batch, at_s=at_s))

    def fail(self, error: WorkbenchError) -> None:
        """Note what ended it before its answer began."""
        self._builder.add(Failed(error), at_s=self.seconds())
        self.tracker.feed([Failed(error)], at_s=self.seconds())

    def build(self, *, stop_reason: StopReason | None = None) -> Generation:
        """Return what came; `stop_reason` is for an ending without a last event."""
        if stop_reason is not None:
            self.tracker.end(stop_reason)
        return self._builder.build(elapsed_s=self.seconds(), stop_reason=stop_reason)


async def answered(
    client: WorkbenchClient,
    request: Request,
    *,
    meter: TokenMeter,
    recover: Recover | None = None,
) -> tuple[Generation, str]:
    """Return a whole answer and the SHA-256 of what was sent.

    Raises:
        WorkbenchError: When it could not be had or broke off.
    """
    exchange = Exchange(client, request, meter=meter, turn=None)
    await exchange.run(lambda batch, lane: None, changed=lambda: None, recover=recover)
    generation = exchange.build()
    if generation.error is not None:
        raise generation.error
    return generation, messages_sha(exchange.sent)


def choice_in(text: str, choices: Sequence[str]) -> str:
    """Return which of the choices an answer names, or nothing.

    A model that follows the schema answers `{"choice": name}`; one whose engine does not enforce
    it may answer with the bare name, in any case, and that is understood too.
    """
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    if isinstance(value, Mapping):
        value = value.get("choice")
    if not isinstance(value, str):
        return ""
    said = value.strip().strip("\"'`[]").strip().casefold()
    return next((choice for choice in choices if choice.casefold() == said), "")
