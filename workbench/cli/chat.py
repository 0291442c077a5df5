"""`workbench chat`: one question, or a conversation, in the terminal."""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING, Any

import click

from workbench.cli.base import json_option, open_workbench, print_json, report, say
from workbench.cli.completion import complete_model
from workbench.errors import ConfigError

if TYPE_CHECKING:
    from workbench.app import Workbench
    from workbench.chat.session import ChatSession
    from workbench.cli.answer import Ended

_HELP = "/help shows this, /exit or Ctrl-D ends, Ctrl-C stops an answer."
_COMMAND = re.compile(r"/\w+")


@click.command(short_help="Ask a model, or converse with it.")
@click.argument("model", required=False, shell_complete=complete_model)
@click.argument("prompt", nargs=-1)
@click.option("-s", "--system", metavar="TEXT", help="System prompt.")
@click.option(
    "-o",
    "--option",
    "options",
    multiple=True,
    metavar="NAME=VALUE",
    help="Option of Ollama's API, such as temperature=0 or seed=1; may be given several times.",
)
@click.option(
    "--think", metavar="LEVEL", help="true, false, low, medium, high or max; else the model's own."
)
@json_option
def chat(
    model: str | None,
    prompt: tuple[str, ...],
    system: str | None,
    options: tuple[str, ...],
    think: str | None,
    as_json: bool,
) -> None:
    """Ask MODEL and print its answer as it comes.

    PROMPT may be several words; `-` stands for what is read from stdin.
    Without PROMPT, stdin is the prompt, and a terminal begins a conversation.
    Without MODEL the default model answers: last used, else loaded, else the largest that fits.

    The answer goes to stdout, everything else to stderr.
    Control characters in the answer are left out.
    Ctrl-C stops the model; what had come is kept, and the exit code is 130.
    """
    how: dict[str, Any] = {
        "options": parse_options(options),
        "think": _think(think),
        "system": system,
    }
    text = _prompt(prompt)
    if text is None and as_json:
        raise click.UsageError("--json needs a prompt.")
    if text is not None and not text.strip():
        raise click.UsageError("The prompt is empty.")
    wb = open_workbench()
    model = model or _default(wb)
    if text is None:
        with wb.session(model, **how) as session:
            _converse(session)
        return
    with wb.session(model, record=False, **how) as session:
        _ask_once(session, text, as_json)


def parse_options(pairs: tuple[str, ...]) -> dict[str, Any]:
    """Read `name=value` pairs; a value is JSON where it can be, else text.

    Raises:
        ConfigError: When a pair has no `=`, or the option is unknown or of another type.
    """
    from workbench.messages import check_option

    found = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        name = name.strip()
        if not equals:
            raise click.UsageError(f"--option needs NAME=VALUE, not {pair!r}.")
        try:
            parsed = json.loads(value)
        except ValueError:
            parsed = value
        found[name] = check_option(name, parsed)
    return found


def _think(level: str | None) -> bool | str | None:
    if level is None:
        return None
    known: dict[str, bool | str] = {"true": True, "false": False}
    known |= {name: name for name in ("low", "medium", "high", "max")}
    if level not in known:
        raise click.UsageError(f"--think must be one of {', '.join(known)}, not {level!r}.")
    return known[level]


def _prompt(words: tuple[str, ...]) -> str | None:
    """Return the prompt, or `None` for a conversation; stdin is read only where it is meant."""
    if not words:
        return None if _is_terminal() else _read_stdin()
    parts: list[str] = []
    line: list[str] = []
    for word in words:
        if word != "-":
            line.append(word)
            continue
        parts += [" ".join(line), _read_stdin()]
        line = []
    parts.append(" ".join(line))
    return "\n\n".join(part for part in parts if part)


def _is_terminal() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()


def _read_stdin() -> str:
    if sys.stdin is None:
        raise click.UsageError("There is no stdin to read the prompt from.")
    return sys.stdin.buffer.read().decode("utf-8", "replace").strip("\r\n")


def _default(wb: Workbench) -> str:
    """Return the default model, and say which it is when it is a toy."""
    from workbench.portal import get_portal

    if wb.config.default_model:
        return wb.config.default_model
    default = get_portal().run(wb.client.default_model())
    if default.toy:
        say(f"[{default.model} (toy): {default.reason}]")
    return f"{default.model}@{default.backend}" if default.backend else default.model


def _ask_once(session: ChatSession, text: str, as_json: bool) -> None:
    from workbench.cli.answer import AnswerPrinter, document, print_answer

    printer = AnswerPrinter(silent=as_json)
    ended = print_answer(session, text, printer)
    if as_json:
        print_json(document(session, ended))
    _leave(ended)


def _leave(ended: Ended) -> None:
    if ended.interrupted:
        raise click.Abort
    if ended.error is not None:
        raise ended.error


def _converse(session: ChatSession) -> None:
    """Take questions from the terminal until its end."""
    from workbench.cli.answer import AnswerPrinter, print_answer

    _prepare_line_editing()
    say(f"[{session.model}; {_HELP}]")
    while (text := _next_question()) is not None:
        ended = print_answer(session, text, AnswerPrinter())
        if ended.error is not None:
            report(ended.error)
            if isinstance(ended.error, ConfigError):
                break
    if session.turns:
        say(f'[kept; in a notebook: workbench.ChatSession.open("{session.id}")]')


def _prepare_line_editing() -> None:
    try:
        # Importing it gives `input` a history and cursor keys.
        import readline  # noqa: F401
    except ImportError:
        return


def _next_question() -> str | None:
    while True:
        try:
            text = input(">>> ").strip()
        except EOFError:
            click.echo(err=True)
            return None
        except KeyboardInterrupt:
            say(f"\n[{_HELP}]")
            continue
        if text in ("/exit", "/quit", "/bye"):
            return None
        if _COMMAND.fullmatch(text):
            say(f"[{'' if text == '/help' else f'no command {text}: '}{_HELP}]")
        elif text:
            return text
