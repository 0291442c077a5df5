"""A scripted Ollama with a memory, and the official client of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import ollama

from tests.testing.helpers import PLAIN
from workbench.testing import FakeModel, Reply, ScriptedOllama

GB = 10**9
QUESTION = [{"role": "user", "content": "Say it."}]
# Blobs in the order opposite to the names, so that ties are seen to go by blob.
SMALL = [
    FakeModel("a", size_bytes=3 * GB, blob="c" * 64),
    FakeModel("b", size_bytes=3 * GB, blob="b" * 64),
    FakeModel("c", size_bytes=3 * GB, blob="a" * 64),
]


class Bench:
    """A scripted server of 8 GB, the official client, and calls in the background."""

    def __init__(self, *models: FakeModel, **options: Any) -> None:
        self.server = ScriptedOllama(models=models or SMALL, **({"memory_bytes": 8 * GB} | options))
        self._pool = ThreadPoolExecutor(8)

    def __enter__(self) -> Bench:
        self.server.start()
        self.client = ollama.Client(self.server.url, **PLAIN)
        return self

    def __exit__(self, *exc: object) -> None:
        self.client.close()
        self.server.close()
        self._pool.shutdown()

    def load(self, model: str, keep_alive: float | str | None = None, **options: Any) -> Any:
        """Load a model and wait for it."""
        return self.client.generate(model, keep_alive=keep_alive, options=options)

    def begin(self, model: str, **more: Any) -> Future[Any]:
        """Begin to load a model."""
        return self._pool.submit(self.client.generate, model, **more)

    def ask(self, model: str, messages: list[dict[str, str]]) -> Future[Any]:
        """Begin a chat."""
        return self._pool.submit(self.client.chat, model, messages)

    def unload(self, model: str) -> str | None:
        """Ask to unload a model and return the reason that the answer gives."""
        return self.client.generate(model, keep_alive=0).done_reason

    @contextlib.contextmanager
    def busy(self, model: str, **more: Any) -> Iterator[None]:
        """Keep a model busy."""
        self.server.enqueue(Reply("a b", stall_after=1), to="chat")
        stream = self.client.chat(model, QUESTION, stream=True, **more)
        next(stream)
        yield
        self.server.release()
        list(stream)

    def ps(self) -> dict[str, ollama.ProcessResponse.Model]:
        """Return what is listed as loaded, by name."""
        return {item.name or "": item for item in self.client.ps().models}

    def names(self) -> list[str]:
        """Return the short names of what is loaded, sorted."""
        return sorted(name.removesuffix(":latest") for name in self.ps())

    def events(self, *kinds: str) -> list[tuple[str, str, str]]:
        """Return the history, of some kinds only."""
        found = [(item.event, item.model[0], item.reason) for item in self.server.history]
        return [item for item in found if item[0] in kinds]
