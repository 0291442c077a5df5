"""Dialogues on disk and in other forms."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import nbformat
import pytest

from tests.chat.conftest import python
from tests.chat.dialogues import ANN, BOB, NewDialogue, Watch, in_state
from tests.chat.test_processes import wait_for_bytes
from workbench.chat.dialogue import Dialogue
from workbench.chat.dialogue_export import COLUMNS
from workbench.chat.dialogue_log import (
    DialogueTranscript,
    delete_dialogue,
    dialogue_path,
    list_dialogues,
    read_dialogue,
    rename_dialogue,
)
from workbench.chat.dialogue_replay import as_transcript
from workbench.chat.orders import Moderator
from workbench.chat.recollection import Summary
from workbench.chat.store import list_chats
from workbench.client.api import WorkbenchClient
from workbench.errors import ConfigError, ConversationLocked, SchemaTooNew, StoreError
from workbench.portal import get_portal
from workbench.testing import Reply, ScriptedOllama

TALK = """
import sys
from workbench.chat.dialogue import Dialogue
from workbench.client.api import WorkbenchClient
cast = [{"name": "Ann", "model": "m"}, {"name": "Bob", "model": "n"}]
dialogue = Dialogue(
    WorkbenchClient(sys.argv[1]), cast, opening="x", seed=1, data_dir=sys.argv[2]
)
print(dialogue.id, flush=True)
dialogue.run()
"""


def test_a_dialogue_is_opened_again(
    new_dialogue: NewDialogue, pair: ScriptedOllama, tmp_path: Path
) -> None:
    """What is on disk is what was held, and it goes on from there."""
    pair.enqueue(Reply("one", thinking="hmm"), Reply("two"), Reply("three"))
    dialogue = new_dialogue(
        {**ANN, "options": {"temperature": 0.3}}, BOB, turns=2, stop={"phrase": "never"}
    ).run()
    dialogue.mute("Bob")
    dialogue.close()
    with Dialogue.open(dialogue.id, client=dialogue.client, data_dir=tmp_path) as again:
        assert dialogue.transcript == again.transcript
        assert dialogue.setup == again.setup
        assert frozenset({"Bob"}) == again.muted
        again.mute("Bob", on=False)
        again.run(turns=1)
        assert ["one", "two", "three"] == [turn.text for turn in again.turns]
        assert 102 == again.turns[2].seed


def test_dialogues_are_no_conversations(new_dialogue: NewDialogue, tmp_path: Path) -> None:
    """They lie in a folder of their own; one that was only set up leaves no file."""
    dialogue = new_dialogue(turns=1)
    path = dialogue_path(tmp_path, dialogue.id)
    assert not path.exists()
    dialogue.run()
    assert path.is_file()
    assert [] == list_chats(tmp_path)
    (info,) = list_dialogues(tmp_path)
    assert (dialogue.id, "Tea or coffee?", ("Ann", "Bob"), 1) == (
        info.id,
        info.title,
        info.participants,
        info.turns,
    )
    assert "done: 1 turn was taken" == info.cells()["STATE"]
    (tmp_path / "dialogues" / f"{'1' * 26}.jsonl").write_text("nonsense")
    assert [info] == list_dialogues(tmp_path, search="HELLO from")
    assert [] == list_dialogues(tmp_path, search="cocoa")


def test_a_dialogue_gets_a_title(new_dialogue: NewDialogue, tmp_path: Path) -> None:
    """A title given while it is open, or later, is listed, found, exported and kept."""
    dialogue = new_dialogue(turns=1)
    dialogue.rename("Hot drinks")
    assert not dialogue_path(tmp_path, dialogue.id).exists()
    dialogue.run()
    (info,) = list_dialogues(tmp_path, search="hot dr")
    assert "Hot drinks" == info.title
    assert dialogue.to_markdown().startswith("# Hot drinks\n")
    with pytest.raises(ConversationLocked):
        rename_dialogue(tmp_path, dialogue.id, "Cold drinks")
    dialogue.close()
    with pytest.raises(ConversationLocked):
        dialogue.rename("Nobody's")
    rename_dialogue(tmp_path, dialogue.id, "Cold drinks")
    (info,) = list_dialogues(tmp_path)
    assert "Cold drinks" == info.title
    with Dialogue.open(dialogue.id, client=dialogue.client, data_dir=tmp_path) as again:
        assert "Cold drinks" == again.transcript.title
        assert again.transcript == DialogueTranscript.from_wire(again.transcript.to_wire())
        branch = again.rewind(0)
    assert "" == branch.transcript.title


def test_a_dialogue_is_deleted(new_dialogue: NewDialogue, tmp_path: Path) -> None:
    """Nothing of it is left; one that is written, or is not there, is refused."""
    dialogue = new_dialogue(turns=1).run()
    with pytest.raises(ConversationLocked):
        delete_dialogue(tmp_path, dialogue.id)
    dialogue.close()
    delete_dialogue(tmp_path, dialogue.id)
    assert [] == list((tmp_path / "dialogues").iterdir())
    with pytest.raises(StoreError, match=f"no dialogue {dialogue.id}"):
        delete_dialogue(tmp_path, dialogue.id)


def test_one_writer(new_dialogue: NewDialogue, tmp_path: Path) -> None:
    """While one writes a dialogue others read it."""
    dialogue = new_dialogue(turns=1).run()
    assert dialogue is Dialogue.held(dialogue.id, tmp_path)
    with pytest.raises(ConversationLocked):
        Dialogue.open(dialogue.id, client=dialogue.client, data_dir=tmp_path)
    reader = Dialogue.open(dialogue.id, client=dialogue.client, data_dir=tmp_path, read_only=True)
    assert dialogue.turns == reader.turns
    with pytest.raises(ConversationLocked):
        reader.run()


def test_a_kill_loses_half_a_second(pair: ScriptedOllama, tmp_path: Path) -> None:
    """What came more than 0.5 s before the process was killed is in the file, as interrupted."""
    pair.enqueue(Reply("one"), Reply("two three four", stall_after=2))
    with subprocess.Popen(
        python(TALK, pair.url, str(tmp_path)), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        dialogue_id = process.stdout.readline().strip()
        pair.wait_for_request(2, to="chat", timeout_s=30).stalled.wait()
        path = dialogue_path(tmp_path, dialogue_id)
        wait_for_bytes(path, b"two three")
        os.kill(process.pid, signal.SIGKILL)
    found, damaged = read_dialogue(path)
    assert (0, "failed") == (damaged, found.state)
    assert ["one", "two three"] == [turn.text for turn in found.turns]
    assert ("failed", "interrupted") == (found.turns[1].status, found.turns[1].stop_reason)
    client = WorkbenchClient(pair.url)
    with Dialogue.open(dialogue_id, client=client, data_dir=tmp_path) as again:
        pair.enqueue(Reply("two"))
        again.retry()
        again.wait()
        assert ["one", "two"] == [turn.text for turn in again.turns[:2]]
    get_portal().run(client.aclose())


def test_a_torn_line_and_damage(new_dialogue: NewDialogue, tmp_path: Path) -> None:
    """A torn last line is cut off, a damaged line is skipped and told."""
    dialogue = new_dialogue(turns=2, repetition=None).run()
    dialogue.close()
    path = dialogue_path(tmp_path, dialogue.id)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:-1], b"{nonsense}\n", lines[-1], b'{"op": "tur']))
    with Dialogue.open(dialogue.id, client=dialogue.client, data_dir=tmp_path) as again:
        assert 2 == len(again.turns)
        assert "1 damaged" in str(again.warnings[0])


def test_what_cannot_be_opened_says_why(new_dialogue: NewDialogue, tmp_path: Path) -> None:
    """A missing, foreign or newer file is an error of its own."""
    dialogue = new_dialogue(turns=1).run()
    dialogue.close()
    path = dialogue_path(tmp_path, dialogue.id)
    how = {"client": dialogue.client, "data_dir": tmp_path}
    with pytest.raises(StoreError, match="no dialogue"):
        Dialogue.open("0" * 26, **how)
    with pytest.raises(StoreError, match="not the id"):
        Dialogue.open("../x", **how)
    head, *rest = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(head.replace(b'"schema":1', b'"schema":99') + b"".join(rest))
    with pytest.raises(SchemaTooNew):
        Dialogue.open(dialogue.id, **how)
    path.write_bytes(b'{"schema":1,"kind":"workbench.chat","id":"x","created_at":"y"}\n')
    with pytest.raises(StoreError, match="first line"):
        Dialogue.open(dialogue.id, **how)


def test_code_is_not_kept(new_dialogue: NewDialogue, tmp_path: Path) -> None:
    """A dialogue whose order was a callable can be read, and goes on once it is given again."""
    dialogue = new_dialogue(order=lambda view: "Bob", turns=1).run()
    dialogue.close()
    how = {"client": dialogue.client, "data_dir": tmp_path}
    with Dialogue.open(dialogue.id, **how) as again, pytest.raises(ConfigError, match="callable"):
        again.run(turns=1)
    with Dialogue.open(dialogue.id, **how, order=lambda view: "Ann") as again:
        assert ["Bob", "Ann"] == [turn.speaker for turn in again.run(turns=1).turns]


def test_a_failed_dialogue_is_retried_after_a_restart(
    new_dialogue: NewDialogue, pair: ScriptedOllama, tmp_path: Path
) -> None:
    """A failed turn of a broadcast is said again in its place, the others of its round too."""
    pair.enqueue(Reply("one"), Reply("x", error_first=(500, "boom")), Reply("two"), Reply("three"))
    cat = {"name": "Cat", "model": "judge"}
    how = {"turns": 3, "order": "broadcast", "schedule": "sequential"}
    dialogue = new_dialogue(ANN, BOB, cat, **how).run(on_error="return")
    dialogue.close()
    with Dialogue.open(dialogue.id, client=dialogue.client, data_dir=tmp_path) as again:
        assert "failed" == again.state
        again.retry()
        again.wait()
        assert [("Ann", "one"), ("Bob", "two"), ("Cat", "three")] == [
            (turn.speaker, turn.text) for turn in again.turns
        ]
        assert {0} == {turn.round for turn in again.turns}


def test_a_full_disk_does_not_end_it(new_dialogue: NewDialogue, tmp_path: Path) -> None:
    """The dialogue goes on in memory and says that it is not recorded."""
    (tmp_path / "dialogues").write_text("in the way")
    dialogue = new_dialogue(turns=1).run()
    assert "not being recorded" in str(dialogue.warnings[0])
    assert 1 == len(dialogue.turns)
    (tmp_path / "dialogues").unlink()


@pytest.fixture
def told(new_dialogue: NewDialogue, pair: ScriptedOllama) -> Dialogue:
    """Return a dialogue with something of everything."""
    pair.enqueue(Reply("one\x1b[31m <b>", thinking="hmm"), Reply("two", reset_after=1), Reply("3"))
    dialogue = new_dialogue(turns=3, human="interject", opening="Tea `or` coffee?")
    dialogue.run(on_error="return")
    dialogue.skip()
    dialogue.wait()
    dialogue.say("Thanks.")
    return dialogue


def test_every_form_of_a_transcript_is_read_back(told: Dialogue, tmp_path: Path) -> None:
    """JSON text, decoded JSON, a JSON file and the file itself give the same transcript."""
    path = tmp_path / "transcript.json"
    path.write_text(told.to_json(), encoding="utf-8")
    sources = [told.to_json(), json.loads(told.to_json()), path]
    sources.append(dialogue_path(tmp_path, told.id))
    for source in sources:
        assert told.transcript == as_transcript(source)
    for wrong in ("{", "[1]", {"kind": "x"}, tmp_path / "none.json"):
        with pytest.raises(StoreError):
            as_transcript(wrong)  # type: ignore[arg-type]


def test_to_frame(told: Dialogue) -> None:
    """One row per turn, with seeds, config and what was measured; the columns are documented."""
    frame = told.to_frame()
    assert list(COLUMNS) == list(frame.columns)
    assert ["Ann", "Bob", "Ann", "you"] == list(frame["speaker"])
    assert ["done", "skipped", "done", "done"] == list(frame["status"])
    assert [100, 101, 102] == list(frame["seed"][:3])
    assert "StreamBroken" in frame["error"][1]
    assert "order" == frame["picked"][0]


def test_text_and_markdown(told: Dialogue) -> None:
    """Plain text has no escapes; markdown names model and ending of each turn."""
    text = told.to_text()
    assert "Ann: one <b>" in text
    assert "Bob [skipped; StreamBroken: " in text
    assert "(done: 3 turns were taken)" in text
    markdown = told.to_markdown()
    assert markdown.startswith("# Tea `or` coffee?\n")
    assert "> hmm" in markdown
    assert "## you (a person)" in markdown
    bundle = told._repr_mimebundle_()
    assert text == bundle["text/plain"]


def test_to_notebook(told: Dialogue) -> None:
    """The notebook is valid, sets the same dialogue up, and shows texts as plain outputs."""
    notebook = told.to_notebook()
    nbformat.validate(notebook)
    assert [["parameters"]] == [c.metadata.tags for c in notebook.cells if "tags" in c.metadata]
    values: dict[str, object] = {}
    exec(notebook.cells[1].source, values)
    assert (3, 100, "round_robin") == (values["turns"], values["seed"], values["order"])
    assert told.setup.to_wire()["participants"] == values["participants"]
    compile(notebook.cells[3].source, "cell", "exec")
    (output,) = notebook.cells[3].outputs
    assert ("stream", False) == (output.output_type, "\x1b" in output.text)
    assert told.id == notebook.metadata.workbench.dialogue


def test_a_setup_is_the_same_after_a_round_trip(new_dialogue: NewDialogue, tmp_path: Path) -> None:
    """Every part that is not code is kept."""
    dialogue = new_dialogue(
        order="moderated",
        moderator=Moderator("judge", "Be fair.", {"seed": 3}),
        judge={"model": "judge", "rubric": "Be kind."},
        memory=Summary("m", after=4, keep=2),
        stop={"turns": 4, "seconds": 60, "goal": {"goal": "peace", "every": 2}, "repetition": 0.9},
        repetition=None,
        human="approve",
        schedule="parallel",
        swap=True,
        turns=None,
    )
    with dialogue.rewind(0) as other:
        assert dialogue.setup == other.setup
    wire = json.loads(json.dumps(dialogue.transcript.to_wire()))
    assert dialogue.setup == type(dialogue.setup).from_wire(wire["setup"])
    assert dialogue.transcript == DialogueTranscript.from_wire(wire)


def test_events_reach_whoever_observes(new_dialogue: NewDialogue, pair: ScriptedOllama) -> None:
    """Turns, pieces, lanes and states are told in order, until it is ended."""
    pair.enqueue(Reply("one two"))
    dialogue = new_dialogue(turns=1)
    watch = Watch(dialogue)
    seen: list[str] = []
    unobserve = dialogue.observe(lambda event: seen.append(event.kind))
    dialogue.run()
    watch.until(in_state(dialogue, "done"))
    kinds = list(dict.fromkeys(seen))
    assert ["state", "plan", "lane", "turn", "events"] == kinds
    dialogue.observe(lambda event: seen[-1000])
    dialogue.pause()
    assert (dialogue.pausing, "state") == (True, seen[-1])
    dialogue.mute("Bob")
    count = len(seen)
    unobserve()
    unobserve()
    dialogue.run(turns=1)
    assert count == len(seen)
