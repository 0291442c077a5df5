"""One step from `when` to its end: as a whole, or item by item of its `foreach`."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Sequence
from time import perf_counter
from typing import Any

from workbench.errors import PlanError, StepFailed, StepTimedOut, StoreError
from workbench.plans.approvals import find_answer
from workbench.plans.artifacts import StepFile, attempt_folder, save_outputs
from workbench.plans.expressions import evaluate
from workbench.plans.keys import foreach_key
from workbench.plans.kinds.base import Waiting
from workbench.plans.references import column, is_frame, resolve
from workbench.plans.spec import Step
from workbench.plans.stage import Stage
from workbench.plans.unit import Outcome, Scope, Unit, described
from workbench.units import rfc3339, utc_now

MODEL_ITEMS = 8
"""Items of a `foreach` that ask models at once, where the plan says nothing."""
LOCAL_ITEMS = max(2, os.cpu_count() or 2)
"""Items that compute on this machine at once, likewise."""


async def run_step(stage: Stage, step: Step, scope: Scope) -> Outcome:
    """Carry a step out and return how it ended; the journal is told.

    Raises:
        asyncio.CancelledError: When the run is cancelled.
    """
    began = perf_counter()
    unit = Unit(stage, step, scope)
    try:
        if step.when is not None:
            wanted = await asyncio.to_thread(evaluate, step.when, scope)
            if not wanted:
                reason = f"when: {step.when}"
                unit.write("step_skipped", reason=reason)
                return Outcome("skipped", reason=reason)
        if step.foreach:
            return await Foreach(stage, step, scope).run()
        await unit.prepare()
        kept = await unit.kept()
        if kept is not None and kept.file is not None:
            unit.write("step_kept", key=unit.key, outputs=kept.file.outputs)
            return kept
        stopped = await _ask_about_effects(unit, _began(stage, step) & {None})
        return stopped or await unit.run()
    except asyncio.CancelledError:
        if not unit.told_end:
            unit.write("step_cancelled", seconds=round(perf_counter() - began, 3))
        raise
    except Exception as exc:
        # What is wrong outside of an attempt: a reference that leads nowhere, a lost artefact, a
        # full disk, a fault of somebody's kind.
        error = described(exc.exceptions[0] if isinstance(exc, ExceptionGroup) else exc)
        unit.write("step_failed", error=error, final=True, seconds=round(perf_counter() - began, 3))
        return Outcome("failed", error=error)


def _began(stage: Stage, step: Step) -> set[int | None]:
    """Return the items whose attempts may have acted on the outside world."""
    return {item for name, item in stage.begun if name == step.id}


async def _ask_about_effects(unit: Unit, begun: set[int | None]) -> Outcome | None:
    """Return how a step with effects outside ends that began and was not committed.

    `None` when it can go on: nothing had begun, or a person said that it may begin again.
    """
    stage, step = unit.stage, unit.step
    if step.effects != "external" or not begun:
        return None
    attempts = {str(item): stage.begun[(step.id, item)] for item in begun}
    items = "" if begun == {None} else f" (items {', '.join(sorted(attempts))})"
    waiting = Waiting(
        f"Step {step.id!r}{items} began and was not committed, so what it does outside may have "
        "been done. Shall it begin again?",
        {"attempts": dict(sorted(attempts.items()))},
    )
    question = unit.question(waiting, "effects")
    sha256 = question["sha256"]
    answer = await asyncio.to_thread(find_answer, stage.folder, step.id, sha256)
    if answer is None:
        return Outcome("waiting", unit.key, question=question)
    unit.tell(answer, sha256)
    if answer.yes:
        return None
    note = f": {answer.note}" if answer.note else ""
    error = described(StepFailed(step.id, f"{answer.who} let it not begin again{note}"))
    unit.write("step_failed", error=error, final=True)
    return Outcome("failed", unit.key, error=error)


class Foreach:
    """A step that runs for each combination of its variables, several at once."""

    def __init__(self, stage: Stage, step: Step, scope: Scope) -> None:
        self.stage, self.step, self.scope = stage, step, scope
        self.whole = Unit(stage, step, scope)
        self.units: list[Unit] = []
        self.outcomes: dict[int, Outcome] = {}

    async def run(self) -> Outcome:
        """Carry out what is not committed yet, then commit the step itself.

        Raises:
            WorkbenchError: When it cannot begin.
        """
        await self._prepare()
        key = self.whole.key = foreach_key(self.step, [unit.key for unit in self.units])
        kept = await self.whole.kept()
        if kept is not None and kept.file is not None:
            self.whole.write("step_kept", key=key, outputs=kept.file.outputs)
            return kept
        number = await asyncio.to_thread(self.whole.next_attempt)
        started, began = rfc3339(utc_now()), perf_counter()
        for unit in self.units:
            found = await unit.kept()
            if found is not None:
                self.outcomes[unit.item or 0] = found
        left = [unit for unit in self.units if unit.item not in self.outcomes]
        begun = {unit.item for unit in left} & _began(self.stage, self.step)
        stopped = await _ask_about_effects(self.whole, begun)
        if stopped is not None:
            return stopped
        self.stage.begun[(self.step.id, None)] = number
        self.whole.write("step_started", attempt=number, key=key, total=len(self.units))
        self._progress()
        await self._all(left)
        seconds = round(perf_counter() - began, 6)
        failed = [index for index, found in self.outcomes.items() if not found.good]
        if failed and self.step.on_error == "fail":
            return self._failed(min(failed), number, seconds)
        file = await asyncio.to_thread(self._commit, number, started, seconds)
        facts = {"outputs": file.outputs, "summary": file.summary, "seconds": seconds}
        self.whole.write("step_committed", attempt=number, key=key, **facts)
        return self.whole.outcome("done", file)

    async def _prepare(self) -> None:
        lists = await asyncio.to_thread(self._lists)
        for index, chosen in enumerate(itertools.product(*lists)):
            variables = dict(zip(self.step.foreach, chosen, strict=True))
            unit = Unit(self.stage, self.step, self.scope, item=index, variables=variables)
            await unit.prepare()
            self.units.append(unit)

    def _lists(self) -> list[Sequence[Any]]:
        found: list[Sequence[Any]] = []
        for name, value in self.step.foreach.items():
            items = resolve(value, self.scope)
            if is_frame(items):
                items = rows_of(items)
            if not isinstance(items, list):
                kind = type(items).__name__
                raise PlanError(f"foreach.{name} must be a list or a table, not {kind}.")
            found.append(items)
        return found

    async def _all(self, units: Sequence[Unit]) -> None:
        """Carry items out side by side; without `keep`, none begins after one has failed."""
        default = MODEL_ITEMS if self.whole.kind.model_bound else LOCAL_ITEMS
        slots = asyncio.Semaphore(self.step.max_parallel or default)
        stop = asyncio.Event()

        async def one(unit: Unit) -> None:
            async with slots:
                if stop.is_set():
                    return
                outcome = await unit.run()
            if outcome.status == "waiting":
                error = StepFailed(self.step.id, "an item of a `foreach` cannot wait for a person")
                outcome = Outcome("failed", unit.key, error=described(error))
            self.outcomes[unit.item or 0] = outcome
            if not outcome.good and self.step.on_error == "fail":
                stop.set()
            elif (outcome.error or {}).get("type") == StepTimedOut.__name__:
                # Kept as a result, though a replay has no clock to come to it again.
                reason = f"item {unit.item} of {self.step.id} is kept as it ran out of time"
                self.whole.write("not_replayable", reason=reason)
            self._progress()

        async with asyncio.TaskGroup() as group:
            for unit in units:
                group.create_task(one(unit))

    def _progress(self) -> None:
        errors = sum(1 for found in self.outcomes.values() if not found.good)
        cached = sum(1 for found in self.outcomes.values() if found.status == "cached")
        facts = {"done": len(self.outcomes), "total": len(self.units)}
        facts |= {"errors": errors, "cached": cached}
        self.whole.write("step_progress", **facts)

    def _failed(self, index: int, number: int, seconds: float) -> Outcome:
        first = self.outcomes[index].error or {}
        error = {**first, "message": f"item {index}: {first.get('message', '')}"}
        facts = {"error": error, "final": True, "seconds": seconds}
        self.whole.write("step_failed", attempt=number, **facts)
        return Outcome("failed", self.whole.key, error=error)

    def _commit(self, number: int, started: str, seconds: float) -> StepFile:
        folder = attempt_folder(self.stage.folder.place(self.step.id), number)
        ordered = [self.outcomes[index] for index in range(len(self.units))]
        types = self.units[0].types if self.units else self.whole.types
        values: dict[str, Any] = {}
        for name, kind in types.items():
            if kind == "json":
                values[name] = [found.outputs[name] if found.good else None for found in ordered]
            else:
                values[name] = self._joined(name, ordered)
        shown = [name for name, kind in types.items() if kind == "json"]
        values["table"] = [self._row(unit, shown) for unit in self.units]
        errors = values["errors"] = sum(1 for found in ordered if not found.good)
        facts = save_outputs(folder, types, values)
        count = len(self.units)
        summary = f"{count} item{'' if count == 1 else 's'}"
        file = StepFile(
            step=self.step.id,
            key=self.whole.key,
            attempt=number,
            outputs=facts,
            requests=tuple(r for found in ordered if found.file for r in found.file.requests),
            seconds=seconds,
            started=started,
            ended=rfc3339(utc_now()),
            summary=f"{summary}, {errors} failed" if errors else summary,
            replayable=all(found.file.replayable for found in ordered if found.file),
        )
        self.whole.publish(folder, file)
        return file

    def _row(self, unit: Unit, names: Sequence[str]) -> dict[str, Any]:
        """Return a row of `table`: variables, outputs, and the error of an item that failed."""
        found = self.outcomes[unit.item or 0]
        row: dict[str, Any] = {
            name: rows_of(value) if is_frame(value) else value
            for name, value in unit.variables.items()
        }
        row |= {name: found.outputs[name] if found.good else None for name in names}
        return row if found.good else {**row, "error": (found.error or {}).get("message")}

    def _joined(self, name: str, ordered: Sequence[Outcome]) -> Any:
        """Return the tables of all items as one, the variables in front."""
        import pandas as pd

        parts = []
        for unit, found in zip(self.units, ordered, strict=True):
            if found.good:
                frame = found.outputs[name]
                plain = {
                    variable: [value] * len(frame)
                    for variable, value in unit.variables.items()
                    if variable not in frame.columns and not is_frame(value)
                }
                parts.append(pd.concat([pd.DataFrame(plain, index=frame.index), frame], axis=1))
        if not parts:
            raise StoreError(f"No item gave the table {name!r}.")
        return pd.concat(parts, ignore_index=True)


def rows_of(frame: Any) -> list[dict[str, Any]]:
    """Return the rows of a DataFrame as JSON values."""
    names = [str(name) for name in frame.columns]
    columns = [column(frame, name) for name in names]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
