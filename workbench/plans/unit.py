"""One step without `foreach`, or one item of it: key, cache, attempts, commit."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any

from workbench.client.ambient import working
from workbench.client.tape import Tape, taping
from workbench.errors import (
    AmbiguousModel,
    ConfigError,
    ModelNotFound,
    PlanInvalid,
    ReplayMismatch,
    ServerNotRunning,
    StepTimedOut,
    StoreError,
    WorkbenchError,
)
from workbench.plans.approvals import find_answer, question_hash
from workbench.plans.artifacts import (
    TAPE_FILE,
    StepFile,
    attempt_folder,
    check_outputs,
    clear_attempts,
    commit,
    last_attempt,
    read_step,
    save_outputs,
    set_aside,
    write_step,
)
from workbench.plans.attempt import Attempt
from workbench.plans.expressions import paths_in
from workbench.plans.folder import RunFolder
from workbench.plans.keys import step_key
from workbench.plans.kinds import load_kinds
from workbench.plans.kinds.base import Answer, Done, StepKind, Waiting
from workbench.plans.references import look_up, resolve
from workbench.plans.rows import request_context
from workbench.plans.spec import OutputType, Step
from workbench.plans.stage import Outputs, Place, Stage
from workbench.plans.state import StepStatus
from workbench.units import format_seconds, rfc3339, utc_now

# What would go wrong in the same way again.
_FINAL = (ConfigError, ReplayMismatch, ModelNotFound, AmbiguousModel, PlanInvalid, ServerNotRunning)

Scope = Mapping[str, Any]


@dataclass(frozen=True)
class Outcome:
    """How a step or an item ended.

    Attributes:
        file: What was committed, when it was.
        config: The fields of its kind, resolved, when it has outputs.
        error: `{type, message, hint}` when it failed.
        question: `{ask, show, reason, sha256}` when it waits.
    """

    status: StepStatus
    key: str | None = None
    file: StepFile | None = None
    outputs: Outputs = field(default_factory=lambda: Outputs(None, {}))
    error: Mapping[str, Any] | None = None
    question: Mapping[str, Any] | None = None
    reason: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def good(self) -> bool:
        """Whether it has outputs."""
        return self.file is not None


def described(error: BaseException) -> dict[str, Any]:
    """Return an error as the journal keeps it."""
    message = error.message if isinstance(error, WorkbenchError) else str(error)
    hint = getattr(error, "hint", None)
    return {"type": type(error).__name__, "message": message, "hint": hint}


class Unit:
    """A step, or an item of its `foreach`.

    Args:
        scope: Everything references and expressions may name.
        item: Index of the item.
        variables: Of the `foreach`, for this item.

    Attributes:
        key: Known once it is prepared.
        told_end: Whether the journal was told of its cancellation.
    """

    def __init__(
        self,
        stage: Stage,
        step: Step,
        scope: Scope,
        *,
        item: int | None = None,
        variables: Mapping[str, Any] | None = None,
    ) -> None:
        self.stage, self.step, self.item = stage, step, item
        self.variables = dict(variables or {})
        self.scope: Scope = {**scope, **self.variables}
        self.kind: StepKind = load_kinds()[step.kind]
        self.place: Place = (step.id, item)
        self.config: Mapping[str, Any] = {}
        self.inputs: Mapping[str, Any] = {}
        self.models: tuple[str, ...] = ()
        self.key = ""
        self.told_end = False

    async def prepare(self) -> None:
        """Fill in the references and compute the key.

        Raises:
            PlanError: When a reference leads nowhere.
            PlanInvalid: When a model is not installed.
        """
        names, code, files = await asyncio.to_thread(self._resolve)
        digests = {model: await self.stage.digest(model) for model in self.models}
        self.key = await asyncio.to_thread(
            lambda: step_key(
                self.step,
                config=self.config,
                inputs=self.inputs,
                names=names,
                code=code,
                files=files,
                models=digests,
            )
        )

    def _resolve(self) -> tuple[dict[str, Any], Mapping[str, Any], dict[str, str | None]]:
        names: dict[str, Any] = {}
        config: dict[str, Any] = {}
        for name, value in self.step.config.items():
            about = self.kind.fields.get(name)
            if about is not None and about.expression:
                config[name] = value
                names |= _names_of(value, self.scope)
            elif about is not None and about.literal:
                config[name] = value
            else:
                config[name] = resolve(value, self.scope)
        self.config = config
        self.inputs = resolve(self.step.inputs, self.scope)
        self.models = tuple(dict.fromkeys(self.kind.models(config)))
        code = self.kind.code(config, Path(self.stage.info.plan_dir))
        files = self.stage.files_in([config, self.inputs, self.variables, names])
        return names, code, files

    @property
    def types(self) -> Mapping[str, OutputType]:
        """The form of each output."""
        return self.step.outputs or self.kind.outputs_of(self.config)

    @property
    def cacheable(self) -> bool:
        """Whether the cache may stand for it."""
        if self.step.effects == "external" or not self.kind.cacheable:
            return False
        wanted = self.step.cache
        return self.kind.repeatable(self.config) if wanted is None else wanted

    @property
    def committed(self) -> Path:
        """The folder it has once it is committed."""
        return self.stage.folder.committed(*self.place)

    async def kept(self) -> Outcome | None:
        """Return what was committed before and still counts; says why what was does not."""
        found, reason = await asyncio.to_thread(self.stage.kept, self.place, self.key)
        if found is not None:
            return self.outcome("kept", found)
        if reason is not None:
            self.write("step_stale", reason=reason)
        return None

    def outcome(self, status: StepStatus, file: StepFile) -> Outcome:
        """Return how it ended well."""
        outputs = Outputs(self.committed, file.outputs)
        return Outcome(status, self.key, file, outputs, config=self.config)

    async def run(self) -> Outcome:
        """Make attempts until one is committed or none is left.

        Raises:
            asyncio.CancelledError: After the journal was told.
        """
        number = await asyncio.to_thread(self.next_attempt)
        if self.cacheable and self.stage.uses_cache:
            cached = await asyncio.to_thread(self._from_cache, number)
            if cached is not None:
                told = {"outputs": cached.outputs, "summary": cached.summary or None}
                self.write("step_cached", key=self.key, from_run=cached.from_run, **told)
                return self.outcome("cached", cached)
        retries = self.step.retries
        times = 0 if self.step.effects == "external" else retries.times
        for tried in range(times + 1):
            began = perf_counter()
            try:
                return await self._attempt(number + tried)
            except Waiting as waiting:
                return Outcome("waiting", self.key, question=self.question(waiting))
            except asyncio.CancelledError:
                taken = round(perf_counter() - began, 3)
                self.write("step_cancelled", attempt=number + tried, seconds=taken)
                self.told_end = True
                raise
            except Exception as exc:
                error = described(exc)
                final = tried == times or isinstance(exc, _FINAL)
                pause_s = min(retries.backoff_s * retries.factor**tried, retries.max_s)
                facts: dict[str, Any] = {
                    "error": error,
                    "final": final,
                    "retry_in_s": None if final else pause_s,
                    "seconds": round(perf_counter() - began, 3),
                }
                self.write("step_failed", attempt=number + tried, **facts)
                if final:
                    return Outcome("failed", self.key, error=error)
            await asyncio.sleep(pause_s)
        raise AssertionError("the last attempt returns")

    def next_attempt(self) -> int:
        """Return the number of the next attempt; reads the folder."""
        folder = self.stage.folder.place(*self.place)
        return 1 + max(self.stage.begun.get(self.place, 0), last_attempt(folder))

    def question(self, waiting: Waiting, reason: str = "approval") -> dict[str, Any]:
        """Return a question as the journal keeps it."""
        sha256 = question_hash(self.key, waiting.ask, waiting.show)
        return {"ask": waiting.ask, "show": waiting.show, "reason": reason, "sha256": sha256}

    def _from_cache(self, number: int) -> StepFile | None:
        place = self.stage.folder.place(*self.place)
        folder = attempt_folder(place, number)
        found = self.stage.cache.take(self.key, folder)
        if found is None:
            shutil.rmtree(folder)
            return None
        facts = {**found.to_wire(), "step": self.step.id, "item": self.item, "attempt": number}
        facts.pop("v")
        file = StepFile(**{**facts, "requests": found.requests, "status": "cached"})
        self.publish(folder, file)
        return file

    def _from_recording(self, replayed: RunFolder, number: int) -> Outcome:
        """Take over what the recorded run gave: a replay does nothing to the world outside.

        Raises:
            ReplayMismatch: When the step is no longer what it was then.
        """
        recorded = replayed.committed(*self.place)
        found = read_step(recorded)
        if found is None or found.key != self.key:
            raise ReplayMismatch(
                f"step {self.step.id} acts on the world outside, and its inputs or its code are "
                "not what they were.",
                hint="A replay takes the recorded result of such a step, and cannot for another.",
            )
        check_outputs(recorded, found)
        folder = attempt_folder(self.stage.folder.place(*self.place), number)
        shutil.copytree(recorded, folder, symlinks=True, dirs_exist_ok=True)
        file = replace(found, status="cached", attempt=number, from_run=replayed.run_id)
        self.publish(folder, file)
        facts = {"outputs": file.outputs, "summary": file.summary or None}
        self.write("step_cached", key=self.key, from_run=file.from_run, **facts)
        return self.outcome("cached", file)

    async def _attempt(self, number: int) -> Outcome:
        """Carry out one attempt and commit it.

        Raises:
            Waiting: When a person has to answer first.
            Exception: Whatever the kind raised.
        """
        if self.stage.replay is not None and self.step.effects == "external":
            return await asyncio.to_thread(self._from_recording, self.stage.replay, number)
        place = self.stage.folder.place(*self.place)
        folder = await asyncio.to_thread(attempt_folder, place, number)
        started, began = rfc3339(utc_now()), perf_counter()
        model = self.models[0] if len(self.models) == 1 else None
        self.stage.begun[self.place] = number
        self.write("step_started", attempt=number, key=self.key, model=model)
        if self.step.effects == "external":
            await asyncio.to_thread(self.stage.journal.sync)
        carried = request_context(
            run_id=self.stage.info.run_id,
            run_key=self.stage.info.run_key,
            step=self.step.id,
            item=self.item,
            attempt=number,
        )
        async with self._room():
            with working(carried), self._tape(folder) as tape:
                context = Attempt(
                    stage=self.stage,
                    step=self.step,
                    config=self.config,
                    inputs=self.inputs,
                    variables=self.variables,
                    values=self.scope,
                    item=self.item,
                    attempt=number,
                    step_key=self.key,
                    work_dir=folder,
                    run_id=self.stage.info.run_id,
                    plan_dir=Path(self.stage.info.plan_dir),
                    tape=tape,
                )
                try:
                    done = await self._limited(context)
                except Waiting:
                    shutil.rmtree(folder)
                    raise
                self._listen(context, tape)
        seconds = round(perf_counter() - began, 6)
        file = await asyncio.to_thread(self._commit, context, done, started, seconds)
        facts = {"outputs": file.outputs, "summary": file.summary or None, "seconds": seconds}
        requests = [dict(item) for item in file.requests] or None
        self.write("step_committed", attempt=number, key=self.key, requests=requests, **facts)
        if self.cacheable and self.stage.uses_cache:
            put = self.stage.cache.put
            await asyncio.to_thread(put, self.committed, file, run_id=context.run_id)
        return self.outcome("done", file)

    @contextlib.asynccontextmanager
    async def _room(self) -> AsyncIterator[None]:
        """Wait for a slot of this machine, or keep the models in memory."""
        if not self.kind.model_bound:
            async with self.stage.slots:
                yield
        elif self.stage.room is None:
            yield
        else:
            async with self.stage.room.using(self.models):
                yield

    @contextlib.contextmanager
    def _tape(self, folder: Path) -> Any:
        """Record the tape of the attempt, or play the one of the run that is replayed."""
        scope = (self.key, self.item)
        if self.stage.replay is not None:
            with taping(self._recorded(self.stage.replay), "replay", scope=scope) as tape:
                yield tape
        elif self.stage.untaped is not None:
            yield None
        else:
            with taping(folder / TAPE_FILE, "record", scope=scope) as tape:
                yield tape

    def _recorded(self, replayed: RunFolder) -> Path:
        """Return the tape of the recorded run; of an item that failed, that of its last attempt."""
        committed = replayed.committed(*self.place) / TAPE_FILE
        place = replayed.place(*self.place)
        last = place / f".attempt-{last_attempt(place)}" / TAPE_FILE
        return last if last.is_file() and not committed.is_file() else committed

    async def _limited(self, context: Attempt) -> Done:
        """Run the kind within the time of an attempt, with the answer to what it asks."""
        limit_s = self.step.timeout_s
        try:
            async with asyncio.timeout(limit_s) as deadline:
                try:
                    return await self.kind.run(context)
                except Waiting as waiting:
                    context.answer = await self._answer(waiting)
                    if context.answer is None:
                        raise
                return await self.kind.run(context)
        except TimeoutError as exc:
            if not deadline.expired():
                raise
            raise StepTimedOut(
                self.step.id,
                f"it took longer than {format_seconds(limit_s)}",
                hint="Give it more time: `timeout`.",
            ) from exc

    async def _answer(self, waiting: Waiting) -> Answer | None:
        sha256 = self.question(waiting)["sha256"]
        answer = await asyncio.to_thread(find_answer, self.stage.folder, self.step.id, sha256)
        if answer is not None:
            self.tell(answer, sha256)
        return answer

    def tell(self, answer: Answer, sha256: str) -> None:
        """Write the answer to a question of the step to the journal."""
        note = answer.note or None
        facts = {"who": answer.who, "when": answer.when, "note": note, "sha256": sha256}
        self.write("step_answered", yes=answer.yes, **facts)

    def _listen(self, context: Attempt, tape: Tape | None) -> None:
        """Take over what the tape says about itself."""
        if tape is not None:
            for note in tape.notes:
                context.not_replayable(note)
            for warning in getattr(tape, "warnings", ()):
                self.write("tape_warning", reason=warning)
        elif self.models and self.stage.untaped is not None:
            context.not_replayable(self.stage.untaped)

    def _commit(self, context: Attempt, done: Done, started: str, seconds: float) -> StepFile:
        facts = save_outputs(context.work_dir, self.types, done.outputs)
        missing = [name for name in self.types if name not in facts]
        if missing:
            raise StoreError(f"The step gave no output {', '.join(map(repr, missing))}.")
        file = StepFile(
            step=self.step.id,
            item=self.item,
            key=self.key,
            attempt=context.attempt,
            outputs=facts,
            requests=tuple(context.requests),
            seconds=seconds,
            started=started,
            ended=rfc3339(utc_now()),
            summary=done.summary,
            skipped=dict(done.skipped),
            stop=done.stop,
            replayable=not context.notes,
        )
        self.publish(context.work_dir, file)
        return file

    def publish(self, folder: Path, file: StepFile) -> None:
        """Commit the folder of an attempt; writes to the disk."""
        write_step(folder, file)
        if self.committed.exists():
            set_aside(self.committed)
        commit(folder, self.committed)
        clear_attempts(self.committed.parent)

    def write(self, event: str, **fields: Any) -> None:
        """Append a line about this step or item to the journal."""
        self.stage.journal.write(event, step=self.step.id, item=self.item, **fields)


def _names_of(value: Any, scope: Scope) -> dict[str, Any]:
    """Return what the expressions of a field name, each with what identifies its value."""
    if isinstance(value, Mapping):
        parts: list[Any] = list(value.values())
    else:
        parts = list(value) if isinstance(value, list | tuple) else [value]
    names: dict[str, Any] = {}
    for part in parts:
        if not isinstance(part, str):
            names |= _names_of(part, scope) if isinstance(part, Mapping | list | tuple) else {}
            continue
        for path in paths_in(part):
            names |= _identity(path, scope)
    return names


def _identity(path: tuple[str, ...], scope: Scope) -> dict[str, Any]:
    root = scope.get(path[0])
    if isinstance(root, Outputs):
        chosen = root.facts if len(path) == 1 else {path[1]: root.facts.get(path[1])}
        return {f"{path[0]}.{name}": (about or {}).get("sha256") for name, about in chosen.items()}
    if path[0] == "params" and len(path) > 1:
        return {".".join(path[:2]): look_up(path[:2], scope)}
    return {path[0]: root}
