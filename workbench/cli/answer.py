"""Printing an answer in a terminal, and as a JSON document."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workbench.chat.show import PlainText
from workbench.cli.base import say
from workbench.errors import WorkbenchError
from workbench.messages import (
    Failed,
    Finished,
    Phase,
    ReasoningDelta,
    StreamEvent,
    TextDelta,
    ToolCallDelta,
)
from workbench.units import format_bytes, format_seconds

if TYPE_CHECKING:
    from workbench.chat.session import ChatSession

_SHOWN_AFTER_S = 1.0


@dataclass(frozen=True, slots=True)
class Ended:
    """How an answer ended."""

    interrupted: bool = False
    error: WorkbenchError | None = None


class AnswerPrinter:
    """Writes the answer to stdout and what is said about it to stderr.

    Args:
        silent: Write nothing.
    """

    def __init__(self, *, silent: bool = False) -> None:
        self._silent = silent
        self._answer = PlainText()
        self._thought = PlainText()
        self._thinking = False
        self._line_open = False
        self._told: set[str] = set()
        self.taken = 0

    def feed(self, event: StreamEvent) -> None:
        """Write what an event says."""
        if isinstance(event, TextDelta):
            self.taken += len(event.text)
            self._close_thinking()
            self._write(self._answer.feed(event.text))
        elif self._silent:
            return
        elif isinstance(event, ReasoningDelta):
            self._think(event.text)
        elif isinstance(event, ToolCallDelta):
            arguments = json.dumps(dict(event.call.arguments), ensure_ascii=False)
            self.note(f"asks for tool {event.call.name}({arguments}); it was not run")
        elif isinstance(event, Phase):
            self._phase(event)
        elif isinstance(event, Finished) and event.stop_reason not in ("stop", "tool_calls"):
            reached = "reached its length limit"
            self.note(reached if event.stop_reason == "length" else event.stop_reason)

    def note(self, text: str) -> None:
        """Tell something about the answer, on a line of its own."""
        if not self._silent:
            self.close()
            say(f"[{text}]")

    def close(self) -> None:
        """End an open line."""
        self._close_thinking()
        if self._line_open:
            self._write("\n")

    def _write(self, text: str) -> None:
        if text and not self._silent:
            sys.stdout.write(text)
            sys.stdout.flush()
            self._line_open = not text.endswith("\n")

    def _think(self, text: str) -> None:
        if not self._thinking:
            self.note("thinking")
            self._thinking = True
        sys.stderr.write(self._thought.feed(text))
        sys.stderr.flush()

    def _close_thinking(self) -> None:
        if self._thinking:
            self._thinking = False
            sys.stderr.write("\n[answer]\n")
            sys.stderr.flush()

    def _phase(self, phase: Phase) -> None:
        if phase.name == "reading prompt" and phase.detail:
            self.note(phase.detail)
            return
        if phase.name in self._told or (phase.seconds or 0.0) < _SHOWN_AFTER_S:
            return
        self._told.add(phase.name)
        size = "" if phase.bytes is None else f", {format_bytes(phase.bytes)}"
        self.note(f"{phase.name}: {format_seconds(phase.seconds)}{size}")


def print_answer(session: ChatSession, text: str, printer: AnswerPrinter) -> Ended:
    """Ask and print the answer as it comes; Ctrl-C stops it."""
    error: WorkbenchError | None = None
    interrupted = False
    try:
        for event in session.stream(text):
            printer.feed(event)
            if isinstance(event, Failed):
                error = event.error
    except KeyboardInterrupt:
        interrupted = True
        if session.last is not None and session.last.message.role == "assistant":
            # What had arrived while the last piece was being printed.
            printer.feed(TextDelta(session.last.message.content[printer.taken :]))
        printer.note("interrupted")
    printer.close()
    for warning in session.warnings:
        say(f"[{warning}]")
    return Ended(interrupted, error)


def document(session: ChatSession, ended: Ended) -> dict[str, Any]:
    """Return the answer with what was measured; seconds and tokens, unknown is null."""
    node = session.last
    assert node is not None and node.facts is not None
    message, facts = node.message, node.facts
    return {
        "model": facts.model,
        "digest": facts.digest,
        "text": message.content,
        "thinking": message.thinking,
        "tool_calls": [
            {"name": call.name, "arguments": dict(call.arguments), "id": call.id}
            for call in message.tool_calls
        ],
        "stop_reason": facts.stop_reason,
        "usage": {
            "input_tokens": facts.usage.input_tokens,
            "output_tokens": facts.usage.output_tokens,
        },
        "timings": {
            "ttft_s": facts.ttft_s,
            "load_s": facts.timings.load_s,
            "prompt_s": facts.timings.prompt_s,
            "eval_s": facts.timings.eval_s,
            "elapsed_s": facts.elapsed_s,
            "tokens_per_s": facts.tokens_per_s,
        },
        "request_id": facts.request_id,
        "error": None if ended.error is None else _error(ended.error),
    }


def _error(error: WorkbenchError) -> dict[str, Any]:
    kind = type(error).__name__
    return {"error": error.message, "type": kind, "hint": error.hint, **error.fields}
