"""Execute a prepared notebook, and say of every cell what really happened to it.

Papermill 2.7 turns every pending cell into a completed one when the kernel was killed, a cell took
too long or Ctrl-C was pressed.  Here a cell is completed when the kernel said so, and never
otherwise.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Protocol

from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbformat import NotebookNode

from workbench.plans.engine.client import CellClient, join_streams
from workbench.plans.engine.kernels import KernelNotReady, RunningKernel
from workbench.plans.engine.notebook import add_error, begin, kernel_of, node, now, papermill_of
from workbench.plans.engine.saving import Saver
from workbench.plans.engine.starting import start_kernel
from workbench.plans.engine.values import CellError, CellRun, EngineStatus, Options

_TICK_S = 0.1
# A kernel that died is given up when nothing of it came for so long, in seconds.
_LAST_WORDS_S = 0.3
_CANCELLED = "it was cancelled"

Tell = Callable[..., None]


class Watcher(Protocol):
    """Sees each cell, Markdown too, as it begins and ends, and each output as it comes."""

    def started(self, cell: NotebookNode, index: int) -> None:
        """See a cell begin."""

    def ended(self, cell: NotebookNode, index: int) -> None:
        """See a cell that has ended, however it did."""

    def output(self, out: NotebookNode) -> None:
        """See an output that has just come."""


class _Stopped(Exception):
    """Raised within an execution that must not go on."""

    def __init__(self, status: EngineStatus, error: CellError | None) -> None:
        super().__init__(status)
        self.status, self.error = status, error


class Execution:
    """One execution of one notebook.

    Args:
        notebook: Is changed while it runs.
        saver: Saves it.
        tell: Is called with the name of an event and its fields.
        watcher: For progress bars and logs.
    """

    def __init__(
        self,
        notebook: NotebookNode,
        options: Options,
        saver: Saver,
        tell: Tell,
        watcher: Watcher | None = None,
    ) -> None:
        self.notebook = notebook
        self.cells: list[CellRun] = []
        self.status: EngineStatus = "failed"
        self.error: CellError | None = None
        self.failed_cell: int | None = None
        self._options, self._saver, self._tell = options, saver, tell
        self._watcher = watcher
        self._kernel: RunningKernel | None = None
        self._client: CellClient | None = None
        self._began = time.monotonic()

    async def run(self, starting: asyncio.Task[RunningKernel] | None = None) -> None:
        """Execute every cell, or until one stops it; `status` and `error` tell how it ended.

        A cancelled call leaves a saved notebook that says so, and no kernel.

        Args:
            starting: A kernel that is already being started; otherwise one is started here.

        Raises:
            StoreError: When the notebook cannot be saved at the beginning or at the end.
            ConfigError: When no such kernel is installed.
            PlanError: When it cannot be forked.
        """
        starting = starting or self.start_kernel()
        begin(self.notebook)
        try:
            await self._all_cells(starting)
            await self._finish_kernel()
            self._conclude()
            await self._saver.save(self.notebook)
        except BaseException as exc:
            by_caller = isinstance(exc, asyncio.CancelledError | KeyboardInterrupt)
            self.status = "cancelled" if by_caller else "failed"
            self.error = CellError("RunFailed", _reason(exc))
            await self._give_up(starting)
            raise
        finally:
            self._tell_end()

    async def _all_cells(self, starting: asyncio.Task[RunningKernel]) -> None:
        try:
            if self._saver.live:
                await self._saver.save(self.notebook)
            await self._ready(starting)
            for index, cell in enumerate(self.notebook.cells):
                self._check_cancelled()
                await self._cell(cell, index)
            self.status = "done"
        except _Stopped as stopped:
            self.status, self.error = stopped.status, stopped.error
            await self._end_start(starting)

    def start_kernel(self) -> asyncio.Task[RunningKernel]:
        """Begin to start the kernel, while the notebook is still being prepared."""
        options = self._options
        name = options.kernel_name or kernel_of(self.notebook)
        arguments = options.traits.get("extra_arguments", ())
        return asyncio.ensure_future(
            start_kernel(
                name,
                cwd=options.cwd,
                env=options.env,
                kind=options.kernel,
                timeout_s=options.start_timeout_s,
                arguments=arguments,
            )
        )

    async def _ready(self, starting: asyncio.Task[RunningKernel]) -> None:
        while not starting.done():
            await asyncio.wait({starting}, timeout=_TICK_S)
            self._check_cancelled()
        try:
            self._kernel = starting.result()
        except KernelNotReady as exc:
            raise _Stopped("kernel_died", CellError("RunFailed", str(exc))) from exc
        self._client = CellClient(self.notebook, self._kernel, **self._options.traits)
        self._client.on_output = self._watcher.output if self._watcher else None
        self.notebook.metadata["language_info"] = node(self._kernel.language)
        self._tell(
            "kernel_started",
            kind=self._kernel.kind,
            pid=self._kernel.pid,
            seconds=round(self._kernel.start_s, 3),
        )

    def _check_cancelled(self) -> None:
        if self._options.cancelled():
            raise _Stopped("cancelled", CellError("RunFailed", _CANCELLED))

    async def _cell(self, cell: NotebookNode, index: int) -> None:
        about = papermill_of(cell)
        began = time.monotonic()
        about.update(start_time=now(), status="running", exception=False)
        if self._watcher:
            self._watcher.started(cell, index)
        code = cell.cell_type == "code"
        said: Mapping[str, Any] = {}
        if code:
            self._tell("cell_started", **_names(cell, index))
            try:
                await self._run_code(cell, index)
                said = self._options.cell_status(cell) or {}
            except BaseException as exc:
                self._failed(cell, index, began, exc)
                raise
            finally:
                join_streams(cell)
        about.update(said)
        about["status"] = said.get("status", "completed")
        about["exception"] = about["status"] == "failed"
        self._ended(cell, index, began)
        self._saver.save_if_due(self.notebook)

    def _failed(self, cell: NotebookNode, index: int, began: float, exc: BaseException) -> None:
        join_streams(cell)
        if isinstance(exc, _Stopped) and exc.error is None:
            papermill_of(cell)["status"] = "completed"
        else:
            error = exc.error if isinstance(exc, _Stopped) else None
            reason = str(error) if error else _reason(exc)
            if error is None or error.name == "RunFailed":
                add_error(cell, "RunFailed", reason)
            papermill_of(cell).update(status="failed", exception=True, reason=reason)
            self.failed_cell = index
        self._ended(cell, index, began)

    def _ended(self, cell: NotebookNode, index: int, began: float) -> None:
        seconds, about = time.monotonic() - began, papermill_of(cell)
        about.update(end_time=now(), duration=seconds)
        if self._watcher:
            self._watcher.ended(cell, index)
        if cell.cell_type == "code":
            status, reason = about["status"], about.get("reason", "")
            self.cells.append(
                CellRun(index, cell.get("id", ""), _tags(cell), status, seconds, reason)
            )
            self._tell(
                "cell_finished",
                **_names(cell, index),
                status=status,
                seconds=round(seconds, 4),
                reason=reason or None,
            )

    async def _run_code(self, cell: NotebookNode, index: int) -> None:
        """Run a code cell, watched: its time, a wish to cancel, the life of the kernel, saves."""
        assert self._client is not None and self._kernel is not None
        limit = self._options.cell_timeout_s(cell)
        deadline = None if limit is None else time.monotonic() + limit
        task = asyncio.ensure_future(self._client.async_execute_cell(cell, index))
        try:
            while not task.done():
                left = _TICK_S if deadline is None else deadline - time.monotonic()
                await asyncio.wait({task}, timeout=max(0.0, min(_TICK_S, left)))
                if task.done():
                    break
                if not await self._kernel.alive():
                    await self._last_words(task)
                elif deadline is not None and time.monotonic() >= deadline:
                    await self._interrupt(task)
                    raise _Stopped("timeout", CellError("RunFailed", _too_long(limit)))
                elif self._options.cancelled():
                    self._tell("cancel_requested", index=index)
                    await self._interrupt(task)
                    raise _Stopped("cancelled", CellError("RunFailed", _CANCELLED))
                self._saver.save_if_due(self.notebook)
            await self._outcome(task)
        except asyncio.CancelledError:
            await self._interrupt(task)
            raise
        finally:
            await _drop(task)

    async def _outcome(self, task: asyncio.Task[NotebookNode]) -> None:
        try:
            task.result()
        except CellExecutionError as exc:
            if exc.ename == "SystemExit" and exc.evalue in ("", "0"):
                # A notebook may end itself, as with papermill.
                raise _Stopped("done", None) from exc
            assert self._client is not None
            error = CellError(exc.ename, exc.evalue, self._client.traceback)
            raise _Stopped("failed", error) from exc
        except DeadKernelError as exc:
            raise await self._died() from exc
        except Exception as exc:
            raise _Stopped("failed", CellError(type(exc).__name__, str(exc))) from exc

    async def _last_words(self, task: asyncio.Task[NotebookNode]) -> None:
        """Read what a dead kernel still sent; then give up, unless the cell had ended."""
        assert self._client is not None
        seen = -1
        while not task.done() and seen != self._client.received:
            seen = self._client.received
            await asyncio.wait({task}, timeout=_LAST_WORDS_S)
        if not task.done():
            raise await self._died()

    async def _died(self) -> _Stopped:
        assert self._kernel is not None
        code = await self._kernel.exit_code()
        self._tell("kernel_died", code=code)
        return _Stopped("kernel_died", CellError("RunFailed", _death(code)))

    async def _interrupt(self, task: asyncio.Task[NotebookNode]) -> None:
        """Interrupt the kernel; kill it when the cell has not ended within the grace."""
        assert self._kernel is not None
        await self._kernel.interrupt()
        deadline = time.monotonic() + self._options.grace_s
        while not task.done() and time.monotonic() < deadline:
            await asyncio.wait({task}, timeout=_TICK_S)
            self._kernel.wake()
        if not task.done():
            await self._kernel.kill()
            self._tell("kernel_killed", seconds=self._options.grace_s)

    async def _finish_kernel(self) -> None:
        kernel, client = self._kernel, self._client
        if kernel is None:
            return
        self._kernel = None
        await kernel.stop()
        if client is not None:
            client.set_widgets_metadata()

    async def _give_up(self, starting: asyncio.Task[RunningKernel]) -> None:
        """End the kernel and save what there is, whatever happened; also when cancelled again."""
        try:
            await self._end_start(starting)
            await self._finish_kernel()
        finally:
            self._conclude()
            self._saver.save_blocking(self.notebook)

    async def abandon(self, starting: asyncio.Task[RunningKernel]) -> None:
        """End a kernel that was started for a notebook that cannot be executed."""
        await self._end_start(starting)
        await self._finish_kernel()

    async def _end_start(self, starting: asyncio.Task[RunningKernel]) -> None:
        if self._kernel is None:
            starting.cancel()
            await asyncio.wait({starting})
            if not starting.cancelled() and starting.exception() is None:
                self._kernel = starting.result()

    def _conclude(self) -> None:
        about = papermill_of(self.notebook)
        about.update(end_time=now(), duration=time.monotonic() - self._began)
        marked = any(papermill_of(cell).get("exception") for cell in self.notebook.cells)
        if self.error is not None or marked:
            about["exception"] = True
        if self.error is not None:
            about["reason"] = str(self.error)

    def _tell_end(self) -> None:
        self._tell(
            "notebook_finished",
            status=self.status,
            seconds=round(time.monotonic() - self._began, 3),
            failed_cell=self.failed_cell,
            reason=str(self.error) if self.error else None,
        )


async def _drop(task: asyncio.Task[Any]) -> None:
    """Let go of what will never end, or of what it raised."""
    if not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=_TICK_S)
    if task.done() and not task.cancelled():
        task.exception()


def _names(cell: NotebookNode, index: int) -> dict[str, Any]:
    return {"index": index, "cell": cell.get("id"), "tags": list(_tags(cell))}


def _tags(cell: NotebookNode) -> tuple[str, ...]:
    return tuple(cell.metadata.get("tags", ()))


def _reason(exc: BaseException) -> str:
    if isinstance(exc, asyncio.CancelledError | KeyboardInterrupt):
        return "it was interrupted"
    return f"{type(exc).__name__}: {exc}"


def _too_long(limit: float | None) -> str:
    return f"the cell took longer than it may ({limit:g} s)"


def _death(code: int | None) -> str:
    if code is not None and code < 0:
        with suppress(ValueError):
            return f"the kernel died ({signal.Signals(-code).name})"
    return "the kernel died" if code is None else f"the kernel died (exit code {code})"
