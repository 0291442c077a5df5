"""Lines of an answer become events, and every fault becomes one event with the partial text."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.test_lines import CUTS, pieces
from workbench.errors import (
    AmbiguousModel,
    BadModelFile,
    ConfigError,
    EngineExited,
    InsufficientMemory,
    LoadFailed,
    ModelNotFound,
    ProtocolError,
    QueueTimeout,
    ResponseError,
    StreamBroken,
    SwapPlan,
    SwapRequired,
    UnloadFailed,
    UnsupportedOperation,
    WorkbenchError,
)
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
from workbench.wire.headers import context_headers, read_context
from workbench.wire.lines import LineSplitter
from workbench.wire.ollama import (
    Accumulator,
    StreamDecoder,
    chunk_body,
    encode_line,
    error_body,
    error_from_body,
    final_body,
)

PLAN: SwapPlan = {
    "model": "x",
    "backend": "b",
    "evict": [{"model": "y", "backend": "b", "bytes": 5, "reload_s": None, "reason": "idle"}],
    "needed_bytes": 7,
    "free_bytes": 2,
    "estimated_s": 1.5,
}
ERRORS = [
    ModelNotFound("x", nearest=["xy"]),
    AmbiguousModel("x", ["a", "b"]),
    InsufficientMemory("x", needed_bytes=2, available_bytes=1),
    InsufficientMemory("x", needed_bytes=2, available_bytes=1, would_fit=["y", "z@b"]),
    SwapRequired(PLAN),
    UnloadFailed("x", "another client loads it", verdict="resurrected"),
    QueueTimeout("x", waited_s=2.5, retry_after_s=3.0),
    QueueTimeout("x", waited_s=2.5),
    LoadFailed("x", "bad file"),
    EngineExited("x", returncode=-9, reason="killed"),
    StreamBroken("cut"),
    ConfigError("bad value", file="workbench.toml", line=3, key="queue", hint="Give seconds."),
    BadModelFile("a.gguf", "no magic", offset=4),
    UnsupportedOperation("No."),
    ProtocolError("Odd."),
]


def whole_answer(tokens: list[str]) -> bytes:
    """Return the bytes of an answer."""
    lines = [encode_line(chunk_body("chat", "m", text=token)) for token in tokens]
    return b"".join(lines) + encode_line(final_body("chat", "m", done_reason="stop"))


def events_of(data: bytes, cuts: list[int]) -> list[StreamEvent]:
    """Return the events of bytes that arrive in pieces."""
    splitter, decoder = LineSplitter(), StreamDecoder()
    events: list[StreamEvent] = []
    for piece in pieces(data, cuts):
        for line in splitter.feed(piece):
            events += decoder.feed(line)
    rest = splitter.close()
    if rest:
        events += decoder.feed(rest)
    return events + decoder.close()


@given(st.lists(st.text(min_size=1, max_size=5), max_size=5), CUTS)
def test_events_do_not_depend_on_chunks(tokens: list[str], cuts: list[int]) -> None:
    """Any chunking of an answer gives the same events, with the text unchanged."""
    events = events_of(whole_answer(tokens), cuts)
    expected = [Opened("m"), *(TextDelta(token) for token in tokens), Finished("stop")]
    assert expected == events


def test_answer_cut_at_any_byte_is_never_a_short_answer() -> None:
    """At every byte before the last line's end the stream fails, with the text that had come."""
    data = whole_answer(["Да", " 🙂", "\u2028."])
    whole = len(data) - 1
    for size in range(whole):
        events = events_of(data[:size], [])
        text = "".join(event.text for event in events if isinstance(event, TextDelta))
        last = events[-1]
        assert isinstance(last, Failed), size
        assert "Да 🙂\u2028.".startswith(text), size
        assert text == getattr(last.error, "partial", None), size
    assert isinstance(events_of(data[:whole], [])[-1], Finished)


@pytest.mark.parametrize(
    "line",
    [b"<html>", b"[1]", b'"x"', b"{", b"\xff\xfe", b'{"done": "yes"}', b"[" * 100_000],
    ids=["html", "list", "text", "half", "utf-8", "type", "deep"],
)
def test_line_that_is_no_answer_fails_the_stream(line: bytes) -> None:
    """What is not the protocol ends the stream with the partial text, and never raises."""
    decoder = StreamDecoder()
    decoder.feed(encode_line(chunk_body("generate", "m", text="so far")))
    event = decoder.feed(line)[0]
    assert isinstance(event, Failed)
    assert isinstance(event.error, ProtocolError)
    assert "so far" == event.error.partial == decoder.partial


def test_lines_after_the_end_are_left_out() -> None:
    """A second final line and data after it give no event."""
    decoder = StreamDecoder()
    final = encode_line(final_body("chat", "m", done_reason="length"))
    assert [Opened("m"), Finished("length")] == decoder.feed(final)
    assert [[], [], []] == [decoder.feed(final), decoder.feed(b"x"), decoder.close()]


def test_own_lines_become_events() -> None:
    """The lines of our server say which model it is and what is going on."""
    decoder = StreamDecoder()
    opened = {"event": "opened", "model": "m@b", "request_id": "1"}
    phase = {"event": "phase", "phase": "loading", "seconds": 0.5, "bytes": 7}
    lines = [{"workbench": opened}, {"workbench": phase}, {"workbench": {"event": "new kind"}}]
    events = [event for line in lines for event in decoder.feed(encode_line(line))]
    assert [Opened("m@b", "1"), Phase("loading", 0.5, 7)] == events


def test_tool_calls_and_thinking_become_events() -> None:
    """Thinking and calls have events of their own, and calls end with tool_calls."""
    calls = [{"id": "1", "function": {"name": "f", "arguments": {"x": 1}}}]
    lines = [
        chunk_body("chat", "m", thinking="hm"),
        chunk_body("chat", "m", tool_calls=calls),
        final_body("chat", "m", done_reason="stop"),
    ]
    decoder = StreamDecoder()
    events = [event for line in lines for event in decoder.feed(encode_line(line))]
    assert [
        Opened("m"),
        ReasoningDelta("hm"),
        ToolCallDelta(ToolCall("f", {"x": 1}, "1")),
        Finished("tool_calls"),
    ] == events


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_errors_survive_the_way_to_the_client(error: WorkbenchError) -> None:
    """A client gets back the class, the text, the hint and the fields of a server's error."""
    body = json.loads(json.dumps(error_body(error)))
    status = getattr(error, "status", None)
    found = error_from_body(status, body)
    assert (type(error), str(error), dict(error.fields)) == (
        type(found),
        str(found),
        dict(found.fields),
    )


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"error": "out of memory"}, "out of memory"),
        ({"error": {"message": "busy", "type": "api_error"}}, "busy"),
        ({"detail": "no"}, "no"),
        ("<html>", "<html>"),
        ([1], "[1]"),
        (None, "None"),
    ],
)
def test_errors_of_any_server_have_their_text(body: Any, text: str) -> None:
    """Whatever a server sends with an error status, its text reaches the client."""
    error = error_from_body(500, body)
    assert isinstance(error, ResponseError)
    assert (500, True) == (error.status, text in str(error))


def test_mid_stream_error_keeps_the_partial_text() -> None:
    """An error line ends the stream with the text before it."""
    decoder = StreamDecoder()
    decoder.feed(encode_line(chunk_body("chat", "m", text="so far")))
    event = decoder.feed(b'{"error": "model runner has unexpectedly stopped"}')[0]
    assert isinstance(event, Failed)
    assert isinstance(event.error, ResponseError)
    assert (None, "so far") == (event.error.status, event.error.partial)


def test_joined_lines_are_the_unstreamed_answer() -> None:
    """The single body holds the whole text and the figures of the last line."""
    whole = Accumulator()
    for line in whole_answer(["a", "b"]).splitlines():
        whole.feed(line)
    body = whole.result()
    assert ("ab", True) == (body["message"]["content"], body["done"])


def test_joined_lines_without_an_end_are_a_broken_stream() -> None:
    """An unstreamed answer without its last line raises with the partial text."""
    whole = Accumulator()
    whole.feed(encode_line(chunk_body("chat", "m", text="half")))
    with pytest.raises(StreamBroken) as caught:
        whole.result()
    assert "half" == caught.value.partial


@given(st.text(max_size=300))
def test_context_of_any_text_is_a_legal_header(speaker: str) -> None:
    """A speaker may have any name: what a header cannot carry is replaced."""
    headers = context_headers({"speaker": speaker, "turn": None})
    value = headers["Workbench-Speaker"]
    assert value.isascii() and value.isprintable() and len(value) <= 200
    assert {"speaker": value} == read_context(headers)
