"""Every fault of a script is seen by the client, and by the record of the request."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator

import httpx
import ollama
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.testing.helpers import (
    CHAT,
    PLAIN,
    get,
    http_chunks,
    kill,
    lines,
    post,
    raw_request,
    read_all,
    read_until_reset,
)
from workbench.testing import Reply, ScriptedOllama, ScriptedOpenAI


@pytest.fixture(scope="module")
def server() -> Iterator[ScriptedOllama]:
    with ScriptedOllama() as found:
        yield found


def chat(server: ScriptedOllama, reply: Reply, *, stream: bool = True) -> httpx.Response:
    """Ask once, answered by the given script."""
    server.enqueue(reply)
    return post(f"{server.url}/api/chat", CHAT | {"stream": stream})


def test_truncation_at_every_byte(server: ScriptedOllama) -> None:
    """A stream cut at any byte has exactly so many, status 200 and an orderly end."""
    # Without the done line, whose durations have no fixed length.
    length = len(chat(server, Reply("é ok", no_done=True)).content)
    server.enqueue(*(Reply("é ok", no_done=True, truncate_at_byte=at) for at in range(length)))
    with httpx.Client(**PLAIN) as client:
        answers = [client.post(f"{server.url}/api/chat", json=CHAT) for _ in range(length)]
    assert [(200, at) for at in range(length)] == [
        (item.status_code, len(item.content)) for item in answers
    ]


@given(body=st.binary(max_size=40), size=st.integers(1, 9), data=st.data())
@settings(max_examples=50, deadline=None)
def test_any_body_cut_anywhere(
    server: ScriptedOllama, body: bytes, size: int, data: st.DataObject
) -> None:
    """What arrives of a truncated body is its beginning, however it is cut into chunks."""
    at = data.draw(st.integers(0, len(body)))
    answer = chat(server, Reply(raw=body, truncate_at_byte=at, chunk_bytes=size))
    assert body[:at] == answer.content


def test_truncation_of_joined_tokens(server: ScriptedOllama) -> None:
    """A body whose tokens share a chunk is cut at its byte too."""
    answer = chat(server, Reply("a b", truncate_at_byte=40, coalesce=True))
    assert (200, 40) == (answer.status_code, len(answer.content))


def test_truncation_past_the_end_changes_nothing(server: ScriptedOllama) -> None:
    """A body shorter than the limit is sent whole."""
    assert lines(chat(server, Reply("a", truncate_at_byte=10_000)))[-1]["done"]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("at", [0, 1, 40])
def test_truncation_by_a_closed_connection(server: ScriptedOllama, at: int, stream: bool) -> None:
    """With `close` the connection ends before the response does."""
    with pytest.raises(httpx.RemoteProtocolError):
        chat(server, Reply("a b", truncate_at_byte=at, cut="close"), stream=stream)


def test_truncation_by_a_reset(server: ScriptedOllama) -> None:
    """With `reset` the bytes before the cut arrive, and then RST."""
    server.enqueue(Reply("a b", truncate_at_byte=40, cut="reset"))
    with contextlib.closing(raw_request(server.url, "/api/chat")) as sock:
        found = read_until_reset(sock)
    assert 40 == sum(map(len, http_chunks(found)))


def test_reset_after_some_tokens(server: ScriptedOllama) -> None:
    """The tokens before a reset arrive, and then RST."""
    server.enqueue(Reply("a b c", reset_after=2))
    with contextlib.closing(raw_request(server.url, "/api/chat")) as sock:
        found = read_until_reset(sock)
    assert 2 == len(http_chunks(found))
    assert 2 == server.requests[-1].pieces_sent


@pytest.mark.parametrize("stream", [True, False])
def test_reset_is_a_connection_error(server: ScriptedOllama, stream: bool) -> None:
    """A reset reaches httpx as a failure of the transport."""
    with pytest.raises(httpx.TransportError):
        chat(server, Reply("a b", reset_after=1), stream=stream)


def test_reset_first(server: ScriptedOllama) -> None:
    """A reset before the answer sends no byte."""
    server.enqueue(Reply(reset_first=True))
    with contextlib.closing(raw_request(server.url, "/api/chat")) as sock:
        assert b"" == read_until_reset(sock)
    assert server.requests[-1].first_byte_at is None


def test_error_after_tokens(server: ScriptedOllama) -> None:
    """An error inside a stream is a line of its own, with status 200 and nothing after it."""
    answer = chat(server, Reply("a b c", error_after=(2, "out of memory")))
    found = lines(answer)
    assert (200, 3, {"error": "out of memory"}) == (answer.status_code, len(found), found[-1])


def test_error_line_first(server: ScriptedOllama) -> None:
    """An error after no token is the first line of a stream of status 200."""
    answer = chat(server, Reply("a", error_after=(0, "no")))
    assert (200, [{"error": "no"}]) == (answer.status_code, lines(answer))


def test_error_without_stream(server: ScriptedOllama) -> None:
    """An error inside an unstreamed answer is a 500."""
    answer = chat(server, Reply("a b", error_after=(1, "no")), stream=False)
    assert (500, {"error": "no"}) == (answer.status_code, answer.json())


def test_error_first(server: ScriptedOllama) -> None:
    """An error before the answer has its status, its text and its headers."""
    answer = chat(server, Reply(error_first=(503, "busy"), headers={"Retry-After": "1"}))
    assert (503, {"error": "busy"}, "1") == (
        answer.status_code,
        answer.json(),
        answer.headers["retry-after"],
    )


def test_a_client_reads_the_error_of_a_stream(server: ScriptedOllama) -> None:
    """Ollama's own client raises the error line of a stream."""
    server.enqueue(Reply("a b", error_after=(1, "no")))
    with ollama.Client(host=server.url, **PLAIN) as client:
        stream = client.chat("llama3.2", [{"role": "user", "content": "?"}], stream=True)
        with pytest.raises(ollama.ResponseError, match="no"):
            list(stream)


@pytest.mark.parametrize("stream", [True, False])
def test_no_done(server: ScriptedOllama, stream: bool) -> None:
    """An answer without its end has its text, status 200 and no counters."""
    found = lines(chat(server, Reply("a b", no_done=True), stream=stream))
    assert "a b" == "".join(line["message"]["content"] for line in found)
    assert (False, False) == (found[-1]["done"], "eval_count" in found[-1])


def test_done_twice(server: ScriptedOllama) -> None:
    """The done line can come twice."""
    found = lines(chat(server, Reply("a", done_twice=True)))
    assert [False, True, True] == [line["done"] for line in found]


def test_data_after_done(server: ScriptedOllama) -> None:
    """Any bytes can follow the done line."""
    assert chat(server, Reply("a", after_done=b"more")).content.endswith(b"}\nmore")


def test_blank_line(server: ScriptedOllama) -> None:
    """An empty line can stand between two tokens."""
    content = chat(server, Reply("a b", blank_line_after=1)).content
    assert b"" == content.split(b"\n")[1]


def test_garbage_line(server: ScriptedOllama) -> None:
    """A line that is not JSON can stand between two tokens."""
    second = chat(server, Reply("a b", garbage_line_after=1)).content.split(b"\n")[1]
    with pytest.raises(ValueError, match="Expecting value"):
        json.loads(second)


def test_html_instead(server: ScriptedOllama) -> None:
    """A page of HTML can come in place of the answer."""
    answer = chat(server, Reply(html_instead=502))
    assert (502, "text/html") == (answer.status_code, answer.headers["content-type"])


@pytest.mark.parametrize("stream", [True, False])
def test_raw_body(server: ScriptedOllama, stream: bool) -> None:
    """Any bytes can be the body."""
    assert b"\xff\n{" == chat(server, Reply(raw=b"\xff\n{"), stream=stream).content


def test_one_http_chunk_per_token(server: ScriptedOllama) -> None:
    """Each token has an HTTP chunk of its own, as Ollama sends it."""
    server.enqueue(Reply("a b c"))
    with contextlib.closing(raw_request(server.url, "/api/chat")) as sock:
        chunks = http_chunks(read_all(sock))
    assert ([1, 1, 1, 1], b"") == ([chunk.count(b"\n") for chunk in chunks[:-1]], chunks[-1])


@pytest.mark.parametrize("size", [1, 2, 5])
def test_chunks_of_any_size(server: ScriptedOllama, size: int) -> None:
    """The body can be cut into HTTP chunks of a given size."""
    server.enqueue(Reply("é", chunk_bytes=size))
    with contextlib.closing(raw_request(server.url, "/api/chat")) as sock:
        chunks = http_chunks(read_all(sock))
    assert size == max(map(len, chunks))
    assert json.loads(b"".join(chunks).split(b"\n")[0])["message"]["content"] == "é"


def test_chunks_cut_inside_a_character(server: ScriptedOllama) -> None:
    """With `split_utf8` a chunk ends inside a character of more than one byte."""
    server.enqueue(Reply(["世"], split_utf8=True))
    with contextlib.closing(raw_request(server.url, "/api/chat")) as sock:
        first, second, *_ = http_chunks(read_all(sock))
    with pytest.raises(UnicodeDecodeError):
        first.decode()
    assert "世" == json.loads(first + second)["message"]["content"]


def test_coalesced_chunks(server: ScriptedOllama) -> None:
    """With `coalesce` many tokens share one chunk and none is lost."""
    server.enqueue(Reply(["x"] * 1000, coalesce=True))
    with contextlib.closing(raw_request(server.url, "/api/chat")) as sock:
        chunks = http_chunks(read_all(sock))
    assert (True, 1001) == (len(chunks) < 20, b"".join(chunks).count(b"\n"))


@pytest.mark.parametrize("server_type", [ScriptedOllama, ScriptedOpenAI])
def test_stall_until_released(server_type: type[ScriptedOllama | ScriptedOpenAI]) -> None:
    """A stalled stream sends its first tokens, then nothing until it is released."""
    path = "/api/chat" if server_type is ScriptedOllama else "/v1/chat/completions"
    with server_type(reply=Reply("a b c", stall_after=2)) as server:
        with contextlib.closing(raw_request(server.url, path, CHAT | {"stream": True})) as sock:
            request = server.wait_for_request()
            assert request.stalled.wait(10)
            assert (2, False) == (request.pieces_sent, request.finished.is_set())
            server.release()
            assert read_all(sock).endswith(b"0\r\n\r\n")
        assert (3, True) == (request.pieces_sent, request.finished.wait(10))


def test_release_before_the_stall() -> None:
    """A request released early does not stall when it gets there."""
    with (
        ScriptedOllama(reply=Reply("a b", first_token_s=0.05, stall_after=1)) as server,
        contextlib.closing(raw_request(server.url, "/api/chat")) as sock,
    ):
        request = server.wait_for_request()
        assert not request.stalled.is_set()
        request.release()
        assert read_all(sock).endswith(b"0\r\n\r\n")


def test_stall_for_a_time(server: ScriptedOllama) -> None:
    """A stall can end by itself."""
    began = time.monotonic()
    assert lines(chat(server, Reply("a b", stall_after=1, stall_s=0.05)))[-1]["done"]
    assert time.monotonic() - began >= 0.05


def test_headers_come_with_the_first_token(server: ScriptedOllama) -> None:
    """A stream that stalls before its first token has sent no headers, as in Ollama."""
    server.enqueue(Reply("a", stall_after=0))
    before = len(server.requests)
    with contextlib.closing(raw_request(server.url, "/api/chat")) as sock:
        request = server.wait_for_request(before + 1)
        assert request.stalled.wait(10)
        assert request.first_byte_at is None
        request.release()
        read_all(sock)


def test_headers_first(server: ScriptedOllama) -> None:
    """With `headers_first` the status is there while the first token is awaited."""
    server.enqueue(Reply("a", stall_after=0, headers_first=True))
    before = len(server.requests)
    with contextlib.closing(raw_request(server.url, "/api/chat")) as sock:
        assert sock.recv(65536).startswith(b"HTTP/1.1 200 OK\r\n")
        server.wait_for_request(before + 1).release()
        read_all(sock)


@pytest.mark.parametrize(
    "reply",
    [
        Reply("a b", stall_after=1),
        Reply("a b", stall_after=0),
        Reply("a b", stall_load=True),
        Reply(["x"] * 1000, tokens_per_s=20.0),
    ],
    ids=["stall", "before the first token", "load", "between tokens"],
)
@pytest.mark.parametrize("how", ["closed", "reset"])
def test_disconnects_are_noticed(reply: Reply, how: str) -> None:
    """A client that leaves is recorded at once, and its answer is given up."""
    with ScriptedOllama(reply=reply) as server:
        sock = raw_request(server.url, "/api/chat", close=False)
        request = server.wait_for_request()
        if reply.tokens_per_s is None:
            assert request.stalled.wait(10)
        kill(sock) if how == "reset" else sock.close()
        assert request.disconnected.wait(5)
        assert request.finished.wait(5)


def test_a_disconnect_aborts_the_load() -> None:
    """A client that leaves during the load leaves no model behind, as in Ollama."""
    with ScriptedOllama(reply=Reply("a", stall_load=True)) as other:
        with contextlib.closing(raw_request(other.url, "/api/chat")):
            request = other.wait_for_request()
            assert request.stalled.wait(10)
        assert request.finished.wait(5)
        assert (set(), ["llama3.2:latest"]) == (other.loaded, other.loads)


def test_a_disconnect_in_a_fast_stream_is_noticed() -> None:
    """A client that leaves in the middle of a stream without a rate stops it."""
    with ScriptedOllama(reply=Reply(["x" * 50] * 200_000)) as server:
        sock = raw_request(server.url, "/api/chat")
        sock.recv(1)
        sock.close()
        request = server.wait_for_request()
        assert request.disconnected.wait(10)
        assert request.finished.wait(10)
        assert request.pieces_sent < 200_000


def test_a_complete_answer_is_no_disconnect(server: ScriptedOllama) -> None:
    """A client that leaves after the last byte is not recorded as gone."""
    chat(server, Reply("a b"))
    request = server.requests[-1]
    assert request.finished.wait(5)
    assert not request.disconnected.is_set()


def test_rate(server: ScriptedOllama) -> None:
    """Tokens come at the rate of the script and not before its first-token time."""
    began = time.monotonic()
    chat(server, Reply("a b c d e f", tokens_per_s=100.0, first_token_s=0.1))
    assert time.monotonic() - began >= 0.15


def test_load_time_is_reported() -> None:
    """A load takes the seconds of the script and shows in load_duration."""
    with ScriptedOllama(reply=Reply("a", load_s=0.05)) as other:
        last = lines(post(f"{other.url}/api/chat"))[-1]
    assert last["load_duration"] >= 50_000_000


def test_final_fields_can_be_set(server: ScriptedOllama) -> None:
    """Entries of `final` stand in the done line in place of the measured ones."""
    last = lines(chat(server, Reply("a", final={"eval_duration": 7, "extra": "x"})))[-1]
    assert (7, "x") == (last["eval_duration"], last["extra"])


@pytest.mark.parametrize("path", ["ps", "tags", "version"])
def test_faults_of_other_operations(server: ScriptedOllama, path: str) -> None:
    """Operations without text take faults of their own, one request long."""
    server.enqueue(Reply(error_first=(500, "broken")), to=path)
    answers = [get(f"{server.url}/api/{path}").status_code for _ in range(2)]
    assert [500, 200] == answers


def test_a_stalled_ps() -> None:
    """A list of loaded models can stall like any answer."""
    with ScriptedOllama() as server:
        server.enqueue(Reply(stall_after=0), to="ps")
        with (
            httpx.Client(**PLAIN, timeout=0.05) as client,
            pytest.raises(httpx.ReadTimeout),
        ):
            client.get(f"{server.url}/api/ps")
        assert server.wait_for_request(to="ps").disconnected.wait(5)


@pytest.mark.parametrize("arguments", [{"tokens_per_s": 0}, {"chunk_bytes": 0}])
def test_impossible_scripts_are_refused(arguments: dict[str, int]) -> None:
    """A script that could never be played is refused when it is made."""
    with pytest.raises(ValueError, match=r"above 0|at least 1"):
        Reply(**arguments)
