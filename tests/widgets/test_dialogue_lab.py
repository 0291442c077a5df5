"""The dialogue panel in JupyterLab and Chromium: what a person sees and does."""

from __future__ import annotations

import re

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

MAKE = """
talk = wb.dialogue(
    [{"name": "Ann", "model": "llama3.2"}, {"name": "Bob", "model": "thinker"}],
    opening="Tea or coffee?", order="broadcast", schedule="parallel", turns=2, human="interject",
)
talk
"""
NASTY = "**bold** <img src=x onerror='window.hurt = 1'> " + " ".join(f"w{n}" for n in range(300))


class Panel:
    """The last dialogue panel of a page, used by the labels of its controls."""

    def __init__(self, notebook: Notebook) -> None:
        self.notebook = notebook
        self.root = notebook.page.locator(".wb-dialogue").last

    def button(self, label: str) -> Locator:
        """Return a button by its label."""
        return self.root.get_by_role("button", name=label, exact=True)

    def ready(self) -> Panel:
        """Wait until the kernel has said what to draw."""
        expect(self.root).not_to_have_class(re.compile("wb-waiting"))
        return self

    def ends(self, reason: str) -> None:
        """Wait until the dialogue has ended, and says why."""
        expect(self.root.locator(".wb-run-word")).to_have_text("Ended")
        expect(self.root.locator(".wb-run-reason")).to_contain_text(reason)

    @property
    def turns(self) -> Locator:
        """The turns of the models that are drawn."""
        return self.root.locator("article.wb-lane-turn")


@pytest.fixture(scope="module")
def notebook(open_notebook: OpenNotebook) -> Notebook:
    """Open the one notebook of this module."""
    made = open_notebook(CONNECT, "panel = wb.dialogue_panel()\npanel", MAKE)
    made.run(0)
    return made


def test_one_click_lets_two_models_talk(notebook: Notebook) -> None:
    """The empty panel has two bundled models and an opening; Start is all there is to do."""
    notebook.run(1)
    panel = Panel(notebook).ready()
    models = panel.root.get_by_label(re.compile("Model of participant"))
    expect(models.first).to_have_value("toy-tiny")
    expect(models.last).to_have_value("toy-nano")
    expect(panel.root.locator(".wb-plan")).to_contain_text("memory")
    panel.button("Start the dialogue").click()
    panel.ends("6 turns were taken")
    expect(panel.turns).to_have_count(6)
    expect(panel.turns.first).to_contain_text("Paris")
    expect(panel.root.locator(".wb-lane-now").first).to_contain_text("tokens/s")
    assert 6 == notebook.value("len(panel.dialogue.turns)")
    # The notebook keeps the transcript, for the day when its kernel is gone.
    notebook.page.wait_for_function(
        "() => JSON.stringify(window.jupyterapp.shell.currentWidget.content.model.toJSON())"
        ".includes('6 turns were taken')"
    )
    assert [] == notebook.errors


def test_the_drawer_renames_and_deletes(notebook: Notebook) -> None:
    """By keyboard alone: a stored dialogue gets a title, and is gone after a question."""
    panel = Panel(notebook)
    page, door = notebook.page, panel.button("Dialogues")
    expect(door).to_have_attribute("aria-expanded", "false")
    door.press("Enter")
    expect(door).to_have_attribute("aria-expanded", "true")
    drawer = panel.root.get_by_role("complementary", name="Dialogues panel")
    assert door.get_attribute("aria-controls") == drawer.get_attribute("id")
    expect(drawer.get_by_label("Search dialogues")).to_be_focused()
    drawer.get_by_role("button", name=re.compile("^Rename ")).press("Enter")
    drawer.get_by_label("New title").fill("Capitals")
    page.keyboard.press("Enter")
    expect(drawer.get_by_role("button", name="Rename Capitals")).to_be_focused()
    expect(panel.root.locator(".wb-title")).to_have_text("Capitals")
    assert ["Capitals"] == notebook.value("[item.title for item in wb.dialogues()]")
    drawer.get_by_role("button", name="Delete Capitals").press("Enter")
    expect(drawer.get_by_role("button", name="Keep dialogue")).to_be_focused()
    page.keyboard.press("Enter")
    assert ["Capitals"] == notebook.value("[item.title for item in wb.dialogues()]")
    drawer.get_by_role("button", name="Delete Capitals").press("Enter")
    drawer.get_by_role("button", name="Confirm delete").press("Enter")
    expect(drawer).to_contain_text("No dialogue is saved yet.")
    expect(panel.button("Start the dialogue")).to_be_visible()
    assert [] == notebook.value("[item.title for item in wb.dialogues()]")
    page.keyboard.press("Escape")
    expect(door).to_be_focused()
    assert [] == notebook.errors


def test_lanes_stream_side_by_side(notebook: Notebook, place: Place) -> None:
    """A dialogue shown bare streams a lane per model; keys move between them, and Esc stops all."""
    place.ollama.set_reply(Reply(NASTY, tokens_per_s=20))
    notebook.run(2)
    expect(notebook.page.locator(".wb-dialogue")).to_have_count(2)
    panel = Panel(notebook).ready()
    panel.button("A lane for each").click()
    logs = panel.root.get_by_role("log")
    expect(logs).to_have_count(2)
    expect(logs.first).to_have_attribute("aria-label", "Turns of Ann")
    panel.button("Start the dialogue").click()
    expect(panel.turns).to_have_count(2)
    for turn in (panel.turns.first, panel.turns.last):
        expect(turn.locator("strong")).to_have_text("bold")
        expect(turn).to_contain_text("w5 ")
    expect(panel.root.locator(".wb-lane-now").first).to_contain_text("Writing")
    panel.turns.first.focus()
    page, cells = notebook.page, len(notebook.sources())
    page.keyboard.press("Alt+ArrowRight")
    expect(panel.turns.last).to_be_focused()
    page.keyboard.press("d")
    page.keyboard.press("d")
    page.keyboard.press("Alt+ArrowLeft")
    expect(panel.turns.first).to_be_focused()
    page.keyboard.press("Escape")
    panel.ends("stopped by you")
    expect(panel.turns.first).to_contain_text("Stopped.")
    assert cells == len(notebook.sources())
    assert notebook.page.evaluate("() => window.hurt") is None
    assert ["cancelled"] * 2 == notebook.value("[turn.status for turn in talk.turns]")


def test_a_narrow_page_has_one_thread(notebook: Notebook) -> None:
    """Lanes that would be too narrow become a thread, and come back."""
    panel = Panel(notebook)
    page = notebook.page
    page.set_viewport_size({"width": 640, "height": 900})
    expect(panel.root.get_by_role("log")).to_have_count(1)
    expect(panel.turns).to_have_count(2)
    page.set_viewport_size({"width": 1400, "height": 900})
    expect(panel.root.get_by_role("log")).to_have_count(2)


def test_what_was_said_survives_the_kernel(notebook: Notebook) -> None:
    """A kernel that restarts takes no text along; the panel says what happened."""
    panel = Panel(notebook)
    notebook.restart()
    expect(panel.root.locator(".wb-lost")).to_contain_text("kernel of this dialogue is gone")
    expect(panel.turns.first).to_contain_text("w5 ")
    expect(panel.root.get_by_label("Say something", exact=True)).to_be_hidden()
