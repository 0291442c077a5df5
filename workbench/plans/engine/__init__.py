"""The door to papermill and nbclient: execute notebooks honestly.

`aexecute` and `execute` run one notebook in a kernel of its own; `run_notebook` is their simple
form; `papermill --engine workbench` runs the same.
"""

from __future__ import annotations

from workbench.plans.engine.api import (
    ExecuteOptions,
    RunResult,
    aexecute,
    execute,
    run_notebook,
    warm_up,
)
from workbench.plans.engine.values import (
    Cancel,
    CellError,
    CellRun,
    CellStatus,
    CellTimeout,
    EngineResult,
    EngineStatus,
    KernelKind,
    Listener,
)

__all__ = [
    "Cancel",
    "CellError",
    "CellRun",
    "CellStatus",
    "CellTimeout",
    "EngineResult",
    "EngineStatus",
    "ExecuteOptions",
    "KernelKind",
    "Listener",
    "RunResult",
    "aexecute",
    "execute",
    "run_notebook",
    "warm_up",
]
