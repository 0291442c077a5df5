from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from workbench.chat.window import TokenMeter, fit, prompt_budget, split_turns
from workbench.messages import Message

SYSTEM = [Message("system", "s" * 10)]


def conversation(lengths: list[int]) -> list[Message]:
    return [
        message
        for length in lengths
        for message in (Message("user", "u" * length), Message("assistant", "a" * length))
    ]


@given(lengths=st.lists(st.integers(0, 200), max_size=12), budget=st.integers(1, 3000))
def test_what_is_kept_is_the_newest_that_fits(lengths: list[int], budget: int) -> None:
    """The system prompt and the newest whole turns are kept; one turn more would not fit."""
    messages, meter = conversation(lengths), TokenMeter(1.0)
    window = fit(SYSTEM, messages, meter=meter, budget_tokens=budget)
    turns = split_turns(messages)
    kept = turns[window.dropped_turns :]
    assert window.messages == (*SYSTEM, *(message for turn in kept for message in turn))
    assert len(kept) == 1 or not turns or meter.estimate(window.messages) <= budget
    if window.dropped_turns:
        more = [*SYSTEM, *(m for turn in turns[window.dropped_turns - 1 :] for m in turn)]
        assert meter.estimate(more) > budget


def test_nothing_is_dropped_without_a_budget() -> None:
    """When nobody knows the context, everything is sent."""
    window = fit([], conversation([10**6] * 3), meter=TokenMeter(), budget_tokens=None)
    assert (0, 6) == (window.dropped_turns, len(window.messages))


def test_at_least_so_many_turns_are_dropped() -> None:
    """A prompt the engine refused loses turns even when the estimate would let it through."""
    messages = conversation([1, 1, 1])
    window = fit([], messages, meter=TokenMeter(), budget_tokens=None, drop_at_least=2)
    assert 2 == window.dropped_turns
    window = fit([], messages, meter=TokenMeter(), budget_tokens=None, drop_at_least=9)
    assert 2 == window.dropped_turns


def test_the_meter_learns_the_tokenizer() -> None:
    """After one answer the estimate of the same prompt is the engine's own count."""
    meter, messages = TokenMeter(), conversation([300, 500])
    meter.learn(messages, 1616)
    assert 1616 == meter.estimate(messages)


def test_a_tiny_prompt_teaches_nothing() -> None:
    """A prompt of a few bytes, mostly template, does not change the estimate."""
    meter = TokenMeter()
    meter.learn([Message("user", "hi")], 40)
    assert 3.5 == meter.bytes_per_token


def test_the_budget_leaves_room_for_the_answer() -> None:
    """A quarter of a small context, 512 tokens of a large one, or what was asked for."""
    assert [768, 7680, 924, 512] == [
        prompt_budget(1024, num_predict=None),
        prompt_budget(8192, num_predict=-1),
        prompt_budget(1024, num_predict=100),
        prompt_budget(1024, num_predict=5000),
    ]
