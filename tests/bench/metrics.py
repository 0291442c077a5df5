"""What measuring costs, and how fast it can be asked: against pandas in memory and indexed SQLite.

`python -m tests.bench.metrics 1000000` measures the queries on so many rows.
"""

from __future__ import annotations

import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd

import workbench.metrics
from tests.bench.metrics_rows import LAST_MOMENT, make_store
from tests.bench.report import Figure, percentile, table
from tests.metrics.soak import run_soak
from workbench.metrics.journal import JournalWriter

ROWS = (1_000_000, 10_000_000)
SOAK_S = 60.0
INGESTED = 100_000
NOTES = (
    "All queries are over the same made-up rows of 30 days and 8 models; times are the best of "
    "three.",
    "pandas holds the nine columns it needs in memory, which it had to load first.",
    "SQLite has indexes on time, on model and time, and on the run.",
    "The targets of the queries are for 10 million rows.",
)

_HOUR = "date_trunc('hour', ts) AS hour, gen_ai_response_model AS model"
_SINCE = f"(TIMESTAMP '{LAST_MOMENT}' - INTERVAL 1 DAY)"
_PERCENTILES = f"SELECT {_HOUR}, quantile_cont(duration, [0.5, 0.95]) FROM requests"
QUERIES = {
    "p50/p95 per model and hour, all": f"{_PERCENTILES} GROUP BY ALL",
    "p50/p95 per model and hour, last 24 h": f"{_PERCENTILES} WHERE ts >= {_SINCE} GROUP BY ALL",
    "tokens/s per model and hour": (
        f"SELECT {_HOUR}, tokens_per_s(gen_ai_usage_output_tokens, ollama_eval_duration) "
        "FROM requests GROUP BY ALL"
    ),
    "summary of one run": (
        "SELECT count(*), sum(gen_ai_usage_output_tokens), sum(ollama_eval_duration) "
        "FROM requests WHERE run_id = 'run7'"
    ),
}

_COLUMNS = (
    *("id", "ts", "run_id", "gen_ai_response_model", "duration", "status", "cold"),
    *("gen_ai_usage_output_tokens", "ollama_eval_duration"),
)
_KEYS = "strftime('%Y-%m-%d %H', ts), gen_ai_response_model"
# SQLite has no percentiles: the rows of each group are numbered in their order.
_SQLITE_PERCENTILES = f"""
SELECT h, m, max(CASE WHEN n = count / 2 THEN duration END),
       max(CASE WHEN n = count * 95 / 100 THEN duration END)
FROM (SELECT strftime('%Y-%m-%d %H', ts) AS h, gen_ai_response_model AS m, duration,
             row_number() OVER w AS n, count(*) OVER (PARTITION BY {_KEYS}) AS count
      FROM requests WHERE ts >= ? WINDOW w AS (PARTITION BY {_KEYS} ORDER BY duration))
GROUP BY h, m
"""
_LAST_DAY = "2026-10-30 00:00:00"
SQLITE: dict[str, tuple[str, tuple[str, ...]]] = {
    "p50/p95 per model and hour, all": (_SQLITE_PERCENTILES, ("",)),
    "p50/p95 per model and hour, last 24 h": (_SQLITE_PERCENTILES, (_LAST_DAY,)),
    "tokens/s per model and hour": (
        f"SELECT {_KEYS}, sum(gen_ai_usage_output_tokens) / sum(ollama_eval_duration) "
        f"FROM requests GROUP BY {_KEYS}",
        (),
    ),
    "last 1000 requests, all columns": ("SELECT * FROM requests ORDER BY ts DESC LIMIT 1000", ()),
    "summary of one run": (
        "SELECT count(*), sum(gen_ai_usage_output_tokens), sum(ollama_eval_duration) "
        "FROM requests WHERE run_id = 'run7'",
        (),
    ),
}


def _pandas(frame: pd.DataFrame) -> dict[str, Callable[[], Any]]:
    keys = [frame["ts"].dt.floor("h"), "gen_ai_response_model"]
    young = frame["ts"] >= pd.Timestamp(_LAST_DAY)

    def rate() -> Any:
        sums = frame.groupby(keys)[["gen_ai_usage_output_tokens", "ollama_eval_duration"]].sum()
        return sums["gen_ai_usage_output_tokens"] / sums["ollama_eval_duration"]

    def last_day() -> Any:
        part = frame[young]
        by = [part["ts"].dt.floor("h"), "gen_ai_response_model"]
        return part.groupby(by)["duration"].quantile([0.5, 0.95])

    def one_run() -> Any:
        part = frame[frame["run_id"] == "run7"]
        return len(part), part["gen_ai_usage_output_tokens"].sum()

    return {
        "p50/p95 per model and hour, all": lambda: frame.groupby(keys)["duration"].quantile(
            [0.5, 0.95]
        ),
        "p50/p95 per model and hour, last 24 h": last_day,
        "tokens/s per model and hour": rate,
        "last 1000 requests, all columns": lambda: frame.nlargest(1000, "ts"),
        "summary of one run": one_run,
    }


def _best_ms(work: Callable[[], Any], *, times: int = 3) -> float:
    taken = []
    for _ in range(times):
        begun = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begun)
    return min(taken) * 1000


def _sqlite(path: Path, frame: pd.DataFrame) -> sqlite3.Connection:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute(f"CREATE TABLE requests ({', '.join(_COLUMNS)})")
    for start in range(0, len(frame), 200_000):
        part = frame.iloc[start : start + 200_000].copy()
        part["ts"] = part["ts"].dt.strftime("%Y-%m-%d %H:%M:%S.%f")
        rows = part.astype(object).itertuples(index=False, name=None)
        marks = ", ".join("?" * len(_COLUMNS))
        connection.executemany(f"INSERT INTO requests VALUES ({marks})", rows)
    for columns in ("ts", "gen_ai_response_model, ts", "run_id"):
        name = columns.split(",")[0]
        connection.execute(f"CREATE INDEX by_{name} ON requests ({columns})")
    connection.commit()
    return connection


def _plain_last(folder: Path) -> float:
    """Return the time of the last 1000 rows by a plain select over the Parquet files."""
    connection = duckdb.connect()
    files = [str(path) for path in (folder / "day").rglob("*.parquet")]
    query = f"SELECT * FROM read_parquet({files}) ORDER BY ts DESC LIMIT 1000"
    try:
        return _best_ms(lambda: connection.execute(query).df(), times=1)
    finally:
        connection.close()


def queries() -> list[Figure]:
    """Measure the queries on few and on many rows."""
    return [figure for rows in ROWS for figure in queries_on(rows)]


def queries_on(rows: int) -> list[Figure]:
    """Measure the queries on so many rows."""
    figures = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "metrics"
        make_store(folder, rows)
        with workbench.metrics.open(folder) as metrics:
            frame = metrics.sql(f"SELECT {', '.join(_COLUMNS)} FROM requests", max_rows=rows)
            ours = {name: _best_ms(lambda q=q: metrics.sql(q)) for name, q in QUERIES.items()}
            ours["last 1000 requests, all columns"] = _best_ms(lambda: metrics.recent(1000))
        in_memory = {name: _best_ms(work) for name, work in _pandas(frame).items()}
        connection = _sqlite(Path(place) / "rows.sqlite", frame)
        del frame
        indexed = {
            name: _best_ms(lambda q=q: connection.execute(*q).fetchall(), times=1)
            for name, q in SQLITE.items()
        }
        connection.close()
        plain = _plain_last(folder)
    for name, taken in ours.items():
        beside = f"pandas {in_memory[name]:,.0f} ms, SQLite {indexed[name]:,.0f} ms"
        target, reached = "", None
        many = rows == max(ROWS)
        if many and name == "p50/p95 per model and hour, all":
            target = "2x faster than pandas, 10x than SQLite"
            reached = in_memory[name] >= 2 * taken and indexed[name] >= 10 * taken
        if name.startswith("last 1000"):
            beside += f", plain select {plain:,.0f} ms"
            if many:
                target, reached = "5x faster than a plain select", plain >= 5 * taken
        figures.append(Figure(f"{name} ({rows:,} rows)", taken, "ms", beside, target, reached))
    return figures


def ingest() -> list[Figure]:
    """Measure writing single rows, and what recording adds to a request."""
    row = {
        "conversation": "01" * 13,
        "client_name": "workbench",
        "client_kind": "library",
        "backend": "ollama",
        "gen_ai_operation_name": "chat",
        "gen_ai_request_model": "model",
        "gen_ai_response_model": "model",
        "model_digest": "d" * 64,
        "options": {"temperature": 0.7, "num_ctx": 4096},
        "messages_sha": ["a" * 64, "b" * 64],
        "gen_ai_usage_input_tokens": 100,
        "gen_ai_usage_output_tokens": 200,
        "queue_wait": 0.1,
        "gen_ai_response_time_to_first_chunk": 0.2,
        "duration": 3.2,
        "ollama_eval_duration": 2.9,
        "status": "ok",
    }
    with tempfile.TemporaryDirectory() as place, JournalWriter(Path(place) / "metrics") as writer:
        begun, cpu = time.perf_counter(), time.process_time()
        for _ in range(INGESTED):
            writer.write("requests", row)
        taken, used = time.perf_counter() - begun, time.process_time() - cpu
    rate, cost = INGESTED / taken, used / INGESTED * 1e6
    # An answer of 100 tokens at 100 tokens/s takes a second, and is written twice.
    share = 2 * taken / INGESTED * 100
    return [
        Figure("rows written by one process", rate, "rows/s", "", "20,000", rate >= 20_000),
        Figure("processor time of a row", cost, "µs", "", "under 25", cost < 25),
        Figure(
            "recording, of a request of 100 tokens at 100 tokens/s",
            share,
            "%",
            "",
            "under 1",
            share < 1,
        ),
    ]


def soak() -> list[Figure]:
    """Measure what killed writers and compactors lose."""
    counts = run_soak(SOAK_S)
    beside = (
        f"{counts.acknowledged:,} rows kept, {counts.writer_kills} writers and "
        f"{counts.compactor_kills} compactors killed, {counts.queries} queries, "
        f"median {percentile(counts.query_s, 0.5) * 1000:,.0f} ms"
    )
    errors = len(counts.reader_errors)
    return [
        Figure("rows lost", counts.lost, "rows", beside, "0", counts.lost == 0),
        Figure("rows doubled", counts.doubled, "rows", "", "0", counts.doubled == 0),
        Figure("errors of the reader", errors, "queries", "", "0", errors == 0),
    ]


def main(arguments: Sequence[str]) -> None:
    """Print the figures of the queries on so many rows, or on few and on many."""
    print(table([figure for rows in arguments for figure in queries_on(int(rows))] or queries()))


if __name__ == "__main__":
    main(sys.argv[1:])
