"""The front end in Chromium with a mocked kernel, and the tools of node."""

from __future__ import annotations

import functools
import http.server
import json
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browsers import CHROMIUM, chromium
from workbench.metrics.charts.page import plotly_js

ROOT = Path(__file__).resolve().parents[2]
FRONTEND = ROOT / "frontend"
STATIC = ROOT / "workbench/widgets/static"
OLDEST_NODE = 20


@functools.cache
def _picture() -> bytes:
    from tests.widgets.metrics_store import fill, picture

    with tempfile.TemporaryDirectory() as folder:
        return json.dumps(picture(fill(Path(folder)))).encode()


@functools.cache
def _runs() -> bytes:
    from tests.widgets.run_store import picture

    with tempfile.TemporaryDirectory() as folder:
        return json.dumps(picture(Path(folder), time.time())).encode()


@functools.cache
def _dialogue() -> bytes:
    from tests.widgets.lanes_store import dialogue_pictures

    with tempfile.TemporaryDirectory() as folder:
        return json.dumps(dialogue_pictures(Path(folder))).encode()


@functools.cache
def _compare() -> bytes:
    from tests.widgets.lanes_store import compare_pictures

    return json.dumps(compare_pictures()).encode()


MADE = {
    "/made/picture.json": _picture,
    "/made/runs.json": _runs,
    "/made/dialogue.json": _dialogue,
    "/made/compare.json": _compare,
    "/made/plotly.js": plotly_js,
}


def node() -> str:
    """Return the path of node; skip where it is missing or too old."""
    found = shutil.which("node")
    if found is None:
        pytest.skip("node is not installed")
    told = subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout
    if int(told.strip().lstrip("v").split(".")[0]) < OLDEST_NODE:
        pytest.skip(f"node {told.strip()} is older than {OLDEST_NODE}")
    return found


def npm_packages(folder: Path) -> None:
    """Install the front end's packages below a copy of it; skip where that is not possible."""
    node()
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed")
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"]
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=90, check=False
        )
    except subprocess.TimeoutExpired:
        pytest.skip("npm ci took too long: no package registry within reach")
    if done.returncode != 0:
        pytest.skip(f"npm ci failed: {done.stderr[-300:]}")


class _Pages(http.server.SimpleHTTPRequestHandler):
    """Serves the bundle, the harness, and what the scenes of dashboard and runs are made of."""

    def do_GET(self) -> None:
        """Answer a request; what is made is made when it is first asked for."""
        made = MADE.get(self.path)
        if made is None:
            super().do_GET()
            return
        body = made()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def translate_path(self, path: str) -> str:
        top, _, rest = path.split("?")[0].lstrip("/").partition("/")
        return str({"static": STATIC, "dev": FRONTEND / "dev"}.get(top, STATIC) / rest)

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture(scope="session")
def address() -> Iterator[str]:
    """Serve the bundle and the harness; yields the address of the harness."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Pages)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/dev/index.html"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Start Chromium; skip where it or playwright is missing.

    One for each module: while it is open the thread has a running event loop, and tests elsewhere
    could not use `asyncio.run`.
    """
    if CHROMIUM is None:
        pytest.skip("Debian's chromium is not installed")
    expect.set_options(timeout=30_000)
    with chromium() as started:
        yield started


class Scene:
    """A page with a panel and a mocked kernel; notes what it fetches and what goes wrong."""

    def __init__(self, page: Any, address: str) -> None:
        self.page = page
        self.address = address
        self.requests: list[str] = []
        self.problems: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("dialog", self._dialog)
        page.on("popup", lambda popup: self.problems.append(f"a window opened: {popup.url}"))

    def _dialog(self, dialog: Any) -> None:
        self.problems.append(f"a dialog opened: {dialog.message}")
        dialog.dismiss()

    def show(self, name: str = "welcome", *, widget: str = "chat") -> Any:
        """Open a scene; wait until the kernel has said what to draw, and the scene has played.

        Before the kernel's first word there is no model, and a question would not be taken.
        """
        self.page.goto(f"{self.address}?scene={name}&widget={widget}")
        self.page.wait_for_function("'sceneDone' in window")
        if widget == "chat":
            self.page.wait_for_selector(".wb-root:not(.wb-waiting)")
        self.page.evaluate("window.sceneDone")
        return self.page

    def foreign(self) -> list[str]:
        """Return what was asked of anybody but the harness."""
        own = self.address.rsplit("/dev/", 1)[0]
        return [url for url in self.requests if not url.startswith((own, "blob:", "data:"))]

    def drawn(self) -> None:
        """Wait until every answer in the window is drawn."""
        self.page.wait_for_function(
            "[...document.querySelectorAll('.wb-answer > .wb-md')].every(e => e.dataset.drawn)"
        )


@pytest.fixture
def scene(browser: Any, address: str) -> Iterator[Scene]:
    """Open a page for one test."""
    context = browser.new_context(viewport={"width": 1000, "height": 900})
    yield Scene(context.new_page(), address)
    context.close()
