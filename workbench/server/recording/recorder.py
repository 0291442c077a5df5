"""Writes what the server did into the metrics, and counts it for alerts and Prometheus.

Rows are made and written by one thread of its own, in the order in which things happened, so that
neither a long prompt nor a slow disk holds up an answer.
"""

from __future__ import annotations

import logging
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from workbench.errors import StoreError, WorkbenchError
from workbench.metrics.journal import JournalWriter
from workbench.metrics.schema import TABLES
from workbench.server.backends.base import Backend, ModelEntry
from workbench.server.gpu.base import GpuDevice
from workbench.server.recording.alerts import AlertBoard, AlertChange
from workbench.server.recording.events import model_event_row
from workbench.server.recording.prometheus import Counters
from workbench.server.recording.rows import (
    OPERATIONS,
    Client,
    Row,
    answer_message,
    client_of,
    ending_columns,
    hash_columns,
    known,
    message_row,
    message_rows,
    options_columns,
    target_columns,
    trace_ids,
)
from workbench.server.recording.tap import Tap
from workbench.server.residency.resident import Resident
from workbench.units import utc_now

log = logging.getLogger("workbench")

RecordText = Literal["all", "own", "none"]
Outcome = Literal["ok", "cancelled", "error"]
Operation = Literal["chat", "generate", "embed"]

# A full disk is told once a minute, not with every row.
_TELL_AGAIN_S = 60.0
_COUNTED = ("turn", "epoch", "attempt")
_CONTEXT = {"session": "session_id", "preset": "preset_sha"}


class Recorder:
    """The server's pen.

    Args:
        folder: The store of metrics.
        record_text: Whose texts are kept: `all`, `own` (asked by our own client) or `none`.
        fsync: Wait for the disk after each row.
        chunk_gaps: Keep the time between every two pieces of an answer.
        emit: Tells an event: its name, then fields.
        board: The alerts.
    """

    def __init__(
        self,
        folder: Path,
        *,
        record_text: RecordText,
        fsync: bool,
        chunk_gaps: bool,
        emit: Callable[..., None],
        board: AlertBoard,
    ) -> None:
        self.board = board
        self.counters = Counters()
        self.writer = JournalWriter(folder, fsync=fsync, on_refused=self._refused)
        self._record_text = record_text
        self.chunk_gaps = chunk_gaps
        self._emit = emit
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="workbench-recorder")
        self._versions: dict[str, str] = {}
        self._seen_models: set[str] = set()
        self._told_at = -_TELL_AGAIN_S

    # ---- requests

    def begin(
        self,
        operation: Operation,
        *,
        request_id: str,
        backend: Backend,
        entry: ModelEntry,
        body: Mapping[str, Any],
        context: Mapping[str, str],
        user_agent: str,
        token_name: str | None = None,
        traceparent: str | None,
        interactive: bool,
        stream: bool,
    ) -> Recording:
        """Record that a request was admitted and return where its end is recorded."""
        client = client_of(user_agent, kind=context.get("client_kind"))
        keep_text = self._record_text == "all" or (self._record_text == "own" and client.own)
        row: Row = {
            "id": request_id,
            "ts": utc_now(),
            "status": "open",
            **trace_ids(traceparent),
            **context_columns(context),
            **_client_columns(client),
            **known({"token_name": token_name}),
            "priority": "interactive" if interactive else "batch",
            "gen_ai_operation_name": OPERATIONS[operation],
            "gen_ai_request_stream": stream,
            **target_columns(backend, entry),
            **options_columns(body),
        }
        if entry.digest not in self._seen_models:
            self.submit(self.model, backend, entry)
        recording = Recording(self, operation, row, body, keep_text=keep_text)
        self.submit(recording.write_beginning)
        return recording

    def ended(self, row: Row) -> None:
        """Count a request that ended, for alerts and Prometheus; runs on the loop."""
        model = f"{row['gen_ai_request_model']}@{row['backend']}"
        self.counters.request_ended(
            model=model,
            operation=row["gen_ai_operation_name"],
            error_type=row.get("error_type"),
            duration_s=row.get("duration"),
            first_token_s=row.get("gen_ai_response_time_to_first_chunk"),
            input_tokens=row.get("gen_ai_usage_input_tokens"),
            output_tokens=row.get("gen_ai_usage_output_tokens"),
        )
        if row["status"] != "cancelled":
            changes = self.board.request_ended(
                time.monotonic(),
                model=model,
                duration_s=row.get("duration"),
                ok=row["status"] == "ok",
            )
            self.tell(changes)

    # ---- everything else

    def event(self, event: Mapping[str, Any]) -> None:
        """Record an event of the server when it is about a model."""
        name = event["event"]
        if name in ("backend_up", "backend_down"):
            self._versions.pop(str(event.get("backend")), None)
            error = str(event.get("error") or "no answer") if name == "backend_down" else None
            self.tell(self.board.backend(str(event.get("backend")), error))
        row = model_event_row(event)
        if row is not None:
            row["backend_version"] = self._versions.get(str(event.get("backend")))
            self.submit(self.write, "model_events", known(row))

    def device(self, device: GpuDevice, taken_at: float, models: list[Row]) -> None:
        """Record a reading of a device.

        Args:
            taken_at: Seconds since 1970.
            models: What lies on it: `name`, `backend` and `bytes` of each.
        """
        self.tell(self.board.memory(device.name or device.id, _free_share(device)))
        row = _device_row(device, datetime.fromtimestamp(taken_at, UTC))
        self.submit(self.write, "gpu_samples", {**row, "models": models})

    def remember_version(self, backend: str, version: str | None) -> None:
        """Keep the version a backend told, for the rows to come."""
        if version:
            self._versions[backend] = version

    def version_of(self, backend: str) -> str | None:
        """Return the version a backend told, when it did."""
        return self._versions.get(backend)

    def rows(self, table: str, rows: list[Row]) -> Future[int]:
        """Write rows of another process; the result is how many were kept."""
        return self._thread.submit(lambda: sum(self.write(table, row) for row in rows))

    @staticmethod
    def unknown_columns(table: str, rows: list[Row]) -> list[str]:
        """Return the columns of rows that the table does not have."""
        return sorted({name for row in rows for name in row} - set(TABLES[table].names))

    def model(self, backend: Backend, entry: ModelEntry) -> None:
        """Record a model the first time it is used."""
        if not entry.digest or entry.digest in self._seen_models:
            return
        self._seen_models.add(entry.digest)
        details = entry.details
        now = utc_now()
        row = {
            "id": entry.digest,
            "ts": now,
            "first_seen": now,
            "digest": entry.digest,
            "name": entry.name,
            "backend": backend.name,
            "family": details.get("family") or None,
            "parameter_size": details.get("parameter_size") or None,
            "quantization": details.get("quantization_level") or None,
            "format": details.get("format") or None,
            "context_length": entry.context_length,
            "capabilities": list(entry.capabilities) or None,
            "size_bytes": entry.size_bytes,
        }
        self.write("models", known(row))

    def write(self, table: str, row: Mapping[str, Any]) -> bool:
        """Write one row now; on the recorder's thread only."""
        return self.writer.write(table, row)

    def submit(self, work: Callable[..., object], *args: object) -> None:
        """Do something on the recorder's thread, after everything before it."""
        try:
            self._thread.submit(_logged, work, *args)
        except RuntimeError:
            # A request that ends after the server's last breath: its row reads `lost`.
            log.warning("something that happened while the server ended was not recorded")

    def tell(self, changes: list[AlertChange]) -> None:
        """Tell what changed about the alerts as events."""
        for change in changes:
            level = logging.WARNING if change.kind == "began" else logging.INFO
            self._emit(
                "alert" if change.kind == "began" else "alert_ended",
                level=level,
                alert=change.rule.name,
                kind=change.rule.kind,
                subject=change.subject,
                value=change.value,
                limit=change.rule.limit or None,
                reason=change.text,
                actor="server",
            )

    def _refused(self, table: str, error: StoreError) -> None:
        now = time.monotonic()
        if now - self._told_at >= _TELL_AGAIN_S:
            self._told_at = now
            log.warning("a row of %s was not kept: %s", table, error.message)
            self._emit(
                "record_refused", table=table, error=error.message, refused=self.writer.refused
            )

    def close(self) -> None:
        """Write what is left and finish the files."""
        self._thread.shutdown(wait=True)
        self.writer.close()


class Recording:
    """One request's row, from its admission to its end."""

    def __init__(
        self,
        recorder: Recorder,
        operation: Operation,
        row: Row,
        body: Mapping[str, Any],
        *,
        keep_text: bool,
    ) -> None:
        self._recorder = recorder
        self._operation = operation
        self._row = row
        self._body = body
        self._keep_text = keep_text
        self._last_message: str | None = None
        self.tap = Tap(keep_text=keep_text)

    def write_beginning(self) -> None:
        """Write the open row and the messages; on the recorder's thread."""
        messages = message_rows(self._operation, self._body)
        self._row |= hash_columns(messages)
        if messages:
            self._last_message = messages[-1]["id"]
        # First, so that who sees the request finds its texts.
        if self._keep_text:
            for message in messages:
                self._recorder.write("messages", message)
        self._recorder.write("requests", self._row)

    def end(self, outcome: Outcome, *, resident: Resident | None = None) -> None:
        """Record the end of the request.

        Args:
            resident: Its model as it is in memory; `None` when that is not known.
        """
        tap = self.tap
        duration_s = time.monotonic() - tap.started
        ending = ending_columns(tap, outcome=outcome, duration_s=duration_s)
        ending |= known({"ended": utc_now()})
        if self._recorder.chunk_gaps:
            ending["chunk_gaps"] = [round(gap, 5) for gap in tap.gaps_s]
        if resident is not None:
            ending |= known({"vram_bytes": resident.vram_bytes, "num_ctx": resident.context_length})
        backend = self._row["backend"]
        ending |= known({"backend_version": self._recorder.version_of(backend)})
        self._recorder.ended({**self._row, **ending})
        self._recorder.submit(self._write_end, ending)

    @contextmanager
    def until_end(self) -> Iterator[None]:
        """Record how the block ends: well, with an error of ours, or cancelled."""
        outcome: Outcome = "cancelled"
        try:
            yield
            outcome = "ok"
        except WorkbenchError as exc:
            outcome, self.tap.failure = "error", exc
            raise
        finally:
            self.end(outcome)

    def _write_end(self, ending: Row) -> None:
        if self._keep_text and self.tap.n_chunks:
            answer = message_row(answer_message(self.tap), parent=self._last_message)
            ending["output_sha"] = answer["id"]
            self._recorder.write("messages", answer)
        self._recorder.write("requests", {**self._row, **ending})


def context_columns(context: Mapping[str, str]) -> Row:
    """Return the columns of a request's context headers; counts that are none are left out."""
    row: Row = {}
    for name, value in context.items():
        if name in _COUNTED:
            if value.isascii() and value.isdigit() and len(value) < 16:
                row[name] = int(value)
        elif name != "client_kind":
            row[_CONTEXT.get(name, name)] = value
    return row


def _client_columns(client: Client) -> Row:
    return known(
        {
            "client_name": client.name,
            "client_version": client.version,
            "client_kind": client.kind,
        }
    )


def _free_share(device: GpuDevice) -> float | None:
    if not device.total_bytes or device.free_bytes is None:
        return None
    return float(device.free_bytes / device.total_bytes)


def _device_row(device: GpuDevice, taken: datetime) -> Row:
    busy = device.utilization_pct
    return known(
        {
            "ts": taken,
            "host": platform.node() if device.kind != "declared" else None,
            "hw_id": device.id,
            "hw_name": device.name,
            "hw_vendor": device.kind,
            "backend": device.backend,
            "hw_gpu_utilization": None if busy is None else busy / 100.0,
            "hw_gpu_memory_usage": device.used_bytes,
            "hw_gpu_memory_limit": device.total_bytes,
            "hw_gpu_memory_free": device.free_bytes,
            "temperature_c": device.temperature_c,
            "power_w": device.power_w,
            "source": device.source,
        }
    )


def _logged(work: Callable[..., object], *args: object) -> None:
    try:
        work(*args)
    except Exception:
        # A row that cannot be made must not take those after it along.
        log.exception("recording failed")
