"""Which steps begin, are skipped, or are blocked: pure decisions over any plan."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from workbench.plans.scheduler import STUCK, Board, Move, Node
from workbench.plans.state import FINISHED


@st.composite
def boards(draw: st.DrawFn) -> Board:
    """Return a board of steps that need earlier ones, some of them decisions."""
    count = draw(st.integers(1, 9))
    needs: dict[int, set[int]] = {
        n: set(draw(st.lists(st.integers(0, n - 1), max_size=3))) if n else set()
        for n in range(count)
    }
    branches: dict[int, set[int]] = {n: set() for n in range(count)}
    for n in draw(st.lists(st.integers(0, count - 1), max_size=2)):
        later = draw(st.lists(st.integers(n + 1, count - 1), max_size=2)) if n + 1 < count else []
        branches[n] |= set(later)
        for other in later:
            needs[other].add(n)
    nodes = {}
    for n in range(count):
        named = [str(need) for need in sorted(needs[n])]
        takes = draw(st.sets(st.sampled_from(named))) if named else set()
        chosen = tuple(str(other) for other in sorted(branches[n]))
        nodes[str(n)] = Node(str(n), tuple(named), frozenset(takes), chosen)
    return Board(nodes)


@given(boards(), st.data())
def test_every_run_comes_to_an_end_in_order(board: Board, data: st.DataObject) -> None:
    """A step begins once, after all it needs; at the end each has ended or is blocked."""
    started: list[str] = []
    for _ in range(3 * len(board.nodes) + 3):
        moves = board.moves()
        if not moves:
            break
        for move in moves:
            assert "pending" == board.of(move.step)
            _apply(board, move, started, data)
    assert {"pending"} & {board.of(name) for name in board.nodes} == set()
    assert len(started) == len(set(started))
    for name in board.nodes:
        if board.of(name) == "blocked":
            assert {board.of(need) for need in board.nodes[name].needs} & STUCK


def _apply(board: Board, move: Move, started: list[str], data: st.DataObject) -> None:
    node = board.nodes[move.step]
    if move.kind == "block":
        board.status[move.step] = "blocked"
    elif move.kind == "skip":
        board.status[move.step] = "skipped"
        if move.cause:
            board.causes[move.step] = move.cause
    else:
        assert all(board.of(need) in FINISHED for need in node.needs)
        started.append(move.step)
        outcome = data.draw(st.sampled_from(["done", "done", "kept", "failed", "skipped"]))
        board.status[move.step] = outcome
        if outcome == "done" and node.branches:
            taken = data.draw(st.sampled_from(node.branches))
            for other in set(node.branches) - {taken}:
                board.refused[other] = (move.step, "not chosen")


def test_only_what_is_wanted_begins() -> None:
    """By hand a step begins with what it needs."""
    nodes = {name: Node(name, needs) for name, needs in (("a", ()), ("b", ("a",)), ("c", ()))}
    board = Board(nodes)
    assert frozenset({"a", "b"}) == board.behind(["b"])
    assert ["a"] == [move.step for move in board.moves(board.behind(["b"]))]


def test_a_stop_skips_what_has_not_begun() -> None:
    """What runs is left alone."""
    board = Board({name: Node(name) for name in "ab"}, status={"a": "running"}, stop="enough")
    assert [Move("b", "skip", "enough")] == board.moves()
