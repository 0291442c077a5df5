"""Conversations on disk: one append-only file each, `<data_dir>/chats/<id>.jsonl`.

Dialogues are written by the same writer into `dialogues/`, with records of their own.

A file has one writer, who holds the lock beside it; everybody may read.  A killed writer leaves at
most a torn last line, which readers skip and the next writer cuts off.
"""

from __future__ import annotations

import contextlib
import os
import re
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from workbench.chat.transcript import SCHEMA, Record, Transcript
from workbench.errors import ConversationLocked, SchemaTooNew, StoreError
from workbench.locks import FileLock

FLUSH_S = 0.5
"""How long a part of an arriving answer may stay in memory only."""

_ID = re.compile(r"[0-9a-z]{26}")
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


CHATS = "chats"
# What the records of a folder are called, and where a user finds their ids.
_CALLED = {CHATS: ("conversation", "wb.chats()"), "dialogues": ("dialogue", "wb.dialogues()")}


def chats_dir(data_dir: Path) -> Path:
    """Return the folder of the conversations."""
    return data_dir / CHATS


def chat_path(data_dir: Path, chat_id: str, *, folder: str = CHATS) -> Path:
    """Return the file of a conversation.

    Args:
        data_dir: The data folder.
        chat_id: The id of the conversation.
        folder: The folder below it; dialogues have one of their own.

    Raises:
        StoreError: When the id is not one of ours; it could name a file elsewhere.
    """
    if not _ID.fullmatch(chat_id):
        noun, where = _CALLED[folder]
        raise StoreError(f"{chat_id!r} is not the id of a {noun}.", hint=f"{where} lists them.")
    return data_dir / folder / f"{chat_id}.jsonl"


@dataclass(frozen=True, slots=True)
class Loaded:
    """A conversation read from its file.

    Attributes:
        damaged_lines: Lines that were skipped because they could not be read.
    """

    transcript: Transcript
    damaged_lines: int = 0


def read_chat(path: Path) -> Loaded:
    """Read a conversation, also while another process writes it.

    Raises:
        SchemaTooNew: When a newer version of the workbench wrote it.
        StoreError: When there is no such file or it is none of ours.
    """
    first, lines = read_records(path, "conversation")
    transcript = _begin(path, first)
    damaged = sum(not _applied(transcript, line) for line in lines)
    transcript.settle()
    return Loaded(transcript, damaged)


def read_records(path: Path, what: str) -> tuple[bytes, list[bytes]]:
    """Return the first line of a log, and the whole lines after it that are not empty.

    Args:
        what: What the log holds, for the error.

    Raises:
        StoreError: When there is no such file or it cannot be read.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError as exc:
        raise StoreError(f"There is no {what} {path.stem}.") from exc
    except OSError as exc:
        raise StoreError(f"{path} cannot be read: {exc.strerror}.") from exc
    first, *lines = data.split(b"\n")
    # The part after the last line end is torn or still being written: no damage.
    return first, [line for line in lines[:-1] if line.strip()]


def _begin(path: Path, line: bytes) -> Transcript:
    try:
        header = _decode(line)
        found = int(header["schema"])
        if found > SCHEMA:
            raise SchemaTooNew(str(path), found=found, supported=SCHEMA)
        created_at = datetime.fromisoformat(header["created_at"])
        return Transcript(str(header["id"]), created_at=created_at)
    except (msgspec.DecodeError, KeyError, TypeError, ValueError) as exc:
        raise StoreError(f"{path} is not a conversation: its first line is broken.") from exc


def _applied(transcript: Transcript, line: bytes) -> bool:
    try:
        transcript.apply(_decode(line))
    except (msgspec.MsgspecError, LookupError, TypeError, ValueError, AttributeError):
        return False
    return True


class ChatLog:
    """Writes the records of one conversation, or dialogue; made by its first record.

    When the disk refuses, records wait in memory and are tried again with the next one: `error`
    says so, and the conversation goes on.

    Raises:
        ConversationLocked: From the first write or from `take`, when another process writes it.
    """

    def __init__(self, data_dir: Path, chat_id: str, *, folder: str = CHATS) -> None:
        self.path = chat_path(data_dir, chat_id, folder=folder)
        self.error: StoreError | None = None
        self._lock = FileLock(self.path.with_suffix(".lock"))
        self._descriptor: int | None = None
        self._give_back: weakref.finalize[..., ChatLog] | None = None
        self._size = 0
        self._pid = os.getpid()
        self._pending: list[bytes] = []

    def take(self) -> None:
        """Take the lock of an existing conversation and cut a torn last line off.

        Raises:
            ConversationLocked: When another process has it.
            StoreError: When the file cannot be opened for writing.
        """
        try:
            self._open(os.O_RDWR)
        except OSError as exc:
            self._lock.release()
            raise StoreError(f"{self.path} cannot be written: {exc.strerror}.") from exc

    def append(self, *records: Record, flush: bool = True) -> None:
        """Add records; without `flush` they may wait for the next one."""
        self._pending += [_encode(record) + b"\n" for record in records]
        if flush:
            self.flush()

    def flush(self) -> None:
        """Write what waits; a refusal is kept in `error`."""
        if not self._pending:
            return
        if os.getpid() != self._pid:
            raise ConversationLocked(self.path.stem, noun=self._noun)
        try:
            if self._descriptor is None:
                self._open(os.O_RDWR | os.O_CREAT)
            self._write(b"".join(self._pending))
        except OSError as exc:
            self.error = StoreError(
                f"The {self._noun} is not being recorded: {exc.strerror or exc}.",
                hint=f"It goes on in memory; make room for {self.path}.",
            )
            return
        self._pending, self.error = [], None

    def close(self) -> None:
        """Write what waits and give the lock back."""
        if os.getpid() == self._pid:
            self.flush()
        self._descriptor = None
        if self._give_back is not None:
            self._give_back()
        self._lock.release()

    @property
    def _noun(self) -> str:
        return _CALLED[self.path.parent.name][0]

    def _open(self, flags: int) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not self._lock.acquire():
            raise ConversationLocked(self.path.stem, noun=self._noun)
        self._descriptor = os.open(self.path, flags, 0o600)
        # A forgotten conversation does not stay locked.
        self._give_back = weakref.finalize(self, _close, self._descriptor, self._lock)
        self._give_back.atexit = False
        self._size = _whole_bytes(self._descriptor)
        os.ftruncate(self._descriptor, self._size)

    def _write(self, data: bytes) -> None:
        assert self._descriptor is not None
        os.lseek(self._descriptor, self._size, os.SEEK_SET)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(self._descriptor, view) :]
        except OSError:
            # Half a line would spoil the next one; giving space back works on a full disk.
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self._size)
            raise
        self._size += len(data)


def _close(descriptor: int, lock: FileLock) -> None:
    os.close(descriptor)
    lock.release()


def _whole_bytes(descriptor: int) -> int:
    """Return the length of a file up to its last line end."""
    size = os.fstat(descriptor).st_size
    end = size
    while end > 0:
        start = max(0, end - 65536)
        cut = os.pread(descriptor, end - start, start).rfind(b"\n")
        if cut >= 0:
            return start + cut + 1
        end = start
    return 0


@dataclass(frozen=True, slots=True)
class ChatInfo:
    """One conversation in a list; times are UTC.

    Attributes:
        turns: Messages of the user on the active path.
        model: Of the last answer, or the one that is set.
    """

    id: str
    title: str
    created_at: datetime
    updated_at: datetime
    turns: int
    model: str

    def cells(self) -> dict[str, str]:
        """Return column title to printed value."""
        return {
            "ID": self.id,
            "TITLE": self.title,
            "TURNS": str(self.turns),
            "MODEL": self.model,
            "UPDATED (UTC)": self.updated_at.strftime("%Y-%m-%d %H:%M"),
        }


def list_chats(data_dir: Path, *, search: str | None = None) -> list[ChatInfo]:
    """Return the conversations, the last changed first; files that cannot be read are left out.

    Args:
        search: Only those with this text in the title or in a message, in any case.
    """
    found = [info for path in _files(data_dir) if (info := _info(path, search)) is not None]
    return sorted(found, key=lambda info: info.updated_at, reverse=True)


def _files(data_dir: Path) -> Iterator[Path]:
    with contextlib.suppress(OSError):
        yield from (
            path for path in chats_dir(data_dir).glob("*.jsonl") if _ID.fullmatch(path.stem)
        )


def _info(path: Path, search: str | None) -> ChatInfo | None:
    try:
        updated = path.stat().st_mtime
        transcript = read_chat(path).transcript
    except (OSError, StoreError):
        return None
    if search and not _contains(transcript, search.casefold()):
        return None
    return chat_info(transcript, updated_at=datetime.fromtimestamp(updated, UTC))


def _contains(transcript: Transcript, needle: str) -> bool:
    texts = (node.message.content for node in transcript.nodes.values())
    return any(needle in text.casefold() for text in (transcript.title, *texts))


def chat_info(transcript: Transcript, *, updated_at: datetime) -> ChatInfo:
    """Return what a list shows of a conversation."""
    path = transcript.path()
    answers = [node.facts.model for node in path if node.facts is not None]
    model = answers[-1] if answers else str(transcript.settings.get("model") or "")
    turns = sum(node.message.role == "user" for node in path)
    title = title_of(transcript)
    return ChatInfo(transcript.id, title, transcript.created_at, updated_at, turns, model)


def title_of(transcript: Transcript) -> str:
    """Return the title, else the beginning of the first message of the user, on one line."""
    texts = (n.message.content for n in transcript.path() if n.message.role == "user")
    words = (transcript.title or next(texts, "")).split()
    line = "".join(c for c in " ".join(words) if c.isprintable())
    return line if len(line) <= 60 else line[:59] + "…"


def rename_chat(data_dir: Path, chat_id: str, title: str) -> None:
    """Give a conversation that nobody writes another title.

    Raises:
        ConversationLocked: When it is open somewhere; rename it there.
        StoreError: When there is none of that id.
    """
    append_to(data_dir, chat_id, Transcript(chat_id).rename(title))


def append_to(data_dir: Path, chat_id: str, record: Record, *, folder: str = CHATS) -> None:
    """Add a record to a conversation, or dialogue, that nobody writes.

    Raises:
        ConversationLocked: When it is open somewhere.
        StoreError: When there is none of that id, or the disk refuses.
    """
    with contextlib.closing(_taken(data_dir, chat_id, folder)) as log:
        log.append(record)
        if log.error:
            raise log.error


def delete_chat(data_dir: Path, chat_id: str, *, folder: str = CHATS) -> None:
    """Remove a conversation, or dialogue, that nobody writes.

    Raises:
        ConversationLocked: When it is open somewhere.
        StoreError: When there is none of that id.
    """
    with contextlib.closing(_taken(data_dir, chat_id, folder)) as log:
        log.path.unlink()
        # Ids are never used again, so nobody will wait for this lock.
        log.path.with_suffix(".lock").unlink(missing_ok=True)


def _taken(data_dir: Path, chat_id: str, folder: str) -> ChatLog:
    log = ChatLog(data_dir, chat_id, folder=folder)
    if not log.path.is_file():
        noun, where = _CALLED[folder]
        raise StoreError(f"There is no {noun} {chat_id}.", hint=f"{where} lists them.")
    log.take()
    return log


def write_chat(data_dir: Path, transcript: Transcript) -> Path:
    """Write a whole conversation into a new file and return its path.

    Raises:
        StoreError: When there is one of that id, or the disk refuses.
    """
    log = ChatLog(data_dir, transcript.id)
    if log.path.exists():
        raise StoreError(f"There is a conversation {transcript.id} already.")
    log.append(*transcript.records())
    log.close()
    if log.error:
        raise log.error
    return log.path


def decode_lines(data: bytes) -> list[Any]:
    """Return the JSON values of NDJSON bytes."""
    return [_decode(line) for line in data.split(b"\n") if line.strip()]
