"""What a query may be: one SELECT over the tables of the metrics, and nothing that reaches out.

The statement is parsed by DuckDB itself and its tree is walked, because the type of a statement is
not enough: in DuckDB 2.0 `WITH x AS (INSERT ... RETURNING *) FROM x`, and COPY in its place, are
SELECT statements.  Behind it stand DuckDB's own locks: no external access but to the store's
folder, and a locked configuration.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import duckdb
import msgspec

from workbench.errors import QueryFailed
from workbench.messages import nearest_names

QUERY_NODES = frozenset(
    {"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE", "VALUES_NODE"}
)
TABLE_FUNCTIONS = frozenset({"range", "generate_series", "unnest", "json_each", "json_tree"})
"""Table functions that only compute."""

REFUSED_FUNCTIONS = frozenset(
    {"current_setting", "getvariable", "nextval", "setval", "currval", "write_log", "setseed"}
    | {"json_execute_serialized_sql", "current_query", "in_search_path", "getenv"}
)
"""Functions that tell about, or change, more than the rows they are given."""

_SELECT_ONLY = "Write one SELECT over the tables of the metrics."
_SYSTEM_PREFIXES = ("duckdb_", "pg_", "sqlite_", "pragma_")
_POSITION = re.compile(r"LINE (\d+): (.*)\n( *)\^")


@dataclass(frozen=True, slots=True)
class Checked:
    """A query that may run.

    Attributes:
        tables: The tables and views of ours it reads.
    """

    text: str
    tables: frozenset[str]


def check(connection: duckdb.DuckDBPyConnection, text: Any, known: Collection[str]) -> Checked:
    """Return a query that may run.

    Args:
        connection: Parses it; nothing is run.
        text: The query.
        known: Names of the tables and views it may read.

    Raises:
        QueryFailed: When it is not one SELECT, or reaches for something else.
    """
    if not isinstance(text, str):
        raise QueryFailed(str(text), f"{text!r} is no text.", hint=_SELECT_ONLY)
    if any("\ud800" <= sign <= "\udfff" for sign in text):
        # From a terminal that does not speak UTF-8; DuckDB has no words for it.
        raise QueryFailed(text, "The query is not valid UTF-8.", hint="Write it as UTF-8.")
    try:
        statements = duckdb.extract_statements(text)
    except duckdb.Error as exc:
        raise failure(text, exc) from exc
    if len(statements) != 1:
        found = "no statement" if not statements else f"{len(statements)} statements"
        raise QueryFailed(text, f"This is {found}.", hint=_SELECT_ONLY)
    try:
        kind = statements[0].type.name
    except ValueError:
        # UPDATE EXTENSIONS has a type that Python's list of types lacks (2.0.1).
        kind = text.split()[0].upper()
    if kind != "SELECT":
        raise QueryFailed(text, f"{_spoken(kind)} is not allowed.", hint=_SELECT_ONLY)
    row = connection.execute("SELECT json_serialize_sql(?)", [text]).fetchone()
    tree = msgspec.json.decode(row[0] if row else b"{}")
    if tree.get("error"):
        raise QueryFailed(text, str(tree.get("error_message")), hint=_SELECT_ONLY)
    return Checked(text, _walked(text, tree["statements"], known))


def _walked(text: str, tree: Any, known: Collection[str]) -> frozenset[str]:
    """Refuse what reaches out, and return the tables that are read."""
    nodes = list(_nodes(tree))
    named = {str(entry["key"]).casefold() for entry in _common_tables(nodes)}
    for name in named:
        # Outside its own scope such a name would be that of a file or of a system's table.
        if not re.fullmatch(r"\w+", name) or name.startswith(_SYSTEM_PREFIXES):
            raise QueryFailed(text, f"A table of WITH cannot be named {name!r}.", hint=_SELECT_ONLY)
    ours = {name.casefold(): name for name in known}
    used: set[str] = set()
    for node in nodes:
        kind = str(node.get("type") or "")
        where = node.get("query_location")
        if kind.endswith("_NODE") and kind not in QUERY_NODES:
            verb = kind.removesuffix("_QUERY_NODE").removesuffix("_NODE")
            raise _refusal(text, f"{_spoken(verb)} is not allowed.", where)
        if kind == "SHOW_REF" and not isinstance(node.get("query"), dict):
            if node.get("table_name") != '"tables"':
                raise _refusal(text, f"SHOW {node.get('table_name')} is not allowed.", where)
            used.update(known)
        if kind == "BASE_TABLE":
            name = str(node["table_name"])
            qualified = node.get("catalog_name") or node.get("schema_name") not in (
                "",
                None,
                "main",
            )
            if name.casefold() in ours and not qualified:
                used.add(ours[name.casefold()])
            elif qualified or name.casefold() not in named:
                raise _unknown_table(text, name, where, known)
        if kind == "TABLE_FUNCTION":
            _check_function(text, node.get("function") or {}, where, TABLE_FUNCTIONS)
        elif "function_name" in node:
            name = str(node["function_name"]).casefold()
            if name in REFUSED_FUNCTIONS:
                raise _refusal(text, f"The function {name} is not allowed.", where)
    return frozenset(used)


def _check_function(text: str, node: Any, where: Any, allowed: frozenset[str]) -> None:
    name = str(node.get("function_name", "")).casefold()
    if name not in allowed:
        raise _refusal(text, f"The table function {name} is not allowed.", where)


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    # Without recursion: a query may be nested deeper than Python's stack.
    waiting = [tree]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            yield item
            waiting += item.values()
        elif isinstance(item, list):
            waiting += item


def _common_tables(nodes: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for node in nodes:
        tables = node.get("cte_map")
        if isinstance(tables, dict):
            yield from tables.get("map") or ()


def _spoken(kind: str) -> str:
    return kind.replace("_", " ")


def _refusal(text: str, reason: str, where: Any, hint: str = _SELECT_ONLY) -> QueryFailed:
    line, column = _place(text, where)
    return QueryFailed(text, reason, line=line, column=column, hint=hint)


def _unknown_table(text: str, name: str, where: Any, known: Collection[str]) -> QueryFailed:
    near = nearest_names(name, sorted(known), count=1)
    hint = f"Did you mean {near[0]}?" if near else f"Known: {', '.join(sorted(known))}."
    return _refusal(text, f"There is no table {name}.", where, hint)


def _place(text: str, where: Any) -> tuple[int | None, int | None]:
    """Return line and column, from 1, of an offset in bytes."""
    data = text.encode()
    if not isinstance(where, int) or where > len(data):
        return None, None
    before = data[:where].decode(errors="ignore")
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1


def failure(text: str, error: duckdb.Error) -> QueryFailed:
    """Return DuckDB's error as ours, with the place it names."""
    message = str(error)
    # What follows is the query again, every form of the function, and advice on settings.
    reason = re.split(r"\n\s*(?:LINE \d|Candidate functions|Possible solutions)", message)[
        0
    ].strip()
    reason = re.sub(r"^[A-Z][A-Za-z ]* Error: ", "", reason)
    match = _POSITION.search(message)
    line = column = None
    if match is not None:
        line = int(match[1])
        shown = match[2]
        column = max(1, len(match[3]) - len(f"LINE {line}: ") + 1)
        # A long line is shown from `...` on; then the place within it is that of the piece.
        if shown.startswith("..."):
            rows = text.splitlines()
            start = rows[line - 1].find(shown.strip(".")) if line <= len(rows) else -1
            column = None if start < 0 else column - 3 + start
    hint = None
    if isinstance(error, duckdb.OutOfMemoryException):
        reason, hint = "The query needs more memory than it may use.", "Aggregate more, or LIMIT."
    return QueryFailed(text, reason, line=line, column=column, hint=hint)
