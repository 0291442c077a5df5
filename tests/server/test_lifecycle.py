"""From start to end: engines never outlive the server, and an idle one knows that it is idle."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from websockets.sync.client import connect

from tests.server.harness import ServerProcess, lines_of
from tests.test_runtime import until
from workbench.runtime import find_server

LONG = {"model": "rand", "prompt": "a", "options": {"num_predict": 100_000, "num_ctx": 512}}
SHORT = {"model": "rand", "prompt": "a", "options": {"num_predict": 3}}


@pytest.fixture
def lone(tmp_path: Path, random_gguf: Path) -> Iterator[Callable[..., ServerProcess]]:
    """Yield a function that starts a server with one model, ended after the test."""
    started: list[ServerProcess] = []

    def start(toml: str = "", **options: Any) -> ServerProcess:
        folder = tmp_path / f"data{len(started)}"
        (folder / "models").mkdir(parents=True)
        (folder / "models" / "rand.gguf").symlink_to(random_gguf)
        (folder / "workbench.toml").write_text(toml, encoding="utf-8")
        started.append(ServerProcess(folder, **options).start())
        return started[-1]

    yield start
    for server in started:
        server.stop()


def engines(server: ServerProcess) -> list[psutil.Process]:
    """Return the processes below a server."""
    return list(psutil.Process(server.process.pid).children(recursive=True))


def gone(processes: list[psutil.Process]) -> bool:
    """Whether all of them have ended."""
    return not psutil.wait_procs(processes, timeout=15)[1]


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP", "SIGKILL"])
def test_no_engine_outlives_the_server(name: str, lone: Callable[..., ServerProcess]) -> None:
    """However the server ends, also with a stream running, every engine process ends with it."""
    server = lone()
    with server.http.stream("POST", "/api/generate", json=LONG) as answer:
        arriving = answer.iter_raw()
        next(arriving)
        below = engines(server)
        assert below
        server.process.send_signal(getattr(signal, name))
        code = server.process.wait(30)
        assert gone(below)
    assert (-9 if name == "SIGKILL" else 0) == code
    assert find_server(server.data_dir) is None


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_second_interrupt_leaves_no_engine_either(lone: Callable[..., ServerProcess]) -> None:
    """Who presses Ctrl-C twice ends the server at once, and its engines too."""
    server = lone()
    with server.http.stream("POST", "/api/generate", json=LONG) as answer:
        arriving = answer.iter_raw()
        next(arriving)
        below = engines(server)
        server.process.send_signal(signal.SIGINT)
        until(lambda: "signal SIGINT" in server.log())
        server.process.send_signal(signal.SIGINT)
        server.process.wait(30)
        assert gone(below)


def test_shutdown_endpoint_ends_it(lone: Callable[..., ServerProcess]) -> None:
    """A client may end the server: it answers, ends with 0, and its record goes."""
    server = lone()
    server.http.post("/api/generate", json=SHORT)
    below = engines(server)
    answer = server.http.post("/workbench/v1/shutdown")
    assert ({"stopping": True}, 0) == (answer.json(), server.process.wait(30))
    assert gone(below)
    assert find_server(server.data_dir) is None


def test_idle_server_ends_but_not_while_it_is_needed(lone: Callable[..., ServerProcess]) -> None:
    """A stream and a listener keep an auto-started server; without them it ends by itself."""
    server = lone(flags={"server.idle_exit_s": 1.5}, auto=True)
    assert 1.5 == server.http.get("/workbench/v1/info").json()["idle_exit_s"]
    with server.http.stream("GET", "/workbench/v1/events") as following:
        lines = following.iter_lines()
        server.http.post("/api/generate", json=SHORT)
        next(lines)
        # More than twice its limit without a request: only the listener holds it.
        with pytest.raises(subprocess.TimeoutExpired):
            server.process.wait(4)
    below = engines(server)
    assert 0 == server.process.wait(30)
    assert gone(below)
    assert "idle_exit" in server.log()


def test_idle_server_waits_for_sockets(lone: Callable[..., ServerProcess]) -> None:
    """An open WebSocket keeps it, also one that says nothing."""
    server = lone(flags={"server.idle_exit_s": 1.5}, auto=True)
    url = server.url.replace("http://", "ws://") + "/workbench/v1/chat"
    headers = {"Authorization": f"Bearer {server.token}"}
    with (
        connect(url, additional_headers=headers, proxy=None),
        pytest.raises(subprocess.TimeoutExpired),
    ):
        server.process.wait(4)
    assert 0 == server.process.wait(30)


def test_server_that_a_person_started_stays(lone: Callable[..., ServerProcess]) -> None:
    """Idle exit is for servers that clients started, unless it was asked for by flag."""
    server = lone(env={"WORKBENCH_IDLE_EXIT": "0.1"})
    assert server.http.get("/workbench/v1/info").json()["idle_exit_s"] is None
    with pytest.raises(subprocess.TimeoutExpired):
        server.process.wait(1)
    asked = lone(flags={"server.idle_exit_s": 0.1})
    assert 0 == asked.process.wait(30)


def test_taken_port_is_replaced_only_when_it_is_the_default(
    lone: Callable[..., ServerProcess], tmp_path: Path
) -> None:
    """A port that was asked for and is taken is an error that names it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(AssertionError, match=f"cannot listen on 127.0.0.1:{port}"):
            ServerProcess(tmp_path / "a", flags={"server.port": port}).start()
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            held.bind(("127.0.0.1", 11500))
            held.listen()
        except OSError:
            # Somebody else holds it already, which does as well.
            pass
        server = lone(flags={"server.port": None})
        assert 11500 != httpx.URL(server.url).port


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """Yield a folder on a disk that is full."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("mounting a small disk needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_full_disk_does_not_stop_chats(full_disk: Path, random_gguf: Path) -> None:
    """With no byte left in the data folder a chat answers; only memories are lost."""
    (full_disk / "models").mkdir()
    (full_disk / "models" / "rand.gguf").symlink_to(random_gguf)
    server = ServerProcess(full_disk)
    server.log_path = random_gguf.parent / "full.log"
    with server:
        with (full_disk / "filler").open("wb", buffering=0) as filler:
            try:
                while True:
                    filler.write(b"x" * 1024)
            except OSError:
                assert 0 < filler.tell()
        answer = server.http.post("/api/generate", json=SHORT)
        assert 3 == lines_of(answer)[-1]["eval_count"]
        assert "state.json could not be written" in server.log()


def test_state_that_is_broken_is_put_aside(tmp_path: Path) -> None:
    """A state file that cannot be read is kept under another name, and the server starts."""
    (tmp_path / "state.json").write_text("{", encoding="utf-8")
    with ServerProcess(tmp_path) as server:
        assert 200 == server.http.get("/workbench/v1/info").status_code
    assert "{" == (tmp_path / "state.broken.json").read_text(encoding="utf-8")


def test_events_are_followed(lone: Callable[..., ServerProcess]) -> None:
    """A listener sees the load and the end of a request, with its context and no text of it."""
    server = lone()
    seen: list[dict[str, Any]] = []
    done = threading.Event()

    def follow() -> None:
        with httpx.stream(
            "GET",
            f"{server.url}/workbench/v1/events",
            headers={"Authorization": f"Bearer {server.token}"},
            trust_env=False,
            timeout=60,
        ) as answer:
            for line in answer.iter_lines():
                seen.append(json.loads(line))
                if seen[-1]["event"] == "request_ended":
                    done.set()
                    return

    listener = threading.Thread(target=follow)
    listener.start()
    body = {**SHORT, "prompt": "s3cret text"}
    headers = {"Workbench-Conversation": "c1", "Workbench-Turn": "t1", "Workbench-Preset": "p1"}
    server.http.post("/api/generate", json=body, headers=headers)
    assert done.wait(30)
    listener.join()
    names = [event["event"] for event in seen]
    assert [name for name in ("loading", "loaded", "request_ended") if name in names] == [
        "loading",
        "loaded",
        "request_ended",
    ]
    last = seen[-1]
    assert ("c1", "t1", "p1", "finished", 3) == (
        last["conversation"],
        last["turn"],
        last["preset"],
        last["reason"],
        last["output_tokens"],
    )
    assert "s3cret text" not in json.dumps(seen) + server.log()


def test_server_is_not_its_own_backend(tmp_path: Path) -> None:
    """OLLAMA_HOST may name this server for other programs; it does not ask itself."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = {"OLLAMA_HOST": f"localhost:{port}"}
    with ServerProcess(tmp_path / "self", flags={"server.port": port}, env=env) as server:
        backends = server.http.get("/workbench/v1/info").json()["backends"]
    assert ["embedded"] == [backend["name"] for backend in backends]
