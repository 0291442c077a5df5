"""An OpenAI-compatible server behind ours: what it can do works, what it cannot is said."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.server.harness import ServerProcess, lines_of
from workbench.testing import Reply, ScriptedOpenAI, ToolCall

MODEL = "Qwen/Qwen3-8B"
QUESTION = {"role": "user", "content": "hi"}


@pytest.fixture(scope="module")
def host() -> Iterator[ScriptedOpenAI]:
    """Yield one scripted server for the tests of this module."""
    with ScriptedOpenAI(models=[MODEL, "bge-small"], api_key="k3y") as scripted:
        yield scripted


@pytest.fixture(scope="module")
def behind(
    host: ScriptedOpenAI, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    """Yield a server with that backend, whose key is in the environment."""
    folder = tmp_path_factory.mktemp("openai")
    (folder / "workbench.toml").write_text(
        f'[[backend]]\nname = "vllm"\nkind = "openai"\nurl = "{host.url}/v1"\n'
        'token_env = "VLLM_KEY"\nheaders_env = { "X-Team" = "TEAM" }\n'
    )
    with ServerProcess(folder, env={"VLLM_KEY": "k3y", "TEAM": "blue"}) as running:
        yield running


def text_of(lines: list[dict[str, Any]]) -> str:
    """Return the text of an answer's lines."""
    return "".join(line.get("message", {}).get("content", "") for line in lines)


def chat(server: ServerProcess, **changes: Any) -> list[dict[str, Any]]:
    """Return the lines of a chat's answer."""
    body = {"model": MODEL, "messages": [QUESTION], **changes}
    return lines_of(server.http.post("/api/chat", json=body))


def test_native_chat_is_translated_both_ways(host: ScriptedOpenAI, behind: ServerProcess) -> None:
    """Options, thinking and secrets reach the host; text, reasoning and counts come back."""
    host.enqueue(Reply("two words", thinking="hm"))
    options = {"temperature": 0.5, "num_predict": 9, "num_ctx": 4096}
    lines = chat(behind, options=options, think="low", format="json")
    seen = [item for item in host.requests if item.operation == "chat"][-1]
    assert ("two words", "hm") == (
        text_of(lines),
        "".join(line.get("message", {}).get("thinking", "") for line in lines),
    )
    assert (True, "stop", 2) == (
        lines[-1]["done"],
        lines[-1]["done_reason"],
        lines[-1]["eval_count"] - 1,
    )
    assert (0.5, 9, "low", {"type": "json_object"}) == tuple(
        seen.json[name]
        for name in ("temperature", "max_tokens", "reasoning_effort", "response_format")
    )
    assert {"num_ctx", "top_k"}.isdisjoint(seen.json)
    assert ("Bearer k3y", "blue") == (seen.headers["authorization"], seen.headers["x-team"])


def test_tool_calls_come_whole(host: ScriptedOpenAI, behind: ServerProcess) -> None:
    """The pieces of a call are one native call."""
    host.enqueue(Reply("", tool_calls=[ToolCall("add", {"a": 1})]))
    tools = [{"function": {"name": "add", "parameters": {"type": "object"}}}]
    lines = chat(behind, tools=tools)
    calls = [call for line in lines for call in line.get("message", {}).get("tool_calls", ())]
    assert [("add", {"a": 1})] == [
        (call["function"]["name"], call["function"]["arguments"]) for call in calls
    ]


def test_prompt_becomes_a_conversation(host: ScriptedOpenAI, behind: ServerProcess) -> None:
    """Generate uses the model's template, and raw goes to the model as it is."""
    answers = [
        behind.http.post("/api/generate", json={"model": MODEL, "stream": False, **body}).json()
        for body in ({"prompt": "go", "system": "be kind"}, {"prompt": "go", "raw": True})
    ]
    assert ["Hello from a script."] * 2 == [answer["response"] for answer in answers]
    first, second = [item for item in host.requests if item.json is not None][-2:]
    assert ["system", "user"] == [message["role"] for message in first.json["messages"]]
    assert ("completions", "go") == (second.operation, second.json["prompt"])


def test_vectors_come_through(behind: ServerProcess) -> None:
    """Embeddings of several texts keep their order and have length 1."""
    answer = behind.http.post("/api/embed", json={"model": "bge-small", "input": ["a", "b"]}).json()
    assert [1.0, 1.0] == [
        pytest.approx(sum(x * x for x in vector)) for vector in answer["embeddings"]
    ]


def test_openai_clients_are_served_too(behind: ServerProcess) -> None:
    """The OpenAI surface reaches such a host through the native form."""
    answer = behind.http.post(
        "/v1/chat/completions", json={"model": MODEL, "messages": [QUESTION]}
    ).json()
    assert "Hello from a script." == answer["choices"][0]["message"]["content"]


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply("one two", no_done=True), "StreamBroken"),
        (Reply("one two", reset_after=1), "StreamBroken"),
        (Reply("one two", garbage_line_after=1), "ProtocolError"),
    ],
    ids=["no end", "reset", "garbage"],
)
def test_answer_that_broke_is_never_a_short_one(
    reply: Reply, kind: str, host: ScriptedOpenAI, behind: ServerProcess
) -> None:
    """The client gets an error line after the text before it."""
    host.enqueue(reply)
    assert kind == chat(behind)[-1]["workbench"]["type"]


def test_page_in_place_of_an_answer_is_an_error(
    host: ScriptedOpenAI, behind: ServerProcess
) -> None:
    """HTML is a protocol error, and the server stays up."""
    host.enqueue(Reply(html_instead=200))
    answer = behind.http.post("/api/chat", json={"model": MODEL, "messages": [QUESTION]})
    assert (502, "ProtocolError") == (answer.status_code, answer.json()["type"])


def test_what_it_cannot_do_is_refused_by_name(behind: ServerProcess) -> None:
    """Unload, show and suffix are 501 with what to do instead; its states are unknown."""
    asked = [
        behind.http.post("/workbench/v1/unload", json={"model": MODEL}),
        behind.http.post("/api/show", json={"model": MODEL}),
        behind.http.post("/api/generate", json={"model": MODEL, "prompt": "a", "suffix": "b"}),
    ]
    assert [(501, "UnsupportedOperation")] * 3 == [
        (answer.status_code, answer.json()["type"]) for answer in asked
    ]
    rows = behind.http.get("/workbench/v1/models").json()["models"]
    mine = [row for row in rows if row["backend"] == "vllm"]
    assert {("unknown", None)} == {(row["state"], row["digest"]) for row in mine}
