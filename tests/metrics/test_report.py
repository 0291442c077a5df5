"""The report: one file, opened by Chromium without a network."""

from __future__ import annotations

from pathlib import Path

import pytest

import workbench.metrics
import workbench.metrics.journal
from tests.browsers import chromium, needs_chromium
from tests.widgets import metrics_store
from workbench.errors import StoreError
from workbench.metrics.report import report

MODEL = '<img src=x onerror="window.hacked=1">'


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the report of a week of work, in which one model has an evil name."""
    folder = tmp_path_factory.mktemp("report")
    store = metrics_store.fill(folder / "metrics")
    with workbench.metrics.journal.JournalWriter(store) as writer:
        writer.write("requests", {"status": "ok", "duration": 1.0, "gen_ai_request_model": MODEL})
    with workbench.metrics.open(store) as metrics:
        return report(metrics, folder / "week.html", since=8 * 86400)


def test_it_holds_everything(page_file: Path) -> None:
    """Figures, tables and plotly.js are in the file, whose policy forbids every connection."""
    text = page_file.read_text(encoding="utf-8")
    assert "<strong>601</strong>" in text
    assert 1 == text.count("* plotly.js v")
    assert "default-src 'none'" in text
    assert "<h2>What failed</h2>" in text
    assert "StreamBroken" in text
    assert MODEL not in text


@pytest.mark.browser
@pytest.mark.timeout(300)
@needs_chromium
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_opens_without_a_network(page_file: Path, scheme: str) -> None:
    """Every chart is drawn, nothing is asked of anybody, and no text of a model runs."""
    asked: list[str] = []
    problems: list[str] = []
    with chromium() as browser:
        page = browser.new_page(color_scheme=scheme, viewport={"width": 1280, "height": 900})
        page.set_default_timeout(120_000)
        page.context.set_offline(True)
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda said: said.type == "error" and problems.append(said.text))
        page.goto(page_file.as_uri())
        page.wait_for_selector("body[data-drawn]")
        drawn = page.locator("figure svg.main-svg").count()
        hacked = page.evaluate("window.hacked")
        page.screenshot(path=page_file.with_name(f"{scheme}.png"), full_page=True)
    assert [page_file.as_uri()] == [url for url in asked if not url.startswith(("data:", "blob:"))]
    assert drawn >= 8
    assert hacked is None
    assert [] == problems


def test_an_empty_store_gives_a_calm_page(tmp_path: Path) -> None:
    """Without requests the page says so, and still opens."""
    with workbench.metrics.open(tmp_path / "none") as metrics:
        text = report(metrics, tmp_path / "empty.html").read_text(encoding="utf-8")
    assert "No requests were recorded in this time." in text


def test_filters_narrow_it(page_file: Path) -> None:
    """The page says what it was narrowed to."""
    with workbench.metrics.open(page_file.with_name("metrics")) as metrics:
        path = report(metrics, page_file.with_name("one.html"), model="gemma3:12b")
    text = path.read_text(encoding="utf-8")
    assert "model gemma3:12b" in text
    assert "llama3.2:3b" not in text


def test_a_place_that_cannot_be_written(page_file: Path, tmp_path: Path) -> None:
    """A path below a file raises, and leaves nothing behind."""
    (tmp_path / "file").write_text("")
    with (
        workbench.metrics.open(page_file.with_name("metrics")) as metrics,
        pytest.raises(StoreError, match="cannot be written"),
    ):
        report(metrics, tmp_path / "file" / "week.html")
    assert ["file"] == [item.name for item in tmp_path.iterdir()]
