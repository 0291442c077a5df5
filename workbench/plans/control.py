"""Asking a run to stop, and what its end means to a shell."""

from __future__ import annotations

import asyncio

from workbench.errors import PlanError
from workbench.plans.approvals import user_name
from workbench.plans.artifacts import write_json
from workbench.plans.folder import RunFolder
from workbench.units import rfc3339, utc_now

EXIT_CODES = {"done": 0, "failed": 1, "waiting": 75, "cancelled": 130}
"""Exit code of a run by its status; 2 is a plan or parameters that cannot be run."""


def request_cancel(folder: RunFolder, *, who: str | None = None) -> None:
    """Ask a run to stop; it looks for this a few times a second."""
    write_json(folder.cancel, {"who": who or user_name(), "when": rfc3339(utc_now())})


def cancel_run(folder: RunFolder) -> None:
    """Ask a run to stop; `RunHandle.wait` tells when it has.

    Raises:
        PlanError: When no process carries it out.
    """
    if not folder.alive:
        raise PlanError(f"Run {folder.run_id} is not being carried out.")
    request_cancel(folder)


async def acancel_run(folder: RunFolder) -> None:
    """Ask a run to stop, on any event loop."""
    await asyncio.to_thread(cancel_run, folder)
