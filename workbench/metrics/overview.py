"""Frames of a selection of the metrics: what the dashboard and the report show.

Every frame is reduced in SQL to what can be seen: about a hundred moments, or a sample of points.
Latencies follow the rule of the named questions: requests that ended with `ok` on a warm model.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol

from workbench.errors import StoreError
from workbench.metrics.blobs import restore
from workbench.metrics.queries import as_utc
from workbench.metrics.sources import quoted
from workbench.metrics.views import MODEL

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

_RATE = "tokens_per_s(gen_ai_usage_output_tokens, ollama_eval_duration)"
_WARM = "status = 'ok' AND NOT coalesce(cold, false)"
_FAILED = "status IN ('error', 'lost')"

_FILTERS = {
    "model": MODEL,
    "backend": "backend",
    "run": "run_id",
    "client": "client_name",
    "status": "status",
}
FILTERS = tuple(_FILTERS)
"""What a selection can be narrowed by, besides time."""

# Columns by which the list of requests can be ordered, and that it shows.
COLUMNS: Mapping[str, str] = {
    "ts": "ts",
    "model": MODEL,
    "status": "status",
    "client": "client_name",
    "duration_s": "duration",
    "ttft_s": "gen_ai_response_time_to_first_chunk",
    "load_s": "load_wait",
    "input_tokens": "gen_ai_usage_input_tokens",
    "output_tokens": "gen_ai_usage_output_tokens",
    "tokens_per_s": "gen_ai_usage_output_tokens / nullif(ollama_eval_duration, 0)",
}
PAGE = 100

_STEPS_S = (5, 15, 60, 300, 900, 3600, 3 * 3600, 12 * 3600, 86400, 7 * 86400, 30 * 86400)
_MOMENTS = 110
_POINTS = 1500
_GAPS = 20_000
_GAPS_OF = 200
_MESSAGES = 60
_CHOICES = 200


class Asks(Protocol):
    """A `Metrics`, or a cursor of it."""

    def sql(
        self, query: str, parameters: Sequence[Any] = (), *, timeout_s: float | None = None
    ) -> pd.DataFrame:
        """Return the result of one SELECT."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which requests are looked at; what is `None` does not narrow.

    Attributes:
        since: Beginning, included, in UTC without a zone.
        until: End, excluded.
    """

    since: datetime | None = None
    until: datetime | None = None
    model: str | None = None
    backend: str | None = None
    run: str | None = None
    client: str | None = None
    status: str | None = None

    @classmethod
    def of(cls, since: Any = None, until: Any = None, **filters: str | None) -> Selection:
        """Return a selection from times as the named questions take them.

        Raises:
            StoreError: When a time cannot be read, or the end is not after the beginning.
        """
        begin = None if since is None else as_utc(since)
        end = None if until is None else as_utc(until)
        if begin is not None and end is not None and end <= begin:
            raise StoreError(
                "The end of the time is not after its beginning.", hint="Choose a later end."
            )
        return cls(begin, end, **filters)

    @property
    def before(self) -> Selection | None:
        """The time of the same length just before; `None` without a beginning."""
        if self.since is None:
            return None
        end = self.until or _now()
        return replace(self, since=self.since - (end - self.since), until=self.since)

    def where(self, *more: str, of: Sequence[str] = FILTERS) -> tuple[str, list[Any]]:
        """Return a condition on `requests`, and its parameters.

        Args:
            *more: Conditions beside those of the selection.
            of: The filters that the table knows.
        """
        conditions, values = list(more), list[Any]()
        for moment, comparison in ((self.since, ">="), (self.until, "<")):
            if moment is not None:
                conditions.append(f"ts {comparison} ?")
                values.append(moment)
        for name in of:
            chosen = getattr(self, name)
            if chosen is not None:
                conditions.append(f"{_FILTERS[name]} = ?")
                values.append(chosen)
        return " AND ".join(conditions) or "true", values

    def condition(self) -> str:
        """Return the condition on `requests` with its values in it, for an export."""
        where, values = self.where()
        texts = (
            f"{quoted(v.isoformat())}::TIMESTAMP" if isinstance(v, datetime) else quoted(str(v))
            for v in values
        )
        return re.sub(r"\?", lambda _: next(texts), where)


@dataclass(frozen=True, slots=True)
class Headline:
    """The four figures of a time; `None` where nothing was measured.

    Attributes:
        requests: Their number.
        p95_s: 95th percentile of the duration of warm requests that ended with `ok`, in seconds.
        tokens_per_s: Sum of the tokens over the sum of the seconds of generation.
        error_share: Share of the ended requests that failed or were lost, 0-1.
    """

    requests: int = 0
    p95_s: float | None = None
    tokens_per_s: float | None = None
    error_share: float | None = None


class Overview:
    """Asks for the frames of one selection.

    Args:
        asks: Runs the queries.
        folder: The store; long texts of messages lie there.
        timeout_s: Seconds a query may take.
    """

    def __init__(
        self, asks: Asks, folder: Path, selection: Selection, *, timeout_s: float | None = None
    ) -> None:
        self.selection = selection
        self._asks, self._folder, self._timeout_s = asks, folder, timeout_s
        self._step: float | None = None

    def _sql(self, query: str, values: Sequence[Any] = ()) -> pd.DataFrame:
        return self._asks.sql(query, values, timeout_s=self._timeout_s)

    # --- figures and lists

    def headline(self) -> tuple[Headline, Headline | None]:
        """Return the figures of the selection, and of the time of the same length before."""
        before = self.selection.before
        former = None if before is None else self._headline(before)
        return self._headline(self.selection), former

    def _headline(self, selection: Selection) -> Headline:
        where, values = selection.where()
        row = self._sql(
            f"SELECT count(*) AS requests, quantile_cont(duration, 0.95) FILTER ({_WARM}) AS p95_s,"
            f" {_RATE} AS tokens_per_s, count(*) FILTER ({_FAILED}) "
            "/ nullif(count(*) FILTER (status <> 'open'), 0) AS error_share "
            f"FROM requests WHERE {where}",
            values,
        ).iloc[0]
        return Headline(
            int(row["requests"]),
            *(known(row[name]) for name in ("p95_s", "tokens_per_s", "error_share")),
        )

    def has_requests(self) -> bool:
        """Return whether any request was ever recorded."""
        return not self._sql("SELECT id FROM requests LIMIT 1").empty

    def choices(self) -> dict[str, list[tuple[str, int]]]:
        """Return each filter's values in the time of the selection, with the requests of each."""
        where, values = replace(
            self.selection, model=None, backend=None, run=None, client=None, status=None
        ).where()
        names = ", ".join(f"{expression} AS {name}" for name, expression in _FILTERS.items())
        sets = ", ".join(f"({name})" for name in FILTERS)
        frame = self._sql(
            f"SELECT *, count(*) AS n FROM (SELECT {names} FROM requests WHERE {where}) "
            f"GROUP BY GROUPING SETS ({sets}) ORDER BY n DESC",
            values,
        )
        found: dict[str, list[tuple[str, int]]] = {}
        for name in FILTERS:
            rows = frame[frame[name].notna()].head(_CHOICES)
            found[name] = [(str(v), int(n)) for v, n in zip(rows[name], rows["n"], strict=True)]
        return found

    def rows(
        self, *, by: str = "ts", descending: bool = True, offset: int = 0, limit: int = PAGE
    ) -> pd.DataFrame:
        """Return a page of requests: `id`, the columns of `COLUMNS`, `error_type`, `digest`.

        Raises:
            StoreError: When the list cannot be ordered by `by`.
        """
        if by not in COLUMNS:
            raise StoreError(f"The list cannot be ordered by {by!r}.")
        where, values = self.selection.where()
        shown = ", ".join(f"{expression} AS {name}" for name, expression in COLUMNS.items())
        order = "DESC" if descending else "ASC"
        return self._sql(
            f"SELECT id, {shown}, error_type, model_digest AS digest FROM requests WHERE {where} "
            f"ORDER BY {COLUMNS[by]} {order} NULLS LAST, id {order} "
            f"LIMIT {int(limit)} OFFSET {int(offset)}",
            values,
        )

    def detail(self, request_id: str) -> dict[str, Any] | None:
        """Return everything about one request, its messages included; `None` when it is gone.

        Returns:
            The columns that are not null, and `messages`: a list of role and parts, oldest first,
            the answer last; empty where no text was recorded.  `n_messages` counts what was sent.
        """
        frame = self._sql("SELECT * FROM requests WHERE id = ?", [request_id])
        if frame.empty:
            return None
        row = {str(name): value for name, value in frame.iloc[0].items() if _is_there(value)}
        sent = [str(sha) for sha in row.get("messages_sha", ())]
        ids = [*sent, *([row["output_sha"]] if "output_sha" in row else [])]
        row["n_messages"] = len(ids)
        row["messages"] = self._messages(ids[-_MESSAGES:])
        return row

    def _messages(self, ids: Sequence[str]) -> list[dict[str, Any]]:
        if not ids:
            return []
        marks = ", ".join("?" for _ in ids)
        frame = self._sql(f"SELECT id, role, parts FROM messages WHERE id IN ({marks})", list(ids))
        found = {row["id"]: row for row in frame.to_dict("records")}
        return [
            {"role": found[sha]["role"], "parts": self._parts(found[sha]["parts"])}
            for sha in ids
            if sha in found
        ]

    def _parts(self, text: str | None) -> list[Any]:
        parts: list[Any] = []
        for part in json.loads(text or "[]"):
            try:
                parts.append(restore(self._folder, part))
            except StoreError as exc:
                parts.append({"type": "gone", "content": exc.message})
        return parts

    # --- tables of the report

    def models(self) -> pd.DataFrame:
        """Return what each model did, the most used first.

        Returns:
            `model`, `n`, `ttft_p50_s`, `ttft_p95_s`, `duration_p50_s`, `duration_p95_s` (s),
            `tokens_per_s`, `input_tokens`, `output_tokens`, `error_share` (0-1).
        """
        where, values = self.selection.where()
        first, whole = "gen_ai_response_time_to_first_chunk", "duration"
        percentiles = ", ".join(
            f"quantile_cont({column}, 0.{p}) FILTER ({_WARM}) AS {name}_p{p}_s"
            for column, name in ((first, "ttft"), (whole, "duration"))
            for p in (50, 95)
        )
        return self._sql(
            f"SELECT {MODEL} AS model, count(*) AS n, {percentiles}, {_RATE} AS tokens_per_s, "
            "total(gen_ai_usage_input_tokens) AS input_tokens, "
            "total(gen_ai_usage_output_tokens) AS output_tokens, "
            f"count(*) FILTER ({_FAILED}) / nullif(count(*) FILTER (status <> 'open'), 0) "
            f"AS error_share FROM requests WHERE {where} GROUP BY 1 ORDER BY n DESC, model",
            values,
        )

    def failures(self) -> pd.DataFrame:
        """Return what failed, the most frequent first.

        Returns:
            `model`, `status`, `error_type`, `error_stage`, `n`, `last` (UTC), `message` (the last).
        """
        where, values = self.selection.where(_FAILED)
        return self._sql(
            f"SELECT {MODEL} AS model, status, error_type, error_stage, count(*) AS n, "
            "max(ts) AS last, arg_max(error_message, ts) AS message "
            f"FROM requests WHERE {where} GROUP BY ALL ORDER BY n DESC, last DESC",
            values,
        )

    def load_summary(self) -> pd.DataFrame:
        """Return the loads per model.

        Returns:
            `model`, `backend`, `cold`, `n`, `p50_s`, `max_s` (s), `vram_bytes` (of the last).
        """
        where, values = self._of_events("event = 'load'")
        return self._sql(
            "SELECT model, backend, cold, count(*) AS n, quantile_cont(duration, 0.5) AS p50_s, "
            "max(duration) AS max_s, arg_max(vram_bytes, ts) AS vram_bytes FROM model_events "
            f"WHERE {where} GROUP BY ALL ORDER BY model, cold",
            values,
        )

    # --- frames of the charts

    def step_s(self) -> float:
        """Return the length of the intervals in which things are drawn over time, in seconds."""
        if self._step is None:
            begin, end = self.selection.since, self.selection.until or _now()
            if begin is None:
                where, values = self.selection.where()
                row = self._sql(f"SELECT min(ts) AS a, max(ts) AS b FROM requests WHERE {where}",
                                values).iloc[0]  # fmt: skip
                has = _is_there(row["a"])
                begin, end = (row["a"], row["b"]) if has else (end - timedelta(days=1), end)
            span = (end - begin).total_seconds()
            self._step = next((s for s in _STEPS_S if span / s <= _MOMENTS), _STEPS_S[-1])
        return self._step

    def latency(self) -> pd.DataFrame:
        """Return `bucket` (UTC), `model`, `model_digest`, `p50`, `p95`, `p99` (s), `requests`."""
        where, values = self.selection.where(_WARM, "duration IS NOT NULL")
        return self._sql(
            f"SELECT time_bucket(to_microseconds(?), ts) AS bucket, {MODEL} AS model, "
            "any_value(model_digest) AS model_digest, quantile_cont(duration, 0.5) AS p50, "
            "quantile_cont(duration, 0.95) AS p95, quantile_cont(duration, 0.99) AS p99, "
            f"count(*) AS requests FROM requests WHERE {where} GROUP BY 1, 2 ORDER BY 1, 2",
            [int(self.step_s() * 1_000_000), *values],
        )

    def speed(self) -> pd.DataFrame:
        """Return a sample: `model`, `model_digest`, `ttft_s`, `tokens_per_s`, `vram_bytes`."""
        where, values = self.selection.where(
            "status = 'ok'",
            "gen_ai_response_time_to_first_chunk IS NOT NULL",
            "ollama_eval_duration > 0",
        )
        return self._sql(
            f"SELECT {MODEL} AS model, model_digest, "
            "gen_ai_response_time_to_first_chunk AS ttft_s, "
            "gen_ai_usage_output_tokens / ollama_eval_duration AS tokens_per_s, vram_bytes "
            f"FROM requests WHERE {where} ORDER BY hash(id) LIMIT {_POINTS}",
            values,
        )

    def phases(self) -> pd.DataFrame:
        """Return the newest 100 requests with the parts of their time.

        Returns:
            `ts` (UTC), `model`, `queue_wait`, `load_s`, `prompt_s`, `generation_s` (s).
        """
        where, values = self.selection.where("status <> 'open'")
        return self._sql(
            f"SELECT ts, {MODEL} AS model, queue_wait, load_wait AS load_s, "
            "ollama_prompt_eval_duration AS prompt_s, ollama_eval_duration AS generation_s "
            f"FROM requests WHERE {where} ORDER BY ts DESC LIMIT 100",
            values,
        )

    def gaps(self) -> tuple[pd.DataFrame, bool]:
        """Return gaps between pieces: every one where they were recorded, else medians.

        Returns:
            `model`, `model_digest`, `gap_s` (s); and whether each row is the median of a request.
        """
        where, values = self.selection.where("chunk_gaps IS NOT NULL")
        single = self._sql(
            f"SELECT {MODEL} AS model, model_digest, unnest(chunk_gaps) AS gap_s FROM (FROM "
            f"requests WHERE {where} ORDER BY hash(id) LIMIT {_GAPS_OF}) LIMIT {_GAPS}",
            values,
        )
        if not single.empty:
            return single, False
        where, values = self.selection.where("time_per_output_chunk_p50 IS NOT NULL")
        medians = self._sql(
            f"SELECT {MODEL} AS model, model_digest, time_per_output_chunk_p50 AS gap_s "
            f"FROM requests WHERE {where} ORDER BY hash(id) LIMIT {_GAPS}",
            values,
        )
        return medians, True

    def runs(self) -> pd.DataFrame:
        """Return the last 60 runs: `run`, `input_tokens`, `output_tokens`, `errors`."""
        where, values = self.selection.where("run_id IS NOT NULL")
        frame = self._sql(
            "SELECT right(run_id, 8) AS run, "
            "total(gen_ai_usage_input_tokens) AS input_tokens, "
            "total(gen_ai_usage_output_tokens) AS output_tokens, "
            f"count(*) FILTER ({_FAILED}) AS errors, min(ts) AS begun FROM requests "
            f"WHERE {where} GROUP BY run_id ORDER BY begun DESC LIMIT 60",
            values,
        )
        return frame.iloc[::-1]

    def memory(self) -> tuple[pd.DataFrame, pd.DataFrame, float | None]:
        """Return the memory of the models, their loads and unloads, and the memory there is.

        Returns:
            `ts` (UTC), `model`, `bytes` (the peak of an interval), `model_digest` (null when no
            event told it); `ts`, `model`, `event`; bytes.
        """
        where, values = self.selection.where(of=())
        bucket = [int(self.step_s() * 1_000_000)]
        one = "" if self.selection.model is None else "AND m.name = ? "
        chosen = [] if self.selection.model is None else [self.selection.model]
        held = self._sql(
            "WITH looks AS (SELECT time_bucket(to_microseconds(?), ts) AS ts, host, hw_id, models "
            f"FROM gpu_samples WHERE {where}), "
            "parts AS (SELECT ts, host, hw_id, unnest(from_json(models, "
            '\'[{"name": "VARCHAR", "bytes": "BIGINT"}]\')) AS m FROM looks), '
            "peaks AS (SELECT ts, host, hw_id, m.name AS model, max(m.bytes) AS bytes FROM parts "
            f"WHERE m.name IS NOT NULL {one}GROUP BY ALL), "
            "held AS (SELECT ts, model, total(bytes) AS bytes FROM peaks GROUP BY ALL), "
            "shown AS (SELECT * FROM held UNION ALL "
            # A moment without models is drawn too, else an area would go on over it.
            "SELECT DISTINCT ts, (SELECT min(model) FROM held), 0 FROM looks "
            "WHERE ts NOT IN (SELECT ts FROM held) AND EXISTS (FROM held)), "
            "known AS (SELECT model, arg_max(digest, ts) AS model_digest FROM model_events "
            "WHERE model IN (SELECT model FROM held) GROUP BY model) "
            "SELECT ts, model, bytes, model_digest FROM shown LEFT JOIN known USING (model) "
            "ORDER BY ts, model",
            [*bucket, *values, *chosen],
        )
        limit = self._sql(
            "SELECT sum(one) AS bytes FROM (SELECT max(hw_gpu_memory_limit) AS one "
            f"FROM gpu_samples WHERE {where} GROUP BY host, hw_id)",
            values,
        )
        return held, self.events(), known(limit["bytes"].iloc[0])

    def events(self) -> pd.DataFrame:
        """Return the last loads and unloads: `ts` (UTC), `model`, `event`."""
        where, values = self._of_events("event IN ('load', 'unload', 'load_failed')")
        return self._sql(
            f"SELECT ts, model, event FROM model_events WHERE {where} ORDER BY ts DESC LIMIT 300",
            values,
        )

    def loads(self) -> pd.DataFrame:
        """Return the last loads: `model`, `model_digest`, `seconds`, `cold`."""
        where, values = self._of_events("event = 'load'", "duration IS NOT NULL")
        return self._sql(
            "SELECT model, digest AS model_digest, duration AS seconds, cold FROM model_events "
            f"WHERE {where} ORDER BY ts DESC LIMIT 1000",
            values,
        )

    def _of_events(self, *more: str) -> tuple[str, list[Any]]:
        where, values = self.selection.where(*more, of=("backend",))
        if self.selection.model is not None:
            where, values = f"{where} AND model = ?", [*values, self.selection.model]
        return where, values

    def spans(self) -> pd.DataFrame:
        """Return the last steps, tools and cells: `name`, `start`, `end` (UTC), `status`."""
        where, values = self.selection.where("kind IN ('step', 'tool', 'cell')", of=("run",))
        return self._sql(
            'SELECT name, ts AS start, ended AS "end", '
            "CASE status WHEN 'open' THEN 'running' ELSE status END AS status FROM spans "
            f"WHERE {where} ORDER BY ts DESC LIMIT 400",
            values,
        )


def known(value: Any) -> float | None:
    """Return a number, or `None` for what is missing."""
    return float(value) if _is_there(value) else None


def _is_there(value: Any) -> bool:
    import pandas as pd

    return hasattr(value, "__len__") or not pd.isna(value)


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)
