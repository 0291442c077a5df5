"""Building the wheel and running commands of an environment that holds it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.house.files import ROOT, run_module


def build_wheel(folder: Path) -> Path:
    """Build the wheel into `folder` with this environment's build tools: no network is needed."""
    arguments = ("--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT))
    done = run_module("build", *arguments, cwd=folder)
    assert done.returncode == 0, done.stdout
    (built,) = folder.glob("*.whl")
    return built


def run_installed(environment: Path, *command: str) -> str:
    """Run a command of another environment outside the checkout and return what it prints."""
    done = subprocess.run(
        [str(environment / "bin" / command[0]), *command[1:]],
        cwd=environment,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
