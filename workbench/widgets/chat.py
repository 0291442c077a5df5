"""`ChatPanel`: a conversation drawn in the notebook, live, on the protocol of version 1.

What the panel knows is touched on the portal's loop only.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

import anywidget
import traitlets

from workbench.chat.session import ChatSession
from workbench.chat.transcript import Node, Record
from workbench.client.values import ModelInfo
from workbench.errors import WorkbenchError
from workbench.messages import (
    Phase,
    ReasoningDelta,
    StreamEvent,
    TextDelta,
    ToolCallDelta,
)
from workbench.portal import get_portal
from workbench.widgets import actions
from workbench.widgets.attachments import Attachment
from workbench.widgets.comm import Chores, connect_view, live_bundle
from workbench.widgets.frames import LiveAnswer, Pacer
from workbench.widgets.headless import (
    is_headless,
    kernel_version,
    stop_works_while_busy,
)
from workbench.widgets.snapshot import (
    EXAMPLES,
    Pictures,
    context_limits,
    model_rows,
    turns_of,
)
from workbench.widgets.static_html import transcript_html, transcript_text

PROTOCOL = 1
MIME = "application/vnd.workbench.chat+json"

# Figures that change more often than this nobody reads, and they are a third of a frame.
STATUS_S = 0.2

KEEP_S = 0.3
KEEP_AFTER_HELLO_S = 2.0
KEEP_AGAIN_S = 3.0
KEEP_TRIES = 5


class ChatView(anywidget.AnyWidget):
    """The widget of a `ChatPanel`; it only carries messages.

    Attributes:
        conversation: Id of the conversation that is shown; saved with the widget (str).
    """

    _esm = actions.STATIC / "chat.js"
    _css = actions.STATIC / "chat.css"

    conversation = traitlets.Unicode("").tag(sync=True)


class ChatPanel:
    """A chat; `wb.chat_panel()` makes one, and a `ChatSession` displayed bare shows one.

    Where nobody can look (papermill, nbclient, nbval) it is displayed as a static transcript, and
    no widget is made.

    Args:
        session: The conversation; the same object can be asked from cells meanwhile.

    Attributes:
        session: The conversation that is shown; another one may be opened in the panel.
        in_lab: Whether a view said that it stands in JupyterLab with our extension.
    """

    def __init__(self, session: ChatSession) -> None:
        self.session = session
        self._view: ChatView | None = None
        self.pacer = Pacer()
        self._pictures = Pictures()
        self.live: LiveAnswer | None = None
        self.attachments: list[Attachment] = []
        self.models: Sequence[ModelInfo] = ()
        self.default: Mapping[str, Any] | None = None
        self.in_lab = False
        # An answer may go on in a conversation that is no longer shown.
        self._shown: dict[str, ChatSession] = {}
        self._kept = ""
        self._keeping: asyncio.TimerHandle | None = None
        self._status: dict[str, Any] = {}
        self._frame: asyncio.TimerHandle | None = None
        self._state_due = False
        self._last_frame = 0.0
        self._told = ("", 0.0)
        self._portal = get_portal()
        self._chores = Chores(
            self._portal, "the chat panel", lambda text: self.notice("error", text)
        )
        self._watch(session)

    # --- where it is shown

    @property
    def widget(self) -> ChatView:
        """The widget, made when it is first asked for; put it into layouts of ipywidgets."""
        if self._view is None:
            self._view = ChatView(conversation=self.session.id)
            connect_view(self._view, self._handle, self._portal)
        return self._view

    def send(self, content: Mapping[str, Any], buffers: Sequence[bytes] = ()) -> None:
        """Send a message to every view; nothing is sent where there is no widget."""
        if self._view is not None:
            self._view.send(dict(content), list(buffers))

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        if is_headless():
            return self.static_bundle()
        saved = {MIME: {"v": PROTOCOL, "conversation": self.session.id}}
        return live_bundle(self.widget, self.static_bundle(), saved, **kwargs)

    def static_bundle(self) -> dict[str, Any]:
        """Return the transcript as a mime bundle without a widget: safe HTML and plain text."""
        return static_bundle(self.session.title, self.session.transcript.path())

    # --- from the view

    def _handle(self, message: dict[str, Any], data: bytes) -> None:
        kind = str(message.get("t", ""))
        now = time.monotonic()
        if kind in ("hello", "sync", "beat"):
            self.pacer.seen(str(message.get("view", "")), now)
        if kind == "hello":
            self._join_live()
            self.in_lab = self.in_lab or bool(message.get("lab"))
            self.spawn(self.refresh_models())
            self._keep_soon(KEEP_AFTER_HELLO_S)
        if kind in ("hello", "sync"):
            self.send_state(whole=True)
        elif kind == "kept":
            self._kept = str(message.get("digest", ""))
        elif kind == "ack":
            self.pacer.ack(int(message.get("n", 0)), now)
        elif kind == "bye":
            self.pacer.left(str(message.get("view", "")))
        elif kind in actions.ACTIONS:
            self.spawn(self._act(actions.ACTIONS[kind], message, data))
        elif kind != "beat":
            self.notice("warn", f"the view sent a message nobody knows: {kind!r}.")

    async def _act(self, action: actions.Action, message: dict[str, Any], data: bytes) -> None:
        try:
            await action(self, message, data)
        except WorkbenchError as exc:
            self.notice("error", exc.message, hint=exc.hint)
            self.state_changed()
        except (KeyError, TypeError, ValueError) as exc:
            self.notice("error", f"the view sent a message that is not whole: {exc!r}.")

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine on the portal; an error nobody expected is logged and shown."""
        self._chores.spawn(work)

    # --- from the conversation

    def _observe(self, record: Record | None, events: Sequence[StreamEvent]) -> None:
        call: Callable[[], None]
        if record is not None:
            if record["op"] == "delta":
                return
            kept = record
            call = lambda: self._changed(kept)  # noqa: E731
        else:
            batch = list(events)
            call = lambda: self._arrived(batch)  # noqa: E731
        if self._portal.here:
            call()
        else:
            with contextlib.suppress(RuntimeError):
                self._portal.loop.call_soon_threadsafe(call)

    def _changed(self, record: Record) -> None:
        if record["op"] == "node" and (record.get("facts") or {}).get("stop_reason", "") is None:
            self._begin_live(record["id"])
        elif record["op"] == "end" and self.live is not None and self.live.mid == record["id"]:
            if self._frame is not None:
                # The last words need not wait for the picture of the whole conversation.
                self._frame.cancel()
                self._send_frame()
            self.live = None
            self.spawn(self.refresh_models())
        self.state_changed()
        self._keep_soon(KEEP_S)

    def _begin_live(self, mid: str) -> None:
        self.live = LiveAnswer(mid)
        self._status = {"phase": "queued", "tok": None, "tps": None, "ttft": None}
        self._began = self._first = time.monotonic()
        self.pacer.begin(self._began)

    def _join_live(self) -> None:
        """Take up an answer that was on its way before this panel looked at its conversation."""
        job = self.session.job
        if job is None or (self.live is not None and self.live.mid == job.node_id):
            return
        self._begin_live(job.node_id)
        assert self.live is not None
        self.live.channels["text"].add(job.builder.text)
        self.live.channels["think"].add(job.builder.thinking)

    def _arrived(self, events: Sequence[StreamEvent]) -> None:
        live = self.live
        if live is None:
            return
        now = time.monotonic()
        for event in events:
            if isinstance(event, TextDelta):
                live.channels["text"].add(event.text)
                self._token("writing", now)
            elif isinstance(event, ReasoningDelta):
                live.channels["think"].add(event.text)
                self._token("thinking", now)
            elif isinstance(event, ToolCallDelta):
                live.channels["tool"].add(event.call.name + "\n")
                self._token("writing", now)
            elif isinstance(event, Phase):
                self._status.update(
                    phase=event.name, sec=event.seconds, bytes=event.bytes, detail=event.detail
                )
        self._frame_due(now)

    def _token(self, phase: str, now: float) -> None:
        status = self._status
        if status["tok"] is None:
            self._first = now
            status.update(tok=0, ttft=now - self._began, sec=None, bytes=None, detail="")
            # The model is in memory now, and others may have left it.
            self.spawn(self.refresh_models())
        status["tok"] += 1
        elapsed = now - self._first
        status["phase"] = phase
        status["tps"] = status["tok"] / elapsed if elapsed > 0.2 else None

    # --- to the view

    def _frame_due(self, now: float) -> None:
        if self._frame is not None or not self.pacer.has_views:
            return
        wait = max(0.0, self._last_frame + self.pacer.interval_s - now)
        self._frame = self._portal.loop.call_later(wait, self._send_frame)

    def _send_frame(self) -> None:
        self._frame = None
        live, now = self.live, time.monotonic()
        self.pacer.drop_silent(now)
        if live is None or not self.pacer.has_views:
            return
        self._last_frame = now
        frame = {"t": "f", "n": self.pacer.next_frame(now), "p": live.pieces()}
        told_phase, told_at = self._told
        if not frame["p"] or told_phase != self._status["phase"] or now - told_at >= STATUS_S:
            self._told = (self._status["phase"], now)
            frame["s"] = {"mid": live.mid, "est": True, **self._status}
        self.send(frame)

    def state_changed(self) -> None:
        """Send the picture soon; changes of one moment share one message."""
        if not self._state_due and self.pacer.has_views:
            self._state_due = True
            self._portal.loop.call_soon(self._send_due_state)

    def _send_due_state(self) -> None:
        self._state_due = False
        self.send_state()

    def send_state(self, *, whole: bool = False) -> None:
        """Send the picture now, when somebody is there to see it: what changed, or the whole."""
        if not self.pacer.has_views:
            return
        live = () if self.live is None else (self.live.mid,)
        picture = (self._pictures.whole if whole else self._pictures.next)(self.state(), live)
        if picture["base"] is None and self.live is not None:
            self.live.all_sent()
        self.send({"t": "state", "v": PROTOCOL, "n": self.pacer.number, **picture})

    # --- what the notebook keeps

    def _keep_soon(self, wait_s: float, *, tries: int = KEEP_TRIES) -> None:
        """Give the transcript to the output in the notebook; where our extension is not, do not.

        An answer on its way is given when it ends.  A notebook loses messages, so it is given
        again until the view says that it has it.
        """
        if self._keeping is not None:
            self._keeping.cancel()
        self._keeping = None
        if self.in_lab and self.live is None and self.pacer.has_views and tries > 0:
            keep = lambda: self.spawn(self._keep(tries))  # noqa: E731
            self._keeping = self._portal.loop.call_later(wait_s, keep)

    async def _keep(self, tries: int) -> None:
        title, path = self.session.title, self.session.transcript.path()
        bundle = await asyncio.to_thread(static_bundle, title, path)
        digest = hashlib.sha256(bundle["text/html"].encode()).hexdigest()[:16]
        if not path or digest == self._kept:
            return
        self.send({"t": "keep", "digest": digest, "data": bundle})
        self._keep_soon(KEEP_AGAIN_S, tries=tries - 1)

    def notice(self, level: str, text: str, *, hint: str | None = None) -> None:
        """Show a line above the conversation."""
        self.send({"t": "notice", "level": level, "text": text, "hint": hint})

    def state(self) -> dict[str, Any]:
        """Return what the view draws, as JSON values."""
        session = self.session
        rows = model_rows(self.models)
        chosen = self._chosen(rows)
        live = self.live
        return {
            "conv": {
                "cid": session.id,
                "title": session.title,
                "saved": not session.warnings,
                "read_only": session.read_only,
            },
            "turns": turns_of(session, live),
            "busy": None if live is None else {"mid": live.mid, "since": time.time()},
            "status": None if live is None else {"mid": live.mid, "est": True, **self._status},
            "model": chosen,
            "models": rows,
            "system": session.system or "",
            "params": session.options,
            "think": session.think,
            "presets": actions.preset_rows(self),
            "preset": (session.preset or {}).get("name"),
            "attachments": actions.attachment_rows(self),
            "limits": context_limits(session, chosen),
            "examples": list(EXAMPLES),
            "env": {
                "kernel": kernel_version(),
                "stop_while_busy": self.in_lab or stop_works_while_busy(),
                "insert": self.in_lab,
                "comm_id": control_channel_id(self._view),
            },
        }

    def _chosen(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
        name, reason = self.session.model, "chosen"
        if name is None and self.default is not None:
            name, reason = self.default["name"], self.default["reason"]
        if name is None:
            return None
        plain = name.removesuffix(":latest")
        row = next((row for row in rows if plain in (row["name"], f"{row['name']}")), None)
        row = row or next((row for row in rows if plain.partition("@")[0] == row["name"]), None)
        if row is None:
            return {"name": plain, "state": "unknown", "toy": False, "reason": reason}
        return {**row, "reason": reason}

    async def refresh_models(self) -> None:
        """Ask the server for its models; when it cannot be reached the old list stays."""
        client = self.session.client
        try:
            self.models = await client.models()
            default = await client.default_model()
            self.default = {
                "name": f"{default.model.removesuffix(':latest')}",
                "reason": default.reason,
            }
        except WorkbenchError as exc:
            self.notice("warn", exc.message, hint=exc.hint)
        self.state_changed()

    def show_session(self, session: ChatSession) -> None:
        """Show another conversation in this panel; an answer that runs goes on behind it."""
        self.session.unobserve(self._observe)
        self.session, self.live = session, None
        self.attachments.clear()
        self._watch(session)
        self._join_live()
        if self._view is not None:
            self._view.conversation = session.id
        self.state_changed()

    def _watch(self, session: ChatSession) -> None:
        session.observe(self._observe)
        self._shown[session.id] = session

    def close(self) -> None:
        """Take the view away; the conversation stays."""
        self.session.unobserve(self._observe)
        if self._view is not None:
            self._view.close()
            self._view = None


def control_channel_id(view: ChatView | None) -> str | None:
    """Return the id under which the control channel takes a Stop, where that is needed."""
    return None if view is None or stop_works_while_busy() else str(view.model_id)


def static_bundle(title: str, path: Sequence[Node]) -> dict[str, Any]:
    """Return messages as a mime bundle without a widget: safe HTML and plain text."""
    return {"text/html": transcript_html(title, path), "text/plain": transcript_text(path)}
