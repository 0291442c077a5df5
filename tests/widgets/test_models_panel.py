"""The models panel in JupyterLab and Chromium, on a scripted server."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from playwright.sync_api import Locator, expect

from tests.browsers import needs_chromium
from tests.widgets.conftest import CONNECT, OpenNotebook, Place
from tests.widgets.lab import Notebook
from tests.widgets.models_server import ModelsServer, model
from tests.widgets.test_busy import Sleeper

pytestmark = [
    pytest.mark.browser,
    needs_chromium,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
]

LIMIT_BYTES_PER_S = 5000
WIDGET = "application/vnd.jupyter.widget-view+json"


@pytest.fixture(scope="module")
def server() -> Iterator[ModelsServer]:
    """Start a server with fifty models, of which two matter here."""
    rows = [model("owl:7b"), model("bat:1b", state="idle")]
    rows += [model(f"other-{number}:3b") for number in range(48)]
    with ModelsServer(rows) as made:
        yield made


@pytest.fixture(scope="module")
def notebook(open_notebook: OpenNotebook, server: ModelsServer) -> Notebook:
    """Open a notebook with the panel."""
    made = open_notebook(
        f"import workbench\nwb = workbench.connect({server.url!r})",
        "panel = wb.models_panel()\npanel",
    )
    made.run(0)
    made.run(1)
    expect(_panel(made)).to_have_attribute("aria-busy", "false")
    return made


def _panel(notebook: Notebook) -> Locator:
    return notebook.page.locator(".wbm-root").last


def _row(notebook: Notebook, name: str) -> Locator:
    return _panel(notebook).get_by_role("listitem", name=name, exact=True)


def test_a_panel_stands_there(notebook: Notebook, server: ModelsServer) -> None:
    """Every model of the server has its row, and the card its bar."""
    expect(_panel(notebook).locator(".wbm-row")).to_have_count(50)
    expect(_row(notebook, "bat:1b")).to_contain_text("in memory")
    bar = _panel(notebook).locator(".wbm-device-bar")
    expect(bar).to_have_attribute(
        "aria-label", "Test card: bat:1b 5.0 GiB, other programs 1.0 GiB, free 18.0 GiB of 24.0 GiB"
    )
    assert 1 == server.subscribers
    assert [] == notebook.errors


def test_load_and_unload(notebook: Notebook, server: ModelsServer) -> None:
    """A click loads, another unloads, and each tells its verdict below the row."""
    _panel(notebook).get_by_label("Load owl:7b", exact=True).click()
    expect(_row(notebook, "owl:7b")).to_contain_text("Loaded in 4.0 s")
    expect(_row(notebook, "owl:7b")).to_contain_text("5.0 GiB on the GPU")
    _panel(notebook).get_by_label("Unload owl:7b", exact=True).click()
    expect(_row(notebook, "owl:7b")).to_contain_text(
        "Unloaded, verified, 4.0 GiB free after 0.60 s."
    )
    expect(_row(notebook, "owl:7b")).to_contain_text("not loaded")


def test_a_swap_is_agreed_to(notebook: Notebook, server: ModelsServer) -> None:
    """In manual mode the panel names what leaves, and swaps when told to."""
    _panel(notebook).get_by_label("Swap mode of ollama").select_option("manual")
    server.wait_for("PATCH settings")
    server.models["owl:7b"]["evicts"] = ["bat:1b"]
    _panel(notebook).get_by_label("Load owl:7b", exact=True).click()
    question = _panel(notebook).get_by_role("group", name="Swap for owl:7b")
    expect(question).to_contain_text("bat:1b")
    question.get_by_text("Unload bat:1b and load").click()
    expect(_row(notebook, "bat:1b")).to_contain_text("not loaded")
    expect(_row(notebook, "owl:7b")).to_contain_text("in memory")
    assert "auto" != server.settings["swap.ollama"]["value"]


def test_it_works_while_a_cell_runs(
    notebook: Notebook, server: ModelsServer, tmp_path: Path
) -> None:
    """While a cell sleeps a click is done, and what the server tells is seen."""
    sleeper = Sleeper(notebook, tmp_path)
    _panel(notebook).get_by_label("Priority of owl:7b").select_option("8")
    server.wait_for("PATCH models")
    _panel(notebook).get_by_label("Unload owl:7b", exact=True).click()
    expect(_row(notebook, "owl:7b")).to_contain_text("Unloaded, verified")
    server.models["other-7:3b"]["state"] = "busy"
    server.emit("loaded", model="other-7:3b", backend="ollama")
    expect(_row(notebook, "other-7:3b")).to_contain_text("answering")
    assert sleeper.sleeps
    sleeper.wake()


def test_a_server_that_goes_and_comes(notebook: Notebook, server: ModelsServer) -> None:
    """The last picture stays, greyed, while the server is away; then it is found again."""
    server.stop()
    expect(_panel(notebook).locator(".wbm-lost")).to_contain_text("The server is gone.")
    expect(_row(notebook, "other-7:3b")).to_contain_text("answering")
    expect(_panel(notebook).get_by_label("Load owl:7b", exact=True)).to_be_disabled()
    server.models["other-7:3b"]["state"] = "absent"
    server.start()
    expect(_panel(notebook).locator(".wbm-lost")).to_be_hidden()
    expect(_row(notebook, "other-7:3b")).to_contain_text("not loaded")


class Traffic:
    """Counts what travels on the page's sockets, both ways."""

    def __init__(self, notebook: Notebook) -> None:
        self.bytes = 0
        self._session = notebook.page.context.new_cdp_session(notebook.page)
        for event in ("webSocketFrameReceived", "webSocketFrameSent"):
            self._session.on(f"Network.{event}", self._count)
        self._session.send("Network.enable")

    def _count(self, event: dict[str, Any]) -> None:
        frame = event["response"]
        data = frame["payloadData"]
        self.bytes += len(base64.b64decode(data)) if frame["opcode"] == 2 else len(data)

    def close(self) -> None:
        """Count no more."""
        self._session.detach()


def test_a_panel_at_rest_costs_little(notebook: Notebook, server: ModelsServer) -> None:
    """With fifty models and nothing that changes, a panel takes under 5 kB/s of the comm."""
    polls = len(server.heard("GET models"))
    server.wait_for("GET models", polls + 2)
    traffic, began = Traffic(notebook), time.monotonic()
    while len(server.heard("GET models")) < polls + 5:
        notebook.page.wait_for_timeout(200)
    per_s = traffic.bytes / (time.monotonic() - began)
    assert 0 < per_s < LIMIT_BYTES_PER_S
    before = traffic.bytes
    server.models["owl:7b"]["priority"] = 1
    server.emit("preferences", model="owl:7b", backend="ollama")
    expect(_panel(notebook).get_by_label("Priority of owl:7b")).to_have_value("1")
    traffic.close()
    print(f"at rest {per_s:.0f} B/s; one changed row {traffic.bytes - before} B")
    # A change is a row, not the list of fifty.
    assert traffic.bytes - before < 10_000


def test_nothing_is_asked_without_a_view(notebook: Notebook, server: ModelsServer) -> None:
    """When the last view is closed the subscription ends."""
    notebook.page.evaluate("window.jupyterapp.commands.execute('notebook:clear-all-cell-outputs')")
    deadline = time.monotonic() + 60
    while server.subscribers and time.monotonic() < deadline:
        notebook.page.wait_for_timeout(100)
    assert 0 == server.subscribers
    asked = len(server.heard("GET models"))
    assert not notebook.value("panel.feed.running")
    assert asked == len(server.heard("GET models"))


def test_reopened_without_its_kernel(
    place: Place, open_notebook: OpenNotebook, server: ModelsServer
) -> None:
    """A saved notebook shows the table it was saved with, and says how to go on."""
    made = open_notebook(f"import workbench\nworkbench.connect({server.url!r}).models_panel()")
    made.run(0)
    expect(_panel(made).locator(".wbm-row")).to_have_count(50)
    made.save()
    made.shut_down()
    made.reload()
    saved = made.page.locator(".workbench-chat-output")
    expect(saved).to_contain_text("owl:7b")
    expect(saved).to_contain_text("Run this cell for a live panel.")
    expect(_panel(made)).to_have_count(0)


def test_where_nobody_looks(place: Place, server: ModelsServer, tmp_path: Path) -> None:
    """In a run without a person the panel is a table, shown once, and no widget."""
    source = f"import workbench\nworkbench.connect({server.url!r}).models_panel()"
    made = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(source)],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}},
    )
    NotebookClient(made, timeout=100, kernel_name="python3").execute()
    (shown,) = made.cells[0].outputs
    assert ["text/html", "text/plain"] == sorted(shown["data"])
    assert "widgets" not in made.metadata
    assert "other-7:3b" in shown["data"]["text/html"]
    assert "Test card: " in shown["data"]["text/plain"]
    assert WIDGET not in nbformat.writes(made)
    assert 0 == server.subscribers


def test_on_a_real_server(place: Place, open_notebook: OpenNotebook) -> None:
    """On the workbench's own server a load, a priority and an unload are what Python sees too."""
    # Other tests may have left a model in memory.
    empty = "for m in wb.loaded(): wb.unload(f'{m.name}@{m.backend}')"
    made = open_notebook(f"{CONNECT}\n{empty}", "panel = wb.models_panel()\npanel")
    made.run(0)
    made.run(1)
    panel = _panel(made)
    panel.get_by_label("Load toy-tiny", exact=True).click()
    expect(_row(made, "toy-tiny")).to_contain_text("Loaded in")
    expect(_row(made, "toy-tiny")).to_contain_text("in main memory")
    assert "idle" == made.value(
        "[m.state for m in wb.models() if m.name.startswith('toy-tiny')][0]"
    )
    panel.get_by_label("Priority of toy-tiny").select_option("8")
    expect(panel.locator(".wbm-log")).to_contain_text("toy-tiny has priority 8")
    panel.get_by_label("Unload toy-tiny", exact=True).click()
    expect(_row(made, "toy-tiny")).to_contain_text("Unloaded, verified")
    assert 8 == made.value("[m.priority for m in wb.models() if m.name.startswith('toy-tiny')][0]")
    panel.get_by_label("Settings", exact=True).click()
    shown = panel.get_by_label("Settings panel")
    expect(shown.get_by_label("swap.embedded", exact=True)).to_have_value("auto")
    expect(shown.get_by_label("server.open_ollama_api", exact=True)).to_be_visible()
    panel.get_by_label("Close settings").click()
    panel.get_by_label("Priority of toy-tiny").select_option("5")
    expect(panel.locator(".wbm-log")).to_contain_text("toy-tiny has priority 5")
    assert [] == made.errors


def test_a_swap_on_a_real_server(open_notebook: OpenNotebook) -> None:
    """Where one model has room and nobody may leave unasked, the panel asks and then swaps."""
    made = open_notebook(
        CONNECT,
        "wb.set('engine.max_loaded', 1)\nwb.set('swap.embedded', 'manual')\nwb.load('toy-tiny')",
        "wb.models_panel()",
    )
    for index in range(3):
        made.run(index)
    panel = _panel(made)
    panel.get_by_label("Load toy-nano", exact=True).click()
    question = panel.get_by_role("group", name="Swap for toy-nano")
    expect(question).to_contain_text("toy-tiny")
    # Other tests may have left a model on the host.
    loaded = "[m.name for m in wb.loaded() if m.backend == 'embedded']"
    assert ["toy-tiny:latest"] == made.value(loaded)
    question.get_by_text("Unload toy-tiny and load").click()
    expect(_row(made, "toy-nano")).to_contain_text("Loaded in")
    expect(_row(made, "toy-tiny")).to_contain_text("not loaded")
    assert ["toy-nano:latest"] == made.value(loaded)
    made.cell("wb.set('engine.max_loaded', None); wb.set('swap.embedded', None)")
    expect(panel.get_by_label("Swap mode of embedded")).to_have_value("auto")
