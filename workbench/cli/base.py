"""What the commands share: names, errors, JSON, and a connection."""

from __future__ import annotations

import json
import shutil
import sys
from typing import TYPE_CHECKING, Any

import click

from workbench._version import __version__
from workbench.errors import PlanInvalid, WorkbenchError
from workbench.messages import nearest_names

if TYPE_CHECKING:
    from workbench.app import Workbench

VERSION = __version__

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")


class Commands(click.Group):
    """Lists commands in the order they were added, and names the nearest of an unknown one."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as exc:
            near = nearest_names(args[0], self.commands, count=1)
            if not near:
                raise
            raise click.UsageError(f"{exc.message} Did you mean {near[0]!r}?", ctx) from exc


def safe(text: str) -> str:
    """Return text of others without control characters, so that it cannot steer the terminal."""
    from workbench.chat.show import plain

    return plain(text)


def say(text: str) -> None:
    """Tell the person something that is not the command's result: on stderr."""
    click.echo(safe(text), err=True)


def report(error: WorkbenchError) -> None:
    """Print an error on stderr: one line, and one for each problem of a plan."""
    if isinstance(error, PlanInvalid):
        for problem in error.problems:
            click.echo(f"error: {safe(str(problem))}", err=True)
        return
    message = error.message if error.message.endswith((".", "!", "?")) else f"{error.message}."
    text = " ".join(f"{message} {error.hint or ''}".split())
    click.echo(f"error: {safe(text)}", err=True)


def terminal_width() -> int | None:
    """Return how many columns the terminal has; `None` where the output goes elsewhere."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def print_json(document: Any) -> None:
    """Print one JSON document; ASCII, so that no text in it can steer the terminal."""
    click.echo(json.dumps(document, indent=2, default=str))


def open_workbench(*, spawn: bool = True) -> Workbench:
    """Return the workbench of the configured server, which is started when none runs."""
    from workbench.app import connect

    wb = connect(spawn=spawn)
    wb.client.kind = "cli"
    return wb
