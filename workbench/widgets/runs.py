"""`RunsPanel`: the runs of plans, live in the notebook, with the buttons to start and stop them.

What the panel knows is touched on the portal's loop only.  Files are read in worker threads of it;
a view is sent the whole picture once and then what changed, numbered.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anywidget

from workbench.client.api import WorkbenchClient
from workbench.config import Config
from workbench.errors import WorkbenchError
from workbench.plans.news import News
from workbench.portal import get_portal
from workbench.widgets.audience import PROTOCOL, Audience, Picture
from workbench.widgets.comm import Chores, connect_view, errors_shown, live_bundle, send_plotly
from workbench.widgets.headless import is_headless
from workbench.widgets.runs_actions import ACTIONS, Action, Doings, read_step
from workbench.widgets.runs_feed import RunsFeed, feed_of
from workbench.widgets.runs_notify import OnFinish, checked, tell
from workbench.widgets.runs_static import runs_html, runs_text

MIME = "application/vnd.workbench.runs+json"
STATIC = Path(__file__).parent / "static"

log = logging.getLogger("workbench")


class RunsView(anywidget.AnyWidget):
    """The widget of a `RunsPanel`; it only carries messages."""

    _esm = STATIC / "runs.js"
    _css = STATIC / "runs.css"


class RunsPanel:
    """The runs of a data folder; `wb.runs_panel()` makes one.

    Where nobody can look (papermill, nbclient, nbval) it is displayed as a static table, and no
    widget is made.

    Args:
        client: Asks which models there are; it may start a server when a run is started.
        config: Says which data folder is watched.
        on_finish: What to do when a run ends or waits for an answer: a function that is given a
            `News`, or a command as a list of texts, run without a shell, in which `{plan}`,
            `{status}`, `{run_id}`, `{folder}` and `{text}` are filled in.  The runs are then
            followed until `close()`, also while nobody looks.

    Raises:
        ConfigError: When `on_finish` is neither.
    """

    def __init__(
        self, client: WorkbenchClient, config: Config, *, on_finish: OnFinish | None = None
    ) -> None:
        self.door = client
        self.doings = Doings()
        self.on_finish = checked(on_finish)
        self._config = config
        self._portal = get_portal()
        self._view: RunsView | None = None
        self._news: dict[str, Any] | None = None
        self._stamp: Any = None
        self._chores = Chores(
            self._portal, "the runs panel", lambda text: self.say({"level": "error", "text": text})
        )
        self._audience = Audience(
            self._portal.loop,
            picture=lambda _: self._picture(),
            send=self._send,
            came=self._came,
            left=self._left,
        )
        if self.on_finish is not None and not is_headless():
            self._portal.loop.call_soon_threadsafe(self.feed.hear, self._told)

    def __repr__(self) -> str:
        return f"<RunsPanel {self._config.data_dir}>"

    @property
    def feed(self) -> RunsFeed:
        """What is known about the runs, shared by the panels of this kernel."""
        return feed_of(self._config.data_dir, loop=self._portal.loop)

    @property
    def folder(self) -> Path:
        """Where the notebook works."""
        return Path.cwd()

    # --- where it is shown

    @property
    def widget(self) -> RunsView:
        """The widget, made when it is first asked for; put it into layouts of ipywidgets."""
        if self._view is None:
            self._view = RunsView()
            connect_view(self._view, self._handle, self._portal)
        return self._view

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        if is_headless():
            return self.static_bundle()
        return live_bundle(self.widget, self.static_bundle(), {MIME: {"v": PROTOCOL}}, **kwargs)

    def static_bundle(self) -> dict[str, Any]:
        """Look at the runs, and return the list as a mime bundle without a widget."""
        self._portal.run(self.feed.look())
        found = self.feed.found
        return {"text/html": runs_html(found), "text/plain": runs_text(found)}

    def close(self) -> None:
        """Take the view away, and tell of no run any more."""
        self._portal.loop.call_soon_threadsafe(self._forget)
        if self._view is not None:
            self._view.close()
            self._view = None

    def _forget(self) -> None:
        self._audience.forget()
        self.feed.unhear(self._told)

    # --- from the view

    def _handle(self, message: dict[str, Any], _: bytes) -> None:
        kind = self._audience.take(message)
        if kind in ACTIONS:
            self.later(ACTIONS[kind], message)
        elif kind == "need":
            self._chores.spawn(send_plotly(lambda: self._view))

    def _came(self) -> None:
        self.feed.open(self, self.doings.run)
        self.feed.attach(self._looked)
        if self.on_finish is None:
            self.feed.hear(self._told)

    def _left(self) -> None:
        self.feed.detach(self._looked)
        self.feed.close(self)
        if self.on_finish is None:
            self.feed.unhear(self._told)

    def later(self, action: Action, message: Mapping[str, Any]) -> None:
        """Do something while this goes on; how it fails is said."""
        self._chores.spawn(self._act(action, message))

    async def _act(self, action: Action, message: Mapping[str, Any]) -> None:
        with errors_shown(self.say, files="A file could not be read or written"):
            await action(self, message)

    # --- from the feed

    def _looked(self) -> None:
        doings = self.doings
        if doings.run is not None and doings.step is not None:
            detail = self.feed.found.details.get(doings.run)
            stamp = detail and detail["steps"].get(doings.step)
            if stamp != self._stamp:
                self._stamp = stamp
                self.later(read_step, {})
        self.changed()

    def _told(self, news: News) -> None:
        shown = {name: getattr(news, name) for name in ("run_id", "plan", "status", "text")}
        self._news = {**shown, "at": round(time.time(), 3)}
        self.changed()
        if self.on_finish is not None:
            self._chores.spawn(self._tell(self.on_finish, news))

    async def _tell(self, on_finish: OnFinish, news: News) -> None:
        try:
            await tell(on_finish, news)
        except WorkbenchError as exc:
            log.warning("%s", exc)
            self.say({"level": "error", "text": exc.message, "hint": exc.hint})
        except Exception as exc:  # a function of the user
            log.warning("on_finish failed", exc_info=exc)
            text = f"on_finish failed: {type(exc).__name__}: {exc}"
            self.say({"level": "error", "text": text})

    # --- to the view

    def say(self, said: Mapping[str, Any] | None) -> None:
        """Show a line above everything; `None` takes it away."""
        self.doings.said = None if said is None else {**said, "at": round(time.time(), 3)}
        self.changed()

    def changed(self) -> None:
        """Tell the views soon; nothing is sent when nothing changed, or nobody looks."""
        self._audience.changed()

    def _picture(self) -> Picture:
        found, doings = self.feed.found, self.doings
        open_now = found.details.get(doings.run or "")
        rows = {f"r/{run_id}": row for run_id, row in found.rows.items()}
        if open_now is not None:
            rows |= {f"s/{step_id}": step for step_id, step in open_now["steps"].items()}
        return {
            "rows": rows,
            "store": found.store,
            "open": {"run": doings.run, "step": doings.step},
            "run": open_now and open_now["run"],
            "step": doings.detail,
            "form": doings.form,
            "plans": doings.plans,
            "models": doings.models,
            "acts": dict(doings.acts),
            "said": doings.said,
            "news": self._news,
            "home": str(Path.home()),
        }

    def _send(self, content: dict[str, Any]) -> None:
        if self._view is not None:
            self._view.send(content)
