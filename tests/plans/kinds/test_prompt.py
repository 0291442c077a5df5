"""The kinds that ask: `prompt` and `chat`, on the bundled model and on scripted answers."""

from __future__ import annotations

import pytest

from tests.plans.kinds.conftest import Begin
from tests.plans.kinds.context import problems_of, step_of
from workbench.client.api import WorkbenchClient
from workbench.errors import ModelNotFound, StepFailed, StreamBroken
from workbench.plans.kinds import load_kinds
from workbench.testing import Reply, ScriptedOllama

TOY = "toy-tiny"
SEEDED = {"seed": 7, "temperature": 0}
SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer"}},
    "required": ["n"],
    "additionalProperties": False,
}


def test_prompt_asks_the_bundled_model(begin: Begin, real: WorkbenchClient) -> None:
    """A prompt gives the model's text; with temperature 0 the same one again."""
    fields = {"model": TOY, "prompt": "What is the capital of France?", "options": SEEDED}
    first = begin("prompt", client=real, **fields).run()
    assert {"text"} == set(first.outputs)
    assert "Paris" in first.outputs["text"]
    assert first == begin("prompt", client=real, **fields).run()


def test_prompt_with_a_schema_on_the_bundled_model(begin: Begin, real: WorkbenchClient) -> None:
    """With a schema the engine is held to it, and the value is an output of its own."""
    done = begin(
        "prompt", client=real, model=TOY, prompt="What is 2 plus 3?", format=SCHEMA, options=SEEDED
    ).run()
    assert {"text", "value"} == set(done.outputs)
    assert ["n"] == list(done.outputs["value"])
    assert isinstance(done.outputs["value"]["n"], int)


def test_prompt_sends_its_fields(
    begin: Begin, client: WorkbenchClient, ollama: ScriptedOllama
) -> None:
    """System, options, thinking and what is no text reach the server as they are written."""
    attempt = begin(
        "prompt",
        client=client,
        model="m",
        prompt={"rows": [1, "ä"]},
        system="Be brief.",
        options={"num_predict": 5},
        think=False,
    )
    attempt.run()
    body = [request for request in ollama.requests if request.path == "/api/chat"][-1].json
    expected = [("system", "Be brief."), ("user", '{"rows": [1, "ä"]}')]
    assert expected == [(message["role"], message["content"]) for message in body["messages"]]
    assert ({"num_predict": 5}, False) == (body["options"], body["think"])


@pytest.mark.parametrize(
    ("text", "done_reason", "said"),
    [
        ("no json", "stop", "is no JSON"),
        ('{"n": "x"}', "stop", 'at $.n expected type "integer", found "x"'),
        ('{"m": 1}', "stop", "at $ expected"),
        ('{"n": 1', "length", "raise options.num_predict"),
    ],
)
def test_an_answer_that_breaks_its_format_fails(
    begin: Begin,
    client: WorkbenchClient,
    ollama: ScriptedOllama,
    text: str,
    done_reason: str,
    said: str,
) -> None:
    """What is no JSON or breaks the schema is a failed attempt that shows expected and found."""
    ollama.set_reply(Reply(text, done_reason=done_reason))
    with pytest.raises(StepFailed) as caught:
        begin("prompt", client=client, model="m", prompt="?", format=SCHEMA).run()
    assert said in str(caught.value)
    assert "s" == caught.value.step


def test_format_json_takes_any_value(
    begin: Begin, client: WorkbenchClient, ollama: ScriptedOllama
) -> None:
    """The format `json` asks for JSON and checks nothing more."""
    ollama.set_reply(Reply("[1, 2]"))
    done = begin("prompt", client=client, model="m", prompt="?", format="json").run()
    assert [1, 2] == done.outputs["value"]


def test_errors_of_the_model_are_its_own(
    begin: Begin, client: WorkbenchClient, ollama: ScriptedOllama
) -> None:
    """A model that is not there, and an answer that breaks off, keep their classes."""
    with pytest.raises(ModelNotFound):
        begin("prompt", client=client, model="other", prompt="?").run()
    ollama.set_reply(Reply("one two three", reset_after=1))
    with pytest.raises(StreamBroken) as caught:
        begin("prompt", client=client, model="m", prompt="?").run()
    assert "one" == caught.value.partial.strip()


def test_only_named_outputs_are_given(begin: Begin, client: WorkbenchClient) -> None:
    """A step that names its outputs gets these and no others."""
    done = begin("chat", client=client, model="m", messages=["?"], outputs={"text": "json"}).run()
    assert {"text": "Hello from a script."} == done.outputs


def test_chat_asks_in_turn(begin: Begin, real: WorkbenchClient) -> None:
    """Each question is asked after the answer to the one before, in one conversation."""
    questions = ["My name is Ada.", "What is my name?"]
    attempt = begin(
        "chat", client=real, model=TOY, system="You are kind.", messages=questions, options=SEEDED
    )
    done = attempt.run()
    roles = [message["role"] for message in done.outputs["messages"]]
    assert ["system", "user", "assistant", "user", "assistant"] == roles
    assert done.outputs["text"] == done.outputs["messages"][-1]["content"]
    assert [2, 4] == [len(messages) for _, messages, _ in attempt.asked]
    assert [("asking", "1 of 2"), ("asking", "2 of 2")] == attempt.phases


def test_chat_refuses_what_is_no_list(begin: Begin, client: WorkbenchClient) -> None:
    """A reference that turns out to be one text is no list of questions."""
    with pytest.raises(StepFailed, match="list of texts"):
        begin("chat", client=client, model="m", messages="hello").run()


def test_problems_name_lines_and_the_nearest_option() -> None:
    """Unknown options, wrong types, formats and outputs are told with the line of their field."""
    step = step_of(
        "prompt",
        model="m",
        prompt="?",
        options={"temprature": 0, "seed": "x", "top_k": "$params.k"},
        format={"type": "nothing"},
        outputs={"answer": "json", "text": "parquet"},
        lines={"": 3, "options": 6, "format": 8, "outputs": 9},
    )
    found = problems_of(step)
    assert [9, 9, 6, 6, 8] == [line for line, _ in found]
    assert "temperature" in found[2][1]
    assert "must be an integer" in found[3][1]
    assert "no JSON schema" in found[4][1]


def test_repeatable_only_with_fixed_sampling() -> None:
    """Without a seed or temperature 0 no cache may stand for an answer."""
    for name in ("prompt", "chat"):
        kind = load_kinds()[name]
        assert not kind.repeatable({"model": "m"})
        assert not kind.repeatable({"model": "m", "options": {"temperature": 0.2}})
        assert kind.repeatable({"model": "m", "options": {"seed": 1}})
        assert kind.repeatable({"model": "m", "options": {"temperature": 0}})
        assert ["m"] == list(kind.models({"model": "m"}))


def test_a_shown_answer_is_plain_text() -> None:
    """What a model wrote is shown as text, without control codes, and cut when it is long."""
    kind = load_kinds()["prompt"]
    hostile = "<script>alert(1)</script>\x1b[31m\u202e"
    assert {"text/plain": "<script>alert(1)</script>\ufffd[31m\ufffd"} == kind.mimebundle(
        {"text": hostile}, {}
    )
    long = kind.mimebundle({"text": "x" * 30_000}, {})["text/plain"]
    assert long.endswith("10,000 characters more")
    many = {"text": ["a\nb", "c"], "table": [], "errors": 0}
    assert {"text/plain": "0: a b\n1: c"} == kind.mimebundle(many, {})
