"""Rows a kernel writes itself: its run, and a span for each request it sends.

Beside a server of this machine they go into its files.  For a server elsewhere they are spooled
here, posted to it, and removed once it has them; a row sent twice counts once there.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import re
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from workbench.errors import RequestTimeout, ResponseError, StoreError, WorkbenchError
from workbench.locks import FileLock
from workbench.messages import Failed, Finished, Opened, StreamEvent, TextDelta
from workbench.metrics.journal import JournalWriter
from workbench.portal import get_portal
from workbench.units import sortable_id, utc_now

log = logging.getLogger("workbench")

Row = Mapping[str, Any]
Post = Callable[[str, list[dict[str, Any]]], Awaitable[None]]
"""Sends rows of one table to the server; raises a `WorkbenchError` when it does not have them."""

_OPERATIONS = {"/api/chat": "chat", "/api/generate": "text_completion", "/api/embed": "embeddings"}
# What a span has of the context of its request.
_TEXTS = ("run_id", "run_key", "step", "item", "conversation", "speaker", "parent_span_id")
_BATCH = 200
_FLUSH_S = 2.0


class Records(Protocol):
    """Where rows go; a `run_id` that is set is put into rows that name none."""

    run_id: str | None

    def write(self, table: str, row: Row) -> bool:
        """Keep a row; returns whether it is kept."""
        ...


@dataclass(slots=True)
class Span:
    """One request as the client saw it, from its sending to its end."""

    name: str
    traceparent: str
    context: Mapping[str, object]
    started: float = field(default_factory=time.monotonic)
    began: Any = field(default_factory=utc_now)
    status: str = "cancelled"
    error: WorkbenchError | None = None
    attributes: dict[str, Any] = field(default_factory=dict)

    def take(self, events: list[StreamEvent]) -> None:
        """Read along with an answer."""
        for event in events:
            if isinstance(event, Opened):
                self.attributes["request_id"] = event.request_id
                self.attributes["model"] = event.model
            elif isinstance(event, TextDelta):
                self.attributes.setdefault("ttft_s", round(time.monotonic() - self.started, 6))
            elif isinstance(event, Finished):
                self.status = "ok"
                self.attributes["stop_reason"] = event.stop_reason
            elif isinstance(event, Failed):
                self.status, self.error = "error", event.error

    def row(self) -> dict[str, Any]:
        """Return the row of `spans`; the server's request has this span as its parent."""
        _, trace_id, span_id, _ = self.traceparent.split("-")
        row: dict[str, Any] = {
            "id": span_id,
            "ts": self.began,
            "trace_id": trace_id,
            "span_id": span_id,
            "name": self.name,
            "kind": "client",
            "ended": utc_now(),
            "duration": round(time.monotonic() - self.started, 6),
            "status": self.status,
            "attributes": self.attributes,
        }
        for name in _TEXTS:
            if self.context.get(name) is not None:
                row[name] = str(self.context[name])
        if isinstance(self.context.get("attempt"), int):
            row["attempt"] = self.context["attempt"]
        if self.error is not None:
            row["error_type"] = type(self.error).__name__
            row["error_message"] = self.error.message
            if isinstance(self.error, RequestTimeout):
                self.attributes["phase"] = self.error.phase
        return row


@contextmanager
def recorded(records: Records | None, span: Span) -> Iterator[Span]:
    """Write a span when the block has ended, however it ended."""
    try:
        yield span
    except WorkbenchError as exc:
        span.status, span.error = "error", exc
        raise
    finally:
        if records is not None:
            records.write("spans", span.row())


def span_of(path: str, model: object, traceparent: str, context: Mapping[str, object]) -> Span:
    """Return the span of a request that begins now."""
    return Span(f"{_OPERATIONS.get(path, path)} {model}", traceparent, context)


class Spool:
    """Rows for a server elsewhere: kept in a file until it has them.

    What an earlier process could not send is sent by the next one.

    Args:
        folder: Of this server's spool files.
        post: Sends rows.
        session: Put into every row, as `run_id` is once it is set.
    """

    def __init__(self, folder: Path, post: Post, *, session: str) -> None:
        self._folder = folder
        self._post = post
        self.session_id = session
        self.run_id: str | None = None
        self._path = folder / f"{os.getpid()}-{sortable_id()}.jsonl"
        self._lock = FileLock(self._path.with_suffix(".lock"))
        self._sending: asyncio.Task[None] | None = None
        self._adopted = False
        self._taken = True

    def write(self, table: str, row: Row) -> bool:
        """Keep a row and begin to send what is there; on the portal's thread only."""
        if not self._taken:
            return False
        full = {"session_id": self.session_id, **row, "_table": table}
        if self.run_id is not None:
            full.setdefault("run_id", self.run_id)
        full.setdefault("ts", utc_now())
        full.setdefault("id", sortable_id())
        line = json.dumps(full, default=_plain) + "\n"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            if not self._lock.held and not self._lock.acquire():
                raise OSError(f"{self._lock.path} is held")
            with self._path.open("a", encoding="utf-8") as file:
                file.write(line)
        except OSError as exc:
            log.warning("a row for the server was not kept: %s", exc)
            return False
        if self._sending is None or self._sending.done():
            self._sending = asyncio.get_running_loop().create_task(self._send())
        return True

    async def _send(self) -> None:
        if not self._adopted:
            self._adopted = True
            for path in self._orphans():
                await self._send_file(path)
        while self._path.exists() and await self._send_file(self._path):
            continue

    def _orphans(self) -> list[Path]:
        """Return files whose writers have ended."""
        others = [path for path in self._folder.glob("*.jsonl") if path != self._path]
        return [path for path in others if _is_free(path.with_suffix(".lock"))]

    async def _send_file(self, path: Path) -> bool:
        """Send a file and remove what the server has; returns whether there may be more."""
        try:
            data = await asyncio.to_thread(path.read_bytes)
        except OSError:
            return False
        rows = [_decoded(line) for line in data.splitlines() if line.strip()]
        by_table: dict[str, list[dict[str, Any]]] = {}
        for row in rows:
            if row is not None:
                by_table.setdefault(row.pop("_table", "spans"), []).append(row)
        try:
            for table, listed in by_table.items():
                for begin in range(0, len(listed), _BATCH):
                    await self._post(table, listed[begin : begin + _BATCH])
        except WorkbenchError as exc:
            if not _is_final(exc):
                log.info("rows stay in %s until the server takes them: %s", path, exc.message)
                return False
            # An Ollama has no place for rows, and an older server not for all of them.
            log.info("the server does not take these rows: %s", exc.message)
            self._taken = not (isinstance(exc, ResponseError) and exc.status in (404, 405))
        return self._forget(path, len(data))

    def _forget(self, path: Path, sent: int) -> bool:
        rest = path.read_bytes()[sent:]
        if rest:
            path.write_bytes(rest)
            return True
        path.unlink()
        if path != self._path:
            path.with_suffix(".lock").unlink(missing_ok=True)
        return False

    @property
    def is_sending(self) -> bool:
        """Whether rows are on their way."""
        return self._sending is not None and not self._sending.done()

    async def flush(self) -> None:
        """Wait a moment for what is on its way; what is not sent then stays in the file."""
        if self._sending is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(self._sending), _FLUSH_S)

    def close(self) -> None:
        """Leave what is not sent to the next process."""
        self._lock.release()
        if not self._path.exists():
            self._lock.path.unlink(missing_ok=True)


def _is_final(error: WorkbenchError) -> bool:
    """Whether asking again would get the same answer: another server, or an older one."""
    return isinstance(error, ResponseError) and error.status in (400, 404, 405, 413)


def _is_free(path: Path) -> bool:
    lock = FileLock(path)
    try:
        free = lock.acquire()
    except OSError:
        return False
    lock.release()
    return free


def _decoded(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except ValueError:
        # The last line of a process that was killed.
        return None
    return row if isinstance(row, dict) else None


def _plain(value: Any) -> Any:
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def spool_folder(data_dir: Path, url: str) -> Path:
    """Return the folder of rows that wait for the server at `url`."""
    return data_dir / "spool" / re.sub(r"[^A-Za-z0-9.]+", "-", url.partition("://")[2])


def settle_records(records: Records | None) -> None:
    """Wait a moment until the server has the rows that are on their way to it.

    So a person who voted and asks the metrics finds the vote.  On the portal's own thread, which
    sends them, nothing is awaited.
    """
    if isinstance(records, Spool) and records.is_sending and not get_portal().here:
        get_portal().run(records.flush())


def close_records(records: Records | None) -> None:
    """Finish the files of a writer, or wait a moment for what is on its way."""
    if isinstance(records, JournalWriter):
        records.close()
    elif isinstance(records, Spool):
        with contextlib.suppress(StoreError, RuntimeError):
            get_portal().run(records.flush())
        records.close()
