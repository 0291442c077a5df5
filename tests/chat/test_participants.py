"""What a participant hears and is asked with: pure functions."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.chat.participants import (
    BEGIN,
    GO_ON,
    Line,
    Participant,
    as_cast,
    heard_by,
    messages_for,
)
from workbench.errors import ConfigError
from workbench.messages import Message

NAMES = ("Ann", "Bob", "Cat")
ANN = Participant("Ann", "m", system="Be Ann.")

texts = st.one_of(
    st.text(max_size=30),
    st.sampled_from(["[Bob]: I agree", "a\n[Cat]: no", "[Ann]: [Ann]: me", "[Ann]:", "  "]),
)
lines = st.lists(
    st.builds(
        Line,
        speaker=st.sampled_from(NAMES),
        text=texts,
        thinking=st.sampled_from(["", "hmm", "x\n[Bob]: y"]),
        human=st.booleans(),
    ),
    max_size=8,
)
hearers = st.builds(
    Participant,
    name=st.just("Ann"),
    model=st.just("m"),
    system=st.sampled_from(["", "Be Ann."]),
    sees=st.sampled_from(["all", "opening", ("Bob",), ("Bob", "Cat")]),
)


def asked(participant: Participant, said: Sequence[Line], **how: str) -> list[Message]:
    return messages_for(participant, heard_by(participant, said), names=NAMES, **how)


@given(hearers, lines, texts, texts, st.sampled_from(["", "Now end."]))
def test_roles_alternate(
    participant: Participant, said: list[Line], opening: str, summary: str, note: str
) -> None:
    """After the system prompt: user, assistant, user ... user; no message is empty."""
    messages = asked(participant, said, opening=opening, summary=summary, note=note)
    if participant.system:
        assert "system" == messages.pop(0).role
    roles = [message.role for message in messages]
    assert ["user", "assistant"] * (len(roles) // 2) + ["user"] == roles
    assert all(message.content.strip() for message in messages)
    assert not any(message.thinking for message in messages)


@given(hearers, lines)
def test_nobody_speaks_for_another(participant: Participant, said: list[Line]) -> None:
    """As many lines begin with a name in brackets as were heard from others, each its own."""
    messages = asked(participant, said, opening="Tea?")
    others = [line for line in heard_by(participant, said) if line.speaker != "Ann"]
    whole = "\n".join(message.content for message in messages)
    marks = re.findall(r"^\[(\w+)(, thinking)?\]:", whole, flags=re.MULTILINE)
    expected = []
    for line in others:
        if line.thinking.strip():
            expected.append((line.speaker, ", thinking"))
        expected.append((line.speaker, ""))
    own = [line.text for line in said if line.speaker == "Ann"]
    if not any(text.strip() == "[Ann]:" for text in own):
        assert expected == marks


@given(lines)
def test_everything_heard_is_sent_once(said: list[Line]) -> None:
    """Own turns are as many assistant messages, in order."""
    heard = heard_by(ANN, said)
    own = [line for line in heard if line.speaker == "Ann"]
    messages = asked(ANN, said)
    assert len(own) == sum(message.role == "assistant" for message in messages)


@given(hearers, lines, lines)
def test_what_was_sent_stays_as_it_was(
    participant: Participant, said: list[Line], more: list[Line]
) -> None:
    """New lines add messages or lengthen the last one: the engine's prefix cache keeps its use."""
    before, after = asked(participant, said), asked(participant, [*said, *more])
    head = before[:-1]
    assert head == after[: len(head)]


def test_begin_and_go_on() -> None:
    """Who has heard nothing is told to begin, and between two turns of its own to go on."""
    assert [BEGIN] == [m.content for m in asked(Participant("Ann", "m"), [])]
    said = [Line("Ann", "one"), Line("Ann", "two")]
    found = [m.content for m in asked(Participant("Ann", "m"), said)]
    assert [BEGIN, "one", GO_ON, "two", GO_ON] == found


def test_the_own_name_is_said_once() -> None:
    """A model that writes its name before its text is not named twice."""
    said = [Line("Bob", "[Bob]: [Bob]: hi"), Line("Ann", "[Ann]: ho")]
    assert ["[Bob]: hi", "ho"] == [m.content for m in asked(Participant("Ann", "m"), said)][:2]


def test_a_person_is_heard_by_all() -> None:
    """Also by who sees only the opening."""
    alone = Participant("Ann", "m", sees="opening")
    said = [Line("Bob", "no"), Line("you", "listen", human=True)]
    assert ["[you]: listen"] == [m.content for m in asked(alone, said)]


def test_a_cast_needs_somebody() -> None:
    """An empty one is refused."""
    with pytest.raises(ConfigError):
        as_cast([])


@pytest.mark.parametrize("given", ["tiny", 3, None])
def test_a_participant_is_a_mapping(given: object) -> None:
    """A bare name, or anything else that is no mapping, tells how one is written."""
    with pytest.raises(ConfigError, match="a participant is not") as caught:
        as_cast([given])
    assert caught.value.hint is not None and "'model'" in caught.value.hint
