"""What is done with models over HTTP: rows, wishes, leases, getting, removing, places, events."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect as connect_socket

from tests.server.harness import ServerProcess, lines_of
from tests.test_runtime import until
from workbench.testing import FakeModel, Reply, ScriptedOllama

V1 = "/workbench/v1"


@pytest.fixture
def hosts() -> Iterator[tuple[ScriptedOllama, ScriptedOllama]]:
    """Yield two scripted Ollamas that share a model, and differ in another of one name."""
    shared = FakeModel("shared", digest="5" * 64)
    near = ScriptedOllama(
        models=[shared, FakeModel("other", digest="1" * 64), FakeModel("near")],
        pullable=[FakeModel("new", size_bytes=1000)],
    )
    far = ScriptedOllama(models=[shared, FakeModel("other", digest="2" * 64)])
    with near, far:
        yield near, far


@pytest.fixture
def server(
    hosts: tuple[ScriptedOllama, ScriptedOllama], tmp_path: Path, random_gguf: Path
) -> Iterator[ServerProcess]:
    """Yield a server over both, over one that is not there, and the embedded engine."""
    near, far = hosts
    data = tmp_path / "data"
    (data / "models").mkdir(parents=True)
    (data / "models" / "rand.gguf").symlink_to(random_gguf)
    entries = [("near", near.url), ("far", far.url), ("gone", "http://127.0.0.1:9")]
    text = "".join(
        f'[[backend]]\nname = "{name}"\nkind = "ollama"\nurl = "{url}"\n' for name, url in entries
    )
    (data / "workbench.toml").write_text(text)
    with ServerProcess(data) as running:
        yield running


def rows(server: ServerProcess) -> dict[str, dict[str, Any]]:
    """Return the models by full name."""
    found = server.http.get(f"{V1}/models").json()["models"]
    return {f"{row['name'].removesuffix(':latest')}@{row['backend']}": row for row in found}


def post(server: ServerProcess, to: str, **body: Any) -> httpx.Response:
    """Send a request of ours."""
    return server.http.post(f"{V1}/{to}", json=body)


def test_rows_tell_state_place_and_wishes(server: ServerProcess) -> None:
    """A model that is not loaded has a whole row; what nobody knows is null."""
    row = rows(server)["near@near"]
    assert ("absent", False, None, 5, False, False, 0) == tuple(
        row[name] for name in ("state", "stale", "owner", "priority", "pinned", "hot", "in_flight")
    )
    assert (None, None, False, True) == tuple(
        row[name] for name in ("keep_alive_s", "vram_bytes", "forever", "routed")
    )
    assert {"verdict", "needed_bytes", "free_bytes", "budget_bytes", "reason", "source"} == set(
        row["fit"]
    )
    post(server, "load", model="near", keep_alive=-1).raise_for_status()
    row = rows(server)["near@near"]
    assert ("idle", "ours", True) == (row["state"], row["owner"], row["forever"])
    (loaded,) = server.http.get(f"{V1}/models/loaded").json()["models"]
    assert ("near:latest", "ours", False, {}, []) == tuple(
        loaded[name] for name in ("name", "owner", "stale", "profile", "warnings")
    )


def test_host_that_is_down_is_named_and_slows_nobody(server: ServerProcess) -> None:
    """It is listed with its error; models of the others are there."""
    answer = server.http.get(f"{V1}/models").json()
    (error,) = answer["errors"]
    assert ("gone", "ConnectionFailed") == (error["backend"], error["type"])
    assert "near@near" in rows(server)


def test_bare_name_goes_where_the_model_is_loaded(
    server: ServerProcess, hosts: tuple[ScriptedOllama, ScriptedOllama]
) -> None:
    """Of two places of one digest the first is taken, until it is loaded at the other."""
    near, far = hosts
    before = rows(server)
    assert (True, False) == (before["shared@near"]["routed"], before["shared@far"]["routed"])
    post(server, "load", model="shared@far").raise_for_status()
    after = rows(server)
    assert (False, True) == (after["shared@near"]["routed"], after["shared@far"]["routed"])
    assert "loaded" in after["shared@far"]["route_reason"]
    server.http.post("/api/generate", json={"model": "shared", "prompt": "hi"}).raise_for_status()
    asked = [sum(item.operation == "generate" for item in host.requests) for host in (near, far)]
    assert [0, 1] == asked


def test_bare_name_of_two_models_is_refused(server: ServerProcess) -> None:
    """Different digests under one name are 409 with the full names; the list says so too."""
    answer = post(server, "load", model="other")
    assert (409, ["near", "far"]) == (answer.status_code, answer.json()["backends"])
    row = rows(server)["other@near"]
    assert (False, True) == (row["routed"], "different model" in row["route_reason"])


def test_wishes_are_kept_and_told(server: ServerProcess) -> None:
    """Priority, pin and times are changed one by one, survive a restart, and are taken back."""
    body = {"model": "near", "priority": 9, "hot": False, "keep_alive": "10m", "max_idle": 60}
    row = server.http.patch(f"{V1}/models", json=body).json()
    assert (9, 600.0, 60.0) == (row["priority"], row["keep_alive_s"], row["max_idle_s"])
    assert post(server, "pin", model="near").json()["pinned"]
    server.stop()
    server.start()
    row = rows(server)["near@near"]
    assert (9, True, 600.0) == (row["priority"], row["pinned"], row["keep_alive_s"])
    assert not post(server, "unpin", model="near").json()["pinned"]
    row = server.http.patch(f"{V1}/models", json={"model": "near", "keep_alive": None}).json()
    assert (9, None) == (row["priority"], row["keep_alive_s"])
    bad = server.http.patch(f"{V1}/models", json={"model": "near", "priority": 10})
    assert 400 == bad.status_code


def test_priority_reaches_the_host_as_keep_alive(
    server: ServerProcess, hosts: tuple[ScriptedOllama, ScriptedOllama]
) -> None:
    """What Ollama would evict by itself follows our order; a pin ends after us, but it ends."""
    near, _ = hosts
    for model, wish in (("near", {"priority": 9}), ("shared@near", {"pinned": True})):
        server.http.patch(f"{V1}/models", json={"model": model, **wish}).raise_for_status()
        post(server, "load", model=model).raise_for_status()
    sent = [item.json.get("keep_alive") for item in near.requests if item.operation == "load"]
    assert ["420.000s", "7200.000s"] == sent


def test_hot_model_is_loaded_at_the_start(
    server: ServerProcess, hosts: tuple[ScriptedOllama, ScriptedOllama]
) -> None:
    """A server that starts brings hot models into memory without being asked for them."""
    near, _ = hosts
    server.http.patch(f"{V1}/models", json={"model": "near", "hot": True}).raise_for_status()
    server.stop()
    until(lambda: not near.loaded, timeout_s=30)
    server.start()
    until(lambda: "near:latest" in near.loaded, timeout_s=30)


def test_lease_is_held_renewed_and_ends(server: ServerProcess) -> None:
    """A lease shows on its model, lasts by heartbeats, and ends by release or by itself."""
    lease = post(server, "leases", models=["near"], ttl_s=60, holder="a run").json()
    assert (["near:latest@near"], "a run") == (lease["models"], lease["holder"])
    assert rows(server)["near@near"]["leased"]
    renewed = post(server, f"leases/{lease['id']}", ttl_s=90).json()
    assert 90 == renewed["ttl_s"]
    assert [lease["id"]] == [row["id"] for row in server.http.get(f"{V1}/leases").json()["leases"]]
    assert 200 == server.http.delete(f"{V1}/leases/{lease['id']}").status_code
    assert 404 == server.http.delete(f"{V1}/leases/{lease['id']}").status_code
    assert 404 == post(server, f"leases/{lease['id']}").status_code
    short = post(server, "leases", models=["near"], ttl_s=0.2).json()
    until(lambda: not server.http.get(f"{V1}/leases").json()["leases"], timeout_s=30)
    assert short["id"] in server.log()
    assert 400 == post(server, "leases", models=[], ttl_s=1).status_code


def test_pull_tells_progress_and_makes_the_model_known(server: ServerProcess) -> None:
    """Bytes, speed and time left come line by line; afterwards the model is there."""
    answer = post(server, "pull", model="new@near")
    lines = lines_of(answer)
    assert "success" == lines[-1]["status"]
    sized = [line for line in lines if line.get("total_bytes")]
    assert sized and sized[-1]["total_bytes"] == sized[-1]["completed_bytes"]
    assert {"speed_bytes_per_s", "eta_s"} <= set(sized[-1])
    assert "new@near" in rows(server)
    missing = lines_of(post(server, "pull", model="nowhere@near"))
    assert "error" in missing[-1]
    assert 501 == post(server, "pull", model="x@embedded").status_code


def test_removed_model_is_unloaded_first(
    server: ServerProcess, hosts: tuple[ScriptedOllama, ScriptedOllama]
) -> None:
    """Deleting says how the unload went and what came free; the files go after that."""
    near, _ = hosts
    post(server, "load", model="near").raise_for_status()
    answer = server.http.request("DELETE", f"{V1}/models", json={"model": "near"}).json()
    assert ("near:latest", "near", True) == (
        answer["model"],
        answer["backend"],
        answer["freed_bytes"] > 0,
    )
    assert answer["unload"]["verdict"] in ("verified", "gone_unverified")
    order = [item.operation for item in near.requests if item.operation in ("unload", "delete")]
    assert ["unload", "delete"] == order
    assert "near@near" not in rows(server)


def test_file_is_taken_in_by_its_path(
    server: ServerProcess, tmp_path: Path, random_gguf: Path
) -> None:
    """A GGUF elsewhere gets a name and runs; what is no file, or no model, is refused."""
    elsewhere = tmp_path / "elsewhere.gguf"
    elsewhere.write_bytes(random_gguf.read_bytes())
    row = post(server, "models/add", path=str(elsewhere), name="mine").json()
    assert ("mine:latest", "embedded") == (row["name"], row["backend"])
    said = server.http.post("/api/generate", json={"model": "mine", "prompt": "a", "stream": False})
    assert 200 == said.status_code
    assert 404 == post(server, "models/add", path=str(tmp_path / "none.gguf")).status_code
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(b"no model")
    assert 400 == post(server, "models/add", path=str(bad)).status_code


def test_unload_of_something_absent_says_so(server: ServerProcess) -> None:
    """It is no error; the verdict tells."""
    answer = post(server, "unload", model="near").json()
    assert ("near:latest", "absent", None, 0) == (
        answer["model"],
        answer["verdict"],
        answer["bytes_before"],
        answer["waited_for"],
    )


def test_forced_unload_ends_a_stream_with_an_error_line(
    server: ServerProcess, hosts: tuple[ScriptedOllama, ScriptedOllama]
) -> None:
    """The answer that runs ends with the reason after its text, and the model leaves."""
    near, _ = hosts
    near.set_reply(Reply("one two three", stall_after=2))
    body = {"model": "near", "messages": [{"role": "user", "content": "hi"}]}
    with server.http.stream("POST", "/api/chat", json=body) as answer:
        chunks = answer.iter_raw()
        text = next(chunks)
        while b"two" not in text:
            text += next(chunks)
        report = post(server, "unload", model="near", force=True).json()
        text += b"".join(chunks)
    last = json.loads(text.strip().split(b"\n")[-1])
    assert ("gone_unverified", 1) == (report["verdict"], report["waited_for"])
    assert "unloaded by force" in last["error"]


def test_embedded_unload_is_verified_by_its_process(server: ServerProcess) -> None:
    """The process of an embedded model is gone, and its memory with it."""
    post(server, "load", model="rand").raise_for_status()
    report = post(server, "unload", model="rand").json()
    assert ("verified", 0) == (report["verdict"], report["bytes_after"])
    assert report["bytes_before"] > 1_000_000


def test_events_come_over_a_socket_too(server: ServerProcess) -> None:
    """The same objects as over HTTP, from now on when asked so, with actor and reason."""
    url = server.url.replace("http", "ws") + f"{V1}/events?recent=0"
    headers = {"Authorization": f"Bearer {server.token}"}
    with connect_socket(url, additional_headers=headers) as socket:
        server.http.post(
            f"{V1}/load", json={"model": "near"}, headers={"User-Agent": "tester"}
        ).raise_for_status()
        seen: dict[str, dict[str, Any]] = {}
        while "loaded" not in seen:
            event = json.loads(socket.recv(timeout=30))
            seen[event["event"]] = event
    assert {"loading", "state", "loaded"} <= set(seen)
    assert ("near:latest", "near", "tester") == tuple(
        seen["loaded"][name] for name in ("model", "backend", "actor")
    )
