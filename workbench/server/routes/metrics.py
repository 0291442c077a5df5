"""What the server counts and records: alerts, rows of other hosts, and Prometheus."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import Response

from workbench.errors import ResponseError
from workbench.server import schemas
from workbench.server.core import Core
from workbench.server.recording.prometheus import CONTENT_TYPE, Gauge, Labels
from workbench.server.routes.common import Endpoint, core_of, read_body
from workbench.server.streaming import json_response

# What a kernel knows and a server does not; the rest the server writes itself.
FROM_KERNELS = ("runs", "spans", "evaluations", "votes")


async def records(request: Request) -> Response:
    """Keep rows of a kernel on another host; a row sent twice counts once, by its id."""
    typed, _ = await read_body(request, schemas.RecordsRequest)
    if typed.table not in FROM_KERNELS:
        raise ResponseError(
            f"rows of {typed.table!r} are not taken",
            status=400,
            hint=f"Taken are: {', '.join(FROM_KERNELS)}.",
        )
    for number, row in enumerate(typed.rows):
        if not isinstance(row.get("id"), str) or not row["id"]:
            raise ResponseError(f"row {number} has no id", status=400, hint="Give each row one.")
    recorder = core_of(request).recorder
    check = recorder.unknown_columns(typed.table, typed.rows)
    if check:
        raise ResponseError(
            f"the table {typed.table!r} has no column {', '.join(check)}",
            status=400,
            hint="See docs/reference/metrics.md; is the client newer than the server?",
        )
    kept = await asyncio.wrap_future(recorder.rows(typed.table, typed.rows))
    return json_response({"kept": kept, "refused": len(typed.rows) - kept})


async def alerts(request: Request) -> Response:
    """List the rules of the configuration, and which of them hold now."""
    board = core_of(request).recorder.board
    rules = [
        {
            "name": rule.name,
            "kind": rule.kind,
            "limit": rule.limit or None,
            "window_s": rule.window_s,
            "model": rule.model,
            "backend": rule.backend,
        }
        for rule in board.rules
    ]
    active = [
        {
            "alert": change.rule.name,
            "kind": change.rule.kind,
            "subject": change.subject,
            "value": change.value,
            "text": change.text,
        }
        for change in board.active
    ]
    return json_response({"rules": rules, "active": active})


async def prometheus(request: Request) -> Response:
    """Give the server's figures in the text format of Prometheus, when the setting allows it."""
    core = core_of(request)
    if not core.config.metrics_prometheus:
        raise ResponseError(
            "the figures for Prometheus are off",
            status=404,
            hint="Set metrics.prometheus = true in workbench.toml.",
        )
    text = core.recorder.counters.text([*_model_gauges(core), *await _device_gauges(core)])
    return Response(text, media_type=CONTENT_TYPE)


def _model_gauges(core: Core) -> list[Gauge]:
    vram: list[tuple[Labels, float | None]] = []
    busy: list[tuple[Labels, float | None]] = []
    for backend in core.backends:
        for resident in core.residency.residents(backend):
            labels: Labels = (("backend", backend), ("model", resident.entry.name))
            vram.append((labels, resident.vram_bytes))
            busy.append((labels, resident.in_flight))
    return [
        Gauge("workbench_model_vram_bytes", "Memory of the GPU a model holds.", tuple(vram)),
        Gauge("workbench_model_requests_in_flight", "Requests a model answers.", tuple(busy)),
    ]


async def _device_gauges(core: Core) -> list[Gauge]:
    snapshot = await core.gpu.snapshot(max_age_s=5.0)
    figures: dict[str, list[tuple[Labels, float | None]]] = {"total": [], "used": [], "free": []}
    for device in snapshot.devices:
        labels: Labels = (("device", device.id), ("name", device.name or device.kind))
        for name, samples in figures.items():
            samples.append((labels, getattr(device, f"{name}_bytes")))
    return [
        Gauge(f"workbench_device_memory_{name}_bytes", f"Memory of a device, {name}.", tuple(rows))
        for name, rows in figures.items()
    ]


_TAG = "Metrics"
_V1 = "/workbench/v1"
ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint("POST", f"{_V1}/records", records, "Keep rows of a kernel elsewhere", _TAG,
             schemas.RecordsRequest),
    Endpoint("GET", f"{_V1}/alerts", alerts, "List alerts", _TAG),
    Endpoint("GET", "/metrics", prometheus, "Figures for Prometheus", _TAG, answers=("text",),
             statuses=(404,)),
)  # fmt: skip
