"""Questions with names, on top of the views.

Latencies are of requests that ended with `ok` and whose model was warm, unless asked otherwise:
a load takes longer than any answer.  Tokens per second is the sum of the tokens over the sum of the
seconds of generation.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from workbench.errors import StoreError, UnknownColumn
from workbench.messages import nearest_names
from workbench.metrics.periods import compared
from workbench.metrics.schema import TABLES
from workbench.metrics.sources import name
from workbench.metrics.views import MODEL
from workbench.units import parse_age

if TYPE_CHECKING:
    import pandas as pd

PERIODS = ("minute", "hour", "day", "week", "month")

_TTFT = "gen_ai_response_time_to_first_chunk"
_RATE = "tokens_per_s(gen_ai_usage_output_tokens, ollama_eval_duration)"
_PROMPT_RATE = (
    "tokens_per_s(gen_ai_usage_input_tokens - coalesce(gen_ai_usage_cache_read_input_tokens, 0), "
    "ollama_prompt_eval_duration)"
)
_SHORT = {"model": MODEL, "client": "client_name", "error": "error_type"}


# DuckDB's intervals and limits end before what Python can write.
_LARGEST = 1_000_000_000

# Several of one column at once cost little more than one.
_PERCENTILES = "[0.5, 0.95, 0.99]"


def _percentiles(label: str) -> str:
    return ", ".join(f"{label}[{i}] AS {label}_p{p}_s" for i, p in enumerate((50, 95, 99), 1))


class Questions(ABC):
    """The named questions; every time in and out is UTC.

    `since` and `until` are datetimes, ISO texts, or what lies before now: `24h`, `7d`, or a number
    of seconds.
    """

    @abstractmethod
    def sql(self, query: str, parameters: Sequence[Any] = ()) -> pd.DataFrame:
        """Return the result of one SELECT; `?` stands for a parameter."""

    @abstractmethod
    def _newest_since(self, table: str, n: int) -> str | None:
        """Return a time since which a table probably has `n` rows; `None` when nothing is known."""

    def latency(
        self,
        by: str | None = "hour",
        *,
        cold: bool | None = False,
        since: Any = None,
        until: Any = None,
    ) -> pd.DataFrame:
        """Return how long answers took, per model.

        Args:
            by: `minute`, `hour`, `day`, `week`, `month`, a column of `requests`, or `None`.
            cold: Of requests that had to load the model; `None` takes both kinds.
            since: Beginning of the time, included.
            until: End of the time, excluded.

        Returns:
            The first column is `by` (a time, UTC, or the column's value), then model (text),
            n (requests), ttft_p50_s, ttft_p95_s, ttft_p99_s (time to first piece, s),
            duration_p50_s, duration_p95_s, duration_p99_s (s), tokens_per_s (tokens/s).

        Raises:
            UnknownColumn: When `by` is none of these.
        """
        where, values = _between(since, until, "status = 'ok'", _cold(cold))
        columns, groups = _grouped(by)
        return self.sql(
            f"WITH grouped AS (SELECT {columns}{MODEL} AS model, count(*) AS n, "
            f"quantile_cont({_TTFT}, {_PERCENTILES}) AS ttft, "
            f"quantile_cont(duration, {_PERCENTILES}) AS duration, {_RATE} AS tokens_per_s "
            f"FROM requests WHERE {where} GROUP BY ALL) "
            f"SELECT {groups}model, n, {_percentiles('ttft')}, {_percentiles('duration')}, "
            f"tokens_per_s FROM grouped ORDER BY {groups}model",
            values,
        )

    def throughput(
        self, by: str | None = "hour", *, since: Any = None, until: Any = None
    ) -> pd.DataFrame:
        """Return how much was asked and answered, per model.

        Args:
            by: As of `latency`.
            since: Beginning of the time, included.
            until: End of the time, excluded.

        Returns:
            The first column is `by`, then model (text), n (requests), n_ok, n_errors,
            n_cancelled, n_lost, input_tokens, cached_tokens, output_tokens (tokens),
            tokens_per_s (generation, tokens/s), prompt_tokens_per_s (reading the prompt, without
            cached tokens, tokens/s), n_estimated (requests whose tokens we counted ourselves).

        Raises:
            UnknownColumn: When `by` is unknown.
        """
        where, values = _between(since, until)
        columns, groups = _grouped(by)
        return self.sql(
            f"SELECT {columns}{MODEL} AS model, count(*) AS n, "
            "count(*) FILTER (status = 'ok') AS n_ok, "
            "count(*) FILTER (status = 'error') AS n_errors, "
            "count(*) FILTER (status = 'cancelled') AS n_cancelled, "
            "count(*) FILTER (status = 'lost') AS n_lost, "
            "total(gen_ai_usage_input_tokens) AS input_tokens, "
            "total(gen_ai_usage_cache_read_input_tokens) AS cached_tokens, "
            "total(gen_ai_usage_output_tokens) AS output_tokens, "
            f"{_RATE} AS tokens_per_s, {_PROMPT_RATE} AS prompt_tokens_per_s, "
            "count(*) FILTER (token_source = 'estimated') AS n_estimated "
            f"FROM requests WHERE {where} GROUP BY ALL ORDER BY {groups}model",
            values,
        )

    def loads(self, *, since: Any = None, until: Any = None) -> pd.DataFrame:
        """Return how long models took to load, per model.

        Returns:
            model, backend (text), cold (whether the file had not been read before; null when not
            known), n (loads), n_failed, load_p50_s, load_max_s (s), size_bytes, vram_bytes
            (of the last load, bytes), last (UTC).
        """
        where, values = _between(since, until, "event IN ('load', 'load_failed')")
        return self.sql(
            "SELECT model, backend, cold, count(*) AS n, "
            "count(*) FILTER (event = 'load_failed' OR NOT ok) AS n_failed, "
            "quantile_cont(duration, 0.5) FILTER (event = 'load') AS load_p50_s, "
            "max(duration) FILTER (event = 'load') AS load_max_s, "
            "arg_max(size_bytes, ts) AS size_bytes, arg_max(vram_bytes, ts) AS vram_bytes, "
            f"max(ts) AS last FROM model_events WHERE {where} GROUP BY ALL ORDER BY model, cold",
            values,
        )

    def errors(self, *, since: Any = None, until: Any = None) -> pd.DataFrame:
        """Return what failed, the most frequent first.

        Returns:
            status (`error`, `cancelled` or `lost`), error_type, error_stage, backend, model
            (text), n (requests), share (of all requests of that model, 0-1), last (UTC),
            last_message (text).
        """
        where, values = _between(since, until)
        return self.sql(
            f"WITH counted AS (SELECT {MODEL} AS model, count(*) AS n FROM requests "
            f"WHERE {where} GROUP BY ALL) "
            f"SELECT r.status, r.error_type, r.error_stage, r.backend, c.model, count(*) AS n, "
            "count(*) / any_value(c.n) AS share, max(r.ts) AS last, "
            "arg_max(r.error_message, r.ts) AS last_message "
            f"FROM (SELECT *, {MODEL} AS model FROM requests WHERE {where}) AS r "
            "JOIN counted AS c ON r.model IS NOT DISTINCT FROM c.model "
            "WHERE r.status IN ('error', 'cancelled', 'lost') GROUP BY ALL "
            "ORDER BY n DESC, last DESC",
            [*values, *values],
        )

    def memory(
        self, *, every_s: float = 60.0, since: Any = None, until: Any = None
    ) -> pd.DataFrame:
        """Return the memory of each GPU over time.

        Args:
            every_s: Length of an interval in seconds.
            since: Beginning of the time, included.
            until: End of the time, excluded.

        Returns:
            ts (beginning of the interval, UTC), host, hw_id, hw_name (text), used_bytes (largest),
            free_bytes (smallest), limit_bytes, utilization (mean, 0-1).
        """
        where, values = _between(since, until)
        return self.sql(
            "SELECT time_bucket(to_microseconds(?), ts) AS ts, host, hw_id, "
            "any_value(hw_name) AS hw_name, max(hw_gpu_memory_usage) AS used_bytes, "
            "min(hw_gpu_memory_free) AS free_bytes, max(hw_gpu_memory_limit) AS limit_bytes, "
            "avg(hw_gpu_utilization) AS utilization "
            f"FROM gpu_samples WHERE {where} GROUP BY 1, 2, 3 ORDER BY 1, 2, 3",
            [int(_number("every_s", every_s, whole=False, least=0.001) * 1_000_000), *values],
        )

    def gaps(self, *, since: Any = None, until: Any = None) -> pd.DataFrame:
        """Return the times between the pieces of answers, where they were recorded.

        They are with the setting `metrics.chunk_gaps`; without it the frame is empty.

        Args:
            since: Beginning of the time, included.
            until: End of the time, excluded.

        Returns:
            model, model_digest (text), gap_s (seconds).
        """
        where, values = _between(since, until, "chunk_gaps IS NOT NULL")
        return self.sql(
            f"SELECT {MODEL} AS model, model_digest, unnest(chunk_gaps) AS gap_s "
            f"FROM requests WHERE {where}",
            values,
        )

    def recent(self, n: int = 100, *, columns: Iterable[str] | None = None) -> pd.DataFrame:
        """Return the newest requests, the newest first.

        Args:
            n: How many.
            columns: Columns of `requests`, or `model`, `client`, `error`; all of `requests` unless
                given.

        Returns:
            The columns as the reference page of the schema describes them.

        Raises:
            UnknownColumn: When a column is unknown.
        """
        n = _number("n", n)
        columns = None if columns is None else _listed(columns)
        listed = "*" if columns is None else ", ".join(map(_column, columns))
        last = f"ORDER BY ts DESC LIMIT {n}"
        # A constant, so that only the last row groups are read: ten times faster than without.
        since = self._newest_since("requests", n)
        where, values = ("true", []) if since is None else ("ts >= ?", [since])
        oldest = f"(SELECT ts FROM requests WHERE {where} {last})"
        found = self.sql(f"SELECT min(ts) AS ts, count(ts) AS n FROM {oldest}", values)
        if found["n"][0] >= n:
            where, values = "ts >= ?", [found["ts"][0]]
        else:
            where, values = "true", []
        return self.sql(f"SELECT {listed} FROM requests WHERE {where} {last}", values)

    def votes(
        self,
        *,
        since: Any = None,
        until: Any = None,
        voter: str | None = None,
        blind: bool | None = None,
        comparison: str | None = None,
    ) -> pd.DataFrame:
        """Return the votes between answers, the oldest first, with all columns of `votes`.

        A vote that was changed is there once, as it is now.

        Args:
            since: Beginning of the time, included.
            until: End of the time, excluded.
            voter: Only those of one voter.
            blind: Only those cast blind, or only those that were not.
            comparison: Only those of one comparison, by its id.
        """
        wanted = {"voter": voter, "blind": blind, "conversation": comparison}
        given = {column: value for column, value in wanted.items() if value is not None}
        _flag("blind", blind)
        for key, value in (("voter", voter), ("comparison", comparison)):
            if not isinstance(value, str | None):
                raise StoreError(f"{key} is {value!r}.", hint="Write it as a text.")
        where, times = _between(since, until, *(f"{column} = ?" for column in given))
        query = f"SELECT * FROM votes WHERE {where} ORDER BY ts, id"
        return self.sql(query, [*given.values(), *times])

    def runs(self, *, since: Any = None, until: Any = None) -> pd.DataFrame:
        """Return the runs with what their requests took, the newest first.

        Returns:
            run_id, kind, notebook, status, error_type (text), started, ended (UTC), duration_s
            (s), n (requests), n_errors, input_tokens, output_tokens (tokens), tokens_per_s
            (tokens/s), load_s (spent on loading, s), models (list of text).
        """
        where, values = _between(since, until)
        return self.sql(
            "WITH used AS (SELECT run_id, count(*) AS n, "
            "count(*) FILTER (status IN ('error', 'lost')) AS n_errors, "
            "total(gen_ai_usage_input_tokens) AS input_tokens, "
            "total(gen_ai_usage_output_tokens) AS output_tokens, "
            f"{_RATE} AS tokens_per_s, sum(load_wait) AS load_s, "
            f"list_sort(list(DISTINCT {MODEL})) AS models FROM requests "
            "WHERE run_id IS NOT NULL GROUP BY run_id) "
            "SELECT r.id AS run_id, r.kind, r.notebook, r.status, r.error_type, r.ts AS started, "
            "r.ended, epoch_ms(r.ended - r.ts) / 1000 AS duration_s, coalesce(u.n, 0) AS n, "
            "coalesce(u.n_errors, 0) AS n_errors, u.input_tokens, u.output_tokens, "
            "u.tokens_per_s, u.load_s, u.models "
            f"FROM runs AS r LEFT JOIN used AS u ON u.run_id = r.id WHERE {where} "
            "ORDER BY started DESC",
            values,
        )

    def steps(
        self,
        runs: int = 10,
        plan: str | None = None,
        *,
        attempts: bool = False,
        since: Any = None,
        until: Any = None,
    ) -> pd.DataFrame:
        """Return what each step of the last runs of plans took, the newest run first.

        Replays are left out.  `workbench.metrics.charts.gantt` draws the frame of one run.

        Args:
            runs: How many runs.
            plan: Only runs of this plan.
            attempts: One row for each attempt at a step or item, in place of one for each step.
            since: Beginning of the time, included.
            until: End of the time, excluded.

        Returns:
            plan, run_id, step, item (text; null but for attempts at an item), attempt (from 1; null
            for a step), name (text, for a chart), start, end (UTC; a missing end is still running),
            duration_s (s), status (`done`, `cached`, `failed`, `waiting`, `cancelled`, `running` or
            `lost`), error_type, model (text), n (requests to models), n_errors, input_tokens,
            output_tokens (tokens).
        """
        runs = _number("runs", runs)
        kept = "kind = 'plan' AND coalesce(tags->>'mode', '') <> 'replay'"
        where, values = _between(since, until, kept, "plan_id = ?" if plan else "")
        given: list[Any] = [plan] if plan else []
        place = "attempt" if attempts else "NULL::BIGINT"
        item = "item" if attempts else "NULL::VARCHAR"
        which = "IS NOT NULL" if attempts else "IS NULL"
        return self.sql(
            f"WITH chosen AS (SELECT id, plan_id, ts FROM runs WHERE {where} "
            f"ORDER BY ts DESC LIMIT {runs}), "
            f"used AS (SELECT run_id, step, {item} AS item, {place} AS attempt, count(*) AS n, "
            "count(*) FILTER (status IN ('error', 'lost')) AS n_errors, "
            "total(gen_ai_usage_input_tokens) AS input_tokens, "
            "total(gen_ai_usage_output_tokens) AS output_tokens FROM requests "
            "WHERE step IS NOT NULL AND run_id IN (SELECT id FROM chosen) GROUP BY ALL) "
            "SELECT c.plan_id AS plan, c.id AS run_id, s.step, s.item, s.attempt, s.name, "
            's.ts AS start, s.ended AS "end", s.duration AS duration_s, '
            "CASE s.status WHEN 'lost' THEN 'lost' ELSE s.attributes->>'status' END AS status, "
            "s.error_type, s.attributes->>'model' AS model, coalesce(u.n, 0) AS n, "
            "coalesce(u.n_errors, 0) AS n_errors, u.input_tokens, u.output_tokens "
            "FROM spans AS s JOIN chosen AS c ON s.run_id = c.id "
            "LEFT JOIN used AS u ON u.run_id = s.run_id AND u.step = s.step "
            "AND u.item IS NOT DISTINCT FROM s.item AND u.attempt IS NOT DISTINCT FROM s.attempt "
            f"WHERE s.kind = 'step' AND s.attempt {which} ORDER BY c.ts DESC, s.ts, s.name",
            [*given, *values],
        )

    def compare_periods(
        self,
        a: tuple[Any, Any],
        b: tuple[Any, Any],
        *,
        cold: bool | None = False,
        level: float = 0.95,
    ) -> pd.DataFrame:
        """Return how two times differ, per model, and how sure that is.

        An interval that holds 1 for a ratio, or 0 for a difference, says that chance alone could
        have made it.  Intervals take requests as independent draws; `workbench.metrics.intervals`
        tells their methods.  With fewer than 6 values on a side there is none: null.

        Args:
            a: Beginning and end of the first, as `since` and `until`.
            b: Beginning and end of the second.
            cold: Of requests that had to load the model; `None` takes both kinds.
            level: Share of such intervals that hold the true value, 0 to 1.

        Returns:
            model (text), n_a, n_b (requests that ended with `ok`), ttft_p50_s_a, ttft_p50_s_b,
            ttft_p95_s_a, ttft_p95_s_b (s), tokens_per_s_a, tokens_per_s_b (tokens/s), n_ended_a,
            n_ended_b (requests that ended in any way), error_share_a, error_share_b (of these,
            0-1), ttft_p50_ratio, ttft_p50_ratio_low, ttft_p50_ratio_high, tokens_per_s_ratio,
            tokens_per_s_ratio_low, tokens_per_s_ratio_high (b over a), error_share_difference,
            error_share_difference_low, error_share_difference_high (b minus a).
        """
        if not _is_share(level):
            raise StoreError(f"{level!r} is no level of an interval.", hint="Write 0.95.")
        parts, values = [], []
        for period in (_period("a", a), _period("b", b)):
            where, given = _between(*period)
            parts.append(_period_query(where, f"status = 'ok'{_and(_cold(cold))}"))
            values += given
        both = ", ".join(f"{side}.{column} AS {column}_{side}" for column, side in _BOTH)
        frame = self.sql(
            f"WITH a AS ({parts[0]}), b AS ({parts[1]}) "
            f"SELECT coalesce(a.model, b.model) AS model, {both} "
            "FROM a FULL JOIN b ON a.model IS NOT DISTINCT FROM b.model ORDER BY model",
            values,
        )
        return compared(frame, level=level)


_SIDES = (
    *("n", "ttft_p50_s", "ttft_p95_s", "tokens_per_s", "n_ended", "n_failed"),
    *("n_ttft", "ttft_low", "ttft_high", "n_rate", "tokens", "seconds", "tokens2", "seconds2"),
    "tokens_seconds",
)
_BOTH = tuple((column, side) for column in _SIDES for side in "ab")


def _period_query(where: str, ok: str) -> str:
    """Return what a time is compared by, per model."""
    tokens, seconds = "gen_ai_usage_output_tokens::DOUBLE", "ollama_eval_duration"
    timed = f"{ok} AND {tokens} IS NOT NULL AND {seconds} > 0"
    sums = {"tokens": tokens, "seconds": seconds, "tokens2": f"{tokens} * {tokens}"}
    sums |= {"seconds2": f"{seconds} * {seconds}", "tokens_seconds": f"{tokens} * {seconds}"}
    summed = ", ".join(f"sum({of}) FILTER ({timed}) AS {name}" for name, of in sums.items())
    # The ranks of `intervals.median_ranks`.
    rank = "greatest(1, round_even((len(first) + 1) / 2 - sqrt(len(first)), 0)::BIGINT)"
    return (
        f"SELECT *, tokens / nullif(seconds, 0) AS tokens_per_s, len(first) AS n_ttft, "
        f"first[{rank}] AS ttft_low, first[len(first) + 1 - {rank}] AS ttft_high FROM ("
        f"SELECT {MODEL} AS model, count(*) FILTER ({ok}) AS n, "
        f"quantile_cont({_TTFT}, 0.5) FILTER ({ok}) AS ttft_p50_s, "
        f"quantile_cont({_TTFT}, 0.95) FILTER ({ok}) AS ttft_p95_s, "
        f"list_sort(list({_TTFT}) FILTER ({ok} AND {_TTFT} IS NOT NULL)) AS first, "
        f"count(*) FILTER ({timed}) AS n_rate, {summed}, "
        "count(*) FILTER (status <> 'open') AS n_ended, "
        "count(*) FILTER (status IN ('error', 'lost')) AS n_failed "
        f"FROM requests WHERE {where} GROUP BY ALL)"
    )


def _period(name: str, period: Any) -> tuple[Any, Any]:
    if isinstance(period, tuple | list) and len(period) == 2:
        return period[0], period[1]
    raise StoreError(
        f"period {name} is {period!r}.", hint="Write its beginning and its end: (7200, 3600)."
    )


def _number(name: str, value: Any, *, whole: bool = True, least: float = 1) -> Any:
    kind = int if whole else int | float
    right = isinstance(value, kind) and not isinstance(value, bool)
    if not right or not least <= value <= _LARGEST:
        what = "a whole number" if whole else "a number"
        raise StoreError(
            f"{name} is {value!r}.", hint=f"Write {what} from {least:g} to {_LARGEST}."
        )
    return value


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and 0 < value < 1


def _flag(name: str, value: bool | None) -> None:
    # A text such as 'no' would count as true.
    if not isinstance(value, bool | None):
        raise StoreError(f"{name} is {value!r}.", hint="Write True, False or None.")


def _cold(cold: bool | None) -> str:
    _flag("cold", cold)
    if cold is None:
        return ""
    return "cold" if cold else "NOT coalesce(cold, false)"


def _and(condition: str) -> str:
    return f" AND {condition}" if condition else ""


def _grouped(by: Any) -> tuple[str, str]:
    """Return the columns a result begins with and what it is ordered by first."""
    if by is None:
        return "", ""
    if isinstance(by, str) and by in PERIODS:
        return f"date_trunc('{by}', ts) AS {name(by)}, ", f"{name(by)}, "
    if by == "model":
        return "", ""
    return f"{_column(by, *PERIODS)}, ", f"{name(by)}, "


def _column(column: Any, *others: str) -> str:
    """Return the SQL of a column of `requests` or one with a short name.

    Raises:
        UnknownColumn: When it is neither; `others` are what else could be meant.
    """
    if isinstance(column, str) and column in _SHORT:
        return f"{_SHORT[column]} AS {name(column)}"
    return name(_known(column, *others))


def _listed(columns: Iterable[str]) -> list[str]:
    found = [columns] if isinstance(columns, str) else list(columns)
    if not found:
        raise StoreError("columns names none.", hint="Leave it out for all of them.")
    return found


def _known(column: Any, *others: str) -> str:
    names = TABLES["requests"].names
    if isinstance(column, str) and column in names:
        return column
    column = str(column)
    choices = [*others, *_SHORT, *names]
    near = nearest_names(column, choices, count=1)
    raise UnknownColumn(column, known=choices, nearest=near[0] if near else None)


def _between(since: Any, until: Any, *conditions: str) -> tuple[str, list[datetime]]:
    """Return a condition on `ts` and more, and its parameters."""
    where = [condition for condition in conditions if condition]
    values = []
    for moment, comparison in ((since, ">="), (until, "<")):
        if moment is not None:
            where.append(f"ts {comparison} ?")
            values.append(as_utc(moment))
    if len(values) == 2 and values[1] <= values[0]:
        raise StoreError(
            f"the time ends at {values[1]}, not after it begins, at {values[0]} (UTC).",
            hint="A number is seconds before now: the beginning is the larger one.",
        )
    return " AND ".join(where) or "true", values


def as_utc(moment: Any) -> datetime:
    """Return a moment as a datetime in UTC without a zone, as `ts` is.

    Args:
        moment: A datetime (without a zone it is UTC), an ISO text, or seconds, a `timedelta` or a
            text such as `24h` or `7d` before now.

    Raises:
        StoreError: When it is none of these, or no time that a calendar has.
    """
    try:
        before: Any = _age(moment) if isinstance(moment, str) else moment
        if isinstance(before, int | float) and not isinstance(before, bool):
            before = timedelta(seconds=before)
        if isinstance(before, timedelta):
            if before < timedelta(0):
                raise ValueError("after now")
            return datetime.now(UTC).replace(tzinfo=None) - before
        when = moment if isinstance(moment, datetime) else datetime.fromisoformat(str(moment))
        if when.tzinfo is not None:
            when = when.astimezone(UTC).replace(tzinfo=None)
        # What pandas calls not a time is a datetime that equals nothing.
        if when == when:
            return when
    except (ValueError, OverflowError) as exc:
        raise _no_time(moment) from exc
    raise _no_time(moment)


def _age(text: str) -> float | str:
    """Return the seconds of a length of time, or the text of a time."""
    try:
        return parse_age(text.strip())
    except ValueError:
        return text


def _no_time(moment: Any) -> StoreError:
    return StoreError(
        f"{moment!r} is not a time.", hint="Write 2026-11-25T10:00, 24h, 7d, or seconds before now."
    )
