"""Chromium for every test that needs it, and a second run for a test of the browser that failed.

Now and then Debian's chromium crashes as a whole: no page and no test has a part in it, and all
tests that share the browser would fail after it. And a page of JupyterLab on a busy machine draws,
moves and focuses at its own time. So a test of the browser that fails runs a second time, from the
set-up of its module on. When it passes then, the summary names it and prints why it failed: that is
a fault of the test or of the page, to be found. When it fails twice it has failed. `--one-run` is
for the hunt: there the first failure counts, unless the browser itself died.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from _pytest.runner import runtestprotocol

if TYPE_CHECKING:
    from playwright.sync_api import Browser

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage"
).split()
_AGAIN = "ran again"

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="Debian's chromium is not installed")


class _Deaths:
    """How many browsers ended by themselves, and the ones that are open."""

    def __init__(self) -> None:
        self.ended = 0
        self.open: list[Browser] = []

    def since(self, before: int) -> bool:
        """Tell whether one has ended since, or is dead and still held."""
        return before < self.ended or not all(map(_lives, self.open))


_deaths = _Deaths()


def _lives(browser: Browser) -> bool:
    from playwright.sync_api import Error

    # Asked, since the news of its end may not have come yet.
    try:
        browser.new_context().close()
    except Error:
        return False
    return browser.is_connected()


@contextmanager
def chromium() -> Iterator[Browser]:
    """Yield a browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        _deaths.open.append(browser)
        try:
            yield browser
        finally:
            _deaths.open.remove(browser)
            _deaths.ended += not _lives(browser)
            browser.close()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the way to see each failure."""
    parser.addoption(
        "--one-run", action="store_true", help="let tests of the browser fail the first time"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Run a test of the browser again when it failed."""
    if item.get_closest_marker("browser") is None:
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    before = _deaths.ended
    reports = runtestprotocol(item, log=False, nextitem=nextitem)
    why = _why_again(reports, item, died=_deaths.since(before))
    if why is not None:
        _forget_module(item)
        item.user_properties.append((_AGAIN, why))
        reports = runtestprotocol(item, log=False, nextitem=nextitem)
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def _why_again(reports: list[pytest.TestReport], item: pytest.Item, *, died: bool) -> str | None:
    failed = [report for report in reports if report.failed]
    if not failed:
        return None
    if died:
        return f"chromium died under {item.nodeid}, which ran again in a new one"
    if item.config.getoption("--one-run"):
        return None
    return f"{item.nodeid} ran again, having failed once:\n{failed[0].longreprtext}"


def _forget_module(item: pytest.Item) -> None:
    # Ends what is open of the module, so that it is made anew; the package's Lab stays.
    module = item.getparent(pytest.Module)
    above = module.parent if module is not None else None
    try:
        item.session._setupstate.teardown_exact(above)  # type: ignore[arg-type]
    except Exception:
        # Its browser is gone: what ends through a page cannot.
        return


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name the tests that ran again."""
    again = {
        str(value)
        for reports in terminalreporter.stats.values()
        for report in reports
        for name, value in getattr(report, "user_properties", ())
        if name == _AGAIN
    }
    for why in sorted(again):
        terminalreporter.write_line(why)
