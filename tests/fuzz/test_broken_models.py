"""Files that are no models, dropped into the models folder of a running server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.files import BROKEN
from tests.fuzz.conftest import surprises
from tests.server.harness import ServerProcess

KINDS = sorted(BROKEN)


@pytest.fixture(scope="module")
def littered(
    tmp_path_factory: pytest.TempPathFactory, random_gguf: Path
) -> Iterator[ServerProcess]:
    """Yield a server whose models folder has one file of every broken kind, and a whole one."""
    data_dir = tmp_path_factory.mktemp("littered")
    models = data_dir / "models"
    models.mkdir()
    (models / "rand.gguf").symlink_to(random_gguf)
    for kind in KINDS:
        BROKEN[kind](models / f"{kind}.gguf")
    with ServerProcess(data_dir) as running:
        yield running


@pytest.mark.parametrize("kind", KINDS)
def test_broken_model_is_refused_with_a_reason(littered: ServerProcess, kind: str) -> None:
    """A chat with a broken file is refused with the reason, and a whole model answers after it."""
    messages = [{"role": "user", "content": "hi"}]
    body = {"model": kind, "messages": messages, "stream": False, "options": {"num_predict": 2}}
    broken = littered.http.post("/api/chat", json=body)
    assert broken.status_code in (400, 404, 500)
    assert len(broken.json()["error"]) > 12
    assert "internal error" not in broken.text
    assert 200 == littered.http.post("/api/chat", json={**body, "model": "rand"}).status_code


@pytest.mark.parametrize("kind", KINDS)
def test_broken_model_can_be_looked_at(littered: ServerProcess, kind: str) -> None:
    """Show of a broken file answers or is refused with a reason."""
    shown = littered.http.post("/api/show", json={"model": kind, "verbose": True})
    assert shown.status_code in (200, 400, 404)


def test_lists_survive_broken_models(littered: ServerProcess) -> None:
    """The lists have the whole model among the broken ones, and nothing surprised the server."""
    tags = {model["name"] for model in littered.http.get("/api/tags").json()["models"]}
    ours = {m["name"] for m in littered.http.get("/workbench/v1/models").json()["models"]}
    assert "rand:latest" in tags & ours
    assert [] == surprises(littered)
