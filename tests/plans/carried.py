"""Plans carried out in this process, and runs whose files were written by hand."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workbench.client.api import WorkbenchClient
from workbench.plans.create import RunOptions, create_run
from workbench.plans.folder import RunFolder
from workbench.plans.info import read_info
from workbench.plans.params import resolve_params
from workbench.plans.parse import parse_plan
from workbench.plans.record import write_record
from workbench.plans.runtime import Run
from workbench.plans.stage import Stage
from workbench.portal import get_portal


def carry_out(
    text: str,
    place: Path,
    client: WorkbenchClient,
    *,
    params: Mapping[str, Any] | None = None,
    untaped: str | None = None,
    **options: Any,
) -> RunFolder:
    """Carry out a plan without a kernel and return the folder of its run, with its record.

    Args:
        place: The plan's folder; the data folder lies beside it.
        untaped: Why no tape is recorded.
        **options: See `RunOptions`.
    """
    place.mkdir(exist_ok=True)
    plan = parse_plan(text, path=place / "plan.yaml")
    resolved = resolve_params(plan, params or {}, texts=False)
    folder = get_portal().run(
        create_run(
            plan,
            resolved,
            data_dir=place.parent / "data",
            client=client,
            plan_dir=place,
            options=RunOptions(**options),
        )
    )
    info = read_info(folder)
    client.run_id = info.run_id
    stage = Stage.open(folder, plan, resolved, info, client, untaped=untaped)
    stage.journal.write("run_started", pid=os.getpid(), execution=1, resumed=False)
    run = Run(stage, eager=True)
    run.settle()
    failure = run.failure()
    status = "failed" if failure else "done"
    if "waiting" in run.statuses().values():
        status = "waiting"
    error = {"type": "StepFailed", "message": failure.message} if failure else None
    stage.journal.write("run_finished", status=status, error=error)
    stage.journal.close()
    write_record(folder)
    return folder


PLAN = """\
plan: by-hand
plan_version: 1
steps:
  - {id: load, kind: python, code: "def run(): return 1"}
  - {id: report, kind: python, needs: [load], code: "def run(): return 2"}
"""


def write_run(place: Path, *lines: Mapping[str, Any], **info: Any) -> RunFolder:
    """Write the files of a run whose journal is these lines."""
    folder = RunFolder(place)
    place.mkdir(parents=True)
    about = {
        "v": 1,
        "run_id": "r1",
        "plan": "by-hand",
        "plan_hash": "h",
        "run_key": "k1",
        "params": {},
        "created": "2026-11-20T08:00:00.000000Z",
        "who": "somebody",
        "plan_dir": str(place),
        "data_dir": str(place.parent),
        "source_hash": "s",
        **info,
    }
    folder.info.write_text(json.dumps(about), "utf-8")
    folder.plan.write_text(PLAN, "utf-8")
    text = "".join(json.dumps({"v": 1, **line}) + "\n" for line in lines)
    folder.journal.write_text(text, "utf-8")
    return folder
