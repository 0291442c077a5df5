"""From a notebook's file to its output's: what `aexecute` does once everything is imported."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workbench.plans.engine.executor import Execution, Tell
from workbench.plans.engine.notebook import papermill_of, read_notebook
from workbench.plans.engine.parameters import checked_values, inject
from workbench.plans.engine.saving import Saver, atomic_writer
from workbench.plans.engine.values import Options


async def run_file(
    path: Path,
    output: Path,
    parameters: Mapping[str, Any],
    options: Options,
    tell: Tell,
    save_every_s: float | None,
) -> Execution:
    """Execute a notebook's file and return the execution, which has ended.

    Raises:
        ConfigError: When there is no such notebook or kernel, or it takes no such parameter.
        StoreError: When the output cannot be written.
    """
    values = checked_values(parameters)
    notebook = await asyncio.to_thread(read_notebook, path)
    write = await asyncio.to_thread(atomic_writer, output)
    saver = Saver(write, every_s=save_every_s, on_saved=saved(tell))
    execution = Execution(notebook, options, saver, tell)
    # Papermill, which knows how to inject parameters, is imported while the kernel starts.
    starting = execution.start_kernel()
    try:
        notebook = await asyncio.to_thread(inject, notebook, values, path.name)
    except BaseException:
        await execution.abandon(starting)
        raise
    execution.notebook = notebook
    papermill_of(notebook).update(input_path=str(path), output_path=str(output))
    tell("notebook_started", output=str(output), cells=len(notebook.cells))
    await execution.run(starting)
    return execution


def saved(tell: Tell) -> Any:
    """Return what tells of saves."""

    def on_saved(size: int, seconds: float, error: str | None) -> None:
        if error is None:
            tell("saved", bytes=size, seconds=round(seconds, 4))
        else:
            tell("save_failed", reason=error)

    return on_saved
