"""A chat and a dialogue where nobody looks: a static transcript, once, and no widget."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import papermill
import pytest
from nbclient import NotebookClient

from tests.cli.harness import NO_OLLAMA, Cli

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

WIDGET = "application/vnd.jupyter.widget-view+json"
CELLS = (
    "import workbench\n\nwb = workbench.connect()",
    "session = wb.session('toy-tiny', temperature=0, seed=1)\n"
    "answer = session.ask('What is the capital of France?')",
    "session",
    "print(session.ask('And of Italy?').stop_reason, len(session.turns))",
    "wb.chat_panel('toy-tiny')",
    "# NBVAL_IGNORE_OUTPUT\n"
    "two = [{'name': name, 'model': 'toy-tiny', 'options': {'temperature': 0}} for name in 'AB']\n"
    "talk = wb.dialogue(two, opening='What is the capital of France?', turns=1, seed=1)\n"
    "talk.run()",
    "wb.dialogue_panel()",
)

COMPARED = (
    "wb.compare(['toy-tiny', 'toy-nano'], 'What is 7 plus 8?', blind=True)",
    "wb.compare_panel()",
)


@pytest.fixture
def book(private_folders: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Write a notebook that displays a session; end the server it starts."""
    monkeypatch.setenv("OLLAMA_HOST", NO_OLLAMA)
    monkeypatch.setenv("WORKBENCH_PORT", "0")
    path = private_folders / "chat.ipynb"
    made = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(source) for source in CELLS],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}},
    )
    nbformat.write(made, path)
    yield path
    Cli(private_folders).run("stop", "--force")


def _check(made: Any) -> None:
    assert "widgets" not in made.metadata
    assert WIDGET not in json.dumps(made)
    shown = made.cells[2].outputs
    assert ["text/html", "text/plain"] == sorted(shown[0]["data"])
    assert 1 == len(shown)
    assert "The capital of France is Paris." in shown[0]["data"]["text/html"]
    assert "The capital of France is Paris." in shown[0]["data"]["text/plain"]
    # The same session goes on after it was displayed.
    assert "stop 2\n" == made.cells[3].outputs[0]["text"]
    assert "(no messages yet)" == made.cells[4].outputs[0]["data"]["text/plain"]
    talk = made.cells[5].outputs
    assert ["text/html", "text/plain"] == sorted(talk[0]["data"])
    assert "1 turn was taken" in talk[0]["data"]["text/html"]
    assert "(no dialogue yet)" == made.cells[6].outputs[0]["data"]["text/plain"]


def test_papermill(book: Path) -> None:
    """Papermill's output holds transcript and comparison once, and no widget state."""
    made = nbformat.read(book, as_version=4)
    made.cells += [nbformat.v4.new_code_cell(source) for source in COMPARED]
    nbformat.write(made, book)
    out = book.with_name("out.ipynb")
    papermill.execute_notebook(book, out, kernel_name="python3", progress_bar=False)
    made = nbformat.read(out, as_version=4)
    _check(made)
    (shown,) = made.cells[len(CELLS)].outputs
    assert ["text/html", "text/plain"] == sorted(shown["data"])
    assert 2 == shown["data"]["text/html"].count("<td>Answer ")
    assert "toy-tiny" not in shown["data"]["text/html"]
    assert "nothing was asked yet" in made.cells[-1].outputs[0]["data"]["text/plain"]


def test_nbclient(book: Path) -> None:
    """A notebook run by nbclient holds the same."""
    made = nbformat.read(book, as_version=4)
    NotebookClient(made, timeout=100, kernel_name="python3").execute()
    _check(made)


def test_nbval(book: Path) -> None:
    """Strict nbval finds every output of a run again in the next one."""
    made = nbformat.read(book, as_version=4)
    NotebookClient(made, timeout=100, kernel_name="python3").execute()
    nbformat.write(made, book)
    command = [sys.executable, "-m", "pytest", "--nbval", "-p", "no:cacheprovider", str(book)]
    done = subprocess.run(
        command, cwd=book.parent, env=dict(os.environ), capture_output=True, text=True, timeout=100
    )
    assert 0 == done.returncode, done.stdout
    assert "7 passed" in done.stdout


@pytest.mark.parametrize(("asked", "widget"), [("1", False), ("0", True)])
def test_the_variable_decides(
    book: Path, monkeypatch: pytest.MonkeyPatch, asked: str, widget: bool
) -> None:
    """`WORKBENCH_HEADLESS` decides whatever the front end says."""
    monkeypatch.setenv("WORKBENCH_HEADLESS", asked)
    made = nbformat.read(book, as_version=4)
    made.cells = [made.cells[0], made.cells[4]]
    NotebookClient(made, timeout=100, kernel_name="python3").execute()
    assert widget == (WIDGET in made.cells[1].outputs[0]["data"])
