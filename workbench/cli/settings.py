"""`workbench settings` and `events`: how the server is set, and what it does."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from workbench.cli.base import json_option, open_workbench, print_json, safe
from workbench.cli.completion import ask_quickly

if TYPE_CHECKING:
    from workbench.client.memory_values import ServerEvent, SettingValue

# Recent events arrive at once; after this much silence there are no more of them.
_QUIET_S = 1.0


def complete_setting(
    ctx: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the settings that begin so, from the running server."""
    names = [row.name for row in ask_quickly(lambda client: client.settings())]
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


@click.command(short_help="Show or change the server's settings.")
@click.argument("name", required=False, shell_complete=complete_setting)
@click.argument("value", required=False)
@click.option("--reset", is_flag=True, help="Go back to workbench.toml or the default.")
@json_option
def settings(name: str | None, value: str | None, reset: bool, as_json: bool) -> None:
    """Show all settings, or the one called NAME, or change it to VALUE.

    A change is at once in force and outlasts the server; workbench.toml is never written.
    Only settings that are marked as changeable can be changed while the server runs.
    """
    if reset and (name is None or value is not None):
        raise click.UsageError("--reset takes the name of one setting and no value.")
    wb = open_workbench()
    listed = wb.settings()
    if name is None:
        _print(listed, as_json)
        return
    from workbench.client.memory_api import named_setting, setting_value

    setting = named_setting(listed, name)
    if reset or value is not None:
        wanted = None if value is None else setting_value(setting, value)
        setting = wb.set(name, wanted)
    if as_json:
        print_json(asdict(setting))
        return
    click.echo(safe(str(setting)))
    click.echo(safe(setting.help))


def _print(listed: Sequence[SettingValue], as_json: bool) -> None:
    if as_json:
        print_json([asdict(row) for row in listed])
    else:
        click.echo(safe(str(listed)))


@click.command(short_help="Show what the server did.")
@click.option("-f", "--follow", is_flag=True, help="Go on with what happens, until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document per line.")
def events(follow: bool, as_json: bool) -> None:
    """Show what the server did last, one line per event.

    Every decision has its reason, who asked for it, and seconds and bytes where they apply.
    """
    wb = open_workbench()
    if follow:
        for event in wb.events(recent=True):
            _print_event(event, as_json)
        return
    from workbench.portal import get_portal

    for event in get_portal().run(wb.client.recent_events(quiet_s=_QUIET_S)):
        _print_event(event, as_json)


def _print_event(event: ServerEvent, as_json: bool) -> None:
    click.echo(json.dumps(event.to_wire(), default=str) if as_json else safe(str(event)))
