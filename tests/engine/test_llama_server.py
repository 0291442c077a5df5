"""A llama-server binary serves in the place of the wheel."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import httpx
import psutil
import pytest

from tests.engine.files import BROKEN
from tests.engine.http import client, complete
from workbench.errors import LoadFailed
from workbench.server.engine import endpoint
from workbench.server.engine.process import EngineProcess
from workbench.server.engine.spec import EngineSpec, find_llama_server

FAKE = Path(__file__).with_name("fake_llama_server.py")


@pytest.fixture
def external(spec: EngineSpec, tmp_path: Path) -> EngineSpec:
    """Return a spec that runs the fake binary."""
    binary = tmp_path / "llama-server"
    binary.write_text(f'#!/bin/sh\nexec "{sys.executable}" -P "{FAKE}" "$@"\n')
    binary.chmod(0o700)
    return replace(spec, engine="llama-server", llama_server_path=binary)


def test_it_serves_and_stops(external: EngineSpec) -> None:
    """The binary answers with the key of the process only, and its end is verified."""

    async def scene() -> None:
        engine = await EngineProcess.start(external, timeout_s=60)
        arguments = " ".join(psutil.Process(engine.pid).cmdline())
        assert engine.key not in arguments
        options = {"n_predict": 20, "seed": 1, "temperature": 1.0}
        first = await complete(engine, "Hello", **options)
        assert first == await complete(engine, "Hello", **options)
        async with client(engine, key="wrong") as http:
            assert (await http.post("/completion", json={"prompt": "a"})).status_code == 401
        report = await engine.stop()
        assert (True, -signal.SIGTERM, "term") == (report.exited, report.returncode, report.means)

    asyncio.run(scene())


def test_loopback(external: EngineSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without unix sockets the binary gets a free port."""
    monkeypatch.setattr(endpoint, "UNIX_SOCKETS", False)

    async def scene() -> None:
        engine = await EngineProcess.start(external, timeout_s=60)
        async with httpx.AsyncClient(base_url=engine.base_url, trust_env=False) as http:
            assert (await http.get("/health")).status_code == 200
        await engine.stop()

    asyncio.run(scene())


@pytest.mark.parametrize("kind", ["text", "missing-tensor", "cut-in-half"])
def test_its_reason_is_shown(kind: str, external: EngineSpec, tmp_path: Path) -> None:
    """When the binary cannot load a file, its own reason is the reason of the failure."""
    path = tmp_path / "broken.gguf"
    BROKEN[kind](path)

    async def scene() -> None:
        with pytest.raises(LoadFailed, match=r"magic|missing|not found|bounds"):
            await EngineProcess.start(replace(external, model_path=path), timeout_s=60)

    asyncio.run(scene())


def test_refused_argument_is_the_reason(external: EngineSpec) -> None:
    """A binary that does not know an argument says so, and that is shown."""
    spec = replace(external, embedding=True, pooling=cast(Any, "unheard"))

    async def scene() -> None:
        with pytest.raises(LoadFailed, match="invalid choice: 'unheard'"):
            await EngineProcess.start(spec, timeout_s=60)

    asyncio.run(scene())


def test_binary_that_cannot_run(external: EngineSpec, tmp_path: Path) -> None:
    """A path that is no program is a failed load that says so."""
    spec = replace(external, llama_server_path=tmp_path / "nothing")

    async def scene() -> None:
        with pytest.raises(LoadFailed, match=r"cannot execute .*No such file"):
            await EngineProcess.start(spec, timeout_s=60)

    asyncio.run(scene())


def test_binary_that_never_gets_ready(
    external: EngineSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A binary that never listens is ended when the time to load is over."""
    monkeypatch.setenv("FAKE_HANG", "1")
    before = set(psutil.Process().children())

    async def scene() -> None:
        with pytest.raises(LoadFailed, match="not ready"):
            await EngineProcess.start(external, timeout_s=1)
        assert set(psutil.Process().children()) <= before

    asyncio.run(scene())


def test_users_variables_do_not_reach_it(
    external: EngineSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Variables that configure llama-server for the user do not change our processes."""
    monkeypatch.setenv("LLAMA_ARG_CTX_SIZE", "7")
    monkeypatch.setenv("LLAMA_ARG_API_KEY", "theirs")

    async def scene() -> None:
        engine = await EngineProcess.start(external, timeout_s=60)
        environment = psutil.Process(engine.pid).environ()
        await engine.stop()
        theirs = {"LLAMA_ARG_CTX_SIZE", "LLAMA_ARG_API_KEY"} & set(environment)
        assert theirs == set()
        assert environment["LLAMA_API_KEY"] == engine.key
        assert "LLAMA_ARG_CTX_SIZE" in os.environ

    asyncio.run(scene())


def test_binary_is_found(external: EngineSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    """The binary is the one of the setting, else the one on PATH, else there is none."""
    binary = external.llama_server_path
    assert binary is not None
    monkeypatch.setenv("PATH", "")
    assert find_llama_server() is None
    assert find_llama_server(str(binary)) == binary
    monkeypatch.setenv("PATH", str(binary.parent))
    assert find_llama_server() == binary
    assert find_llama_server("/no/such") is None
