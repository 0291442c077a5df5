"""The Makefile's targets, on a copy of the checkout's scripts and without a network."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.files import ROOT


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run make in `folder` and return it with stderr joined to stdout."""
    return subprocess.run(
        ["make", "--no-print-directory", *arguments],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Copy what the setup reads into a new git repository."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt", "workbench/_version.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    shutil.copytree(ROOT / "workbench/labextension", tmp_path / "workbench/labextension")
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    return tmp_path


def fake_python(folder: Path, version: str, log: Path) -> Path:
    """Write a `python` that makes environments of itself, notes its calls and installs nothing."""
    path = folder / "fake-python"
    path.write_text(
        "#!/usr/bin/env bash\n"
        f'echo "$*" >>{log}\n'
        f'[ "$1" = -V ] && echo "Python {version}"\n'
        f'case "$*" in *version_info*) [ {version.split(".")[1]} -ge 11 ] ;;\n'
        '*venv*) mkdir -p "${@: -1}/bin" && cp "$0" "${@: -1}/bin/python" ;; esac\n',
        encoding="utf-8",
    )
    path.chmod(0o755)
    return path


def test_old_python_is_refused_clearly(checkout: Path, tmp_path: Path) -> None:
    """`make setup` with an old Python says which version is needed and which was found."""
    python = fake_python(tmp_path, "3.9.2", tmp_path / "calls")
    done = make(checkout, "setup", f"PYTHON={python}")
    assert done.returncode != 0
    assert "Python 3.11 or newer is needed" in done.stdout
    assert "3.9.2" in done.stdout


def test_missing_python_is_told(checkout: Path) -> None:
    """`make setup` without any Python says what to install."""
    done = make(checkout, "setup", "PYTHON=no-such-python")
    assert done.returncode != 0
    assert "install Python 3.11" in done.stdout


def test_second_setup_does_nothing(checkout: Path, tmp_path: Path) -> None:
    """The second `make setup` starts no Python, so it is instant and needs no network."""
    log = tmp_path / "calls"
    python = fake_python(tmp_path, "3.11.2", log)
    assert make(checkout, "setup", f"PYTHON={python}").returncode == 0
    before = log.read_text(encoding="utf-8")
    assert "--constraint constraints.txt -e ." in before
    assert make(checkout, "setup", f"PYTHON={python}").returncode == 0
    assert before == log.read_text(encoding="utf-8")


def test_setup_follows_a_changed_constraint(checkout: Path, tmp_path: Path) -> None:
    """After a pull that changes a version, `make setup` installs again."""
    log = tmp_path / "calls"
    python = fake_python(tmp_path, "3.11.2", log)
    make(checkout, "setup", f"PYTHON={python}")
    with (checkout / "constraints.txt").open("a", encoding="utf-8") as file:
        file.write("some-package==1.0\n")
    make(checkout, "setup", f"PYTHON={python}")
    assert 2 == log.read_text(encoding="utf-8").count("pip install --quiet --constraint")


def test_moved_checkout_makes_its_environment_anew(checkout: Path, tmp_path: Path) -> None:
    """A checkout in another place does not use scripts that name the old one."""
    python = fake_python(tmp_path, "3.11.2", tmp_path / "calls")
    make(checkout, "setup", f"PYTHON={python}")
    moved = tmp_path.with_name(tmp_path.name + "-moved")
    shutil.copytree(checkout, moved)
    assert "making .venv" in make(moved, "setup", f"PYTHON={python}").stdout


def test_ci_runs_the_tests(tmp_path: Path) -> None:
    """`.ci/run` calls `make test` in the checkout, and nothing else."""
    shutil.copytree(ROOT / ".ci", tmp_path / ".ci")
    (tmp_path / "Makefile").write_text("test:\n\t@pwd\n", encoding="utf-8")
    command = [tmp_path / ".ci/run"]
    done = subprocess.run(command, cwd="/", capture_output=True, text=True, check=True)
    assert str(tmp_path.resolve()) == done.stdout.strip()


def test_hook_strips_outputs_at_git_add(checkout: Path) -> None:
    """After the commands of `make hooks`, git stores a notebook without its outputs."""
    shutil.copy(ROOT / ".gitattributes", checkout)
    recipe = make(checkout, "--dry-run", "hooks").stdout
    commands = [line for line in recipe.splitlines() if line.startswith("git config")]
    assert commands
    (checkout / ".venv/bin").mkdir(parents=True)
    python = checkout / ".venv/bin/python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n', encoding="utf-8")
    python.chmod(0o755)
    for command in commands:
        subprocess.run(["bash", "-c", command], cwd=checkout, check=True)
    output = {"output_type": "stream", "name": "stdout", "text": ["secret"]}
    cell = {
        "cell_type": "code", "id": "own-id", "metadata": {"tags": ["parameters"]},
        "execution_count": 3, "outputs": [output], "source": [],
    }  # fmt: skip
    notebook = {"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    (checkout / "a.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
    subprocess.run(["git", "add", "a.ipynb"], cwd=checkout, check=True)
    show = ["git", "show", ":a.ipynb"]
    stored = subprocess.run(show, cwd=checkout, capture_output=True, text=True, check=True).stdout
    assert "secret" not in stored
    assert "own-id" in stored
    assert "parameters" in stored
