"""`%%metrics`: a cell of SQL over what was measured."""

from __future__ import annotations

from typing import Any

from IPython.core.error import UsageError

from workbench.config import load_config
from workbench.errors import QueryFailed, WorkbenchError
from workbench.magics.line import Line, Option, held_workbench
from workbench.metrics import Metrics
from workbench.metrics import open as open_metrics
from workbench.metrics.layout import metrics_dir

LINE = Line(
    "%%metrics",
    (
        Option("--output", "NAME", "Keep the DataFrame under this name.", "-o"),
        Option("--timeout", "SECONDS", "Give up after so many seconds.", "-t", float),
    ),
)


def run(shell: Any, line: str, cell: str) -> Any:
    """Run a cell of SQL; the store is that of `wb` where there is one, else the configured one.

    Raises:
        UsageError: When the query is refused or wrong; IPython shows it without a traceback.
    """
    given = LINE.read(line)
    try:
        with _opened(shell) as metrics:
            frame = metrics.sql(cell, timeout_s=given.timeout)
    except QueryFailed as exc:
        raise UsageError(shown(exc)) from exc
    except WorkbenchError as exc:
        raise UsageError(str(exc)) from exc
    if given.output is None:
        return frame
    shell.user_ns[given.output] = frame
    return None


def shown(error: QueryFailed) -> str:
    """Return an error with the line of the query and a mark below the place."""
    if error.line is None or error.column is None:
        return str(error)
    lines = error.query.splitlines()
    source = lines[error.line - 1] if error.line <= len(lines) else ""
    return f"{error}\n\n    {source}\n    {' ' * (error.column - 1)}^"


def _opened(shell: Any) -> Metrics:
    wb = held_workbench(shell)
    config = load_config() if wb is None else wb.config
    return open_metrics(metrics_dir(config.data_dir), compact=True)
