"""The panel's way to what starts, stops and answers runs; nothing else of it calls these."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from workbench.client.api import WorkbenchClient
from workbench.plans.approvals import answer_question
from workbench.plans.folder import RunFolder
from workbench.plans.parse import load_plan
from workbench.plans.spec import Plan
from workbench.plans.start import RunOptions, acancel_run, aresume_run, astart_run


async def read_plan(path: Path) -> Plan:
    """Read a plan file.

    Raises:
        PlanInvalid: When it is not right; every problem is named.
        ConfigError: When there is no such file.
    """
    return await asyncio.to_thread(load_plan, path)


async def start(
    plan: Plan,
    params: Mapping[str, Any],
    *,
    data_dir: Path,
    client: WorkbenchClient,
    on_finish: Sequence[str] = (),
) -> str:
    """Start a run in a process of its own and return its id.

    Args:
        on_finish: Command that its process runs when it ends or waits.

    Raises:
        WorkbenchError: When it cannot be started.
    """
    options = RunOptions(on_finish=tuple(on_finish))
    handle = await astart_run(plan, dict(params), data_dir=data_dir, client=client, options=options)
    return handle.run_id


async def resume(folder: RunFolder, *, client: WorkbenchClient) -> None:
    """Go on with a run where it stopped.

    Raises:
        WorkbenchError: When it cannot be started.
    """
    await aresume_run(folder, client=client)


async def cancel(folder: RunFolder) -> None:
    """Ask a run to stop.

    Raises:
        PlanError: When no process carries it out.
    """
    await acancel_run(folder)


async def answer(folder: RunFolder, step: str, *, yes: bool, note: str, asked: str | None) -> None:
    """Answer the question of a step.

    Args:
        asked: Hash of the question that was read.

    Raises:
        PlanError: When the step asks nothing, or by now something else.
    """
    await asyncio.to_thread(answer_question, folder, step, yes=yes, note=note, sha256=asked)
