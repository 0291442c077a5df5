"""`workbench lab`: JupyterLab on copies of the notebooks, with the server running."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from workbench import resources
from workbench.config import SETTINGS, Config, load_config
from workbench.runtime import ensure_server

FIRST_NOTEBOOK = "01_chat.ipynb"
_STATE = ".workbench.json"


def run_lab(work_dir: Path, arguments: Sequence[str] = ()) -> int:
    """Start JupyterLab in place of this process; where that cannot be done, return its exit code.

    Raises:
        ServerNotRunning: When the server could not be started.
    """
    config = load_config()
    url = config.url or ensure_server(config.data_dir).url
    work_dir = work_dir.absolute()
    for notice in copy_notebooks(resources.notebooks_dir(), work_dir):
        click.echo(notice, err=True)
    click.echo(f"Notebooks: {work_dir}\nServer: {url}", err=True)
    command = lab_command(work_dir, arguments, settings=lab_settings(config.data_dir))
    environment = lab_environment(config, os.environ)
    if os.name == "posix":
        # In place of this process: signals, the terminal and the exit code are Jupyter's own.
        os.execve(command[0], command, environment)
    return subprocess.run(command, env=environment, check=False).returncode


def lab_settings(data_dir: Path) -> Path | None:
    """Write defaults that ask no question at the first start, and return their folder.

    `news_url=None` turns the news off, but not the question whether to read them.  The page is
    told which notebook is ours, so that our extension may run its chat.  A folder that somebody
    made for the whole environment is left to count.
    """
    if (Path(sys.prefix) / "share/jupyter/lab/settings").is_dir():
        return None
    folder = data_dir / "lab"
    folder.mkdir(parents=True, exist_ok=True)
    notification = {"fetchNews": "false", "checkForUpdates": False}
    overrides = {"@jupyterlab/apputils-extension:notification": notification}
    _write(folder / "overrides.json", json.dumps(overrides).encode())
    _write(folder / "page_config.json", json.dumps({"workbenchFirst": FIRST_NOTEBOOK}).encode())
    return folder


def lab_command(
    work_dir: Path, arguments: Sequence[str], *, settings: Path | None = None
) -> list[str]:
    """Return the command line; what the user gave comes last and wins."""
    command = [
        sys.executable,
        # A file of the user's folder must not be taken for a module of Jupyter.
        "-P",
        "-m",
        "jupyterlab",
        f"--ServerApp.root_dir={work_dir}",
        f"--LabApp.default_url=/lab/tree/{FIRST_NOTEBOOK}",
        # Nothing is fetched: it works offline, and asks no questions at the first start.
        "--LabApp.news_url=None",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]
    if settings is not None:
        command.append(f"--LabApp.app_settings_dir={settings}")
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")
    if not has_browser(os.environ):
        command.append("--no-browser")
    return [*command, *arguments]


def has_browser(env: Mapping[str, str]) -> bool:
    """Return whether a browser can be shown here."""
    if not sys.platform.startswith("linux"):
        return True
    return any(env.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))


def lab_environment(config: Config, env: Mapping[str, str]) -> dict[str, str]:
    """Return the environment in which kernels find the same server, whatever their folder is."""
    found = {**env, "WORKBENCH_DATA_DIR": str(config.data_dir)}
    for setting in SETTINGS:
        if setting.kind == "path" and found.get(setting.env):
            found[setting.env] = str(Path(found[setting.env]).expanduser().absolute())
    if found.get("WORKBENCH_CONFIG"):
        found["WORKBENCH_CONFIG"] = str(config.file.absolute())
    # `python3` is this environment, not a kernel that the user installed elsewhere.
    found["JUPYTER_PREFER_ENV_PATH"] = "1"
    return found


@dataclass
class _Copies:
    """What was copied into a work folder.

    Attributes:
        written: File name to the hash of what was written there.
        offered: Bundled notebook to the hash of the version the user was last given.
    """

    written: dict[str, str] = field(default_factory=dict)
    offered: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> _Copies:
        try:
            found: Any = json.loads(path.read_text(encoding="utf-8"))
            return cls(dict(found["written"]), dict(found["offered"]))
        except (OSError, ValueError, TypeError, KeyError):
            # Without it every copy counts as changed by the user, so nothing is lost.
            return cls()


def copy_notebooks(source: Path, work_dir: Path) -> list[str]:
    """Bring the bundled notebooks into `work_dir` and return what the user should know.

    A copy that the user changed is never overwritten: a new version is put beside it.
    """
    work_dir.mkdir(parents=True, exist_ok=True)
    state_path = work_dir / _STATE
    copies = _Copies.read(state_path)
    notices = []
    for path in sorted(source.glob("*.ipynb")):
        notice = _copy(path, work_dir, copies)
        if notice:
            notices.append(notice)
    document = {"written": copies.written, "offered": copies.offered}
    _write(state_path, json.dumps(document, indent=2).encode())
    return notices


def _copy(bundled: Path, work_dir: Path, copies: _Copies) -> str | None:
    data = bundled.read_bytes()
    version = _hash(data)
    target, notice = work_dir / bundled.name, None
    theirs = target.exists() and not _is_ours(target, copies)
    if theirs and _hash(target.read_bytes()) != version:
        if copies.offered.get(bundled.name) == version:
            return None
        target = _beside(target, copies)
        notice = f"{bundled.name} has a new version: {target.name}; yours is as you left it."
    if not target.exists() or _hash(target.read_bytes()) != version:
        _write(target, data)
    copies.written[target.name] = version
    copies.offered[bundled.name] = version
    return notice


def _beside(target: Path, copies: _Copies) -> Path:
    """Return a name beside a copy whose file the user has not changed, or that is free."""
    number = 1
    while True:
        suffix = "(new)" if number == 1 else f"(new {number})"
        path = target.with_name(f"{target.stem} {suffix}{target.suffix}")
        if not path.exists() or _is_ours(path, copies):
            return path
        number += 1


def _is_ours(path: Path, copies: _Copies) -> bool:
    return copies.written.get(path.name) == _hash(path.read_bytes())


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _write(path: Path, data: bytes) -> None:
    """Write by one rename: a full disk must not leave half a notebook."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(data)
    os.replace(temporary, path)
