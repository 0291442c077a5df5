"""What the scripted servers share: the thread, the scripts, the records."""

from __future__ import annotations

import abc
import asyncio
import logging
import threading
import uuid
import warnings
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any, Self

from workbench.testing.http import Exchange, Listener, T, dumps
from workbench.testing.play import CutError, ScriptedError, send_body, wait_out
from workbench.testing.scripts import RecordedRequest, Reply, ReplySource

_log = logging.getLogger(__name__)
_NOT_ALLOWED = b"405 method not allowed"
_PAGE = b"<!DOCTYPE html><html><body><h1>Bad gateway</h1></body></html>"

Handling = Callable[[Exchange, Reply], Awaitable[None]]
Routes = Mapping[str, Mapping[str, tuple[str, Handling]]]


class ScriptedServer(abc.ABC):
    """A server in a thread of its own, on a real socket, that answers from scripts.

    Use it as a context manager, or call ``start`` and ``close``.

    Args:
        reply: Answers every request for text: one script, or a function of the request,
            called on the server's own thread.
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
    """

    def __init__(self, *, reply: ReplySource, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._replies: dict[str, ReplySource] = {"": reply}
        self._queues: dict[str, deque[Reply]] = defaultdict(deque)
        self._reserved: dict[str, Reply] = {}
        self._requests: list[RecordedRequest] = []
        self._news = threading.Condition()
        self._listener: Listener | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_listener", None) is not None:
            self.close()
            warnings.warn(f"{self!r} was not closed", ResourceWarning, source=self, stacklevel=2)

    @property
    def port(self) -> int:
        """The port it listens on, or listened on before it was closed."""
        return self._port

    @property
    def url(self) -> str:
        """The base address, without a path."""
        return f"http://{self._host}:{self._port}"

    @property
    def requests(self) -> list[RecordedRequest]:
        """All requests so far, oldest first, as a list of the caller's own."""
        with self._news:
            return list(self._requests)

    def start(self) -> None:
        """Listen; raises OSError when the port is taken."""
        if self._listener is not None:
            raise RuntimeError(f"{self!r} is already listening")
        listener = Listener(self._handle, name=type(self).__name__)
        self._port = listener.start(self._host, self._port)
        self._listener = listener

    def close(self) -> None:
        """Close every connection and end the thread; a second call does nothing."""
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.stop()

    def set_reply(self, reply: ReplySource, *, to: str = "") -> None:
        """Replace what requests are answered with.

        Args:
            reply: The new script, or function of the request.
            to: The operation (``ps``, ``load``, ``embed`` ...) it is for; without one it is
                for all requests for text.
        """
        self._check(to)
        with self._news:
            self._replies[to] = reply

    def enqueue(self, *replies: Reply, to: str = "") -> None:
        """Answer the next requests with these, in order, before the standing reply.

        Args:
            replies: One per request.
            to: As for ``set_reply``.
        """
        self._check(to)
        with self._news:
            self._queues[to].extend(replies)

    def reserve(self, reply: Reply) -> str:
        """Keep a reply for one request that asks for it, past every queue.

        Returns the value of the header ``Scripted-Reply`` that the request has to send.
        """
        key = uuid.uuid4().hex
        with self._news:
            self._reserved[key] = reply
        return key

    def wait_for_request(
        self, n: int = 1, *, to: str = "", timeout_s: float = 10.0
    ) -> RecordedRequest:
        """Return the n-th request, counted from 1, as soon as it is there.

        Args:
            n: Which one.
            to: Count only requests for this operation.
            timeout_s: Raises TimeoutError after this many seconds.
        """
        self._check(to)
        with self._news:
            self._news.wait_for(lambda: len(self._heard(to)) >= n, timeout_s)
            heard = self._heard(to)
            if len(heard) < n:
                raise TimeoutError(f"{len(heard)} of {n} requests after {timeout_s} s")
            return heard[n - 1]

    @property
    def operations(self) -> frozenset[str]:
        """Everything that requests can ask for, and scripts can be for."""
        routed = [found for methods in self._routes().values() for found in methods.values()]
        return frozenset(operation for operation, _ in routed)

    def release(self) -> None:
        """End the stalls of all requests heard so far."""
        for request in self.requests:
            request.release()

    def _check(self, operation: str) -> None:
        if operation and operation not in self.operations:
            known = ", ".join(sorted(self.operations))
            raise ValueError(f"no operation {operation!r}; there are {known}")

    def _on_loop(self, read: Callable[[], T]) -> T:
        """Return what a function reads between two steps of the server."""
        return read() if self._listener is None else self._listener.read(read)

    def _heard(self, to: str) -> list[RecordedRequest]:
        return [item for item in self._requests if to in ("", item.operation)]

    async def _handle(self, exchange: Exchange) -> None:
        request = exchange.request
        methods = self._routes().get(request.path)
        method = "GET" if request.method == "HEAD" else request.method
        found = methods.get(method) if methods is not None else None
        if found is None:
            self._record(request)
            status, text = (404, b"404 page not found") if methods is None else (405, _NOT_ALLOWED)
            await exchange.send(status, text, "text/plain")
            return
        request.operation = self._operation(found[0], request)
        self._record(request)
        try:
            await self._scripted(exchange, found[1])
        except Exception as exc:
            # The fault is in a script or in the double: the test shall see it, not hang.
            _log.exception("no answer to %r", request)
            if not exchange.started:
                await exchange.send_json(500, self._error(500, f"{type(exc).__name__}: {exc}"))
            exchange.must_close = True

    async def _scripted(self, exchange: Exchange, handle: Handling) -> None:
        reply = self._pick(exchange.request)
        exchange.request.reply = reply
        if reply.reset_first:
            await exchange.reset()
        elif reply.error_first is not None:
            status, message = reply.error_first
            await asyncio.sleep(reply.first_token_s)
            await exchange.send_json(status, self._error(status, message), headers=reply.headers)
        elif reply.html_instead is not None:
            await exchange.send(reply.html_instead, _PAGE, "text/html", headers=reply.headers)
        else:
            await handle(exchange, reply)

    def _record(self, request: RecordedRequest) -> None:
        with self._news:
            self._requests.append(request)
            self._news.notify_all()

    def _pick(self, request: RecordedRequest) -> Reply:
        """Return the script of a request: the next of its queue, else the standing one."""
        key = "" if request.operation in self._text_operations() else request.operation
        with self._news:
            reserved = self._reserved.pop(request.headers.get("scripted-reply", ""), None)
            if reserved is not None:
                return reserved
            for name in (request.operation, key):
                if self._queues[name]:
                    return self._queues[name].popleft()
            source = self._replies.get(request.operation) or self._replies.get(key) or Reply()
        return source if isinstance(source, Reply) else source(request)

    async def _deliver(self, exchange: Exchange, reply: Reply, value: Any) -> bool:
        """Send a plain JSON answer with the delays and faults of its script.

        Says whether the script let it come to that.
        """
        try:
            await wait_out(exchange, reply, 0)
        except ScriptedError as exc:
            await exchange.send_json(500, self._error(500, str(exc)))
            return False
        except CutError:
            return False
        await send_body(exchange, reply, dumps(value), "application/json; charset=utf-8")
        return True

    @abc.abstractmethod
    def _routes(self) -> Routes:
        """Return path -> method -> (operation, handler)."""

    def _operation(self, operation: str, request: RecordedRequest) -> str:
        """Return what the request really asks for."""
        return operation

    @abc.abstractmethod
    def _text_operations(self) -> frozenset[str]:
        """Return the operations that a reply without a name answers."""

    @abc.abstractmethod
    def _error(self, status: int, message: str) -> Any:
        """Return the body of an error answer."""
