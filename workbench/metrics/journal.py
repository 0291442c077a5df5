"""Writing rows: one append-only file per process and table, one `write` per row.

Imports neither duckdb nor pandas, so that the server can use it.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import socket
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from workbench.config import Config
from workbench.errors import StoreError
from workbench.locks import FileLock
from workbench.metrics.blobs import outsource
from workbench.metrics.layout import live_name, metrics_dir, writer_lock
from workbench.metrics.schema import SCHEMA_VERSION, TABLES
from workbench.units import sortable_id

MAX_ROWS = 2000
"""Rows after which a live file is finished and the next one begun."""

MAX_AGE_S = 600.0
"""Age at which a live file is finished when the next row comes."""

LONG_LINE_BYTES = 64 * 1024
"""A row longer than this has its long texts put into files of their own."""

LONGEST_LINE_BYTES = 1024 * 1024
"""A row longer than this even so is not kept."""

_COLUMNS = {name: frozenset(table.names) for name, table in TABLES.items()}
_encode_into = msgspec.json.Encoder().encode_into
_OPENED = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND


@dataclass(slots=True)
class _File:
    descriptor: int
    path: Path
    begun: float
    size: int = 0
    rows: int = 0


class JournalWriter:
    """Writes rows into a store; safe to share between threads, and to use after a fork.

    A row is one `write` of some microseconds, so an event loop may call it.  Nothing is made
    before the first row.

    Args:
        folder: The store, `<data_dir>/metrics`.
        session_id: Put into rows that name none.
        run_id: Put into rows that name none.
        fsync: Wait after each row until the disk has it: kept rows then survive a power cut.
        on_refused: Told the table and the reason of each row that was not kept.
        on_finished: Told when a file is finished, so that somebody compacts.

    Attributes:
        refused: Rows that were not kept, since the writer was made.
        error: Why the last row was not kept; `None` when it was.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        session_id: str | None = None,
        run_id: str | None = None,
        fsync: bool = False,
        max_rows: int = MAX_ROWS,
        max_age_s: float = MAX_AGE_S,
        on_refused: Callable[[str, StoreError], None] | None = None,
        on_finished: Callable[[str], None] | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.session_id = session_id
        self.run_id = run_id
        self.fsync = fsync
        self.refused = 0
        self.error: StoreError | None = None
        self._max_rows, self._max_age_s = max_rows, max_age_s
        self._on_refused, self._on_finished = on_refused, on_finished
        self._mutex = threading.Lock()
        self._files: dict[str, _File] = {}
        self._numbers: dict[str, int] = {}
        self._seq = 0
        self._buffer = bytearray()
        self._begin_life()
        _WRITERS.add(self)

    def _begin_life(self) -> None:
        host = re.sub(r"[^A-Za-z0-9_.]+", "_", socket.gethostname())[:40] or "host"
        self.writer_id = f"{host}-{os.getpid()}-{secrets.token_hex(6)}"
        self._lock = FileLock(writer_lock(self.folder, self.writer_id))

    def write(self, table: str, row: Mapping[str, Any]) -> bool:
        """Write one row and return whether it is kept; a full disk is no error.

        `id`, `ts` and what names the writer are added where they are missing.  A row that begins
        something has the status `open`; its end is another row with the same id.  Times without
        a zone are UTC.

        Raises:
            StoreError: When there is no such table or column; that is a mistake of the caller.
        """
        known = _COLUMNS.get(table)
        if known is None:
            raise StoreError(f"There is no table {table!r}.", hint=f"Known: {', '.join(TABLES)}.")
        if not known.issuperset(row):
            names = ", ".join(sorted(set(row) - known))
            raise StoreError(f"The table {table!r} has no column {names}.")
        finished, error = False, None
        with self._mutex:
            try:
                finished = self._keep(table, row)
            except (OSError, StoreError, msgspec.MsgspecError, TypeError, ValueError) as exc:
                error = exc if isinstance(exc, StoreError) else _not_kept(exc)
                self.refused += 1
            self.error = error
        if error is not None and self._on_refused is not None:
            self._on_refused(table, error)
        if finished and self._on_finished is not None:
            self._on_finished(table)
        return error is None

    def close(self) -> None:
        """Finish the files; a later row begins new ones."""
        with self._mutex:
            for file in self._files.values():
                os.close(file.descriptor)
            self._files.clear()
            self._lock.release()
            # Another name, because whoever saw the lock free takes this one for dead.
            self._begin_life()
            self._numbers.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _keep(self, table: str, row: Mapping[str, Any]) -> bool:
        """Write a row; returns whether a file was finished for it."""
        line = self._line(table, row)
        file = self._files.get(table)
        finished = file is not None and (
            file.rows >= self._max_rows or time.monotonic() - file.begun > self._max_age_s
        )
        if finished:
            self._finish(table)
            file = None
        if file is None:
            file = self._begin(table)
        self._append(table, file, line)
        return finished

    def _line(self, table: str, row: Mapping[str, Any]) -> bytearray:
        now = time.time_ns()
        # Never falls, so that the end of a request stays behind its beginning.
        self._seq = max(self._seq + 1, now)
        full: dict[str, Any] = {
            "id": None,
            "ts": None,
            "schema_v": SCHEMA_VERSION,
            "run_id": self.run_id,
            "session_id": self.session_id,
            **row,
            "writer_id": self.writer_id,
            "seq": self._seq,
        }
        if full["id"] is None:
            full["id"] = sortable_id()
        if full["ts"] is None:
            full["ts"] = datetime.fromtimestamp(now / 1e9, UTC)
        for name, value in full.items():
            if value.__class__ is datetime and value.tzinfo is not UTC:
                full[name] = _utc(value)
        line = self._buffer
        try:
            _encode_into(full, line)
        except UnicodeEncodeError:
            # Half a surrogate pair, as a model's text can hold; UTF-8 has no bytes for it.
            full = _scrubbed(full)
            _encode_into(full, line)
        if len(line) > LONG_LINE_BYTES:
            _encode_into(outsource(self.folder, TABLES[table], full), line)
            if len(line) > LONGEST_LINE_BYTES:
                raise StoreError(f"A row of {len(line)} bytes is too long for {table!r}.")
        line += b"\n"
        return line

    def _begin(self, table: str) -> _File:
        # The lock is held before the first file exists: a file whose lock is free is finished.
        if not self._lock.held and not self._lock.acquire():
            raise StoreError(f"{self._lock.path} is held by another process.")
        number = self._numbers.get(table, 0)
        path = self.folder / live_name(table, self.writer_id, number, SCHEMA_VERSION)
        path.parent.mkdir(parents=True, exist_ok=True)
        file = _File(os.open(path, _OPENED, 0o600), path, time.monotonic())
        self._numbers[table] = number + 1
        self._files[table] = file
        return file

    def _append(self, table: str, file: _File, line: bytearray) -> None:
        try:
            written = os.write(file.descriptor, line)
            if written < len(line):
                raise OSError(28, "No space left on device")
            if self.fsync:
                os.fsync(file.descriptor)
        except OSError:
            # Half a line would spoil the next one; giving space back works on a full disk.
            try:
                os.ftruncate(file.descriptor, file.size)
            except OSError:
                self._finish(table)
            raise
        file.size += written
        file.rows += 1

    def _finish(self, table: str) -> None:
        os.close(self._files.pop(table).descriptor)

    def _after_fork(self) -> None:
        """Leave the parent's files to the parent; this process writes its own."""
        self._mutex = threading.Lock()
        for file in self._files.values():
            with contextlib.suppress(OSError):
                os.close(file.descriptor)
        self._files.clear()
        self._numbers.clear()
        # Closing our copy of the descriptor leaves the parent's lock as it is.
        self._lock.release()
        self._buffer = bytearray()
        self._begin_life()


def open_writer(
    config: Config, *, session_id: str | None = None, run_id: str | None = None
) -> JournalWriter:
    """Return a writer of the store in the data folder, as it is configured."""
    return JournalWriter(
        metrics_dir(config.data_dir),
        session_id=session_id,
        run_id=run_id,
        fsync=config.metrics_fsync,
    )


_WRITERS: weakref.WeakSet[JournalWriter] = weakref.WeakSet()


def _writers_after_fork() -> None:
    for writer in list(_WRITERS):
        writer._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_writers_after_fork)


def _utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _scrubbed(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, Mapping):
        return {_scrubbed(key): _scrubbed(item) for key, item in value.items()}
    return [_scrubbed(v) for v in value] if isinstance(value, list | tuple) else value


def _not_kept(error: Exception) -> StoreError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    hint = "Free some space." if isinstance(error, OSError) else None
    return StoreError(f"A row of the metrics was not kept: {reason}.", hint=hint)
