"""What a notebook asks about models and memory: the blocking forms, and those to await."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from pathlib import Path
from types import EllipsisType
from typing import Any, Literal, TypeVar, overload

from workbench.client.answers import Answering, singly
from workbench.client.leases import Lease
from workbench.client.memory_api import MemoryClient
from workbench.client.memory_values import (
    Fit,
    GpuStatus,
    LeaseInfo,
    PullProgress,
    QueueStatus,
    ServerEvent,
    SettingValue,
)
from workbench.client.progress import PullPrinter
from workbench.client.values import DeleteResult, ModelInfo, RunningModel, Table, UnloadResult
from workbench.messages import GenerateConfig
from workbench.portal import Portal, get_portal
from workbench.units import parse_keep_alive

T = TypeVar("T")


class MemoryCalls:
    """The part of `Workbench` that is about models and memory.

    Attributes:
        client: The door to the server.
    """

    client: MemoryClient

    def models(self) -> Table[ModelInfo]:
        """Return every installed model of every backend."""
        return self._run(self.client.models())

    def loaded(self) -> Table[RunningModel]:
        """Return the models in memory."""
        return self._run(self.client.loaded())

    def load(
        self,
        model: str,
        *,
        keep_alive: float | str | None = None,
        swap: bool = False,
        force: bool = False,
        **options: Any,
    ) -> RunningModel:
        """Load a model now; takes as long as the load.

        An interrupt ends the waiting, not the load: the server goes on with it.

        Args:
            model: Its name.
            keep_alive: Seconds or a duration it stays without use; negative is for ever.
            swap: Consent to what would have to leave, where the server asks for it.
            force: Let also pinned and leased models leave, when they are idle.
            **options: Runner options such as `num_ctx`.

        Raises:
            SwapRequired: When others would have to leave and `swap` is not given; see its `plan`.
            InsufficientMemory: When it does not fit at all; `would_fit` says what would.
            LoadFailed: When the engine could not load it.
        """
        work = self._load(model, options, keep_alive=keep_alive, swap=swap, force=force)
        try:
            return self._run(work)
        except KeyboardInterrupt:
            print(
                f"The server goes on loading {model}; wb.loaded() shows it, "
                f"wb.unload({model!r}) takes it out again.",
                file=sys.stderr,
            )
            raise

    async def aload(self, model: str, **how: Any) -> RunningModel:
        """Await what `load` returns, on any event loop; the server goes on when cancelled."""
        named = {name: how.pop(name) for name in ("keep_alive", "swap", "force") if name in how}
        return await self._portal.arun(self._load(model, how, **named))

    def swap(self, model: str, **how: Any) -> RunningModel:
        """Load a model and let others leave for it: `load` with consent.

        Args:
            model: Its name.
            **how: As for `load`.
        """
        return self.load(model, swap=True, **how)

    async def aswap(self, model: str, **how: Any) -> RunningModel:
        """Await what `swap` returns, on any event loop."""
        return await self.aload(model, swap=True, **how)

    def unload(self, model: str, *, force: bool = False) -> UnloadResult:
        """Unload a model once its answers have ended, and return whether its memory is free.

        Args:
            model: Its name.
            force: Cancel its answers in place of waiting for them.
        """
        return self._run(self.client.unload(model, force=force))

    async def aunload(self, model: str, *, force: bool = False) -> UnloadResult:
        """Await what `unload` returns, on any event loop."""
        return await self._portal.arun(self.client.unload(model, force=force))

    def pin(self, model: str, *, force: bool = False) -> ModelInfo:
        """Keep a model in memory, whatever else is asked for, until `unpin`.

        Args:
            model: Its name.
            force: Pin it even where the pinned ones would no longer fit together.
        """
        return self._run(self.client.pin(model, force=force))

    def unpin(self, model: str) -> ModelInfo:
        """Let a model leave memory again when room is needed."""
        return self._run(self.client.unpin(model))

    def prefer(
        self,
        model: str,
        *,
        priority: int | EllipsisType | None = ...,
        hot: bool | EllipsisType = ...,
        keep_alive: float | str | EllipsisType | None = ...,
        max_idle: float | str | EllipsisType | None = ...,
    ) -> ModelInfo:
        """Say how a model is to be treated; what is not given stays as it is.

        Args:
            model: Its name.
            priority: 0 to 9; 9 stays longest, `None` is the default 5.
            hot: Load it when the server starts, and again when memory allows.
            keep_alive: Seconds or a duration it stays without use; negative is for ever, `None`
                the default.
            max_idle: Seconds or a duration without use after which it leaves in any case.
        """
        asked = self.client.prefer(
            model, priority=priority, hot=hot, keep_alive=keep_alive, max_idle=max_idle
        )
        return self._run(asked)

    def fits(self, model: str, *, num_ctx: int | None = None) -> Fit:
        """Return whether a model fits into memory, alone and beside what is loaded, and why.

        Args:
            model: Its name.
            num_ctx: Tokens of context; `None` takes what a load would take.
        """
        return self._run(self.client.fits(model, num_ctx=num_ctx))

    def gpu(self) -> GpuStatus:
        """Return the memory of every device, who uses it, and where each figure comes from."""
        return self._run(self.client.gpu())

    def queue(self) -> QueueStatus:
        """Return who is served, who waits, and the planned order."""
        return self._run(self.client.queue())

    def lease(
        self, models: str | Sequence[str], *, ttl: float | str = 60.0, holder: str | None = None
    ) -> Lease:
        """Keep models in memory while a `with` block runs; when the kernel dies they are let go.

        Args:
            models: One name or several.
            ttl: Seconds, or a duration, after which a kernel that is not heard of has died.
            holder: Who needs them, as `wb.leases()` shows it.
        """
        listed = [models] if isinstance(models, str) else list(models)
        return Lease(self.client, listed, ttl_s=parse_keep_alive(ttl) or 0.0, holder=holder)

    def leases(self) -> Table[LeaseInfo]:
        """Return who keeps which models in memory."""
        return self._run(self.client.leases())

    def settings(self) -> Table[SettingValue]:
        """Return every setting of the server, with where its value comes from."""
        return self._run(self.client.settings())

    def set(self, name: str, value: object) -> SettingValue:
        """Change a setting while the server runs; it is remembered.

        Args:
            name: Such as `swap.ollama`.
            value: `None` goes back to the file or the default.

        Raises:
            ConfigError: When there is no such setting, or it cannot have that value.
        """
        return self._run(self.client.set(name, value))

    @overload
    def pull(self, model: str, *, stream: Literal[False] = False) -> None: ...

    @overload
    def pull(self, model: str, *, stream: Literal[True]) -> Iterator[PullProgress]: ...

    def pull(self, model: str, *, stream: bool = False) -> Iterator[PullProgress] | None:
        """Download a model, and print how far it is.

        An interrupt cancels the download; the next one goes on where it stopped.

        Args:
            model: Its name.
            stream: Print nothing and return an iterator of the progress; leaving it cancels.
        """
        self._portal.refuse_here()
        progress = Answering(self._portal, singly(self.client.pull(model))).events()
        if stream:
            return progress
        printer = PullPrinter(_print, live=self._live)
        try:
            # An interrupt may fall between two steps, and a traceback would keep the iterator.
            with contextlib.closing(progress):
                for step in progress:
                    printer.feed(step)
        except KeyboardInterrupt:
            printer.close()
            print(f"Cancelled; wb.pull({model!r}) goes on where it stopped.", file=sys.stderr)
            raise
        finally:
            printer.close()
        return None

    def apull(self, model: str) -> AsyncIterator[PullProgress]:
        """Download a model and yield how far it is, on any event loop."""
        return Answering(self._portal, singly(self.client.pull(model))).aevents()

    def delete(self, model: str) -> DeleteResult:
        """Unload a model, see that it is gone, and delete it from the disk; asks nobody."""
        return self._run(self.client.delete(model))

    def add_model(self, path: str | Path, *, name: str | None = None) -> ModelInfo:
        """Make a GGUF file a model of the embedded engine; the file stays where it is.

        Args:
            path: Of the file, on the server's machine.
            name: `None` takes the name of the file.
        """
        return self._run(self.client.add_model(path, name=name))

    def events(self, *, recent: bool = False) -> Iterator[ServerEvent]:
        """Yield what the server does as it happens; leave the loop to stop.

        Args:
            recent: Begin with what happened before.
        """
        self._portal.refuse_here()
        return Answering(self._portal, singly(self.client.events(recent=recent))).events()

    def aevents(self, *, recent: bool = False) -> AsyncIterator[ServerEvent]:
        """Yield what the server does as it happens, on any event loop."""
        return Answering(self._portal, singly(self.client.events(recent=recent))).aevents()

    async def _load(
        self,
        model: str,
        options: dict[str, Any],
        *,
        keep_alive: float | str | None = None,
        swap: bool = False,
        force: bool = False,
    ) -> RunningModel:
        config = GenerateConfig(options=options, keep_alive=keep_alive)
        return await self.client.load(model, config=config, swap=swap, force=force)

    @property
    def _live(self) -> bool:
        """Whether a printed line can be written over."""
        return sys.stdout.isatty()

    @property
    def _portal(self) -> Portal:
        # Asked each time: a forked process has another one.
        return get_portal()

    def _run(self, coro: Coroutine[Any, Any, T]) -> T:
        return self._portal.run(coro)


def _print(text: str) -> None:
    print(text, end="", flush=True)
