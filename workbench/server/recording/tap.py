"""Reads an answer as it passes by: whether it was whole, what it said, and how fast it came."""

from __future__ import annotations

import time
from array import array
from collections.abc import Mapping
from typing import Any, Literal

from workbench.errors import ProtocolError, WorkbenchError
from workbench.messages import Phase
from workbench.server.backends.base import Lines
from workbench.wire.ollama import Chunk, decode_chunk

Stage = Literal["connect", "queue", "load", "prefill", "stream", "parse"]

# Gaps between reads that are kept for percentiles; more would not move them.
_MOST_GAPS = 10_000


class Tap:
    """What is known of one request while it runs; all times are seconds of a steady clock.

    Args:
        keep_text: Whether the text is kept for the record.

    Attributes:
        stage: Where it is, and where it was when it failed.
        final: The last line of the answer; `None` until it came.
        error: What the answer's own error line said.
        failure: The error that ended it, of whatever kind.
        loads: Whether the model had to be loaded for it.
    """

    def __init__(self, *, keep_text: bool = False) -> None:
        self.started = time.monotonic()
        self.stage: Stage = "queue"
        self.final: Chunk | None = None
        self.error: object = None
        self.failure: WorkbenchError | None = None
        self.loads = False
        self.model: str | None = None
        self.ttft_s: float | None = None
        self.ttft_answer_s: float | None = None
        self.queue_s: float | None = None
        self.load_s: float | None = None
        self.n_chunks = 0
        self.gaps_s = array("f")
        self.text: list[str] = []
        self.thinking: list[str] = []
        self.calls: list[dict[str, object]] = []
        self._keep_text = keep_text
        self._loading_since: float | None = None
        self._last_read: float | None = None

    @property
    def done(self) -> bool:
        """Whether the last line came."""
        return self.final is not None

    @property
    def output_tokens(self) -> int | None:
        """Tokens of the answer as the backend counted them."""
        return None if self.final is None else self.final.eval_count

    def phase(self, phase: Phase) -> None:
        """Take what the request waits for."""
        if phase.name == "loading" and self._loading_since is None:
            self.loads, self.stage = True, "load"
            self._loading_since = time.monotonic()

    def admitted(self) -> None:
        """Say that the model is in memory and the request goes to its backend."""
        now = time.monotonic()
        loading = now if self._loading_since is None else self._loading_since
        self.queue_s, self.load_s = loading - self.started, now - loading
        self.stage = "connect"

    def connected(self) -> None:
        """Say that the backend took the request."""
        self.stage = "prefill"

    def read(self, lines: Lines) -> tuple[Lines, ProtocolError | None]:
        """Take lines of the answer.

        Returns:
            The lines that may be sent on, and what is wrong with the one after them: the text
            before a broken line reaches the client.
        """
        pieces = 0
        for number, line in enumerate(lines):
            try:
                chunk = decode_chunk(line)
            except ProtocolError as exc:
                self.stage = "parse"
                return lines[:number], exc
            pieces += self._take(chunk)
        if pieces:
            self._count(pieces)
        return lines, None

    def take_whole(self, body: Mapping[str, Any]) -> None:
        """Take the counts of an answer that came in one body, as vectors do."""
        self.final = Chunk(
            prompt_eval_count=body.get("prompt_eval_count"),
            total_duration=body.get("total_duration"),
            load_duration=body.get("load_duration"),
        )

    def _take(self, chunk: Chunk) -> bool:
        """Take one line; returns whether it held a piece of the answer."""
        text, thinking, calls = chunk.parts()
        if text or thinking or calls:
            if self.ttft_s is None:
                self.ttft_s = time.monotonic() - self.started
                self.model, self.stage = chunk.model, "stream"
            if self.ttft_answer_s is None and (text or calls):
                self.ttft_answer_s = time.monotonic() - self.started
            if self._keep_text:
                self.text.append(text)
                self.thinking.append(thinking)
                self.calls += [
                    {"name": call.function.name, "arguments": call.function.arguments}
                    for call in calls
                ]
        if chunk.done:
            self.final = chunk
        elif chunk.error is not None:
            self.error = chunk.error
        return bool(text or thinking or calls)

    def _count(self, pieces: int) -> None:
        """Count pieces; those of one read came together, so only reads have gaps between them."""
        now = time.monotonic()
        if self._last_read is not None and len(self.gaps_s) < _MOST_GAPS:
            self.gaps_s.append(now - self._last_read)
        self._last_read = now
        self.n_chunks += pieces

    def gap_s(self, share: float) -> float | None:
        """Return a quantile of the gaps between reads, as DuckDB's `quantile_cont` has it."""
        if not self.gaps_s:
            return None
        ordered = sorted(self.gaps_s)
        place = share * (len(ordered) - 1)
        low = int(place)
        high = min(low + 1, len(ordered) - 1)
        return ordered[low] + (place - low) * (ordered[high] - ordered[low])
