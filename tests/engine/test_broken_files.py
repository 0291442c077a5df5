"""Files that are not models: each is refused with a reason and harms nobody."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from tests.engine.files import BROKEN
from workbench.errors import BadModelFile, LoadFailed
from workbench.server.engine.gguf import read_header
from workbench.server.engine.process import EngineProcess
from workbench.server.engine.spec import EngineSpec


@pytest.mark.parametrize("kind", BROKEN)
def test_load_fails_with_a_reason(kind: str, tmp_path: Path) -> None:
    """Loading a broken file raises the reason of the engine, and leaves no process."""
    path = tmp_path / "broken.gguf"
    BROKEN[kind](path)

    async def scene() -> None:
        with pytest.raises(LoadFailed) as caught:
            await EngineProcess.start(EngineSpec(model_path=path, alias="b"), timeout_s=60)
        assert len(caught.value.reason) > 8
        assert "exit code" not in caught.value.reason

    asyncio.run(scene())


@pytest.mark.parametrize("kind", BROKEN)
def test_header_reader_survives(kind: str, tmp_path: Path) -> None:
    """The header reader gives a header or its own error for a broken file, nothing else."""
    path = tmp_path / "broken.gguf"
    BROKEN[kind](path)
    with contextlib.suppress(BadModelFile):
        assert read_header(path).tensors


def test_hint_says_what_the_engine_does_not(tmp_path: Path) -> None:
    """When the engine only says that it failed, the hint says what is wrong with the header."""
    path = tmp_path / "empty.gguf"
    path.touch()

    async def scene() -> None:
        with pytest.raises(LoadFailed, match="the file is empty"):
            await EngineProcess.start(EngineSpec(model_path=path, alias="b"), timeout_s=60)

    asyncio.run(scene())
