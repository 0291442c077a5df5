"""The official `ollama` Python client against an Ollama host behind the server."""

from __future__ import annotations

import json
import threading
from typing import Any

import ollama
import pytest

from tests.foreign.conftest import last_heard
from tests.server.harness import ServerProcess
from workbench.testing import Reply, ScriptedOllama, ToolCall

ASK = [{"role": "user", "content": "hi"}]
TEXT = "Hello from Ollama."
CALL = ToolCall("calc", {"a": 84, "b": 58})


def test_models_of_the_host_are_listed_and_shown(relayed: ollama.Client) -> None:
    """The host's models are in the list and show passes the host's own answer."""
    names = {model.model for model in relayed.list().models}
    assert {"llama3.2:latest", "qwen3:4b", "llava:latest"} <= names
    assert ["completion", "tools", "thinking"] == relayed.show("qwen3:4b").capabilities


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_chat_and_generate_pass_through(relayed: ollama.Client, stream: bool) -> None:
    """Chat and generate give the host's text, whole and streamed."""
    chat: Any = relayed.chat("llama3.2", ASK, stream=stream)
    generate: Any = relayed.generate("llama3.2", "hi", stream=stream)
    said = [part.message.content for part in (chat if stream else [chat])]
    continued = [part.response for part in (generate if stream else [generate])]
    assert [TEXT, TEXT] == ["".join(said), "".join(continued)]


def test_request_reaches_the_host_unchanged(
    relayed: ollama.Client, upstream: ScriptedOllama
) -> None:
    """Options known and unknown, format and keep_alive arrive at the host as they were sent."""
    options = {"num_ctx": 4096, "seed": 1, "mirostat": 2}
    relayed.chat("llama3.2", ASK, options=options, format="json", keep_alive="5m")
    heard = last_heard(upstream, "chat").json
    assert [options, "json", "5m"] == [heard[name] for name in ("options", "format", "keep_alive")]


def test_thinking_arrives_apart(relayed: ollama.Client, upstream: ScriptedOllama) -> None:
    """The reasoning of a thinking model streams beside its answer."""
    upstream.set_reply(Reply(text="Four.", thinking="Two and two."))
    parts = list(relayed.chat("qwen3:4b", ASK, think=True, stream=True))
    assert ["Two and two.", "Four."] == [
        "".join(part.message.thinking or "" for part in parts),
        "".join(part.message.content or "" for part in parts),
    ]


def test_think_is_refused_by_the_host(relayed: ollama.Client) -> None:
    """The host's 400 for a model that cannot think comes through with its words."""
    with pytest.raises(ollama.ResponseError) as caught:
        relayed.chat("llama3.2", ASK, think=True)
    assert (400, '"llama3.2" does not support thinking') == (
        caught.value.status_code,
        caught.value.error,
    )


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_tool_call_comes_through(
    relayed: ollama.Client, upstream: ScriptedOllama, stream: bool
) -> None:
    """A tool call arrives with name and arguments, whole and streamed."""
    upstream.set_reply(Reply(text="", tool_calls=[CALL]))
    tool = {"type": "function", "function": {"name": "calc", "parameters": {"type": "object"}}}
    answered: Any = relayed.chat("llama3.2", ASK, tools=[tool], stream=stream)
    parts = answered if stream else [answered]
    (call,) = [call for part in parts for call in part.message.tool_calls or []]
    assert ("calc", {"a": 84, "b": 58}) == (call.function.name, dict(call.function.arguments))
    assert "calc" == last_heard(upstream, "chat").json["tools"][0]["function"]["name"]


def test_image_reaches_the_host(relayed: ollama.Client, upstream: ScriptedOllama) -> None:
    """The bytes of an image arrive at a model that sees."""
    relayed.chat("llava", [{"role": "user", "content": "What?", "images": [b"\x89PNG picture"]}])
    assert [b"\x89PNG picture"] == last_heard(upstream, "chat").images


def test_embeddings_of_the_host_come_through(relayed: ollama.Client) -> None:
    """Embed gives the host's vectors, equal for equal texts."""
    one, two, again = relayed.embed("nomic-embed-text", ["a", "b", "a"]).embeddings
    assert (list(one), True) == (list(again), list(one) != list(two))


def test_model_is_loaded_and_unloaded_by_keep_alive(
    relayed: ollama.Client, upstream: ScriptedOllama
) -> None:
    """An empty request loads at the host, and with a keep_alive of zero unloads there."""
    assert "load" == relayed.generate("qwen3:4b", keep_alive=-1).done_reason
    assert "qwen3:4b" in upstream.loaded
    assert "qwen3:4b" in {model.model for model in relayed.ps().models}
    assert "unload" == relayed.generate("qwen3:4b", keep_alive=0).done_reason
    assert "qwen3:4b" not in upstream.loaded
    assert "qwen3:4b" not in {model.model for model in relayed.ps().models}


def test_error_before_the_first_token_has_its_status(
    relayed: ollama.Client, upstream: ScriptedOllama
) -> None:
    """The host's 503 arrives as a ResponseError with that status."""
    upstream.set_reply(Reply(error_first=(503, "server busy, please try again.")))
    with pytest.raises(ollama.ResponseError) as caught:
        relayed.chat("llama3.2", ASK)
    assert (503, "server busy, please try again.") == (caught.value.status_code, caught.value.error)


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        (Reply(text="one two three", error_after=(2, "the runner stopped")), "the runner stopped"),
        (Reply(text="one two three", no_done=True), "before the end"),
        (Reply(text="one two three", truncate_at_byte=150), "before the end"),
        (Reply(text="one two three", reset_after=2), "."),
        (Reply(text="one two three", garbage_line_after=1), "not JSON"),
    ],
    ids=["error", "no last line", "half a line", "reset", "garbage"],
)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_broken_answer_is_an_error(
    relayed: ollama.Client, upstream: ScriptedOllama, reply: Reply, text: str, stream: bool
) -> None:
    """However an answer breaks off, the client raises ResponseError; it is never a short answer."""
    upstream.set_reply(reply)
    with pytest.raises(ollama.ResponseError, match=text):
        list(relayed.chat("llama3.2", ASK, stream=stream))


def test_blank_line_does_not_reach_the_client(
    relayed: ollama.Client, upstream: ScriptedOllama
) -> None:
    """An empty line, over which the client itself would fall, is not passed on."""
    upstream.set_reply(Reply(text="one two", blank_line_after=1))
    parts = list(relayed.chat("llama3.2", ASK, stream=True))
    assert "one two" == "".join(part.message.content or "" for part in parts)


def test_leaving_the_stream_frees_the_host(relay: ServerProcess, upstream: ScriptedOllama) -> None:
    """A client that goes in the middle of an answer ends the request at the host."""
    upstream.set_reply(Reply(text="one two three", stall_after=1))
    headers = {"Authorization": f"Bearer {relay.token}"}
    with ollama.Client(relay.url, headers=headers) as leaving:
        next(leaving.chat("llama3.2", ASK, stream=True))
    request = last_heard(upstream, "chat")
    assert request.disconnected.wait(timeout=20)


def test_pull_shows_its_progress(relayed: ollama.Client, upstream: ScriptedOllama) -> None:
    """The lines of a pull come through with their bytes, and the model is there afterwards."""
    lines = list(relayed.pull("tiny", stream=True))
    assert ["pulling manifest", "success"] == [lines[0].status, lines[-1].status]
    assert [1, 2, 3, 4] == [
        4 * line.completed // line.total for line in lines if line.completed and line.total
    ]
    assert "tiny:latest" in {model.model for model in relayed.list().models}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_pull_of_nothing_is_an_error(relayed: ollama.Client, stream: bool) -> None:
    """A model that the registry does not have raises the host's reason."""
    with pytest.raises(ollama.ResponseError, match="file does not exist"):
        list(relayed.pull("nowhere", stream=stream))


def test_model_is_made_copied_and_deleted_at_the_host(
    relayed: ollama.Client, upstream: ScriptedOllama
) -> None:
    """Create, copy and delete with the name of the backend act at the host."""
    assert "success" == relayed.create(model="mine@ollama", from_="llama3.2").status
    relayed.copy("mine", "twin")
    assert {"mine:latest", "twin:latest"} <= upstream.models
    relayed.delete("mine")
    relayed.delete("twin")
    assert not {"mine:latest", "twin:latest"} & upstream.models


def test_two_answers_stream_at_once(relayed: ollama.Client, upstream: ScriptedOllama) -> None:
    """One stalled answer does not hold up another one of the same model."""
    upstream.set_reply(Reply(text="slow one", stall_after=1))
    slow: list[str] = []

    def read() -> None:
        parts = relayed.chat("llama3.2", ASK, stream=True)
        slow.extend(part.message.content or "" for part in parts)

    before = len(upstream.requests)
    reader = threading.Thread(target=read)
    reader.start()
    stalled = upstream.wait_for_request(before + 1)
    while stalled.operation != "chat":
        before += 1
        stalled = upstream.wait_for_request(before + 1)
    assert stalled.stalled.wait(timeout=20)
    upstream.set_reply(Reply(text=TEXT))
    assert TEXT == relayed.chat("llama3.2", ASK).message.content
    stalled.release()
    reader.join(timeout=20)
    assert "slow one" == "".join(slow)


def test_lines_are_the_hosts_own(relay: ServerProcess, upstream: ScriptedOllama) -> None:
    """A line passes byte for byte, with fields that nobody here knows."""
    line = json.dumps({"model": "llama3.2", "message": {"content": "x"}, "new": [1], "done": True})
    upstream.set_reply(Reply(raw=line.encode() + b"\n"))
    response = relay.http.post("/api/chat", json={"model": "llama3.2", "messages": ASK})
    assert line.encode() + b"\n" == response.content
