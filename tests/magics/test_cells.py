"""The magics in a shell, against a scripted server."""

from __future__ import annotations

from typing import Any

import pytest
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

from workbench.chat.compare import Comparison
from workbench.chat.dialogue import Dialogue
from workbench.chat.session import ChatSession
from workbench.errors import ResponseError
from workbench.magics.chat import ChatAnswer
from workbench.testing import Reply, ScriptedOllama

TALK = """\
participants:
  - name: Ann
    model: tiny
    system: Be brief.
    temperature: 0.2
  - {name: Bob, model: nano}
turns: 2
seed: 7
---
Which is better?
"""


def bodies(ollama: ScriptedOllama) -> list[Any]:
    """Return the bodies of the chats that were asked for."""
    return [request.json for request in ollama.requests if request.path == "/api/chat"]


# --- %%chat


def test_a_cell_is_a_question(
    shell: InteractiveShell, ollama: ScriptedOllama, capsys: pytest.CaptureFixture[str]
) -> None:
    """The answer is printed, kept under its name, and asked for as the line says."""
    line = "tiny --temperature .2 --num-ctx 512 --stop END --system 'Be brief.' --as answer"
    shell.run_cell_magic("chat", line, "Why?\n")
    assert "tiny heard: Why?\n" == capsys.readouterr().out
    answer = shell.user_ns["answer"]
    assert isinstance(answer, ChatAnswer)
    assert ("tiny heard: Why?", "stop") == (answer.text, answer.generation.stop_reason)
    (body,) = bodies(ollama)
    assert {"temperature": 0.2, "num_ctx": 512, "stop": ["END"]} == body["options"]
    assert ["Be brief.", "Why?"] == [message["content"] for message in body["messages"]]
    assert "tiny heard: Why?" in answer.to_markdown()
    assert ["user", "assistant"] == list(answer.to_frame()["role"])
    assert '"tiny heard: Why?"' in answer.to_json()
    assert "session.ask('Why?'" in answer.to_notebook().cells[3].source


def test_a_conversation_goes_on(shell: InteractiveShell, ollama: ScriptedOllama) -> None:
    """`--session` begins a conversation under a name and goes on with it, also with an answer's."""
    shell.run_cell_magic("chat", "tiny --session talk --as first", "One?")
    shell.run_cell_magic("chat", "--session talk", "Two?")
    shell.run_cell_magic("chat", "nano --session first --seed 3", "Three?")
    assert isinstance(shell.user_ns["talk"], ChatSession)
    assert ["tiny", "tiny", "nano"] == [body["model"] for body in bodies(ollama)]
    assert 5 == len(bodies(ollama)[-1]["messages"])
    assert {"seed": 3} == bodies(ollama)[-1]["options"]


@pytest.mark.parametrize(
    ("line", "cell", "said"),
    [
        ("tiny --temprature 1", "Why?", "Did you mean --temperature?"),
        ("tiny --temperature hot", "Why?", "--temperature is a number, not 'hot'"),
        ("tiny --as 1x", "Why?", "'1x' is no name of a variable"),
        ("tiny --as class", "Why?", "'class' is no name of a variable"),
        ("tiny --system don't", "Why?", 'apostrophe in "double quotes"'),
        ("tiny --keep-alive nan", "Why?", "--keep-alive is seconds, or as 10m, not 'nan'"),
        ("tiny --keep-alive soon", "Why?", "--keep-alive is seconds, or as 10m, not 'soon'"),
        ("tiny nano", "Why?", "'nano' was not expected here"),
        ("tiny 'x", "Why?", "the line cannot be read"),
        ("tiny --as", "Why?", "expected one argument"),
        ("tiny", " \n", "no question"),
        ("tiny --session shell", "Why?", "shell is no conversation"),
        ("none", "Why?", "model 'none' not found"),
    ],
)
def test_what_cannot_be_meant_is_told(
    shell: InteractiveShell, line: str, cell: str, said: str
) -> None:
    """A wrong line is told in one sentence without a traceback."""
    shell.user_ns["shell"] = object()
    with pytest.raises(UsageError) as caught:
        shell.run_cell_magic("chat", line, cell)
    assert said in str(caught.value)


def test_an_answer_that_fails_is_an_error(shell: InteractiveShell, ollama: ScriptedOllama) -> None:
    """What the server says is raised, so that a run of the notebook stops there."""
    ollama.enqueue(Reply(error_first=(500, "no memory")), to="chat")
    with pytest.raises(ResponseError, match="no memory"):
        shell.run_cell_magic("chat", "tiny --as answer", "Why?")
    assert "" == shell.user_ns["answer"].text


# --- %%compare


def test_models_side_by_side(
    shell: InteractiveShell, ollama: ScriptedOllama, capsys: pytest.CaptureFixture[str]
) -> None:
    """Several prompts, with a line of dashes between them, go to each model."""
    line = "tiny nano --temperature 0 --blind --order-seed 3 --sequential --as sides"
    shell.run_cell_magic("compare", line, "One?\n---\nTwo?\nreally?\n")
    sides = shell.user_ns["sides"]
    assert isinstance(sides, Comparison)
    assert ["One?", "Two?\nreally?"] == sides.prompts
    assert (True, 3, "sequential") == (sides.blind, sides.order_seed, sides.schedule)
    # Names are not printed before a vote.
    assert "[Answer B, prompt 1]" in capsys.readouterr().out
    assert {0.0} == {body["options"]["temperature"] for body in bodies(ollama)}
    assert 4 == len(sides.to_frame())


def test_each_model_in_its_own_way(shell: InteractiveShell, ollama: ScriptedOllama) -> None:
    """Without models on the line a head names them, with options of their own."""
    cell = (
        "models:\n  - tiny\n  - {model: tiny, name: warm, temperature: 0.9}\n"
        "options: {seed: 1}\nsystem: Be brief.\n---\nWhy?\n"
    )
    shell.run_cell_magic("compare", "--as sides --seed 2", cell)
    assert ("tiny", "warm") == shell.user_ns["sides"].names
    assert [{"seed": 2}, {"seed": 2, "temperature": 0.9}] == [b["options"] for b in bodies(ollama)]
    assert {"Be brief."} == {body["messages"][0]["content"] for body in bodies(ollama)}


@pytest.mark.parametrize(
    ("line", "cell", "said"),
    [
        ("", "Why?", "name the models on the line"),
        ("tiny", "\n---\n", "no prompt"),
        ("", "model: [tiny]\n---\nWhy?", "line 2 of the cell: unknown field 'model'"),
        ("", "models: tiny\n---\nWhy?", "line 2 of the cell: `models` is a list"),
        ("", "models:\n- {model: a, temp: 1}\n---\nWhy?", "Did you mean 'temperature'?"),
        ("", "models:\n- {name: a}\n---\nWhy?", "line 3 of the cell: this one has no `model`"),
        ("", "models: [tiny]\noptions: 3\n---\nWhy?", "line 3 of the cell: `options`"),
        ("", "models: [tiny]\noptions: {seed: x}\n---\nWhy?", "line 3 of the cell: option 'seed'"),
        ("", "models: [tiny]\nsystem: 3\n---\nWhy?", "line 3 of the cell: `system` is a text"),
        ("tiny tiny", "Why?", "are called 'tiny'"),
    ],
)
def test_a_comparison_that_cannot_be_meant(
    shell: InteractiveShell, ollama: ScriptedOllama, line: str, cell: str, said: str
) -> None:
    """What is wrong is told with its line, and nothing is asked."""
    with pytest.raises(UsageError) as caught:
        shell.run_cell_magic("compare", line, cell)
    assert said in str(caught.value)
    assert [] == bodies(ollama)


# --- %%dialogue


def test_models_talk(
    shell: InteractiveShell, ollama: ScriptedOllama, capsys: pytest.CaptureFixture[str]
) -> None:
    """The head says who talks and how, the body opens; the transcript is shown and kept."""
    shell.run_cell_magic("dialogue", "--as talk", TALK)
    talk = shell.user_ns["talk"]
    assert isinstance(talk, Dialogue)
    assert ["Ann", "Bob"] == [turn.speaker for turn in talk.turns]
    first, second = bodies(ollama)
    assert {"temperature": 0.2, "seed": 7} == first["options"]
    assert "Be brief." == first["messages"][0]["content"]
    assert {"seed": 8} == second["options"]
    printed = capsys.readouterr().out
    assert "Ann: tiny heard:" in printed and "done: 2 turns were taken" in printed
    for text in (talk.to_markdown(), talk.to_json(), str(talk.to_notebook())):
        assert "nano heard" in text
    assert 2 == len(talk.to_frame())


def test_a_short_head(shell: InteractiveShell, ollama: ScriptedOllama) -> None:
    """Participants may be a mapping of names to models; rules of ending a list."""
    cell = (
        "participants:\n  Ann: tiny\n  Bob: {model: nano, options: {seed: 1}}\n"
        "stop:\n  - phrase: heard\n  - tokens: 999\nrepetition: off\nhuman: off\n---\nGo.\n"
    )
    shell.run_cell_magic("dialogue", "--as talk", cell)
    talk = shell.user_ns["talk"]
    assert 1 == len(talk.turns) and "Ann said 'heard'" == talk.stop_reason
    assert talk.setup.repetition is None


@pytest.mark.parametrize(
    ("change", "line", "said"),
    [
        (("turns: 2", "trns: 2"), 8, "Did you mean 'turns'?"),
        (("temperature: 0.2", "temprature: 0.2"), 6, "Did you mean 'temperature'?"),
        (("temperature: 0.2", "temperature: hot"), 6, "option 'temperature' must be a number"),
        (("model: nano", "modl: nano"), 7, "Did you mean 'model'?"),
        ((", model: nano", ""), 7, "a participant needs a model"),
        (("turns: 2", "turns: two"), 8, "turns is a whole number, not 'two'"),
        (("seed: 7", "seed: one"), 9, "seed is a whole number"),
        (("turns: 2", "repetition: {ratio: high}"), 8, "a number of at least 0 as its ratio"),
        (("turns: 2", "stop: {tokens: -1}"), 8, "a whole number of at least 1"),
        (("model: nano", "model: 3"), 7, "the model of Bob is a text, not 3"),
        (("temperature: 0.2", "temperature: .nan"), 6, "must be a number, not nan"),
        (("turns: 2", "turns: " + "[" * 3000), 2, "nested too deeply"),
        (("turns: 2", "turns: 0"), 8, "at least one turn"),
        (("turns: 2", "order: debat"), 8, "Did you mean 'debate'?"),
        (("turns: 2", "human: maybe"), 8, "human is one of"),
        (("turns: 2", "stop: {phrse: x}"), 8, "Did you mean 'phrase'?"),
        (("turns: 2", "stop: agreed"), 8, "`stop` is a mapping"),
        (("turns: 2", "stop: [agreed]"), 8, "one `name: value`"),
        (("turns: 2", "stop: {judge: 'Done?'}"), 8, "needs a judge"),
        (("turns: 2", "repetition: {ration: 1}"), 8, "Did you mean 'ratio'?"),
        (("turns: 2", "order: moderated"), 8, "needs a moderator"),
        (("turns: 2", "turns: [2"), 9, "not YAML"),
    ],
)
def test_a_mistake_in_the_head_is_shown_at_its_line(
    shell: InteractiveShell,
    ollama: ScriptedOllama,
    change: tuple[str, str],
    line: int,
    said: str,
) -> None:
    """Each mistake names its line of the cell and what was meant; no model is asked."""
    with pytest.raises(UsageError) as caught:
        shell.run_cell_magic("dialogue", "", TALK.replace(*change))
    assert said in str(caught.value)
    assert f"line {line} of the cell" in str(caught.value)
    assert [] == [body for body in bodies(ollama) if body["model"] == "tiny"]


def test_names_alone_are_no_participants(shell: InteractiveShell) -> None:
    """A list of model names tells how a participant is written."""
    cell = "participants: [tiny, nano]\n---\nGo.\n"
    with pytest.raises(UsageError, match=r"line 2 of the cell: .*\{name: Ann, model: tiny\}"):
        shell.run_cell_magic("dialogue", "", cell)


def test_a_model_that_is_missing_is_shown_at_its_line(shell: InteractiveShell) -> None:
    """A name that no server knows is told at the line that has it."""
    with pytest.raises(UsageError, match="line 7 of the cell: model 'nemo"):
        shell.run_cell_magic("dialogue", "", TALK.replace("nano", "nemo"))


@pytest.mark.parametrize(
    ("cell", "said"),
    [("Just talk.", "write a YAML head"), ("turns: 2\n---\n \n", "there is no opening")],
)
def test_a_dialogue_needs_head_and_opening(shell: InteractiveShell, cell: str, said: str) -> None:
    """Without a head or an opening an example is shown."""
    with pytest.raises(UsageError) as caught:
        shell.run_cell_magic("dialogue", "", cell)
    assert said in str(caught.value)


def test_a_failed_turn_keeps_the_others(
    shell: InteractiveShell, ollama: ScriptedOllama, capsys: pytest.CaptureFixture[str]
) -> None:
    """The turns before a failure are shown and kept, and the cell fails."""
    ollama.enqueue(Reply("first."), Reply(error_first=(500, "no memory")), to="chat")
    with pytest.raises(ResponseError, match="no memory"):
        shell.run_cell_magic("dialogue", "--as talk", TALK)
    assert "Ann: first." in capsys.readouterr().out
    assert ["done", "failed"] == [turn.status for turn in shell.user_ns["talk"].turns]


def test_a_dialogue_in_the_background(shell: InteractiveShell) -> None:
    """`--background` returns at once; the dialogue goes on and can be waited for."""
    shell.run_cell_magic("dialogue", "--background --as talk", TALK)
    talk = shell.user_ns["talk"]
    talk.wait()
    assert "done" == talk.state
