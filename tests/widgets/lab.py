"""A real JupyterLab in a real Chromium, for tests of the widgets."""

from __future__ import annotations

import ast
import json
import os
import re
import secrets
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import nbformat
import psutil
from playwright.sync_api import Locator, Page, expect

START_S = 60.0
RUN_MS = 60_000


class Lab:
    """One JupyterLab server in a folder of its own; its kernels inherit `env`.

    Args:
        disabled: Names of front-end extensions that are not loaded.
        python: The interpreter of another environment that has JupyterLab.
        options: More of its command line.
        app: `notebook` starts Notebook 7 in place of JupyterLab.
    """

    def __init__(
        self,
        folder: Path,
        *,
        env: Mapping[str, str] | None = None,
        disabled: Sequence[str] = (),
        python: str = sys.executable,
        options: Sequence[str] = (),
        app: Literal["jupyterlab", "notebook"] = "jupyterlab",
    ) -> None:
        self._app = app
        self._python = python
        self._options = options
        self.folder = folder
        self.work = folder / "work"
        self.work.mkdir(parents=True)
        self.token = secrets.token_urlsafe(16)
        self.settings = folder / "settings"
        self._env = {**os.environ, "JUPYTERLAB_SETTINGS_DIR": str(self.settings), **(env or {})}
        quiet = self.settings / "@jupyterlab" / "apputils-extension"
        quiet.mkdir(parents=True)
        (quiet / "notification.jupyterlab-settings").write_text('{"fetchNews": "false"}')
        if disabled:
            config = Path(self._env["JUPYTER_CONFIG_DIR"]) / "labconfig"
            config.mkdir(parents=True)
            page = {"disabledExtensions": dict.fromkeys(disabled, True)}
            (config / "page_config.json").write_text(json.dumps(page))
        self.port = 0
        self._log = folder / "lab.log"

    def start(self) -> None:
        """Start it and wait until it answers."""
        command = [self._python, "-m", self._app, "--no-browser", "--ip=127.0.0.1"]
        command += ["--port=0", "--allow-root", f"--ServerApp.root_dir={self.work}"]
        command += [f"--IdentityProvider.token={self.token}", "--ServerApp.open_browser=False"]
        if self._app == "notebook":
            command += ["--JupyterNotebookApp.expose_app_in_browser=True"]
        else:
            command += ["--LabApp.news_url=None", "--LabApp.expose_app_in_browser=True"]
            command += ["--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
        command += self._options
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._env
            )
        self.port = self._find_port()

    def _find_port(self) -> int:
        runtime = Path(self._env.get("JUPYTER_RUNTIME_DIR", str(self.folder / "run")))
        found = runtime / f"jpserver-{self.process.pid}.json"
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(self._log.read_text(errors="replace"))
            if found.exists():
                try:
                    port = int(json.loads(found.read_text())["port"])
                    urllib.request.urlopen(self._url("api/status", port), timeout=5).close()
                except (ValueError, KeyError, OSError):
                    time.sleep(0.05)
                else:
                    return port
            time.sleep(0.05)
        raise AssertionError("JupyterLab did not start")

    def _url(self, path: str, port: int | None = None) -> str:
        return f"http://127.0.0.1:{port or self.port}/{path}?token={self.token}"

    def notebook(self, name: str, cells: list[str]) -> str:
        """Write a notebook and return the address that opens it in a page of its own."""
        book = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(source) for source in cells],
            metadata={
                "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}
            },
        )
        nbformat.write(book, self.work / name)
        return self.address(name)

    def address(self, name: str) -> str:
        """Return the address that opens a file, in a workspace without tabs of others."""
        if self._app == "notebook":
            return self._url(f"notebooks/{name}")
        return self._url(f"lab/workspaces/{secrets.token_hex(4)}/tree/{name}")

    def stop(self) -> None:
        """End it with its kernels."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for child in children:
            if child.is_running():
                child.kill()


class Notebook:
    """A notebook open in a page."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.errors: list[str] = []
        page.set_default_timeout(RUN_MS)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("dialog", lambda dialog: dialog.accept())

    def open(self, url: str, *, theme: str = "light") -> Notebook:
        """Open it and wait for its kernel."""
        self.page.goto(url)
        self.ready()
        self.theme(theme)
        return self

    def theme(self, name: str) -> None:
        """Choose `light` or `dark`."""
        wanted = f"JupyterLab {name.title()}"
        self.command("apputils:change-theme", theme=wanted)
        self.page.wait_for_function(
            "wanted => document.body.dataset.jpThemeName === wanted", arg=wanted
        )

    def command(self, name: str, **arguments: Any) -> None:
        """Run a command of JupyterLab and await it."""
        self.page.evaluate(
            "async ([name, args]) => { await window.jupyterapp.commands.execute(name, args); }",
            [name, arguments],
        )

    def ready(self) -> None:
        """Wait until the kernel is idle."""
        self.page.wait_for_function(
            "() => window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status"
            " === 'idle'",
            timeout=RUN_MS,
        )

    def run(self, index: int, *, wait: bool = True) -> None:
        """Run one cell; with `wait`, until it has ended."""
        self.page.evaluate(
            "async ([index, wait]) => { const app = window.jupyterapp;"
            " const panel = app.shell.currentWidget; panel.content.activeCellIndex = index;"
            " const done = app.commands.execute('notebook:run-cell'); if (wait) await done; }",
            [index, wait],
        )

    def cell(self, source: str, *, wait: bool = True) -> int:
        """Add a cell at the end, run it, and return its index."""
        index = self.page.evaluate(
            "async source => { const app = window.jupyterapp;"
            " const book = app.shell.currentWidget.content;"
            " book.activeCellIndex = book.widgets.length - 1;"
            " await app.commands.execute('notebook:insert-cell-below');"
            " book.activeCell.model.sharedModel.setSource(source); return book.activeCellIndex; }",
            source,
        )
        self.run(index, wait=wait)
        return int(index)

    def value(self, expression: str) -> Any:
        """Return the JSON value of an expression in the kernel; no cell is made."""
        text = self.page.evaluate(
            "async code => { const kernel ="
            " window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;"
            " const reply = (await kernel.requestExecute({code: 'import json as _json',"
            " store_history: false, user_expressions: {v: code}}).done).content;"
            " const found = reply.user_expressions.v;"
            " return found.data ? found.data['text/plain'] : JSON.stringify(found); }",
            f"_json.dumps({expression})",
        )
        return json.loads(ast.literal_eval(text))

    def sources(self) -> list[tuple[str, str]]:
        """Return (type, source) of every cell."""
        found = self.page.evaluate(
            "() => window.jupyterapp.shell.currentWidget.content.model.toJSON().cells"
            ".map(cell => [cell.cell_type, cell.source])"
        )
        return [(kind, source) for kind, source in found]

    def save(self) -> None:
        """Save the notebook."""
        self.command("docmanager:save")

    def reload(self) -> None:
        """Reload the page and wait for the kernel, whatever it is doing."""
        self.page.reload()
        self.page.wait_for_function(
            "() => window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel"
            "?.connectionStatus === 'connected'"
        )

    def restart(self) -> None:
        """Restart the kernel and wait until it is idle."""
        self.page.evaluate(
            "() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()"
        )
        self.ready()

    def shut_down(self) -> None:
        """End the kernel; the page stays."""
        self.page.evaluate(
            "() => window.jupyterapp.shell.currentWidget?.sessionContext?.shutdown()"
        )

    def chat(self) -> Chat:
        """Return the last chat in the page."""
        return Chat(self.page.locator(".wb-root").last)


class Chat:
    """A chat view, used as a person does: by the labels of its controls."""

    def __init__(self, root: Locator) -> None:
        self.root = root

    def button(self, label: str) -> Locator:
        """Return a button by its label."""
        return self.root.get_by_role("button", name=label, exact=True)

    def field(self, label: str) -> Locator:
        """Return a text field or a list by its label."""
        return self.root.get_by_label(label, exact=True)

    @property
    def model(self) -> Locator:
        """The name of the model that answers next."""
        return self.root.locator(".wb-model > .wb-model-name")

    @property
    def answers(self) -> Locator:
        """The answers, oldest first."""
        return self.root.locator("article.wb-answer")

    @property
    def questions(self) -> Locator:
        """The questions, oldest first."""
        return self.root.locator("article.wb-user:not(.wb-pending)")

    def ready(self) -> Chat:
        """Wait until the kernel has said what to draw, and a model is chosen."""
        expect(self.root).to_be_visible()
        expect(self.root).not_to_have_class(re.compile("wb-waiting"))
        expect(self.model).not_to_have_text("No model")
        return self

    def send(self, text: str) -> None:
        """Write a message and press Enter."""
        self.field("Message").fill(text)
        self.field("Message").press("Enter")

    def ended(self) -> Locator:
        """Wait until no answer is on its way; return the last one."""
        expect(self.root).to_have_attribute("aria-busy", "false")
        return self.answers.last

    def ask(self, text: str) -> Locator:
        """Send a message and return its answer once it has ended."""
        before = self.questions.count()
        self.send(text)
        expect(self.questions).to_have_count(before + 1)
        expect(self.answers).not_to_have_count(0)
        return self.ended()

    def stop(self) -> None:
        """Click Stop."""
        self.button("Stop answer").click()

    def menu(self, button: str, item: str) -> None:
        """Open a menu and choose an item."""
        self.button(button).click()
        self.root.get_by_role("menuitem", name=item, exact=True).click()


class Drag:
    """Files dragged from the desktop over an element, as the browser's own events."""

    def __init__(self, notebook: Notebook, target: Locator, paths: Sequence[Path]) -> None:
        self._session = notebook.page.context.new_cdp_session(notebook.page)
        target.scroll_into_view_if_needed()
        box = target.bounding_box()
        assert box is not None
        self._at = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        self._files = [str(path) for path in paths]

    def _send(self, kind: str, at: tuple[float, float]) -> None:
        data = {"items": [], "files": self._files, "dragOperationsMask": 1}
        event = {"type": kind, "x": at[0], "y": at[1], "data": data}
        self._session.send("Input.dispatchDragEvent", event)

    def enter(self) -> None:
        """Come over the element."""
        self._send("dragEnter", self._at)
        self._send("dragOver", self._at)

    def leave(self) -> None:
        """Go on to the corner of the page, and away."""
        self._send("dragOver", (2, 2))
        self._send("dragCancel", (2, 2))

    def drop(self) -> None:
        """Let go."""
        self._send("drop", self._at)


class ForeignRequests:
    """Notes every request of a page that leaves this machine's JupyterLab."""

    def __init__(self, page: Page, port: int) -> None:
        self.seen: list[str] = []
        self._own = (f"http://127.0.0.1:{port}", f"ws://127.0.0.1:{port}", "data:", "blob:")
        page.on("request", self._note)

    def _note(self, request: Any) -> None:
        if not request.url.startswith(self._own):
            self.seen.append(request.url)
