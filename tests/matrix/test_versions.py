"""The wheel does its main job with the oldest and the newest versions that pyproject.toml allows.

Run by `make matrix`; needs the network, and takes minutes for each environment.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.house.files import ROOT
from tests.house.wheel import build_wheel, run_installed

pytestmark = [pytest.mark.matrix, pytest.mark.timeout(1800)]


def runs(python: str) -> bool:
    """Return whether a name is a Python that runs: version managers leave names of others too."""
    found = shutil.which(python)
    return (
        found is not None and subprocess.run([found, "-c", ""], capture_output=True).returncode == 0
    )


PYTHONS = [name for minor in range(11, 15) if runs(name := f"python3.{minor}")]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel once for all environments."""
    return build_wheel(tmp_path_factory.mktemp("dist"))


def lowest_versions() -> list[str]:
    """Return the runtime requirements with every lower bound as the exact version."""
    table = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return [text.replace(">=", "==") for text in table["project"]["dependencies"]]


def install(folder: Path, python: str, *requirements: str) -> None:
    """Make an environment in `folder` and install `requirements` from the user's index."""
    subprocess.run([python, "-m", "venv", folder], check=True)
    # The user's pip configuration lies where the private folders of a test hide it.
    env = {name: value for name, value in os.environ.items() if not name.startswith("XDG_")}
    command = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", *requirements]
    subprocess.run(command, check=True, env=env, cwd=folder, stdin=subprocess.DEVNULL)


def check_main_job(environment: Path) -> None:
    """Look around, chat and run the first notebook; leave no server."""
    try:
        json.loads(run_installed(environment, "workbench", "doctor", "--json"))
        run_installed(environment, "workbench", "demo")
    finally:
        run_installed(environment, "workbench", "stop")


def test_lowest_versions(wheel: Path, tmp_path: Path) -> None:
    """The lower bounds of the dependencies are versions that work."""
    install(tmp_path, sys.executable, str(wheel), *lowest_versions())
    check_main_job(tmp_path)


@pytest.mark.parametrize("python", PYTHONS)
def test_newest_versions(python: str, wheel: Path, tmp_path: Path) -> None:
    """The newest versions of the dependencies work with each Python that is installed here."""
    install(tmp_path, python, str(wheel))
    check_main_job(tmp_path)
