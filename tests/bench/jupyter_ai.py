"""jupyter-ai's own chat beside ours: the same text at the same pace, in the same browser.

It answers from the Jupyter server through a persona.  Ours here yields the text token by token, as
a persona of a local model would; everything after that is jupyter-ai's.  Its JupyterLab runs in an
environment of its own, made for this and thrown away.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PathDistribution
from pathlib import Path

from playwright.sync_api import Browser, Page

from tests.conftest import private_environment
from tests.widgets.lab import Lab

PYTHON = os.environ.get("WB_JUPYTER_AI_PYTHON", "")
"""An environment that has jupyter-ai already; the bench then makes none."""

_PERSONA = """
import asyncio, json, time
from pathlib import Path
from jupyter_ai_persona_manager import BasePersona, PersonaDefaults

HERE = Path(__file__).parent


class Reader(BasePersona):
    @property
    def defaults(self):
        avatar = str(HERE / "avatar.svg")
        return PersonaDefaults(name="Reader", description="", avatar_path=avatar, system_prompt="")

    async def process_message(self, message):
        plan = json.loads((HERE / "plan.json").read_text())

        async def stream():
            start = time.monotonic()
            for number, token in enumerate(plan["tokens"]):
                wait = start + number / plan["rate"] - time.monotonic()
                await asyncio.sleep(max(0.0, wait))
                yield token

        await self.stream_message(stream())
"""
_ID = "jupyter-ai-personas::reader_persona::Reader"


def install(folder: Path) -> str:
    """Make an environment with the newest jupyter-ai; returns its interpreter."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = str(folder / "bin" / "python")
    # The user's pip configuration lies where the private folders of a run hide it.
    env = {name: value for name, value in os.environ.items() if not name.startswith("XDG_")}
    command = [python, "-m", "pip", "install", "--quiet", "jupyter-ai"]
    subprocess.run(command, check=True, env=env, stdin=subprocess.DEVNULL)
    return python


def version_of(python: str) -> str:
    """Return the version of jupyter-ai in an environment."""
    packages = Path(python).parent.parent.glob("lib/python*/site-packages/jupyter_ai-*.dist-info")
    return PathDistribution(next(packages)).version


@contextmanager
def page(
    browser: Browser, folder: Path, python: str, *, tokens: Sequence[str], rate: float, probe: str
) -> Iterator[Page]:
    """Yield a page with an empty chat whose persona says `tokens`, `rate` a second."""
    options = [f"--PersonaManager.default_persona_id={_ID}", "--MCPExtensionApp.mcp_port=0"]
    env = private_environment(folder)
    lab = Lab(folder / "lab", env=env, python=python, options=options)
    personas = lab.work / ".jupyter" / "personas"
    personas.mkdir(parents=True)
    (personas / "reader_persona.py").write_text(_PERSONA, encoding="utf-8")
    (personas / "avatar.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"/>', "utf-8")
    plan = {"tokens": list(tokens), "rate": rate}
    (personas / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
    (lab.work / "bench.chat").write_text("{}", encoding="utf-8")
    lab.start()
    try:
        made = browser.new_page(viewport={"width": 1400, "height": 900})
        made.add_init_script(probe)
        made.goto(lab.address("bench.chat"))
        yield made
        made.close()
    finally:
        lab.stop()
