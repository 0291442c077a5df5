"""What a query may do, and the ways out that are closed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import workbench.metrics
from tests.metrics.conftest import request_row
from workbench.errors import QueryFailed
from workbench.metrics import Metrics
from workbench.metrics.compact import compact
from workbench.metrics.journal import JournalWriter

# `{secret}` is a file outside the store, `{inside}` one within, `{out}` a place to write to within.
ESCAPES = [
    "COPY requests TO '{out}'",
    "COPY (SELECT 1) TO '{out}' (FORMAT csv)",
    "COPY requests FROM '{secret}'",
    "WITH x AS (COPY (SELECT 1) TO '{out}') SELECT * FROM x",
    "WITH x AS (INSERT INTO internal.requests (id) VALUES ('y') RETURNING *) SELECT * FROM x",
    "WITH x AS (DELETE FROM internal.requests RETURNING *) SELECT * FROM x",
    "WITH x AS (UPDATE internal.requests SET id = 'y' RETURNING *) SELECT * FROM x",
    "SELECT * FROM (WITH x AS (DELETE FROM internal.requests RETURNING *) FROM x)",
    "SELECT (WITH x AS (COPY (SELECT 1) TO '{out}') SELECT count(*) FROM x)",
    "EXPORT DATABASE '{out}'",
    "IMPORT DATABASE '{out}'",
    "ATTACH '{out}' AS other",
    "ATTACH ':memory:' AS other",
    "DETACH memory",
    "USE internal",
    "INSTALL httpfs",
    "LOAD httpfs",
    "FORCE INSTALL json FROM community",
    "UPDATE EXTENSIONS",
    "SET threads = 1",
    "SET lock_configuration = false",
    "SET GLOBAL allowed_directories = ['/']",
    "SET VARIABLE x = 1",
    "RESET enable_external_access",
    "PRAGMA database_list",
    "PRAGMA enable_profiling",
    "PRAGMA threads = 1",
    "CALL pragma_version()",
    "CALL enable_logging()",
    "CREATE TABLE t (a INT)",
    "CREATE TEMP VIEW requests AS SELECT 1",
    "CREATE MACRO tokens_per_s(a, b) AS 1",
    "CREATE SECRET s (TYPE http)",
    "DROP VIEW requests",
    "INSERT INTO internal.requests (id) VALUES ('y')",
    "DELETE FROM internal.requests",
    "UPDATE internal.requests SET id = 'y'",
    "ALTER TABLE internal.requests DROP COLUMN id",
    "BEGIN TRANSACTION",
    "CHECKPOINT",
    "VACUUM",
    "ANALYZE",
    "PREPARE p AS SELECT 1",
    "EXECUTE p",
    "EXPLAIN ANALYZE SELECT 1",
    "SELECT 1; COPY requests TO '{out}'",
    "SELECT 1; SELECT 2",
    "SELECT * FROM '{secret}'",
    'SELECT * FROM "{secret}"',
    "SELECT * FROM '{inside}'",
    "DESCRIBE '{secret}'",
    "SUMMARIZE '{secret}'",
    "SELECT * FROM read_csv('{secret}')",
    "SELECT * FROM read_csv_auto('{secret}')",
    "SELECT * FROM read_text('{secret}')",
    "SELECT * FROM read_text('{inside}')",
    "SELECT * FROM read_blob('{secret}')",
    "SELECT * FROM read_json('{secret}')",
    "SELECT * FROM read_parquet('{secret}')",
    "SELECT * FROM parquet_metadata('{secret}')",
    "SELECT * FROM read_duckdb('{secret}')",
    "SELECT * FROM sniff_csv('{secret}')",
    "SELECT * FROM glob('/*')",
    "SELECT * FROM requests WHERE id IN (SELECT content FROM read_text('{secret}'))",
    "SELECT (SELECT content FROM read_text('{secret}'))",
    "SELECT * FROM requests, LATERAL (SELECT * FROM read_text('{secret}'))",
    "SELECT EXISTS (FROM read_text('{secret}'))",
    "SELECT 1 UNION ALL SELECT length(content) FROM read_text('{secret}')",
    "SELECT * FROM query('SELECT * FROM read_text(''{secret}'')')",
    "SELECT * FROM query_table('{secret}')",
    "SELECT * FROM json_execute_serialized_sql(json_serialize_sql('SELECT 1'))",
    "SELECT * FROM duckdb_settings()",
    "SELECT * FROM duckdb_secrets()",
    "SELECT * FROM duckdb_logs()",
    "SELECT * FROM duckdb_settings",
    "SELECT * FROM information_schema.tables",
    "SELECT * FROM pg_catalog.pg_class",
    "SELECT * FROM internal.requests",
    "SELECT * FROM enable_logging()",
    "SELECT * FROM add_grammar_extension('x')",
    "SELECT * FROM (WITH \"{secret}\" AS (SELECT 1) FROM \"{secret}\"), \"{secret}\"",
    "SELECT * FROM (WITH duckdb_settings AS (SELECT 1) SELECT 2), duckdb_settings",
    "SELECT current_setting('temp_directory')",
    "SELECT getvariable('x')",
    "SELECT write_log('x')",
    "SELECT nextval('s')",
    "SHOW ALL TABLES",
    "SHOW DATABASES",
    "FROM frame",
    "SELECT * FROM pandas_scan(0)",
    "SELECT 1 INTO OUTFILE '{out}'",
    "",
    "-- nothing",
]  # fmt: skip

ALLOWED = [
    "SELECT count(*) FROM requests",
    "FROM requests",
    "FROM main.requests SELECT id",
    "TABLE requests",
    "VALUES (1)",
    "SELECT 1;",
    "WITH x AS (SELECT * FROM requests) SELECT count(*) FROM x",
    "WITH RECURSIVE r AS (SELECT 1 AS a UNION ALL SELECT a + 1 FROM r WHERE a < 3) FROM r",
    "SELECT * FROM requests AS a JOIN calls AS c ON a.id = c.id",
    "SELECT unnest([1, 2])",
    "SELECT * FROM range(3), generate_series(1, 2), unnest([1])",
    "SELECT * FROM (PIVOT requests ON status IN ('ok') USING count(*) GROUP BY backend)",
    "SELECT key FROM requests, json_each(options)",
    "SELECT list_transform([1, 2], lambda x: x + 1)",
    "SELECT * FROM requests USING SAMPLE 1",
    "SELECT rank() OVER (ORDER BY ts) FROM requests",
    "SELECT * EXCLUDE (id) FROM REQUESTS",
    "DESCRIBE requests",
    "SUMMARIZE SELECT duration FROM requests",
    "SHOW TABLES",
    "SELECT tokens_per_s(gen_ai_usage_output_tokens, ollama_eval_duration) FROM requests",
]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Metrics]:
    """A store with a sealed and a live request, read once; every test leaves it as it is."""
    folder = tmp_path_factory.mktemp("sandbox") / "metrics"
    for number in (1, 2):
        with JournalWriter(folder) as writer:
            writer.write("requests", request_row(number))
        if number == 1:
            compact(folder)
    with workbench.metrics.open(folder) as metrics:
        metrics.sql("FROM requests")
        yield metrics


def files(folder: Path) -> dict[str, int]:
    """Return every file below a folder, with its size."""
    found = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in found}


@pytest.mark.parametrize("query", ESCAPES)
def test_a_way_out_is_closed(query: str, filled: Metrics, tmp_path: Path) -> None:
    """The query is refused, makes no file, and the rows are as they were."""
    secret = tmp_path / "secret.csv"
    secret.write_text("word\nopensesame\n", encoding="utf-8")
    inside = next((filled.folder / "seg").rglob("*.parquet"))
    places = {"secret": secret, "inside": inside, "out": filled.folder / "out"}
    before = files(filled.folder)
    with pytest.raises(QueryFailed) as caught:
        filled.sql(query.format(**places))
    assert "opensesame" not in str(caught.value)
    assert before == files(filled.folder)
    assert ["r0001", "r0002"] == list(filled.sql("SELECT id FROM requests ORDER BY id")["id"])


@pytest.mark.parametrize("query", ALLOWED)
def test_a_select_is_answered(query: str, filled: Metrics) -> None:
    """Every form of a SELECT over our tables is answered."""
    assert len(filled.sql(query)) >= 1


def test_duckdb_itself_is_locked(filled: Metrics, tmp_path: Path) -> None:
    """Behind the check, DuckDB refuses files outside the store and any change of a setting."""
    secret = tmp_path / "secret.csv"
    secret.write_text("word\nopensesame\n", encoding="utf-8")
    cursor = filled.cursor()._connection
    for query in (f"FROM '{secret}'", f"COPY (SELECT 1) TO '{secret}'", "SET threads = 1"):
        with pytest.raises(Exception, match=r"disabled by configuration|locked"):
            cursor.execute(query)


@pytest.mark.parametrize(
    ("query", "line", "column", "word"),
    [
        ("SELECT nme FROM requests", 1, 8, "nme"),
        ("SELECT id\nFROM requests\nWHERE duraton > 1", 3, 7, "duraton"),
        ("SELECT * FROM reqests", 1, 15, "reqests"),
        ("SELECT id FROM requests WHERE AND", 1, 31, "AND"),
        ("SELECT foo(1)", 1, 8, "foo"),
        ("SELECT\n  * FROM read_text('x')", 2, 10, "read_text"),
        ("SELECT " + "1, " * 100 + "nme FROM requests", 1, 308, "nme"),
    ],
    ids=["column", "third-line", "table", "syntax", "function", "refused", "long-line"],
)
def test_errors_have_a_position(
    metrics: Metrics, query: str, line: int, column: int, word: str
) -> None:
    """The message tells what is wrong, and the fields tell where."""
    with pytest.raises(QueryFailed) as caught:
        metrics.sql(query)
    assert (line, column) == (caught.value.line, caught.value.column)
    assert word in caught.value.reason
    assert "LINE" not in str(caught.value)


def test_a_query_of_no_text_is_told(metrics: Metrics) -> None:
    """Bytes of a terminal that does not speak UTF-8 are refused as a query, not as a type."""
    with pytest.raises(QueryFailed, match="not valid UTF-8"):
        metrics.sql("SELECT 'caf\udce9'")


def test_an_unknown_table_has_a_nearest_one(metrics: Metrics) -> None:
    """The hint names the table that was probably meant."""
    with pytest.raises(QueryFailed, match="Did you mean requests"):
        metrics.sql("SELECT * FROM request")


def test_parameters_are_values(filled: Metrics) -> None:
    """A parameter is never part of the query."""
    frame = filled.sql("SELECT id FROM requests WHERE id = ?", ["' OR 1 = 1 --"])
    assert frame.empty
