"""`/workbench/v1/models` and what is done with models: loading, wishes, getting, removing."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from workbench.errors import ResponseError
from workbench.server import rows, schemas
from workbench.server.backends.base import RunningModel
from workbench.server.backends.llamacpp import LlamaCppBackend
from workbench.server.catalog import Resolved
from workbench.server.core import Core
from workbench.server.pulling import pull_lines
from workbench.server.residency.resident import UnloadReport
from workbench.server.routes.common import Endpoint, actor_of, core_of, read_body, want_of
from workbench.server.routes.ollama import delete_model, load_model, pull_target
from workbench.server.streaming import (
    NDJSON,
    StreamResponse,
    json_response,
    started,
    while_connected,
)
from workbench.units import parse_keep_alive


async def models(request: Request) -> Response:
    """List the models of every backend, and the backends that do not answer."""
    return json_response(await rows.model_rows(core_of(request)))


async def default(request: Request) -> Response:
    """Return the model that is used when none is named, and why."""
    choice = await core_of(request).catalog.default()
    entry = choice.resolved.entry
    return json_response(
        {
            "model": entry.name,
            "backend": choice.resolved.backend.name,
            "reason": choice.reason,
            "toy": entry.toy,
        }
    )


async def loaded(request: Request) -> Response:
    """List what is in memory, of every backend that answers."""
    return json_response(await rows.loaded_rows(core_of(request)))


async def load(request: Request) -> Response:
    """Bring a model into memory and return it as it is loaded."""
    typed, body = await read_body(request, schemas.LoadRequest)
    core = core_of(request)
    target = await core.catalog.resolve(typed.model)
    want = want_of(
        request, target, body, swap=bool(typed.swap or typed.force), force=bool(typed.force)
    )
    await while_connected(request, load_model(core, target, want))
    return json_response(await _loaded_row(core, target))


async def _loaded_row(core: Core, target: Resolved) -> dict[str, Any]:
    backend, entry = target.backend, target.entry
    unlisted = RunningModel(entry.name, entry.digest, entry.size_bytes)
    if not backend.loads_models:
        known = core.residency.hosts[backend.name].cache.snapshot
        return rows.loaded_row(core, rows.InMemory(backend, unlisted, [], known))
    snapshot = await core.residency.snapshot(backend)
    runner = (await backend.runner_of(entry.name, entry.digest)).id
    for item in rows.in_memory(core, backend, snapshot):
        if snapshot.find(runner) is not None and _is(item, runner, snapshot.find(runner)):
            return rows.loaded_row(core, item)
    # A backend may not list it (yet): then there is what we know ourselves.
    found = await core.residency.find(backend, entry)
    return rows.loaded_row(core, rows.InMemory(backend, unlisted, found, snapshot))


def _is(item: rows.InMemory, runner: str, row: RunningModel | None) -> bool:
    keys = {resident.runner.removesuffix("#embed") for resident in item.known}
    return runner in keys or (row is not None and item.model.name == row.name)


async def unload(request: Request) -> Response:
    """Take a model out of memory once its requests have ended, and say whether it is gone."""
    typed, _ = await read_body(request, schemas.UnloadRequest)
    core = core_of(request)
    target = await core.catalog.resolve(typed.model)
    report = await core.residency.unload(
        target.backend, target.entry, force=bool(typed.force), actor=actor_of(request)
    )
    return json_response(unload_row(target, report))


def unload_row(target: Resolved, report: UnloadReport) -> dict[str, Any]:
    """Return how an unload went, as our clients read it."""
    return {
        "model": target.entry.name,
        "backend": target.backend.name,
        "verdict": report.verdict,
        "seconds": round(report.seconds, 4),
        "bytes_before": report.bytes_before,
        "bytes_after": report.bytes_after,
        "waited_for": report.waited_for,
        "reason": report.reason,
    }


async def pin(request: Request) -> Response:
    """Keep a model in memory: it never leaves to make room, except by force."""
    typed, _ = await read_body(request, schemas.PinRequest)
    core = core_of(request)
    target = await core.catalog.resolve(typed.model)
    if not typed.force:
        await core.residency.check_pin(target.backend, target.entry)
    await _prefer(core, target, request, pinned=True)
    return json_response(await rows.one_model_row(core, target))


async def unpin(request: Request) -> Response:
    """Let a model leave again when room is needed."""
    typed, _ = await read_body(request, schemas.UnpinRequest)
    core = core_of(request)
    target = await core.catalog.resolve(typed.model)
    await _prefer(core, target, request, pinned=False)
    return json_response(await rows.one_model_row(core, target))


async def prefer(request: Request) -> Response:
    """Change what is wished for a model; what is not named stays, null is the default again."""
    typed, body = await read_body(request, schemas.PreferRequest)
    core = core_of(request)
    target = await core.catalog.resolve(typed.model)
    changes: dict[str, Any] = {}
    if "priority" in body:
        changes["priority"] = 5 if typed.priority is None else typed.priority
    for name in ("pinned", "hot"):
        if name in body:
            changes[name] = bool(body[name])
    for name in ("keep_alive", "max_idle"):
        if name in body:
            changes[f"{name}_s"] = _seconds(name, body[name])
    await _prefer(core, target, request, **changes)
    return json_response(await rows.one_model_row(core, target))


def _seconds(name: str, value: object) -> float | None:
    try:
        return parse_keep_alive(value)
    except ValueError as exc:
        raise ResponseError(f"{name}: {exc}", status=400) from exc


async def _prefer(core: Core, target: Resolved, request: Request, **changes: Any) -> None:
    await core.residency.prefer(target.backend, target.entry, actor=actor_of(request), **changes)


async def pull(request: Request) -> Response:
    """Fetch a model on an Ollama backend; progress with speed and time left, as NDJSON."""
    typed, _ = await read_body(request, schemas.GetRequest)
    core = core_of(request)
    backend, name = await pull_target(core, typed.model)
    lines = pull_lines(core, backend, name, actor=actor_of(request))
    chunks = await while_connected(request, started(lines))
    return StreamResponse(chunks, media_type=NDJSON)


async def delete(request: Request) -> Response:
    """Remove a model after it was unloaded and seen to be gone."""
    typed, _ = await read_body(request, schemas.RemoveRequest)
    core = core_of(request)
    target = await core.catalog.resolve(typed.model)
    report = await delete_model(core, target, actor=actor_of(request))
    row = unload_row(target, report)
    return json_response(
        {
            "model": row.pop("model"),
            "backend": row.pop("backend"),
            "unload": row,
            "freed_bytes": target.entry.size_bytes,
        }
    )


async def add(request: Request) -> Response:
    """Take in a GGUF file by its path; the file stays where it is."""
    typed, _ = await read_body(request, schemas.AddRequest)
    core = core_of(request)
    engines = [item for item in core.backends.values() if isinstance(item, LlamaCppBackend)]
    (engine,) = engines
    name = await engine.add(typed.path, typed.name)
    core.catalog.forget(engine.name)
    target = await core.catalog.resolve(f"{name}@{engine.name}")
    core.events.emit(
        "pulled", model=name, backend=engine.name, actor=actor_of(request), reason="added by path"
    )
    return json_response(await rows.one_model_row(core, target))


_TAG = "Workbench"
_V1 = "/workbench/v1"
ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint("GET", f"{_V1}/models", models, "List models with their state", _TAG),
    Endpoint("PATCH", f"{_V1}/models", prefer, "Change what is wished for a model", _TAG,
             schemas.PreferRequest, statuses=(404, 409)),
    Endpoint("DELETE", f"{_V1}/models", delete, "Remove a model, unloaded first", _TAG,
             schemas.RemoveRequest, statuses=(404, 409, 501)),
    Endpoint("GET", f"{_V1}/models/default", default, "The model used when none is named", _TAG,
             statuses=(404,)),
    Endpoint("GET", f"{_V1}/models/loaded", loaded, "List what is in memory", _TAG),
    Endpoint("POST", f"{_V1}/models/add", add, "Take in a GGUF file by its path", _TAG,
             schemas.AddRequest, statuses=(404, 409)),
    Endpoint("POST", f"{_V1}/load", load, "Load a model, verified", _TAG, schemas.LoadRequest,
             statuses=(404, 409, 503, 507)),
    Endpoint("POST", f"{_V1}/unload", unload, "Unload a model, verified", _TAG,
             schemas.UnloadRequest, statuses=(404, 409, 501)),
    Endpoint("POST", f"{_V1}/pin", pin, "Keep a model in memory", _TAG, schemas.PinRequest,
             statuses=(404, 409)),
    Endpoint("POST", f"{_V1}/unpin", unpin, "Let a model leave again", _TAG,
             schemas.UnpinRequest, statuses=(404, 409)),
    Endpoint("POST", f"{_V1}/pull", pull, "Fetch a model, with progress", _TAG,
             schemas.GetRequest, ("ndjson",), (404, 409, 501, 507)),
)  # fmt: skip
