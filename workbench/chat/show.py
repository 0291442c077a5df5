"""Show a stream as plain text, safely: a model's text must not move the cursor or colour a cell."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable

from workbench.messages import (
    Failed,
    Finished,
    Opened,
    Phase,
    ReasoningDelta,
    StreamEvent,
    TextDelta,
    ToolCallDelta,
)
from workbench.units import format_bytes, format_seconds

# ECMA-48: CSI, OSC, the other string commands, then two-character sequences.
_ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b\]|\x9d)[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)"
    r"|\x1b[PX^_][^\x1b]*\x1b\\"
    r"|\x1b[ -/]*[0-OQ-WYZ\\`-~]"
)
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
# Nothing that is meant to be read hides behind an escape for longer than this.
_HELD_CHARS = 256
_SHOWN_AFTER_S = 1.0


class PlainText:
    """Removes escape sequences and control characters, also those cut between two pieces."""

    def __init__(self) -> None:
        self._held = ""

    def feed(self, text: str) -> str:
        """Take a piece and return what is safe to print of it; line ends and tabs stay."""
        text = _ESCAPES.sub("", self._held + text)
        cut = text.rfind("\x1b")
        self._held = ""
        if cut >= 0 and len(text) - cut < _HELD_CHARS:
            text, self._held = text[:cut], text[cut:]
        return _CONTROLS.sub("", text)


def plain(text: str) -> str:
    """Return a whole text without escape sequences and control characters."""
    return PlainText().feed(text)


class PlainPrinter:
    """Writes the events of one answer as text; a phase is told only when it lasts.

    Args:
        write: Takes text, as `print(..., end="")` does.
    """

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write
        self._text = PlainText()
        self._at_line_start = True
        self._thinking = False
        self._told: set[str] = set()

    def feed(self, events: Iterable[StreamEvent]) -> None:
        """Write what the events say."""
        pieces: list[str] = []
        for event in events:
            if isinstance(event, TextDelta) and not self._thinking:
                pieces.append(event.text)
                continue
            self._put("".join(pieces))
            pieces.clear()
            self._other(event)
        self._put("".join(pieces))

    def line(self, text: str) -> None:
        """Write a line of our own, in brackets, on a line of its own."""
        if not self._at_line_start:
            self._write("\n")
        self._write(f"[{plain(text)}]\n")
        self._at_line_start = True

    def _put(self, text: str) -> None:
        shown = self._text.feed(text)
        if shown:
            self._write(shown)
            self._at_line_start = shown.endswith("\n")

    def _other(self, event: StreamEvent) -> None:
        if isinstance(event, Phase):
            self._phase(event)
        elif isinstance(event, ReasoningDelta):
            if not self._thinking:
                self.line("thinking")
            self._thinking = True
            self._put(event.text)
        elif isinstance(event, TextDelta):
            self._thinking = False
            self.line("answer")
            self._put(event.text)
        elif isinstance(event, ToolCallDelta):
            arguments = json.dumps(dict(event.call.arguments), ensure_ascii=False)
            self.line(f"asks for tool {event.call.name}({arguments}); it was not run")
        elif not isinstance(event, Opened):
            self._end(event)

    def _phase(self, phase: Phase) -> None:
        if phase.name in self._told or (phase.seconds or 0.0) < _SHOWN_AFTER_S:
            return
        self._told.add(phase.name)
        facts = [format_seconds(phase.seconds)]
        if phase.bytes is not None:
            facts.append(format_bytes(phase.bytes))
        self.line(f"{phase.name}: {', '.join([*facts, phase.detail][: 2 + bool(phase.detail)])}")

    def _end(self, event: Failed | Finished) -> None:
        if isinstance(event, Failed):
            self.line(f"{type(event.error).__name__}: {event.error}")
        elif event.stop_reason not in ("stop", "tool_calls"):
            reason = "reached its length limit" if event.stop_reason == "length" else None
            self.line(reason or event.stop_reason)
        elif not self._at_line_start:
            self._write("\n")
            self._at_line_start = True
