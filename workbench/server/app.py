"""The ASGI application: routes, who may call, and errors with a status."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from workbench.errors import ResponseError, WorkbenchError
from workbench.server.auth import AuthMiddleware, Rules, rules_of
from workbench.server.core import Core
from workbench.server.openapi import document
from workbench.server.routes import (
    memory,
    metrics,
    models,
    ollama,
    openai,
    queue,
    settings,
    workbench,
)
from workbench.server.routes.chat_ws import chat_socket
from workbench.server.routes.common import Endpoint, error_response
from workbench.server.routes.events_ws import events_socket
from workbench.server.streaming import ClientGone
from workbench.wire import headers as names

log = logging.getLogger("workbench")

LOOPBACK_ORIGIN = r"https?://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?"

ENDPOINTS: tuple[Endpoint, ...] = (
    *workbench.ENDPOINTS,
    *models.ENDPOINTS,
    *queue.ENDPOINTS,
    *settings.ENDPOINTS,
    *memory.ENDPOINTS,
    *metrics.ENDPOINTS,
    *ollama.ENDPOINTS,
    *openai.ENDPOINTS,
)


def build_app(core: Core, *, stop: Callable[[], None]) -> Starlette:
    """Return the application of a server.

    Args:
        stop: Called when a client asks the server to end.
    """
    config = core.config
    closed, opened = (_rules(core, open_ollama_api=open_) for open_ in (False, True))

    def rules() -> Rules:
        return opened if core.settings.value("server.open_ollama_api") else closed

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        core.start()
        yield
        await core.close()

    routes = [Route(row.path, row.handler, methods=[row.method]) for row in ENDPOINTS]
    app = Starlette(
        routes=[
            *routes,
            WebSocketRoute("/workbench/v1/chat", chat_socket),
            WebSocketRoute("/workbench/v1/events", events_socket),
        ],
        lifespan=lifespan,
        middleware=[
            # Before the token: a browser asks for permission without one.
            Middleware(
                CORSMiddleware,
                allow_origins=[origin.rstrip("/") for origin in config.allowed_origins],
                allow_origin_regex=LOOPBACK_ORIGIN,
                allow_methods=["GET", "POST", "PATCH", "DELETE", "HEAD"],
                allow_headers=["*"],
                expose_headers=[names.REQUEST_ID, names.WARNING],
            ),
            Middleware(AuthMiddleware, rules=rules),
            Middleware(ActivityMiddleware, core=core),
        ],
        exception_handlers={
            WorkbenchError: _workbench_error,
            ClientGone: _client_gone,
            ClientDisconnect: _client_gone,
            HTTPException: _http_error,
            Exception: _unexpected,
        },
    )
    app.state.core = core
    app.state.stop = stop
    app.state.openapi = document(ENDPOINTS)
    return app


def _rules(core: Core, *, open_ollama_api: bool) -> Rules:
    config = core.config
    # The address it was told to listen on may be named; "every address" is no name.
    own = () if config.host.strip("[]") in ("0.0.0.0", "::") else (config.host,)
    return rules_of(
        core.token,
        (*config.allowed_hosts, *own),
        config.allowed_origins,
        named=config.tokens,
        open_ollama_api=open_ollama_api,
    )


class ActivityMiddleware:
    """Counts requests and sockets, so that an idle server knows that it is idle."""

    def __init__(self, app: ASGIApp, *, core: Core) -> None:
        self._app = app
        self._core = core

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count one request or socket while it runs."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        self._core.requests += 1
        self._core.gpu.wake()
        try:
            await self._app(scope, receive, send)
        finally:
            self._core.requests -= 1
            self._core.last_active = time.monotonic()


async def _workbench_error(_: Request, exc: Exception) -> Response:
    assert isinstance(exc, WorkbenchError)
    return error_response(exc)


async def _client_gone(_: Request, exc: Exception) -> Response:
    # Nobody reads this; 499 is what Ollama logs for it.
    return Response(status_code=499)


async def _http_error(request: Request, exc: Exception) -> Response:
    """Answer unknown paths and methods: Ollama's plain text on its paths, JSON on ours."""
    assert isinstance(exc, HTTPException)
    if request.url.path.startswith("/workbench/"):
        error = ResponseError(
            f"{exc.status_code} {exc.detail}".lower(),
            status=exc.status_code,
            hint="See /workbench/v1/openapi.json.",
        )
        response = error_response(error)
    else:
        text = {404: "404 page not found", 405: "405 method not allowed"}
        shown = text.get(exc.status_code, exc.detail)
        response = PlainTextResponse(shown, status_code=exc.status_code)
    response.headers.update(exc.headers or {})
    return response


async def _unexpected(request: Request, exc: Exception) -> Response:
    log.exception("a request to %s failed unexpectedly", request.url.path, exc_info=exc)
    error = ResponseError(
        f"internal error: {type(exc).__name__}", status=500, hint="See `workbench logs`."
    )
    return error_response(error)
