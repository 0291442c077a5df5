"""The scripted OpenAI server, driven by OpenAI's own client and by hand."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from tests.testing.helpers import CHAT, PLAIN, events, get, post
from workbench.testing import Reply, ScriptedOpenAI, ToolCall

QUESTION: Any = [{"role": "user", "content": "Say it."}]


@pytest.fixture
def server() -> Iterator[ScriptedOpenAI]:
    with ScriptedOpenAI(reply=Reply("One two three.")) as found:
        yield found


@pytest.fixture
def client(server: ScriptedOpenAI) -> Iterator[openai.OpenAI]:
    with (
        httpx.Client(**PLAIN) as http,
        openai.OpenAI(
            base_url=f"{server.url}/v1", api_key="key", http_client=http, max_retries=0
        ) as found,
    ):
        yield found


def test_models(client: openai.OpenAI) -> None:
    """The list of models has the names as they were given."""
    assert ["llama3.2"] == [item.id for item in client.models.list()]


def test_health(server: ScriptedOpenAI) -> None:
    """The health of the server is fine unless its script says otherwise."""
    server.enqueue(Reply(error_first=(503, "Loading model")), to="health")
    answers = [get(f"{server.url}/health") for _ in range(2)]
    assert [503, 200] == [item.status_code for item in answers]
    assert "unavailable_error" == answers[0].json()["error"]["type"]


def test_chat_streams_word_by_word(client: openai.OpenAI) -> None:
    """A streamed chat sends the role, one event per token, and the reason of its end."""
    stream = client.chat.completions.create(model="llama3.2", messages=QUESTION, stream=True)
    choices = [part.choices[0] for part in stream]
    assert "assistant" == choices[0].delta.role
    assert ["", "One", " two", " three.", None] == [item.delta.content for item in choices]
    assert "stop" == choices[-1].finish_reason


def test_usage_comes_on_demand(client: openai.OpenAI) -> None:
    """With `include_usage` the last event has no choice and the counts."""
    stream = client.chat.completions.create(
        model="llama3.2", messages=QUESTION, stream=True, stream_options={"include_usage": True}
    )
    *_, last = stream
    assert last.usage is not None
    assert ([], 2, 3) == (last.choices, last.usage.prompt_tokens, last.usage.completion_tokens)


def test_a_stream_ends_with_its_mark(server: ScriptedOpenAI) -> None:
    """The last event of a stream is `[DONE]`, and no usage comes unasked."""
    found = events(post(f"{server.url}/v1/chat/completions", CHAT | {"stream": True}))
    assert "[DONE]" == found[-1]
    assert not any("usage" in item for item in found[:-1])


def test_plain_chat(client: openai.OpenAI) -> None:
    """An unstreamed chat has the whole text and the counts."""
    answer = client.chat.completions.create(model="llama3.2", messages=QUESTION)
    assert answer.usage is not None
    assert ("One two three.", "stop", 5) == (
        answer.choices[0].message.content,
        answer.choices[0].finish_reason,
        answer.usage.total_tokens,
    )


@pytest.mark.parametrize("stream", [True, False])
def test_reasoning(server: ScriptedOpenAI, stream: bool) -> None:
    """Reasoning comes in `reasoning_content`."""
    server.set_reply(Reply("Four.", thinking="Two and two"))
    answer = post(f"{server.url}/v1/chat/completions", CHAT | {"stream": stream})
    values = [item for item in events(answer) if item != "[DONE]"] if stream else [answer.json()]
    parts = [item["choices"][0]["delta" if stream else "message"] for item in values]
    assert "Two and two" == "".join(part.get("reasoning_content", "") for part in parts)
    assert "Four." == "".join(part.get("content") or "" for part in parts)


def test_streamed_tool_calls(server: ScriptedOpenAI, client: openai.OpenAI) -> None:
    """The arguments of a streamed tool call come in parts after its name."""
    server.set_reply(Reply(tool_calls=[ToolCall("add", {"a": 1, "b": 2}, id="x")]))
    stream = client.chat.completions.create(model="llama3.2", messages=QUESTION, stream=True)
    choices = [part.choices[0] for part in stream]
    calls = [call for item in choices for call in item.delta.tool_calls or []]
    functions = [call.function for call in calls if call.function is not None]
    assert ("x", "add") == (calls[0].id, functions[0].name)
    assert {"a": 1, "b": 2} == json.loads("".join(item.arguments or "" for item in functions))
    assert "tool_calls" == choices[-1].finish_reason


def test_plain_tool_calls(server: ScriptedOpenAI, client: openai.OpenAI) -> None:
    """An unstreamed answer of tool calls has no content."""
    server.set_reply(Reply(tool_calls=[ToolCall("add", {"a": 1})]))
    answer = client.chat.completions.create(model="llama3.2", messages=QUESTION)
    message = answer.choices[0].message
    assert message.content is None
    assert [("call_0", "function")] == [(item.id, item.type) for item in message.tool_calls or []]


def test_images_are_recorded(server: ScriptedOpenAI, client: openai.OpenAI) -> None:
    """The images of a request can be read as bytes."""
    picture = b"\x89PNG not really"
    url = f"data:image/png;base64,{base64.b64encode(picture).decode()}"
    content = [{"type": "text", "text": "?"}, {"type": "image_url", "image_url": {"url": url}}]
    messages: Any = [{"role": "user", "content": content}]
    client.chat.completions.create(model="llama3.2", messages=messages)
    assert [picture] == server.wait_for_request(to="chat").images


@pytest.mark.parametrize("stream", [True, False])
def test_completions(server: ScriptedOpenAI, stream: bool) -> None:
    """Plain completions have the text of the choice in `text`."""
    body = {"model": "llama3.2", "prompt": "Say it.", "stream": stream}
    answer = post(f"{server.url}/v1/completions", body)
    values = [item for item in events(answer) if item != "[DONE]"] if stream else [answer.json()]
    assert "One two three." == "".join(item["choices"][0]["text"] for item in values)
    assert "stop" == values[-1]["choices"][0]["finish_reason"]


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_embeddings(client: openai.OpenAI, encoding: Any) -> None:
    """Embeddings come as numbers or packed, equal for equal texts."""
    answer = client.embeddings.create(
        model="llama3.2", input=["a", "a"], dimensions=8, encoding_format=encoding
    )
    packed = isinstance(answer.data[0].embedding, str)
    assert (encoding == "base64", answer.data[0].embedding) == (packed, answer.data[1].embedding)


def test_unknown_model(client: openai.OpenAI) -> None:
    """A model that the server has not is a 404."""
    with pytest.raises(openai.NotFoundError, match="does not exist"):
        client.chat.completions.create(model="other", messages=QUESTION)


def test_api_key() -> None:
    """A server with a key refuses requests without it, and leaves its health open."""
    with ScriptedOpenAI(api_key="secret") as server:
        assert 401 == get(f"{server.url}/v1/models").status_code
        assert 200 == get(f"{server.url}/health").status_code
        with httpx.Client(**PLAIN, headers={"Authorization": "Bearer secret"}) as client:
            assert 200 == client.get(f"{server.url}/v1/models").status_code


def test_error_in_the_stream(server: ScriptedOpenAI, client: openai.OpenAI) -> None:
    """An error inside a stream is an event of its own."""
    server.set_reply(Reply("a b c", error_after=(2, "out of memory")))
    stream = client.chat.completions.create(model="llama3.2", messages=QUESTION, stream=True)
    with pytest.raises(openai.APIError, match="out of memory"):
        list(stream)


@pytest.mark.parametrize("status", [400, 429, 500])
def test_error_first(server: ScriptedOpenAI, client: openai.OpenAI, status: int) -> None:
    """An error before the answer has its status and headers."""
    server.set_reply(Reply(error_first=(status, "no"), headers={"Retry-After": "7"}))
    with pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(model="llama3.2", messages=QUESTION)
    assert (status, "7") == (caught.value.status_code, caught.value.response.headers["retry-after"])


def test_no_done(server: ScriptedOpenAI) -> None:
    """A stream without its end has neither a reason nor the mark, and status 200."""
    server.set_reply(Reply("a b", no_done=True))
    found = events(post(f"{server.url}/v1/chat/completions", CHAT | {"stream": True}))
    assert [None] * 3 == [item["choices"][0]["finish_reason"] for item in found]
