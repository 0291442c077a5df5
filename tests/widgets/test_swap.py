"""Models and memory in the chat: what a choice costs is said before, and asked where it must be."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from tests.browsers import needs_chromium
from tests.widgets.conftest import CONNECT, OpenNotebook
from tests.widgets.lab import Chat, Notebook

pytestmark = [
    pytest.mark.browser,
    needs_chromium,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

# Memory for one of the bundled models, and nobody leaves it unasked.
MANUAL = """
wb.set("engine.max_loaded", 1)
wb.set("swap.embedded", "manual")
wb.load("toy-nano", swap=True)
panel = wb.chat_panel("toy-tiny")
panel
"""
USUAL = (
    "[wb.set(name, None).name for name in ('engine.max_loaded', 'swap.embedded')]"
    " and [wb.unload(name).model for name in ('toy-nano', 'toy-tiny')]"
)

EMBEDDED = "[m.name.removesuffix(':latest') for m in wb.loaded() if m.backend == 'embedded']"


@pytest.fixture
def notebook(open_notebook: OpenNotebook) -> Iterator[Notebook]:
    """Open a notebook where toy-nano fills the memory and toy-tiny is chosen."""
    made = open_notebook(CONNECT, MANUAL)
    made.run(0)
    made.run(1)
    yield made
    made.value(USUAL)


@pytest.fixture
def chat(notebook: Notebook) -> Chat:
    """Return its chat."""
    return notebook.chat().ready()


def test_the_picker_says_what_leaves(chat: Chat) -> None:
    """The welcome line and the picker name the model that a choice unloads."""
    expect(chat.root.locator(".wb-welcome")).to_contain_text("toy-nano leaves memory for it.")
    chat.button("Model").click()
    expect(chat.root.get_by_role("option", name="Use toy-tiny")).to_contain_text("unloads toy-nano")
    expect(chat.root.get_by_role("option", name="Use toy-nano")).to_contain_text("in memory")


def test_consent_by_one_click(chat: Chat, notebook: Notebook) -> None:
    """A model for which another must leave asks first; one click swaps, and answers."""
    answer = chat.ask("What is 7 plus 8?")
    expect(answer).to_contain_text("Memory is full.")
    assert ["toy-nano"] == notebook.value(EMBEDDED)
    button = chat.button("Make room and load")
    expect(button).to_have_text("Unload toy-nano and load toy-tiny")
    button.click()
    expect(chat.answers.last).to_contain_text("15")
    chat.ended()
    expect(chat.model).to_have_text("toy-tiny")
    expect(chat.root.locator(".wb-model-state")).to_have_text("in memory")
    assert ["toy-tiny"] == notebook.value(EMBEDDED)
    assert [] == notebook.errors
