"""`Dashboard`: what every request took, live in the notebook, drawn from the files.

Everything the dashboard knows is touched on the portal's loop only; queries run in a worker thread
of it, so that neither the kernel's main thread nor another widget waits.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anywidget

from workbench.client.door import client_config, open_client
from workbench.config import Config
from workbench.metrics.layout import metrics_dir
from workbench.portal import get_portal
from workbench.widgets.alerts import AlertFeed
from workbench.widgets.audience import PROTOCOL, Audience
from workbench.widgets.comm import Chores, connect_view, errors_shown, live_bundle, send_plotly
from workbench.widgets.dashboard_data import Filters, Reader
from workbench.widgets.dashboard_live import Live
from workbench.widgets.dashboard_static import show, show_static, static_bundle
from workbench.widgets.dashboard_take import take_out
from workbench.widgets.headless import is_headless

if TYPE_CHECKING:
    from workbench.metrics.reader import Metrics

MIME = "application/vnd.workbench.dashboard+json"
STATIC = Path(__file__).parent / "static"

# A cell waits for its saved copy; a run without a person has no other.
BUNDLE_S = 5.0
HEADLESS_S = 300.0


class DashboardView(anywidget.AnyWidget):
    """The widget of a `Dashboard`; it only carries messages."""

    _esm = STATIC / "dashboard.js"
    _css = STATIC / "dashboard.css"


class Dashboard:
    """The metrics of a store; `wb.dashboard()` makes one.

    Where nobody can look (papermill, nbclient, nbval) it is displayed as a table and plain
    figures, and no widget is made.

    Args:
        metrics: An open store, from `workbench.metrics.open(path)`; no server is needed then.
            It stays open.
        config: Says which data folder is read, and which server's alerts are shown; the
            configured one unless `metrics` is given.
        export_dir: Where the buttons put exports; `workbench-exports` in the working folder.
    """

    def __init__(
        self,
        metrics: Metrics | None = None,
        *,
        config: Config | None = None,
        export_dir: str | Path | None = None,
    ) -> None:
        if metrics is None and config is None:
            config = client_config()
        self._portal = get_portal()
        self._view: DashboardView | None = None
        self._said: dict[str, Any] | None = None
        self._chores = Chores(
            self._portal, "the dashboard", lambda text: self.say({"level": "error", "text": text})
        )
        if metrics is not None:
            folder = metrics.folder
        else:
            folder = metrics_dir((config or client_config()).data_dir)
        self._metrics = metrics
        self.export_dir = Path(export_dir or "workbench-exports").expanduser().absolute()
        loop = self._portal.loop
        self._live = Live(folder, metrics, changed=self._changed, say=self.say)
        self._alerts = (
            None if config is None else AlertFeed(open_client(config, spawn=False), self._changed)
        )
        self._audience = Audience(
            loop,
            picture=lambda _: self._picture(),
            send=self._send,
            came=self._came,
            left=self._left,
        )

    def __repr__(self) -> str:
        return f"<Dashboard {self.folder}>"

    @property
    def filters(self) -> Filters:
        """What a person has chosen."""
        return self._live.filters

    def say(self, said: Mapping[str, Any] | None) -> None:
        """Show a line above everything; `None` takes it away."""
        self._said = None if said is None else {**said, "at": round(time.time(), 3)}
        self._changed()

    @property
    def folder(self) -> Path:
        """The store that is shown."""
        return self._live.folder

    # --- where it is shown

    @property
    def widget(self) -> DashboardView:
        """The widget, made when it is first asked for; put it into layouts of ipywidgets."""
        if self._view is None:
            self._view = DashboardView()
            connect_view(self._view, self._handle, self._portal)
        return self._view

    def _ipython_display_(self) -> None:
        # IPython asks here first: a run without a person shows more than one output.
        if is_headless():
            show_static(self._live.filters, self._aside(HEADLESS_S))
        else:
            show(*self._repr_mimebundle_())

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        return live_bundle(self.widget, self.static_bundle(), {MIME: {"v": PROTOCOL}}, **kwargs)

    def static_bundle(self) -> dict[str, Any]:
        """Ask the store, and return the headline as a mime bundle without a widget."""
        work = asyncio.to_thread(static_bundle, self._live.filters, self._aside(BUNDLE_S))
        return self._portal.run(work)

    def _aside(self, timeout_s: float) -> Reader:
        """Return a reader of its own: that of the live picture works in another thread."""
        return Reader(self.folder, self._metrics, timeout_s=timeout_s)

    def close(self) -> None:
        """Take the view away, and give the store back."""
        self._portal.loop.call_soon_threadsafe(self._audience.forget)
        if self._view is not None:
            self._view.close()
            self._view = None

    # --- from the view

    def _handle(self, message: dict[str, Any], _: bytes) -> None:
        kind = self._audience.take(message)
        if kind:
            self._chores.spawn(self._act(kind, message))

    def _came(self) -> None:
        self._live.start()
        if self._alerts is not None:
            self._alerts.start()

    def _left(self) -> None:
        self._live.stop()
        if self._alerts is not None:
            self._alerts.stop()

    async def _act(self, kind: str, message: Mapping[str, Any]) -> None:
        actions: dict[str, Callable[[Mapping[str, Any]], Any]] = {
            "filter": lambda m: self._live.narrow(m["set"]),
            "page": self._live.turn,
            "detail": lambda m: self._live.look_at(m.get("id")),
            "refresh": lambda m: self._live.refresh(),
            "dismiss": lambda m: self.say(None),
            "take": lambda m: take_out(self, str(m["what"])),
            "need": lambda m: send_plotly(lambda: self._view),
        }
        with errors_shown(self.say, files="It could not be written"):
            done = actions[kind](message) if kind in actions else None
            if isinstance(done, Coroutine):
                await done

    # --- to the view

    def _changed(self) -> None:
        self._audience.changed()

    def _picture(self) -> dict[str, Any]:
        alerts = None if self._alerts is None else self._alerts.picture
        return {**self._live.picture, "alerts": alerts, "said": self._said}

    def _send(self, content: dict[str, Any]) -> None:
        if self._view is not None:
            self._view.send(content)
