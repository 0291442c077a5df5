"""Making the folder of a run: everything that is checked before anything runs."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.client.api import WorkbenchClient
from workbench.errors import ConfigError, StoreError
from workbench.plans.approvals import Given, give_answers, user_name
from workbench.plans.artifacts import digest
from workbench.plans.compile import compile_plan, plan_hash
from workbench.plans.folder import RunFolder, runs_dir
from workbench.plans.identity import Identity, identify
from workbench.plans.info import SERVER_WAIT_S, Mode, RunInfo, read_info
from workbench.plans.models import missing_models, models_named
from workbench.plans.parse import to_yaml
from workbench.plans.spec import Plan
from workbench.units import rfc3339, sortable_id, utc_now

if TYPE_CHECKING:
    from nbformat import NotebookNode


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How a run is carried out.

    Attributes:
        out: Its folder; one below the data folder unless given.
        name: For lists.
        cache: Whether results may be taken from the cache.
        wait: Whether its process stays while a person has to answer.
        answers: Given in advance, by step.
        mode: `replay` plays the tapes of `tape_of`.
        parent: The run it belongs to.
        server_wait_s: Seconds it waits for a server that is gone.
        own_server: Boot id of the server that was started for it.
        on_finish: Command that its process runs when it ends or waits; see `plans.news`.
    """

    out: Path | None = None
    name: str = ""
    cache: bool = True
    wait: bool = False
    answers: Mapping[str, Given] | None = None
    mode: Mode = "live"
    tape_of: RunFolder | None = None
    parent: str | None = None
    server_wait_s: float = SERVER_WAIT_S
    own_server: str | None = None
    on_finish: tuple[str, ...] = ()

    def answered(self, answers: Mapping[str, Given]) -> RunOptions:
        """Return the same with answers that are given in advance."""
        return replace(self, answers=answers)


PLAIN = RunOptions()


async def create_run(
    plan: Plan,
    params: Mapping[str, Any],
    *,
    data_dir: Path,
    client: WorkbenchClient,
    plan_dir: Path,
    options: RunOptions = PLAIN,
) -> RunFolder:
    """Make the folder of a run of a plan, ready to be carried out.

    Args:
        params: Resolved.
        client: Asked only when the plan names models; in a replay not at all.
        plan_dir: Folder that relative paths of the plan start from.

    Raises:
        PlanInvalid: When models are not installed; all of them are named.
        ConfigError: When the folder is taken or cannot be written.
        ModelError: When the server cannot be asked for the models.
    """
    named = models_named(plan, params)
    asked = client if named and options.mode == "live" else None
    identity = await identify(plan, params, models=named, client=asked, folder=plan_dir)
    error = missing_models(identity, named, plan=plan.name, file=plan.path)
    if error is not None:
        raise error
    if options.tape_of is not None:
        # The models of a replay are those of its tapes.
        identity.models = {n: dict(m) for n, m in read_info(options.tape_of).models.items()}
    return await asyncio.to_thread(
        _make, plan, params, identity, data_dir=data_dir, plan_dir=plan_dir, options=options
    )


def _make(
    plan: Plan,
    params: Mapping[str, Any],
    identity: Identity,
    *,
    data_dir: Path,
    plan_dir: Path,
    options: RunOptions,
) -> RunFolder:
    notebook = compile_plan(plan, params)
    hashed = plan_hash(plan)
    folder = new_folder(data_dir, options.out)
    info = RunInfo(
        run_id=folder.run_id,
        plan=plan.name,
        plan_hash=hashed,
        run_key=identity.run_key(hashed, params),
        params=dict(params),
        created=rfc3339(utc_now()),
        who=user_name(),
        plan_dir=str(plan_dir.absolute()),
        data_dir=str(data_dir),
        source_hash=source_hash(notebook),
        steps=tuple(
            {
                "id": step.id,
                "kind": step.kind,
                "needs": list(step.needs),
                "title": step.title,
                "foreach": bool(step.foreach),
            }
            for step in plan.steps
        ),
        models=identity.models,
        identity=identity.to_json(),
        **_of(options),
    )
    folder.plan.write_text(plan.source or to_yaml(plan), encoding="utf-8")
    _finish(folder, notebook, info, options)
    return folder


def create_notebook_run(
    notebook: Path,
    params: Mapping[str, Any],
    *,
    data_dir: Path,
    options: RunOptions = PLAIN,
) -> RunFolder:
    """Make the folder of a run of a notebook that is no plan.

    Args:
        params: Values for its cell tagged `parameters`.

    Raises:
        ConfigError: When there is no such notebook, it does not take such a parameter, or the
            folder cannot be written.
    """
    source = _read_notebook(notebook)
    if params:
        # What it does not take is told now, and not when its process has begun.
        from workbench.plans.engine.notebook import read_notebook
        from workbench.plans.engine.parameters import checked_values, inject

        inject(read_notebook(notebook), checked_values(params), notebook.name)
    identity = Identity()
    hashed = source_hash(source)
    folder = new_folder(data_dir, options.out)
    info = RunInfo(
        run_id=folder.run_id,
        plan=notebook.stem,
        plan_hash=hashed,
        run_key=identity.run_key(hashed, params),
        params=dict(params),
        created=rfc3339(utc_now()),
        who=user_name(),
        plan_dir=str(notebook.parent.absolute()),
        data_dir=str(data_dir),
        source_hash=hashed,
        kind="notebook",
        identity=identity.to_json(),
        **_of(options),
    )
    _finish(folder, source, info, options)
    return folder


def _of(options: RunOptions) -> dict[str, Any]:
    return {
        "name": options.name,
        "parent_run_id": options.parent,
        "mode": options.mode,
        "replay_of": None if options.tape_of is None else str(options.tape_of.path),
        "cache": options.cache,
        "wait": options.wait,
        "server_wait_s": options.server_wait_s,
        "own_server": options.own_server,
        "on_finish": options.on_finish,
    }


def _read_notebook(path: Path) -> NotebookNode:
    import nbformat

    try:
        found: NotebookNode = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    except OSError as exc:
        raise ConfigError(f"There is no notebook {path}.", key="path") from exc
    except (ValueError, nbformat.ValidationError) as exc:
        raise ConfigError(f"{path} is no notebook: {exc}.", key="path") from exc
    return found


def new_folder(data_dir: Path, out: Path | None) -> RunFolder:
    """Make an empty folder for a run; one that lies elsewhere is linked to.

    Raises:
        ConfigError: When it is taken, or cannot be written.
    """
    run_id = sortable_id()
    runs = runs_dir(data_dir)
    path = runs / run_id if out is None else out.absolute()
    try:
        runs.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.mkdir(parents=True, exist_ok=True)
        if any(path.iterdir()):
            raise ConfigError(
                f"The folder {path} is not empty.",
                key="out",
                hint="Give each run a folder of its own, or go on with `workbench resume`.",
            )
        for part in ("control", "answers", "steps"):
            (path / part).mkdir()
        if out is not None:
            (runs / f"{run_id}.link").write_text(f"{path}\n", encoding="utf-8")
    except OSError as exc:
        raise ConfigError(
            f"The folder {path} cannot be written: {exc.strerror}.",
            key="out",
            hint="Choose another one: --out.",
        ) from exc
    return RunFolder(path, run_id)


def source_hash(notebook: Mapping[str, Any]) -> str:
    """Return the hash of what people can edit in a notebook: kinds and sources of its cells.

    What papermill injects is no part of it.
    """
    cells = [
        [cell["cell_type"], cell["source"]]
        for cell in notebook["cells"]
        if "injected-parameters" not in cell["metadata"].get("tags", ())
    ]
    return digest(cells)


def _finish(folder: RunFolder, notebook: NotebookNode, info: RunInfo, options: RunOptions) -> None:
    import nbformat

    try:
        for path in (folder.source, folder.notebook):
            nbformat.write(notebook, path)  # type: ignore[no-untyped-call]
        if options.tape_of is not None:
            # What people said then is a part of what is replayed.
            for path in (options.tape_of.path / "answers").glob("*.json"):
                shutil.copyfile(path, folder.path / "answers" / path.name)
        if options.answers:
            give_answers(folder, options.answers)
        info.write(folder)
    except OSError as exc:
        raise StoreError(f"{folder.path} cannot be written: {exc.strerror}.") from exc
