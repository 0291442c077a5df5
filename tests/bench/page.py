"""What a page received and how long its tasks were, measured in the page."""

from __future__ import annotations

import time
from dataclasses import dataclass

from playwright.sync_api import Page

WAIT_MS = 120_000
FIRST = "w1 "

# Counts what the page is sent, notes long tasks, and waits for texts in what is drawn.
_PROBE = """
(() => {
  const bench = (window.bench = { messages: [], tasks: [], wanted: [], keys: [] });
  Object.assign(bench, { seen: {}, click: 0 });
  const size = (data) => data.byteLength ?? data.size ?? new Blob([data]).size;
  window.WebSocket = class extends WebSocket {
    constructor(...given) {
      super(...given);
      if (!String(given[0]).includes("SOCKETS")) return;
      const note = ({ data }) => bench.messages.push([Date.now(), size(data)]);
      this.addEventListener("message", note);
    }
  };
  new PerformanceObserver((list) => {
    for (const task of list.getEntries()) {
      bench.tasks.push([performance.timeOrigin + task.startTime, task.duration]);
    };
  }).observe({ type: "longtask" });
  const look = () => {
    bench.wanted = bench.wanted.filter(([selector, text]) => {
      const found = [...document.querySelectorAll(selector)].at(-1)?.textContent ?? "";
      if (!found.includes(text)) return true;
      bench.seen[text] = Date.now();
      return false;
    });
  };
  const observer = new MutationObserver(() => bench.wanted.length && look());
  addEventListener("DOMContentLoaded", () =>
    observer.observe(document.body, { childList: true, subtree: true, characterData: true }));
  addEventListener("click", () => (bench.click = Date.now()), true);
  addEventListener("keydown", (event) => {
    const at = event.timeStamp;
    requestAnimationFrame(() => setTimeout(() => bench.keys.push(performance.now() - at)));
  }, true);
})();
"""


def probe(sockets: str) -> str:
    """Return the script that counts; of WebSockets those whose address contains `sockets`."""
    return _PROBE.replace("SOCKETS", sockets)


def tokens(count: int) -> list[str]:
    """Return a Markdown text in numbered words, with paragraphs, lists and code, token by token."""
    made = []
    for number in range(count):
        before = " "
        if number % 400 == 350:
            before = "\n\n```python\n"
        elif number % 400 == 380:
            before = "\n```\n\n"
        elif number % 80 == 0:
            before = "\n\n"
        elif number % 400 > 300 and number % 10 == 0 and number % 400 < 350:
            before = "\n- "
        made.append(f"{before}w{number}" if number else "w0")
    return made


@dataclass(frozen=True)
class Cost:
    """What a stream cost the page, in bytes, messages, messages/s and milliseconds.

    Attributes:
        longest_ms: The longest task once the first words are in the page.
        opening_ms: The longest one before.
    """

    size: int
    messages: int
    busiest: int
    longest_ms: float
    opening_ms: float
    seconds: float


class Watch:
    """Looks at a page that has the probe."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def begin(self, selector: str = "", text: str = "") -> None:
        """Forget what was counted, and look out for a text."""
        self.page.evaluate(
            "([selector, text, first]) => Object.assign(window.bench, { messages: [], tasks: [],"
            " keys: [], wanted: text ? [[selector, text], [selector, first]] : [], seen: {} })",
            [selector, text, FIRST],
        )

    def seen(self, text: str) -> float:
        """Wait until the text is in the page; returns when, in seconds of the wall clock."""
        self.page.wait_for_function(
            "text => window.bench.seen[text]", arg=text, timeout=WAIT_MS, polling=50
        )
        return float(self.page.evaluate("text => window.bench.seen[text]", text)) / 1000

    def cost(self, started: float) -> Cost:
        """Return what came since `begin`."""
        time.sleep(0.5)
        bench = self.page.evaluate("() => window.bench")
        streaming = bench["seen"].get(FIRST, 0)
        times = sorted(at for at, _ in bench["messages"])
        busiest = max(
            (
                sum(at <= t < at + 1000 for t in times[i : i + 4000])
                for i, at in enumerate(times[::7])
            ),
            default=0,
        )
        return Cost(
            sum(size for _, size in bench["messages"]),
            len(times),
            busiest,
            max((took for at, took in bench["tasks"] if at >= streaming), default=0.0),
            max((took for at, took in bench["tasks"] if at < streaming), default=0.0),
            time.time() - started,
        )
