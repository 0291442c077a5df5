"""Scripted model servers on real sockets, and model files made of random weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workbench.testing.foreign import Busy, ForeignClient
from workbench.testing.gpu import FakeGpu, ScriptedGpu
from workbench.testing.memory import MemoryEvent
from workbench.testing.ollama import ScriptedOllama
from workbench.testing.openai import ScriptedOpenAI
from workbench.testing.scripts import FakeModel, RecordedRequest, Reply, ReplySource, ToolCall

if TYPE_CHECKING:
    from workbench.testing.gguf import make_gguf

__all__ = [
    "Busy",
    "FakeGpu",
    "FakeModel",
    "ForeignClient",
    "MemoryEvent",
    "RecordedRequest",
    "Reply",
    "ReplySource",
    "ScriptedGpu",
    "ScriptedOllama",
    "ScriptedOpenAI",
    "ToolCall",
    "make_gguf",
]


def __getattr__(name: str) -> Any:
    """Import the maker of model files only for those who use it."""
    if name == "make_gguf":
        from workbench.testing.gguf import make_gguf

        return make_gguf
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
