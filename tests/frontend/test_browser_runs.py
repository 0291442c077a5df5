"""What a person sees and does in the runs panel, by the names of its controls.

The pictures are those the kernel's side makes of run folders that were written through the journal.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.frontend.conftest import Scene
from tests.frontend.test_browser_view import sent, unsent
from tests.widgets.run_store import NASTY

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

Show = Callable[..., Any]
SCENES = (
    "list running waiting done failed lost timeline step items attempts question cancelling choose "
    "form wrong broken empty unreadable reading large kernelgone"
).split()
QUESTION = "Is the table good enough for the report?"


@pytest.fixture
def show(scene: Scene) -> Show:
    """Return a function that opens a scene of the runs panel."""

    def open_scene(name: str = "list") -> Any:
        page = scene.show(name, widget="runs")
        page.wait_for_selector(".wbr-root")
        return page

    return open_scene


def rows(page: Any) -> Any:
    """Return the runs that are listed."""
    return page.get_by_role("list", name="Runs", exact=True).locator(".wbr-run:visible")


def node(page: Any, step: str) -> Any:
    """Return a step of the graph."""
    return page.locator(f'.wbr-node[data-step="{step}"]')


def detail(page: Any) -> Any:
    """Return the drawer of a step."""
    return page.get_by_label("Step panel")


def focused(page: Any) -> str:
    """Return the name of what has the focus."""
    return str(
        page.evaluate(
            "document.activeElement.dataset.step || document.activeElement.ariaLabel"
            " || document.activeElement.textContent"
        )
    )


def test_the_list(show: Show) -> None:
    """Runs stand newest first, each with its state in words, its progress and what it does."""
    page = show()
    told = [
        text.split(",")[1].strip()
        for text in rows(page).evaluate_all("rows => rows.map((row) => row.ariaLabel)")
    ]
    words = ["running", "waits for you", "failed", "done", "lost", "cancelled", "cannot be read"]
    assert words == told
    first = rows(page).first
    expect(first).to_contain_text("ask 12 of 40, writing")
    expect(first).to_contain_text("2 of 13")
    expect(rows(page).nth(2)).to_contain_text("CUDA error")
    expect(rows(page).nth(6)).to_contain_text("run.json cannot be read")
    badges = page.get_by_label("Runs that need a look")
    assert ["1 waits for you", "1 running"] == badges.inner_text().splitlines()


def test_filters(show: Show) -> None:
    """Buttons with counts and the list of plans narrow the runs, without asking the kernel."""
    page = show()
    page.get_by_role("button", name="Failed 3").click()
    expect(rows(page)).to_have_count(3)
    page.get_by_role("button", name="All 7").click()
    page.get_by_label("Plan", exact=True).select_option("summarise-papers")
    expect(rows(page)).to_have_count(1)
    page.get_by_role("button", name="Done 0").click()
    expect(page.get_by_text("No run is like this.")).to_be_visible()
    assert {"hello", "beat"} >= set(page.evaluate("kernel.sent.map((m) => m.t)"))


def test_keyboard_from_the_list_to_a_step_and_back(show: Show) -> None:
    """Arrows move, Enter opens, Escape goes back one by one, and the focus is where it was."""
    page = show()
    rows(page).first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("End")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(node(page, "look")).to_be_visible()
    assert "compare-models" == focused(page)
    node(page, "load").focus()
    page.keyboard.press("ArrowDown")
    assert "ask" == focused(page)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    assert "sane" == focused(page)
    page.keyboard.press("Enter")
    expect(detail(page)).to_be_visible()
    page.keyboard.press("Escape")
    expect(detail(page)).to_be_hidden()
    assert "sane" == focused(page)
    page.keyboard.press("Escape")
    expect(rows(page).nth(1)).to_be_focused()
    assert [{"run": None}] == sent(page, "run", count=2)[1:]


def test_states_of_steps_differ_by_word_and_sign(show: Show) -> None:
    """No state is told by its colour alone: word, sign and border differ."""
    page = show("large")
    looks = page.evaluate(
        """() => [...document.querySelectorAll(".wbr-node")].map((el) => {
          const { borderStyle, borderWidth, backgroundImage } = getComputedStyle(el);
          return [el.dataset.status, el.querySelector(".wbr-glyph").dataset.glyph,
            el.querySelector(".wbr-sub").textContent, borderStyle + borderWidth + backgroundImage];
        })"""
    )
    signs = {status: sign for status, sign, _, _ in looks}
    assert len(signs) == len(set(signs.values())) >= 8
    frames = {status: frame for status, _, _, frame in looks}
    apart = [frames[status] for status in ("done", "failed", "blocked", "skipped")]
    assert len(apart) == len(set(apart))
    page = show("waiting")
    label = node(page, "look").get_attribute("aria-label")
    assert re.match(r"look, approval, waits for you, .*needs sane, scores, enough", label), label
    expect(node(page, "excuse")).to_contain_text("skipped")
    kinds = page.evaluate("[...document.querySelectorAll('.wbr-line')].map((l) => l.dataset.kind)")
    assert {"done", "skipped", "open"} == set(kinds)


def test_a_graph_follows(show: Show) -> None:
    """What changes is changed in its box: progress of items, state, time that goes on."""
    page = show("running")
    node(page, "ask").evaluate("el => (el.mark = 1)")
    expect(node(page, "ask")).to_contain_text("12 of 40")
    page.evaluate("kernel.stepChange('ask', {done: 20, errors: 2})")
    expect(node(page, "ask")).to_contain_text("20 of 40, 2 failed")
    text = node(page, "ask").inner_text()
    expect(node(page, "ask")).not_to_have_text(text)
    page.evaluate("kernel.stepChange('ask', {status: 'failed'})")
    expect(node(page, "ask")).to_have_attribute("data-status", "failed")
    assert 1 == node(page, "ask").evaluate("el => el.mark")


def test_nothing_moves_where_nobody_wants_it(scene: Scene, show: Show) -> None:
    """Signs turn while a step runs, and stand still where reduced motion is asked for."""
    page = show("running")
    turning = "getComputedStyle(document.querySelector('[data-glyph=running]')).animationName"
    assert "wbr-turn" == page.evaluate(turning)
    scene.page.emulate_media(reduced_motion="reduce")
    assert "none" == page.evaluate(turning)


def test_the_timeline(show: Show) -> None:
    """Each attempt is a bar, hours without work are folded, and arrows and Enter work."""
    page = show("timeline")
    bars = page.get_by_role("list", name="Steps in time")
    expect(bars.get_by_role("listitem")).to_have_count(13)
    expect(page.get_by_text("2 h in which nothing was at work are folded.")).to_be_visible()
    kinds = bars.locator('[data-step="look"] .wbr-span').evaluate_all(
        "spans => spans.map((span) => span.dataset.kind)"
    )
    assert ["done", "waiting", "done"] == kinds
    inside = page.evaluate(
        """() => [...document.querySelectorAll(".wbr-span")].every((el) => {
          const [bar, track] = [el, el.parentElement].map((one) => one.getBoundingClientRect());
          return bar.left >= track.left - 1 && bar.right <= track.right + 1;
        })"""
    )
    assert inside
    bars.locator('[data-step="load"]').focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(detail(page)).to_contain_text("Warm up")
    page.keyboard.press("Escape")
    assert "warm" == focused(page)


def test_a_step_in_detail(show: Show, scene: Scene) -> None:
    """Outputs, requests and fields are shown; what a model wrote is text and nothing else."""
    page = show("step")
    shown = detail(page)
    expect(shown.get_by_label("Output text")).to_contain_text("A soap bubble shines")
    text = shown.get_by_label("Output text").locator("pre").inner_text()
    assert NASTY.replace("\u202e", "\ufffd") in text
    expect(shown).to_contain_text("120 tokens in, 310 out")
    expect(shown).to_contain_text("gemma3-12b")
    assert page.evaluate("window.hacked === undefined")
    page = show("attempts")
    expect(detail(page).get_by_label("Error")).to_contain_text("See the log of the server")
    expect(detail(page).locator(".wbr-attempts li")).to_have_count(3)
    expect(detail(page)).to_contain_text("item 3: The answer of gemma3-12b broke off")
    page = show("items")
    expect(detail(page).get_by_role("img")).to_have_attribute("aria-label", "12 done, 28 not begun")
    assert [] == scene.problems
    assert [] == scene.foreign()


def test_a_chart_step(show: Show, scene: Scene) -> None:
    """A figure is drawn by the page's one plotly.js, in the page's colours."""
    page = show("chart")
    seat = detail(page).get_by_role("img", name="Mean score")
    expect(seat).to_have_attribute("data-drawn", "true", timeout=120_000)
    assert 1 == len(sent(page, "need"))
    assert page.evaluate("window.Plotly === undefined")
    assert [] == scene.problems


def test_an_answer(show: Show) -> None:
    """An answer goes with a note, bound to what was shown, and says that it is on its way."""
    page = show("question")
    shown = detail(page)
    expect(shown.get_by_role("group", name="Rows")).to_contain_text("llama3.2-3b")
    expect(shown).to_contain_text("20 of 28 rows")
    page.get_by_label("Close step").click()
    card = page.get_by_role("region", name="Question of look")
    expect(card).to_contain_text(QUESTION)
    card.get_by_label("Note to the answer at look").fill("Good.")
    card.get_by_role("button", name="Yes, at look").click()
    expect(card.get_by_role("status")).to_have_text("The answer is on its way …")
    expect(card.get_by_role("button", name="No, at look")).to_be_disabled()
    (answer,) = sent(page, "approve")
    assert ("look", True, "Good.", "9" * 64) == tuple(
        answer[name] for name in ("step", "yes", "note", "asked")
    )
    page.evaluate(
        "kernel.change({}, {acts: {}}); kernel.stepChange('look', {status: 'done', ask: null})"
    )
    row = "kernel.picture.rows['r/' + kernel.picture.open.run]"
    page.evaluate(f"kernel.change({{['r/' + {row}.id]: {{...{row}, asks: []}}}})")
    expect(card).to_be_hidden()


def test_cancelling_asks_back(show: Show) -> None:
    """Cancel asks first; Escape takes the question back, and only a yes is sent."""
    page = show("cancelling")
    question = page.get_by_role("alertdialog", name="Cancel this run?")
    expect(question.get_by_role("button", name="Go on")).to_be_focused()
    page.keyboard.press("Escape")
    expect(question).to_be_hidden()
    assert unsent(page, "cancel")
    page.get_by_role("button", name="Cancel run").click()
    question.get_by_role("button", name="Cancel the run").click()
    assert 1 == len(sent(page, "cancel"))
    expect(page.locator(".wbr-run-head:visible")).to_contain_text("stopping …")


def test_resume_and_notebook(show: Show) -> None:
    """A lost run says what happened and is resumed; without Lab the notebook's path is shown."""
    page = show("lost")
    expect(page.locator(".wbr-chip").first).to_have_attribute(
        "title", re.compile("process is gone")
    )
    expect(page.get_by_text("Killed")).to_be_visible()
    page.get_by_role("button", name="Open notebook").click()
    expect(page.locator(".wbr-notebook")).to_contain_text("/notebook.ipynb")
    page.get_by_role("button", name="Resume").click()
    assert 1 == len(sent(page, "resume"))


def test_the_form(show: Show) -> None:
    """Each type has its field; all errors stand beside theirs, and the first has the focus."""
    page = show("wrong")
    form = page.get_by_role("form", name="Parameters")
    expect(form.get_by_label("questions")).to_be_focused()
    expect(form.locator('[data-name="questions"]')).to_contain_text("has no value")
    expect(form.locator('[data-name="n"]')).to_contain_text("must be a whole number")
    described = form.get_by_label("n", exact=True).get_attribute("aria-describedby").split()[1]
    assert "must be a whole number" in page.locator(f"#{described}").inner_text()
    expect(form.locator('[data-name="token"]')).to_contain_text("REPORT_TOKEN is not set here.")
    form.get_by_label("questions").fill("questions.jsonl")
    form.get_by_label("n", exact=True).fill("5")
    form.get_by_label("gemma3-12b").check()
    form.get_by_label("Other models, separated by commas").fill("mine, yours")
    form.get_by_label("tone").select_option("terse")
    form.get_by_label("strict").uncheck()
    form.get_by_role("button", name="Start run").click()
    values = sent(page, "start", count=2)[1]["values"]
    assert {
        "models": ["gemma3-12b", "llama3.2-3b", "qwen3-4b", "mine", "yours"],
        "judge": "gemma3-12b",
        "questions": "questions.jsonl",
        "n": "5",
        "tone": "terse",
        "stop_words": ["END"],
        "strict": False,
        "token": "REPORT_TOKEN",
    } == values
    expect(node(page, "ask")).to_be_visible()


def test_plans_to_choose(show: Show) -> None:
    """A plan with problems names each with its line; Escape goes back to the runs."""
    page = show("broken")
    error = page.get_by_role("alert").filter(has_text="This plan has 2 problems.")
    expect(error).to_contain_text("line 12: ask: there is no kind 'promt'. Did you mean 'prompt'?")
    page.get_by_label("Path of a plan file").fill("mine.yaml")
    page.keyboard.press("Enter")
    assert "mine.yaml" == sent(page, "form", count=2)[1]["path"]
    page.keyboard.press("Escape")
    expect(rows(page).first).to_be_visible()


def test_nothing_yet_and_nothing_readable(show: Show) -> None:
    """An empty folder says what a plan is and how to begin; one that cannot be read says why."""
    page = show("empty")
    expect(page.get_by_role("heading", name="No run yet")).to_be_visible()
    expect(page.get_by_text("workbench run plan.yaml")).to_be_visible()
    page.get_by_role("button", name="hello").click()
    expect(page.get_by_role("heading", name="New run of hello")).to_be_visible()
    page = show("unreadable")
    trouble = page.get_by_role("alert").filter(has_text="The runs cannot be read.")
    expect(trouble).to_contain_text("/data/workbench/runs: Permission denied.")


def test_news_are_told(show: Show) -> None:
    """When a run ends a screen reader is told, and JupyterLab where it listens; each once."""
    page = show("list")
    page.evaluate(
        "window.workbenchLab = {}; window.told = [];"
        "addEventListener('workbench:notify', (event) => window.told.push(event.detail))"
    )
    news = {"run_id": "r", "status": "failed", "plan": "p", "text": "p failed at ask.", "at": 5}
    page.evaluate("news => kernel.set({news})", news)
    expect(page.locator("[aria-live=polite]")).to_contain_text("p failed at ask.")
    page.evaluate("kernel.set({said: null})")
    assert [{"message": "p failed at ask.", "type": "error"}] == page.evaluate("window.told")


def test_every_scene_is_whole(show: Show, scene: Scene) -> None:
    """Every control has a name, ids are there, nothing is fetched or cut off, at every width."""
    wide = """() => [...document.querySelectorAll(
      ".wbr-page:not([hidden]) > header, .wbr-body, .wb-drawer-body, .wbr-run, .wbr-field")]
      .filter((el) => el.getClientRects().length && el.scrollWidth > el.clientWidth + 1)
      .map((el) => el.className)"""
    mute = """() => [...document.querySelectorAll(".wbr-root :is(button, input, select, textarea)")]
      .filter((el) => el.getClientRects().length && !el.ariaLabel && !el.textContent.trim())
      .filter((el) => !el.labels?.length)
      .map((el) => el.className)"""
    lost = """() => [...document.querySelectorAll(
      ".wbr-root [aria-describedby], .wbr-root [aria-labelledby]")]
      .flatMap((el) => (el.getAttribute("aria-describedby") ?? el.getAttribute("aria-labelledby"))
      .split(" ")).filter((id) => !document.getElementById(id))"""
    for name in SCENES:
        scene.page.set_viewport_size({"width": 1400, "height": 900})
        page = show(name)
        assert [] == page.evaluate(mute), name
        assert [] == page.evaluate(lost), name
        for width in (1400, 700, 360):
            page.set_viewport_size({"width": width, "height": 900})
            # A graph is laid out anew a moment after the window changed its size.
            page.wait_for_function(f"({wide})().length === 0", timeout=20_000)
    assert [] == scene.foreign()
    assert [] == scene.problems
