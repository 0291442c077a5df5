"""What a model wrote runs nothing and fetches nothing, wherever it is shown."""

from __future__ import annotations

import html
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browsers import needs_chromium
from tests.widgets.conftest import CONNECT, OpenNotebook, Place
from tests.widgets.corpus import EVERYTHING, FOREIGN, HIDDEN, LONG_LINE, UNCLOSED, VECTORS
from tests.widgets.lab import ForeignRequests, Notebook
from workbench.chat.transcript import Transcript
from workbench.messages import Message
from workbench.testing import Reply
from workbench.widgets.static_html import is_safe_link, markdown_html, transcript_html

pytestmark = [
    pytest.mark.browser,
    needs_chromium,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

BAD = """root => {
  const found = [];
  for (const el of root.querySelectorAll('*')) {
    if (/^(script|iframe|object|embed|form|base|link|meta|video|audio|template)$/i.test(el.tagName))
      found.push(el.tagName);
    for (const {name, value} of el.attributes) {
      if (/^on/i.test(name)) found.push(`${el.tagName} ${name}`);
      if (/^(href|src|action|formaction|xlink:href|srcset|data)$/i.test(name)
          && /^[^a-z]*(javascript|data:text|data:image.svg|vbscript)/i.test(value)
          && !el.closest('svg.wb-icon')) found.push(`${el.tagName} ${name}=${value}`);
    }
  }
  return found;
}"""


class Watched:
    """A page whose requests and damage are noted."""

    def __init__(self, page: Page, port: int) -> None:
        self.page = page
        self.foreign = ForeignRequests(page, port)

    def check(self, selector: str) -> None:
        """Assert that nothing ran, nothing was fetched, and nothing that could is in the page."""
        root = self.page.locator(selector).last
        expect(root).to_be_visible()
        self.page.wait_for_load_state("networkidle")
        assert root.evaluate(BAD) == []
        assert self.page.evaluate("() => typeof window.__pwned") == "undefined"
        assert [url for url in self.foreign.seen if not url.startswith("file:")] == []


@dataclass(frozen=True)
class Saved:
    """A notebook whose chat shows the corpus, and the file it was saved in."""

    notebook: Notebook
    watched: Watched
    path: Path


def _cut(text: str) -> list[str]:
    return [text[at : at + 7] for at in range(0, len(text), 7)]


@pytest.fixture(scope="module")
def saved(place: Place, open_notebook: OpenNotebook) -> Saved:
    """Let a model answer with the whole corpus, and save the notebook that shows it."""
    notebook = open_notebook(CONNECT + "\npanel = wb.chat_panel('llama3.2')\npanel")
    watched = Watched(notebook.page, place.lab.port)
    notebook.run(0)
    chat = notebook.chat().ready()
    place.ollama.set_reply(Reply(_cut(EVERYTHING)))
    answer = chat.ask("<img src=x onerror=window.__pwned=1> Show me the corpus")
    expect(answer.locator(".wb-code").last).to_contain_text("print(1)")
    kept = "() => JSON.stringify(window.jupyterapp.shell.currentWidget.content.model.toJSON())"
    notebook.page.wait_for_function(f"() => ({kept})().includes('wb-model')")
    notebook.save()
    path = place.lab.work / notebook.page.url.rpartition("/")[2].partition("?")[0]
    return Saved(notebook, watched, path)


def test_corpus_is_large() -> None:
    """There are many vectors, and no two are the same."""
    assert 40 <= len(set(VECTORS)) == len(VECTORS)


def test_corpus_live(saved: Saved) -> None:
    """The whole corpus, streamed in pieces of seven characters, does nothing in the live view."""
    notebook = saved.notebook
    saved.watched.check(".wb-root")
    assert [] == notebook.errors


def test_remote_image_asks(saved: Saved) -> None:
    """A remote image is a button that says where it would be fetched from."""
    notebook = saved.notebook
    button = notebook.chat().root.get_by_role("button", name="Image from 127.0.0.2:9").first
    button.click()
    group = notebook.chat().root.get_by_role("group", name="Load the image from 127.0.0.2:9?")
    expect(group).to_contain_text("will see your address")
    group.get_by_role("button", name="Leave it").click()
    saved.watched.check(".wb-root")


def test_hidden_characters_are_shown(saved: Saved) -> None:
    """Characters that turn or hide text are replaced by a sign."""
    notebook = saved.notebook
    shown = notebook.chat().answers.last.inner_text()
    assert not set(shown) & set(HIDDEN) & {"\u202e", "\u2066", "\u2069", "\u200b", "\x1b", "\x07"}


def test_long_line_live(place: Place, saved: Saved) -> None:
    """A line of a megabyte that begins as an image arrives whole and does nothing."""
    notebook = saved.notebook
    place.ollama.set_reply(Reply([LONG_LINE[at : at + 50_000] for at in range(0, 10**6, 50_000)]))
    notebook.value("panel.session.branch(new=False) and None")
    answer = notebook.chat().ask("A long line")
    expect(answer).not_to_contain_text("The answer broke off")
    notebook.page.wait_for_function(
        "() => [...document.querySelectorAll('article.wb-answer')].at(-1).textContent.length > 9e5"
    )
    saved.watched.check(".wb-root")
    chat = notebook.chat()
    chat.questions.last.hover()
    chat.button("Delete message").last.click()
    chat.button("Confirm delete").click()


def test_corpus_reopened(place: Place, browser: Browser, saved: Saved) -> None:
    """The saved notebook, opened anew without a kernel, shows the transcript and does nothing."""
    path = saved.path
    copy = place.lab.work / "reopened-corpus.ipynb"
    copy.write_bytes(path.read_bytes())
    page = browser.new_page()
    watched = Watched(page, place.lab.port)
    Notebook(page).open(place.lab.address(copy.name))
    expect(page.locator(".workbench-chat-output")).to_contain_text("Show me the corpus")
    watched.check(".workbench-chat-output")
    Notebook(page).shut_down()
    page.close()


def test_corpus_without_the_extension(plain_place: Place, browser: Browser, saved: Saved) -> None:
    """The saved notebook does nothing either in a Lab that lacks our extension."""
    book = nbformat.read(saved.path, as_version=4)
    nbformat.write(book, plain_place.lab.work / "copy.ipynb")
    for cell in book.cells:
        for output in cell.get("outputs", ()):
            output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)
    nbformat.write(book, plain_place.lab.work / "html-only.ipynb")
    page = browser.new_page()
    watched = Watched(page, plain_place.lab.port)
    for name in ("copy.ipynb", "html-only.ipynb"):
        Notebook(page).open(plain_place.lab.address(name))
        watched.check(".jp-OutputArea-output")
        Notebook(page).shut_down()
    expect(page.locator(".jp-OutputArea-output")).to_contain_text("Show me the corpus")
    page.close()


def test_corpus_in_nbconvert_html(browser: Browser, saved: Saved, tmp_path: Path) -> None:
    """The page that nbconvert makes of it shows the transcript and does nothing."""
    path = saved.path
    command = [sys.executable, "-m", "jupyter", "nbconvert", "--to", "html"]
    command += ["--output", str(tmp_path / "page.html"), str(path)]
    subprocess.run(command, check=True, capture_output=True, timeout=100)
    page = browser.new_page()
    requested: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    # nbconvert's own template asks for its scripts by CDN; this machine has no way there.
    page.route(lambda url: not url.startswith("file:"), lambda route: route.abort())
    page.goto((tmp_path / "page.html").as_uri())
    expect(page.locator(".wb-static")).to_contain_text("Show me the corpus")
    assert page.locator(".wb-static").evaluate(BAD) == []
    assert page.evaluate("() => typeof window.__pwned") == "undefined"
    assert [] == [url for url in requested if url.startswith(FOREIGN)]
    page.close()


def test_each_vector_as_static_html(browser: Browser, tmp_path: Path) -> None:
    """Each vector by itself, as question, answer and thinking, is harmless in the static HTML."""
    parts = []
    for text in (*VECTORS, HIDDEN, UNCLOSED, LONG_LINE[:100_000]):
        transcript = Transcript()
        transcript.append(Message("user", text))
        transcript.append(Message("assistant", text, thinking=text))
        parts.append(transcript_html(text, transcript.path()))
    (tmp_path / "all.html").write_text("<meta charset=utf-8>" + "<hr>".join(parts), "utf-8")
    page = browser.new_page()
    watched = Watched(page, 0)
    page.goto((tmp_path / "all.html").as_uri())
    watched.check("body")
    for link in page.locator("a").all():
        assert is_safe_link(link.get_attribute("href") or "")
    page.close()


def test_long_text_stays_text() -> None:
    """A text too long to be parsed is kept whole, and escaped."""
    assert f"<pre>{html.escape(LONG_LINE)}</pre>" == markdown_html(LONG_LINE)


def test_transcript_survives_json() -> None:
    """The static HTML of the corpus can be written to a notebook: it has no lone surrogate."""
    transcript = Transcript()
    transcript.append(Message("user", EVERYTHING))
    made = transcript_html("corpus", transcript.path())
    assert made == json.loads(json.dumps(made).encode())
