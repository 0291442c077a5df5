"""What the chat draws in Chromium from hostile, giant and long texts, with the network watched."""

from __future__ import annotations

import json
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.frontend.conftest import Scene
from tests.frontend.corpus import CORPUS, HOST

pytestmark = pytest.mark.browser

# Every place of the protocol that carries a text somebody else wrote.
SHOW = """
(texts) => {
  const { state } = window.kernel;
  for (const text of texts) {
    const turn = window.kernel.turn(text, {
      text, think: text, model: text, tools: [{ name: text, arguments: text }],
      reason: "error", error: { text, hint: text, type: text },
    });
    const user = state.turns[state.turns.length - 2];
    user.attachments = [{ name: text, kind: "text", bytes: 1 }];
    state.turns.push({ mid: "t" + turn.mid, role: "tool", name: text, text, sib: null });
  }
  state.conv.title = state.model.name = state.system = texts[0];
  state.attachments = [{ aid: "1", name: texts.at(-1), kind: "text", bytes: 1, tokens_est: 1 }];
  window.kernel.sendState();
  window.kernel.emit({ t: "notice", level: "info", text: texts.at(-1), hint: texts[0] });
}
"""
STREAM = """
async (texts) => {
  const turn = window.kernel.begin("?");
  for (const text of texts) {
    for (const part of (text + "\\n\\n").match(/[^]{1,9}/gu)) {
      window.kernel.frame(turn, part);
    }
    await new Promise((done) => requestAnimationFrame(done));
  }
  window.kernel.end(turn);
}
"""
# How many characters each task of the page put into it.
COUNT_DRAWN = """
addEventListener("DOMContentLoaded", () => {
  window.drawn = [];
  const length = (change) => [...change.addedNodes].reduce((n, el) => n + el.textContent.length, 0);
  new MutationObserver((all) => window.drawn.push(all.reduce((n, change) => n + length(change), 0)))
    .observe(document.body, { childList: true, subtree: true });
});
"""
# What must not be in a drawn text: elements, attributes and addresses that could do something.
UNSAFE = """
() => {
  const found = [];
  const bad =
    "script iframe object embed form input textarea style link meta base video audio source";
  const root = document.querySelector(".wb-log");
  for (const el of root.querySelectorAll("*")) {
    const name = el.localName;
    if (bad.split(" ").includes(name)) found.push(name);
    if (name === "svg" && !el.classList.contains("wb-icon")) found.push("svg");
    if (name === "img" && !/^data:image\\/(png|jpeg|gif|webp);/.test(el.src)) found.push(el.src);
    if (name === "a" && !/^(https?|mailto):/.test(el.href)) found.push("a " + el.href);
    const apart = el.rel === "noopener noreferrer" && el.target === "_blank";
    if (name === "a" && !apart) found.push("rel");
    for (const attribute of el.attributes) {
      if (/^on|^id$|^name$|^srcdoc$|^action$|href$/.test(attribute.name) && name !== "a") {
        found.push(name + " " + attribute.name);
      }
      if (attribute.name === "style" && /url|position|expression|\\d{4,}/.test(attribute.value)) {
        found.push(attribute.value);
      }
      if (attribute.name === "class" && /(^| )jp-/.test(attribute.value)) found.push("class");
    }
  }
  return found;
}
"""


def test_corpus_is_large() -> None:
    """There are at least sixty hostile texts, and no two are the same."""
    assert len(set(CORPUS)) == len(CORPUS) >= 60


@pytest.mark.parametrize("way", ["shown", "streamed"])
def test_hostile_texts_run_and_fetch_nothing(scene: Scene, way: str) -> None:
    """No hostile text runs, opens, fetches or leaves an element that could."""
    page = scene.show()
    texts = [text.encode("utf-8", "replace").decode() for text in CORPUS]
    for start in range(0, len(texts), 9):
        page.evaluate(SHOW if way == "shown" else STREAM, texts[start : start + 9])
        scene.drawn()
        page.evaluate(
            "document.querySelectorAll('.wb-log details').forEach(d => { d.open = true })"
        )
        page.wait_for_timeout(150)
        assert page.evaluate(UNSAFE) == []
        page.evaluate("window.kernel.state.turns.length = 0")
    assert page.evaluate("window.pwned") is None
    assert scene.foreign() == []
    assert scene.problems == []


def test_hostile_html_is_shown_as_text(scene: Scene) -> None:
    """A reader sees the markup a model wrote."""
    page = scene.show()
    page.evaluate(SHOW, ["<img src=x onerror=alert(1)>"])
    expect(page.locator(".wb-answer > .wb-md")).to_contain_text("<img src=x onerror=alert(1)>")


def test_remote_image_asks_first(scene: Scene) -> None:
    """A remote image is fetched after two clicks, and only then."""
    page = scene.show()
    page.route(f"{HOST}/**", lambda route: route.abort())
    page.evaluate(SHOW, [f"![plot]({HOST}/plot.png)"])
    scene.drawn()
    answer = page.locator(".wb-answer > .wb-md")
    answer.get_by_label("Image from evil.example").click()
    assert scene.foreign() == []
    with page.expect_request(f"{HOST}/**"):
        answer.get_by_label("Load image").click()
    assert scene.foreign() == [f"{HOST}/plot.png"]


def test_formulas_and_colours_come_late(scene: Scene) -> None:
    """Formulas become MathML and code gets its colours once the late module is there."""
    page = scene.show("rich")
    page.wait_for_selector(".wb-formula math msub")
    page.wait_for_selector(".wb-code .hljs-keyword")
    asked = page.evaluate("window.kernel.sent.filter((message) => message.t === 'need')")
    assert ["math"] == [message["mod"] for message in asked]


def test_a_bad_formula_keeps_its_source(scene: Scene) -> None:
    """A formula that is none stands as it was written."""
    page = scene.show()
    page.evaluate(SHOW, ["$\\frac{$ and $\\nosuchcommand{$ and $x^2$"])
    page.wait_for_selector(".wb-answer > .wb-md math")
    expect(page.locator(".wb-answer > .wb-md")).to_contain_text("\\frac{")


def text_of(page: Any) -> str:
    """Return the text of the answer as it is in the page."""
    return str(page.text_content(".wb-answer > .wb-md"))


def test_a_giant_line_arrives_whole(scene: Scene) -> None:
    """A line of a megabyte is in the page, whole and in order."""
    page = scene.show("giant")
    scene.drawn()
    assert page.evaluate("window.kernel.state.turns[1].text") == text_of(page)


def test_lost_frames_are_healed(scene: Scene) -> None:
    """A text of which frames were lost, with emoji at their ends, comes out whole."""
    page = scene.show()
    page.evaluate(
        """async () => {
          const turn = window.kernel.begin("?");
          let n = 0;
          window.kernel.lose = () => (n += 1) % 7 === 3;
          for (let i = 0; i < 200; i += 1) {
            window.kernel.frame(turn, `${i}😀 `);
            if (i % 20 === 0) await new Promise((done) => setTimeout(done, 20));
          }
          window.kernel.lose = () => false;
          window.kernel.end(turn);
        }"""
    )
    scene.drawn()
    assert "".join(f"{i}😀 " for i in range(200)).strip() == text_of(page).strip()


def test_twenty_thousand_tokens_at_once(scene: Scene) -> None:
    """A flood of 100 kB is in the page in order, drawn in many small tasks."""
    scene.page.add_init_script(COUNT_DRAWN)
    page = scene.show("flood")
    told = text_of(page)
    parts = [told.index(f"Part {n}\nThe") for n in range(told.count("Choose a start"))]
    assert len(parts) > 50
    assert sorted(parts) == parts
    # Milliseconds are measured by the bench; here other tests hold the machine up.
    assert max(page.evaluate("window.drawn")) < len(told) / 5


def test_a_long_history_opens_fast(scene: Scene) -> None:
    """Of 500 messages the newest are drawn within a second, and older ones as one scrolls up."""
    page = scene.show()
    opened = page.evaluate(
        """async () => {
          const text = "A **long** answer with `code` and words. ".repeat(30);
          for (let i = 0; i < 250; i += 1) window.kernel.turn(`Question ${i}`, { text });
          const start = performance.now();
          window.kernel.sendState();
          const last = () => [...document.querySelectorAll(".wb-answer > .wb-md")].at(-1);
          while (!last()?.dataset.drawn) await new Promise(requestAnimationFrame);
          return performance.now() - start;
        }"""
    )
    assert opened < 1000
    expect(page.locator(".wb-items > .wb-turn")).to_have_count(30)
    page.locator(".wb-log").evaluate("log => { log.scrollTop = 0 }")
    page.wait_for_function("document.querySelectorAll('.wb-items > .wb-turn').length > 30")


def test_message_is_json_without_an_id(scene: Scene) -> None:
    """No message of the view has a top-level `id`, which ipykernel would take for its own."""
    page = scene.show()
    page.get_by_label("Message", exact=True).fill("Hello")
    page.keyboard.press("Enter")
    page.get_by_label("Conversations", exact=True).click()
    page.wait_for_function("window.kernel.sent.some((message) => message.t === 'chats')")
    sent = page.evaluate("window.kernel.sent")
    assert {"hello", "send", "chats"} <= {message["t"] for message in sent}
    assert not [message for message in sent if "id" in message]
    json.dumps(sent)
