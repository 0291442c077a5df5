from __future__ import annotations

import stat
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from workbench.chat.store import (
    ChatLog,
    chats_dir,
    delete_chat,
    list_chats,
    read_chat,
    rename_chat,
    write_chat,
)
from workbench.chat.transcript import Facts, Transcript
from workbench.errors import ConversationLocked, SchemaTooNew, StoreError
from workbench.messages import Message


def stored(folder: Path, *texts: str) -> Transcript:
    tree = Transcript()
    for index, text in enumerate(texts):
        tree.append(Message("assistant" if index % 2 else "user", text))
    write_chat(folder, tree)
    return tree


def path_of(folder: Path, tree: Transcript) -> Path:
    return chats_dir(folder) / f"{tree.id}.jsonl"


def test_only_the_user_may_read_a_conversation(tmp_path: Path) -> None:
    """The folder has mode 0700 and the file 0600."""
    tree = stored(tmp_path, "a")
    assert 0o700 == stat.S_IMODE(chats_dir(tmp_path).stat().st_mode)
    assert 0o600 == stat.S_IMODE(path_of(tmp_path, tree).stat().st_mode)


@pytest.mark.parametrize("torn", [b'{"op":"node","id":"x', b'{"op":"title","text":"x"}', b"\xff"])
def test_a_torn_last_line_is_skipped_and_cut_by_the_next_writer(
    tmp_path: Path, torn: bytes
) -> None:
    """What a killed writer left after the last line end is no damage, and is cut off."""
    tree = stored(tmp_path, "a")
    path = path_of(tmp_path, tree)
    whole = path.read_bytes()
    path.write_bytes(whole + torn)
    loaded = read_chat(path)
    assert (tree, 0) == (loaded.transcript, loaded.damaged_lines)
    with closing(ChatLog(tmp_path, tree.id)) as log:
        log.take()
        assert whole == path.read_bytes()
        log.append(tree.rename("b"))
    assert tree == read_chat(path).transcript


def test_broken_lines_are_skipped_and_counted(tmp_path: Path) -> None:
    """Lines that cannot be read cost what they held, and their number is known."""
    tree = stored(tmp_path, "a", "b")
    path = path_of(tmp_path, tree)
    lines = path.read_bytes().split(b"\n")
    bad = [b"{", b"null", b"[]", b'{"op":"fly"}', b'{"op":"delete","id":"x"}', b"\x00\xff"]
    path.write_bytes(b"\n".join([lines[0], *bad, *lines[1:]]))
    loaded = read_chat(path)
    assert (tree, len(bad)) == (loaded.transcript, loaded.damaged_lines)


def test_a_newer_file_is_refused(tmp_path: Path) -> None:
    """A file of a newer version is not guessed at."""
    tree = stored(tmp_path, "a")
    path = path_of(tmp_path, tree)
    path.write_bytes(path.read_bytes().replace(b'"schema":1', b'"schema":2'))
    with pytest.raises(SchemaTooNew) as caught:
        read_chat(path)
    assert (2, 1) == (caught.value.found, caught.value.supported)


@pytest.mark.parametrize("content", [b"", b"\n", b"hello\n", b"[]\n", b'{"schema":"x"}\n', b"3\n"])
def test_another_file_is_refused(tmp_path: Path, content: bytes) -> None:
    """A file without our first line is not taken for an empty conversation."""
    path = tmp_path / "x.jsonl"
    path.write_bytes(content)
    with pytest.raises(StoreError):
        read_chat(path)


@pytest.mark.parametrize("chat_id", ["../../etc/passwd", "", "x", "A" * 26, "a" * 27])
def test_an_id_cannot_name_another_file(tmp_path: Path, chat_id: str) -> None:
    """Only ids of our form name a conversation."""
    with pytest.raises(StoreError):
        ChatLog(tmp_path, chat_id)


def test_one_writer(tmp_path: Path) -> None:
    """A second writer is refused, also for renaming and deleting; reading goes on."""
    tree = stored(tmp_path, "a")
    with closing(ChatLog(tmp_path, tree.id)) as log:
        log.take()
        for refused in (
            lambda: ChatLog(tmp_path, tree.id).take(),
            lambda: rename_chat(tmp_path, tree.id, "b"),
            lambda: delete_chat(tmp_path, tree.id),
        ):
            with pytest.raises(ConversationLocked):
                refused()
        assert tree == read_chat(log.path).transcript


def test_list_search_rename_delete(tmp_path: Path) -> None:
    """Conversations are listed by their last change, found by text, renamed and removed."""
    first, second = stored(tmp_path, "Alpha  beta\x1b[31m", "x"), stored(tmp_path, "gamma")
    assert ["Alpha beta[31m", "gamma"] == sorted(info.title for info in list_chats(tmp_path))
    assert [first.id] == [info.id for info in list_chats(tmp_path, search="ALPHA")]
    rename_chat(tmp_path, second.id, "Delta")
    assert "Delta" in [info.title for info in list_chats(tmp_path)]
    delete_chat(tmp_path, second.id)
    assert [first.id] == [info.id for info in list_chats(tmp_path)]
    assert [f"{first.id}.jsonl", f"{first.id}.lock"] == sorted(
        path.name for path in chats_dir(tmp_path).iterdir()
    )
    with pytest.raises(StoreError):
        delete_chat(tmp_path, second.id)


def test_a_list_leaves_out_what_it_cannot_read(tmp_path: Path) -> None:
    """A foreign file in the folder does not hide the conversations."""
    tree = stored(tmp_path, "a")
    for name in ("notes.jsonl", "0" * 26 + ".jsonl"):
        (chats_dir(tmp_path) / name).write_bytes(b"hello\n")
    assert [tree.id] == [info.id for info in list_chats(tmp_path)]
    assert [] == list_chats(tmp_path / "nowhere")


def test_an_answer_without_its_end_is_interrupted(tmp_path: Path) -> None:
    """An answer whose writer died reads as interrupted, with the text that was written."""
    tree = Transcript()
    with closing(ChatLog(tmp_path, tree.id)) as log:
        node_id = tree.begin("", Facts(model="m"))["id"]
        log.append(tree.header(), {"op": "node", **tree.node(node_id).to_wire()})
        log.append(tree.delta(node_id, text="one"), tree.delta(node_id, text=" two", thinking="h"))
        node = read_chat(log.path).transcript.node(node_id)
    assert node.facts is not None
    assert ("one two", "h", "interrupted") == (
        node.message.content,
        node.message.thinking,
        node.facts.stop_reason,
    )


def test_the_first_line_names_the_schema(tmp_path: Path) -> None:
    """The first line says what wrote the file and in which version."""
    tree = stored(tmp_path, "a")
    header = msgspec.json.decode(path_of(tmp_path, tree).read_bytes().split(b"\n")[0])
    assert (1, "workbench.chat", tree.id) == (header["schema"], header["kind"], header["id"])
