"""`workbench run`, `runs`, `resume`, `cancel` and `approve`: plans in their own processes."""

from __future__ import annotations

import json
import shlex
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click
from click.shell_completion import CompletionItem

from workbench.cli.base import json_option, print_json, report, safe, say
from workbench.errors import ConfigError, PlanInvalid, StoreError, WorkbenchError

if TYPE_CHECKING:
    from workbench.config import Config
    from workbench.plans.create import RunOptions
    from workbench.plans.folder import RunFolder
    from workbench.plans.handle import RunHandle

INVALID = 2
"""Exit code for a plan, parameters or answers that cannot be used; nothing ran."""

_IDLE_EXIT = "2m"
_LOOK_S = 0.1

wait_option = click.option(
    "--wait", is_flag=True, help="Stay while a person has to answer, in place of ending with 75."
)
detach_option = click.option(
    "--detach", is_flag=True, help="Only start it and print its id; it goes on by itself."
)


def complete_run(
    ctx: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the ids of runs that begin so."""
    from workbench.plans.handle import list_runs

    try:
        rows = list_runs(_config().data_dir, limit=50)
    except WorkbenchError:
        # Nothing may be printed into the line that is being typed.
        return []
    return [CompletionItem(r.run_id, help=r.plan) for r in rows if r.run_id.startswith(incomplete)]


@click.command(short_help="Run a plan or a notebook.")
@click.argument("plan", type=click.Path(path_type=Path))
@click.option(
    "-p",
    "--param",
    "params",
    multiple=True,
    metavar="NAME=VALUE",
    help="Value of a parameter; may be given several times.",
)
@click.option(
    "--params",
    "params_file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="YAML or JSON with values of parameters; --param goes before it.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder of the run, new or empty; one below the data folder by default.",
)
@click.option("--name", default="", metavar="TEXT", help="Name for lists.")
@click.option(
    "--answers",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="YAML or JSON with answers to approvals: a line like `publish: yes` for each step.",
)
@wait_option
@detach_option
@click.option("--no-cache", is_flag=True, help="Do everything anew, also what has not changed.")
@click.option(
    "--own-server",
    is_flag=True,
    help="Where no server runs, start one that ends with the run; for CI.",
)
@click.option(
    "--server-wait",
    type=click.FloatRange(min=0),
    default=120.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for a server that is gone.",
)
@click.option(
    "--on-finish",
    default="",
    metavar="COMMAND",
    help="Run when the run ends or waits, without a shell; {plan}, {status}, {run_id}, {folder} "
    "and {text} are filled in.",
)
@json_option
def run(
    plan: Path,
    params: tuple[str, ...],
    params_file: Path | None,
    out: Path | None,
    name: str,
    answers: Path | None,
    wait: bool,
    detach: bool,
    no_cache: bool,
    own_server: bool,
    server_wait: float,
    on_finish: str,
    as_json: bool,
) -> None:
    """Run PLAN, a plan file or a parameterised notebook, in a process of its own.

    Progress goes to stderr.
    Ctrl-C cancels the run; the end of this command by other means does not.

    \b
    Exit codes:
      0    done
      1    failed; `workbench resume` goes on
      2    the plan, a parameter or an answer cannot be used; nothing ran
      75   it waits for an answer: `workbench approve`
      130  cancelled
    """  # noqa: D301 - click wants the control character that keeps lines as they are
    from workbench.plans.create import RunOptions

    try:
        config = _config()
        options = RunOptions(
            out=out,
            name=name,
            cache=not no_cache,
            wait=wait,
            server_wait_s=server_wait,
            on_finish=_command(on_finish),
        )
        handle = _start(plan, params, params_file, answers, config, options, own_server)
    except (PlanInvalid, ConfigError) as exc:
        _refuse(exc)
    _attend(handle, detach=detach, as_json=as_json)


@click.command(short_help="List runs, or show one.")
@click.argument("run_id", metavar="[RUN]", required=False, shell_complete=complete_run)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    help="How many of the newest.",
)
@json_option
def runs(run_id: str | None, limit: int, as_json: bool) -> None:
    """List the runs of the data folder, the newest first, or show the steps of RUN.

    RUN is an id, the beginning of one, or the folder of a run.
    """
    from workbench.client.values import Table
    from workbench.plans.handle import RunHandle, list_runs

    if run_id is not None:
        handle = RunHandle(_find(run_id))
        if as_json:
            print_json(document(handle))
        else:
            _show(handle)
        return
    rows = list_runs(_config().data_dir, limit=limit)
    if as_json:
        print_json([asdict(row) for row in rows])
    else:
        click.echo(safe(str(Table(rows, empty="no runs"))))


@click.command(short_help="Go on with a run.")
@click.argument("run_id", metavar="RUN", shell_complete=complete_run)
@click.option("--force", is_flag=True, help="Go on although its notebook was edited.")
@wait_option
@detach_option
@json_option
def resume(run_id: str, force: bool, wait: bool, detach: bool, as_json: bool) -> None:
    """Go on with RUN: what is committed and unchanged stays, the rest runs.

    A run that is being carried out is only watched.
    Exit codes are those of `workbench run`.
    """
    from workbench.plans.start import resume_run

    try:
        folder = _find(run_id)
        known = folder.journal.stat().st_size if folder.journal.exists() else 0
        handle = resume_run(folder, force=force, wait=wait or None)
    except (PlanInvalid, ConfigError) as exc:
        _refuse(exc)
    _attend(handle, detach=detach, as_json=as_json, after=known)


@click.command(short_help="Stop a run.")
@click.argument("run_id", metavar="RUN", shell_complete=complete_run)
def cancel(run_id: str) -> None:
    """Stop RUN and wait until it has ended; what is committed stays, and it can be resumed."""
    from workbench.plans.control import cancel_run
    from workbench.plans.handle import RunHandle

    folder = _find(run_id)
    cancel_run(folder)
    state = RunHandle(folder).wait()
    say(f"{folder.run_id}: {state.status}")


@click.command(short_help="Answer what a run asks.")
@click.argument("run_id", metavar="RUN", shell_complete=complete_run)
@click.argument("step")
@click.option(
    "--yes/--no", "yes", default=None, help="The answer; without one the question is shown."
)
@click.option("--note", default="", metavar="TEXT", help="Why; it is stored with the answer.")
@click.option("--no-resume", is_flag=True, help="Only store the answer.")
def approve(run_id: str, step: str, yes: bool | None, note: str, no_resume: bool) -> None:
    """Answer the question of STEP of RUN, and let the run go on.

    Stored are the answer, who gave it, when, and the hash of the question.
    The first answer to a question stands.
    """
    from workbench.plans.handle import RunHandle
    from workbench.plans.start import approve_run

    folder = _find(run_id)
    if yes is None:
        question = RunHandle(folder).state().step(step).question
        if question is not None:
            click.echo(safe(_question(question)))
        raise click.UsageError("Give the answer: --yes or --no.")
    started = approve_run(folder, step, yes=yes, note=note, resume=not no_resume)
    say(f"{step}: {'yes' if yes else 'no'}")
    if started is not None:
        say(f"{started.run_id} goes on; see `workbench runs {started.run_id}`")


# --- inside


def _config() -> Config:
    from workbench.client.door import client_config
    from workbench.plans.lean import skip_iri_grammar

    skip_iri_grammar()
    return client_config()


def _command(text: str) -> tuple[str, ...]:
    """Return the parts of a command as a shell would split them, and nothing else it would do."""
    from workbench.plans.news import checked_command

    try:
        parts = shlex.split(text)
    except ValueError as exc:
        raise click.UsageError(f"--on-finish: {exc}; put quotes round each part.") from exc
    return tuple(checked_command(parts)) if parts else ()


def _find(run_id: str) -> RunFolder:
    from workbench.plans.folder import find_run

    return find_run(_config().data_dir, run_id)


def _refuse(error: WorkbenchError) -> NoReturn:
    """End with the exit code of what cannot be run; each problem of a plan on its line."""
    if isinstance(error, PlanInvalid):
        click.echo(f"error: {safe(error.message)}", err=True)
    else:
        report(error)
    raise click.exceptions.Exit(INVALID)


def _start(
    plan: Path,
    params: tuple[str, ...],
    params_file: Path | None,
    answers: Path | None,
    config: Config,
    options: RunOptions,
    own_server: bool,
) -> RunHandle:
    from dataclasses import replace

    from workbench.plans.approvals import read_answers
    from workbench.plans.params import resolve_params
    from workbench.plans.parse import load_plan
    from workbench.plans.start import start_notebook, start_run

    values = _read_params(params_file)
    texts = _pairs(params)
    if plan.suffix == ".ipynb":
        if answers is not None:
            raise click.UsageError("--answers is for plans; a notebook asks nothing.")
        values |= {name: _value(text) for name, text in texts.items()}
        options = replace(options, own_server=_own_server(config) if own_server else None)
        return start_notebook(plan, values, data_dir=config.data_dir, options=options)
    found = load_plan(plan)
    values = {**values, **_typed(found, texts)}
    resolve_params(found, values, texts=False)
    if answers is not None:
        given = read_answers(answers, [step.id for step in found.steps])
        options = options.answered(given)
    options = replace(options, own_server=_own_server(config) if own_server else None)
    return start_run(found, values, data_dir=config.data_dir, options=options)


def _typed(plan: Any, texts: dict[str, str]) -> dict[str, Any]:
    """Return the values that texts mean; a name that is unknown stays for the check of all."""
    from workbench.plans.params import typed_value

    params = {param.name: param for param in plan.params}
    return {
        name: typed_value(params[name], text, texts=True) if name in params else text
        for name, text in texts.items()
    }


def _pairs(params: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for pair in params:
        name, equals, value = pair.partition("=")
        if not equals or not name.strip():
            raise click.UsageError(f"--param needs NAME=VALUE, not {pair!r}.")
        found[name.strip()] = value
    return found


def _value(text: str) -> Any:
    """Return the value of a notebook's parameter: JSON where it can be, else text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _read_params(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    import yaml

    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise ConfigError(f"{path} cannot be read: {exc.strerror}.", key="params") from exc
    except (yaml.YAMLError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{path} is no YAML: {exc}.", key="params") from exc
    if not isinstance(found, dict):
        raise ConfigError(f"{path} maps no parameter to a value.", key="params")
    return {str(name): value for name, value in found.items()}


def _own_server(config: Config) -> str | None:
    """Start a server for the run where none runs, and return its boot id.

    It ends with the run, and by itself where the run's process was killed.
    """
    from workbench.runtime import ensure_server, find_server

    if config.url is not None or find_server(config.data_dir) is not None:
        return None
    return ensure_server(config.data_dir, arguments=["--idle-exit", _IDLE_EXIT]).boot_id


def _attend(handle: RunHandle, *, detach: bool, as_json: bool, after: int = 0) -> None:
    """Follow a run to its end, and end with its exit code."""
    from workbench.plans.control import EXIT_CODES

    if detach:
        if as_json:
            print_json(document(handle))
        else:
            click.echo(handle.run_id)
        return
    say(f"run {handle.run_id} in {handle.path}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    follower = _Follower(handle, after)
    try:
        follower.follow()
    except KeyboardInterrupt:
        say("cancelling; what is committed stays")
        _cancel(handle)
        follower.follow()
    state = handle.state()
    if as_json:
        print_json(document(handle))
    else:
        _conclude(handle)
    raise click.exceptions.Exit(EXIT_CODES.get(state.status, 1))


def _cancel(handle: RunHandle) -> None:
    from workbench.plans.control import request_cancel

    if handle.alive:
        request_cancel(handle.folder)


class _Follower:
    """Tells what a run does; after an interrupt it goes on where it was."""

    def __init__(self, handle: RunHandle, after: int) -> None:
        self._handle, self._offset = handle, after

    def follow(self) -> None:
        """Tell it until the run rests."""
        from workbench.plans.journal import read_lines

        while True:
            rests = self._handle.rests
            lines, self._offset = read_lines(self._handle.folder.journal, self._offset)
            for line in newest_counts(lines):
                told = progress(line)
                if told is not None:
                    say(told)
            if rests:
                return
            time.sleep(_LOOK_S)


def newest_counts(lines: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return lines of the journal without the counts of a `foreach` that are old by now."""
    last = {line["step"]: n for n, line in enumerate(lines) if line["event"] == "step_progress"}
    return [
        line
        for number, line in enumerate(lines)
        if line["event"] != "step_progress" or last[line["step"]] == number
    ]


def progress(line: Any) -> str | None:
    """Return what is told of a line of the journal, or `None`."""
    from workbench.units import format_seconds

    event, step = line["event"], line.get("step")
    if event == "on_finish" and line.get("error"):
        return str(line["error"].get("message"))
    if step is None or (line.get("item") is not None and event != "step_failed"):
        return None
    name = step if line.get("item") is None else f"{step}[{line['item']}]"
    seconds = line.get("seconds")
    took = f" in {format_seconds(seconds)}" if seconds is not None else ""
    summary = f": {line['summary']}" if line.get("summary") else ""
    cached = f", {line['cached']} from the cache" if line.get("cached") else ""
    error = line.get("error") or {}
    again = f"; again in {line['retry_in_s']:g} s" if line.get("retry_in_s") is not None else ""
    told = {
        "step_started": f"{name}: attempt {line.get('attempt')}",
        "step_committed": f"{name}: done{took}{summary}",
        "step_cached": f"{name}: from the cache{summary}",
        "step_kept": f"{name}: done before",
        "step_stale": f"{name}: runs again, because {line.get('reason')}",
        "step_skipped": f"{name}: skipped, {line.get('reason')}",
        "step_blocked": f"{name}: blocked by {', '.join(line.get('by', ()))}",
        "step_failed": f"{name}: failed{took}: {error.get('message')}{again}",
        "step_cancelled": f"{name}: cancelled",
        "step_answered": f"{name}: {'yes' if line.get('yes') else 'no'}, said {line.get('who')}",
        "step_progress": f"{name}: {line.get('done')} of {line.get('total')}{cached}",
    }
    if event == "step_waiting":
        return f"{name}: asks\n{_question(line)}"
    return told.get(event)


def _question(question: Any) -> str:
    shown = question.get("show")
    lines = [f"  {question.get('ask')}"]
    if shown is not None:
        text = shown if isinstance(shown, str) else json.dumps(shown, indent=2, ensure_ascii=False)
        lines += [f"  {line}" for line in text.splitlines()[:40]]
    return "\n".join(lines)


def _conclude(handle: RunHandle) -> None:
    state = handle.state()
    say(f"run {handle.run_id}: {state.status}")
    if state.error is not None:
        hint = state.error.get("hint")
        say(f"  {state.error.get('message')}{f' {hint}' if hint else ''}")
    for step in state.steps.values():
        if step.status == "waiting":
            say(f"  answer it: workbench approve {handle.run_id} {step.id} --yes")
    if state.status in ("failed", "lost", "cancelled"):
        say(f"  go on with it: workbench resume {handle.run_id}")
    click.echo(str(handle.notebook))


def _show(handle: RunHandle) -> None:
    from workbench.client.values import aligned
    from workbench.plans.handle import summary_of
    from workbench.units import format_seconds

    summary = summary_of(handle)
    state = handle.state()
    click.echo(safe(str(summary)))
    rows = [
        {
            "STEP": step.id,
            "STATUS": step.status,
            "TIME": "" if step.seconds is None else format_seconds(step.seconds),
            "": (step.error or {}).get("message") or step.summary or step.reason,
        }
        for step in state.steps.values()
    ]
    if rows:
        click.echo(safe("\n".join(["", *aligned(rows)])))
    for step in state.steps.values():
        if step.status == "waiting" and step.question is not None:
            click.echo(safe(f"\n{step.id} asks:\n{_question(step.question)}"))
    click.echo(safe(f"\n{handle.path}"))


def document(handle: RunHandle) -> dict[str, Any]:
    """Return a run as the JSON document of the commands; times are in seconds, UTC."""
    from workbench.plans.control import EXIT_CODES
    from workbench.plans.handle import summary_of

    state = handle.state()
    try:
        content_hash = handle.record().get("content_hash")
    except (StoreError, WorkbenchError):
        content_hash = None
    return {
        **asdict(summary_of(handle)),
        "exit_code": EXIT_CODES.get(state.status, None if handle.alive else 1),
        "notebook": str(handle.notebook),
        "content_hash": content_hash,
        "params": dict(handle.info.params),
        "execution": state.execution,
        "error": state.error,
        "states": {step.id: step.status for step in state.steps.values()},
        "questions": {
            step.id: {name: step.question.get(name) for name in ("ask", "show", "sha256")}
            for step in state.steps.values()
            if step.status == "waiting" and step.question is not None
        },
    }
