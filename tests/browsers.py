"""Chromium for every test that needs it.

Now and then Debian's chromium crashes as a whole: no page and no test has a part in it, and all
tests that share the browser would fail after it.  So it is counted how many ended.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage"
).split()

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="Debian's chromium is not installed")


class Deaths:
    """How many browsers ended by themselves, and the ones that are open."""

    def __init__(self) -> None:
        self.ended = 0
        self.open: list[Browser] = []

    def since(self, before: int) -> bool:
        """Tell whether one has ended since, or is dead and still held."""
        return before < self.ended or not all(map(_lives, self.open))


deaths = Deaths()


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
        deaths.open.append(browser)
        try:
            yield browser
        finally:
            deaths.open.remove(browser)
            deaths.ended += not _lives(browser)
            browser.close()
