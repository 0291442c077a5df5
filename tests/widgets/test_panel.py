"""The chat panel in JupyterLab and Chromium: what a person sees and does."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import FilePayload, expect

from tests.browsers import needs_chromium
from tests.widgets.conftest import CONNECT, OpenNotebook, Place
from tests.widgets.lab import Chat, Drag, Notebook
from workbench.testing import Reply, ToolCall

pytestmark = [
    pytest.mark.browser,
    needs_chromium,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
)


@pytest.fixture(scope="module")
def notebook(open_notebook: OpenNotebook) -> Notebook:
    """Open the one notebook of this module, with a chat in it."""
    made = open_notebook(CONNECT, "panel = wb.chat_panel('llama3.2')\npanel")
    made.run(0)
    made.run(1)
    made.chat().ready()
    return made


@pytest.fixture
def chat(notebook: Notebook) -> Chat:
    """Return the chat with a new, empty conversation."""
    chat = notebook.chat()
    if chat.questions.count():
        chat.button("New conversation").click()
        expect(chat.questions).to_have_count(0)
    return chat


def test_one_click_and_one_enter(open_notebook: OpenNotebook) -> None:
    """Three examples stand there; one click and one Enter give a streamed answer of a model."""
    notebook = open_notebook(CONNECT + "\nwb.chat_panel('toy-tiny')")
    notebook.run(0)
    chat = notebook.chat().ready()
    examples = chat.root.locator(".wb-welcome button")
    expect(examples).to_have_count(3)
    examples.first.click()
    notebook.page.keyboard.press("Enter")
    expect(chat.answers).to_have_count(1)
    expect(chat.ended()).to_contain_text("Paris")
    assert [] == notebook.errors


def test_bare_session_shows_a_panel(open_notebook: OpenNotebook) -> None:
    """A session as the last line of a cell is the same chat."""
    notebook = open_notebook(CONNECT + "\nsession = wb.session('llama3.2')\nsession")
    notebook.run(0)
    chat = notebook.chat().ready()
    expect(chat.ask("Hi")).to_contain_text("Hello from a script.")
    assert "Hello from a script." == notebook.value("session.turns[-1].answer.message.content")


def test_stop_keeps_what_came(place: Place, chat: Chat, notebook: Notebook) -> None:
    """Stop ends the request at the backend; the part that came stays and says why it ended."""
    place.ollama.set_reply(Reply("one two three four", stall_after=2))
    chat.send("Count")
    expect(chat.answers.last).to_contain_text("one two")
    chat.stop()
    answer = chat.ended()
    expect(answer).to_contain_text("Stopped.")
    expect(answer.locator(".wb-md").last).to_have_text("one two")
    request = [item for item in place.ollama.requests if item.operation == "chat"][-1]
    assert request.disconnected.wait(10)
    assert "cancelled" == notebook.value("panel.session.turns[-1].answer.facts.stop_reason")


def test_ask_from_a_cell_shows_in_the_panel(chat: Chat, notebook: Notebook) -> None:
    """What a cell asks the same session is in the panel, streamed as if it were asked there."""
    notebook.value("panel.session.ask('From a cell').text")
    expect(chat.questions.last).to_contain_text("From a cell")
    expect(chat.ended()).to_contain_text("Hello from a script.")


def test_regenerate_and_branches(place: Place, chat: Chat) -> None:
    """A second answer stands beside the first, and arrows go between them."""
    place.ollama.enqueue(Reply("The first."), Reply("The second."))
    chat.ask("Say something")
    chat.answers.last.hover()
    chat.button("Regenerate answer").last.click()
    answer = chat.answers.last
    expect(answer).to_contain_text("The second.")
    expect(answer).to_contain_text("2/2")
    answer.hover()
    answer.get_by_role("button", name="Previous version").click()
    expect(chat.answers.last).to_contain_text("The first.")
    expect(chat.answers.last).to_contain_text("1/2")


def test_edit_a_question(place: Place, chat: Chat) -> None:
    """An edited question is asked in place of the old one, which stays behind its arrows."""
    chat.ask("Wrong question")
    chat.questions.last.hover()
    chat.button("Edit message").last.click()
    chat.field("Edit message text").fill("Right question")
    chat.field("Edit message text").press("Enter")
    expect(chat.questions.last).to_contain_text("Right question")
    expect(chat.questions).to_have_count(1)
    chat.ended()
    sent = _last_body(place)["messages"]
    assert ["Right question"] == [message["content"] for message in sent]
    chat.questions.last.hover()
    chat.questions.last.get_by_role("button", name="Previous version").click()
    expect(chat.questions.last).to_contain_text("Wrong question")


def test_delete_a_turn(chat: Chat, notebook: Notebook) -> None:
    """A deleted question goes with its answer, after a question whether it shall."""
    chat.ask("Keep")
    chat.ask("Drop")
    chat.questions.last.hover()
    chat.button("Delete message").last.click()
    chat.button("Confirm delete").click()
    expect(chat.questions).to_have_count(1)
    expect(chat.answers).to_have_count(1)
    assert 1 == notebook.value("len(panel.session.turns)")


def test_model_choice(place: Place, chat: Chat) -> None:
    """The model chosen in the picker gets the next question."""
    chat.button("Model").click()
    option = chat.root.get_by_role("option", name="Use seer")
    expect(option).to_contain_text("vision")
    option.click()
    expect(chat.model).to_have_text("seer")
    chat.ask("Who are you?")
    assert "seer" in _last_body(place)["model"]
    chat.button("Model").click()
    chat.root.get_by_role("option", name="Use llama3.2").click()
    expect(chat.model).to_have_text("llama3.2")


def test_system_prompt_and_parameters(place: Place, chat: Chat) -> None:
    """System prompt and options of the drawer are in the next request."""
    chat.button("System prompt and parameters").click()
    chat.field("System prompt").fill("Be brief.")
    chat.field("Temperature").fill("0.25")
    chat.field("Seed").fill("7")
    chat.field("Seed").press("Tab")
    chat.button("Close parameters").click()
    chat.ask("Hi")
    body = _last_body(place)
    assert {"role": "system", "content": "Be brief."} == body["messages"][0]
    assert 0.25 == body["options"]["temperature"]
    assert 7 == body["options"]["seed"]


def test_presets(place: Place, chat: Chat) -> None:
    """A preset is saved under a name, used in another conversation, and deleted."""
    chat.button("System prompt and parameters").click()
    chat.field("System prompt").fill("Answer as a pirate.")
    chat.field("Top k").fill("11")
    chat.button("Save as preset").click()
    chat.field("Preset name").fill("pirate")
    chat.button("Save preset as named").click()
    expect(chat.field("Preset")).to_have_value("pirate")
    chat.field("System prompt").fill("")
    chat.field("Top k").fill("")
    chat.field("Top k").press("Tab")
    expect(chat.field("Preset")).to_have_value("")
    chat.field("Preset").select_option("pirate")
    expect(chat.field("System prompt")).to_have_value("Answer as a pirate.")
    chat.button("Close parameters").click()
    chat.ask("Ahoy")
    body = _last_body(place)
    assert "Answer as a pirate." == body["messages"][0]["content"]
    assert 11 == body["options"]["top_k"]
    chat.button("System prompt and parameters").click()
    chat.button("Delete preset").click()
    expect(chat.field("Preset").locator("option")).to_have_count(1)
    assert [] == list((place.data_dir / "presets").glob("*.json"))
    chat.button("Close parameters").click()


def test_conversations_drawer(chat: Chat) -> None:
    """Conversations are listed, searched, renamed, opened and deleted in the drawer."""
    chat.ask("About walruses")
    chat.button("New conversation").click()
    expect(chat.questions).to_have_count(0)
    chat.ask("About lighthouses")
    chat.button("Conversations").click()
    rows = chat.root.locator(".wb-chat")
    expect(rows.first).to_contain_text("About lighthouses")
    chat.field("Search conversations").fill("walruses")
    expect(rows).to_have_count(1)
    chat.button("Rename About walruses").click()
    chat.field("New title").fill("Sea animals")
    chat.field("New title").press("Enter")
    chat.field("Search conversations").fill("")
    expect(rows.filter(has_text="Sea animals")).to_have_count(1)
    chat.button("Open Sea animals").click()
    expect(chat.questions.last).to_contain_text("About walruses")
    expect(chat.root.locator(".wb-title")).to_have_text("Sea animals")
    chat.button("Conversations").click()
    chat.button("Delete About lighthouses").click()
    chat.button("Confirm delete").click()
    expect(rows.filter(has_text="About lighthouses")).to_have_count(0)
    chat.button("Close conversations").click()


def test_back_to_a_conversation_that_is_being_answered(place: Place, chat: Chat) -> None:
    """An answer goes on behind another conversation, and streams on when one comes back to it."""
    place.ollama.set_reply(Reply("one two three four", stall_after=2))
    chat.send("Count in the background")
    expect(chat.answers.last).to_contain_text("one two")
    chat.button("New conversation").click()
    expect(chat.questions).to_have_count(0)
    chat.button("Conversations").click()
    chat.button("Open Count in the background").click()
    expect(chat.answers.last).to_contain_text("one two")
    place.ollama.release()
    expect(chat.ended().locator(".wb-md").last).to_have_text("one two three four")


@pytest.mark.parametrize(
    ("item", "ending", "held"),
    [
        ("Markdown (.md)", ".md", "Hello from a script."),
        ("JSON (.json)", ".json", '"Export this"'),
        ("JSON Lines (.jsonl)", ".jsonl", "Export this"),
        ("Notebook (.ipynb)", ".ipynb", "nbformat"),
    ],
)
def test_exports(chat: Chat, notebook: Notebook, item: str, ending: str, held: str) -> None:
    """Each format is downloaded as a file with the conversation in it."""
    chat.ask("Export this")
    with notebook.page.expect_download() as downloaded:
        chat.menu("Export conversation", item)
    assert downloaded.value.suggested_filename.endswith(ending)
    assert held in downloaded.value.path().read_text(encoding="utf-8")


def test_text_file(place: Place, chat: Chat) -> None:
    """A text file is shown as a chip and is in the request."""
    _choose(chat, "notes.txt", "text/plain", b"The password is xyzzy.")
    expect(chat.root.locator(".wb-composer .wb-chip")).to_contain_text("notes.txt")
    chat.ask("What is the password?")
    content = _last_body(place)["messages"][-1]["content"]
    assert content.startswith("What is the password?")
    assert '<attachment name="notes.txt"' in content
    assert "The password is xyzzy." in content
    expect(chat.root.locator(".wb-composer .wb-chip")).to_have_count(0)
    expect(chat.questions.last).to_contain_text("notes.txt")
    expect(chat.questions.last).not_to_contain_text("xyzzy")


def test_drag_and_drop(place: Place, chat: Chat, notebook: Notebook, tmp_path: Path) -> None:
    """Files dragged from the desktop onto the messages are attached; the page stays where it is."""
    first, second = tmp_path / "one.txt", tmp_path / "two.csv"
    first.write_text("The first file.", encoding="utf-8")
    second.write_text("a,b\n1,2\n", encoding="utf-8")
    drag = Drag(notebook, chat.root.locator(".wb-stage"), [first, second])
    drag.enter()
    expect(chat.root).to_have_class(re.compile("wb-drop"))
    drag.drop()
    expect(chat.root).not_to_have_class(re.compile("wb-drop"))
    expect(chat.root.locator(".wb-composer .wb-chip")).to_have_count(2)
    chat.ask("What is in them?")
    content = _last_body(place)["messages"][-1]["content"]
    assert "The first file." in content
    assert "a,b\n1,2" in content


def test_drag_that_leaves(chat: Chat, notebook: Notebook, tmp_path: Path) -> None:
    """A drag that leaves the chat again attaches nothing, and its mark is gone."""
    path = tmp_path / "one.txt"
    path.write_text("x", encoding="utf-8")
    drag = Drag(notebook, chat.root.locator(".wb-stage"), [path])
    drag.enter()
    expect(chat.root).to_have_class(re.compile("wb-drop"))
    drag.leave()
    expect(chat.root).not_to_have_class(re.compile("wb-drop"))
    expect(chat.root.locator(".wb-composer .wb-chip")).to_have_count(0)


def test_image_with_and_without_vision(place: Place, chat: Chat) -> None:
    """An image goes to a model that sees; one that does not is named before anything is sent."""
    _choose(chat, "dot.png", "image/png", PNG)
    expect(chat.root.locator(".wb-notice")).to_contain_text("llama3.2 does not read images.")
    chat.button("Model").click()
    chat.root.get_by_role("option", name="Use seer").click()
    expect(chat.model).to_have_text("seer")
    _choose(chat, "dot.png", "image/png", PNG)
    expect(chat.root.locator(".wb-composer .wb-chip")).to_contain_text("dot.png")
    chat.ask("What is it?")
    request = [item for item in place.ollama.requests if item.operation == "chat"][-1]
    assert [PNG] == request.images
    expect(chat.questions.last).to_contain_text("1 image")
    chat.button("Model").click()
    chat.root.get_by_role("option", name="Use llama3.2").click()


def test_variable(place: Place, chat: Chat, notebook: Notebook) -> None:
    """A DataFrame is attached by its name, with its shape and its rows."""
    notebook.cell("import pandas as pd\nfruit = pd.DataFrame({'name': ['apple'], 'price': [3]})")
    chat.menu("Attach", "Variable of the notebook …")
    chat.field("Variable name").fill("fruit")
    chat.button("Attach variable").click()
    expect(chat.root.locator(".wb-composer .wb-chip")).to_contain_text("fruit")
    chat.ask("Which is cheapest?")
    content = _last_body(place)["messages"][-1]["content"]
    assert "shape: (1, 2)" in content
    assert "0,apple,3" in content


def test_unknown_variable(chat: Chat) -> None:
    """A name that is no variable is said so."""
    chat.menu("Attach", "Variable of the notebook …")
    chat.field("Variable name").fill("nowhere")
    chat.button("Attach variable").click()
    expect(chat.root.locator(".wb-notice")).to_contain_text("there is no variable 'nowhere'")


def test_too_much_is_said_with_numbers(chat: Chat, place: Place) -> None:
    """A draft that cannot fit the context says so with numbers, and is not sent at once."""
    asked = len(place.ollama.requests)
    _choose(chat, "long.txt", "text/plain", b"many words " * 5000)
    chat.field("Message").fill("Sum it up")
    warning = chat.root.locator(".wb-warning")
    expect(warning).to_contain_text("Too long")
    expect(warning).to_contain_text("the context holds 4,096")
    chat.field("Message").press("Enter")
    expect(warning).to_contain_text("Press Enter again")
    assert not [item for item in place.ollama.requests[asked:] if item.operation == "chat"]
    chat.button("Remove long.txt").click()
    chat.field("Message").fill("")


def test_thinking_and_tool_calls(place: Place, chat: Chat) -> None:
    """Thinking is folded once the answer begins; a tool call is shown, and not run."""
    call = ToolCall("get_weather", {"city": "Paris"})
    place.ollama.set_reply(Reply("Sunny.", thinking="Let me see.", tool_calls=[call]))
    chat.button("Model").click()
    chat.root.get_by_role("option", name="Use thinker").click()
    expect(chat.model).to_have_text("thinker")
    answer = chat.ask("Weather?")
    expect(answer.locator("details.wb-think summary")).to_contain_text("Thought")
    expect(answer.locator("details.wb-think")).not_to_have_attribute("open", "")
    expect(answer.locator(".wb-tool-name")).to_have_text("get_weather")
    expect(answer).to_contain_text("not run")
    chat.button("Model").click()
    chat.root.get_by_role("option", name="Use llama3.2").click()


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (Reply("half an answer", error_after=(2, "the runner died")), "The answer broke off."),
        (Reply("half an answer", reset_after=2), "The answer broke off."),
        (Reply(error_first=(500, "out of memory")), "No answer came."),
    ],
)
def test_errors_and_retry(place: Place, chat: Chat, reply: Reply, said: str) -> None:
    """A broken answer keeps its text, says why below it, and can be tried again."""
    place.ollama.enqueue(reply)
    answer = chat.ask("Try")
    expect(answer.get_by_role("alert")).to_contain_text(said)
    answer.get_by_role("button", name="Retry").click()
    expect(chat.answers.last).to_contain_text("Hello from a script.")


def test_keys_do_not_reach_the_notebook(chat: Chat, notebook: Notebook) -> None:
    """Typing the notebook's shortcuts in the chat changes no cell."""
    cells = len(notebook.sources())
    chat.field("Message").click()
    notebook.page.keyboard.type("aabbddx")
    expect(chat.field("Message")).to_have_value("aabbddx")
    assert cells == len(notebook.sources())
    chat.field("Message").fill("")


def test_nothing_broke_in_the_page(notebook: Notebook) -> None:
    """The page saw no error in all of the above."""
    assert [] == notebook.errors


def _last_body(place: Place) -> Any:
    return [item for item in place.ollama.requests if item.operation == "chat"][-1].json


def _choose(chat: Chat, name: str, mime: str, data: bytes) -> None:
    file: FilePayload = {"name": name, "mimeType": mime, "buffer": data}
    chat.root.locator("input[type=file]").set_input_files(file)
