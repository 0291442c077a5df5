"""What the server says about itself and its models: values that print well."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from workbench.units import format_bytes, format_seconds, parse_expires_at, utc_now

if TYPE_CHECKING:
    import pandas as pd


class Row(Protocol):
    """A dataclass that a `Table` can print."""

    def cells(self) -> dict[str, str]:
        """Return column title to printed value."""


R = TypeVar("R", bound=Row)


class Table(list[R], Generic[R]):
    """A list that prints as a table.

    Attributes:
        errors: What could not be asked, as (backend, reason); shown below the table.
    """

    def __init__(
        self, rows: Iterable[R] = (), *, errors: Sequence[tuple[str, str]] = (), empty: str = "none"
    ) -> None:
        super().__init__(rows)
        self.errors = list(errors)
        self._empty = empty

    def __repr__(self) -> str:
        return self.text()

    def text(self, width: int | None = None) -> str:
        """Return what is printed; with `width`, in lines that are no longer where it can be."""
        rows = [row.cells() for row in self]
        lines = aligned(rows, width) if rows else [f"({self._empty})"]
        lines += [f"{backend}: {reason}" for backend, reason in self.errors]
        return "\n".join(lines)

    def to_frame(self) -> pd.DataFrame:
        """Return a DataFrame with one row per item and one column per field of its class."""
        return frame_of(self)


class Printed:
    """A value that prints as text for people, in a notebook also when it is displayed bare.

    Its `repr` is that of the dataclass, with every field.
    """

    def __init_subclass__(cls) -> None:
        # IPython asks each class of the MRO in turn, and would find the dataclass's `__repr__`.
        setattr(cls, "_repr_pretty_", Printed._repr_pretty_)  # noqa: B010

    def cells(self) -> dict[str, str]:
        """Return column title to printed value."""
        return {item.name: str(getattr(self, item.name)) for item in fields(self)}  # type: ignore[arg-type]

    def __str__(self) -> str:
        return self.text()

    def text(self, width: int | None = None) -> str:
        """Return what is printed; with `width`, in lines that are no longer where it can be."""
        return "\n".join(aligned([self.cells()], width))

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(str(self))

    def to_frame(self) -> pd.DataFrame:
        """Return a DataFrame with one row and one column per field."""
        return frame_of([self])


def frame_of(rows: Sequence[object]) -> pd.DataFrame:
    """Return a DataFrame with one row per dataclass; fields of nested ones become columns."""
    import pandas as pd

    return pd.DataFrame([_columns(row) for row in rows])


def _columns(row: object, prefix: str = "") -> dict[str, Any]:
    columns: dict[str, Any] = {}
    for item in fields(row):  # type: ignore[arg-type]
        name, value = prefix + item.name, getattr(row, item.name)
        if is_dataclass(value):
            columns |= _columns(value, f"{name}_")
        else:
            columns[name] = _flat(value)
    return columns


def _flat(value: Any) -> Any:
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={item}" for name, item in value.items())
    return value


def aligned(rows: Sequence[Mapping[str, str]], width: int | None = None) -> list[str]:
    """Return a line of titles and a line per row, in columns; all rows have the same titles.

    Args:
        width: The most columns a line may have; where the table has more, each row is a paragraph
            that names its values.
    """
    titles = list(rows[0])
    table = [titles, *([row[title] for title in titles] for row in rows)]
    widths = [max(len(line[index]) for line in table) for index in range(len(titles))]
    lines = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in table]
    if width is None or max(map(len, lines)) <= width:
        return lines
    return [line for row in rows for line in _paragraph(row, width)]


def _paragraph(row: Mapping[str, str], width: int) -> list[str]:
    """Return the first value of a row on a line, and the others below with their titles."""
    (_, first), *others = row.items()
    lines = [first]
    for title, value in others:
        piece = f"{title.lower()} {value}"
        if len(lines) > 1 and len(lines[-1]) + len(piece) + 2 <= width:
            lines[-1] += f", {piece}"
        else:
            lines.append(f"  {piece}")
    return lines


def time_left(moment: datetime | None) -> str:
    """Print how long it is until a moment."""
    if moment is None:
        return "unknown"
    seconds = (moment - utc_now()).total_seconds()
    return f"in {format_seconds(seconds)}" if seconds > 0 else "now"


def shown(value: object) -> str:
    """Print a value of which nothing may be known."""
    return "unknown" if value is None else str(value)


@dataclass(frozen=True)
class BackendInfo:
    """One backend of the server.

    Attributes:
        error: Why it is not reachable.
        source: The file that names it, or `found` for one that is only looked for.
    """

    name: str
    kind: str = ""
    url: str | None = None
    reachable: bool = False
    error: str | None = None
    version: str | None = None
    source: str | None = None


@dataclass(frozen=True)
class ServerInfo:
    """What the server says about itself; `idle_exit_s` is seconds, `rss_bytes` bytes."""

    name: str = "workbench"
    version: str = ""
    protocol: int = 1
    data_dir: str = ""
    boot_id: str = ""
    pid: int | None = None
    started_at: str | None = None
    auto_started: bool = False
    url: str = ""
    idle_exit_s: float | None = None
    rss_bytes: int | None = None
    backends: tuple[BackendInfo, ...] = ()


@dataclass(frozen=True)
class ModelFit:
    """Whether a model would fit into memory now; sizes are bytes.

    Attributes:
        verdict: `alone`, `alongside`, `offload`, `too_large` or `unknown`.
        budget_bytes: What models may use in all.
        source: `measured` when it was loaded here before, else `estimated`.
    """

    verdict: str = "unknown"
    needed_bytes: int | None = None
    free_bytes: int | None = None
    budget_bytes: int | None = None
    reason: str | None = None
    source: str | None = None


def kept(row: ModelInfo | RunningModel) -> str:
    """Print how strongly a model is kept in memory."""
    marks = [name for name in ("pinned", "hot", "leased") if getattr(row, name)]
    return ", ".join([shown(row.priority), *marks])


@dataclass(frozen=True)
class ModelInfo(Printed):
    """One installed model; sizes are bytes, the context is tokens.

    Attributes:
        toy: Whether it is a bundled demonstration model, not one to do research with.
        state: `absent`, `queued`, `loading`, `idle`, `busy`, `stopping`, `releasing`, `unknown`.
        load_s: Seconds its last load took; `None` when it was never loaded here.
        evicts: What would leave memory for it now; `None` when the backend itself decides.
        remote: Whether it runs on somebody else's machine and takes no memory of ours.
        stale: Whether its backend did not answer, so that this is what was last known.
        owner: `ours`, or `foreign` when another client of the backend loaded it.
        priority: 0 to 9; 9 stays longest.
        pinned: Whether it never leaves for another model.
        hot: Whether it is loaded when the server starts, and again when memory allows.
        keep_alive_s: Seconds it stays without use; negative is for ever, `None` the default.
        max_idle_s: Seconds without use after which it is unloaded in any case.
        routed: Whether its bare name means this one of several backends.
        route_reason: Why, or why not.
    """

    name: str
    backend: str = ""
    kind: str = ""
    digest: str = ""
    size_bytes: int | None = None
    context_length: int | None = None
    parameter_size: str | None = None
    quantization: str | None = None
    family: str | None = None
    capabilities: tuple[str, ...] = ()
    toy: bool = False
    state: str = "unknown"
    load_s: float | None = None
    evicts: tuple[str, ...] | None = None
    modified_at: str | None = None
    remote: bool = False
    stale: bool = False
    owner: str | None = None
    priority: int | None = None
    pinned: bool = False
    hot: bool = False
    keep_alive_s: float | None = None
    max_idle_s: float | None = None
    in_flight: int | None = None
    leased: bool = False
    vram_bytes: int | None = None
    loaded_context_length: int | None = None
    expires_at: str | None = None
    forever: bool = False
    fit: ModelFit = ModelFit()
    routed: bool = False
    route_reason: str = ""

    def cells(self) -> dict[str, str]:
        """Return column title to printed value."""
        return {
            "NAME": f"{self.name} (toy)" if self.toy else self.name,
            "BACKEND": self.backend,
            "SIZE": format_bytes(self.size_bytes),
            "PARAMETERS": self.parameter_size or "unknown",
            "QUANTIZATION": self.quantization or "unknown",
            "CONTEXT": shown(self.context_length),
            "CAN": ", ".join(self.capabilities) or "unknown",
            "STATE": f"{self.state} (stale)" if self.stale else self.state,
            "FITS": self.fit.verdict.replace("_", " "),
            "PRIORITY": kept(self),
        }


@dataclass(frozen=True)
class RunningModel(Printed):
    """One model in memory; sizes are bytes, the context is tokens.

    Attributes:
        expires_at: When it will be unloaded (RFC 3339), or `None`; see `forever`.
        in_flight: Requests it is answering.
        load_s: Seconds its load took, as measured.
        owner: `ours`, or `foreign` when another client of the backend loaded it.
        stale: Whether the backend did not answer, so that this is what was last known.
        as_of: When it was seen, in seconds since 1970 UTC.
        offload_bytes: What of it lies in the host's memory and not the GPU's.
        offload_share: The same as a share, 0 to 1.
        profile: The runner options it was loaded with.
        warnings: What is not as it was asked for, with numbers.
    """

    name: str
    backend: str = ""
    digest: str = ""
    state: str = "unknown"
    size_bytes: int | None = None
    vram_bytes: int | None = None
    rss_bytes: int | None = None
    context_length: int | None = None
    expires_at: str | None = None
    forever: bool = False
    in_flight: int | None = None
    load_s: float | None = None
    owner: str | None = None
    stale: bool = False
    as_of: float | str | None = None
    offload_bytes: int | None = None
    offload_share: float | None = None
    priority: int | None = None
    pinned: bool = False
    hot: bool = False
    leased: bool = False
    profile: Mapping[str, Any] | None = None
    keep_alive_s: float | None = None
    warnings: tuple[str, ...] = ()

    @property
    def expires(self) -> datetime | None:
        """The moment of its unloading in UTC; `None` when it stays or the server did not say."""
        moment, forever = parse_expires_at(self.expires_at)
        return None if forever or self.forever else moment

    def cells(self) -> dict[str, str]:
        """Return column title to printed value."""
        share = self.offload_share
        return {
            "NAME": self.name,
            "BACKEND": self.backend,
            "STATE": f"{self.state} (stale)" if self.stale else self.state,
            "SIZE": format_bytes(self.size_bytes),
            "VRAM": format_bytes(self.vram_bytes),
            "ON GPU": "unknown" if share is None else f"{100 * (1 - share):.0f} %",
            "CONTEXT": shown(self.context_length),
            "UNLOADS": "never" if self.forever else time_left(self.expires),
            "IN FLIGHT": shown(self.in_flight),
            "PRIORITY": kept(self),
            "OWNER": shown(self.owner),
        }

    def __str__(self) -> str:
        return "\n".join([super().__str__(), *(f"warning: {text}" for text in self.warnings)])


@dataclass(frozen=True)
class DefaultModel:
    """The model that is used when none is named, and why it is that one."""

    model: str
    backend: str = ""
    reason: str = ""
    toy: bool = False


@dataclass(frozen=True)
class UnloadResult(Printed):
    """How an unload ended.

    Attributes:
        verdict: `verified`, `gone_unverified`, `still_loaded`, `resurrected` or `absent`.
        seconds: Until the verdict.
        bytes_before: Memory in use before, `None` when it could not be read.
        waited_for: Requests that had to end first.
        reason: Why it is not gone, or could not be seen to be.
    """

    model: str = ""
    verdict: str = "unknown"
    backend: str = ""
    seconds: float | None = None
    bytes_before: int | None = None
    bytes_after: int | None = None
    waited_for: int | None = None
    reason: str | None = None

    @property
    def freed_bytes(self) -> int | None:
        """How much less memory is in use; `None` when it could not be read."""
        if self.bytes_before is None or self.bytes_after is None:
            return None
        return self.bytes_before - self.bytes_after

    def cells(self) -> dict[str, str]:
        """Return column title to printed value."""
        return {
            "MODEL": self.model,
            "BACKEND": self.backend,
            "VERDICT": self.verdict,
            "TOOK": format_seconds(self.seconds),
            "BEFORE": format_bytes(self.bytes_before),
            "AFTER": format_bytes(self.bytes_after),
        }


@dataclass(frozen=True)
class DeleteResult(Printed):
    """What deleting a model did; `freed_bytes` is space on the disk."""

    model: str
    backend: str = ""
    unload: UnloadResult | None = None
    freed_bytes: int | None = None

    def cells(self) -> dict[str, str]:
        """Return column title to printed value."""
        return {
            "MODEL": self.model,
            "BACKEND": self.backend,
            "UNLOADED": "unknown" if self.unload is None else self.unload.verdict,
            "FREED": format_bytes(self.freed_bytes),
        }


@dataclass(frozen=True)
class Backends:
    """The body of a list: rows and what could not be asked."""

    models: list[dict[str, Any]] = field(default_factory=list)
    errors: list[dict[str, Any]] = field(default_factory=list)
