"""One turn of a dialogue on its way: what is sent, what arrives, how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from workbench.chat.dialogue_values import Aside, DialogueEvent, LaneState, Turn, TurnStatus
from workbench.chat.exchange import Exchange, Request, answered, messages_sha
from workbench.chat.participants import Line, Participant, heard_by, messages_for
from workbench.chat.recollection import Minutes, Summary, memory_key, recalled, to_summarise
from workbench.chat.store import FLUSH_S
from workbench.errors import WorkbenchError
from workbench.messages import (
    GenerateConfig,
    Generation,
    Message,
    ReasoningDelta,
    StopReason,
    StreamEvent,
    TextDelta,
)
from workbench.units import sortable_id

if TYPE_CHECKING:
    from workbench.chat.dialogue_core import Core

Picked = Literal["order", "moderator", "fallback", "person"]
Cut = Literal["cancelled", "interrupted", "skipped"]


@dataclass(frozen=True, slots=True)
class Placed:
    """A turn that has its place but was not said yet."""

    index: int
    speaker: str
    round: int
    note: str = ""
    picked: Picked = "order"


def lines_before(turns: Sequence[Turn], round_: int, sharing: Sequence[str]) -> list[Line]:
    """Return what was said before a round, with the thinking of those who share it."""
    return [
        turn.line(thinking=turn.speaker in sharing)
        for turn in sorted(turns, key=lambda item: item.index)
        if turn.heard and turn.round < round_
    ]


class Speaking:
    """Says one turn and records it; a task of its own, so that any thread can stop it.

    Attributes:
        task: Set by whoever starts it.
    """

    def __init__(self, core: Core, placed: Placed) -> None:
        self._core = core
        self._placed = placed
        self._participant: Participant = core.setup.participant(placed.speaker)
        self.turn_id = sortable_id()
        self.task: asyncio.Task[None] | None = None
        self._begun = False
        self._sharing: list[str] = []
        self._cut: Cut | None = None
        self._exchange: Exchange | None = None
        self._unwritten: list[TextDelta | ReasoningDelta] = []
        self._timer: asyncio.TimerHandle | None = None

    def stop(self, cut: Cut) -> None:
        """End it; the first reason counts.  On the portal's loop."""
        if self._cut is None:
            self._cut = cut
            # A task cancelled before its first step never runs, and would leave nothing recorded.
            if self._begun and self.task is not None:
                self.task.cancel()

    async def run(self) -> None:
        """Say the turn; however it ends, its end is recorded."""
        core, placed = self._core, self._placed
        self._begun = True
        core.change(
            core.transcript.begin(
                Turn(
                    placed.index,
                    placed.speaker,
                    self.turn_id,
                    model=self._participant.model,
                    round=placed.round,
                    note=placed.note,
                    picked=placed.picked,
                )
            )
        )
        core.set_lane(placed.speaker, LaneState("queued", 0.0, turn=placed.index))
        core.tell_turn(self.turn_id)
        error: WorkbenchError | None = None
        try:
            if self._cut is not None:
                raise asyncio.CancelledError
            await self._say()
        except asyncio.CancelledError:
            # A task of its own: nobody above it waits for the cancellation to go on.
            self._cut = self._cut or "interrupted"
        except WorkbenchError as exc:
            error = exc
        self._end(error)

    async def _say(self) -> None:
        core, participant, placed = self._core, self._participant, self._placed
        config = core.setup.config(participant, placed.index)
        shorter, droppable = await self._messages()
        predicted = await core.stage.before(participant.model, config.options)
        if core.consenting or core.setup.swap:
            core.consenting = False
            await core.stage.consent(participant.model, config)
        request = Request(
            participant.model,
            shorter(0),
            config,
            core.context(placed.speaker, placed.index),
            core.context_tokens(participant.model, config.options.get("num_ctx")),
            shorter,
            droppable,
        )
        self._exchange = Exchange(
            core.client, request, meter=core.meter(participant.model), turn=placed.index
        )
        self._asked(predicted, config)
        await self._exchange.run(
            self._take,
            changed=lambda: self._asked(predicted, config),
            recover=core.stage.recover,
        )

    def _asked(self, predicted_s: float | None, config: GenerateConfig) -> None:
        assert self._exchange is not None
        core, exchange = self._core, self._exchange
        turn = replace(
            core.transcript.bare(self.turn_id),
            digest=core.digest(self._participant.model),
            config=config.to_wire(),
            predicted_swap_s=predicted_s,
            messages_sha=messages_sha(exchange.sent),
            dropped_turns=exchange.dropped,
            asked={"participant": self._participant.to_wire(), "sharing": self._sharing},
        )
        core.change(core.transcript.asked(turn), flush=False)
        core.tell_turn(self.turn_id)

    async def _messages(self) -> tuple[Callable[[int], list[Message]], int]:
        """Return what gives the messages without the oldest lines, and how many there are."""
        core, participant = self._core, self._participant
        setup = core.setup
        self._sharing = [item.name for item in setup.cast if item.share_thinking]
        said = lines_before(core.transcript.turns, self._placed.round, self._sharing)
        heard = heard_by(participant, said)
        names = {item.name for item in setup.cast} | {line.speaker for line in heard}
        minutes = core.minutes(participant)
        if isinstance(setup.memory, Summary):
            minutes = await self._summarised(setup.memory, heard, sorted(names))
        summary, kept = recalled(setup.memory, heard, minutes)

        def shorter(dropped: int) -> list[Message]:
            return messages_for(
                participant,
                kept[dropped:],
                opening=setup.opening,
                names=sorted(names),
                summary=summary,
                note=self._placed.note,
            )

        return shorter, max(0, len(kept) - 1)

    async def _summarised(
        self, summary: Summary, heard: Sequence[Line], names: Sequence[str]
    ) -> Minutes:
        core, participant = self._core, self._participant
        # Several who hear the same must not have it summarised twice.
        async with core.summing:
            minutes = core.minutes(participant)
            lines = to_summarise(summary, heard, minutes)
            if not lines:
                return minutes
            config = summary.config(seed=core.setup.seed_of(self._placed.index))
            await core.stage.before(summary.model, config.options)
            request = Request(
                summary.model,
                summary.messages(minutes.text, lines, opening=core.setup.opening, names=names),
                config,
                core.context("summary", self._placed.index),
                core.context_tokens(summary.model, config.options.get("num_ctx")),
            )
            generation, sha = await answered(
                core.client,
                request,
                meter=core.meter(summary.model),
                recover=core.stage.recover,
            )
            upto = minutes.upto + len(lines)
            core.note(
                Aside(
                    "summary",
                    self._placed.index,
                    generation.model,
                    sortable_id(),
                    text=generation.text,
                    value=generation.text.strip(),
                    digest=core.digest(summary.model),
                    request_id=generation.request_id,
                    config=config.to_wire(),
                    messages_sha=sha,
                    key=memory_key(participant),
                    upto=upto,
                )
            )
            return Minutes(generation.text.strip(), upto)

    # --- what arrives

    def _take(self, batch: list[StreamEvent], lane: LaneState) -> None:
        core = self._core
        for event in batch:
            if isinstance(event, TextDelta | ReasoningDelta):
                self._unwritten.append(event)
                text = event.text if isinstance(event, TextDelta) else ""
                thinking = "" if isinstance(event, TextDelta) else event.text
                core.transcript.arrive(self.turn_id, text=text, thinking=thinking)
        if self._unwritten and self._timer is None and core.log is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(FLUSH_S, self._write_deltas)
        core.set_lane(self._placed.speaker, lane)
        turn = core.transcript.bare(self.turn_id)
        core.emit(DialogueEvent("events", turn=turn, events=batch, lane=turn.speaker))

    def _write_deltas(self) -> None:
        self._timer = None
        text = "".join(e.text for e in self._unwritten if isinstance(e, TextDelta))
        thinking = "".join(e.text for e in self._unwritten if isinstance(e, ReasoningDelta))
        self._unwritten.clear()
        if text or thinking:
            core = self._core
            core.change(core.transcript.delta(self.turn_id, text=text, thinking=thinking))

    # --- how it ends

    def _end(self, error: WorkbenchError | None) -> None:
        core, exchange = self._core, self._exchange
        if self._timer is not None:
            self._timer.cancel()
        self._write_deltas()
        reason: StopReason | None = None
        if self._cut is not None:
            reason = "interrupted" if self._cut == "interrupted" else "cancelled"
        if exchange is not None:
            if error is not None:
                exchange.fail(error)
            generation = exchange.build(stop_reason=reason)
        else:
            ended: StopReason = "error" if error is not None else reason or "cancelled"
            generation = Generation("", self._participant.model, ended, error=error)
        if generation.error is not None:
            core.failures[self.turn_id] = generation.error
        turn = core.transcript.bare(self.turn_id).ended(generation, self._status(generation))
        turn = replace(turn, measured_swap_s=self._swap_s(generation))
        core.stage.took(self._participant.model, turn.measured_swap_s)
        core.change(core.transcript.end(turn))
        lane = exchange.tracker.lane if exchange is not None else LaneState(turn=turn.index)
        core.set_lane(turn.speaker, replace(lane, phase="done", detail=self._why(turn)))
        core.tell_turn(turn.id)

    def _status(self, generation: Generation) -> TurnStatus:
        if self._cut == "skipped":
            return "skipped"
        if generation.error is not None:
            return "failed"
        return "cancelled" if self._cut is not None else "done"

    def _swap_s(self, generation: Generation) -> float | None:
        if self._exchange is None or generation.ttft_s is None:
            return None
        swap_s = self._exchange.tracker.swap_s
        # A plain Ollama tells of no phases, and of the load at the end only.
        return generation.timings.load_s if swap_s is None else swap_s

    def _why(self, turn: Turn) -> str:
        if turn.status == "failed" and turn.error is not None:
            return str(turn.error["type"])
        return turn.status if turn.status == "skipped" else str(turn.stop_reason)
