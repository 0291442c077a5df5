"""The official clients, pointed at the shared servers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import ollama
import pytest

from tests.server.conftest import random_gguf, server  # noqa: F401
from tests.server.harness import ServerProcess
from workbench.testing import FakeModel, RecordedRequest, Reply, ScriptedOllama

MODELS = [
    FakeModel("llama3.2:latest"),
    FakeModel("qwen3:4b", capabilities=["completion", "tools", "thinking"]),
    FakeModel("llava:latest", capabilities=["completion", "vision"]),
    FakeModel("nomic-embed-text:latest", capabilities=["embedding"]),
]


@contextmanager
def ollama_client(running: ServerProcess) -> Iterator[ollama.Client]:
    """Open the official client as its users do: an address and a token."""
    with ollama.Client(running.url, headers={"Authorization": f"Bearer {running.token}"}) as client:
        yield client


@pytest.fixture
def client(server: ServerProcess) -> Iterator[ollama.Client]:  # noqa: F811
    """Yield the official client of the server with embedded models."""
    with ollama_client(server) as opened:
        yield opened


@pytest.fixture(scope="session")
def scripted() -> Iterator[ScriptedOllama]:
    """Yield a scripted Ollama with models of every kind, shared by the tests of a session."""
    with ScriptedOllama(models=MODELS, pullable=["tiny:latest"]) as running:
        yield running


@pytest.fixture
def upstream(scripted: ScriptedOllama) -> ScriptedOllama:
    """Return the scripted Ollama with its plain answer; a test gives it another standing one."""
    scripted.set_reply(Reply(text="Hello from Ollama."))
    return scripted


@pytest.fixture(scope="session")
def relay(
    scripted: ScriptedOllama, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    """Yield a server whose Ollama backend is the scripted one."""
    env = {"OLLAMA_HOST": scripted.url}
    with ServerProcess(tmp_path_factory.mktemp("relay"), env=env) as running:
        yield running


def last_heard(upstream: ScriptedOllama, operation: str) -> RecordedRequest:
    """Return the newest request for an operation that reached the scripted Ollama."""
    return next(item for item in reversed(upstream.requests) if item.operation == operation)


@pytest.fixture
def relayed(relay: ServerProcess, upstream: ScriptedOllama) -> Iterator[ollama.Client]:
    """Yield the official client of the server that relays to a scripted Ollama."""
    with ollama_client(relay) as opened:
        yield opened


@pytest.fixture
def toy(client: ollama.Client) -> str:
    """Return the name of the better toy model; skip where it has not been trained."""
    if "toy-tiny:latest" not in {model.model for model in client.list().models}:
        pytest.skip("data/models/toy-tiny.gguf is not there; data/models/train.py makes it")
    return "toy-tiny"
