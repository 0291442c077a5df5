"""The lines of a tape: a header, and one whole entry for each request; values, and no requests.

```
{"tape": 1, "workbench": "...", "step_key": "...", "item": 0, "created": "..."}
{"hash": "...", "occurrence": 0, "began": "...", "seconds": 1.2,
 "request": {"method", "path", "body"}, "batches": [[["text", "Hi"]]]}
{..., "request": {...}, "answer": {...}}
{..., "request": {...}, "raised": {"type", "message", "hint", ...}}
{"note": "why a replay cannot stand for this"}
```
The body of a request has no `stream` and no `keep_alive`, which change no answer, and a hash in
place of each image.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from workbench import errors
from workbench.errors import ReplayMismatch, SchemaTooNew, WorkbenchError
from workbench.messages import (
    Failed,
    Finished,
    Opened,
    Phase,
    ReasoningDelta,
    StreamEvent,
    TextDelta,
    Timings,
    ToolCall,
    ToolCallDelta,
    Usage,
)

TAPE_VERSION = 1
"""Version of the tapes this program writes, and the only one it reads."""

_LEFT_OUT = ("stream", "keep_alive")
# Without an answer; when the same was asked again, that is what counts.
_UNREACHED = ("ConnectionFailed", "ServerNotRunning")


def canonical(method: str, path: str, body: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a request in the form by which it is found again."""
    kept = {name: value for name, value in (body or {}).items() if name not in _LEFT_OUT}
    # Through JSON, so that a tuple is the list it was sent as.
    plain = json.loads(msgspec.json.encode(kept))
    return {"method": method, "path": path, "body": _without_images(plain)}


def hash_of(request: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a canonical request, in hexadecimal."""
    text = json.dumps(request, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _without_images(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_images(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        name: [_hashed(image) for image in item]
        if name == "images" and isinstance(item, list)
        else _without_images(item)
        for name, item in value.items()
    }


def _hashed(image: Any) -> str:
    return f"sha256:{hashlib.sha256(str(image).encode()).hexdigest()}"


@dataclass(frozen=True, slots=True)
class Entry:
    """One recorded request.

    Attributes:
        occurrence: How often the same process had asked the same before.
        began: When it was sent: UTC, ISO 8601.
        seconds: From then to its end.
        batches: Events of a stream, those of one read together; `None` for a plain answer.
        closed: Whether the reader left the stream before its end.
        raised: The error in place of an answer, as `error_to_json` wrote it.
        answer: The JSON of a plain answer.
    """

    hash: str
    occurrence: int
    began: str
    seconds: float
    request: Mapping[str, Any]
    batches: Sequence[Sequence[Any]] | None = None
    closed: bool = False
    raised: Mapping[str, Any] | None = None
    answer: Any = None

    @property
    def unreached(self) -> bool:
        """Whether no server was reached, so that nothing was answered."""
        return self.raised is not None and self.raised.get("type") in _UNREACHED

    def to_json(self) -> dict[str, Any]:
        """Return the line of the entry."""
        line: dict[str, Any] = {"hash": self.hash, "occurrence": self.occurrence}
        line |= {"began": self.began, "seconds": self.seconds, "request": self.request}
        if self.raised is not None:
            line["raised"] = self.raised
        if self.batches is not None:
            line["batches"] = self.batches
            if self.closed:
                line["closed"] = True
        elif self.raised is None:
            line["answer"] = self.answer
        return line


@dataclass(slots=True)
class TapeContent:
    """What a tape holds.

    Attributes:
        entries: By the hash of their requests, in the order in which they were asked.
        notes: Why a replay cannot stand for what was done.
    """

    step_key: str | None = None
    item: int | None = None
    entries: dict[str, list[Entry]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def all(self) -> Iterator[Entry]:
        """Yield every entry."""
        for entries in self.entries.values():
            yield from entries


def header(version: str, step_key: str | None, item: int | None, created: str) -> dict[str, Any]:
    """Return the first line of a tape."""
    return {
        "tape": TAPE_VERSION,
        "workbench": version,
        "step_key": step_key,
        "item": item,
        "created": created,
    }


def read_tape(path: Path) -> TapeContent:
    """Read a tape.

    Raises:
        SchemaTooNew: When a newer version of the workbench wrote it.
        ReplayMismatch: When there is none, it is of an older version, or a line cannot be read.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as exc:
        raise ReplayMismatch(
            f"there is no tape {path.name} in {path.parent} ({exc.strerror}).",
            tape=str(path),
            hint="It is recorded with the run, unless metrics.record_text is none.",
        ) from exc
    content: TapeContent | None = None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line.decode("utf-8", "surrogatepass"))
            if content is None:
                content = _begin(row, path)
            elif "note" in row:
                content.notes.append(str(row["note"]))
            else:
                _add(content, Entry(**row))
        except (ValueError, TypeError, KeyError) as exc:
            raise _unreadable(path, number) from exc
    if content is None:
        raise _unreadable(path, 1)
    return _in_order(content)


def _begin(row: Any, path: Path) -> TapeContent:
    version = row["tape"]
    if version > TAPE_VERSION:
        raise SchemaTooNew(str(path), found=version, supported=TAPE_VERSION)
    if version < TAPE_VERSION:
        raise ReplayMismatch(
            f"the tape has version {version}; this program reads version {TAPE_VERSION}.",
            tape=str(path),
            hint="Run the plan again to record a new one.",
        )
    return TapeContent(row.get("step_key"), row.get("item"))


def _add(content: TapeContent, entry: Entry) -> None:
    if hash_of(entry.request) != entry.hash:
        raise ValueError("the request is not the one that was hashed")
    content.entries.setdefault(entry.hash, []).append(entry)


def _in_order(content: TapeContent) -> TapeContent:
    for name, entries in content.entries.items():
        answered = [entry for entry in entries if not entry.unreached]
        kept = answered or entries[-1:]
        # Several processes may have written, each of which counted from 0.
        content.entries[name] = sorted(kept, key=lambda entry: (entry.began, entry.occurrence))
    return content


def _unreadable(path: Path, number: int) -> ReplayMismatch:
    return ReplayMismatch(
        f"line {number} of the tape cannot be read.",
        tape=str(path),
        hint="The file was changed or damaged after it was recorded.",
    )


def error_to_json(error: WorkbenchError) -> dict[str, Any]:
    """Return an error with everything it knows, as JSON values."""
    known = {name: value for name, value in vars(error).items() if not name.startswith("_")}
    row = {"type": type(error).__name__, **known}
    plain: dict[str, Any] = json.loads(json.dumps(row, default=str))
    return plain


def error_from_json(row: Mapping[str, Any]) -> WorkbenchError:
    """Return the error that `error_to_json` wrote; of an unknown class, a `WorkbenchError`."""
    found = getattr(errors, str(row.get("type")), None)
    kind = WorkbenchError
    if isinstance(found, type) and issubclass(found, WorkbenchError):
        kind = found
    error = kind.__new__(kind)
    WorkbenchError.__init__(error, str(row.get("message", "")), hint=row.get("hint"))
    for name, value in row.items():
        if name not in ("type", "message", "hint"):
            setattr(error, name, tuple(value) if isinstance(value, list) else value)
    return error


def event_to_json(event: StreamEvent) -> list[Any]:
    """Return an event as a list that begins with its kind."""
    match event:
        case TextDelta(text):
            return ["text", text]
        case ReasoningDelta(text):
            return ["thinking", text]
        case ToolCallDelta(call):
            return ["tool", {**asdict(call), "arguments": dict(call.arguments)}]
        case Opened(model, request_id):
            return ["opened", model, request_id]
        case Phase(name, seconds, size, detail):
            return ["phase", name, seconds, size, detail]
        case Failed(error):
            return ["failed", error_to_json(error)]
        case Finished(reason, usage, timings):
            return ["finished", reason, asdict(usage), asdict(timings)]


def event_from_json(row: Sequence[Any]) -> StreamEvent:
    """Return the event that `event_to_json` wrote.

    Raises:
        ReplayMismatch: When it is none.
    """
    kind, *rest = row
    try:
        if kind == "tool":
            return ToolCallDelta(ToolCall(**rest[0]))
        if kind == "failed":
            return Failed(error_from_json(rest[0]))
        if kind == "finished":
            return Finished(rest[0], Usage(**rest[1]), Timings(**rest[2]))
        plain: type[Any] = _PLAIN[kind]
        event: StreamEvent = plain(*rest)
        return event
    except (KeyError, TypeError, IndexError) as exc:
        raise ReplayMismatch(f"an event of the tape cannot be read: {row!r}.") from exc


_PLAIN: Mapping[str, type[Any]] = {
    "text": TextDelta,
    "thinking": ReasoningDelta,
    "opened": Opened,
    "phase": Phase,
}
