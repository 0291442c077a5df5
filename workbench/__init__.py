"""A Jupyter workbench for research with local language models.

`import workbench` is quick: a public name is loaded when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workbench._version import __version__

if TYPE_CHECKING:
    from workbench.app import Workbench, connect
    from workbench.chat.dialogue import Dialogue
    from workbench.chat.participants import Participant
    from workbench.chat.session import ChatSession
    from workbench.client.api import WorkbenchClient
    from workbench.errors import WorkbenchError
    from workbench.messages import (
        Failed,
        Finished,
        GenerateConfig,
        Generation,
        Message,
        Opened,
        Phase,
        ReasoningDelta,
        StreamEvent,
        TextDelta,
        ToolCall,
        ToolCallDelta,
        Usage,
    )

__all__ = [
    "ChatSession",
    "Dialogue",
    "Failed",
    "Finished",
    "GenerateConfig",
    "Generation",
    "Message",
    "Opened",
    "Participant",
    "Phase",
    "ReasoningDelta",
    "StreamEvent",
    "TextDelta",
    "ToolCall",
    "ToolCallDelta",
    "Usage",
    "Workbench",
    "WorkbenchClient",
    "WorkbenchError",
    "__version__",
    "connect",
]

_HOMES = {
    "ChatSession": "workbench.chat.session",
    "Dialogue": "workbench.chat.dialogue",
    "Participant": "workbench.chat.participants",
    "Workbench": "workbench.app",
    "WorkbenchClient": "workbench.client.api",
    "WorkbenchError": "workbench.errors",
    "connect": "workbench.app",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # Imported here: the cost of a name is paid by its first use.
    from importlib import import_module

    value = getattr(import_module(_HOMES.get(name, "workbench.messages")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def load_ipython_extension(shell: Any) -> None:
    """Add the magics of the workbench to a shell: `%load_ext workbench`."""
    from workbench.magics import register

    register(shell)
