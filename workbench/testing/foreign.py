"""Another user of the same Ollama: loads, evicts, keeps busy and brings back, over plain HTTP."""

from __future__ import annotations

import http.client
import json
import threading
from types import TracebackType
from typing import Any, Literal, Self

from workbench.testing.controls import MemoryControls
from workbench.testing.scripts import Reply, with_tag

_TIMEOUT_S = 60.0


class Busy:
    """An answer in the middle of its stream; the model is busy until it stops."""

    def __init__(self, connection: http.client.HTTPConnection) -> None:
        self._connection = connection
        self._answer = connection.getresponse()
        # The first token is there, so the model is loaded and at work.
        self._answer.readline()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Leave: the server sees the connection close and ends the answer."""
        self._answer.close()
        self._connection.close()


class ForeignClient:
    """A client that knows nothing of the workbench; use it as a context manager.

    Its requests carry the user agent ``foreign-client``. They take no reply from the queues.

    Args:
        server: A scripted Ollama with a scheduler.

    Attributes:
        resurrected: Names of the models that it brought back, in order.
        errors: What went wrong while it brought models back.
    """

    def __init__(self, server: MemoryControls) -> None:
        self._server = server
        self._journal = server.journal
        self._closed = False
        self._busy: list[Busy] = []
        self._threads: list[threading.Thread] = []
        self.resurrected: list[str] = []
        self.errors: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop everything it does; what it loaded stays."""
        self._closed = True
        self._journal.poke()
        for busy in self._busy:
            busy.stop()
        for thread in self._threads:
            thread.join()

    def load(
        self, model: str, *, keep_alive: float | str | None = None, **options: Any
    ) -> dict[str, Any]:
        """Load a model and return the answer; who is in the way is evicted by the server."""
        return self._ask(model, keep_alive, options)

    def unload(self, model: str) -> dict[str, Any]:
        """Ask to unload a model and return the answer, which says nothing about success."""
        return self._ask(model, 0, {})

    def keep_busy(
        self, model: str, *, keep_alive: float | str | None = None, **options: Any
    ) -> Busy:
        """Begin an answer that does not end, and return once its first token is there."""
        body = _body(model, keep_alive, options) | {"prompt": "Go on."}
        reply = Reply("busy still", stall_after=1)
        connection = self._send(body, {"Scripted-Reply": self._server.reserve(reply)})
        busy = Busy(connection)
        self._busy.append(busy)
        return busy

    def resurrect(
        self,
        model: str,
        *,
        times: int | None = None,
        after: Literal["unloaded", "draining"] = "unloaded",
        keep_alive: float | str = "5m",
    ) -> None:
        """Bring a model back whenever it leaves, in the background.

        Args:
            model: Its name.
            times: How often; ``None`` is until closed.
            after: ``unloaded``: load it again when it is gone; ``draining``: touch it while it
                is busy and asked to leave, so that it never goes.
            keep_alive: What it is brought back with.
        """
        seen = self._count(after, model)
        thread = threading.Thread(
            target=self._keep_bringing,
            args=(model, times, after, keep_alive, seen),
            name="ForeignClient",
            daemon=True,
        )
        self._threads.append(thread)
        thread.start()

    def _keep_bringing(
        self, model: str, times: int | None, after: str, keep_alive: float | str, seen: int
    ) -> None:
        done = 0
        while times is None or done < times:
            due = seen + done
            self._journal.wait(
                lambda due=due: self._closed or self._count(after, model) > due,  # type: ignore[misc]
                f"{model} not {after}",
                threading.TIMEOUT_MAX,
            )
            if self._closed:
                return
            done += 1
            try:
                self._ask(model, keep_alive, {})
            except (OSError, http.client.HTTPException) as exc:
                self.errors.append(f"{type(exc).__name__}: {exc}")
            else:
                self.resurrected.append(with_tag(model))

    def _count(self, event: str, model: str) -> int:
        name = with_tag(model)
        return sum((event, name) == (item.event, item.model) for item in self._journal.events)

    def _ask(
        self, model: str, keep_alive: float | str | None, options: dict[str, Any]
    ) -> dict[str, Any]:
        connection = self._send(_body(model, keep_alive, options) | {"stream": False}, {})
        try:
            answer: dict[str, Any] = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        return answer

    def _send(self, body: dict[str, Any], headers: dict[str, str]) -> http.client.HTTPConnection:
        address = self._server.url.removeprefix("http://")
        connection = http.client.HTTPConnection(address, timeout=_TIMEOUT_S)
        said = {"Content-Type": "application/json", "User-Agent": "foreign-client"}
        connection.request("POST", "/api/generate", json.dumps(body), said | headers)
        return connection


def _body(model: str, keep_alive: float | str | None, options: dict[str, Any]) -> dict[str, Any]:
    body: dict[str, Any] = {"model": model}
    if options:
        body["options"] = options
    return body if keep_alive is None else body | {"keep_alive": keep_alive}
