"""`workbench lab`, `demo` and `doctor`."""

from __future__ import annotations

from pathlib import Path

import click

from workbench.cli.base import json_option, print_json, safe


@click.command(
    short_help="Open JupyterLab at the first notebook.",
    context_settings={"ignore_unknown_options": True},
)
@click.option(
    "--work-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("work"),
    show_default=True,
    help="Folder of your copies of the notebooks.",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def lab(work_dir: Path, arguments: tuple[str, ...]) -> None:
    """Open JupyterLab at your copy of the first notebook, with the server running.

    ARGUMENTS go to `jupyter lab`, such as `--no-browser --port 8899`.
    Copies you changed are never overwritten: a new version of a notebook is put beside yours.
    Where there is no browser, the address to open is printed.
    """
    from workbench.lab import run_lab

    raise click.exceptions.Exit(run_lab(work_dir, arguments))


@click.command(short_help="Show the main job without a browser.")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("work/01_chat.demo.ipynb"),
    show_default=True,
    help="Where the notebook is written that was run.",
)
@click.option("--model", default="toy-tiny", show_default=True, help="Model to use.")
def demo(output: Path, model: str) -> None:
    """Show the main job without a browser.

    A chat streams to the terminal, the first notebook is run, and its place is printed.
    """
    from workbench.demo import run_demo

    run_demo(output, model)


@click.command(short_help="Print what is configured, found and wrong.")
@json_option
def doctor(as_json: bool) -> None:
    """Print versions, the configuration with the source of each value, and what is wrong.

    Starts nothing and never prints a token.
    The exit code is 1 when something is wrong that stops the work.
    """
    from workbench.doctor import as_text, examine

    report = examine()
    if as_json:
        print_json(report)
    else:
        click.echo(safe(as_text(report)))
    if any(problem["stops_work"] for problem in report["problems"]):
        raise click.exceptions.Exit(1)
