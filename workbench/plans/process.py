"""The process of a run: `python -P -m workbench.plans.process RUN_DIR`.

It holds the lock of the run, executes the notebook in one kernel, and writes how it ended.  It
belongs to no terminal and no notebook: who started it may go.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.client.api import WorkbenchClient
from workbench.client.door import client_config, open_client
from workbench.client.records import close_records
from workbench.errors import PlanError, WorkbenchError
from workbench.locks import FileLock, is_locked
from workbench.plans.cache import StepCache
from workbench.plans.control import EXIT_CODES, request_cancel
from workbench.plans.engine import EngineResult, aexecute
from workbench.plans.folder import RunFolder
from workbench.plans.info import RunInfo, read_info
from workbench.plans.journal import RunJournal, read_lines
from workbench.plans.lean import skip_iri_grammar
from workbench.plans.news import Herald
from workbench.plans.opening import NONCE, RUN_DIR
from workbench.plans.record import write_record
from workbench.plans.rows import RunRows
from workbench.plans.state import FINISHED, RunState, state_of
from workbench.portal import get_portal
from workbench.runtime import await_gone
from workbench.units import sortable_id

if TYPE_CHECKING:
    from nbformat import NotebookNode

log = logging.getLogger("workbench")

# How long the kernel of a runner that was killed may take to end.
_FORMER_KERNEL_S = 20.0
# How long steps may take to end after a cancellation, before their kernel is interrupted.
_CANCEL_S = 10.0
_ROWS_S = 1.0
# A server that was started for the run ends when nobody asks anything for two minutes.
_AWAKE_S = 30.0
# How long the server of a run may take to end, in seconds.
_SERVER_END_S = 10.0


def main() -> int:
    """Carry out the run of the folder on the command line; returns the exit code."""
    skip_iri_grammar()
    logging.basicConfig(
        stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s", level=logging.WARNING
    )
    folder = RunFolder(Path(sys.argv[1]))
    lock = FileLock(folder.lock)
    if not lock.acquire():
        log.error("another process carries out %s", folder.path)
        return 1
    try:
        runner = Runner(folder)
        status = runner.run()
    except WorkbenchError as exc:
        log.error("%s", exc)
        return 1
    finally:
        lock.release()
    # Not before: the command that is told may answer or resume the run.
    runner.tell_end(status)
    return EXIT_CODES[status]


class Runner:
    """Carries a run out once, from beginning or resume to its end."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.info: RunInfo = read_info(folder)
        self._nonce = sortable_id()
        self._journal = RunJournal(folder.journal)
        self._offset = 0
        self._state = RunState()
        self._rows: RunRows | None = None
        self._cancel_seen: float | None = None
        self._herald = Herald(folder, self.info)

    def run(self) -> str:
        """Execute the notebook and return the status of the run."""
        self.folder.lock.write_text(self._nonce, encoding="utf-8")
        self._await_former_kernel()
        before = self._read()
        execution = before.execution + 1
        resumed = execution > 1
        self._journal.write("run_started", pid=os.getpid(), execution=execution, resumed=resumed)
        result: EngineResult | None = None
        error: dict[str, Any] | None = None
        with self._signals():
            try:
                result = asyncio.run(self._execute())
            except WorkbenchError as exc:
                error = {"type": type(exc).__name__, "message": exc.message, "hint": exc.hint}
            except Exception as exc:
                # Whatever it was: without an end in the journal the run would be lost.
                log.exception("the notebook of the run could not be carried out")
                error = {
                    "type": type(exc).__name__,
                    "message": str(exc) or type(exc).__name__,
                    "hint": f"{self.folder.log} has the traceback; then: workbench resume.",
                }
        status = self._end(result, error)
        self._finish()
        return status

    def _end(self, result: EngineResult | None, error: dict[str, Any] | None) -> str:
        """Write how the run ended, and return its status."""
        try:
            status, reason = self._ending(result)
            self._journal.write("run_finished", status=status, error=error or reason)
        except (WorkbenchError, OSError) as exc:
            # As on a full disk: the run will read as lost, and what is committed stays.
            log.error("the end of the run could not be written: %s", exc)
            return "failed"
        return status

    def tell_end(self, status: str) -> None:
        """Tell the run's command how it ended, and wait until it has heard everything."""
        self._herald.end(status, self._steps())
        self._herald.close()

    def _await_former_kernel(self) -> None:
        """Wait for the end of a kernel that lost its runner, and end it when it does not see that.

        Raises:
            PlanError: When it does not end.
        """
        due = time.monotonic() + _FORMER_KERNEL_S
        path = self.folder.kernel_lock
        while is_locked(path):
            if time.monotonic() > due:
                raise PlanError(f"A former kernel of run {self.info.run_id} does not end.")
            if time.monotonic() > due - _FORMER_KERNEL_S / 2:
                with contextlib.suppress(OSError, ValueError):
                    os.kill(int(path.read_text(encoding="utf-8")), signal.SIGKILL)
            time.sleep(0.05)

    async def _execute(self) -> EngineResult:
        recording = asyncio.create_task(self._record_rows())
        try:
            return await self._run_notebook()
        finally:
            recording.cancel()

    async def _run_notebook(self) -> EngineResult:
        plan = self.info.kind == "plan"
        return await aexecute(
            self.folder.source,
            self.folder.notebook,
            {} if plan else self.info.params,
            cwd=self.folder.path if plan else Path(self.info.plan_dir),
            env=self._environment(),
            journal=self.folder.cells,
            cell_status=self._cell_status if plan else None,
            cancel=self._cancelled,
        )

    def _environment(self) -> dict[str, str]:
        env = {"WORKBENCH_DATA_DIR": self.info.data_dir, "WORKBENCH_HEADLESS": "1"}
        if self.info.kind == "plan":
            env |= {RUN_DIR: str(self.folder.path), NONCE: self._nonce}
        return env

    def _cell_status(self, cell: NotebookNode) -> Mapping[str, Any] | None:
        """Say of the cell of a step what came of the step."""
        tags = cell.metadata.get("tags", ())
        step = next((tag[5:] for tag in tags if tag.startswith("step:")), None)
        if step is None:
            return None
        found = self._read().step(step)
        if found.status in ("done", "kept"):
            return None
        reason = (found.error or {}).get("message") or found.reason
        return {"status": found.status, "reason": reason or found.status}

    def _cancelled(self) -> bool:
        """Whether the kernel shall be interrupted: the steps of a plan may first end themselves."""
        if not self.folder.cancel.exists():
            return False
        self._cancel_seen = self._cancel_seen or time.monotonic()
        grace_s = _CANCEL_S if self.info.kind == "plan" else 0.0
        return time.monotonic() - self._cancel_seen >= grace_s

    async def _record_rows(self) -> None:
        """Keep the metrics of the run up to date while it goes on, and its own server awake."""
        due = time.monotonic() + _AWAKE_S
        while True:
            await asyncio.sleep(_ROWS_S)
            await asyncio.to_thread(self._write_rows)
            self._herald.look(self._read())
            if self.info.own_server is not None and time.monotonic() > due:
                due = time.monotonic() + _AWAKE_S
                await asyncio.to_thread(self._with_server, _ask_version)

    def _write_rows(self) -> None:
        """Record the run, its steps and attempts in the metrics, as far as they have come."""

        async def write() -> None:
            if self._rows is None:
                client = open_client(client_config(data_dir=self.info.data_dir), spawn=False)
                self._client = client
                if client.records is None:
                    return
                self._rows = RunRows(self.folder, client.records.write)
            self._rows.poll()

        try:
            get_portal().run(write())
        except (WorkbenchError, OSError) as exc:
            log.warning("the metrics of the run are not recorded: %s", exc)

    def _read(self) -> RunState:
        lines, self._offset = read_lines(self.folder.journal, self._offset)
        return self._state.take(lines)

    def _ending(self, result: EngineResult | None) -> tuple[str, dict[str, Any] | None]:
        """Return the status of the run and the error that tells why it failed."""
        error = None
        if result is not None and result.error is not None:
            error = {"type": result.error.name, "message": result.error.message}
        if self.info.kind == "notebook":
            known = {"done": "done", "cancelled": "cancelled"}
            return known.get(result.status if result else "failed", "failed"), error
        state = self._steps()
        dead = result is None or result.status in ("kernel_died", "timeout")
        self._tell_interrupted(state, error or {"type": "RunFailed", "message": "the kernel died"})
        statuses = {step.status for step in state.steps.values()}
        if statuses <= FINISHED:
            return ("done", None) if result and result.status == "done" else ("failed", error)
        if self.folder.cancel.exists():
            return "cancelled", None
        if dead:
            return "failed", error
        if "waiting" in statuses:
            return "waiting", None
        for step in state.steps.values():
            if step.status == "failed" and step.error is not None:
                message = f"step {step.id}: {step.error.get('message')}"
                return "failed", {**step.error, "message": message}
        return "failed", error

    def _steps(self) -> RunState:
        lines, _ = read_lines(self.folder.journal)
        return state_of(lines, steps=[step["id"] for step in self.info.steps], alive=True)

    def _tell_interrupted(self, state: RunState, error: Mapping[str, Any]) -> None:
        """Write the end of the steps whose kernel is gone."""
        cancelled = self.folder.cancel.exists()
        for step in state.steps.values():
            if step.status in ("running", "retrying"):
                facts: dict[str, Any] = {"step": step.id, "attempt": step.attempt}
                if cancelled:
                    self._journal.write("step_cancelled", **facts)
                else:
                    self._journal.write("step_failed", error=dict(error), final=True, **facts)
                step.status = "cancelled" if cancelled else "failed"

    def _finish(self) -> None:
        """Write the record and the metrics, and leave the machine as it was.

        Each is done whatever becomes of the others: the run has ended, and its end is written.
        """
        self._try("the record of the run could not be written", lambda: write_record(self.folder))
        self._try("the metrics of the run are not recorded", self._write_rows)
        if self.info.cache:
            cache = StepCache(Path(self.info.data_dir))
            self._try("the cache could not be pruned", cache.prune)
        if self.info.own_server is not None:
            self._try("the server of the run goes on", lambda: self._with_server(self._stop))
        if self._rows is not None:
            close_records(self._client.records)
        self._journal.close()

    def _try(self, otherwise: str, work: Callable[[], object]) -> None:
        """Do something; where it fails, the log of the run says what that means and why."""
        try:
            work()
        except WorkbenchError as exc:
            log.warning("%s: %s", otherwise, exc)
        except Exception:
            log.exception("%s", otherwise)

    async def _stop(self, client: WorkbenchClient) -> None:
        """End the server that was started for this run, unless it was replaced meanwhile."""
        if (await client.info()).boot_id == self.info.own_server:
            await client.request_json("POST", "/workbench/v1/shutdown", {}, timeout_s=_SERVER_END_S)
            folder, boot_id = Path(self.info.data_dir), str(self.info.own_server)
            if not await asyncio.to_thread(await_gone, folder, boot_id, _SERVER_END_S):
                log.warning("the server of the run has not ended within %g s", _SERVER_END_S)

    def _with_server(self, ask: Callable[[WorkbenchClient], Awaitable[None]]) -> None:
        """Ask the server something; one that is not there need not answer."""

        async def work() -> None:
            client = open_client(client_config(data_dir=self.info.data_dir), spawn=False)
            try:
                await ask(client)
            finally:
                await client.aclose()

        with contextlib.suppress(WorkbenchError):
            get_portal().run(work())

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Let the polite signals cancel the run."""

        def cancel(number: int, _: Any) -> None:
            request_cancel(self.folder, who=f"signal {signal.Signals(number).name}")

        names = [name for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
        before = {name: signal.signal(getattr(signal, name), cancel) for name in names}
        try:
            yield
        finally:
            for name, handler in before.items():
                signal.signal(getattr(signal, name), handler)


async def _ask_version(client: WorkbenchClient) -> None:
    await client.version()


if __name__ == "__main__":
    raise SystemExit(main())
