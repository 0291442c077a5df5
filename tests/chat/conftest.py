from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.chat.dialogues import ANN, BOB, NewDialogue
from tests.client.conftest import PATIENT
from workbench.chat.dialogue import Dialogue
from workbench.chat.session import ChatSession
from workbench.client.api import WorkbenchClient
from workbench.portal import get_portal
from workbench.testing import ScriptedOllama

NewSession = Callable[..., ChatSession]


@pytest.fixture
def ollama() -> Iterator[ScriptedOllama]:
    with ScriptedOllama(models=["m"]) as server:
        yield server


@pytest.fixture
def client(ollama: ScriptedOllama) -> Iterator[WorkbenchClient]:
    client = WorkbenchClient(ollama.url, deadlines=PATIENT)
    yield client
    get_portal().run(client.aclose())


@pytest.fixture
def new_session(client: WorkbenchClient, tmp_path: Path) -> Iterator[NewSession]:
    """Make sessions in `tmp_path` that are closed after the test."""
    with ExitStack() as stack:

        def make(**how: Any) -> ChatSession:
            how = {"data_dir": tmp_path, "model": "m", **how}
            return stack.enter_context(ChatSession(client, **how))

        yield make


@pytest.fixture
def session(new_session: NewSession) -> ChatSession:
    return new_session()


def python(code: str, *arguments: str) -> list[str]:
    """Return the command that runs code in another process, warnings as errors."""
    return [sys.executable, "-W", "error", "-c", code, *arguments]


@pytest.fixture
def pair() -> Iterator[ScriptedOllama]:
    """Yield a server with the models that dialogues need."""
    with ScriptedOllama(models=["m", "n", "judge"]) as server:
        yield server


@pytest.fixture
def new_dialogue(pair: ScriptedOllama, tmp_path: Path) -> Iterator[NewDialogue]:
    """Make dialogues in `tmp_path` that are closed after the test."""
    client = WorkbenchClient(pair.url, deadlines=PATIENT)
    with ExitStack() as stack:

        def make(*participants: Any, **how: Any) -> Dialogue:
            how = {"opening": "Tea or coffee?", "data_dir": tmp_path, "seed": 100, **how}
            cast = participants or (ANN, BOB)
            return stack.enter_context(Dialogue(client, cast, **how))

        yield make
    get_portal().run(client.aclose())
