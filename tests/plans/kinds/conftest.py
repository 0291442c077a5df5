from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.plans.kinds.context import PATIENT, Attempt, step_of
from tests.server.harness import ServerProcess
from workbench.client.api import WorkbenchClient
from workbench.portal import get_portal
from workbench.testing import ScriptedOllama

Begin = Callable[..., Attempt]


@pytest.fixture
def ollama() -> Iterator[ScriptedOllama]:
    """Yield a scripted server with the model `m`."""
    with ScriptedOllama(models=["m"]) as server:
        yield server


@pytest.fixture
def client(ollama: ScriptedOllama) -> Iterator[WorkbenchClient]:
    """Yield a client of the scripted server."""
    made = WorkbenchClient(ollama.url, deadlines=PATIENT)
    yield made
    get_portal().run(made.aclose())


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Yield a real server with the bundled models."""
    with ServerProcess(tmp_path_factory.mktemp("kinds-server")) as server:
        yield server


@pytest.fixture
def real(embedded: ServerProcess) -> Iterator[WorkbenchClient]:
    """Yield a client of the real server."""
    made = WorkbenchClient(embedded.url, token=embedded.token, deadlines=PATIENT)
    yield made
    get_portal().run(made.aclose())


@pytest.fixture
def begin(tmp_path: Path) -> Begin:
    """Return a function that makes an attempt of a step in a folder of the test."""

    def make(
        kind: str,
        *,
        client: WorkbenchClient | None = None,
        values: Any = None,
        variables: Any = None,
        given: Any = None,
        answer: Any = None,
        environment: Any = None,
        **fields: Any,
    ) -> Attempt:
        return Attempt(
            step_of(kind, **fields),
            tmp_path,
            client=client,
            inputs=given if given is not None else fields.get("inputs"),
            variables=variables,
            values=values,
            answer=answer,
            environment=environment,
        )

    return make
