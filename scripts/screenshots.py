"""Take the pictures of the docs: `python -m scripts.screenshots [chat] [models] [dashboard]`.

A real JupyterLab in Chromium; the chat shows the bundled toy model, the models panel a scripted
server and the dashboard made-up rows, so that a machine without a card can take its pictures.  They
go into docs/images/.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from tests.conftest import private_environment
from tests.widgets.lab import Lab, Notebook, chromium
from tests.widgets.metrics_store import fill
from tests.widgets.models_server import GIB, ModelsServer, model
from workbench.units import rfc3339, utc_now

IMAGES = Path(__file__).parents[1] / "docs" / "images"
CONNECT = "import workbench\n\nwb = workbench.connect({})\n"
WAIT_MS = 60_000


def main() -> None:
    """Take the pictures that were asked for, else every one."""
    # ipywidgets and Jupyter warn of their own future while playwright runs.
    warnings.simplefilter("ignore", DeprecationWarning)
    IMAGES.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="wb-"))
    env = {**private_environment(folder), "WORKBENCH_PORT": "0", "OLLAMA_HOST": "127.0.0.1:9"}
    lab = Lab(folder / "lab", env=env)
    takers = {"chat": take_chat, "models": take_models, "dashboard": take_dashboard}
    try:
        lab.start()
        for name in sys.argv[1:] or takers:
            takers[name](lab)
    finally:
        lab.stop()
        stop = [sys.executable, "-m", "workbench", "stop", "--force"]
        subprocess.run(stop, env={**os.environ, **env}, capture_output=True, check=False)
        shutil.rmtree(folder, ignore_errors=True)


def with_cell(lab: Lab, cell: str, take: Callable[[Notebook], None]) -> None:
    """Run a cell in a new notebook and take its pictures."""
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1000, "height": 860})
        notebook = Notebook(page).open(lab.notebook("picture.ipynb", [cell]))
        page.evaluate("window.jupyterapp.shell.collapseLeft()")
        # JupyterLab's question about news would hide what is below.
        page.add_style_tag(content=".Toastify { display: none }")
        notebook.run(0)
        take(notebook)


def take_chat(lab: Lab) -> None:
    """Take the pictures of the chat."""
    with_cell(lab, CONNECT.format("") + "wb.chat_panel('toy-tiny')", use_chat)


def use_chat(notebook: Notebook) -> None:
    """Use the chat as the tutorial does, and take a picture at each step."""
    page = notebook.page
    chat = page.locator(".wb-root").last
    chat.locator(".wb-welcome button").first.wait_for(timeout=WAIT_MS)
    chat.screenshot(path=IMAGES / "chat-welcome.png")
    box = chat.get_by_label("Message", exact=True)
    box.fill("What is the capital of France?")
    box.press("Enter")
    ended = "el => el.getAttribute('aria-busy') === 'false' && !!el.querySelector('.wb-answer')"
    page.wait_for_function(ended, arg=chat.element_handle(), timeout=WAIT_MS)
    page.wait_for_timeout(1500)
    chat.screenshot(path=IMAGES / "chat-answer.png")
    chat.get_by_role("button", name="Model", exact=True).click()
    page.wait_for_timeout(300)
    chat.screenshot(path=IMAGES / "chat-models.png")
    page.keyboard.press("Escape")
    chat.get_by_role("button", name="System prompt and parameters").click()
    page.wait_for_timeout(300)
    chat.screenshot(path=IMAGES / "chat-parameters.png")


def take_models(lab: Lab) -> None:
    """Take the pictures of the models panel."""
    with a_small_card() as server:
        cell = CONNECT.format(f'"{server.url}"') + "wb.models_panel()"
        with_cell(lab, cell, lambda notebook: use_models(notebook, server))


def use_models(notebook: Notebook, server: ModelsServer) -> None:
    """Use the panel as the tutorial does, and take a picture at each step."""
    page = notebook.page
    panel = page.locator(".wbm-root").last
    panel.locator(".wbm-row").first.wait_for(timeout=WAIT_MS)
    panel.screenshot(path=IMAGES / "models-panel.png")
    server.settings["swap.ollama"]["value"] = "manual"
    panel.get_by_label("Load qwen3:8b", exact=True).click()
    panel.get_by_role("group", name="Swap for qwen3:8b").wait_for(timeout=WAIT_MS)
    page.wait_for_timeout(600)
    panel.screenshot(path=IMAGES / "models-panel-swap.png")
    panel.get_by_label("Keep gemma3:4b in memory").click()
    panel.get_by_label("Settings", exact=True).click()
    page.wait_for_timeout(1500)
    panel.screenshot(path=IMAGES / "models-panel-settings.png")


def take_dashboard(lab: Lab) -> None:
    """Take the pictures of the dashboard, on a week of work that was made up."""
    store = fill(lab.folder / "metrics")
    cell = (
        "import workbench.metrics\nfrom workbench.widgets.dashboard import Dashboard\n\n"
        f"Dashboard(metrics=workbench.metrics.open({str(store)!r}))"
    )
    with_cell(lab, cell, use_dashboard)


def use_dashboard(notebook: Notebook) -> None:
    """Use the dashboard as its page does, and take a picture at each step."""
    page = notebook.page
    page.set_viewport_size({"width": 1180, "height": 1150})
    board = page.locator(".wbd-root").last
    # The page runs plotly.js for the first time.
    for name in ("latency", "phases"):
        seat = board.locator(f'[data-chart="{name}"] .wbd-seat[data-drawn]')
        seat.wait_for(timeout=4 * WAIT_MS)
    page.wait_for_timeout(2000)
    board.screenshot(path=IMAGES / "dashboard.png")
    board.locator(".wbd-table tbody tr").first.click()
    board.get_by_label("Request panel").get_by_text("soap bubble").wait_for(timeout=WAIT_MS)
    page.wait_for_timeout(600)
    board.screenshot(path=IMAGES / "dashboard-detail.png")


def a_small_card() -> ModelsServer:
    """Return a server with a card of 8 GiB and the models somebody may have on it."""

    def sized(name: str, gib: float, **more: Any) -> dict[str, Any]:
        fit = {"needed_bytes": int(gib * 1.15 * GIB), "source": "measured", "reason": None}
        fit["verdict"] = "alongside" if gib < 1 else "alone" if gib < 7 else "offload"
        return model(name, size_bytes=int(gib * GIB), fit=fit, context_length=131072, **more)

    def held(gib: float, **more: Any) -> dict[str, Any]:
        return {"size_bytes": int(gib * GIB), "vram_bytes": int(gib * GIB), **more}

    soon = rfc3339(utc_now() + timedelta(seconds=280))
    server = ModelsServer(
        [
            sized(
                "gemma3:4b", 3.1, state="busy", in_flight=1, parameter_size="4.3B", loaded=held(3.9)
            ),
            sized(
                "llama3.2:latest",
                1.9,
                state="idle",
                pinned=True,
                priority=9,
                parameter_size="3.2B",
                loaded=held(2.3, expires_at=soon),
            ),
            sized("qwen3:8b", 4.9, evicts=["gemma3:4b"], parameter_size="8.2B", load_s=5.2),
            sized("qwen3:14b", 8.6, evicts=["gemma3:4b"], parameter_size="14.8B", load_s=None),
            sized(
                "nomic-embed-text:latest",
                0.3,
                parameter_size="137M",
                load_s=0.7,
                quantization="F16",
            ),
        ]
    )
    waits = {"kind": "seconds", "changeable": True}
    server.settings |= {
        "queue.interactive_wait_s": {"value": 5, "default": 5, "source": "default", **waits},
        "queue.batch_wait_s": {"value": 30, "default": 60, "source": "workbench.toml", **waits},
    }
    used = 6.8
    server.device = {
        "name": "NVIDIA GeForce RTX 4060",
        "total_bytes": 8 * GIB,
        "used_bytes": int(used * GIB),
        "free_bytes": int((8 - used) * GIB),
        "other_bytes": int(0.6 * GIB),
        "utilization_pct": 74,
        "temperature_c": 58,
        "power_w": 96,
    }
    return server


if __name__ == "__main__":
    main()
