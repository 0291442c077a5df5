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


def test_reason_is_there_each_time(tmp_path: Path) -> None:
    """The engine's log has a thread of its own; its last lines are printed before it ends."""
    path = tmp_path / "broken.gguf"
    BROKEN["text"](path)
    spec = EngineSpec(model_path=path, alias="broken")

    async def reason() -> str:
        with pytest.raises(LoadFailed) as failed:
            await EngineProcess.start(spec, timeout_s=60)
        return failed.value.reason

    async def scene() -> list[str]:
        return [
            text for _ in range(8) for text in await asyncio.gather(*(reason() for _ in range(6)))
        ]

    assert set(asyncio.run(scene())) == {"invalid magic characters: 'This', expected 'GGUF'"}


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
