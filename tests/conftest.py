"""Isolation for every test: private folders, no address or token of the user, no process left."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from hypothesis import settings

from tests.again import (
    pytest_addoption,
    pytest_runtest_protocol,
    pytest_sessionfinish,
    pytest_terminal_summary,
)

__all__ = [
    "pytest_addoption",
    "pytest_runtest_protocol",
    "pytest_sessionfinish",
    "pytest_terminal_summary",
]

_MARK = "WB_TEST_SESSION"
# The one thing of the user's that tests may touch, when asked to: see tests/contract.
_KEPT = {"WORKBENCH_OLLAMA_URL"}
# How long a process may take to end after the test that stopped it, in seconds.
_GRACE_S = 10.0
_FOLDERS = {
    "WORKBENCH_DATA_DIR": "data",
    "XDG_DATA_HOME": "xdg-data",
    "XDG_CONFIG_HOME": "xdg-config",
    "XDG_CACHE_HOME": "xdg-cache",
    "XDG_STATE_HOME": "xdg-state",
    "XDG_RUNTIME_DIR": "run",
    "IPYTHONDIR": "ipython",
    "JUPYTER_CONFIG_DIR": "jupyter-config",
    "JUPYTER_DATA_DIR": "jupyter-data",
    "JUPYTER_RUNTIME_DIR": "jupyter-run",
}


def private_environment(base: Path) -> dict[str, str]:
    """Make private folders below `base` and return the variables that name them."""
    variables = {}
    for name, folder in _FOLDERS.items():
        path = base / folder
        path.mkdir(mode=0o700, exist_ok=True)
        variables[name] = str(path)
    return variables


def _short_folder() -> Path:
    # pytest's own folders are too long for unix sockets (108 bytes).
    return Path(tempfile.mkdtemp(prefix="wb-"))


def pytest_configure(config: pytest.Config) -> None:
    """Leave the user's environment before anything of the workbench is imported."""
    for name in list(os.environ):
        # A `make` that a test runs is no part of the one that runs the tests.
        if name not in _KEPT and name.startswith(("WORKBENCH_", "OLLAMA_", "MAKE", "MFLAGS")):
            del os.environ[name]
    # IPython warns of an environment that is active and not its own.
    os.environ.pop("VIRTUAL_ENV", None)
    # A shell that starts the tests in the background ignores SIGINT for all below it.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    base = _short_folder()
    config.add_cleanup(lambda: shutil.rmtree(base, ignore_errors=True))
    os.environ.update(private_environment(base))
    os.environ[_MARK] = uuid.uuid4().hex
    # The same examples every time, however slow the machine; nothing is written to the checkout.
    settings.register_profile("house", deadline=None, derandomize=True, database=None)
    settings.load_profile("house")


@pytest.fixture(autouse=True)
def private_folders(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give each test its own data, configuration and runtime folders, below the one yielded."""
    base = _short_folder()
    for name, value in private_environment(base).items():
        monkeypatch.setenv(name, value)
    yield base
    shutil.rmtree(base, ignore_errors=True)


def _left_processes() -> list[psutil.Process]:
    left = []
    for process in psutil.process_iter():
        try:
            marked = process.environ().get(_MARK) == os.environ[_MARK]
            if marked and process.pid != os.getpid() and process.status() != "zombie":
                left.append(process)
        except (psutil.Error, OSError):
            continue
    return left


@pytest.fixture(scope="session", autouse=True)
def no_process_left() -> Iterator[None]:
    """Fail the session when a process that a test started is still there at its end."""
    yield
    _, alive = psutil.wait_procs(_left_processes(), timeout=_GRACE_S)
    described = []
    for process in alive:
        try:
            described.append(f"{process.pid}: {' '.join(process.cmdline())}")
            process.kill()
        except psutil.Error:
            continue
    assert not described, "tests left processes behind:\n" + "\n".join(described)
