"""`run.json`: what was started, written before anything runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec

from workbench.errors import SchemaTooNew, StoreError
from workbench.plans.artifacts import write_json
from workbench.plans.folder import RunFolder
from workbench.plans.spec import Plan

INFO_VERSION = 1
SERVER_WAIT_S = 120.0
"""How long a run waits for a server that is gone, unless it is told otherwise."""

RunType = Literal["plan", "notebook"]
Mode = Literal["live", "replay"]


@dataclass(frozen=True, slots=True)
class RunInfo:
    """What was started.

    Attributes:
        plan: Name of the plan, or of the notebook.
        plan_hash: Of the plan; of the notebook's sources for a run without a plan.
        run_key: Hash of everything the result depends on, as far as it is known before.
        params: Resolved; a secret is `{"env": NAME}`.
        created: UTC, ISO 8601.
        kind: `plan`, or `notebook` for a notebook that is no compiled plan.
        replay_of: Folder of the run whose tapes a replay takes.
        cache: Whether results may be taken from the cache.
        wait: Whether its process stays while a person has to answer.
        plan_dir: Folder that relative paths of the plan start from.
        data_dir: The data folder it belongs to.
        steps: `{id, kind, needs, title, foreach}` of each step, in an order in which they run.
        models: Name to `{digest, ...}` of each model the plan names.
        source_hash: Of the notebook that was compiled.
        server_wait_s: Seconds it waits for a server that is gone.
        own_server: Boot id of the server that was started for it and ends with it.
        on_finish: Command that its process runs when it ends or waits; empty for none.
        identity: Environment, code and inputs: see `plans.identity`.
    """

    run_id: str
    plan: str
    plan_hash: str
    params: Mapping[str, Any]
    created: str
    who: str
    plan_dir: str
    data_dir: str
    source_hash: str
    kind: RunType = "plan"
    run_key: str | None = None
    name: str = ""
    parent_run_id: str | None = None
    mode: Mode = "live"
    replay_of: str | None = None
    cache: bool = True
    wait: bool = False
    server_wait_s: float = SERVER_WAIT_S
    own_server: str | None = None
    on_finish: tuple[str, ...] = ()
    steps: tuple[Mapping[str, Any], ...] = ()
    models: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    identity: Mapping[str, Any] = field(default_factory=dict)

    @property
    def digests(self) -> dict[str, str | None]:
        """Name to digest of the models that are known."""
        return {name: facts.get("digest") for name, facts in self.models.items()}

    def write(self, folder: RunFolder) -> None:
        """Write the file by rename.

        Raises:
            StoreError: When it cannot be written.
        """
        named = {name: getattr(self, name) for name in self.__slots__}
        write_json(folder.info, {"v": INFO_VERSION, **named})


def read_info(folder: RunFolder) -> RunInfo:
    """Return what was started in a run folder.

    Raises:
        StoreError: When the file is missing or cannot be read.
        SchemaTooNew: When a newer version wrote it.
    """
    try:
        found = json.loads(folder.info.read_text(encoding="utf-8"))
        if isinstance(found, dict) and found.get("v", 0) > INFO_VERSION:
            raise SchemaTooNew(str(folder.info), found=found["v"], supported=INFO_VERSION)
        return msgspec.convert(found, RunInfo)
    except (OSError, ValueError, TypeError) as exc:
        raise StoreError(f"{folder.info} cannot be read: {exc}.") from exc


def read_plan(folder: RunFolder, info: RunInfo) -> Plan:
    """Return the plan of a run; its relative paths start where they did when it was started.

    Raises:
        PlanInvalid: When it cannot be read any more, for example because its code is gone.
        StoreError: When the file is missing.
    """
    from workbench.plans.parse import parse_plan

    try:
        text = folder.plan.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise StoreError(f"{folder.plan} cannot be read: {exc}.") from exc
    return parse_plan(text, path=Path(info.plan_dir) / folder.plan.name)


def replayed(info: RunInfo) -> RunFolder | None:
    """Return the run whose tapes a replay takes."""
    return RunFolder(Path(info.replay_of)) if info.replay_of else None
