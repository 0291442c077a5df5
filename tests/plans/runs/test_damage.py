"""Files of a run that were torn, cut off or edited: told of, never a crash or a wrong result."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from tests.plans.runs.conftest import Here, events
from tests.plans.runs.work import plan_of, work
from workbench.errors import StoreError, WorkbenchError
from workbench.plans.folder import RunFolder
from workbench.plans.handle import RunHandle, list_runs
from workbench.plans.journal import RunJournal, read_lines
from workbench.plans.record import build_record, read_record, write_record
from workbench.plans.verify.replay import verify_replay
from workbench.portal import get_portal
from workbench.units import utc_now

PLAN = plan_of(work("a", value=1), work("b", "a", value="$a.value"))

NO_OBJECTS = ["", '"text"', "null", "[]", "{}", "5", '{"v": "x"}', '{"v": 1', "\0\0\0"]


def looked_at(here: Here, folder: RunFolder) -> dict[str, str]:
    """Do everything with a run that reads its files; only errors of ours may come out.

    Returns the statuses of its steps after it was opened again, empty when it could not be.
    """
    handle = RunHandle(folder)
    uses: list[Callable[[], object]] = [
        lambda: list_runs(here.data_dir),
        handle.state,
        handle.record,
        lambda: dict(handle.outputs("a")),
        lambda: build_record(folder),
        lambda: read_record(folder),
        lambda: get_portal().run(verify_replay(folder)),
    ]
    for use in uses:
        with contextlib.suppress(WorkbenchError):
            use()
    try:
        return here.settled(PLAN, folder).statuses()
    except WorkbenchError:
        return {}


@pytest.fixture
def folder(here: Here) -> RunFolder:
    """Return a run that is done, with its record."""
    found = RunFolder(here.settled(PLAN).folder)
    write_record(found)
    return found


@pytest.mark.parametrize("text", NO_OBJECTS)
def test_what_was_started_is_unreadable(here: Here, folder: RunFolder, text: str) -> None:
    """The run is left out of lists, and whoever asks for it is told the file."""
    folder.info.write_text(text)
    assert {} == looked_at(here, folder)
    with pytest.raises(StoreError, match=r"run\.json cannot be read"):
        RunHandle(folder).state()


@pytest.mark.parametrize("fields", [{"steps": [1]}, {"models": None}, {"params": 3}, {"who": 1}])
def test_what_was_started_was_edited(
    here: Here, folder: RunFolder, fields: dict[str, object]
) -> None:
    """A field of another form is as if the file could not be read."""
    about = json.loads(folder.info.read_text())
    folder.info.write_text(json.dumps({**about, **fields}))
    assert {} == looked_at(here, folder)


@pytest.mark.parametrize("text", NO_OBJECTS)
def test_an_unreadable_step_is_done_again(here: Here, folder: RunFolder, text: str) -> None:
    """What it was committed with cannot be known; what stays is kept."""
    (folder.committed("a") / "step.json").write_text(text)
    assert {"a": "done", "b": "kept"} == looked_at(here, folder)


@pytest.mark.parametrize(
    "fields", [{"outputs": [1]}, {"outputs": {"value": {}}}, {"skipped": None}, {"requests": 1}]
)
def test_an_edited_step_is_done_again(
    here: Here, folder: RunFolder, fields: dict[str, object]
) -> None:
    """So it is with fields of another form."""
    path = folder.committed("a") / "step.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))
    assert {"a": "done", "b": "kept"} == looked_at(here, folder)


@pytest.mark.parametrize("text", NO_OBJECTS)
def test_an_unreadable_record_is_told_of(here: Here, folder: RunFolder, text: str) -> None:
    """It says which file to remove; nothing else of the run suffers."""
    folder.record.write_text(text)
    with pytest.raises(StoreError, match=r"record\.json cannot be read"):
        RunHandle(folder).record()
    assert {"a": "kept", "b": "kept"} == looked_at(here, folder)


@pytest.mark.parametrize(
    "line",
    [
        '{"event": "run_started"}',
        '{"event": "run_finished"}',
        '{"event": "run_started", "execution": "x"}',
        '{"event": "step_started", "step": "a"}',
        '{"event": "step_started", "attempt": 1}',
        '{"event": "step_started", "step": ["a"], "attempt": 1}',
        '{"event": "step_started", "step": "a", "attempt": "x"}',
        '{"event": "step_failed", "step": "a"}',
        '{"event": "step_progress", "step": "a"}',
        '{"event": "step_committed", "step": "a", "outputs": 5}',
        '{"event": "step_blocked", "step": "a", "by": 5}',
        '{"event": ["x"]}',
        "[" * 100_000,
        "\0" * 20,
    ],
)
def test_a_line_that_tells_nothing_is_left_out(here: Here, folder: RunFolder, line: str) -> None:
    """The state of the run is what the other lines tell."""
    with folder.journal.open("a") as file:
        file.write(f"{line}\n")
    assert {"a": "done", "b": "done"} == {
        step.id: step.status for step in RunHandle(folder).state().steps.values()
    }
    assert {"a": "kept", "b": "kept"} == looked_at(here, folder)


_FILLS = """
import resource, sys
from pathlib import Path
from workbench.errors import StoreError
from workbench.plans.journal import RunJournal
journal = RunJournal(Path(sys.argv[1]))
journal.write("step_started", step="a", attempt=1)
resource.setrlimit(resource.RLIMIT_FSIZE, (200, resource.RLIM_INFINITY))
try:
    journal.write("step_failed", step="a", error={"message": "x" * 400})
except StoreError as exc:
    print(exc)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
journal.write("step_started", step="a", attempt=2)
"""


@pytest.mark.skipif(os.name != "posix", reason="limits of files are of POSIX")
def test_a_full_disk_tears_one_line_and_no_other(tmp_path: Path) -> None:
    """The writer is told, and what it or another one writes later is whole."""
    path = tmp_path / "journal.jsonl"
    other = RunJournal(path)
    done = subprocess.run(
        [sys.executable, "-c", _FILLS, str(path)], capture_output=True, text=True, check=True
    )
    assert "journal.jsonl cannot be written" in done.stdout
    with path.open("a") as file:
        file.write('{"event": "torn')
    other.write("run_finished", status="done")
    other.close()
    told = [(line["event"], line.get("attempt")) for line in read_lines(path)[0]]
    assert [("step_started", 1), ("step_started", 2), ("run_finished", None)] == told


def test_a_clock_that_was_set_back_gives_no_duration(here: Here, folder: RunFolder) -> None:
    """How long the run took is unknown then, and not less than nothing."""
    early = (utc_now() - timedelta(days=1)).isoformat()
    with folder.journal.open("a") as file:
        file.write(json.dumps({"event": "run_finished", "status": "done", "ts": early}) + "\n")
    assert build_record(folder)["seconds"] is None
    assert [None] == [row.seconds for row in list_runs(here.data_dir)]
    assert events(here.settled(PLAN, folder), "step_kept")
