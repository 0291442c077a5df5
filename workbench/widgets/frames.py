"""What a chat view is sent while an answer arrives: frames of new text, paced and resumable.

A notebook loses messages without a word (ZeroMQ's high-water mark, Jupyter Server's rate limit), so
each frame has a number and each piece of text its offset: a view that misses one notices and asks
for the whole.  Pure values: no thread, no clock, no widget.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Channel = Literal["text", "think", "tool"]

FRAME_S = 1 / 20
"""Shortest time between two frames, in seconds.

Each costs about 600 bytes of headers.  A page that streams gets ten more messages a second from the
kernel, for its acknowledgements, and is to stay below 40 in all.
"""

SLOWEST_FRAME_S = 1.0
UNACKED_FRAMES = 20
ACK_LATE_S = 1.0
VIEW_GONE_S = 10.0


def utf16_length(text: str) -> int:
    """Return how long JavaScript finds a text: characters beyond U+FFFF count two."""
    return len(text) + sum(1 for character in text if character > "\uffff")


@dataclass
class LiveText:
    """One text that grows; knows how much of it was sent.

    Attributes:
        units: Its length in UTF-16 units.
        sent_units: How much of that is in frames.
    """

    parts: list[str] = field(default_factory=list)
    units: int = 0
    sent_units: int = 0
    _unsent: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The whole text."""
        if len(self.parts) > 1:
            self.parts[:] = ["".join(self.parts)]
        return self.parts[0] if self.parts else ""

    def add(self, piece: str) -> None:
        """Let it grow."""
        self.parts.append(piece)
        self._unsent.append(piece)
        self.units += utf16_length(piece)

    def take(self) -> tuple[int, str] | None:
        """Return what is not in a frame yet, as (offset, text), and count it as sent."""
        if not self._unsent:
            return None
        offset, piece = self.sent_units, "".join(self._unsent)
        self._unsent.clear()
        self.sent_units = self.units
        return offset, piece

    def all_sent(self) -> None:
        """Count everything as sent: a whole state carries it."""
        self._unsent.clear()
        self.sent_units = self.units


@dataclass
class LiveAnswer:
    """An answer on its way: its texts by channel."""

    mid: str
    channels: dict[Channel, LiveText] = field(
        default_factory=lambda: {"text": LiveText(), "think": LiveText(), "tool": LiveText()}
    )

    def pieces(self) -> list[list[Any]]:
        """Return what is new as `[mid, channel, offset, text]`, and count it as sent."""
        found = []
        for channel, live in self.channels.items():
            new = live.take()
            if new is not None:
                found.append([self.mid, channel, *new])
        return found

    def all_sent(self) -> None:
        """Count everything as sent."""
        for live in self.channels.values():
            live.all_sent()


@dataclass
class Pacer:
    """How often frames are sent, and whether anybody is there to see them.

    Frames begin at 20 a second.  A view that does not acknowledge in time makes them rarer, down
    to one a second; the answer itself is never slowed.  All times are monotonic seconds.
    """

    interval_s: float = FRAME_S
    number: int = 0
    acked: int = 0
    _acked_at: float = 0.0
    _views: dict[str, float] = field(default_factory=dict)

    @property
    def has_views(self) -> bool:
        """Whether a view is attached."""
        return bool(self._views)

    def seen(self, view: str, now: float) -> None:
        """Note that a view is there."""
        if not self._views:
            self._acked_at = now
            self.acked = self.number
        self._views[view] = now

    def left(self, view: str) -> None:
        """Note that a view was closed."""
        self._views.pop(view, None)

    def drop_silent(self, now: float) -> None:
        """Forget views that gave no sign of life while an answer was arriving."""
        for view, at in list(self._views.items()):
            if now - at > VIEW_GONE_S:
                del self._views[view]

    def ack(self, number: int, now: float) -> None:
        """Take an acknowledgement; the fastest view sets the pace."""
        self.acked = max(self.acked, min(number, self.number))
        self._acked_at = now
        for view in self._views:
            self._views[view] = now

    def begin(self, now: float) -> None:
        """Begin an answer at full pace."""
        self.interval_s = FRAME_S
        self._acked_at = now
        self.acked = self.number
        for view in self._views:
            self._views[view] = now

    def next_frame(self, now: float) -> int:
        """Count one frame and choose the time to the next one; returns its number."""
        behind = self.number - self.acked
        late = behind > 0 and now - self._acked_at > ACK_LATE_S
        if behind > UNACKED_FRAMES or late:
            self.interval_s = min(self.interval_s * 2, SLOWEST_FRAME_S)
        else:
            self.interval_s = max(self.interval_s / 2, FRAME_S)
        self.number += 1
        return self.number
