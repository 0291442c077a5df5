"""The chat widget in a real JupyterLab and Chromium, beside the usual ways to stream into a page.

The scripted model server, JupyterLab, its kernel and the browser are processes of one machine and
share its clock.  Bytes, messages, long tasks and arrival are measured in the page.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from playwright.sync_api import Page

from tests.bench import jupyter_ai
from tests.bench.page import WAIT_MS, Cost, Watch, probe, tokens
from tests.bench.report import Figure, percentile
from tests.browsers import chromium
from tests.conftest import private_environment
from tests.widgets.lab import Lab, Notebook
from workbench.testing import FakeModel, Reply, ScriptedOllama

MODEL = "bench"
LANES = (MODEL, "second", "third")
LONG = 4_000
FLOOD = 20_000
RATE = 100.0
ANSWERS = 40
FLOOR_S = 15
STOPS = 12
HISTORY = 500
KEYS = 40

NOTES = (
    "The text, its pace, the page and the machine are the same for all ways of showing it.",
    "The display update is `handle.update(Markdown(text))`, the whole trait an anywidget with the"
    " text in one trait; both are written at each token.",
    "A first answer with code and a formula has been shown before: the page then holds the part of"
    " the front end (0.26 MB) that is sent once, when it is first needed.",
    "The floor is the same page with a timer that works 5 ms twenty times a second: what is longer"
    " there was taken by other processes of the machine.",
    "Bytes and messages are all that the page receives from the kernel, status messages included.",
    "jupyter-ai's own chat answers from the Jupyter server, through a persona that yields the text"
    " token by token at the same pace; all its page receives over WebSockets is counted.",
)

_CONNECT = f"import workbench\nwb = workbench.connect()\npanel = wb.chat_panel({MODEL!r})\npanel"
_DISPLAY_UPDATE = f"""
from IPython.display import Markdown, display
handle, text = display(Markdown(""), display_id=True), ""
for event in wb.generate("go", {MODEL!r}, stream=True):
    text += getattr(event, "text", "") or ""
    handle.update(Markdown(text))
"""
_TRAIT = f"""
import anywidget, traitlets
class Whole(anywidget.AnyWidget):
    _esm = '''export default {{ render({{ model, el }}) {{
      el.className = "wb-whole";
      const draw = () => {{ el.textContent = model.get("text"); }};
      model.on("change:text", draw); draw(); }} }}'''
    text = traitlets.Unicode("").tag(sync=True)
whole = Whole()
display(whole)
for event in wb.generate("go", {MODEL!r}, stream=True):
    whole.text += getattr(event, "text", "") or ""
"""
_HISTORY = f"""
long = wb.session({MODEL!r})
for number in range({HISTORY // 2}):
    long.ask(f"Question number {{number}}.")
"""

# --- the model server, in a process of its own


def _serve(pipe: Connection) -> None:
    models = [FakeModel(name, context_length=131_072) for name in LANES]
    with ScriptedOllama(models=models) as server:
        pipe.send(server.url)
        for command, value in iter(pipe.recv, None):
            if command == "reply":
                server.set_reply(Reply(**value))
                pipe.send(None)
            else:
                # Monotonic seconds become the wall clock that the page reads too.
                offset = time.time() - time.monotonic()
                asked = [item for item in server.requests if item.operation in ("chat", "generate")]
                ended = [item.finished_at for item in asked]
                pipe.send([None if at is None else at + offset for at in ended])


class Upstream:
    """A scripted Ollama whose answers can be changed."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        self.url: str = self._pipe.recv()

    def reply(self, **reply: Any) -> None:
        """Answer with `Reply(**reply)` from now on."""
        self._pipe.send(("reply", reply))
        self._pipe.recv()

    def last_end(self) -> float:
        """Wait until the last request has ended; returns when, in seconds of the wall clock."""
        while True:
            self._pipe.send(("ended", None))
            ended = self._pipe.recv()
            if ended and ended[-1] is not None:
                return float(ended[-1])
            time.sleep(0.02)

    def close(self) -> None:
        """End it."""
        self._pipe.send(None)
        self._process.join(10)


# --- the page


class Desk(Watch):
    """A notebook in a page with the probe, and the model server behind it."""

    def __init__(self, page: Page, upstream: Upstream) -> None:
        super().__init__(page)
        self.upstream = upstream
        self.notebook = Notebook(page)

    def ask(self, question: str) -> None:
        """Ask in the chat."""
        box = self.page.locator(".wb-root").last.get_by_label("Message", exact=True)
        box.fill(question)
        box.press("Enter")

    def new_chat(self) -> None:
        """Begin an empty conversation."""
        self.page.get_by_role("button", name="New conversation").last.click()
        self.page.locator(".wb-root .wb-welcome").last.wait_for(timeout=WAIT_MS)

    def idle(self) -> None:
        """Wait until the chat waits for a question."""
        self.page.locator(".wb-root[aria-busy=false]").last.wait_for(timeout=WAIT_MS)


@contextmanager
def desk() -> Iterator[Desk]:
    """Start everything in folders of its own, with an empty chat in a notebook."""
    folder = Path(tempfile.mkdtemp(prefix="wb-"))
    env = {**private_environment(folder), "WORKBENCH_PORT": "0"}
    upstream = Upstream()
    lab = Lab(folder / "lab", env={**env, "OLLAMA_HOST": upstream.url})
    try:
        lab.start()
        with chromium() as browser:
            page = browser.new_page(viewport={"width": 1400, "height": 900})
            page.add_init_script(probe("/channels"))
            made = Desk(page, upstream)
            made.notebook.open(lab.notebook("bench.ipynb", [_CONNECT]))
            made.notebook.run(0)
            made.page.locator(".wb-root:not(.wb-waiting)").wait_for(timeout=WAIT_MS)
            yield made
    finally:
        lab.stop()
        upstream.close()
        stop = [sys.executable, "-m", "workbench", "stop", "--force"]
        subprocess.run(stop, env={**os.environ, **env}, capture_output=True, check=False)
        shutil.rmtree(folder, ignore_errors=True)


# --- the figures


def measure() -> list[Figure]:
    """Return the figures of the chat widget."""
    # ipywidgets and Jupyter warn of their own future while playwright runs.
    warnings.simplefilter("ignore", DeprecationWarning)
    with desk() as place:
        _warm(place)
        figures = _latency(place)
        figures += _long(place)
        figures += _flood(place)
        figures += _stop(place)
        figures += _history(place)
    return figures


def _warm(place: Desk) -> None:
    """Let the page load what it needs once: the part for formulas and code, and fonts."""
    place.upstream.reply(text=["$x^2$", *tokens(800)], tokens_per_s=400.0)
    place.begin(".wb-answer .wb-md", "w799")
    place.ask("go")
    place.seen("w799")
    time.sleep(1.0)
    place.idle()
    place.new_chat()


def _latency(place: Desk) -> list[Figure]:
    ages = []
    for number in range(ANSWERS):
        mark = f"endmark{number}"
        place.upstream.reply(text=[*tokens(30), f" {mark}"], tokens_per_s=RATE)
        place.begin(".wb-answer .wb-md", mark)
        place.ask("go")
        at = place.seen(mark)
        ages.append(at - place.upstream.last_end())
        place.idle()
    worst = percentile(ages, 0.95)
    return [
        Figure(
            f"chat: last token, from the backend's end to the page, p95 of {ANSWERS} answers",
            worst * 1000,
            "ms",
            f"median {percentile(ages, 0.5) * 1000:.0f} ms",
            "under 150 ms",
            worst < 0.15,
        )
    ]


def _long(place: Desk) -> list[Figure]:
    place.new_chat()
    words = tokens(LONG)
    place.upstream.reply(text=words, tokens_per_s=RATE)
    costs = {}
    for name, selector, source in (
        ("chat", ".wb-answer .wb-md", ""),
        ("update", ".jp-RenderedMarkdown", _DISPLAY_UPDATE),
        ("trait", ".wb-whole", _TRAIT),
    ):
        place.begin(selector, f"w{LONG - 1}")
        started = time.time()
        if source:
            place.notebook.cell(source, wait=False)
        else:
            place.ask("go")
        place.seen(f"w{LONG - 1}")
        costs[name] = place.cost(started)
        if not source:
            place.idle()
    peer, version = _jupyter_ai(place, words)
    costs["peer"] = peer
    floor = floor_ms(place)
    return _compared(costs, floor, f"jupyter-ai {version}")


def _jupyter_ai(place: Desk, words: list[str]) -> tuple[Cost, str]:
    """Return what the same text costs the page of jupyter-ai's own chat, and its version."""
    folder = Path(tempfile.mkdtemp(prefix="wb-"))
    try:
        python = jupyter_ai.PYTHON or jupyter_ai.install(folder / "venv")
        browser = place.page.context.browser
        assert browser is not None
        with jupyter_ai.page(
            browser, folder, python, tokens=words, rate=RATE, probe=probe("/")
        ) as page:
            box = page.locator(".jp-chat-input-container textarea, [role=combobox]").first
            box.click(timeout=WAIT_MS)
            watch = Watch(page)
            watch.begin(".jp-chat-rendered-message", f"w{LONG - 1}")
            started = time.time()
            box.fill("go")
            page.keyboard.press("Enter")
            watch.seen(f"w{LONG - 1}")
            return watch.cost(started), jupyter_ai.version_of(python)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _compared(costs: Mapping[str, Cost], floor_ms: float, peer_name: str) -> list[Figure]:
    ours, update, trait, peer = (costs[name] for name in ("chat", "update", "trait", "peer"))
    what = f"{LONG:,} tokens at {RATE:.0f} tokens/s"
    return [
        Figure(
            f"chat: {what}, received by the page",
            ours.size / 1e6,
            "MB",
            f"display update: {update.size / 1e6:.1f} MB; whole trait: {trait.size / 1e6:.1f} MB;"
            f" {peer_name}: {peer.size / 1e6:.1f} MB",
            "under 1 MB",
            ours.size < 1e6,
        ),
        Figure(
            f"chat: {what}, most messages of all kinds in one second",
            ours.busiest,
            "messages/s",
            f"display update: {update.busiest}; whole trait: {trait.busiest};"
            f" {peer_name}: {peer.busiest}",
            "under 40 messages/s",
            ours.busiest < 40,
        ),
        Figure(
            f"chat: {what}, longest task of the page while it streams",
            ours.longest_ms,
            "ms (0: none over 50)",
            f"display update: {update.longest_ms:.0f} ms; whole trait: {trait.longest_ms:.0f} ms;"
            f" {peer_name}: {peer.longest_ms:.0f} ms; floor: {floor_ms:.0f} ms;"
            f" ours before the first word: {ours.opening_ms:.0f} ms",
            "none over 50 ms",
            ours.longest_ms <= 50,
        ),
        Figure(
            f"chat: {what}, until the last token is in the page",
            ours.seconds,
            "s",
            f"display update: {update.seconds:.0f} s; whole trait: {trait.seconds:.0f} s;"
            f" {peer_name}: {peer.seconds:.0f} s",
        ),
    ]


def floor_ms(place: Desk) -> float:
    """Return the longest task of the page while a timer works 5 ms twenty times a second."""
    place.begin()
    place.page.evaluate(
        "seconds => new Promise(done => { let left = seconds * 20;"
        " const timer = setInterval(() => { const until = performance.now() + 5;"
        " while (performance.now() < until);"
        " if (--left <= 0) { clearInterval(timer); setTimeout(done, 200); } }, 50); })",
        FLOOR_S,
    )
    tasks = place.page.evaluate("() => window.bench.tasks")
    return max((float(took) for _, took in tasks), default=0.0)


def _flood(place: Desk) -> list[Figure]:
    place.new_chat()
    place.upstream.reply(text=tokens(FLOOD))
    last = f"w{FLOOD - 1}"
    place.begin(".wb-answer .wb-md", last)
    started = time.time()
    place.ask("go")
    place.seen(last)
    cost = place.cost(started)
    place.idle()
    text = place.page.locator(".wb-answer .wb-md").last.text_content() or ""
    found = [int(number) for number in re.findall(r"w(\d+)", text)]
    longest = max(cost.longest_ms, cost.opening_ms)
    in_order = sum(number == place_ for place_, number in enumerate(found))
    return [
        Figure(
            f"chat: {FLOOD:,} tokens at full speed, in the page and in order",
            in_order,
            "tokens",
            f"{cost.size / 1e6:.2f} MB in {cost.messages} messages",
            f"{FLOOD:,}",
            found == list(range(FLOOD)),
        ),
        Figure(
            f"chat: {FLOOD:,} tokens at full speed, longest task of the page",
            longest,
            "ms (0: none over 50)",
            "",
            "under 100 ms",
            longest < 100,
        ),
    ]


def _stop(place: Desk) -> list[Figure]:
    place.new_chat()
    place.upstream.reply(text=tokens(FLOOD), tokens_per_s=RATE)
    figures = []
    for kernel in ("idle", "in time.sleep(20)"):
        rounds = STOPS
        if kernel != "idle":
            place.notebook.cell("import time; time.sleep(20)", wait=False)
            rounds = STOPS - 4
        took = [_stopped(place) for _ in range(rounds)]
        worst = percentile(took, 0.95)
        figures.append(
            Figure(
                f"chat: Stop, from the click to the idle backend, kernel {kernel}, p95 of {rounds}",
                worst * 1000,
                "ms",
                f"median {percentile(took, 0.5) * 1000:.0f} ms",
                "under 300 ms",
                worst < 0.3,
            )
        )
    busy = "() => window.jupyterapp.shell.currentWidget.content.widgets.at(-1).model"
    assert place.page.evaluate(f"{busy}.executionState") != "idle", "the cell ended too early"
    return figures


def _stopped(place: Desk) -> float:
    place.ask("go")
    live = place.page.locator(".wb-answer.wb-live", has_text="w5 ")
    live.wait_for(timeout=WAIT_MS)
    place.page.locator(".wb-root").last.get_by_role("button", name="Stop answer").click()
    clicked = float(place.page.evaluate("() => window.bench.click")) / 1000
    took = place.upstream.last_end() - clicked
    place.idle()
    return took


def _history(place: Desk) -> list[Figure]:
    place.upstream.reply(
        text=f"{' '.join(tokens(40))}\n\n```python\nprint('a short answer')\n```\n"
    )
    place.notebook.cell(_HISTORY)
    mark = f"Question number {HISTORY // 2 - 1}."
    place.begin(".wb-items .wb-user", mark)
    started = time.time()
    place.notebook.cell("long", wait=False)
    opened = place.seen(mark) - started
    longest = place.cost(started).longest_ms
    box = place.page.locator(".wb-root").last.get_by_label("Message", exact=True)
    box.click()
    place.begin()
    place.page.keyboard.type("a" * KEYS, delay=30)
    time.sleep(0.5)
    keys = place.page.evaluate("() => window.bench.keys")
    typed = percentile(keys, 0.95)
    return [
        Figure(
            f"chat: a history of {HISTORY} messages opens",
            opened,
            "s",
            f"longest task of the page: {longest:.0f} ms",
            "under 1 s",
            opened < 1,
        ),
        Figure(
            f"chat: from a key to the drawn frame in that history, p95 of {len(keys)}",
            typed,
            "ms",
            f"median {percentile(keys, 0.5):.0f} ms",
            "under 50 ms",
            typed < 50,
        ),
    ]
