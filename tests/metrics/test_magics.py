"""The magic in a shell, `wb.metrics`, and what the settings do."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

import workbench
from tests.metrics.conftest import request_row
from workbench.app import Workbench
from workbench.client.door import client_config, open_client
from workbench.config import load_config
from workbench.metrics.journal import open_writer
from workbench.metrics.layout import metrics_dir


@pytest.fixture
def shell(private_folders: Path) -> Iterator[InteractiveShell]:
    """A shell with the extension loaded, and one request in the configured store."""
    with open_writer(load_config()) as writer:
        writer.write("requests", request_row(1))
    # A history would be written when the tests' folder is gone.
    shell = InteractiveShell.instance(config=Config({"HistoryManager": {"enabled": False}}))
    shell.run_line_magic("load_ext", "workbench")
    yield shell
    InteractiveShell.clear_instance()


def run(shell: InteractiveShell, line: str, cell: str) -> Any:
    """Run a cell with the magic."""
    return shell.run_cell_magic("metrics", line, cell)


def test_a_cell_of_sql_gives_a_frame(shell: InteractiveShell) -> None:
    """The cell is one SELECT, and its result is the value of the cell."""
    assert ["r0001"] == list(run(shell, "", "SELECT id\nFROM requests")["id"])


def test_a_result_can_be_kept(shell: InteractiveShell) -> None:
    """With `-o` the frame is kept under a name, and the cell shows nothing."""
    assert run(shell, "-o found", "SELECT id FROM requests") is None
    assert ["r0001"] == list(shell.user_ns["found"]["id"])


def test_a_mistake_is_shown_at_its_place(shell: InteractiveShell) -> None:
    """The error shows the line of the query with a mark below the place."""
    with pytest.raises(UsageError) as caught:
        run(shell, "", "SELECT id,\n  nme\nFROM requests")
    assert str(caught.value).endswith("      nme\n      ^")


@pytest.mark.parametrize("line", ["-o 1x", "--frame", "-t soon"])
def test_a_wrong_option_is_told(shell: InteractiveShell, line: str) -> None:
    """An option that cannot be meant is refused without a traceback."""
    with pytest.raises(UsageError, match="%%metrics"):
        run(shell, line, "SELECT 1")


def test_the_store_of_wb_is_asked(shell: InteractiveShell, tmp_path: Path) -> None:
    """Where `wb` holds a workbench of another data folder, its metrics are asked."""
    config = client_config(data_dir=tmp_path / "other")
    shell.user_ns["wb"] = Workbench(open_client(config, spawn=False), config=config)
    assert run(shell, "", "FROM requests").empty


def test_wb_has_metrics(private_folders: Path) -> None:
    """`wb.metrics` reads the data folder, is opened once, and needs no server."""
    config = client_config()
    with open_writer(config) as writer:
        writer.write("requests", request_row(1))
    with Workbench(open_client(config, spawn=False), config=config) as wb:
        assert wb.metrics is wb.metrics
        assert ["r0001"] == list(wb.metrics.recent()["id"])
        assert metrics_dir(config.data_dir).resolve() == wb.metrics.folder


def test_opening_needs_no_workbench(private_folders: Path) -> None:
    """`workbench.metrics.open(path)` is all that is needed to read a store."""
    config = load_config()
    with open_writer(config, session_id="s1", run_id="run1") as writer:
        writer.write("votes", {})
    code = (
        "import sys, workbench.metrics\n"
        "with workbench.metrics.open(sys.argv[1]) as metrics:\n"
        "    frame = metrics.sql('SELECT session_id, run_id FROM votes')\n"
        "print(*frame.iloc[0])\n"
    )
    command = [sys.executable, "-c", code, metrics_dir(config.data_dir)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "s1 run1\n" == done.stdout


def test_fsync_is_a_setting(private_folders: Path) -> None:
    """`metrics.fsync` decides whether the writer waits for the disk."""
    config = load_config()
    config.data_dir.mkdir(parents=True, exist_ok=True)
    assert not open_writer(config).fsync
    (config.data_dir / "workbench.toml").write_text("[metrics]\nfsync = true\n", encoding="utf-8")
    assert open_writer(load_config()).fsync


def test_the_extension_is_found_by_its_name() -> None:
    """`import workbench` stays light, and the hook of `%load_ext` is there."""
    assert callable(workbench.load_ipython_extension)
