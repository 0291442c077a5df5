"""What an execution of a notebook gives, and what may be told to it; pure values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from nbformat import NotebookNode

EngineStatus = Literal["done", "failed", "cancelled", "timeout", "kernel_died"]
KernelKind = Literal["spawn", "fork"]

CellTimeout = Callable[["NotebookNode"], float | None]
"""Gives the seconds a cell may take, asked when it begins; `None` is no limit."""

CellStatus = Callable[["NotebookNode"], Mapping[str, Any] | None]
"""Gives what the notebook shall say of a cell that ran without an error of its own.

`{"status": "failed", "reason": ...}` marks it without stopping the notebook; further fields are
kept in the cell's metadata.  `None` leaves it at completed.
"""

Listener = Callable[[Mapping[str, Any]], None]
"""Is called with each event: the same fields as its line in the journal."""


class Flag(Protocol):
    """What both `asyncio.Event` and `threading.Event` are."""

    def is_set(self) -> bool:
        """Return whether it was set."""


Cancel = Callable[[], bool] | Flag
"""Asked ten times a second; the execution stops once it is true."""


@dataclass(frozen=True, slots=True)
class CellError:
    """Why an execution did not succeed: the error of a cell, or what was done to its kernel."""

    name: str
    message: str
    traceback: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.name}: {self.message}" if self.name != "RunFailed" else self.message


@dataclass(frozen=True, slots=True)
class CellRun:
    """One code cell that was begun.

    Attributes:
        index: In the notebook that was executed, the injected cell counted.
        status: `completed`, `failed`, or what `cell_status` said.
        seconds: How long it ran.
        reason: Why it failed.
    """

    index: int
    cell_id: str
    tags: tuple[str, ...]
    status: str
    seconds: float
    reason: str = ""


@dataclass(frozen=True, slots=True)
class EngineResult:
    """How an execution of a notebook ended.

    Attributes:
        status: `done` only when every cell ran and none raised; a cell that `cell_status` calls
            failed does not change it.
        output: The notebook with its outputs.
        cell_count: Cells of the notebook, Markdown and the injected one too.
        error: Of the cell that stopped it; `None` when it is done.
        failed_cell: Index of that cell; `None` also when it was stopped between two cells.
        elapsed_s: Seconds from the call to the last save.
    """

    status: EngineStatus
    output: Path
    cells: tuple[CellRun, ...]
    cell_count: int
    error: CellError | None
    failed_cell: int | None
    elapsed_s: float


@dataclass(frozen=True, slots=True)
class Options:
    """How a notebook is executed: see `workbench.plans.engine.aexecute`.

    Attributes:
        kernel_name: Of its kernel spec; `None` is the notebook's own.
        traits: Of nbclient's `NotebookClient`.
    """

    cwd: Path
    env: Mapping[str, str]
    cell_timeout_s: CellTimeout
    cell_status: CellStatus
    cancelled: Callable[[], bool]
    kernel: KernelKind
    grace_s: float
    start_timeout_s: float
    kernel_name: str | None = None
    traits: Mapping[str, Any] = field(default_factory=dict)
