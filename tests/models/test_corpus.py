"""The corpus: a split that holds, and dialogues that repeat."""

from __future__ import annotations

import random

import corpus
import pytest
from encoding import decode, encode, encode_text
from evaluate import TASKS, CaseMaker


def test_the_same_seed_gives_the_same_dialogue() -> None:
    """A dialogue is a pure function of its generator's seed."""
    first, second = (corpus.conversation(random.Random(5), 1025) for _ in range(2))
    assert first == second


def test_dialogues_fill_the_trained_length() -> None:
    """Every dialogue has at least the wanted number of tokens and many turns."""
    rng = random.Random(2)
    talks = [corpus.conversation(rng, 1025) for _ in range(50)]
    assert all(len(encode(talk)[0]) >= 1025 for talk in talks)
    assert all(sum(role == "user" for role, _ in talk) >= 8 for talk in talks)


def test_training_dialogues_hold_no_held_out_item() -> None:
    """No question of a held-out sum, word or topic stands in a training dialogue."""
    rng = random.Random(3)
    wanted = random.Random(4)
    open_makers = (corpus.add, corpus.subtract, corpus.larger, corpus.reverse, corpus.json_answer)
    held = {
        corpus.draw(maker, wanted, held_out=True).turns[0][1]
        for maker in open_makers
        for _ in range(100)
    }
    seen = {text for _ in range(200) for role, text in corpus.conversation(rng, 1025)}
    assert not held & seen


@pytest.mark.parametrize(("name", "make", "kind"), TASKS, ids=[task[0] for task in TASKS])
def test_cases_are_held_out_unless_memorised(name: str, make: CaseMaker, kind: str) -> None:
    """The evaluation draws held-out items for every task that is not a closed table."""
    rng = random.Random(name)
    for _ in range(20):
        item = make(rng).item
        assert item.held_out or not item.key
        assert item.key or kind == "memorised" or item.task in ("recall", "capital")


def test_tokens_decode_to_their_text() -> None:
    """Bytes and tool marks survive encoding, in every script."""
    text = 'Привет <tool_call>{"a": 1}</tool_call> ∑'
    assert text == decode(encode_text(text))
