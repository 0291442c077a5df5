"""`/workbench/v1/gpu` and `/fit`: what the devices tell, and whether a model fits."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from workbench.errors import ResponseError
from workbench.server.backends.base import Backend, RunningModel
from workbench.server.catalog import Resolved
from workbench.server.core import Core
from workbench.server.gpu.base import GpuDevice
from workbench.server.gpu.monitor import GpuSample, GpuSnapshot
from workbench.server.memory import models_on
from workbench.server.routes.common import Endpoint, core_of
from workbench.server.rows import snapshots
from workbench.server.streaming import json_response
from workbench.units import format_bytes, rfc3339

MOST_CONTEXT = 10_000_000


async def gpu(request: Request) -> Response:
    """Return every device with its figures, whose models lie there, and the warning that stands."""
    core = core_of(request)
    seconds = _number(request, "history_s", most=3600)
    core.gpu.wake(watched=True)
    loaded = [
        (backend, seen.models) for backend, seen in await snapshots(core, core.backends.values())
    ]
    for backend, running in loaded:
        core.fits.saw(backend, running)
    taken = await core.gpu.snapshot()
    body = {
        "devices": [_device(core, taken, device, loaded) for device in taken.devices],
        "driver_version": taken.driver_version,
        "reason": taken.reason,
        "warning": _warning(taken),
        "as_of": rfc3339(datetime.fromtimestamp(taken.taken_at, UTC)),
    }
    if seconds is not None:
        body["history"] = [_sample(sample) for sample in core.gpu.history(seconds)]
    return json_response(body)


def _device(
    core: Core,
    taken: GpuSnapshot,
    device: GpuDevice,
    loaded: list[tuple[Backend, list[RunningModel]]],
) -> dict[str, Any]:
    """Return a device with the models on it."""
    models = models_on(device, taken, core.gpu.places, loaded)
    sizes = [model["bytes"] for model in models]
    used = device.used_bytes
    other = None if used is None or None in sizes else max(0, used - sum(sizes))
    return {**device.as_json(), "models": models, "other_bytes": other}


def _warning(taken: GpuSnapshot) -> dict[str, Any] | None:
    """Return the warning that stands: low memory first, then a load that would be split."""
    if taken.low:
        # Of several the one with the least left.
        device = min(taken.low, key=lambda item: item.free_bytes or 0)
        free, total = format_bytes(device.free_bytes), format_bytes(device.total_bytes)
        return {
            "level": "low",
            "device": device.id,
            "free_bytes": device.free_bytes,
            "total_bytes": device.total_bytes,
            "text": f"{device.name or device.id}: {free} of {total} are free.",
        }
    coming = taken.next_load
    if coming is None:
        return None
    return {
        "level": "offload",
        "device": None,
        "free_bytes": coming.free_bytes,
        "total_bytes": coming.total_bytes,
        "text": f"Loading {coming.model} now would split it: {coming.reason}.",
    }


def _sample(sample: GpuSample) -> dict[str, Any]:
    return {
        "at": sample.taken_at,
        "device": sample.device,
        "total_bytes": sample.total_bytes,
        "used_bytes": sample.used_bytes,
        "free_bytes": sample.free_bytes,
        "utilization_pct": sample.utilization_pct,
        "temperature_c": sample.temperature_c,
        "power_w": sample.power_w,
    }


async def fit(request: Request) -> Response:
    """Say whether a model fits alone, alongside what is loaded, or only in part on the GPU."""
    core = core_of(request)
    num_ctx = _number(request, "num_ctx", least=1, most=MOST_CONTEXT)
    target = await core.catalog.resolve(request.query_params.get("model", ""))
    found = await core.fits.fit(target.backend, target.entry, num_ctx=num_ctx)
    stays = found.alongside.fits and not found.offload.will
    evicts = [] if stays else await _evicts(core, target, num_ctx)
    return json_response(
        {
            "model": target.entry.name,
            "backend": target.backend.name,
            **found.as_json(),
            # Where nobody of ours would leave and yet it does not fit, its server decides.
            "evicts": [] if stays else evicts or None,
        }
    )


async def _evicts(core: Core, target: Resolved, num_ctx: int | None) -> list[str] | None:
    options = {} if num_ctx is None else {"num_ctx": num_ctx}
    return await core.residency.would_evict(target.backend, target.entry, options)


def _number(request: Request, name: str, *, least: int = 0, most: int) -> int | None:
    """Return a number of the query, `None` when it is not there.

    Raises:
        ResponseError: With status 400, when it is none or out of range.
    """
    text = request.query_params.get(name)
    if text is None:
        return None
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 20 else -1
    if not least <= number <= most:
        raise ResponseError(
            f"{name} must be a whole number from {least} to {most}, not {text[:40]!r}", status=400
        )
    return number


_TAG = "Workbench"
ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint("GET", "/workbench/v1/gpu", gpu, "Memory and load of every device", _TAG,
             query=(("history_s", "integer"),)),
    Endpoint("GET", "/workbench/v1/fit", fit, "Whether a model fits", _TAG,
             statuses=(404, 409), query=(("model", "string!"), ("num_ctx", "integer"))),
)  # fmt: skip
