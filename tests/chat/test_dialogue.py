"""Dialogues on a scripted server: who speaks, what is sent, how it ends."""

from __future__ import annotations

import _thread
import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.chat.dialogues import ANN, BOB, CAT, NewDialogue, Watch, chats, in_state, sent, speakers
from workbench.chat.dialogue import Dialogue
from workbench.chat.dialogue_values import View
from workbench.chat.participants import GO_ON, Participant
from workbench.chat.stops import JudgeSays, MaxTokens, Phrase
from workbench.errors import ConfigError, ModelNotFound, StreamBroken
from workbench.testing import RecordedRequest, Reply, ScriptedOllama


def numbered(*texts: str) -> list[Reply]:
    return [Reply(text) for text in texts]


def test_two_models_answer_each_other(new_dialogue: NewDialogue, pair: ScriptedOllama) -> None:
    """Each hears the opening and the other as the user, and itself as the assistant."""
    pair.enqueue(*numbered("I say tea.", "I say coffee.", "Tea is calm.", "Coffee wakes."))
    dialogue = new_dialogue({**ANN, "system": "You like tea."}, BOB, turns=4).run()
    assert ["Ann", "Bob", "Ann", "Bob"] == speakers(pair)
    assert [("system", "You like tea."), ("user", "Tea or coffee?")] == sent(pair, 0)
    assert [("user", "Tea or coffee?\n\n[Ann]: I say tea.")] == sent(pair, 1)
    assert [
        ("system", "You like tea."),
        ("user", "Tea or coffee?"),
        ("assistant", "I say tea."),
        ("user", "[Bob]: I say coffee."),
    ] == sent(pair, 2)
    assert [
        ("user", "Tea or coffee?\n\n[Ann]: I say tea."),
        ("assistant", "I say coffee."),
        ("user", "[Ann]: Tea is calm."),
    ] == sent(pair, 3)
    assert ("done", "4 turns were taken") == (dialogue.state, dialogue.stop_reason)


def test_each_turn_has_its_own_options_and_seed(
    new_dialogue: NewDialogue, pair: ScriptedOllama
) -> None:
    """Options are the participant's own; the seed follows the turn unless it has one."""
    ann = {**ANN, "options": {"temperature": 0.5, "num_ctx": 2048}, "think": False}
    bob = {**BOB, "options": {"seed": 7}, "keep_alive": "5m"}
    new_dialogue(ann, bob, turns=3, repetition=None).run()
    first, second, third = (request.json for request in chats(pair))
    assert {"seed": 100, "temperature": 0.5, "num_ctx": 2048} == first["options"]
    assert ("m", False, None) == (first["model"], first["think"], first.get("keep_alive"))
    assert ({"seed": 7}, "5m") == (second["options"], second["keep_alive"])
    assert 102 == third["options"]["seed"]


def test_requests_tell_who_speaks(new_dialogue: NewDialogue, pair: ScriptedOllama) -> None:
    """Conversation, turn and speaker stand in the headers."""
    dialogue = new_dialogue(turns=2).run()
    names = ("workbench-conversation", "workbench-turn", "workbench-speaker")
    assert [(dialogue.id, "0", "Ann"), (dialogue.id, "1", "Bob")] == [
        tuple(request.headers[name] for name in names) for request in chats(pair)
    ]


def test_one_model_may_play_two_roles(new_dialogue: NewDialogue, pair: ScriptedOllama) -> None:
    """Roles are told apart by their names, not by their models."""
    pair.enqueue(*numbered("one", "two", "three"))
    new_dialogue(ANN, CAT, turns=3).run()
    assert ["m", "m", "m"] == [request.model for request in chats(pair)]
    assert [
        ("user", "Tea or coffee?"),
        ("assistant", "one"),
        ("user", "[Cat]: two"),
    ] == sent(pair, 2)


def test_runs_of_others_are_one_message(new_dialogue: NewDialogue, pair: ScriptedOllama) -> None:
    """What several others said stands in one message of the user."""
    pair.enqueue(*numbered("one", "two", "three", "four"))
    new_dialogue(ANN, BOB, CAT, turns=4).run()
    assert [
        ("user", "Tea or coffee?"),
        ("assistant", "one"),
        ("user", "[Bob]: two\n\n[Cat]: three"),
    ] == sent(pair, 3)


@pytest.mark.parametrize(
    ("shared", "heard"),
    [(False, "[Ann]: tea"), (True, "[Ann, thinking]: hmm\n\n[Ann]: tea")],
    ids=["kept", "shared"],
)
def test_thinking_is_heard_only_when_shared(
    new_dialogue: NewDialogue, pair: ScriptedOllama, shared: bool, heard: str
) -> None:
    """Others' thinking is left out unless the participant shares it; one's own always is."""
    pair.enqueue(Reply("tea", thinking="hmm"), Reply("coffee"), Reply("more tea"))
    dialogue = new_dialogue({**ANN, "share_thinking": shared}, BOB, turns=3).run()
    assert [("user", f"Tea or coffee?\n\n{heard}")] == sent(pair, 1)
    assert ("assistant", "tea") == sent(pair, 2)[1]
    assert "thinking" not in chats(pair)[2].json["messages"][1]
    assert "hmm" == dialogue.turns[0].thinking


def test_what_one_sees(new_dialogue: NewDialogue, pair: ScriptedOllama) -> None:
    """A participant hears only the opening, or only those it names."""
    pair.enqueue(*numbered("one", "two", "three", "four", "five", "six"))
    ann, bob = {**ANN, "sees": "opening"}, {**BOB, "sees": ["Cat"]}
    new_dialogue(ann, bob, CAT, turns=6).run()
    assert [("user", "Tea or coffee?")] == sent(pair, 1)
    assert [("user", "Tea or coffee?"), ("assistant", "one"), ("user", GO_ON)] == sent(pair, 3)
    assert [("user", "Tea or coffee?"), ("assistant", "two"), ("user", "[Cat]: three")] == (
        sent(pair, 4)
    )


def test_in_a_broadcast_nobody_hears_the_others_of_a_round(
    new_dialogue: NewDialogue, pair: ScriptedOllama
) -> None:
    """Everybody answers what was said before the round; then all hear all."""
    pair.enqueue(*numbered("one", "two", "three", "four"))
    dialogue = new_dialogue(turns=4, order="broadcast", schedule="sequential").run()
    assert [[("user", "Tea or coffee?")]] * 2 == [sent(pair, 0), sent(pair, 1)]
    assert [("user", "Tea or coffee?"), ("assistant", "one"), ("user", "[Bob]: two")] == (
        sent(pair, 2)
    )
    assert [0, 0, 1, 1] == [turn.round for turn in dialogue.turns]


def test_a_broadcast_is_grouped_by_model(new_dialogue: NewDialogue, pair: ScriptedOllama) -> None:
    """Roles of one model answer one after the other; each keeps its place and its seed."""
    dialogue = new_dialogue(ANN, BOB, CAT, turns=3, order="broadcast").run()
    assert ["m", "m", "n"] == [request.model for request in chats(pair)]
    assert ["Ann", "Bob", "Cat"] == [turn.speaker for turn in dialogue.turns]
    assert [100, 101, 102] == [turn.seed for turn in dialogue.turns]


def test_a_debate_has_an_opening_and_an_end(
    new_dialogue: NewDialogue, pair: ScriptedOllama
) -> None:
    """Each turn of a debate is told what it is to be, for that turn only."""
    pair.enqueue(*numbered("one", "two", "three", "four", "five", "six"))
    dialogue = new_dialogue(turns=6, order="debate").run()
    notes = [turn.note.split()[1] for turn in dialogue.turns]
    assert ["your", "your", "what", "what", "your", "your"] == notes
    assert sent(pair, 0)[-1][1].endswith("Give your opening statement.")
    assert sent(pair, 4)[-1][1].endswith("bring up nothing new.")
    assert "opening" not in str(sent(pair, 4))


def test_a_callable_says_who_speaks(new_dialogue: NewDialogue, pair: ScriptedOllama) -> None:
    """An order of the user gets the view and returns names, or the end."""

    def order(view: View) -> str | None:
        return "Bob" if len(view.turns) < 2 else None

    dialogue = new_dialogue(order=order).run()
    assert ["Bob", "Bob"] == speakers(pair)
    assert [("user", "Tea or coffee?"), ("assistant", "Hello from a script."), ("user", GO_ON)] == (
        sent(pair, 1)
    )
    assert "nobody is left to speak" == dialogue.stop_reason


def test_an_order_that_names_a_stranger_fails(new_dialogue: NewDialogue) -> None:
    """The error names whom the order meant, perhaps."""
    dialogue = new_dialogue(order=lambda view: "Bo")
    with pytest.raises(ConfigError, match="'Bo'") as caught:
        dialogue.run()
    assert "Did you mean 'Bob'?" == caught.value.hint
    assert "failed" == dialogue.state


def test_a_moderator_picks_by_a_schema(new_dialogue: NewDialogue, pair: ScriptedOllama) -> None:
    """The moderator chooses among the others by an enum; its requests are recorded."""
    pair.enqueue(Reply('{"choice": "Bob"}'), Reply("b"), Reply('{"choice": "Ann"}'), Reply("a"))
    dialogue = new_dialogue(ANN, BOB, CAT, order="moderated", moderator="judge", turns=2).run()
    assert ["moderator", "Bob", "moderator", "Ann"] == speakers(pair)
    asked = chats(pair)[2].json
    assert ["Ann", "Cat"] == asked["format"]["properties"]["choice"]["enum"]
    assert (0.0, "judge") == (asked["options"]["temperature"], asked["model"])
    assert "[Bob]: b" in asked["messages"][-1]["content"]
    assert ["moderator", "moderator"] == [turn.picked for turn in dialogue.turns]
    assert [("moderator", "Bob", 0), ("moderator", "Ann", 1)] == [
        (aside.kind, aside.value, aside.turn) for aside in dialogue.asides
    ]


def test_a_moderator_that_names_nobody_is_asked_again_once(
    new_dialogue: NewDialogue, pair: ScriptedOllama
) -> None:
    """After a second useless answer the next in turn speaks, and the turn says so."""
    pair.enqueue(*numbered("Let me think", '{"choice": "Zoe"}', "hello"))
    dialogue = new_dialogue(order="moderated", moderator="judge", turns=1).run()
    assert ["moderator", "moderator", "Ann"] == speakers(pair)
    assert "fallback" == dialogue.turns[0].picked
    assert [("", 0), ("", 1)] == [(aside.value, aside.attempt) for aside in dialogue.asides]
    assert "the moderator named nobody" in dialogue.to_text()


def test_a_missing_model_is_told_before_the_first_turn(
    new_dialogue: NewDialogue, pair: ScriptedOllama
) -> None:
    """Nobody is asked anything when one of the models is not there."""
    dialogue = new_dialogue(ANN, {"name": "Zoe", "model": "zoo"})
    with pytest.raises(ModelNotFound):
        dialogue.run()
    assert ("failed", [], []) == (dialogue.state, dialogue.turns, chats(pair))
    assert "zoo" in dialogue.stop_reason


def test_a_turn_that_fails_keeps_what_was_said(
    new_dialogue: NewDialogue, pair: ScriptedOllama
) -> None:
    """What came is kept and marked, nothing before it is lost, and a retry says it again."""
    pair.enqueue(Reply("one"), Reply("two and more", reset_after=1), *numbered("two", "three"))
    dialogue = new_dialogue(turns=3)
    with pytest.raises(StreamBroken):
        dialogue.run()
    failed = dialogue.turns[1]
    assert ("failed", "two", "error") == (failed.status, failed.text, failed.stop_reason)
    assert failed.error is not None
    assert "StreamBroken" == failed.error["type"]
    assert "the turn of Bob failed" == dialogue.stop_reason
    with pytest.raises(ConfigError, match="failed"):
        dialogue.start()
    dialogue.retry()
    dialogue.wait()
    assert ["one", "two", "three"] == [turn.text for turn in dialogue.turns]
    assert [0, 1, 2] == [turn.index for turn in dialogue.turns]
    assert ["two"] == [turn.text for turn in dialogue.transcript.discarded]
    assert chats(pair)[1].json == chats(pair)[2].json


def test_a_failed_turn_may_be_skipped(new_dialogue: NewDialogue, pair: ScriptedOllama) -> None:
    """The next speaker goes on, and does not hear what failed."""
    pair.enqueue(Reply("one"), Reply("two", error_after=(1, "out of memory")), Reply("three"))
    dialogue = new_dialogue(turns=3).run(on_error="return")
    dialogue.skip()
    dialogue.wait()
    assert ["done", "skipped", "done"] == [turn.status for turn in dialogue.turns]
    assert "two" not in str(sent(pair, 2))


def test_one_failure_leaves_the_others_of_a_round(
    new_dialogue: NewDialogue, pair: ScriptedOllama
) -> None:
    """The others end their turns, and only the failed one is said again."""

    def reply(request: RecordedRequest) -> Reply:
        if request.headers["workbench-speaker"] == "Bob" and broken:
            return Reply(error_first=(500, broken.pop()))
        return Reply(request.headers["workbench-speaker"])

    broken = ["boom"]
    pair.set_reply(reply)
    how = {"order": "broadcast", "schedule": "parallel", "turns": 3}
    dialogue = new_dialogue(ANN, BOB, CAT, **how).run(on_error="return")
    assert ["done", "failed", "done"] == [turn.status for turn in dialogue.turns]
    dialogue.retry()
    assert ["Ann", "Bob", "Cat"] == [turn.text for turn in dialogue.wait().turns]
    assert 4 == len(chats(pair))


def test_pause_and_resume(new_dialogue: NewDialogue, pair: ScriptedOllama) -> None:
    """A pause lets the turn end and holds the next one back."""
    pair.enqueue(Reply("one two", stall_after=1), Reply("three"))
    dialogue = new_dialogue(turns=2)
    watch = Watch(dialogue)
    dialogue.start()
    pair.wait_for_request(1, to="chat").stalled.wait()
    dialogue.pause()
    pair.release()
    watch.until(in_state(dialogue, "paused"))
    assert ["one two"] == [turn.text for turn in dialogue.turns]
    dialogue.resume()
    dialogue.wait()
    assert ["one two", "three"] == [turn.text for turn in dialogue.turns]


def test_stop_frees_the_model_and_keeps_what_came(
    new_dialogue: NewDialogue, pair: ScriptedOllama
) -> None:
    """Stop closes the request; the turn is kept as cancelled, and the dialogue can go on."""
    pair.enqueue(Reply("one two three", stall_after=2), Reply("four"))
    dialogue = new_dialogue(turns=2)
    watch = Watch(dialogue)
    dialogue.start()
    watch.until(lambda: any(event.kind == "events" for event in watch.events))
    request = pair.wait_for_request(1, to="chat")
    request.stalled.wait()
    watch.until(lambda: dialogue.lanes["Ann"].phase == "writing")
    dialogue.stop("enough")
    dialogue.wait()
    assert request.disconnected.wait(10)
    assert ("done", "enough") == (dialogue.state, dialogue.stop_reason)
    assert ("cancelled", "cancelled") == (dialogue.turns[0].status, dialogue.turns[0].stop_reason)
    dialogue.run()
    assert ["one two", "four"] == [turn.text for turn in dialogue.turns]
    assert "done" == dialogue.lanes["Bob"].phase


@pytest.mark.parametrize(
    "how",
    [
        {"order": "moderated", "moderator": "judge"},
        {"stop": [JudgeSays("Do they agree?")], "judge": "judge"},
    ],
    ids=["moderator", "judge"],
)
def test_stop_frees_the_model_that_is_asked_between_turns(
    new_dialogue: NewDialogue, pair: ScriptedOllama, how: dict[str, Any]
) -> None:
    """Stop closes the request of a moderator or judge too; the dialogue can go on after it."""

    def reply(request: RecordedRequest) -> Reply:
        return Reply("one two", stall_after=1) if request.model == "judge" else Reply("three")

    pair.set_reply(reply)
    dialogue = new_dialogue(turns=2, **how)
    dialogue.start()
    number = 1 if "order" in how else 2
    asked = pair.wait_for_request(number, to="chat")
    asked.stalled.wait()
    dialogue.stop("enough")
    dialogue.wait()
    assert asked.disconnected.wait(10)
    assert ("done", "enough") == (dialogue.state, dialogue.stop_reason)
    assert number - 1 == len(dialogue.turns)
    pair.set_reply(lambda r: Reply('{"choice": "no"}' if r.model == "judge" else "four"))
    dialogue.run(turns=2)
    assert 2 + number - 1 == len(dialogue.turns)
    assert "done" == dialogue.turns[-1].status


def test_skip_goes_on_with_the_next(new_dialogue: NewDialogue, pair: ScriptedOllama) -> None:
    """A skipped turn is not heard."""
    pair.enqueue(Reply("one two", stall_after=1), Reply("three"))
    dialogue = new_dialogue(turns=2)
    dialogue.start()
    pair.wait_for_request(1, to="chat").stalled.wait()
    dialogue.skip()
    dialogue.wait()
    assert ["skipped", "done"] == [turn.status for turn in dialogue.turns]
    assert [("user", "Tea or coffee?")] == sent(pair, 1)


def test_a_muted_participant_is_passed_over(
    new_dialogue: NewDialogue, pair: ScriptedOllama
) -> None:
    """Nobody asks who is muted, until it may speak again; nobody left ends the dialogue."""
    dialogue = new_dialogue(ANN, BOB, CAT, turns=2, repetition=None)
    dialogue.mute("Bob")
    dialogue.run()
    assert ["Ann", "Cat"] == speakers(pair)
    dialogue.mute("Bob", on=False)
    dialogue.run(turns=2)
    assert ["Ann", "Bob"] == speakers(pair)[2:]
    for name in ("Ann", "Bob", "Cat"):
        dialogue.mute(name)
    assert "nobody is left to speak" == dialogue.run(turns=2).stop_reason


def test_a_rule_of_stopping_gives_its_reason(
    new_dialogue: NewDialogue, pair: ScriptedOllama
) -> None:
    """The reason is kept on disk with the dialogue."""
    pair.enqueue(*numbered("no", "We have AGREED."))
    dialogue = new_dialogue(stop=[Phrase("agreed"), MaxTokens(1000)]).run()
    assert "Bob said 'agreed'" == dialogue.stop_reason
    assert "agreed" in dialogue.to_text()


def test_models_that_repeat_themselves_are_stopped(new_dialogue: NewDialogue) -> None:
    """The guard is on unless it is taken away."""
    dialogue = new_dialogue(turns=8).run()
    assert (3, True) == (len(dialogue.turns), "repeat 80 %" in dialogue.stop_reason)
    assert 8 == len(new_dialogue(turns=8, repetition=None).run().turns)


def test_a_callable_rule_runs_in_a_thread(new_dialogue: NewDialogue) -> None:
    """It may call the dialogue's blocking methods; what it raises is the error."""
    made: list[int] = []

    def enough(view: View) -> object:
        made.append(len(dialogue.turns))
        return len(view.turns) >= 2 and "that is enough"

    dialogue = new_dialogue(stop=enough)
    assert "that is enough" == dialogue.run().stop_reason
    assert [0, 1, 2] == made

    def broken(view: View) -> object:
        raise KeyError("x")

    with pytest.raises(ConfigError, match="broken"):
        new_dialogue(stop=[broken]).run()


@pytest.mark.parametrize(
    ("stop", "reason"),
    [
        ({"judge": "Do they agree?"}, "answered yes to 'Do they agree?'"),
        ({"goal": "a plan"}, "finds that the goal is reached: a plan"),
    ],
    ids=["judge", "goal"],
)
def test_a_judge_ends_it(
    new_dialogue: NewDialogue, pair: ScriptedOllama, stop: dict[str, str], reason: str
) -> None:
    """The judge is asked after each turn, by a schema, and ends the dialogue with a yes."""

    def reply(request: RecordedRequest) -> Reply:
        if request.model != "judge":
            return Reply(f"turn {request.headers['workbench-turn']}")
        yes = "[Bob]" in request.json["messages"][-1]["content"]
        return Reply('{"choice": "yes"}' if yes else '{"choice": "no"}')

    pair.set_reply(reply)
    dialogue = new_dialogue(judge="judge", stop=stop).run()
    assert ["Ann", "judge", "Bob", "judge"] == speakers(pair)
    assert dialogue.stop_reason.endswith(reason)
    assert ["no", "yes"] == [aside.value for aside in dialogue.asides]


def test_an_interrupt_stops_it(new_dialogue: NewDialogue, pair: ScriptedOllama) -> None:
    """Interrupting the kernel ends the turn that is being said; what came is kept."""
    pair.enqueue(Reply("one two", stall_after=1))
    dialogue = new_dialogue(turns=4)
    watch = Watch(dialogue)

    def interrupt() -> None:
        watch.until(lambda: any(event.kind == "events" for event in watch.events))
        pair.wait_for_request(1, to="chat").stalled.wait()
        watch.until(lambda: dialogue.lanes["Ann"].phase == "writing")
        _thread.interrupt_main()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(interrupt)
        dialogue.run()
    assert ("done", "interrupted") == (dialogue.state, dialogue.stop_reason)
    assert ["interrupted"] == [turn.stop_reason for turn in dialogue.turns]


def test_it_can_be_awaited_and_cancelled(new_dialogue: NewDialogue, pair: ScriptedOllama) -> None:
    """The async forms work on any loop; cancelling stops the dialogue."""

    async def main() -> None:
        assert (await new_dialogue(turns=1).aprepare()).needs
        assert 1 == len((await new_dialogue(turns=1).arun()).turns)
        pair.enqueue(Reply("one two", stall_after=1))
        dialogue = new_dialogue(turns=4)
        task = asyncio.create_task(dialogue.arun())
        request = await asyncio.to_thread(pair.wait_for_request, 2, to="chat")
        await asyncio.to_thread(request.stalled.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ("done", "cancelled") == (dialogue.state, dialogue.stop_reason)
        assert (await Dialogue.areplay(dialogue.transcript, dialogue.client)).ok

    asyncio.run(main())


def test_rewind_makes_a_branch_with_the_same_seeds(
    new_dialogue: NewDialogue, pair: ScriptedOllama
) -> None:
    """The branch says turns anew from one on; the dialogue it comes from stays as it is."""
    pair.enqueue(*numbered("one", "two", "three", "zwei", "drei"))
    dialogue = new_dialogue(turns=3).run()
    with dialogue.rewind(1) as branch:
        assert ["one"] == [turn.text for turn in branch.turns]
        branch.run()
        assert ["one", "zwei", "drei"] == [turn.text for turn in branch.turns]
        assert {"id": dialogue.id, "turn": 1} == branch.transcript.branch_of
    assert chats(pair)[1].json == chats(pair)[3].json
    assert ["one", "two", "three"] == [turn.text for turn in dialogue.turns]


def test_another_model_goes_on_from_a_turn(new_dialogue: NewDialogue, pair: ScriptedOllama) -> None:
    """Only the model of that role is another one; seed and messages are as before."""
    pair.enqueue(*numbered("one", "two", "three"))
    dialogue = new_dialogue(turns=2).run()
    with dialogue.continue_with("Bob", "judge", from_turn=dialogue.turns[1]) as branch:
        branch.run()
    before, after = chats(pair)[1].json, chats(pair)[2].json
    assert ("n", "judge") == (before.pop("model"), after.pop("model"))
    assert before == after


def test_a_replay_asks_each_turn_as_it_was_asked(
    new_dialogue: NewDialogue, pair: ScriptedOllama
) -> None:
    """Another model in a role, or other parameters later on, are no difference of earlier turns."""
    pair.set_reply(lambda request: Reply(request.model, thinking="hm"))
    first = new_dialogue(turns=2, repetition=None).run()
    branch = first.continue_with("Ann", "judge", 2)
    branch.run(turns=2)
    branch.adjust("Ann", system="Be brief.", options={"temperature": 0.1})
    branch.adjust("Bob", share_thinking=True)
    branch.run(turns=2)
    asked = [(request.model, request.json["messages"]) for request in chats(pair)]
    replay = Dialogue.replay(branch.transcript, branch.client)
    assert (None, 6) == (replay.difference, replay.checked)
    assert asked == [(r.model, r.json["messages"]) for r in chats(pair)[len(asked) :]]
    assert ["m", "n", "judge", "n", "judge", "n"] == [model for model, _ in asked]


def test_what_cannot_be_is_refused_at_once(new_dialogue: NewDialogue) -> None:
    """A wrong setup is a ConfigError before anything is sent."""
    for participants, how, key in [
        ([{"name": "A[", "model": "m"}], {}, "name"),
        ([ANN, {**BOB, "name": "ann"}], {}, "name"),
        ([{**ANN, "sees": ["Zoe"]}], {}, "sees"),
        ([{**ANN, "colour": "red"}], {}, "colour"),
        ([{"name": "Ann"}], {}, "model"),
        ([{**ANN, "options": {"temprature": 1}}], {}, "temprature"),
        ([ANN], {"order": "round_robbin"}, "order"),
        ([ANN], {"order": "moderated"}, "moderator"),
        ([ANN], {"stop": {"frase": "x"}}, "frase"),
        ([ANN], {"stop": {"goal": "x"}}, "judge"),
        ([ANN], {"turns": 0}, "turns"),
        ([ANN], {"turns": "4"}, "turns"),
        ([ANN], {"turns": 2.5}, "turns"),
        ([ANN], {"seed": "one"}, "seed"),
        ([{**ANN, "model": 3}], {}, "model"),
        ([{**ANN, "system": 3}], {}, "system"),
        ([{**ANN, "sees": 3}], {}, "sees"),
        ([{**ANN, "name": 3}], {}, "name"),
        ([{**ANN, "options": {"temperature": float("nan")}}], {}, "temperature"),
        ([ANN], {"stop": {"tokens": -1}}, "tokens"),
        ([ANN], {"stop": {"seconds": float("nan")}}, "seconds"),
        ([ANN], {"stop": {"phrase": " "}}, "phrase"),
        ([ANN], {"stop": {"phrase": {"text": "x", "by": 3}}}, "phrase"),
        ([ANN], {"stop": {"repetition": {"ratio": 0.8, "times": "two"}}}, "repetition"),
        ([ANN], {"stop": {"repetition": 1.5}}, "repetition"),
        ([ANN], {"judge": "m", "stop": {"judge": {"question": "x", "every": 0}}}, "judge"),
        ([ANN], {"judge": "m", "stop": {"goal": {"goal": "x", "every": True}}}, "goal"),
        ([ANN], {"human": "maybe"}, "human"),
        ([ANN], {"memory": {"diary": 3}}, "memory"),
    ]:
        with pytest.raises(ConfigError) as caught:
            new_dialogue(*participants, **how)
        assert key == caught.value.key


def test_a_participant_is_the_same_after_a_round_trip() -> None:
    """What is written of a participant is read back as it was."""
    full = Participant("Ann", "m", "s", {"seed": 1}, False, "5m", ("Bob",), True)
    for participant in (full, Participant("Bob", "n")):
        assert participant == Participant.from_wire(participant.to_wire())
