"""What the backends share: a client that trusts no proxy, its errors, and lines from a response."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import httpx
import msgspec

from workbench.errors import (
    ConfigError,
    ConnectionFailed,
    ProtocolError,
    ResponseError,
    StreamBroken,
)
from workbench.server.backends.base import Lines
from workbench.wire.lines import LineSplitter
from workbench.wire.ollama import error_from_body

CONNECT_TIMEOUT_S = 5.0


def secret_headers(
    token_env: str | None, headers_env: Iterable[tuple[str, str]] = ()
) -> dict[str, str]:
    """Return the headers whose values stand in environment variables; unset ones are left out.

    Raises:
        ConfigError: When a header cannot carry a value; names the variable, never shows the value.
    """
    wanted = {name: _secret(variable) for name, variable in headers_env}
    token = _secret(token_env) if token_env else ""
    if token:
        wanted["Authorization"] = f"Bearer {token}"
    return {name: value for name, value in wanted.items() if value}


def _secret(variable: str) -> str:
    value = os.environ.get(variable, "")
    if value and not (value.isascii() and value.isprintable() and value == value.strip()):
        raise ConfigError(
            f"environment {variable}: the value holds what no HTTP header can carry.",
            key="backend",
            hint="Set it to ASCII text without line breaks, and without spaces around it.",
        )
    return value


def make_client(
    url: str,
    *,
    headers: dict[str, str] | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
    keep_alive: bool = True,
) -> httpx.AsyncClient:
    """Return a client for one backend.

    It has no read timeout: a model may load for minutes before its first byte, and httpx's default
    of 5 s would abort that load.  It ignores HTTP_PROXY, which would send tokens to the proxy.
    """
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=20 if keep_alive else 0)
    return httpx.AsyncClient(
        base_url=url,
        headers=headers,
        timeout=httpx.Timeout(None, connect=CONNECT_TIMEOUT_S),
        limits=limits,
        trust_env=False,
        follow_redirects=False,
        transport=transport,
    )


_REACH = "Start that server, or correct its address in workbench.toml (Ollama's also: OLLAMA_HOST)."


@contextmanager
def translated(url: str, *, streaming: bool = False) -> Iterator[None]:
    """Turn httpx's errors into ours; in mid-stream a lost connection is a broken stream."""
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout) as exc:
        raise ConnectionFailed(url, _reason(exc), hint=_REACH) from exc
    except httpx.RequestError as exc:
        if streaming:
            raise StreamBroken(_reason(exc)) from exc
        raise ConnectionFailed(url, _reason(exc), hint=_REACH) from exc
    except httpx.InvalidURL as exc:
        raise ConnectionFailed(url, _reason(exc), hint=_REACH) from exc


def _reason(exc: Exception) -> str:
    return (str(exc) or type(exc).__name__).rstrip(".")


async def request_json(
    client: httpx.AsyncClient,
    method: str,
    path: str,
    body: Any = None,
    *,
    timeout_s: float | None = None,
) -> Any:
    """Send a request and return its JSON answer, or `None` for an empty one.

    Raises:
        ConnectionFailed: When there was no connection or no whole answer within `timeout_s`.
        ResponseError: When the status is 400 or more.
        ProtocolError: When the answer is not JSON.
    """
    with translated(str(client.base_url)):
        content = None if body is None else msgspec.json.encode(body)
        headers = {} if content is None else {"Content-Type": "application/json"}
        async with asyncio.timeout(timeout_s):
            response = await client.request(method, path, content=content, headers=headers)
    if response.status_code >= 400:
        raise response_error(response)
    if not response.content.strip():
        return None
    try:
        return msgspec.json.decode(response.content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        kind = response.headers.get("content-type", "no content type")
        raise ProtocolError(
            f"{client.base_url} answered {path} with {kind} instead of JSON.",
            hint="Is this the address of a model server?",
        ) from exc


def response_error(response: httpx.Response) -> ResponseError | Exception:
    """Build the error of a response whose body was read."""
    try:
        body: Any = msgspec.json.decode(response.content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        body = response.text.strip() or response.reason_phrase
    return error_from_body(response.status_code, body)


@asynccontextmanager
async def open_stream(
    client: httpx.AsyncClient, path: str, body: Any
) -> AsyncIterator[httpx.Response]:
    """Open a streamed POST; leaving the context closes the connection, which frees the model.

    Raises:
        ConnectionFailed: When there was no connection.
        ResponseError: When the status is 400 or more.
    """
    url = str(client.base_url)
    request = client.build_request(
        "POST",
        path,
        content=msgspec.json.encode(body),
        headers={"Content-Type": "application/json", "Accept-Encoding": "identity"},
    )
    with translated(url):
        response = await client.send(request, stream=True)
    try:
        if response.status_code >= 400:
            with translated(url):
                await response.aread()
            raise response_error(response)
        yield response
    finally:
        await response.aclose()


async def line_batches(response: httpx.Response) -> AsyncGenerator[Lines, None]:
    """Yield the lines of a response, as many at once as have arrived.

    A last line without its line end counts when it is whole; a part of one is dropped: the missing
    final line tells that the stream broke.

    Raises:
        StreamBroken: When the connection was lost.
    """
    splitter = LineSplitter()
    with translated(str(response.url), streaming=True):
        async for chunk in response.aiter_raw():
            lines = splitter.feed(chunk)
            if lines:
                yield lines
    rest = splitter.close()
    # What begins like a line is one that was cut off; anything else is no answer at all.
    if rest and (_is_object(rest) or not rest.lstrip().startswith(b"{")):
        yield [rest]


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(msgspec.json.decode(line), dict)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
