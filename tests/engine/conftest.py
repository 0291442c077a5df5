"""Models and processes for the engine tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engine.files import good_bytes
from workbench.server.engine.spec import EngineSpec


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Return the path of a small model that loads."""
    path = tmp_path / "Good-Model.gguf"
    path.write_bytes(good_bytes())
    return path


@pytest.fixture
def spec(model: Path) -> EngineSpec:
    """Return a spec of that model."""
    return EngineSpec(model_path=model, alias="good:latest")
