"""Saved transcripts of comparisons and dialogues: safe, and blind where that was asked."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell

from tests.widgets.corpus import EVERYTHING
from workbench.app import Workbench
from workbench.chat.compare import Comparison
from workbench.testing import Reply, ScriptedOllama

ALLOWED = set(
    "style div details summary p pre code em strong a ul ol li h1 h2 h3 h4 h5 h6 blockquote hr br "
    "table thead tbody tr th td".split()
)


class Checked(HTMLParser):
    """Collects what has no place in a saved transcript."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ALLOWED:
            self.found.append(tag)
        for name, value in attrs:
            safe = name in ("class", "aria-label", "start", "style", "rel")
            if name == "href":
                safe = re.match(r"(https?|mailto):", value or "") is not None
            if not safe or (name == "style" and not re.fullmatch(r"text-align:\w+", value or "")):
                self.found.append(f"{tag} {name}={value}")


@pytest.fixture
def wb(shell: InteractiveShell) -> Workbench:
    found = shell.user_ns["wb"]
    assert isinstance(found, Workbench)
    return found


def bundle(shown: Any) -> dict[str, str]:
    """Return the mime bundle of an object displayed bare."""
    found = shown._repr_mimebundle_()
    data: dict[str, str] = found[0] if isinstance(found, tuple) else found
    return data


def test_what_models_wrote_runs_nothing(wb: Workbench, ollama: ScriptedOllama) -> None:
    """The corpus of attacks is shown as text, in prompts, answers, thinking and names."""
    ollama.set_reply(Reply(EVERYTHING, thinking=EVERYTHING), to="chat")
    comparison = wb.compare(["tiny", {"model": "nano", "name": "<img src=x onerror=alert(1)>"}])
    comparison.ask(EVERYTHING)
    dialogue = wb.dialogue(
        [{"name": "<script>alert(1)</script>", "model": "tiny"}, {"name": "B", "model": "nano"}],
        opening=EVERYTHING,
        turns=2,
    ).run()
    for shown in (comparison, dialogue):
        page = bundle(shown)["text/html"]
        checked = Checked()
        checked.feed(page)
        assert [] == checked.found
        assert 1 == page.count('<div class="wb-static"')
        assert "\u202e" not in page and "\x1b" not in bundle(shown)["text/plain"]


def test_a_blind_comparison_tells_no_names(wb: Workbench) -> None:
    """Names and figures are missing until the vote, in the order in which sides are shown."""
    # A plain Ollama has no place for votes.
    wb.client.records = None
    comparison = wb.compare(["tiny", "nano"], blind=True, order_seed=1)
    comparison.ask("Why?")
    texts = [comparison.answer(0, name).text for name in comparison.sides(0)]
    before = bundle(comparison)
    plain = before["text/plain"].replace(texts[0], "one").replace(texts[1], "two")
    assert "You: Why?\n\nAnswer A: one\n\nAnswer B: two" == plain
    assert "tokens/s" not in before["text/html"]
    comparison.vote(0, "tiny", "nano", "tie")
    assert "tiny: tiny heard: Why?" in bundle(comparison)["text/plain"]


def test_what_failed_is_said(wb: Workbench, ollama: ScriptedOllama) -> None:
    """An answer that broke off shows what came and why it ended."""
    ollama.enqueue(Reply("one two", error_after=(1, "out of memory")), to="chat")
    comparison = wb.compare("tiny", "Why?")
    page = bundle(comparison)
    assert "tiny: one [" in page["text/plain"] and "out of memory" in page["text/plain"]
    assert '<div class="wb-end">' in page["text/html"]


def test_an_empty_comparison_says_so(wb: Workbench) -> None:
    """Before anything was asked there is a sentence, and no error."""
    assert "(nothing was asked yet)" == bundle(wb.compare("tiny"))["text/plain"]
    assert isinstance(wb.compare("tiny"), Comparison)
