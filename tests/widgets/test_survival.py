"""What of a chat outlives a reload, a second view, a restart and a crash."""

from __future__ import annotations

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

NUMBERS = " ".join(str(number) for number in range(400))


@pytest.fixture(scope="module")
def notebook(open_notebook: OpenNotebook) -> Notebook:
    """Open the one notebook of this module; its cells outlive the restarts."""
    return open_notebook(CONNECT, "panel = wb.chat_panel('llama3.2')\npanel")


@pytest.fixture
def chat(notebook: Notebook) -> Chat:
    """Return a chat with a new conversation, in a kernel that runs."""
    notebook.page.evaluate(
        "() => { const model = window.jupyterapp.shell.currentWidget.content.model.sharedModel;"
        " if (model.cells.length > 2) model.deleteCellRange(2, model.cells.length); }"
    )
    notebook.run(0)
    notebook.run(1)
    expect(notebook.page.locator(".wb-root")).to_have_count(1)
    return notebook.chat().ready()


def _shows(chat: Chat, text: str) -> None:
    expect(chat.ended().locator(".wb-md").last).to_have_text(text)


def test_reload_in_mid_stream(place: Place, chat: Chat, notebook: Notebook) -> None:
    """A page reloaded while an answer arrives shows all of it, from the first word on."""
    place.ollama.set_reply(Reply(NUMBERS, stall_after=100, tokens_per_s=400))
    chat.send("Count")
    expect(chat.answers.last).to_contain_text("98 99")
    notebook.save()
    notebook.reload()
    chat = notebook.chat().ready()
    expect(chat.answers.last).to_contain_text("98 99")
    place.ollama.release()
    _shows(chat, NUMBERS)


def test_second_view_in_mid_stream(place: Place, chat: Chat, notebook: Notebook) -> None:
    """The same session displayed by another cell while it streams is complete in both views."""
    place.ollama.set_reply(Reply(NUMBERS, stall_after=100, tokens_per_s=400))
    chat.send("Count")
    expect(chat.answers.last).to_contain_text("98 99")
    notebook.cell("panel.session")
    expect(notebook.page.locator(".wb-root")).to_have_count(2)
    place.ollama.release()
    for index in range(2):
        _shows(Chat(notebook.page.locator(".wb-root").nth(index)), NUMBERS)


def test_lost_frames(place: Place, chat: Chat, notebook: Notebook) -> None:
    """Text whose messages were lost on the way is asked for again, and nothing is missing."""
    place.ollama.set_reply(Reply(NUMBERS, tokens_per_s=200))
    # Loses messages as a full queue does: two of three frames never leave the kernel.
    notebook.cell(
        "real, count = panel.widget.send, [0]\n"
        "def lossy(content, buffers=None):\n"
        "    count[0] += content['t'] == 'f'\n"
        "    if content['t'] != 'f' or count[0] % 3 == 0:\n"
        "        real(content, buffers)\n"
        "panel.widget.send = lossy"
    )
    chat.ask("Count")
    _shows(chat, NUMBERS)
    assert 3 <= notebook.value("count[0]")


def test_old_texts_are_not_sent_again(place: Place, chat: Chat, notebook: Notebook) -> None:
    """A turn sends the page its own texts and none of those before; a new view gets them all."""
    received: list[str] = []

    def note(data: str | bytes) -> None:
        received.append(data if isinstance(data, str) else data.decode("utf-8", "replace"))

    place.ollama.set_reply(Reply("The first walrus."))
    chat.ask("One")
    notebook.save()
    notebook.page.on("websocket", lambda socket: socket.on("framereceived", note))
    notebook.reload()
    chat = notebook.chat().ready()
    expect(chat.answers.last).to_contain_text("The first walrus.")
    assert any("walrus" in data for data in received)
    place.ollama.set_reply(Reply("The second lighthouse."))
    received.clear()
    chat.ask("Two")
    expect(chat.answers.last).to_contain_text("The second lighthouse.")
    pictures = [data for data in received if '"t":"state"' in data.replace(" ", "")]
    assert any("lighthouse" in data for data in pictures)
    assert not any("walrus" in data for data in pictures)


def test_kernel_restart(chat: Chat, notebook: Notebook) -> None:
    """After a restart the old view keeps its text and says so at once; the id opens it again."""
    chat.ask("Before the restart")
    conversation = notebook.value("panel.session.id")
    notebook.restart()
    expect(chat.root.locator(".wb-lost")).to_contain_text("run the cell again")
    expect(chat.field("Message")).to_be_disabled()
    expect(chat.answers.last).to_contain_text("Hello from a script.")
    notebook.run(0)
    notebook.cell(f"wb.chat_panel(conversation={conversation!r})")
    # The old view stays; until the new one is there, it is the last.
    expect(notebook.page.locator(".wb-root")).to_have_count(2)
    chat = notebook.chat().ready()
    expect(chat.questions).to_have_count(1)
    expect(chat.questions.last).to_contain_text("Before the restart")
    chat.ask("After the restart")
    expect(chat.questions).to_have_count(2)


def test_kernel_restart_without_the_extension(plain_place: Place, browser: Browser) -> None:
    """Without our extension the widget manager tells the view of a restart."""
    notebook = Notebook(browser.new_page())
    cells = [CONNECT + "\nwb.chat_panel('llama3.2')"]
    notebook.open(plain_place.lab.notebook("restart.ipynb", cells))
    notebook.run(0)
    chat = notebook.chat().ready()
    chat.ask("Before the restart")
    notebook.restart()
    expect(chat.root.locator(".wb-lost")).to_contain_text("run the cell again")
    notebook.shut_down()
    notebook.page.close()


def test_opened_again_in_the_same_kernel(place: Place, chat: Chat, notebook: Notebook) -> None:
    """The id of a conversation that is open in this kernel gives a second view of it."""
    place.ollama.set_reply(Reply(NUMBERS, stall_after=100, tokens_per_s=400))
    chat.send("Count")
    expect(chat.answers.last).to_contain_text("98 99")
    notebook.cell("again = wb.chat_panel(conversation=panel.session.id)\nagain")
    expect(notebook.page.locator(".wb-root")).to_have_count(2)
    assert notebook.value("again.session is panel.session")
    place.ollama.release()
    for index in range(2):
        _shows(Chat(notebook.page.locator(".wb-root").nth(index)), NUMBERS)
    notebook.cell("panel.session.close()\nwb.chat_panel(conversation=panel.session.id)")
    expect(notebook.page.locator(".wb-root")).to_have_count(3)
    third = notebook.chat().ready()
    _shows(third, NUMBERS)
    place.ollama.set_reply(Reply("Hello from a script."))
    third.ask("And after it was closed?")
    expect(third.questions).to_have_count(2)


def test_server_restart(place: Place, chat: Chat) -> None:
    """A chat goes on when the workbench server was stopped meanwhile."""
    chat.ask("Before")
    place.workbench("stop", "--force")
    chat.ask("After")
    expect(chat.questions).to_have_count(2)
    expect(chat.answers.last).to_contain_text("Hello from a script.")


def test_kernel_killed_in_mid_answer(place: Place, chat: Chat, notebook: Notebook) -> None:
    """What had arrived when the kernel died is in the conversation that is opened afterwards."""
    place.ollama.set_reply(Reply(NUMBERS, stall_after=100))
    chat.send("Count")
    expect(chat.answers.last).to_contain_text("98 99")
    conversation = notebook.value("panel.session.id")
    path = place.data_dir / "chats" / f"{conversation}.jsonl"
    while "98 99" not in path.read_text(encoding="utf-8"):
        notebook.page.wait_for_timeout(50)
    notebook.cell("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", wait=False)
    expect(chat.root.locator(".wb-lost")).to_contain_text("run the cell again")
    expect(chat.answers.last).to_contain_text("Interrupted.")
    dialog = notebook.page.locator(".jp-Dialog")
    expect(dialog).to_contain_text("Kernel Restarting")
    dialog.get_by_role("button", name="Ok").click()
    notebook.ready()
    notebook.run(0)
    notebook.cell(f"wb.chat_panel(conversation={conversation!r})")
    # The old view stays; until the new one is there, it is the last.
    expect(notebook.page.locator(".wb-root")).to_have_count(2)
    chat = notebook.chat().ready()
    expect(chat.answers.last).to_contain_text("98 99")
    expect(chat.answers.last.locator(".wb-phase")).to_be_hidden()
