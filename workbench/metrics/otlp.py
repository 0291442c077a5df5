"""OpenTelemetry's JSON: one OTLP document a line, as collectors read from files.

`traces.jsonl` holds requests and spans, `logs.jsonl` evaluations and model events, `metrics.jsonl`
the GPU samples.  Columns with a name of OpenTelemetry have it; ours begin with `workbench.`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import msgspec

from workbench._version import __version__
from workbench.metrics.schema import Table
from workbench.metrics.sources import name

_BATCH = 500
_STATUS = {"ok": 1, "error": 2, "lost": 2}
_GAUGES = {
    "hw_gpu_utilization": ("hw.gpu.utilization", "1"),
    "hw_gpu_memory_usage": ("hw.gpu.memory.usage", "By"),
    "hw_gpu_memory_limit": ("hw.gpu.memory.limit", "By"),
    "hw_gpu_memory_free": ("hw.gpu.memory.free", "By"),
}
# Columns that a field of the document holds.
_FIELDS = {"trace_id", "span_id", "parent_span_id", "ts", "ended", "schema_v", "seq"}

Row = dict[str, Any]


def write(
    connection: duckdb.DuckDBPyConnection, target: Path, tables: Sequence[Table], where: str
) -> dict[str, int]:
    """Write the rows of the tables that OpenTelemetry has a place for; returns rows by table."""
    rows = {}
    for table in tables:
        if table.name in _PLACES:
            file, document = _PLACES[table.name]
            query = f"SELECT * FROM {name(table.name)} WHERE {where} ORDER BY ts, seq"
            connection.execute(query)
            count = 0
            with (target / file).open("ab") as out:
                for batch in _batches(connection):
                    out.write(msgspec.json.encode(document(table, batch)) + b"\n")
                    count += len(batch)
            rows[table.name] = count
    return rows


def _batches(connection: duckdb.DuckDBPyConnection) -> Iterator[list[Row]]:
    names = [column[0] for column in connection.description or ()]
    while rows := connection.fetchmany(_BATCH):
        yield [dict(zip(names, row, strict=True)) for row in rows]


def _traces(table: Table, rows: Sequence[Row]) -> Row:
    return _document("resourceSpans", "scopeSpans", "spans", [_span(table, row) for row in rows])


def _logs(table: Table, rows: Sequence[Row]) -> Row:
    event = "gen_ai.evaluation.result" if table.name == "evaluations" else "workbench.model.event"
    records = [
        {
            "timeUnixNano": _nanoseconds(row["ts"]),
            "eventName": event,
            "attributes": _attributes(table, row),
        }
        for row in rows
    ]
    return _document("resourceLogs", "scopeLogs", "logRecords", records)


def _gauges(table: Table, rows: Sequence[Row]) -> Row:
    metrics = []
    for column, (label, unit) in _GAUGES.items():
        kind = "asDouble" if unit == "1" else "asInt"
        points = [
            {
                "timeUnixNano": _nanoseconds(row["ts"]),
                kind: row[column] if unit == "1" else str(row[column]),
                "attributes": [
                    _attribute(key, row[k])
                    for key, k in (("hw.id", "hw_id"), ("host.name", "host"))
                    if row[k] is not None
                ],
            }
            for row in rows
            if row[column] is not None
        ]
        metrics.append({"name": label, "unit": unit, "gauge": {"dataPoints": points}})
    return _document("resourceMetrics", "scopeMetrics", "metrics", metrics)


_PLACES: dict[str, tuple[str, Callable[[Table, Sequence[Row]], Row]]] = {
    "requests": ("traces.jsonl", _traces),
    "spans": ("traces.jsonl", _traces),
    "evaluations": ("logs.jsonl", _logs),
    "model_events": ("logs.jsonl", _logs),
    "gpu_samples": ("metrics.jsonl", _gauges),
}


def _document(resources: str, scopes: str, items: str, values: list[Row]) -> Row:
    resource = {"attributes": [_attribute("service.name", "workbench")]}
    scope = {"name": "workbench", "version": __version__}
    return {resources: [{"resource": resource, scopes: [{"scope": scope, items: values}]}]}


def _span(table: Table, row: Row) -> Row:
    label = row.get("name") or " ".join(
        str(row[c]) for c in ("gen_ai_operation_name", "gen_ai_request_model") if row.get(c)
    )
    end = row["ended"]
    span: Row = {
        "traceId": row["trace_id"] or _digits(row["id"], 32),
        "spanId": row["span_id"] or _digits(row["id"], 16),
        "name": label or table.name,
        "kind": 3 if table.name == "requests" else 1,
        "startTimeUnixNano": _nanoseconds(row["ts"]),
        "endTimeUnixNano": _nanoseconds(end if end is not None else row["ts"]),
        "attributes": _attributes(table, row),
        "status": {"code": _STATUS.get(row["status"], 0)},
    }
    if row["parent_span_id"]:
        span["parentSpanId"] = row["parent_span_id"]
    if row.get("error_message"):
        span["status"]["message"] = row["error_message"]
    return span


def _digits(text: str, count: int) -> str:
    """Return hex digits for a row that has none of its own, the same each time."""
    return hashlib.sha256(text.encode()).hexdigest()[:count]


def _attributes(table: Table, row: Row) -> list[Row]:
    return [
        _attribute(column.otel or f"workbench.{column.name}", row[column.name])
        for column in table.columns
        if column.name not in _FIELDS and row[column.name] is not None
    ]


def _attribute(key: str, value: Any) -> Row:
    return {"key": key, "value": _value(value)}


def _value(value: Any) -> Row:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, list):
        return {"arrayValue": {"values": [_value(item) for item in value]}}
    if isinstance(value, datetime):
        return {"stringValue": value.isoformat() + "Z"}
    return {"stringValue": str(value)}


def _nanoseconds(moment: datetime | None) -> str:
    if moment is None:
        return "0"
    seconds = moment.replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    return str((seconds.days * 86400 + seconds.seconds) * 10**9 + seconds.microseconds * 1000)
