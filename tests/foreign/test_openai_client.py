"""The official `openai` client against embedded models and an Ollama host."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.foreign.conftest import last_heard
from tests.server.harness import ServerProcess
from workbench.testing import Reply, ScriptedOllama, ToolCall

MODEL = "rand"
ASK: list[Any] = [{"role": "user", "content": "hi there"}]
SHORT: dict[str, Any] = {"max_tokens": 8, "seed": 3}
SCHEMA = {
    "type": "object",
    "properties": {"fine": {"type": "boolean"}, "kind": {"enum": ["red", "blue"]}},
    "required": ["fine", "kind"],
}
CALC: Any = {
    "type": "function",
    "function": {
        "name": "calc",
        "description": "Add two numbers.",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
            "required": ["a", "b"],
        },
    },
}


def opened(server: ServerProcess) -> openai.OpenAI:
    """Open the official client as its users do; a failed request is not repeated."""
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=server.token, max_retries=0)


@pytest.fixture
def embedded(server: ServerProcess) -> Iterator[openai.OpenAI]:
    """Yield the client of the server with embedded models."""
    with opened(server) as client:
        yield client


@pytest.fixture
def relaying(relay: ServerProcess, upstream: ScriptedOllama) -> Iterator[openai.OpenAI]:
    """Yield the client of the server that relays to a scripted Ollama."""
    with opened(relay) as client:
        yield client


def chat(client: openai.OpenAI, **request: Any) -> Any:
    """Ask one short question, with whatever else the request says."""
    return client.chat.completions.create(**{"model": MODEL, "messages": ASK, **SHORT, **request})


def test_models_are_listed_and_described(embedded: openai.OpenAI) -> None:
    """The list has the models with their backend, and one can be asked for."""
    assert "rand:latest" in {model.id for model in embedded.models.list()}
    model = embedded.models.retrieve("rand")
    assert ("rand:latest", "embedded") == (model.id, model.owned_by)


def test_chat_has_text_usage_and_a_reason(embedded: openai.OpenAI) -> None:
    """A whole answer has its text, counts of tokens that add up, and ends by length."""
    answer = chat(embedded)
    (choice,) = answer.choices
    assert ["length", "assistant", 8] == [
        choice.finish_reason,
        choice.message.role,
        answer.usage.completion_tokens,
    ]
    assert choice.message.content
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 8


def test_streamed_chat_is_the_whole_chat_in_pieces(embedded: openai.OpenAI) -> None:
    """The pieces of a stream join to the whole text; the last ones carry reason and usage."""
    chunks = list(chat(embedded, stream=True, stream_options={"include_usage": True}))
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert chat(embedded).choices[0].message.content == text
    assert "length" == chunks[-2].choices[0].finish_reason
    assert ([], 8) == (chunks[-1].choices, chunks[-1].usage.completion_tokens)


def test_equal_seeds_give_equal_text(embedded: openai.OpenAI) -> None:
    """A seed repeats its text exactly."""
    texts = {chat(embedded, max_tokens=40).choices[0].message.content for _ in range(2)}
    assert 1 == len(texts)


def test_stop_text_ends_the_answer_before_it(embedded: openai.OpenAI) -> None:
    """An answer ends where a stop text would begin."""
    text = chat(embedded, max_tokens=60).choices[0].message.content
    (choice,) = chat(embedded, max_tokens=60, stop=text[20]).choices
    assert (text[: text.index(text[20])], "stop") == (choice.message.content, choice.finish_reason)


def test_schema_is_followed_even_by_noise(embedded: openai.OpenAI) -> None:
    """A json_schema response format gives JSON of that schema from random weights."""
    wanted = {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}
    answer = chat(embedded, max_tokens=200, response_format=wanted)
    assert {"fine", "kind"} == set(json.loads(answer.choices[0].message.content))


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_logprobs_come_with_each_token(embedded: openai.OpenAI, stream: bool) -> None:
    """Logprobs arrive for each of eight tokens, with two alternatives each."""
    answered = chat(embedded, logprobs=True, top_logprobs=2, stream=stream)
    parts = list(answered) if stream else [answered]
    entries = [
        entry
        for part in parts
        if part.choices and part.choices[0].logprobs
        for entry in part.choices[0].logprobs.content
    ]
    assert [2] * 8 == [len(entry.top_logprobs) for entry in entries]


def test_echo_is_refused(embedded: openai.OpenAI) -> None:
    """An answer that repeats its prompt cannot be had, and the client is told so."""
    with pytest.raises(openai.BadRequestError, match="echo is not supported"):
        embedded.completions.create(model=MODEL, prompt="one two", echo=True, **SHORT)


def test_completion_continues_a_prompt(embedded: openai.OpenAI) -> None:
    """The older completions endpoint answers whole and streamed alike."""
    whole = embedded.completions.create(model=MODEL, prompt="Once", **SHORT)
    chunks = list(embedded.completions.create(model=MODEL, prompt="Once", stream=True, **SHORT))
    assert whole.choices[0].text == "".join(chunk.choices[0].text for chunk in chunks)
    assert ("length", 8) == (whole.choices[0].finish_reason, whole.usage and 8)


def test_embeddings_arrive_in_either_encoding(embedded: openai.OpenAI) -> None:
    """Vectors are the same as numbers and as base64, which is what the client asks for."""
    packed = embedded.embeddings.create(model=MODEL, input=["a b", "c"])
    plain = embedded.embeddings.create(model=MODEL, input=["a b", "c"], encoding_format="float")
    assert 2 == len(packed.data)
    assert plain.data[0].embedding == pytest.approx(packed.data[0].embedding, abs=1e-6)


def test_unknown_model_is_not_found(embedded: openai.OpenAI) -> None:
    """An unknown model raises the client's NotFoundError with the text of the server."""
    with pytest.raises(openai.NotFoundError, match="model 'rant' not found"):
        chat(embedded, model="rant")


def test_wrong_token_is_an_authentication_error(server: ServerProcess) -> None:
    """A wrong token raises the client's AuthenticationError."""
    stranger = openai.OpenAI(base_url=f"{server.url}/v1", api_key="wrong", max_retries=0)
    with stranger, pytest.raises(openai.AuthenticationError):
        stranger.models.list()


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        ({"messages": []}, "messages must not be empty"),
        ({"n": 2}, "Invalid enum value 2"),
        ({"messages": [{"role": "user", "content": [{"type": "audio"}]}]}, "'audio'"),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "image_url", "image_url": {"url": "http://x/y.png"}}],
                    }
                ]
            },
            "remote ones are not fetched",
        ),
        ({"reasoning_effort": "high"}, "does not support thinking"),
    ],
    ids=["no message", "two answers", "audio", "remote image", "think"],
)
def test_bad_request_is_refused_with_its_reason(
    embedded: openai.OpenAI, request_: dict[str, Any], text: str
) -> None:
    """What cannot be done raises the client's BadRequestError with the reason."""
    with pytest.raises(openai.BadRequestError, match=text):
        chat(embedded, **request_)


def test_developer_message_reaches_the_model_as_system(
    relaying: openai.OpenAI, upstream: ScriptedOllama
) -> None:
    """OpenAI's newer role and parts of text become what Ollama understands."""
    parts = [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]
    messages = [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": parts}]
    chat(relaying, model="llama3.2", messages=messages)
    heard = last_heard(upstream, "chat").json
    assert [("system", "Be brief."), ("user", "one two")] == [
        (message["role"], message["content"]) for message in heard["messages"]
    ]
    assert {"num_predict": 8, "seed": 3, "temperature": 1.0, "top_p": 1.0} == heard["options"]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_tool_call_makes_the_round_trip(
    relaying: openai.OpenAI, upstream: ScriptedOllama, stream: bool
) -> None:
    """A call arrives with JSON text as arguments, and goes back to Ollama as an object."""
    upstream.set_reply(Reply(text="", tool_calls=[ToolCall("calc", {"a": 84, "b": 58})]))
    answered = chat(relaying, model="llama3.2", tools=[CALC], stream=stream)
    parts = [part.choices[0] for part in answered] if stream else answered.choices
    (call,) = [
        call for part in parts for call in (part.delta if stream else part.message).tool_calls or []
    ]
    assert ("calc", {"a": 84, "b": 58}) == (call.function.name, json.loads(call.function.arguments))
    assert "tool_calls" == parts[-1].finish_reason
    function = {"name": call.function.name, "arguments": call.function.arguments}
    said = {"id": call.id, "type": "function", "function": function}
    talk = [
        *ASK,
        {"role": "assistant", "content": None, "tool_calls": [said]},
        {"role": "tool", "tool_call_id": call.id, "content": "142"},
    ]
    chat(relaying, model="llama3.2", messages=talk, tools=[CALC])
    heard = last_heard(upstream, "chat").json["messages"]
    assert {"a": 84, "b": 58} == heard[1]["tool_calls"][0]["function"]["arguments"]
    assert call.id == heard[2]["tool_call_id"]


def test_error_in_mid_stream_is_raised(relaying: openai.OpenAI, upstream: ScriptedOllama) -> None:
    """An error after two tokens raises the client's APIError, and the tokens had arrived."""
    upstream.set_reply(Reply(text="one two three", error_after=(2, "the runner stopped")))
    pieces: list[str] = []
    stream = chat(relaying, model="llama3.2", stream=True)
    with pytest.raises(openai.APIError, match="the runner stopped"):
        pieces.extend(chunk.choices[0].delta.content or "" for chunk in stream)
    assert "one two" == "".join(pieces)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_truncated_answer_is_an_error(
    relaying: openai.OpenAI, upstream: ScriptedOllama, stream: bool
) -> None:
    """An upstream that ends without its last line gives an error, never a short answer."""
    upstream.set_reply(Reply(text="one two three", no_done=True))
    with pytest.raises(openai.APIError, match="before the end"):
        list(chat(relaying, model="llama3.2", stream=stream))


def test_toy_calls_a_tool(embedded: openai.OpenAI, toy: str) -> None:
    """The toy model calls the tool it is given and the client reads the arguments."""
    ask: list[Any] = [{"role": "user", "content": "What is 84 plus 58?"}]
    answer = embedded.chat.completions.create(
        model=toy, messages=ask, tools=[CALC], temperature=0
    ).choices[0]
    (call,) = answer.message.tool_calls or []
    assert "tool_calls" == answer.finish_reason
    assert call.type == "function"
    assert {"a": 84, "b": 58} == json.loads(call.function.arguments)
