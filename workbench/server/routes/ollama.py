"""`/api/*`: the Ollama API, so that every Ollama client gets queue, priorities and metrics."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, cast

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from workbench._version import __version__
from workbench.errors import ResponseError, UnloadFailed, UnsupportedOperation, WorkbenchError
from workbench.server import schemas
from workbench.server.answer import Job, answer_lines, error_line
from workbench.server.auth import TOKEN_NAME
from workbench.server.backends.base import Backend, ModelStore
from workbench.server.catalog import Resolved
from workbench.server.core import Core
from workbench.server.names import parse_ref
from workbench.server.residency.resident import UnloadReport
from workbench.server.residency.tickets import Want
from workbench.server.routes.common import (
    Endpoint,
    actor_of,
    answer_headers,
    core_of,
    keep_alive_of,
    known_body,
    make_job,
    read_body,
    want_of,
)
from workbench.server.rows import InMemory, in_memory, snapshots
from workbench.server.streaming import (
    NDJSON,
    StreamResponse,
    json_response,
    started,
    while_connected,
)
from workbench.units import expiry_after, rfc3339, sortable_id
from workbench.wire import headers as names
from workbench.wire.ollama import (
    Accumulator,
    Kind,
    chunk_body,
    decode_chunk,
    encode_line,
    error_from_body,
    error_text,
)

# The level of Ollama's API that is spoken here; clients compare it with what they need.
OLLAMA_API_VERSION = "0.33.0"
_DIGEST = re.compile(r"sha256[:-][0-9a-f]{64}")


async def root(_: Request) -> Response:
    """Say that something is here, as Ollama does; needs no token and tells nothing else."""
    return PlainTextResponse("Ollama is running")


async def version(_: Request) -> Response:
    """Return the API level and our own version."""
    return json_response({"version": OLLAMA_API_VERSION, "workbench": __version__})


async def tags(request: Request) -> Response:
    """List the models of every backend that answers.

    A name that several backends hold with different digests is listed with its backend.
    """
    models, _ = await core_of(request).catalog.listing()
    digests: dict[str, set[str]] = {}
    for entries in models.values():
        for entry in entries:
            digests.setdefault(entry.name.lower(), set()).add(entry.digest)
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for backend, entries in models.items():
        for entry in entries:
            plain = len(digests[entry.name.lower()]) == 1
            name = entry.name if plain else f"{entry.name}@{backend}"
            row = {
                "name": name,
                "model": name,
                "modified_at": entry.modified_at,
                "size": entry.size_bytes or 0,
                "digest": entry.digest,
                "details": {**entry.details, "context_length": entry.context_length or 0},
                "capabilities": list(entry.capabilities),
            }
            rows.setdefault((name.lower(), entry.digest), row)
    return json_response({"models": list(rows.values())})


async def ps(request: Request) -> Response:
    """List the models in memory, of every backend that answers."""
    core = core_of(request)
    rows = []
    for backend, snapshot in await snapshots(core, core.backends.values()):
        rows += [_ps_row(item) for item in in_memory(core, backend, snapshot)]
    return json_response({"models": rows})


def _ps_row(item: InMemory) -> dict[str, Any]:
    model = item.model
    # Of a busy model Ollama tells when it would leave if it became idle now.
    stays_s = float("inf") if item.forever else item.stays_s or 0.0
    expires = item.expires_at or expiry_after(stays_s)
    return {
        "name": model.name,
        "model": model.name,
        "size": model.size_bytes or 0,
        "digest": model.digest,
        "details": dict(model.details),
        "expires_at": rfc3339(expires),
        "size_vram": model.vram_bytes or 0,
        "context_length": model.context_length or 0,
    }


async def show(request: Request) -> Response:
    """Describe a model."""
    typed, _ = await read_body(request, schemas.ShowRequest)
    target = await core_of(request).catalog.resolve(typed.model or typed.name or "")
    body = await target.backend.show(target.entry.name, verbose=bool(typed.verbose))
    return json_response(body)


async def chat(request: Request) -> Response:
    """Answer a conversation, streamed or whole."""
    typed, body = await read_body(request, schemas.ChatRequest)
    empty = not typed.messages
    return await _answer(request, "chat", body, empty=empty, stream=typed.stream is not False)


async def generate(request: Request) -> Response:
    """Continue a prompt, streamed or whole."""
    typed, body = await read_body(request, schemas.GenerateRequest)
    empty = not typed.prompt and not typed.images
    return await _answer(request, "generate", body, empty=empty, stream=typed.stream is not False)


async def _answer(
    request: Request, kind: Kind, body: dict[str, Any], *, empty: bool, stream: bool
) -> Response:
    core = core_of(request)
    target = await core.catalog.resolve(body.get("model", ""))
    if empty:
        return await _load_or_unload(request, core, kind, target, body)
    job = make_job(request, kind, target, body, events=stream)
    headers = answer_headers(core, job)
    if stream:
        chunks = await while_connected(request, started(ndjson(core, job)))
        return StreamResponse(chunks, media_type=NDJSON, headers=headers)
    whole = await while_connected(request, joined(core, job))
    return json_response(whole, headers=headers)


async def ndjson(core: Core, job: Job) -> AsyncGenerator[bytes, None]:
    """Yield the answer as bytes, each piece of whole lines."""
    lines_of = answer_lines(core, job)
    try:
        async for lines in lines_of:
            yield b"\n".join(lines) + b"\n"
    finally:
        await lines_of.aclose()


async def joined(core: Core, job: Job) -> dict[str, Any]:
    """Return the answer as one body.

    Raises:
        WorkbenchError: When the model's server broke off with an error, with its own class.
        StreamBroken: When the answer was not whole.
    """
    whole = Accumulator()
    lines_of = answer_lines(core, job)
    try:
        async for lines in lines_of:
            for line in lines:
                whole.feed(line)
    finally:
        await lines_of.aclose()
    if whole.error is not None:
        details = whole.error.get("workbench")
        known = details if isinstance(details, dict) else {}
        raise error_from_body(500, {"error": whole.error.get("error"), **known})
    return whole.result()


async def _load_or_unload(
    request: Request, core: Core, kind: Kind, target: Resolved, body: dict[str, Any]
) -> Response:
    """Do what an empty request means: load the model, or with keep_alive 0 unload it."""
    seconds = keep_alive_of(body)
    reason = "load"
    if seconds == 0:
        reason = "unload"
        found = await core.residency.find(target.backend, target.entry)
        if not core.residency.expire_when_idle(target.backend, found):
            actor = actor_of(request)
            await core.residency.unload(target.backend, target.entry, actor=actor)
    else:
        await while_connected(request, load_model(core, target, want_of(request, target, body)))
    answer = chunk_body(kind, str(body.get("model", "")))
    answer.update(done=True, done_reason=reason)
    if body.get("stream") is False:
        return json_response(answer)
    return Response(encode_line(answer), media_type=NDJSON)


async def load_model(core: Core, target: Resolved, want: Want) -> None:
    """Bring a model into memory, to stay for its keep_alive."""
    async with core.residency.use(target.backend, want):
        return


async def embed(request: Request) -> Response:
    """Return vectors of texts."""
    typed, body = await read_body(request, schemas.EmbedRequest)
    target = await core_of(request).catalog.resolve(typed.model)
    return json_response(await while_connected(request, embedded(request, target, body)))


async def embeddings(request: Request) -> Response:
    """Return the vector of one prompt, in Ollama's older form."""
    typed, body = await read_body(request, schemas.EmbeddingsRequest)
    target = await core_of(request).catalog.resolve(typed.model)
    newer = {**body, "input": typed.prompt or ""}
    newer.pop("prompt", None)
    answer = await while_connected(request, embedded(request, target, newer))
    vectors = answer.get("embeddings") or [[]]
    return json_response({"embedding": vectors[0]})


async def embedded(request: Request, target: Resolved, body: dict[str, Any]) -> dict[str, Any]:
    """Return Ollama's embed body for a request; its model is loaded like any other."""
    core, headers = core_of(request), request.headers
    want = want_of(request, target, body, embed=True)
    core.ask_version(target.backend)
    recording = core.recorder.begin(
        "embed",
        request_id=sortable_id(),
        backend=target.backend,
        entry=target.entry,
        body=body,
        context=names.read_context(headers),
        user_agent=headers.get("user-agent", ""),
        token_name=request.scope[TOKEN_NAME],
        traceparent=headers.get(names.TRACEPARENT),
        interactive=headers.get(names.PRIORITY, "interactive") != "batch",
        stream=False,
    )
    with recording.until_end():
        async with core.residency.use(target.backend, want) as hold:
            recording.tap.admitted()
            answer = await hold.run(target.backend.embed(hold.body(known_body(target, body))))
        recording.tap.take_whole(answer)
    return answer


def _store(core: Core, backend: str | None) -> tuple[str, ModelStore]:
    """Return the backend that makes models: the one named, else the embedded one."""
    name = backend or next(iter(core.backends))
    if name not in core.backends:
        raise ResponseError(
            f"unknown backend {name!r}", status=404, hint=f"Known: {', '.join(core.backends)}."
        )
    if core.backends[name].kind == "openai":
        raise UnsupportedOperation(
            f"The backend {name!r} is an OpenAI-compatible server: it makes and fetches no models.",
            hint="Do it with that server's own tools.",
        )
    return name, cast(ModelStore, core.backends[name])


async def create(request: Request) -> Response:
    """Make a model of another one, of a file, or of uploaded blobs."""
    typed, body = await read_body(request, schemas.CreateRequest)
    core = core_of(request)
    if not typed.model.strip():
        raise ResponseError("model is required", status=400)
    if not typed.from_ and not typed.files:
        raise ResponseError("neither 'from' or 'files' was specified", status=400)
    ref = parse_ref(typed.model)
    name, store = _store(core, ref.backend)
    lines = store.create({**body, "model": ref.name})
    return await _progress(request, core, name, lines, stream=typed.stream is not False)


async def pull(request: Request) -> Response:
    """Fetch a model on an Ollama backend; the embedded one explains what it can do."""
    typed, body = await read_body(request, schemas.PullRequest)
    core = core_of(request)
    wanted = typed.model or typed.name or ""
    backend, model = await pull_target(core, wanted)
    lines = cast(ModelStore, backend).pull({**body, "model": model})
    return await _progress(request, core, backend.name, lines, stream=typed.stream is not False)


async def pull_target(core: Core, wanted: str) -> tuple[Backend, str]:
    """Return the backend that fetches a model, and the name it knows it by.

    Raises:
        ResponseError: When the backend is unknown or cannot fetch, or several could.
    """
    if not wanted.strip():
        raise ResponseError("model is required", status=400)
    ref = parse_ref(wanted)
    name, _ = _store(core, ref.backend or await _pull_backend(core))
    return core.backends[name], ref.name


async def _pull_backend(core: Core) -> str | None:
    """Return the one Ollama backend that answers, or `None`."""
    models, _ = await core.catalog.listing()
    hosts = [name for name in models if core.backends[name].kind == "ollama"]
    if len(hosts) > 1:
        raise ResponseError(
            "several backends can pull",
            status=409,
            hint="Name one of: " + ", ".join(f"model@{host}" for host in hosts) + ".",
        )
    return hosts[0] if hosts else None


async def _progress(
    request: Request, core: Core, backend: str, lines: AsyncIterator[bytes], *, stream: bool
) -> Response:
    if stream:
        chunks = await while_connected(request, started(_progress_lines(core, backend, lines)))
        return StreamResponse(chunks, media_type=NDJSON)
    last = b"{}"

    async def drain() -> None:
        nonlocal last
        async for line in lines:
            last = line

    await while_connected(request, drain())
    core.catalog.forget(backend)
    failed = decode_chunk(last).error
    if failed is not None:
        raise ResponseError(error_text(failed), status=500)
    return Response(last, media_type="application/json; charset=utf-8")


async def _progress_lines(
    core: Core, backend: str, lines: AsyncIterator[bytes]
) -> AsyncGenerator[bytes, None]:
    sent = False
    try:
        async for line in lines:
            yield line.rstrip(b"\n") + b"\n"
            sent = True
    except WorkbenchError as exc:
        if not sent:
            raise
        yield error_line(exc) + b"\n"
    finally:
        core.catalog.forget(backend)


async def copy(request: Request) -> Response:
    """Give a model a second name on its backend."""
    typed, _ = await read_body(request, schemas.CopyRequest)
    if not typed.source or not typed.destination:
        raise ResponseError("source and destination are required", status=400)
    core = core_of(request)
    source = await core.catalog.resolve(typed.source)
    destination = parse_ref(typed.destination)
    if destination.backend not in (None, source.backend.name):
        raise UnsupportedOperation("A model cannot be copied to another backend.")
    store = cast(ModelStore, source.backend)
    await store.copy(source.entry.name, destination.name)
    core.catalog.forget(source.backend.name)
    return Response()


async def delete(request: Request) -> Response:
    """Remove a model; it is unloaded first, because a deleted one cannot be unloaded by name."""
    typed, _ = await read_body(request, schemas.DeleteRequest)
    core = core_of(request)
    target = await core.catalog.resolve(typed.model or typed.name or "")
    await delete_model(core, target, actor=actor_of(request))
    return Response()


async def delete_model(core: Core, target: Resolved, *, actor: str) -> UnloadReport:
    """Unload a model, see that it is gone, and only then remove its files.

    Raises:
        UnloadFailed: When it is still in memory; nothing was removed.
    """
    report = await core.residency.unload(target.backend, target.entry, actor=actor)
    if not report.gone:
        reason = report.reason or "it is still loaded"
        raise UnloadFailed(target.entry.name, reason, verdict=report.verdict)
    await cast(ModelStore, target.backend).delete(target.entry.name)
    core.residency.profiles.forget(target.backend.name, target.entry.name)
    core.catalog.forget(target.backend.name)
    core.events.emit("deleted", model=target.entry.name, backend=target.backend.name, actor=actor)
    return report


async def has_blob(request: Request) -> Response:
    """Answer 200 when the embedded backend holds the blob, else 404."""
    _, store = _store(core_of(request), None)
    found = await store.has_blob(_digest(request))
    return Response(status_code=200 if found else 404)


async def put_blob(request: Request) -> Response:
    """Keep an uploaded file after checking its digest."""
    _, store = _store(core_of(request), None)
    await store.put_blob(_digest(request), request.stream())
    return Response(status_code=201)


def _digest(request: Request) -> str:
    digest: str = request.path_params["digest"]
    if not _DIGEST.fullmatch(digest):
        raise ResponseError("a digest is sha256: and 64 hexadecimal digits", status=400)
    return digest.replace("-", ":", 1)


_TAG = "Ollama"
ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint("GET", "/", root, "Say that a server is here", _TAG, answers=("text",)),
    Endpoint("GET", "/api/version", version, "API level", _TAG),
    Endpoint("GET", "/api/tags", tags, "List the models of every backend", _TAG),
    Endpoint("GET", "/api/ps", ps, "List the models in memory", _TAG),
    Endpoint("POST", "/api/show", show, "Describe a model", _TAG, schemas.ShowRequest,
             statuses=(404, 409)),
    Endpoint("POST", "/api/chat", chat, "Answer a conversation", _TAG, schemas.ChatRequest,
             ("ndjson", "json"), (404, 409, 503, 507)),
    Endpoint("POST", "/api/generate", generate, "Continue a prompt", _TAG,
             schemas.GenerateRequest, ("ndjson", "json"), (404, 409, 501, 503, 507)),
    Endpoint("POST", "/api/embed", embed, "Vectors of texts", _TAG, schemas.EmbedRequest,
             statuses=(404, 409, 503, 507)),
    Endpoint("POST", "/api/embeddings", embeddings, "Vector of one prompt (older form)", _TAG,
             schemas.EmbeddingsRequest, statuses=(404, 409, 503, 507)),
    Endpoint("POST", "/api/create", create, "Make a model", _TAG, schemas.CreateRequest,
             ("ndjson", "json"), (404, 501)),
    Endpoint("POST", "/api/pull", pull, "Fetch a model", _TAG, schemas.PullRequest,
             ("ndjson", "json"), (404, 409, 501)),
    Endpoint("POST", "/api/copy", copy, "Give a model a second name", _TAG, schemas.CopyRequest,
             ("empty",), (404, 409, 501)),
    Endpoint("DELETE", "/api/delete", delete, "Remove a model", _TAG, schemas.DeleteRequest,
             ("empty",), (403, 404, 409)),
    Endpoint("HEAD", "/api/blobs/{digest}", has_blob, "Is a blob there?", _TAG,
             answers=("empty",), statuses=(404,)),
    Endpoint("POST", "/api/blobs/{digest}", put_blob, "Upload a blob", _TAG, answers=("empty",),
             statuses=(201,)),
)  # fmt: skip
