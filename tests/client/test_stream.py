from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.client.raw import HEAD, raw_server
from workbench.client.api import WorkbenchClient
from workbench.client.http import Deadlines, FixedAddress
from workbench.errors import (
    ConnectionFailed,
    ModelError,
    ModelNotFound,
    ProtocolError,
    RequestTimeout,
    ResponseError,
    StreamBroken,
)
from workbench.messages import (
    Failed,
    Finished,
    Message,
    Opened,
    Phase,
    ReasoningDelta,
    StreamEvent,
    TextDelta,
    ToolCallDelta,
)
from workbench.portal import get_portal
from workbench.testing import FakeModel, Reply, ScriptedOllama, ToolCall

NewClient = Callable[..., WorkbenchClient]


@dataclass
class Read:
    """Everything one answer gave, and what was raised in place of it."""

    events: list[StreamEvent]
    raised: ModelError | None = None

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, TextDelta))

    @property
    def error(self) -> ModelError:
        if self.raised is not None:
            return self.raised
        assert isinstance(self.events[-1], Failed)
        assert isinstance(self.events[-1].error, ModelError)
        return self.events[-1].error


def read(client: WorkbenchClient, *, model: str = "m") -> Read:
    """Read one answer to its end."""
    found = Read([])

    async def run() -> None:
        async for batch in client.chat_batches(model, [Message("user", "hi")]):
            found.events += batch

    try:
        get_portal().run(run())
    except ModelError as exc:
        found.raised = exc
    return found


def test_events_of_an_answer(client: WorkbenchClient, ollama: ScriptedOllama) -> None:
    """An answer is opened, thinks, speaks, asks for a tool and finishes, in this order."""
    calls = [ToolCall("add", {"a": 1}, "c1")]
    ollama.set_reply(Reply("so be it", thinking="hm", tool_calls=calls))
    events = read(client).events
    kinds = [Opened, ReasoningDelta, TextDelta, TextDelta, TextDelta, ToolCallDelta, Finished]
    assert kinds == [type(event) for event in events]
    assert isinstance(events[-1], Finished)
    assert "tool_calls" == events[-1].stop_reason
    assert events[-1].usage.output_tokens


@pytest.mark.parametrize("chunk_bytes", [1, 7, None])
def test_text_survives_any_cut(
    client: WorkbenchClient, ollama: ScriptedOllama, chunk_bytes: int | None
) -> None:
    """Line separators of Unicode and characters cut in two arrive as they were."""
    text = "a\u2028b\u2029c\u0085d\r\ne 😀 ёж"
    ollama.set_reply(Reply([text], chunk_bytes=chunk_bytes, split_utf8=chunk_bytes is None))
    assert text == read(client).text


def test_first_token_deadline_before_the_head(new_client: NewClient) -> None:
    """A server that says nothing at all is given up with the phase first_token."""
    with ScriptedOllama(models=["m"], reply=Reply("a b", stall_after=0)) as ollama:
        error = read(new_client(ollama.url, deadlines=Deadlines(0.2, 60.0))).error
        assert isinstance(error, RequestTimeout)
        assert ("first_token", 0.2) == (error.phase, error.seconds)
        assert ollama.wait_for_request().disconnected.wait(10)


def test_first_token_deadline_after_the_head(new_client: NewClient) -> None:
    """A server that opened its answer and then says nothing is given up in the same way."""
    reply = Reply("a b", stall_after=0, headers_first=True)
    with ScriptedOllama(models=["m"], reply=reply) as ollama:
        found = read(new_client(ollama.url, deadlines=Deadlines(0.2, 60.0)))
        assert isinstance(found.error, RequestTimeout)
        assert "first_token" == found.error.phase
        assert found.raised is None


def test_stall_deadline_keeps_the_partial(new_client: NewClient) -> None:
    """An answer that stops coming is given up with what had arrived."""
    reply = Reply(["one", " two", " three"], stall_after=2)
    with ScriptedOllama(models=["m"], reply=reply) as ollama:
        found = read(new_client(ollama.url, deadlines=Deadlines(60.0, 0.2)))
        assert isinstance(found.error, RequestTimeout)
        assert ("stall", "one two") == (found.error.phase, found.error.partial)
        assert "one two" == found.text


PHASE = b'{"workbench":{"event":"phase","phase":"loading","seconds":1.5,"bytes":7}}\n'
OPENED = b'{"workbench":{"event":"opened","model":"m:latest@here","request_id":"r1"}}\n'
END = b'{"model":"m","message":{"role":"assistant","content":"ok"},"done":true}\n'


def test_phases_restart_the_first_token_deadline(new_client: NewClient) -> None:
    """A load that lasts longer than the deadline is waited for while the server tells of it."""
    with raw_server([HEAD, OPENED, *[PHASE] * 8, END], pause_s=0.25) as server:
        found = read(new_client(server.url, deadlines=Deadlines(1.5, 60.0)))
    assert "ok" == found.text
    assert Opened("m:latest@here", "r1") == found.events[0]
    assert Phase("loading", 1.5, 7) == found.events[1]


@pytest.mark.parametrize("cut", ["end", "close", "reset"])
def test_a_truncated_answer_is_never_a_short_one(new_client: NewClient, cut: str) -> None:
    """Cut after any byte, an answer fails with a beginning of the text, or did not begin."""
    whole = "alpha beta ёж gamma"
    for at in range(0, 900, 61):
        reply = Reply(whole, truncate_at_byte=at, cut=cut)  # type: ignore[arg-type]
        with ScriptedOllama(models=["m"], reply=reply) as ollama:
            found = read(new_client(ollama.url))
        if found.events and isinstance(found.events[-1], Finished):
            assert whole == found.text
            continue
        error = found.error
        assert isinstance(error, StreamBroken | ConnectionFailed | ProtocolError)
        assert whole.startswith(found.text)
        assert found.text == getattr(error, "partial", "")


def test_an_answer_without_its_last_line_is_broken(
    client: WorkbenchClient, ollama: ScriptedOllama
) -> None:
    """Ollama's 200 without `done` is StreamBroken with the partial text."""
    ollama.set_reply(Reply("all of it", no_done=True))
    error = read(client).error
    assert isinstance(error, StreamBroken)
    assert "all of it" == error.partial


def test_an_error_in_mid_stream_keeps_the_partial(
    client: WorkbenchClient, ollama: ScriptedOllama
) -> None:
    """An error line after a 200 fails the answer with the server's words and the partial."""
    ollama.set_reply(Reply(["one", " two"], error_after=(1, "runner has stopped")))
    error = read(client).error
    assert isinstance(error, ResponseError)
    assert ("runner has stopped", "one") == (error.message, error.partial)


def test_a_line_that_is_not_json_is_a_protocol_error(
    client: WorkbenchClient, ollama: ScriptedOllama
) -> None:
    """Garbage between the lines fails the answer and keeps what came before it."""
    ollama.set_reply(Reply(["one", " two"], garbage_line_after=1))
    error = read(client).error
    assert isinstance(error, ProtocolError)
    assert "one" == error.partial


def test_a_blank_line_is_nothing(client: WorkbenchClient, ollama: ScriptedOllama) -> None:
    """An empty line between two others changes nothing."""
    ollama.set_reply(Reply(["one", " two"], blank_line_after=1))
    assert "one two" == read(client).text


def test_what_follows_the_end_is_left_out(client: WorkbenchClient, ollama: ScriptedOllama) -> None:
    """Bytes after the last line do not disturb an answer that is complete."""
    ollama.set_reply(Reply("one", after_done=b'{"error":"late"}\n'))
    found = read(client)
    assert isinstance(found.events[-1], Finished)
    assert "one" == found.text


def test_a_page_of_a_proxy_is_an_error(client: WorkbenchClient, ollama: ScriptedOllama) -> None:
    """An HTML page with an error status is raised with that status."""
    ollama.set_reply(Reply(html_instead=502))
    error = read(client).raised
    assert isinstance(error, ResponseError)
    assert 502 == error.status


def test_an_unknown_model_is_raised(client: WorkbenchClient) -> None:
    """A refusal before the answer is raised, not yielded."""
    error = read(client, model="other").raised
    assert isinstance(error, ModelNotFound)
    assert "other" == error.model


def test_a_redirect_is_not_followed(client: WorkbenchClient, ollama: ScriptedOllama) -> None:
    """A redirect is an error: a token must not go where a server points to."""
    ollama.set_reply(Reply(error_first=(307, "moved"), headers={"Location": f"{ollama.url}/api"}))
    error = read(client).raised
    assert isinstance(error, ResponseError)
    assert (307, 1) == (error.status, len(ollama.requests))


def test_no_server_is_connection_failed(new_client: NewClient) -> None:
    """A port nobody listens on is ConnectionFailed with the address."""
    with ScriptedOllama(models=["m"]) as ollama:
        url = ollama.url
    error = read(new_client(url)).raised
    assert isinstance(error, ConnectionFailed)
    assert url == error.url


def test_a_lost_server_is_found_again_once(ollama: ScriptedOllama, new_client: NewClient) -> None:
    """A server that went away before the first byte is looked for, and asked instead."""
    calls: list[int] = []

    def resolve() -> FixedAddress:
        calls.append(1)
        return FixedAddress(ollama.url, "t2")

    with ScriptedOllama(models=["m"]) as gone:
        url = gone.url
    client = new_client(url, token="t1", resolve=resolve)
    assert "Hello from a script." == read(client).text
    assert ([1], ollama.url) == (calls, client.url)
    assert "Bearer t2" == ollama.requests[0].headers["authorization"]


def test_a_server_lost_twice_is_an_error(new_client: NewClient) -> None:
    """When the server that was found is not there either, the error is raised."""
    with ScriptedOllama(models=["m"], reply=Reply(reset_first=True)) as ollama:
        client = new_client(ollama.url, resolve=lambda: FixedAddress(ollama.url))
        assert isinstance(read(client).raised, ConnectionFailed)
        assert 2 == len(ollama.requests)


def test_nothing_is_resent_after_the_first_byte(new_client: NewClient) -> None:
    """A server that is lost in mid-answer is not asked again: the answer is broken."""
    reply = Reply(["one", " two", " three"], reset_after=2)
    with ScriptedOllama(models=["m"], reply=reply) as ollama:
        client = new_client(ollama.url, resolve=lambda: pytest.fail("it was looked for"))
        found = read(client)
        assert isinstance(found.error, StreamBroken)
        assert found.text == found.error.partial
        assert 1 == len(ollama.requests)


def test_a_new_token_is_taken_after_401(ollama: ScriptedOllama, new_client: NewClient) -> None:
    """A refused token is looked up again, for another server may have taken the port."""
    ollama.enqueue(Reply(error_first=(401, "unauthorized")))
    client = new_client(ollama.url, token="old", resolve=lambda: FixedAddress(ollama.url, "new"))
    assert "Hello from a script." == read(client).text
    sent = [request.headers["authorization"] for request in ollama.requests]
    assert ["Bearer old", "Bearer new"] == sent


def test_a_wrong_token_is_not_tried_for_ever(ollama: ScriptedOllama, new_client: NewClient) -> None:
    """A token that is refused and still the right one by the record is an error."""
    ollama.set_reply(Reply(error_first=(401, "unauthorized")))
    client = new_client(ollama.url, token="t", resolve=lambda: FixedAddress(ollama.url, "t"))
    error = read(client).raised
    assert isinstance(error, ResponseError)
    assert (401, 1) == (error.status, len(ollama.requests))


def test_leaving_the_answer_closes_the_connection(
    client: WorkbenchClient, ollama: ScriptedOllama
) -> None:
    """Closing the iterator frees the model: the server sees its client leave."""
    ollama.set_reply(Reply(["one", " two"], stall_after=1))

    async def leave() -> StreamEvent:
        messages = [{"role": "user", "content": "hi"}]
        stream = client.stream("/api/chat", {"model": "m", "messages": messages})
        first = await anext(stream)
        await stream.aclose()
        return first

    assert isinstance(get_portal().run(leave()), Opened)
    assert ollama.wait_for_request().disconnected.wait(10)


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"])
def test_proxy_variables_are_ignored(
    monkeypatch: pytest.MonkeyPatch,
    ollama: ScriptedOllama,
    new_client: NewClient,
    name: str,
) -> None:
    """A proxy in the environment sees nothing of a request, its token above all."""
    with raw_server([b"HTTP/1.1 502 Bad Gateway\r\n\r\n"]) as proxy:
        monkeypatch.setenv(name, proxy.url)
        client = new_client(ollama.url, token="secret")
        assert "Hello from a script." == read(client).text
        assert 0 == proxy.connections


def test_headers_of_a_request(client: WorkbenchClient, ollama: ScriptedOllama) -> None:
    """Requests ask for events and carry their context and a span of their own."""

    async def ask() -> None:
        context = {"conversation": "c1", "turn": "t1", "priority": "batch"}
        for _ in range(2):
            async for _ in client.chat_batches("m", [Message("user", "x")], context=context):
                pass

    get_portal().run(ask())
    first, second = (request.headers for request in ollama.requests)
    assert ("1", "c1", "t1", "batch") == tuple(
        first[f"workbench-{name}"] for name in ("events", "conversation", "turn", "priority")
    )
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-01", first["traceparent"])
    assert first["traceparent"] != second["traceparent"]


def test_repr_hides_the_token(new_client: NewClient) -> None:
    """A token shows neither in a client nor in an address that is printed."""
    client = new_client("http://127.0.0.1:1", token="secret")
    assert "secret" not in repr(client) + repr(FixedAddress("http://h", "secret"))


def test_connections_are_used_again(client: WorkbenchClient, ollama: ScriptedOllama) -> None:
    """A second question goes over the connection of the first."""
    assert read(client).text == read(client).text
    assert [1, 1] == [request.connection for request in ollama.requests]


def test_many_answers_at_once(client: WorkbenchClient, ollama: ScriptedOllama) -> None:
    """Two hundred answers at once all arrive: no pool limit makes one wait for another."""
    gathered: list[str] = []

    async def one() -> None:
        text = ""
        async for batch in client.chat_batches("m", [Message("user", "x")]):
            text += "".join(event.text for event in batch if isinstance(event, TextDelta))
        gathered.append(text)

    async def all_of_them() -> None:
        await asyncio.gather(*(one() for _ in range(200)))

    get_portal().run(all_of_them())
    assert ["Hello from a script."] * 200 == gathered


@given(text=st.text(max_size=60), chunk_bytes=st.integers(1, 40))
def test_any_text_arrives(text: str, chunk_bytes: int) -> None:
    """Whatever a model says arrives unchanged, however the network cuts it."""
    text = text.encode("utf-8", "ignore").decode()
    reply = Reply([text] if text else [], chunk_bytes=chunk_bytes)
    with ScriptedOllama(models=[FakeModel("m")], reply=reply) as ollama:
        client = WorkbenchClient(ollama.url)
        try:
            assert text == read(client).text
        finally:
            get_portal().run(client.aclose())
