"""A model in memory or on its way: lane, facts and state."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from workbench.messages import RUNNER_OPTIONS
from workbench.server.backends.base import Backend, ModelEntry

ModelState = Literal[
    "absent", "queued", "loading", "idle", "busy", "stopping", "releasing", "unknown"
]
Owner = Literal["ours", "foreign"]
Verdict = Literal["verified", "gone_unverified", "still_loaded", "resurrected", "absent"]

SHIFT = "shift"
"""A field of a request beside its options that belongs to a loaded model all the same."""


@dataclass(frozen=True, slots=True)
class Lane:
    """What one loaded model serves: a runner with its runner options."""

    runner: str
    profile: tuple[tuple[str, Any], ...] = ()

    @property
    def options(self) -> dict[str, Any]:
        """The runner options by name."""
        return dict(self.profile)


def make_lane(runner: str, options: Mapping[str, Any]) -> Lane:
    """Return the lane of a runner with these options."""
    return Lane(runner, tuple(sorted(options.items())))


def runner_options(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a request says about how its model is loaded.

    A value of a wrong type is left to the backend, which refuses it in its own words.
    """
    options = body.get("options") or {}
    asked = {
        name: value
        for name, value in options.items()
        if name in RUNNER_OPTIONS and isinstance(value, int)
    }
    # A negative number of layers means "as many as fit", which is what nothing means too.
    if asked.get("num_gpu", 0) < 0:
        del asked["num_gpu"]
    if isinstance(body.get(SHIFT), bool):
        asked[SHIFT] = body[SHIFT]
    return asked


def with_profile(body: Mapping[str, Any], lane: Lane) -> dict[str, Any]:
    """Return a request that runs on the model as it is loaded, without a reload."""
    profile = lane.options
    shift = profile.pop(SHIFT, None)
    sent = dict(body)
    if profile:
        # What was asked is in the profile, except what is of a wrong type: that is the backend's
        # to refuse.
        sent["options"] = {**profile, **(body.get("options") or {})}
    if shift is not None:
        sent[SHIFT] = shift
    return sent


@dataclass(eq=False)
class Resident:
    """A model that is in memory or on its way.

    Attributes:
        entry: The model by the name it was loaded with; others may share its runner.
        lane: What it serves.
        names: Names, in lower case, that requests used for it.
        keep_alive_s: The keep_alive that its requests asked for last, if any did.
        stays_s: How long it stays after its last request, all wishes counted; `None` is unknown.
        draining: How many want it to leave once its requests have ended.
        leave_when_idle: Whether it leaves after its requests, as keep_alive 0 means.
        told: The state that was announced last.
    """

    backend: Backend
    entry: ModelEntry
    lane: Lane
    embed: bool = False
    owner: Owner = "ours"
    keep_alive_s: float | None = None
    stays_s: float | None = None
    size_bytes: int | None = None
    vram_bytes: int | None = None
    context_length: int | None = None
    names: set[str] = field(default_factory=set)
    in_flight: int = 0
    last_used: float = field(default_factory=time.monotonic)
    loaded: bool = False
    load_s: float | None = None
    expires_at: datetime | None = None
    forever: bool = False
    warnings: list[str] = field(default_factory=list)
    timer: asyncio.TimerHandle | None = None
    draining: int = 0
    leaving: asyncio.Task[UnloadReport] | None = None
    releasing: bool = False
    leave_when_idle: bool = False
    told: ModelState = "absent"

    def __post_init__(self) -> None:
        self.names.add(self.entry.name.lower())

    @property
    def runner(self) -> str:
        """What it is in memory."""
        return self.lane.runner

    @property
    def name(self) -> str:
        """The name it was loaded with."""
        return self.entry.name

    @property
    def stopping(self) -> bool:
        """Whether it is being unloaded, or will be when its requests have ended."""
        return self.draining > 0 or self.leaving is not None

    @property
    def usable(self) -> bool:
        """Whether requests may run on it."""
        return self.loaded and not self.stopping

    def suits(self, asked: Mapping[str, Any]) -> bool:
        """Whether a request with these runner options can run on the model as it is loaded.

        Options a request does not name are those of the loaded model.
        """
        return all(self._has(name, value) for name, value in asked.items())

    def _has(self, name: str, value: Any) -> bool:
        loaded = self.lane.options.get(name)
        if loaded is None and name == "num_ctx" and value is not None:
            # Loaded with the backend's default: what matters is what came of it.
            return bool(value == self.context_length)
        return bool(loaded == value)

    @property
    def state(self) -> ModelState:
        """The state as the design names it."""
        if self.releasing:
            return "releasing"
        if self.stopping:
            return "stopping"
        if not self.loaded:
            return "loading"
        return "busy" if self.in_flight else "idle"

    @property
    def offload_bytes(self) -> int | None:
        """Bytes that are not on the GPU; `None` when unknown."""
        if self.size_bytes is None or self.vram_bytes is None:
            return None
        return max(0, self.size_bytes - self.vram_bytes)

    @property
    def offload_share(self) -> float | None:
        """Part (0-1) that is not on the GPU; `None` when unknown."""
        offload = self.offload_bytes
        if offload is None or not self.size_bytes:
            return None
        return offload / self.size_bytes


@dataclass(frozen=True, slots=True)
class UnloadReport:
    """How an unload went.

    Attributes:
        seconds: In all.
        gone_s: Until the backend no longer listed it.
        released_s: Until its memory was seen to be back.
        bytes_before: Memory it held; of an engine of ours, resident memory.
        bytes_after: What of that did not come back.
        waited_for: Requests it waited for.
        reason: Why the verdict is not `verified`.
    """

    verdict: Verdict
    seconds: float = 0.0
    gone_s: float | None = None
    released_s: float | None = None
    bytes_before: int | None = None
    bytes_after: int | None = None
    waited_for: int = 0
    reason: str | None = None

    @property
    def gone(self) -> bool:
        """Whether it is no longer in memory as far as the backend says."""
        return self.verdict in ("verified", "gone_unverified", "absent")
