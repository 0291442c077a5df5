"""Settings of a running server: seen with their sources, changed at once, remembered."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.server.harness import ServerProcess
from tests.test_runtime import until
from workbench.testing import FakeModel, Reply, ScriptedOllama


@pytest.fixture
def host() -> Iterator[ScriptedOllama]:
    """Yield a scripted Ollama with two models."""
    with ScriptedOllama(models=[FakeModel("a"), FakeModel("b")]) as scripted:
        yield scripted


@pytest.fixture
def server(host: ScriptedOllama, tmp_path: Path) -> Iterator[ServerProcess]:
    """Yield a server over it."""
    with ServerProcess(tmp_path / "data", env={"OLLAMA_HOST": host.url}) as running:
        yield running


def rows(server: ServerProcess) -> dict[str, dict[str, Any]]:
    """Return the settings by name."""
    found = server.http.get("/workbench/v1/settings").json()["settings"]
    return {row["name"]: row for row in found}


def change(server: ServerProcess, **changes: Any) -> httpx.Response:
    """Change settings; `__` stands for the dot."""
    body = {name.replace("__", "."): value for name, value in changes.items()}
    return server.http.patch("/workbench/v1/settings", json=body)


def test_settings_say_what_they_are(server: ServerProcess) -> None:
    """Each has value, default, source, kind and help; the token is never shown."""
    found = rows(server)
    row = found["queue.interactive_wait_s"]
    assert (5.0, 5.0, "default", True, "seconds") == (
        row["value"],
        row["default"],
        row["source"],
        row["changeable"],
        row["kind"],
    )
    swap = found["swap.ollama"]
    assert ("auto", ["auto", "manual", "server"]) == (swap["value"], swap["choices"])
    kinds = {row["kind"] for row in found.values()}
    assert kinds <= {"str", "int", "seconds", "bool", "choice", "list", "path"}
    assert server.token not in str(found)


def test_change_is_applied_told_and_remembered(server: ServerProcess) -> None:
    """A change holds at once and after a restart, until null takes it back."""
    assert 200 == change(server, swap__ollama="manual", engine__keep_alive_s="10m").status_code
    server.stop()
    server.start()
    found = rows(server)
    assert [("manual", "state"), (600.0, "state")] == [
        (found[name]["value"], found[name]["source"])
        for name in ("swap.ollama", "engine.keep_alive_s")
    ]
    assert 200 == change(server, swap__ollama=None).status_code
    assert ("auto", "default") == (
        rows(server)["swap.ollama"]["value"],
        rows(server)["swap.ollama"]["source"],
    )


@pytest.mark.parametrize(
    ("changes", "status", "problem"),
    [
        ({"swap.olama": "auto"}, 404, "swap.ollama"),
        ({"swap.ollama": "never"}, 400, "one of"),
        ({"queue.concurrency": "many"}, 400, "whole number"),
        ({"server.port": 5}, 409, "restart"),
    ],
)
def test_change_that_cannot_be_is_refused_whole(
    changes: dict[str, Any], status: int, problem: str, server: ServerProcess
) -> None:
    """Unknown names, wrong values and fixed settings are named; nothing else is changed then."""
    body = {"gpu.warn_pct": 50, **changes}
    answer = server.http.patch("/workbench/v1/settings", json=body)
    told = answer.json()
    assert (status, True) == (answer.status_code, problem in told["error"] + str(told["hint"]))
    assert 10 == rows(server)["gpu.warn_pct"]["value"]


def test_open_api_follows_its_setting_at_once(server: ServerProcess) -> None:
    """Clients without a token are let in and out again without a restart."""
    found = []
    for value in (True, False):
        change(server, server__open_ollama_api=value)
        found.append(httpx.get(f"{server.url}/api/tags", trust_env=False).status_code)
    assert [200, 401] == found


def _ask(server: ServerProcess, model: str, **headers: str) -> threading.Thread:
    def work() -> None:
        body = {"model": model, "prompt": "hi", "stream": False}
        server.http.post("/api/generate", json=body, headers=headers)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def _generating(host: ScriptedOllama) -> int:
    return sum(item.operation == "generate" for item in host.requests)


def test_concurrency_is_a_limit_per_model(host: ScriptedOllama, server: ServerProcess) -> None:
    """More requests than `queue.concurrency` wait here, and are seen in the queue."""
    change(server, queue__concurrency=1)
    host.set_reply(Reply("one", stall_after=0, headers_first=True))
    threads = [_ask(server, "a") for _ in range(3)]
    queue: dict[str, Any] = {}

    def waiting() -> bool:
        queue.update(server.http.get("/workbench/v1/queue").json())
        return [(1, 2)] == [(lane["running"], lane["waiting"]) for lane in queue["lanes"]]

    until(waiting, timeout_s=30)
    until(lambda: _generating(host) == 1, timeout_s=30)
    (lane,) = queue["lanes"]
    assert ("ollama", "a:latest", "serving", 2) == (
        lane["backend"],
        lane["model"],
        lane["state"],
        lane["interactive"],
    )
    assert [{"backend": "ollama", "model": "a:latest", "requests": 2, "swap": False}] == (
        queue["order"]
    )
    host.set_reply(Reply("one"))
    host.release()
    for thread in threads:
        thread.join(30)
    assert [] == server.http.get("/workbench/v1/queue").json()["lanes"]


def test_waits_are_bounds_of_their_class(server: ServerProcess) -> None:
    """Both waits are what the queue promises, at once after a change."""
    change(server, queue__interactive_wait_s=2, queue__batch_wait_s=9)
    bounds = server.http.get("/workbench/v1/queue").json()["wait_bound_s"]
    assert {"interactive": 2.0, "batch": 9.0} == bounds


def test_deadline_of_a_waiting_request_is_kept(host: ScriptedOllama, server: ServerProcess) -> None:
    """Who has no turn by its deadline gets a 503 that says when to come again."""
    change(server, queue__concurrency=1)
    host.set_reply(Reply("one", stall_after=0, headers_first=True))
    thread = _ask(server, "a")
    until(lambda: _generating(host) == 1, timeout_s=30)
    started = time.monotonic()
    answer = server.http.post(
        "/api/generate",
        json={"model": "a", "prompt": "hi"},
        headers={"Workbench-Deadline": "0.2"},
    )
    assert (503, "QueueTimeout") == (answer.status_code, answer.json()["type"])
    assert int(answer.headers["retry-after"]) >= 1
    assert time.monotonic() - started >= 0.2
    host.release()
    thread.join(30)
    refused = server.http.post(
        "/api/generate", json={"model": "a", "prompt": "hi"}, headers={"Workbench-Deadline": "soon"}
    )
    assert 400 == refused.status_code


def test_interactive_requests_go_before_batch(host: ScriptedOllama, server: ServerProcess) -> None:
    """On one model a person's request overtakes those that nobody waits for."""
    change(server, queue__concurrency=1)
    host.set_reply(Reply("one", stall_after=0, headers_first=True))
    threads = [_ask(server, "a")]
    until(lambda: _generating(host) == 1, timeout_s=30)
    batch = {"Workbench-Priority": "batch"}
    threads += [_ask(server, "a", **batch) for _ in range(2)]

    def waiting(kind: str, count: int) -> bool:
        lanes = server.http.get("/workbench/v1/queue").json()["lanes"]
        return [count] == [lane[kind] for lane in lanes]

    until(lambda: waiting("batch", 2), timeout_s=30)
    threads.append(_ask(server, "a", **{"User-Agent": "person"}))
    until(lambda: waiting("interactive", 1), timeout_s=30)
    host.release()
    until(lambda: _generating(host) == 2, timeout_s=30)
    assert not waiting("interactive", 1) and waiting("batch", 2)
    host.set_reply(Reply("one"))
    host.release()
    for thread in threads:
        thread.join(30)


def test_host_whose_queue_is_full_is_asked_again(
    host: ScriptedOllama, server: ServerProcess
) -> None:
    """Ollama's 503 is no answer yet: the request is sent again a little later."""
    text = "server busy, please try again.  maximum pending requests exceeded"
    host.enqueue(*[Reply(error_first=(503, text))] * 2, to="generate")
    answer = server.http.post("/api/generate", json={"model": "a", "prompt": "x", "stream": False})
    assert (200, 3) == (answer.status_code, _generating(host))
