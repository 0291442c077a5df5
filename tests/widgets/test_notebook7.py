"""The chat in Notebook 7, with and without our extension; run by `make matrix`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.browsers import needs_chromium
from tests.widgets.conftest import CONNECT, Place, a_place
from tests.widgets.lab import Notebook
from tests.widgets.test_busy import Sleeper
from tests.widgets.test_kernels import install
from workbench.testing import Reply

pytestmark = [
    pytest.mark.matrix,
    needs_chromium,
    pytest.mark.timeout(1800),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

CODE = "Look:\n\n```python\nprint('from the answer')\n```\n"
PANEL = "panel = wb.chat_panel('llama3.2')\npanel"


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Install Notebook 7; return its interpreter."""
    return str(install(tmp_path_factory.mktemp("notebook7") / "venv", "notebook>=7"))


@pytest.fixture(scope="module", params=["with our extension", "without"])
def place(request: pytest.FixtureRequest, python: str) -> Iterator[Place]:
    """Start Notebook 7."""
    disabled = ("local-model-workbench",) if request.param == "without" else ()
    env = {"JUPYTER_PATH": str(Path(sys.prefix) / "share" / "jupyter")}
    with a_place(disabled=disabled, env=env, python=python, app="notebook") as made:
        yield made


def test_chat(place: Place, browser: Browser, tmp_path: Path) -> None:
    """Chatting, Stop while a cell runs, inserting or copying, and the reopened notebook work."""
    context = browser.new_context(
        viewport={"width": 1400, "height": 900}, permissions=["clipboard-read", "clipboard-write"]
    )
    notebook = Notebook(context.new_page())
    notebook.open(place.lab.notebook("seven.ipynb", [CONNECT, PANEL]))
    # Notebook 7 itself fails to find a schema of its own; what counts is what comes after it.
    notebook.errors.clear()
    extended = bool(notebook.page.evaluate("Boolean(window.workbenchLab)"))
    notebook.run(0)
    notebook.run(1)
    chat = notebook.chat().ready()
    place.ollama.set_reply(Reply(CODE))
    answer = chat.ask("Show me code")
    answer.get_by_role("button", name="Insert code as cell").click()
    if extended:
        notebook.page.wait_for_function(
            "() => window.jupyterapp.shell.currentWidget.content.widgets.length === 3"
        )
        assert ("code", "print('from the answer')") == notebook.sources()[2]
    else:
        expect(chat.root.locator(".wb-notice")).to_contain_text("Copied")
    _stop_while_busy(place, notebook, tmp_path)
    notebook.save()
    notebook.shut_down()
    reopened = Notebook(context.new_page())
    reopened.open(place.lab.address("seven.ipynb"))
    reopened.errors.clear()
    if extended:
        saved = reopened.page.locator(".workbench-chat-output .wb-static")
        expect(saved).to_contain_text("Show me code")
    expect(reopened.page.locator(".wb-root")).to_have_count(0)
    assert [] == notebook.errors + reopened.errors
    reopened.shut_down()
    context.close()


def _stop_while_busy(place: Place, notebook: Notebook, folder: Path) -> None:
    place.ollama.set_reply(Reply("one two three four", stall_after=2))
    chat = notebook.chat()
    chat.send("Count")
    expect(chat.answers.last).to_contain_text("one two")
    sleeper = Sleeper(notebook, folder)
    chat.stop()
    expect(chat.ended()).to_contain_text("Stopped.")
    assert sleeper.sleeps
    sleeper.wake()
