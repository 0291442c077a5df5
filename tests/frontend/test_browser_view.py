"""What a person does in the chat, by the names of its controls, and what the kernel is sent."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.frontend.conftest import Scene

pytestmark = pytest.mark.browser


def sent(page: Page, kind: str, *, count: int = 1) -> list[dict[str, Any]]:
    """Return the messages of one kind the kernel was sent, without the name of the view.

    Waits for `count` of them first.
    """
    script = "window.kernel.sent.filter((message) => message.t === kind)"
    page.wait_for_function(f"([kind, count]) => {script}.length >= count", arg=[kind, count])
    return [
        {key: value for key, value in message.items() if key not in ("t", "view")}
        for message in page.evaluate(f"kind => {script}", kind)
    ]


def unsent(page: Page, kind: str) -> bool:
    """Return whether the kernel was sent no message of a kind."""
    return [] == sent(page, kind, count=0)


def resting(page: Page) -> float:
    """Return where the messages are scrolled to, once nothing moves them for ten frames."""
    return float(
        page.evaluate(
            """async () => {
              const log = document.querySelector(".wb-log");
              const place = () => `${log.scrollTop} ${log.scrollHeight}`;
              for (let calm = 0, was = place(); calm < 10; ) {
                await new Promise(requestAnimationFrame);
                calm = place() === was ? calm + 1 : 0;
                was = place();
              }
              return log.scrollTop;
            }"""
        )
    )


def test_question_shows_at_once(scene: Scene) -> None:
    """A question is in the page, muted, before the kernel has said a word."""
    page = scene.show()
    page.get_by_label("Message", exact=True).fill("Why?")
    page.keyboard.press("Enter")
    expect(page.locator(".wb-pending")).to_have_text("Why?")
    expect(page.get_by_label("Message", exact=True)).to_have_value("")
    page.evaluate("window.kernel.begin('Why?')")
    expect(page.locator(".wb-pending")).to_be_hidden()
    assert [{"text": "Why?"}] == sent(page, "send")


def test_a_refused_question_comes_back(scene: Scene) -> None:
    """When the kernel refuses a question its text is in the composer again, with the reason."""
    page = scene.show()
    page.get_by_label("Message", exact=True).fill("Why?")
    page.keyboard.press("Enter")
    page.evaluate(
        "window.kernel.emit({t: 'notice', level: 'error', text: 'No server.', hint: 'x'})"
    )
    expect(page.get_by_label("Message", exact=True)).to_have_value("Why?")
    expect(page.get_by_role("alert").first).to_contain_text("No server.")


def test_example_needs_one_click_and_enter(scene: Scene) -> None:
    """An example is asked with one click and one Enter."""
    page = scene.show()
    page.get_by_label("Ask: What is 7 plus 8?").click()
    page.keyboard.press("Enter")
    assert [{"text": "What is 7 plus 8?"}] == sent(page, "send")


def test_shift_enter_is_a_new_line(scene: Scene) -> None:
    """Shift+Enter breaks the line and sends nothing; the field grows."""
    page = scene.show()
    area = page.get_by_label("Message", exact=True)
    low = area.bounding_box()["height"]
    area.type("a")
    page.keyboard.press("Shift+Enter")
    page.keyboard.press("Shift+Enter")
    expect(area).to_have_value("a\n\n")
    assert area.bounding_box()["height"] > low
    assert unsent(page, "send")


@pytest.mark.parametrize("way", ["button", "key"])
def test_stop_is_seen_at_once(scene: Scene, way: str) -> None:
    """Stop is sent once, and the view says so before the kernel does."""
    page = scene.show("streaming")
    if way == "button":
        page.get_by_label("Stop answer").click()
    else:
        page.get_by_label("Message", exact=True).focus()
        page.keyboard.press("Escape")
        page.keyboard.press("Escape")
    expect(page.get_by_label("Stopping")).to_be_disabled()
    expect(page.locator(".wb-phase:visible")).to_contain_text("Stopping")
    assert [{}] == sent(page, "stop")
    page.evaluate("window.kernel.end(window.kernel.state.turns.at(-1), {reason: 'cancelled'})")
    expect(page.get_by_label("Send message")).to_be_visible()
    expect(page.locator(".wb-answer").last).to_contain_text("Stopped.")


def test_edit_in_place(scene: Scene) -> None:
    """Up in the empty composer edits the last question; Enter sends it with its name."""
    page = scene.show("rich")
    page.get_by_label("Message", exact=True).focus()
    page.keyboard.press("ArrowUp")
    page.get_by_label("Edit message text").fill("Explain it again.")
    page.keyboard.press("Enter")
    assert [{"mid": "u1", "text": "Explain it again."}] == sent(page, "edit")


def test_keys_on_a_message(scene: Scene) -> None:
    """Alt+Up goes to messages; `r` asks again, `e` edits, and Lab hears nothing of it."""
    page = scene.show("rich")
    page.evaluate("window.heard = 0; document.addEventListener('keydown', () => window.heard++)")
    page.get_by_label("Message", exact=True).focus()
    page.keyboard.press("Alt+ArrowUp")
    page.keyboard.press("r")
    assert [{"mid": "a1"}] == sent(page, "regen")
    page.keyboard.press("Alt+ArrowUp")
    page.keyboard.press("e")
    expect(page.get_by_label("Edit message text")).to_be_visible()
    assert page.evaluate("window.heard") == 0


def test_versions(scene: Scene) -> None:
    """The arrows go to the versions the kernel named."""
    page = scene.show("rich")
    answer = page.locator(".wb-answer")
    answer.get_by_label("Next version").click()
    answer.get_by_label("Previous version").click()
    assert [{"mid": "y"}, {"mid": "x"}] == sent(page, "goto", count=2)
    expect(page.locator(".wb-count:visible")).to_have_text("2/3")


def test_delete_asks_in_place(scene: Scene) -> None:
    """Deleting asks first, without a dialog."""
    page = scene.show("rich")
    page.get_by_label("Delete message").click()
    assert unsent(page, "delete")
    page.get_by_label("Confirm delete", exact=True).last.click()
    assert [{"mid": "u1"}] == sent(page, "delete")


def test_insert_and_copy(scene: Scene) -> None:
    """An answer and its code are inserted by name; code carries its number and its source."""
    page = scene.show("rich")
    page.get_by_label("Insert answer as cell").click()
    page.get_by_label("Insert code as cell").click()
    whole, code = sent(page, "insert", count=2)
    assert {"mid": "a1", "code": None, "source": None} == whole
    assert 0 == code["code"]
    assert code["source"].startswith("import numpy as np")


def test_parameters(scene: Scene) -> None:
    """Only what is filled in is sent; an empty field is the model's default."""
    page = scene.show("params")
    page.get_by_label("Top k", exact=True).fill("40")
    page.get_by_label("Temperature", exact=True).fill("")
    page.get_by_label("Thinking", exact=True).select_option("false")
    page.keyboard.press("Escape")
    last = sent(page, "config")[-1]
    assert {"num_ctx": 8192, "top_k": 40} == last["params"]
    assert last["think"] is False
    assert last["system"].startswith("You are a careful tutor")
    expect(page.get_by_label("Parameters panel")).to_be_hidden()


def test_model_picker_tells_what_it_unloads(scene: Scene) -> None:
    """The picker says before what a choice unloads, and the keyboard reaches it."""
    page = scene.show("models")
    expect(page.get_by_label("Use qwen3:8b")).to_contain_text("unloads gemma3:4b")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    assert [{"name": "qwen3:8b"}] == sent(page, "model")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("qwen3:8b", ["loads in 8.0 s", "fits alone · unloads gemma3:4b"]),
        ("llama3.3:70b", ["43 GB", "too large for the memory"]),
        ("gpt-oss:20b", ["runs partly on the processor", "loads in 21 s"]),
        ("toy-tiny", ["fits beside what is loaded"]),
    ],
)
def test_model_picker_tells_what_fits(scene: Scene, name: str, said: list[str]) -> None:
    """Of a model that is not loaded the picker says whether it would fit, and what a load takes."""
    choice = scene.show("models").get_by_label(f"Use {name}", exact=True)
    for words in said:
        expect(choice).to_contain_text(words)


def test_model_picker_without_fits(scene: Scene) -> None:
    """A server that says nothing of memory gets no words about it."""
    page = scene.show()
    page.evaluate(
        "for (const row of window.kernel.state.models) { delete row.fit; row.evicts = null; }"
        " window.kernel.sendState();"
    )
    page.get_by_label("Model", exact=True).click()
    expect(page.get_by_label("Use qwen3:8b")).to_contain_text("not loaded")
    expect(page.locator(".wb-fit")).to_have_count(0)


def test_swap_with_consent(scene: Scene) -> None:
    """What a swap costs is told; one button agrees, and can be tried again when it is refused."""
    page = scene.show("swap")
    answer = page.locator(".wb-answer")
    for words in ("Memory is full.", "needs 6.1 GB, 3.1 GB free", "takes about 8.0 s"):
        expect(answer).to_contain_text(words)
    expect(answer).to_contain_text("gemma3:4b leaves (3.9 GB, loads again in 4.2 s)")
    button = answer.get_by_label("Make room and load")
    expect(button).to_have_text("Unload gemma3:4b and load qwen3:8b")
    button.click()
    expect(button).to_be_disabled()
    assert [{"mid": "a1"}] == sent(page, "swap")
    page.evaluate("window.kernel.emit({t: 'notice', level: 'error', text: 'No.', hint: null})")
    expect(button).to_be_enabled()
    expect(button).to_have_text("Unload gemma3:4b and load qwen3:8b")


def test_conversations(scene: Scene) -> None:
    """Conversations are opened, renamed and deleted in their drawer."""
    page = scene.show("chats")
    page.get_by_label("Rename Bread").click()
    page.get_by_label("New title").fill("Sourdough")
    page.keyboard.press("Enter")
    page.get_by_label("Delete Gradient descent").click()
    page.get_by_label("Confirm delete", exact=True).first.click()
    page.get_by_label("Open Sourdough").click()
    assert [{"cid": "c1", "title": "Sourdough", "query": ""}] == sent(page, "rename")
    assert [{"cid": "c0", "query": ""}] == sent(page, "remove")
    assert [{"cid": "c1", "query": ""}] == sent(page, "open")


def test_too_long_asks_once_more(scene: Scene) -> None:
    """What does not fit is told with numbers; a second Enter sends it nevertheless."""
    page = scene.show("attach")
    page.get_by_label("Message", exact=True).fill("x" * 40000)
    expect(page.locator(".wb-warning")).to_contain_text("10,000")
    page.keyboard.press("Enter")
    expect(page.locator(".wb-warning")).to_contain_text("Press Enter again")
    expect(page.locator(".wb-warning")).to_contain_text("8,192")
    assert unsent(page, "send")
    page.keyboard.press("Enter")
    assert 1 == len(sent(page, "send"))


def test_files_travel_with_their_type(scene: Scene) -> None:
    """A chosen file is sent with its name and its type."""
    page = scene.show()
    file = {"name": "a.csv", "mimeType": "text/csv", "buffer": b"a,b\n1,2\n"}
    page.get_by_label("Choose files").set_input_files(file)
    assert [{"name": "a.csv", "mime": "text/csv"}] == sent(page, "attach")


def test_kernel_that_is_gone(scene: Scene) -> None:
    """When the kernel is gone the text stays, and one line says what to do."""
    page = scene.show("gone")
    expect(page.locator(".wb-lost")).to_contain_text("run the cell again")
    expect(page.locator(".wb-answer")).to_contain_text("Hello! What can I do?")
    expect(page.get_by_label("Message", exact=True)).to_be_disabled()
    expect(page.get_by_label("Copy answer")).to_be_enabled()


def test_reader_who_scrolled_up_stays(scene: Scene) -> None:
    """Text that arrives moves the page of a reader at its end only."""
    page = scene.show("history")
    log = page.locator(".wb-log")
    gap = "log => log.scrollHeight - log.scrollTop - log.clientHeight"
    page.wait_for_function(f"({gap})(document.querySelector('.wb-log')) < 2")
    log.hover()
    page.mouse.wheel(0, -600)
    page.wait_for_selector("[aria-label='Jump to newest']:visible")
    before = resting(page)
    grow = "window.kernel.frame(window.live, 'A long line of text.\\n\\n'.repeat(30))"
    page.evaluate(f"window.live = window.kernel.begin('More'); {grow}")
    lines = page.locator(".wb-answer").last.locator(".wb-md p")
    expect(lines).to_have_count(30)
    assert abs(resting(page) - before) < 5
    page.get_by_label("Jump to newest").click()
    page.evaluate(grow)
    expect(lines).to_have_count(60)
    resting(page)
    assert log.evaluate(gap) < 2


def test_every_control_has_a_name(scene: Scene) -> None:
    """Every button and field has a label, in every scene."""
    for name in ("rich", "params", "chats", "models", "attach", "tool", "error", "swap"):
        page = scene.show(name)
        mute = page.evaluate(
            """() => [...document.querySelectorAll(".wb-root :is(button, input, textarea, select)")]
              .filter((el) => !el.getAttribute("aria-label") && !el.textContent.trim())
              .map((el) => el.outerHTML)"""
        )
        assert [] == mute, name


def test_narrow_page_does_not_scroll_sideways(scene: Scene) -> None:
    """At 360 pixels nothing is wider than the page, with code, tables and formulas."""
    scene.page.set_viewport_size({"width": 360, "height": 800})
    for name in ("rich", "attach", "tool", "welcome", "error", "swap"):
        page = scene.show(name)
        scene.drawn()
        resting(page)
        log = "(log => log.scrollWidth - log.clientWidth)(document.querySelector('.wb-log'))"
        assert page.evaluate(log) <= 0, name
        assert page.evaluate("document.body.scrollWidth") <= 360, name


def test_cleanup_removes_the_view(scene: Scene) -> None:
    """`render` returns its cleanup: it says goodbye and leaves nothing."""
    page = scene.show("rich")
    page.evaluate("window.cleanup()")
    assert 1 == len(sent(page, "bye"))
    expect(page.locator(".wb-root")).to_have_count(0)
    assert scene.problems == []


def focused(page: Page) -> str | None:
    """Return the label of what has the focus; None where it fell out of the chat."""
    label = "document.activeElement.closest('.wb-root') && document.activeElement.ariaLabel"
    found: str | None = page.evaluate(label)
    return found


def test_an_answer_is_read_to_its_end(scene: Scene) -> None:
    """A screen reader hears each block once, the last one too, and then that it is finished."""
    page = scene.show()
    page.evaluate(
        "window.live = window.kernel.begin('Why?');"
        " window.kernel.frame(window.live, 'First.\\n\\nSecond.'); window.kernel.end(window.live)"
    )
    heard = page.locator(".wb-root > .wb-offscreen")
    expect(heard.locator("p")).to_have_text(["First.", "Second.", "Answer finished."])
    expect(heard).to_have_attribute("aria-atomic", "false")


def test_a_history_is_not_read(scene: Scene) -> None:
    """Answers that were there before are not read aloud."""
    page = scene.show("rich")
    scene.drawn()
    expect(page.locator(".wb-root > .wb-offscreen p")).to_have_count(0)


def test_focus_stays_in_the_composer(scene: Scene) -> None:
    """Send and Stop go away when they did their work; the focus goes to the text."""
    page = scene.show()
    page.get_by_label("Message", exact=True).fill("Why?")
    page.get_by_label("Send message").press("Enter")
    assert "Message" == focused(page)
    page.evaluate("window.live = window.kernel.begin('Why?')")
    page.get_by_label("Stop answer").focus()
    page.evaluate("window.kernel.end(window.live)")
    expect(page.get_by_label("Send message")).to_be_visible()
    assert "Message" == focused(page)
    page.evaluate("window.live = window.kernel.begin('And?')")
    page.get_by_label("Stop answer").press("Enter")
    assert "Message" == focused(page)
    sent(page, "stop")


def test_focus_follows_the_version(scene: Scene) -> None:
    """The arrow that was pressed has the focus in the version that comes."""
    page = scene.show("rich")
    page.locator(".wb-answer").get_by_label("Next version").press("Enter")
    page.evaluate(
        "Object.assign(window.kernel.state.turns[1],"
        " {mid: 'y', text: 'Other', sib: [1, 3, 'a1', 'z']});"
        " window.kernel.sendState()"
    )
    expect(page.locator("[data-mid=y]")).to_contain_text("Other")
    assert "Next version" == focused(page)
    page.evaluate("window.kernel.state.turns.pop(); window.kernel.sendState()")
    expect(page.locator("[data-mid=y]")).to_have_count(0)
    assert "You" == focused(page)


def test_focus_stays_in_the_conversations(scene: Scene) -> None:
    """Renaming and deleting keep the focus in the drawer."""
    page = scene.show("chats")
    page.get_by_label("Rename Bread").press("Enter")
    page.get_by_label("New title").fill("Rye")
    page.keyboard.press("Enter")
    assert "Rename Rye" == focused(page)
    page.get_by_label("Delete Rye").press("Enter")
    page.keyboard.press("Enter")
    assert "Delete Rye" == focused(page)
    page.get_by_label("Delete Rye").press("Enter")
    page.get_by_label("Confirm delete", exact=True).first.press("Enter")
    assert (focused(page) or "").startswith("Open Why is the sky blue")


def test_focus_stays_when_an_attachment_goes(scene: Scene) -> None:
    """Removing one by keyboard leads to the next, and from the last one to the text."""
    page = scene.show("attach")
    take = "window.kernel.state.attachments.shift(); window.kernel.sendState()"
    page.get_by_label("Remove report.txt", exact=True).press("Enter")
    page.evaluate(take)
    assert "Remove photo.png" == focused(page)
    page.keyboard.press("Enter")
    page.evaluate(take)
    assert "Message" == focused(page)
    assert 2 == len(sent(page, "detach"))


def test_doors_say_what_they_open(scene: Scene) -> None:
    """A button that opens a drawer names it, tells its state, and gets the focus back."""
    doors = {
        "chat": ["Conversations", "System prompt and parameters"],
        "models": ["Get a model", "Settings"],
    }
    for widget, names in doors.items():
        page = scene.show({"chat": "rich", "models": "mixed"}[widget], widget=widget)
        for name in names:
            door = page.get_by_role("button", name=name, exact=True)
            drawer = page.locator(f"#{door.get_attribute('aria-controls')}")
            expect(door).to_have_attribute("aria-expanded", "false")
            door.press("Enter")
            expect(door).to_have_attribute("aria-expanded", "true")
            expect(drawer).to_be_visible()
            page.keyboard.press("Escape")
            expect(drawer).to_be_hidden()
            expect(door).to_have_attribute("aria-expanded", "false")
            expect(door).to_be_focused()


def test_one_drawer_makes_room_for_another(scene: Scene) -> None:
    """Closing the second one leads to its own door, not to that of the first."""
    page = scene.show("mixed", widget="models")
    page.get_by_role("button", name="Settings", exact=True).press("Enter")
    second = page.get_by_role("button", name="Get a model", exact=True)
    second.press("Enter")
    expect(page.get_by_role("button", name="Settings", exact=True)).to_have_attribute(
        "aria-expanded", "false"
    )
    page.keyboard.press("Escape")
    expect(second).to_be_focused()


def test_escape_closes_what_is_open(scene: Scene) -> None:
    """Escape closes the menu of attachments and a question before it stops the answer."""
    page = scene.show("streaming")
    page.get_by_label("Attach", exact=True).first.click()
    expect(page.get_by_role("menuitem").first).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("menuitem")).to_have_count(0)
    page.get_by_label("Delete message").first.press("Enter")
    page.keyboard.press("Escape")
    expect(page.get_by_label("Keep message")).to_have_count(0)
    assert unsent(page, "stop")
    page.keyboard.press("Escape")
    sent(page, "stop")


def test_an_open_picker_follows(scene: Scene) -> None:
    """A fit that becomes known while the list is open is shown there, and the focus stays."""
    page = scene.show("models")
    page.keyboard.press("ArrowDown")
    choice = page.get_by_label("Use qwen3:8b", exact=True)
    expect(choice).to_be_focused()
    page.evaluate(
        "window.kernel.state.models.find((row) => row.name === 'qwen3:8b').state = 'loading';"
        " window.kernel.sendState()"
    )
    expect(choice).to_contain_text("loading")
    expect(choice).to_be_focused()


def test_a_picker_is_heard(scene: Scene) -> None:
    """Who cannot see the picker hears what a choice unloads."""
    choice = scene.show("models").get_by_label("Use qwen3:8b", exact=True)
    expect(choice).to_have_accessible_description(re.compile("unloads gemma3:4b"))


def test_figures_that_are_missing_leave_no_gap(scene: Scene) -> None:
    """The buttons below an answer without figures begin where its text does."""
    page = scene.show("swap")
    left = "el => el.getBoundingClientRect().left"
    first = page.locator(".wb-answer .wb-actions").evaluate(left)
    assert abs(first - page.locator(".wb-answer .wb-foot").evaluate(left)) < 8


def test_a_dialogue_whose_kernel_is_gone(scene: Scene) -> None:
    """The lane that was at work was interrupted, and nothing offers to go on."""
    page = scene.show("kernelgone", widget="dialogue")
    words = page.locator(".wb-lane-now .wb-phase-word")
    expect(words).to_have_text(["Done", "Interrupted"])
    expect(page.get_by_role("button", name="Go on", exact=True)).to_be_hidden()
    expect(page.get_by_role("button", name="Start the dialogue")).to_be_hidden()


def test_a_failed_turn_is_told_in_words(scene: Scene) -> None:
    """The head of a lane names no class; the turn says what went wrong."""
    page = scene.show("failed", widget="dialogue")
    expect(page.locator(".wb-lane-now .wb-phase-word")).to_have_text(["Done", "Failed"])
    expect(page.get_by_role("alert").filter(visible=True)).to_contain_text("out of memory")
    page.get_by_label("Parameters of Bob").click()
    expect(page.get_by_label("System prompt")).to_be_focused()


def test_a_composer_without_its_kernel(scene: Scene) -> None:
    """It takes nothing, and what its keys do is not promised."""
    page = scene.show("gone")
    expect(page.get_by_label("Message", exact=True)).to_be_disabled()
    expect(page.locator(".wb-keys")).to_be_hidden()


FAINT = """() => {
    const cv=document.createElement('canvas').getContext('2d',{ willReadFrequently: true });
    const rgba=c=>{cv.clearRect(0,0,1,1);
    cv.fillStyle='#000';
    cv.fillStyle=c;
    cv.fillRect(0,0,1,1);
    const d=cv.getImageData(0,0,1,1).data;
    return [d[0],d[1],d[2],d[3]/255]};
    const over=(a,b)=>[0,1,2].map(i=>a[i]*a[3]+b[i]*(1-a[3])).concat(1);
    const lum=c=>{const f=c.slice(0,3).map(v=>{v/=255;
    return v<=.03928?v/12.92:((v+.055)/1.055)**2.4});
    return .2126*f[0]+.7152*f[1]+.0722*f[2]};
    const out={};
    const w=document.createTreeWalker(document.querySelector('.wb-root'),NodeFilter.SHOW_TEXT);
    for(let n;
    n=w.nextNode();
    ){ if(!n.data.trim())continue;
    const el=n.parentElement;
    if(!el.checkVisibility({visibilityProperty:true})||el.closest('.wb-offscreen,:disabled,svg,math,.wb-active'))continue;
    let bgs=[],op=1;
    for(let e=el;
    e;
    e=e.parentElement){const s=getComputedStyle(e);
    bgs.push(rgba(s.backgroundColor));
    op*=parseFloat(s.opacity);
    }
    if(op===0)continue;
    let bg=[255,255,255,1];
    for(const b of bgs.reverse())bg=over(b,bg);
    let fg=rgba(getComputedStyle(el).color);
    fg[3]*=op;
    fg=over(fg,bg);
    const a=lum(fg),b=lum(bg);
    const r=(Math.max(a,b)+.05)/(Math.min(a,b)+.05);
    if(r<4.5){out[n.data.trim()]=r;
    }
    } return out}"""


# Waits for what fades in; a pulse never ends.
SETTLED = """async () => {
  const ends = (move) => move.effect.getComputedTiming().iterations !== Infinity;
  await Promise.allSettled(document.getAnimations().filter(ends).map((move) => move.finished));
}"""


CONTRAST = {
    "chat": "rich tool thought error gone chats models attach swap params",
    "models": "mixed down low swap settings get empty log kernelgone",
    "dashboard": "full detail failed alerts empty unreadable kernelgone",
    "runs": "list waiting failed timeline step items question wrong empty unreadable kernelgone",
    "dialogue": "setup drafted missing ready speaking lanes paused approve edit failed ended "
    "branch stored person kernelgone",
    "compare": "welcome answered diff failed ranking changed streaming stopped blind missing side "
    "settings kernelgone",
}


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("widget", CONTRAST)
def test_text_has_contrast(scene: Scene, widget: str, theme: str) -> None:
    """Words, figures and the colours of code have the contrast of WCAG AA in every panel."""
    faint = {}
    for name in CONTRAST[widget].split():
        page = scene.show(f"{name}&theme={theme}", widget=widget)
        if widget == "chat":
            scene.drawn()
        if name == "attach":
            expect(page.locator(".wb-warning")).to_be_visible()
        page.evaluate(SETTLED)
        faint |= {f"{name}: {text}": ratio for text, ratio in page.evaluate(FAINT).items()}
    assert {} == faint
