"""What every panel does: messages of its views, work on the portal's loop, what a cell keeps."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from typing import Any

from workbench.errors import WorkbenchError
from workbench.portal import Portal
from workbench.widgets.headless import hear_control_channel

Handler = Callable[[dict[str, Any], bytes], None]

log = logging.getLogger("workbench")


class Chores:
    """Coroutines of a panel on the portal's loop; an error nobody expected is logged and shown.

    Args:
        name: Of the panel, for the log.
        say: Shows a text as an error.
    """

    def __init__(self, portal: Portal, name: str, say: Callable[[str], None]) -> None:
        self._portal, self._name, self._say = portal, name, say
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine; nobody waits for it."""
        task = self._portal.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    async def settled(self) -> None:
        """Wait until nothing is left to do."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s failed", self._name, exc_info=error)
            self._say(f"{type(error).__name__}: {error}")


@contextlib.contextmanager
def errors_shown(
    say: Callable[[dict[str, Any]], None], *, files: str | None = None
) -> Iterator[None]:
    """Show what an action of a view raises, in place of raising it.

    Args:
        say: Shows `level`, `text` and `hint`.
        files: What is said of an `OSError`, before its own words; `None` lets it pass.
    """
    try:
        yield
    except WorkbenchError as exc:
        say({"level": "error", "text": exc.message, "hint": exc.hint})
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        text = f"A message or an answer is not of the expected form: {exc!r}."
        say({"level": "error", "text": text})
    except OSError as exc:
        if files is None:
            raise
        say({"level": "error", "text": f"{files}: {exc}."})


async def send_plotly(view: Callable[[], Any]) -> None:
    """Send plotly.js once to a page that has none; it is that of the plotly wheel.

    Args:
        view: Returns the widget, or `None` when it was taken away meanwhile.
    """
    # Importing plotly takes a second: in a worker thread, not on the portal's loop.
    source = await asyncio.to_thread(_plotly_js)
    if (widget := view()) is not None:
        widget.send({"t": "mod", "mod": "plotly"}, buffers=[source])


def _plotly_js() -> bytes:
    from workbench.metrics.charts.page import plotly_js

    return plotly_js()


def live_bundle(
    widget: Any, static: Mapping[str, Any], saved: Mapping[str, Any], **how: Any
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what a cell shows and keeps of a live panel: mime bundle and metadata.

    JupyterLab with our extension draws what `saved` names: live where the model exists, else the
    static form, so that a reopened notebook never says "model not found".
    """
    bundle = widget._repr_mimebundle_(**how)
    data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
    return {**(data or {}), **static, **saved}, metadata


def connect_view(widget: Any, handle: Handler, portal: Portal) -> None:
    """Hand every message of a widget's views to `handle` on the portal's loop, and return at once.

    Jupyter gives all widgets of a kernel one thread for messages, and blocking it would silence
    every Stop button.
    """

    def receive(_: Any, content: Mapping[str, Any], buffers: Sequence[Any]) -> None:
        data = bytes(buffers[0]) if buffers else b""
        with contextlib.suppress(RuntimeError):  # the portal is closed: the kernel is ending
            portal.loop.call_soon_threadsafe(handle, dict(content), data)

    _route_messages_to_subshell(widget)
    hear_control_channel()
    widget.on_msg(receive)


def _route_messages_to_subshell(widget: Any) -> None:
    """Let messages of the view be handled while a cell runs.

    ipykernel 7.4 sends a widget's messages to the shell that published last, the busy main one,
    whatever the message asks for.  The attribute is private there, hence the guard and the test
    with a real Lab.
    """
    comm = widget.comm
    if hasattr(comm, "_reply_subshell_for"):
        comm._reply_subshell_for = lambda data, default: default
