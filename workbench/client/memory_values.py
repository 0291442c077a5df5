"""What the server says about memory, its queue and its settings: values that print well."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from workbench.client.values import Printed, aligned, frame_of, shown, time_left
from workbench.units import format_bytes, format_seconds, parse_expires_at

if TYPE_CHECKING:
    import pandas as pd

# As many characters of a digest as Ollama shows.
_DIGEST = 12


def _yes(value: bool | None) -> str:
    return {True: "yes", False: "no", None: "unknown"}[value]


def _because(word: str, reason: str | None) -> str:
    return f"{word}: {reason}" if reason else word


@dataclass(frozen=True)
class Answer:
    """One answer of the advisor and its reason; `fits` is `None` when nobody can tell."""

    fits: bool | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Offload:
    """Whether a part would lie in the host's memory; `share` is 0 to 1."""

    will: bool | None = None
    share: float | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Fit(Printed):
    """Whether a model fits into memory, and what it is made of; sizes are bytes.

    Attributes:
        num_ctx: Tokens of context it was asked for.
        verdict: `alone`, `alongside`, `offload`, `too_large` or `unknown`.
        needed_bytes: `weights_bytes`, `kv_bytes` (the context), `compute_bytes` and
            `overhead_bytes` together; between `low_bytes` and `high_bytes`.
        evicts: What would have to leave for it; `None` when the backend itself decides.
        source: `measured` when it was loaded here with this context, else `estimated`.
        confidence: `high` or `low`.
        alone: Whether it fits when nothing else is loaded.
        alongside: Whether it fits beside what is loaded now.
    """

    model: str
    backend: str = ""
    num_ctx: int | None = None
    verdict: str = "unknown"
    needed_bytes: int | None = None
    weights_bytes: int | None = None
    kv_bytes: int | None = None
    compute_bytes: int | None = None
    overhead_bytes: int | None = None
    low_bytes: int | None = None
    high_bytes: int | None = None
    free_bytes: int | None = None
    total_bytes: int | None = None
    evicts: tuple[str, ...] | None = None
    source: str | None = None
    confidence: str | None = None
    reason: str | None = None
    alone: Answer = Answer()
    alongside: Answer = Answer()
    offload: Offload = Offload()

    def __str__(self) -> str:
        context = f", context {self.num_ctx}" if self.num_ctx is not None else ""
        lines = [
            _because(f"{self.model}{context}: {self.verdict.replace('_', ' ')}", self.reason),
            f"  needed     {self._needed()}",
            f"  free       {format_bytes(self.free_bytes)} of {format_bytes(self.total_bytes)}",
            f"  alone      {_because(_yes(self.alone.fits), self.alone.reason)}",
            f"  alongside  {_because(_yes(self.alongside.fits), self.alongside.reason)}",
            f"  offload    {_because(self._offload(), self.offload.reason)}",
        ]
        if self.evicts:
            lines.append(f"  unloads    {', '.join(self.evicts)}")
        return "\n".join(lines)

    def _needed(self) -> str:
        if self.needed_bytes is None:
            return "unknown"
        parts = {
            "weights": self.weights_bytes,
            "context": self.kv_bytes,
            "compute": self.compute_bytes,
            "overhead": self.overhead_bytes,
        }
        known = [f"{name} {format_bytes(size)}" for name, size in parts.items() if size is not None]
        how = self.source or "source unknown"
        if self.low_bytes is not None and self.high_bytes is not None and self.source != "measured":
            how += f", {format_bytes(self.low_bytes)} to {format_bytes(self.high_bytes)}"
        if self.confidence is not None:
            how += f", {self.confidence} confidence"
        made_of = f": {', '.join(known)}" if known else ""
        return f"{format_bytes(self.needed_bytes)} ({how}){made_of}"

    def _offload(self) -> str:
        share = self.offload.share
        part = f", {100 * share:.0f} % of it" if self.offload.will and share is not None else ""
        return _yes(self.offload.will) + part


@dataclass(frozen=True)
class GpuProcess:
    """A process that uses memory of a device."""

    pid: int
    name: str | None = None
    used_bytes: int | None = None


@dataclass(frozen=True)
class DeviceModel:
    """A model's share of a device's memory."""

    name: str
    backend: str = ""
    bytes: int | None = None

    def __str__(self) -> str:
        return f"{self.name} {format_bytes(self.bytes)}"


@dataclass(frozen=True)
class GpuDevice(Printed):
    """Memory that models can lie in: a card, the host's memory, or what a remote host declares.

    Attributes:
        kind: `nvidia`, `amd`, `apple`, `host` or `declared`.
        backend: The backend whose memory it is, when it is one alone.
        utilization_pct: 0 to 100.
        temperature_c: Degrees Celsius.
        power_w: Watts.
        processes: `None` when the system does not say.
        other_bytes: In use by what is not a model of ours.
        source: Where the figures come from.
        reason: Why a figure is unknown.
    """

    id: str
    name: str = ""
    kind: str = ""
    backend: str | None = None
    total_bytes: int | None = None
    used_bytes: int | None = None
    free_bytes: int | None = None
    utilization_pct: float | None = None
    temperature_c: float | None = None
    power_w: float | None = None
    processes: tuple[GpuProcess, ...] | None = None
    models: tuple[DeviceModel, ...] = ()
    other_bytes: int | None = None
    source: str | None = None
    reason: str | None = None

    def cells(self) -> dict[str, str]:
        """Return column title to printed value."""
        return {
            "DEVICE": self.name or self.id,
            "KIND": self.kind,
            "TOTAL": format_bytes(self.total_bytes),
            "USED": format_bytes(self.used_bytes),
            "FREE": format_bytes(self.free_bytes),
            "BUSY": _unit(self.utilization_pct, "%"),
            "TEMPERATURE": _unit(self.temperature_c, "°C"),
            "POWER": _unit(self.power_w, "W"),
            "MODELS": ", ".join(map(str, self.models)) or "none",
            "SOURCE": shown(self.source),
        }


def _unit(value: float | None, unit: str) -> str:
    return "unknown" if value is None else f"{value:.0f} {unit}"


@dataclass(frozen=True)
class MemoryWarning:
    """What is wrong with memory: `low`, or `offload` when the next load would not fit."""

    level: str
    device: str | None = None
    free_bytes: int | None = None
    total_bytes: int | None = None
    text: str = ""


@dataclass(frozen=True)
class GpuStatus(Printed):
    """The memory of every device.

    Attributes:
        reason: Why there are no GPU figures, when there are none.
        as_of: When it was measured, in seconds since 1970 UTC.
    """

    devices: tuple[GpuDevice, ...] = ()
    driver_version: str | None = None
    reason: str | None = None
    warning: MemoryWarning | None = None
    as_of: float | str | None = None

    def text(self, width: int | None = None) -> str:
        """Return what is printed; with `width`, in lines that are no longer where it can be."""
        lines = aligned([device.cells() for device in self.devices], width) if self.devices else []
        lines += [f"{d.name or d.id}: {d.reason}" for d in self.devices if d.reason]
        if self.reason:
            lines.append(self.reason)
        if self.warning is not None:
            lines.append(f"warning: {self.warning.text}")
        return "\n".join(lines) or "(no devices)"

    def to_frame(self) -> pd.DataFrame:
        """Return a DataFrame with one row per device and one column per field."""
        return frame_of(self.devices)


@dataclass(frozen=True)
class Lane(Printed):
    """The requests that wait for one model, or are answered by it.

    Attributes:
        profile: The runner options the requests need.
        state: `serving`, `waiting`, or `gated` when only what waits is finished before a switch.
        oldest_s: Seconds the oldest of them waits.
        bound_s: Seconds after which it gets its turn.
    """

    backend: str
    model: str
    profile: Mapping[str, Any] | str | None = None
    state: str = "unknown"
    running: int | None = None
    waiting: int | None = None
    interactive: int | None = None
    batch: int | None = None
    oldest_s: float | None = None
    bound_s: float | None = None

    def cells(self) -> dict[str, str]:
        """Return column title to printed value."""
        return {
            "MODEL": self.model,
            "BACKEND": self.backend,
            "STATE": self.state,
            "RUNNING": shown(self.running),
            "WAITING": shown(self.waiting),
            "INTERACTIVE": shown(self.interactive),
            "BATCH": shown(self.batch),
            "OLDEST": format_seconds(self.oldest_s) if self.waiting else "-",
            "TURN WITHIN": format_seconds(self.bound_s) if self.waiting else "-",
        }


@dataclass(frozen=True)
class Turn:
    """One step of the planned order: so many requests of a model, after a swap or not."""

    backend: str
    model: str
    requests: int | None = None
    swap: bool = False

    def __str__(self) -> str:
        return f"{self.model} ({shown(self.requests)}{', swap' if self.swap else ''})"


@dataclass(frozen=True)
class WaitBound:
    """Seconds a request waits for its turn at most, by its class."""

    interactive: float | None = None
    batch: float | None = None


@dataclass(frozen=True)
class QueueStatus(Printed):
    """Who is served, who waits, and what comes next.

    Attributes:
        order: The planned order of what waits.
        predicted_swaps: How often a model will have to leave for another.
    """

    lanes: tuple[Lane, ...] = ()
    order: tuple[Turn, ...] = ()
    predicted_swaps: int | None = None
    wait_bound_s: WaitBound = WaitBound()

    def text(self, width: int | None = None) -> str:
        """Return what is printed; with `width`, in lines that are no longer where it can be."""
        bound = self.wait_bound_s
        rows = [lane.cells() for lane in self.lanes]
        lines = aligned(rows, width) if rows else ["(no requests)"]
        if self.order:
            lines.append(f"next: {', then '.join(map(str, self.order))}")
        lines += [
            f"predicted swaps: {shown(self.predicted_swaps)}",
            f"longest wait for a turn: {format_seconds(bound.interactive)} interactive, "
            f"{format_seconds(bound.batch)} batch",
        ]
        return "\n".join(lines)

    def to_frame(self) -> pd.DataFrame:
        """Return a DataFrame with one row per lane and one column per field."""
        return frame_of(self.lanes)


@dataclass(frozen=True)
class LeaseInfo(Printed):
    """Models that stay in memory while somebody says every `ttl_s` seconds that it needs them."""

    id: str
    models: tuple[str, ...] = ()
    ttl_s: float | None = None
    expires_at: str | None = None
    holder: str | None = None

    def cells(self) -> dict[str, str]:
        """Return column title to printed value."""
        return {
            "LEASE": self.id,
            "MODELS": ", ".join(self.models),
            "HOLDER": shown(self.holder),
            "TTL": format_seconds(self.ttl_s),
            "EXPIRES": time_left(parse_expires_at(self.expires_at)[0]),
        }


@dataclass(frozen=True)
class SettingValue(Printed):
    """One setting of the server.

    Attributes:
        source: `flag`, `environment NAME`, `state` (changed at run time), `workbench.toml` or
            `default`.
        changeable: Whether it can be changed while the server runs.
        kind: `str`, `int`, `float`, `bytes`, `seconds`, `bool`, `choice`, `list` or `path`.
    """

    name: str
    value: Any = None
    default: Any = None
    source: str = ""
    changeable: bool = False
    kind: str = "str"
    choices: tuple[str, ...] | None = None
    help: str = ""

    def cells(self) -> dict[str, str]:
        """Return column title to printed value."""
        return {
            "NAME": self.name,
            "VALUE": self._text(self.value),
            "DEFAULT": self._text(self.default),
            "FROM": self.source,
            "CHANGEABLE": "yes" if self.changeable else "no",
        }

    def _text(self, value: Any) -> str:
        if value is None:
            return "not set"
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, list | tuple):
            return ", ".join(map(str, value)) or "none"
        if self.name.endswith("_bytes") and isinstance(value, int | float):
            return format_bytes(value)
        if self.kind == "seconds" and isinstance(value, int | float):
            return format_seconds(float(value)) if value else "0 s"
        return str(value)


@dataclass(frozen=True)
class PullProgress:
    """How far a download is; sizes are bytes, `digest` names the part that arrives."""

    status: str
    digest: str | None = None
    total_bytes: int | None = None
    completed_bytes: int | None = None
    speed_bytes_per_s: float | None = None
    eta_s: float | None = None

    @property
    def share(self) -> float | None:
        """What has arrived, 0 to 1; `None` when the size is not known."""
        if not self.total_bytes or self.completed_bytes is None:
            return None
        return min(1.0, self.completed_bytes / self.total_bytes)

    def __str__(self) -> str:
        if self.share is None:
            return self.status
        done, total = format_bytes(self.completed_bytes), format_bytes(self.total_bytes)
        text = f"{self.status}: {100 * self.share:3.0f} % ({done} of {total}"
        if self.speed_bytes_per_s:
            text += f", {format_bytes(self.speed_bytes_per_s)}/s"
        if self.eta_s is not None:
            text += f", {format_seconds(self.eta_s)} left"
        return f"{text})"


@dataclass(frozen=True)
class ServerEvent:
    """Something the server did or saw.

    Attributes:
        ts: Seconds since 1970 UTC.
        event: What kind of event it is; see the reference of events.
        fields: What else it says.
    """

    ts: float
    event: str
    fields: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        clock = time.strftime("%H:%M:%S", time.localtime(self.ts))
        told = [
            f"{name}={_told(name, value)}"
            for name, value in self.fields.items()
            if value not in (None, "", [])
        ]
        return " ".join([clock, self.event, *told])

    def to_wire(self) -> dict[str, Any]:
        """Return it as the server sent it."""
        return {"ts": self.ts, "event": self.event, **self.fields}


def _told(name: str, value: Any) -> str:
    """Print a field of an event in one word, or in quotes."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        if "bytes" in name.split("_"):
            return format_bytes(value).replace(" ", "")
        if name.endswith("_s") or name == "seconds":
            return format_seconds(value).replace(" ", "")
    if isinstance(value, list):
        value = ",".join(map(str, value))
    text = str(value)[:_DIGEST] if name == "digest" else str(value)
    return f'"{text}"' if " " in text else text
