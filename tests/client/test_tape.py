"""What models answered is recorded at the client's door, and played with no server."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.client.api import WorkbenchClient
from workbench.client.outside import watch_connections
from workbench.client.tape import Recording, Replay, current_tape, not_taped, taping
from workbench.client.tape_file import (
    error_from_json,
    error_to_json,
    event_from_json,
    event_to_json,
    read_tape,
)
from workbench.config import load_config
from workbench.errors import (
    ConnectionFailed,
    ModelNotFound,
    ReplayMismatch,
    ResponseError,
    SchemaTooNew,
    StreamBroken,
)
from workbench.messages import (
    Finished,
    GenerateConfig,
    Message,
    Opened,
    Phase,
    ReasoningDelta,
    StreamEvent,
    TextDelta,
    Timings,
    ToolCallDelta,
    Usage,
)
from workbench.messages import ToolCall as Call
from workbench.portal import get_portal
from workbench.testing import FakeModel, RecordedRequest, Reply, ScriptedOllama, ToolCall

NewClient = Callable[..., WorkbenchClient]
NOBODY = "http://127.0.0.1:9"


@pytest.fixture
def tape(tmp_path: Path) -> Path:
    return tmp_path / "tape.jsonl"


@pytest.fixture
def away(new_client: NewClient) -> WorkbenchClient:
    """Make a client whose server is not there."""
    return new_client(NOBODY)


@pytest.fixture
def counting(ollama: ScriptedOllama) -> ScriptedOllama:
    """Let the server answer every request with another text."""
    said: list[int] = []

    def reply(request: RecordedRequest) -> Reply:
        said.append(0)
        return Reply(f"answer number {len(said)}")

    ollama.set_reply(reply)
    return ollama


def ask(client: WorkbenchClient, text: str = "hi", **options: Any) -> list[StreamEvent]:
    """Ask a question and return the events of the answer."""

    async def run() -> list[StreamEvent]:
        config = GenerateConfig(options=options)
        batches = client.chat_batches("m", [Message("user", text)], config=config)
        return [event async for batch in batches for event in batch]

    return get_portal().run(run())


def said(events: list[StreamEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def lines(tape: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in tape.read_text("utf-8").splitlines()]


def test_replay_gives_the_same_events(
    client: WorkbenchClient, ollama: ScriptedOllama, away: WorkbenchClient, tape: Path
) -> None:
    """Text, thinking, tool calls, usage and stop reason come from the tape, with no server."""
    calls = [ToolCall("add", {"a": 1}, "c1")]
    ollama.set_reply(Reply("so be it, \u2028 Ы", thinking="hm", tool_calls=calls))
    with taping(tape, "record"):
        recorded = ask(client)
    with taping(tape, "replay") as played:
        assert recorded == ask(away)
        assert [] == played.warnings if isinstance(played, Replay) else False
    assert isinstance(recorded[0], Opened)


def test_same_question_again_gets_the_next_answer(
    client: WorkbenchClient, counting: ScriptedOllama, away: WorkbenchClient, tape: Path
) -> None:
    """Occurrences of one request are told apart, and one too many is an error."""
    with taping(tape, "record"):
        recorded = [said(ask(client)) for _ in range(3)]
    assert 3 == len(set(recorded))
    with taping(tape, "replay"):
        assert recorded == [said(ask(away)) for _ in range(3)]
        with pytest.raises(ReplayMismatch, match="asked 3 times when it was recorded"):
            ask(away)


def test_recording_goes_on_in_the_same_file(
    client: WorkbenchClient, counting: ScriptedOllama, away: WorkbenchClient, tape: Path
) -> None:
    """What a second recording adds comes after the first, in the order of time."""
    recorded = []
    for _ in range(2):
        with taping(tape, "record"):
            recorded += [said(ask(client)), said(ask(client))]
    with taping(tape, "replay"):
        assert recorded == [said(ask(away)) for _ in range(4)]


def test_mismatch_names_the_field_that_differs(
    client: WorkbenchClient, away: WorkbenchClient, tape: Path
) -> None:
    """An unknown request names the nearest one recorded, and what is not the same in it."""
    with taping(tape, "record"):
        ask(client, "What is the capital of France?", temperature=0.0, seed=1)
        ask(client, "Something else entirely", temperature=0.5)
    with taping(tape, "replay"):
        with pytest.raises(ReplayMismatch) as caught:
            ask(away, "What is the capital of Spain?", temperature=0.0, seed=1)
        assert "messages[0].content, character 23" in caught.value.message
        with pytest.raises(ReplayMismatch, match=r"options\.seed: 1 and 2"):
            ask(away, "What is the capital of France?", temperature=0.0, seed=2)


def test_what_changes_no_answer_is_no_difference(
    client: WorkbenchClient, away: WorkbenchClient, tape: Path
) -> None:
    """How long the model stays in memory does not belong to a request."""

    async def stay(which: WorkbenchClient, keep_alive: str) -> int:
        config = GenerateConfig(keep_alive=keep_alive)
        batches = which.generate_batches("m", "hi", config=config)
        return len([batch async for batch in batches])

    with taping(tape, "record"):
        get_portal().run(stay(client, "10m"))
    with taping(tape, "replay"):
        assert 0 < get_portal().run(stay(away, "1h"))


def test_unused_entries_are_warnings(
    client: WorkbenchClient, away: WorkbenchClient, tape: Path
) -> None:
    """What was recorded and is not asked for is told, and is no error."""
    with taping(tape, "record"):
        for question in ("one", "two", "two"):
            ask(client, question)
    with taping(tape, "replay") as played:
        ask(away, "two")
    assert isinstance(played, Replay)
    assert 2 == len(played.warnings)
    assert all("POST /api/chat to m (1x)" in text for text in played.warnings)


def test_errors_are_played(
    client: WorkbenchClient, ollama: ScriptedOllama, away: WorkbenchClient, tape: Path
) -> None:
    """An error before the answer is raised again, one within it ends the stream again."""
    with taping(tape, "record"):
        ollama.set_reply(Reply(error_first=(404, "model 'm' not found")))
        with pytest.raises(ModelNotFound):
            ask(client, "a")
        ollama.set_reply(Reply("one two three", no_done=True))
        broken = ask(client, "b")
    with taping(tape, "replay"):
        with pytest.raises(ModelNotFound) as caught:
            ask(away, "a")
        played = ask(away, "b")
    assert (404, "m") == (caught.value.status, caught.value.model)
    assert broken[:-1] == played[:-1]
    error = getattr(played[-1], "error", None)
    assert isinstance(error, StreamBroken) and "one two three" == error.partial


def test_a_server_that_came_back_is_no_part_of_the_tape(
    client: WorkbenchClient, away: WorkbenchClient, tape: Path
) -> None:
    """A request that reached nobody and was asked again plays the answer it then had."""
    with taping(tape, "record"):
        with pytest.raises(ConnectionFailed):
            ask(away)
        answer = said(ask(client))
    with taping(tape, "replay"):
        assert answer == said(ask(away))


def test_a_stream_left_early_is_played_as_far(
    client: WorkbenchClient, ollama: ScriptedOllama, away: WorkbenchClient, tape: Path
) -> None:
    """A reader that stopped gets the same part, and an error when it reads further this time."""
    ollama.set_reply(Reply("one two three", coalesce=False, stall_after=2))

    async def first(which: WorkbenchClient, count: int) -> list[StreamEvent]:
        found: list[StreamEvent] = []
        batches = which.generate_batches("m", "hi")
        async for batch in batches:
            found += batch
            if sum(isinstance(event, TextDelta) for event in found) >= count:
                break
        await batches.aclose()
        return found

    with taping(tape, "record"):
        recorded = get_portal().run(first(client, 1))
    ollama.release()
    with taping(tape, "replay"):
        assert recorded == get_portal().run(first(away, 1))
    with taping(tape, "replay"), pytest.raises(ReplayMismatch, match="read further"):
        get_portal().run(first(away, 9))


def test_embeddings_and_questions_about_the_server_are_taped(
    client: WorkbenchClient, away: WorkbenchClient, tape: Path
) -> None:
    """Vectors, versions and facts of models come from the tape too, digit for digit."""

    async def look(which: WorkbenchClient) -> list[Any]:
        vectors = await which.embed(["a", "b"], "m")
        return [vectors, await which.version(), await which.show("m")]

    with taping(tape, "record"):
        recorded = get_portal().run(look(client))
        with pytest.raises(ResponseError):
            # An Ollama has no such path.
            get_portal().run(client.default_model())
    with taping(tape, "replay"):
        assert recorded == get_portal().run(look(away))
        with pytest.raises(ResponseError):
            get_portal().run(away.default_model())
        with pytest.raises(ReplayMismatch, match="GET /workbench/v1/info was not recorded"):
            get_portal().run(away.info())


def test_what_is_followed_as_it_happens_is_on_no_tape(
    client: WorkbenchClient, away: WorkbenchClient, tape: Path
) -> None:
    """A stream of server events makes a recording not replayable, and a replay refuses it."""

    async def follow(which: WorkbenchClient) -> None:
        async for _ in which.events():
            break

    with taping(tape, "record") as recording, pytest.raises(ResponseError):
        get_portal().run(follow(client))
    assert isinstance(recording, Recording)
    assert "events" in recording.notes[0]
    with taping(tape, "replay") as played, pytest.raises(ReplayMismatch, match="on no tape"):
        get_portal().run(follow(away))
    assert played.notes == recording.notes


def test_tasks_side_by_side_have_their_own_tapes(
    client: WorkbenchClient, counting: ScriptedOllama, away: WorkbenchClient, tmp_path: Path
) -> None:
    """Concurrent steps record and play apart from each other, and outside there is no tape."""

    async def step(which: WorkbenchClient, number: int, mode: Any) -> str:
        with taping(tmp_path / f"{number}.jsonl", mode, scope=("key", number)):
            batches = which.generate_batches("m", "the same")
            return said([event async for batch in batches for event in batch])

    async def steps(which: WorkbenchClient, mode: Any) -> list[str]:
        return await asyncio.gather(*(step(which, number, mode) for number in range(8)))

    recorded = get_portal().run(steps(client, "record"))
    assert 8 == len(set(recorded))
    assert recorded == get_portal().run(steps(away, "replay"))
    assert current_tape() is None
    assert 3 == read_tape(tmp_path / "3.jsonl").item


def test_threads_of_a_step_share_its_tape(
    client: WorkbenchClient, away: WorkbenchClient, tape: Path
) -> None:
    """What is asked in `asyncio.to_thread` of a step is on the tape of the step."""

    async def step(which: WorkbenchClient) -> str:
        return await asyncio.to_thread(lambda: said(ask(which)))

    with taping(tape, "record"):
        recorded = asyncio.run(step(client))
    with taping(tape, "replay"):
        assert recorded == asyncio.run(step(away))


CHILD = """
import sys, workbench
with workbench.connect(sys.argv[1], token=None) as wb:
    for question in sys.argv[2:]:
        print(wb.generate(question, "m").text)
"""


def child(url: str, environment: dict[str, str], *questions: str) -> list[str]:
    """Ask questions in a process of its own, and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, url, *questions],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def test_child_processes_follow_the_environment(
    client: WorkbenchClient, counting: ScriptedOllama, away: WorkbenchClient, tape: Path
) -> None:
    """A child records on its parent's tape, and in a replay takes what its parent did not."""
    assert counting.url
    with taping(tape, "record") as recording:
        first = said(ask(client, "parent"))
        printed = child(counting.url, recording.environment(), "q", "q")
    with taping(tape, "replay") as played:
        assert printed == child(NOBODY, played.environment(), "q", "q")
        assert first == said(ask(away, "parent"))
        with pytest.raises(ReplayMismatch, match="was not recorded"):
            ask(away, "q")
    assert isinstance(played, Replay)
    assert [] == played.warnings


def test_a_later_tape_is_refused(tape: Path) -> None:
    """A tape of a newer version says which version it has, one of an older that it is older."""
    tape.write_text('{"tape": 9}\n')
    with pytest.raises(SchemaTooNew) as caught, taping(tape, "replay"):
        pass
    assert (9, 1) == (caught.value.found, caught.value.supported)
    tape.write_text('{"tape": 0}\n')
    with pytest.raises(ReplayMismatch, match="version 0"), taping(tape, "replay"):
        pass


@pytest.mark.parametrize("damage", ["torn", "request", "empty", "no header"])
def test_a_damaged_tape_is_refused(client: WorkbenchClient, tape: Path, damage: str) -> None:
    """A tape that was cut or edited names the line that cannot be read."""
    with taping(tape, "record"):
        ask(client, "hello")
    text = tape.read_text("utf-8")
    damaged, line = {
        "torn": (text[:-20], 2),
        "request": (text.replace("hello", "help!"), 2),
        "empty": ("", 1),
        "no header": (text.split("\n", 1)[1], 1),
    }[damage]
    tape.write_text(damaged, "utf-8")
    with pytest.raises(ReplayMismatch, match=f"line {line} of the tape"), taping(tape, "replay"):
        pass


def test_a_missing_tape_is_named(tape: Path) -> None:
    """Playing what was not recorded names the folder in which no tape is."""
    with (
        pytest.raises(ReplayMismatch, match=r"no tape tape\.jsonl in"),
        taping(tape, "replay"),
    ):
        pass


def test_images_are_kept_as_hashes(client: WorkbenchClient, tape: Path) -> None:
    """The bytes of an image are not on the tape, and another image is another request."""
    image, other = "QUJD" * 100, "REVG" * 100

    async def look(picture: str) -> None:
        async for _ in client.generate_batches("m", "what is this", images=[picture]):
            continue

    with taping(tape, "record"):
        get_portal().run(look(image))
    assert image not in tape.read_text("utf-8")
    with taping(tape, "replay"):
        get_portal().run(look(image))
        with pytest.raises(ReplayMismatch, match=r"images\[0\]"):
            get_portal().run(look(other))


def test_entries_are_whole_lines_from_many_threads(
    client: WorkbenchClient, tape: Path, ollama: ScriptedOllama
) -> None:
    """Threads that record at the same time never mix their entries."""
    ollama.set_reply(Reply("word " * 500))
    with taping(tape, "record") as recording:
        assert isinstance(recording, Recording)
        threads = [
            threading.Thread(target=lambda n=n: [recording.note(f"{n} {i}") for i in range(50)])
            for n in range(4)
        ]
        for thread in threads:
            thread.start()
        ask(client)
        for thread in threads:
            thread.join()
    assert 1 + 200 + 1 == len(lines(tape))


def test_without_text_there_is_no_tape() -> None:
    """Where message text is not kept nothing may be recorded, and the reason is told."""
    assert not_taped(load_config(env={})) is None
    silent = load_config(env={"WORKBENCH_RECORD_TEXT": "none"})
    assert "record_text is none" in (not_taped(silent) or "")


def test_errors_come_back_as_they_were() -> None:
    """An error that went through JSON has its class, its text and its fields."""
    error = ModelNotFound("m", nearest=["n", "o"])
    found = error_from_json(json.loads(json.dumps(error_to_json(error))))
    assert isinstance(found, ModelNotFound)
    assert (str(error), ("n", "o"), 404) == (str(found), found.nearest, found.status)
    assert "x" == error_from_json({"type": "Gone", "message": "x"}).message


EVENTS = st.one_of(
    st.builds(TextDelta, st.text()),
    st.builds(ReasoningDelta, st.text()),
    st.builds(ToolCallDelta, st.builds(Call, st.text(), st.dictionaries(st.text(), st.integers()))),
    st.builds(Opened, st.text(), st.text()),
    st.builds(Phase, st.just("loading"), st.none() | st.floats(0, 9), st.none() | st.integers()),
    st.builds(Finished, st.just("stop"), st.builds(Usage, st.integers()), st.builds(Timings)),
)


@given(EVENTS)
def test_events_come_back_as_they_were(event: StreamEvent) -> None:
    """Every event survives its way through JSON, with any text."""
    assert event == event_from_json(json.loads(json.dumps(event_to_json(event))))


@pytest.fixture
def port() -> Iterator[int]:
    """Yield the port of somebody who listens."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def test_connections_beside_the_client_are_told(
    client: WorkbenchClient, tape: Path, port: int
) -> None:
    """A recording notes who else was connected to; the client's own server is not among them."""
    told: list[str] = []
    end = watch_connections(told.append)
    try:
        with taping(tape, "record") as recording:
            ask(client)
            socket.create_connection(("localhost", port)).close()
            assert isinstance(recording, Recording)
            assert [f"a connection to localhost:{port} beside the client"] == recording.notes
        assert [f"localhost:{port}"] == told[:1]
    finally:
        end()
    socket.create_connection(("127.0.0.1", port)).close()
    assert 1 == len(set(told))


def test_a_replay_connects_to_nothing(client: WorkbenchClient, tape: Path, port: int) -> None:
    """A connection beside the client is refused while a tape is played, and its host named."""
    with taping(tape, "record"):
        ask(client)
    end = watch_connections(lambda place: None)
    try:
        with (
            taping(tape, "replay"),
            socket.socket() as connection,
            pytest.raises(ReplayMismatch, match=str(port)),
        ):
            connection.connect(("127.0.0.1", port))
    finally:
        end()


def test_default_model_of_a_server_is_taped(tape: Path, away: WorkbenchClient) -> None:
    """An answer that a tape holds is given anew each time, so that a reader may change it."""
    model = FakeModel("m")
    with ScriptedOllama(models=[model]) as server, taping(tape, "record"):
        other = WorkbenchClient(server.url)
        get_portal().run(other.request_json("GET", "/api/tags"))
        get_portal().run(other.request_json("GET", "/api/tags"))
        get_portal().run(other.aclose())
    with taping(tape, "replay"):
        one = get_portal().run(away.request_json("GET", "/api/tags"))
        one.clear()
        assert "models" in get_portal().run(away.request_json("GET", "/api/tags"))
