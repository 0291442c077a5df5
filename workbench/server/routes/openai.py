"""`/v1/*`: the OpenAI API, translated to the native form.

Ollama's own /v1 cannot carry num_ctx or keep_alive and would reload models, so it is never used.
Errors have OpenAI's shape, so that its clients show their text.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from workbench.errors import ResponseError, WorkbenchError
from workbench.server import schemas
from workbench.server.answer import Job, answer_lines
from workbench.server.core import Core
from workbench.server.routes.common import (
    Endpoint,
    Handler,
    answer_headers,
    core_of,
    make_job,
    read_body,
    status_of,
)
from workbench.server.routes.ollama import embedded, joined
from workbench.server.streaming import (
    SSE,
    StreamResponse,
    json_response,
    started,
    while_connected,
)
from workbench.wire import openai
from workbench.wire.ollama import Kind, decode_chunk, stream_error


def openai_errors(handler: Handler) -> Handler:
    """Give a handler's errors OpenAI's shape."""

    async def wrapped(request: Request) -> Response:
        try:
            return await handler(request)
        except WorkbenchError as exc:
            status = status_of(exc)
            return json_response(openai.openai_error(exc, status), status)

    return wrapped


async def models(request: Request) -> Response:
    """List the models of every backend that answers."""
    listing, _ = await core_of(request).catalog.listing()
    rows = {
        entry.name: {"id": entry.name, "object": "model", "created": 0, "owned_by": backend}
        for backend, entries in listing.items()
        for entry in entries
    }
    return json_response({"object": "list", "data": list(rows.values())})


async def model(request: Request) -> Response:
    """Describe one model."""
    target = await core_of(request).catalog.resolve(request.path_params["model"])
    return json_response(
        {
            "id": target.entry.name,
            "object": "model",
            "created": 0,
            "owned_by": target.backend.name,
        }
    )


async def chat(request: Request) -> Response:
    """Answer a conversation, as server-sent events or whole."""
    typed, body = await read_body(request, schemas.OpenAIChatRequest)
    if not typed.messages:
        raise ResponseError("messages must not be empty", status=400)
    return await _answer(request, "chat", openai.native_chat(body), typed.stream_options)


async def completions(request: Request) -> Response:
    """Continue a prompt, as server-sent events or whole."""
    typed, body = await read_body(request, schemas.OpenAICompletionRequest)
    if typed.echo:
        raise ResponseError("echo is not supported", status=400, hint="Leave echo out.")
    native = openai.native_completion(body)
    if not native["prompt"]:
        raise ResponseError("prompt must not be empty", status=400)
    return await _answer(request, "generate", native, typed.stream_options)


async def _answer(
    request: Request, kind: Kind, native: dict[str, Any], options: schemas.StreamOptions | None
) -> Response:
    core = core_of(request)
    asked = native["model"]
    target = await core.catalog.resolve(asked)
    job = make_job(request, kind, target, native, events=False)
    headers = answer_headers(core, job)
    usage = bool(options and options.include_usage)
    writer = openai.OpenAIWriter(kind, asked, job.id, usage=usage)
    if native["stream"]:
        chunks = await while_connected(request, started(_events(core, job, writer)))
        return StreamResponse(chunks, media_type=SSE, headers=headers)
    whole = await while_connected(request, joined(core, job))
    return json_response(writer.whole(whole), headers=headers)


async def _events(core: Core, job: Job, writer: openai.OpenAIWriter) -> AsyncGenerator[bytes, None]:
    lines_of = answer_lines(core, job)
    try:
        async for lines in lines_of:
            out = b""
            for line in lines:
                chunk = decode_chunk(line)
                if chunk.error is not None:
                    error = stream_error(chunk, partial="")
                    out += openai.sse(openai.openai_error(error, 500))
                else:
                    out += writer.feed(chunk, logprobs=_logprobs(job, line))
            yield out
    finally:
        await lines_of.aclose()


def _logprobs(job: Job, line: bytes) -> Any:
    """Return the logprobs of a line; only a request for them makes it be decoded whole."""
    return msgspec.json.decode(line).get("logprobs") if job.body.get("logprobs") else None


async def embeddings(request: Request) -> Response:
    """Return vectors of texts."""
    typed, body = await read_body(request, schemas.OpenAIEmbeddingRequest)
    if not typed.input:
        raise ResponseError("input must not be empty", status=400)
    core = core_of(request)
    target = await core.catalog.resolve(typed.model)
    native = {name: body[name] for name in ("model", "input", "dimensions") if body.get(name)}
    answer = await while_connected(request, embedded(request, target, native))
    encoding = typed.encoding_format or "float"
    return json_response(openai.embeddings_body(answer, typed.model, encoding=encoding))


_TAG = "OpenAI"
ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint("GET", "/v1/models", openai_errors(models), "List models", _TAG),
    Endpoint("GET", "/v1/models/{model:path}", openai_errors(model), "Describe a model", _TAG,
             statuses=(400, 404, 409)),
    Endpoint("POST", "/v1/chat/completions", openai_errors(chat), "Answer a conversation", _TAG,
             schemas.OpenAIChatRequest, ("sse", "json"), (404, 409, 503, 507)),
    Endpoint("POST", "/v1/completions", openai_errors(completions), "Continue a prompt", _TAG,
             schemas.OpenAICompletionRequest, ("sse", "json"), (404, 409, 501, 503, 507)),
    Endpoint("POST", "/v1/embeddings", openai_errors(embeddings), "Vectors of texts", _TAG,
             schemas.OpenAIEmbeddingRequest, statuses=(404, 409, 503, 507)),
)  # fmt: skip
