"""The pure parts below the chat panel: frames and their pace, attachments, presets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.errors import ConfigError
from workbench.widgets.attachments import (
    LARGEST_FILE_BYTES,
    Attachment,
    attached_part,
    from_file,
    from_variable,
    split_attachments,
    with_attachments,
)
from workbench.widgets.frames import (
    FRAME_S,
    SLOWEST_FRAME_S,
    UNACKED_FRAMES,
    VIEW_GONE_S,
    LiveAnswer,
    LiveText,
    Pacer,
    utf16_length,
)
from workbench.widgets.presets import Preset, delete_preset, list_presets, save_preset
from workbench.widgets.snapshot import Pictures

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
SAFE = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters='"<>'))


def units(text: str) -> list[int]:
    """Return a text as JavaScript holds it."""
    data = text.encode("utf-16-le")
    return [int.from_bytes(data[at : at + 2], "little") for at in range(0, len(data), 2)]


@given(TEXTS)
def test_utf16_length(text: str) -> None:
    """Lengths count what JavaScript counts."""
    assert len(units(text)) == utf16_length(text)


@given(st.lists(st.tuples(TEXTS, st.booleans())), st.randoms())
def test_offsets_reproduce_the_text(pieces: list[tuple[str, bool]], random: object) -> None:
    """Pieces in any order, any of them twice, put where their offsets say, give the text."""
    live, frames = LiveText(), []
    for text, taken in pieces:
        live.add(text)
        if taken and (piece := live.take()) is not None:
            frames.append(piece)
    if (piece := live.take()) is not None:
        frames.append(piece)
    received = [*frames, *frames[::2]]
    random.shuffle(received)  # type: ignore[attr-defined]
    held = [-1] * live.units
    for offset, text in received:
        held[offset : offset + len(units(text))] = units(text)
    assert units(live.text) == held


@given(st.lists(TEXTS, min_size=1), st.data())
def test_a_lost_piece_is_a_gap(texts: list[str], data: st.DataObject) -> None:
    """A view that takes only what continues its text holds a prefix, never a wrong text."""
    live, held = LiveText(), ""
    for text in texts:
        live.add(text)
        piece = live.take()
        assert piece is not None
        if data.draw(st.booleans()) and piece[0] == utf16_length(held):
            held += piece[1]
    assert live.text.startswith(held)


def test_a_state_counts_as_sent() -> None:
    """After a whole state only what is new goes into a frame."""
    answer = LiveAnswer("m")
    answer.channels["text"].add("🙂")
    answer.all_sent()
    answer.channels["text"].add("x")
    assert [["m", "text", 2, "x"]] == answer.pieces()
    assert [] == answer.pieces()


TURNS = st.lists(
    st.fixed_dictionaries({"mid": st.sampled_from("abcd"), "text": st.sampled_from("xyz")}),
    max_size=4,
    unique_by=lambda turn: turn["mid"],
)
STATES = st.fixed_dictionaries(
    {"conv": st.just({"cid": "c"}), "turns": TURNS, "models": st.lists(st.integers(0, 1))}
)


@given(st.lists(STATES, min_size=1))
def test_a_picture_and_its_changes_make_the_next(states: list[dict[str, Any]]) -> None:
    """A view that holds one picture gets the next from what changed."""
    pictures, view = Pictures(), {}
    for number, state in enumerate(states):
        message = pictures.next(state, ())
        assert (number or None, number + 1) == (message["base"], message["k"])
        held = {turn["mid"]: turn for turn in view.get("turns", ())}
        view |= message["s"]
        turns = [held[turn] if isinstance(turn, str) else turn for turn in view["turns"]]
        view["turns"] = turns
        assert state == view


def test_a_picture_repeats_no_text() -> None:
    """What a picture held is not in the next; texts on their way are in frames and at their end."""
    first = {"mid": "a", "text": "old"}
    live = {"mid": "b", "text": "so far", "think": "", "tools": []}
    state = {"conv": {"cid": "c"}, "turns": [first, live], "busy": True}
    pictures = Pictures()
    assert state == pictures.next(state, ("b",))["s"]
    more = {**state, "turns": [first, {**live, "text": "so far and on", "tools": ["t"]}]}
    assert {"turns": ["a", {"mid": "b", "tools": ["t"]}]} == pictures.next(more, ("b",))["s"]
    ended = {**more, "busy": False}
    assert {"busy": False, "turns": ["a", more["turns"][1]]} == pictures.next(ended, ())["s"]
    assert {} == pictures.next(ended, ())["s"]
    assert ended == pictures.whole(ended, ())["s"]
    other = {**ended, "conv": {"cid": "d"}}
    assert other == pictures.next(other, ())["s"]


def test_no_frame_without_a_view() -> None:
    """Nobody is there before the first sign of a view, after its last, and once it is silent."""
    pacer = Pacer()
    assert not pacer.has_views
    pacer.seen("a", 0.0)
    pacer.seen("b", 0.0)
    pacer.left("a")
    assert pacer.has_views
    pacer.drop_silent(VIEW_GONE_S + 1)
    assert not pacer.has_views


def test_frames_become_rare_when_nobody_acknowledges() -> None:
    """Each frame beyond the allowance doubles the wait, up to one second."""
    pacer, waits = Pacer(), []
    pacer.seen("a", 0.0)
    pacer.begin(0.0)
    for _ in range(UNACKED_FRAMES + 8):
        pacer.next_frame(0.0)
        waits.append(pacer.interval_s)
    assert [FRAME_S] * UNACKED_FRAMES == waits[:UNACKED_FRAMES]
    assert sorted(waits) == waits
    assert SLOWEST_FRAME_S == waits[-1]


def test_a_late_acknowledgement_makes_frames_rarer() -> None:
    """A view that is silent for a second is slow, however few frames are on their way."""
    pacer = Pacer()
    pacer.seen("a", 0.0)
    pacer.begin(0.0)
    pacer.next_frame(0.1)
    pacer.next_frame(1.5)
    assert FRAME_S * 2 == pacer.interval_s


def test_the_pace_recovers() -> None:
    """A view that catches up gets thirty frames a second again, and never more."""
    pacer = Pacer()
    pacer.seen("a", 0.0)
    pacer.begin(0.0)
    for _ in range(UNACKED_FRAMES + 8):
        pacer.next_frame(0.0)
    for _ in range(10):
        pacer.ack(pacer.number, 0.0)
        pacer.next_frame(0.0)
    assert FRAME_S == pacer.interval_s


@given(st.lists(st.tuples(SAFE, st.sampled_from(["text", "data"]), SAFE), max_size=3), SAFE)
def test_attachments_round_trip(items: list[tuple[str, str, str]], text: str) -> None:
    """What is attached to a question is told apart from it again."""
    attachments = [
        from_file(name, "text/plain", body.encode())
        if kind == "text"
        else Attachment("a", "frame", "data", len(body.encode()), text=body)
        for name, kind, body in items
    ]
    own, found = split_attachments(with_attachments(text, attachments))
    assert text == own
    assert [item.name for item in attachments] == [row["name"] for row in found]
    assert [item.size_bytes for item in attachments] == [row["bytes"] for row in found]


def test_an_attachment_that_holds_an_end_tag() -> None:
    """A file with our own tags in it stays one attachment."""
    inner = 'a\n</attachment>\n<attachment name="b" kind="text" bytes="1">\nb\n</attachment>\nc'
    content = with_attachments("Hi", [from_file("x.txt", "text/plain", inner.encode())])
    own, found = split_attachments(content)
    assert "Hi" == own
    assert [{"name": "x.txt", "kind": "text", "bytes": len(inner)}] == found


@pytest.mark.parametrize(
    ("name", "mime", "data", "said"),
    [
        ("a.bin", "", b"\xff\xfe\x00", "neither text nor an image"),
        ("big.txt", "text/plain", b"a" * (LARGEST_FILE_BYTES + 1), "larger than"),
    ],
)
def test_refused_files(name: str, mime: str, data: bytes, said: str) -> None:
    """What a model cannot read is refused by name."""
    with pytest.raises(ConfigError, match=said):
        from_file(name, mime, data)


def test_a_name_cannot_leave_its_tag() -> None:
    """Quotes, tags and line ends in a file's name are replaced."""
    item = from_file('a"><b>\n.txt', "text/plain", b"x")
    assert "a___b__.txt" == item.name


def test_large_frame_is_cut_and_says_so() -> None:
    """Of a long DataFrame the shape, the types and the first rows are given."""
    item = from_variable("df", {"df": pd.DataFrame({"n": range(1000)})})
    assert "shape: (1000, 1)" in item.text
    assert "types: n: int64" in item.text
    assert "the first 200 of 1000 rows:" in item.text
    assert item.text.endswith("199,199")
    assert len(item.text.encode()) == item.size_bytes


def test_presets_round_trip(tmp_path: Path) -> None:
    """A preset is read as it was written; equal ones have equal digests."""
    made = Preset("My preset", "Be brief.", {"temperature": 0.5}, think=False)
    save_preset(tmp_path, made)
    assert [made] == list_presets(tmp_path)
    assert made.digest == list_presets(tmp_path)[0].digest
    delete_preset(tmp_path, "My preset")
    delete_preset(tmp_path, "My preset")
    assert [] == list_presets(tmp_path)


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "x" * 62, "a\nb"])
def test_preset_names(tmp_path: Path, name: str) -> None:
    """A name that is no file's name is refused."""
    with pytest.raises(ConfigError):
        save_preset(tmp_path, Preset(name))
    with pytest.raises(ConfigError):
        delete_preset(tmp_path, name)


@pytest.mark.parametrize(
    "text", ["", "[]", "null", "{", '{"options": 3}', '{"options": {"no_such": 1}}', '"x"']
)
def test_broken_presets_are_left_out(tmp_path: Path, text: str) -> None:
    """A file that is no preset hides no other one."""
    save_preset(tmp_path, Preset("good"))
    (tmp_path / "presets" / "bad.json").write_text(text, encoding="utf-8")
    assert ["good"] == [preset.name for preset in list_presets(tmp_path)]


def test_an_edited_question_keeps_what_is_attached() -> None:
    """What stands behind a question's own text is returned as it is, for the edited question."""
    item = from_file("notes.txt", "text/plain", b"one\n\n<b>two</b>")
    content = with_attachments("What is in it?", [item])
    assert content == "What is in it?" + attached_part(content)
    assert "" == attached_part("Nothing attached.")
