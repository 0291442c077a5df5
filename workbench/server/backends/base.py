"""What every kind of backend can do; decisions about memory are made above, in residency."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from workbench.wire.ollama import Kind

Lines = list[bytes]
"""Whole NDJSON lines without their line ends, as many as one read gave."""


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One model a backend holds.

    Attributes:
        name: Canonical, with its tag, without the backend.
        digest: Identity; two models are the same when their digests are.
        size_bytes: Size of the files.
        context_length: Largest context the model was made for, in tokens; `None` when unknown.
        toy: Whether it is one of the toy models that come with the workbench.
        remote: Whether the backend only passes requests on to another company's servers.
        details: Ollama's `details`, as the backend gives them.
    """

    name: str
    digest: str
    size_bytes: int | None = None
    modified_at: str = ""
    context_length: int | None = None
    capabilities: tuple[str, ...] = ()
    toy: bool = False
    remote: bool = False
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RunningModel:
    """One model in a backend's memory.

    Attributes:
        size_bytes: Memory it takes in all, as the backend says.
        vram_bytes: Of that, on the GPU; `None` when the backend cannot tell.
        rss_bytes: Resident memory of its process, measured; `None` when there is no such process.
        context_length: Context it was loaded with, in tokens.
        expires_at: When it will leave; `None` with `forever` true means never.
    """

    name: str
    digest: str
    size_bytes: int | None = None
    vram_bytes: int | None = None
    rss_bytes: int | None = None
    context_length: int | None = None
    expires_at: datetime | None = None
    forever: bool = False
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BackendFacts:
    """What is known about a backend itself; `error` says why it cannot be reached."""

    name: str
    kind: str
    url: str | None
    version: str | None = None
    error: str | None = None

    @property
    def reachable(self) -> bool:
        """Whether it answered."""
        return self.error is None


@dataclass(frozen=True, slots=True)
class Runner:
    """What of a model is in memory once.

    Attributes:
        id: Models with the same one share their place in memory.
        options: Runner options the model itself asks for, when a request does not name them.
    """

    id: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Unloaded:
    """What unloading showed; bytes are resident memory before and after, when measurable.

    Attributes:
        gone: Whether the model was seen to be gone; `False` when it was only asked to leave.
    """

    gone: bool
    bytes_before: int | None = None
    bytes_after: int | None = None


class Backend(Protocol):
    """One place where models run.

    A backend never evicts and never decides: `load` and `unload` do just that, and only
    `server/residency` calls them.  Errors before the first line are raised as
    `workbench.errors`; errors of the model's server in mid-stream are `{"error": ...}` lines, and a
    connection that broke raises `StreamBroken`.
    """

    name: str
    kind: str
    expires_models: bool
    """Whether the backend itself unloads a model when its keep_alive is over."""
    loads_models: bool
    """Whether it tells what is in memory, and loads and unloads when it is asked to."""

    @property
    def url(self) -> str | None:
        """Its address; `None` for the engine in this server's own processes."""
        ...

    async def facts(self) -> BackendFacts:
        """Return version and reachability; never raises."""
        ...

    async def models(self) -> list[ModelEntry]:
        """Return the models it holds."""
        ...

    async def ps(self) -> list[RunningModel]:
        """Return the models in its memory."""
        ...

    async def show(self, model: str, *, verbose: bool = False) -> dict[str, Any]:
        """Return Ollama's `show` body of a model."""
        ...

    async def runner_of(self, model: str, digest: str) -> Runner:
        """Return what of a model is in memory once; never raises."""
        ...

    def known_runner(self, model: str, digest: str) -> Runner | None:
        """Return the same when it is known without asking anybody."""
        ...

    async def load(
        self, model: str, options: Mapping[str, Any], keep_alive: float | None, *, embed: bool
    ) -> None:
        """Bring a model into memory with these runner options; returns when it is ready."""
        ...

    async def unload(self, model: str, *, embed: bool = False) -> Unloaded:
        """Take a model out of memory, or ask that it leaves, and return what was seen."""
        ...

    def stream(self, kind: Kind, body: Mapping[str, Any]) -> AbstractAsyncContextManager[Stream]:
        """Send a chat or generate request; leaving the context frees the model."""
        ...

    async def embed(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return Ollama's `embed` body for a request."""
        ...

    async def close(self) -> None:
        """Give back connections and processes."""
        ...


Stream = AsyncIterator[Lines]


class ModelStore(Protocol):
    """The part of a backend that makes, copies and deletes models."""

    async def has_blob(self, digest: str) -> bool:
        """Return whether the blob `sha256:...` is there."""
        ...

    async def put_blob(self, digest: str, chunks: AsyncIterator[bytes]) -> None:
        """Keep a blob; refuse it when its content has another digest."""
        ...

    def create(self, body: Mapping[str, Any]) -> AsyncIterator[bytes]:
        """Make a model; yields NDJSON progress lines."""
        ...

    async def copy(self, source: str, destination: str) -> None:
        """Give a model a second name."""
        ...

    async def delete(self, model: str) -> None:
        """Remove a model."""
        ...

    def pull(self, body: Mapping[str, Any]) -> AsyncIterator[bytes]:
        """Fetch a model; yields NDJSON progress lines."""
        ...
