"""Ask every turn of a stored dialogue again, and say where the first one differs.

Each turn is asked with what was really said before it, so that one difference does not cause the
next.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from workbench.chat.dialogue_log import DialogueTranscript, read_dialogue
from workbench.chat.dialogue_setup import Setup
from workbench.chat.dialogue_values import Aside, Turn
from workbench.chat.exchange import Request, answered, messages_sha
from workbench.chat.participants import Participant, heard_by, messages_for
from workbench.chat.recollection import Minutes, Summary, memory_key, recalled
from workbench.chat.speaking import lines_before
from workbench.chat.staging import Stage
from workbench.chat.window import TokenMeter
from workbench.client.api import WorkbenchClient
from workbench.client.values import Printed
from workbench.errors import StoreError, WorkbenchError
from workbench.messages import GenerateConfig, Message
from workbench.units import sortable_id

What = Literal["text", "thinking", "digest", "messages", "error"]
_SHOWN_CHARS = 60


@dataclass(frozen=True, slots=True)
class Difference:
    """The first thing of a replay that is not as it was stored.

    Attributes:
        turn: Index of the turn.
        what: `messages`: other messages would be sent; `digest`: the model is another one;
            `text` or `thinking`: it answers otherwise; `error`: it does not answer.
        at: For texts: place of the first character that differs.
    """

    turn: int
    speaker: str
    what: What
    stored: str
    found: str
    at: int | None = None

    def __str__(self) -> str:
        where = "" if self.at is None else f" from character {self.at} on"
        begin = max(0, (self.at or 0) - _SHOWN_CHARS // 2)
        stored, found = (t[begin : begin + _SHOWN_CHARS] for t in (self.stored, self.found))
        return (
            f"turn {self.turn} ({self.speaker}): the {self.what} differs{where}: "
            f"{stored!r} was stored, {found!r} was found"
        )


@dataclass(frozen=True)
class Replay(Printed):
    """What a replay found.

    Attributes:
        checked: Turns that are as they were stored.
        skipped: Turns that were not compared: a person's, and those that did not end by
            themselves.
        difference: The first one, or `None`; nothing after it is asked.
    """

    checked: int
    skipped: int
    difference: Difference | None = None

    @property
    def ok(self) -> bool:
        """Whether nothing differs."""
        return self.difference is None

    def __str__(self) -> str:
        turns = "1 turn" if self.checked == 1 else f"{self.checked} turns"
        skipped = f", {self.skipped} not compared" if self.skipped else ""
        if self.difference is None:
            return f"{turns} as stored{skipped}"
        return f"{turns} as stored{skipped}; {self.difference}"


def as_transcript(
    source: DialogueTranscript | Mapping[str, Any] | str | Path,
) -> DialogueTranscript:
    """Return a transcript given as an object, as decoded JSON, as JSON text, or as a file.

    Raises:
        StoreError: When it is none.
    """
    if isinstance(source, DialogueTranscript):
        return source
    if isinstance(source, Mapping):
        return DialogueTranscript.from_wire(source)
    if isinstance(source, str) and source.lstrip().startswith("{"):
        return _decoded(source)
    path = Path(source)
    if path.suffix == ".jsonl":
        return read_dialogue(path)[0]
    try:
        return _decoded(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as exc:
        raise StoreError(f"{path} cannot be read: {exc}.") from exc


def _decoded(text: str) -> DialogueTranscript:
    try:
        wire = json.loads(text)
    except ValueError as exc:
        raise StoreError(f"The transcript is not JSON: {exc}.") from exc
    if not isinstance(wire, Mapping):
        raise StoreError("The transcript is not a JSON object.")
    return DialogueTranscript.from_wire(wire)


async def areplay(
    source: DialogueTranscript | Mapping[str, Any] | str | Path, client: WorkbenchClient
) -> Replay:
    """Ask every turn again and compare; on the portal.

    Raises:
        StoreError: When the transcript cannot be read.
        WorkbenchError: When a model is missing or does not fit.
    """
    transcript = as_transcript(source)
    setup = Setup.from_wire(transcript.setup)
    stage = Stage(client, holder=f"replay of {transcript.id}")
    await stage.survey(setup.wanted())
    replay_id, checked, skipped = sortable_id(), 0, 0
    try:
        for turn in transcript.turns:
            if not _comparable(turn):
                skipped += 1
                continue
            found = await _differs(client, stage, (transcript, setup, turn), replay_id)
            if found is not None:
                return Replay(checked, skipped, found)
            checked += 1
    finally:
        await stage.close()
    return Replay(checked, skipped)


def _comparable(turn: Turn) -> bool:
    return not turn.human and bool(turn.messages_sha) and turn.stop_reason in ("stop", "length")


async def _differs(
    client: WorkbenchClient,
    stage: Stage,
    about: tuple[DialogueTranscript, Setup, Turn],
    replay_id: str,
) -> Difference | None:
    transcript, setup, turn = about
    participant, _ = _asked(setup, turn)

    def difference(what: What, stored: str, found: str, at: int | None = None) -> Difference:
        return Difference(turn.index, turn.speaker, what, stored, found, at)

    digest = await stage.digest_of(participant.model)
    if turn.digest and digest and turn.digest != digest:
        return difference("digest", turn.digest, digest)
    messages = stored_messages(transcript, setup, turn)
    sha = messages_sha(messages)
    if sha != turn.messages_sha:
        return difference("messages", turn.messages_sha, sha)
    await stage.before(participant.model)
    request = Request(
        participant.model,
        messages,
        GenerateConfig.from_wire(turn.config),
        {"conversation": replay_id, "turn": turn.index, "speaker": turn.speaker},
    )
    try:
        generation, _ = await answered(client, request, meter=TokenMeter(), recover=stage.recover)
    except WorkbenchError as exc:
        return difference("error", "", str(exc))
    for what, stored, found in (
        ("thinking", turn.thinking, generation.thinking),
        ("text", turn.text if turn.original is None else turn.original, generation.text),
    ):
        if stored != found:
            kind: What = "text" if what == "text" else "thinking"
            return difference(kind, stored, found, _first_difference(stored, found))
    return None


def _first_difference(stored: str, found: str) -> int:
    pairs = enumerate(zip(stored, found, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(stored), len(found)))


def stored_messages(transcript: DialogueTranscript, setup: Setup, turn: Turn) -> list[Message]:
    """Return the messages a turn was asked with, from what was said before it."""
    participant, sharing = _asked(setup, turn)
    heard = heard_by(participant, lines_before(transcript.turns, turn.round, sharing))
    names = {item.name for item in setup.cast} | {line.speaker for line in heard}
    # Whoever came first in a round had what all of them heard summarised.
    last = max(item.index for item in transcript.turns if item.round == turn.round)
    minutes = _minutes(transcript.asides, participant, last)
    summary, kept = recalled(setup.memory, heard, minutes)
    return messages_for(
        participant,
        kept[turn.dropped_turns :],
        opening=setup.opening,
        names=sorted(names),
        summary=summary if isinstance(setup.memory, Summary) else "",
        note=turn.note,
    )


def _asked(setup: Setup, turn: Turn) -> tuple[Participant, list[str]]:
    """Return who was asked for a turn, and whose thinking it heard, as they were then.

    A participant may have been adjusted since, or its model taken over by another one.
    """
    if not turn.asked:
        sharing = [item.name for item in setup.cast if item.share_thinking]
        return setup.participant(turn.speaker), sharing
    return Participant.from_wire(turn.asked["participant"]), list(turn.asked["sharing"])


def _minutes(asides: Sequence[Aside], participant: Participant, last: int) -> Minutes:
    key = memory_key(participant)
    found = [
        item for item in asides if item.kind == "summary" and item.key == key and item.turn <= last
    ]
    return Minutes(found[-1].value, found[-1].upto) if found else Minutes()
