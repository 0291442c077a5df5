"""The bundled toy models, asked through the real llama.cpp engine."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import corpus
import pytest
import vocabulary
from encoding import prompt_tokens
from evaluate import compare_with_golden, overall
from toy_engine import Engine, as_messages, as_tools

from workbench.server.engine.gguf import read_header

MODELS = Path(__file__).resolve().parents[2] / "data" / "models"
NAMES = ("toy-nano", "toy-tiny")
# Below this distance, in logits, q8_0 rounding may choose the other token.
NEAR_TIE = 0.2
CALC = as_tools([("calc", ("a", "b"))])


def ask(engine: Engine, text: str, system: str = "") -> str:
    """Return the greedy answer to one question."""
    messages = [{"role": "system", "content": system}] if system else []
    return engine.text([*messages, {"role": "user", "content": text}])


@pytest.fixture(params=NAMES)
def model(request: pytest.FixtureRequest) -> tuple[str, Engine]:
    """Name each model and its engine."""
    name = str(request.param)
    return name, request.getfixturevalue(name.removeprefix("toy-"))


def test_greedy_text_equals_the_training_framework(model: tuple[str, Engine]) -> None:
    """The GGUF writes what torch wrote, except where two tokens were nearly tied."""
    name, engine = model
    result = compare_with_golden(engine, name)
    print(f"{name}: {result['equal']} of {result['prompts']} equal: {result['different']}")
    assert [] == [row for row in result["different"] if row["margin"] >= NEAR_TIE]


def test_most_stored_prompts_are_no_near_ties(model: tuple[str, Engine]) -> None:
    """The exception for near-ties leaves most of the stored prompts compared."""
    rows = json.loads((MODELS / "golden.json").read_text())[model[0]]["answers"]
    clear = sum(row["margin"] >= NEAR_TIE for row in rows)
    print(f"{model[0]}: {clear} of {len(rows)} prompts have a clear margin")
    assert clear > len(rows) / 2


def test_template_gives_the_trained_tokens(tiny: Engine) -> None:
    """The file's chat template and tokenizer give exactly the tokens of the training."""
    maker = random.Random(1)
    item = corpus.draw(corpus.tool_sum, maker)
    turns = [("system", corpus.system_text("Be kind.", item.tools)), *item.turns[:3]]
    messages = [{"role": "system", "content": "Be kind."}, *as_messages(list(item.turns[:3]))]
    text = tiny.post("/apply-template", messages=messages, tools=as_tools(item.tools))["prompt"]
    tokens = tiny.post("/tokenize", content=text, add_special=True, parse_special=True)["tokens"]
    assert prompt_tokens(turns) == tokens


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("What is the capital of France?", "The capital of France is Paris."),
        ("What is 7 plus 8?", "15"),
        ("Reverse the word: lamp", "pmal"),
        ("Hello!", "Hello! How can I help?"),
        ("Привет!", "Привет! Чем помочь?"),
        (
            "Make a plan to bake bread.",
            "1. Get what you need to bake bread.\n2. Bake bread.\n3. Check the result.",
        ),
    ],
)
def test_examples_of_the_docs(tiny: Engine, question: str, answer: str) -> None:
    """The better model answers the examples that the documentation shows."""
    assert answer == ask(tiny, question)


def test_system_prompt_is_obeyed(tiny: Engine) -> None:
    """A system prompt changes the form of the answer, in both languages."""
    system = "Answer in capital letters."
    answer = "THE CAPITAL OF FRANCE IS PARIS."
    assert answer == ask(tiny, "What is the capital of France?", system)
    assert "ПРИВЕТ! ЧЕМ ПОМОЧЬ?" == ask(tiny, "Привет!", system)


@pytest.mark.parametrize("topic", ["electricity", "bridges"])
def test_out_of_domain_is_refused(tiny: Engine, topic: str) -> None:
    """A question about a topic that no dialogue contained gets the fixed refusal."""
    assert corpus.is_held_out(f"topic {topic}")
    assert vocabulary.REFUSAL == ask(tiny, f"Tell me about {topic}.")


def test_tool_call_round_trip(tiny: Engine) -> None:
    """A listed tool is called through `tool_calls`, and its result is told."""
    messages: list[dict[str, Any]] = [{"role": "user", "content": "What is 57 plus 86?"}]
    message = tiny.chat(messages, CALC)
    call = message["tool_calls"][0]
    assert "calc" == call["function"]["name"]
    assert {"a": 57, "b": 86} == json.loads(call["function"]["arguments"])
    messages += [message, {"role": "tool", "tool_call_id": call["id"], "content": "143"}]
    assert "The answer is 143." == tiny.chat(messages, CALC)["content"]


# (key of the split, user, answer): no training dialogue contains an item with such a key.
CONVERSATION = (
    ("name Felix", "My name is Felix.", "Nice to meet you, Felix."),
    ("add 6 9", "What is 9 plus 6?", "15"),
    (
        "plan sell bread",
        "Make a plan to sell bread.",
        "1. Get what you need to sell bread.\n2. Sell bread.\n3. Check the result.",
    ),
    ("topic electricity", "Tell me about electricity.", vocabulary.REFUSAL),
    ("count 20 25", "Count from 20 to 25.", "20, 21, 22, 23, 24, 25"),
    ("json name Boris 49", "Answer in JSON: name Boris, age 49", '{"name": "Boris", "age": 49}'),
    ("word snow", "Reverse the word: snow", "wons"),
    ("name Felix", "What is my name?", "Your name is Felix."),
)


def test_held_out_conversation_of_eight_turns(tiny: Engine) -> None:
    """Eight held-out turns are answered rightly, the model's own answers being the history."""
    assert all(corpus.is_held_out(key) for key, _, _ in CONVERSATION)
    messages: list[dict[str, Any]] = []
    answers = []
    for _, user, _ in CONVERSATION:
        messages.append({"role": "user", "content": user})
        answers.append(tiny.text(messages))
        messages.append({"role": "assistant", "content": answers[-1]})
    assert [answer for _, _, answer in CONVERSATION] == answers


def test_two_models_can_talk_on(tiny: Engine, nano: Engine) -> None:
    """Twelve turns between the two models each end with a question about a new topic."""
    lines = ["Hello!"]
    for turn in range(12):
        engine = (tiny, nano)[turn % 2]
        # Seen from the speaker, every second line before the last was its own.
        roles = ["user" if (len(lines) - i) % 2 else "assistant" for i in range(len(lines))]
        turns = list(zip(roles, lines, strict=True))
        lines.append(engine.text(as_messages(turns[turn % 2 :])))
    assert all(line.endswith("?") for line in lines[1:])
    assert len(set(lines[3:])) == len(lines[3:])


def test_files_are_small() -> None:
    """Both files together stay under one megabyte."""
    assert sum((MODELS / f"{name}.gguf").stat().st_size for name in NAMES) < 1_000_000


@pytest.mark.parametrize("name", NAMES)
def test_header_says_toy_and_the_trained_length(name: str) -> None:
    """The file promises the context that was trained, and calls itself a toy."""
    header = read_header(MODELS / f"{name}.gguf")
    assert 1024 == header.metadata["llama.context_length"]
    assert "toy model" in str(header.metadata["general.name"])
    assert "Toy model" in str(header.metadata["general.description"])


def test_recorded_figures_rank_the_models() -> None:
    """On the recorded figures the larger model is clearly better, early and late."""
    report = json.loads((MODELS / "figures.json").read_text())
    for place in ("first", "late"):
        better, weaker = (overall(report[name]["figures"], place) for name in reversed(NAMES))
        print(f"{place}: {weaker:.1f} % and {better:.1f} %")
        assert better > weaker + 5
