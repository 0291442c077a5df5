"""What an Ollama host does wrong, and what a client behind the relay sees of it."""

from __future__ import annotations

import json
import socket
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.server.harness import ServerProcess, lines_of
from workbench.testing import FakeModel, Reply, ScriptedOllama

MODEL = "llama3.2:latest"
BODY = {"model": "llama3.2", "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture(scope="module")
def host() -> Iterator[ScriptedOllama]:
    """Yield one scripted Ollama for the tests of this module."""
    with ScriptedOllama(models=[FakeModel(MODEL)], reply=Reply("Hello from Ollama.")) as scripted:
        yield scripted


@pytest.fixture(scope="module")
def behind(
    host: ScriptedOllama, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    """Yield a server whose Ollama backend is that one."""
    env = {"OLLAMA_HOST": host.url}
    with ServerProcess(tmp_path_factory.mktemp("relay"), env=env) as running:
        yield running


def chat(server: ServerProcess, **changes: Any) -> httpx.Response:
    """Send a chat."""
    return server.http.post("/api/chat", json={**BODY, **changes})


def text_of(lines: list[dict[str, Any]]) -> str:
    """Return the text of an answer's lines."""
    return "".join(line.get("message", {}).get("content", "") for line in lines)


def upstream_bytes(host: ScriptedOllama, reply: Reply) -> bytes:
    """Return the body the host itself sends for a reply."""
    host.enqueue(reply)
    return httpx.post(
        f"{host.url}/api/chat", json={**BODY, "model": MODEL}, trust_env=False
    ).content


def test_answer_cut_at_any_byte_is_whole_lines_and_an_error(
    host: ScriptedOllama, behind: ServerProcess
) -> None:
    """Wherever the host stops, the client gets every whole line, then an error line; never less."""
    reply = Reply(["Да", "\u2028."], final={"total_duration": 1})
    whole = upstream_bytes(host, Reply(raw=upstream_bytes(host, reply)))
    sizes = [*range(1, len(whole) - 1, 7), len(whole) - 2]
    for size in sizes:
        host.enqueue(Reply(raw=whole[:size]))
        answer = chat(behind)
        # A line that only lacks its line end is whole.
        complete = whole[: size + 1].split(b"\n")[:-1]
        if not complete:
            # Nothing was sent yet: the error has a status of its own.
            assert (502, "StreamBroken") == (answer.status_code, answer.json()["type"]), size
            continue
        lines = answer.content.split(b"\n")
        assert [*complete, b""] == [*lines[: len(complete)], lines[-1]], size
        last = json.loads(lines[-2])
        assert "error" in last and "StreamBroken" == last["workbench"]["type"], size
    host.enqueue(Reply(raw=whole[:-1]))
    assert lines_of(chat(behind))[-1]["done"]


@pytest.mark.parametrize("cut", ["end", "close", "reset"])
def test_lost_connection_is_an_error_line(
    cut: Any, host: ScriptedOllama, behind: ServerProcess
) -> None:
    """However the connection ends in mid-stream, the client is told, after the text before it."""
    host.enqueue(Reply("one two three", truncate_at_byte=400, cut=cut))
    lines = lines_of(chat(behind))
    assert "StreamBroken" == lines[-1]["workbench"]["type"]
    assert "one two three".startswith(text_of(lines))


def test_reset_after_tokens_keeps_them(host: ScriptedOllama, behind: ServerProcess) -> None:
    """Tokens that arrived before a reset reach the client."""
    host.enqueue(Reply("one two three", reset_after=2))
    lines = lines_of(chat(behind))
    assert ("one two", "StreamBroken") == (text_of(lines), lines[-1]["workbench"]["type"])


def test_unstreamed_answer_that_broke_is_an_error(
    host: ScriptedOllama, behind: ServerProcess
) -> None:
    """With stream false a broken answer has an error status, not a short text."""
    host.enqueue(Reply("one two", no_done=True))
    answer = chat(behind, stream=False)
    assert answer.status_code in (500, 502)
    assert "broke off" in answer.json()["error"]


def test_error_in_mid_stream_is_relayed(host: ScriptedOllama, behind: ServerProcess) -> None:
    """The host's own error line arrives as it was, after the text before it."""
    host.enqueue(Reply("one two three", error_after=(2, "model runner has unexpectedly stopped")))
    lines = lines_of(chat(behind))
    assert ("one two", "model runner has unexpectedly stopped") == (
        text_of(lines),
        lines[-1]["error"],
    )


@pytest.mark.parametrize("status", [400, 401, 404, 500, 503])
def test_error_before_the_answer_keeps_status_and_text(
    status: int, host: ScriptedOllama, behind: ServerProcess
) -> None:
    """The host's status and words reach the client, streamed or not."""
    found = []
    for stream in (True, False):
        host.enqueue(Reply(error_first=(status, "the words of the host")))
        answer = chat(behind, stream=stream)
        found.append((answer.status_code, answer.json()["error"]))
    assert [(status, "the words of the host")] * 2 == found


@pytest.mark.parametrize(
    ("reply", "kept"),
    [
        (Reply("one two three", garbage_line_after=2), "one two"),
        (Reply(raw=b'{"message":{"content":"one"},"done":false}\n' + b"[" * 50_000 + b"\n"), "one"),
        (Reply(raw=b'{"message":{"content":"one"},"done":false}\n"text"\n'), "one"),
        (
            Reply(
                raw=b'{"message":{"content":"one"},"done":false}\n{"response":"\xff"}\n{"done":1}\n'
            ),
            "one",
        ),
    ],
    ids=["garbage", "deep", "no object", "no UTF-8"],
)
def test_line_that_is_no_answer_ends_the_stream(
    reply: Reply, kept: str, host: ScriptedOllama, behind: ServerProcess
) -> None:
    """The good lines before it are kept, then an error line says what it was."""
    host.enqueue(reply)
    lines = lines_of(chat(behind))
    assert (kept, "ProtocolError") == (text_of(lines), lines[-1]["workbench"]["type"])


def test_page_in_place_of_an_answer_is_an_error(
    host: ScriptedOllama, behind: ServerProcess
) -> None:
    """HTML with status 200 is a protocol error; with an error status it keeps the status."""
    host.enqueue(Reply(html_instead=200), Reply(html_instead=503))
    found = [chat(behind) for _ in range(2)]
    assert [502, 503] == [answer.status_code for answer in found]
    assert "ProtocolError" == found[0].json()["type"]


@pytest.mark.parametrize(
    "reply",
    [
        Reply(["a\u2028b", "c\u2029\u0085d"]),
        Reply("Привет 🙂, мир", split_utf8=True),
        Reply("Привет 🙂, мир", chunk_bytes=1),
        Reply(["x" * 8_000_000, "y"]),
        Reply("one two three", coalesce=True),
    ],
    ids=["U+2028", "split UTF-8", "byte by byte", "8 MB line", "coalesced"],
)
def test_lines_arrive_unchanged(reply: Reply, host: ScriptedOllama, behind: ServerProcess) -> None:
    """Whatever the lines hold and however they are cut, they arrive byte for byte."""
    raw = upstream_bytes(host, reply)
    host.enqueue(Reply(raw=raw))
    assert raw == chat(behind).content


def test_blank_lines_are_taken_out(host: ScriptedOllama, behind: ServerProcess) -> None:
    """An empty line, which breaks Ollama's own client, does not reach ours."""
    host.enqueue(Reply("one two", blank_line_after=1))
    content = chat(behind).content
    assert b"\n\n" not in content
    assert "one two" == text_of([json.loads(line) for line in content.splitlines()])


def test_client_that_leaves_frees_the_model(host: ScriptedOllama, behind: ServerProcess) -> None:
    """When the client goes in mid-stream or before the first token, the host sees it go."""
    for reply in (Reply("one two", stall_after=1), Reply("one", stall_after=0, headers_first=True)):
        host.enqueue(reply)
        count = len([item for item in host.requests if item.operation == "chat"])
        content = json.dumps(BODY).encode()
        port = httpx.URL(behind.url).port
        head = (
            f"POST /api/chat HTTP/1.1\r\nHost: localhost\r\n"
            f"Authorization: Bearer {behind.token}\r\nContent-Length: {len(content)}\r\n\r\n"
        )
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(head.encode() + content)
            request = host.wait_for_request(count + 1, to="chat")
            assert request.stalled.wait(10)
        assert request.disconnected.wait(10)


def test_two_who_want_a_model_cause_one_load() -> None:
    """Requests that come together load the model once, also when the first one leaves."""
    with (
        ScriptedOllama(models=[FakeModel(MODEL)], reply=Reply("fine")) as host,
        tempfile.TemporaryDirectory() as folder,
        ServerProcess(Path(folder), env={"OLLAMA_HOST": host.url}) as server,
        ThreadPoolExecutor(3) as pool,
    ):
        host.enqueue(Reply(stall_load=True), to="load")
        with server.http.stream(
            "POST", "/api/chat", json=BODY, headers={"Workbench-Events": "1"}
        ) as first:
            arriving = first.iter_raw()
            next(arriving)
            load = host.wait_for_request(1, to="load")
            assert load.stalled.wait(10)
            waiting = [pool.submit(chat, server) for _ in range(2)]
        assert not load.disconnected.wait(0.3)
        assert not [item for item in host.requests if item.operation == "chat"]
        load.release()
        answers = [future.result(30) for future in waiting]
        assert ["fine", "fine"] == [text_of(lines_of(answer)) for answer in answers]
        assert 1 == len([item for item in host.requests if item.operation == "load"])


def test_keep_alive_zero_with_a_prompt_still_loads_first(
    host: ScriptedOllama, behind: ServerProcess
) -> None:
    """The preload must not carry it: with an empty prompt it would mean unload."""
    before = len(host.requests)
    httpx.post(f"{host.url}/api/generate", json={"model": MODEL, "keep_alive": 0}, trust_env=False)
    behind.http.post("/workbench/v1/unload", json={"model": MODEL})
    chat(behind, keep_alive=0)
    operations = [item.operation for item in host.requests[before + 1 :]]
    assert "load" in operations or "chat" in operations
    requests = [item for item in host.requests[before + 1 :] if item.operation == "load"]
    assert not [item for item in requests if item.json.get("keep_alive") == 0]
    assert 0 == host.requests[-1].json["keep_alive"]


def test_options_and_unknown_fields_reach_the_host(
    host: ScriptedOllama, behind: ServerProcess
) -> None:
    """What we do not know is passed on as it came, with a warning for an unknown option."""
    host.enqueue(Reply("x"))
    answer = chat(behind, options={"num_ctx": 64, "mirostat": 1}, future={"a": [1]})
    sent = [item for item in host.requests if item.operation == "chat"][-1].json
    assert ({"num_ctx": 64, "mirostat": 1}, {"a": [1]}) == (
        sent["options"],
        sent["future"],
    )
    assert "mirostat" in answer.headers["Workbench-Warning"]


def test_proxy_variables_are_ignored(host: ScriptedOllama, tmp_path: Path) -> None:
    """A listener named by HTTP_PROXY sees nothing of what goes to the host."""
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        proxy.setblocking(False)
        address = f"http://127.0.0.1:{proxy.getsockname()[1]}"
        names = ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy")
        env = dict.fromkeys(names, address) | {"OLLAMA_HOST": host.url}
        with ServerProcess(tmp_path / "d", env=env) as server:
            assert 200 == chat(server).status_code
        with pytest.raises(BlockingIOError):
            proxy.accept()


def toml_of(hosts: dict[str, ScriptedOllama | str], extra: str = "") -> str:
    """Return a file that names hosts."""
    rows = [
        f'[[backend]]\nname = "{name}"\nkind = "ollama"\n'
        f'url = "{item if isinstance(item, str) else item.url}"\n{extra}'
        for name, item in hosts.items()
    ]
    return "".join(rows)


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Yield a server with two hosts, one that is down and one that never answers."""
    folder = tmp_path_factory.mktemp("several")
    with (
        ScriptedOllama(
            models=[FakeModel("same", digest="a" * 64), FakeModel("differs", digest="b" * 64)],
            reply=Reply("one"),
        ) as one,
        ScriptedOllama(
            models=[FakeModel("same", digest="a" * 64), FakeModel("differs", digest="c" * 64)],
            reply=Reply("two"),
        ) as two,
        socket.create_server(("127.0.0.1", 0), backlog=50) as hangs,
    ):
        hanging = f"http://127.0.0.1:{hangs.getsockname()[1]}"
        text = toml_of({"one": one, "two": two}, 'token_env = "HOST_TOKEN"\n')
        text += toml_of({"down": "http://127.0.0.1:9", "hangs": hanging})
        (folder / "workbench.toml").write_text(text, encoding="utf-8")
        env = {"HOST_TOKEN": "s3cret-of-the-host"}
        with ServerProcess(folder, env=env) as server:
            server.hosts = (one, two)  # type: ignore[attr-defined]
            yield server


@pytest.mark.parametrize(
    ("model", "status", "text"),
    [
        ("same", 200, "one"),
        ("same@two", 200, "two"),
        ("SAME:latest@two", 200, "two"),
        ("differs@one", 200, "one"),
        ("differs@two", 200, "two"),
    ],
)
def test_name_is_routed(several: ServerProcess, model: str, status: int, text: str) -> None:
    """A bare name goes to a host that holds it, a named host gets its own."""
    answer = chat(several, model=model)
    assert (status, text) == (answer.status_code, text_of(lines_of(answer)))


@pytest.mark.parametrize(
    ("model", "status", "kind", "part"),
    [
        ("differs", 409, "AmbiguousModel", "differs:latest@one, differs:latest@two"),
        ("same@nowhere", 404, "ResponseError", "Known: embedded, one, two, down, hangs"),
        ("sam", 404, "ModelNotFound", "'same'"),
        ("same@down", 502, "ConnectionFailed", ""),
        ("", 400, "ResponseError", ""),
    ],
)
def test_name_that_means_no_one_model_is_refused(
    several: ServerProcess, model: str, status: int, kind: str, part: str
) -> None:
    """Two models of a name, an unknown host, an unknown name and a dead host are told apart."""
    answer = chat(several, model=model)
    body = answer.json()
    assert (status, kind) == (answer.status_code, body["type"])
    assert part in (body["hint"] or "")


def test_host_that_hangs_does_not_hold_up_the_others(several: ServerProcess) -> None:
    """Requests for other models take far less than the five seconds a host is given."""
    body = {"model": "bench-none", "messages": []}
    several.http.post("/api/chat", json=body)
    for _ in range(3):
        answer = several.http.post(
            "/api/chat", json={**BODY, "model": "same@one"}, timeout=httpx.Timeout(4.0)
        )
        assert 200 == answer.status_code
    rows = several.http.get("/workbench/v1/info", timeout=4.0).json()["backends"]
    reachable = {row["name"]: row["reachable"] for row in rows}
    expected = {"embedded": True, "one": True, "two": True, "down": False, "hangs": False}
    assert expected == reachable


def test_token_of_a_host_is_sent_to_it_and_shown_to_nobody(several: ServerProcess) -> None:
    """The variable's value goes to the host as a bearer token, and into no answer and no log."""
    chat(several, model="same@one")
    one = several.hosts[0]  # type: ignore[attr-defined]
    assert {"Bearer s3cret-of-the-host"} == {
        request.headers.get("authorization") for request in one.requests
    }
    paths = ("info", "models", "models/loaded", "openapi.json")
    shown = [several.http.get(f"/workbench/v1/{path}").text for path in paths]
    assert not [text for text in [*shown, several.log()] if "s3cret" in text]
