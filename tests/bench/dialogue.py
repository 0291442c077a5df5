"""The dialogue panel in JupyterLab and Chromium: three lanes at once, and a long dialogue."""

from __future__ import annotations

import re
import time
import warnings

from tests.bench.chat import LANES, RATE, Desk, desk, floor_ms
from tests.bench.page import tokens
from tests.bench.report import Figure, percentile

TOKENS = 1_500
TURNS = 200
KEYS = 40

NOTES = (
    "Three models write at the same time in one panel with a lane each; messages are all that the"
    " page receives from the kernel, status messages and acknowledgements included.",
    "The floor is the same page with a timer that works 5 ms twenty times a second: what is longer"
    " there was taken by other processes of the machine.",
    "The last word counts as arrived when it is in the page in every lane.",
)

_CAST = [{"name": name.title(), "model": name} for name in LANES]
_LANES = f"""
lanes = wb.dialogue({_CAST!r}, opening="Go.", order="broadcast", schedule="parallel",
    turns=3, repetition=None)
lanes
"""
_LONG = f"""
long = wb.dialogue({_CAST[:2]!r}, opening="Go.", turns={TURNS}, repetition=None)
long.run()
"""


def measure() -> list[Figure]:
    """Return the figures of the dialogue panel."""
    # ipywidgets and Jupyter warn of their own future while playwright runs.
    warnings.simplefilter("ignore", DeprecationWarning)
    with desk() as place:
        return [*_lanes(place), *_history(place)]


def _lanes(place: Desk) -> list[Figure]:
    """Stream in three lanes; the page has what is sent once, such as the part for code, before."""
    place.upstream.reply(text=tokens(TOKENS), tokens_per_s=RATE)
    last, root = f"w{TOKENS - 1}", place.page.locator(".wb-dialogue")
    place.notebook.cell(_LANES)
    root.get_by_role("button", name="A lane for each", exact=True).click()
    start = root.get_by_role("button", name="Start the dialogue", exact=True)
    start.click()
    root.locator(".wb-lane-turn .wb-code").first.wait_for()
    root.get_by_role("button", name="Stop the dialogue", exact=True).click()
    root.locator(".wb-run-word", has_text="Ended").wait_for()
    place.begin(".wb-dialogue .wb-list:last-child .wb-md", last)
    started = time.time()
    root.get_by_label("More turns", exact=True).fill("3")
    root.get_by_role("button", name="Go on", exact=True).click()
    place.seen(last)
    root.locator(".wb-run-word", has_text="Ended").wait_for()
    cost = place.cost(started)
    complete = sum(
        [str(n) for n in range(TOKENS)]
        == re.findall(r"w(\d+)", list_.text_content() or "")[-TOKENS:]
        for list_ in root.get_by_role("log").all()
    )
    floor = floor_ms(place)
    what = f"three lanes of {TOKENS:,} tokens at {RATE:.0f} tokens/s each"
    return [
        Figure(
            f"dialogue: {what}, most messages of all kinds in one second",
            cost.busiest,
            "messages/s",
            f"{cost.messages} messages, {cost.size / 1e6:.2f} MB in {cost.seconds:.0f} s",
            "under 40 messages/s",
            cost.busiest < 40,
        ),
        Figure(
            f"dialogue: {what}, longest task of the page while they stream",
            cost.longest_ms,
            "ms (0: none over 50)",
            f"floor: {floor:.0f} ms; before the first word: {cost.opening_ms:.0f} ms",
            "none over 50 ms",
            cost.longest_ms <= 50,
        ),
        Figure(
            f"dialogue: {what}, lanes that are complete and in order",
            complete,
            "lanes",
            "",
            "3",
            complete == 3,
        ),
    ]


def _history(place: Desk) -> list[Figure]:
    place.upstream.reply(text=f"{' '.join(tokens(40))}\n\n```python\nprint('a short turn')\n```\n")
    place.notebook.cell(_LONG)
    place.begin(".wb-dialogue .wb-run-reason", f"{TURNS} turns were taken")
    started = time.time()
    place.notebook.cell("long", wait=False)
    opened = place.seen(f"{TURNS} turns were taken") - started
    longest = place.cost(started).longest_ms
    log = place.page.locator(".wb-dialogue").last.get_by_role("log")
    log.focus()
    place.begin()
    for _ in range(KEYS):
        place.page.keyboard.press("Alt+ArrowUp")
        time.sleep(0.03)
    time.sleep(0.5)
    keys = place.page.evaluate("() => window.bench.keys")
    moved = percentile(keys, 0.95)
    return [
        Figure(
            f"dialogue: {TURNS} turns open",
            opened,
            "s",
            f"longest task of the page: {longest:.0f} ms",
            "under 1 s",
            opened < 1,
        ),
        Figure(
            f"dialogue: from Alt+Up to the drawn frame among them, p95 of {len(keys)}",
            moved,
            "ms",
            f"median {percentile(keys, 0.5):.0f} ms",
            "under 50 ms",
            moved < 50,
        ),
    ]
