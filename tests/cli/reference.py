"""The generated parts of `docs/reference/cli.md` and `config.md`.

Write them anew with `python -m tests.cli.reference`; a test compares them.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import click

from tests.house.files import ROOT
from workbench.cli import cli
from workbench.config import SETTINGS, Setting

CLI_PAGE = ROOT / "docs" / "reference" / "cli.md"
CONFIG_PAGE = ROOT / "docs" / "reference" / "config.md"
BLOCK = re.compile(
    r"(<!-- generated: (?P<name>[\w -]+) -->\n).*?(<!-- end of generated -->)", re.DOTALL
)
_WIDTH = 90
_KINDS = {
    "str": "text",
    "path": "a folder",
    "bool": "`true` or `false`",
    "list": "a list of text",
}


def sentences(text: str) -> str:
    """Put each sentence on a line of its own."""
    return re.sub(r"(?<=[.!?]) +(?=[A-Z])", "\n", " ".join(text.split()))


def options(command: click.Command) -> list[click.Option]:
    """Return the options of a command that its help shows."""
    found = [p for p in command.params if isinstance(p, click.Option)]
    return [option for option in found if not option.hidden]


def option_title(option: click.Option) -> str:
    """Return how an option is written, with its value."""
    names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    return names if option.is_flag else f"{names} {option.make_metavar(context(cli))}"


def context(command: click.Command, name: str = "workbench") -> click.Context:
    """Return a context of a fixed width, so that the help is the same in every terminal."""
    return click.Context(
        command,
        info_name=name,
        max_content_width=_WIDTH,
        terminal_width=_WIDTH,
        help_option_names=["-h", "--help"],
    )


def commands() -> dict[str, click.Command]:
    """Return every command by its name; one of a group has the group's name before its own."""
    found = dict(cli.commands)
    for name, command in cli.commands.items():
        if isinstance(command, click.Group):
            found |= {f"{name} {inner}": item for inner, item in command.commands.items()}
    return found


def command_section(name: str) -> str:
    """Return the help of one command and a heading for each of its options."""
    command: click.Command = cli if name == "workbench" else commands()[name]
    program = name if name == "workbench" else f"workbench {name}"
    parts = [f"```text\n{command.get_help(context(command, program))}\n```"]
    for option in options(command):
        parts += [f"### {option_title(option)}", sentences(option.help or "")]
    return "\n\n".join(parts) + "\n"


def setting_section(setting: Setting) -> str:
    """Return a heading and the facts of one setting."""
    kind = _KINDS.get(setting.kind) or "one of " + ", ".join(f"`{c}`" for c in setting.choices)
    if setting.kind in ("int", "bytes", "seconds"):
        kind = setting.wanted
    facts = [f"Value: {kind}."]
    default = ", ".join(setting.default) if isinstance(setting.default, tuple) else setting.default
    if default not in (None, ""):
        shown = str(default).lower() if isinstance(default, bool) else default
        facts.append(f"Default: `{shown}`.")
    if setting.env:
        facts.append(f"Environment: `{setting.env}`.")
    if setting.changeable:
        facts.append("Can be changed while the server runs.")
    return "\n".join([f"### `{setting.key}`", "", sentences(setting.doc), *facts])


def settings_section() -> str:
    """Return every setting."""
    return "\n\n".join(map(setting_section, SETTINGS)) + "\n"


def generated(name: str) -> str:
    """Return what a marked block must hold."""
    return settings_section() if name == "configuration" else command_section(name)


def renewed(page: Path) -> str:
    """Return a page with its generated blocks made anew."""
    return BLOCK.sub(
        lambda match: f"{match[1]}\n{generated(match['name'])}\n{match[3]}",
        page.read_text(encoding="utf-8"),
    )


if __name__ == "__main__":
    for reference in (CLI_PAGE, CONFIG_PAGE):
        reference.write_text(renewed(reference), encoding="utf-8")
        print(f"wrote {reference.relative_to(ROOT)}", file=sys.stderr)
