"""The views of a widget: each is sent the whole picture once, and then what changed, numbered.

The other side is `frontend/src/models/store.js`.  Everything runs on the portal's loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

PROTOCOL = 1
# Changes of one moment share a message.
SEND_S = 0.25
# A view beats every 5 s; while a cell keeps an old kernel busy nothing is heard for longer.
VIEW_GONE_S = 60.0
# A beat that was on its way while a change was sent names the number before.
BEAT_GRACE_S = 2.0

Picture = dict[str, Any]


class Audience:
    """Knows who looks, and tells them.

    Args:
        loop: The portal's.
        picture: Returns what is known, as JSON values, given the picture before; `rows` is a
            mapping whose entries are sent one by one, everything else is sent as a part.
        difference: Returns what changed from one picture to the next.
        send: Sends a message to every view.
        came: Called when the first view comes.
        left: Called when the last one has gone.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        picture: Callable[[Picture | None], Picture],
        send: Callable[[dict[str, Any]], None],
        came: Callable[[], None],
        left: Callable[[], None],
        difference: Callable[[Picture, Picture], dict[str, Any]] | None = None,
    ) -> None:
        self._loop = loop
        self._picture, self._send_message = picture, send
        self._came, self._left = came, left
        self._difference = difference or changes_of
        self._views: dict[str, float] = {}
        self._sent: Picture | None = None
        self._number = 0
        self._sent_at = 0.0
        self._sending: asyncio.TimerHandle | None = None
        self._looking: asyncio.TimerHandle | None = None

    @property
    def is_there(self) -> bool:
        """Whether anybody looks."""
        return bool(self._views)

    def take(self, message: Mapping[str, Any]) -> str:
        """Take a message of a view; returns its kind when it is no matter of the audience."""
        kind, view = str(message.get("t", "")), str(message.get("view", ""))
        if kind == "bye":
            self._views.pop(view, None)
            if not self._views:
                self.forget()
            return ""
        self._seen(view)
        if kind in ("hello", "sync"):
            self._send_whole()
        elif kind == "beat":
            late = time.monotonic() - self._sent_at > BEAT_GRACE_S
            if late and message.get("n") != self._number:
                self._send_whole()
        else:
            return kind
        return ""

    def changed(self) -> None:
        """Tell the views soon; nothing is sent when nothing changed, or nobody looks."""
        if self._views and self._sent is not None and self._sending is None:
            wait_s = max(0.0, self._sent_at + SEND_S - time.monotonic())
            self._sending = self._loop.call_later(wait_s, self._send_difference)

    def forget(self) -> None:
        """Take everybody as gone."""
        self._views.clear()
        self._sent = None
        for timer in (self._looking, self._sending):
            if timer is not None:
                timer.cancel()
        self._looking = self._sending = None
        self._left()

    def _seen(self, view: str) -> None:
        first = not self._views
        self._views[view] = time.monotonic()
        if self._looking is None:
            self._looking = self._loop.call_later(VIEW_GONE_S / 4, self._look)
        if first:
            self._came()

    def _look(self) -> None:
        """Forget views that gave no sign of life."""
        self._looking = None
        old = time.monotonic() - VIEW_GONE_S
        self._views = {view: at for view, at in self._views.items() if at > old}
        if self._views:
            self._looking = self._loop.call_later(VIEW_GONE_S / 4, self._look)
        else:
            self.forget()

    def _send_difference(self) -> None:
        self._sending = None
        if self._sent is None or not self._views:
            return
        new = self._picture(self._sent)
        changes = self._difference(self._sent, new)
        if changes:
            self._sent = new
            self._number += 1
            self._send({"t": "d", "n": self._number, **changes})

    def _send_whole(self) -> None:
        # What was not sent yet is in it; other views count it as the next number too.
        self._sent = self._picture(self._sent)
        self._number += 1
        shown = {**self._sent, "now": time.time()}
        self._send({"t": "state", "v": PROTOCOL, "n": self._number, "s": shown})

    def _send(self, content: dict[str, Any]) -> None:
        self._sent_at = time.monotonic()
        self._send_message(content)


def changes_of(old: Picture, new: Picture) -> dict[str, Any]:
    """Return what changed: `rows` by their keys, and every other part whole; empty for nothing."""
    changes: dict[str, Any] = {}
    rows = {key: row for key, row in new["rows"].items() if old["rows"].get(key) != row}
    rows |= {key: None for key in old["rows"] if key not in new["rows"]}
    if rows:
        changes["rows"] = rows
    parts = {k: v for k, v in new.items() if k != "rows" and (k not in old or old[k] != v)}
    if parts:
        changes["set"] = parts
    return changes
