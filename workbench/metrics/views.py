"""The tables as views of an in-memory DuckDB: sealed files, live rows, and what follows from them.

Live rows are read once for each state of the files, so that every query sees whole rows of one
moment and the newest row of each id.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import duckdb

from workbench.errors import SchemaTooNew, StoreError
from workbench.metrics.layout import LiveFile, alive, live_files
from workbench.metrics.manifest import Manifest, Sealed, read_manifest
from workbench.metrics.schema import Schema, Table
from workbench.metrics.sources import live_rows, name, quoted, rank, sealed_rows

T = TypeVar("T")

MACROS = {
    "tokens_per_s": (
        "(tokens, seconds)",
        "sum(tokens) FILTER (tokens IS NOT NULL AND seconds > 0) / "
        "nullif(sum(seconds) FILTER (tokens IS NOT NULL AND seconds > 0), 0)",
    ),
    "total": ("(tokens)", "TRY_CAST(sum(tokens) AS BIGINT)"),
}
"""Aggregates of ours: tokens per second is a sum over a sum, never a mean of ratios; a total too
great for 64 bits is not known."""

# As `workbench models` lists it.  What the answer calls its model is what the client wrote, with or
# without the tag, and a request that failed has none: by that one model would be two.
MODEL = "coalesce(gen_ai_request_model, gen_ai_response_model)"

# Every request once, with the client's span where there is one; and the spans of calls that reached
# no server.  Of several requests of one span, its duration stands at the last.
_CALLS = f"""
WITH client AS (SELECT * FROM spans WHERE kind = 'client'),
last AS (
    SELECT parent_span_id, max(id) AS id FROM requests
    WHERE parent_span_id IN (SELECT span_id FROM client) GROUP BY parent_span_id
),
joined AS (
    SELECT r.*, s.duration AS span_duration
    FROM requests AS r
    LEFT JOIN last ON last.id = r.id
    LEFT JOIN client AS s ON s.span_id = last.parent_span_id
)
SELECT
    id, ts, id AS request_id, parent_span_id AS client_span_id, run_id, conversation, turn,
    speaker, item, epoch, client_name, client_kind, priority, backend,
    {MODEL} AS model, model_digest AS digest,
    quantization, num_ctx, gen_ai_operation_name AS operation, status, error_type, error_stage,
    cold, gen_ai_usage_input_tokens AS input_tokens, gen_ai_usage_output_tokens AS output_tokens,
    gen_ai_usage_cache_read_input_tokens AS cached_tokens,
    gen_ai_usage_cache_read_input_tokens > 0 AS prompt_cached, token_source,
    queue_wait AS queue_s, load_wait AS load_s,
    gen_ai_response_time_to_first_chunk AS ttft_s, time_to_first_answer AS ttfa_s,
    ollama_prompt_eval_duration AS prompt_s, ollama_eval_duration AS eval_s,
    duration AS server_s, span_duration AS client_s,
    (duration - gen_ai_response_time_to_first_chunk)
        / nullif(gen_ai_usage_output_tokens - 1, 0) AS s_per_token,
    duration - ollama_total_duration AS overhead_s, vram_bytes, ended
FROM joined
UNION ALL BY NAME
SELECT
    id, ts, span_id AS client_span_id, run_id, conversation, turn, speaker, item, epoch, status,
    error_type, CASE WHEN status = 'error' THEN 'connect' END AS error_stage,
    duration AS client_s, ended
FROM client WHERE span_id NOT IN (
    SELECT parent_span_id FROM requests WHERE parent_span_id IS NOT NULL)
"""

VIEWS = {"calls": (_CALLS, ("requests", "spans"))}
"""View to its query and the tables it reads."""


@dataclass(slots=True)
class _Seen:
    """What the view of a table was made from."""

    signature: tuple[Any, ...] = ()
    open_writers: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Problem:
    """A file that is left out, and why."""

    file: str
    reason: str


@dataclass
class Views:
    """The views of one store on one DuckDB.

    Attributes:
        spill: A folder of its own, for the live rows of the moment.
        unreadable: Sealed files that are left out, with the reason.
    """

    connection: duckdb.DuckDBPyConnection
    folder: Path
    schema: Schema
    spill: Path
    unreadable: dict[str, str] = field(default_factory=dict)
    _seen: dict[str, _Seen] = field(default_factory=dict)
    _loaded: dict[str, dict[str, int]] = field(default_factory=dict)
    _mutex: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.connection.execute("CREATE SCHEMA IF NOT EXISTS internal")
        for macro, (parameters, body) in MACROS.items():
            self.connection.execute(f"CREATE OR REPLACE MACRO {macro}{parameters} AS {body}")

    @property
    def names(self) -> tuple[str, ...]:
        """The tables and views a query may read."""
        return (*self.schema.tables, *VIEWS)

    def refresh(self, names: Iterable[str]) -> None:
        """Bring the tables and views of these names up to the present state of the files.

        Raises:
            SchemaTooNew: When a newer version of the workbench wrote one of them.
            StoreError: When the manifest cannot be read, or the files never hold still.
        """
        wanted = set(names)
        tables = [t for n in wanted for t in VIEWS.get(n, ("", (n,)))[1]]
        with self._mutex:
            for table in dict.fromkeys(tables):
                self.steadily(partial(self._refresh, self.schema.tables[table]))
            for view in wanted & VIEWS.keys():
                self.connection.execute(
                    f"CREATE VIEW IF NOT EXISTS {name(view)} AS {VIEWS[view][0]}"
                )

    def steadily(self, work: Callable[[], T]) -> T:
        """Do something again when files vanish under it: they were sealed or merged meanwhile."""
        for attempt in range(_TRIES):
            try:
                return work()
            except (duckdb.IOException, _Moved) as exc:
                if attempt == _TRIES - 1:
                    raise StoreError(f"The metrics in {self.folder} cannot be read: {exc}") from exc
                time.sleep(0.01 * attempt)
                self._leave_missing_out()
                self._seen.clear()
                self._loaded.clear()
        raise AssertionError("unreachable")

    def _leave_missing_out(self) -> None:
        for file in read_manifest(self.folder).files:
            if not (self.folder / file.name).exists() and not self._is_moved(file):
                self.unreadable[file.name] = "it is missing"

    def check_files(self, tables: Iterable[str], *, whole: bool = True) -> bool:
        """Leave out sealed files that cannot be read; returns whether there are new ones.

        Without `whole` only their ends are read, which tell what they should hold.
        """
        found = False
        manifest = read_manifest(self.folder)
        for table in tables:
            for file in manifest.files_of(table):
                if file.name not in self.unreadable and (reason := self._broken(file, whole=whole)):
                    self.unreadable[file.name] = reason
                    found = True
        return found

    def _broken(self, file: Sealed, *, whole: bool) -> str | None:
        path = self.folder / file.name
        if not path.exists():
            return None if self._is_moved(file) else "it is missing"
        counted = [f"count({name(column)})" for column in file.columns] if whole else ["count(*)"]
        source = f"read_parquet({quoted(str(path))}, hive_partitioning=false)"
        try:
            query = f"SELECT {', '.join(counted)} FROM {source}"
            self.connection.cursor().execute(query).fetchall()
        except duckdb.Error as exc:
            return None if self._is_moved(file) else str(exc).split("\n")[0]
        return None

    def _is_moved(self, file: Sealed) -> bool:
        return all(file.name != other.name for other in read_manifest(self.folder).files)

    # --- one table

    def _refresh(self, table: Table) -> None:
        manifest = read_manifest(self.folder)
        # Listed before the locks are looked at: a file of a writer that is gone is whole then.
        live = [f for f in live_files(self.folder, table.name) if f.name not in manifest.retired]
        # What was sealed between the two looks may be in neither list.  Files that are replaced
        # later stay for a while, and when one is gone even so, reading it says so.
        if read_manifest(self.folder).gen != manifest.gen:
            raise _Moved("its files are being sealed all the time")
        self._refuse_newer(table, manifest, live)
        seen = self._seen.get(table.name, _Seen())
        living = alive(self.folder, {*(file.writer for file in live), *seen.open_writers})
        files = tuple((file.name, file.size_bytes) for file in live)
        signature = (manifest.gen, files, living, len(self.unreadable))
        if signature == seen.signature:
            return
        waiting = self._readable(manifest.of(table.name, is_open=True))
        sealed = self._readable(manifest.of(table.name))
        open_writers = self._load(table, live, waiting, living)
        self._hide(table, sealed)
        self._define(table, sealed)
        self._seen[table.name] = _Seen(signature, open_writers)

    def _readable(self, files: list[Sealed]) -> list[Sealed]:
        return [file for file in files if file.name not in self.unreadable]

    def _refuse_newer(self, table: Table, manifest: Manifest, live: list[LiveFile]) -> None:
        files: list[Sealed | LiveFile] = [*manifest.files_of(table.name), *live]
        for file in files:
            if file.schema_v > self.schema.version:
                raise SchemaTooNew(
                    str(self.folder / file.name),
                    found=file.schema_v,
                    supported=self.schema.version,
                )

    def _load(
        self,
        table: Table,
        live: list[LiveFile],
        waiting: list[Sealed],
        living: frozenset[str],
    ) -> frozenset[str]:
        """Read the live rows, the best of each id; returns the writers of those without an end."""
        raw, here = f"internal.{name('raw_' + table.name)}", f"internal.{name(table.name)}"
        self._load_changed(table, raw, live, waiting)
        pick = "arg_min" if table.by_content else "arg_max"
        self._run(
            f"CREATE OR REPLACE TABLE {here} AS SELECT * EXCLUDE (_file) FROM {raw} WHERE rowid IN "
            f"(SELECT {pick}(rowid, {{r: {rank(table)}, s: coalesce(seq, -1)}}) FROM {raw} "
            "GROUP BY id)"
        )
        if not table.opens:
            return frozenset()
        query = f"SELECT DISTINCT coalesce(writer_id, '') FROM {here} WHERE status = 'open'"
        writers = {str(row[0]) for row in self._run(query).fetchall()}
        gone = writers - alive(self.folder, (w for w in writers if "/" not in w)) - living
        if gone:
            self._run(
                f"UPDATE {here} SET status = 'lost' WHERE status = 'open' "
                f"AND coalesce(writer_id, '') IN ({', '.join(map(quoted, gone))})"
            )
        return frozenset(writers)

    def _load_changed(
        self, table: Table, raw: str, live: list[LiveFile], waiting: list[Sealed]
    ) -> None:
        """Read the files that are new or have grown; rows of those that are gone leave."""
        loaded = self._loaded.setdefault(table.name, {})
        if not loaded:
            columns = [*((c.name, str(c.type)) for c in table.columns), ("_file", "VARCHAR")]
            typed = ", ".join(f"{name(n)} {t}" for n, t in columns)
            self._run(f"CREATE OR REPLACE TABLE {raw} ({typed})")
        files: list[LiveFile | Sealed] = [*live, *waiting]
        sizes = {str(self.folder / f.name): f.size_bytes for f in files}
        stale = [path for path, size in loaded.items() if sizes.get(path) != size]
        if stale:
            self._run(f"DELETE FROM {raw} WHERE _file IN ({', '.join(map(quoted, stale))})")
        for path in stale:
            del loaded[path]
        new = [f for f in live if f.size_bytes and str(self.folder / f.name) not in loaded]
        rows = live_rows(self.folder, table, new, self.schema, with_file=True)
        if rows is not None:
            self._run(f"INSERT INTO {raw} {rows}")
        for file in waiting:
            path = str(self.folder / file.name)
            if path not in loaded:
                rows = sealed_rows(self.folder, table, [file], self.schema)
                self._run(f"INSERT INTO {raw} SELECT *, {quoted(path)} FROM ({rows})")
        # A file that grew while it was read is read anew the next time.
        loaded.update(sizes)

    def _hide(self, table: Table, sealed: list[Sealed]) -> None:
        """Settle which row counts of an id that is both sealed and live."""
        here, hidden = f"internal.{name(table.name)}", f"internal.{name('hidden_' + table.name)}"
        self._run(f"CREATE OR REPLACE TABLE {hidden} (id VARCHAR)")
        low, high = self._run(f"SELECT min(id), max(id) FROM {here}").fetchall()[0]
        near = [f for f in sealed if low is not None and f.min_id <= high and f.max_id >= low]
        rows = sealed_rows(self.folder, table, near, self.schema)
        if rows is None:
            return
        stays = "true" if table.by_content else "coalesce(s.seq, 0) >= coalesce(l.seq, 0)"
        self._run(
            f"CREATE OR REPLACE TEMP TABLE twins AS SELECT l.id, s.r > l.r OR (s.r = l.r AND "
            f"{stays}) AS stays FROM (SELECT id, {rank(table)} AS r, seq FROM ({rows})) AS s "
            f"JOIN (SELECT id, {rank(table)} AS r, seq FROM {here}) AS l USING (id)"
        )
        self._run(f"DELETE FROM {here} WHERE id IN (SELECT id FROM twins WHERE stays)")
        self._run(f"INSERT INTO {hidden} SELECT id FROM twins WHERE NOT stays")

    def _define(self, table: Table, sealed: list[Sealed]) -> None:
        here, hidden = f"internal.{name(table.name)}", f"internal.{name('hidden_' + table.name)}"
        live = [self._snapshot(table)] if self._count(f"SELECT count(*) FROM {here}") else []
        if self._count(f"SELECT count(*) FROM {hidden}"):
            rows = sealed_rows(self.folder, table, sealed, self.schema)
            now = sealed_rows(self.folder, table, live, self.schema)
            query = (
                f"SELECT * FROM ({rows}) WHERE id NOT IN (SELECT id FROM {hidden}) UNION ALL {now}"
            )
        else:
            # In one scan with the sealed ones: through a UNION ALL the newest rows would be found
            # by reading every column of all.
            all_rows = sealed_rows(self.folder, table, [*sealed, *live], self.schema)
            query = all_rows or f"SELECT * FROM {here}"
        self._run(f"CREATE OR REPLACE VIEW {name(table.name)} AS {query}")

    def _snapshot(self, table: Table) -> Sealed:
        """Write the live rows of the moment into a file, to be scanned with the sealed ones."""
        # The one before may still be read by another cursor.
        older = sorted(self.spill.glob(f"{table.name}-*.parquet"))
        for path in older[:-1]:
            path.unlink(missing_ok=True)
        path = self.spill / f"{table.name}-{time.time_ns():020}.parquet"
        self._run(
            f"COPY internal.{name(table.name)} TO {quoted(str(path))} "
            "(FORMAT parquet, COMPRESSION uncompressed)"
        )
        return Sealed(
            name=str(path),
            table=table.name,
            rows=0,
            schema_v=self.schema.version,
            columns=table.names,
            min_id="",
            max_id="",
            min_ts=None,
            max_ts=None,
            size_bytes=0,
        )

    def _count(self, query: str) -> int:
        return int(self._run(query).fetchall()[0][0])

    def _run(self, query: str) -> duckdb.DuckDBPyConnection:
        return self.connection.execute(query)


class _Moved(Exception):
    """Raised when files were sealed or merged while they were being listed."""


_TRIES = 20


def blobs_named(
    connection: duckdb.DuckDBPyConnection, tables: Iterable[Table], where: str = "true"
) -> set[str]:
    """Return the SHA-256 of every long text that rows of these tables name."""
    found: set[str] = set()
    for table in tables:
        for column in table.columns:
            if column.type not in ("JSON", "VARCHAR"):
                continue
            text = f"{name(column.name)}::VARCHAR"
            mark = '"$blob":"' if column.type == "JSON" else "blob:"
            rows = connection.execute(
                "SELECT DISTINCT unnest(regexp_extract_all("
                f'{text}, \'(?:"\\$blob":"|^blob:)([0-9a-f]{{64}})\', 1)) '
                f"FROM {name(table.name)} WHERE {where} AND contains({text}, {quoted(mark)})"
            ).fetchall()
            found.update(row[0] for row in rows)
    return found
