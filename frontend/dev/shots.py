"""Take screenshots of the scenes: `python frontend/dev/shots.py FOLDER [scene ...]`.

A scene of the models panel is named `models/mixed`, one of the dashboard `dashboard/full`, one of
the runs panel `runs/list`, and so on.  Run it from the repository's root: what all but the first
two show is made by tests/widgets/metrics_store.py, run_store.py and lanes_store.py.
"""

from __future__ import annotations

import http.server
import json
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

HERE = Path(__file__).resolve().parent
STATIC = HERE.parents[1] / "workbench/widgets/static"
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage"
).split()
SCENES = (
    "welcome rich streaming loading thinking thought tool error swap stopped attach readonly gone "
    "chats params models history models/mixed models/fifty models/loading models/low models/swap "
    "models/gone models/kernelgone models/connecting models/empty models/down models/settings "
    "models/get models/log dashboard/full dashboard/requests dashboard/charts dashboard/detail "
    "dashboard/off dashboard/failed dashboard/custom dashboard/alerts dashboard/empty "
    "dashboard/none dashboard/reading dashboard/unreadable dashboard/noserver dashboard/taken "
    "dashboard/kernelgone runs/list runs/running runs/waiting runs/done runs/failed runs/lost "
    "runs/timeline runs/step runs/chart runs/items runs/question runs/cancelling runs/choose "
    "runs/form runs/wrong runs/empty runs/unreadable runs/large runs/kernelgone "
    "dialogue/setup dialogue/drafted dialogue/missing dialogue/ready dialogue/speaking "
    "dialogue/lanes dialogue/paused dialogue/approve dialogue/edit dialogue/failed dialogue/ended "
    "dialogue/branch dialogue/stored dialogue/person dialogue/kernelgone compare/welcome "
    "compare/answered compare/diff compare/failed compare/ranking compare/changed "
    "compare/streaming compare/stopped compare/blind compare/missing compare/side "
    "compare/settings compare/kernelgone"
).split()
MEASURED = ("paced", "flood", "giant", "history")


MADE = Path(tempfile.mkdtemp(prefix="wb-made-"))


def make_dashboard() -> None:
    """Make what the dashboard's scenes need: the picture of a real store, and plotly.js."""
    sys.path.insert(0, str(HERE.parents[1]))
    from tests.widgets.metrics_store import fill, picture
    from workbench.metrics.charts.page import plotly_js

    (MADE / "picture.json").write_text(json.dumps(picture(fill(MADE / "store"))))
    (MADE / "plotly.js").write_bytes(plotly_js())


def make_runs() -> None:
    """Make what the scenes of the runs panel need: pictures of real run folders, and plotly.js."""
    sys.path.insert(0, str(HERE.parents[1]))
    from tests.widgets.run_store import picture
    from workbench.metrics.charts.page import plotly_js

    (MADE / "runs.json").write_text(json.dumps(picture(MADE / "data", time.time())))
    (MADE / "plotly.js").write_bytes(plotly_js())


def make_lanes() -> None:
    """Make what the scenes of dialogues and comparisons need: pictures of real ones."""
    sys.path.insert(0, str(HERE.parents[1]))
    from tests.widgets.lanes_store import compare_pictures, dialogue_pictures

    (MADE / "dialogue.json").write_text(json.dumps(dialogue_pictures(MADE / "talks")))
    (MADE / "compare.json").write_text(json.dumps(compare_pictures()))


class Pages(http.server.SimpleHTTPRequestHandler):
    """Serves the harness and the bundle."""

    def translate_path(self, path: str) -> str:
        top, _, rest = path.split("?")[0].lstrip("/").partition("/")
        return str({"static": STATIC, "dev": HERE, "made": MADE}.get(top, HERE) / rest)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def serve() -> http.server.ThreadingHTTPServer:
    """Start the pages on a free port of this machine."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Pages))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def main() -> None:
    """Save a picture per scene, theme and width; print what the measured scenes took."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    scenes = sys.argv[2:] or SCENES
    if any(scene.startswith("dashboard/") for scene in scenes):
        make_dashboard()
    if any(scene.startswith("runs/") for scene in scenes):
        make_runs()
    if any(scene.startswith(("dialogue/", "compare/")) for scene in scenes):
        make_lanes()
    server = serve()
    with sync_playwright() as pw:
        browser = pw.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        for theme in ("light", "dark"):
            for width in (1400, 360):
                page = browser.new_page(viewport={"width": width, "height": 900})
                page.set_default_timeout(120_000)
                page.on("console", lambda m: m.type in ("error", "warning") and print(m.text))
                page.on("pageerror", lambda e: print("page error:", e))
                for scene in scenes:
                    address = f"http://127.0.0.1:{server.server_port}/dev/index.html"
                    widget, _, name = scene.rpartition("/")
                    page.goto(f"{address}?scene={name}&theme={theme}&widget={widget or 'chat'}")
                    page.wait_for_function("'sceneDone' in window")
                    page.evaluate("window.sceneDone")
                    page.wait_for_timeout(400)
                    if scene in MEASURED:
                        told = page.evaluate("[window.longTasks, window.took]")
                        print(scene, theme, width, "long tasks", told)
                    shown = scene.replace("/", "-")
                    page.screenshot(path=folder / f"{shown}-{theme}-{width}.png")
                page.close()
        browser.close()
    server.shutdown()


if __name__ == "__main__":
    main()
