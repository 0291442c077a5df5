"""Old runs are removed, and nothing else."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.plans.runs.conftest import Here
from tests.plans.runs.work import plan_of, work
from workbench.locks import FileLock
from workbench.plans.clean import OldRun, clean_runs
from workbench.plans.folder import RunFolder, all_runs
from workbench.plans.handle import list_runs

DAY_S = 86400.0
PLAN = plan_of(work("one", value="x" * 5000), work("two", "one", value=2))


def ended(here: Here, *, days: float, ask: bool = False, out: Path | None = None) -> RunFolder:
    """Make a run to which nothing happened for so many days."""
    plan = plan_of(work("ok", ask="Go?")) if ask else PLAN
    run = here.settled(plan, here.folder(plan, out=out))
    run.finish()
    folder = RunFolder(run.folder)
    status = "waiting" if ask else "done"
    run._stage.journal.write("run_finished", status=status)
    aged(folder, days)
    return folder


def aged(folder: RunFolder, days: float) -> None:
    """Let a run be of that age."""
    for path in (folder.info, folder.journal):
        os.utime(path, (time.time() - days * DAY_S,) * 2)


def cleaned(here: Here, *, days: float = 30, dry_run: bool = False) -> dict[str, OldRun]:
    """Remove what is older."""
    found = clean_runs(here.data_dir, older_than_s=days * DAY_S, dry_run=dry_run)
    return {run.run_id: run for run in found}


def test_old_runs_are_removed_and_what_they_took_is_told(here: Here) -> None:
    """Newer ones stay; a dry run tells the same and removes nothing."""
    old, new = ended(here, days=31), ended(here, days=29)
    size = sum(p.stat().st_size for p in old.path.rglob("*") if p.is_file())
    told = cleaned(here, dry_run=True)
    assert {old.path.name} == set(told)
    assert {old.path, new.path} == {folder.path for folder in all_runs(here.data_dir)}
    assert told == cleaned(here)
    run = told[old.path.name]
    assert ("tried", "done", size, "") == (run.plan, run.status, run.size_bytes, run.kept)
    assert size > 10_000
    assert not old.path.exists()
    assert [new.path.name] == [row.run_id for row in list_runs(here.data_dir)]
    assert {} == cleaned(here)


@pytest.mark.parametrize("dry_run", [True, False], ids=["dry", "real"])
def test_a_run_that_goes_on_or_waits_stays(here: Here, tmp_path: Path, dry_run: bool) -> None:
    """So does one in a folder that somebody chose, and one whose file is damaged."""
    waits = ended(here, days=90, ask=True)
    lost = ended(here, days=90, ask=True)
    lines = lost.journal.read_text().splitlines()
    lost.journal.write_text("\n".join(line for line in lines if "run_finished" not in line) + "\n")
    aged(lost, 90)
    elsewhere = ended(here, days=90, out=tmp_path / "mine")
    damaged = ended(here, days=90)
    damaged.info.write_text("{")
    aged(damaged, 90)
    goes_on, kernel = ended(here, days=90), ended(here, days=90)
    with FileLock(goes_on.lock), FileLock(kernel.kernel_lock):
        told = cleaned(here, dry_run=dry_run)
    kept = {run_id: run.kept for run_id, run in told.items()}
    chosen = next(name for name, why in kept.items() if "mine" in why)
    assert {
        waits.path.name: "it waits for an answer",
        lost.path.name: "it waits for an answer",
        chosen: f"it lies in {elsewhere.path}",
        damaged.path.name: "its run.json cannot be read",
        goes_on.path.name: "it goes on",
        kernel.path.name: "it goes on",
    } == kept
    assert all(run.size_bytes is None for run in told.values())
    for folder in (waits, lost, elsewhere, damaged, goes_on, kernel):
        assert folder.info.exists()
        assert folder.journal.exists()


def test_what_a_link_leads_to_stays(here: Here, tmp_path: Path) -> None:
    """A link in a run's folder goes; a run's folder that is a link itself stays."""
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "data").write_text("mine")
    old, moved = ended(here, days=31), ended(here, days=31)
    (old.path / "steps" / "link").symlink_to(precious)
    (old.path / "link").symlink_to(precious)
    moved.path.rename(tmp_path / "moved")
    moved.path.symlink_to(tmp_path / "moved")
    told = cleaned(here)
    assert "" == told[old.path.name].kept
    assert "it lies in" in told[moved.path.name].kept
    assert not old.path.exists()
    assert "mine" == (precious / "data").read_text()
    assert (tmp_path / "moved" / "run.json").exists()


def test_a_removal_that_broke_off_is_taken_up(here: Here) -> None:
    """What is left of a run is removed the next time."""
    old = ended(here, days=31)
    old.journal.unlink()
    assert "" == cleaned(here)[old.path.name].kept
    assert not old.path.exists()
