"""What the tests of dialogues share: making them, and reading what a scripted server heard."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from workbench.chat.dialogue import Dialogue
from workbench.chat.dialogue_values import DialogueEvent
from workbench.testing import RecordedRequest, ScriptedOllama

NewDialogue = Callable[..., Dialogue]
PATIENCE_S = 30.0

ANN = {"name": "Ann", "model": "m"}
BOB = {"name": "Bob", "model": "n"}
CAT = {"name": "Cat", "model": "m"}


def chats(ollama: ScriptedOllama) -> list[RecordedRequest]:
    """Return the requests for text."""
    return [request for request in ollama.requests if request.operation == "chat"]


def sent(ollama: ScriptedOllama, n: int = -1) -> list[tuple[str, str]]:
    """Return role and content of the messages of one request."""
    return [(m["role"], m["content"]) for m in chats(ollama)[n].json["messages"]]


def speakers(ollama: ScriptedOllama) -> list[str]:
    """Return who spoke, as the requests say it."""
    return [request.headers["workbench-speaker"] for request in chats(ollama)]


class Watch:
    """Waits until an event of a dialogue makes something so."""

    def __init__(self, dialogue: Dialogue) -> None:
        self._news = threading.Condition()
        self.events: list[DialogueEvent] = []
        dialogue.observe(self._take)

    def _take(self, event: DialogueEvent) -> None:
        with self._news:
            self.events.append(event)
            self._news.notify_all()

    def until(self, there: Callable[[], Any]) -> None:
        """Wait until `there()`, asked anew at each event."""
        with self._news:
            assert self._news.wait_for(there, PATIENCE_S), "it did not happen"


def in_state(dialogue: Dialogue, state: str) -> Callable[[], bool]:
    """Return a question for `Watch.until`: whether a dialogue is in a state."""
    # Read on any thread; `turns` would need the portal.
    return lambda: dialogue.state == state
