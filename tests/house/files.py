"""The files of the checkout that the house tests look at, and running tools on them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@cache
def project_files() -> tuple[Path, ...]:
    """Return every file git knows or would add, sorted; ignored files are left out."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    paths = {ROOT / name for name in listed.split("\0") if name}
    return tuple(sorted(path for path in paths if path.is_file()))


def files_under(folder: str, pattern: str) -> list[Path]:
    """Return the project's files below `folder` (`.` for all) that match the glob `pattern`."""
    top = ROOT / folder
    return [p for p in project_files() if p.is_relative_to(top) and p.match(pattern)]


def relative(path: Path) -> str:
    """Name a file as it is named in messages and test ids."""
    return path.relative_to(ROOT).as_posix()


def run_module(
    module: str, *arguments: str, cwd: Path = ROOT, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `python -m module` of this environment and return it with stderr joined to stdout."""
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
