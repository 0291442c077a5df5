"""`workbench plan check`, `schema` and `notebook`: plan files, before anything runs."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from workbench.cli.base import Commands, json_option, print_json, safe, say
from workbench.errors import PlanInvalid
from workbench.units import sortable_id

if TYPE_CHECKING:
    from workbench.plans.spec import Plan

INVALID = 2
"""Exit code for a plan that cannot be run as it is written."""

file_argument = click.argument("file", type=click.Path(dir_okay=False, path_type=Path))


@click.group(cls=Commands, short_help="Check plan files, and make notebooks of them.")
def plan() -> None:
    """Check plan files, and make notebooks of them.

    A plan says in YAML what is asked, computed, decided and approved; `workbench run` runs it.
    """


@plan.command(short_help="Tell everything that is wrong with a plan.")
@file_argument
@json_option
def check(file: Path, as_json: bool) -> None:
    """Tell everything that is wrong with the plan in FILE, with line and hint.

    Nothing is run and no server is asked.
    The exit code is 2 when something is wrong.
    """
    from workbench.plans.parse import load_plan

    try:
        report = _report(file, load_plan(file))
    except PlanInvalid as exc:
        report = {"file": str(file), "ok": False, "problems": [asdict(p) for p in exc.problems]}
        if not as_json:
            for problem in exc.problems:
                click.echo(safe(str(problem)))
            count = len(exc.problems)
            say(f"{file.name}: {count} problem{'s' if count > 1 else ''}")
    else:
        if not as_json:
            counts = f"{len(report['steps'])} steps, {len(report['params'])} parameters"
            click.echo(f"{file}: {report['plan']} is well-formed: {counts}")
    if as_json:
        print_json(report)
    if not report["ok"]:
        raise click.exceptions.Exit(INVALID)


def _report(file: Path, checked: Plan) -> dict[str, Any]:
    """Return what a good plan holds, for other programs."""
    from workbench.plans.compile import plan_hash
    from workbench.plans.params import must_be_given

    return {
        "file": str(file),
        "ok": True,
        "problems": [],
        "plan": checked.name,
        "plan_version": checked.plan_version,
        "plan_hash": plan_hash(checked),
        "params": [
            {
                "name": param.name,
                "type": param.type,
                "default": param.default,
                "required": must_be_given(param),
                "choices": list(param.choices),
                "help": param.help,
            }
            for param in checked.params
        ],
        "steps": [
            {"id": step.id, "kind": step.kind, "needs": list(step.needs), "title": step.title}
            for step in checked.steps
        ],
    }


@plan.command(short_help="Print the JSON schema of plan files.")
def schema() -> None:
    """Print the JSON schema of plan files, for editors.

    Save it, and begin a plan with `# yaml-language-server: $schema=plan.schema.json`.
    """
    from workbench.plans.kinds import load_kinds
    from workbench.plans.schema import plan_schema

    click.echo(json.dumps(plan_schema(load_kinds()), indent=2))


@plan.command(short_help="Write the notebook of a plan.")
@file_argument
@click.option(
    "--output",
    "-o",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where it is written; the plan's name with .ipynb in the current folder unless given.",
)
@click.option("--overwrite", is_flag=True, help="Replace the notebook that is there.")
def notebook(file: Path, output: Path | None, overwrite: bool) -> None:
    """Write the notebook of the plan in FILE, which runs by hand and under papermill.

    `workbench run` makes its own: this one is to read, to change, or to run elsewhere.
    """
    import nbformat

    from workbench.plans.compile import compile_plan
    from workbench.plans.parse import load_plan

    checked = load_plan(file)
    target = output or Path(f"{checked.name}.ipynb")
    if target.exists() and not overwrite:
        raise click.UsageError(f"{target} exists. Give --overwrite to replace it.")
    made: Any = compile_plan(checked, plan_dir=str(file.parent.absolute()))
    partial = target.with_name(f".{target.name}.{sortable_id()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(made, partial)  # type: ignore[no-untyped-call]
        os.replace(partial, target)
    except OSError as exc:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise click.UsageError(f"{target} cannot be written: {exc.strerror}.") from exc
    click.echo(str(target))
