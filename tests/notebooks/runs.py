"""A bundled notebook, run once by papermill with a server of its own, and again by nbval."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat

from tests.cli.harness import Cli
from tests.conftest import private_environment
from workbench import resources

_RUN = """
import sys
from pathlib import Path
from workbench.plans.engine import run_notebook
run_notebook(Path(sys.argv[1]), Path(sys.argv[2]))
"""


@dataclass(frozen=True)
class Ran:
    """A notebook with its outputs, and the commands in its home."""

    cli: Cli
    path: Path

    @property
    def outputs(self) -> list[Any]:
        """The outputs of all its code cells."""
        cells = nbformat.read(self.path, as_version=4).cells
        return [output for cell in cells if cell.cell_type == "code" for output in cell.outputs]

    @property
    def printed(self) -> str:
        """What its cells printed."""
        return "".join(output.get("text", "") for output in self.outputs)


@contextmanager
def ran(name: str, *, timeout_s: float = 190.0) -> Iterator[Ran]:
    """Run a bundled notebook; its server ends with the block."""
    base = Path(tempfile.mkdtemp(prefix="wb-"))
    cli = Cli(base, private_environment(base))
    output = base / "work" / name
    command = [sys.executable, "-c", _RUN, str(resources.notebooks_dir() / name), str(output)]
    try:
        done = _run(command, cli, cwd=None, timeout_s=timeout_s)
        assert done.returncode == 0, done.stderr[-3000:]
        yield Ran(cli, output)
    finally:
        cli.run("stop", "--force")
        shutil.rmtree(base, ignore_errors=True)


def run_strictly(notebook: Ran, *, timeout_s: float = 190.0) -> None:
    """Run it again by strict nbval, which compares every output."""
    command = [sys.executable, "-m", "pytest", "--nbval", "-p", "no:cacheprovider"]
    done = _run([*command, notebook.path.name], notebook.cli, notebook.path.parent, timeout_s)
    assert done.returncode == 0, done.stdout[-3000:]


def _run(
    command: list[str], cli: Cli, cwd: Path | None, timeout_s: float
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=cwd,
        env={**cli.environment, "PYTHONWARNINGS": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_s,
    )
