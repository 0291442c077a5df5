"""`open_run`: how the notebook of a plan comes to its run."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from workbench.client.api import WorkbenchClient
from workbench.client.door import client_config, open_client
from workbench.client.http import Address
from workbench.client.outside import watch_connections
from workbench.client.tape import not_taped
from workbench.config import Config
from workbench.errors import PlanError, ServerNotRunning, WorkbenchError
from workbench.locks import FileLock, is_locked
from workbench.plans.compile import plan_hash
from workbench.plans.create import create_run
from workbench.plans.folder import RunFolder
from workbench.plans.info import RunInfo, read_info
from workbench.plans.lean import skip_iri_grammar
from workbench.plans.params import resolve_params
from workbench.plans.parse import parse_plan
from workbench.plans.record import write_record
from workbench.plans.result import StepResult
from workbench.plans.runtime import Run
from workbench.plans.spec import Plan
from workbench.plans.stage import Stage
from workbench.portal import get_portal

RUN_DIR = "WORKBENCH_RUN_DIR"
"""Names the folder of the run to a kernel of its process."""
NONCE = "WORKBENCH_RUN_NONCE"
"""Says which process that is: the content of its lock."""

_LOOK_S = 0.2
_GOODBYE_S = 2.0
_LOCK_S = 10.0


def open_run(
    text: str, *, params: Mapping[str, Any] | None = None, plan_dir: str | None = None
) -> OpenRun:
    """Return the run of a plan for the cells of its notebook.

    In the kernel of a run's process it joins that run, whose steps begin at once.  Anywhere else
    it begins a new run, whose steps begin at their cells; its files lie below the data folder.

    Args:
        text: The plan, as its file has it.
        params: Values of the notebook's parameters.
        plan_dir: Folder that relative paths of the plan start from; the current one unless given.

    Raises:
        PlanInvalid: When the plan cannot be run as it is written, or models are not installed.
        ConfigError: When a parameter is unknown or of the wrong type.
        PlanError: When the run that is joined is one of another plan.
    """
    place = os.environ.get(RUN_DIR)
    base = Path(plan_dir) if plan_dir else Path.cwd()
    if place is not None:
        return _join(RunFolder(Path(place)), text, params or {})
    plan = parse_plan(text, path=base / "plan.yaml")
    resolved = resolve_params(plan, params or {}, texts=False)
    config = client_config()
    client = open_client(config)
    folder = get_portal().run(
        create_run(plan, resolved, data_dir=config.data_dir, client=client, plan_dir=base)
    )
    lock = FileLock(folder.lock)
    lock.acquire()
    info = read_info(folder)
    stage = _stage(folder, plan, resolved, info, client, config)
    stage.journal.write("run_started", pid=os.getpid(), execution=1, resumed=False)
    _leave_former()
    run = OpenRun(stage, eager=False, lock=lock)
    _by_hand.append(run)
    return run


_by_hand: list[OpenRun] = []


def _leave_former() -> None:
    """End the run that this kernel had open by hand: its set-up cell was run again."""
    while _by_hand:
        _by_hand.pop().leave()


def _join(folder: RunFolder, text: str, params: Mapping[str, Any]) -> OpenRun:
    skip_iri_grammar()
    info = read_info(folder)
    plan = parse_plan(text, path=Path(info.plan_dir) / "plan.yaml")
    if plan_hash(plan) != info.plan_hash:
        raise PlanError(
            f"The notebook's plan is not the one of run {info.run_id}.",
            hint="Start a new run of it: workbench run.",
        )
    resolved = resolve_params(plan, params, texts=False)
    if resolved != dict(info.params):
        changed = [name for name in resolved if resolved[name] != info.params.get(name)]
        raise PlanError(
            f"The notebook's parameters are not those of run {info.run_id}: {', '.join(changed)}.",
            hint="Start a new run with them: workbench run.",
        )
    config = client_config(data_dir=info.data_dir)
    client = _nobody() if info.mode == "replay" else open_client(config)
    lock = FileLock(folder.kernel_lock)
    due = time.monotonic() + _LOCK_S
    while not lock.acquire():
        if time.monotonic() > due:
            raise PlanError(f"Another kernel still works on run {info.run_id}.")
        time.sleep(_LOOK_S)
    folder.kernel_lock.write_text(str(os.getpid()), encoding="utf-8")
    stage = _stage(folder, plan, resolved, info, client, config)
    watch_connections(
        lambda place: stage.journal.write(
            "not_replayable", reason=f"a connection to {place} beside the client"
        )
    )
    run = OpenRun(stage, eager=True, stays=info.wait, lock=lock)
    _Watch(run, folder, os.environ.get(NONCE)).start()
    return run


def _stage(
    folder: RunFolder,
    plan: Plan,
    params: Mapping[str, Any],
    info: RunInfo,
    client: WorkbenchClient,
    config: Config,
) -> Stage:
    client.run_id = info.run_id
    if client.records is not None:
        client.records.run_id = info.run_id
    return Stage.open(folder, plan, params, info, client, untaped=not_taped(config))


def _nobody() -> WorkbenchClient:
    """Return a client for a replay, in which nothing is connected."""

    def resolve() -> Address:
        raise ServerNotRunning("a replay connects to none")

    return WorkbenchClient(None, resolve=resolve)


class OpenRun(Run):
    """A run with what its end takes: the lock, the journal's last line, the record."""

    def __init__(self, stage: Stage, *, eager: bool, stays: bool = False, lock: FileLock) -> None:
        super().__init__(stage, eager=eager, stays=stays)
        self._lock = lock
        self._execution = 1

    async def step(self, step: str) -> StepResult:
        if not self._eager:
            self._take_up()
        return await super().step(step)

    def _take_up(self) -> None:
        """Go on by hand with a run that had ended.

        Raises:
            PlanError: When a process carries it out now.
        """
        if self._lock.held:
            return
        if not self._lock.acquire():
            raise PlanError(f"Run {self.run_id} goes on in another process.")
        self._execution += 1
        self._stage.journal.write(
            "run_started", pid=os.getpid(), execution=self._execution, resumed=True
        )

    def finish(self) -> Finished:
        """Wait for what still runs and return the record of the run.

        A run in which a step waits for an answer is no failure: it goes on with
        `workbench resume`.

        Raises:
            StepFailed: When a step failed; the first one in the order of the plan.
            PlanError: When steps were not asked for, by hand.
        """
        self.settle()
        states = self.statuses()
        left = [name for name, status in states.items() if status == "pending"]
        if left and not self.cancelled and "waiting" not in states.values():
            raise PlanError(
                f"These steps have not run: {', '.join(left)}.", hint="Run their cells first."
            )
        failure = self.failure()
        if not self._eager:
            self._close(states, failure)
        if failure is not None:
            raise failure
        return Finished(states)

    def leave(self) -> None:
        """End a run that was opened by hand, where its notebook has not ended it."""
        if self._lock.held:
            get_portal().run(self.acancel())
            self._stage.journal.write("run_finished", status="cancelled")
            self._lock.release()

    def _close(self, states: Mapping[str, str], failure: PlanError | None) -> None:
        """Write the end of a run that has no process of its own."""
        status = "failed" if failure else "done"
        if "waiting" in states.values():
            status = "waiting"
        error = None
        if failure is not None:
            error = {"type": type(failure).__name__, "message": failure.message}
        journal, folder = self._stage.journal, self._stage.folder
        journal.write("run_finished", status=status, error=error)
        write_record(folder)
        self._lock.release()


class Finished(Mapping[str, str]):
    """Step to status; what the last cell shows, without times and ids."""

    def __init__(self, statuses: Mapping[str, str]) -> None:
        self._statuses = dict(statuses)

    def __getitem__(self, step: str) -> str:
        return self._statuses[step]

    def __iter__(self) -> Iterator[str]:
        return iter(self._statuses)

    def __len__(self) -> int:
        return len(self._statuses)

    def __repr__(self) -> str:
        # A step that an earlier execution did is as good as one of this.
        same = {"kept": "done", "cached": "done"}
        counts = Counter(same.get(status, status) for status in self._statuses.values())
        return ", ".join(f"{count} {name}" for name, count in counts.items())


class _Watch(threading.Thread):
    """Looks whether the run is cancelled, and whether the process that carries it out is there."""

    def __init__(self, run: Run, folder: RunFolder, nonce: str | None) -> None:
        super().__init__(name="workbench-run-watch", daemon=True)
        self._run, self._folder, self._nonce = run, folder, nonce

    def run(self) -> None:
        """Look until the process ends."""
        cancelled = False
        while True:
            time.sleep(_LOOK_S)
            if self._nonce is not None and not self._runner_lives():
                self._leave()
            if not cancelled and self._folder.cancel.exists():
                cancelled = True
                self._run.cancel()

    def _runner_lives(self) -> bool:
        try:
            mine = self._folder.lock.read_text(encoding="utf-8") == self._nonce
        except OSError:
            return False
        return mine and is_locked(self._folder.lock)

    def _leave(self) -> None:
        """End this kernel: another process may already go on with the run."""
        with contextlib.suppress(RuntimeError, TimeoutError, WorkbenchError):
            ending = asyncio.run_coroutine_threadsafe(self._run.acancel(), get_portal().loop)
            ending.result(_GOODBYE_S)
        os._exit(1)
