"""The `workbench` command.

Commands are thin: they parse, call one function and print.  What is heavy is imported by the
command that needs it, so that `workbench --version` and completion are quick.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from workbench.cli.base import VERSION, Commands, report
from workbench.cli.chat import chat
from workbench.cli.completion import completion
from workbench.cli.memory import fit, gpu, load, pin, prefer, queue, unload, unpin
from workbench.cli.metrics import clean, export, import_, metrics, sql
from workbench.cli.models import add, models, ps, pull, rm
from workbench.cli.plan import INVALID, plan
from workbench.cli.runs import approve, cancel, resume, run, runs
from workbench.cli.serve import logs, serve, status, stop, token
from workbench.cli.settings import events, settings
from workbench.cli.verify import diff, verify
from workbench.cli.work import demo, doctor, lab
from workbench.errors import PlanInvalid, WorkbenchError

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, message="%(prog)s %(version)s")
def cli() -> None:
    """Work with local language models: chat, notebooks, and the server behind them.

    WORKBENCH_URL, WORKBENCH_TOKEN and WORKBENCH_DATA_DIR override the configuration.
    """


_MODELS = (models, ps, load, unload, fit, pull, add, rm, pin, unpin, prefer, queue, gpu)
_SERVER = (lab, serve, status, stop, logs, token, settings, events)
_METRICS = (metrics, sql, export, import_, clean)
_RUNS = (plan, run, runs, resume, cancel, approve, verify, diff)
for command in (chat, *_RUNS, *_MODELS, *_SERVER, *_METRICS, demo, doctor, completion):
    cli.add_command(command)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and end the process: 0 done, 1 failed, 2 misused, 130 interrupted."""
    try:
        code = cli.main(arguments, prog_name="workbench", standalone_mode=False)
    except click.ClickException as exc:
        exc.show()
        code = exc.exit_code
    except (click.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except PlanInvalid as exc:
        report(exc)
        code = INVALID
    except WorkbenchError as exc:
        report(exc)
        code = 1
    sys.exit(code if isinstance(code, int) else 0)
