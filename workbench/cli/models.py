"""`workbench models`, `ps`, `pull`, `rm` and `add`: which models there are."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from workbench.cli.base import json_option, open_workbench, print_json, safe, say, terminal_width
from workbench.cli.completion import complete_model

if TYPE_CHECKING:
    from workbench.client.values import ModelInfo, RunningModel, Table

model_argument = click.argument("model", shell_complete=complete_model)


@click.command(short_help="List the installed models.")
@json_option
def models(as_json: bool) -> None:
    """List the installed models of every backend.

    A model that is marked (toy) shows that everything works; it is not one to do research with.
    """
    _print(open_workbench().models(), as_json)


@click.command()
@json_option
def ps(as_json: bool) -> None:
    """List the models that are in memory."""
    _print(open_workbench().loaded(), as_json)


def _print(table: Table[ModelInfo] | Table[RunningModel], as_json: bool) -> None:
    for backend, reason in table.errors:
        say(f"{backend}: {reason}")
    for row in table:
        for warning in getattr(row, "warnings", ()):
            say(f"{row.name}: {warning}")
    if as_json:
        print_json([asdict(row) for row in table])
        return
    table.errors = []
    click.echo(safe(table.text(terminal_width())))


@click.command(short_help="Download a model.")
@click.argument("model")
@json_option
def pull(model: str, as_json: bool) -> None:
    """Download MODEL, on the backend that is named after an @, or the one that can.

    The free space of the disk is looked at first.
    Ctrl-C cancels the download; the next one goes on where it stopped.
    """
    from workbench.client.progress import PullPrinter

    printer = PullPrinter(_to_stderr, live=sys.stderr.isatty())
    total: dict[str | None, int] = {}
    try:
        for step in open_workbench().pull(model, stream=True):
            if step.digest is not None and step.total_bytes is not None:
                total[step.digest] = step.total_bytes
            if not as_json:
                printer.feed(step)
    except KeyboardInterrupt:
        printer.close()
        say(f"Cancelled; `workbench pull {model}` goes on where it stopped.")
        raise
    finally:
        printer.close()
    if as_json:
        size = sum(total.values()) if total else None
        print_json({"model": model, "status": "success", "total_bytes": size})


def _to_stderr(text: str) -> None:
    click.echo(safe_line(text), err=True, nl=False)


def safe_line(text: str) -> str:
    """Return safe text that keeps the carriage return a bar begins with."""
    return ("\r" if text.startswith("\r") else "") + safe(text.removeprefix("\r"))


@click.command(short_help="Delete a model from the disk.")
@model_argument
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@json_option
def rm(model: str, yes: bool, as_json: bool) -> None:
    """Delete MODEL from the disk, after it has been unloaded and was seen to be gone.

    A terminal is asked first; without one, --yes is needed.
    """
    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError("Nobody can be asked here; give --yes.")
        click.confirm(f"Delete {safe(model)}?", abort=True, err=True)
    deleted = open_workbench().delete(model)
    if as_json:
        print_json(asdict(deleted))
    else:
        click.echo(safe(str(deleted)))


@click.command(short_help="Make a GGUF file a model.")
@click.argument("path", type=click.Path())
@click.option("--name", metavar="TEXT", help="Name of the model; else that of the file.")
@json_option
def add(path: str, name: str | None, as_json: bool) -> None:
    """Make the GGUF file at PATH a model of the embedded engine; the file stays where it is."""
    row = open_workbench().add_model(path, name=name)
    if as_json:
        print_json(asdict(row))
    else:
        click.echo(safe(str(row)))
