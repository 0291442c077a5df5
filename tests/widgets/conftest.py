"""One JupyterLab, one scripted Ollama and one data folder for all tests of the widgets."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from tests.browsers import CHROMIUM, chromium
from tests.conftest import private_environment
from tests.widgets.lab import Lab, Notebook
from workbench.testing import FakeModel, Reply, ScriptedOllama

MODELS = (
    FakeModel("llama3.2", context_length=4096),
    FakeModel("seer", capabilities=("completion", "vision"), size_bytes=1_000_000_000),
    FakeModel("thinker", capabilities=("completion", "thinking", "tools"), size_bytes=10**9),
)
CONNECT = "import workbench\nwb = workbench.connect()"


@dataclass
class Place:
    """What the tests of a package share.

    Attributes:
        env: Environment of the Lab, its kernels and the workbench server.
    """

    folder: Path
    env: dict[str, str]
    ollama: ScriptedOllama
    lab: Lab

    @property
    def data_dir(self) -> Path:
        """The workbench's data folder."""
        return Path(self.env["WORKBENCH_DATA_DIR"])

    def workbench(self, *arguments: str) -> None:
        """Run a command of the workbench."""
        command = [sys.executable, "-P", "-m", "workbench", *arguments]
        subprocess.run(
            command, env={**os.environ, **self.env}, capture_output=True, check=True, timeout=60
        )


@contextmanager
def a_place(
    *, disabled: tuple[str, ...] = (), env: Mapping[str, str] | None = None, **how: Any
) -> Iterator[Place]:
    """Start everything in a folder of its own, and end it; `how` goes to `Lab`."""
    folder = Path(tempfile.mkdtemp(prefix="wb-"))
    with ScriptedOllama(models=MODELS) as ollama:
        own = private_environment(folder)
        own |= {"OLLAMA_HOST": ollama.url, "WORKBENCH_PORT": "0", **(env or {})}
        lab = Lab(folder / "lab", env=own, disabled=disabled, **how)
        place = Place(folder, own, ollama, lab)
        lab.start()
        try:
            yield place
        finally:
            lab.stop()
            place.workbench("stop", "--force")
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="package")
def place() -> Iterator[Place]:
    """Return the shared Lab with everything behind it."""
    if CHROMIUM is None:
        pytest.skip("Debian's chromium is not installed")
    with a_place() as made:
        yield made


@pytest.fixture(scope="package")
def plain_place() -> Iterator[Place]:
    """Return another Lab, without our extension."""
    if CHROMIUM is None:
        pytest.skip("Debian's chromium is not installed")
    with a_place(disabled=("local-model-workbench",)) as made:
        yield made


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Return a browser; one per module, since others open theirs in the same thread."""
    if CHROMIUM is None:
        pytest.skip("Debian's chromium is not installed")
    expect.set_options(timeout=int(os.environ.get("WB_EXPECT_MS", "30000")))
    with chromium() as made:
        yield made


OpenNotebook = Callable[..., Notebook]


@pytest.fixture(scope="module")
def open_notebook(place: Place, browser: Browser) -> Iterator[OpenNotebook]:
    """Return a function that opens a new notebook with these cells in a new page."""
    opened: list[Notebook] = []

    def open_one(*cells: str, theme: str = "light", width: int = 1400) -> Notebook:
        page = browser.new_page(viewport={"width": width, "height": 900}, accept_downloads=True)
        notebook = Notebook(page)
        opened.append(notebook)
        name = f"{uuid.uuid4().hex[:8]}.ipynb"
        return notebook.open(place.lab.notebook(name, list(cells)), theme=theme)

    yield open_one
    for notebook in opened:
        if not notebook.page.is_closed():
            notebook.shut_down()
            notebook.page.close()


@pytest.fixture(autouse=True)
def usual_answer(request: pytest.FixtureRequest) -> Iterator[None]:
    """Begin each test with a short answer, and let nothing hang at its end."""
    if "place" not in request.fixturenames and "open_notebook" not in request.fixturenames:
        yield
        return
    ollama = request.getfixturevalue("place").ollama
    ollama.set_reply(Reply("Hello from a script."))
    yield
    ollama.release()
