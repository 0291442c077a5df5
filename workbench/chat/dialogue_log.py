"""The transcript of a dialogue: turns and side requests that only grow by records.

It is written by the same writer as a conversation, into `<data_dir>/dialogues/<id>.jsonl`: a kill
loses at most half a second, and every request's parameters, seed and digest are in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import msgspec

from workbench.chat.dialogue_values import Aside, State, Turn
from workbench.chat.show import plain
from workbench.chat.store import append_to, chat_path, delete_chat, read_records
from workbench.errors import SchemaTooNew, StoreError
from workbench.units import rfc3339, sortable_id, utc_now

SCHEMA = 1
"""Version of the records, on the first line of each file."""

FOLDER = "dialogues"
KIND = "workbench.dialogue"

Record = dict[str, Any]

_TITLE_CHARS = 60
_DIED = {"type": "Interrupted", "message": "its process ended", "hint": None}

_decode = msgspec.json.Decoder().decode


class DialogueTranscript:
    """What was said and asked, and how; every method that changes it returns its record.

    Attributes:
        title: What a person called it; empty until then, see `title_of`.
        setup: How the dialogue was set up, in wire form.
        branch_of: `{"id", "turn"}` of the dialogue it goes on from, or `None`.
        asides: Side requests, in order.
        discarded: Turns that were said again.
        muted: Names of those who may not speak.
        staging: What the memory advisor said before the first turn, in wire form.
        verdicts: What judges found, in wire form.
    """

    def __init__(
        self,
        dialogue_id: str | None = None,
        *,
        created_at: datetime | None = None,
        branch_of: Mapping[str, Any] | None = None,
    ) -> None:
        self.id = dialogue_id or sortable_id()
        moment = rfc3339(created_at or utc_now())
        self.created_at = datetime.fromisoformat(moment).astimezone(UTC)
        self.branch_of = None if branch_of is None else dict(branch_of)
        self.title = ""
        self.setup: Record = {}
        self.asides: list[Aside] = []
        self.discarded: list[Turn] = []
        self.muted: set[str] = set()
        self.staging: Record | None = None
        self.verdicts: list[Record] = []
        self.state: State = "ready"
        self.stop_reason = ""
        self._turns: dict[str, Turn] = {}
        self._arriving: dict[str, tuple[list[str], list[str]]] = {}
        self._step: list[Record] = []

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DialogueTranscript) and self.to_wire() == other.to_wire()

    __hash__ = None  # type: ignore[assignment]

    def header(self) -> Record:
        """Return the first line of a file."""
        header: Record = {
            "schema": SCHEMA,
            "kind": KIND,
            "id": self.id,
            "created_at": rfc3339(self.created_at),
        }
        return header if self.branch_of is None else {**header, "branch_of": self.branch_of}

    def to_wire(self) -> Record:
        """Return everything as one JSON object."""
        return {
            **self.header(),
            **_given("title", self.title),
            "setup": self.setup,
            "state": self.state,
            "stop_reason": self.stop_reason,
            "muted": sorted(self.muted),
            "staging": self.staging,
            "turns": [turn.to_wire() for turn in self.turns],
            "step": self._step,
            "asides": [aside.to_wire() for aside in self.asides],
            "verdicts": self.verdicts,
            "discarded": [turn.to_wire() for turn in self.discarded],
        }

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> DialogueTranscript:
        """Read what `to_wire` wrote.

        Raises:
            SchemaTooNew: When a newer version wrote it.
            StoreError: When it is none of ours.
        """
        try:
            found = _begin(wire, "this transcript")
            found.title = str(wire.get("title", ""))
            found.setup = dict(wire["setup"])
            found.state = _state(wire["state"])
            found.stop_reason = str(wire["stop_reason"])
            found.muted = set(wire["muted"])
            found.staging = wire["staging"]
            found.verdicts = list(wire["verdicts"])
            found._step = list(wire["step"])
            found.asides = [Aside.from_wire(item) for item in wire["asides"]]
            found.discarded = [Turn.from_wire(item) for item in wire["discarded"]]
            for item in wire["turns"]:
                turn = Turn.from_wire(item)
                found._turns[turn.id] = turn
        except (KeyError, TypeError, ValueError, AttributeError) as exc:
            raise StoreError(f"This is not the transcript of a dialogue: {exc!r}.") from exc
        return found

    # --- reading

    @property
    def turns(self) -> list[Turn]:
        """Every turn in order, one that arrives with its text so far."""
        found = sorted(self._turns.values(), key=lambda turn: turn.index)
        return [self._whole(turn) for turn in found]

    def turn(self, turn_id: str) -> Turn:
        """Return a turn, one that arrives with its text so far."""
        return self._whole(self._turns[turn_id])

    def bare(self, turn_id: str) -> Turn:
        """Return a turn without joining the text that arrives."""
        return self._turns[turn_id]

    def _whole(self, turn: Turn) -> Turn:
        arriving = self._arriving.get(turn.id)
        if arriving is None:
            return turn
        text, thinking = ("".join(parts) for parts in arriving)
        return replace(turn, text=text, thinking=thinking)

    @property
    def next_index(self) -> int:
        """Index of the turn that comes next."""
        indices = [turn.index for turn in self._turns.values()]
        indices += [int(placed["index"]) for placed in self._step]
        return max(indices, default=-1) + 1

    @property
    def next_round(self) -> int:
        """Number of the round that comes next."""
        rounds = [turn.round for turn in self._turns.values()]
        rounds += [int(placed["round"]) for placed in self._step]
        return max(rounds, default=-1) + 1

    def pending(self) -> list[Record]:
        """Return the turns of the last step that were not said."""
        said = {turn.index for turn in self._turns.values()}
        return [placed for placed in self._step if placed["index"] not in said]

    def minutes(self, key: str) -> Aside | None:
        """Return the last summary of somebody's hearing, or `None`."""
        found = [item for item in self.asides if item.kind == "summary" and item.key == key]
        return found[-1] if found else None

    def records(self) -> list[Record]:
        """Return records that give this transcript, the header first."""
        found = [self.header(), {"op": "setup", "setup": self.setup}]
        found += [{"op": "title", "title": self.title}] if self.title else []
        found += [{"op": "mute", "name": name, "on": True} for name in sorted(self.muted)]
        found += [{"op": "staging", "staging": self.staging}] if self.staging else []
        found += [{"op": "said", **turn.to_wire()} for turn in self.discarded]
        found += [{"op": "discard", "id": turn.id} for turn in self.discarded]
        found += [{"op": "said", **turn.to_wire()} for turn in self.turns]
        found += [{"op": "step", "placed": self._step}] if self._step else []
        found += [{"op": "aside", **aside.to_wire()} for aside in self.asides]
        found += [{"op": "verdict", "verdict": verdict} for verdict in self.verdicts]
        return [*found, {"op": "state", "state": self.state, "reason": self.stop_reason}]

    def copy(self) -> DialogueTranscript:
        """Return the transcript as it is now; what arrives later is not in it."""
        other = DialogueTranscript(self.id, created_at=self.created_at, branch_of=self.branch_of)
        other.title, other.setup = self.title, self.setup
        other.muted, other.staging = set(self.muted), self.staging
        other.state, other.stop_reason = self.state, self.stop_reason
        other._turns = {turn.id: turn for turn in self.turns}
        other._step, other.verdicts = list(self._step), list(self.verdicts)
        other.asides, other.discarded = list(self.asides), list(self.discarded)
        return other

    def until(self, index: int, setup: Record) -> DialogueTranscript:
        """Return a new transcript with what was said before a turn."""
        other = DialogueTranscript(branch_of={"id": self.id, "turn": index})
        other.setup, other.muted = setup, set(self.muted)
        other._turns = {turn.id: turn for turn in self.turns if turn.index < index}
        other.asides = [item for item in self.asides if item.turn < index]
        if any(placed["index"] < index for placed in self._step):
            # The rest of a round in which nobody hears the others is still to be said.
            other._step = list(self._step)
        return other

    # --- operations

    def configure(self, setup: Record) -> Record:
        """Set how the dialogue is set up."""
        return self._do({"op": "setup", "setup": setup})

    def begin(self, turn: Turn) -> Record:
        """Add a turn that is about to arrive."""
        return self._do({"op": "turn", **turn.to_wire()})

    def add(self, turn: Turn) -> Record:
        """Add a turn that is complete."""
        return self._do({"op": "said", **turn.to_wire()})

    def asked(self, turn: Turn) -> Record:
        """Keep how a turn that arrives was asked for."""
        names = ("digest", "config", "predicted_swap_s", "messages_sha", "dropped_turns", "asked")
        return self._do({"op": "asked", "id": turn.id, **_some(turn, names)})

    def arrive(self, turn_id: str, *, text: str, thinking: str) -> None:
        """Take text that arrives; `delta` records it later."""
        texts, thoughts = self._arriving[turn_id]
        texts.append(text)
        thoughts.append(thinking)

    def delta(self, turn_id: str, *, text: str, thinking: str) -> Record:
        """Return the record of text that `arrive` took."""
        record: Record = {"op": "delta", "id": turn_id}
        return {**record, **({"text": text} if text else {}), **_given("thinking", thinking)}

    def end(self, turn: Turn) -> Record:
        """End a turn; its text is in the deltas, its length here, so that a gap is noticed."""
        wire = turn.to_wire()
        wire.pop("text"), wire.pop("thinking")
        return self._do({"op": "end", **wire, "chars": [len(turn.text), len(turn.thinking)]})

    def change(self, turn: Turn) -> Record:
        """Replace a complete turn, such as one a person edited."""
        return self._do({"op": "change", **turn.to_wire()})

    def discard(self, turn_id: str) -> Record:
        """Take a turn out that is said again."""
        return self._do({"op": "discard", "id": turn_id})

    def aside(self, aside: Aside) -> Record:
        """Add a side request."""
        return self._do({"op": "aside", **aside.to_wire()})

    def step(self, placed: list[Record]) -> Record:
        """Keep which turns are to be taken next."""
        return self._do({"op": "step", "placed": placed})

    def rename(self, title: str) -> Record:
        """Set the title."""
        return self._do({"op": "title", "title": title})

    def mute(self, name: str, *, on: bool) -> Record:
        """Take somebody's word, or give it back."""
        return self._do({"op": "mute", "name": name, "on": on})

    def stage(self, staging: Record) -> Record:
        """Keep what the memory advisor said."""
        return self._do({"op": "staging", "staging": staging})

    def judge(self, verdict: Record) -> Record:
        """Add what a judge found."""
        return self._do({"op": "verdict", "verdict": verdict})

    def become(self, state: State, reason: str = "") -> Record:
        """Set the dialogue's own state."""
        return self._do({"op": "state", "state": state, "reason": reason})

    def _do(self, record: Record) -> Record:
        self.apply(record)
        return record

    # --- replaying records

    def apply(self, record: Mapping[str, Any]) -> None:
        """Apply one record.

        Raises:
            KeyError, TypeError, ValueError: When the record is not of a known form.
        """
        operation = record["op"]
        if operation in ("turn", "said", "change"):
            turn = Turn.from_wire(record)
            if (operation == "change") != (turn.id in self._turns):
                raise ValueError(f"turn {turn.id} is there twice, or not at all")
            self._turns[turn.id] = turn
            if operation == "turn":
                self._arriving[turn.id] = ([], [])
        elif operation in ("asked", "delta", "end", "discard"):
            self._apply_to(self._turns[record["id"]], record)
        elif operation == "setup":
            self.setup = dict(record["setup"])
        elif operation == "title":
            self.title = str(record["title"])
        elif operation == "aside":
            self.asides.append(Aside.from_wire(record))
        elif operation == "mute":
            (self.muted.add if record["on"] else self.muted.discard)(str(record["name"]))
        elif operation == "step":
            self._step = [dict(placed) for placed in record["placed"]]
        elif operation == "staging":
            self.staging = dict(record["staging"])
        elif operation == "verdict":
            self.verdicts.append(dict(record["verdict"]))
        elif operation == "state":
            self.state, self.stop_reason = _state(record["state"]), str(record["reason"])
        else:
            raise ValueError(f"unknown operation {operation!r}")

    def _apply_to(self, turn: Turn, record: Mapping[str, Any]) -> None:
        operation = record["op"]
        if operation == "asked":
            fields = {key: value for key, value in record.items() if key not in ("op", "id")}
            self._turns[turn.id] = replace(turn, **fields)
        elif operation == "delta":
            self.arrive(turn.id, text=record.get("text", ""), thinking=record.get("thinking", ""))
        elif operation == "discard":
            self.discarded.append(self._whole(self._turns.pop(turn.id)))
            self._arriving.pop(turn.id, None)
        else:
            text, thinking = ("".join(parts) for parts in self._arriving.pop(turn.id))
            ended = Turn.from_wire({**record, "text": text, "thinking": thinking})
            self._turns[turn.id] = ended
            if record["chars"] != [len(text), len(thinking)]:
                raise ValueError(f"a part of turn {turn.id} is missing")

    def settle(self) -> int:
        """Note that the writer died: turns that arrived failed; returns how many there were."""
        arriving = list(self._arriving)
        for turn_id in arriving:
            whole = self.turn(turn_id)
            del self._arriving[turn_id]
            self._turns[turn_id] = replace(
                whole, status="failed", stop_reason="interrupted", error=dict(_DIED)
            )
        if arriving:
            self.state = "failed"
            self.stop_reason = f"{_DIED['message']} during a turn"
        elif self.state in ("running", "waiting"):
            self.state, self.stop_reason = "paused", str(_DIED["message"])
        return len(arriving)


def _some(turn: Turn, names: tuple[str, ...]) -> Record:
    return {name: getattr(turn, name) for name in names}


def _given(name: str, value: str) -> Record:
    return {name: value} if value else {}


def _state(value: Any) -> State:
    if value not in get_args(State):
        raise ValueError(f"unknown state {value!r}")
    found: State = value
    return found


def _begin(header: Mapping[str, Any], where: str) -> DialogueTranscript:
    if header["kind"] != KIND:
        raise ValueError(f"it is a {header['kind']}")
    found = int(header["schema"])
    if found > SCHEMA:
        raise SchemaTooNew(where, found=found, supported=SCHEMA)
    return DialogueTranscript(
        str(header["id"]),
        created_at=datetime.fromisoformat(header["created_at"]),
        branch_of=header.get("branch_of"),
    )


def dialogue_path(data_dir: Path, dialogue_id: str) -> Path:
    """Return the file of a dialogue."""
    return chat_path(data_dir, dialogue_id, folder=FOLDER)


def read_dialogue(path: Path) -> tuple[DialogueTranscript, int]:
    """Read a dialogue, also while another process writes it.

    Returns:
        The transcript, and how many damaged lines were skipped.

    Raises:
        SchemaTooNew: When a newer version of the workbench wrote it.
        StoreError: When there is no such file or it is none of ours.
    """
    first, lines = read_records(path, "dialogue")
    try:
        transcript = _begin(_decode(first), str(path))
    except (msgspec.DecodeError, KeyError, TypeError, ValueError) as exc:
        raise StoreError(f"{path} is not a dialogue: its first line is broken.") from exc
    damaged = sum(not _applied(transcript, line) for line in lines)
    transcript.settle()
    return transcript, damaged


def _applied(transcript: DialogueTranscript, line: bytes) -> bool:
    try:
        transcript.apply(_decode(line))
    except (msgspec.MsgspecError, LookupError, TypeError, ValueError, AttributeError):
        return False
    return True


@dataclass(frozen=True, slots=True)
class DialogueInfo:
    """One dialogue in a list; times are UTC.

    Attributes:
        participants: Names in their order.
        turns: How many there are.
        reason: Why it ended, failed or waits.
    """

    id: str
    title: str
    created_at: datetime
    updated_at: datetime
    participants: tuple[str, ...]
    turns: int
    state: str
    reason: str

    def cells(self) -> dict[str, str]:
        """Return column title to printed value."""
        return {
            "ID": self.id,
            "TITLE": self.title,
            "PARTICIPANTS": ", ".join(self.participants),
            "TURNS": str(self.turns),
            "STATE": f"{self.state}: {self.reason}" if self.reason else self.state,
            "UPDATED (UTC)": self.updated_at.strftime("%Y-%m-%d %H:%M"),
        }


def title_of(transcript: DialogueTranscript) -> str:
    """Return the title, else the beginning of the opening, on one line."""
    text = transcript.title or str(transcript.setup.get("opening") or "")
    line = " ".join(plain(text).split()) or "Dialogue"
    return line if len(line) <= _TITLE_CHARS else line[: _TITLE_CHARS - 1] + "…"


def list_dialogues(data_dir: Path, *, search: str | None = None) -> list[DialogueInfo]:
    """Return the dialogues, the last changed first; files that cannot be read are left out.

    Args:
        data_dir: The data folder.
        search: Only those with this text in the title, the opening or a turn, in any case.
    """
    found = [_info(path, search) for path in (data_dir / FOLDER).glob("*.jsonl")]
    listed = [info for info in found if info is not None]
    return sorted(listed, key=lambda info: info.updated_at, reverse=True)


def rename_dialogue(data_dir: Path, dialogue_id: str, title: str) -> None:
    """Give a dialogue that nobody writes another title.

    Raises:
        ConversationLocked: When it is open somewhere; rename it there.
        StoreError: When there is none of that id, or the disk refuses.
    """
    record = DialogueTranscript(dialogue_id).rename(title)
    append_to(data_dir, dialogue_id, record, folder=FOLDER)


def delete_dialogue(data_dir: Path, dialogue_id: str) -> None:
    """Remove a dialogue that nobody writes.

    Raises:
        ConversationLocked: When it is open somewhere.
        StoreError: When there is none of that id.
    """
    delete_chat(data_dir, dialogue_id, folder=FOLDER)


def _info(path: Path, search: str | None) -> DialogueInfo | None:
    try:
        updated = path.stat().st_mtime
        transcript = read_dialogue(path)[0]
    except (OSError, StoreError):
        return None
    texts = [transcript.title, str(transcript.setup.get("opening"))]
    texts += [turn.text for turn in transcript.turns]
    if search and not any(search.casefold() in text.casefold() for text in texts):
        return None
    return DialogueInfo(
        transcript.id,
        title_of(transcript),
        transcript.created_at,
        datetime.fromtimestamp(updated, UTC),
        tuple(str(item["name"]) for item in transcript.setup.get("participants", ())),
        len(transcript.turns),
        transcript.state,
        transcript.stop_reason,
    )
