"""Homes for the command line: one shared with its server, and one for each test."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cli.harness import Cli
from tests.conftest import private_environment
from workbench.runtime import find_server
from workbench.testing import FakeModel, Reply, ScriptedOllama, make_gguf

MODELS = [
    FakeModel("parrot:latest", capabilities=["completion", "tools", "thinking"]),
    FakeModel("owl:7b"),
]


@dataclass
class Home:
    """A command line, its server, and the scripted Ollama behind that."""

    cli: Cli
    ollama: ScriptedOllama


@pytest.fixture(scope="session")
def shared_home() -> Iterator[Home]:
    """Yield one home for all tests that leave the server as it is."""
    # pytest's own folders are too long for unix sockets.
    base = Path(tempfile.mkdtemp(prefix="wb-"))
    try:
        with ScriptedOllama(models=MODELS) as ollama:
            env = {**private_environment(base), "OLLAMA_HOST": ollama.url}
            models = Path(env["WORKBENCH_DATA_DIR"]) / "models"
            models.mkdir()
            make_gguf(models / "noise.gguf", params=200_000, context_length=512)
            cli = Cli(base, env)
            yield Home(cli, ollama)
            cli.run("stop", "--force")
    finally:
        shutil.rmtree(base, ignore_errors=True)


@pytest.fixture
def home(shared_home: Home) -> Home:
    """Return the shared home, its Ollama answering with one sentence."""
    shared_home.ollama.set_reply(Reply("Polly wants a cracker."))
    return shared_home


@pytest.fixture
def fresh(private_folders: Path) -> Iterator[Cli]:
    """Yield a command line of its own, and stop the server it may have started."""
    cli = Cli(private_folders)
    yield cli
    if find_server(cli.data_dir) is not None:
        cli.run("stop", "--force")
