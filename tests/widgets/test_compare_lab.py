"""The panel of a comparison in JupyterLab and Chromium: what a person sees and does."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, expect

from tests.browsers import needs_chromium
from tests.widgets.conftest import CONNECT, OpenNotebook, Place
from tests.widgets.lab import Notebook
from workbench.testing import RecordedRequest, Reply

FOLDER = os.environ.get("WB_SCREENSHOTS", "")

pytestmark = [
    pytest.mark.browser,
    needs_chromium,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

LEFT = (
    "The capital of France is **Paris**. It lies on the Seine and has about two million people.\n\n"
    "- founded in the third century BC\n- seat of the government\n"
)
RIGHT = "Paris is the capital of France.\n\nIt lies on the river Seine, and has 2.1 million people."


def answer_of(request: RecordedRequest) -> Reply:
    """Answer differently for each model."""
    body: Any = request.json
    if body["messages"][-1]["content"] == "Long":
        return Reply("\n\n".join(f"Line {number}." for number in range(60)))
    if body["messages"][-1]["content"].startswith("Stall"):
        return Reply("one two three four", stall_after=2)
    return Reply(LEFT if body["model"].startswith("llama") else RIGHT)


class Comparing:
    """A comparison's view, used as a person does: by the labels of its controls."""

    def __init__(self, root: Locator) -> None:
        self.root = root

    def button(self, label: str) -> Locator:
        """Return a button by its label."""
        return self.root.get_by_role("button", name=label, exact=True)

    @property
    def answers(self) -> Locator:
        """The answers, from left to right."""
        return self.root.locator("article.wb-answer")

    @property
    def names(self) -> Locator:
        """The names in the heads of the lanes."""
        return self.root.locator(".wb-lane-name")

    @property
    def field(self) -> Locator:
        """Where prompts are written."""
        return self.root.get_by_label("Prompt to all models")

    def ended(self) -> None:
        """Wait until every answer is there."""
        expect(self.root).to_have_attribute("aria-busy", "false")

    def ask(self, text: str, *, lines: bool = False) -> None:
        """Write a prompt, press Enter, and wait until it is asked; with `lines`, each is one."""
        self.field.fill(text)
        if lines:
            self.root.get_by_label("Each line is a prompt").check()
        self.field.press("Enter")
        first = text.partition("\n")[0] if lines else text
        expect(self.root.locator(".wbc-question")).to_have_text(first)

    def press(self, key: str) -> None:
        """Press a key while the focus is in the panel, and not in a field."""
        self.root.locator(".wbc-question").focus()
        self.root.page.keyboard.press(key)


@pytest.fixture(scope="module")
def notebook(open_notebook: OpenNotebook) -> Notebook:
    """Open the one notebook of this module, with a panel of two scripted models in it."""
    made = open_notebook(
        CONNECT, "panel = wb.compare_panel(['llama3.2', 'seer'], order_seed=3, voter='me')\npanel"
    )
    made.command("application:toggle-left-area")
    made.run(0)
    made.run(1)
    return made


@pytest.fixture(scope="module", autouse=True)
def others(place: Place) -> Iterator[None]:
    """Take the script of this file back: other files share this Ollama."""
    yield
    place.ollama._replies.pop("chat", None)


@pytest.fixture
def panel(place: Place, notebook: Notebook) -> Comparing:
    """Return the panel; what it asks is answered by the script."""
    place.ollama.set_reply(answer_of, to="chat")
    panel = Comparing(notebook.page.locator(".wbc-root").last)
    expect(panel.root).not_to_have_class(re.compile("wb-waiting"))
    return panel


def test_one_click_compares_two_models(panel: Comparing, notebook: Notebook) -> None:
    """A click on an example asks both models; both answers are there with their figures."""
    panel.button("Compare: What is the capital of France?").click()
    panel.ended()
    expect(panel.answers).to_have_count(2)
    expect(panel.names).to_have_text(["llama3.2", "seer"])
    expect(panel.answers.first).to_contain_text("founded in the third century BC")
    expect(panel.root.locator(".wb-lane-facts").first).to_contain_text("tokens")
    assert [] == notebook.errors


def test_differences_are_marked_by_more_than_colour(panel: Comparing) -> None:
    """`d` shows both texts with what only one has in a box; Escape goes back."""
    panel.press("d")
    region = panel.root.get_by_role("region", name="Differences")
    expect(region).to_contain_text("of the words are the same")
    expect(region.locator("ins").filter(has_text="2.1")).to_be_visible()
    border = region.locator("del").first.evaluate("e => getComputedStyle(e).borderTopStyle")
    assert "solid" == border
    panel.root.page.keyboard.press("Escape")
    expect(region).to_be_hidden()


def test_lanes_scroll_together(panel: Comparing) -> None:
    """After `s` every lane goes where one of them is scrolled to, and none pulls it back."""
    panel.ask("Long")
    panel.ended()
    expect(panel.answers.last).to_contain_text("Line 59.")
    panel.press("s")
    expect(panel.button("Scroll together")).to_have_attribute("aria-pressed", "true")
    lanes = panel.root.locator(".wb-split .wb-list:not([hidden])")
    # Each step a frame after the one before, as a wheel turns: what follows is told of late.
    tops = lanes.evaluate_all(
        """async (lanes) => {
          const [first, last] = lanes.map((lane) => lane.querySelector(".wb-log"));
          const frame = () => new Promise(requestAnimationFrame);
          const frames = async (n) => { for (let i = 0; i < n; i++) await frame(); };
          do {
            first.scrollTop = 0;
            await frames(10);
          } while (first.scrollTop || last.scrollTop);
          const seen = [];
          for (const top of [60, 120, 180, 250]) {
            await frame();
            seen.push(first.scrollTop);
            first.scrollTop = top;
          }
          await frames(10);
          return [...seen, first.scrollTop, last.scrollTop];
        }"""
    )
    assert [0, 60, 120, 180, 250, 250] == tops
    panel.press("s")


def test_votes_by_key_on_blind_prompts(panel: Comparing, notebook: Notebook) -> None:
    """Names come with the vote, `n` goes to the next prompt, and no key reaches the notebook."""
    cells = len(notebook.sources())
    panel.button("Blind").click()
    panel.ask("First?\nSecond?", lines=True)
    panel.ended()
    expect(panel.names).to_have_text(["Answer A", "Answer B"])
    expect(panel.root.locator(".wb-lane-facts").first).to_have_text("")
    # What is loaded would tell who answered last.
    states = panel.root.locator(".wbc-chip .wb-model-state")
    expect(states).to_have_text(["", ""])
    expect(panel.button("Model seer: state hidden until the vote")).to_be_visible()
    panel.press("1")
    expect(panel.names).not_to_have_text(["Answer A", "Answer B"])
    expect(panel.root.locator(".wbc-verdict")).to_contain_text("is better")
    panel.press("n")
    expect(panel.root.locator(".wbc-where")).to_have_text("Prompt 4 of 4")
    expect(panel.names).to_have_text(["Answer A", "Answer B"])
    panel.button("Both bad").click()
    expect(panel.button("Both bad")).to_have_attribute("aria-pressed", "true")
    assert ["both_bad", True] == notebook.value(
        "[panel.comparison.votes[-1]['verdict'], panel.comparison.votes[-1]['blind']]"
    )
    assert cells == len(notebook.sources())


def test_the_ranking_shows_why_a_number_is_missing(panel: Comparing) -> None:
    """One win and one tie rank both models, with bars and intervals."""
    panel.button("Ranking").click()
    table = panel.root.get_by_role("table", name="Ranking of models")
    expect(table.locator("tbody th")).to_have_count(2)
    expect(table).to_contain_text("%")
    panel.root.get_by_label("Votes to rank by").select_option("all")
    expect(table.locator("tbody th")).to_have_count(2)
    panel.button("Close ranking").click()
    panel.button("Blind").click()


def test_stop_of_a_lane_ends_its_request(place: Place, panel: Comparing) -> None:
    """Stop in a lane's head closes that request at the backend; the part stays."""
    asked = len([item for item in place.ollama.requests if item.operation == "chat"])
    panel.ask("Stall")
    expect(panel.answers.first).to_contain_text("one two")
    request = place.ollama.wait_for_request(asked + 1, to="chat")
    panel.button("Stop lane A").click()
    assert request.disconnected.wait(10)
    expect(panel.answers.first).to_contain_text("Stopped.")
    panel.button("Stop all answers").click()
    panel.ended()


def test_narrow_lanes_stand_below_each_other(panel: Comparing, notebook: Notebook) -> None:
    """At 360 pixels nothing is wider than the page, and every answer can be read."""
    panel.press("p")
    panel.ended()
    notebook.page.set_viewport_size({"width": 360, "height": 900})
    expect(panel.root.locator(".wb-split")).to_have_count(0)
    expect(panel.answers).to_have_count(2)
    wide = panel.root.evaluate("e => e.scrollWidth > e.clientWidth + 1")
    assert not wide
    notebook.page.set_viewport_size({"width": 1400, "height": 900})
    expect(panel.root.locator(".wb-split")).to_have_count(1)
    assert [] == notebook.errors


def test_a_bare_comparison_shows_its_panel(notebook: Notebook) -> None:
    """A comparison as the last line of a cell is drawn with what was asked of it."""
    notebook.cell("sides = wb.compare(['llama3.2', 'seer'], 'Which city?')\nsides")
    panel = Comparing(notebook.page.locator(".wbc-root").last)
    expect(panel.answers).to_have_count(2)
    expect(panel.root.locator(".wbc-question")).to_have_text("Which city?")


def test_a_kernel_that_is_gone_leaves_the_answers(notebook: Notebook) -> None:
    """After a restart the answers stay, the panel says so, and nothing can be pressed."""
    panel = Comparing(notebook.page.locator(".wbc-root").last)
    notebook.restart()
    expect(panel.root.locator(".wb-lost")).to_contain_text("kernel of this comparison is gone")
    expect(panel.answers.first).to_contain_text("founded in the third century BC")
    expect(panel.field).to_be_disabled()
    expect(panel.button("A is better")).to_be_disabled()


LOOKS = [(theme, width) for theme in ("light", "dark") for width in (1400, 390)]


@pytest.mark.skipif(not FOLDER, reason="WB_SCREENSHOTS names no folder for the pictures")
def test_pictures(place: Place, open_notebook: OpenNotebook) -> None:
    """Every state can be seen, in light and dark, wide and narrow."""
    place.ollama.set_reply(answer_of, to="chat")
    folder = Path(FOLDER)
    folder.mkdir(parents=True, exist_ok=True)
    notebook = open_notebook(CONNECT, "panel = wb.compare_panel(order_seed=3)\npanel")
    notebook.command("application:toggle-left-area")
    notebook.run(0)
    notebook.run(1)
    panel = Comparing(notebook.page.locator(".wbc-root").last)
    expect(panel.button("Compare: What is the capital of France?")).to_be_visible()

    def take(state: str) -> None:
        page = notebook.page
        for theme, width in LOOKS:
            page.set_viewport_size({"width": width, "height": 900})
            notebook.theme(theme)
            panel.root.scroll_into_view_if_needed()
            page.mouse.move(0, 0)
            name = f"compare-{state}-{theme}-{width}.png"
            picture = page.screenshot(path=folder / name, animations="disabled")
            assert len(picture) > 5000
        page.set_viewport_size({"width": 1400, "height": 900})

    take("welcome")
    panel.button("Add a model").click()
    take("picker")
    panel.root.get_by_role("option", name="Use llama3.2").click()
    panel.ask("What is the capital of France?\nWhat is 7 plus 8?\nName a city.", lines=True)
    panel.ended()
    take("three")
    panel.button("Differences").click()
    take("diff")
    panel.button("Differences").click()
    panel.button("Remove llama3.2").click()
    take("changed")
    panel.button("Blind").click()
    panel.button("Ask the same again").click()
    expect(panel.names).to_have_text(["Answer A", "Answer B"])
    panel.ended()
    take("blind")
    panel.press("1")
    expect(panel.names.first).not_to_have_text("Answer A")
    take("voted")
    panel.press("n")
    panel.press("3")
    panel.button("Ranking").click()
    expect(panel.root.locator(".wbc-rank tbody th")).to_have_count(2)
    take("ranking")
    panel.button("Close ranking").click()
    panel.button("Blind").click()
    panel.button("Add a model").click()
    panel.root.get_by_role("option", name="Use llama3.2").click()
    panel.ask("Stall a little")
    expect(panel.answers.last).to_contain_text("one two")
    take("streaming")
    panel.button("Stop all answers").click()
    panel.ended()
    take("stopped")
