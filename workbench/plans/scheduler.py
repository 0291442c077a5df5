"""Which steps of a run can begin, are skipped, or are blocked; pure.

A step begins when everything it needs has ended well.  Where something it needs was skipped:

- it is skipped too when it takes an output of the skipped step, or when nothing else it needs was
  done;
- but a step in which the branches of a decision meet again runs with the branch that was taken;
  what it takes of the others is null.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from workbench.plans.state import FINISHED

STUCK = frozenset({"failed", "blocked", "cancelled"})
"""Statuses of a step after which those that need it cannot run."""


@dataclass(frozen=True, slots=True)
class Node:
    """One step as the order of the run sees it.

    Attributes:
        takes: Ids of the steps whose outputs its fields refer to.
        branches: Ids of the steps that run only when this one chooses them.
    """

    id: str
    needs: tuple[str, ...] = ()
    takes: frozenset[str] = frozenset()
    branches: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Move:
    """What happens to a step now.

    Attributes:
        by: For `block`, the steps that failed.
        cause: For `skip`, the decision it goes back to, if one does.
    """

    step: str
    kind: Literal["start", "skip", "block"]
    reason: str = ""
    by: tuple[str, ...] = ()
    cause: str | None = None


@dataclass(slots=True)
class Board:
    """How far the steps of a run are.

    Attributes:
        nodes: In an order in which they can run.
        status: Of each step; one that is not named is pending.
        causes: Skipped step to the decision it goes back to.
        refused: Step to the decision that decided against it, and the reason.
        stop: Why nothing that has not begun shall begin.
    """

    nodes: Mapping[str, Node]
    status: dict[str, str] = field(default_factory=dict)
    causes: dict[str, str] = field(default_factory=dict)
    refused: dict[str, tuple[str, str]] = field(default_factory=dict)
    stop: str | None = None

    def of(self, step: str) -> str:
        """Return the status of a step."""
        return self.status.get(step, "pending")

    def moves(self, wanted: Iterable[str] | None = None) -> list[Move]:
        """Return what happens to the pending steps now; `wanted` leaves all others pending."""
        chosen = self.nodes if wanted is None else frozenset(wanted)
        pending = [n for n in self.nodes.values() if n.id in chosen and self.of(n.id) == "pending"]
        return [move for node in pending if (move := self._move(node)) is not None]

    def behind(self, steps: Iterable[str]) -> frozenset[str]:
        """Return the steps with everything they need, directly or not."""
        found: set[str] = set()
        left = list(steps)
        while left:
            step = left.pop()
            if step not in found:
                found.add(step)
                left += self.nodes[step].needs
        return frozenset(found)

    def _move(self, node: Node) -> Move | None:
        if self.stop is not None:
            return Move(node.id, "skip", self.stop)
        if node.id in self.refused:
            decision, reason = self.refused[node.id]
            return Move(node.id, "skip", reason, cause=decision)
        stuck = tuple(need for need in node.needs if self.of(need) in STUCK)
        if stuck:
            return Move(node.id, "block", by=stuck)
        if not all(self.of(need) in FINISHED for need in node.needs):
            return None
        return self._skip(node) or Move(node.id, "start")

    def _skip(self, node: Node) -> Move | None:
        """Return the move that skips a step because of what it needs, if it is skipped."""
        gone = [need for need in node.needs if self.of(need) == "skipped"]
        missed = [need for need in gone if not self._joined(node, need)]
        for need in missed:
            if need in node.takes or node.id in self.nodes[need].branches:
                return self._with(node, need)
        work = [need for need in node.needs if not self.nodes[need].branches]
        if missed and all(need in gone for need in work):
            return self._with(node, missed[0])
        return None

    def _with(self, node: Node, need: str) -> Move:
        return Move(node.id, "skip", f"{need} was skipped", cause=self.causes.get(need))

    def _joined(self, node: Node, gone: str) -> bool:
        """Whether a step it needs was done on another branch of the decision that skipped one."""
        cause = self.causes.get(gone)
        if cause is None:
            return False
        branches = set(self.nodes[cause].branches)
        done = [n for n in node.needs if n != cause and self.of(n) in FINISHED - {"skipped"}]
        return any(branches & self.behind([need]) for need in done)
