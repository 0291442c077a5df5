"""The life of a scripted server: its thread, its records, its queue of scripts."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time

import httpx
import pytest

import workbench.testing
from tests.testing.helpers import CHAT, PLAIN, get, lines, post, raw_request
from workbench.testing import RecordedRequest, Reply, ScriptedOllama


def text_of(response: httpx.Response) -> str:
    """Return the whole text of a streamed chat."""
    return "".join(line["message"]["content"] for line in lines(response))


def connect(server: ScriptedOllama) -> socket.socket:
    """Open a bare connection to the server."""
    return socket.create_connection(("127.0.0.1", server.port), timeout=10)


def test_public_names_exist() -> None:
    """Every public name can be read, the maker of model files too."""
    assert sorted(workbench.testing.__all__) == workbench.testing.__all__
    assert all(hasattr(workbench.testing, name) for name in workbench.testing.__all__)


def test_unknown_names_are_refused() -> None:
    """A name that is not there raises AttributeError."""
    with pytest.raises(AttributeError, match="nothing"):
        _ = workbench.testing.nothing


def test_requests_are_recorded() -> None:
    """A request is recorded with its headers, body and times."""
    with ScriptedOllama() as server:
        with httpx.Client(**PLAIN) as client:
            client.post(f"{server.url}/api/chat?a=1", json=CHAT, headers={"X-Run": "7"})
        request = server.wait_for_request()
        assert request.finished.wait(5)
    assert ("POST", "/api/chat", "a=1", "chat") == (
        request.method,
        request.path,
        request.query,
        request.operation,
    )
    assert ("7", CHAT, "llama3.2") == (request.headers["x-run"], request.json, request.model)
    assert request.first_byte_at is not None
    assert request.finished_at is not None
    assert request.received_at <= request.first_byte_at <= request.finished_at


def test_queued_replies_come_in_order() -> None:
    """Queued scripts answer the next requests, then the standing one does."""
    with ScriptedOllama(reply=Reply("last")) as server:
        server.enqueue(Reply("first"), Reply("second"))
        assert ["first", "second", "last", "last"] == [
            text_of(post(f"{server.url}/api/chat")) for _ in range(4)
        ]


def test_a_load_takes_no_queued_reply() -> None:
    """A preload leaves the queue of texts as it is."""
    with ScriptedOllama() as server:
        server.enqueue(Reply("mine"))
        post(f"{server.url}/api/generate", {"model": "llama3.2"})
        assert "mine" == text_of(post(f"{server.url}/api/chat"))


def test_a_reserved_reply_goes_to_who_asks_for_it() -> None:
    """A request with the header of a reserved reply gets it, once, and past the queue."""
    with ScriptedOllama(reply=Reply("standing")) as server:
        headers = {"Scripted-Reply": server.reserve(Reply("reserved"))}
        server.enqueue(Reply("queued"))
        with httpx.Client(**PLAIN) as client:
            said = [
                text_of(client.post(f"{server.url}/api/chat", json=CHAT, headers=headers))
                for _ in range(3)
            ]
    assert ["reserved", "queued", "standing"] == said


def test_a_reply_can_be_computed() -> None:
    """A function of the request can make the script."""

    def echo(request: RecordedRequest) -> Reply:
        return Reply(str(request.json["messages"][-1]["content"]).upper())

    with ScriptedOllama(reply=echo) as server:
        assert "SAY IT." == text_of(post(f"{server.url}/api/chat"))


def test_a_failing_reply_function_is_seen(caplog: pytest.LogCaptureFixture) -> None:
    """An error in such a function is a 500 with its text, and is logged."""

    def broken(request: RecordedRequest) -> Reply:
        raise KeyError("nowhere")

    with ScriptedOllama(reply=broken) as server, caplog.at_level(logging.ERROR):
        answer = post(f"{server.url}/api/chat")
    assert (500, {"error": "KeyError: 'nowhere'"}) == (answer.status_code, answer.json())
    assert "no answer to" in caplog.text


def test_waiting_for_a_request_has_an_end() -> None:
    """Waiting for a request that does not come raises TimeoutError."""
    with ScriptedOllama() as server, pytest.raises(TimeoutError, match="0 of 1"):
        server.wait_for_request(timeout_s=0.01)


@pytest.mark.parametrize("method", ["enqueue", "set_reply"])
def test_scripts_for_an_unknown_operation_are_refused(method: str) -> None:
    """A misspelt operation raises ValueError with the known ones, as its script never played."""
    with pytest.raises(ValueError, match=r"no operation 'pz'; there are .*, ps, "):
        getattr(ScriptedOllama(), method)(Reply(), to="pz")


def test_a_second_start_is_refused() -> None:
    """A server that listens already cannot be started again."""
    with ScriptedOllama() as server, pytest.raises(RuntimeError, match="already listening"):
        server.start()


def test_close_is_prompt_and_complete() -> None:
    """Closing ends stalled answers, the thread and the port within a moment."""
    before = threading.active_count()
    server = ScriptedOllama(reply=Reply("a", stall_after=0))
    server.start()
    with contextlib.closing(raw_request(server.url, "/api/chat")) as sock:
        request = server.wait_for_request()
        assert request.stalled.wait(10)
        began = time.monotonic()
        server.close()
        assert time.monotonic() - began < 2
        assert b"" == sock.recv(1)
    assert (before, True, False) == (
        threading.active_count(),
        request.finished.is_set(),
        request.disconnected.is_set(),
    )
    with pytest.raises(httpx.ConnectError):
        get(server.url)
    server.close()


def test_a_server_can_come_back() -> None:
    """A closed server starts again on its port, with nothing in memory."""
    server = ScriptedOllama()
    with server:
        post(f"{server.url}/api/chat")
        url, loaded = server.url, server.loaded
    with server:
        assert (url, {"llama3.2:latest"}, set()) == (server.url, loaded, server.loaded)
        assert 200 == get(f"{url}/api/ps").status_code


def test_a_taken_port_is_an_error() -> None:
    """Starting on a taken port raises OSError and leaves no thread."""
    before = threading.active_count()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = ScriptedOllama(port=taken.getsockname()[1])
        with pytest.raises(OSError, match="address already in use"):
            server.start()
    assert before == threading.active_count()


def test_a_forgotten_server_warns() -> None:
    """A server that nobody closed warns when it is collected, and closes itself."""
    before = threading.active_count()
    server = ScriptedOllama()
    server.start()
    get(server.url)
    with pytest.warns(ResourceWarning, match="was not closed"):
        del server
    assert before == threading.active_count()


def test_connections_are_kept() -> None:
    """One connection carries many requests, chunked bodies too."""
    with ScriptedOllama(reply=Reply("a")) as server, httpx.Client(**PLAIN) as client:
        client.get(f"{server.url}/api/version")
        parts = iter([b'{"model": "llama3.2", ', b'"messages": [{"content": "?"}]}'])
        answer = client.post(f"{server.url}/api/chat", content=parts)
        assert "a" == text_of(answer)
        stream = answer.extensions["network_stream"]
        assert client.get(server.url).extensions["network_stream"] is stream


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"x" * 70_000,
    ],
)
def test_what_is_not_http_is_refused(sent: bytes) -> None:
    """Bytes that are not HTTP/1.1 get a 400 and a closed connection."""
    with ScriptedOllama() as server, connect(server) as sock:
        sock.sendall(sent)
        assert sock.recv(65536).startswith(b"HTTP/1.1 400 Bad Request\r\n")


def test_expect_continue() -> None:
    """A client that waits for permission to send its body gets it."""
    head = b"POST /api/show HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 20\r\n\r\n"
    with ScriptedOllama() as server, connect(server) as sock:
        sock.sendall(head)
        assert b"HTTP/1.1 100 Continue\r\n\r\n" == sock.recv(65536)
        sock.sendall(b'{"model":"llama3.2"}')
        assert sock.recv(65536).startswith(b"HTTP/1.1 200 OK\r\n")


def test_half_a_request_leaves_no_record() -> None:
    """A client that leaves before its request is complete is not recorded."""
    with ScriptedOllama() as server:
        with connect(server) as sock:
            sock.sendall(b"POST /api/chat HTTP/1.1\r\nContent-Length: 9\r\n\r\n{")
        get(server.url)
        assert ["root"] == [item.operation for item in server.requests]


def test_many_clients_at_once() -> None:
    """Requests are answered side by side."""
    with ScriptedOllama(reply=Reply("a b c", stall_after=1)) as server:
        threads = [
            threading.Thread(target=post, args=(f"{server.url}/api/chat",)) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for request in [server.wait_for_request(n) for n in range(1, 9)]:
            assert request.stalled.wait(10)
        server.release()
        for thread in threads:
            thread.join()
        assert [3] * 8 == [item.pieces_sent for item in server.requests]


def test_twenty_thousand_tokens_are_fast() -> None:
    """A bench's 20,000 tokens, one chunk each, take seconds even on a busy machine."""
    count = 0
    with ScriptedOllama(reply=Reply(["token "] * 20_000)) as server:
        began = time.monotonic()
        with (
            httpx.Client(**PLAIN, timeout=60) as client,
            client.stream("POST", f"{server.url}/api/chat", json=CHAT) as answer,
        ):
            for data in answer.iter_raw():
                count += data.count(b"\n")
        took = time.monotonic() - began
    assert 20_001 == count
    assert took < 20
