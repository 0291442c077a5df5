"""Proxy variables: prompts and tokens never travel to a proxy."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import workbench
from tests.server.harness import ServerProcess
from workbench.testing import Reply, ScriptedOllama


class Listener:
    """A socket that accepts connections, notes them, and closes them."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._accept)
        self.seen: list[bytes] = []
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def _accept(self) -> None:
        while True:
            connection, _ = self._socket.accept()
            with connection:
                connection.settimeout(5)
                self.seen.append(connection.recv(1000))
            if self.seen[-1] == b"enough":
                return

    def __enter__(self) -> Listener:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        port = int(self.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as last:
            last.sendall(b"enough")
        self._thread.join(timeout=10)
        self._socket.close()


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Listener]:
    """Yield a listener that every proxy variable of this process and its children names."""
    with Listener() as listener:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, listener.url)
            monkeypatch.setenv(name.lower(), listener.url)
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        yield listener


def test_proxy_sees_nothing(proxy: Listener, random_gguf: Path, tmp_path: Path) -> None:
    """With proxies in all variables our client, the server and both backends connect directly."""
    models = tmp_path / "models"
    models.mkdir()
    (models / "rand.gguf").symlink_to(random_gguf)
    with (
        ScriptedOllama(models=["llama3.2"], reply=Reply(text="Direct.")) as upstream,
        ServerProcess(tmp_path, env={"OLLAMA_HOST": upstream.url}) as server,
        workbench.connect(server.url, token=server.token) as wb,
    ):
        relayed = wb.generate("hi", model="llama3.2")
        embedded = wb.generate("hi", model="rand", num_predict=4)
        names = {model["name"] for model in server.http.get("/api/tags").json()["models"]}
    assert ("Direct.", 4) == (relayed.text, embedded.usage.output_tokens)
    assert {"rand:latest", "llama3.2:latest"} <= names
    assert [] == proxy.seen


def test_listener_would_have_seen_it(proxy: Listener, server: ServerProcess) -> None:
    """The same listener does see a client that follows the variables, as httpx does by default."""
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.get(f"{server.url}/api/version")
    assert b"GET http://127.0.0.1" in proxy.seen[0]
