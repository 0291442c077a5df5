from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.chat.conftest import NewSession
from workbench.chat.session import ChatSession
from workbench.chat.store import list_chats
from workbench.chat.transcript import Record
from workbench.client.api import WorkbenchClient
from workbench.client.http import Deadlines
from workbench.errors import (
    ConfigError,
    ConversationLocked,
    ModelError,
    ModelNotFound,
    RequestTimeout,
    StreamBroken,
)
from workbench.messages import Failed, Finished, Generation, Phase, StreamEvent, TextDelta
from workbench.portal import get_portal
from workbench.testing import RecordedRequest, Reply, ScriptedOllama, ToolCall


def sent(ollama: ScriptedOllama, n: int = -1) -> list[tuple[str, str]]:
    """Return role and content of the messages of one request."""
    asked = [request for request in ollama.requests if request.operation == "chat"]
    return [(message["role"], message["content"]) for message in asked[n].json["messages"]]


def texts(session: ChatSession) -> list[str]:
    return [node.message.content for node in session.transcript.path()]


def test_a_conversation_goes_on(session: ChatSession, ollama: ScriptedOllama) -> None:
    """Each question is sent with what was said before it."""
    ollama.enqueue(Reply("one"), Reply("two"))
    assert ["one", "two"] == [session.ask("a").text, session.ask("b").text]
    assert [("user", "a"), ("assistant", "one"), ("user", "b")] == sent(ollama)


def test_settings_are_sent_and_overlaid(new_session: NewSession, ollama: ScriptedOllama) -> None:
    """System prompt, options and think of the session hold; those of one question are its own."""
    session = new_session(system="be brief", options={"temperature": 0, "seed": 1}, think=False)
    session.ask("a", seed=2, num_predict=5, format="json", keep_alive="5m")
    session.ask("b")
    first, second = (r.json for r in ollama.requests if r.operation == "chat")
    assert {"temperature": 0.0, "seed": 2, "num_predict": 5} == first["options"]
    assert (False, "json", "5m", False) == tuple(
        first[name] for name in ("think", "format", "keep_alive", "truncate")
    )
    assert {"temperature": 0.0, "seed": 1} == second["options"]
    assert ("system", "be brief") == sent(ollama)[0]


def test_settings_can_change(session: ChatSession, ollama: ScriptedOllama) -> None:
    """A changed system prompt and changed options hold from the next question on."""
    session.system, session.options, session.think = "s2", {"seed": 3}, False
    session.ask("a")
    assert ("system", "s2") == sent(ollama)[0]
    assert ({"seed": 3}, False) == (session.options, session.think)


def test_a_preset_is_named_in_the_request(session: ChatSession, ollama: ScriptedOllama) -> None:
    """Requests asked as a preset says carry its digest, until a setting is another one."""
    chosen = {"name": "tutor", "digest": "0123456789abcdef"}
    session.configure(system="be brief", options={"seed": 1}, think=None, preset=chosen)
    with session.fresh() as fresh:
        assert (chosen, "be brief", {"seed": 1}) == (fresh.preset, fresh.system, fresh.options)
        fresh.ask("a")
    session.ask("a", format="json", seed=2)
    session.options = {"seed": 3}
    session.ask("b")
    asked = [request for request in ollama.requests if request.operation == "chat"]
    assert [chosen["digest"], None, None] == [
        request.headers.get("workbench-preset") for request in asked
    ]
    assert session.preset is None


def test_a_view_begins_an_answer_and_watches_it(
    session: ChatSession, ollama: ScriptedOllama
) -> None:
    """begin() returns at once; observers hear of the records and of the text, until they leave."""
    ollama.set_reply(Reply(["one", " two"], stall_after=1))
    heard: list[str] = []
    came = threading.Event()

    def observer(record: Record | None, events: Sequence[StreamEvent]) -> None:
        heard.extend([record["op"]] if record else [type(event).__name__ for event in events])
        if "TextDelta" in heard:
            came.set()

    session.observe(observer)
    job = session.begin("a")
    assert job is session.job
    assert came.wait(20)
    ollama.release()
    assert "one two" == get_portal().wait(job.future).text
    assert session.job is None
    assert "end" == heard[-1]
    session.unobserve(observer)
    session.unobserve(observer)
    ollama.set_reply(Reply("x"))
    session.ask("b")
    assert "end" == heard[-1]
    assert 1 == heard.count("end")


def test_an_unknown_option_is_refused(session: ChatSession, ollama: ScriptedOllama) -> None:
    """A misspelt option is an error, nothing is sent and nothing recorded."""
    with pytest.raises(ConfigError, match="temperature"):
        session.ask("a", temprature=1)  # type: ignore[call-arg]
    assert ([], []) == (session.turns, ollama.requests)


def test_regenerate_keeps_both_answers(session: ChatSession, ollama: ScriptedOllama) -> None:
    """A second answer to the same question stands beside the first and is shown."""
    ollama.enqueue(Reply("one"), Reply("two"))
    session.ask("a")
    assert "two" == session.regenerate().text
    assert [("user", "a")] == sent(ollama)
    assert ["a", "two"] == texts(session)
    answer = session.turns[0].answer
    assert answer is not None
    versions = session.alternatives(answer.id)
    assert ["one", "two"] == [node.message.content for node in versions]
    session.choose(versions[0].id)
    assert ["a", "one"] == texts(session)


def test_edit_begins_a_branch(session: ChatSession, ollama: ScriptedOllama) -> None:
    """An edited question is asked without what followed the old one; both stay."""
    for text in ("a", "b"):
        session.ask(text)
    session.edit(0, "A")
    assert [("user", "A")] == sent(ollama)
    assert (1, 2) == (len(session.turns), session.turns[0].alternatives)
    session.choose(session.alternatives(session.turns[0].id)[0].id)
    assert ["a", "b"] == [turn.text for turn in session.turns]


def test_branch_goes_on_after_a_turn(session: ChatSession, ollama: ScriptedOllama) -> None:
    """After branch() the next question follows the turn, as another branch."""
    for text in ("a", "b"):
        session.ask(text)
    assert session is session.branch(0)
    session.ask("c")
    assert ["a", "c"] == [turn.text for turn in session.turns]
    assert 3 == len(sent(ollama))


def test_branch_can_be_a_new_conversation(session: ChatSession, tmp_path: Path) -> None:
    """branch(new=True) copies the path into a conversation with a file of its own."""
    for text in ("a", "b"):
        session.ask(text)
    with session.branch(0, new=True) as other:
        other.ask("c")
        assert ["a", "c"] == [turn.text for turn in other.turns]
        assert ["a", "b"] == [turn.text for turn in session.turns]
        assert {session.id, other.id} == {info.id for info in list_chats(tmp_path)}


def test_delete_removes_a_turn_and_what_follows(session: ChatSession) -> None:
    """A deleted turn is not sent again."""
    for text in ("a", "b"):
        session.ask(text)
    session.delete(-1)
    assert ["a"] == [turn.text for turn in session.turns]
    with pytest.raises(ConfigError, match="there are 1"):
        session.delete(1)


def test_every_form_gives_the_same_answer(session: ChatSession) -> None:
    """ask, aask, stream and astream give the same text and record the same turn."""

    async def from_a_loop() -> list[str]:
        whole = (await session.aask("q")).text
        pieces = [e.text async for e in session.astream("q") if isinstance(e, TextDelta)]
        await session.aregenerate()
        await session.aedit(-1, "q")
        return [whole, "".join(pieces)]

    found = [session.ask("q").text, *asyncio.run(from_a_loop())]
    events = list(session.stream("q"))
    found.append("".join(event.text for event in events if isinstance(event, TextDelta)))
    assert {"Hello from a script."} == set(found)
    assert isinstance(events[-1], Finished)
    assert ["q"] * 4 == [turn.text for turn in session.turns]


def test_show_prints_plain_text(
    session: ChatSession, ollama: ScriptedOllama, capsys: pytest.CaptureFixture[str]
) -> None:
    """`show` prints the answer without its escapes, and ends the line."""
    ollama.set_reply(Reply(["\x1b[3", "1mred", " \u2028<b>"]))
    session.ask("a", show=True)
    assert "red \u2028<b>\n" == capsys.readouterr().out
    asyncio.run(session.aask("b", show=True))
    assert "red \u2028<b>\n" == capsys.readouterr().out


def test_a_conversation_without_a_question_leaves_no_file(
    session: ChatSession, tmp_path: Path
) -> None:
    """Making a session and changing its settings writes nothing."""
    session.system = "s"
    assert [] == list(tmp_path.iterdir())


def test_a_conversation_can_be_opened_again(
    session: ChatSession, client: WorkbenchClient, tmp_path: Path, ollama: ScriptedOllama
) -> None:
    """After close() the conversation opens with all it had, and goes on."""
    session.system = "s"
    session.ask("a")
    session.rename("My chat")
    session.regenerate()
    session.close()
    with ChatSession.open(session.id, client=client, data_dir=tmp_path) as again:
        assert session.transcript == again.transcript
        assert ("My chat", "s", "m") == (again.title, again.system, again.model)
        again.ask("b")
        assert 4 == len(sent(ollama))
        assert [] == again.warnings


def test_one_writer_others_read_or_branch(
    session: ChatSession, client: WorkbenchClient, tmp_path: Path
) -> None:
    """A conversation that is open elsewhere can be read and branched, not written."""
    session.ask("a")
    with pytest.raises(ConversationLocked):
        ChatSession.open(session.id, client=client, data_dir=tmp_path)
    reader = ChatSession.open(session.id, client=client, data_dir=tmp_path, read_only=True)
    assert ["a"] == [turn.text for turn in reader.turns]
    with pytest.raises(ConversationLocked):
        reader.ask("b")
    with reader.branch() as other:
        other.ask("b")
        assert other.id != session.id


def test_the_writer_of_this_process_is_found(
    session: ChatSession, client: WorkbenchClient, tmp_path: Path
) -> None:
    """The session that writes a conversation is found by its id, until it is closed."""
    session.ask("a")
    with ChatSession.open(session.id, client=client, data_dir=tmp_path, read_only=True):
        assert session is ChatSession.held(session.id, tmp_path)
    session.close()
    assert ChatSession.held(session.id, tmp_path) is None
    with ChatSession.open(session.id, client=client, data_dir=tmp_path) as again:
        assert again is ChatSession.held(session.id, tmp_path)


def test_a_forgotten_session_is_not_locked(client: WorkbenchClient, tmp_path: Path) -> None:
    """A conversation nobody holds any more can be opened for writing."""
    session = ChatSession(client, data_dir=tmp_path, model="m")
    session.ask("a")
    chat_id = session.id
    del session
    gc.collect()
    assert ChatSession.held(chat_id, tmp_path) is None
    with ChatSession.open(chat_id, client=client, data_dir=tmp_path) as again:
        assert "Hello from a script." == again.ask("b").text


def test_a_closed_session_cannot_be_asked(session: ChatSession) -> None:
    """After close() the conversation belongs to whoever opens it next."""
    session.ask("a")
    session.close()
    with pytest.raises(ConversationLocked):
        session.ask("b")


def test_stop_keeps_the_part_that_came(session: ChatSession, ollama: ScriptedOllama) -> None:
    """stop() from another thread ends the answer as cancelled and frees the model."""
    ollama.enqueue(Reply(["one", " two"], stall_after=1))
    answers: list[Generation] = []
    arrived = threading.Event()

    def ask() -> None:
        for event in session.stream("a"):
            if isinstance(event, TextDelta):
                arrived.set()

    thread = threading.Thread(target=ask)
    thread.start()
    assert arrived.wait(20)
    session.stop()
    thread.join()
    assert ollama.wait_for_request(1, to="chat").disconnected.wait(10)
    answer = session.turns[0].answer
    assert answer is not None
    assert answer.facts is not None
    assert ("one", "cancelled") == (answer.message.content, answer.facts.stop_reason)
    answers.append(session.ask("b"))
    assert [("user", "a"), ("assistant", "one"), ("user", "b")] == sent(ollama)


def test_stop_before_the_first_step_is_recorded(session: ChatSession) -> None:
    """An answer stopped before it could begin ends as cancelled, and the next one works."""

    async def on_the_portal() -> Generation:
        # Here nothing else of the loop runs between the start and the stop.
        job = session.begin("a")
        session.stop()
        return await asyncio.wrap_future(job.future)

    assert "cancelled" == get_portal().run(on_the_portal()).stop_reason
    assert session.ask("b").text


def test_cancelling_aask_stops_the_answer(session: ChatSession, ollama: ScriptedOllama) -> None:
    """A cancelled await stops the answer, keeps its part, and raises the cancellation."""
    ollama.set_reply(Reply(["one", " two"], stall_after=1))

    async def cancelled() -> None:
        task = asyncio.create_task(session.aask("a"))
        request = await asyncio.to_thread(ollama.wait_for_request, 1, to="chat")
        await asyncio.to_thread(request.stalled.wait)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(cancelled())
    assert not session.busy
    last = session.last
    assert last is not None
    assert last.facts is not None
    assert "cancelled" == last.facts.stop_reason


def test_leaving_a_stream_stops_it(session: ChatSession, ollama: ScriptedOllama) -> None:
    """Leaving the loop over the events stops the answer and keeps its part."""
    ollama.set_reply(Reply(["one", " two"], stall_after=1))
    for event in session.stream("a"):
        if isinstance(event, TextDelta):
            break
    session.stop()
    ollama.wait_for_request(1, to="chat").disconnected.wait(10)
    while session.busy:
        pass
    assert ["a", "one"] == texts(session)


def test_two_questions_at_once_are_refused(session: ChatSession, ollama: ScriptedOllama) -> None:
    """A question while an answer arrives is an error, and disturbs nothing."""
    ollama.enqueue(Reply(["one", " two"], stall_after=1))
    stream = session.stream("a")
    next(iter(stream))
    with pytest.raises(ConfigError, match="arriving"):
        session.ask("b")
    ollama.release()
    assert "one two" == "".join(e.text for e in [*stream] if isinstance(e, TextDelta))


@pytest.mark.parametrize(
    ("reply", "kind", "reason", "partial"),
    [
        (Reply("some of it", no_done=True), StreamBroken, "error", "some of it"),
        (Reply(["one", " two"], reset_after=1), StreamBroken, "error", "one"),
        (Reply(["one", " two"], error_after=(1, "stopped")), ModelError, "error", "one"),
        (Reply(["one", " two"], stall_after=1), RequestTimeout, "timeout", "one"),
        (Reply(error_first=(500, "no")), ModelError, "error", ""),
    ],
    ids=["no-done", "reset", "error-line", "stall", "refused"],
)
def test_every_bad_ending_has_its_reason(
    tmp_path: Path, reply: Reply, kind: type[ModelError], reason: str, partial: str
) -> None:
    """What broke an answer off is raised, and recorded with its reason and the part that came."""
    with ScriptedOllama(models=["m"], reply=reply) as ollama:
        client = WorkbenchClient(ollama.url, deadlines=Deadlines(60.0, 0.3))
        with ChatSession(client, data_dir=tmp_path, model="m") as session:
            with pytest.raises(kind):
                session.ask("a")
            node = session.last
            get_portal().run(client.aclose())
    assert node is not None
    assert node.facts is not None
    assert node.facts.error is not None
    assert (reason, partial) == (node.facts.stop_reason, node.message.content)


def test_a_bad_ending_can_be_returned(session: ChatSession, ollama: ScriptedOllama) -> None:
    """With on_error="return" the answer comes with its error."""
    ollama.set_reply(Reply("some", no_done=True))
    answer = session.ask("a", on_error="return")
    assert ("some", "error") == (answer.text, answer.stop_reason)
    assert isinstance(answer.error, StreamBroken)


def test_a_stream_that_cannot_begin_ends_with_failed(session: ChatSession) -> None:
    """A refused question is an event of the session's stream, and recorded."""
    session.model = "other"
    *_, last = session.stream("a")
    assert isinstance(last, Failed)
    assert isinstance(last.error, ModelNotFound)


def test_a_failed_turn_is_not_sent_again(session: ChatSession, ollama: ScriptedOllama) -> None:
    """A question whose answer never began is shown, and left out of the next request."""
    ollama.enqueue(Reply(error_first=(500, "no")))
    with pytest.raises(ModelError):
        session.ask("a")
    session.ask("b")
    assert [("user", "b")] == sent(ollama)
    assert ["a", "b"] == [turn.text for turn in session.turns]


def test_thinking_is_not_sent_back(session: ChatSession, ollama: ScriptedOllama) -> None:
    """The thinking of an earlier turn is kept, and not part of the next request."""
    ollama.set_reply(Reply("a", thinking="long thoughts"))
    session.ask("a")
    session.ask("b")
    assert "thinking" not in ollama.requests[-1].json["messages"][1]
    assert "long thoughts" == session.turns[0].replies[0].message.thinking


def test_tool_calls_are_kept_and_answered_by_hand(
    session: ChatSession, ollama: ScriptedOllama
) -> None:
    """A tool call ends the turn; its result is added by the user and sent with the next ask."""
    tool = {"type": "function", "function": {"name": "add", "parameters": {}}}
    ollama.enqueue(Reply("", tool_calls=[ToolCall("add", {"a": 1}, "c1")]), Reply("it is 3"))
    answer = session.ask("what is 1 + 2?", tools=[tool])
    assert ("tool_calls", "add") == (answer.stop_reason, answer.tool_calls[0].name)
    session.add_tool_result(answer.tool_calls[0], "3")
    assert "it is 3" == session.ask(tools=[tool]).text
    body = ollama.requests[-1].json
    assert ["user", "assistant", "tool"] == [message["role"] for message in body["messages"]]
    assert ("add", [tool]) == (body["messages"][2]["tool_name"], body["tools"])
    assert 1 == len(session.turns)


def test_images_are_sent(session: ChatSession, ollama: ScriptedOllama) -> None:
    """Image bytes of a question go with it, and again with the next one."""
    session.ask("what is it?", images=[b"\x89PNG"])
    session.ask("sure?")
    assert [b"\x89PNG"] == ollama.requests[-1].images


def limited(context_words: int) -> object:
    """Return a script that refuses prompts of more words, as llama.cpp does."""

    def reply(request: RecordedRequest) -> Reply:
        words = sum(len(message["content"].split()) for message in request.json["messages"])
        if words > context_words:
            return Reply(error_first=(400, "the request exceeds the available context size"))
        return Reply("ok", prompt_tokens=words)

    return reply


def test_oldest_turns_are_dropped_visibly(
    new_session: NewSession, ollama: ScriptedOllama, capsys: pytest.CaptureFixture[str]
) -> None:
    """When the context is full the oldest whole turns are not sent, which is recorded and told."""
    session = new_session(system="rules", options={"num_ctx": 256})
    for _ in range(6):
        session.ask("word " * 40)
    session.ask("last", show=True)
    answer = session.turns[-1].answer
    assert answer is not None
    assert answer.facts is not None
    dropped = answer.facts.dropped_turns
    assert dropped > 1
    assert f"[the {dropped} oldest turns do not fit" in capsys.readouterr().out
    roles = [role for role, _ in sent(ollama)]
    assert ["system", "user"] == roles[:2]
    assert 1 + 2 * (6 - dropped) + 1 == len(roles)
    assert 7 == len(session.turns)


def test_a_refused_prompt_is_cut_once_and_sent_again(
    new_session: NewSession, ollama: ScriptedOllama
) -> None:
    """When the engine finds the prompt too long, turns are dropped and it is asked again."""
    session = new_session()
    for _ in range(4):
        session.ask("word " * 50)
    ollama.set_reply(limited(180))  # type: ignore[arg-type]
    events: list[StreamEvent] = list(session.stream("word " * 50))
    assert isinstance(events[-1], Finished)
    assert any(isinstance(e, Phase) and "do not fit" in e.detail for e in events)
    node = session.last
    assert node is not None
    assert node.facts is not None
    assert 2 == node.facts.dropped_turns


def test_a_question_that_alone_is_too_long_fails(
    session: ChatSession, ollama: ScriptedOllama
) -> None:
    """When nothing can be dropped the engine's error is raised, after one request."""
    ollama.set_reply(limited(3))  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="context"):
        session.ask("a b c d e")
    assert 1 == sum(request.operation == "chat" for request in ollama.requests)


def test_a_session_prints_as_text(session: ChatSession, ollama: ScriptedOllama) -> None:
    """A session shows as one line of text, without HTML or markdown of its content."""
    session.ask("<img src=x onerror=alert(1)>\x1b[31m")
    assert "\x1b" not in repr(session)
    assert not hasattr(session, "_repr_html_")
    assert not hasattr(session, "_repr_markdown_")


def test_a_session_of_memory_only_writes_nothing(client: WorkbenchClient, tmp_path: Path) -> None:
    """Without a data folder a conversation works and leaves nothing."""
    with ChatSession(client, model="m") as session:
        assert session.ask("a").text
    assert [] == list(tmp_path.iterdir())
