"""Sealing rows and naming them in the manifest: what compaction and import share."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import duckdb

from workbench.metrics.layout import OPEN, SEGMENTS, alive
from workbench.metrics.manifest import Manifest, Sealed, sync_folder, write_manifest
from workbench.metrics.schema import Schema, Table
from workbench.metrics.sources import best_first, name, quoted, rank, sealed_rows
from workbench.units import sortable_id


class Sealer:
    """Seals rows of one store; its holder has the lock of the compaction.

    Args:
        folder: The store.
        manifest: Its manifest, which is changed.
        schema: The schema to write.
        spill: A folder for what does not fit into memory.
    """

    def __init__(self, folder: Path, manifest: Manifest, schema: Schema, spill: Path) -> None:
        self.folder, self.manifest, self.schema = folder, manifest, schema
        self.connection = duckdb.connect()
        for setting in (
            "SET enable_progress_bar=false",
            "SET TimeZone='UTC'",
            "SET threads=2",
            "SET memory_limit='1GB'",
            "SET autoinstall_known_extensions=false",
            f"SET temp_directory={quoted(str(spill))}",
        ):
            self.connection.execute(setting)

    def batch(self, table: Table, rows: str) -> None:
        """Make the table `batch` of the best row of each id; open rows of the dead become lost."""
        self.connection.execute(
            f"CREATE OR REPLACE TEMP TABLE batch AS SELECT {self.columns(table)} FROM ({rows}) "
            f"QUALIFY row_number() OVER (PARTITION BY id ORDER BY {best_first(table)}) = 1"
        )
        if table.opens:
            open_rows = "SELECT DISTINCT writer_id FROM batch WHERE status = 'open'"
            gone = self.gone(row[0] for row in self.rows(open_rows))
            for writer in gone:
                self.connection.execute(
                    "UPDATE batch SET status = 'lost' "
                    "WHERE status = 'open' AND writer_id IS NOT DISTINCT FROM ?",
                    [writer],
                )

    def columns(self, table: Table) -> str:
        """Return what to select of rows in the present form, to write them as such."""
        present = f"{self.schema.version}::BIGINT AS schema_v"
        return ", ".join(present if c == "schema_v" else name(c) for c in table.names)

    def close(self) -> None:
        """Give the memory back."""
        self.connection.close()

    def gone(self, writers: Iterable[str | None]) -> list[str | None]:
        """Return the writers that are not alive."""
        listed = list(writers)
        living = alive(self.folder, (w for w in listed if w and "/" not in w))
        return [writer for writer in listed if writer not in living]

    def settle_twins(self, table: Table) -> list[str]:
        """Keep the better of a new row and a sealed one of its id; returns the replaced files."""
        low, high = self.rows("SELECT min(id), max(id) FROM batch")[0]
        near = [f for f in self.manifest.of(table.name) if f.min_id <= high and f.max_id >= low]
        replaced = []
        for file in near:
            rows = sealed_rows(self.folder, table, [file], self.schema)
            self.connection.execute(
                f"CREATE OR REPLACE TEMP TABLE twins AS "
                f"SELECT id, {rank(table)} AS r, seq FROM ({rows}) SEMI JOIN batch USING (id)"
            )
            if not self.count("SELECT count(*) FROM twins"):
                continue
            # A content has one row: the sealed one stays.
            newer = "true" if table.by_content else "coalesce(twins.seq, 0) >= coalesce(new.seq, 0)"
            self.connection.execute(
                f"CREATE OR REPLACE TEMP TABLE worse AS SELECT id FROM twins JOIN "
                f"(SELECT id, {rank(table)} AS r, seq FROM batch) AS new USING (id) WHERE "
                f"twins.r > new.r OR (twins.r = new.r AND {newer})"
            )
            self.connection.execute("DELETE FROM batch WHERE id IN (FROM worse)")
            self.connection.execute("DELETE FROM twins WHERE id IN (FROM worse)")
            if self.count("SELECT count(*) FROM twins"):
                # The sealed row is the worse one: its file is written anew without it.
                self.connection.execute(
                    f"INSERT INTO batch SELECT {', '.join(map(name, table.names))} "
                    f"FROM ({rows}) ANTI JOIN twins USING (id)"
                )
                replaced.append(file.name)
        return replaced

    def publish(self, table: Table, *, retire: Sequence[str]) -> None:
        """Write the batch, then name it in the manifest in place of what it came from."""
        added = []
        unfinished = "status = 'open'" if table.opens else "false"
        for top, condition in (
            (SEGMENTS, f"NOT coalesce({unfinished}, false)"),
            (OPEN, unfinished),
        ):
            if self._batch_exists() and self.count(f"SELECT count(*) FROM batch WHERE {condition}"):
                target = f"{top}/{table.name}/{sortable_id()}.parquet"
                added.append(self.write(table, f"SELECT * FROM batch WHERE {condition}", target))
        self.connection.execute("DROP TABLE IF EXISTS batch")
        self.replace(added, retire)

    def _batch_exists(self) -> bool:
        found = "SELECT count(*) FROM duckdb_tables() WHERE table_name = 'batch'"
        return self.count(found) > 0

    def replace(self, added: Sequence[Sealed], retire: Sequence[str]) -> None:
        """Put files into the manifest in place of others, and write it."""
        now = time.time()
        gone = set(retire)
        self.manifest.files = [f for f in self.manifest.files if f.name not in gone] + list(added)
        self.manifest.retired |= dict.fromkeys(gone, now)
        write_manifest(self.folder, self.manifest)

    def write(self, table: Table, query: str, target: str) -> Sealed:
        """Write the rows of a query into a new sealed file, sorted by time."""
        path = self.folder / target
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".parquet.tmp")
        self.connection.execute(
            f"COPY ({query} ORDER BY ts, seq) TO {quoted(str(temporary))} "
            "(FORMAT parquet, COMPRESSION zstd)"
        )
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
        return self.describe(target, table.name, is_open=target.startswith(f"{OPEN}/"))

    def describe(self, target: str, table: str, *, is_open: bool) -> Sealed:
        """Return the entry of a sealed file, from what it holds."""
        source = f"read_parquet({quoted(str(self.folder / target))}, hive_partitioning=false)"
        rows = self.rows(
            "SELECT count(*), min(id), max(id), min(ts)::VARCHAR, max(ts)::VARCHAR, max(schema_v) "
            f"FROM {source}"
        )
        count, min_id, max_id, min_ts, max_ts, schema_v = rows[0]
        columns = tuple(row[0] for row in self.rows(f"DESCRIBE SELECT * FROM {source}"))
        return Sealed(
            name=target,
            table=table,
            rows=count,
            schema_v=schema_v or self.schema.version,
            columns=columns,
            min_id=min_id or "",
            max_id=max_id or "",
            min_ts=min_ts,
            max_ts=max_ts,
            size_bytes=(self.folder / target).stat().st_size,
            is_open=is_open,
        )

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        return self.connection.execute(query).fetchall()

    def count(self, query: str) -> int:
        """Return the one number of a query."""
        return int(self.rows(query)[0][0])
