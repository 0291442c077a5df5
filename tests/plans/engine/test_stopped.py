"""What stops an execution: a dead kernel, time, a wish to cancel, Ctrl-C, a killed process."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.plans.engine.notebooks import (
    SLEEP,
    execute_cells,
    gone,
    printed,
    read,
    statuses,
    wait_for,
    write,
)
from workbench.errors import StoreError
from workbench.plans.engine import aexecute
from workbench.plans.engine.saving import Saver, atomic_writer
from workbench.plans.journal import read_lines

_PID = "import os\nprint(os.getpid(), flush=True)\n"
_STUBBORN = """
import os, time
print(os.getpid(), flush=True)
while True:
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        print('no', flush=True)
"""
_POLITE = """
import asyncio, os
print(os.getpid(), flush=True)
try:
    await asyncio.sleep(600)
finally:
    print('tidied', flush=True)
"""
_RUN = """
import sys
from pathlib import Path
from workbench.plans.engine import execute
folder = Path(sys.argv[1])
execute(folder / "in.ipynb", folder / "out.ipynb", journal=folder / "cells.jsonl",
        save_every_s=float(sys.argv[2]), kernel=sys.argv[3])
"""


def spawn_run(folder: Path, *, save_every_s: float = 2.0, kernel: str = "spawn") -> Any:
    """Execute `folder`'s notebook in a process of its own."""
    command = [sys.executable, "-c", _RUN, str(folder), str(save_every_s), kernel]
    return subprocess.Popen(command, stderr=subprocess.PIPE, start_new_session=True, text=True)


def test_a_killed_kernel_is_no_success(tmp_path: Path) -> None:
    """The cell is failed with the signal, and later cells are pending."""
    kill = "import os\nos.kill(os.getpid(), 9)"
    result, notebook = execute_cells(tmp_path, ["n = 1", kill, "n"])
    assert ("kernel_died", 1) == (result.status, result.failed_cell)
    assert "the kernel died (SIGKILL)" == str(result.error)
    assert ["completed", "failed", "pending"] == statuses(notebook)
    assert "the kernel died (SIGKILL)" == notebook.cells[1].outputs[-1].evalue
    assert notebook.metadata.papermill.exception is True


def test_a_kernel_that_exits_names_its_code(tmp_path: Path) -> None:
    """A kernel that ended by itself is told with its exit code."""
    result, _ = execute_cells(tmp_path, ["import os\nos._exit(7)"])
    assert "the kernel died (exit code 7)" == str(result.error)


def test_a_cell_past_its_time_is_interrupted(tmp_path: Path) -> None:
    """A cell has its own limit; past it, it may tidy up, is failed, and the kernel is gone."""
    result, notebook = execute_cells(
        tmp_path,
        ["n = 1", (_POLITE, "slow"), "n"],
        cell_timeout_s=lambda cell: 0.5 if "slow" in cell.metadata.tags else None,
    )
    assert ("timeout", 1) == (result.status, result.failed_cell)
    assert ["completed", "failed", "pending"] == statuses(notebook)
    pid, tidied = printed(notebook.cells[1]).splitlines()
    assert "tidied" == tidied
    assert "the cell took longer than it may (0.5 s)" == notebook.cells[1].outputs[-1].evalue
    assert gone(int(pid))


def test_a_cell_that_ignores_interrupts_is_killed(tmp_path: Path) -> None:
    """After the grace the kernel is killed; what the cell printed until then is kept."""
    journal = tmp_path / "cells.jsonl"
    result, notebook = execute_cells(
        tmp_path, [_STUBBORN], cell_timeout_s=lambda _: 0.5, grace_s=0.5, journal=journal
    )
    assert "timeout" == result.status
    pid, answer = printed(notebook.cells[0]).splitlines()
    assert "no" == answer
    assert gone(int(pid))
    assert "kernel_killed" in [line["event"] for line in read_lines(journal)[0]]


@pytest.mark.parametrize("how", ["event", "predicate"])
def test_a_wish_to_cancel_interrupts_the_cell(tmp_path: Path, how: str) -> None:
    """The running cell is interrupted and failed as cancelled, and no other is begun."""
    wish = threading.Event()

    def on_event(event: Any) -> None:
        if event["event"] == "cell_started" and event["index"] == 1:
            wish.set()

    cancel = wish if how == "event" else wish.is_set
    result, notebook = execute_cells(
        tmp_path, ["n = 1", SLEEP, "n"], cancel=cancel, on_event=on_event
    )
    assert ("cancelled", 1) == (result.status, result.failed_cell)
    assert ["completed", "failed", "pending"] == statuses(notebook)
    assert "it was cancelled" == notebook.cells[1].metadata.papermill.reason


def test_cancelled_before_it_began(tmp_path: Path) -> None:
    """A run that is cancelled while its kernel starts has no failed cell and leaves no kernel."""
    before = set(psutil.Process().children())
    result, notebook = execute_cells(tmp_path, ["n = 1"], cancel=lambda: True)
    assert set(psutil.Process().children()) <= before
    assert ("cancelled", None) == (result.status, result.failed_cell)
    assert (["pending"], True) == (statuses(notebook), notebook.metadata.papermill.exception)


def test_a_cancelled_task_saves_and_raises(tmp_path: Path) -> None:
    """When the awaiting task is cancelled, the notebook says so and the kernel is gone."""
    path = write(tmp_path / "in.ipynb", "n = 1", _PID + SLEEP)
    began = asyncio.Event()

    async def run() -> None:
        def on_event(event: Any) -> None:
            if event["event"] == "cell_started" and event["index"] == 1:
                began.set()

        task = asyncio.ensure_future(aexecute(path, tmp_path / "out.ipynb", on_event=on_event))
        await began.wait()
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    notebook = read(tmp_path / "out.ipynb")
    assert ["completed", "failed"] == statuses(notebook)
    assert "it was interrupted" == notebook.metadata.papermill.reason
    assert gone(int(printed(notebook.cells[1])))


def test_control_c_is_no_success(tmp_path: Path) -> None:
    """Ctrl-C ends the process with KeyboardInterrupt, and the notebook says what ran."""
    began = tmp_path / "began"
    tell = f"print('x', file=open({str(began)!r}, 'w'))\n"
    write(tmp_path / "in.ipynb", "n = 1", tell + SLEEP, "n")
    process = spawn_run(tmp_path)
    wait_for(began)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert "KeyboardInterrupt" in stderr
    assert ["completed", "failed", "pending"] == statuses(read(tmp_path / "out.ipynb"))
    assert "cancelled" == read_lines(tmp_path / "cells.jsonl")[0][-1]["status"]


def test_a_killed_run_leaves_whole_files_and_no_kernel(tmp_path: Path) -> None:
    """After kill -9 of the process the notebook is whole, and running cells read as running."""
    pid = tmp_path / "pid"
    tell = f"import os\nprint(os.getpid(), file=open({str(pid)!r}, 'w'))\n"
    write(tmp_path / "in.ipynb", "print('x' * 300_000)", tell + "print('so far')\n" + SLEEP, "n")
    process = spawn_run(tmp_path, save_every_s=0.0)
    kernel = int(wait_for(pid))
    deadline = time.monotonic() + 60
    while printed(read(tmp_path / "out.ipynb").cells[1]) != "so far\n":
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    process.communicate()
    notebook = read(tmp_path / "out.ipynb")
    assert ["completed", "running", "pending"] == statuses(notebook)
    assert 300_001 == len(printed(notebook.cells[0]))
    assert "cell_started" == read_lines(tmp_path / "cells.jsonl")[0][-1]["event"]
    assert gone(kernel)


# Forks a process that saves for each line it reads: importing takes longer than a test should.
_SAVES = """
import os, signal, sys
from pathlib import Path
from nbformat.v4 import new_code_cell, new_notebook, new_output
from workbench.plans.engine.notebook import snapshot, to_bytes
from workbench.plans.engine.saving import atomic_writer
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
write = atomic_writer(Path(sys.argv[1]))
text = "".join(f"{n} of a long output\\n" for n in range(100_000))
notebook = new_notebook(cells=[new_code_cell(outputs=[new_output("stream", text=text)])])
write(to_bytes(snapshot(notebook)))
for line in sys.stdin:
    pid = os.fork()
    while pid == 0:
        write(to_bytes(snapshot(notebook)))
    print(pid, flush=True)
"""


def test_a_kill_at_any_moment_leaves_no_torn_notebook(tmp_path: Path) -> None:
    """Processes that do nothing but save are killed at random; the file is whole every time."""
    chance = random.Random(7)
    output = tmp_path / "out.ipynb"
    command = [sys.executable, "-c", _SAVES, str(output)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as maker:
        assert maker.stdin is not None and maker.stdout is not None
        for _ in range(20):
            maker.stdin.write("one\n")
            maker.stdin.flush()
            pid = int(maker.stdout.readline())
            time.sleep(chance.uniform(0, 0.1))
            os.kill(pid, signal.SIGKILL)
            notebook = json.loads(output.read_text("utf-8"))
            assert "99999 of a long output\n" == notebook["cells"][0]["outputs"][0]["text"][-1]


def test_what_a_killed_save_left_is_removed_later(tmp_path: Path) -> None:
    """Files of saves that never ended are removed once they are old, and only those."""
    output = tmp_path / "out.ipynb"
    old, young, other = (
        tmp_path / name for name in (".out.ipynb.1.part", ".out.ipynb.2.part", "x")
    )
    for path in (old, young, other):
        path.touch()

    os.utime(old, (1, 1))
    os.utime(other, (1, 1))
    atomic_writer(output)
    assert [False, True, True] == [path.exists() for path in (old, young, other)]


def test_a_save_that_fails_is_told_and_tried_again(tmp_path: Path) -> None:
    """A full disk in the middle of a run ends nothing; at the end it is an error."""
    notebook = read(write(tmp_path / "in.ipynb", "n = 1"))
    told: list[str | None] = []
    full = iter([True, False])

    def writer(_: bytes) -> None:
        if next(full, True):
            raise StoreError("No space left.")

    async def save_three_times() -> None:
        def on_saved(size: int, seconds: float, error: str | None) -> None:
            told.append(error)

        saver = Saver(writer, every_s=0.0, on_saved=on_saved)
        for count in (1, 2):
            saver.save_if_due(notebook)
            while len(told) < count:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        with pytest.raises(StoreError, match="No space left"):
            await saver.save(notebook)

    asyncio.run(save_three_times())
    assert ["No space left.", None] == told


def test_saves_take_a_twentieth_of_the_time(tmp_path: Path) -> None:
    """After a save of 20 ms the next is not begun within 19 times as long."""
    path = write(tmp_path / "in.ipynb", "n = 1")
    moments: list[tuple[float, float]] = []

    def slow(_: bytes) -> None:
        began = time.monotonic()
        time.sleep(0.02)
        moments.append((began, time.monotonic()))

    async def ask_all_the_time() -> None:
        saver = Saver(slow, every_s=0.0, on_saved=lambda *_: None)
        deadline = time.monotonic() + 20
        while len(moments) < 3 and time.monotonic() < deadline:
            saver.save_if_due(read(path))
            await asyncio.sleep(0.002)

    asyncio.run(ask_all_the_time())
    gaps = [(b[0] - a[1]) / (a[1] - a[0]) for a, b in itertools.pairwise(moments)]
    assert 2 == len(gaps) and min(gaps) > 18.5
