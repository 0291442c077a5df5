"""The magics of the workbench in a notebook: `%load_ext workbench`.

`%%metrics` runs the cell as one SELECT over the metrics.  `%%chat`, `%%dialogue` and `%%compare`
ask models; their results are objects that are kept under a name with `--as`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from workbench.magics import chat, compare, dialogue, metrics
from workbench.magics.completion import complete_for

__all__ = ["register"]

_MAGICS: dict[str, Callable[[Any, str, str], Any]] = {
    "chat": chat.run,
    "compare": compare.run,
    "dialogue": dialogue.run,
    "metrics": metrics.run,
}


def register(shell: Any) -> None:
    """Add the magics to an IPython shell, and what completes their lines."""
    for name, run in _MAGICS.items():
        shell.register_magic_function(_bound(run, shell), "cell", name)
    complete_for(shell)


def _bound(run: Callable[[Any, str, str], Any], shell: Any) -> Callable[[str, str], Any]:
    def magic(line: str, cell: str) -> Any:
        return run(shell, line, cell)

    magic.__doc__ = run.__doc__
    return magic
