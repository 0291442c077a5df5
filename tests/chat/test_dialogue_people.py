"""A person in a dialogue: saying, approving, and answers for where nobody looks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.chat.dialogues import ANN, BOB, NewDialogue, Watch, chats, in_state, sent
from workbench.chat.dialogue_setup import Answers
from workbench.errors import ConfigError
from workbench.testing import Reply, ScriptedOllama


def test_a_person_may_say_something(new_dialogue: NewDialogue, pair: ScriptedOllama) -> None:
    """The next turn hears it with the person's name; it takes no turn of the models."""
    pair.enqueue(Reply("one"), Reply("two"), Reply("three"))
    dialogue = new_dialogue(turns=1, human="interject").run()
    said = dialogue.say("What about cocoa?", as_="Eve")
    assert (True, 1, "Eve") == (said.human, said.index, said.speaker)
    dialogue.run(turns=2)
    assert [("user", "Tea or coffee?\n\n[Ann]: one\n\n[Eve]: What about cocoa?")] == sent(pair, 1)
    assert ["Ann", "Eve", "Bob", "Ann"] == [turn.speaker for turn in dialogue.turns]


def test_a_person_may_interrupt(new_dialogue: NewDialogue, pair: ScriptedOllama) -> None:
    """What is said during a turn stands after it, and the next one hears it."""
    pair.enqueue(Reply("one two", stall_after=1), Reply("three"))
    dialogue = new_dialogue(turns=2, human="interject")
    dialogue.start()
    pair.wait_for_request(1, to="chat").stalled.wait()
    dialogue.say("Hurry.")
    pair.release()
    dialogue.wait()
    assert ["one two", "Hurry.", "three"] == [turn.text for turn in dialogue.turns]
    assert sent(pair, 1)[0][1].endswith("[Ann]: one two\n\n[you]: Hurry.")


def test_words_can_be_put_into_a_mouth(new_dialogue: NewDialogue, pair: ScriptedOllama) -> None:
    """Said as a participant, it is the participant's own turn for the model."""
    dialogue = new_dialogue(turns=1, human="interject")
    dialogue.say("I changed my mind.", as_="Ann")
    dialogue.run()
    assert ("assistant", "I changed my mind.") == sent(pair, 0)[1]


def test_nobody_may_interrupt_unless_asked(new_dialogue: NewDialogue) -> None:
    """A dialogue without a person refuses what one says, and an approval nobody waits for."""
    dialogue = new_dialogue()
    for wrong in (lambda: dialogue.say("hi"), lambda: dialogue.approve()):
        with pytest.raises(ConfigError):
            wrong()


def test_each_turn_is_approved(new_dialogue: NewDialogue, pair: ScriptedOllama) -> None:
    """A turn is heard as it was approved: as it is, changed, or not at all."""
    pair.enqueue(*(Reply(text) for text in ("one", "two", "three", "four")))
    dialogue = new_dialogue(turns=4, human="approve")
    watch = Watch(dialogue)
    dialogue.start()
    for answer in ((True, None), (True, "zwei"), (False, None), (True, None)):
        watch.until(in_state(dialogue, "waiting"))
        assert dialogue.turns[-1].id == dialogue.waiting_for
        dialogue.approve(*answer)
        watch.until(lambda: dialogue.waiting_for is None)
    dialogue.wait()
    assert ["one", "zwei", "three", "four"] == [turn.text for turn in dialogue.turns]
    assert ["done", "done", "skipped", "done"] == [turn.status for turn in dialogue.turns]
    assert "two" == dialogue.turns[1].original
    assert [("user", "Tea or coffee?\n\n[Ann]: one"), ("assistant", "zwei")] == sent(pair, 3)[:2]
    assert "three" not in str(sent(pair, 3))


def test_stop_ends_the_waiting(new_dialogue: NewDialogue) -> None:
    """A turn that waits for an answer stands when the dialogue is stopped."""
    dialogue = new_dialogue(turns=4, human="approve")
    watch = Watch(dialogue)
    dialogue.start()
    watch.until(in_state(dialogue, "waiting"))
    dialogue.stop()
    dialogue.wait()
    assert ("done", ["done"]) == (dialogue.state, [turn.status for turn in dialogue.turns])


@pytest.mark.parametrize("human", ["interject", "approve"])
def test_where_nobody_looks_a_person_needs_answers(
    new_dialogue: NewDialogue, pair: ScriptedOllama, human: str
) -> None:
    """Without answers it fails before the first turn, and nothing is sent."""
    dialogue = new_dialogue(human=human, unattended=True)
    with pytest.raises(ConfigError, match="nobody can be asked") as caught:
        dialogue.run()
    assert "answers" in str(caught.value.hint)
    assert [] == chats(pair)


def test_answers_come_from_a_file(
    new_dialogue: NewDialogue, pair: ScriptedOllama, tmp_path: Path
) -> None:
    """A file approves, changes, rejects and says what a person would."""
    path = tmp_path / "answers.yaml"
    path.write_text(
        "- {turn: all, approve: true}\n"
        "- {turn: 1, text: zwei}\n"
        "- {turn: 2, say: 'And cocoa?', as: Eve}\n",
        encoding="utf-8",
    )
    pair.enqueue(*(Reply(text) for text in ("one", "two", "three")))
    dialogue = new_dialogue(turns=3, human="approve", unattended=True, answers=path).run()
    assert ["one", "zwei", "And cocoa?", "three"] == [turn.text for turn in dialogue.turns]
    assert ("user", "[Bob]: zwei\n\n[Eve]: And cocoa?") == sent(pair, 2)[-1]


def test_a_turn_without_an_answer_ends_it(new_dialogue: NewDialogue) -> None:
    """Answers that do not speak of a turn are an error that names it."""
    answers = [{"turn": 0, "approve": True}]
    dialogue = new_dialogue(turns=3, human="approve", unattended=True, answers=answers)
    with pytest.raises(ConfigError, match="none to turn 1"):
        dialogue.run()
    assert 2 == len(dialogue.turns)


@pytest.mark.parametrize(
    "entries",
    [
        "text",
        [{"approve": True}],
        [{"turn": "some", "approve": True}],
        [{"turn": 1}],
        [{"turn": 1, "approve": True, "say": "x"}],
        [{"turn": "all", "say": "x"}],
        [{"turn": 1, "shout": "x"}],
    ],
)
def test_answers_are_checked(entries: object, tmp_path: Path) -> None:
    """What is no list of answers is refused when the dialogue is set up."""
    path = tmp_path / "answers.json"
    path.write_text(json.dumps(entries), encoding="utf-8")
    with pytest.raises(ConfigError):
        Answers.read(path)


def test_two_dialogues_are_independent(new_dialogue: NewDialogue) -> None:
    """Muting in one does not mute in the other."""
    first, second = new_dialogue(ANN, BOB, turns=1), new_dialogue(ANN, BOB, turns=1)
    first.mute("Ann")
    assert ["Bob"] == [turn.speaker for turn in first.run().turns]
    assert ["Ann"] == [turn.speaker for turn in second.run().turns]
