"""Which models there are, on which backends, and which one a name means."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import psutil

from workbench.errors import (
    AmbiguousModel,
    ConnectionFailed,
    ModelNotFound,
    ResponseError,
    WorkbenchError,
)
from workbench.messages import nearest_names
from workbench.server.backends.base import Backend, ModelEntry
from workbench.server.backends.llamacpp import LlamaCppBackend
from workbench.server.engine.names import is_path
from workbench.server.names import canonical, parse_ref, same_name
from workbench.server.residency.manager import Residency
from workbench.server.state import State

log = logging.getLogger("workbench")

LIST_TTL_S = 5.0
# A host that hangs holds up requests for the models of others no longer than this.
LIST_WAIT_S = 1.0
# A host that does not answer is asked again after this, so that it does not slow the others.
DOWN_TTL_S = 5.0


@dataclass(frozen=True, slots=True)
class Resolved:
    """A model and where it runs.

    Attributes:
        reason: Why this backend, when several hold the model.
    """

    backend: Backend
    entry: ModelEntry
    reason: str = ""

    @property
    def full_name(self) -> str:
        """The name with its backend."""
        return f"{self.entry.name}@{self.backend.name}"


@dataclass(frozen=True, slots=True)
class DefaultModel:
    """The model to use when none is named, and why it is this one."""

    resolved: Resolved
    reason: str


@dataclass(slots=True)
class _Listing:
    at: float
    models: list[ModelEntry]
    error: WorkbenchError | None = None


class Catalog:
    """The models of all backends; lists are kept for a few seconds."""

    def __init__(
        self,
        backends: Mapping[str, Backend],
        residency: Residency,
        state: State,
        *,
        default_model: str | None = None,
        quiet: Iterable[str] = (),
    ) -> None:
        self.backends = backends
        self._residency = residency
        self._state = state
        self._default_model = default_model
        self._quiet = frozenset(quiet)
        self._listings: dict[str, _Listing] = {}
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._asked_at: dict[str, float] = {}
        residency.name_what_fits(self.within)

    def forget(self, backend: str) -> None:
        """Read the list of a backend anew: a model was made or removed."""
        self._listings.pop(backend, None)
        asking = self._asking.pop(backend, None)
        if asking is not None:
            asking.cancel()

    async def listing(
        self, *, fresh: bool = False
    ) -> tuple[dict[str, list[ModelEntry]], dict[str, WorkbenchError]]:
        """Return the models of every backend that answers, and the errors of the others.

        A backend that was only looked for where Ollama usually is, and is not there, is no error.
        A host that is slow is waited for `LIST_WAIT_S`, then its last list counts; one that was
        down is asked in the background.

        Args:
            fresh: Whether to ask every backend now and wait for its answer.
        """
        waits = [self._list(backend, fresh=fresh) for backend in self.backends.values()]
        await asyncio.gather(*waits)
        models: dict[str, list[ModelEntry]] = {}
        errors: dict[str, WorkbenchError] = {}
        for name in self.backends:
            error = self.error(name)
            if error is None:
                models[name] = self._listings[name].models
            elif name not in self._quiet:
                errors[name] = error
        return models, errors

    def error(self, name: str) -> WorkbenchError | None:
        """Return why the models of a backend are not known, or `None`."""
        known = self._listings.get(name)
        if known is None:
            return ConnectionFailed(
                name,
                f"no answer within {LIST_WAIT_S:g} s",
                hint="Try again, or see what is wrong with it: workbench doctor.",
            )
        return known.error

    async def _list(self, backend: Backend, *, fresh: bool) -> None:
        known = self._listings.get(backend.name)
        age = math.inf if known is None else time.monotonic() - known.at
        down = known is not None and known.error is not None
        if age < (DOWN_TTL_S if down else 0.0 if fresh else LIST_TTL_S):
            return
        waits, asked = fresh or not down, None
        # Asked again when the list was forgotten meanwhile.
        while asked is None or (waits and asked.cancelled()):
            asked = self._asking.get(backend.name)
            if asked is None:
                asked = asyncio.create_task(self._ask(backend))
                self._asked_at[backend.name] = time.monotonic()
                self._asking[backend.name] = asked
            if waits:
                # The answer is everybody's: who goes away must not take it from the others.
                left = self._asked_at[backend.name] + LIST_WAIT_S - time.monotonic()
                await asyncio.wait({asked}, timeout=None if fresh else max(0.0, left))

    async def _ask(self, backend: Backend) -> None:
        models: list[ModelEntry] = []
        error: WorkbenchError | None = None
        try:
            models = await backend.models()
        except WorkbenchError as exc:
            error = exc
        except Exception as exc:
            log.exception("the models of %s could not be listed", backend.name)
            error = WorkbenchError(f"listing failed: {type(exc).__name__}")
        self._listings[backend.name] = _Listing(time.monotonic(), models, error)
        del self._asking[backend.name]

    async def close(self) -> None:
        """Ask no more."""
        for task in list(self._asking.values()):
            task.cancel()
        await asyncio.gather(*self._asking.values(), return_exceptions=True)

    async def warm(self) -> None:
        """Read every list once, so that the first request does not wait for it."""
        await self.listing()

    async def resolve(self, name: str) -> Resolved:
        """Return the model a name means.

        Raises:
            ModelNotFound: When no backend that answers holds it.
            AmbiguousModel: When backends hold different models of that name.
            ConnectionFailed: When the backend that was named does not answer.
            ResponseError: With status 400 when the name is empty, 404 for an unknown backend.
        """
        if not name.strip():
            raise ResponseError("model is required", status=400)
        ref = parse_ref(name)
        if is_path(name):
            return await self._resolve_path(name)
        if ref.backend is not None and ref.backend not in self.backends:
            raise ResponseError(
                f"unknown backend {ref.backend!r}",
                status=404,
                hint=f"Known: {', '.join(self.backends)}.",
            )
        for fresh in (False, True):
            models, _ = await self.listing(fresh=fresh)
            found = self._matches(models, ref.name, ref.backend)
            if found:
                return await self._choose(ref.name, found)
        error = self.error(ref.backend) if ref.backend is not None else None
        if error is not None:
            raise error
        raise ModelNotFound(name, nearest=self._nearest(models, ref.name, ref.backend))

    def last_known(self, name: str) -> Resolved | None:
        """Return the model a name means by the lists as they were last read; asks nobody."""
        ref = parse_ref(name)
        models = {where: listing.models for where, listing in self._listings.items()}
        held = {where: found for where, found in models.items() if where in self.backends}
        return next(iter(self._matches(held, ref.name, ref.backend)), None)

    def _matches(
        self, models: Mapping[str, list[ModelEntry]], name: str, backend: str | None
    ) -> list[Resolved]:
        return [
            Resolved(self.backends[where], entry)
            for where, entries in models.items()
            if backend is None or where == backend
            for entry in entries
            if same_name(entry.name, name)
        ]

    async def _choose(self, name: str, found: list[Resolved]) -> Resolved:
        """Return the best place of one model that several backends hold.

        It is where it is loaded, else where it has most room, else the first.

        Raises:
            AmbiguousModel: When the backends hold different models of that name.
        """
        if len(found) == 1:
            return found[0]
        digests = {item.entry.digest for item in found}
        # A backend that tells no digest may hold anything under the name.
        if len(digests) > 1 or "" in digests:
            raise AmbiguousModel(name, [item.backend.name for item in found])
        await asyncio.gather(*(self._residency.look(item.backend) for item in found))
        for item in found:
            if await self._residency.find(item.backend, item.entry):
                return replace(item, reason="it is loaded there")
        room = [await self._residency.room_bytes(item.backend, item.entry) for item in found]
        known = [(left, item) for left, item in zip(room, found, strict=True) if left is not None]
        fitting = [(left, item) for left, item in known if left >= 0]
        if fitting:
            best = max(fitting, key=lambda pair: pair[0])[1]
            return replace(best, reason="it has most room there")
        return replace(found[0], reason="it is the first that holds it")

    async def routes(
        self, models: Mapping[str, list[ModelEntry]]
    ) -> dict[tuple[str, str], tuple[bool, str]]:
        """Return for every backend and name whether the bare name goes there, and why."""
        holders: dict[str, list[Resolved]] = {}
        for where, entries in models.items():
            for entry in entries:
                place = Resolved(self.backends[where], entry)
                holders.setdefault(canonical(entry.name).lower(), []).append(place)
        found: dict[tuple[str, str], tuple[bool, str]] = {}
        for name, places in holders.items():
            chosen: Backend | None = None
            try:
                choice = await self._choose(name, places)
            except AmbiguousModel as exc:
                reason = exc.message
            else:
                chosen = choice.backend
                reason = choice.reason or "it is the only backend that holds it"
            for place in places:
                here = place.backend is chosen
                where = "" if chosen is None or here else f"{chosen.name}: "
                key = (place.backend.name, place.entry.name.lower())
                found[key] = (here, where + reason)
        return found

    def within(self, backend: str, size_bytes: int) -> list[str]:
        """Return the three largest models of a backend that take no more than so many bytes."""
        known = self._listings.get(backend)
        sized = [
            (item.size_bytes, item.name)
            for item in (known.models if known else ())
            if item.size_bytes is not None and item.size_bytes <= size_bytes
        ]
        return [name for _, name in sorted(sized, reverse=True)[:3]]

    async def _resolve_path(self, name: str) -> Resolved:
        for backend in self.backends.values():
            if isinstance(backend, LlamaCppBackend):
                return Resolved(backend, await backend.find(name))
        raise ModelNotFound(name)

    @staticmethod
    def _nearest(
        models: Mapping[str, list[ModelEntry]], name: str, backend: str | None
    ) -> list[str]:
        names = [
            entry.name.removesuffix(":latest")
            for where, entries in models.items()
            if backend in (None, where)
            for entry in entries
        ]
        return nearest_names(name.removesuffix(":latest"), names)

    async def default(self) -> DefaultModel:
        """Return the model to use when none is named.

        The order: the setting, the one used last, a loaded one, the largest chat model that fits
        into memory, and last the toys.

        Raises:
            ModelNotFound: When there is no chat model at all, or the setting names none.
        """
        if self._default_model:
            return DefaultModel(await self.resolve(self._default_model), "setting")
        if self._state.last_model:
            try:
                return DefaultModel(await self.resolve(self._state.last_model), "last used")
            except WorkbenchError:
                # It was removed, or its host is down: the next rule applies.
                pass
        models, _ = await self.listing()
        chat = [
            Resolved(self.backends[where], entry)
            for where, entries in models.items()
            for entry in entries
            if can_chat(entry)
        ]
        loaded = [item for item in chat if self._is_loaded(item)]
        for reason, choice in (("loaded", loaded), ("largest that fits", _fitting(chat))):
            real = [item for item in choice if not item.entry.toy]
            if real:
                return DefaultModel(max(real, key=_size), reason)
        toys = [item for item in chat if item.entry.toy]
        if not toys:
            raise ModelNotFound("(default)")
        return DefaultModel(max(toys, key=_size), "toy model, nothing else is installed")

    def _is_loaded(self, item: Resolved) -> bool:
        residents = self._residency.residents(item.backend.name)
        return any(same_name(resident.entry.name, item.entry.name) for resident in residents)


def can_chat(entry: ModelEntry) -> bool:
    """Whether a model makes text; one whose capabilities nobody told is taken to."""
    return not entry.capabilities or "completion" in entry.capabilities


def _size(item: Resolved) -> int:
    return item.entry.size_bytes or 0


def _fitting(models: list[Resolved]) -> list[Resolved]:
    total = psutil.virtual_memory().total
    return [item for item in models if not item.entry.remote and _size(item) < 0.8 * total]
