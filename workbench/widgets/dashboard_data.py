"""What the dashboard shows of a store, as JSON values; asked for in worker threads."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.errors import StoreError
from workbench.metrics.figures import CHARTS
from workbench.metrics.layout import MANIFEST, alive, live_files
from workbench.metrics.overview import COLUMNS, FILTERS, PAGE, Headline, Overview, Selection
from workbench.palette import COLORS, GOOD, MUTED, WARN, model_color, model_dash

if TYPE_CHECKING:
    from workbench.metrics.reader import Cursor, Metrics

RANGES: Mapping[str, float | None] = {
    "hour": 3600.0,
    "day": 86400.0,
    "week": 7 * 86400.0,
    "all": None,
    "custom": None,
}
"""Name of a time range to its length in seconds, where it has one."""

WATCHED = ("requests", "model_events", "gpu_samples", "spans")
QUERY_S = 120.0
"""Seconds a query of the dashboard may take."""

PHASE_COLORS = {"queue": MUTED, "load": WARN, "prompt": COLORS[4], "generation": GOOD}
"""The parts of a request's time in the colours of the charts."""

_LONGEST_TEXT = 40_000
# Columns of a request that the detail shows elsewhere, or that say nothing to a person.
_INTERNAL = {"messages", "messages_sha", "seq", "schema_v", "writer_id", "options", "chunk_gaps"}


@dataclass(frozen=True, slots=True)
class Filters:
    """What a person has chosen.

    Attributes:
        range: A name of `RANGES`.
        since: Beginning of a `custom` range, ISO, UTC.
        until: Its end; without one it goes on.
    """

    range: str = "day"
    since: str | None = None
    until: str | None = None
    model: str | None = None
    backend: str | None = None
    run: str | None = None
    client: str | None = None
    status: str | None = None

    def changed(self, values: Mapping[str, Any]) -> Filters:
        """Return other filters; an empty text takes one away.

        Raises:
            StoreError: When a filter or a range is unknown, or a time cannot be read.
        """
        names = {field.name for field in fields(self)}
        if unknown := set(values) - names:
            raise StoreError(f"There is no filter {min(unknown)!r}.")
        texts: dict[str, Any] = {k: str(v) if v else None for k, v in values.items()}
        new = replace(self, **texts)
        if new.range not in RANGES:
            raise StoreError(f"There is no time range {new.range!r}.")
        new.selection()
        return new

    def selection(self) -> Selection:
        """Return what is selected at this moment."""
        chosen = {name: getattr(self, name) for name in FILTERS}
        if self.range == "custom":
            return Selection.of(self.since, self.until, **chosen)
        return Selection.of(RANGES[self.range], **chosen)

    @property
    def moves(self) -> bool:
        """Whether the same filters select something else as time goes on."""
        return RANGES[self.range] is not None


@dataclass(frozen=True, slots=True)
class Order:
    """Which page of the requests is shown."""

    by: str = "ts"
    descending: bool = True
    offset: int = 0

    def changed(self, values: Mapping[str, Any]) -> Order:
        """Return another page; another order begins at its first.

        Raises:
            StoreError: When the list cannot be ordered so.
        """
        by, descending = str(values.get("by", self.by)), bool(values.get("desc", self.descending))
        if by not in COLUMNS:
            raise StoreError(f"The list cannot be ordered by {by!r}.")
        moved = (by, descending) != (self.by, self.descending)
        return Order(by, descending, 0 if moved else max(0, int(values.get("offset", 0))))


def signature(folder: Path) -> dict[str, Any]:
    """Return what changes when rows are written, for each watched table; reads no rows."""
    try:
        stat = (folder / MANIFEST).stat()
        sealed: Any = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
    except OSError:
        sealed = None
    found = {}
    for table in WATCHED:
        files = live_files(folder, table) if folder.is_dir() else []
        # An open row is lost when its writer dies.
        living = alive(folder, (file.writer for file in files))
        found[table] = (sealed, tuple((f.name, f.size_bytes) for f in files), living)
    return found


def is_unwritten(folder: Path) -> bool:
    """Return whether nothing was ever written there."""
    if folder.exists() and not folder.is_dir():
        return False
    return not (folder / MANIFEST).exists() and not any(
        live_files(folder, table) for table in WATCHED
    )


class Reader:
    """Reads one store for one dashboard, with a cursor of its own; in one worker thread at a time.

    Args:
        folder: The store.
        metrics: An open reader of it; else it is opened at the first question.
    """

    def __init__(
        self, folder: Path, metrics: Metrics | None = None, *, timeout_s: float = QUERY_S
    ) -> None:
        self.folder = folder
        self._timeout_s = timeout_s
        self._metrics, self._owned = metrics, metrics is None
        self._cursor: Cursor | None = None

    def overview(self, selection: Selection) -> Overview:
        """Return the door to the frames of a selection."""
        if self._metrics is None:
            from workbench.metrics.reader import open as open_metrics

            self._metrics = open_metrics(self.folder, compact=True)
        if self._cursor is None:
            self._cursor = self._metrics.cursor()
        return Overview(self._cursor, self.folder, selection, timeout_s=self._timeout_s)

    def interrupt(self) -> None:
        """End the query that runs; from any thread."""
        if self._cursor is not None:
            self._cursor.interrupt()

    def close(self) -> None:
        """Give the cursor back, and the reader when it was opened here."""
        if self._cursor is not None:
            self._cursor.close()
            self._cursor = None
        if self._owned and self._metrics is not None:
            self._metrics.close()
            self._metrics = None


def headline_values(overview: Overview) -> dict[str, Any]:
    """Return the four figures, those of the time before, and whether there is any request."""
    now, before = overview.headline()
    there = bool(now.requests) or overview.has_requests()
    return {
        "now": asdict(now),
        "before": None if before is None else asdict(before),
        "any": there,
    }


def table_values(overview: Overview, order: Order) -> dict[str, Any]:
    """Return one page of requests."""
    frame = overview.rows(by=order.by, descending=order.descending, offset=order.offset)
    return {
        "rows": [_row(row) for row in frame.to_dict("records")],
        "by": order.by,
        "desc": order.descending,
        "offset": order.offset,
        "page": PAGE,
    }


def figure_values(overview: Overview, name: str) -> dict[str, Any] | None:
    """Return a chart as plotly's JSON; `None` for one that is left out."""
    chart = CHARTS[name]
    figure = chart.draw(overview)
    if chart.optional and not figure.data:
        return None
    return {
        "title": chart.title,
        "tells": chart.tells,
        "figure": json.loads(figure.to_json()),
        "at": list(CHARTS).index(name),
    }


def detail_values(overview: Overview, request_id: str) -> dict[str, Any]:
    """Return everything about one request for its drawer."""
    row = overview.detail(request_id)
    if row is None:
        return {"id": request_id, "gone": True}
    identity = str(row.get("model_digest") or _model(row))
    return {
        "id": request_id,
        "model": _model(row),
        "color": model_color(identity),
        "pattern": model_dash(identity),
        "phase_colors": PHASE_COLORS,
        "facts": {k: json_value(v) for k, v in row.items() if k not in _INTERNAL},
        "options": _options(row.get("options")),
        "messages": [_message(message) for message in row["messages"]],
        "n_messages": row["n_messages"],
    }


def _options(text: str | None) -> dict[str, Any]:
    found = json.loads(text or "{}")
    return found if isinstance(found, dict) else {}


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    return {"role": str(message["role"]), "parts": list(_parts(message["parts"]))}


def _parts(parts: Any) -> Iterator[dict[str, Any]]:
    for part in parts:
        kind = str(part.get("type", "text")) if isinstance(part, Mapping) else "text"
        if kind == "image":
            yield {"type": kind, "text": "An image."}
        elif kind == "tool_call":
            text = f"{part.get('name')}({json.dumps(part.get('arguments'), ensure_ascii=False)})"
            yield {"type": kind, "text": text[:_LONGEST_TEXT]}
        else:
            text = str(part.get("content", "")) if isinstance(part, Mapping) else str(part)
            cut = max(0, len(text) - _LONGEST_TEXT)
            yield {"type": kind, "text": text[:_LONGEST_TEXT], **({"cut": cut} if cut else {})}


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    identity = row.get("digest") or row.get("model")
    values = {str(k): json_value(v) for k, v in row.items() if k != "digest"}
    known = isinstance(identity, str)
    values["color"] = model_color(str(identity)) if known else MUTED
    values["pattern"] = model_dash(str(identity)) if known else "solid"
    return values


def _model(row: Mapping[str, Any]) -> str:
    # As the list of requests names it (`workbench.metrics.views.MODEL`).
    name = row.get("gen_ai_request_model") or row.get("gen_ai_response_model")
    return str(name or "unknown model")


def json_value(value: Any) -> Any:
    """Return a value of a frame as JSON has it: times in seconds since 1970, missing as null."""
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, datetime):
        # NaT is a datetime that differs from itself.
        return value.replace(tzinfo=UTC).timestamp() if value == value else None
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list):
        return [json_value(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, bool | int | float) else None


def no_headline() -> dict[str, Any]:
    """Return the figures of an empty store."""
    return {"now": asdict(Headline()), "before": None, "any": False}
