"""The runs panel in JupyterLab and Chromium, on run folders that are written meanwhile."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from playwright.sync_api import Locator, expect

from tests.browsers import needs_chromium
from tests.widgets import run_store
from tests.widgets.conftest import OpenNotebook, Place
from tests.widgets.lab import Notebook
from tests.widgets.run_store import RunWriter
from tests.widgets.test_busy import Sleeper

pytestmark = [
    pytest.mark.browser,
    needs_chromium,
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
]

FRONT = "window.jupyterapp.shell.currentWidget.id"
WIDGET = "application/vnd.jupyter.widget-view+json"
SOURCE = """
from workbench.client.door import client_config, open_client
from workbench.widgets.runs import RunsPanel
config = client_config(data_dir={path!r})
panel = RunsPanel(open_client(config, spawn=False), config)
panel
"""


@pytest.fixture(scope="module")
def data_dir(place: Place) -> Path:
    """Return a data folder that JupyterLab can show."""
    return place.lab.work / "data"


@pytest.fixture(scope="module")
def elsewhere(place: Place) -> Path:
    """Return a data folder that JupyterLab cannot show."""
    return place.folder / "hidden"


@pytest.fixture(scope="module")
def running(data_dir: Path) -> Iterator[RunWriter]:
    """Write runs, of which the newest goes on until the tests end."""
    run_store.done(data_dir, time.time() - 9000)
    run = run_store.running(data_dir, time.time() - 20)
    with run.alive():
        yield run


@pytest.fixture(scope="module")
def notebook(open_notebook: OpenNotebook, data_dir: Path, running: RunWriter) -> Notebook:
    """Open a notebook with the panel; no server is there."""
    made = open_notebook(SOURCE.format(path=str(data_dir)))
    made.run(0)
    expect(_panel(made)).to_have_attribute("aria-busy", "false")
    return made


def _panel(notebook: Notebook) -> Locator:
    return notebook.page.locator(".wbr-root").last


def test_it_follows_while_a_cell_runs(
    notebook: Notebook, running: RunWriter, tmp_path: Path
) -> None:
    """While a cell sleeps a run is opened, its items go on, and its question appears."""
    panel = _panel(notebook)
    expect(panel.locator(".wbr-run")).to_have_count(2)
    sleeper = Sleeper(notebook, tmp_path)
    panel.locator(".wbr-run").first.click()
    ask = panel.locator('.wbr-node[data-step="ask"]')
    expect(ask).to_contain_text("12 of 40")
    running.write("step_progress", "ask", done=30, total=40, errors=0)
    expect(ask).to_contain_text("30 of 40")
    ask.click()
    expect(panel.get_by_label("Step panel")).to_contain_text("Requests, 12")
    # JupyterLab has rules of its own for lists of definitions.
    expect(panel.locator(".wbr-pairs").first).to_have_css("display", "grid")
    panel.page.keyboard.press("Escape")
    running.start("look").write("step_waiting", "look", ask="Go on?", sha256="7" * 64)
    card = panel.get_by_role("region", name="Question of look")
    card.get_by_label("Note to the answer at look").fill("fine")
    card.get_by_role("button", name="Yes, at look").click()
    expect(card).to_be_hidden()
    assert running.folder.answer("look").is_file()
    assert sleeper.sleeps
    sleeper.wake()
    assert [] == notebook.errors


def test_keys_stay_in_the_panel(notebook: Notebook) -> None:
    """Keys of the notebook do nothing while the focus is in the panel."""
    before = notebook.sources()
    panel = _panel(notebook)
    panel.locator('.wbr-node[data-step="load"]').focus()
    for key in ("a", "b", "d", "d", "ArrowDown", "Enter"):
        panel.page.keyboard.press(key)
    expect(panel.get_by_label("Step panel")).to_be_visible()
    for _ in range(2):
        panel.page.keyboard.press("Escape")
    expect(panel.locator(".wbr-run").first).to_be_focused()
    assert before == notebook.sources()


def test_lab_is_told_and_opens_the_notebook(notebook: Notebook, running: RunWriter) -> None:
    """The notebook of a run opens in a tab; a run that ends meanwhile is told and counted.

    JupyterLab shows a notification, and the panel's tab and the page's title a count, until the
    panel is looked at.
    """
    page, panel = notebook.page, _panel(notebook)
    front = page.evaluate(FRONT)
    panel.locator(".wbr-run").first.click()
    panel.get_by_role("button", name="Open notebook").click()
    opened = "window.jupyterapp.shell.currentWidget?.context?.path"
    page.wait_for_function(f"path => {opened} === path", arg=_place(running))
    badge = page.locator(".lm-TabBar-tab[data-workbench-unseen='1']")
    expect(badge).to_have_count(0)
    running.write("step_answered", "look", yes=True).done("look").end("failed")
    expect(page.get_by_text("compare-models failed.").last).to_be_visible()
    expect(badge).to_have_count(1)
    expect(page).to_have_title(re.compile(r"^\(1\) "))
    page.evaluate("id => window.jupyterapp.shell.activateById(id)", front)
    expect(badge).to_have_count(0)
    expect(page).not_to_have_title(re.compile(r"^\("))


def _place(run: RunWriter) -> str:
    return f"data/runs/{run.run_id}/notebook.ipynb"


def test_a_notebook_that_lab_cannot_reach(
    place: Place, notebook: Notebook, elsewhere: Path
) -> None:
    """A run outside of JupyterLab's folder is opened as a copy beside the notebook.

    The saved notebook is a table that says how to go on.
    """
    run_store.cancelled(elsewhere, time.time() - 60)
    made = notebook
    made.cell(SOURCE.format(path=str(elsewhere)))
    expect(made.page.locator(".wbr-root")).to_have_count(2)
    panel, front = _panel(made), made.page.evaluate(FRONT)
    panel.locator(".wbr-run").first.click()
    panel.get_by_role("button", name="Open notebook").click()
    opened = "window.jupyterapp.shell.currentWidget?.context?.path"
    made.page.wait_for_function(f"{opened}?.startsWith('workbench-runs/compare-models-')")
    assert 1 == len(list((place.lab.work / "workbench-runs").glob("compare-models-*.ipynb")))
    made.page.evaluate("id => window.jupyterapp.shell.activateById(id)", front)
    made.page.wait_for_function(f"!{opened}?.startsWith('workbench-runs')")
    made.save()
    made.shut_down()
    made.reload()
    saved = made.page.locator(".workbench-chat-output").last
    expect(saved).to_contain_text("cancelled")
    expect(saved).to_contain_text("Run this cell for a live panel.")
    expect(made.page.locator(".wbr-root")).to_have_count(0)


def test_where_nobody_looks(place: Place, elsewhere: Path) -> None:
    """In a run without a person the panel is a table, shown once, and no widget."""
    made = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(SOURCE.format(path=str(elsewhere)))],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}},
    )
    NotebookClient(made, timeout=100, kernel_name="python3").execute()
    (shown,) = made.cells[0].outputs
    assert ["text/html", "text/plain"] == sorted(shown["data"])
    assert "widgets" not in made.metadata
    assert "cancelled" in shown["data"]["text/plain"]
    assert WIDGET not in nbformat.writes(made)
