"""The scripted Ollama server, driven by Ollama's own client and by hand."""

from __future__ import annotations

import base64
import json
import math
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import ollama
import pytest

from tests.testing.helpers import CHAT, PLAIN, get, lines, post
from workbench.testing import FakeModel, Reply, ScriptedOllama, ToolCall
from workbench.testing.ollama_shapes import parse_keep_alive

QUESTION = [{"role": "user", "content": "Say it."}]


@pytest.fixture
def server() -> Iterator[ScriptedOllama]:
    models = [
        FakeModel("llama3.2:latest", size_bytes=3_000, size_vram_bytes=2_000),
        FakeModel("qwen3:4b", capabilities=["completion", "tools", "thinking", "vision"]),
    ]
    with ScriptedOllama(models=models, pullable=["tiny"], reply=Reply("One two three.")) as found:
        yield found


@pytest.fixture
def client(server: ScriptedOllama) -> Iterator[ollama.Client]:
    with ollama.Client(host=server.url, **PLAIN) as found:
        yield found


def test_root_answers_as_ollama(server: ScriptedOllama) -> None:
    """The root says that Ollama is running."""
    assert "Ollama is running" == get(server.url).text


def test_head_has_no_body(server: ScriptedOllama) -> None:
    """HEAD answers with the headers of GET alone."""
    with httpx.Client(**PLAIN) as client:
        answers = [client.head(server.url) for _ in range(2)]
    assert [(200, b"", "17")] * 2 == [
        (item.status_code, item.content, item.headers["content-length"]) for item in answers
    ]


@pytest.mark.parametrize(
    ("method", "path", "status", "text"),
    [
        ("GET", "/api/nothing", 404, "404 page not found"),
        ("GET", "/api/chat", 405, "405 method not allowed"),
        ("POST", "/api/delete", 405, "405 method not allowed"),
    ],
)
def test_unknown_routes(
    server: ScriptedOllama, method: str, path: str, status: int, text: str
) -> None:
    """An unknown path is a 404 and a wrong method a 405, both as plain text."""
    with httpx.Client(**PLAIN) as client:
        answer = client.request(method, server.url + path)
    assert (status, text) == (answer.status_code, answer.text)


def test_version(server: ScriptedOllama) -> None:
    """The version is the one the server was made with."""
    assert {"version": "0.33.0"} == get(f"{server.url}/api/version").json()


def test_list(client: ollama.Client) -> None:
    """The list has every model with its tag, size and digest."""
    found = client.list().models
    assert ["llama3.2:latest", "qwen3:4b"] == [item.model for item in found]
    assert (3_000, 64) == (found[0].size, len(found[0].digest or ""))


def test_show(client: ollama.Client) -> None:
    """The description of a model has its capabilities and its numbers."""
    found = client.show("qwen3:4b")
    assert ["completion", "tools", "thinking", "vision"] == found.capabilities
    assert found.modelinfo is not None
    assert (8192, 3_200_000_000) == (
        found.modelinfo["llama.context_length"],
        found.modelinfo["general.parameter_count"],
    )


def test_chat_streams_word_by_word(client: ollama.Client) -> None:
    """A streamed chat sends one line per token and then the counters."""
    parts = list(client.chat("llama3.2", QUESTION, stream=True))
    assert ["One", " two", " three.", ""] == [part.message.content for part in parts]
    last = parts[-1]
    assert (True, "stop", 3, 2) == (
        last.done,
        last.done_reason,
        last.eval_count,
        last.prompt_eval_count,
    )


def test_plain_chat(client: ollama.Client) -> None:
    """An unstreamed chat has the whole text and the same counters."""
    answer = client.chat("llama3.2", QUESTION)
    assert ("One two three.", True, 3) == (answer.message.content, answer.done, answer.eval_count)


def test_the_model_is_echoed_as_asked(server: ScriptedOllama) -> None:
    """Answers repeat the requested name, the list of loaded models has the full one."""
    assert {"llama3.2"} == {line["model"] for line in lines(post(f"{server.url}/api/chat"))}
    assert {"llama3.2:latest"} == server.loaded


@pytest.mark.parametrize("stream", [True, False])
def test_generate(server: ScriptedOllama, stream: bool) -> None:
    """Generate has the text in `response`."""
    body = {"model": "llama3.2", "prompt": "Say it.", "stream": stream}
    found = lines(post(f"{server.url}/api/generate", body))
    assert "One two three." == "".join(line["response"] for line in found)
    assert "stop" == found[-1]["done_reason"]


def test_thinking(server: ScriptedOllama, client: ollama.Client) -> None:
    """Thinking is streamed before the text, in a field of its own."""
    server.set_reply(Reply("Four.", thinking="Two and two"))
    parts = list(client.chat("qwen3:4b", QUESTION, stream=True))
    found = [(part.message.thinking, part.message.content) for part in parts]
    assert [("Two", ""), (" and", ""), (" two", ""), (None, "Four."), (None, "")] == found


def test_thinking_can_be_turned_off(server: ScriptedOllama, client: ollama.Client) -> None:
    """A request with `think: false` gets the text alone."""
    server.set_reply(Reply("Four.", thinking="Two and two"))
    assert client.chat("qwen3:4b", QUESTION, think=False).message.thinking is None


@pytest.mark.parametrize("stream", [True, False])
def test_tool_calls(server: ScriptedOllama, stream: bool) -> None:
    """Tool calls carry an id, a name and decoded arguments; the answer still ends in `stop`."""
    server.set_reply(Reply(tool_calls=[ToolCall("add", {"a": 1}), ToolCall("sub", id="x")]))
    found = lines(post(f"{server.url}/api/chat", CHAT | {"stream": stream}))
    calls = [call for line in found for call in line["message"].get("tool_calls", [])]
    assert [
        {"id": "call_0", "function": {"index": 0, "name": "add", "arguments": {"a": 1}}},
        {"id": "x", "function": {"index": 1, "name": "sub", "arguments": {}}},
    ] == calls
    assert "stop" == found[-1]["done_reason"]


def test_images_are_recorded(server: ScriptedOllama, client: ollama.Client) -> None:
    """The images of a request can be read as bytes."""
    picture = b"\x89PNG not really"
    message = {"role": "user", "content": "?", "images": [base64.b64encode(picture).decode()]}
    client.chat("qwen3:4b", [message])
    assert [picture] == server.wait_for_request(to="chat").images


def test_embeddings_are_repeatable_unit_vectors(client: ollama.Client) -> None:
    """Equal texts have equal vectors of length one, other texts others."""
    first, second, third = client.embed("llama3.2", ["a", "a", "b"], dimensions=8).embeddings
    assert first == second
    assert first != third
    assert (8, pytest.approx(1.0)) == (len(first), math.hypot(*first))


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("chat", {"model": "no"}, 404, "model 'no' not found"),
        ("generate", {"model": "no"}, 404, "model 'no' not found"),
        ("show", {"model": "no"}, 404, "model 'no:latest' not found"),
        ("embed", {"model": "no"}, 404, 'model "no" not found, try pulling it first'),
        ("chat", CHAT | {"think": True}, 400, '"llama3.2" does not support thinking'),
        ("chat", CHAT | {"keep_alive": "300"}, 400, 'time: missing unit in duration "300"'),
        (
            "chat",
            CHAT | {"options": {"num_ctx": "8"}},
            500,
            'option "num_ctx" must be of type integer',
        ),
    ],
)
def test_refusals(
    server: ScriptedOllama, path: str, body: dict[str, Any], status: int, message: str
) -> None:
    """Requests that Ollama refuses get its status and its text."""
    answer = post(f"{server.url}/api/{path}", body)
    assert (status, {"error": message}) == (answer.status_code, answer.json())


def test_tools_need_the_capability() -> None:
    """Tools sent to a model without them are a 400 with the model's full name."""
    with ScriptedOllama(models=[FakeModel("m", capabilities=["completion"])]) as server:
        answer = post(f"{server.url}/api/chat", CHAT | {"model": "m", "tools": [{}]})
    expected = "registry.ollama.ai/library/m:latest does not support tools"
    assert (400, expected) == (answer.status_code, answer.json()["error"])


@pytest.mark.parametrize(
    ("body", "message"), [(b"", "missing request body"), (b"{", "invalid character")]
)
def test_broken_bodies(server: ScriptedOllama, body: bytes, message: str) -> None:
    """No body, or one that is not JSON, is a 400."""
    with httpx.Client(**PLAIN) as client:
        answer = client.post(f"{server.url}/api/chat", content=body)
    assert 400 == answer.status_code
    assert message in answer.json()["error"]


def test_an_empty_prompt_loads(server: ScriptedOllama, client: ollama.Client) -> None:
    """A request without a prompt loads the model and reports no durations."""
    answer = client.generate("llama3.2")
    assert ("load", None) == (answer.done_reason, answer.total_duration)
    assert ({"llama3.2:latest"}, ["llama3.2:latest"]) == (server.loaded, server.loads)


@pytest.mark.parametrize("keep_alive", [0, "0", "0s", -0.0])
def test_keep_alive_zero_unloads(
    server: ScriptedOllama, client: ollama.Client, keep_alive: str | float
) -> None:
    """A request without messages and with a keep_alive of zero unloads at once."""
    client.chat("llama3.2", QUESTION)
    assert "unload" == client.chat("llama3.2", keep_alive=keep_alive).done_reason
    assert set() == server.loaded


def test_a_chat_can_end_with_an_unload(server: ScriptedOllama, client: ollama.Client) -> None:
    """A chat with a keep_alive of zero is answered, and the model is gone after it."""
    assert "stop" == client.chat("llama3.2", QUESTION, keep_alive=0).done_reason
    assert (set(), ["llama3.2:latest"]) == (server.loaded, server.loads)


def test_unloading_a_busy_model_waits_for_its_answer(
    server: ScriptedOllama, client: ollama.Client
) -> None:
    """A model asked to unload while it answers stays until the answer is over."""
    server.enqueue(Reply("a b", stall_after=1))
    stream = client.chat("llama3.2", QUESTION, stream=True)
    next(stream)
    assert server.wait_for_request().stalled.wait(10)
    assert "unload" == client.generate("llama3.2", keep_alive=0).done_reason
    assert {"llama3.2:latest"} == server.loaded
    server.release()
    list(stream)
    assert set() == server.loaded


def test_ps(client: ollama.Client) -> None:
    """A loaded model is listed with its memory, its context and its end."""
    client.chat("llama3.2", QUESTION, options={"num_ctx": 2048})
    (found,) = client.ps().models
    assert ("llama3.2:latest", 3_000, 2_000, 2048) == (
        found.name,
        found.size,
        found.size_vram,
        found.context_length,
    )


def test_forever_is_three_centuries_away(client: ollama.Client) -> None:
    """A negative keep_alive is listed as an end about 292 years from now."""
    client.generate("llama3.2", keep_alive=-1)
    expires = client.ps().models[0].expires_at
    assert expires is not None
    assert 2300 < expires.year


def test_keep_alive_is_sticky(client: ollama.Client) -> None:
    """A request without keep_alive leaves the one the model was loaded with."""
    client.generate("llama3.2", keep_alive=-1)
    client.chat("llama3.2", QUESTION)
    expires = client.ps().models[0].expires_at
    assert expires is not None
    assert 2300 < expires.year


def test_another_context_reloads(server: ScriptedOllama, client: ollama.Client) -> None:
    """A request for another context length loads the model again."""
    for num_ctx in (1024, 1024, 2048):
        client.chat("llama3.2", QUESTION, options={"num_ctx": num_ctx})
    assert ["llama3.2:latest"] * 2 == server.loads


def test_a_loading_model_is_not_listed(server: ScriptedOllama) -> None:
    """A model counts as loaded only when its load is over."""
    server.enqueue(Reply(stall_load=True), to="load")
    asking = threading.Thread(
        target=post, args=(f"{server.url}/api/generate", {"model": "qwen3:4b"})
    )
    asking.start()
    request = server.wait_for_request(to="load")
    assert request.stalled.wait(10)
    assert [] == get(f"{server.url}/api/ps").json()["models"]
    request.release()
    asking.join()
    assert {"qwen3:4b"} == server.loaded


def test_pull(server: ScriptedOllama, client: ollama.Client) -> None:
    """A pull reports its progress and leaves the model on disk."""
    found = [part.status or "" for part in client.pull("tiny", stream=True)]
    assert ("pulling manifest", "success") == (found[0], found[-1])
    assert "tiny:latest" in server.models


def test_pull_of_an_unknown_model_fails_in_the_stream(server: ScriptedOllama) -> None:
    """The error of a pull comes after a first progress line and with status 200."""
    answer = post(f"{server.url}/api/pull", {"model": "nothing"})
    assert 200 == answer.status_code
    assert [
        {"status": "pulling manifest"},
        {"error": "pull model manifest: file does not exist"},
    ] == lines(answer)


def test_pull_without_stream_fails_with_its_status(server: ScriptedOllama) -> None:
    """The error of an unstreamed pull is a 500."""
    assert 500 == post(f"{server.url}/api/pull", {"model": "no", "stream": False}).status_code


def test_an_interrupted_pull_leaves_no_model(server: ScriptedOllama) -> None:
    """A pull that the script breaks adds nothing to the disk."""
    server.enqueue(Reply(error_after=(2, "disk full")), to="pull")
    found = lines(post(f"{server.url}/api/pull", {"model": "tiny"}))
    assert {"error": "disk full"} == found[-1]
    assert "tiny:latest" not in server.models


def test_create_copy_delete(server: ScriptedOllama, client: ollama.Client) -> None:
    """Models can be made from others, copied with their digest, and deleted."""
    client.create("mine", from_="llama3.2", system="Be brief.")
    client.copy("mine", "yours")
    client.delete("mine")
    assert {"llama3.2:latest", "qwen3:4b", "yours:latest"} == server.models


def test_copy_and_delete_answer_without_a_body(server: ScriptedOllama) -> None:
    """A copy is answered with 200 and no body."""
    body = {"source": "llama3.2", "destination": "other"}
    answer = post(f"{server.url}/api/copy", body)
    assert (200, b"") == (answer.status_code, answer.content)


@pytest.mark.parametrize(
    ("seconds", "value"),
    [
        (None, None),
        (0.0, 0),
        (1.5, 1.5),
        (math.inf, -1),
        (600.0, "10m"),
        (5400.0, "1h30m"),
        (math.inf, "-1m"),
        (0.0, "0"),
        (0.25, "250ms"),
    ],
)
def test_keep_alive_forms(seconds: float | None, value: Any) -> None:
    """Numbers are seconds, strings are Go durations, negative is forever."""
    assert seconds == parse_keep_alive(value)


@pytest.mark.parametrize("value", ["-1", "300", "", "ten", "5 m", True, {}, []])
def test_keep_alive_refusals(value: Any) -> None:
    """Strings without a unit, and what is neither number nor string, are refused."""
    with pytest.raises(ValueError, match=r"time:|Unsupported"):
        parse_keep_alive(value)


def test_lines_are_utf8_as_it_is(server: ScriptedOllama) -> None:
    """Characters beyond ASCII, and U+2028 too, are sent as themselves."""
    text = "Grüße, 世界\u2028🎉"
    server.set_reply(Reply([text]))
    answer = post(f"{server.url}/api/chat")
    assert text.encode() in answer.content
    assert text == json.loads(answer.content.split(b"\n")[0])["message"]["content"]
