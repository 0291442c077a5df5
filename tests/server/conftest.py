"""Servers that many tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.harness import ServerProcess
from workbench.testing import FakeModel, Reply, ScriptedOllama
from workbench.testing.gguf import make_gguf


@pytest.fixture(scope="session")
def random_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a small model with random weights."""
    folder = tmp_path_factory.mktemp("models")
    return make_gguf(folder / "rand.gguf", params=500_000, context_length=512)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, random_gguf: Path) -> Iterator[ServerProcess]:
    """Yield a server with the bundled models and `rand`, shared by the tests of a session."""
    with server_with(random_gguf, tmp_path_factory.mktemp("data")) as running:
        yield running


def server_with(model: Path, data_dir: Path) -> ServerProcess:
    """Return a server, to be started, whose models folder holds a file as `rand`."""
    (data_dir / "models").mkdir()
    (data_dir / "models" / "rand.gguf").symlink_to(model)
    return ServerProcess(data_dir)


@pytest.fixture
def upstream() -> Iterator[ScriptedOllama]:
    """Yield a scripted Ollama with one model."""
    model = FakeModel("llama3.2:latest")
    with ScriptedOllama(models=[model], reply=Reply(text="Hello from Ollama.")) as scripted:
        yield scripted


@pytest.fixture
def relay(upstream: ScriptedOllama, tmp_path: Path) -> Iterator[ServerProcess]:
    """Yield a server whose Ollama backend is the scripted one."""
    env = {"OLLAMA_HOST": upstream.url}
    with ServerProcess(tmp_path / "relay", env=env) as running:
        yield running
