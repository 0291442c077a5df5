from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from workbench.client.api import WorkbenchClient
from workbench.client.http import Deadlines
from workbench.portal import get_portal
from workbench.testing import ScriptedOllama

# No test of the happy path may end by a deadline, however slow the machine.
PATIENT = Deadlines(first_token_s=60.0, stall_s=60.0)


@pytest.fixture
def ollama() -> Iterator[ScriptedOllama]:
    with ScriptedOllama(models=["m"]) as server:
        yield server


@pytest.fixture
def new_client() -> Iterator[Callable[..., WorkbenchClient]]:
    """Make clients that are closed after the test."""
    made: list[WorkbenchClient] = []

    def make(url: str | None, **how: Any) -> WorkbenchClient:
        how.setdefault("deadlines", PATIENT)
        made.append(WorkbenchClient(url, **how))
        return made[-1]

    yield make
    for client in made:
        get_portal().run(client.aclose())


@pytest.fixture
def client(ollama: ScriptedOllama, new_client: Callable[..., WorkbenchClient]) -> WorkbenchClient:
    return new_client(ollama.url)
