"""Byte streams are cut into lines and events the same way, however they arrive."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.errors import ProtocolError
from workbench.wire.lines import LineSplitter, SSESplitter

# Characters that `str.splitlines` takes for line ends, and some of more than one byte.
TEXT = st.text(st.sampled_from('a\u2028\u2029\u0085\x0b\x0cжй🙂 {}"\\'), max_size=12)
LINES = st.lists(TEXT.map(lambda text: json.dumps({"t": text}, ensure_ascii=False)), max_size=6)
CUTS = st.lists(st.integers(0, 400), max_size=12)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    """Cut bytes at the positions."""
    edges = [0, *sorted(cut for cut in cuts if cut <= len(data)), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


@given(LINES, CUTS, st.sampled_from(["\n", "\r\n", "\n\n", "\n \n"]))
def test_lines_do_not_depend_on_chunks(lines: list[str], cuts: list[int], end: str) -> None:
    """Any chunking gives the lines that were sent; blank ones are left out."""
    data = "".join(line + end for line in lines).encode()
    splitter = LineSplitter()
    found = [line for piece in pieces(data, cuts) for line in splitter.feed(piece)]
    assert ([*lines], b"") == ([line.decode().rstrip("\r") for line in found], splitter.close())


@given(LINES, CUTS)
def test_rest_without_line_end_is_given_once(lines: list[str], cuts: list[int]) -> None:
    """What follows the last line end comes out of close, and only once."""
    data = "\n".join([*lines, "rest"]).encode()
    splitter = LineSplitter()
    for piece in pieces(data, cuts):
        splitter.feed(piece)
    assert [b"rest", b""] == [splitter.close(), splitter.close()]


def test_endless_line_is_refused() -> None:
    """A line that grows past the limit raises, however small its pieces are."""
    splitter = LineSplitter(max_bytes=1000)
    assert [[]] * 1000 == [splitter.feed(b"x") for _ in range(1000)]
    with pytest.raises(ProtocolError, match="more than 1000 bytes"):
        splitter.feed(b"x")


@given(LINES, CUTS, st.sampled_from(["\n", "\r\n"]))
def test_events_do_not_depend_on_chunks(lines: list[str], cuts: list[int], end: str) -> None:
    """Any chunking gives the data of the events; comments and other fields are left out."""
    data = "".join(f": hi{end}event: e{end}data: {line}{end}{end}" for line in lines).encode()
    splitter = SSESplitter()
    found = [event for piece in pieces(data, cuts) for event in splitter.feed(piece)]
    assert lines == [event.decode() for event in found]


def test_data_lines_of_one_event_are_joined() -> None:
    """Several data lines are one event; a missing space after the colon is allowed."""
    assert [b"a\nb"] == SSESplitter().feed(b"data: a\ndata:b\n\n")


def test_last_event_without_blank_line_is_kept() -> None:
    """An event that the connection's end cut off comes out of close."""
    splitter = SSESplitter()
    splitter.feed(b"data: [DONE]\n")
    assert b"[DONE]" == splitter.close()


def test_endless_event_is_refused() -> None:
    """An event that grows past the limit raises."""
    splitter = SSESplitter(max_bytes=100)
    with pytest.raises(ProtocolError, match="more than 100 bytes"):
        splitter.feed(b"data: " + b"x" * 200)
