"""The dashboard in JupyterLab and Chromium, on a store that a kernel reads."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import nbformat
import papermill
import pytest
from nbclient import NotebookClient
from playwright.sync_api import Locator, expect

from tests.browsers import needs_chromium
from tests.widgets import metrics_store
from tests.widgets.conftest import CONNECT, OpenNotebook, Place
from tests.widgets.lab import Notebook
from tests.widgets.test_busy import Sleeper
from workbench.metrics.journal import JournalWriter
from workbench.units import rfc3339, utc_now

pytestmark = [
    pytest.mark.browser,
    needs_chromium,
    pytest.mark.timeout(400),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
]

WIDGET = "application/vnd.jupyter.widget-view+json"
PLOTLY = "application/vnd.plotly.v1+json"
MOST_BYTES = 100_000
# A loaded machine takes a while to run plotly.js for the first time.
FIRST_MS = 180_000
SOURCE = """
import workbench.metrics
from workbench.widgets.dashboard import Dashboard
board = Dashboard(metrics=workbench.metrics.open({path!r}))
board
"""


@pytest.fixture(scope="module")
def store(place: Place) -> Path:
    """Return a store with a week of work."""
    return metrics_store.fill(place.folder / "week" / "metrics")


@pytest.fixture(scope="module")
def notebook(open_notebook: OpenNotebook, store: Path) -> Notebook:
    """Open a notebook with two dashboards of one store; no server is there."""
    source = SOURCE.format(path=str(store))
    made = open_notebook(source, source)
    made.run(0)
    expect(_board(made)).to_have_attribute("aria-busy", "false", timeout=FIRST_MS)
    return made


def _board(notebook: Notebook) -> Locator:
    return notebook.page.locator(".wbd-root").first


def test_it_is_drawn_in_lab(notebook: Notebook) -> None:
    """Figures, charts and requests are there, and nothing went wrong in the page."""
    board = _board(notebook)
    expect(board.get_by_role("list", name="Headline figures")).to_contain_text("p95 latency")
    expect(board.locator('[data-chart="latency"] .wbd-seat')).to_have_attribute(
        "data-drawn", "true", timeout=FIRST_MS
    )
    expect(board.locator(".wbd-table tbody tr")).to_have_count(100)
    assert [] == notebook.errors


def test_a_second_dashboard_shares_plotly(notebook: Notebook) -> None:
    """The page asks for plotly.js once, however many dashboards stand in it."""
    module = "window.workbenchPlotly.askedAt"
    asked = notebook.page.evaluate(module)
    notebook.run(1)
    second = notebook.page.locator(".wbd-root").last
    expect(notebook.page.locator(".wbd-root")).to_have_count(2)
    second.locator('[data-chart="latency"]').scroll_into_view_if_needed()
    expect(second.locator('[data-chart="latency"] .wbd-seat')).to_have_attribute(
        "data-drawn", "true", timeout=FIRST_MS
    )
    assert asked == notebook.page.evaluate(module)


def test_it_works_while_a_cell_runs(notebook: Notebook, store: Path, tmp_path: Path) -> None:
    """While a cell sleeps, a filter is answered, a detail opens, and a new request appears."""
    board = _board(notebook)
    board.scroll_into_view_if_needed()
    sleeper = Sleeper(notebook, tmp_path)
    board.get_by_label("Model", exact=True).select_option("gemma3:12b")
    expect(board.locator(".wbd-table tbody tr").first).to_contain_text("gemma3:12b")
    board.get_by_role("button", name="Clear filters").click()
    with JournalWriter(store) as writer:
        row = {"ts": rfc3339(utc_now()), "status": "ok", "gen_ai_request_model": "owl:7b"}
        assert writer.write("requests", row | {"duration": 2.5})
        expect(board.locator(".wbd-table tbody tr").first).to_contain_text("owl:7b", timeout=90_000)
    board.locator(".wbd-table tbody tr").first.click()
    expect(board.get_by_label("Request panel")).to_contain_text("was not recorded")
    assert sleeper.sleeps
    sleeper.wake()
    board.get_by_role("button", name="Close request").click()


def test_nothing_is_asked_without_a_view(notebook: Notebook) -> None:
    """When the output is cleared, no file is looked at any more."""
    notebook.page.evaluate("window.jupyterapp.commands.execute('notebook:clear-all-cell-outputs')")
    deadline = time.monotonic() + 90
    while notebook.value("board._live._task is not None") and time.monotonic() < deadline:
        notebook.page.wait_for_timeout(200)
    assert not notebook.value("board._live._task is not None")


def test_a_request_through_the_server(open_notebook: OpenNotebook) -> None:
    """What a notebook asks appears in its dashboard by itself, with question and answer."""
    made = open_notebook(CONNECT, "wb.dashboard()", "wb.generate('Who is there?', 'llama3.2').text")
    made.run(0)
    made.run(1)
    board = _board(made)
    expect(board).to_have_attribute("aria-busy", "false", timeout=FIRST_MS)
    rows = board.locator(".wbd-table tbody tr")
    # Requests of other tests may be in the store.
    before = rows.evaluate_all("rows => rows.map((row) => row.dataset.id)")
    made.run(2)
    new = board.locator(".wbd-table tbody tr" + "".join(f":not([data-id='{i}'])" for i in before))
    expect(new.first).to_contain_text("llama3.2", timeout=90_000)
    new.first.click()
    detail = board.get_by_label("Request panel")
    expect(detail.get_by_role("article", name="You")).to_contain_text("Who is there?")
    expect(detail.get_by_role("article", name="Answer")).to_contain_text("Hello from a script.")
    assert [] == made.errors


def test_reopened_without_its_kernel(
    open_notebook: OpenNotebook, store: Path, place: Place
) -> None:
    """A saved notebook is small, shows the figures as a table, and says how to go on."""
    made = open_notebook(SOURCE.format(path=str(store)))
    made.run(0)
    expect(_board(made)).to_have_attribute("aria-busy", "false", timeout=FIRST_MS)
    made.save()
    name = made.page.url.rpartition("/")[2].partition("?")[0]
    assert (place.lab.work / name).stat().st_size < MOST_BYTES
    made.shut_down()
    made.reload()
    saved = made.page.locator(".workbench-chat-output")
    expect(saved).to_contain_text("p95 latency")
    expect(saved).to_contain_text("Run this cell for a live dashboard.")


def _ran(path: Path, out: Path) -> Any:
    made = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(SOURCE.format(path=str(path)))],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}},
    )
    nbformat.write(made, out)
    return made


def _check(made: Any) -> None:
    figures = [o for o in made.cells[0].outputs if PLOTLY in o.get("data", {})]
    tables = [o for o in made.cells[0].outputs if "text/html" in o.get("data", {})]
    assert len(figures) == 8
    assert len(tables) == 1
    assert "p95 latency" in tables[0]["data"]["text/html"]
    assert max(len(json.dumps(output)) for output in made.cells[0].outputs) < MOST_BYTES
    assert "widgets" not in made.metadata
    assert WIDGET not in nbformat.writes(made)


def test_where_nobody_looks(store: Path, tmp_path: Path) -> None:
    """Run by nbclient it is a table and plain figures, each under 100 kB, and no widget."""
    made = _ran(store, tmp_path / "in.ipynb")
    NotebookClient(made, timeout=200, kernel_name="python3").execute()
    _check(made)


def test_under_papermill(store: Path, tmp_path: Path) -> None:
    """Papermill's output holds the same, and no widget state."""
    _ran(store, tmp_path / "in.ipynb")
    papermill.execute_notebook(
        tmp_path / "in.ipynb", tmp_path / "out.ipynb", kernel_name="python3", progress_bar=False
    )
    _check(nbformat.read(tmp_path / "out.ipynb", as_version=4))
