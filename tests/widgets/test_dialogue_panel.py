"""The dialogue panel without a browser: what its view is sent, and what a person's clicks do."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.client.conftest import PATIENT
from tests.widgets.dialogue_view import ViewOfDialogue
from workbench.chat.dialogue import Dialogue
from workbench.chat.dialogue_log import list_dialogues
from workbench.client.api import WorkbenchClient
from workbench.errors import ConfigError
from workbench.portal import get_portal
from workbench.testing import Reply, ScriptedOllama
from workbench.widgets.dialogue_calls import dialogue_panel_of
from workbench.widgets.dialogue_draft import changed, draft_of, make, new_draft

ANN = {"name": "Ann", "model": "m"}
BOB = {"name": "Bob", "model": "n"}

Shown = Callable[..., ViewOfDialogue]

TALK = """
import sys
from workbench.chat.dialogue import Dialogue
from workbench.client.api import WorkbenchClient
cast = [{{"name": "Ann", "model": "m"}}, {{"name": "Bob", "model": "n"}}]
how = dict(opening="x", turns=1, data_dir={folder!r})
dialogue = Dialogue(WorkbenchClient({url!r}), cast, **how).run()
print(dialogue.id, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def ollama() -> Iterator[ScriptedOllama]:
    """Yield a server with two models."""
    with ScriptedOllama(models=["m", "n"]) as server:
        yield server


@pytest.fixture
def client(ollama: ScriptedOllama) -> Iterator[WorkbenchClient]:
    """Yield the door to it."""
    client = WorkbenchClient(ollama.url, deadlines=PATIENT)
    yield client
    get_portal().run(client.aclose())


@pytest.fixture
def shown(client: WorkbenchClient, tmp_path: Path) -> Iterator[Shown]:
    """Yield a function that shows a new dialogue of Ann and Bob."""
    made: list[ViewOfDialogue] = []

    def show(*cast: Any, **how: Any) -> ViewOfDialogue:
        how = {"opening": "Tea or coffee?", "data_dir": tmp_path, "seed": 100, **how}
        dialogue = Dialogue(client, cast or (ANN, BOB), **how)
        made.append(ViewOfDialogue(client, dialogue, data_dir=tmp_path))
        return made[-1]

    yield show
    for view in made:
        if view.dialogue is not None:
            view.dialogue.close()
        view.end()


def chats(ollama: ScriptedOllama) -> list[dict[str, Any]]:
    """Return the bodies of the requests for text."""
    return [request.json for request in ollama.requests if request.operation == "chat"]


def test_lanes_arrive_in_one_frame(shown: Shown, ollama: ScriptedOllama) -> None:
    """What models write at the same time travels together, and the view holds all of it."""
    words = " ".join(f"w{number}" for number in range(60))
    ollama.set_reply(Reply(words, tokens_per_s=200))
    view = shown(order="broadcast", schedule="parallel", turns=2)
    view.say(t="start")
    picture = view.reaches("done")
    frames = [message for message in view.messages if message["t"] == "f"]
    assert any(len({piece[0] for piece in frame["p"]}) == 2 for frame in frames)
    assert [words, words] == [view.texts[turn["mid"]] for turn in view.turns]
    told = [status for frame in frames for status in frame.get("s", ())]
    assert {"writing"} <= {status["phase"] for status in told}
    assert "2 turns were taken" == picture["run"]["reason"]
    assert [60, 60] == [turn["fig"]["tokens"] for turn in view.turns]
    assert ["done", "done"] == [lane["status"]["phase"] for lane in picture["lanes"]]


def test_a_view_that_comes_later_has_it_all(shown: Shown, ollama: ScriptedOllama) -> None:
    """The picture for a new view holds what came of a turn so far; frames go on from there."""
    ollama.set_reply(Reply("one two three", stall_after=2))
    view = shown(turns=1)
    view.say(t="start")
    view.until(lambda v: any("two" in text for text in v.texts.values()))
    view.say(t="sync")
    view.until(lambda v: v.messages[-1].get("base", 0) is None)
    assert "one two" == view.texts[view.turns[0]["mid"]].strip()
    ollama.release()
    view.reaches("done")
    assert "one two three" == view.texts[view.turns[0]["mid"]]


def test_a_person_pauses_mutes_and_speaks(shown: Shown, ollama: ScriptedOllama) -> None:
    """Pause lets the turn end; what is said then, and who was muted, counts for the next turn."""
    ollama.enqueue(Reply("one two", stall_after=1), Reply("three"))
    view = shown(turns=2, human="interject")
    view.say(t="start")
    ollama.wait_for_request(1, to="chat").stalled.wait()
    view.say(t="pause")
    view.until(lambda v: v.shown["run"]["pausing"])
    ollama.release()
    view.reaches("paused")
    view.say(t="say", text="And cocoa?")
    view.say(t="mute", name="Bob", on=True)
    view.until(lambda v: v.shown["lanes"][1]["muted"])
    view.say(t="resume")
    view.reaches("done")
    assert ["Ann", "you", "Ann"] == [turn["who"] for turn in view.turns]
    assert "And cocoa?" in str(chats(ollama)[-1]["messages"])


def test_a_turn_is_approved_or_changed(shown: Shown, ollama: ScriptedOllama) -> None:
    """A turn that waits says so; an edited one is heard as it was edited."""
    ollama.enqueue(Reply("one"), Reply("two"))
    view = shown(turns=2, human="approve")
    view.say(t="start")
    view.reaches("waiting")
    view.until(lambda v: v.turns and v.turns[0]["waiting"])
    view.say(t="approve", yes=True, text="eins")
    view.until(lambda v: len(v.turns) == 2 and v.turns[1]["waiting"])
    view.say(t="approve", yes=False)
    view.reaches("done")
    assert [("eins", "done", True), ("two", "skipped", False)] == [
        (turn["text"], turn["status"], turn["changed"]) for turn in view.turns
    ]
    assert "[Ann]: eins" in str(chats(ollama)[1]["messages"])


def test_a_failed_turn_is_kept_and_retried(shown: Shown, ollama: ScriptedOllama) -> None:
    """The error stands at the turn with all before it; Retry says only that turn again."""
    ollama.enqueue(Reply("one"), Reply("tw", error_after=(1, "out of memory")), Reply("two"))
    view = shown(turns=2)
    view.say(t="start")
    picture = view.reaches("failed")
    assert "out of memory" in view.turns[1]["error"]["text"]
    assert (True, None) == (picture["run"]["failed_turn"], view.turns[0]["error"])
    view.say(t="retry")
    view.reaches("done")
    assert ["one", "two"] == [turn["text"] for turn in view.turns]


def test_a_missing_model_shows_before_the_first_turn(shown: Shown, ollama: ScriptedOllama) -> None:
    """What is missing is named, with what to do, and nothing was asked."""
    view = shown(ANN, {"name": "Bob", "model": "gone"})
    problem = view.until(lambda v: v.shown["problem"])
    assert ("ModelNotFound", True) == (problem["type"], "gone" in problem["text"])
    assert problem["hint"]
    view.say(t="adjust", name="Bob", fields={"model": "n"})
    view.until(lambda v: v.shown["problem"] is None and v.shown["plan"])
    assert [["Ann"], ["Bob"]] == [[need[1]] for need in view.shown["plan"]["needs"]]
    assert [] == chats(ollama)


def test_a_server_that_is_gone_takes_nothing_along(shown: Shown, ollama: ScriptedOllama) -> None:
    """What was said stays, the turn that could not be asked says why, and can be retried."""
    ollama.enqueue(Reply("one"), Reply("two", reset_first=True), Reply("two"))
    view = shown(turns=2)
    view.say(t="start")
    view.reaches("failed")
    assert ["one", ""] == [turn["text"] for turn in view.turns]
    assert view.turns[1]["error"]["text"]
    assert view.turns[1]["error"]["type"] == view.shown["lanes"][1]["status"]["detail"]
    view.say(t="retry")
    view.reaches("done")
    assert ["one", "two"] == [turn["text"] for turn in view.turns]


def test_nobody_answers_at_the_address(tmp_path: Path) -> None:
    """Without a server the set-up stays usable, and says what is wrong."""
    client = WorkbenchClient("http://127.0.0.1:9", deadlines=PATIENT)
    view = ViewOfDialogue(client, data_dir=tmp_path)
    view.say(t="draft", set={"participants": [ANN, BOB], "opening": "Tea?"})

    def refused(seen: ViewOfDialogue) -> bool:
        return (seen.shown["problem"] or {}).get("type") == "ConnectionFailed"

    view.until(refused)
    view.say(t="start")
    view.reaches("failed")
    view.until(refused)
    view.end()
    get_portal().run(client.aclose())


def test_going_back_shows_a_branch(shown: Shown, ollama: ScriptedOllama) -> None:
    """Rewinding and another model show a branch; the first dialogue keeps what it has."""
    ollama.set_reply(Reply("said"))
    view = shown(turns=2)
    first = view.dialogue
    view.say(t="start")
    view.reaches("done")
    view.say(t="rewind", index=1)
    view.until(lambda v: v.shown["run"]["state"] == "ready" and len(v.turns) == 1)
    assert "branch" in view.told("notice")["text"]
    view.say(t="continue", index=0, name="Ann", model="n")
    view.until(lambda v: len(v.turns) == 2 and v.turns[0]["model"] == "n")
    view.reaches("done")
    assert first is not None
    assert [("m", 100), ("n", 101)] == [(turn.model, turn.seed) for turn in first.turns]
    assert [100, 101] == [turn["seed"] for turn in view.turns]


def test_parameters_count_from_the_next_turn(shown: Shown, ollama: ScriptedOllama) -> None:
    """A participant may change between turns, but for its model; the transcript keeps what was."""
    ollama.set_reply(Reply("said"))
    view = shown(turns=1)
    view.say(t="start")
    view.reaches("done")
    view.say(t="adjust", name="Bob", fields={"system": "Be brief.", "options": {"temperature": 0}})
    view.until(lambda v: v.shown["people"][1].get("system") == "Be brief.")
    view.say(t="adjust", name="Bob", fields={"model": "m"})
    assert "continue" in str(view.told("notice")["hint"])
    view.say(t="start", turns=1)
    view.until(lambda v: len(v.turns) == 2)
    view.reaches("done")
    asked = chats(ollama)[-1]
    assert ("Be brief.", 0) == (asked["messages"][0]["content"], asked["options"]["temperature"])


def test_a_dialogue_is_set_up_and_found_again(
    client: WorkbenchClient, ollama: ScriptedOllama, tmp_path: Path
) -> None:
    """From nothing to a dialogue that ended; it is on disk, in the list, and can be opened."""
    ollama.set_reply(Reply("said"))
    view = ViewOfDialogue(client, data_dir=tmp_path)
    people = [ANN, {**BOB, "options": {"temperature": 0.5}}]
    view.say(t="draft", set={"participants": people, "turns": None, "opening": ""})
    view.until(lambda v: v.shown["problem"] and "opening" in v.shown["problem"]["text"])
    assert [] == list(tmp_path.glob("**/*.jsonl"))
    view.say(t="draft", set={"opening": "Tea?", "stop": {"phrase": "said"}, "human": "off"})
    view.until(lambda v: v.shown["problem"] is None and v.shown["plan"])
    view.say(t="start")
    picture = view.reaches("done")
    assert "said" in picture["run"]["reason"]
    first = picture["conv"]["cid"]
    view.say(t="new")
    draft = view.until(lambda v: v.shown["draft"])
    assert ("Tea?", {"phrase": "said"}, None) == (draft["opening"], draft["stop"], draft["turns"])
    view.say(t="stored", query="tea")
    assert [first] == [item["id"] for item in view.told("stored")["items"]]
    view.say(t="open", id=first)
    view.until(lambda v: v.shown["conv"]["cid"] == first)
    assert ["said"] == [turn["text"] for turn in view.turns]
    assert view.dialogue is not None
    view.dialogue.close()
    view.end()


def test_a_dialogue_on_disk_is_renamed_and_deleted(
    shown: Shown, ollama: ScriptedOllama, tmp_path: Path
) -> None:
    """The one that is shown, and one that is closed."""
    ollama.set_reply(Reply("said"))
    view, other = shown(turns=1), shown(turns=1, opening="Cocoa?")
    first, second = view.dialogue, other.dialogue
    assert first is not None
    assert second is not None
    second.run().close()
    first.run()
    view.say(t="rename", id=first.id, title=" Hot drinks ", query="")
    view.until(lambda v: v.shown["conv"]["title"] == "Hot drinks")
    titles = [item["title"] for item in view.told("stored")["items"]]
    assert ["Hot drinks", "Cocoa?"] == titles
    view.say(t="rename", id=second.id, title="Sweet", query="sweet")
    assert ["Sweet"] == [item["title"] for item in view.told("stored")["items"]]
    view.say(t="remove", id=second.id, query="")
    assert [first.id] == [item["id"] for item in view.told("stored")["items"]]
    view.say(t="remove", id=first.id, query="")
    view.until(lambda v: v.shown["draft"] and not v.shown["conv"]["cid"])
    assert [] == view.told("stored")["items"]
    assert [] == list((tmp_path / "dialogues").iterdir())


def test_a_dialogue_that_another_process_writes_stays(
    shown: Shown, ollama: ScriptedOllama, tmp_path: Path
) -> None:
    """It is neither renamed nor deleted, and the view says why."""
    ollama.set_reply(Reply("said"))
    code = TALK.format(url=ollama.url, folder=str(tmp_path))
    command = [sys.executable, "-c", code]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as writer:
        assert writer.stdin is not None
        assert writer.stdout is not None
        wanted = writer.stdout.readline().strip()
        view = shown(turns=1)
        for kind in ("remove", "rename"):
            view.say(t=kind, id=wanted, title="Mine", query="")
            assert "another process" in view.told("notice")["text"]
        assert [(wanted, "x")] == [(item.id, item.title) for item in list_dialogues(tmp_path)]
        writer.stdin.close()


def test_a_stored_dialogue_shows_its_figures(
    client: WorkbenchClient, shown: Shown, ollama: ScriptedOllama, tmp_path: Path
) -> None:
    """Opened by another object, the heads tell how the last turn of each lane ended."""
    ollama.set_reply(Reply("said"))
    view = shown(turns=2)
    assert view.dialogue is not None
    view.dialogue.run().close()
    with Dialogue.open(view.dialogue.id, client=client, data_dir=tmp_path) as found:
        again = ViewOfDialogue(client, found, data_dir=tmp_path)
        states = [lane["status"] for lane in again.shown["lanes"]]
        assert [("done", "stop", 1)] * 2 == [(s["phase"], s["detail"], s["tok"]) for s in states]
        assert "2 turns were taken" == again.shown["run"]["reason"]
        again.end()


def test_transcripts_go_out(shown: Shown, ollama: ScriptedOllama) -> None:
    """Markdown, a notebook and JSON are files; a turn or all of it is text for a cell."""
    ollama.set_reply(Reply("said **this**"))
    view = shown(turns=1)
    view.say(t="start")
    view.reaches("done")
    for form, ending in (("markdown", ".md"), ("notebook", ".ipynb"), ("json", ".json")):
        view.say(t="export", fmt=form)
        assert view.told("file")["name"] == f"Tea-or-coffee{ending}"
    assert b"said **this**" in view.files[0]
    assert 4 == json.loads(view.files[1])["nbformat"]
    assert "Tea or coffee?" == json.loads(view.files[2])["setup"]["opening"]
    view.say(t="insert", mid=view.turns[0]["mid"])
    clip = view.told("clip")
    assert ("said **this**", "markdown") == (clip["text"], clip["kind"])
    view.say(t="insert", mid="opening")
    assert "Ann" in view.told("clip")["text"]


def test_wrong_messages_are_told(shown: Shown) -> None:
    """What nobody knows, what is not whole and what is refused shows as a notice."""
    view = shown()
    for wrong in (
        {"t": "dance"},
        {"t": "mute"},
        {"t": "say", "text": "hi"},
        {"t": "layout", "layout": "pile"},
        {"t": "export", "fmt": "pdf"},
    ):
        view.say(**wrong)
        assert view.told("notice")["level"] in ("warn", "error")


def test_what_is_kept_is_safe(shown: Shown, ollama: ScriptedOllama) -> None:
    """Where nobody looks there is a static transcript, without widget and without live HTML."""
    ollama.set_reply(Reply("<img src=x onerror=alert(1)> [a](javascript:alert(1))"))
    view = shown(turns=1, opening="<script>alert(2)</script>")
    assert view.dialogue is not None
    view.dialogue.run()
    bundle = dialogue_panel_of(view.dialogue)._repr_mimebundle_()
    assert dialogue_panel_of(view.dialogue) is dialogue_panel_of(view.dialogue)
    assert {"text/html", "text/plain"} == set(bundle)
    assert not any(bad in bundle["text/html"] for bad in ("<img", "<script", "href"))
    assert "done: 1 turn was taken" in bundle["text/html"]


def test_verdicts_are_told(shown: Shown, ollama: ScriptedOllama) -> None:
    """What a judge found stands under the dialogue, live and where nobody looks."""
    view = shown(turns=2, judge="m")
    view.say(t="start")
    view.reaches("done")
    assert view.dialogue is not None
    ollama.set_reply(Reply('{"choice": "tie"}'))
    view.dialogue.decide()
    told = "m judged Ann and Bob: a tie (in both orders)"
    view.until(lambda v: [told] == v.shown["run"]["verdicts"])
    assert told in dialogue_panel_of(view.dialogue)._repr_mimebundle_()["text/html"]


def test_the_set_up_begins_with_two_bundled_models() -> None:
    """Toys come first, the better one speaks first; without models the fields are empty."""
    row = {"backend": "b", "state": "idle", "size_bytes": 1}
    rows = [{**row, "name": "big", "toy": False, "size_bytes": 9}]
    rows += [
        {**row, "name": "tiny", "toy": True, "size_bytes": 3},
        {**row, "name": "nano", "toy": True},
    ]
    assert ["tiny", "nano"] == [item["model"] for item in new_draft(rows)["participants"]]
    assert ["big", "big"] == [item["model"] for item in new_draft(rows[:1])["participants"]]
    assert ["", ""] == [item["model"] for item in new_draft([])["participants"]]


def test_a_set_up_dialogue_can_be_drafted_again(shown: Shown) -> None:
    """The draft of another dialogue has what this one was set up with, code left out."""
    view = shown(turns=3, stop={"tokens": 50}, order=lambda seen: None)
    assert view.dialogue is not None
    draft = draft_of(view.dialogue)
    assert (3, {"tokens": 50}, "round_robin") == (draft["turns"], draft["stop"], draft["order"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"order": "moderated"}, "moderator"),
        ({"stop": {"judge": "Do they agree?"}}, "judge"),
        ({"participants": [ANN, ANN]}, "two participants"),
        ({"turns": 0}, "at least one turn"),
        ({"colour": "red"}, "no 'colour'"),
    ],
)
def test_a_set_up_that_cannot_be_is_refused(
    client: WorkbenchClient, change: dict[str, Any], said: str
) -> None:
    """What is missing or wrong in a draft is said in words, and nothing is sent."""
    draft = changed(new_draft([]), {"participants": [ANN, BOB]})
    with pytest.raises(ConfigError, match=said):
        make(client, changed(draft, change), None)


def test_moderator_and_judge_are_set_up(client: WorkbenchClient) -> None:
    """A draft names models for both; they come back when it is drafted again."""
    how = {"order": "moderated", "moderator": "m", "judge": "n", "stop": {"judge": "Agreed?"}}
    draft = changed(new_draft([]), {"participants": [ANN, BOB], **how})
    again = draft_of(make(client, draft, None))
    assert how == {name: again[name] for name in how}
