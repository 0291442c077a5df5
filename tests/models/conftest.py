"""Engines with the bundled models, started once for the tests that ask them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

MODELS = Path(__file__).resolve().parents[2] / "data" / "models"
# The scripts beside the weights are no package: they run where only torch is installed.
sys.path.append(str(MODELS))

from toy_engine import Engine, running_engine  # noqa: E402


@pytest.fixture(scope="session")
def tiny() -> Iterator[Engine]:
    """Run the better model."""
    with running_engine(MODELS / "toy-tiny.gguf") as engine:
        yield engine


@pytest.fixture(scope="session")
def nano() -> Iterator[Engine]:
    """Run the weaker model."""
    with running_engine(MODELS / "toy-nano.gguf") as engine:
        yield engine
