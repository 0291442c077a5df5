"""The foreign client: another user of the same scripted Ollama."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.testing.helpers import post
from workbench.testing import FakeModel, ForeignClient, Reply, ScriptedOllama

GB = 10**9


@pytest.fixture
def server() -> Iterator[ScriptedOllama]:
    models = [FakeModel(name, size_bytes=3 * GB) for name in ("a", "b", "c")]
    with ScriptedOllama(models=models, memory_bytes=8 * GB) as found:
        yield found


@pytest.fixture
def foreign(server: ScriptedOllama) -> Iterator[ForeignClient]:
    with ForeignClient(server) as found:
        yield found


def load(server: ScriptedOllama, model: str, **more: object) -> None:
    """Load by our own hand."""
    post(f"{server.url}/api/generate", {"model": model, **more})


def test_foreign_loads_and_unloads(server: ScriptedOllama, foreign: ForeignClient) -> None:
    """It loads with its own keep_alive and options, and unloads."""
    assert "load" == foreign.load("a", keep_alive=-1, num_ctx=512)["done_reason"]
    request = server.wait_for_request(to="load")
    assert ({"num_ctx": 512}, -1, "foreign-client") == (
        request.json["options"],
        request.json["keep_alive"],
        request.headers["user-agent"],
    )
    assert "unload" == foreign.unload("a")["done_reason"]
    assert set() == server.loaded


def test_foreign_evicts(server: ScriptedOllama, foreign: ForeignClient) -> None:
    """A model that it loads pushes out one of ours."""
    load(server, "a")
    load(server, "b", keep_alive=-1)
    foreign.load("c")
    assert ({"b:latest", "c:latest"}, 1) == (server.loaded, server.evictions)


def test_foreign_keeps_a_model_busy(server: ScriptedOllama, foreign: ForeignClient) -> None:
    """A model that it keeps busy drains when it is to be unloaded, until it stops."""
    server.enqueue(Reply("ours"))
    with foreign.keep_busy("a"):
        load(server, "a", keep_alive=0)
        assert {"a:latest"} == server.loaded
        body = {"model": "a", "prompt": "?", "stream": False}
        assert "ours" == post(f"{server.url}/api/generate", body).json()["response"]
    server.wait_until_unloaded("a")


def test_foreign_brings_back_what_was_unloaded(
    server: ScriptedOllama, foreign: ForeignClient
) -> None:
    """It loads a model again as often as it was told to, and then no more."""
    load(server, "a")
    foreign.resurrect("a", times=2)
    for n in (2, 3):
        load(server, "a", keep_alive=0)
        server.wait_for_event("loaded", "a", n=n)
    load(server, "a", keep_alive=0)
    foreign.close()
    assert (["a:latest"] * 2, [], set()) == (foreign.resurrected, foreign.errors, server.loaded)


def test_foreign_holds_a_model_that_drains(server: ScriptedOllama, foreign: ForeignClient) -> None:
    """A touch while the model drains keeps it, so that it never leaves."""
    foreign.resurrect("a", after="draining")
    with foreign.keep_busy("a"):
        load(server, "a", keep_alive=0)
        assert "asked" == server.wait_for_event("resurrected", "a").reason
    assert ({"a:latest"}, 0) == (server.loaded, server.unloads)


def test_two_that_load_in_turn_evict_each_other() -> None:
    """Ping-pong: who brings its model back whenever it leaves meets one who loads another."""
    with (
        ScriptedOllama(models=["a", "b"], max_loaded=1) as server,
        ForeignClient(server) as foreign,
    ):
        foreign.load("a")
        foreign.resurrect("a", times=3)
        for n in range(1, 4):
            load(server, "b")
            server.wait_for_event("loaded", "a", n=n + 1)
        assert (6, {"a:latest"}) == (server.evictions, server.loaded)


def test_foreign_tells_what_failed(server: ScriptedOllama, foreign: ForeignClient) -> None:
    """What it could not bring back stands in its errors."""
    load(server, "a")
    server.enqueue(Reply(reset_first=True), to="load")
    foreign.resurrect("a", times=1)
    load(server, "a", keep_alive=0)
    server.wait_for_request(2, to="load")
    for thread in foreign._threads:
        thread.join()
    assert ([], 1) == (foreign.resurrected, len(foreign.errors))


def test_foreign_needs_a_scheduler() -> None:
    """A server without a scheduler has no memory to share."""
    with pytest.raises(RuntimeError, match="memory_bytes="):
        ForeignClient(ScriptedOllama())
