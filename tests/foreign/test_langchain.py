"""`langchain-ollama` against the server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import ollama
import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_ollama import ChatOllama, OllamaEmbeddings, OllamaLLM

from tests.foreign.conftest import last_heard
from tests.server.harness import ServerProcess
from workbench.testing import Reply, ScriptedOllama, ToolCall

M = TypeVar("M", bound=Any)


@tool
def calc(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def login(server: ServerProcess) -> dict[str, Any]:
    """Return what every langchain class needs to reach a server."""
    headers = {"Authorization": f"Bearer {server.token}"}
    return {"base_url": server.url, "client_kwargs": {"headers": headers}}


@contextmanager
def closing(model: M) -> Iterator[M]:
    """Close the connections that langchain leaves to the collector."""
    try:
        yield model
    finally:
        model._client.close()


@pytest.fixture
def noise(server: ServerProcess) -> Iterator[ChatOllama]:
    """Yield a chat model of random weights."""
    with closing(ChatOllama(model="rand", num_predict=8, seed=3, **login(server))) as model:
        yield model


@pytest.fixture
def llama(relay: ServerProcess, upstream: ScriptedOllama) -> Iterator[ChatOllama]:
    """Yield a chat model of the scripted Ollama."""
    with closing(ChatOllama(model="llama3.2", **login(relay))) as model:
        yield model


def test_invoke_and_stream_say_the_same(noise: ChatOllama) -> None:
    """A whole answer and a streamed one with the same seed have the same text and usage."""
    whole = noise.invoke("hi there")
    pieces = list(noise.stream("hi there"))
    assert whole.content == "".join(str(piece.content) for piece in pieces)
    assert isinstance(whole, AIMessage)
    assert whole.usage_metadata is not None
    assert 8 == whole.usage_metadata["output_tokens"]
    assert "length" == whole.response_metadata["done_reason"]


def test_structured_output_follows_its_schema(server: ServerProcess) -> None:
    """Structured output by schema gives its keys, even from random weights."""
    schema = {
        "title": "answer",
        "type": "object",
        "properties": {"fine": {"type": "boolean"}},
        "required": ["fine"],
    }
    with closing(ChatOllama(model="rand", num_predict=200, seed=1, **login(server))) as model:
        value: Any = model.with_structured_output(schema, method="json_schema").invoke("hi")
    assert bool is type(value["fine"])


def test_language_model_completes(server: ServerProcess) -> None:
    """The plain language model continues a prompt."""
    with closing(OllamaLLM(model="rand", num_predict=8, seed=3, **login(server))) as model:
        assert 8 == len(model.invoke("Once"))


def test_embeddings_tell_texts_apart(server: ServerProcess) -> None:
    """Documents and queries get vectors of one length; equal texts have equal vectors."""
    with closing(OllamaEmbeddings(model="rand", **login(server))) as model:
        one, two = model.embed_documents(["a b", "c"])
        query = model.embed_query("a b")
    assert query == pytest.approx(one)
    assert query != pytest.approx(two)


def test_tool_call_makes_the_round_trip(llama: ChatOllama, upstream: ScriptedOllama) -> None:
    """A bound tool is called, runs here, and its answer reaches the model."""
    upstream.set_reply(Reply(text="", tool_calls=[ToolCall("calc", {"a": 84, "b": 58})]))
    bound = llama.bind_tools([calc])
    ask = HumanMessage("What is 84 plus 58?")
    said = bound.invoke([ask])
    assert isinstance(said, AIMessage)
    (call,) = said.tool_calls
    upstream.set_reply(Reply(text="Hello from Ollama."))
    answer = ToolMessage(str(calc.invoke(call["args"])), tool_call_id=call["id"] or "")
    assert "Hello from Ollama." == bound.invoke([ask, said, answer]).content
    heard = last_heard(upstream, "chat").json["messages"]
    assert ("tool", "142") == (heard[-1]["role"], heard[-1]["content"])


def test_thinking_arrives_apart(relay: ServerProcess, upstream: ScriptedOllama) -> None:
    """Reasoning of a thinking model comes beside its answer."""
    upstream.set_reply(Reply(text="Four.", thinking="Two and two."))
    with closing(ChatOllama(model="qwen3:4b", reasoning=True, **login(relay))) as model:
        answer = model.invoke("2 + 2?")
    reasoning = answer.additional_kwargs["reasoning_content"]
    assert ("Four.", "Two and two.") == (answer.content, reasoning)


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        (Reply(text="one two", error_after=(1, "the runner stopped")), "the runner stopped"),
        (Reply(text="one two", no_done=True), "before the end"),
    ],
    ids=["error", "truncated"],
)
def test_broken_answer_is_raised(
    llama: ChatOllama, upstream: ScriptedOllama, reply: Reply, text: str
) -> None:
    """An answer that breaks off raises; straight at Ollama a truncated one is accepted as whole."""
    upstream.set_reply(reply)
    with pytest.raises(ollama.ResponseError, match=text):
        llama.invoke("hi")


def test_toy_calls_a_tool(server: ServerProcess, toy: str) -> None:
    """The toy model calls a bound tool with the numbers of the question."""
    with closing(ChatOllama(model=toy, temperature=0, **login(server))) as model:
        said = model.bind_tools([calc]).invoke("What is 84 plus 58?")
    assert isinstance(said, AIMessage)
    assert [("calc", {"a": 84, "b": 58})] == [(c["name"], c["args"]) for c in said.tool_calls]
