"""Shell completion: the scripts, and the names of models."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

import click
from click.shell_completion import CompletionItem, get_completion_class

if TYPE_CHECKING:
    from workbench.client.api import WorkbenchClient

T = TypeVar("T")

_ANSWER_S = 2.0


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    \b
    bash:  eval "$(workbench completion bash)"                  in ~/.bashrc
    zsh:   eval "$(workbench completion zsh)"                   in ~/.zshrc
    fish:  workbench completion fish > ~/.config/fish/completions/workbench.fish
    """  # noqa: D301 - click wants the control character that keeps lines as they are
    kind = get_completion_class(shell)
    assert kind is not None
    program = kind(ctx.find_root().command, {}, "workbench", "_WORKBENCH_COMPLETE")
    # `source()` would first run bash to learn its version, and warn where bash is not installed.
    click.echo(program.source_template % program.source_vars())


def complete_model(
    ctx: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the models that begin so, from the running server; none is started for it."""
    return [CompletionItem(name) for name in _model_names() if name.startswith(incomplete)]


def _model_names() -> list[str]:
    # bash takes a colon for the end of a word.
    return sorted({row.name.removesuffix(":latest") for row in ask_quickly(lambda c: c.models())})


def ask_quickly(ask: Callable[[WorkbenchClient], Awaitable[Sequence[T]]]) -> Sequence[T]:
    """Return a list from the running server, or nothing: a line is being typed."""
    import asyncio

    from workbench.client.door import client_config, open_client
    from workbench.errors import WorkbenchError

    async def answer() -> Sequence[T]:
        client = open_client(client_config(), spawn=False)
        try:
            async with asyncio.timeout(_ANSWER_S):
                return await ask(client)
        finally:
            await client.aclose()

    try:
        return asyncio.run(answer())
    except (WorkbenchError, TimeoutError):
        # Nothing may be printed into the line that is being typed.
        return []
