"""Taking metrics out, and in again.

An export in `parquet`, `csv` or `jsonl` is a folder with a file for each table, `export.json`, and
the long texts; it can be imported, and so can a `duckdb` file or another store.  Times are UTC.

In CSV a text that a spreadsheet would take for a formula gets an apostrophe in front; importing
takes it away again.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import msgspec

from workbench._version import __version__
from workbench.errors import QueryFailed, SchemaTooNew, StoreError
from workbench.locks import FileLock
from workbench.messages import nearest_names
from workbench.metrics import otlp, sandbox
from workbench.metrics.blobs import put_blob
from workbench.metrics.layout import BLOBS, COMPACT_LOCK, LIVE, MANIFEST
from workbench.metrics.manifest import read_manifest
from workbench.metrics.queries import as_utc
from workbench.metrics.schema import SCHEMA, Column, Schema, Table
from workbench.metrics.sealing import Sealer
from workbench.metrics.sources import name, quoted, table_rows
from workbench.metrics.views import VIEWS, Views, blobs_named
from workbench.scratch import ScratchFolder
from workbench.units import rfc3339, utc_now

FORMATS = ("parquet", "csv", "jsonl", "duckdb", "otlp-json")
NOTE = "export.json"
_SUFFIX = {"parquet": "parquet", "csv": "csv", "jsonl": "jsonl"}
_ISO = "%Y-%m-%dT%H:%M:%S.%fZ"
# What spreadsheets take for the beginning of a formula.
_FORMULA = "^'*[=+@\\-\\t\\r]"


class Note(msgspec.Struct, kw_only=True):
    """What an exported folder says about itself."""

    schema_v: int
    format: str
    tables: dict[str, int]
    created: str
    workbench: str


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written.

    Attributes:
        path: The folder or file.
        rows: Table to the rows written.
    """

    path: Path
    rows: dict[str, int]


def export(
    folder: str | Path,
    target: str | Path,
    *,
    format: str = "parquet",  # noqa: A002 - the word users know
    tables: Iterable[str] = (),
    since: Any = None,
    until: Any = None,
    where: str | None = None,
    overwrite: bool = False,
    schema: Schema = SCHEMA,
) -> Exported:
    """Write the rows of a store for other programs.

    Args:
        folder: The store.
        target: A folder, or with `duckdb` a file.
        format: `parquet`, `csv`, `jsonl`, `duckdb` or `otlp-json`.
        tables: Only these, or this one; all unless given.
        since: Beginning of the time, included: datetime, ISO text, `24h`, or seconds before now.
        until: End of the time, excluded.
        where: A condition of SQL on the columns of every chosen table.
        overwrite: Replace what is at `target`.
        schema: The schema to read as.

    Raises:
        QueryFailed: When `where` is no condition, or reaches for something else.
        StoreError: When the format or a table is unknown, or `target` is there already.
    """
    if format not in FORMATS:
        raise StoreError(f"There is no format {format!r}.", hint=f"Known: {', '.join(FORMATS)}.")
    named = [tables] if isinstance(tables, str) else tables
    chosen = [_table(schema, n) for n in named] or list(schema.tables.values())
    path = Path(target).expanduser().absolute()
    if path.exists() and not overwrite:
        raise StoreError(f"{path} is there already.", hint="Name another place, or overwrite it.")
    condition = _when(since, until)
    if where is not None:
        condition = f"{condition} AND ({_checked(where, chosen, schema)})"
    with _reading(Path(folder), schema) as (connection, views), _replacing(path) as temporary:
        views.refresh(table.name for table in chosen)
        if where is not None:
            _try(connection, where, chosen)
        writer = _Export(connection, views, temporary, condition)
        rows = views.steadily(lambda: writer.write(format, chosen))
    return Exported(path, rows)


class _Export:
    def __init__(
        self, connection: duckdb.DuckDBPyConnection, views: Views, target: Path, where: str
    ) -> None:
        self.connection, self.views, self.target, self.where = connection, views, target, where

    def write(self, form: str, tables: list[Table]) -> dict[str, int]:
        self.views.refresh(table.name for table in tables)
        _remove(self.target)
        if form == "duckdb":
            return self._database(tables)
        self.target.mkdir(parents=True)
        if form == "otlp-json":
            return otlp.write(self.connection, self.target, tables, self.where)
        rows = {table.name: self._file(table, form) for table in tables}
        self._blobs(tables)
        note = Note(
            schema_v=self.views.schema.version,
            format=form,
            tables=rows,
            created=rfc3339(utc_now()),
            workbench=__version__,
        )
        (self.target / NOTE).write_bytes(msgspec.json.format(msgspec.json.encode(note)))
        return rows

    def _query(self, table: Table, form: str) -> str:
        columns = ", ".join(_outside(column, form) for column in table.columns)
        return f"SELECT {columns} FROM {name(table.name)} WHERE {self.where} ORDER BY ts, seq"

    def _file(self, table: Table, form: str) -> int:
        path = self.target / f"{table.name}.{_SUFFIX[form]}"
        how = {
            "parquet": "FORMAT parquet, COMPRESSION zstd",
            "csv": "FORMAT csv, HEADER",
            "jsonl": "FORMAT json",
        }[form]
        done = self.connection.execute(
            f"COPY ({self._query(table, form)}) TO {quoted(str(path))} ({how})"
        ).fetchone()
        return int(done[0]) if done else 0

    def _database(self, tables: list[Table]) -> dict[str, int]:
        alias = f"export_{secrets.token_hex(4)}"
        rows = {}
        self.connection.execute(f"ATTACH {quoted(str(self.target))} AS {alias}")
        try:
            for table in tables:
                there = f"{alias}.{name(table.name)}"
                query = self._query(table, "duckdb")
                self.connection.execute(f"CREATE TABLE {there} AS {query}")
                for column in table.columns:
                    unit = f" [{column.unit}]" if column.unit else ""
                    self.connection.execute(
                        f"COMMENT ON COLUMN {there}.{name(column.name)} IS "
                        f"{quoted(column.doc + unit)}"
                    )
                found = self.connection.execute(f"SELECT count(*) FROM {there}").fetchone()
                rows[table.name] = int(found[0]) if found else 0
            names = {table.name for table in tables}
            for view, (query, needs) in VIEWS.items():
                if names.issuperset(needs):
                    self.connection.execute(f"USE {alias}")
                    self.connection.execute(f"CREATE VIEW {name(view)} AS {query}")
        finally:
            self.connection.execute("USE memory")
            self.connection.execute(f"DETACH {alias}")
        return rows

    def _blobs(self, tables: list[Table]) -> None:
        """Copy the long texts that the written rows name."""
        for sha in blobs_named(self.connection, tables, self.where):
            source = self.views.folder / BLOBS / sha
            if source.is_file():
                (self.target / BLOBS).mkdir(exist_ok=True)
                shutil.copyfile(source, self.target / BLOBS / sha)


# --- import


def import_metrics(
    folder: str | Path, source: str | Path, *, schema: Schema = SCHEMA
) -> dict[str, int]:
    """Add the rows of an export, or of another store, and return table to rows read.

    Rows that are there already are not added again: of each id the newest counts.

    Args:
        folder: The store to add to; made when it is not there.
        source: An exported folder, a `duckdb` file, or the folder of a store.
        schema: The schema to write.

    Raises:
        SchemaTooNew: When a newer version of the workbench wrote `source`.
        StoreError: When `source` cannot be read.
    """
    store, origin = Path(folder), Path(source).expanduser().absolute()
    if not origin.exists():
        raise StoreError(f"There is no {origin}.")
    if store.exists() and origin.resolve() == store.resolve():
        raise StoreError(f"{origin} is the store itself.")
    store.mkdir(parents=True, exist_ok=True)
    lock = FileLock(store / COMPACT_LOCK)
    with lock, contextlib.closing(ScratchFolder("workbench-import-")) as spill:
        manifest = read_manifest(store)
        if not manifest.known and any(store.glob("*/*/*.parquet")):
            raise StoreError(f"{store} has no manifest.", hint="Make it anew: workbench clean.")
        sealer = Sealer(store, manifest, schema, spill.path)
        try:
            return _add_all(sealer, origin, schema, spill.path)
        except duckdb.Error as exc:
            raise StoreError(f"{origin} cannot be imported: {exc}") from exc
        finally:
            sealer.close()


def _add_all(sealer: Sealer, origin: Path, schema: Schema, spill: Path) -> dict[str, int]:
    if origin.is_file():
        sealer.connection.execute(f"ATTACH {quoted(str(origin))} AS origin (READ_ONLY)")
        return {t.name: _add(sealer, t, q) for t, q in _from_database(sealer, schema)}
    if (origin / NOTE).is_file():
        rows = {t.name: _add(sealer, t, q) for t, q in _from_files(origin, schema)}
    elif (origin / MANIFEST).is_file() or (origin / LIVE).is_dir():
        views = Views(sealer.connection, origin.resolve(), schema, spill)
        views.refresh(schema.tables)
        rows = {t.name: _add(sealer, t, f"FROM {name(t.name)}") for t in schema.tables.values()}
    else:
        raise StoreError(
            f"{origin} is neither an export nor a store.",
            hint=f"An export has an {NOTE}; one in otlp-json cannot be imported.",
        )
    for path in (origin / BLOBS).glob("*"):
        if len(path.name) == 64:
            put_blob(sealer.folder, path.read_bytes().decode("utf-8", "surrogatepass"))
    return rows


def _from_files(origin: Path, schema: Schema) -> Iterator[tuple[Table, str]]:
    try:
        note = msgspec.json.decode((origin / NOTE).read_bytes(), type=Note)
    except (OSError, msgspec.MsgspecError) as exc:
        raise StoreError(f"{origin / NOTE} cannot be read: {exc}.") from exc
    if note.schema_v > schema.version:
        raise SchemaTooNew(str(origin), found=note.schema_v, supported=schema.version)
    if note.format not in _SUFFIX:
        raise StoreError(f"An export in {note.format!r} cannot be imported.")
    for table in schema.tables.values():
        path = origin / f"{table.name}.{_SUFFIX[note.format]}"
        if path.is_file():
            yield table, table_rows(table, str(path), note.format, note.schema_v, schema)


def _from_database(sealer: Sealer, schema: Schema) -> Iterator[tuple[Table, str]]:
    for table in schema.tables.values():
        there = f"origin.{name(table.name)}"
        columns = [
            row[0]
            for row in sealer.rows(
                "SELECT column_name FROM duckdb_columns() WHERE database_name = 'origin' "
                f"AND table_name = {quoted(table.name)}"
            )
        ]
        if not columns:
            continue
        version = sealer.count(f"SELECT coalesce(max(schema_v), 1) FROM {there}")
        if version > schema.version:
            raise SchemaTooNew(there, found=version, supported=schema.version)
        picked = ", ".join(
            name(c.name) if c.name in columns else f"NULL::{c.type} AS {name(c.name)}"
            for c in table.columns
        )
        yield table, f"SELECT {picked} FROM {there}"


def _add(sealer: Sealer, table: Table, query: str) -> int:
    """Add rows day by day, so that memory bounds a day and not the whole."""
    total = 0
    for (day,) in sealer.rows(f"SELECT DISTINCT ts::DATE::VARCHAR FROM ({query}) ORDER BY 1"):
        where = "ts IS NULL" if day is None else f"ts >= '{day}' AND ts < DATE '{day}' + 1"
        sealer.batch(table, f"SELECT * FROM ({query}) WHERE id IS NOT NULL AND {where}")
        total += sealer.count("SELECT count(*) FROM batch")
        sealer.publish(table, retire=sealer.settle_twins(table))
    return total


# --- small things


def _table(schema: Schema, wanted: str) -> Table:
    if wanted in schema.tables:
        return schema.tables[wanted]
    near = nearest_names(wanted, schema.tables, count=1)
    hint = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(schema.tables)}."
    raise StoreError(f"There is no table {wanted!r}.", hint=hint)


def _when(since: Any, until: Any) -> str:
    where = [
        f"ts {comparison} {quoted(as_utc(moment).isoformat())}::TIMESTAMP"
        for moment, comparison in ((since, ">="), (until, "<"))
        if moment is not None
    ]
    return " AND ".join(where) or "true"


def _checked(where: str, tables: list[Table], schema: Schema) -> str:
    """Return a condition that is one, and reads nothing but the metrics."""
    parser = duckdb.connect()
    try:
        for table in tables:
            query = f"SELECT * FROM {name(table.name)} WHERE ({where}\n)"
            sandbox.check(parser, query, schema.tables)
    finally:
        parser.close()
    return f"{where}\n"


def _try(connection: duckdb.DuckDBPyConnection, where: str, tables: list[Table]) -> None:
    """Refuse a condition that the columns of a table do not have."""
    for table in tables:
        try:
            connection.execute(f"SELECT 1 FROM {name(table.name)} WHERE ({where}\n) LIMIT 0")
        except (duckdb.BinderException, duckdb.ConversionException) as exc:
            said = " ".join(str(exc).partition("\n\nLINE ")[0].split())
            hint = "Use columns that every chosen table has; `tables` chooses."
            text = f"The condition does not fit the table {table.name}: {said}"
            raise QueryFailed(where, text, hint=hint) from exc


def _outside(column: Column, form: str) -> str:
    """Return the expression of a column as a format has it."""
    plain = name(column.name)
    if form not in ("csv", "jsonl"):
        return plain
    if column.type == "TIMESTAMP":
        return f"strftime({plain}, '{_ISO}') AS {plain}"
    if form == "csv" and column.type.endswith("[]"):
        return f"to_json({plain}) AS {plain}"
    if form == "csv" and column.type == "VARCHAR":
        return (
            f"CASE WHEN regexp_matches({plain}, {quoted(_FORMULA)}) THEN '''' || {plain} "
            f"ELSE {plain} END AS {plain}"
        )
    return plain


@contextlib.contextmanager
def _reading(folder: Path, schema: Schema) -> Iterator[tuple[duckdb.DuckDBPyConnection, Views]]:
    with contextlib.closing(ScratchFolder("workbench-export-")) as spill:
        connection = duckdb.connect()
        try:
            for setting in (
                "SET TimeZone='UTC'",
                "SET enable_progress_bar=false",
                "SET memory_limit='1GB'",
                "SET autoinstall_known_extensions=false",
                f"SET temp_directory={quoted(str(spill.path))}",
            ):
                connection.execute(setting)
            yield connection, Views(connection, folder.expanduser().resolve(), schema, spill.path)
        except (OSError, duckdb.Error) as exc:
            raise StoreError(f"The metrics could not be exported: {exc}") from exc
        finally:
            connection.close()


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """Give a place beside `path`, which takes its place when all went well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        _remove(path)
        os.replace(temporary, path)
    finally:
        _remove(temporary)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
