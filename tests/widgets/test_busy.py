"""The chat while another cell keeps the kernel busy."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
from playwright.sync_api import Locator, expect

from tests.browsers import needs_chromium
from tests.widgets.conftest import CONNECT, OpenNotebook, Place
from tests.widgets.lab import Notebook
from workbench.testing import Reply

pytestmark = [
    pytest.mark.browser,
    needs_chromium,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

# Ends early when the test lets it, so that no test waits for it.
BUSY = """
import pathlib, time
pathlib.Path({begun!r}).touch()
for _ in range(120):
    time.sleep(1)
    if pathlib.Path({free!r}).exists():
        break
"""


@pytest.fixture(scope="module")
def notebook(open_notebook: OpenNotebook) -> Notebook:
    """Open a notebook with a chat."""
    made = open_notebook(CONNECT, "panel = wb.chat_panel('llama3.2')\npanel")
    made.run(0)
    made.run(1)
    made.chat().ready()
    return made


class Sleeper:
    """A cell that sleeps up to two minutes, or until `wake`."""

    def __init__(self, notebook: Notebook, folder: Path) -> None:
        self.notebook = notebook
        self._free = folder / "free"
        self._begun = folder / "begun"
        source = BUSY.format(begun=str(self._begun), free=str(self._free))
        self.index = notebook.cell(source, wait=False)
        expect(self._prompts.nth(self.index)).to_have_text("[*]:")
        while not self._begun.exists():
            notebook.page.wait_for_timeout(20)

    @property
    def _prompts(self) -> Locator:
        return self.notebook.page.locator(".jp-CodeCell .jp-InputPrompt")

    @property
    def sleeps(self) -> bool:
        """Whether the cell is still running."""
        return bool(self._prompts.nth(self.index).inner_text() == "[*]:")

    def wake(self) -> None:
        """Let the cell end."""
        self._free.touch()
        self.notebook.page.wait_for_function(
            "index => window.jupyterapp.shell.currentWidget.content.widgets[index]"
            ".model.executionCount !== null",
            arg=self.index,
        )


@pytest.fixture
def sleeper(notebook: Notebook, tmp_path: Path) -> Iterator[Sleeper]:
    """Keep the kernel busy for the time of a test."""
    made = Sleeper(notebook, tmp_path)
    yield made
    made.wake()


def _stop_while_busy(place: Place, notebook: Notebook, folder: Path) -> Sleeper:
    """Let an answer stream while a cell sleeps, so that messages of both are mixed; click Stop."""
    place.ollama.set_reply(Reply(" ".join(map(str, range(5000))), tokens_per_s=25))
    chat = notebook.chat()
    chat.send("Count")
    expect(chat.answers.last).to_contain_text("4 5")
    sleeper = Sleeper(notebook, folder)
    shown = len(chat.answers.last.inner_text())
    notebook.page.wait_for_function(
        "length => [...document.querySelectorAll('article.wb-answer')].at(-1).innerText.length"
        " > length + 60",
        arg=shown,
    )
    chat.stop()
    return sleeper


def test_stop_while_a_cell_runs(place: Place, notebook: Notebook, tmp_path: Path) -> None:
    """An answer streams on while a cell sleeps, and Stop ends it before that cell does."""
    sleeper = _stop_while_busy(place, notebook, tmp_path)
    expect(notebook.chat().ended()).to_contain_text("Stopped.")
    request = [item for item in place.ollama.requests if item.operation == "chat"][-1]
    assert request.disconnected.wait(10)
    assert sleeper.sleeps
    sleeper.wake()


def test_everything_answers_while_a_cell_runs(notebook: Notebook, sleeper: Sleeper) -> None:
    """A whole answer, and the list of conversations, come while a cell sleeps."""
    chat = notebook.chat()
    expect(chat.ask("Hi")).to_contain_text("Hello from a script.")
    chat.button("Conversations").click()
    expect(chat.root.locator(".wb-chat").first).to_be_visible()
    chat.button("Close conversations").click()
    assert sleeper.sleeps


def test_interrupt_stops_an_answer_asked_by_a_cell(place: Place, notebook: Notebook) -> None:
    """Interrupting the kernel ends `session.ask`; the part that came is kept and shown."""
    place.ollama.set_reply(Reply("one two three four", stall_after=2))
    notebook.cell("answer = panel.session.ask('Count', show=True)", wait=False)
    chat = notebook.chat()
    expect(chat.answers.last).to_contain_text("one two")
    notebook.command("notebook:interrupt-kernel")
    expect(chat.ended()).to_contain_text("Interrupted.")
    assert "interrupted" == notebook.value("answer.stop_reason")
    assert "one two" == notebook.value("answer.text")


def test_stop_of_an_answer_asked_by_a_cell(place: Place, notebook: Notebook) -> None:
    """Stop in the panel ends a `session.ask` that a cell waits for.

    The next test shows that it needs the routing of `connect_view` on ipykernel 7.4.
    """
    place.ollama.set_reply(Reply("one two three four", stall_after=2))
    notebook.cell("answer = panel.session.ask('Count')", wait=False)
    chat = notebook.chat()
    expect(chat.answers.last).to_contain_text("one two")
    chat.stop()
    expect(chat.ended()).to_contain_text("Stopped.")
    assert "cancelled" == notebook.value("answer.stop_reason")


@pytest.mark.skipif(version("ipykernel") != "7.4.0", reason="the fault is of ipykernel 7.4.0")
def test_stop_waits_without_the_fix(place: Place, notebook: Notebook) -> None:
    """Without our routing ipykernel 7.4 hears that Stop when the cell has ended."""
    place.ollama.set_reply(Reply("one two three four", stall_after=2))
    notebook.value("vars(panel.widget.comm).pop('_reply_subshell_for') and None")
    notebook.cell("answer = panel.session.ask('Count')", wait=False)
    chat = notebook.chat()
    expect(chat.answers.last).to_contain_text("one two")
    chat.stop()
    expect(chat.answers.last.locator(".wb-phase")).to_contain_text("has not confirmed yet")
    place.ollama.release()
    chat.ended()
    assert "stop" == notebook.value("answer.stop_reason")
