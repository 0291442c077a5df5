"""Starting, resuming and cancelling runs from outside: each is a process of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workbench.client.api import WorkbenchClient
from workbench.errors import PlanInvalid
from workbench.plans.approvals import answer_question
from workbench.plans.control import acancel_run, cancel_run
from workbench.plans.create import (
    PLAIN,
    RunOptions,
    create_notebook_run,
    create_run,
)
from workbench.plans.folder import RunFolder
from workbench.plans.handle import RunHandle
from workbench.plans.journal import read_lines
from workbench.plans.launch import client_of, launch, relaunch
from workbench.plans.params import resolve_params
from workbench.plans.parse import load_plan, parse_plan
from workbench.plans.spec import Plan
from workbench.plans.state import state_of
from workbench.plans.validate import check_plan, completed
from workbench.portal import get_portal

__all__ = [
    "RunOptions",
    "acancel_run",
    "approve_run",
    "aresume_run",
    "astart_run",
    "cancel_run",
    "read_plan_of",
    "resume_run",
    "start_notebook",
    "start_run",
]

_LOOK_S = 0.1


def start_run(
    plan: Plan | str | Path,
    params: Mapping[str, Any] | None = None,
    *,
    data_dir: Path,
    client: WorkbenchClient | None = None,
    texts: bool = False,
    options: RunOptions = PLAIN,
    env: Mapping[str, str] | None = None,
) -> RunHandle:
    """Start a run of a plan and return as soon as its process is there.

    Args:
        plan: The plan, or its file.
        params: Values by name; the plan's defaults for the others.
        client: Asked for the models; one of the data folder unless given.
        texts: Whether the values are texts, as a command line has them.
        env: Added to the environment of its process, such as the address of a server.

    Raises:
        PlanInvalid: When it cannot be run as it is written, or models are not installed.
        ConfigError: When a parameter is wrong, or the folder cannot be written.
    """
    work = astart_run(
        plan, params, data_dir=data_dir, client=client, texts=texts, options=options, env=env
    )
    return get_portal().run(work)


async def astart_run(
    plan: Plan | str | Path,
    params: Mapping[str, Any] | None = None,
    *,
    data_dir: Path,
    client: WorkbenchClient | None = None,
    texts: bool = False,
    options: RunOptions = PLAIN,
    env: Mapping[str, str] | None = None,
) -> RunHandle:
    """Start a run as `start_run` does; on the portal's loop."""
    found, resolved, base = await asyncio.to_thread(_read, plan, params or {}, texts)
    asked = client or client_of(data_dir)
    try:
        folder = await create_run(
            found, resolved, data_dir=data_dir, client=asked, plan_dir=base, options=options
        )
    finally:
        if client is None:
            await asked.aclose()
    return RunHandle(folder, launched=await asyncio.to_thread(launch, folder, env))


def read_plan_of(plan: Plan | str | Path) -> Plan:
    """Return a plan from itself, its file, or its text, which has several lines.

    Raises:
        PlanInvalid: When it cannot be run as it is written.
        ConfigError: When there is no such file.
    """
    if isinstance(plan, str) and "\n" in plan:
        return parse_plan(plan)
    if not isinstance(plan, Plan):
        return load_plan(plan)
    problems = check_plan(plan)
    if problems:
        raise PlanInvalid(plan.name, problems)
    return completed(plan)


def _read(
    plan: Plan | str | Path, params: Mapping[str, Any], texts: bool
) -> tuple[Plan, dict[str, Any], Path]:
    plan = read_plan_of(plan)
    base = Path(plan.path).absolute().parent if plan.path else Path.cwd()
    return plan, resolve_params(plan, params, texts=texts), base


def start_notebook(
    notebook: Path,
    params: Mapping[str, Any] | None = None,
    *,
    data_dir: Path,
    options: RunOptions = PLAIN,
    env: Mapping[str, str] | None = None,
) -> RunHandle:
    """Start a run of a notebook that is no plan: the same folder, process and record.

    Raises:
        ConfigError: When there is no such notebook, or the folder cannot be written.
    """
    folder = create_notebook_run(notebook, params or {}, data_dir=data_dir, options=options)
    return RunHandle(folder, launched=launch(folder, env))


def approve_run(
    folder: RunFolder,
    step: str,
    *,
    yes: bool,
    note: str = "",
    who: str | None = None,
    sha256: str | None = None,
    resume: bool = True,
) -> RunHandle | None:
    """Answer what a step of a run asks, and go on with a run whose process has ended.

    Args:
        sha256: Hash of the question that was read; `None` means the one that is asked now.
        resume: Whether to go on; `None` is returned when no process was started.

    Raises:
        PlanError: When the step asks nothing, or by now something else.
    """
    answer_question(folder, step, yes=yes, note=note, who=who, sha256=sha256)
    if not resume or _heard(folder, step):
        return None
    return resume_run(folder)


def _heard(folder: RunFolder, step: str) -> bool:
    """Whether the process of a run took an answer; one that is just ending does not."""
    while folder.alive:
        lines, _ = read_lines(folder.journal)
        if state_of(lines, alive=True).step(step).status != "waiting":
            return True
        time.sleep(_LOOK_S)
    return False


def resume_run(
    folder: RunFolder,
    *,
    force: bool = False,
    wait: bool | None = None,
    client: WorkbenchClient | None = None,
    env: Mapping[str, str] | None = None,
) -> RunHandle:
    """Go on with a run: what is committed and unchanged stays, the rest runs.

    A run that is being carried out is left alone, and its handle returned.

    Args:
        force: Go on although the notebook was edited; the edits are lost.
        wait: Whether its process stays while a person has to answer; as it was unless given.
        env: Added to the environment of its process.

    Raises:
        PlanError: When the notebook or the plan in the folder was edited.
        PlanInvalid: When models are no longer installed.
    """
    work = aresume_run(folder, force=force, wait=wait, client=client, env=env)
    return get_portal().run(work)


async def aresume_run(
    folder: RunFolder,
    *,
    force: bool = False,
    wait: bool | None = None,
    client: WorkbenchClient | None = None,
    env: Mapping[str, str] | None = None,
) -> RunHandle:
    """Go on with a run as `resume_run` does; on the portal's loop."""
    launched = await relaunch(folder, force=force, wait=wait, client=client, env=env)
    return RunHandle(folder, launched=launched)
