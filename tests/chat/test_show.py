from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.chat.show import PlainPrinter, PlainText, plain
from workbench.errors import StreamBroken
from workbench.messages import (
    Failed,
    Finished,
    Opened,
    Phase,
    ReasoningDelta,
    StreamEvent,
    TextDelta,
    ToolCall,
    ToolCallDelta,
)


def shown(*events: StreamEvent) -> str:
    written: list[str] = []
    PlainPrinter(written.append).feed(events)
    return "".join(written)


@pytest.mark.parametrize(
    ("expected", "text"),
    [
        ("red", "\x1b[31mred\x1b[0m"),
        ("ab", "a\x1b[2Kb"),
        ("ab", "a\x1b]0;title\x07b"),
        ("ab", "a\x1b]8;;http://x\x1b\\b"),
        ("ab", "a\x9b31mb"),
        ("ab", "a\x1bcb"),
        ("ab", "a\rb"),
        ("ab", "a\x00\x08\x7f\x85b"),
        ("a\nb\tc", "a\nb\tc"),
        ("\u2028ёж😀", "\u2028ёж😀"),
        ("ab", "a\ud800b"),
    ],
)
def test_control_characters_are_removed(expected: str, text: str) -> None:
    """Colours, cursor moves, titles and controls go; line ends, tabs and letters stay."""
    assert expected == plain(text)


@given(text=st.text(alphabet="a\x1b[]0;1m\x07\\\x9b\n", max_size=30), data=st.data())
def test_no_escape_slips_through_between_pieces(text: str, data: st.DataObject) -> None:
    """However a text is cut into pieces, no escape character is printed."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=5)))
    filtered = PlainText()
    pieces = [filtered.feed(text[a:b]) for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert not set("".join(pieces)) & {"\x1b", "\x9b", "\x07"}


def test_an_answer_ends_its_line() -> None:
    """A text without a line end gets one."""
    assert "ab\n" == shown(Opened("m"), TextDelta("a"), TextDelta("b"), Finished("stop"))
    assert "a\n" == shown(TextDelta("a\n"), Finished("stop"))


def test_thinking_is_marked() -> None:
    """Thinking and answer are told apart by lines of our own."""
    events = [ReasoningDelta("hm"), TextDelta("a"), Finished("stop")]
    assert "[thinking]\nhm\n[answer]\na\n" == shown(*events)


def test_a_phase_is_told_only_when_it_lasts() -> None:
    """A phase of under a second says nothing; a longer one is told once."""
    events = [Phase("loading", 0.4), Phase("loading", 1.5, 2048), Phase("loading", 2.5)]
    assert "[loading: 1.5 s, 2.0 KiB]\n" == shown(*events)


def test_tool_calls_are_shown_and_not_run() -> None:
    """A tool call stands on a line of its own that says it was not run."""
    text = shown(TextDelta("a"), ToolCallDelta(ToolCall("add", {"x": "ё"})))
    assert 'a\n[asks for tool add({"x": "ё"}); it was not run]\n' == text


@pytest.mark.parametrize(
    ("expected", "end"),
    [
        ("a\n[reached its length limit]\n", Finished("length")),
        ("a\n[cancelled]\n", Finished("cancelled")),
        ("a\n[StreamBroken: The answer broke off: gone.]\n", Failed(StreamBroken("gone"))),
    ],
)
def test_other_endings_are_told(expected: str, end: StreamEvent) -> None:
    """An answer that did not end by itself says how it ended."""
    assert expected == shown(TextDelta("a"), end)
