"""Long dialogues: a window, a summary, and a full context."""

from __future__ import annotations

import pytest

from tests.chat.dialogues import ANN, BOB, NewDialogue, chats, sent, speakers
from workbench.chat.participants import Line
from workbench.chat.recollection import (
    Minutes,
    Summary,
    Window,
    as_memory,
    memory_wire,
    recalled,
    to_summarise,
)
from workbench.errors import ConfigError, ResponseError
from workbench.testing import RecordedRequest, Reply, ScriptedOllama

LINES = [Line("Ann", str(number)) for number in range(10)]


def told(request: RecordedRequest) -> Reply:
    """Say the number of the turn, so that nobody repeats anybody."""
    name, turn = (request.headers[f"workbench-{key}"] for key in ("speaker", "turn"))
    return Reply(f"{name} at {turn}")


def test_a_window_leaves_the_oldest_lines_out(
    new_dialogue: NewDialogue, pair: ScriptedOllama
) -> None:
    """The opening and the last lines are sent."""
    pair.set_reply(told)
    new_dialogue(turns=6, memory=Window(2)).run()
    assert [
        ("user", "Tea or coffee?"),
        ("assistant", "Bob at 3"),
        ("user", "[Ann]: Ann at 4"),
    ] == sent(pair, 5)


def test_a_summary_is_a_request_of_its_own(new_dialogue: NewDialogue, pair: ScriptedOllama) -> None:
    """What lies back is replaced by the summary, which goes on from the last one."""
    pair.set_reply(told)
    memory = Summary("judge", after=3, keep=2, words=40)
    dialogue = new_dialogue(turns=7, memory=memory).run()
    assert ["Ann", "Bob", "Ann", "Bob", "summary", "Ann", "Bob", "summary", "Ann"] == (
        speakers(pair)
    )
    first, second = (r for r in chats(pair) if r.model == "judge")
    assert (0.0, 160) == (
        first.json["options"]["temperature"],
        first.json["options"]["num_predict"],
    )
    asked = first.json["messages"][-1]["content"]
    assert "[Ann]: Ann at 0\n\n[Bob]: Bob at 1\n\nWrite" in asked
    assert "[Ann]: Ann at 2" not in asked
    assert "Your summary so far:\nsummary at 4" in second.json["messages"][-1]["content"]
    assert [
        ("user", "Tea or coffee?\n\nSummary of what was said before:\nsummary at 4"),
        ("assistant", "Ann at 2"),
        ("user", "[Bob]: Bob at 3"),
    ] == sent(pair, 5)
    assert [("summary", 4, 2), ("summary", 6, 4)] == [
        (aside.kind, aside.turn, aside.upto) for aside in dialogue.asides
    ]
    assert dialogue.client is not None
    assert (7, True) == (7, dialogue.replay(dialogue.transcript, dialogue.client).ok)


def test_a_summary_that_fails_is_a_failed_turn(
    new_dialogue: NewDialogue, pair: ScriptedOllama
) -> None:
    """The turn that needed it can be said again."""

    def reply(request: RecordedRequest) -> Reply:
        if request.model == "judge" and broken:
            return Reply(error_first=(500, broken.pop()))
        return told(request)

    broken = ["boom"]
    pair.set_reply(reply)
    dialogue = new_dialogue(turns=3, memory=Summary("judge", after=1, keep=1))
    with pytest.raises(ResponseError, match="boom"):
        dialogue.run()
    assert "failed" == dialogue.turns[-1].status
    dialogue.retry()
    assert "done" == dialogue.wait().state


def test_those_who_hear_the_same_share_a_summary(
    new_dialogue: NewDialogue, pair: ScriptedOllama
) -> None:
    """In a round of a broadcast it is made once; who hears less has one of its own."""
    pair.set_reply(told)
    deaf = {"name": "Cat", "model": "m", "sees": ["Ann"]}
    dialogue = new_dialogue(
        ANN, BOB, deaf, turns=6, order="broadcast", memory=Summary("judge", after=1, keep=1)
    ).run()
    assert [("", 2), ("Cat", 1)] == [(aside.key, aside.upto) for aside in dialogue.asides]


def test_a_full_context_drops_the_oldest(new_dialogue: NewDialogue, pair: ScriptedOllama) -> None:
    """With a small num_ctx whole turns are left out, and their number is kept."""
    pair.set_reply(lambda request: Reply(f"{told(request).text} " + "word " * 100))
    ann, bob = ({**who, "options": {"num_ctx": 512, "num_predict": 64}} for who in (ANN, BOB))
    dialogue = new_dialogue(ann, bob, turns=8, repetition=None).run()
    dropped = [turn.dropped_turns for turn in dialogue.turns]
    assert 0 == dropped[0]
    assert dropped[-1] > 0
    assert len(sent(pair, 7)) < 8
    assert sent(pair, 7)[0][1].startswith("Tea or coffee?")


def test_a_prompt_that_is_too_long_is_cut_and_asked_again(
    new_dialogue: NewDialogue, pair: ScriptedOllama
) -> None:
    """The engine's refusal costs one more request, not the turn."""

    def reply(request: RecordedRequest) -> Reply:
        if len(request.json["messages"]) > 3:
            return Reply(error_first=(400, "the prompt exceeds the context"))
        return told(request)

    pair.set_reply(reply)
    dialogue = new_dialogue(turns=6).run()
    assert ["done"] * 6 == [turn.status for turn in dialogue.turns]
    assert dialogue.turns[5].dropped_turns > 0
    assert sent(pair)[0][1].startswith("Tea or coffee?")
    assert dialogue.replay(dialogue.transcript, dialogue.client).ok


def test_when_it_is_summarised() -> None:
    """Not before `after` lines are heard beyond the summary; the last `keep` stay."""
    summary = Summary("m", after=4, keep=2)
    assert [] == to_summarise(summary, LINES[:4], Minutes())
    assert LINES[:3] == to_summarise(summary, LINES[:5], Minutes())
    assert [] == to_summarise(summary, LINES[:7], Minutes("s", 3))
    assert ("s", LINES[3:7]) == recalled(summary, LINES[:7], Minutes("s", 3))
    assert ("", LINES[8:]) == recalled(Window(2), LINES, Minutes("s", 3))
    assert ("", LINES) == recalled(None, LINES, Minutes())


@pytest.mark.parametrize(
    "memory", [None, Window(3), Summary("m", options={"seed": 1})], ids=["all", "window", "summary"]
)
def test_memory_is_read_back(memory: Window | Summary | None) -> None:
    """What is written is read as it was; short forms are understood."""
    assert memory == as_memory(memory_wire(memory))
    assert Window(5) == as_memory({"window": 5})
    assert Summary("m") == as_memory({"summary": "m"})


@pytest.mark.parametrize(
    "memory", [{"window": 0}, {"window": "x"}, {"summary": ""}, {}, 3, {"a": 1}]
)
def test_what_is_no_memory_is_refused(memory: object) -> None:
    """The error says what a memory is."""
    with pytest.raises(ConfigError) as caught:
        as_memory(memory)  # type: ignore[arg-type]
    assert "memory" == caught.value.key
