from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.cli.harness import Cli
from workbench import resources
from workbench.config import load_config
from workbench.lab import copy_notebooks, has_browser, lab_command, lab_environment

NAME = "01_chat.ipynb"


@pytest.fixture
def bundled(tmp_path: Path) -> Path:
    """Return a folder with one bundled notebook."""
    folder = tmp_path / "bundled"
    folder.mkdir()
    (folder / NAME).write_text("one", encoding="utf-8")
    return folder


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """Return where the copies go."""
    return tmp_path / "work"


def texts(work: Path) -> dict[str, str]:
    """Return the notebooks of a work folder with their text."""
    return {path.name: path.read_text(encoding="utf-8") for path in work.glob("*.ipynb")}


def test_first_start_copies(bundled: Path, work: Path) -> None:
    """The first start copies the notebooks, and has nothing to tell."""
    assert [] == copy_notebooks(bundled, work)
    assert {NAME: "one"} == texts(work)


def test_untouched_copy_is_renewed(bundled: Path, work: Path) -> None:
    """A copy the user did not change follows the bundled notebook."""
    copy_notebooks(bundled, work)
    (bundled / NAME).write_text("two", encoding="utf-8")
    assert [] == copy_notebooks(bundled, work)
    assert {NAME: "two"} == texts(work)


def test_changed_copy_is_kept(bundled: Path, work: Path) -> None:
    """A copy the user changed stays while the bundled notebook is the same."""
    copy_notebooks(bundled, work)
    (work / NAME).write_text("mine", encoding="utf-8")
    assert [] == copy_notebooks(bundled, work)
    assert {NAME: "mine"} == texts(work)


def test_new_version_goes_beside_a_changed_copy(bundled: Path, work: Path) -> None:
    """A new version is put beside the user's own, once, and told."""
    copy_notebooks(bundled, work)
    (work / NAME).write_text("mine", encoding="utf-8")
    (bundled / NAME).write_text("two", encoding="utf-8")
    (notice,) = copy_notebooks(bundled, work)
    assert {NAME: "mine", "01_chat (new).ipynb": "two"} == texts(work)
    assert "01_chat (new).ipynb" in notice
    (work / "01_chat (new).ipynb").unlink()
    assert [] == copy_notebooks(bundled, work)
    assert {NAME: "mine"} == texts(work)


def test_newer_version_never_replaces_a_changed_one(bundled: Path, work: Path) -> None:
    """The next version renews an untouched new copy, and goes beside a changed one."""
    copy_notebooks(bundled, work)
    (work / NAME).write_text("mine", encoding="utf-8")
    for text in ("two", "three"):
        (bundled / NAME).write_text(text, encoding="utf-8")
        copy_notebooks(bundled, work)
    assert {NAME: "mine", "01_chat (new).ipynb": "three"} == texts(work)
    (work / "01_chat (new).ipynb").write_text("mine too", encoding="utf-8")
    (bundled / NAME).write_text("four", encoding="utf-8")
    copy_notebooks(bundled, work)
    assert "mine too" == texts(work)["01_chat (new).ipynb"]
    assert "four" == texts(work)["01_chat (new 2).ipynb"]


@pytest.mark.parametrize("state", ["", "[]", "{", '{"written": 1}'])
def test_lost_memory_loses_no_work(bundled: Path, work: Path, state: str) -> None:
    """Without what was remembered every copy counts as the user's."""
    copy_notebooks(bundled, work)
    (work / ".workbench.json").write_text(state, encoding="utf-8")
    (bundled / NAME).write_text("two", encoding="utf-8")
    copy_notebooks(bundled, work)
    assert {NAME: "one", "01_chat (new).ipynb": "two"} == texts(work)


def test_options_of_the_user_come_last(work: Path) -> None:
    """What the user gives to Jupyter wins over what the workbench gives."""
    command = lab_command(work, ["--port", "8899", "--no-browser"])
    assert ["--port", "8899", "--no-browser"] == command[-3:]
    assert [sys.executable, "-P", "-m", "jupyterlab"] == command[:4]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a matter of Linux")
def test_browser_needs_a_display() -> None:
    """Without a display no browser is opened, so the address is printed to be copied."""
    assert not has_browser({})
    assert has_browser({"WAYLAND_DISPLAY": "wayland-0"})


def test_kernels_get_absolute_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Folders that are relative to where the command was started are the same for kernels."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WORKBENCH_DATA_DIR", "data")
    monkeypatch.setenv("WORKBENCH_MODELS_DIR", "models")
    monkeypatch.setenv("WORKBENCH_CONFIG", "my.toml")
    (tmp_path / "my.toml").touch()
    env = lab_environment(load_config(), os.environ)
    assert [tmp_path / "data", tmp_path / "models", tmp_path / "my.toml"] == [
        Path(env[name])
        for name in ("WORKBENCH_DATA_DIR", "WORKBENCH_MODELS_DIR", "WORKBENCH_CONFIG")
    ]


def lab_address(process: subprocess.Popen[str]) -> tuple[str, str, str]:
    """Wait until JupyterLab says where it is; return address, token and all it said."""
    assert process.stderr is not None
    said = ""
    # The address stands in the log before, when nothing listens there yet.
    address = re.compile(
        rf"copy and paste.*(http://127\S+/)lab/tree/{NAME}\?token=(\w+)", re.DOTALL
    )
    while not (found := address.search(said)):
        line = process.stderr.readline()
        assert line, said
        said += line
    return found[1], found[2], said


def test_lab_starts_at_the_first_notebook(fresh: Cli) -> None:
    """`workbench lab` starts the server and JupyterLab, and prints the address to open."""
    wrong = Path(fresh.environment["JUPYTER_DATA_DIR"]) / "kernels" / "python3"
    wrong.mkdir(parents=True)
    spec = {"argv": ["/no/such/python"], "display_name": "Wrong", "language": "python"}
    (wrong / "kernel.json").write_text(json.dumps(spec), encoding="utf-8")
    process = fresh.start("lab", "--no-browser", "--port=0", "--ServerApp.ip=127.0.0.1")
    said = ""
    try:
        address, token, said = lab_address(process)
        kernel = json.loads(fetch(f"{address}api/kernelspecs", token))
        assert "Wrong" != kernel["kernelspecs"]["python3"]["spec"]["display_name"]
        assert "JupyterLab" in fetch(f"{address}lab/tree/{NAME}", token)
    finally:
        process.send_signal(signal.SIGTERM)
        said += process.communicate(timeout=60)[1]
    assert "error" not in said.lower()
    assert fresh.json("status")["auto_started"] is True
    copy = fresh.base / "work" / NAME
    assert (resources.notebooks_dir() / NAME).read_bytes() == copy.read_bytes()


def fetch(url: str, token: str) -> str:
    """Get a page of Jupyter, which prints its address a moment before it listens there."""
    request = urllib.request.Request(url, headers={"Authorization": f"token {token}"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + 30
    while True:
        try:
            with opener.open(request, timeout=60) as answer:
                text: str = answer.read().decode()
            return text
        except urllib.error.URLError as exc:
            if time.monotonic() > deadline or not isinstance(exc.reason, ConnectionRefusedError):
                raise
            time.sleep(0.1)
