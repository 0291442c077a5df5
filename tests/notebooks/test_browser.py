"""The first notebook in a real browser, as a person sees it."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browsers import chromium, needs_chromium
from tests.cli.harness import Cli

pytestmark = [
    pytest.mark.browser,
    needs_chromium,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

ANSWER = "The capital of France is Paris."
IDLE = "window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"
LIMIT_MS = 90_000


@pytest.fixture
def lab(private_folders: Path) -> Iterator[str]:
    """Start JupyterLab through `workbench lab`, and yield the address to open."""
    cli = Cli(private_folders)
    options = ("--no-browser", "--port=0", "--LabApp.expose_app_in_browser=True")
    process = cli.start("lab", *options, stdout=subprocess.DEVNULL)
    assert process.stderr is not None
    said = ""
    while not (found := re.search(r"copy and paste.*(http://127\S+)", said, re.DOTALL)):
        line = process.stderr.readline()
        assert line, said
        said += line
    yield found[1]
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    cli.run("stop", "--force")


@pytest.fixture
def page(lab: str, tmp_path: Path) -> Iterator[Any]:
    """Open the address in a browser that keeps what it fetched in `requested`."""
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1200, "height": 1500})
        page.set_default_timeout(LIMIT_MS)
        requested: list[str] = []
        page.on("request", lambda request: requested.append(request.url))
        page.goto(lab)
        page.wait_for_function(IDLE)
        yield page
        page.screenshot(path=tmp_path / "page.png")
        outside = [url for url in requested if not re.match(r"(http://127\.|data:|blob:)", url)]
        assert [] == outside


def test_one_click_and_one_enter(page: Any) -> None:
    """The notebook opens with a chat ready to type; one click and one Enter stream an answer."""
    page.evaluate(
        "window.did = [];"
        " for (const type of ['pointerdown', 'keydown'])"
        "   window.addEventListener(type, (event) => window.did.push(event.key ?? type), true)"
    )
    page.set_viewport_size({"width": 1200, "height": 800})
    chat = page.locator(".wb-root")
    field = chat.get_by_label("Message", exact=True)
    expect(field).to_be_focused(timeout=LIMIT_MS)
    expect(field).to_be_in_viewport()
    examples = chat.locator(".wb-welcome button")
    expect(examples).to_have_count(3)
    examples.first.click()
    page.keyboard.press("Enter")
    expect(chat.locator("article.wb-answer")).to_contain_text(ANSWER, timeout=LIMIT_MS)
    assert ["pointerdown", "Enter"] == page.evaluate("window.did")


def test_nothing_else_is_run_by_itself(page: Any) -> None:
    """Only the chat of the notebook runs: no other cell, and no copy of it under another name."""
    expect(page.locator(".wb-root")).to_be_visible(timeout=LIMIT_MS)
    counts = (
        "() => window.jupyterapp.shell.currentWidget.content.widgets"
        ".filter((cell) => cell.model.type === 'code').map((cell) => cell.model.executionCount)"
    )
    assert [1] == [count for count in page.evaluate(counts) if count is not None]
    page.evaluate(
        "async () => { const { commands, serviceManager } = window.jupyterapp;"
        " await serviceManager.contents.copy('01_chat.ipynb', '');"
        " await commands.execute('docmanager:open', { path: '01_chat-Copy1.ipynb' }); }"
    )
    page.wait_for_function(
        "path => window.jupyterapp.shell.currentWidget.context?.path === path",
        arg="01_chat-Copy1.ipynb",
    )
    page.wait_for_function(IDLE)
    page.wait_for_timeout(1000)
    assert set(page.evaluate(counts)) == {None}


def test_first_notebook_in_the_browser(page: Any, tmp_path: Path) -> None:
    """Lab opens at the notebook, its cells run, and the model's answers are in the page."""
    expect(page).to_have_title(re.compile("01_chat"), timeout=LIMIT_MS)
    page.screenshot(path=tmp_path / "opened.png")
    # No question about news or updates stands over the notebook.
    assert 0 == page.locator(".Toastify__toast, .jp-Dialog").count()
    page.evaluate("window.jupyterapp.commands.execute('notebook:run-all-cells')")
    # Only the cells in view are in the page; the last answer is in the document.
    page.wait_for_function(
        "answer => JSON.stringify(window.jupyterapp.shell.currentWidget.content.model.toJSON())"
        ".includes(answer)",
        arg="2 turns are in 01_chat.md",
    )
    for text in (ANSWER, ANSWER.upper()):
        output = page.locator(".jp-OutputArea-output", has_text=re.compile(re.escape(text))).first
        output.scroll_into_view_if_needed()
        expect(output).to_contain_text(text, timeout=LIMIT_MS)
    page.screenshot(path=tmp_path / "run.png")
    assert (
        0
        == page.locator(".jp-RenderedText[data-mime-type='application/vnd.jupyter.error']").count()
    )
