"""Clients that send too much before their request, or stop in the middle of anything."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import islice

import httpx
import pytest
from websockets.sync.client import connect

from tests.server.harness import ServerProcess, lines_of
from workbench.testing import FakeModel, Reply, ScriptedOllama

MODEL = "llama3.2:latest"
SLOW_S = 1.0
HEAD_BYTES = 8192
TOML = f"[server]\nslow_client_s = {SLOW_S}\nmax_header_bytes = {HEAD_BYTES}\n"
TOML += "[queue]\nconcurrency = 1\n"


@pytest.fixture(scope="module")
def host() -> Iterator[ScriptedOllama]:
    """Yield one scripted Ollama for the tests of this module."""
    with ScriptedOllama(models=[FakeModel(MODEL)], reply=Reply("Hello.")) as scripted:
        yield scripted


@pytest.fixture(scope="module")
def server(
    host: ScriptedOllama, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    """Yield a server of little patience in front of it."""
    folder = tmp_path_factory.mktemp("slow")
    (folder / "workbench.toml").write_text(TOML)
    with ServerProcess(folder, env={"OLLAMA_HOST": host.url}) as running:
        yield running


def dial(server: ServerProcess, *, receive_bytes: int | None = None) -> socket.socket:
    """Open a bare connection, whose reads give up after a while."""
    url = httpx.URL(server.url)
    made = socket.socket()
    if receive_bytes is not None:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    made.settimeout(20)
    made.connect((url.host, url.port or 0))
    return made


def head(server: ServerProcess, path: str = "/api/chat", **headers: str) -> bytes:
    """Return the head of a request but for its last line."""
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Authorization: Bearer {server.token}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "".join(line + "\r\n" for line in lines).encode()


def read(connection: socket.socket) -> bytes:
    """Read to the end of the connection."""
    found = b""
    while piece := connection.recv(65536):
        found += piece
    return found


def refusal(answer: bytes) -> tuple[int, dict[str, object]]:
    """Return the status and the JSON of an answer that ends its connection."""
    start, _, body = answer.partition(b"\r\n\r\n")
    assert b"connection: close" in start
    return int(start.split()[1]), json.loads(body)


BIG_HEADS = {
    "one header": b"X: " + b"a" * 2 * HEAD_BYTES + b"\r\n",
    "one header without end": b"X: " + b"a" * 2 * HEAD_BYTES,
    "a name without end": b"a" * 2 * HEAD_BYTES,
    "many headers": b"".join(b"X%d: 1\r\n" % number for number in range(HEAD_BYTES // 8)),
    "two megabytes": b"X: " + b"a" * 2_000_000 + b"\r\n",
}


@pytest.mark.parametrize("name", BIG_HEADS)
def test_head_that_is_too_large_is_refused(name: str, server: ServerProcess) -> None:
    """Headers past the setting get a 431 that names it, however they come."""
    with closing(dial(server)) as connection:
        connection.sendall(head(server) + BIG_HEADS[name])
        status, body = refusal(read(connection))
    assert (431, 431) == (status, body["status"])
    assert f"{HEAD_BYTES} bytes" in str(body["error"])
    assert "server.max_header_bytes" in str(body["hint"])


def test_address_that_is_too_long_is_refused(server: ServerProcess) -> None:
    """The request line counts too."""
    answer = server.http.get("/api/version?" + "a" * HEAD_BYTES)
    assert 431 == answer.status_code


def test_head_within_the_limit_is_read(server: ServerProcess) -> None:
    """A little less than the setting passes, on one connection as often as one likes."""
    headers = {"X-Much": "a" * (HEAD_BYTES - 1000)}
    assert [200] * 3 == [
        server.http.get("/api/version", headers=headers).status_code for _ in range(3)
    ]


def test_head_that_comes_by_drops_is_refused(server: ServerProcess) -> None:
    """A header every now and then does not hold a connection: the head as a whole has a time."""
    started = time.monotonic()
    with closing(dial(server)) as connection:
        connection.sendall(head(server))
        connection.settimeout(0.1)
        answer = b""
        for number in range(200):
            connection.sendall(b"X%d: 1\r\n" % number)
            try:
                answer = connection.recv(65536)
            except TimeoutError:
                continue
            break
        status, body = refusal(answer)
    assert 408 == status
    assert "headers did not come within 1 s" in str(body["error"])
    assert "server.slow_client_s" in str(body["hint"])
    assert SLOW_S <= time.monotonic() - started < 5 * SLOW_S


@pytest.mark.parametrize(
    ("first", "sent"),
    [(b"", b""), (b"", b"\r\n"), (b"HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"\r\n")],
    ids=["nothing", "empty line", "empty line after another"],
)
def test_connection_without_a_request_is_closed(
    first: bytes, sent: bytes, server: ServerProcess
) -> None:
    """A connection on which no request comes ends without a word."""
    with closing(dial(server)) as connection:
        if first:
            connection.sendall(first)
            assert b" 200 " in connection.recv(65536)
        connection.sendall(sent)
        assert b"" == read(connection)


@pytest.mark.parametrize("pieces", [0, 200], ids=["stops", "drips"])
def test_body_that_does_not_come_is_refused(pieces: int, server: ServerProcess) -> None:
    """A body that stops, or drips, gets a 408, and nothing of it reaches a model."""
    with closing(dial(server)) as connection:
        connection.sendall(head(server, Content_Length="100000") + b"\r\n{")
        connection.settimeout(0.1 if pieces else 20)
        answer = b"" if pieces else read(connection)
        for _ in range(pieces):
            connection.sendall(b" ")
            try:
                answer = connection.recv(65536)
            except TimeoutError:
                continue
            break
    status, body = refusal(answer)
    assert (408, True) == (status, "body did not come" in str(body["error"]))


def test_body_nobody_waits_for_ends_its_connection(server: ServerProcess) -> None:
    """Who is refused before the body and never sends it does not keep the connection."""
    with closing(dial(server)) as connection:
        connection.sendall(
            b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{"
        )
        answer = read(connection)
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert 1 == answer.count(b"HTTP/1.1")


def test_upload_that_goes_on_is_not_cut(server: ServerProcess) -> None:
    """A body that takes longer than the setting passes while it comes on."""

    def pieces() -> Iterator[bytes]:
        yield b'{"model": "' + MODEL.encode() + b'"'
        for _ in range(15):
            time.sleep(SLOW_S / 5)
            yield b" " * 1024
        yield b"}"

    assert 200 == server.http.post("/api/show", content=pieces()).status_code


def test_answer_with_a_long_pause_is_not_cut(host: ScriptedOllama, server: ServerProcess) -> None:
    """A model that says nothing for long, before its first token or between two, is waited for."""
    pause = 3 * SLOW_S
    host.enqueue(Reply("one two three", first_token_s=pause, stall_after=2, stall_s=pause))
    answer = server.http.post("/api/generate", json={"model": MODEL, "prompt": "x"})
    assert "one two three" == "".join(row.get("response", "") for row in lines_of(answer))


def test_request_behind_a_running_answer_does_not_cut_it(
    host: ScriptedOllama, server: ServerProcess
) -> None:
    """Half a request sent after a whole one is not timed while that one is being answered."""
    host.enqueue(Reply("one two three", first_token_s=3 * SLOW_S))
    body = json.dumps({"model": MODEL, "prompt": "x"}).encode()
    whole = head(server, "/api/generate", Content_Length=str(len(body))) + b"\r\n" + body
    with closing(dial(server)) as connection:
        connection.sendall(whole + b"GET / HT")
        answer = read(connection)
    first, _, second = answer.partition(b"0\r\n\r\n")
    assert b'"done":true' in first
    assert 408 == refusal(second)[0]


def test_silent_socket_is_not_cut(server: ServerProcess) -> None:
    """A WebSocket that says nothing for longer than the setting stays open."""
    url = server.url.replace("http://", "ws://") + "/workbench/v1/chat"
    headers = {"Authorization": f"Bearer {server.token}"}
    with connect(url, additional_headers=headers, proxy=None) as opened:
        with pytest.raises(TimeoutError):
            opened.recv(timeout=3 * SLOW_S)
        assert opened.ping().wait(10)


def test_who_does_not_read_its_answer_gives_the_turn_back(
    host: ScriptedOllama, server: ServerProcess
) -> None:
    """A client that stops reading holds the only turn on the model no longer than the setting."""
    endless = Reply([" word" * 2000] * 20_000)
    host.enqueue(endless, Reply("Mine."))
    body = json.dumps({"model": MODEL, "prompt": "stalled"}).encode()
    whole = head(server, "/api/generate", Content_Length=str(len(body))) + b"\r\n" + body
    with closing(dial(server, receive_bytes=4096)) as connection:
        connection.sendall(whole)
        assert b" 200 " in connection.recv(100)
        answer = server.http.post(
            "/api/generate", json={"model": MODEL, "prompt": "x", "stream": False}
        )
        assert "Mine." == answer.json()["response"]
    stalled = next(
        request for request in host.requests if (request.json or {}).get("prompt") == "stalled"
    )
    assert stalled.disconnected.wait(10)


def test_slow_reader_that_reads_on_gets_all(host: ScriptedOllama, server: ServerProcess) -> None:
    """A client that reads by small pieces, slower than the model writes, gets the whole answer."""
    host.enqueue(Reply([" word" * 2000] * 1000))
    read_on = {"model": MODEL, "prompt": "x"}
    size = 0
    with server.http.stream("POST", "/api/generate", json=read_on) as answer:
        for piece in islice(answer.iter_raw(65536), 1000):
            size += len(piece)
            if size < 3_000_000:
                time.sleep(SLOW_S / 10)
    assert piece.endswith(b"\n")
    assert size > 10_000_000


def test_hundred_stalled_clients_do_not_keep_others_out(server: ServerProcess) -> None:
    """With many half requests open the server answers, and in the end all of them are gone."""
    stalled = [dial(server) for _ in range(100)]
    try:
        for connection in stalled:
            connection.sendall(b"GET /api/tags HTTP/1.1\r\nHost: lo")
        assert 200 == server.http.get("/api/version").status_code
        assert {408} == {refusal(read(connection))[0] for connection in stalled}
    finally:
        for connection in stalled:
            connection.close()
