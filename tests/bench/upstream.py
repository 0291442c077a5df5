"""A scripted Ollama in a process of its own, so that it does not share our interpreter's lock."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

from workbench.testing import FakeModel, Reply, ScriptedOllama

MODEL = "bench:latest"


def _serve(pipe: Connection, reply: dict[str, Any]) -> None:
    with ScriptedOllama(models=[FakeModel(MODEL)], reply=Reply(**reply)) as server:
        pipe.send(server.url)
        pipe.recv()


@contextmanager
def upstream(**reply: Any) -> Iterator[str]:
    """Yield the address of a scripted Ollama that answers with `Reply(**reply)`."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, reply), daemon=True)
    process.start()
    try:
        yield ours.recv()
    finally:
        ours.send("end")
        process.join(10)
