"""V1: the run is carried out again with the recorded answers, no model and no server.

It holds when every output and every decision is the same, byte for byte.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from workbench.client.values import frame_of
from workbench.errors import CannotVerify, StoreError
from workbench.plans.approvals import Given
from workbench.plans.artifacts import check_outputs, read_step
from workbench.plans.compile import plan_hash
from workbench.plans.create import RunOptions
from workbench.plans.diff import RunDiff, StepDiff, describe, diff_records, step_json
from workbench.plans.folder import RunFolder
from workbench.plans.journal import read_lines
from workbench.plans.record import notebook_hash, read_record
from workbench.plans.start import astart_run
from workbench.plans.verify.base import Level, Subject, Verification, changed_tapes
from workbench.units import format_seconds

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, repr=False)
class ReplayReport(Verification):
    """What a replay found.

    Attributes:
        recorded: Content hash of the run.
        replayed: Content hash of the replay; `None` when it was not carried out.
        first: The first step that gave something else.
        problems: Files of the run that were changed since; with any of them nothing is replayed.
        warnings: What is odd and changes no result, such as answers that nobody asked for.
        seconds: How long the replay took.
        steps: Every step of both.
        folder: The replay, kept when it differs.
        error: What the replay ended with, when it failed.
    """

    run_id: str
    ok: bool
    recorded: str
    replayed: str | None = None
    first: StepDiff | None = None
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    seconds: float | None = None
    steps: tuple[StepDiff, ...] = ()
    folder: str | None = None
    error: str | None = None
    level: Level = "replay"

    def lines(self) -> list[str]:
        if self.problems:
            head = f"Run {self.run_id} was changed since it was recorded; nothing was replayed."
            return [head, *(f"  {problem}" for problem in self.problems)]
        took = format_seconds(self.seconds)
        if self.ok:
            told = [
                f"Run {self.run_id} holds: replayed without a model in {took}, same content hash.",
                f"  {self.recorded}",
            ]
        else:
            told = [
                f"Run {self.run_id} does not hold: its replay gave something else ({took}).",
                f"  recorded {self.recorded}",
                f"  replayed {self.replayed}",
            ]
            if self.first is not None:
                told.append(f"  {describe(self.first)} (A is the run, B its replay)")
            if self.error is not None:
                told.append(f"  The replay failed: {self.error}")
            if self.folder is not None:
                told.append(f"  The replay is kept: {self.folder}")
        return [*told, *(f"  warning: {text}" for text in self.warnings)]

    def to_frame(self) -> pd.DataFrame:
        """Return a DataFrame with one row per step; see `RunDiff.to_frame`."""
        return frame_of(self.steps)

    def to_json(self) -> dict[str, Any]:
        named = ("run_id", "level", "ok", "recorded", "replayed", "seconds", "folder", "error")
        return {
            **{name: getattr(self, name) for name in named},
            "first": None if self.first is None else step_json(self.first),
            "problems": list(self.problems),
            "warnings": list(self.warnings),
            "steps": [step_json(step) for step in self.steps],
        }


async def verify_replay(folder: RunFolder) -> ReplayReport:
    """Replay a run from its tapes and compare what it gives; on the portal's loop.

    Raises:
        CannotVerify: When a replay cannot stand for the run.
        PlanInvalid: When its plan cannot be run any more.
        ReplayMismatch: When a tape is missing, cannot be read or is of another version.
        SchemaTooNew: When a newer version of the workbench wrote it.
    """
    subject = await asyncio.to_thread(Subject.read, folder)
    record = subject.record
    if not record["replayable"]:
        raise CannotVerify(
            subject.info.run_id,
            f"it is not replayable: {'; '.join(record['not_replayable'])}",
            hint="Ask its models again: --level models; or compare two runs: workbench diff.",
        )
    problems = tuple(await asyncio.to_thread(lambda: list(changed_files(subject))))
    if problems:
        return ReplayReport(subject.info.run_id, False, record["content_hash"], problems=problems)
    began = perf_counter()
    replay = await _replay(subject)
    seconds = round(perf_counter() - began, 3)
    return await asyncio.to_thread(_compare, subject, replay, seconds)


async def _replay(subject: Subject) -> RunFolder:
    info = subject.info
    options = RunOptions(
        name=f"replay of {info.name or info.plan}",
        cache=False,
        mode="replay",
        tape_of=subject.folder,
        parent=info.run_id,
        answers=recorded_answers(subject.record),
    )
    plan = await asyncio.to_thread(subject.plan)
    handle = await astart_run(plan, info.params, data_dir=Path(info.data_dir), options=options)
    try:
        await handle.await_()
    except asyncio.CancelledError:
        handle.cancel()
        raise
    return handle.folder


def recorded_answers(record: Mapping[str, Any]) -> dict[str, Given]:
    """Return what people answered; each counts for the very question it was given to."""
    return {
        row["step"]: Given(row["yes"], row["note"] or "", row["sha256"])
        for row in record["approvals"]
    }


def _compare(subject: Subject, replay: RunFolder, seconds: float) -> ReplayReport:
    again = read_record(replay)
    found = diff_records(subject.record, again, subject.folder, replay)
    error = (again.get("error") or {}).get("message")
    warnings = tuple(_warnings(replay, found))
    if found.same:
        shutil.rmtree(replay.path, ignore_errors=True)
    return ReplayReport(
        subject.info.run_id,
        found.same,
        subject.record["content_hash"],
        again["content_hash"],
        found.first,
        warnings=warnings,
        seconds=seconds,
        steps=found.steps,
        folder=None if found.same else str(replay.path),
        error=None if found.same or error is None else str(error),
    )


def _warnings(replay: RunFolder, found: RunDiff) -> Iterator[str]:
    if replay.journal.exists():
        lines, _ = read_lines(replay.journal)
        for line in lines:
            if line["event"] == "tape_warning":
                place = "" if line.get("item") is None else f"[{line['item']}]"
                yield f"step {line.get('step')}{place}: {line.get('reason')}"
    for item in found.what:
        if item.path.startswith(("environment.", "code.")):
            yield f"made in another environment: {item}"


def changed_files(subject: Subject) -> Iterator[str]:
    """Yield which files of a run are not as they were when it ended; reads all of them.

    Raises:
        ReplayMismatch: When a tape is missing or cannot be read.
    """
    record, folder = subject.record, subject.folder
    if plan_hash(subject.plan()) != record["plan_hash"]:
        yield f"{folder.plan.name}: the plan is not the one that was run"
    if record["notebook_hash"] and notebook_hash(folder.notebook) != record["notebook_hash"]:
        yield f"{folder.notebook.name}: its cells or outputs were edited"
    for step, row in record["steps"].items():
        yield from _changed_outputs(folder, step, row)
    yield from changed_tapes(subject)


def _changed_outputs(folder: RunFolder, step: str, row: Mapping[str, Any]) -> Iterator[str]:
    if row["status"] not in ("done", "cached", "kept"):
        return
    place = folder.committed(step)
    try:
        found = read_step(place)
        if found is None:
            yield f"{place.relative_to(folder.path)} is missing"
            return
        if {name: facts["sha256"] for name, facts in found.outputs.items()} != {
            name: facts["sha256"] for name, facts in row["outputs"].items()
        }:
            yield f"{place.relative_to(folder.path)}/step.json names other outputs than the record"
        check_outputs(place, found)
    except StoreError as exc:
        yield exc.message
