"""What a person sees and does in the dashboard, by the names of its controls.

The pictures are those the kernel's side makes of a real store; plotly.js is that of the wheel.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.frontend.conftest import Scene
from tests.frontend.test_browser_view import sent
from tests.widgets.metrics_store import ANSWER, NASTY, QUESTION

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

Show = Callable[..., Any]
LOAD_MS = 120_000


@pytest.fixture
def show(scene: Scene) -> Show:
    """Return a function that opens a scene of the dashboard."""

    def open_scene(name: str = "plain") -> Any:
        scene.page.set_default_timeout(LOAD_MS)
        page = scene.show(name, widget="dashboard")
        page.wait_for_selector(".wbd-root")
        return page

    return open_scene


def row(page: Any, number: int) -> Any:
    """Return a row of the list of requests."""
    return page.get_by_role("table", name="Requests").locator("tbody tr").nth(number)


def detail(page: Any) -> Any:
    """Return the drawer of a request."""
    return page.get_by_label("Request panel")


def test_figures_with_their_trend(show: Show) -> None:
    """Four figures stand at the top, each with how it differs from the time before."""
    page = show()
    cards = page.get_by_role("list", name="Headline figures").get_by_role("listitem")
    told = [card.inner_text().replace("\n", " ") for card in cards.all()]
    patterns = (
        r"Requests \d+ [↑↓] [\d,.]+ % against the day before",
        r"p95 latency [\d.]+ s ([↑↓] [\d.]+ % against the day before|as before)",
        r"Tokens per second [\d.]+ ([↑↓] [\d.]+ % against the day before|as before)",
        r"Error share [\d.]+ % ([↑↓] [\d.]+ points against the day before|as before)",
    )
    for text, pattern in zip(told, patterns, strict=True):
        assert re.fullmatch(pattern, text), text


def test_charts_are_drawn_once_in_view_and_follow_the_theme(show: Show, scene: Scene) -> None:
    """One plotly.js is asked for; charts are drawn when they are seen, in the page's colours."""
    page = show()
    page.wait_for_selector('[data-chart="latency"] .wbd-seat[data-drawn]')
    # The page's own name for plotly stays free.
    assert page.evaluate("[typeof window.Plotly, Boolean(window.workbenchPlotly.module)]") == [
        "undefined",
        True,
    ]
    assert 1 == len(sent(page, "need"))
    assert 0 == page.locator('[data-chart="steps"] .wbd-seat[data-drawn]').count()
    page.locator('[data-chart="steps"]').scroll_into_view_if_needed()
    page.wait_for_selector('[data-chart="steps"] .wbd-seat[data-drawn]')
    label = page.locator('[data-chart="latency"] .wbd-seat').get_attribute("aria-label")
    assert label.startswith("Latency. How long warm requests took over time")
    page.locator('[data-chart="latency"]').scroll_into_view_if_needed()
    colour = "document.querySelector('[data-chart=latency] .gtitle, [data-chart=latency] .ytitle')"
    before = page.evaluate(f"getComputedStyle({colour}).fill")
    page.evaluate("document.documentElement.style.setProperty('--jp-content-font-color2', '#abc')")
    page.wait_for_function(f"getComputedStyle({colour}).fill === 'rgb(170, 187, 204)'")
    assert before != "rgb(170, 187, 204)"
    page.set_viewport_size({"width": 500, "height": 900})
    page.wait_for_function(
        "(() => { const seat = document.querySelector('[data-chart=latency] .wbd-seat');"
        "return Math.abs(seat.querySelector('svg').clientWidth - seat.clientWidth) < 2; })()"
    )
    assert [] == scene.foreign()
    assert [] == scene.problems


def test_a_refresh_draws_only_what_changed(show: Show) -> None:
    """A chart that changed is drawn anew in its place; one that is gone goes."""
    page = show()
    page.wait_for_selector('[data-chart="latency"] .wbd-seat[data-drawn]')
    page.evaluate("document.querySelector('[data-chart=latency]').mark = 1")
    page.evaluate(
        "kernel.chart('latency', {...kernel.picture.rows.latency, title: 'Latency of today'})"
    )
    page.get_by_role("heading", name="Latency of today").wait_for()
    assert 1 == page.evaluate("document.querySelector('[data-chart=latency]').mark")
    page.evaluate("kernel.chart('steps', null)")
    page.wait_for_function("!document.querySelector('[data-chart=steps]')")
    names = "[...document.querySelectorAll('.wbd-chart')].map((el) => el.dataset.chart)"
    assert ["latency", "phases", "speed", "memory", "gaps", "loads", "runs"] == page.evaluate(names)


def test_time_and_filters(show: Show) -> None:
    """A range, a list and a custom time ask the kernel; one click clears the lists."""
    page = show()
    page.get_by_role("button", name="Last week").click()
    assert {"range": "week", "since": None, "until": None} == sent(page, "filter")[0]["set"]
    page.get_by_label("Model", exact=True).select_option("gemma3:12b")
    assert {"model": "gemma3:12b"} == sent(page, "filter", count=2)[1]["set"]
    page.get_by_label("Status", exact=True).select_option("error")
    sent(page, "filter", count=3)
    page.get_by_role("button", name="Clear filters").click()
    cleared = dict.fromkeys(("model", "backend", "run", "client", "status"))
    assert cleared == sent(page, "filter", count=4)[3]["set"]
    page.get_by_role("button", name="Custom time").click()
    page.get_by_label("From, UTC").fill("2026-11-20T08:00")
    page.get_by_label("Until, UTC").fill("2026-11-21T08:00")
    page.get_by_role("button", name="Show this time").click()
    chosen = {"range": "custom", "since": "2026-11-20T08:00", "until": "2026-11-21T08:00"}
    assert chosen == sent(page, "filter", count=5)[4]["set"]


def test_the_list_by_keyboard(show: Show) -> None:
    """Arrows move through the requests, Enter opens one, Escape closes it where one was."""
    page = show()
    first = row(page, 0)
    first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    assert row(page, 1).evaluate("el => el === document.activeElement")
    page.keyboard.press("Enter")
    detail(page).get_by_text("The text of this request was not recorded.").wait_for()
    page.keyboard.press("Escape")
    assert detail(page).is_hidden()
    assert row(page, 1).evaluate("el => el === document.activeElement")
    page.keyboard.press("End")
    assert row(page, 99).evaluate("el => el === document.activeElement")


def test_order_and_pages(show: Show) -> None:
    """The head of a column orders by it and says so; pages are turned a hundred at a time."""
    page = show()
    page.get_by_role("button", name="Order by duration").click()
    asked = {"by": "duration_s", "desc": True, "offset": 0}
    assert asked.items() <= sent(page, "page")[0].items()
    page.wait_for_selector('th[aria-sort="descending"].wbd-c-duration_s')
    page.get_by_role("button", name="Order by duration").click()
    assert not sent(page, "page", count=2)[1]["desc"]
    page.get_by_role("button", name="Next page").click()
    assert 100 == sent(page, "page", count=3)[2]["offset"]


def test_a_request_in_detail(show: Show, scene: Scene) -> None:
    """The drawer shows question, answer, parameters, and where the time went."""
    page = show("detail")
    shown = detail(page)
    shown.get_by_role("article", name="You").get_by_text(QUESTION).wait_for()
    assert ANSWER == shown.get_by_role("article", name="Answer").locator("pre").inner_text()
    bar = shown.get_by_role("img").get_attribute("aria-label")
    assert re.match(r"Where the time went: in the queue .*, generating [\d.]+ s", bar)
    assert "temperature\n0.7" in shown.inner_text()
    assert [] == scene.problems


def test_a_failed_request(show: Show, scene: Scene) -> None:
    """The error stands with its stage; what a model wrote is text and nothing else."""
    page = show("failed")
    shown = detail(page)
    error = shown.get_by_role("note", name="Error").inner_text()
    assert error.startswith("StreamBroken while the answer was arriving")
    assert "CUDA error" in error
    text = shown.get_by_role("article", name="Answer").locator("pre").inner_text()
    assert NASTY.replace("\u202e", "\ufffd") == text
    assert page.evaluate("window.hacked === undefined")
    assert [] == scene.problems
    assert [] == scene.foreign()


def test_exports(show: Show) -> None:
    """The menu offers three formats and the report, and the place is shown to be copied."""
    page = show()
    page.get_by_role("button", name="Export").click()
    items = page.get_by_role("menuitem")
    named = ["Requests as CSV", "Requests as Parquet", "Requests as JSON lines", "Report as HTML"]
    assert named == items.all_inner_texts()
    items.first.click()
    assert "csv" == sent(page, "take")[0]["what"]
    page.get_by_text("600 requests written to").wait_for()
    assert page.get_by_role("button", name="Copy the path").is_visible()
    page.get_by_role("button", name="Dismiss notice").click()
    page.get_by_text("600 requests written to").wait_for(state="hidden")


def test_banners(show: Show) -> None:
    """Alerts, a store that cannot be read and a missing server each say what is the matter."""
    page = show("alerts")
    alerts = page.get_by_role("alert", name="Alerts")
    assert "gemma3:12b@local: p95 of 31 requests is 12.4 s" in alerts.inner_text()
    page.evaluate("kernel.set({alerts: {...kernel.picture.alerts, active: []}})")
    alerts.wait_for(state="hidden")
    page = show("unreadable")
    trouble = page.get_by_role("alert").filter(has_text="The metrics cannot be read.")
    assert "workbench clean" in trouble.inner_text()
    page = show("noserver")
    page.get_by_text("No server answers; what was recorded is shown.").wait_for()


def test_nothing_yet_and_nothing_found(show: Show) -> None:
    """An empty store says what will appear and how; filters that find nothing say so."""
    page = show("empty")
    assert page.get_by_role("heading", name="Nothing was recorded yet").is_visible()
    assert page.get_by_text("wb.generate(").is_visible()
    assert not page.get_by_role("list", name="Headline figures").is_visible()
    page = show("none")
    assert page.get_by_text("No request matches the filters.").is_visible()
    chosen = page.get_by_label("Client", exact=True).locator("option:checked")
    assert chosen.inner_text().startswith("aider (")


def test_a_kernel_that_is_gone(show: Show) -> None:
    """The last picture stays, and a line says how to go on."""
    page = show("kernelgone")
    page.get_by_text("The kernel of this dashboard is gone.").wait_for()
    assert page.get_by_role("button", name="Last week").is_disabled()


@pytest.mark.parametrize("width", [360, 640, 900, 1400])
def test_it_fits(show: Show, width: int) -> None:
    """At every width nothing sticks out of the panel."""
    page = show("plain")
    page.set_viewport_size({"width": width, "height": 900})
    page.wait_for_selector('[data-chart="latency"]')
    wide = page.evaluate(
        """() => {
          const root = document.querySelector(".wbd-root").getBoundingClientRect();
          return [...document.querySelectorAll(".wbd-head *, .wbd-card, .wbd-chart, .wbd-table")]
            .filter((el) => el.getClientRects().length)
            .filter((el) => getComputedStyle(el).position !== "absolute")
            .filter((el) => el.getBoundingClientRect().right > root.right + 1)
            .map((el) => el.className || el.tagName);
        }"""
    )
    assert [] == wide
