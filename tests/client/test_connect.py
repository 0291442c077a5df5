from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

import workbench
from workbench.errors import (
    ConfigError,
    ConnectionFailed,
    ModelNotFound,
    ServerNotRunning,
    StoreError,
    StreamBroken,
)
from workbench.messages import Finished, Message, TextDelta
from workbench.portal import get_portal
from workbench.testing import Reply, ScriptedOllama


@pytest.fixture
def wb(ollama: ScriptedOllama) -> Iterator[workbench.Workbench]:
    with workbench.connect(ollama.url) as found:
        yield found


def test_connect_without_a_server(private_folders: object) -> None:
    """When none runs and none may be started, connecting says so."""
    with pytest.raises(ServerNotRunning):
        workbench.connect(spawn=False)


def test_connect_to_a_wrong_address() -> None:
    """An address nobody listens on fails at once, not at the first question."""
    with ScriptedOllama() as ollama:
        url = ollama.url
    with pytest.raises(ConnectionFailed):
        workbench.connect(url)


def test_connect_takes_the_address_of_the_environment(
    ollama: ScriptedOllama, monkeypatch: pytest.MonkeyPatch
) -> None:
    """WORKBENCH_URL and WORKBENCH_TOKEN name the server; none is started."""
    monkeypatch.setenv("WORKBENCH_URL", ollama.url)
    monkeypatch.setenv("WORKBENCH_TOKEN", "secret")
    with workbench.connect() as wb:
        assert wb.client.url == ollama.url
    assert "Bearer secret" == ollama.requests[0].headers["authorization"]


def test_conversations_are_renamed_and_deleted(
    ollama: ScriptedOllama, private_folders: object
) -> None:
    """By its id a conversation is renamed and removed, whether it is open here or not."""
    with workbench.connect(ollama.url) as wb:
        session, other = wb.session("m"), wb.session("m")
        session.ask("About walruses")
        other.ask("About lighthouses")
        other.close()
        for chat_id in (session.id, other.id):
            wb.rename_chat(chat_id, f"Title of {chat_id}")
        assert f"Title of {session.id}" == session.title
        assert {f"Title of {chat_id}" for chat_id in (session.id, other.id)} == {
            info.title for info in wb.chats()
        }
        assert [session.id] == [info.id for info in wb.chats("walruses")]
        for chat_id in (session.id, other.id):
            wb.delete_chat(chat_id)
        assert [] == list(wb.chats())
        assert session.read_only
        with pytest.raises(StoreError):
            wb.delete_chat(session.id)


def test_dialogues_are_renamed_and_deleted(ollama: ScriptedOllama, private_folders: object) -> None:
    """By its id a dialogue is renamed and removed, whether it is open here or not."""
    with workbench.connect(ollama.url) as wb:
        two = [{"name": "Ann", "model": "m"}, {"name": "Ben", "model": "m"}]
        held, other = (wb.dialogue(two, opening="Tea?", stop={"turns": 1}).run() for _ in "ab")
        other.close()
        for dialogue_id in (held.id, other.id):
            wb.rename_dialogue(dialogue_id, f"Title of {dialogue_id}")
        assert f"Title of {held.id}" == held.transcript.title
        assert {f"Title of {d.id}" for d in (held, other)} == {d.title for d in wb.dialogues()}
        for dialogue_id in (held.id, other.id):
            wb.delete_dialogue(dialogue_id)
        assert [] == list(wb.dialogues())
        with pytest.raises(StoreError, match="no dialogue"):
            wb.delete_dialogue(held.id)
        with pytest.raises(StoreError, match="'tea' is not the id of a dialogue"):
            wb.open_dialogue("tea")


def test_generate(wb: workbench.Workbench, ollama: ScriptedOllama) -> None:
    """A prompt is answered, with its options and system prompt sent."""
    answer = wb.generate("Say it", "m", system="be short", temperature=0, seed=1, think=False)
    assert ("Hello from a script.", "stop") == (answer.text, answer.stop_reason)
    assert answer.ttft_s is not None
    body = ollama.wait_for_request(1, to="generate").json
    assert ("Say it", "be short", False) == (body["prompt"], body["system"], body["think"])
    assert {"temperature": 0.0, "seed": 1} == body["options"]


def test_every_form_gives_the_same_answer(wb: workbench.Workbench) -> None:
    """Sync, async and streamed forms of both calls give the same text."""

    async def from_a_loop() -> list[str]:
        whole = [(await wb.agenerate("x", "m")).text, (await wb.achat("x", "m")).text]
        for stream in (wb.astream_generate("x", "m"), wb.astream_chat("x", "m")):
            whole.append("".join([e.text async for e in stream if isinstance(e, TextDelta)]))
        return whole

    found = [wb.generate("x", "m").text, wb.chat("x", "m").text, *asyncio.run(from_a_loop())]
    for stream in (wb.generate("x", "m", stream=True), wb.chat("x", "m", stream=True)):
        found.append("".join(event.text for event in stream if isinstance(event, TextDelta)))
    assert {"Hello from a script."} == set(found)


def test_a_stream_ends_with_finished(wb: workbench.Workbench) -> None:
    """The last event of a streamed answer says how it ended."""
    *_, last = wb.chat("x", "m", stream=True)
    assert isinstance(last, Finished)


def test_leaving_a_stream_frees_the_model(wb: workbench.Workbench, ollama: ScriptedOllama) -> None:
    """Leaving the loop over a stream closes its connection."""
    ollama.set_reply(Reply(["one", " two"], stall_after=1))
    stream = wb.chat("x", "m", stream=True)
    next(iter(stream))
    stream.close()  # type: ignore[attr-defined]
    assert ollama.wait_for_request(1, to="chat").disconnected.wait(10)


def test_messages_are_texts_objects_or_dicts(
    wb: workbench.Workbench, ollama: ScriptedOllama
) -> None:
    """A conversation may be given in any of its forms, with a system prompt beside it."""
    wb.chat([{"role": "user", "content": "a"}, Message("assistant", "b")], "m", system="s")
    assert [("system", "s"), ("user", "a"), ("assistant", "b")] == [
        (message["role"], message["content"])
        for message in ollama.wait_for_request(1, to="chat").json["messages"]
    ]


@pytest.mark.parametrize("bad", [{"content": "x"}, {"role": "robot", "content": "x"}])
def test_what_is_no_message_is_refused(wb: workbench.Workbench, bad: dict[str, str]) -> None:
    """A dict without a known role is an error before anything is sent."""
    with pytest.raises(ConfigError, match="not a message"):
        wb.chat([bad], "m")


def test_an_unknown_option_is_refused(wb: workbench.Workbench, ollama: ScriptedOllama) -> None:
    """A misspelt option is an error with the nearest name, and nothing is sent."""
    with pytest.raises(ConfigError, match="temperature"):
        wb.generate("x", "m", temprature=0)
    assert ["version"] == [request.operation for request in ollama.requests]


def test_a_broken_answer_raises_with_its_part(
    wb: workbench.Workbench, ollama: ScriptedOllama
) -> None:
    """An answer that broke off is an error that holds what came, in every form."""
    ollama.set_reply(Reply("some of it", no_done=True))
    with pytest.raises(StreamBroken) as caught:
        wb.generate("x", "m")
    assert "some of it" == caught.value.partial


def test_a_refused_stream_raises(wb: workbench.Workbench) -> None:
    """A stream that could not begin raises from its first step."""
    with pytest.raises(ModelNotFound):
        list(wb.chat("x", "other", stream=True))


def test_the_default_of_the_configuration_is_used(
    ollama: ScriptedOllama, monkeypatch: pytest.MonkeyPatch
) -> None:
    """WORKBENCH_MODEL is asked when no model is named."""
    monkeypatch.setenv("WORKBENCH_MODEL", "m")
    with workbench.connect(ollama.url) as wb:
        assert wb.generate("x").text


def test_embed(wb: workbench.Workbench) -> None:
    """One text or several give one vector each; no text gives none and asks nobody."""
    assert [1, 2, 0] == [len(wb.embed(texts, "m")) for texts in ("a", ["a", "b"], [])]


def test_a_closed_workbench_opens_again(ollama: ScriptedOllama) -> None:
    """After close() a call makes new connections."""
    wb = workbench.connect(ollama.url)
    wb.close()
    assert wb.generate("x", "m").text
    wb.close()


def test_a_sync_call_on_the_portal_raises(wb: workbench.Workbench) -> None:
    """A blocking form called from a coroutine of the portal fails at once."""

    async def blocks() -> None:
        wb.generate("x", "m")

    with pytest.raises(workbench.WorkbenchError, match="begins with 'a'"):
        get_portal().run(blocks())


_FORKS = """
import os, sys, workbench
wb = workbench.connect(sys.argv[1])
assert wb.generate("x", "m").text
child = os.fork()
if child == 0:
    ok = wb.generate("x", "m").text == "Hello from a script."
    os._exit(0 if ok else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert wb.generate("x", "m").text
"""


def test_a_forked_process_can_ask(ollama: ScriptedOllama) -> None:
    """The same Workbench answers in a forked child and goes on in its parent."""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", _FORKS, ollama.url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (0, "") == (done.returncode, done.stderr)


_INTERRUPTED = """
import sys, workbench
wb = workbench.connect(sys.argv[1])
try:
    wb.generate("x", "m")
except KeyboardInterrupt:
    print("interrupted")
"""


def test_an_interrupt_leaves_generate(ollama: ScriptedOllama) -> None:
    """SIGINT ends `generate` with KeyboardInterrupt, so that a loop around it ends too."""
    ollama.set_reply(Reply(["one", " two"], stall_after=1))
    command = [sys.executable, "-c", _INTERRUPTED, ollama.url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        request = ollama.wait_for_request(1, to="generate", timeout_s=60)
        assert request.stalled.wait(10)
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        assert "interrupted\n" == process.stdout.read()
    assert 0 == process.returncode
    assert request.disconnected.wait(10)


def test_a_workbench_left_open_is_quiet_at_exit(ollama: ScriptedOllama) -> None:
    """A process that never closes its Workbench ends without a word."""
    code = "import sys, workbench; workbench.connect(sys.argv[1]).generate('x', 'm')"
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", code, ollama.url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert 0 == done.returncode
    # The debug mode of asyncio tells of steps it finds slow; that is no warning of ours.
    lines = [line for line in done.stderr.splitlines() if not line.startswith("Executing <")]
    assert [] == lines
