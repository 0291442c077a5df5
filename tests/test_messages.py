"""Messages, options and answers as plain values."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.errors import ConfigError, RequestTimeout, StreamBroken
from workbench.messages import (
    OPTION_TYPES,
    RUNNER_OPTIONS,
    Failed,
    Finished,
    GenerateConfig,
    GenerationBuilder,
    Message,
    Opened,
    Phase,
    ReasoningDelta,
    TextDelta,
    Timings,
    ToolCall,
    ToolCallDelta,
    Usage,
    check_option,
    nearest_names,
)

CALLS = st.lists(
    st.builds(
        ToolCall,
        name=st.text(min_size=1),
        arguments=st.dictionaries(st.text(), st.integers()),
        id=st.text(max_size=5),
    ),
    max_size=2,
).map(tuple)


@given(
    st.builds(
        Message,
        role=st.sampled_from(["system", "user", "assistant", "tool"]),
        content=st.text(),
        thinking=st.text(),
        tool_calls=CALLS,
        images=st.lists(st.text(min_size=1), max_size=2).map(tuple),
        tool_name=st.text(max_size=5),
        tool_call_id=st.text(max_size=5),
    )
)
def test_message_survives_the_wire(message: Message) -> None:
    """What is written in Ollama's form is read back equal."""
    assert message == Message.from_wire(message.to_wire())


def test_empty_fields_are_not_sent() -> None:
    """A plain message is role and content, nothing else."""
    assert {"role": "user", "content": "hi"} == Message("user", "hi").to_wire()


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("num_ctx", 8, 8),
        ("num_ctx", 8.0, 8),
        ("temperature", 1, 1.0),
        ("use_mmap", True, True),
        ("stop", "x", ["x"]),
        ("stop", ("x", "y"), ["x", "y"]),
    ],
)
def test_option_is_turned_into_its_type(name: str, value: object, kept: object) -> None:
    """A whole float is an integer, an integer is a number, one stop text is a list."""
    assert kept == check_option(name, value)
    assert type(kept) is type(check_option(name, value))


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("num_ctx", "8", "must be an integer"),
        ("num_ctx", 8.5, "must be an integer"),
        ("num_ctx", True, "must be an integer"),
        ("temperature", True, "must be a number"),
        ("temperature", "hot", "must be a number"),
        ("use_mmap", 1, "must be true or false"),
        ("stop", [1], "must be text"),
        ("stop", None, "must be text"),
    ],
)
def test_option_of_another_type_is_refused(name: str, value: object, problem: str) -> None:
    """The error names the option and what it must be."""
    with pytest.raises(ConfigError, match=problem) as caught:
        check_option(name, value)
    assert name == caught.value.key


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("temperture", "temperature"),
        ("max_tokens", "num_predict"),
        ("n_ctx", "num_ctx"),
        ("TOP_K", "top_k"),
    ],
)
def test_unknown_option_has_the_nearest_name(name: str, hint: str) -> None:
    """A name that was mistyped, or is another program's, is answered with ours."""
    with pytest.raises(ConfigError, match=f"Did you mean '{hint}'"):
        check_option(name, 1)


def test_option_unlike_any_is_answered_with_all() -> None:
    """Where no name is near, every known one is listed."""
    with pytest.raises(ConfigError, match="Known options: num_ctx"):
        check_option("zzzz", 1)


def test_runner_options_are_options() -> None:
    """The options that belong to a loaded model are a part of all."""
    assert set() == RUNNER_OPTIONS - set(OPTION_TYPES)


@given(st.text(max_size=8), st.lists(st.text(max_size=8), max_size=8))
def test_nearest_names_are_known_ones(name: str, known: list[str]) -> None:
    """No name is invented and none comes twice, however odd they are."""
    found = nearest_names(name, known)
    assert len(found) <= 3
    assert len(found) == len(set(found))
    assert set() == set(found) - set(known)


CONFIGS = st.builds(
    GenerateConfig,
    options=st.fixed_dictionaries(
        {}, optional={"seed": st.integers(0, 9), "stop": st.just(["x"]), "top_p": st.floats(0, 1)}
    ),
    think=st.sampled_from([None, True, False, "low"]),
    format=st.sampled_from([None, "json", {"type": "object"}]),
    keep_alive=st.sampled_from([None, 0, 5.5, "10m", -1]),
    truncate=st.sampled_from([None, True, False]),
    top_logprobs=st.sampled_from([None, 0, 20]),
)


@given(CONFIGS)
def test_config_survives_the_wire(config: GenerateConfig) -> None:
    """What is written as request fields is read back equal."""
    assert config == GenerateConfig.from_wire(config.to_wire())


def test_config_is_laid_over_another() -> None:
    """Options are merged by name; what is not given stays."""
    base = GenerateConfig({"seed": 1, "top_k": 2}, think=True)
    merged = base.merged(options={"seed": 3}, keep_alive=0)
    assert ({"seed": 3, "top_k": 2}, True, 0) == (merged.options, merged.think, merged.keep_alive)


@pytest.mark.parametrize("fields", [{"format": "yaml"}, {"top_logprobs": 21}])
def test_config_that_no_server_takes_is_refused(fields: dict[str, Any]) -> None:
    """A format that does not exist and too many alternatives raise."""
    with pytest.raises(ConfigError):
        GenerateConfig(**fields)


def test_answer_is_built_from_its_events() -> None:
    """Text, thinking, calls, figures and the times of the first tokens are kept."""
    builder = GenerationBuilder("m")
    call = ToolCall("f", {"x": 1})
    events = [
        Opened("m@b", "id"),
        Phase("loading"),
        ReasoningDelta("hm"),
        TextDelta("a"),
        TextDelta("b"),
        ToolCallDelta(call),
        Finished("tool_calls", Usage(3, 4), Timings(eval_s=2.0, load_s=0.5)),
    ]
    for at, event in enumerate(events):
        builder.add(event, at_s=float(at))
    answer = builder.build(elapsed_s=9.0)
    assert ("ab", "hm", (call,), "m@b", "id") == (
        answer.text,
        answer.thinking,
        answer.tool_calls,
        answer.model,
        answer.request_id,
    )
    assert ("tool_calls", 2.0, 3.0, 9.0, 2.0, 0.5) == (
        answer.stop_reason,
        answer.ttft_s,
        answer.ttft_answer_s,
        answer.elapsed_s,
        answer.tokens_per_s,
        answer.load_s,
    )
    assert Message("assistant", "ab", "hm", (call,)) == answer.to_message()


@pytest.mark.parametrize(
    ("error", "reason"),
    [(StreamBroken("cut"), "error"), (RequestTimeout("stall", 60), "timeout")],
    ids=["broken", "timeout"],
)
def test_failed_answer_keeps_text_and_reason(error: Any, reason: str) -> None:
    """An answer that broke off has its partial text, its error and a reason."""
    builder = GenerationBuilder("m")
    builder.add(TextDelta("half"), at_s=1)
    builder.add(Failed(error), at_s=2)
    answer = builder.build()
    assert ("half", reason, error) == (answer.text, answer.stop_reason, answer.error)


def test_answer_without_an_end_was_interrupted() -> None:
    """Without a last event the reason is the caller's, else interrupted; no figure is made up."""
    builder = GenerationBuilder("m")
    assert ["interrupted", "cancelled"] == [
        builder.build().stop_reason,
        builder.build(stop_reason="cancelled").stop_reason,
    ]
    assert (None, None, None) == (
        builder.build().tokens_per_s,
        builder.build().ttft_s,
        builder.build().load_s,
    )
