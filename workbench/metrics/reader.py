"""Reading the metrics: `open(path)` and what it returns; no server is needed.

Everything is UTC.  A value that was not measured is null, never 0.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import duckdb

from workbench.errors import QueryFailed, StoreError
from workbench.metrics import sandbox
from workbench.metrics.blobs import get_blob, restore
from workbench.metrics.layout import foreign_files
from workbench.metrics.manifest import read_manifest
from workbench.metrics.queries import Questions
from workbench.metrics.schema import SCHEMA, Schema
from workbench.metrics.sources import quoted
from workbench.metrics.spawn import compaction_due, spawn_compaction
from workbench.metrics.views import Problem, Views
from workbench.scratch import ScratchFolder

if TYPE_CHECKING:
    import pandas as pd

T = TypeVar("T")

MEMORY_LIMIT = "1GB"
MAX_ROWS = 1_000_000
"""Rows a query may return: more are a mistake, or take the memory of the kernel."""

MAX_BYTES = 1_000_000_000
"""Bytes of memory the frame of a result may take; DuckDB's own limit does not count them."""

# About a million rows, when the vectors are full.
_CHUNK_VECTORS = 512
_CHUNK_BYTES = 64_000_000
_PATIENCE_S = 2.0
_QUERY_ERRORS = (
    duckdb.BinderException,
    duckdb.CatalogException,
    duckdb.ParserException,
    duckdb.ConversionException,
    duckdb.OutOfRangeException,
    duckdb.OutOfMemoryException,
    duckdb.InterruptException,
)


def open(  # noqa: A001 - the name that users write: `workbench.metrics.open(path)`
    path: str | Path,
    *,
    memory_limit: str = MEMORY_LIMIT,
    threads: int | None = None,
    compact: bool = False,
    schema: Schema = SCHEMA,
) -> Metrics:
    """Open a store of metrics for reading; close it, or use it in a `with`.

    Args:
        path: Its folder: `<data_dir>/metrics`, or an exported one.  It need not exist yet.
        memory_limit: Memory that queries may use, such as `512MB`.
        threads: Threads of a query; all cores unless given.
        compact: Seal finished files in a process of its own, when there are many.
        schema: The schema to read as.

    Raises:
        StoreError: When `path` is a file.
    """
    folder = Path(path).expanduser().resolve()
    if folder.exists() and not folder.is_dir():
        raise StoreError(f"{folder} is not a folder of metrics.")
    if compact and folder.is_dir() and compaction_due(folder):
        _watch(spawn_compaction(folder).wait)
    return Metrics(folder, memory_limit=memory_limit, threads=threads, schema=schema)


class Metrics(Questions):
    """The metrics of one store.

    Every consumer takes its own `cursor()`: a query of one never ends the result of another.

    Attributes:
        folder: The store.
    """

    def __init__(
        self, folder: Path, *, memory_limit: str, threads: int | None, schema: Schema
    ) -> None:
        self.folder = folder
        self._schema = schema
        self._spill = ScratchFolder("workbench-metrics-")
        self._connection = duckdb.connect()
        self._parser = duckdb.connect()
        self._parsing = threading.Lock()
        # On in a notebook, and not a global setting; a cursor begins without one.
        self._connection.execute("SET enable_progress_bar=false")
        spill = quoted(str(self._spill.path))
        for setting in (
            "TimeZone='UTC'",
            # The newest 1000 rows of 10 million: 0.7 s, and 5.4 s with the default of 50 rows.
            "late_materialization_max_rows=10000",
            "parquet_metadata_cache=true",
            # 2.0.1 drops a LIMIT above a LEFT JOIN with a side that is found to be empty.
            "disabled_optimizers='statistics_propagation'",
            "python_enable_replacements=false",
            "autoinstall_known_extensions=false",
            "autoload_known_extensions=false",
            "allow_community_extensions=false",
            f"memory_limit={quoted(memory_limit)}",
            f"temp_directory={spill}",
            "max_temp_directory_size='10GB'",
            *([] if threads is None else [f"threads={threads:d}"]),
            f"allowed_directories=[{quoted(str(folder))}, {spill}]",
            "enable_external_access=false",
            "lock_configuration=true",
        ):
            # GLOBAL, because a cursor is a session of its own and begins with the global ones.
            self._connection.execute(f"SET GLOBAL {setting}")
        self._views = Views(self._connection, folder, schema, self._spill.path)

    def __repr__(self) -> str:
        return f"<Metrics {self.folder}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give memory and temporary files back."""
        self._connection.close()
        self._parser.close()
        self._spill.close()

    def cursor(self) -> Cursor:
        """Return a consumer of its own, to use in another thread or beside this one."""
        return Cursor(self)

    def sql(
        self,
        query: str,
        parameters: Sequence[Any] = (),
        *,
        timeout_s: float | None = None,
        max_rows: int = MAX_ROWS,
        max_bytes: int = MAX_BYTES,
    ) -> pd.DataFrame:
        """Return the result of one SELECT over the tables and views; times are UTC.

        `SHOW TABLES` and `DESCRIBE requests` tell what there is.  Interrupting the kernel ends
        the query.

        Args:
            query: The SELECT; `?` stands for a parameter.
            parameters: Their values.
            timeout_s: Seconds after which it is given up; no limit unless given.
            max_rows: Rows it may return.
            max_bytes: Memory its frame may take.

        Raises:
            QueryFailed: When it is not one SELECT, reaches for something else, is wrong (with
                line and column), takes too long, or returns too much.
            SchemaTooNew: When a newer version of the workbench wrote a table it reads.
            StoreError: When the store cannot be read.
        """
        return self.cursor().sql(
            query, parameters, timeout_s=timeout_s, max_rows=max_rows, max_bytes=max_bytes
        )

    def _newest_since(self, table: str, n: int) -> str | None:
        return read_manifest(self.folder).newest_since(table, n)

    def tables(self) -> pd.DataFrame:
        """Return every column.

        Returns:
            table, column, type (of DuckDB), unit, meaning: text; otel: OpenTelemetry's name.
        """
        import pandas as pd

        rows = [
            (table.name, c.name, c.type, c.unit, c.doc, c.otel)
            for table in self._schema.tables.values()
            for c in table.columns
        ]
        return pd.DataFrame(rows, columns=["table", "column", "type", "unit", "meaning", "otel"])

    def parts(self, message_id: str) -> list[Any]:
        """Return the parts of a message, long texts included.

        Raises:
            StoreError: When the message or a text of it is not there.
        """
        import json

        frame = self.sql("SELECT parts FROM messages WHERE id = ?", [message_id])
        if frame.empty:
            raise StoreError(f"There is no message {message_id}.")
        found: list[Any] = restore(self.folder, json.loads(frame["parts"][0] or "[]"))
        return found

    def text(self, sha: str) -> str:
        """Return a long text that stands in a file of its own.

        Raises:
            StoreError: When it is not there.
        """
        return get_blob(self.folder, sha)

    def problems(self) -> list[Problem]:
        """Return the files that are left out, each with the reason."""
        found = [Problem(n, "its name is not one of ours") for n in self._foreign()]
        try:
            manifest = read_manifest(self.folder)
        except StoreError as exc:
            return [*found, Problem("MANIFEST.json", exc.message)]
        found += [Problem(n, reason) for n, reason in manifest.broken.items()]
        if manifest.broken_lines:
            found.append(Problem("live", f"{manifest.broken_lines} lines could not be read"))
        self._views.check_files(self._schema.tables, whole=False)
        return found + [Problem(n, reason) for n, reason in self._views.unreadable.items()]

    def _foreign(self) -> list[str]:
        return foreign_files(self.folder, self._schema.tables)


class Cursor(Questions):
    """A consumer of the metrics, for one thread at a time."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._schema = metrics._schema
        self._connection = metrics._connection.cursor()

    def sql(
        self,
        query: str,
        parameters: Sequence[Any] = (),
        *,
        timeout_s: float | None = None,
        max_rows: int = MAX_ROWS,
        max_bytes: int = MAX_BYTES,
    ) -> pd.DataFrame:
        """Return the result of one SELECT; see `Metrics.sql`."""
        views = self._metrics._views
        _refuse(timeout_s)
        with self._metrics._parsing:
            checked = sandbox.check(self._metrics._parser, query, views.names)

        def work() -> pd.DataFrame:
            views.refresh(checked.tables)
            return self._fetch(query, parameters, max_rows, max_bytes)

        try:
            try:
                return _in_thread(lambda: views.steadily(work), self._connection, timeout_s)
            except _QUERY_ERRORS:
                raise
            except duckdb.Error:
                # A file that is broken inside is left out; the others can still be read.
                if not views.check_files(self._metrics._schema.tables):
                    raise
                return _in_thread(lambda: views.steadily(work), self._connection, timeout_s)
        except TimeoutError as exc:
            text = f"The query was given up after {timeout_s:g} s."
            raise QueryFailed(query, text, hint="Ask for less, or allow more time.") from exc
        except duckdb.Error as exc:
            raise sandbox.failure(query, exc) from exc

    def _newest_since(self, table: str, n: int) -> str | None:
        return self._metrics._newest_since(table, n)

    def interrupt(self) -> None:
        """End the query that runs in another thread; it raises `QueryFailed` there."""
        self._connection.interrupt()

    def close(self) -> None:
        """Give the cursor back."""
        self._connection.close()

    def _fetch(
        self, query: str, parameters: Sequence[Any], max_rows: int, max_bytes: int
    ) -> pd.DataFrame:
        self._connection.execute(query, list(parameters))
        pieces: list[pd.DataFrame] = []
        rows = taken = 0
        vectors = 1
        while True:
            piece = self._connection.fetch_df_chunk(vectors)
            if pieces and not len(piece):
                break
            pieces.append(piece)
            rows += len(piece)
            size = _frame_bytes(piece)
            taken += size
            if rows > max_rows or taken > max_bytes:
                told = f"{max_rows} rows" if rows > max_rows else f"{max_bytes} bytes"
                which = "max_rows" if rows > max_rows else "max_bytes"
                raise QueryFailed(
                    query,
                    f"The result has more than {told}.",
                    hint=f"Aggregate, add a LIMIT, or pass {which}=.",
                )
            # Rows can be of any width: the next piece is as large as this one lets expect.
            fitting = _CHUNK_BYTES * vectors // max(1, size)
            vectors = max(1, min(_CHUNK_VECTORS, 8 * vectors, fitting))
        return _joined(pieces)


def _refuse(timeout_s: Any) -> None:
    if timeout_s is None:
        return
    number = isinstance(timeout_s, int | float) and not isinstance(timeout_s, bool)
    if not number or not timeout_s > 0:
        raise StoreError(f"timeout_s is {timeout_s!r}.", hint="Write seconds, more than 0.")


def _in_thread(
    work: Callable[[], T], connection: duckdb.DuckDBPyConnection, timeout_s: float | None
) -> T:
    """Return what `work` returns; Ctrl-C and the time limit interrupt the connection.

    DuckDB looks for an interrupt between pieces of work, so one huge scalar can go on for a
    while: its thread is left behind then.
    """
    done = threading.Event()
    result: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            result.append(work())
        except BaseException as exc:
            errors.append(exc)
        finally:
            done.set()

    thread = threading.Thread(target=run, name="metrics-query", daemon=True)
    thread.start()
    try:
        if not done.wait(timeout_s):
            raise TimeoutError
    except BaseException:
        deadline = time.monotonic() + _PATIENCE_S
        # Once more each time: an interrupt between two statements of ours is lost.
        while not done.wait(0.02) and time.monotonic() < deadline:
            connection.interrupt()
        raise
    thread.join()
    if errors:
        raise errors[0]
    return result[0]


def _joined(pieces: list[pd.DataFrame]) -> pd.DataFrame:
    """Return the pieces of a result as one frame, with the types of a result in one piece."""
    if len(pieces) == 1:
        return pieces[0]
    import pandas as pd

    for place in range(pieces[0].shape[1]):
        texts = [piece.dtypes.iloc[place] for piece in pieces]
        text = next((kind for kind in texts if isinstance(kind, pd.StringDtype)), None)
        for piece, kind in zip(pieces, texts, strict=True):
            # A piece without one text has no type of its own, and would take the text's away.
            if text is not None and pd.api.types.is_object_dtype(kind):
                piece.isetitem(place, piece.iloc[:, place].astype(text))
    return pd.concat(pieces, ignore_index=True)


def _frame_bytes(frame: pd.DataFrame) -> int:
    """Return the memory of a frame, with what its lists and structs hold."""
    total = int(frame.memory_usage(index=False, deep=True).sum())
    for place, kind in enumerate(frame.dtypes):
        if kind != "object":
            continue
        column = frame.iloc[:, place]
        first = next((value for value in column if value is not None), None)
        if isinstance(first, dict | list):
            total += sum(map(_held_bytes, column))
    return total


def _held_bytes(value: Any) -> int:
    """Return the memory of everything inside a value, without its own."""
    waiting, total = [value], 0
    while waiting:
        item = waiting.pop()
        inner = item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()
        for part in inner:
            total += sys.getsizeof(part)
            waiting.append(part)
    return total


def _watch(wait: Callable[[], object]) -> None:
    """Wait for a child in a thread, so that it does not stay as a zombie."""
    threading.Thread(target=wait, name="metrics-compaction", daemon=True).start()
