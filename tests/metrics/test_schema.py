from __future__ import annotations

import re

import pytest

from workbench.metrics.schema import MIGRATIONS, SCHEMA_VERSION, TABLES, Table

COMMON = ("id", "ts", "schema_v", "run_id", "session_id", "writer_id", "seq")
SHORTER = {"conversation", "speaker", "error_type", "server_address", "server_port"}


@pytest.mark.parametrize("table", TABLES.values(), ids=lambda table: table.name)
def test_every_table_begins_with_the_common_columns(table: Table) -> None:
    """Identity, time, version and writer come first and are named alike in every table."""
    assert COMMON == table.names[: len(COMMON)]


@pytest.mark.parametrize("table", TABLES.values(), ids=lambda table: table.name)
def test_no_column_is_named_twice(table: Table) -> None:
    """The names of a table's columns differ."""
    assert len(table.columns) == len(set(table.names))


def test_names_of_opentelemetry_are_kept() -> None:
    """A column that OpenTelemetry names has its name with `_` for `.`, or is a known short one."""
    columns = [column for table in TABLES.values() for column in table.columns if column.otel]
    other = {c.name for c in columns if c.name != c.otel.replace(".", "_")}
    assert other <= SHORTER


def test_units_are_those_of_the_type() -> None:
    """Times are UTC timestamps, durations doubles in seconds, sizes whole bytes."""
    wanted = {"TIMESTAMP": "UTC"}
    columns = [column for table in TABLES.values() for column in table.columns]
    assert [] == [c.name for c in columns if (c.unit == "UTC") != (c.type in wanted)]
    assert {"DOUBLE"} == {c.type.removesuffix("[]") for c in columns if c.unit == "s"}
    assert {"BIGINT"} == {c.type for c in columns if c.unit in ("bytes", "tokens")}


def test_meanings_are_sentences() -> None:
    """Every table and column says in a sentence what it means."""
    docs = [c.doc for t in TABLES.values() for c in t.columns] + [t.doc for t in TABLES.values()]
    assert [] == [doc for doc in docs if not re.fullmatch(r"[A-Z0-9`].*\.", doc)]


def test_a_migration_raises_the_version() -> None:
    """The version counts the migrations, so that none is added without raising it."""
    assert [entry.version for entry in MIGRATIONS] == list(range(2, SCHEMA_VERSION + 1))
