"""`DialoguePanel`: models that talk to each other, drawn in the notebook while they do.

What the panel knows is touched on the portal's loop only.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from workbench.chat.dialogue import Dialogue
from workbench.chat.dialogue_values import DialogueEvent
from workbench.chat.staging import Staging
from workbench.client.api import WorkbenchClient
from workbench.client.values import ModelInfo
from workbench.errors import WorkbenchError
from workbench.portal import get_portal
from workbench.widgets.comm import connect_view, live_bundle
from workbench.widgets.dialogue_actions import STATIC, actions_of
from workbench.widgets.dialogue_draft import Draft, changed, draft_of, make, new_draft
from workbench.widgets.dialogue_picture import (
    lanes_of,
    people_of,
    plan_of,
    problem_wire,
    run_of,
    title,
    turns_of,
)
from workbench.widgets.headless import is_headless, kernel_version, stop_works_while_busy
from workbench.widgets.lanes import PROTOCOL, LaneViews, lane_status
from workbench.widgets.snapshot import model_rows
from workbench.widgets.static_lanes import dialogue_bundle

MIME = "application/vnd.workbench.chat+json"

_EMPTY = "(no dialogue yet)"

FORESEE_S = 0.4
"""A draft that is still being typed is not asked about."""


class DialogueView(anywidget.AnyWidget):
    """The widget of a `DialoguePanel`; it only carries messages.

    Attributes:
        dialogue: Id of the dialogue that is shown; saved with the widget (str).
    """

    _esm = STATIC / "dialogue.js"
    _css = STATIC / "dialogue.css"

    dialogue = traitlets.Unicode("").tag(sync=True)


class DialoguePanel:
    """A dialogue; `wb.dialogue_panel()` makes one, and a `Dialogue` displayed bare shows one.

    Without a dialogue it shows how one is set up, and begins it.  Where nobody can look (papermill,
    nbclient, nbval) it is displayed as a static transcript, and no widget is made.

    Args:
        client: The door to the server.
        dialogue: What is shown; cells may go on with the same object.
        data_dir: Where dialogues that are set up here are kept; `None` keeps them in memory only.

    Attributes:
        client: The door to the server.
        data_dir: The data folder, or `None`.
        dialogue: What is shown; another one after going back in it, or `None` during the set-up.
        draft: What is being set up.
        layout: `thread` or `lanes`.
        views: Who looks.
    """

    def __init__(
        self,
        client: WorkbenchClient,
        dialogue: Dialogue | None = None,
        *,
        data_dir: Path | None = None,
    ) -> None:
        self.client = client
        self.data_dir = data_dir
        self.dialogue: Dialogue | None = None
        self.draft: Draft = new_draft([])
        self.layout = "thread"
        self._drafted = False
        self._models: Sequence[ModelInfo] = ()
        self._problem: WorkbenchError | None = None
        self._foreseen = Staging()
        self._foreseeing: asyncio.TimerHandle | None = None
        self._asking = 0
        self._unobserve: Callable[[], None] = lambda: None
        self._view: DialogueView | None = None
        self._portal = get_portal()
        self.views = LaneViews(
            self._portal,
            picture=self.picture,
            send=self.send,
            static=self._kept_bundle,
            came=self._came,
        )
        self._actions = actions_of(self)
        if dialogue is not None:
            self._watch(dialogue)

    # --- where it is shown

    @property
    def widget(self) -> DialogueView:
        """The widget, made when it is first asked for; put it into layouts of ipywidgets."""
        if self._view is None:
            self._view = DialogueView(dialogue=self.dialogue.id if self.dialogue else "")
            connect_view(self._view, self._handle, self._portal)
        return self._view

    def send(self, content: Mapping[str, Any], buffers: Sequence[bytes] = ()) -> None:
        """Send a message to every view; nothing is sent where there is no widget."""
        if self._view is not None:
            self._view.send(dict(content), list(buffers))

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        if is_headless():
            return self.static_bundle()
        saved = {MIME: {"v": PROTOCOL, "dialogue": self.dialogue.id if self.dialogue else ""}}
        return live_bundle(self.widget, self.static_bundle(), saved, **kwargs)

    def static_bundle(self) -> dict[str, Any]:
        """Return the transcript as a mime bundle without a widget: safe HTML and plain text."""
        if self.dialogue is None:
            return {"text/html": f"<p>{_EMPTY}</p>", "text/plain": _EMPTY}
        return dialogue_bundle(self.dialogue)

    def _kept_bundle(self) -> dict[str, Any]:
        dialogue = self.dialogue
        return dialogue_bundle(dialogue) if dialogue is not None and dialogue.turns else {}

    # --- from the view

    def _handle(self, message: dict[str, Any], data: bytes) -> None:
        if not self.views.take(message):
            self.views.act(self._actions, message, data)

    def _came(self) -> None:
        self.views.spawn(self.refresh_models())
        dialogue = self.dialogue
        if dialogue is None or (dialogue.state == "ready" and not dialogue.read_only):
            self.foresee_soon(0.0)

    # --- from the dialogue

    def show(self, dialogue: Dialogue | None) -> None:
        """Show another dialogue, or how one is set up; one that runs goes on behind it."""
        self._unobserve()
        self._unobserve = lambda: None
        self.views.end_all()
        self._problem, self._foreseen = None, Staging()
        if dialogue is None:
            self.draft = self.draft if self.dialogue is None else draft_of(self.dialogue)
            self.dialogue, self._drafted = None, True
        else:
            self._watch(dialogue)
        if self._view is not None:
            self._view.dialogue = dialogue.id if dialogue is not None else ""
        self.foresee_soon(0.0)
        self.views.changed()

    def _watch(self, dialogue: Dialogue) -> None:
        self.dialogue = dialogue
        self._unobserve = dialogue.observe(self._observe)
        if not dialogue.done:
            for turn in dialogue.turns:
                if turn.status == "writing":
                    self.views.begin(turn.id, text=turn.text, thinking=turn.thinking)

    def _observe(self, event: DialogueEvent) -> None:
        dialogue, turn, views = self.dialogue, event.turn, self.views
        if dialogue is None:
            return
        if event.kind == "events" and turn is not None:
            status = lane_status(dialogue.lanes[turn.speaker])
            views.feed(turn.id, event.events, status)
            return
        if event.kind == "turn" and turn is not None:
            if turn.status == "writing":
                views.begin(turn.id)
            else:
                views.end(turn.id)
        if event.kind == "plan":
            self._problem = None
        if event.kind == "state" and dialogue.state in ("done", "failed"):
            views.spawn(self._ended(dialogue))
        views.changed()
        if event.kind in ("turn", "state"):
            views.keep_soon()

    async def _ended(self, dialogue: Dialogue) -> None:
        """Show what may be done now: what has ended gives its memory back first."""
        await dialogue.await_(on_error="return")
        self.views.changed()
        await self.refresh_models()

    # --- what is foreseen before the first turn

    def change_draft(self, changes: Mapping[str, Any]) -> None:
        """Take what a person changed in the set-up.

        Raises:
            ConfigError: When a field is unknown.
        """
        self.draft = changed(self.draft, changes)
        self._drafted = True
        self.foresee_soon()
        self.views.changed()

    def foresee_soon(self, wait_s: float = FORESEE_S) -> None:
        """Ask soon what memory the dialogue needs, and whether its models are there."""
        if self._foreseeing is not None:
            self._foreseeing.cancel()
        foresee = lambda: self.views.spawn(self._foresee())  # noqa: E731
        self._foreseeing = self._portal.loop.call_later(wait_s, foresee)

    async def _foresee(self) -> None:
        self._asking += 1
        number, dialogue = self._asking, self.dialogue
        if dialogue is not None and (dialogue.read_only or dialogue.state != "ready"):
            return
        problem, foreseen = None, Staging()
        try:
            if dialogue is None and not self._drafted:
                await self.refresh_models()
            asked = dialogue or make(self.client, self.draft, None)
            foreseen = await asked.aprepare()
        except WorkbenchError as exc:
            problem = exc
        if number == self._asking and dialogue is self.dialogue:
            self._problem, self._foreseen = problem, foreseen
            self.views.changed()

    async def refresh_models(self) -> None:
        """Ask the server for its models; when it cannot be reached the old list stays."""
        try:
            self._models = await self.client.models()
        except WorkbenchError as exc:
            self.views.notice("warn", exc.message, hint=exc.hint)
        if not self._drafted and self._models:
            self.draft = new_draft(model_rows(self._models))
            self._drafted = True
        self.views.changed()

    # --- the picture

    def picture(self) -> dict[str, Any]:
        """Return what the view draws, as JSON values."""
        dialogue = self.dialogue
        shown = self._of_draft() if dialogue is None else self._of_dialogue(dialogue)
        return {
            **shown,
            "layout": self.layout,
            "models": model_rows(self._models),
            "env": {
                "kernel": kernel_version(),
                "stop_while_busy": self.views.in_lab or stop_works_while_busy(),
                "insert": self.views.in_lab,
                "comm_id": self._control_channel_id(),
            },
        }

    def _of_draft(self) -> dict[str, Any]:
        return {
            "conv": {"cid": "", "title": "", "saved": True, "read_only": False},
            "turns": [],
            "lanes": [],
            "busy": None,
            "run": None,
            "draft": self.draft,
            "people": self.draft["participants"],
            "problem": problem_wire(self._problem),
            "plan": plan_of(self._foreseen, (0.0, 0.0)),
        }

    def _of_dialogue(self, dialogue: Dialogue) -> dict[str, Any]:
        turns = dialogue.turns
        problem = dialogue.error if dialogue.state == "failed" else self._problem
        return {
            "conv": {
                "cid": dialogue.id,
                "title": title(dialogue),
                "saved": dialogue.data_dir is not None and not dialogue.warnings,
                "read_only": dialogue.read_only,
            },
            "turns": turns_of(dialogue, turns),
            "lanes": lanes_of(dialogue, turns),
            "busy": {"since": time.time()} if dialogue.state == "running" else None,
            "run": run_of(dialogue, turns),
            "draft": None,
            "people": people_of(dialogue.participants),
            "problem": problem_wire(problem),
            "plan": plan_of(dialogue.staging, dialogue.swap_seconds),
        }

    def _control_channel_id(self) -> str | None:
        """Return the id under which the control channel takes a Stop, where that is needed."""
        view = self._view
        return None if view is None or stop_works_while_busy() else str(view.model_id)

    def close(self) -> None:
        """Take the view away; the dialogue stays."""
        self._unobserve()
        if self._view is not None:
            self._view.close()
            self._view = None
