from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.chat.store import ChatLog, read_chat
from workbench.chat.transcript import ROOT, Facts, Node, Record, Transcript
from workbench.errors import ConfigError, Leaving, SwapPlan, SwapRequired
from workbench.messages import Generation, Message, Timings, ToolCall, Usage
from workbench.units import sortable_id

texts = st.text(max_size=8)
picks = st.integers(0, 1000)


def pick(tree: Transcript, number: int, *, root: bool = False) -> str | None:
    ids = [*([ROOT] if root else []), *tree.nodes]
    return ids[number % len(ids)] if ids else None


def add_user(tree: Transcript, number: int, text: str) -> list[Record]:
    return [tree.append(Message("user", text, images=("aGk=",) if number % 5 == 0 else ()))]


def add_answer(tree: Transcript, number: int, text: str) -> list[Record]:
    parent = pick(tree, number, root=True)
    assert parent is not None
    facts = Facts(model="m", system=text, config={"options": {"seed": number}})
    begun = tree.begin(parent, facts)
    records = [begun]
    for part in (text, "", text):
        records.append(tree.delta(begun["id"], text=part, thinking=part[:2]))
    if number % 4:
        calls = (ToolCall("f", {"x": [text]}, "c"),) if number % 3 == 0 else ()
        message = Message("assistant", text * 2, text[:2] * 2, calls)
        ended = Facts(
            model="m@b",
            stop_reason="length",
            usage=Usage(number, None),
            timings=Timings(eval_s=0.5),
            error={"type": "StreamBroken", "message": text},
            dropped_turns=number,
        )
        records.append(tree.end(begun["id"], message, ended))
    return records


def on_node(operation: Callable[[Transcript, str, str], Record]) -> Any:
    def apply(tree: Transcript, number: int, text: str) -> list[Record]:
        node_id = pick(tree, number)
        return [] if node_id is None else [operation(tree, node_id, text)]

    return apply


OPERATIONS = {
    "user": add_user,
    "answer": add_answer,
    "edit": on_node(lambda tree, node_id, text: tree.edit(node_id, text)),
    "branch": on_node(lambda tree, node_id, text: tree.branch(node_id)),
    "choose": on_node(lambda tree, node_id, text: tree.choose(node_id)),
    "delete": on_node(lambda tree, node_id, text: tree.delete(node_id)),
    "title": lambda tree, number, text: [tree.rename(text)],
    "settings": lambda tree, number, text: [tree.configure({"system": text, "model": "m"})],
}
steps = st.lists(st.tuples(st.sampled_from(sorted(OPERATIONS)), picks, texts), max_size=25)


@given(steps=steps)
def test_a_file_gives_the_tree_it_was_written_from(
    steps: list[tuple[str, int, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """After any sequence of operations the file reads as the tree in memory, and so does its copy.

    An answer whose end was never written reads as interrupted.
    """
    folder = tmp_path_factory.getbasetemp()
    tree = Transcript(sortable_id())
    log = ChatLog(folder, tree.id)
    log.append(tree.header())
    for name, number, text in steps:
        log.append(*OPERATIONS[name](tree, number, text))
    log.close()
    loaded = read_chat(log.path)
    tree.settle()
    assert 0 == loaded.damaged_lines
    assert tree == loaded.transcript
    again = Transcript(tree.id, created_at=tree.created_at)
    for record in tree.records()[1:]:
        again.apply(record)
    assert tree == again


@given(steps=steps)
def test_the_active_path_is_a_path(steps: list[tuple[str, int, str]]) -> None:
    """Each message of the active path is a child of the one before it, whatever was done."""
    tree = Transcript()
    for name, number, text in steps:
        OPERATIONS[name](tree, number, text)
    parents = [ROOT, *(node.id for node in tree.path())]
    assert parents[:-1] == [node.parent for node in tree.path()]
    assert parents[-1] == tree.leaf


def test_an_edit_keeps_both_versions() -> None:
    """An edited message stands beside the old one, and choosing goes back to what followed."""
    tree = Transcript()
    first = tree.append(Message("user", "a"))["id"]
    answer = tree.append(Message("assistant", "b"))["id"]
    second = tree.edit(first, "c")["id"]
    assert [first, second] == [node.id for node in tree.siblings(first)]
    assert ["c"] == [node.message.content for node in tree.path()]
    tree.choose(first)
    assert answer == tree.leaf


def test_deleting_shows_the_version_before() -> None:
    """When the shown version is deleted, the last remaining one is shown."""
    tree = Transcript()
    first = tree.append(Message("user", "a"))["id"]
    second = tree.edit(first, "b")["id"]
    tree.delete(second)
    assert first == tree.leaf


def test_an_unknown_message_is_an_error() -> None:
    """Operations on a message that is not there change nothing and say so."""
    tree = Transcript()
    for operation in (tree.choose, tree.branch, tree.delete):
        with pytest.raises(ConfigError, match="nowhere"):
            operation("nowhere")


@pytest.mark.parametrize(
    "record",
    [{"op": "fly"}, {"op": "delta", "id": "x"}, {"op": "end", "id": "x"}, {"op": "node"}, {}],
)
def test_records_that_cannot_be_applied_raise(record: Record) -> None:
    """A record of an unknown form raises one of the errors a reader counts as damage."""
    with pytest.raises((LookupError, TypeError, ValueError)):
        Transcript().apply(record)


def test_a_gap_in_an_answer_is_noticed() -> None:
    """An answer whose pieces do not add up to its length is damage, not a short answer."""
    tree = Transcript()
    node_id = tree.begin(ROOT, Facts())["id"]
    tree.delta(node_id, text="ab")
    record = {
        "op": "end",
        "id": node_id,
        "message": {"role": "assistant"},
        "chars": [3, 0],
        "facts": {"stop_reason": "stop"},
    }
    with pytest.raises(ValueError, match="missing"):
        tree.apply(record)
    assert "ab" == tree.node(node_id).message.content


def test_a_path_does_not_need_the_disk(tmp_path: Path) -> None:
    """A tree that is never written leaves no file."""
    Transcript().append(Message("user", "a"))
    assert [] == list(tmp_path.iterdir())


def test_the_plan_of_a_swap_is_kept() -> None:
    """An answer that waits for consent keeps the plan and the hint, on disk as well."""
    evict = Leaving(model="n", backend="b", bytes=5, reload_s=None, reason="idle")
    plan = SwapPlan(
        model="m", backend="b", evict=[evict], needed_bytes=9, free_bytes=None, estimated_s=1.5
    )
    error = SwapRequired(plan)
    tree = Transcript()
    tree.append(Message("user", "a"))
    facts = Facts().ended(Generation("", "m", "error", error=error))
    tree.append(Message("assistant", ""), facts=facts)
    kept = Node.from_wire(tree.path()[-1].to_wire())

    assert kept.facts is not None
    told = {"type": "SwapRequired", "message": error.message, "hint": error.hint, "plan": plan}
    assert told == kept.facts.error
