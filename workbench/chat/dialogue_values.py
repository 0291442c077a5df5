"""What a dialogue is made of: turns, lanes, side requests and events; pure values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from workbench.chat.participants import Line, Participant
from workbench.chat.transcript import error_wire
from workbench.messages import (
    NO_TIMINGS,
    NO_USAGE,
    Failed,
    Finished,
    Generation,
    Phase,
    ReasoningDelta,
    StopReason,
    StreamEvent,
    TextDelta,
    Timings,
    Usage,
)
from workbench.units import rfc3339, utc_now

TurnStatus = Literal["writing", "done", "failed", "skipped", "cancelled"]
State = Literal["ready", "running", "paused", "waiting", "failed", "done"]
LanePhase = Literal[
    "idle", "queued", "unloading", "loading", "reading prompt", "thinking", "writing", "done"
]
AsideKind = Literal["moderator", "summary", "stop", "judge"]


@dataclass(frozen=True, slots=True)
class Turn:
    """One contribution to a dialogue; `None` is unknown.

    Attributes:
        index: Its place in the dialogue, from 0.
        id: Its own id; a turn that was said again has another.
        model: The name the server resolved the request to; empty for a person.
        digest: Of the model, as the server told before the turn.
        status: `skipped` and `failed` ones are not heard by anybody.
        stop_reason: Why the answer ended; `None` while it arrives.
        config: The request's options in wire form, the seed among them.
        error: `{"type", "message", "hint"}` of what ended it; `plan` as well when the model waits
            for consent that others leave.
        predicted_swap_s: Seconds until its model is in memory, as foreseen before it began.
        measured_swap_s: The same as it came.
        messages_sha: SHA-256 of the messages that were sent.
        round: Turns of one round do not hear each other.
        note: What the turn was to be, as its speaker was told.
        picked: How the speaker came to its turn: `order`, `moderator`, `fallback` (a moderator
            was asked and named nobody), or `person`.
        dropped_turns: Oldest turns that did not fit the context and were not sent; the opening
            always is.
        original: What the model said where a person changed it.
        asked: `participant` as it was when it was asked, and `sharing`: names of those whose
            thinking was heard; empty in turns that were kept before this was.
    """

    index: int
    speaker: str
    id: str
    model: str = ""
    digest: str | None = None
    text: str = ""
    thinking: str = ""
    status: TurnStatus = "writing"
    stop_reason: StopReason | None = None
    usage: Usage = NO_USAGE
    timings: Timings = NO_TIMINGS
    ttft_s: float | None = None
    elapsed_s: float | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    request_id: str = ""
    error: Mapping[str, Any] | None = None
    predicted_swap_s: float | None = None
    measured_swap_s: float | None = None
    messages_sha: str = ""
    round: int = 0
    note: str = ""
    picked: Literal["order", "moderator", "fallback", "person"] = "order"
    dropped_turns: int = 0
    original: str | None = None
    asked: Mapping[str, Any] = field(default_factory=dict)
    created_at: datetime = field(default_factory=utc_now)

    @property
    def human(self) -> bool:
        """Whether a person said it."""
        return self.picked == "person"

    @property
    def heard(self) -> bool:
        """Whether the others hear it."""
        return self.status in ("done", "cancelled") and bool(self.text.strip())

    @property
    def tokens_per_s(self) -> float | None:
        """Output tokens per second of generation."""
        tokens, seconds = self.usage.output_tokens, self.timings.eval_s
        return tokens / seconds if tokens and seconds else None

    @property
    def load_s(self) -> float | None:
        """Seconds the engine reports for loading and waiting for room."""
        return self.timings.load_s

    @property
    def seed(self) -> int | None:
        """The seed it was asked with."""
        return (self.config.get("options") or {}).get("seed")

    def line(self, *, thinking: bool = False) -> Line:
        """Return what was said; with the thinking when it is shared."""
        return Line(self.speaker, self.text, self.thinking if thinking else "", self.human)

    def ended(self, generation: Generation, status: TurnStatus) -> Turn:
        """Return the turn as it ended."""
        error = generation.error
        return replace(
            self,
            model=generation.model or self.model,
            text=generation.text,
            thinking=generation.thinking,
            status=status,
            stop_reason=generation.stop_reason,
            usage=generation.usage,
            timings=generation.timings,
            ttft_s=generation.ttft_s,
            elapsed_s=generation.elapsed_s,
            request_id=generation.request_id,
            error=None if error is None else error_wire(error),
        )

    def to_wire(self) -> dict[str, Any]:
        """Return it as JSON values."""
        wire: dict[str, Any] = msgspec.to_builtins(self)
        return {**wire, "created_at": rfc3339(self.created_at)}

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> Turn:
        """Read what `to_wire` wrote."""
        found = msgspec.convert(dict(wire), cls)
        return replace(found, created_at=found.created_at.astimezone(UTC))


@dataclass(frozen=True, slots=True)
class Aside:
    """A request that served a dialogue and is no turn: a choice, a summary, a judgement.

    Attributes:
        turn: Index of the turn before which it was made.
        value: What was understood of the answer: a name, a verdict; empty when nothing was.
        key: For a summary: whose memory it is, and `upto` how many of the lines it stands for.
        attempt: 0, or 1 when the first answer could not be used.
    """

    kind: AsideKind
    turn: int
    model: str
    id: str
    text: str = ""
    value: str = ""
    digest: str | None = None
    request_id: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    messages_sha: str = ""
    key: str = ""
    upto: int = 0
    attempt: int = 0
    error: Mapping[str, Any] | None = None

    def to_wire(self) -> dict[str, Any]:
        """Return it as JSON values."""
        wire: dict[str, Any] = msgspec.to_builtins(self)
        return wire

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> Aside:
        """Read what `to_wire` wrote."""
        return msgspec.convert(dict(wire), cls)


@dataclass(frozen=True, slots=True)
class LaneState:
    """What a participant's model is doing.

    Attributes:
        phase: `idle` before its first turn.
        seconds: How long the phase has lasted.
        bytes: For `loading` and `unloading`: the size of the model.
        detail: For `unloading`: which model leaves; for `done`: why the answer ended.
        tokens: Tokens written so far, the thinking among them; counted by the engine once done.
        tokens_per_s: Over the writing so far; by the engine once done.
        ttft_s: Seconds from asking to the first token.
        turn: Index of its turn.
    """

    phase: LanePhase = "idle"
    seconds: float | None = None
    bytes: int | None = None
    detail: str = ""
    tokens: int | None = None
    tokens_per_s: float | None = None
    ttft_s: float | None = None
    turn: int | None = None


class LaneTracker:
    """Follows the events of one answer; times are seconds since it was asked for.

    Attributes:
        lane: What it does now.
    """

    def __init__(self, turn: int | None = None) -> None:
        self.lane = LaneState("queued", 0.0, turn=turn)
        self._since = 0.0
        self._swapping_since: float | None = None
        self._swap_s = 0.0
        self._told = False
        self._first_s: float | None = None

    @property
    def swap_s(self) -> float | None:
        """Seconds of unloading and loading; `None` when nobody told of any phase."""
        return self._swap_s if self._told else None

    def feed(self, events: Sequence[StreamEvent], *, at_s: float) -> LaneState:
        """Take events that arrived together and return the state after them."""
        for event in events:
            self._clock(event, at_s)
            if isinstance(event, Phase):
                self._phase(event, at_s)
            elif isinstance(event, TextDelta | ReasoningDelta):
                self._token(event, at_s)
            elif isinstance(event, Finished):
                self._finished(event)
            elif isinstance(event, Failed):
                self.end(type(event.error).__name__)
        return self.lane

    def end(self, reason: str) -> LaneState:
        """Note an ending without a last event."""
        self.lane = replace(self.lane, phase="done", detail=reason)
        return self.lane

    def _clock(self, event: StreamEvent, at_s: float) -> None:
        swapping = isinstance(event, Phase) and event.name in ("unloading", "loading")
        self._told = self._told or isinstance(event, Phase)
        if swapping and self._swapping_since is None:
            self._swapping_since = at_s - (getattr(event, "seconds", None) or 0.0)
        elif not swapping and self._swapping_since is not None:
            self._swap_s += max(0.0, at_s - self._swapping_since)
            self._swapping_since = None

    def _phase(self, event: Phase, at_s: float) -> None:
        if event.name != self.lane.phase or event.detail != self.lane.detail:
            self._since = at_s
        seconds = at_s - self._since if event.seconds is None else event.seconds
        self.lane = replace(
            self.lane, phase=event.name, seconds=seconds, bytes=event.bytes, detail=event.detail
        )

    def _token(self, event: TextDelta | ReasoningDelta, at_s: float) -> None:
        phase: LanePhase = "writing" if isinstance(event, TextDelta) else "thinking"
        if self._first_s is None:
            self._first_s = at_s
        if phase != self.lane.phase:
            self._since = at_s
        tokens, writing_s = (self.lane.tokens or 0) + 1, at_s - self._first_s
        self.lane = replace(
            self.lane,
            phase=phase,
            seconds=at_s - self._since,
            bytes=None,
            detail="",
            tokens=tokens,
            tokens_per_s=(tokens - 1) / writing_s if writing_s > 0 else None,
            ttft_s=self._first_s,
        )

    def _finished(self, event: Finished) -> None:
        tokens, eval_s = event.usage.output_tokens, event.timings.eval_s
        self.lane = replace(
            self.lane,
            phase="done",
            bytes=None,
            detail=event.stop_reason,
            tokens=self.lane.tokens if tokens is None else tokens,
            tokens_per_s=tokens / eval_s if tokens and eval_s else self.lane.tokens_per_s,
        )


EventKind = Literal["turn", "events", "lane", "state", "aside", "plan"]


@dataclass(frozen=True, slots=True)
class DialogueEvent:
    """Something that changed in a dialogue.

    Attributes:
        kind: `turn`: one began, ended or was changed; `events`: pieces of a turn arrived; `lane`:
            what a model does changed; `state`: the dialogue's own state, a pause that is asked for,
            or who is muted; `aside`: a side request
            ended; `plan`: what memory the dialogue needs became known.
        turn: The turn as it is now, for `turn` and `events`; the text of one that arrives is
            complete in `Dialogue.turns` only.
        lane: The participant's name, for `turn`, `events` and `lane`.
    """

    kind: EventKind
    turn: Turn | None = None
    events: Sequence[StreamEvent] = ()
    lane: str | None = None
    aside: Aside | None = None


@dataclass(frozen=True, slots=True)
class View:
    """A dialogue as orders and stop rules see it.

    Attributes:
        turns: What was said, the failed and skipped ones among it.
        participants: Everybody.
        active: Names of those who may speak, in order: all but the muted ones.
        opening: What the dialogue is about.
        elapsed_s: Seconds it has run, pauses left out.
        limit: How many turns the models may take; `None` is not limited.
    """

    turns: tuple[Turn, ...]
    participants: tuple[Participant, ...]
    active: tuple[str, ...]
    opening: str = ""
    elapsed_s: float = 0.0
    limit: int | None = None

    @property
    def spoken(self) -> tuple[Turn, ...]:
        """The turns of models, without failed ones."""
        return tuple(turn for turn in self.turns if not turn.human and turn.status != "failed")

    @property
    def last(self) -> Turn | None:
        """The last turn that was heard, or `None`."""
        return next((turn for turn in reversed(self.turns) if turn.heard), None)
