from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

from tests.cli.harness import Cli
from tests.conftest import private_environment
from workbench import resources

ANSWER = "The capital of France is Paris."


@pytest.fixture
def outputs(nb: Path) -> str:
    """Return everything the cells of the run notebook printed."""
    notebook = nbformat.read(nb, as_version=4)
    return "\n".join(
        output.get("text") or output.get("data", {}).get("text/plain", "")
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
    )


@pytest.fixture(scope="module")
def nb(demo: tuple[Cli, str]) -> Path:
    """Return the notebook that the demo wrote."""
    return demo[0].base / "work" / "01_chat.demo.ipynb"


@pytest.fixture(scope="module")
def demo() -> Iterator[tuple[Cli, str]]:
    """Run `workbench demo` once for these tests; yield its home and what it printed."""
    base = Path(tempfile.mkdtemp(prefix="wb-"))
    cli = Cli(base, private_environment(base))
    yield cli, cli.ok("demo")
    cli.run("stop", "--force")
    shutil.rmtree(base, ignore_errors=True)


def test_demo_streams_a_chat(demo: tuple[Cli, str]) -> None:
    """The demo shows questions with the toy model's answers, and says that it is a toy."""
    _, said = demo
    assert "Model: toy-tiny (toy)" in said
    assert f">>> What is the capital of France?\n{ANSWER}\n" in said


def test_demo_says_where_the_notebook_is(demo: tuple[Cli, str], nb: Path) -> None:
    """The demo prints where the notebook is that it ran, and nothing half-written lies beside."""
    assert f"Result: {nb}" in demo[1]
    assert ["01_chat.demo.ipynb", "01_chat.md"] == sorted(p.name for p in nb.parent.iterdir())


def test_demo_leaves_the_bundled_notebook_alone(nb: Path) -> None:
    """The bundled notebook still has no outputs."""
    bundled = nbformat.read(resources.notebooks_dir() / "01_chat.ipynb", as_version=4)
    assert [] == [c for c in bundled.cells if c.cell_type == "code" and c.outputs]


def test_notebook_shows_the_answers(outputs: str) -> None:
    """The run notebook holds the answers of the toy model, plain and with a system prompt."""
    assert ANSWER in outputs
    assert ANSWER.upper() in outputs
    assert "2 turns are in 01_chat.md" in outputs


def test_notebook_says_the_same_again(demo: tuple[Cli, str], nb: Path) -> None:
    """Strict nbval runs the notebook again and finds the same outputs."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--nbval", "-p", "no:cacheprovider", nb.name],
        cwd=nb.parent,
        env={**demo[0].environment, "PYTHONWARNINGS": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout[-3000:]
