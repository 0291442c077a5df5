"""The tape: what models answered, recorded at the client's door, and played in their place.

A tape is one file, `tape.jsonl`, for each attempt at a step.  While one is recorded every request
of the client goes to the server as ever, and is kept whole when it has ended.  While one is played
nothing is connected and no server is needed: a request is answered by what was recorded for it,
and one that was not recorded is an error.

`taping` sets the tape of the tasks and threads that begin within it; a child process takes the one
of its environment, see `Recording.environment`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import threading
from collections import Counter
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from tempfile import mkstemp
from time import perf_counter
from typing import Any, Literal

from workbench._version import __version__
from workbench.client.compare import differences
from workbench.client.tape_file import (
    Entry,
    canonical,
    error_from_json,
    error_to_json,
    event_from_json,
    event_to_json,
    hash_of,
    header,
    read_tape,
)
from workbench.config import Config
from workbench.errors import ReplayMismatch, StoreError, WorkbenchError
from workbench.locks import FileLock
from workbench.messages import Failed, Finished, StreamEvent
from workbench.units import rfc3339, utc_now

Mode = Literal["record", "replay"]
Scope = tuple[str | None, int | None]
"""The key of the step, and the index of the item of its `foreach`."""

PATH_VARIABLE = "WORKBENCH_TAPE"
MODE_VARIABLE = "WORKBENCH_TAPE_MODE"
USED_VARIABLE = "WORKBENCH_TAPE_USED"

# What is done beside an answer and says nothing about it; how often depends on the clock.
_BESIDE = ("/workbench/v1/records", "/workbench/v1/leases/")
_NAMED = 3


class Taken:
    """One request, while it is recorded."""

    def __init__(self, method: str, path: str, body: Mapping[str, Any] | None) -> None:
        self.request = canonical(method, path, body)
        self.hash = hash_of(self.request)
        self.occurrence, self.began = 0, rfc3339(utc_now())
        self._started = perf_counter()
        self.answer: Any = None
        self.batches: list[list[Any]] | None = None
        self.ended = False

    def take(self, batch: list[StreamEvent]) -> None:
        """Read along with a stream."""
        if self.batches is None:
            self.batches = []
        self.batches.append([event_to_json(event) for event in batch])
        self.ended = isinstance(batch[-1], Failed | Finished)

    def entry(self, raised: WorkbenchError | None = None) -> Entry:
        """Return what is kept of it."""
        return Entry(
            self.hash,
            self.occurrence,
            self.began,
            round(perf_counter() - self._started, 6),
            self.request,
            batches=self.batches,
            closed=self.batches is not None and not self.ended,
            raised=None if raised is None else error_to_json(raised),
            answer=self.answer,
        )


class Recording:
    """A tape that is recorded; made by `taping`.

    Attributes:
        path: The file; made with its header at once.
        error: Why an entry could not be kept; `None` when all were.
    """

    mode: Mode = "record"

    def __init__(self, path: Path, scope: Scope = (None, None)) -> None:
        self.path = path
        self.error: str | None = None
        self._counts: Counter[str] = Counter()
        self._mutex = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        except OSError as exc:
            raise StoreError(f"{path} cannot be written: {exc.strerror}.") from exc
        if not os.fstat(self._file).st_size:
            self._append(header(__version__, *scope, rfc3339(utc_now())))

    def begin(self, taken: Taken) -> None:
        """Count a request that is sent now."""
        with self._mutex:
            taken.occurrence = self._counts[taken.hash]
            self._counts[taken.hash] += 1

    def keep(self, entry: Entry) -> None:
        """Write an entry, whole."""
        self._append(entry.to_json())

    def note(self, reason: str) -> None:
        """Say why a replay cannot stand for what is done."""
        self._append({"note": reason})

    @property
    def notes(self) -> list[str]:
        """Why a replay cannot stand for what was done, here and in child processes."""
        found = [] if self.error is None else [f"the tape could not be written: {self.error}"]
        with contextlib.suppress(WorkbenchError):
            found += read_tape(self.path).notes
        return list(dict.fromkeys(found))

    def environment(self) -> dict[str, str]:
        """Return the variables by which a child process records on this tape."""
        return {PATH_VARIABLE: str(self.path), MODE_VARIABLE: self.mode}

    def close(self) -> None:
        """Close the file."""
        descriptor, self._file = self._file, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _append(self, line: Mapping[str, Any]) -> None:
        data = (json.dumps(line, ensure_ascii=False) + "\n").encode("utf-8", "surrogatepass")
        try:
            if os.write(self._file, data) != len(data):
                raise OSError("the disk is full")
        except OSError as exc:
            # An answer is not lost because it could not be recorded; the run says so.
            self.error = exc.strerror or str(exc)


class Replay:
    """A tape that is played; made by `taping`.

    Attributes:
        path: The file; it is never written.
    """

    mode: Mode = "replay"

    def __init__(
        self, path: Path, scope: Scope = (None, None), *, used: Path | None = None
    ) -> None:
        self.path = path
        self._content = read_tape(path)
        self._taken: Counter[str] = Counter()
        self._mutex = threading.Lock()
        self._used, self._own_used = used, False
        self._scope = scope

    @property
    def notes(self) -> list[str]:
        """Why the recording cannot stand for what was done."""
        return list(self._content.notes)

    def answer(self, method: str, path: str, body: Mapping[str, Any] | None) -> Any:
        """Return the recorded answer of a plain request.

        Raises:
            ReplayMismatch: When it was not recorded.
            WorkbenchError: As it was raised when it was recorded.
        """
        if beside(path):
            raise ReplayMismatch(f"a replay sends nothing to {path}.", tape=str(self.path))
        entry = self._find(method, path, body)
        if entry.raised is not None:
            raise error_from_json(entry.raised)
        # Anew each time: whoever got it may change it.
        return json.loads(json.dumps(entry.answer))

    async def stream(
        self, path: str, body: Mapping[str, Any]
    ) -> AsyncGenerator[list[StreamEvent], None]:
        """Yield the recorded events of a stream, those of one read together.

        Raises:
            ReplayMismatch: When it was not recorded, or is read further than it was then.
            WorkbenchError: As it was raised when it was recorded.
        """
        entry = self._find("POST", path, body)
        for batch in entry.batches or ():
            yield [event_from_json(event) for event in batch]
            # As between two reads: others have their turn, and a cancellation is seen.
            await asyncio.sleep(0)
        if entry.raised is not None:
            raise error_from_json(entry.raised)
        if entry.closed:
            raise ReplayMismatch(
                "an answer is read further than when it was recorded.", tape=str(self.path)
            )

    @property
    def warnings(self) -> list[str]:
        """What was recorded and not asked for, and what else is odd; complete at the end."""
        taken = self._counted()
        found = []
        step_key, recorded_key = self._scope[0], self._content.step_key
        if step_key is not None and recorded_key is not None and step_key != recorded_key:
            found.append("the step is not the one that was recorded: its key differs")
        for entries in self._content.entries.values():
            left = len(entries) - taken[entries[0].hash]
            # How often the server is asked for its version says nothing.
            if left > 0 and "model" in entries[0].request["body"]:
                found.append(f"recorded and not asked for: {_named(entries[0].request)} ({left}x)")
        return found

    def environment(self) -> dict[str, str]:
        """Return the variables by which a child process plays this tape."""
        if self._used is None:
            descriptor, name = mkstemp(prefix="workbench-tape-")
            lines = [f"{name}\n" * count for name, count in self._taken.items()]
            os.write(descriptor, "".join(lines).encode())
            os.close(descriptor)
            self._used, self._own_used = Path(name), True
        return {
            PATH_VARIABLE: str(self.path),
            MODE_VARIABLE: self.mode,
            USED_VARIABLE: str(self._used),
        }

    def close(self) -> None:
        """Forget what child processes took."""
        if self._used is not None and self._own_used:
            self._taken = self._counted()
            for path in (self._used, _lock_of(self._used)):
                path.unlink(missing_ok=True)
            self._used = None

    def _find(self, method: str, path: str, body: Mapping[str, Any] | None) -> Entry:
        request = canonical(method, path, body)
        name = hash_of(request)
        entries = self._content.entries.get(name, [])
        number = self._claim(name, len(entries))
        if number is None:
            raise self._mismatch(request, len(entries))
        return entries[number]

    def _claim(self, name: str, count: int) -> int | None:
        """Take the next of `count` entries of a request; `None` when none is left."""
        with self._mutex:
            if self._used is None:
                number = self._taken[name]
                if number < count:
                    self._taken[name] += 1
                return number if number < count else None
            # Shared with other processes: what one has taken no other gets.
            with FileLock(_lock_of(self._used)):
                number = self._counted()[name]
                if number >= count:
                    return None
                with self._used.open("a", encoding="ascii") as file:
                    file.write(f"{name}\n")
                return number

    def _counted(self) -> Counter[str]:
        if self._used is None:
            return self._taken
        try:
            return Counter(self._used.read_text("ascii").split())
        except FileNotFoundError:
            return Counter()

    def _mismatch(self, request: Mapping[str, Any], recorded: int) -> ReplayMismatch:
        tape = str(self.path)
        if recorded:
            times = "once" if recorded == 1 else f"{recorded} times"
            return ReplayMismatch(
                f"{_named(request)} was asked {times} when it was recorded, and is asked again.",
                tape=tape,
            )
        nearest = _nearest(request, list(self._content.all()))
        if nearest is None:
            return ReplayMismatch(
                f"{_named(request)} was not recorded, and nothing like it.", tape=tape
            )
        found = list(differences(nearest.request["body"], request["body"]))
        told = "; ".join(str(item) for item in found[:_NAMED])
        more = f"; and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
        return ReplayMismatch(
            f"{_named(request)} was not recorded. The nearest differs in {told}{more}"
            " (recorded, then asked).",
            tape=tape,
            hint="The prompt, the options, the model or the code has changed since.",
        )


Tape = Recording | Replay

_CURRENT: ContextVar[Tape | None] = ContextVar("workbench_tape", default=None)
_from_environment: tuple[tuple[str, str, int], Tape] | None = None


@contextlib.contextmanager
def taping(path: Path, mode: Mode, *, scope: Scope = (None, None)) -> Iterator[Tape]:
    """Record or play a tape in the block, and in the tasks and threads that begin in it.

    Args:
        path: The file; recording adds to one that is there.
        scope: What it is recorded for, for its header.

    Raises:
        StoreError: When it cannot be written.
        SchemaTooNew: When a newer version of the workbench wrote it.
        ReplayMismatch: When there is none to play, or it cannot be read.
    """
    tape: Tape = Recording(path, scope) if mode == "record" else Replay(path, scope)
    token = _CURRENT.set(tape)
    try:
        yield tape
    finally:
        _CURRENT.reset(token)
        tape.close()


def not_taped(config: Config) -> str | None:
    """Return why nothing may be recorded under a configuration; `None` when it may."""
    if config.metrics_record_text == "none":
        return "message text is not kept (metrics.record_text is none), so there is no tape"
    return None


def current_tape() -> Tape | None:
    """Return the tape of the running task, else that of the process's environment, if any."""
    found = _CURRENT.get()
    if found is None and PATH_VARIABLE in os.environ:
        return _process_tape()
    return found


def _process_tape() -> Tape:
    global _from_environment
    path, mode = os.environ[PATH_VARIABLE], os.environ.get(MODE_VARIABLE, "record")
    name = (path, mode, os.getpid())
    if _from_environment is None or _from_environment[0] != name:
        if mode not in ("record", "replay"):
            raise StoreError(f"{MODE_VARIABLE} is record or replay, not {mode!r}.")
        used = os.environ.get(USED_VARIABLE)
        tape: Tape = (
            Recording(Path(path))
            if mode == "record"
            else Replay(Path(path), used=Path(used) if used else None)
        )
        _from_environment = (name, tape)
    return _from_environment[1]


@contextlib.contextmanager
def taped(
    tape: Tape | None, method: str, path: str, body: Mapping[str, Any] | None
) -> Iterator[Taken | None]:
    """Keep a request on a tape that is recorded, when the block has ended, however it ended."""
    if not isinstance(tape, Recording) or beside(path):
        yield None
        return
    taken = Taken(method, path, body)
    tape.begin(taken)
    try:
        yield taken
    except WorkbenchError as exc:
        taken.ended = True
        tape.keep(taken.entry(exc))
        raise
    except BaseException:
        # A plain request that was cancelled has no answer; of a stream there may be a part.
        if taken.batches is not None:
            tape.keep(taken.entry())
        raise
    taken.ended = True
    tape.keep(taken.entry())


def untaped(tape: Tape | None, method: str, path: str) -> None:
    """Tell the tape of a request that it cannot hold.

    Raises:
        ReplayMismatch: When a tape is played.
    """
    if isinstance(tape, Replay):
        raise ReplayMismatch(
            f"{method} {path} is followed as it happens and is on no tape.", tape=str(tape.path)
        )
    if tape is not None:
        tape.note(f"{method} {path} is followed as it happens and is on no tape")


def beside(path: str) -> bool:
    """Whether a path is one that is neither recorded nor played."""
    return path.startswith(_BESIDE)


def _lock_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.lock")


def _named(request: Mapping[str, Any]) -> str:
    body = request["body"]
    model = f" to {body['model']}" if body.get("model") else ""
    return f"{request['method']} {request['path']}{model}"


def _nearest(request: Mapping[str, Any], entries: list[Entry]) -> Entry | None:
    """Return the entry of the same path that differs in the fewest fields."""
    same = [
        entry
        for entry in entries
        if (entry.request["method"], entry.request["path"]) == (request["method"], request["path"])
    ]
    return min(
        same,
        key=lambda entry: sum(1 for _ in differences(entry.request["body"], request["body"])),
        default=None,
    )
