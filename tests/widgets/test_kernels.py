"""Stop while a cell runs, on every ipykernel that is in use; one Lab, several kernels.

Run by `make matrix`; needs the network to install the kernels.
"""

from __future__ import annotations

import json
import os
import shutil
import site
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import Browser, expect

from tests.bench.report import aligned, record_table
from tests.browsers import needs_chromium
from tests.widgets.conftest import CONNECT, Place, a_place
from tests.widgets.lab import Notebook
from tests.widgets.test_busy import Sleeper
from workbench.testing import Reply

pytestmark = [
    pytest.mark.matrix,
    needs_chromium,
    pytest.mark.timeout(1800),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

VERSIONS = ("6.31.0", "7.1.0", "7.3.0", "7.4.0")
ROUNDS = 5


def install(folder: Path, requirement: str) -> Path:
    """Make an environment with a package before this environment's; returns its interpreter."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    # The user's pip configuration lies where the private folders of a test hide it.
    env = {name: value for name, value in os.environ.items() if not name.startswith("XDG_")}
    python = folder / "bin" / "python"
    command = [python, "-m", "pip", "install", "--quiet", requirement]
    subprocess.run(command, check=True, env=env, stdin=subprocess.DEVNULL)
    (packages,) = (folder / "lib").glob("python*/site-packages")
    shared = next(path for path in site.getsitepackages() if path.endswith("site-packages"))
    root = Path(__file__).parents[2]
    (packages / "shared.pth").write_text(f"{shared}\n{root}\n")
    return python


def install_kernel(folder: Path, version: str, jupyter: Path) -> None:
    """Make an environment with one ipykernel, and name it."""
    python = install(folder, f"ipykernel=={version}")
    spec = {
        "argv": [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": f"ipykernel {version}",
        "language": "python",
    }
    place = jupyter / "kernels" / f"k{version}"
    place.mkdir(parents=True)
    (place / "kernel.json").write_text(json.dumps(spec))


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install every kernel; return the folder that names them."""
    folder = tmp_path_factory.mktemp("kernels")
    for version in VERSIONS:
        install_kernel(folder / f"venv-{version}", version, folder)
    return folder / "kernels"


@pytest.fixture(scope="module")
def with_extension(kernels: Path) -> Iterator[Place]:
    """Start a Lab with every kernel."""
    with a_place() as made:
        shutil.copytree(kernels, Path(made.env["JUPYTER_DATA_DIR"]) / "kernels")
        yield made


@pytest.fixture(scope="module")
def without_extension(kernels: Path) -> Iterator[Place]:
    """Start a Lab with every kernel and without our extension."""
    with a_place(disabled=("local-model-workbench",)) as made:
        shutil.copytree(kernels, Path(made.env["JUPYTER_DATA_DIR"]) / "kernels")
        yield made


Row = tuple[str, str, str, str]
HEAD = ("ipykernel", "our Lab extension", "Stop while a cell runs", "click to idle backend, worst")
SECTION = "Stop while a cell runs, by ipykernel"
NOTES = (
    f"The cell is in `time.sleep`; the worst of {ROUNDS} clicks is given.",
    "Without the extension, ipykernel 6 hears a click between cells only; the panel says so, and"
    " *Interrupt* stops the answer at once.",
)


@pytest.fixture(scope="module")
def table() -> Iterator[list[Row]]:
    """Collect what Stop did, and write it on the page of figures when every kernel was asked."""
    rows: list[Row] = []
    yield rows
    made = aligned([HEAD, *rows])
    print(f"\n{made}")
    if len(rows) == 2 * len(VERSIONS):
        record_table(SECTION, made, NOTES)


def _notebook(place: Place, browser: Browser, version: str) -> Notebook:
    name = f"busy-{version}.ipynb"
    place.lab.notebook(name, [CONNECT, "panel = wb.chat_panel('llama3.2')\npanel"])
    book = nbformat.read(place.lab.work / name, as_version=4)
    book.metadata.kernelspec = {"name": f"k{version}", "display_name": version}
    nbformat.write(book, place.lab.work / name)
    notebook = Notebook(browser.new_page(viewport={"width": 1400, "height": 900}))
    notebook.open(place.lab.address(name))
    notebook.run(0)
    notebook.run(1)
    notebook.chat().ready()
    assert version == notebook.value("__import__('ipykernel').__version__")
    return notebook


def _begin(place: Place, notebook: Notebook, folder: Path) -> Sleeper:
    """Let an answer come, then keep the kernel busy, then click Stop."""
    place.ollama.set_reply(Reply("one two three four", stall_after=2))
    chat = notebook.chat()
    chat.send("Count")
    expect(chat.answers.last).to_contain_text("one two")
    folder.mkdir(exist_ok=True)
    sleeper = Sleeper(notebook, folder)
    chat.stop()
    return sleeper


def _stopped(place: Place, notebook: Notebook, folder: Path) -> float:
    """Click Stop several times, each while a cell sleeps; returns the longest time, in ms."""
    took = []
    notebook.page.evaluate(
        "addEventListener('click', () => { window.clickedAt = Date.now(); }, true)"
    )
    for number in range(ROUNDS):
        sleeper = _begin(place, notebook, folder / str(number))
        expect(notebook.chat().ended()).to_contain_text("Stopped.")
        assert sleeper.sleeps
        request = [item for item in place.ollama.requests if item.operation == "chat"][-1]
        assert request.disconnected.wait(10)
        while request.finished_at is None:
            time.sleep(0.005)
        # Monotonic seconds become the wall clock that the page reads too.
        ended = request.finished_at + time.time() - time.monotonic()
        took.append(ended * 1000 - notebook.page.evaluate("window.clickedAt"))
        sleeper.wake()
    return float(max(took))


@pytest.mark.parametrize("version", VERSIONS)
def test_stop_while_busy(
    with_extension: Place,
    browser: Browser,
    tmp_path: Path,
    version: str,
    table: list[Row],
) -> None:
    """With our extension Stop is heard while a cell runs, on each ipykernel."""
    notebook = _notebook(with_extension, browser, version)
    worst = _stopped(with_extension, notebook, tmp_path)
    table.append((version, "yes", "at once", f"{worst:.0f} ms"))
    notebook.shut_down()
    notebook.page.close()


@pytest.mark.parametrize("version", VERSIONS)
def test_stop_while_busy_without_extension(
    without_extension: Place,
    browser: Browser,
    tmp_path: Path,
    version: str,
    table: list[Row],
) -> None:
    """Without it ipykernel 7 hears Stop; 6 does between cells, says so, and Interrupt works."""
    notebook = _notebook(without_extension, browser, version)
    if version.startswith("6."):
        sleeper = _begin(without_extension, notebook, tmp_path / "only")
        chat = notebook.chat()
        expect(chat.answers.last.locator(".wb-phase")).to_contain_text("interrupt the kernel")
        assert sleeper.sleeps
        notebook.command("notebook:interrupt-kernel")
        row = (version, "no", "after the cell, or by Interrupt; the panel says so", "")
        table.append(row)
        expect(chat.ended()).to_contain_text("Stopped.")
    else:
        worst = _stopped(without_extension, notebook, tmp_path)
        table.append((version, "no", "at once", f"{worst:.0f} ms"))
    notebook.shut_down()
    notebook.page.close()
