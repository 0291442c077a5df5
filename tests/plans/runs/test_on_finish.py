"""The command that a run's own process tells when the run ends or waits."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

from tests.plans.runs.processes import LIMIT_S, began, kernel_of, offer_kinds, until
from tests.plans.runs.work import plan_of, work
from workbench.errors import ConfigError
from workbench.plans import news
from workbench.plans.create import RunOptions
from workbench.plans.handle import RunHandle
from workbench.plans.news import News, checked_command, command_of, run_command
from workbench.plans.spec import Plan
from workbench.plans.start import approve_run, start_run

NOTE = (
    "import os, sys; told = [os.environ['WORKBENCH_RUN_' + n] for n in ('STATUS', 'PLAN', 'ID')];"
    "open(sys.argv[1], 'a').write(' '.join([*told, *sys.argv[2:]]) + '\\n')"
)


@pytest.fixture(autouse=True)
def kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let kernels know the kind of the tests."""
    monkeypatch.setenv("PYTHONPATH", offer_kinds(tmp_path / "site"))


def started(tmp_path: Path, plan: Plan, *command: str, wait: bool = False) -> RunHandle:
    """Start a run that tells a command."""
    options = RunOptions(on_finish=command, wait=wait)
    data_dir = tmp_path / "data"
    env = {"WORKBENCH_DATA_DIR": str(data_dir)}
    return start_run(plan, data_dir=data_dir, options=options, env=env)


def told(run: RunHandle) -> list[tuple[str, str]]:
    """Return what the journal says of the command: the status that was told, and its error."""
    return [
        (line["status"], line.get("error", {}).get("message", ""))
        for line in run.events()
        if line["event"] == "on_finish"
    ]


def test_a_run_tells_that_it_waits_and_that_it_is_done(tmp_path: Path) -> None:
    """Each is told once, by no kernel of a notebook, and to the same command after a resume."""
    out = tmp_path / "told"
    plan = plan_of(work("ok", ask="Publish?"), work("after", "ok", value=1))
    run = started(tmp_path, plan, sys.executable, "-c", NOTE, str(out), "{text}", "{other}")
    assert "waiting" == run.wait(LIMIT_S).status
    assert f"waiting tried {run.run_id} tried waits for your answer at ok. {{other}}\n" == (
        out.read_text()
    )
    resumed = approve_run(run.folder, "ok", yes=True)
    assert resumed is not None
    assert "done" == resumed.wait(LIMIT_S).status
    assert f"done tried {run.run_id} tried is done. {{other}}" == out.read_text().splitlines()[1]
    assert [("waiting", ""), ("done", "")] == told(run)


def test_the_command_can_answer(tmp_path: Path) -> None:
    """It is told when the run has let go of its folder, so that it can answer and go on."""
    plan = plan_of(work("ok", ask="Publish?"), work("after", "ok", value=1))
    answer = ("approve", "{run_id}", "ok", "--yes")
    run = started(tmp_path, plan, sys.executable, "-m", "workbench", *answer)
    # When the run is done its question is answered, which this command takes for its failure.
    until(lambda: len(told(run)) == 2, run)
    assert "done" == run.state().status
    assert {"waiting", "done"} == {status for status, _ in told(run)}
    assert "was answered already: yes" in "".join(error for _, error in told(run))


def test_a_run_that_stays_tells_of_its_question(tmp_path: Path) -> None:
    """With `wait` the process goes on, and has told while it waits."""
    plan = plan_of(work("ok", ask="Publish?"))
    run = started(tmp_path, plan, sys.executable, "-c", "", wait=True)
    until(lambda: told(run) == [("waiting", "")], run)
    assert run.alive
    approve_run(run.folder, "ok", yes=True)
    until(lambda: told(run) == [("waiting", ""), ("done", "")], run)


@pytest.mark.parametrize("fails", [0, 1], ids=["done", "failed"])
def test_a_command_that_fails_changes_nothing(tmp_path: Path, fails: int) -> None:
    """The run has the status and the exit code it has without; the failure is logged."""
    command = (sys.executable, "-c", "import sys; sys.exit('no bell')")
    run = started(tmp_path, plan_of(work("one", value=1, fails=fails)), *command)
    status = ("done", "failed")[fails]
    assert status == run.wait(LIMIT_S).status
    assert [(status, "on_finish ended with code 1: no bell")] == told(run)
    assert "on_finish ended with code 1: no bell" in run.folder.log.read_text()
    assert fails == run._process.wait(LIMIT_S)  # type: ignore[union-attr]
    assert status == json.loads(run.folder.record.read_text())["status"]


def test_a_command_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With all it started; one that leaves something behind is not waited for."""
    script = (
        "import subprocess, sys; hang = [sys.executable, '-c', 'import time; time.sleep(600)'];"
        "p = subprocess.Popen(hang); open(sys.argv[1], 'w').write(str(p.pid));"
        "sys.argv[2:] or p.wait()"
    )
    about, pid = News("1", "tried", "done", tmp_path), tmp_path / "pid"
    run_command([sys.executable, "-c", script, str(pid), "leave"], about)
    left = psutil.Process(int(pid.read_text()))
    left.kill()
    monkeypatch.setattr(news, "COMMAND_S", 2.0)
    with pytest.raises(ConfigError, match="took over 2 s"):
        run_command([sys.executable, "-c", script, str(pid)], about)
    psutil.wait_procs(_known(int(pid.read_text())), timeout=LIMIT_S)
    assert [] == _known(int(pid.read_text()))


def _known(pid: int) -> list[psutil.Process]:
    """Return a process that has not ended."""
    try:
        found = psutil.Process(pid)
        return [] if found.status() == psutil.STATUS_ZOMBIE else [found]
    except psutil.NoSuchProcess:
        return []


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ((), "neither"),
        ("notify-send", "neither"),
        (["a", 1], "neither"),
        (["no-such-program-x"], "there is no program 'no-such-program-x'"),
    ],
    ids=["empty", "text", "number", "unknown"],
)
def test_what_cannot_be_run_is_refused(command: Sequence[str], said: str) -> None:
    """Before anything runs."""
    with pytest.raises(ConfigError, match=said):
        checked_command(command)


def test_a_path_of_a_program_starts_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run works in its own folder, but the program lies where it was named."""
    program = tmp_path / "tell.sh"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    assert [str(program), "./x"] == checked_command(["./tell.sh", "./x"])
    assert ["sh", "-c"] == checked_command(["sh", "-c"])


def test_what_is_filled_in_is_a_text(tmp_path: Path) -> None:
    """A name with braces in it is filled in as it stands, and so are braces that mean nothing."""
    about = News("1", "{status} $HOME", "done", tmp_path, text="told")
    made = command_of(["say", "{plan}: {text}", "{other} {{run_id}}"], about)
    assert ["say", "{status} $HOME: told", "{other} {1}"] == made


def test_only_the_end_of_what_a_command_says_is_kept(tmp_path: Path) -> None:
    """However much that is."""
    script = "import sys; sys.stderr.write('x' * 3_000_000 + ' the end'); sys.exit(3)"
    with pytest.raises(ConfigError, match=r"code 3: x+ the end$") as failed:
        run_command([sys.executable, "-c", script], News("1", "tried", "done", tmp_path))
    assert len(failed.value.message) < 400


@pytest.mark.skipif(not hasattr(psutil, "RLIMIT_FSIZE"), reason="limits of others are of Linux")
def test_a_full_disk_is_told_of_and_the_run_goes_on_later(tmp_path: Path) -> None:
    """Where not even the end of a run can be written it has failed for whom it tells."""
    gate, out = tmp_path / "gate", tmp_path / "told"
    plan = plan_of(work("first", until=str(gate), value=1), work("last", "first", value=2))
    run = started(tmp_path, plan, sys.executable, "-c", NOTE, str(out))
    until(lambda: began(run, "first"), run)
    full = run.folder.journal.stat().st_size
    for pid in (run.state().pid, kernel_of(run)):
        psutil.Process(pid).rlimit(psutil.RLIMIT_FSIZE, (full, full))
    gate.touch()
    assert "lost" == run.wait(LIMIT_S).status
    assert f"failed tried {run.run_id}\n" == out.read_text()
    log = run.folder.log.read_text()
    assert "the end of the run could not be written" in log
    assert "Make room on the disk, then: workbench resume." in log
    assert 1 == run._process.wait(LIMIT_S)  # type: ignore[union-attr]
    resumed = run.resume()
    assert "done" == resumed.wait(LIMIT_S).status
    assert 2 == resumed.outputs("last")["value"]
