"""`workbench verify` and `diff`: whether a run holds, and where two runs differ."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, cast

import click

from workbench.cli.base import json_option, print_json, report, safe
from workbench.errors import ConfigError, WorkbenchError

if TYPE_CHECKING:
    from workbench.plans.verify.base import Level

DIFFERENT = 1
"""Exit code when a run does not hold, or two runs differ."""

CANNOT = 3
"""Exit code when it could not be found out."""


@click.command(short_help="Check a run: replay it, ask its models again, or vary its seed.")
@click.argument("run")
@click.option(
    "--level",
    type=click.Choice(["replay", "models", "seeds"]),
    default="replay",
    show_default=True,
    help="How: from its tapes, against its models, or with other seeds.",
)
@click.option(
    "--seeds", type=click.IntRange(2), default=5, show_default=True, help="Runs of level seeds."
)
@click.option("--metric", metavar="EXPR", help="Figure of level seeds, as score.accuracy.")
@click.option(
    "--at-least",
    metavar="SHARE",
    type=click.FloatRange(0, 1),
    default=1.0,
    show_default=True,
    help="Share of identical answers that level models needs, 0 to 1.",
)
@click.option(
    "--at-once",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Requests of level models on their way at the same time.",
)
@json_option
def verify(
    run: str,
    level: str,
    seeds: int,
    metric: str | None,
    at_least: float,
    at_once: int,
    as_json: bool,
) -> None:
    """Check RUN: its id, the beginning of it, or its folder.

    `replay` carries it out again with the recorded answers: no model, no server, and the same
    content hash. `models` asks every recorded request again of the same models and tells the share
    of identical answers. `seeds` runs the plan with other seeds and tells whether --metric lies
    where one more run should.

    Exit codes: 0 it holds, 1 it does not, 2 misused, 3 it could not be checked.
    """
    from workbench.client.door import client_config, open_client
    from workbench.plans.folder import find_run
    from workbench.plans.verify.api import verify_run
    from workbench.portal import get_portal

    if level == "seeds" and metric is None:
        raise click.UsageError("--level seeds needs --metric, such as --metric score.accuracy.")
    config = client_config()
    client = open_client(config)
    client.kind = "cli"
    try:
        found = get_portal().run(
            verify_run(
                find_run(config.data_dir, run),
                cast("Level", level),
                client=client,
                seeds=seeds,
                metric=metric,
                least=at_least,
                at_once=at_once,
                on_progress=_progress,
            )
        )
    except ConfigError as exc:
        raise click.UsageError(str(exc)) from exc
    except WorkbenchError as exc:
        report(exc)
        sys.exit(CANNOT)
    finally:
        get_portal().run(client.aclose())
    if as_json:
        print_json(found.to_json())
    else:
        click.echo(safe(str(found)))
    sys.exit(0 if found.ok else DIFFERENT)


@click.command(short_help="Show where two runs differ.")
@click.argument("a", metavar="RUN")
@click.argument("b", metavar="RUN")
@json_option
def diff(a: str, b: str, as_json: bool) -> None:
    """Compare two runs: parameters, models, environment, and what each step gave and took.

    The first value that differs is shown.

    Exit codes: 0 they gave the same, 1 they did not, 2 misused, 3 one could not be read.
    """
    from workbench.config import load_config
    from workbench.plans.diff import diff_runs
    from workbench.plans.folder import find_run

    data_dir = load_config().data_dir
    try:
        found = diff_runs(find_run(data_dir, a), find_run(data_dir, b))
    except WorkbenchError as exc:
        report(exc)
        sys.exit(CANNOT)
    if as_json:
        print_json(found.to_json())
    else:
        click.echo(safe(str(found)))
    sys.exit(0 if found.same else DIFFERENT)


def _progress(done: int, total: int) -> None:
    """Tell a person who looks how far it is."""
    if sys.stderr.isatty():
        end = "\n" if done == total else ""
        click.echo(f"\r{done} of {total}{end}", nl=False, err=True)
