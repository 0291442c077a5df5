"""Pictures of each state of the chat, for a person to look at.

`WB_SCREENSHOTS=folder make test ARGS=tests/widgets/test_screenshots.py` saves them in `folder`.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.browsers import needs_chromium
from tests.widgets.conftest import CONNECT, OpenNotebook, Place
from tests.widgets.lab import Notebook
from tests.widgets.test_busy import Sleeper
from workbench.testing import Reply, ToolCall

FOLDER = os.environ.get("WB_SCREENSHOTS", "")

pytestmark = [
    pytest.mark.browser,
    needs_chromium,
    pytest.mark.skipif(not FOLDER, reason="WB_SCREENSHOTS names no folder for the pictures"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

LOOKS = [(theme, width) for theme in ("light", "dark") for width in (1400, 360)]

RICH = """Here is a comparison, and a function that computes it.

| Method | Memory | Speed |
|--------|-------:|------:|
| Full   | 16 GB  | 12 tokens/s |
| Q4     | 4.5 GB | 48 tokens/s |

```python
def memory_gb(parameters: float, bits: int) -> float:
    \"\"\"Return the size of the weights.\"\"\"
    return parameters * bits / 8 / 1e9
```

The rule is $m = n \\cdot b / 8$:

$$m = \\frac{8 \\times 10^9 \\cdot 4}{8} \\approx 4\\,\\text{GB}$$
"""
LONG = (
    "A **transformer** reads all words at once. Each layer lets every word look at the others, and "
    "decides what matters.\n\n1. Words become vectors.\n2. Attention mixes them.\n3. A network "
    "works on each.\n\nThe result is a guess for the next word, and"
)


class Camera:
    """Takes each state in every look."""

    def __init__(self, notebook: Notebook, folder: Path) -> None:
        self.notebook = notebook
        self.folder = folder

    def take(self, state: str, selector: str = ".wb-root") -> None:
        """Save the chat, and at full width the page around it."""
        page = self.notebook.page
        for theme, width in LOOKS:
            page.set_viewport_size({"width": width, "height": 900})
            self.notebook.theme(theme)
            shown = page.locator(selector).last
            shown.scroll_into_view_if_needed()
            page.mouse.move(0, 0)
            name = f"{state}-{theme}-{width}.png"
            picture = page.screenshot(path=self.folder / name, animations="disabled")
            assert len(picture) > 5000
        page.set_viewport_size({"width": 1400, "height": 900})


CALL = ToolCall("get_weather", {"city": "Paris", "unit": "celsius"})
STATES = {
    "streaming": Reply(LONG, stall_after=45, tokens_per_s=60),
    "thinking": Reply("x", thinking=LONG, stall_after=30, tokens_per_s=60),
    "tool-call": Reply("", thinking="The user wants weather.", tool_calls=[CALL]),
    "code-and-table": Reply(RICH),
    "error-in-mid-stream": Reply(
        LONG, error_after=(20, "llama runner process has terminated: CUDA error")
    ),
}


def test_screenshots(
    place: Place, open_notebook: OpenNotebook, browser: Browser, tmp_path: Path
) -> None:
    """Every state can be seen, in light and dark, wide and narrow."""
    folder = Path(FOLDER)
    folder.mkdir(parents=True, exist_ok=True)
    notebook = open_notebook(CONNECT, "panel = wb.chat_panel('thinker')\npanel")
    notebook.command("application:toggle-left-area")
    notebook.run(0)
    notebook.run(1)
    chat = notebook.chat().ready()
    camera = Camera(notebook, folder)
    camera.take("welcome")
    notebook.page.get_by_label("Model", exact=True).last.click()
    expect(notebook.page.get_by_role("option", name="Use seer")).to_contain_text("fits")
    camera.take("models")
    notebook.page.keyboard.press("Escape")
    for state, reply in STATES.items():
        place.ollama.set_reply(reply)
        asked = len([item for item in place.ollama.requests if item.operation == "chat"])
        chat.send("How does a transformer work?")
        request = place.ollama.wait_for_request(asked + 1, to="chat")
        if reply.stall_after is not None:
            assert request.stalled.wait(30)
            expect(chat.answers.last).to_contain_text("Attention" if state == "streaming" else "")
        else:
            chat.ended()
        camera.take(state)
        request.release()
        chat.ended()
    _take_busy(place, notebook, camera, tmp_path)
    camera.notebook = _reopened(place, notebook, browser)
    camera.take("reopened-notebook", ".workbench-chat-output")
    camera.notebook.shut_down()
    camera.notebook.page.close()


def _take_busy(place: Place, notebook: Notebook, camera: Camera, folder: Path) -> None:
    place.ollama.set_reply(Reply(LONG, stall_after=30))
    sleeper = Sleeper(notebook, folder)
    chat = notebook.chat()
    chat.send("Are you there while a cell runs?")
    expect(chat.answers.last).to_contain_text("Words become vectors")
    camera.take("busy-kernel")
    chat.stop()
    chat.ended()
    sleeper.wake()


def _reopened(place: Place, notebook: Notebook, browser: Browser) -> Notebook:
    notebook.page.wait_for_function(
        "() => JSON.stringify(window.jupyterapp.shell.currentWidget.content.model.toJSON())"
        ".includes('while a cell runs?')"
    )
    notebook.save()
    name = notebook.page.url.rpartition("/")[2].partition("?")[0]
    copy = place.lab.work / "reopened-picture.ipynb"
    copy.write_bytes((place.lab.work / name).read_bytes())
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    reopened = Notebook(page).open(place.lab.address(copy.name))
    reopened.command("application:toggle-left-area")
    expect(page.locator(".workbench-chat-output")).to_contain_text("while a cell runs?")
    return reopened
