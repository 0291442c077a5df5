"""A server of its own for fuzzing: models come and go there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.conftest import random_gguf  # noqa: F401
from tests.server.harness import ServerProcess


def surprises(running: ServerProcess) -> list[str]:
    """Return what the server did not expect, with the place in its code and the error."""
    found = []
    for part in running.log().split("failed unexpectedly\n")[1:]:
        trace = part.partition("\n20")[0].splitlines()
        places = [line.strip() for line in trace if "workbench" in line and "File" in line]
        found.append(f"{trace[-1]} {places[-1:]}")
    return found


@pytest.fixture(scope="session")
def fuzzed(
    tmp_path_factory: pytest.TempPathFactory,
    random_gguf: Path,  # noqa: F811
) -> Iterator[ServerProcess]:
    """Yield a server with one small model; it must be up and unsurprised at the end."""
    data_dir = tmp_path_factory.mktemp("fuzzed")
    (data_dir / "models").mkdir()
    (data_dir / "models" / "rand.gguf").symlink_to(random_gguf)
    with ServerProcess(data_dir) as running:
        yield running
        assert 200 == running.http.get("/api/version").status_code
        assert [] == surprises(running)
