"""Sealing: finished live files become Parquet, small Parquet files become one for each day.

Any process may do it, one does at a time, and being killed at any point loses and doubles nothing:
a file counts once the manifest names it, and the manifest is replaced by one rename.  It runs in a
short-lived process of its own: `python -P -m workbench.metrics.compact FOLDER`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import msgspec

from workbench.errors import SchemaTooNew, StoreError, WorkbenchError
from workbench.locks import FileLock, is_locked
from workbench.metrics.layout import (
    BLOBS,
    BROKEN,
    COMPACT_LOCK,
    DAYS,
    LIVE,
    MANIFEST,
    OPEN,
    SEGMENTS,
    LiveFile,
    alive,
    finished,
    live_files,
    sealed_paths,
)
from workbench.metrics.manifest import (
    Manifest,
    Sealed,
    read_manifest,
    write_manifest,
)
from workbench.metrics.retention import parse_retention
from workbench.metrics.schema import SCHEMA, Schema, Table
from workbench.metrics.sealing import Sealer
from workbench.metrics.sources import live_rows, sealed_rows
from workbench.metrics.views import Views, blobs_named
from workbench.scratch import ScratchFolder
from workbench.units import sortable_id

GRACE_S = 60.0
"""How long a replaced file stays for readers that have seen it named."""

BATCH_BYTES = 128 * 1024 * 1024
MERGED_FROM = 8
"""Sealed files of a table from which those of each day are merged."""

MERGED_DAYS_FROM = 4
LARGE_ROWS = 1_000_000
"""A file with more rows is not merged again."""

_OLD_LOCK_S = 86400.0
_TORN_S = 3600.0


@dataclass(slots=True)
class Report:
    """What was done.

    Attributes:
        broken: Files that were put aside, with the reason.
        newer: Tables left alone because a newer version of the workbench wrote in them.
    """

    rows: int = 0
    live_files: int = 0
    merged_files: int = 0
    removed_files: int = 0
    expired_rows: int = 0
    broken_lines: int = 0
    broken: dict[str, str] = field(default_factory=dict)
    newer: list[str] = field(default_factory=list)


def compact(
    folder: str | Path,
    *,
    retention_days: Mapping[str, int] | None = None,
    grace_s: float = GRACE_S,
    schema: Schema = SCHEMA,
    wait: bool = False,
) -> Report | None:
    """Seal, merge and clean a store; `None` when another process does it already.

    Args:
        folder: The store.
        retention_days: Table to the days its rows are kept; `*` stands for every other table.
        grace_s: How long replaced files stay.
        schema: The schema to write.
        wait: Wait for the other process, then do it.

    Raises:
        SchemaTooNew: When a newer version of the workbench wrote the manifest.
        StoreError: When the disk refuses.
    """
    store = Path(folder)
    if not store.is_dir():
        return Report()
    lock = FileLock(store / COMPACT_LOCK)
    try:
        if not lock.acquire(wait=wait):
            return None
        with contextlib.closing(ScratchFolder("workbench-compact-")) as spill:
            return _Compaction(store, schema, grace_s, spill.path).run(retention_days or {})
    except (OSError, duckdb.Error) as exc:
        raise StoreError(f"The metrics in {store} could not be sealed: {exc}") from exc
    finally:
        lock.release()


class _Compaction(Sealer):
    def __init__(self, folder: Path, schema: Schema, grace_s: float, spill: Path) -> None:
        self.grace_s, self.spill = grace_s, spill
        self.report = Report()
        super().__init__(folder, _manifest_of(folder), schema, spill)

    def run(self, retention_days: Mapping[str, int]) -> Report:
        self._sweep()
        tables = [t for t in self.schema.tables.values() if self._may_touch(t)]
        if not self.manifest.known:
            self._rebuild(tables)
        for table in tables:
            while self._seal(table):
                pass
            self._merge(table)
            days = retention_days.get(table.name, retention_days.get("*", 0))
            if days and self._expire(table, days):
                self._expire_texts(tables, days)
        self._remove_retired()
        self.connection.close()
        return self.report

    # --- what is there

    def _may_touch(self, table: Table) -> bool:
        newer = any(f.schema_v > self.schema.version for f in self.manifest.files_of(table.name))
        if newer:
            self.report.newer.append(table.name)
        return not newer

    def _sweep(self) -> None:
        """Remove what killed compactions and writers left."""
        for top in (SEGMENTS, DAYS, OPEN):
            for path in (self.folder / top).rglob("*.tmp"):
                path.unlink(missing_ok=True)
        for path in self.folder.glob(f"{MANIFEST}.*.tmp"):
            path.unlink(missing_ok=True)
        now = time.time()
        for path in (self.folder / BLOBS).glob("*.tmp"):
            if now - path.stat().st_mtime > _TORN_S:
                path.unlink(missing_ok=True)
        if self.manifest.known:
            listed = {file.name for file in self.manifest.files} | set(self.manifest.retired)
            for table in self.schema.tables:
                for path in sealed_paths(self.folder, table):
                    if path.relative_to(self.folder).as_posix() not in listed:
                        path.unlink(missing_ok=True)
                        self.report.removed_files += 1
        for path in (self.folder / LIVE).glob("*.lock"):
            # Much older than its writer's first moments, in which it is not locked yet.
            if now - path.stat().st_mtime > _OLD_LOCK_S and not is_locked(path):
                writer = path.name.removesuffix(".lock")
                if not any((self.folder / LIVE).glob(f"*/{writer}-*.jsonl")):
                    path.unlink(missing_ok=True)

    def _rebuild(self, tables: Sequence[Table]) -> None:
        """Make the manifest from the sealed files; whatever they hold twice is kept once."""
        for table in tables:
            found: list[Sealed] = []
            for path in sealed_paths(self.folder, table.name):
                name_ = path.relative_to(self.folder).as_posix()
                try:
                    found.append(self.describe(name_, table.name, is_open=False))
                except duckdb.Error as exc:
                    self._put_aside(name_, str(exc))
            old = [file for file in found if file.schema_v <= self.schema.version]
            self.manifest.files += [file for file in found if file not in old]
            rows = sealed_rows(self.folder, table, old, self.schema)
            if rows is not None:
                self.batch(table, rows)
                self.publish(table, retire=[file.name for file in old])
        self.manifest.known = True
        write_manifest(self.folder, self.manifest)

    # --- sealing

    def _seal(self, table: Table) -> bool:
        """Seal one batch of finished live files; returns whether there may be more."""
        # Listed before the locks are looked at: a file seen here whose writer is gone is whole.
        files = [f for f in live_files(self.folder, table.name) if not self._is_retired(f)]
        living = alive(self.folder, (file.writer for file in files))
        done = [f for f in finished(files, living) if f.schema_v <= self.schema.version]
        batch = list(_first_bytes(done))
        waiting = self.manifest.of(table.name, is_open=True)
        if not batch and not (waiting and self._ended_writers(table, waiting)):
            return False
        parts = [
            live_rows(self.folder, table, [f for f in batch if f.size_bytes], self.schema),
            sealed_rows(self.folder, table, waiting, self.schema),
        ]
        rows = "\nUNION ALL\n".join(part for part in parts if part)
        kept = 0
        if rows:
            self.batch(table, rows)
            kept = self.count("SELECT count(*) FROM batch")
        good = self._count_lines(batch)
        self.report.live_files += len(batch)
        self.report.rows += good
        if not kept:
            self.publish(table, retire=[*(f.name for f in batch), *(f.name for f in waiting)])
            return len(batch) < len(done)
        retire = self.settle_twins(table)
        self.publish(table, retire=[*(f.name for f in batch), *(f.name for f in waiting), *retire])
        return len(batch) < len(done)

    def _ended_writers(self, table: Table, waiting: Sequence[Sealed]) -> bool:
        rows = sealed_rows(self.folder, table, waiting, self.schema)
        return bool(self.gone(r[0] for r in self.rows(f"SELECT DISTINCT writer_id FROM ({rows})")))

    # --- broken lines

    def _count_lines(self, files: Sequence[LiveFile]) -> int:
        """Count the lines that can and cannot be read; a file without a good one is put aside."""
        total = 0
        decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
        for file in files:
            good = bad = 0
            with (self.folder / file.name).open("rb") as lines:
                for line in lines:
                    try:
                        good += "id" in decode(line)
                    except msgspec.DecodeError:
                        bad += 1
            total += good
            self.report.broken_lines += bad
            self.manifest.broken_lines += bad
            if bad and not good:
                self._put_aside(file.name, "no line can be read")
        return total

    def _put_aside(self, name_: str, reason: str) -> None:
        target = self.folder / BROKEN / name_
        target.parent.mkdir(parents=True, exist_ok=True)
        (self.folder / name_).replace(target)
        kept = f"{BROKEN}/{name_}"
        self.manifest.broken[kept] = self.report.broken[kept] = reason

    # --- merging, forgetting, removing

    def _merge(self, table: Table) -> None:
        segments = [f for f in self.manifest.of(table.name) if f.name.startswith(f"{SEGMENTS}/")]
        if len(segments) >= MERGED_FROM:
            self._merge_files(table, segments)
        days: dict[str, list[Sealed]] = {}
        for file in self.manifest.of(table.name):
            if file.name.startswith(f"{DAYS}/") and file.rows <= LARGE_ROWS:
                days.setdefault(file.name.rsplit("/", 1)[0], []).append(file)
        for files in days.values():
            if len(files) >= MERGED_DAYS_FROM:
                self._merge_files(table, files)

    def _merge_files(self, table: Table, files: Sequence[Sealed]) -> None:
        rows = sealed_rows(self.folder, table, files, self.schema)
        added = []
        for (day,) in self.rows(f"SELECT DISTINCT ts::DATE::VARCHAR FROM ({rows}) ORDER BY 1"):
            target = f"{DAYS}/{table.name}/dt={day or 'unknown'}/{sortable_id()}.parquet"
            # A range of times, so that row groups of other days are not read.
            where = "ts IS NULL" if day is None else f"ts >= '{day}' AND ts < DATE '{day}' + 1"
            added.append(
                self.write(
                    table, f"SELECT {self.columns(table)} FROM ({rows}) WHERE {where}", target
                )
            )
        self.replace(added, [file.name for file in files])
        self.report.merged_files += len(files)

    def _expire(self, table: Table, days: int) -> bool:
        """Forget files whose rows are all older; returns whether there were any."""
        limit = f"{datetime.now(UTC) - timedelta(days=days):%Y-%m-%d %H:%M:%S}"
        old = [f for f in self.manifest.of(table.name) if f.max_ts is not None and f.max_ts < limit]
        if old:
            self.report.expired_rows += sum(file.rows for file in old)
            self.replace([], [file.name for file in old])
        return bool(old)

    def _expire_texts(self, tables: Sequence[Table], days: int) -> None:
        """Remove long texts that were not used for so long and that no row names any more."""
        limit = time.time() - days * 86400
        old = {
            path.name: path
            for path in (self.folder / BLOBS).glob("[0-9a-f]" * 64)
            if path.stat().st_mtime < limit
        }
        if not old or self.report.newer:
            return
        views = Views(self.connection, self.folder, self.schema, self.spill)
        views.refresh(table.name for table in tables)
        for sha in old.keys() - blobs_named(self.connection, tables):
            old[sha].unlink(missing_ok=True)
            self.report.removed_files += 1

    def _is_retired(self, file: LiveFile) -> bool:
        return file.name in self.manifest.retired

    def _remove_retired(self) -> None:
        now = time.time()
        gone = []
        for retired, since in self.manifest.retired.items():
            # A clock that was set back must not keep files for ever.
            if not 0 <= now - since < self.grace_s:
                try:
                    (self.folder / retired).unlink(missing_ok=True)
                except OSError:
                    continue
                gone.append(retired)
        for retired in gone:
            del self.manifest.retired[retired]
        self.report.removed_files += len(gone)
        if gone:
            write_manifest(self.folder, self.manifest)


def _manifest_of(folder: Path) -> Manifest:
    try:
        return read_manifest(folder)
    except SchemaTooNew:
        raise
    except StoreError:
        # Put aside, and made anew from the sealed files.
        (folder / BROKEN).mkdir(exist_ok=True)
        (folder / MANIFEST).replace(folder / BROKEN / f"{sortable_id()}-{MANIFEST}")
        return Manifest(known=False)


def _first_bytes(files: Sequence[LiveFile]) -> Iterator[LiveFile]:
    total = 0
    for file in files:
        if total and total + file.size_bytes > BATCH_BYTES:
            return
        total += file.size_bytes
        yield file


def main(arguments: Sequence[str] | None = None) -> int:
    """Compact a folder and print what was done as JSON."""
    parser = argparse.ArgumentParser(prog="python -P -m workbench.metrics.compact")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--grace", type=float, default=GRACE_S, metavar="SECONDS")
    parser.add_argument("--retention", action="append", default=[], metavar="TABLE=DAYS")
    given = parser.parse_args(arguments)
    try:
        days = parse_retention(given.retention)
        report = compact(given.folder, retention_days=days, grace_s=given.grace)
    except WorkbenchError as exc:
        print(exc, file=sys.stderr)
        return 1
    print(json.dumps(None if report is None else asdict(report)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
