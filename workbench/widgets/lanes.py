"""What panels with several models share: one frame for all answers on their way, and what is kept.

Everything runs on the portal's loop.  The other side is `frontend/src/lanes`, on the protocol of
the chat.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from workbench.chat.dialogue_values import LaneState
from workbench.errors import WorkbenchError
from workbench.messages import ReasoningDelta, StreamEvent, TextDelta, ToolCallDelta
from workbench.portal import Portal
from workbench.widgets.comm import Chores
from workbench.widgets.frames import LiveAnswer, Pacer
from workbench.widgets.snapshot import Pictures

PROTOCOL = 1
COLOURS = 6
"""So many lanes have a colour of their own."""

# Figures that change more often than this nobody reads.
STATUS_S = 0.25
# A step in which several begin changes the picture many times.
STATE_S = 0.1
KEEP_S = 0.3
KEEP_AFTER_HELLO_S = 2.0
KEEP_AGAIN_S = 3.0
KEEP_TRIES = 5

Send = Callable[[Mapping[str, Any], Sequence[bytes]], None]
Action = Callable[[dict[str, Any], bytes], Coroutine[Any, Any, None]]


class LaneViews:
    """Tells the views of a panel of answers that arrive at the same time.

    All that is new of all lanes goes into one frame, paced by what the views acknowledge.

    Args:
        portal: Whose loop everything runs on.
        picture: Returns what a view draws, as JSON values, with `conv` and `turns` as the chat's;
            a turn on its way has `reason` null and a `phase`.
        send: Sends a message to every view.
        static: Returns the transcript as a mime bundle, for the notebook's output to keep; empty
            when there is nothing to keep.
        came: Called when a view comes, before it is told anything.

    Attributes:
        pacer: Who looks, and how fast they may be told.
        live: Answers on their way, by the id of their turn.
        in_lab: Whether a view said that it stands in JupyterLab with our extension.
    """

    def __init__(
        self,
        portal: Portal,
        *,
        picture: Callable[[], dict[str, Any]],
        send: Send,
        static: Callable[[], dict[str, Any]],
        came: Callable[[], None] = lambda: None,
    ) -> None:
        self._portal = portal
        self._picture, self._send, self._static, self._came = picture, send, static, came
        self._pictures = Pictures()
        self.pacer = Pacer()
        self.live: dict[str, LiveAnswer] = {}
        self.in_lab = False
        self._statuses: dict[str, dict[str, Any]] = {}
        self._told: dict[str, tuple[str, float]] = {}
        self._frame: asyncio.TimerHandle | None = None
        self._last_frame = 0.0
        self._state: asyncio.TimerHandle | None = None
        self._last_state = 0.0
        self._kept = ""
        self._keeping: asyncio.TimerHandle | None = None
        self._chores = Chores(portal, "a panel", lambda text: self.notice("error", text))

    # --- from a view

    def take(self, message: Mapping[str, Any]) -> bool:
        """Take a message of a view; says whether it was one of the protocol's own."""
        kind, view, now = str(message.get("t", "")), str(message.get("view", "")), time.monotonic()
        if kind in ("hello", "sync", "beat"):
            self.pacer.seen(view, now)
        if kind == "hello":
            self.in_lab = self.in_lab or bool(message.get("lab"))
            self._came()
            self.keep_soon(KEEP_AFTER_HELLO_S)
        if kind in ("hello", "sync"):
            self.send_state(whole=True)
        elif kind == "kept":
            self._kept = str(message.get("digest", ""))
        elif kind == "ack":
            self.pacer.ack(int(message.get("n", 0)), now)
        elif kind == "bye":
            self.pacer.left(view)
        else:
            return kind == "beat"
        return True

    def act(self, actions: Mapping[str, Action], message: dict[str, Any], data: bytes) -> None:
        """Do what a person asked for; what goes wrong is shown as a notice."""
        kind = str(message.get("t", ""))
        action = actions.get(kind)
        if action is None:
            self.notice("warn", f"the view sent a message nobody knows: {kind!r}.")
        else:
            self.spawn(self._acted(action, message, data))

    async def _acted(self, action: Action, message: dict[str, Any], data: bytes) -> None:
        try:
            await action(message, data)
        except WorkbenchError as exc:
            self.notice("error", exc.message, hint=exc.hint)
            self.changed()
        except (KeyError, TypeError, ValueError) as exc:
            self.notice("error", f"the view sent a message that is not whole: {exc!r}.")

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine on the portal; an error nobody expected is logged and shown."""
        self._chores.spawn(work)

    async def settled(self) -> None:
        """Wait until nothing that was begun for a view is left to do."""
        await self._chores.settled()

    # --- answers on their way

    def begin(self, mid: str, *, text: str = "", thinking: str = "") -> None:
        """Begin an answer, or take up one that is on its way.

        Args:
            mid: Id of its turn.
            text: What came of it before.
            thinking: The same of its thinking.
        """
        if mid in self.live:
            return
        if not self.live:
            self.pacer.begin(time.monotonic())
        answer = self.live[mid] = LiveAnswer(mid)
        if text:
            answer.channels["text"].add(text)
        if thinking:
            answer.channels["think"].add(thinking)

    def feed(
        self, mid: str, events: Sequence[StreamEvent], status: Mapping[str, Any] | None = None
    ) -> None:
        """Take what arrived of an answer.

        Args:
            mid: Id of its turn; one that was not begun is left alone.
            events: In order.
            status: What its model does now; see `lane_status`.
        """
        answer = self.live.get(mid)
        if answer is None:
            return
        for event in events:
            if isinstance(event, TextDelta):
                answer.channels["text"].add(event.text)
            elif isinstance(event, ReasoningDelta):
                answer.channels["think"].add(event.text)
            elif isinstance(event, ToolCallDelta):
                answer.channels["tool"].add(event.call.name + "\n")
        if status is not None:
            self.status(mid, status)
        self._frame_due()

    def status(self, mid: str, status: Mapping[str, Any]) -> None:
        """Set what the model of an answer does now."""
        if mid in self.live:
            self._statuses[mid] = {"mid": mid, "est": True, **status}
            self._frame_due()

    def end(self, mid: str) -> None:
        """End an answer; its last words need not wait for the next picture."""
        if mid not in self.live:
            return
        if self._frame is not None and self._state is None:
            self._frame.cancel()
            self._send_frame()
        del self.live[mid]
        self._statuses.pop(mid, None)
        self._told.pop(mid, None)

    def end_all(self) -> None:
        """Forget every answer: something else is shown."""
        for mid in list(self.live):
            self.end(mid)

    def status_of(self, mid: str) -> dict[str, Any] | None:
        """Return what the model of an answer was last said to do."""
        return self._statuses.get(mid)

    # --- to the views

    def _frame_due(self) -> None:
        if self._frame is not None or not self.pacer.has_views:
            return
        wait_s = max(0.0, self._last_frame + self.pacer.interval_s - time.monotonic())
        self._frame = self._portal.loop.call_later(wait_s, self._send_frame)

    def _send_frame(self) -> None:
        self._frame = None
        if self._state is not None:
            # A view knows nothing yet of an answer that began a moment ago.
            self.send_state()
        now = time.monotonic()
        self.pacer.drop_silent(now)
        if not self.live or not self.pacer.has_views:
            return
        self._last_frame = now
        pieces = [piece for answer in self.live.values() for piece in answer.pieces()]
        frame: dict[str, Any] = {"t": "f", "n": self.pacer.next_frame(now), "p": pieces}
        statuses = [self._tell(mid, status, now) for mid, status in self._statuses.items()]
        if found := [status for status in statuses if status is not None]:
            frame["s"] = found
        self._send(frame, ())

    def _tell(self, mid: str, status: dict[str, Any], now: float) -> dict[str, Any] | None:
        phase, at = self._told.get(mid, ("", 0.0))
        if phase == status.get("phase") and now - at < STATUS_S:
            return None
        self._told[mid] = (str(status.get("phase")), now)
        return status

    def changed(self) -> None:
        """Send the picture soon; changes of one moment share one message."""
        if self._state is None and self.pacer.has_views:
            wait_s = max(0.0, self._last_state + STATE_S - time.monotonic())
            self._state = self._portal.loop.call_later(wait_s, self.send_state)

    def send_state(self, *, whole: bool = False) -> None:
        """Send the picture now, when somebody is there to see it: what changed, or the whole."""
        if self._state is not None:
            self._state.cancel()
            self._state = None
        if not self.pacer.has_views:
            return
        self._last_state = time.monotonic()
        make = self._pictures.whole if whole else self._pictures.next
        picture = make(self._picture(), self.live)
        if picture["base"] is None:
            for answer in self.live.values():
                answer.all_sent()
        self._send({"t": "state", "v": PROTOCOL, "n": self.pacer.number, **picture}, ())

    def notice(self, level: str, text: str, *, hint: str | None = None) -> None:
        """Show a line above the transcript."""
        self._send({"t": "notice", "level": level, "text": text, "hint": hint}, ())

    # --- what the notebook keeps

    def keep_soon(self, wait_s: float = KEEP_S, *, tries: int = KEEP_TRIES) -> None:
        """Give the transcript to the output in the notebook; where our extension is not, do not.

        A notebook loses messages, so it is given again until a view says that it has it.
        """
        if self._keeping is not None:
            self._keeping.cancel()
        self._keeping = None
        if self.in_lab and not self.live and self.pacer.has_views and tries > 0:
            keep = lambda: self.spawn(self._keep(tries))  # noqa: E731
            self._keeping = self._portal.loop.call_later(wait_s, keep)

    async def _keep(self, tries: int) -> None:
        bundle = await asyncio.to_thread(self._static)
        if not bundle:
            return
        digest = hashlib.sha256(bundle["text/html"].encode()).hexdigest()[:16]
        if digest == self._kept:
            return
        self._send({"t": "keep", "digest": digest, "data": bundle}, ())
        self.keep_soon(KEEP_AGAIN_S, tries=tries - 1)


def lane_status(lane: LaneState) -> dict[str, Any]:
    """Return what a model does as a view draws it: seconds, bytes, tokens, tokens per second."""
    return {
        "phase": lane.phase,
        "sec": lane.seconds if lane.tokens is None else None,
        "bytes": lane.bytes,
        "detail": lane.detail,
        "tok": lane.tokens,
        "tps": lane.tokens_per_s,
        "ttft": lane.ttft_s,
    }
