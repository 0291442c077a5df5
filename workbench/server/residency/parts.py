"""What the backends' residencies share, and what may be changed about each."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from workbench.config import SwapMode
from workbench.server.backends.base import Backend, ModelEntry, RunningModel
from workbench.server.events import Events
from workbench.server.residency.pace import Pace
from workbench.server.residency.profiles import Profiles
from workbench.server.residency.resident import Resident
from workbench.server.residency.witness import MemoryWitness
from workbench.server.state import State

# Beside others Ollama loads a model only when it takes no more than this part of the free memory
# (server/sched.go); otherwise it evicts by a rule of its own, on figures that may be stale.
OLLAMA_SHARE = 0.8


@dataclass(frozen=True, slots=True)
class Need:
    """What a model needs of memory; `None` when nobody knows.

    Attributes:
        size_bytes: What it takes.
        beside_bytes: What must be free beside others, so that the backend evicts nobody.
    """

    size_bytes: int | None = None
    beside_bytes: int | None = None


Estimate = Callable[[Backend, ModelEntry, Mapping[str, Any]], Awaitable[Need]]
"""Returns what a model needs with runner options."""


Within = Callable[[str, int], list[str]]
"""Returns the names of a backend's models that take no more than so many bytes."""


def need_by_files(backend: Backend, entry: ModelEntry) -> Need:
    """Return what a model needs by the size of its files: the least it takes."""
    size = entry.size_bytes
    if size is None or not backend.expires_models:
        return Need(size, size)
    return Need(size, int(size / OLLAMA_SHARE))


async def file_size(backend: Backend, entry: ModelEntry, _: Mapping[str, Any]) -> Need:
    """Estimate by the size of the files."""
    return need_by_files(backend, entry)


@dataclass
class Limits:
    """What may be changed while a backend runs.

    Attributes:
        swap: Who makes room.
        budget_bytes: Memory its models may take together; `None` asks the witness.
        max_loaded: How many may be in memory; `None` when that is not ours to say.
        keep_alive_s: How long a model stays when neither request nor wish says.
        concurrency: How many requests run on one model at once.
    """

    swap: SwapMode = "auto"
    budget_bytes: int | None = None
    max_loaded: int | None = None
    keep_alive_s: float = 300.0
    concurrency: int = 4


@dataclass
class Parts:
    """What the hosts of one server share.

    Attributes:
        leased: Whether somebody holds a lease on a model.
        within: Names what would fit, for who is refused.
        saw: Takes what a backend has in memory, whenever it was asked.
    """

    events: Events
    state: State
    profiles: Profiles
    witness: MemoryWitness
    leased: Callable[[Resident], bool]
    estimate: Estimate = file_size
    within: Within = lambda _, __: []
    saw: Callable[[Backend, list[RunningModel]], None] = lambda _, __: None
    pace: Pace = Pace()  # noqa: RUF009 - frozen
    interactive_wait_s: float = 5.0
    batch_wait_s: float = 60.0
