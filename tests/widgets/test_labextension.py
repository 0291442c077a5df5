"""What our JupyterLab extension adds: durable transcripts, cells, a launcher tile; and its lack."""

from __future__ import annotations

import json

import pytest
from playwright.sync_api import Browser, expect

from tests.browsers import needs_chromium
from tests.widgets.conftest import CONNECT, OpenNotebook, Place
from tests.widgets.lab import Chat, Notebook
from workbench.testing import Reply

pytestmark = [
    pytest.mark.browser,
    needs_chromium,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

CODE = "Look:\n\n- a list:\n\n  ```python\n  print('from the answer')\n  ```\n\nThat is all."
PANEL = "panel = wb.chat_panel('llama3.2')\npanel"
KEPT = (
    "text => JSON.stringify(window.jupyterapp.shell.currentWidget.content.model.toJSON())"
    ".includes(text)"
)


@pytest.fixture(scope="module")
def notebook(open_notebook: OpenNotebook) -> Notebook:
    """Open a notebook with a chat."""
    made = open_notebook(CONNECT, PANEL)
    made.run(0)
    made.run(1)
    made.chat().ready()
    return made


def _name(notebook: Notebook) -> str:
    return notebook.page.url.rpartition("/")[2].partition("?")[0]


def test_insert_code_as_cell(place: Place, notebook: Notebook) -> None:
    """A code block of an answer becomes a code cell below the chat."""
    place.ollama.set_reply(Reply(CODE))
    answer = notebook.chat().ask("Show me code")
    answer.get_by_role("button", name="Insert code as cell").click()
    notebook.page.wait_for_function(
        "() => window.jupyterapp.shell.currentWidget.content.widgets.length === 3"
    )
    assert ("code", "print('from the answer')") == notebook.sources()[2]


def test_insert_answer_as_cell(place: Place, notebook: Notebook) -> None:
    """A whole answer becomes a markdown cell below the chat."""
    place.ollama.set_reply(Reply("**Bold** words."))
    before = len(notebook.sources())
    answer = notebook.chat().ask("Say something bold")
    answer.hover()
    answer.get_by_role("button", name="Insert answer as cell").click()
    notebook.page.wait_for_function(
        "count => window.jupyterapp.shell.currentWidget.content.widgets.length === count",
        arg=before + 1,
    )
    assert ("markdown", "**Bold** words.") == notebook.sources()[2]


def test_saved_transcript_is_current(place: Place, notebook: Notebook) -> None:
    """The output that a save writes holds each answer soon after its end."""
    place.ollama.set_reply(Reply("The newest answer."))
    notebook.chat().ask("What is new?")
    notebook.page.wait_for_function(KEPT, arg="The newest answer.")
    notebook.save()
    written = json.loads((place.lab.work / _name(notebook)).read_text(encoding="utf-8"))
    data = written["cells"][1]["outputs"][0]["data"]
    assert "The newest answer." in "".join(data["text/plain"])
    assert "<script" not in "".join(data["text/html"])
    assert "widgets" not in written["metadata"]


def test_saved_transcript_is_current_after_a_reload(place: Place, notebook: Notebook) -> None:
    """An answer that ends after the page was reloaded is in the output as well."""
    notebook.save()
    notebook.reload()
    notebook.chat().ready()
    place.ollama.set_reply(Reply("After the reload."))
    notebook.chat().ask("Still there?")
    notebook.page.wait_for_function(KEPT, arg="After the reload.")


def test_live_view_is_not_rebuilt(place: Place, notebook: Notebook) -> None:
    """What a person is typing stays when the output takes the transcript."""
    place.ollama.set_reply(Reply("A third answer.", stall_after=1))
    chat = notebook.chat()
    chat.send("Go on")
    expect(chat.answers.last).to_contain_text("A")
    chat.field("Message").fill("a draft")
    place.ollama.release()
    notebook.page.wait_for_function(KEPT, arg="A third answer.")
    expect(chat.field("Message")).to_have_value("a draft")
    expect(chat.field("Message")).to_be_focused()
    chat.field("Message").fill("")


def test_reopened_without_a_kernel(place: Place, browser: Browser, notebook: Notebook) -> None:
    """A notebook from another day shows the saved transcript, never "model not found"."""
    notebook.page.wait_for_function(KEPT, arg="Say something bold")
    notebook.save()
    copy = place.lab.work / "another-day.ipynb"
    copy.write_bytes((place.lab.work / _name(notebook)).read_bytes())
    page = browser.new_page()
    reopened = Notebook(page).open(place.lab.address(copy.name))
    output = page.locator(".workbench-chat-output")
    expect(output).to_contain_text("Say something bold")
    expect(output.locator("strong", has_text="Bold")).to_be_visible()
    expect(page.locator(".wb-root")).to_have_count(0)
    assert "model not found" not in page.content()
    reopened.shut_down()
    page.close()


def test_launcher_tile(place: Place, browser: Browser) -> None:
    """A tile of the launcher opens a notebook with a chat in it."""
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    notebook = Notebook(page)
    page.goto(place.lab.address("").replace("/tree/", ""))
    page.locator(".jp-LauncherCard", has_text="Model chat").first.click()
    chat = Chat(page.locator(".wb-root")).ready()
    expect(chat.ask("Hi")).to_contain_text("Hello")
    notebook.shut_down()
    page.close()


def test_without_the_extension(plain_place: Place, browser: Browser) -> None:
    """Where the extension is missing the panel works, and inserting becomes copying."""
    plain_place.ollama.set_reply(Reply(CODE))
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    notebook = Notebook(context.new_page())
    notebook.open(plain_place.lab.notebook("plain.ipynb", [CONNECT, PANEL]))
    notebook.run(0)
    notebook.run(1)
    chat = notebook.chat().ready()
    answer = chat.ask("Show me code")
    answer.get_by_role("button", name="Insert code as cell").click()
    expect(chat.root.locator(".wb-notice")).to_contain_text("Copied")
    assert "print('from the answer')" == notebook.page.evaluate(
        "() => navigator.clipboard.readText()"
    )
    assert [] == notebook.errors
    notebook.shut_down()
    context.close()
