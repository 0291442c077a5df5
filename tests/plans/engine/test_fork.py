"""Kernels of the fork server: as separate as spawned ones, and never left behind."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Iterator
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
from tests.plans.engine.test_stopped import spawn_run
from workbench.errors import PlanError
from workbench.plans.engine import aexecute, warm_up
from workbench.plans.engine.forking import ForkServer, close_servers, fork_server

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="kernels are forked on Linux only")

_TELL = """
import json, os, random, signal, sys
import numpy
facts = {
    "pid": os.getpid(), "parent": os.getppid(), "session": os.getsid(0), "group": os.getpgid(0),
    "random": random.random(), "numpy": numpy.random.rand(),
    "sockets": [os.readlink(f"/proc/self/fd/{n}") for n in range(3, 200)
                if os.path.exists(f"/proc/self/fd/{n}")],
}
print(json.dumps(facts))
"""
_MEET = (
    _TELL
    + """
import pathlib, time
pathlib.Path(f"../here-{pathlib.Path.cwd().name}").touch()
while len(list(pathlib.Path("..").glob("here-*"))) < 4:
    time.sleep(0.01)
"""
)
_THREAD = """
import threading, time
threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
"""
# What must be the same in a forked kernel and in a spawned one.
_SAME = """
import json, os, signal, sys, threading
import duckdb, ipywidgets, pandas, plotly.express, plotly.io
print(json.dumps({
    "folder": os.getcwd(), "path": sys.path, "arguments": sys.argv[1:2], "flags": str(sys.flags),
    "stdin": sys.stdin is None or sys.stdin.isatty(), "asked": os.environ.get("ASKED"),
    "environment": sorted(set(os.environ) - {"JPY_PARENT_PID"}),
    "handlers": [str(signal.getsignal(n)) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)],
    "mask": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
    "renderer": plotly.io.renderers.default,
    "targets": sorted(get_ipython().kernel.comm_manager.targets),
    "threads": len(os.listdir("/proc/self/task")), "main": sys.modules["__main__"].__name__,
    "linear algebra": float(pandas.DataFrame([[1.0, 2.0], [3.0, 4.0]]).dot([1.0, 1.0])[1]),
    "database": duckdb.sql("select 42").fetchall()[0][0],
    "backend": os.environ.get("MPLBACKEND"),
}, default=str))
"""


@pytest.fixture(scope="module", autouse=True)
def server() -> Iterator[None]:
    """Leave no fork server behind."""
    yield
    close_servers()


def test_four_kernels_at_once_are_separate(tmp_path: Path) -> None:
    """Each has its session, its chance and its sockets; all are children of one server."""

    async def all_of_them() -> list[Any]:
        paths = [write(tmp_path / name / "in.ipynb", _MEET) for name in "abcd"]
        runs = [aexecute(path, path.with_name("out.ipynb"), kernel="fork") for path in paths]
        return await asyncio.gather(*runs)

    warm_up()
    results = asyncio.run(all_of_them())
    assert ["done"] * 4 == [result.status for result in results]
    facts = [json.loads(printed(read(result.output).cells[0])) for result in results]
    assert {fork_server(os.environ).pid} == {fact["parent"] for fact in facts}
    for name in ("pid", "random", "numpy"):
        assert 4 == len({fact[name] for fact in facts}), name
    assert all(fact["pid"] == fact["session"] == fact["group"] for fact in facts)
    sockets = [{link for link in fact["sockets"] if "socket:" in link} for fact in facts]
    assert not set.intersection(*sockets)
    assert all(gone(fact["pid"]) for fact in facts)


def test_a_forked_kernel_is_what_a_spawned_one_is(tmp_path: Path) -> None:
    """Folder, environment, arguments, signals, threads and the state of libraries agree."""
    found = {}
    cells = [_SAME, "ipywidgets.IntSlider(value=7)"]
    for kind in ("spawn", "fork"):
        _, notebook = execute_cells(tmp_path, cells, kernel=kind, env={"ASKED": "yes"})
        found[kind] = json.loads(printed(notebook.cells[0]).splitlines()[-1])
        (saved,) = notebook.metadata.widgets.values()
        assert 7 in [widget.state.get("value") for widget in saved.state.values()]
    assert "plotly_mimetype" == found["fork"]["renderer"]
    assert found["spawn"] == found["fork"]


def test_a_forked_kernel_is_interrupted_and_ends(tmp_path: Path) -> None:
    """A cell past its time is interrupted, as in a spawned kernel."""
    cells = ["n = 1", _TELL + SLEEP, "n"]
    result, notebook = execute_cells(
        tmp_path,
        cells,
        kernel="fork",
        cell_timeout_s=lambda cell: 1.0 if "600" in cell.source else 60,
    )
    assert "timeout" == result.status
    assert "CancelledError" in [out.get("ename") for out in notebook.cells[1].outputs]
    assert gone(json.loads(printed(notebook.cells[1]))["pid"])


def test_a_forked_kernel_that_nobody_waits_for_is_killed(tmp_path: Path) -> None:
    """A run that is cancelled while its kernel is forked leaves none."""
    warm_up()
    server = fork_server(os.environ)
    server.ready.result(timeout=60)
    result, _ = execute_cells(tmp_path, ["n = 1"], kernel="fork", cancel=lambda: True)
    assert "cancelled" == result.status
    kernels = psutil.Process(server.pid).children()
    assert all(gone(kernel.pid) for kernel in kernels)


def test_a_killed_forked_kernel_is_no_success(tmp_path: Path) -> None:
    """Its signal is told, though it is no child of this process."""
    kill = "import os\nos.kill(os.getpid(), 9)"
    result, notebook = execute_cells(tmp_path, ["n = 1", kill, "n"], kernel="fork")
    assert ["completed", "failed", "pending"] == statuses(notebook)
    assert "the kernel died (SIGKILL)" == str(result.error)


def test_forked_kernels_die_with_their_run(tmp_path: Path) -> None:
    """After kill -9 of the run's process, its server and its kernel are gone."""
    told = tmp_path / "told"
    tell = f"print(os.getpid(), os.getppid(), file=open({str(told)!r}, 'w'))\n"
    write(tmp_path / "in.ipynb", "import os\n" + tell + SLEEP)
    process = spawn_run(tmp_path, kernel="fork")
    pids = [int(pid) for pid in wait_for(told).split()]
    process.kill()
    process.communicate()
    assert [True, True] == [gone(pid) for pid in pids]


def test_a_thread_in_the_server_is_refused(tmp_path: Path) -> None:
    """A module that starts a thread when it is imported is named, and nothing is forked."""
    (tmp_path / "starts_a_thread.py").write_text(_THREAD, "utf-8")
    server = ForkServer({**os.environ, "PYTHONPATH": str(tmp_path)}, ["json", "starts_a_thread"])
    try:
        with pytest.raises(PlanError, match="2 threads after importing starts_a_thread") as refused:
            server.ready.result(timeout=60)
        assert refused.value.hint is not None and "kernel='spawn'" in refused.value.hint
        with pytest.raises(PlanError, match="cannot give a kernel"):
            server.fork([], str(tmp_path), {}).result(timeout=60)
    finally:
        server.close()
    assert gone(server.pid)


def test_another_language_is_spawned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the server cannot fork is spawned, and the event says so."""
    spec = tmp_path / "kernels" / "other"
    spec.mkdir(parents=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    about = {"argv": argv, "display_name": "Other", "language": "other"}
    (spec / "kernel.json").write_text(json.dumps(about), "utf-8")
    path = write(tmp_path / "in.ipynb", "print('ran')", kernel="other")
    events: list[Any] = []
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    run = aexecute(path, tmp_path / "out.ipynb", kernel="fork", on_event=events.append)
    result = asyncio.run(run)
    assert ("done", "ran\n") == (result.status, printed(read(result.output).cells[0]))
    kinds = [event["kind"] for event in events if event["event"] == "kernel_started"]
    assert ["spawn"] == kinds
