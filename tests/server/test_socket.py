"""Chats over the WebSocket: every frame, several at once, cancelling, faults and bad messages."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.server.harness import ServerProcess
from workbench.testing import FakeModel, Reply, ScriptedOllama, ToolCall

MODEL = "llama3.2:latest"
BODY = {"model": "llama3.2", "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture(scope="module")
def host() -> Iterator[ScriptedOllama]:
    """Yield one scripted Ollama for the tests of this module."""
    model = FakeModel(MODEL, capabilities=["completion", "tools", "thinking"])
    with ScriptedOllama(models=[model], reply=Reply("Hello from Ollama.")) as scripted:
        yield scripted


@pytest.fixture(scope="module")
def behind(
    host: ScriptedOllama, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    """Yield a server whose Ollama backend is that one."""
    env = {"OLLAMA_HOST": host.url}
    with ServerProcess(tmp_path_factory.mktemp("socket"), env=env) as running:
        yield running


@asynccontextmanager
async def opened(server: ServerProcess) -> AsyncIterator[ClientConnection]:
    """Open a socket."""
    url = server.url.replace("http://", "ws://") + "/workbench/v1/chat"
    headers = {"Authorization": f"Bearer {server.token}"}
    async with asyncio.timeout(60), connect(url, additional_headers=headers, proxy=None) as socket:
        yield socket


def talk(server: ServerProcess, work: Callable[[ClientConnection], Awaitable[Any]]) -> Any:
    """Run a test's coroutine on an open socket."""

    async def main() -> Any:
        async with opened(server) as socket:
            return await work(socket)

    return asyncio.run(main())


async def say(socket: ClientConnection, kind: str, chat: str, **fields: Any) -> None:
    """Send one message."""
    await socket.send(json.dumps({"type": kind, "id": chat, **fields}))


async def frames(socket: ClientConnection, *, ends: int = 1) -> list[dict[str, Any]]:
    """Return the frames up to so many ends."""
    found: list[dict[str, Any]] = []
    while sum(frame["type"] == "end" for frame in found) < ends:
        found.append(json.loads(await socket.recv()))
    return found


def text_of(found: list[dict[str, Any]], chat: str) -> str:
    """Return the text of one chat's frames."""
    return "".join(row["text"] for row in found if row["type"] == "text" and row["id"] == chat)


def test_a_chat_is_frames_from_open_to_end(host: ScriptedOllama, behind: ServerProcess) -> None:
    """Open, reasoning, text, tool call and end arrive in order, with model, usage and reason."""
    host.enqueue(Reply("one two", thinking="hm", tool_calls=[ToolCall("f", {"x": 1})]))

    async def work(socket: ClientConnection) -> list[dict[str, Any]]:
        await say(socket, "chat", "a", body=BODY)
        return await frames(socket)

    found = talk(behind, work)
    kinds = [row["type"] for row in found if row["type"] != "phase"]
    assert ["open", "reasoning", "text", "text", "tool_call", "end"] == kinds
    first, last = found[0], found[-1]
    assert ("a", f"{MODEL}@ollama") == (first["id"], first["model"])
    assert ("f", {"x": 1}) == (found[-2]["name"], found[-2]["arguments"])
    assert ("tool_calls", True) == (last["reason"], last["usage"]["output_tokens"] > 0)
    assert {"total_s", "load_s", "prompt_s", "eval_s"} == set(last["timings"])


def test_status_phases_are_frames(host: ScriptedOllama, behind: ServerProcess) -> None:
    """While a model loads the client is told."""
    behind.http.post("/workbench/v1/unload", json={"model": MODEL})

    async def work(socket: ClientConnection) -> list[dict[str, Any]]:
        await say(socket, "chat", "a", body=BODY)
        return await frames(socket)

    phases = [row for row in talk(behind, work) if row["type"] == "phase"]
    assert "loading" == phases[0]["phase"]


def test_generate_is_a_chat_too(host: ScriptedOllama, behind: ServerProcess) -> None:
    """A prompt is answered with the same frames."""
    host.enqueue(Reply("one two"))

    async def work(socket: ClientConnection) -> list[dict[str, Any]]:
        await say(socket, "generate", "g", body={"model": "llama3.2", "prompt": "x"})
        return await frames(socket)

    found = talk(behind, work)
    assert ("one two", "stop") == (text_of(found, "g"), found[-1]["reason"])


def test_two_chats_share_a_socket(host: ScriptedOllama, behind: ServerProcess) -> None:
    """Their frames interleave and carry their ids; a stalled one does not hold up the other."""
    host.enqueue(Reply("slow one", stall_after=1))

    async def work(socket: ClientConnection) -> list[dict[str, Any]]:
        count = len([item for item in host.requests if item.operation == "chat"])
        await say(socket, "chat", "slow", body=BODY)
        request = await asyncio.to_thread(host.wait_for_request, count + 1, to="chat")
        await asyncio.to_thread(request.stalled.wait, 10)
        await say(socket, "chat", "fast", body=BODY)
        found = await frames(socket)
        assert "fast" == found[-1]["id"]
        request.release()
        return found + await frames(socket)

    found = talk(behind, work)
    assert ("slow one", "Hello from Ollama.") == (text_of(found, "slow"), text_of(found, "fast"))


def test_cancel_frees_the_model_and_keeps_the_socket(
    host: ScriptedOllama, behind: ServerProcess
) -> None:
    """The host sees the client go, the end says cancelled with the partial, the next chat works."""
    host.enqueue(Reply("one two three", stall_after=2))

    async def work(socket: ClientConnection) -> list[dict[str, Any]]:
        count = len([item for item in host.requests if item.operation == "chat"])
        await say(socket, "chat", "a", body=BODY)
        request = await asyncio.to_thread(host.wait_for_request, count + 1, to="chat")
        while json.loads(await socket.recv()).get("text") != " two":
            pass
        await say(socket, "cancel", "a")
        ended = await frames(socket)
        assert await asyncio.to_thread(request.disconnected.wait, 10)
        await say(socket, "chat", "a", body=BODY)
        return [ended[-1], (await frames(socket))[-1]]

    cancelled, after = talk(behind, work)
    assert ("cancelled", "one two") == (cancelled["reason"], cancelled["partial"])
    assert "stop" == after["reason"]


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply("one two three", error_after=(2, "runner stopped")), "ResponseError"),
        (Reply("one two three", no_done=True), "StreamBroken"),
        (Reply("one two three", reset_after=2), "StreamBroken"),
        (Reply("one two three", garbage_line_after=2), "ProtocolError"),
    ],
    ids=["error", "no end", "reset", "garbage"],
)
def test_error_in_mid_stream_keeps_the_partial_and_closes(
    reply: Reply, kind: str, host: ScriptedOllama, behind: ServerProcess
) -> None:
    """An error frame with what had arrived, an end, then a normal close."""
    host.enqueue(reply)

    async def work(socket: ClientConnection) -> tuple[list[dict[str, Any]], int | None]:
        await say(socket, "chat", "a", body=BODY)
        found = await frames(socket)
        with pytest.raises(ConnectionClosed):
            await socket.recv()
        return found, socket.close_code

    found, code = talk(behind, work)
    error = found[-2]
    assert ("error", kind, 1000) == (error["type"], error["error_type"], code)
    assert text_of(found, "a") == error["partial"]
    assert error["partial"].startswith("one two")
    assert "error" == found[-1]["reason"]


def test_error_does_not_close_on_another_chat(host: ScriptedOllama, behind: ServerProcess) -> None:
    """While another chat runs the socket stays open for it."""
    host.enqueue(Reply("slow one", stall_after=1), Reply("x", error_after=(1, "stopped")))

    async def work(socket: ClientConnection) -> list[dict[str, Any]]:
        count = len([item for item in host.requests if item.operation == "chat"])
        await say(socket, "chat", "slow", body=BODY)
        request = await asyncio.to_thread(host.wait_for_request, count + 1, to="chat")
        await asyncio.to_thread(request.stalled.wait, 10)
        await say(socket, "chat", "bad", body=BODY)
        found = await frames(socket)
        request.release()
        return found + await frames(socket)

    assert "slow one" == text_of(talk(behind, work), "slow")


BAD_MESSAGES = {
    "no JSON": "{",
    "no object": "[]",
    "number": "5",
    "no type": '{"id": "a"}',
    "unknown type": '{"type": "sing", "id": "a"}',
    "no body": '{"type": "chat", "id": "a"}',
    "wrong body": '{"type": "chat", "id": "a", "body": {"model": 5}}',
    "no model": '{"type": "chat", "id": "a", "body": {"messages": []}}',
    "unknown model": '{"type": "chat", "id": "a", "body": {"model": "nope"}}',
    "keep_alive": '{"type": "chat", "id": "a", "body": {"model": "llama3.2", "keep_alive": "9"}}',
    "cancel of nothing": '{"type": "cancel", "id": "a"}',
    "deep": '{"type":"chat","body":' + "[" * 5000 + "]" * 5000 + "}",
    "binary": b"\x00\x01",
    "id": '{"type": "chat", "id": 5, "body": {}}',
}


@pytest.mark.parametrize("name", BAD_MESSAGES)
def test_bad_message_is_an_error_frame(name: str, behind: ServerProcess) -> None:
    """A message that is wrong is answered with why, and the socket goes on."""

    async def work(socket: ClientConnection) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        await socket.send(BAD_MESSAGES[name])
        error = json.loads(await socket.recv())
        await say(socket, "chat", "next", body=BODY)
        found = await frames(socket)
        while found[-1]["id"] != "next":
            found += await frames(socket)
        return error, found

    error, found = talk(behind, work)
    assert ("error", True) == (error["type"], bool(error["error"]))
    assert "Hello from Ollama." == text_of(found, "next")


def test_running_chat_keeps_its_id(host: ScriptedOllama, behind: ServerProcess) -> None:
    """A second chat of the same id is refused while the first runs."""
    host.enqueue(Reply("slow one", stall_after=1))

    async def work(socket: ClientConnection) -> list[dict[str, Any]]:
        count = len([item for item in host.requests if item.operation == "chat"])
        await say(socket, "chat", "a", body=BODY)
        request = await asyncio.to_thread(host.wait_for_request, count + 1, to="chat")
        await asyncio.to_thread(request.stalled.wait, 10)
        await say(socket, "chat", "a", body=BODY)
        found = []
        while not found or found[-1]["type"] != "error":
            found.append(json.loads(await socket.recv()))
        request.release()
        return found + await frames(socket)

    found = talk(behind, work)
    error = next(row for row in found if row["type"] == "error")
    assert (409, "slow one") == (error["status"], text_of(found, "a"))


def test_huge_message_closes_the_socket(behind: ServerProcess) -> None:
    """A frame past server.max_body_bytes ends the connection with 1009; the server goes on."""

    async def work(socket: ClientConnection) -> int | None:
        with contextlib.suppress(ConnectionClosed):
            await socket.send("x" * (64 * 2**20 + 1))
        await socket.wait_closed()
        return socket.close_code

    assert 1009 == talk(behind, work)
    assert 200 == behind.http.get("/api/version").status_code


def test_client_that_leaves_frees_the_model(host: ScriptedOllama, behind: ServerProcess) -> None:
    """Closing the socket in mid-stream is seen at the host."""
    host.enqueue(Reply("one two", stall_after=1))
    count = len([item for item in host.requests if item.operation == "chat"])

    async def work(socket: ClientConnection) -> Any:
        await say(socket, "chat", "a", body=BODY)
        request = await asyncio.to_thread(host.wait_for_request, count + 1, to="chat")
        assert await asyncio.to_thread(request.stalled.wait, 10)
        return request

    assert talk(behind, work).disconnected.wait(10)


def test_embedded_model_answers_over_the_socket(server: ServerProcess) -> None:
    """A real model's tokens arrive as frames and end with their count."""
    body = {"model": "rand", "prompt": "a", "options": {"num_predict": 5, "seed": 1}}

    async def work(socket: ClientConnection) -> list[dict[str, Any]]:
        await say(socket, "generate", "a", body=body)
        return await frames(socket)

    last = talk(server, work)[-1]
    assert ("length", 5) == (last["reason"], last["usage"]["output_tokens"])
