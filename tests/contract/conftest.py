"""The servers that keep Ollama's contract: two of ours always, a real one when there is one."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import ollama
import psutil
import pytest

from tests.server.conftest import random_gguf, server_with  # noqa: F401
from workbench.testing import FakeModel, RecordedRequest, Reply, ScriptedOllama

# The user's own Ollama, for `make test ARGS=tests/contract`.
# Its models are loaded and unloaded, and none is made, changed or deleted.
REAL = "WORKBENCH_OLLAMA_URL"
PATIENCE_S = 60.0
SHORT = {"num_predict": 8, "seed": 1, "temperature": 0}
# Long enough for other requests to come in the middle.
LONG = {"num_predict": 200, "seed": 1, "temperature": 0}


@dataclasses.dataclass(frozen=True)
class Target:
    """One server that speaks Ollama's API.

    Args:
        kind: ``scripted``, ``real``, or ``embedded`` for our own server.
        http: Sends with its address and token.
        client: Ollama's own client of it.
        model: The short name of a model that can complete.
        held_bytes: Asks, past the API, for the memory that its models hold; ``None`` where
            nobody can tell.
    """

    kind: str
    http: httpx.Client
    client: ollama.Client
    model: str
    held_bytes: Callable[[], int] | None = None

    @property
    def is_ollama(self) -> bool:
        """Whether it has Ollama's own scheduler, and not ours."""
        return self.kind != "embedded"

    @property
    def full_name(self) -> str:
        """The name of the model as it is listed."""
        return self.model if ":" in self.model.rpartition("/")[2] else f"{self.model}:latest"

    def generate(self, prompt: str = "", **more: Any) -> httpx.Response:
        """Post to `/api/generate`; without a prompt it loads or unloads."""
        body = {"model": self.model, "prompt": prompt, "stream": False, **more}
        return self.http.post("/api/generate", json=body)

    def listed(self) -> ollama.ProcessResponse.Model | None:
        """Return the model as ps has it."""
        found = [item for item in self.client.ps().models if item.name == self.full_name]
        return found[0] if found else None

    def until(self, true: Callable[[], bool], what: str) -> None:
        """Ask until something is so: a real server tells of no event."""
        deadline = time.monotonic() + PATIENCE_S
        while not true():
            assert time.monotonic() < deadline, what
            time.sleep(0.02)

    def unload(self) -> None:
        """Unload and wait until ps has it no more."""
        self.generate(keep_alive=0)
        self.until(lambda: self.listed() is None, "the model is still listed")


def _target(
    kind: str,
    url: str,
    model: str,
    *,
    token: str = "",
    held_bytes: Callable[[], int] | None = None,
) -> Iterator[Target]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    plain: Any = {"headers": headers, "trust_env": False, "timeout": 120.0}
    with httpx.Client(base_url=url, **plain) as http, ollama.Client(url, **plain) as client:
        yield Target(kind, http, client, model, held_bytes)


def _smallest(url: str) -> str:
    """Return the smallest local model of a real server that can complete."""
    rows = httpx.get(f"{url}/api/tags", trust_env=False).json()["models"]
    local = [row for row in rows if "remote_model" not in row]
    able = [row for row in local if "completion" in row.get("capabilities", ["completion"])]
    if not able:
        pytest.fail(f"{url} has no model that can complete")
    return str(min(able, key=lambda row: row["size"])["name"])


def _reply(request: RecordedRequest) -> Reply:
    """Answer at once, and slowly when many tokens are asked for."""
    many = f'"num_predict":{LONG["num_predict"]}'.encode() in request.body.replace(b" ", b"")
    slow = Reply(["word "] * LONG["num_predict"], tokens_per_s=50)
    return slow if many else Reply("One two three.", prompt_tokens=3)


@pytest.fixture(scope="session")
def scripted_target() -> Iterator[Target]:
    """Yield a scripted Ollama with a scheduler; its witness is the scripted memory."""
    model = FakeModel("tiny:latest", context_length=2048, capabilities=["completion"])
    with ScriptedOllama(models=[model], reply=_reply, memory_bytes=8 * 10**9) as running:
        yield from _target("scripted", running.url, "tiny", held_bytes=lambda: running.used_bytes)


@pytest.fixture(scope="module")
def embedded_target(
    tmp_path_factory: pytest.TempPathFactory,
    random_gguf: Path,  # noqa: F811
) -> Iterator[Target]:
    """Yield our own server with a model of random weights; the witness is its engines' memory."""
    with server_with(random_gguf, tmp_path_factory.mktemp("data")) as server:

        def resident_bytes() -> int:
            found = 0
            for process in psutil.Process(server.process.pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    found += process.memory_info().rss
            return found

        yield from _target(
            "embedded", server.url, "rand", token=server.token, held_bytes=resident_bytes
        )


@pytest.fixture(scope="session")
def real_target() -> Iterator[Target]:
    """Yield a real Ollama."""
    url = os.environ[REAL].rstrip("/")
    yield from _target("real", url, _smallest(url))


@pytest.fixture(params=["scripted", "embedded", *(["real"] if os.environ.get(REAL) else [])])
def target(request: pytest.FixtureRequest) -> Iterator[Target]:
    """Yield each server in turn, with the model not loaded; unload it after the test."""
    found: Target = request.getfixturevalue(f"{request.param}_target")
    found.unload()
    yield found
    found.unload()


def lines(answer: httpx.Response) -> list[dict[str, Any]]:
    """Return the values of an NDJSON body."""
    return [json.loads(line) for line in answer.content.split(b"\n") if line]
