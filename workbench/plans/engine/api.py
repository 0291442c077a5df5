"""Execute notebooks: `aexecute`, `execute` and the simple `run_notebook`.

Everything heavy is imported when it is first needed, on a thread.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from workbench.errors import ConfigError, PlanError, RunFailed
from workbench.messages import nearest_names
from workbench.plans.engine.values import (
    Cancel,
    CellStatus,
    CellTimeout,
    EngineResult,
    KernelKind,
    Listener,
    Options,
)
from workbench.plans.journal import RunJournal
from workbench.units import rfc3339, utc_now

if TYPE_CHECKING:
    from nbformat import NotebookNode

    from workbench.plans.engine.executor import Execution

_log = logging.getLogger(__name__)


class ExecuteOptions(TypedDict, total=False):
    """How `aexecute` and `execute` execute a notebook.

    Attributes:
        cwd: Folder of the kernel; the output's unless given.
        env: Variables of the kernel, in addition to those of this process.
        journal: A file that gets a line for each event but `saved`.
        cell_timeout_s: Gives the seconds a cell may take; `None` is no limit.
        cell_status: Gives what the notebook shall say of a cell that ran.
        cancel: The cell that runs is interrupted, and none is begun, once it is true or set.
        on_event: Called with each event, on the loop's thread.
        kernel: `fork` takes it from a server that has imported the usual libraries; where there
            can be none, or for another language, it is spawned.
        save_every_s: Least seconds between saves, 2 unless given; they take at most 5 % of the
            time.  `None` saves only at the end.
        grace_s: Seconds a cell may take to end after it was interrupted, 5 unless given; then the
            kernel is killed.
        start_timeout_s: Seconds the kernel may take to be ready, 60 unless given.
    """

    cwd: Path | None
    env: Mapping[str, str] | None
    journal: Path | None
    cell_timeout_s: CellTimeout | None
    cell_status: CellStatus | None
    cancel: Cancel | None
    on_event: Listener | None
    kernel: KernelKind
    save_every_s: float | None
    grace_s: float
    start_timeout_s: float


async def aexecute(
    notebook: Path,
    output: Path,
    parameters: Mapping[str, Any] | None = None,
    **given: Unpack[ExecuteOptions],
) -> EngineResult:
    """Execute a notebook in a kernel of its own, and save it with its outputs while it runs.

    It neither blocks the event loop nor changes anything of this process; any number run at once.
    A cancelled call does what `cancel` does, and raises CancelledError when all is saved.

    Args:
        notebook: It is not changed.
        output: Replaced by a whole notebook at each save, from the first moment on.
        parameters: Values for the cell tagged `parameters`, as JSON holds them.
        given: See `ExecuteOptions`.

    Raises:
        ConfigError: When there is no such notebook, folder or kernel, or the notebook does not
            take such a parameter.
        StoreError: When the output cannot be written.
        PlanError: When the kernel cannot be forked.
    """
    began = time.monotonic()
    options = _options(output, given)
    journal, listener = given.get("journal"), given.get("on_event")
    lines = RunJournal(journal) if journal else None
    try:
        # The imports take half a second: the loop goes on meanwhile.
        run_file = await asyncio.to_thread(_run_file)
        tell, every_s = teller(lines, listener), given.get("save_every_s", 2.0)
        ran = await run_file(notebook, output, parameters or {}, options, tell, every_s)
    finally:
        if lines:
            lines.close()
    return EngineResult(
        status=ran.status,
        output=output,
        cells=tuple(ran.cells),
        cell_count=len(ran.notebook.cells),
        error=ran.error,
        failed_cell=ran.failed_cell,
        elapsed_s=time.monotonic() - began,
    )


def execute(
    notebook: Path,
    output: Path,
    parameters: Mapping[str, Any] | None = None,
    **given: Unpack[ExecuteOptions],
) -> EngineResult:
    """Execute a notebook as `aexecute` does, and wait for it.

    Ctrl-C interrupts the cell, saves a notebook that says so, and raises KeyboardInterrupt.

    Raises:
        PlanError: When an event loop runs on this thread: it would stand still.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(aexecute(notebook, output, parameters, **given))
    raise PlanError(
        "A notebook cannot be executed here: an event loop runs, and would stand still.",
        hint="Use `await aexecute(...)`, or call it on another thread.",
    )


def warm_up(env: Mapping[str, str] | None = None) -> None:
    """Start the fork server of this process, where there can be one, before it is needed.

    Args:
        env: Variables of the kernels to come, in addition to those of this process.
    """
    from workbench.plans.engine.forking import warm_up as start_server

    start_server(env)


@dataclass(frozen=True, slots=True)
class RunResult:
    """One notebook run that succeeded; `path` is the notebook with its outputs."""

    path: Path
    cells: int
    elapsed_s: float


def run_notebook(
    path: Path,
    output: Path,
    parameters: Mapping[str, Any] | None = None,
    *,
    cwd: Path | None = None,
    timeout_s: float | None = None,
) -> RunResult:
    """Run a notebook in a kernel of its own and write it with its outputs to `output`.

    Args:
        path: The notebook; it is not changed.
        output: Replaced at the end by one rename, also when the run failed.
        parameters: Values for the cell tagged `parameters`, as JSON holds them.
        cwd: Folder of the kernel; `output`'s unless given.
        timeout_s: Seconds one cell may take; `None` is no limit.

    Raises:
        RunFailed: When a cell failed or the kernel died; the notebook at `output` shows where.
        ConfigError: When there is no such notebook, or it does not take such a parameter.
        StoreError: When the output cannot be written.
        PlanError: When an event loop runs on this thread.
    """
    result = execute(
        path,
        output,
        parameters,
        cwd=cwd,
        cell_timeout_s=lambda _: timeout_s,
        save_every_s=None,
    )
    if result.error is not None:
        raise RunFailed(str(output), str(result.error))
    return RunResult(output, result.cell_count, result.elapsed_s)


def _run_file() -> Callable[..., Awaitable[Execution]]:
    from workbench.plans.engine.session import run_file

    return run_file


def _options(output: Path, given: ExecuteOptions) -> Options:
    unknown = set(given) - set(ExecuteOptions.__annotations__)
    if unknown:
        name = min(unknown)
        near = nearest_names(name, ExecuteOptions.__annotations__, count=1)
        hint = f"Did you mean {near[0]!r}?" if near else None
        raise ConfigError(f"The engine has no option {name!r}.", key=name, hint=hint)
    kernel = given.get("kernel", "spawn")
    if kernel not in ("spawn", "fork"):
        raise ConfigError(f"kernel is spawn or fork, not {kernel!r}.", key="kernel")
    return Options(
        cwd=_folder(given.get("cwd"), output),
        env=dict(given.get("env") or {}),
        cell_timeout_s=given.get("cell_timeout_s") or _nothing,
        cell_status=given.get("cell_status") or _nothing,
        cancelled=_predicate(given.get("cancel")),
        kernel=kernel,
        grace_s=given.get("grace_s", 5.0),
        start_timeout_s=given.get("start_timeout_s", 60.0),
    )


def _folder(cwd: Path | None, output: Path) -> Path:
    folder = Path(os.path.abspath(cwd or output.parent))
    if cwd is not None and not folder.is_dir():
        raise ConfigError(f"There is no folder {cwd} to run in.", key="cwd")
    return folder


def _nothing(_: NotebookNode) -> None:
    return None


def _predicate(cancel: Cancel | None) -> Callable[[], bool]:
    if cancel is None:
        return lambda: False
    return cancel if callable(cancel) else cancel.is_set


def teller(journal: RunJournal | None, listener: Listener | None) -> Callable[..., None]:
    """Return what puts events into a journal and tells them to a listener."""

    def tell(event: str, **fields: Any) -> None:
        if journal and event != "saved":
            journal.write(event, **fields)
        if listener:
            line = {"ts": rfc3339(utc_now()), "event": event}
            try:
                listener(line | {key: value for key, value in fields.items() if value is not None})
            except Exception:
                # A view that fails must not end a run.
                _log.exception("A listener of the engine failed.")

    return tell
