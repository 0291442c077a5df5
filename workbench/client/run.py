"""What is known of the run a kernel is: its notebook, its code, its packages."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import platform
import re
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from workbench._version import __version__
from workbench.client.ambient import current_context
from workbench.client.http import HttpClient
from workbench.client.records import Records, close_records
from workbench.errors import WorkbenchError
from workbench.portal import get_portal
from workbench.units import sortable_id, utc_now

RunKind = Literal["interactive", "papermill"]

_PACKAGES = (
    "duckdb", "httpx", "ipykernel", "ipywidgets", "jupyterlab", "msgspec", "nbclient", "numpy",
    "pandas", "papermill", "plotly", "xllamacpp",
)  # fmt: skip
_GIT_S = 2.0


def run_row(run_id: str, kind: RunKind) -> dict[str, Any]:
    """Return the row of a run that begins now; what is not known is left out."""
    row = {
        "id": run_id,
        "run_id": run_id,
        "ts": utc_now(),
        "status": "open",
        "kind": kind,
        # What Jupyter tells its kernels: the path of the notebook they were started for.
        "notebook": os.environ.get("JPY_SESSION_NAME"),
        "host": platform.node(),
        "os": platform.platform(),
        "python": platform.python_version(),
        "packages": dict(filter(None, map(_installed, _PACKAGES))),
        "workbench_version": __version__,
        **_git(Path.cwd()),
    }
    return {name: value for name, value in row.items() if value is not None}


async def begin_run(client: HttpClient, kind: RunKind) -> None:
    """Record the run this process is: now, and at its end that it ended; on the portal.

    The requests and spans of the client carry its id from here on.  A process that is killed
    writes no end; its row then reads `lost`.  A process of a plan's run is part of that one.
    """
    if current_context().get("run_id"):
        return
    records = client.records
    if records is None:
        return
    run_id = records.run_id = client.run_id = sortable_id()
    row = await asyncio.to_thread(run_row, run_id, kind)
    records.write("runs", row)
    atexit.register(_end_run, records, row)


def _end_run(records: Records, row: dict[str, Any]) -> None:
    async def write() -> None:
        records.write("runs", {**row, "status": "ok", "ended": utc_now()})

    # A process that ends in disorder has no portal any more: then the row reads `lost`.
    with contextlib.suppress(RuntimeError, WorkbenchError):
        get_portal().run(write())
        close_records(records)


def _installed(name: str) -> tuple[str, str] | None:
    try:
        return name, version(name)
    except PackageNotFoundError:
        return None


def _git(folder: Path) -> dict[str, Any]:
    """Return origin, commit and whether there are changes; nothing outside of a repository."""
    commit = _git_says(folder, "rev-parse", "HEAD")
    if commit is None:
        return {}
    changes = _git_says(folder, "status", "--porcelain", "--untracked-files=no")
    origin = _git_says(folder, "remote", "get-url", "origin")
    return {
        "git_commit": commit,
        "git_dirty": None if changes is None else bool(changes),
        # A password in the address is nobody's business.
        "git_origin": re.sub(r"//[^/@]*@", "//", origin) if origin else None,
    }


def _git_says(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            timeout=_GIT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
