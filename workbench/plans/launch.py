"""Starting the process of a run, and starting it again: what is checked before."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from workbench.client.api import WorkbenchClient
from workbench.client.door import client_config, open_client
from workbench.errors import PlanError, StoreError
from workbench.plans.compile import compile_plan, plan_hash
from workbench.plans.create import source_hash
from workbench.plans.folder import RunFolder
from workbench.plans.identity import Identity, ask_server
from workbench.plans.info import RunInfo, read_info, read_plan
from workbench.plans.journal import read_lines
from workbench.plans.models import missing_models, models_named
from workbench.plans.spec import Plan


@dataclass(frozen=True, slots=True)
class Launched:
    """The process of a run that was just started.

    Attributes:
        executions: How often the run had been begun before it.
    """

    process: subprocess.Popen[bytes]
    executions: int


def client_of(data_dir: Path) -> WorkbenchClient:
    """Return a client of the server of a data folder; it is found at the first request."""
    return open_client(client_config(data_dir=data_dir))


def launch(folder: RunFolder, env: Mapping[str, str] | None = None) -> Launched:
    """Start the process of a run, in a session of its own.

    Args:
        env: Added to its environment.

    Raises:
        StoreError: When its folder cannot be written.
    """
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("JPY_", "WORKBENCH_RUN_", "WORKBENCH_TAPE"))
        and name not in ("WORKBENCH_STEP", "WORKBENCH_CONTEXT")
    }
    environment |= env or {}
    lines, _ = read_lines(folder.journal)
    executions = sum(1 for line in lines if line["event"] == "run_started")
    command = [sys.executable, "-P", "-m", "workbench.plans.process", str(folder.path)]
    try:
        with folder.log.open("ab") as stderr:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                cwd=folder.path,
                env=environment,
                start_new_session=True,
            )
    except OSError as exc:
        raise StoreError(f"{folder.path} cannot be written: {exc.strerror}.") from exc
    # Somebody has to take note of its end, or it stays in the list of processes.
    threading.Thread(target=process.wait, name="workbench-run-end", daemon=True).start()
    return Launched(process, executions)


async def relaunch(
    folder: RunFolder,
    *,
    force: bool = False,
    wait: bool | None = None,
    client: WorkbenchClient | None = None,
    env: Mapping[str, str] | None = None,
) -> Launched | None:
    """Start the process of a run again; on the portal's loop.

    `None` is returned for a run that is being carried out: it is left alone.

    Args:
        force: Go on although the notebook was edited; the edits are lost.
        wait: Whether the process stays while a person has to answer; as it was unless given.
        env: Added to its environment.

    Raises:
        PlanError: When the notebook or the plan in the folder was edited.
        PlanInvalid: When models are no longer installed.
    """
    if folder.alive:
        return None
    info = await asyncio.to_thread(read_info, folder)
    if wait is not None:
        info = replace(info, wait=wait)
    if info.kind == "plan":
        plan = await asyncio.to_thread(_checked, folder, info, force)
        if info.mode == "live":
            info = await _with_models(plan, info, client)
    await asyncio.to_thread(info.write, folder)
    with contextlib.suppress(FileNotFoundError):
        folder.cancel.unlink()
    return await asyncio.to_thread(launch, folder, env)


async def _with_models(plan: Plan, info: RunInfo, client: WorkbenchClient | None) -> RunInfo:
    """Return what was started with the models as they are now: one may have been replaced."""
    named = models_named(plan, info.params)
    if not named:
        return info
    asked = client or client_of(Path(info.data_dir))
    try:
        found = Identity()
        await ask_server(found, named, asked)
    finally:
        if client is None:
            await asked.aclose()
    error = missing_models(found, named, plan=plan.name)
    if error is not None:
        raise error
    return replace(info, models=found.models)


def _checked(folder: RunFolder, info: RunInfo, force: bool) -> Plan:
    """Return the plan of a run after a look whether its files are as the run left them.

    Raises:
        PlanError: When the plan or the notebook was edited.
    """
    import nbformat

    plan = read_plan(folder, info)
    if plan_hash(plan) != info.plan_hash:
        raise PlanError(
            f"{folder.plan} was edited since the run began.",
            hint="Start a new run of it: what did not change comes from the cache.",
        )
    edited = [path for path in (folder.notebook, folder.source) if _edited(path, info)]
    if edited and not force:
        raise PlanError(
            f"{edited[0]} was edited since the run began.",
            hint="Save a copy of your changes, then go on with --force, which makes it anew.",
        )
    if edited:
        notebook = compile_plan(plan, info.params)
        for path in (folder.source, folder.notebook):
            nbformat.write(notebook, path)  # type: ignore[no-untyped-call]
    return plan


def _edited(path: Path, info: RunInfo) -> bool:
    import nbformat

    try:
        found = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
        return source_hash(found) != info.source_hash
    except (OSError, ValueError, nbformat.ValidationError):
        return True
