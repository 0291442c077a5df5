"""What a person sees and does in the models panel, by the names of its controls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.frontend.conftest import Scene
from tests.frontend.test_browser_view import sent, unsent

pytestmark = pytest.mark.browser

Show = Callable[..., Any]
SCENES = (
    "mixed fifty loading low swap gone kernelgone connecting empty down settings get log"
).split()


@pytest.fixture
def show(scene: Scene) -> Show:
    """Return a function that opens a scene of the models panel."""

    def open_scene(name: str = "mixed") -> Any:
        page = scene.show(name, widget="models")
        page.wait_for_function("document.querySelector('.wbm-root').ariaBusy === 'false'")
        return page

    return open_scene


def row(page: Any, name: str) -> Any:
    """Return the row of a model."""
    return page.get_by_role("listitem", name=name, exact=True)


def tells(shown: Any, *parts: str) -> None:
    """Wait until an element says all of this."""
    for part in parts:
        expect(shown).to_contain_text(part)


def test_states_have_a_word_and_a_colour(show: Show) -> None:
    """Each state is a word beside its dot, and what it means now stands below."""
    page = show()
    tells(row(page, "gemma3:12b"), "answering", "2 answers running")
    tells(row(page, "llama3.2"), "in memory", "pinned: stays")
    tells(row(page, "toy-tiny"), "not loaded")
    kinds = {
        name: row(page, name).locator(".wb-dot").get_attribute("data-kind")
        for name in ("gemma3:12b", "toy-tiny")
    }
    assert {"gemma3:12b": "ready", "toy-tiny": "cold"} == kinds


def test_memory_is_split(show: Show) -> None:
    """The bar of a model shows which part is on the GPU, in figures and in words."""
    page = show()
    shown = row(page, "qwen3:14b").get_by_role("img")
    expect(shown).to_have_attribute("aria-label", "83 % on the GPU, 17 % in main memory")
    tells(row(page, "qwen3:14b"), "8.6 GiB GPU · 1.8 GiB CPU")


def test_a_model_has_one_colour(show: Show) -> None:
    """Bar, legend, queue and row of a model have the same colour and pattern."""
    page = show()
    looks = page.evaluate(
        """() => {
          const look = (el) => el.style.getPropertyValue("--wbm-c") + el.dataset.pattern;
          const pick = (selector) => look(document.querySelector(selector));
          return [
            pick(".wbm-device-bar > span"), pick(".wbm-legend .wbm-swatch"),
            pick(".wbm-lane .wbm-swatch"), pick('[aria-label="gemma3:12b"] .wbm-swatch'),
          ];
        }"""
    )
    assert 1 == len(set(looks)), looks


def test_device_bar_adds_up(show: Show) -> None:
    """A device tells every share, what others hold, and what is free."""
    page = show()
    told = page.locator(".wbm-device-bar").get_attribute("aria-label")
    for part in ("gemma3:12b 8.9 GiB", "other programs 717 MiB", "free 2.4 GiB", "of 24.0 GiB"):
        assert part in told
    parts = page.locator(".wbm-device-bar > span")
    widths = parts.evaluate_all("parts => parts.map((part) => parseFloat(part.style.width))")
    assert 85 < sum(widths) < 95


def test_countdown_ticks_in_the_page(show: Show) -> None:
    """The time to an unload runs down without a message of the kernel."""
    page = show()
    number = page.evaluate("window.kernel.n")
    page.evaluate(
        "window.kernel.change('qwen3:14b@local', {expires: Date.now() / 1000 + 90, owner: 'ours'})"
    )
    tells(row(page, "qwen3:14b"), "unloads in 1 min")
    first = row(page, "qwen3:14b").locator(".wbm-state").text_content()
    shown = "document.querySelector('[aria-label=\"qwen3:14b\"] .wbm-state').textContent"
    page.wait_for_function(f"text => {shown} !== text", arg=first)
    tells(row(page, "qwen3:14b"), "unloads in 1 min")
    assert number + 1 == page.evaluate("window.kernel.n")
    assert page.evaluate("window.kernel.sent.every((message) => 'hello beat'.includes(message.t))")


def test_load_and_unload(show: Show) -> None:
    """The button says what it does and how long that took before."""
    page = show()
    expect(page.get_by_label("Unload llama3.2")).to_have_text("Unloadabout 0.6 s")
    page.get_by_label("Unload llama3.2").click()
    expect(page.get_by_label("Load mistral-small:24b")).to_have_text("Loadabout 9.4 s")
    page.get_by_label("Load mistral-small:24b").click()
    assert [{"key": "llama3.2:latest@local"}] == sent(page, "unload")
    assert [{"key": "mistral-small:24b@local"}] == sent(page, "load")


def test_what_leaves_is_shown_before(show: Show) -> None:
    """A model that would push another out says so before anybody loads it."""
    page = show()
    tells(row(page, "mistral-small:24b"), "takes out qwen3:14b")
    tells(row(page, "llama3.3:70b"), "is too large")


def test_priority_pin_and_menu(show: Show) -> None:
    """Priority, pin and the other actions of a row are sent with the model's key."""
    page = show()
    page.get_by_label("Priority of gemma3:12b").select_option("0")
    page.get_by_label("Unpin llama3.2").click()
    page.get_by_label("Pin gemma3:12b").click()
    page.get_by_label("More actions on toy-tiny").click()
    page.get_by_role("menuitem", name="Do not load when the server starts").click()
    page.get_by_label("More actions on gemma3:12b").click()
    page.get_by_role("menuitem", name="Unload now, stopping its answers").click()
    assert [
        {"key": "gemma3:12b@local", "priority": 0},
        {"key": "toy-tiny@embedded", "hot": False},
    ] == sent(page, "prefer", count=2)
    assert [
        {"key": "llama3.2:latest@local", "on": False},
        {"key": "gemma3:12b@local", "on": True},
    ] == sent(page, "pin", count=2)
    assert [{"key": "gemma3:12b@local", "force": True}] == sent(page, "unload")


def test_a_swap_is_asked(show: Show) -> None:
    """The question names what leaves, its bytes and the time; only the button agrees."""
    page = show("swap")
    question = page.get_by_role("group", name="Swap for mistral-small:24b")
    tells(question, "qwen3:14b", "8.6 GiB", "about 6.3 s", "It needs 15.8 GiB", "2.4 GiB are free")
    assert unsent(page, "load")
    question.get_by_label("Swap: load mistral-small:24b and unload").click()
    question.get_by_label("Keep qwen3:14b and gemma3:12b in memory").click()
    assert [{"key": "mistral-small:24b@local", "swap": True}] == sent(page, "load")
    assert [{"key": "mistral-small:24b@local"}] == sent(page, "dismiss")


def test_a_question_takes_the_focus(show: Show) -> None:
    """Whoever pressed Load stands on the answer when the question comes."""
    page = show()
    page.get_by_label("Load mistral-small:24b").focus()
    plan = "{model: 'mistral-small:24b', backend: 'local', evict: [{model: 'qwen3:14b'}]}"
    page.evaluate(f"window.kernel.change('mistral-small:24b@local', {{ask: {plan}}})")
    page.wait_for_function("document.activeElement.textContent === 'Unload qwen3:14b and load'")
    page.keyboard.press("Enter")
    assert [{"key": "mistral-small:24b@local", "swap": True}] == sent(page, "load")


def test_verdicts_stand_below_the_row(show: Show) -> None:
    """How an action ended is a sentence with its figures, and can be dismissed."""
    page = show("loading")
    tells(row(page, "toy-tiny"), "Unloaded, verified, 4.1 GiB free after 0.60 s.")
    tells(row(page, "llama3.3:70b").get_by_role("alert"), "Lower num_ctx")
    page.get_by_label("Dismiss note on toy-tiny").click()
    assert [{"key": "toy-tiny@embedded"}] == sent(page, "dismiss")


def test_a_load_shows_how_far_it_is(show: Show) -> None:
    """A load counts against the time of the last one, and its button waits."""
    page = show("loading")
    shown = row(page, "mistral-small:24b")
    tells(shown, "of about 9.4 s")
    expect(page.get_by_label("Loading mistral-small:24b")).to_be_disabled()


def test_delete_asks_in_place(show: Show) -> None:
    """Deleting asks first, below the row, and keeping is the first answer."""
    page = show()
    page.get_by_label("More actions on llama3.3:70b").click()
    page.get_by_role("menuitem", name="Delete from disk").click()
    expect(page.locator(":focus")).to_have_text("Keep it")
    tells(page.get_by_role("group", name="Delete llama3.3:70b"), "42.0 GiB")
    assert unsent(page, "delete")
    page.get_by_label("Delete llama3.3:70b for good").click()
    assert [{"key": "llama3.3:70b@local"}] == sent(page, "delete")


def test_search_and_choice(show: Show) -> None:
    """Words find models by name, size or backend; a choice leaves those in memory."""
    page = show("fifty")
    visible = page.locator(".wbm-row:visible")
    page.get_by_label("Search models").fill("qwen big-host")
    names = visible.locator(".wbm-name").all_text_contents()
    assert names and all(name.startswith("qwen3") for name in names)
    page.get_by_label("Search models").fill("nothing like this")
    tells(page.locator(".wbm-none"), "No model matches")
    page.keyboard.press("Escape")
    expect(visible).to_have_count(50)
    page.get_by_role("button", name="In memory 3").click()
    expect(visible).to_have_count(3)


def test_keys_of_a_row(show: Show) -> None:
    """Arrows move by rows, letters and digits act on one, and Lab hears nothing of it."""
    page = show()
    page.evaluate("window.heard = 0; document.addEventListener('keydown', () => window.heard++)")
    row(page, "gemma3:12b").focus()
    page.keyboard.press("ArrowDown")
    expect(page.locator(":focus")).to_have_attribute("aria-label", "llama3.2")
    for key in ("u", "l", "p", "7"):
        page.keyboard.press(key)
    page.keyboard.press("End")
    page.keyboard.press("Enter")
    page.keyboard.press("/")
    expect(page.locator(":focus")).to_have_attribute("aria-label", "Search models")
    key = {"key": "llama3.2:latest@local"}
    assert [key] == sent(page, "unload")
    assert [{"key": "toy-tiny@embedded"}] == sent(page, "load")
    assert [{**key, "on": False}] == sent(page, "pin")
    assert [{**key, "priority": 7}] == sent(page, "prefer")
    assert 0 == page.evaluate("window.heard")


def test_one_row_is_in_the_order_of_tab(show: Show) -> None:
    """Tab does not walk through fifty rows: one of them takes it, the arrows the others."""
    page = show("fifty")
    expect(page.locator(".wbm-row[tabindex='0']")).to_have_count(1)


def test_a_refused_change_is_taken_back(show: Show) -> None:
    """A priority the server refused shows the old value again, with the reason."""
    page = show()
    field = page.get_by_label("Priority of gemma3:12b")
    field.select_option("9")
    note = "{note: {level: 'error', text: 'No.'}}"
    page.evaluate(f"window.kernel.change('gemma3:12b@local', {note})")
    expect(field).to_have_value("5")
    tells(row(page, "gemma3:12b").get_by_role("alert"), "No.")


def test_swap_mode(show: Show) -> None:
    """The mode of a backend is chosen in its head."""
    page = show()
    page.get_by_label("Swap mode of local").select_option("manual")
    assert [{"name": "swap.local", "value": "manual"}] == sent(page, "set")


def test_settings(show: Show) -> None:
    """Each setting shows where its value comes from; a change is sent with its type."""
    page = show("settings")
    drawer = page.get_by_label("Settings panel")
    tells(drawer, "from workbench.toml · default 60 s", "set on the command line", "ollama 0.12.3")
    drawer.get_by_label("queue.batch_wait_s", exact=True).fill("45")
    drawer.get_by_label("queue.batch_wait_s", exact=True).blur()
    drawer.get_by_label("server.open_ollama_api", exact=True).uncheck()
    drawer.get_by_label("Reset swap.embedded").click()
    expect(drawer.get_by_label("server.port", exact=True)).to_have_count(0)
    drawer.get_by_text("Read when the server starts").click()
    tells(drawer, "server.port", "11500", "from environment WORKBENCH_PORT")
    assert [
        {"name": "queue.batch_wait_s", "value": 45},
        {"name": "server.open_ollama_api", "value": False},
        {"name": "swap.embedded", "value": None},
    ] == sent(page, "set", count=3)
    page.keyboard.press("Escape")
    expect(drawer).to_be_hidden()


def test_get_a_model(show: Show) -> None:
    """Pulls show progress, speed and time; a pull is cancelled, a file added by its path."""
    page = show("get")
    drawer = page.get_by_label("Get a model panel")
    tells(drawer, "7.4 GiB of 20.0 GiB · 46 MiB/s · 4 min 41 s left")
    bar = drawer.get_by_role("progressbar", name="Download of qwen3:32b")
    expect(bar).to_have_attribute("aria-valuenow", "37")
    drawer.get_by_label("Model to pull").fill("phi4:mini")
    page.keyboard.press("Enter")
    drawer.get_by_label("Cancel pull of qwen3:32b").click()
    drawer.get_by_label("Path of a GGUF file").fill("/models/a.gguf")
    drawer.get_by_label("Name of the added model").fill("a")
    drawer.get_by_label("Add file").click()
    assert [{"model": "phi4:mini"}] == sent(page, "pull")
    assert [{"model": "qwen3:32b"}] == sent(page, "pull_cancel")
    assert [{"path": "/models/a.gguf", "name": "a"}] == sent(page, "add")


def test_server_that_is_gone(show: Show) -> None:
    """Without the server the last picture stays, greyed, and nothing can be pressed but Start."""
    page = show("gone")
    page.wait_for_selector(".wbm-gone")
    tells(page.locator(".wbm-lost"), "The server is gone.")
    expect(row(page, "gemma3:12b")).to_be_visible()
    expect(page.get_by_label("Unload llama3.2")).to_be_disabled()
    page.get_by_label("Start the server").click()
    assert [{}] == sent(page, "connect")
    page.evaluate(
        "window.kernel.set({link: {state: 'ok', text: '', since: 0}});"
        "window.kernel.change('llama3.2:latest@local', {})"
    )
    expect(page.get_by_label("Unload llama3.2")).to_be_enabled()


def test_kernel_that_is_gone(show: Show) -> None:
    """Without the kernel the picture stays too, and one line says what to do."""
    page = show("kernelgone")
    tells(page.locator(".wb-lost"), "Run the cell again")
    expect(page.get_by_label("Unload llama3.2")).to_be_disabled()


def test_backend_that_is_unreachable(show: Show) -> None:
    """A backend that does not answer is a row with its reason."""
    page = show("down")
    tells(page.locator(".wbm-down:visible"), "Unreachable: connection refused.")
    tells(page.locator(".wbm-devices"), "its sysfs files cannot be read")
    page.get_by_label("Try local again").click()
    assert [{}] == sent(page, "refresh")


def test_low_memory(show: Show) -> None:
    """The banner says how much is free, where, and what that means."""
    page = show("low")
    told = "Memory is low: 512 MiB of 24.0 GiB free on NVIDIA RTX 4090."
    tells(page.locator(".wbm-warning"), told)


def test_nothing_there_yet(show: Show) -> None:
    """Without a model the panel says what to do, and opens the drawer for it."""
    page = show("empty")
    page.get_by_label("Get your first model").click()
    expect(page.get_by_label("Model to pull")).to_be_visible()


def test_queue_is_told(show: Show) -> None:
    """The queue names who is served, who waits how long, and what a swap costs."""
    page = show()
    queue = page.get_by_label("Queue", exact=True)
    tells(queue, "2 running · 1 waiting", "12 waiting, all batch", "after 1 min at most")
    tells(queue, "Next: gemma3:12b (3), then mistral-small:24b (12). 1 swap expected.")


def test_a_page_nobody_sees_says_goodbye(show: Show) -> None:
    """A hidden page is told nothing; shown again it asks for everything."""
    page = show()
    hide = "Object.defineProperty(document, 'hidden', {configurable: true, get: () => %s});"
    event = "document.dispatchEvent(new Event('visibilitychange'))"
    page.evaluate(hide % "true" + event)
    assert 1 == len(sent(page, "bye"))
    page.evaluate(hide % "false" + event)
    assert 2 == len(sent(page, "hello", count=2))


def test_a_lost_difference_is_asked_for(show: Show) -> None:
    """A change that was dropped on the way is in the picture a moment later."""
    page = show()
    page.evaluate(
        "const kernel = window.kernel; kernel.n += 1;"
        "kernel.picture.rows['toy-tiny@embedded'].state = 'busy';"
        "kernel.change('gemma3:12b@local', {priority: 8})"
    )
    page.wait_for_function(
        "document.querySelector('[aria-label=\"toy-tiny\"]').innerText.includes('answering')"
    )
    assert 1 == len(sent(page, "sync"))


@pytest.mark.parametrize("name", ["<img src=x onerror=alert(1)>", "a\u202eb\u0007"])
def test_names_are_text(show: Show, scene: Scene, name: str) -> None:
    """A name from anywhere is shown as it is written, and runs nothing."""
    page = show()
    page.evaluate("name => window.kernel.change('toy-tiny@embedded', {name})", name)
    page.evaluate(
        "name => window.kernel.set({"
        "devices: [{id: 'x', name, total_bytes: 9, models: [{name, bytes: 3}]}],"
        "backends: [{name: 'embedded', reachable: false, error: name, hint: name}],"
        "said: {at: 1, where: 'panel', level: 'error', text: name, hint: name}})",
        name,
    )
    page.wait_for_timeout(200)
    expect(page.locator(".wbm-root img")).to_have_count(0)
    assert "\u202e" not in page.locator(".wbm-root").text_content()
    assert [] == scene.problems


@pytest.mark.parametrize("name", SCENES)
def test_every_scene_is_whole(show: Show, scene: Scene, name: str) -> None:
    """Every control has a name, nothing is fetched, nothing fails, nothing is cut off sideways."""
    page = show(name)
    # A row outside the window is laid out a moment after the window changed its size.
    whole = (
        "() => [...document.querySelectorAll('.wbm-body, .wbm-head, .wbm-line, .wb-drawer-body')]"
        ".every((el) => el.scrollWidth <= el.clientWidth + 1)"
    )
    for width in (1400, 900, 600, 360):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_function(whole)
    mute = page.evaluate(
        """() => [...document.querySelectorAll(".wbm-root :is(button, input, select)")]
          .filter((el) => !el.ariaLabel && !el.textContent.trim()).map((el) => el.className)"""
    )
    assert [] == mute
    assert [] == scene.foreign()
    assert [] == scene.problems
