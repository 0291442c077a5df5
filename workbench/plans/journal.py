"""The journal of a run: one JSON object per line, only ever appended to.

The process of the run and its kernel both write it, each line by one write of an `O_APPEND` file.
A writer that is killed, or whose disk is full, leaves at most its last line torn; the next line
begins anew, and readers leave out what is no JSON or has not the fields of its event.

Every line has `v`, `ts` (UTC, ISO 8601) and `event`; `seconds` are measured by a clock that never
moves back.  Step events have `step`, `attempt` (from 1), and `item` (index, for an item of a
`foreach`).

| event | fields |
|---|---|
| run_started | pid, execution (from 1; a resume is the next), resumed |
| run_finished | status (done, failed, cancelled, waiting), error {type, message, hint} or null |
| step_started | key, total (items of a `foreach`, on the step itself), model |
| step_phase | phase (queued, loading, writing ...), detail, seconds |
| step_progress | done, total, errors, cached: items of a `foreach` |
| step_failed | error {type, message, hint}, final, retry_in_s, seconds |
| step_committed | key, seconds, outputs {name: {sha256, type, bytes, rows}}, requests, summary |
| step_cached | key, outputs, from_run |
| step_kept | key, outputs: committed before this execution |
| step_stale | reason: why what was committed before does not count; it is run again |
| step_skipped | reason |
| step_blocked | by: ids of the steps that failed |
| step_waiting | ask, show, reason (approval, effects), sha256 of the question |
| step_answered | yes, who, when, note, sha256 |
| step_cancelled | seconds |
| request | request_id, model, digest, input_tokens, output_tokens, seconds, stop_reason |
| not_replayable | reason |
| on_finish | status (of the run, when it was told), seconds, error {type, message, hint} |
| tape_warning | reason: what a replay found odd, such as an answer nobody asked for |
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from workbench.errors import StoreError
from workbench.units import rfc3339, utc_now

JOURNAL_VERSION = 1


class RunJournal:
    """Appends to the journal of a run; safe from any thread and from several processes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, event: str, **fields: Any) -> None:
        """Append one line; fields that are `None` are left out.

        Raises:
            StoreError: When the disk does not take all of it.
        """
        line = {"v": JOURNAL_VERSION, "ts": rfc3339(utc_now()), "event": event}
        line |= {name: value for name, value in fields.items() if value is not None}
        data = (json.dumps(line, ensure_ascii=False) + "\n").encode()
        try:
            # What a writer left torn must not spoil the line of the next one.
            size = os.fstat(self._file).st_size
            if size and os.pread(self._file, 1, size - 1) != b"\n":
                data = b"\n" + data
            if os.write(self._file, data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as exc:
            raise StoreError(
                f"{self.path} cannot be written: {exc.strerror}.",
                hint="Make room on the disk, then: workbench resume.",
            ) from exc

    def sync(self) -> None:
        """Wait until the disk has every line, for what must not be forgotten in a power cut."""
        os.fsync(self._file)

    def close(self) -> None:
        """Close the file."""
        descriptor, self._file = self._file, -1
        if descriptor >= 0:
            os.close(descriptor)


def read_lines(path: Path, offset: int = 0) -> tuple[list[Mapping[str, Any]], int]:
    """Return the whole lines from a byte offset on, and the offset after them.

    What is torn or no JSON object is left out.
    """
    try:
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read()
    except FileNotFoundError:
        return [], offset
    end = data.rfind(b"\n") + 1
    return list(_decoded(data[:end])), offset + end


def _decoded(data: bytes) -> Iterator[Mapping[str, Any]]:
    for line in data.split(b"\n"):
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict) and _has_form(found):
            yield found


_FORMS: Mapping[str, type] = {
    **dict.fromkeys(("event", "step", "status"), str),
    **dict.fromkeys(("attempt", "execution", "item", "done", "total"), int),
    **dict.fromkeys(("error", "outputs"), dict),
    "by": list,
}
_NEEDED: Mapping[str, tuple[str, ...]] = {
    "run_started": ("execution",),
    "run_finished": ("status",),
    "step_started": ("step", "attempt"),
    "step_progress": ("step", "done", "total"),
    "step_failed": ("step", "error"),
    "step_waiting": ("step", "sha256"),
}


def _has_form(line: Mapping[str, Any]) -> bool:
    """Whether a line has what its event tells, in the form in which it is written here."""
    formed = all(isinstance(line[name], kind) for name, kind in _FORMS.items() if name in line)
    return formed and "event" in line and all(n in line for n in _NEEDED.get(line["event"], ()))
