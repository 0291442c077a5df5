"""`papermill --engine workbench`: the same execution, called by papermill.

Papermill reads the notebook, injects the parameters and changes the folder of its process; it also
writes the notebook once more after the end, in place.  All between is done here.

Papermill imports this module while it is imported itself, so nothing here needs it before a call.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from nbclient import NotebookClient
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbformat import NotebookNode

from workbench.errors import ConfigError
from workbench.messages import nearest_names
from workbench.plans.engine.api import teller
from workbench.plans.engine.executor import Execution
from workbench.plans.engine.saving import Saver, atomic_writer
from workbench.plans.engine.session import saved
from workbench.plans.engine.values import EngineStatus, Options
from workbench.plans.journal import RunJournal

_OURS = frozenset({"input_path", "execution_timeout", "start_timeout", "kernel", "journal"})
# What papermill gives its own engine, or we set ourselves.
_REFUSED = frozenset({"km", "kernel_manager_class", "nb_man"})


class WorkbenchEngine:
    """Papermill's engine `workbench`: what it calls of `papermill.engines.Engine`."""

    @classmethod
    def nb_kernel_name(cls, nb: NotebookNode, name: str | None = None) -> str:
        """Return the name of the notebook's kernel."""
        from papermill.utils import nb_kernel_name

        return str(nb_kernel_name(nb, name))

    @classmethod
    def nb_language(cls, nb: NotebookNode, language: str | None = None) -> str:
        """Return the notebook's language."""
        from papermill.utils import nb_language

        return str(nb_language(nb, language))

    @classmethod
    def execute_notebook(
        cls,
        nb: NotebookNode,
        kernel_name: str,
        output_path: str | None = None,
        progress_bar: bool | dict[str, Any] = True,
        log_output: bool = False,
        autosave_cell_every: int = 30,
        stdout_file: Any = None,
        stderr_file: Any = None,
        **kwargs: Any,
    ) -> NotebookNode:
        """Execute a notebook that papermill prepared.

        Args:
            output_path: `None` when papermill shall save only at the end.
            autosave_cell_every: Not used: saves keep to 5 % of the time by themselves.
            kwargs: `execution_timeout` and `start_timeout` in seconds, `kernel` (`spawn` or
                `fork`), `journal` (a path), and traits of nbclient's `NotebookClient`.

        Raises:
            DeadKernelError: When the kernel died.
            CellTimeoutError: When a cell took too long.
            ConfigError: When an option does not exist.
        """
        options = _options(kwargs, kernel_name)
        watcher = _Watcher(nb, progress_bar, log_output, stdout_file, stderr_file)
        journal = RunJournal(Path(kwargs["journal"])) if kwargs.get("journal") else None
        tell = teller(journal, None)
        # Papermill names the output here too; it would leave none when the kernel dies.
        target = output_path or nb.metadata.papermill.get("output_path")
        every_s = None if output_path is None else 2.0
        saver = Saver(_writer(target), every_s=every_s, on_saved=saved(tell))
        execution = Execution(nb, options, saver, tell, watcher)
        try:
            _run(execution.run)
        finally:
            watcher.close()
            if journal:
                journal.close()
        _raise_for(execution.status, str(execution.error))
        return nb


def _options(kwargs: dict[str, Any], kernel_name: str) -> Options:
    traits = {name: value for name, value in kwargs.items() if name not in _OURS}
    known = set(NotebookClient.class_trait_names()) - _REFUSED
    for name in traits:
        if name not in known:
            near = nearest_names(name, known | _OURS, count=1)
            hint = f"Did you mean {near[0]!r}?" if near else None
            raise ConfigError(f"The engine has no option {name!r}.", key=name, hint=hint)
    limit = kwargs.get("execution_timeout") or traits.pop("timeout", None)
    kernel = kwargs.get("kernel", "spawn")
    if kernel not in ("spawn", "fork"):
        raise ConfigError(f"kernel is spawn or fork, not {kernel!r}.", key="kernel")
    return Options(
        cwd=Path.cwd(),
        env={},
        cell_timeout_s=lambda _: limit if limit and limit > 0 else None,
        cell_status=lambda _: None,
        cancelled=lambda: False,
        kernel=kernel,
        kernel_name=kernel_name,
        grace_s=5.0,
        start_timeout_s=kwargs.get("start_timeout") or 60.0,
        traits=traits,
    )


def _writer(output_path: str | None) -> Callable[[bytes], None]:
    """Return what writes the output: by a rename where it is a file, else as papermill does."""
    from papermill.iorw import LocalHandler, papermill_io

    if output_path is None:
        return lambda _: None
    handler = papermill_io.get_handler(output_path)
    if isinstance(handler, LocalHandler):
        # Papermill has changed the folder of the process, and keeps here where it was.
        return atomic_writer(Path(handler._cwd or "") / output_path)
    return lambda data: papermill_io.write(data.decode(), output_path)


def _run(start: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run to the end, on another thread where an event loop runs on this one."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(start())
        return
    failures: list[BaseException] = []

    def there() -> None:
        try:
            asyncio.run(start())
        except BaseException as exc:
            failures.append(exc)

    thread = threading.Thread(target=there, name="papermill-workbench")
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


def _raise_for(status: EngineStatus, reason: str) -> None:
    """Raise what papermill's own engine raises; a failed cell is papermill's to raise."""
    if status == "kernel_died":
        raise DeadKernelError(reason)
    if status == "timeout":
        raise CellTimeoutError(reason)


class _Watcher:
    """Papermill's progress bar, its log of outputs and its files of them."""

    def __init__(
        self, nb: NotebookNode, progress_bar: bool | dict[str, Any], log: bool, out: Any, err: Any
    ) -> None:
        from papermill.log import logger

        self._log, self._files = logger if log else None, {"stdout": out, "stderr": err}
        self._bar: Any = None
        if progress_bar:
            from tqdm.auto import tqdm

            shown = progress_bar if isinstance(progress_bar, dict) else {}
            given = {"total": len(nb.cells), "unit": "cell", "desc": "Executing", **shown}
            self._bar = tqdm(**given)

    def started(self, cell: NotebookNode, index: int) -> None:
        if self._log:
            self._log.info(f"Executing Cell {index + 1:-<40}")
        described = cell.source.partition("papermill_description=")[2].split()
        if self._bar is not None and described:
            self._bar.set_description(f"Executing {described[0]}")

    def ended(self, cell: NotebookNode, index: int) -> None:
        if self._log:
            self._log.info(f"Ending Cell {index + 1:-<43}")
            sys.stdout.flush()
            sys.stderr.flush()
        if self._bar is not None:
            self._bar.update(1)

    def output(self, out: NotebookNode) -> None:
        if out.output_type == "stream":
            if self._log:
                tell = self._log.info if out.name == "stdout" else self._log.warning
                tell(out.text)
            if file := self._files.get(out.name):
                file.write(out.text)
                file.flush()
        elif self._log and "text/plain" in out.get("data", ()):
            self._log.info(out.data["text/plain"])

    def close(self) -> None:
        """Leave the progress bar as it is."""
        if self._bar is not None:
            self._bar.close()
