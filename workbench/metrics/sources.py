"""SQL that reads the files of a table as rows of the present schema."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path

from workbench.metrics.layout import LiveFile
from workbench.metrics.manifest import Sealed
from workbench.metrics.schema import Migration, Schema, Table


def quoted(text: str) -> str:
    """Return a text as a literal of SQL."""
    return "'" + text.replace("'", "''") + "'"


def name(identifier: str) -> str:
    """Return an identifier for SQL."""
    return '"' + identifier.replace('"', '""') + '"'


def listed(texts: Iterable[str]) -> str:
    """Return texts as a list literal of SQL."""
    return "[" + ", ".join(map(quoted, texts)) + "]"


def rank(table: Table) -> str:
    """Return the expression by which a row beats others of its id; the larger one does."""
    if not table.opens:
        return "0"
    # What waits is not at its end: it goes on as `open`.
    return "CASE status WHEN 'open' THEN 0 WHEN 'waiting' THEN 0 WHEN 'lost' THEN 1 ELSE 2 END"


def best_first(table: Table) -> str:
    """Return the `ORDER BY` that puts the row to keep first among those of one id."""
    order = "ASC" if table.by_content else "DESC"
    return f"{rank(table)} DESC, seq {order} NULLS LAST"


def live_rows(
    folder: Path,
    table: Table,
    files: Sequence[LiveFile],
    schema: Schema,
    *,
    with_file: bool = False,
) -> str | None:
    """Return a query over live files, every written row of theirs; `None` without files.

    With `with_file` it has one more column, `_file`: the path of the row's file.
    """
    more = ("filename AS _file",) if with_file else ()
    parts = []
    for version, group in groupby(sorted(files, key=_version), key=_version):
        types = {column.name: str(column.type) for column in table.columns}
        for migration in _later(schema, table, version):
            types |= migration.dropped
        columns = ", ".join(f"{quoted(n)}: {quoted(t)}" for n, t in types.items())
        paths = listed(str(folder / file.name) for file in group)
        source = (
            f"(SELECT * FROM read_json({paths}, format='newline_delimited', ignore_errors=true, "
            f"filename=true, columns={{{columns}}}) WHERE id IS NOT NULL)"
        )
        parts.append(_present(table, source, frozenset(types), version, schema, more))
    return "\nUNION ALL\n".join(parts) or None


def sealed_rows(folder: Path, table: Table, files: Sequence[Sealed], schema: Schema) -> str | None:
    """Return a query over Parquet files; `None` without files."""
    parts = []
    ordered = sorted(files, key=_version)
    for version, group in groupby(ordered, key=_version):
        members = list(group)
        layouts = {file.columns for file in members}
        # Reading by name opens every file before the query begins.
        how = ", union_by_name=true" if len(layouts) > 1 else ""
        paths = listed(str(folder / file.name) for file in members)
        source = f"read_parquet({paths}, hive_partitioning=false{how})"
        columns = frozenset(column for layout in layouts for column in layout)
        parts.append(_present(table, source, columns, version, schema))
    return "\nUNION ALL\n".join(parts) or None


def table_rows(table: Table, path: str, form: str, version: int, schema: Schema) -> str:
    """Return a query over one exported file, written in `parquet`, `csv` or `jsonl`."""
    types = {column.name: str(column.type) for column in table.columns}
    for migration in _later(schema, table, version):
        types |= migration.dropped
    if form == "jsonl":
        columns = ", ".join(f"{quoted(n)}: {quoted(t)}" for n, t in types.items())
        source = f"read_json({quoted(path)}, format='newline_delimited', columns={{{columns}}})"
    elif form == "csv":
        source = _csv(path, types)
    else:
        # A file that was written before a column was added lacks it.
        empty = ", ".join(f"NULL::{t} AS {name(n)}" for n, t in types.items())
        source = (
            f"(FROM read_parquet({quoted(path)}, hive_partitioning=false) "
            f"UNION ALL BY NAME SELECT {empty} WHERE false)"
        )
    return _present(table, source, frozenset(types), version, schema)


def _csv(path: str, types: dict[str, str]) -> str:
    """Return a query over a CSV file, its texts as they were before the apostrophes."""
    safe = quoted("^'+[=+@\\-\\t\\r]")
    picked = []
    for column, kind in types.items():
        plain = name(column)
        value = f"{plain}::{kind}"
        if kind == "VARCHAR":
            value = f"CASE WHEN regexp_matches({plain}, {safe}) THEN {plain}[2:] ELSE {plain} END"
        elif kind.endswith("[]"):
            value = f"from_json({plain}, '[\"{kind[:-2]}\"]')"
        picked.append(f"{value} AS {plain}")
    return (
        f"(SELECT {', '.join(picked)} FROM read_csv({quoted(path)}, header=true, delim=',', "
        "quote='\"', escape='\"', nullstr='', allow_quoted_nulls=false, all_varchar=true, "
        "max_line_size=16777216))"
    )


def _version(file: LiveFile | Sealed) -> int:
    return file.schema_v


def _later(schema: Schema, table: Table, version: int) -> list[Migration]:
    return [m for m in schema.migrations if m.table == table.name and m.version > version]


def _present(
    table: Table,
    source: str,
    columns: frozenset[str],
    version: int,
    schema: Schema,
    more: tuple[str, ...] = (),
) -> str:
    """Return a query that gives the rows of `source` the columns of the present schema."""
    have = columns
    for change in _later(schema, table, version):
        missing = [
            f"NULL::{kind} AS {name(n)}" for n, kind in change.dropped.items() if n not in have
        ]
        old = f"(SELECT *{''.join(', ' + m for m in missing)} FROM {source})"
        kept = have.difference(change.values)
        values = [f"{expression} AS {name(n)}" for n, expression in change.values.items()]
        also = ["filename"] if more else []
        source = f"(SELECT {', '.join([*map(name, sorted(kept)), *values, *also])} FROM {old})"
        have = kept.union(change.values)
    picked = [
        name(c.name) if c.name in have else f"NULL::{c.type} AS {name(c.name)}"
        for c in table.columns
    ]
    return f"SELECT {', '.join([*picked, *more])} FROM {source}"
