"""What a session holds besides asking: the tree, the settings, the exports."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.chat import export
from workbench.chat.conversation import Conversation, Job, Observer, sendable, unrecorded
from workbench.chat.show import plain
from workbench.chat.store import ChatLog, title_of
from workbench.chat.transcript import Node, Transcript
from workbench.chat.window import TokenMeter
from workbench.client.api import WorkbenchClient
from workbench.errors import ConfigError, ConversationLocked, StoreError
from workbench.messages import GenerateConfig, Message, ToolCall
from workbench.portal import Portal, get_portal

if TYPE_CHECKING:
    import pandas as pd
    from nbformat import NotebookNode


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of the user on the active path, with what followed it.

    Attributes:
        index: Position on the path, from 0.
        user: The user's message; `None` when the path begins with another role.
        replies: Answers and tool results, in order.
        alternatives: How many versions of the user's message there are.
    """

    index: int
    user: Node | None
    replies: tuple[Node, ...]
    alternatives: int = 1

    @property
    def text(self) -> str:
        """The user's text."""
        return self.user.message.content if self.user else ""

    @property
    def answer(self) -> Node | None:
        """The last answer of the model, or `None`."""
        answers = [node for node in self.replies if node.message.role == "assistant"]
        return answers[-1] if answers else None

    @property
    def id(self) -> str:
        """Id of its first message."""
        return self.user.id if self.user else self.replies[0].id


class History:
    """A conversation that can be read, configured, rearranged and exported; see `ChatSession`."""

    def _set_up(
        self,
        client: WorkbenchClient,
        transcript: Transcript,
        log: ChatLog | None,
        data_dir: Path | None,
        default_model: str | None,
    ) -> None:
        self._client = client
        self._data_dir = data_dir
        self._default_model = default_model
        self._core = Conversation(client, transcript, log=log, default_model=default_model)
        self._read_only = False
        self._own_client = False
        self._damaged_lines = 0
        self._interrupted_at = float("-inf")

    def __repr__(self) -> str:
        count = len(self.turns)
        return (
            f"<ChatSession {self.id} {plain(self.title)!r}, "
            f"{count} turn{'' if count == 1 else 's'}, model {self.model or 'default'}>"
        )

    # --- what it holds

    @property
    def id(self) -> str:
        """Id of the conversation, for `ChatSession.open`."""
        return self._core.transcript.id

    @property
    def title(self) -> str:
        """The title; the beginning of the first question unless renamed."""
        return title_of(self._core.transcript)

    @property
    def transcript(self) -> Transcript:
        """The whole tree with all branches; change it through the session."""
        return self._core.transcript

    @property
    def messages(self) -> list[Message]:
        """What the model is sent before what does not fit is dropped, without the system prompt.

        Turns whose answer failed before anything came are not among them.
        """
        with self._core.lock:
            return sendable(self._core.transcript.path())

    @property
    def turns(self) -> list[Turn]:
        """The turns of the active path."""
        with self._core.lock:
            tree = self._core.transcript
            turns: list[list[Node]] = []
            for node in tree.path():
                if node.message.role == "user" or not turns:
                    turns.append([])
                turns[-1].append(node)
            return [_turn(index, nodes, tree) for index, nodes in enumerate(turns)]

    @property
    def last(self) -> Node | None:
        """The last message of the active path, or `None`."""
        path = self._core.transcript.path()
        return path[-1] if path else None

    @property
    def busy(self) -> bool:
        """Whether an answer is arriving."""
        return self._core.job is not None

    @property
    def read_only(self) -> bool:
        """Whether it cannot be changed: opened so, or closed."""
        return self._read_only

    @property
    def warnings(self) -> list[StoreError]:
        """What is wrong with the record on disk; empty when all is written."""
        found = unrecorded(self._core.log)
        if self._damaged_lines:
            found.append(StoreError(f"{self._damaged_lines} damaged lines were skipped."))
        return found

    # --- doors for views

    @property
    def client(self) -> WorkbenchClient:
        """The door to the server."""
        return self._client

    @property
    def data_dir(self) -> Path | None:
        """The data folder it is kept in, or `None`."""
        return self._data_dir

    @property
    def default_model(self) -> str | None:
        """What the configuration names for when `model` is `None`."""
        return self._default_model

    @property
    def job(self) -> Job | None:
        """The answer that is arriving, or `None`."""
        return self._core.job

    def observe(self, observer: Observer) -> None:
        """Tell `observer` of every change, and of what arrives, on any thread."""
        self._core.observers.append(observer)

    def unobserve(self, observer: Observer) -> None:
        """Tell it no more."""
        with contextlib.suppress(ValueError):
            self._core.observers.remove(observer)

    def meter(self, model: str | None) -> TokenMeter:
        """Return what estimates how many tokens texts take with a model."""
        return self._core.meter(model or "")

    # --- settings for the next answers

    @property
    def model(self) -> str | None:
        """The model to ask; `None` is the default."""
        return self._core.transcript.settings.get("model")

    @model.setter
    def model(self, name: str | None) -> None:
        self._configure(model=name)

    @property
    def system(self) -> str | None:
        """The system prompt."""
        return self._core.transcript.settings.get("system")

    @system.setter
    def system(self, text: str | None) -> None:
        self._configure(system=text, preset=None)

    @property
    def options(self) -> dict[str, Any]:
        """The options of every answer; assign a new dict to change them."""
        return dict(self._config.options)

    @options.setter
    def options(self, options: Mapping[str, Any]) -> None:
        config = GenerateConfig(options=options, think=self.think)
        self._configure(config=config.to_wire(), preset=None)

    @property
    def think(self) -> bool | str | None:
        """Whether or how hard to think; `None` leaves it to the model."""
        return self._config.think

    @think.setter
    def think(self, think: bool | str | None) -> None:
        config = GenerateConfig(options=self._config.options, think=think)
        self._configure(config=config.to_wire(), preset=None)

    @property
    def preset(self) -> Mapping[str, str] | None:
        """`name` and `digest` of the preset these settings are of, until one of them changes."""
        found: Mapping[str, str] | None = self._core.transcript.settings.get("preset")
        return found

    def configure(
        self,
        *,
        system: str | None,
        options: Mapping[str, Any],
        think: bool | str | None,
        preset: Mapping[str, str] | None = None,
    ) -> None:
        """Set system prompt, options and thinking at once.

        Args:
            system: The system prompt.
            options: Options of Ollama's API.
            think: Whether or how hard to think.
            preset: `name` and `digest` of the preset they come from.
        """
        config = GenerateConfig(options=options, think=think)
        self._configure(system=system, config=config.to_wire(), preset=preset)

    @property
    def _config(self) -> GenerateConfig:
        return GenerateConfig.from_wire(self._core.transcript.settings.get("config") or {})

    def _configure(self, *, flush: bool = True, **changes: Any) -> None:
        self._writable()
        log = self._core.log
        flush = flush and log is not None and log.path.exists()
        settings = {**self._core.transcript.settings, **changes}
        self._core.change(lambda tree: tree.configure(settings), flush=flush)

    def rename(self, title: str) -> None:
        """Give the conversation a title."""
        self._writable()
        self._core.change(lambda tree: tree.rename(title))

    # --- the tree

    def choose(self, message_id: str) -> None:
        """Show another version of a message; ids are in `alternatives`."""
        self._idle()
        self._core.change(lambda tree: tree.choose(message_id))

    def alternatives(self, message_id: str) -> list[Node]:
        """Return a message and its other versions, in order of creation."""
        return self._core.transcript.siblings(message_id)

    def delete(self, turn: int | str) -> None:
        """Remove a turn and everything after it, from the file's view too."""
        self._idle()
        node_id = self._turn(turn).id
        self._core.change(lambda tree: tree.delete(node_id))

    def add_tool_result(self, call: ToolCall, text: str) -> None:
        """Add the result of a tool call; `ask()` without a text then goes on."""
        self._idle()
        message = Message("tool", text, tool_name=call.name, tool_call_id=call.id)
        self._core.change(lambda tree: tree.append(message))

    # --- exports

    def to_markdown(self) -> str:
        """Return the active path as markdown; show it only where markdown is sanitised."""
        return export.to_markdown(self.transcript)

    def to_json(self) -> str:
        """Return one JSON document with every branch."""
        return export.to_json(self.transcript)

    def to_jsonl(self) -> str:
        """Return the records as the file holds them, every branch included."""
        return export.to_jsonl(self.transcript)

    def to_notebook(self) -> NotebookNode:
        """Return a notebook that asks the same questions, with options and model digests."""
        return export.to_notebook(self.transcript)

    def to_frame(self, *, all_branches: bool = False) -> pd.DataFrame:
        """Return one row per message; columns, types and units are `chat.export.COLUMNS`.

        Columns: id, parent, role, text, thinking, model, digest, stop_reason, error, request_id
        (string); created_at (datetime, UTC); tool_calls, config (string, JSON); input_tokens,
        output_tokens (Int64, tokens); dropped_turns (Int64, turns); ttft_s, load_s, elapsed_s
        (Float64, seconds); tokens_per_s (Float64, tokens per second).
        """
        return export.to_frame(self.transcript, all_branches=all_branches)

    # --- inside

    @property
    def _portal(self) -> Portal:
        # Asked each time: a forked process has another one.
        return get_portal()

    def _writable(self) -> None:
        if self._read_only:
            raise ConversationLocked(self.id)

    def _idle(self) -> None:
        self._writable()
        if self.busy:
            raise ConfigError("An answer is arriving.", hint="Wait for it, or stop() it.")

    def _turn(self, turn: int | str) -> Turn:
        turns = self.turns
        for item in turns:
            if turn == item.id or turn in [node.id for node in item.replies]:
                return item
        if isinstance(turn, int) and -len(turns) <= turn < len(turns):
            return turns[turn]
        raise ConfigError(f"no turn {turn!r}; there are {len(turns)}.", key="turn")


def _turn(index: int, nodes: list[Node], tree: Transcript) -> Turn:
    user = nodes[0] if nodes[0].message.role == "user" else None
    replies = tuple(nodes if user is None else nodes[1:])
    return Turn(index, user, replies, len(tree.siblings(nodes[0].id)))
