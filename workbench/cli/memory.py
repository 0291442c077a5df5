"""`workbench load`, `unload`, `pin`, `unpin`, `fit`, `gpu` and `queue`: what is in memory."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from workbench.cli.base import json_option, open_workbench, print_json, safe, say, terminal_width
from workbench.cli.chat import parse_options
from workbench.cli.models import model_argument, safe_line

if TYPE_CHECKING:
    from workbench.app import Workbench
    from workbench.client.values import RunningModel

_GONE = ("verified", "gone_unverified")


@click.command(short_help="Bring a model into memory.")
@model_argument
@click.option(
    "-o",
    "--option",
    "options",
    multiple=True,
    metavar="NAME=VALUE",
    help="Runner option such as num_ctx=8192; may be given several times.",
)
@click.option(
    "--keep-alive",
    metavar="TIME",
    help="How long it stays without use, such as 10m or 3600; -1 is for ever.",
)
@click.option("--swap", is_flag=True, help="Consent to what has to leave memory for it.")
@click.option("--force", is_flag=True, help="Let also pinned and leased models leave, when idle.")
@json_option
def load(
    model: str,
    options: tuple[str, ...],
    keep_alive: str | None,
    swap: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Bring MODEL into memory and say how it lies there.

    A terminal shows what goes on: queued, what is unloaded, and the load with its usual time.
    Ctrl-C ends the waiting, not the load: the server goes on with it.
    """
    how = {"swap": swap, "force": force, "keep_alive": _seconds_or_text(keep_alive)}
    parsed = parse_options(options)
    wb = open_workbench()
    try:
        loaded = _load(wb, model, parsed, how, shown=sys.stderr.isatty() and not as_json)
    except KeyboardInterrupt:
        say(
            f"The server goes on loading {model}; `workbench ps` shows it, "
            f"`workbench unload {model}` takes it out again."
        )
        raise
    if as_json:
        print_json(asdict(loaded))
    else:
        click.echo(safe(str(loaded)))


def _seconds_or_text(text: str | None) -> float | str | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return text


def _load(
    wb: Workbench, model: str, options: dict[str, Any], how: dict[str, Any], *, shown: bool
) -> RunningModel:
    from workbench.cli.loading import LoadPhases, load_shown
    from workbench.messages import GenerateConfig
    from workbench.portal import get_portal

    config = GenerateConfig(options=options, keep_alive=how.pop("keep_alive"))
    if not shown:
        return get_portal().run(wb.client.load(model, config=config, **how))

    def write(text: str) -> None:
        click.echo(safe_line(text), err=True, nl=False)

    phases = LoadPhases(model, write)
    return get_portal().run(load_shown(wb.client, model, phases, config=config, **how))


@click.command(short_help="Take a model out of memory.")
@model_argument
@click.option("--force", is_flag=True, help="Cancel its answers in place of waiting for them.")
@click.option("--if-loaded", is_flag=True, help="A model that is not loaded is no failure.")
@json_option
def unload(model: str, force: bool, if_loaded: bool, as_json: bool) -> None:
    """Take MODEL out of memory once its answers have ended, and say whether it is gone.

    The exit code is 0 for the verdicts verified and gone_unverified, and 1 for still_loaded,
    resurrected and absent; with --if-loaded it is 0 for absent too.
    """
    result = open_workbench().unload(model, force=force)
    if as_json:
        print_json(asdict(result))
    else:
        click.echo(safe(str(result)))
    good = result.verdict in _GONE or (if_loaded and result.verdict == "absent")
    if not good:
        if not as_json:
            say(" ".join(filter(None, (_WHY.get(result.verdict), result.reason))))
        raise click.exceptions.Exit(1)


_WHY = {
    "absent": "It was not loaded; with --if-loaded that is no failure.",
    "still_loaded": "It is still in memory; `workbench ps` says what it does.",
    "resurrected": "It left and came back: another client loads it.",
}


@click.command(short_help="Keep a model in memory.")
@model_argument
@click.option(
    "--force", is_flag=True, help="Pin it even where the pinned ones no longer fit together."
)
@json_option
def pin(model: str, force: bool, as_json: bool) -> None:
    """Keep MODEL in memory, whatever else is asked for, until it is unpinned."""
    _show(open_workbench().pin(model, force=force), as_json)


@click.command(short_help="Let a pinned model leave memory again.")
@model_argument
@json_option
def unpin(model: str, as_json: bool) -> None:
    """Let MODEL leave memory again when room is needed."""
    _show(open_workbench().unpin(model), as_json)


@click.command(short_help="Say how a model is to be treated.")
@model_argument
@click.option(
    "--priority", metavar="NUMBER", help="0 to 9; 9 stays longest, 'default' goes back to 5."
)
@click.option(
    "--hot/--not-hot",
    default=None,
    help="Load it when the server starts, and again when memory allows.",
)
@click.option(
    "--keep-alive",
    metavar="TIME",
    help="How long it stays without use, such as 10m; -1 is for ever, 'default' goes back.",
)
@click.option(
    "--max-idle",
    metavar="TIME",
    help="After how long without use it leaves in any case; 'default' goes back.",
)
@json_option
def prefer(
    model: str,
    priority: str | None,
    hot: bool | None,
    keep_alive: str | None,
    max_idle: str | None,
    as_json: bool,
) -> None:
    """Say how MODEL is to be treated in memory; what is not given stays as it is."""
    if priority not in (None, "default", *"0123456789"):
        raise click.UsageError(f"--priority is a number from 0 to 9, not {priority!r}.")
    typed = {"priority": priority, "keep_alive": keep_alive, "max_idle": max_idle}
    how: dict[str, Any] = {
        name: None if text == "default" else _seconds_or_text(text)
        for name, text in typed.items()
        if text is not None
    }
    if how.get("priority") is not None:
        how["priority"] = int(how["priority"])
    if hot is not None:
        how["hot"] = hot
    if not how:
        raise click.UsageError("Nothing to set; see --help.")
    _show(open_workbench().prefer(model, **how), as_json)


@click.command(short_help="Say whether a model fits into memory.")
@model_argument
@click.option(
    "--num-ctx",
    type=click.IntRange(min=1),
    help="Tokens of context; else what a load would take.",
)
@json_option
def fit(model: str, num_ctx: int | None, as_json: bool) -> None:
    """Say whether MODEL fits into memory: alone, beside what is loaded, or in part.

    Figures are estimated from the model's file until it was loaded here once.
    """
    found = open_workbench().fits(model, num_ctx=num_ctx)
    if as_json:
        print_json(asdict(found))
    else:
        click.echo(safe(str(found)))


@click.command(short_help="Show the memory of every device.")
@json_option
def gpu(as_json: bool) -> None:
    """Show the memory of every device, what uses it, and where each figure comes from."""
    _show(open_workbench().gpu(), as_json)


@click.command(short_help="Show who is served and who waits.")
@json_option
def queue(as_json: bool) -> None:
    """Show who is served, who waits and for how long, and the planned order."""
    _show(open_workbench().queue(), as_json)


def _show(value: Any, as_json: bool) -> None:
    if as_json:
        print_json(asdict(value))
    else:
        click.echo(safe(value.text(terminal_width())))
