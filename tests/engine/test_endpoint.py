"""Sockets of engines are private, short enough, and cleaned up after a killed server."""

from __future__ import annotations

import os
import socket
import stat
import tempfile
from pathlib import Path

import pytest

from workbench.server.engine import endpoint
from workbench.server.engine.endpoint import open_endpoint, sweep


def age(path: Path) -> None:
    """Make a file look two minutes old."""
    old = path.stat().st_mtime - 120
    os.utime(path, (old, old))


def test_folder_is_private() -> None:
    """A folder made for one socket can be entered by its owner only, and goes with it."""
    found = open_endpoint()
    assert found.folder is not None
    assert stat.S_IMODE(found.folder.stat().st_mode) == 0o700
    found.remove()
    assert not found.folder.exists()
    found.remove()


def test_open_folder_is_not_used(tmp_path: Path) -> None:
    """A folder that others may enter is not used for sockets."""
    folder = tmp_path / "s"
    folder.mkdir(mode=0o755)
    found = open_endpoint(folder)
    assert found.socket_path is not None
    assert folder != found.socket_path.parent
    found.remove()


def test_long_path_is_not_used(private_folders: Path) -> None:
    """A path that a socket address cannot hold is replaced by a short one."""
    found = open_endpoint(private_folders / ("x" * 120))
    assert len(os.fsencode(found.host)) <= endpoint.MAX_SOCKET_PATH_BYTES
    found.remove()


def test_long_temporary_folder(private_folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the temporary folder has too long a path, /tmp is used."""
    monkeypatch.setattr(tempfile, "tempdir", str(private_folders / ("x" * 120)))
    found = open_endpoint()
    assert found.host.startswith("/tmp/")
    found.remove()


@pytest.mark.parametrize("choose", [True, False])
def test_loopback(choose: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without unix sockets it is loopback, with a free port for engines that cannot choose."""
    monkeypatch.setattr(endpoint, "UNIX_SOCKETS", False)
    found = open_endpoint(choose_port=choose)
    assert ("127.0.0.1", None, choose) == (found.host, found.socket_path, found.port > 0)
    found.remove()


def test_sweep_removes_dead_sockets_only(private_folders: Path) -> None:
    """Sockets that nobody listens on go, with their folder; those in use and young ones stay."""
    base = private_folders / "t"
    folders = {name: base / f"{endpoint.FOLDER_PREFIX}{name}" for name in ("dead", "used", "new")}
    sockets = {name: socket.socket(socket.AF_UNIX) for name in folders}
    for name, folder in folders.items():
        folder.mkdir(parents=True)
        sockets[name].bind(str(folder / "a.sock"))
    sockets["used"].listen()
    for name in ("dead", "used"):
        age(folders[name])
    for name in ("dead", "new"):
        sockets[name].close()
    sweep(base)
    sockets["used"].close()
    assert {"used", "new"} == {name for name, folder in folders.items() if folder.exists()}
