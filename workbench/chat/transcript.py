"""A conversation as a tree of messages that only grows by records.

Each operation makes one record (a JSON object) and applies it; replaying the records of a file
gives the same tree.  Nodes are immutable: an edit is a new sibling, and the active path says which
of the siblings is shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import msgspec

from workbench.errors import ConfigError, SwapRequired, WorkbenchError
from workbench.messages import Generation, Message, StopReason, Timings, Usage
from workbench.units import rfc3339, sortable_id, utc_now

SCHEMA = 1
"""Version of the records, on the first line of each file."""

Record = dict[str, Any]
ROOT = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """How an answer was made and what was measured; `None` is unknown.

    Attributes:
        model: The name the server resolved the request to.
        stop_reason: `None` while the answer is arriving.
        system: The system prompt it was asked with.
        config: The request's options in wire form.
        error: `{"type", "message", "hint"}` of what ended it; `plan` as well when the model waits
            for consent that others leave.
        dropped_turns: Oldest turns that did not fit the model's context and were not sent.
    """

    model: str = ""
    digest: str | None = None
    stop_reason: StopReason | None = None
    usage: Usage = field(default_factory=Usage)
    timings: Timings = field(default_factory=Timings)
    ttft_s: float | None = None
    elapsed_s: float | None = None
    request_id: str = ""
    error: dict[str, Any] | None = None
    dropped_turns: int = 0
    system: str = ""
    config: dict[str, Any] = field(default_factory=dict)

    @property
    def tokens_per_s(self) -> float | None:
        """Output tokens per second of generation."""
        tokens, seconds = self.usage.output_tokens, self.timings.eval_s
        return tokens / seconds if tokens and seconds else None

    def ended(self, generation: Generation) -> Facts:
        """Return the facts of a finished answer."""
        error = generation.error
        return replace(
            self,
            model=generation.model or self.model,
            stop_reason=generation.stop_reason,
            usage=generation.usage,
            timings=generation.timings,
            ttft_s=generation.ttft_s,
            elapsed_s=generation.elapsed_s,
            request_id=generation.request_id,
            error=None if error is None else error_wire(error),
        )


def error_wire(error: WorkbenchError) -> dict[str, Any]:
    """Return an error as a transcript keeps it."""
    found: dict[str, Any] = {
        "type": type(error).__name__,
        "message": error.message,
        "hint": error.hint,
    }
    if isinstance(error, SwapRequired):
        found["plan"] = dict(error.plan)
    return found


@dataclass(frozen=True, slots=True)
class Node:
    """One message in the tree.

    Attributes:
        parent: Id of the message before it; empty for a first message.
        facts: For an answer of a model: how it was made.
        edited_from: Id of the sibling this one was edited from.
    """

    id: str
    parent: str
    message: Message
    created_at: datetime
    facts: Facts | None = None
    edited_from: str = ""

    @property
    def failed_empty(self) -> bool:
        """Whether it is an answer that ended badly before anything had come."""
        if self.facts is None or self.message.content or self.message.tool_calls:
            return False
        return self.facts.stop_reason not in ("stop", "length", "tool_calls")

    def to_wire(self) -> Record:
        """Return the node as JSON values."""
        wire: Record = {
            "id": self.id,
            "parent": self.parent,
            "created_at": rfc3339(self.created_at),
            "message": self.message.to_wire(),
        }
        if self.facts is not None:
            wire["facts"] = msgspec.to_builtins(self.facts)
        if self.edited_from:
            wire["edited_from"] = self.edited_from
        return wire

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> Node:
        """Read what `to_wire` wrote."""
        facts = wire.get("facts")
        return cls(
            id=str(wire["id"]),
            parent=str(wire["parent"]),
            message=Message.from_wire(wire["message"]),
            created_at=_moment(wire["created_at"]),
            facts=None if facts is None else msgspec.convert(facts, Facts),
            edited_from=wire.get("edited_from", ""),
        )


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


class Transcript:
    """The tree, the active path through it, and the conversation's settings.

    Every method that changes something returns the record it applied.

    Attributes:
        nodes: Id to node, in order of creation.
        settings: `model`, `system` and `config` (wire form) for the next answer.
    """

    def __init__(self, chat_id: str | None = None, *, created_at: datetime | None = None) -> None:
        self.id = chat_id or sortable_id()
        self.created_at = _moment(rfc3339(created_at or utc_now()))
        self.title = ""
        self.settings: Record = {}
        self.nodes: dict[str, Node] = {}
        self._children: dict[str, list[str]] = {}
        self._chosen: dict[str, str] = {}
        self._arriving: dict[str, tuple[list[str], list[str]]] = {}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Transcript) and self._state() == other._state()

    __hash__ = None  # type: ignore[assignment]

    def _state(self) -> tuple[object, ...]:
        arriving = {key: ("".join(a), "".join(b)) for key, (a, b) in self._arriving.items()}
        children = {key: ids for key, ids in self._children.items() if ids}
        return (
            (self.id, self.created_at, self.title, self.settings, self.nodes),
            (children, self._chosen, arriving),
        )

    def header(self) -> Record:
        """Return the first line of a file."""
        return {
            "schema": SCHEMA,
            "kind": "workbench.chat",
            "id": self.id,
            "created_at": rfc3339(self.created_at),
        }

    def records(self) -> list[Record]:
        """Return the shortest list of records that gives this tree, the header first."""
        found = [self.header()]
        if self.title:
            found.append({"op": "title", "text": self.title})
        if self.settings:
            found.append({"op": "settings", **self.settings})
        found += [{"op": "node", **node.to_wire()} for node in self.nodes.values()]
        # Choosing a node also chooses what lies above it: the deepest choices come first.
        for parent in sorted(self._children, key=self._depth, reverse=True):
            chosen = self._chosen.get(parent)
            if chosen is None and self._children[parent]:
                found.append({"op": "branch", "id": parent})
            elif len(self._children[parent]) > 1:
                found.append({"op": "choose", "id": chosen})
        return found

    # --- reading

    def path(self) -> list[Node]:
        """Return the active path, oldest first."""
        found, key = [], ROOT
        while (child := self._chosen.get(key)) is not None:
            found.append(self.nodes[child])
            key = child
        return found

    @property
    def leaf(self) -> str:
        """Id of the last message of the active path; empty when there is none."""
        path = self.path()
        return path[-1].id if path else ROOT

    def node(self, node_id: str) -> Node:
        """Return a node.

        Raises:
            ConfigError: When there is none of that id.
        """
        found = self.nodes.get(node_id)
        if found is None:
            raise ConfigError(f"no message {node_id!r} in this conversation.", key="id")
        return found

    def siblings(self, node_id: str) -> list[Node]:
        """Return a node and its alternatives, in order of creation."""
        return [self.nodes[key] for key in self._children[self.node(node_id).parent]]

    def children(self, node_id: str) -> list[Node]:
        """Return what follows a message, in order of creation; an empty id is the beginning."""
        return [self.nodes[key] for key in self._children.get(node_id, [])]

    def ancestors(self, node_id: str) -> Iterator[Node]:
        """Yield a node and everything before it, the node first."""
        key = node_id
        while key != ROOT:
            node = self.node(key)
            yield node
            key = node.parent

    def _depth(self, node_id: str) -> int:
        return sum(1 for _ in self.ancestors(node_id))

    # --- operations

    def append(
        self,
        message: Message,
        *,
        parent: str | None = None,
        facts: Facts | None = None,
        edited_from: str = "",
    ) -> Record:
        """Add a message after `parent` (the active path's end unless given) and show it."""
        node = Node(
            id=sortable_id(),
            parent=self.leaf if parent is None else parent,
            message=message,
            created_at=utc_now(),
            facts=facts,
            edited_from=edited_from,
        )
        return self._do({"op": "node", **node.to_wire()})

    def edit(self, node_id: str, text: str) -> Record:
        """Add a sibling of a message with another text and show it."""
        node = self.node(node_id)
        message = replace(node.message, content=text)
        return self.append(message, parent=node.parent, edited_from=node_id)

    def begin(self, parent: str, facts: Facts) -> Record:
        """Add an answer that is about to arrive, and show it."""
        return self.append(Message("assistant"), parent=parent, facts=facts)

    def delta(self, node_id: str, *, text: str = "", thinking: str = "") -> Record:
        """Add text to an answer that is arriving."""
        record = {"op": "delta", "id": node_id, "text": text, "thinking": thinking}
        return self._do({key: value for key, value in record.items() if value})

    def end(self, node_id: str, message: Message, facts: Facts) -> Record:
        """End an answer; its text is in the deltas, its length here, so that a gap is noticed."""
        wire = message.to_wire()
        wire.pop("content"), wire.pop("thinking", None)
        chars = [len(message.content), len(message.thinking)]
        facts_wire = msgspec.to_builtins(facts)
        return self._do(
            {"op": "end", "id": node_id, "message": wire, "chars": chars, "facts": facts_wire}
        )

    def choose(self, node_id: str) -> Record:
        """Show a message and what was last shown after it."""
        self.node(node_id)
        return self._do({"op": "choose", "id": node_id})

    def branch(self, node_id: str) -> Record:
        """End the active path at a message, so that the next one begins a new branch."""
        if node_id != ROOT:
            self.node(node_id)
        return self._do({"op": "branch", "id": node_id})

    def delete(self, node_id: str) -> Record:
        """Remove a message and everything after it."""
        self.node(node_id)
        return self._do({"op": "delete", "id": node_id})

    def rename(self, title: str) -> Record:
        """Give the conversation a title."""
        return self._do({"op": "title", "text": title})

    def configure(self, settings: Record) -> Record:
        """Replace the settings for the next answers."""
        return self._do({"op": "settings", **settings})

    def _do(self, record: Record) -> Record:
        self.apply(record)
        return record

    # --- replaying

    def apply(self, record: Mapping[str, Any]) -> None:
        """Apply one record.

        Raises:
            KeyError, TypeError, ValueError: When the record is not of a known form.
        """
        operation = record["op"]
        if operation == "node":
            self._apply_node(Node.from_wire(record))
        elif operation == "delta":
            text, thinking = self._arriving[record["id"]]
            text.append(record.get("text", ""))
            thinking.append(record.get("thinking", ""))
        elif operation == "end":
            self._apply_end(record)
        elif operation in ("choose", "branch"):
            self._apply_choose(str(record["id"]), ends=operation == "branch")
        elif operation == "delete":
            self._apply_delete(self.nodes[record["id"]])
        elif operation == "title":
            self.title = str(record["text"])
        elif operation == "settings":
            self.settings = {key: value for key, value in record.items() if key != "op"}
        else:
            raise ValueError(f"unknown operation {operation!r}")

    def _apply_node(self, node: Node) -> None:
        if node.parent != ROOT and node.parent not in self.nodes:
            raise ValueError(f"the message before {node.id} is missing")
        if node.id in self.nodes:
            raise ValueError(f"message {node.id} is there already")
        self.nodes[node.id] = node
        self._children.setdefault(node.parent, []).append(node.id)
        self._apply_choose(node.id, ends=False)
        if node.facts is not None and node.facts.stop_reason is None:
            self._arriving[node.id] = ([], [])

    def _apply_choose(self, node_id: str, *, ends: bool) -> None:
        if node_id != ROOT and node_id not in self.nodes:
            raise ValueError(f"no message {node_id}")
        for node in self.ancestors(node_id):
            self._chosen[node.parent] = node.id
        if ends:
            self._chosen.pop(node_id, None)

    def _apply_end(self, record: Mapping[str, Any]) -> None:
        node = self.nodes[record["id"]]
        text, thinking = ("".join(parts) for parts in self._arriving.pop(node.id))
        wire = {**record["message"], "content": text, "thinking": thinking}
        facts = msgspec.convert(record["facts"], Facts)
        self.nodes[node.id] = replace(node, message=Message.from_wire(wire), facts=facts)
        if record["chars"] != [len(text), len(thinking)]:
            raise ValueError(f"a part of answer {node.id} is missing")

    def _apply_delete(self, node: Node) -> None:
        for child in list(self._children.get(node.id, [])):
            self._apply_delete(self.nodes[child])
        self._children.pop(node.id, None)
        self._chosen.pop(node.id, None)
        self._arriving.pop(node.id, None)
        del self.nodes[node.id]
        rest = self._children[node.parent]
        rest.remove(node.id)
        if self._chosen.get(node.parent) == node.id:
            del self._chosen[node.parent]
            if rest:
                self._chosen[node.parent] = rest[-1]

    def settle(self) -> int:
        """End answers whose writer died as `interrupted`, and return how many there were."""
        count = len(self._arriving)
        for node_id in list(self._arriving):
            node = self.nodes[node_id]
            text, thinking = ("".join(parts) for parts in self._arriving.pop(node_id))
            message = replace(node.message, content=text, thinking=thinking)
            assert node.facts is not None
            facts = replace(node.facts, stop_reason="interrupted")
            self.nodes[node_id] = replace(node, message=message, facts=facts)
        return count
