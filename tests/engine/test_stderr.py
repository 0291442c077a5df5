"""The reason of a failure is found in what an engine printed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.server.engine.stderr import MAX_LINE_BYTES, MAX_LINES, StderrTail

LOAD = b"""\
0.00.004.998 I srv    load_model: loading model 'trunc.gguf'
0.00.005.154 E read: string length 2 exceeds remaining file size 0 bytes
0.00.005.174 E gguf_init_from_reader: failed to read key-value pairs
0.00.005.397 E llama_model_load: error loading model: loader: failed to load model from x
0.00.005.453 E common_fit_params: encountered an error while trying to fit params
0.00.005.516 E read: string length 2 exceeds remaining file size 0 bytes
0.00.005.915 E srv          init: exiting due to model loading error
"""


def tail_of(text: bytes) -> StderrTail:
    """Return a tail that was fed `text`."""
    tail = StderrTail()
    tail.feed(text)
    return tail


def test_reason_of_a_load() -> None:
    """Of a failed load the causes are kept, once each, without what each layer adds."""
    expected = "string length 2 exceeds remaining file size 0 bytes; failed to read key-value pairs"
    assert expected == tail_of(LOAD).first_reason()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("server-context.cpp:2164: GGML_ASSERT(n > 0) failed", None),
        ("/src/common/common.cpp:2245: get_sub_batch: failed to add token 0", None),
        ("terminate called after throwing an instance of 'std::system_error'", None),
        ("error: invalid argument: --no-such", None),
        ("ModuleNotFoundError: No module named 'xllamacpp'", None),
        ("0.01.000.000 E slot print: out of memory", "out of memory"),
        ("0.01.000.000 W srv    operator(): unauthorized: Invalid API Key", ""),
        ("0.01.000.000 I srv    done: error free", ""),
        ("plain words", ""),
    ],
)
def test_reason_of_a_line(line: str, reason: str | None) -> None:
    """Errors, aborts and exceptions are reasons; warnings and other words are not."""
    expected = line if reason is None else reason or None
    assert expected == tail_of(line.encode() + b"\n").last_reason()


def test_ring_is_bounded() -> None:
    """Only the last lines are kept, each cut, also when no line ever ends."""
    tail = tail_of(b"x\n" * 5000 + b"y" * 10**6)
    assert len(tail.lines()) == MAX_LINES
    assert len(tail.lines()[-1]) == MAX_LINE_BYTES


@given(st.binary(max_size=400), st.integers(1, 50))
def test_pieces_do_not_matter(data: bytes, step: int) -> None:
    """However the bytes are cut into pieces, the lines are the same."""
    tail = StderrTail()
    for at in range(0, len(data), step):
        tail.feed(data[at : at + step])
    assert tail.lines() == tail_of(data).lines()
    tail.reasons()
