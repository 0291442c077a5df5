"""The end of what an engine process printed, and the reason of a failure that is in it."""

from __future__ import annotations

import re
from collections import deque
from typing import Final

MAX_LINES: Final = 200
MAX_LINE_BYTES: Final = 2_000
MAX_REASONS: Final = 3

# "0.00.005.154 E read: string length 2 exceeds remaining file size 0 bytes"
_LOG_LINE = re.compile(r"(?:[\d.]+ )?(?P<level>[EWIDT]) +(?P<text>\S.*)")
_OTHER_ERROR = re.compile(
    r"GGML_ASSERT|GGML_ABORT|terminate called|what\(\):|^error\b|\w+(?:Error|Exception): "
    r"|out of memory|No module named|cannot execute|\.(?:c|h|cpp|cu|cuh|m):\d+: ",
    re.IGNORECASE,
)
# These say that it failed, in the words of each layer, and never why.
_EMPTY_WORDS = re.compile(
    r"failed to load model|exiting due to|common_fit_params|cleaning up|please check the input"
)
_SOURCE = re.compile(r"^(?:(?:srv|cmn|slot|que) +)?[\w:~<>() ]{2,48}?: +(?=\S)")


class StderrTail:
    """A ring of the last lines of a process."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=MAX_LINES)
        self._partial = b""

    def feed(self, data: bytes) -> None:
        """Take bytes as they come; a line is cut at `MAX_LINE_BYTES`."""
        *whole, rest = (self._partial + data).split(b"\n")
        self._partial = rest[:MAX_LINE_BYTES]
        for line in whole:
            self._lines.append(line[:MAX_LINE_BYTES].decode("utf-8", "replace").rstrip("\r"))

    def lines(self) -> list[str]:
        """Return the last lines, the oldest first."""
        rest = [self._partial.decode("utf-8", "replace")] if self._partial else []
        return [*self._lines, *rest][-MAX_LINES:]

    def reasons(self) -> list[str]:
        """Return the lines that say why something failed, each once, the oldest first."""
        found = dict.fromkeys(text for line in self.lines() if (text := _error_text(line)))
        return list(found)

    def first_reason(self) -> str | None:
        """Return why a load failed: the first errors are the cause, the later ones follow."""
        return "; ".join(self.reasons()[:MAX_REASONS]) or None

    def last_reason(self) -> str | None:
        """Return the last error: why a process that served before ended."""
        return next(reversed(self.reasons()), None)


def _error_text(line: str) -> str | None:
    match = _LOG_LINE.match(line)
    if match is not None and match["level"] != "E":
        return None
    text = match["text"] if match is not None else line.strip()
    if match is None and not _OTHER_ERROR.search(text):
        return None
    text = text.replace("error loading model: ", "")
    if _EMPTY_WORDS.search(text):
        # "failed to load model from <file>" has a cause only when something follows.
        return None
    return text if match is None else _SOURCE.sub("", text)
