"""What the routes share: reading bodies, naming jobs, and errors with a status."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from workbench import errors
from workbench.messages import OPTION_TYPES, RUNNER_OPTIONS, check_option, unknown_option
from workbench.server.answer import Job, actor_name
from workbench.server.auth import TOKEN_NAME
from workbench.server.catalog import Resolved
from workbench.server.core import Core
from workbench.server.names import same_name
from workbench.server.residency.resident import runner_options
from workbench.server.residency.tickets import Want
from workbench.server.streaming import json_response
from workbench.units import parse_keep_alive
from workbench.wire import headers as names
from workbench.wire.ollama import Kind, error_body

Handler = Callable[[Request], Awaitable[Response]]
T = TypeVar("T")

_STATUS: tuple[tuple[type[Exception], int], ...] = (
    (errors.ModelNotFound, 404),
    (errors.AmbiguousModel, 409),
    (errors.UnsupportedOperation, 501),
    (errors.ConnectionFailed, 502),
    (errors.ProtocolError, 502),
    (errors.StreamBroken, 502),
    (errors.RequestTimeout, 504),
    (errors.InsufficientMemory, 507),
    (errors.SwapRequired, 409),
    (errors.UnloadFailed, 409),
    (errors.QueueTimeout, 503),
    (errors.BadModelFile, 400),
    (errors.ConfigError, 400),
)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One path of the surface; the OpenAPI document is made from these.

    Attributes:
        body: Type of the request's body, or `None`.
        answers: Content type of the answer by name: `json`, `ndjson`, `sse`, `text`, `empty`.
        statuses: Statuses besides 200 and those every path has.
        query: Parameters of the query by name, with their JSON type; `!` after it is needed.
    """

    method: str
    path: str
    handler: Handler
    summary: str
    tag: str
    body: type[Any] | None = None
    answers: tuple[str, ...] = ("json",)
    statuses: tuple[int, ...] = ()
    query: tuple[tuple[str, str], ...] = ()


def core_of(request: Request) -> Core:
    """Return the server's parts."""
    core: Core = request.app.state.core
    return core


def status_of(error: errors.WorkbenchError) -> int:
    """Return the HTTP status of an error."""
    if isinstance(error, errors.ResponseError) and error.status is not None:
        return error.status
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def error_response(error: errors.WorkbenchError) -> Response:
    """Return an error as Ollama's `error` with our fields beside it."""
    again_s = error.retry_after_s if isinstance(error, errors.QueueTimeout) else None
    headers = None if again_s is None else {"Retry-After": str(max(1, math.ceil(again_s)))}
    return json_response(error_body(error), status_of(error), headers=headers)


async def read_body(request: Request, kind: type[T]) -> tuple[T, dict[str, Any]]:
    """Return the body as the endpoint's type, and as it came.

    Raises:
        ResponseError: With status 400 for a body that is not such JSON, 413 for one too large.
    """
    raw = await read_bytes(request)
    if not raw.strip():
        raise errors.ResponseError("missing request body", status=400)
    try:
        body = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise errors.ResponseError(f"the body is not valid JSON: {exc}", status=400) from exc
    if not isinstance(body, dict):
        raise errors.ResponseError("the body must be a JSON object", status=400)
    try:
        return msgspec.convert(body, kind), body
    except msgspec.ValidationError as exc:
        raise errors.ResponseError(f"the body is not as it must be: {exc}", status=400) from exc


async def read_bytes(request: Request) -> bytes:
    """Return the body, refusing one that is larger than the setting allows as soon as it is."""
    limit = core_of(request).config.max_body_bytes
    too_large = errors.ResponseError(
        f"the body is larger than {limit} bytes",
        status=413,
        hint="Raise server.max_body_bytes in workbench.toml.",
    )
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > limit:
        raise too_large
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise too_large
        chunks.append(chunk)
    return b"".join(chunks)


def keep_alive_of(body: Mapping[str, Any]) -> float | None:
    """Return the keep_alive of a request in seconds; `None` leaves it as it is.

    Raises:
        ResponseError: With status 400, when it is none.
    """
    try:
        return parse_keep_alive(body.get("keep_alive"))
    except ValueError as exc:
        raise errors.ResponseError(str(exc), status=400) from exc


def option_warning(options: Mapping[str, Any] | None) -> str | None:
    """Return what is odd about the options, or `None`; Ollama only logs an unknown name."""
    odd = [name for name in options or {} if name not in OPTION_TYPES]
    return " ".join(str(unknown_option(name)) for name in odd) or None


def known_body(target: Resolved, body: dict[str, Any]) -> dict[str, Any]:
    """Return a request's body with the name its backend knows the model by.

    Answers and errors repeat the name that was asked for, as Ollama's do: a host is sent that name,
    the embedded backend has it beside its own.
    """
    asked = str(body.get("model", ""))
    if target.backend.kind == "llamacpp":
        return {**body, "model": target.entry.name, "asked": asked}
    name, at, backend = asked.rpartition("@")
    plain = name if at and backend == target.backend.name else asked
    same = same_name(plain, target.entry.name)
    return {**body, "model": plain if same else target.entry.name}


def make_job(
    request: Request, kind: Kind, target: Resolved, body: dict[str, Any], *, events: bool = True
) -> Job:
    """Return the job of a request, with the context its headers carry."""
    headers = request.headers
    keep_alive_of(body)
    return Job(
        kind=kind,
        target=target,
        body=known_body(target, body),
        wants_events=events and headers.get(names.EVENTS) == "1",
        context=names.read_context(headers),
        client=headers.get("user-agent", ""),
        token_name=request.scope[TOKEN_NAME],
        interactive=headers.get(names.PRIORITY, "interactive") != "batch",
        stream=body.get("stream") is not False,
        traceparent=headers.get(names.TRACEPARENT),
        deadline_s=deadline_of(headers),
    )


def deadline_of(headers: Mapping[str, str]) -> float | None:
    """Return how many seconds a request waits for its turn; `None` is for ever.

    Raises:
        ResponseError: With status 400, when the header is no number of seconds.
    """
    text = headers.get(names.DEADLINE)
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = float("nan")
    if not 0 <= seconds < float("inf"):
        raise errors.ResponseError(
            f"{names.DEADLINE} is a number of seconds, not {text[:40]!r}", status=400
        )
    return seconds


def want_of(request: Request, target: Resolved, body: Mapping[str, Any], **changes: Any) -> Want:
    """Return what a request that makes no text asks of residency.

    Raises:
        ResponseError: With status 400, when a runner option is of another type: no backend gets
            to see the request as it came, so none would refuse it.
    """
    for name, value in (body.get("options") or {}).items():
        if name in RUNNER_OPTIONS and value is not None:
            try:
                check_option(name, value)
            except errors.ConfigError as exc:
                raise errors.ResponseError(exc.message, status=400, hint=exc.hint) from exc
    headers = request.headers
    batch = headers.get(names.PRIORITY, "interactive") == "batch"
    return Want(
        target.entry,
        runner_options(body),
        keep_alive_of(body),
        cls="batch" if batch else "interactive",
        deadline_s=deadline_of(headers),
        actor=actor_of(request),
        **changes,
    )


def actor_of(request: Request) -> str:
    """Return who asks, in words."""
    return actor_name(request.headers.get("user-agent", ""), request.scope[TOKEN_NAME])


def answer_headers(core: Core, job: Job) -> dict[str, str]:
    """Return the headers of an answer: its id, and a warning where one is due."""
    headers = {names.REQUEST_ID: job.id}
    warning = option_warning(job.body.get("options"))
    if warning:
        headers[names.WARNING] = warning.encode("ascii", "replace").decode()
        core.events.emit("unknown_option", id=job.id, model=job.target.full_name, warning=warning)
    return headers
