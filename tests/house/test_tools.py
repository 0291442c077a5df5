"""The static checkers pass, and the import contracts do catch what they are for."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.files import ROOT, files_under, relative, run_module

LINT_IMPORTS = "from importlinter.cli import lint_imports as lint; raise SystemExit(lint())"


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    """Check the contracts of the `pyproject.toml` in `folder` on the package beside it."""
    return subprocess.run(
        [sys.executable, "-c", LINT_IMPORTS],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_ruff_finds_nothing() -> None:
    """The code follows the lint rules of pyproject.toml."""
    done = run_module("ruff", "check", "--no-cache", "--output-format=concise", ".")
    assert done.returncode == 0, done.stdout


def test_code_is_formatted() -> None:
    """The code looks as the formatter writes it."""
    done = run_module("ruff", "format", "--no-cache", "--check", ".")
    assert done.returncode == 0, done.stdout


@pytest.mark.timeout(400)
def test_types_are_sound() -> None:
    """The package passes mypy in its strict mode."""
    done = run_module("mypy")
    assert done.returncode == 0, done.stdout


def test_import_contracts_hold() -> None:
    """Layers and doors of the design hold."""
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("contract", "module", "line"),
    [
        ("Imports go downwards", "errors", "import workbench.wire"),
        ("Nothing inside imports the package root", "units", "from workbench import connect"),
        ("httpx only in client", "units", "def f() -> None:\n    import httpx"),
        ("pynvml only in server.gpu", "server.routes.probe", "import pynvml"),
        ("papermill and nbclient only in", "chat.probe", "from papermill import execute_notebook"),
    ],
    ids=["upwards", "root", "httpx", "pynvml", "papermill"],
)
def test_import_contracts_bite(contract: str, module: str, line: str, tmp_path: Path) -> None:
    """A module that breaks a contract is named by the check."""
    for path in files_under("workbench", "*.py"):
        copy = tmp_path / relative(path)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    target = tmp_path / "workbench" / (module.replace(".", "/") + ".py")
    for folder in target.relative_to(tmp_path).parents[:-1]:
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "__init__.py").touch()
    with target.open("a", encoding="utf-8") as file:
        file.write(f"\n{line}\n")
    output = lint_imports(tmp_path).stdout
    broken = [row for row in output.splitlines() if row.startswith(contract) and "BROKEN" in row]
    assert broken, output
