"""A dialogue panel without a browser: what its view would be sent, and what it would send."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from workbench.chat.dialogue import Dialogue
from workbench.client.api import WorkbenchClient
from workbench.portal import get_portal
from workbench.widgets.dialogue import DialoguePanel

WAIT_S = 30.0
_UNKNOWN = "nothing that a workbench server says"


class ViewOfDialogue(DialoguePanel):
    """A panel whose messages are kept here; its view holds what the frames and pictures made.

    Attributes:
        messages: Everything that was sent, in order.
        shown: The picture as a view holds it.
        texts: The text of each turn as a view holds it.
    """

    def __init__(
        self,
        client: WorkbenchClient,
        dialogue: Dialogue | None = None,
        *,
        data_dir: Path | None = None,
    ) -> None:
        self.messages: list[dict[str, Any]] = []
        self.files: list[bytes] = []
        self.shown: dict[str, Any] = {}
        self.texts: dict[str, str] = {}
        self._arrived = threading.Condition()
        super().__init__(client, dialogue, data_dir=data_dir)
        self.say(t="hello")
        self.until(lambda view: view.shown)

    def send(self, content: Mapping[str, Any], buffers: Sequence[bytes] = ()) -> None:
        """Take what a view would be sent, and acknowledge it as a view does."""
        with self._arrived:
            self.messages.append(dict(content))
            self.files += buffers
            self._take(content)
            self._arrived.notify_all()

    def _take(self, content: Mapping[str, Any]) -> None:
        if content["t"] == "f":
            for mid, channel, offset, piece in content["p"]:
                if channel == "text":
                    assert len(self.texts[mid]) == offset
                    self.texts[mid] += piece
            get_portal().loop.call_soon(self._handle, {"t": "ack", "n": content["n"]}, b"")
        elif content["t"] == "state":
            held = {turn["mid"]: turn for turn in self.shown.get("turns", ())}
            new = {**({} if content["base"] is None else self.shown), **content["s"]}
            turns = [held[turn] if isinstance(turn, str) else turn for turn in new["turns"]]
            self.shown = {**new, "turns": turns}
            old, self.texts = self.texts, {}
            for turn in turns:
                mid = turn["mid"]
                self.texts[mid] = turn.get("text", old.get(mid, ""))

    def end(self) -> None:
        """Take the view away, and let what was asked for come to its end."""
        self.say(t="bye")
        get_portal().run(self.views.settled())

    def say(self, **message: Any) -> None:
        """Send what a view would send."""
        loop = get_portal().loop
        loop.call_soon_threadsafe(self._handle, {"view": "test", **message}, b"")

    def until(self, there: Callable[[ViewOfDialogue], Any]) -> Any:
        """Wait until a view holds something, and return it."""
        with self._arrived:
            found = self._arrived.wait_for(lambda: there(self), WAIT_S)
            assert found, (self.shown.get("run"), self.messages[-3:])
            return found

    def reaches(self, state: str) -> dict[str, Any]:
        """Wait until the dialogue is in a state and nothing is on its way; return the picture."""
        done = state in ("done", "failed")
        self.until(
            lambda view: (
                (run := view.shown.get("run")) is not None
                and run["state"] == state
                and not (done and run["active"])
            )
        )
        return self.shown

    def told(self, kind: str) -> dict[str, Any]:
        """Wait for a message of a kind that was not taken, and take it."""

        def first(view: ViewOfDialogue) -> dict[str, Any] | None:
            # A plain Ollama does not know the question for all models.
            found = (
                item for item in view.messages if item["t"] == kind and _UNKNOWN not in str(item)
            )
            return next(found, None)

        found: dict[str, Any] = self.until(first)
        with self._arrived:
            self.messages.remove(found)
        return found

    @property
    def turns(self) -> list[dict[str, Any]]:
        """The turns as a view holds them, without the opening."""
        return [turn for turn in self.shown["turns"] if not turn.get("opening")]
