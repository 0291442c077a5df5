"""Requests to the workbench server: one connection pool, our own deadlines, no read timeout.

httpx would follow proxy variables even to 127.0.0.1, and would end a model load after 5 s; both
are off.  Its exceptions are translated in one place and never leave this module.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import httpx
import msgspec

from workbench._version import __version__
from workbench.client.ambient import current_context
from workbench.client.outside import own_connection
from workbench.client.records import Records, recorded, span_of
from workbench.client.tape import Replay, current_tape, taped, untaped
from workbench.errors import (
    ConfigError,
    ConnectionFailed,
    ProtocolError,
    RequestTimeout,
    ResponseError,
    ServerNotRunning,
    StreamBroken,
    WorkbenchError,
)
from workbench.messages import Opened, Phase, StreamEvent
from workbench.portal import get_portal
from workbench.wire import headers as names
from workbench.wire.lines import LineSplitter
from workbench.wire.ollama import StreamDecoder, error_from_body

CONNECT_S = 5.0
# Below uvicorn's 5 s, so that a connection is never reused while the server closes it.
_KEEPALIVE_S = 4.0
_DRAIN_S = 0.5
_ERROR_BODY_S = 10.0

Context = Mapping[str, object]


class Address(Protocol):
    """Where a server listens and what it asks for; `runtime.ServerRecord` is one."""

    @property
    def url(self) -> str:
        """The base address, without a path."""

    @property
    def token(self) -> str | None:
        """The bearer token, or `None`."""


@dataclass(frozen=True, slots=True)
class FixedAddress:
    """An address that was given, not discovered."""

    url: str
    token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long to wait for tokens, in seconds.

    Attributes:
        first_token_s: From the request, or from the last sign of a phase, to the first token.
        stall_s: From one token to the next.
    """

    first_token_s: float = 300.0
    stall_s: float = 60.0


@contextlib.contextmanager
def _translated(url: str, *, partial: Callable[[], str] | None = None) -> Iterator[None]:
    """Turn httpx's exceptions into ours; with `partial`, bytes of the answer have arrived."""
    try:
        yield
    except httpx.ConnectTimeout as exc:
        raise RequestTimeout("connect", CONNECT_S) from exc
    except httpx.ConnectError as exc:
        raise ConnectionFailed(url, str(exc) or "no connection", hint=_reach_hint(url)) from exc
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as exc:
        raise ConfigError(f"{url!r} is not an address of a server: {exc}", key="url") from exc
    except httpx.HTTPError as exc:
        reason = str(exc) or "the connection was reset"
        if partial is None:
            raise ConnectionFailed(url, reason, hint=_reach_hint(url)) from exc
        raise StreamBroken(reason.rstrip("."), partial=partial()) from exc


def _reach_hint(url: str) -> str:
    if url.startswith("https://"):
        return "Write http://, unless a proxy with TLS stands before the server."
    return (
        "Start a server there (workbench serve), or correct WORKBENCH_URL; "
        "without it one is found or started on this machine."
    )


def traceparent(trace_id: str | None = None) -> str:
    """Return a W3C trace context with a new random span id, and a new trace unless one is given."""
    return f"00-{trace_id or secrets.token_hex(16)}-{secrets.token_hex(8)}-01"


class HttpClient:
    """Speaks to one server; use it on one event loop at a time (in a kernel: the portal's).

    Args:
        url: Base address; `None` finds the server by `resolve` at the first request.
        token: The bearer token.
        resolve: Finds the server anew when it is lost; blocking, runs in a thread.
        deadlines: For streams that name none.
        session: Sent as `Workbench-Session` with every request.

    Attributes:
        kind: What the client is part of: `library`, `cli` or `widget`; sent with every request.
        run_id: The run this process is; sent with every request.
        records: Where the spans of streamed requests are written; `None` writes none.
    """

    def __init__(
        self,
        url: str | None,
        *,
        token: str | None = None,
        resolve: Callable[[], Address] | None = None,
        deadlines: Deadlines = Deadlines(),
        session: str | None = None,
    ) -> None:
        if url is None and resolve is None:
            raise ServerNotRunning("no address is known and none can be found")
        self._address: Address | None = None
        if url is not None:
            self._address = FixedAddress(_clean_url(url), token)
        self._resolve = resolve
        self.deadlines = deadlines
        self.session = session
        self.kind = "library"
        self.run_id: str | None = None
        self.records: Records | None = None
        self._http: httpx.AsyncClient | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._secure = False
        self._former: list[httpx.AsyncClient | None] = []

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.url or 'not connected'}>"

    @property
    def url(self) -> str | None:
        """The server's base address, or `None` before it was found."""
        return self._address.url if self._address else None

    async def aclose(self) -> None:
        """Close the connections; a later request opens new ones."""
        http, self._http = self._http, None
        if http is not None and self._loop is asyncio.get_running_loop():
            get_portal().at_close(http, None)
            await http.aclose()

    async def request_json(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        context: Context | None = None,
        timeout_s: float | None = None,
    ) -> Any:
        """Send one request and return its decoded JSON.

        While a tape is played it is answered from there, as are streams.

        Args:
            timeout_s: For the whole exchange; `None` waits as long as the server does.

        Raises:
            ModelError: As the server answered, or when it could not be reached.
            RequestTimeout: When `timeout_s` passed; its phase is `total`.
            ReplayMismatch: When it is not on the tape that is played.
        """
        tape = current_tape()
        if isinstance(tape, Replay):
            return tape.answer(method, path, body)
        with taped(tape, method, path, body) as taken:
            answer = await self._json(method, path, body, context, timeout_s)
            if taken is not None:
                taken.answer = answer
        return answer

    async def _json(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        context: Context | None,
        timeout_s: float | None,
    ) -> Any:
        content = None if body is None else msgspec.json.encode(body)
        try:
            async with asyncio.timeout(timeout_s):
                response = await self._open(method, path, content, self._headers(context))
                try:
                    with _translated(str(response.url)):
                        data = await response.aread()
                finally:
                    await response.aclose()
        except TimeoutError as exc:
            raise RequestTimeout("total", timeout_s or 0.0) from exc
        decoded = _decode_body(data)
        if not response.is_success:
            raise _error_of(response, decoded)
        if isinstance(decoded, str):
            raise ProtocolError(f"The answer of {path} is not JSON: {decoded[:80]!r}.")
        return decoded

    async def stream(
        self,
        path: str,
        body: Mapping[str, Any],
        *,
        context: Context | None = None,
        deadlines: Deadlines | None = None,
    ) -> AsyncGenerator[StreamEvent, None]:
        """Send a request and yield its events one by one; see `stream_batches`."""
        batches = self.stream_batches(path, body, context=context, deadlines=deadlines)
        async with contextlib.aclosing(batches):
            async for batch in batches:
                for event in batch:
                    yield event

    async def stream_batches(
        self,
        path: str,
        body: Mapping[str, Any],
        *,
        context: Context | None = None,
        deadlines: Deadlines | None = None,
    ) -> AsyncGenerator[list[StreamEvent], None]:
        """Send a request and yield its events as they arrive, all of one read together.

        What goes wrong before the answer begins is raised; after that the last event is `Failed`
        or `Finished`.  Closing the iterator closes the connection.

        Raises:
            ModelError: As the server answered, or when it could not be reached.
            RequestTimeout: When the answer did not begin in time; its phase is `first_token`.
        """
        limits = deadlines or self.deadlines
        tape = current_tape()
        if isinstance(tape, Replay):
            async with contextlib.aclosing(tape.stream(path, body)) as played:
                async for batch in played:
                    yield batch
            return
        content = msgspec.json.encode({**body, "stream": True})
        headers = {**self._headers(context), names.EVENTS: "1"}
        about = {**current_context(), **(context or {})}
        began = span_of(path, body.get("model"), headers[names.TRACEPARENT], about)
        with recorded(self.records, began) as span, taped(tape, "POST", path, body) as taken:
            try:
                async with asyncio.timeout(limits.first_token_s):
                    response = await self._open("POST", path, content, headers)
            except TimeoutError as exc:
                raise RequestTimeout("first_token", limits.first_token_s) from exc
            try:
                if response.status_code != 200:
                    raise await _refusal(response)
                async for batch in _read_batches(response, limits):
                    span.take(batch)
                    if taken is not None:
                        taken.take(batch)
                    yield batch
            finally:
                await response.aclose()

    async def lines(
        self, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Send a request and yield the objects of its NDJSON answer as they arrive.

        There is no deadline: nothing may happen for hours.  Closing the iterator closes the
        connection.

        Raises:
            ModelError: As the server answered, or when it could not be reached.
            StreamBroken: When the connection was lost on the way.
            ProtocolError: When a line is not a JSON object.
        """
        untaped(current_tape(), method, path)
        content = None if body is None else msgspec.json.encode(body)
        response = await self._open(method, path, content, self._headers(None))
        try:
            if not response.is_success:
                raise await _refusal(response)
            splitter = LineSplitter()
            with _translated(str(response.url), partial=str):
                async for chunk in response.aiter_raw():
                    for line in splitter.feed(chunk):
                        if line:
                            yield _line(line)
            if rest := splitter.close():
                yield _line(rest)
        finally:
            await response.aclose()

    def _headers(self, context: Context | None) -> dict[str, str]:
        fields = {
            "session": self.session,
            "client_kind": self.kind,
            "run_id": self.run_id,
            **current_context(),
            **(context or {}),
        }
        priority = fields.pop("priority", None)
        trace = fields.pop("trace_id", None)
        fields.pop("parent_span_id", None)
        headers = {
            names.TRACEPARENT: traceparent(str(trace) if trace else None),
            "Content-Type": "application/json",
            **names.context_headers(fields),
        }
        if priority is not None:
            headers[names.PRIORITY] = str(priority)
        return headers

    async def _open(
        self, method: str, path: str, content: bytes | None, headers: dict[str, str]
    ) -> httpx.Response:
        """Send a request and return the response once its head is there.

        A server that was lost before that is found anew, once: after the head nothing is resent.
        """
        address = self._address or await self._find()
        try:
            response = await self._send(address, method, path, content, headers)
        except (ConnectionFailed, RequestTimeout):
            if self._resolve is None:
                raise
            return await self._send(await self._find(), method, path, content, headers)
        if response.status_code == 401 and self._resolve is not None:
            # Another server may have taken the port; its record names its own token.
            found = await self._find()
            if (found.url, found.token) != (address.url, address.token):
                await response.aclose()
                return await self._send(found, method, path, content, headers)
        return response

    async def _find(self) -> Address:
        assert self._resolve is not None
        found = await asyncio.to_thread(self._resolve)
        self._address = FixedAddress(_clean_url(found.url), found.token)
        return self._address

    async def _send(
        self,
        address: Address,
        method: str,
        path: str,
        content: bytes | None,
        headers: dict[str, str],
    ) -> httpx.Response:
        http = self._pool(secure=address.url.startswith("https:"))
        if address.token:
            headers = {**headers, "Authorization": f"Bearer {address.token}"}
        with _translated(address.url), own_connection():
            request = http.build_request(
                method, address.url + path, content=content, headers=headers
            )
            return await http.send(request, stream=True)

    def _pool(self, *, secure: bool) -> httpx.AsyncClient:
        loop = asyncio.get_running_loop()
        if self._http is None or self._loop is not loop or self._secure is not secure:
            # Of another loop, or of the process this one was forked from: not ours to close,
            # and not to be collected, which would close the parent's connections.
            self._former.append(self._http)
            self._loop, self._secure = loop, secure
            self._http = httpx.AsyncClient(
                trust_env=False,
                # Reading the certificates takes 0.1 s, and plain HTTP has no use for them.
                verify=secure,
                follow_redirects=False,
                timeout=httpx.Timeout(None, connect=CONNECT_S),
                limits=httpx.Limits(max_connections=None, keepalive_expiry=_KEEPALIVE_S),
                headers={"User-Agent": _user_agent(), "Accept-Encoding": "identity"},
            )
            if get_portal().here:
                # Kept open until then even when this client is collected before.
                get_portal().at_close(self._http, self._http.aclose)
        return self._http


def _user_agent() -> str:
    return f"workbench/{__version__} (pid {os.getpid()})"


def _clean_url(url: str) -> str:
    return (url if "://" in url else f"http://{url}").rstrip("/")


def _decode_body(data: bytes) -> Any:
    """Return decoded JSON, or the text when it is none."""
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return data.decode("utf-8", "replace")


def _line(data: bytes) -> dict[str, Any]:
    decoded = _decode_body(data)
    if not isinstance(decoded, dict):
        raise ProtocolError(f"A line is not a JSON object: {data[:80]!r}.")
    return decoded


async def _refusal(response: httpx.Response) -> WorkbenchError:
    """Read the body of an error answer and return the error it tells."""
    try:
        async with asyncio.timeout(_ERROR_BODY_S):
            data = await response.aread()
    except (TimeoutError, httpx.HTTPError) as exc:
        return ResponseError(
            f"The server answered {response.status_code} and no reason ({exc}).",
            status=response.status_code,
            hint="Ask again; what the server wrote: workbench logs.",
        )
    return _error_of(response, _decode_body(data))


def _error_of(response: httpx.Response, body: object) -> WorkbenchError:
    if isinstance(body, dict):
        return error_from_body(response.status_code, body)
    url = response.url.copy_with(path="/", query=None)
    return ResponseError(
        f"{url} answered {response.status_code} and nothing that a workbench server says.",
        status=response.status_code,
        hint="Correct WORKBENCH_URL: another program answers there.",
    )


async def _read_batches(
    response: httpx.Response, limits: Deadlines
) -> AsyncGenerator[list[StreamEvent], None]:
    """Yield the events of a body; the last one is `Finished` or `Failed`."""
    loop = asyncio.get_running_loop()
    decoder, splitter = StreamDecoder(), LineSplitter()
    chunks = response.aiter_raw()
    tokens_came = False
    due = loop.time() + limits.first_token_s
    while not decoder.ended:
        try:
            with _translated(str(response.url), partial=lambda: decoder.partial):
                async with asyncio.timeout_at(due):
                    chunk = await anext(chunks, None)
            lines = splitter.feed(chunk) if chunk is not None else [splitter.close()]
        except TimeoutError:
            phase = "stall" if tokens_came else "first_token"
            seconds = limits.stall_s if tokens_came else limits.first_token_s
            yield [decoder.fail(RequestTimeout(phase, seconds, partial=decoder.partial))]
            return
        except WorkbenchError as exc:
            yield [decoder.fail(exc)]
            return
        events = [event for line in lines if line for event in decoder.feed(line)]
        if chunk is None:
            events += decoder.close()
        if events:
            tokens_came = tokens_came or not all(isinstance(e, Opened | Phase) for e in events)
            due = loop.time() + (limits.stall_s if tokens_came else limits.first_token_s)
            yield events
    await _drain(chunks)


async def _drain(chunks: AsyncIterator[bytes]) -> None:
    """Read the end of a body, so that its connection can be used again."""
    with contextlib.suppress(TimeoutError, httpx.HTTPError):
        async with asyncio.timeout(_DRAIN_S):
            while await anext(chunks, None) is not None:
                pass
