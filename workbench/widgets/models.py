"""`ModelsPanel`: what is in memory, live in the notebook, with the buttons to change it.

What the panel knows is touched on the portal's loop only.  A view is sent the whole picture once
and then what changed, numbered; see `models_picture` and `frontend/src/models/store.js`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anywidget

from workbench.client.api import WorkbenchClient
from workbench.config import Config
from workbench.portal import get_portal
from workbench.widgets.audience import PROTOCOL, Audience
from workbench.widgets.comm import Chores, connect_view, errors_shown, live_bundle
from workbench.widgets.feed import ModelsFeed, feed_of
from workbench.widgets.headless import is_headless
from workbench.widgets.models_actions import ACTIONS, Action
from workbench.widgets.models_picture import Doings, Picture, difference, picture
from workbench.widgets.models_static import models_html, models_text

MIME = "application/vnd.workbench.models+json"
STATIC = Path(__file__).parent / "static"

NOTE_S = 20.0


class ModelsView(anywidget.AnyWidget):
    """The widget of a `ModelsPanel`; it only carries messages."""

    _esm = STATIC / "models.js"
    _css = STATIC / "models.css"


class ModelsPanel:
    """The models of a server; `wb.models_panel()` makes one.

    Where nobody can look (papermill, nbclient, nbval) it is displayed as a static table, and no
    widget is made.

    Args:
        client: Does what a person asks for; it may start a server.
        config: Says which server is watched.
    """

    def __init__(self, client: WorkbenchClient, config: Config) -> None:
        self.door = client
        self.doings = Doings()
        self._config = config
        self._portal = get_portal()
        self._view: ModelsView | None = None
        self._audience = Audience(
            self._portal.loop,
            picture=self._picture,
            difference=difference,
            send=self._send,
            came=self._came,
            left=self._left,
        )
        self._chores = Chores(
            self._portal,
            "the models panel",
            lambda text: self.say("panel", {"level": "error", "text": text}),
        )

    # --- where it is shown

    @property
    def widget(self) -> ModelsView:
        """The widget, made when it is first asked for; put it into layouts of ipywidgets."""
        if self._view is None:
            self._view = ModelsView()
            connect_view(self._view, self._handle, self._portal)
        return self._view

    @property
    def feed(self) -> ModelsFeed:
        """What is known about the server, shared by the panels of this kernel."""
        return feed_of(self._config, loop=self._portal.loop)

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        if is_headless():
            return self.static_bundle()
        return live_bundle(self.widget, self.static_bundle(), {MIME: {"v": PROTOCOL}}, **kwargs)

    def static_bundle(self) -> dict[str, Any]:
        """Ask the server, and return the panel as a mime bundle without a widget."""
        shown = self._portal.run(self._asked())
        return {"text/html": models_html(shown), "text/plain": models_text(shown)}

    async def _asked(self) -> Picture:
        await self.feed.ask()
        return self._picture(None)

    def close(self) -> None:
        """Take the view away."""
        self._portal.loop.call_soon_threadsafe(self._audience.forget)
        if self._view is not None:
            self._view.close()
            self._view = None

    # --- from the view

    def _handle(self, message: dict[str, Any], _: bytes) -> None:
        kind = self._audience.take(message)
        if kind in ACTIONS:
            self._chores.spawn(self._act(ACTIONS[kind], message))

    def _came(self) -> None:
        self.feed.attach(self.changed)

    def _left(self) -> None:
        self.feed.detach(self.changed)

    async def _act(self, action: Action, message: dict[str, Any]) -> None:
        with errors_shown(lambda text: self.say("panel", text)):
            await action(self, message)

    # --- what actions say

    def note(self, key: str, note: Mapping[str, Any]) -> None:
        """Show below a model how an action ended; what is no trouble leaves by itself."""
        kept = {name: value for name, value in note.items() if value is not None}
        self.doings.notes[key] = kept
        if kept.get("level") in ("ok", "info"):
            self._portal.loop.call_later(NOTE_S, self._drop_note, key, kept)
        self.changed()

    def _drop_note(self, key: str, note: Mapping[str, Any]) -> None:
        if self.doings.notes.get(key) is note:
            del self.doings.notes[key]
            self.changed()

    def say(self, where: str, said: Mapping[str, Any]) -> None:
        """Show how an action that is not about one model ended: `panel`, `get` or `settings`."""
        self.doings.said = {"where": where, "at": round(time.time(), 3), **said}
        self.changed()

    # --- to the view

    def _picture(self, old: Picture | None) -> Picture:
        can_start = self._config.url is None
        return picture(self.feed.snapshot, self.doings, can_start=can_start, old=old)

    def changed(self) -> None:
        """Tell the views soon; nothing is sent when nothing changed, or nobody looks."""
        self._audience.changed()

    def _send(self, content: dict[str, Any]) -> None:
        if self._view is not None:
            self._view.send(content)
