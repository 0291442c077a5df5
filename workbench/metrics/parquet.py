"""A DataFrame as a Parquet file, byte for byte the same for the same frame, with its types kept.

Columns that hold anything but numbers, texts, truth values and moments are stored as JSON texts.
What pandas says about the types stands in the file's metadata (`workbench.columns`), so that other
readers see plain columns.  The index is not stored.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from workbench.errors import StoreError
from workbench.metrics.sources import quoted

if TYPE_CHECKING:
    import pandas as pd

_KEY = "workbench.columns"
_VERSION = 1


def write_parquet(frame: pd.DataFrame, path: Path) -> None:
    """Write a frame; the same frame gives the same bytes.

    Raises:
        StoreError: When the frame has an index of its own, column names that are no texts or not
            unique, values Parquet cannot hold, or the disk refuses.
    """
    import pandas as pd

    if not isinstance(frame.index, pd.RangeIndex):
        raise StoreError(
            "A frame with an index of its own cannot be stored.", hint="Use frame.reset_index()."
        )
    names = list(frame.columns)
    if not names:
        raise StoreError("A frame without columns cannot be stored.")
    if any(not isinstance(name, str) for name in names) or len(set(names)) < len(names):
        raise StoreError(f"The columns of a frame must be different texts, not {names!r}.")
    forms: list[dict[str, str]] = []
    stored = {}
    for name in names:
        column, form = _outside(frame[name])
        stored[f"c{len(forms)}"] = column
        forms.append({"name": name, **form})
    note = json.dumps({"v": _VERSION, "columns": forms}, ensure_ascii=False)
    chosen = ", ".join(f"c{i} AS {_name(name)}" for i, name in enumerate(names))
    try:
        with _connection() as connection:
            connection.execute(f"SET pandas_analyze_sample = {max(1, len(frame))}")
            connection.register("frame", pd.DataFrame(stored, index=pd.RangeIndex(len(frame))))
            connection.execute(
                f"COPY (SELECT {chosen} FROM frame) TO {quoted(str(path))} "
                f"(FORMAT parquet, COMPRESSION zstd, KV_METADATA {{{_name(_KEY)}: {quoted(note)}}})"
            )
    except (OSError, duckdb.Error) as exc:
        raise StoreError(f"The frame cannot be written to {path}: {exc}") from exc


def read_parquet(path: Path) -> pd.DataFrame:
    """Read a file as the frame that was written, or any other Parquet file as DuckDB reads it.

    Raises:
        StoreError: When it is not there, or no Parquet.
    """
    import pandas as pd

    file = quoted(str(path))
    try:
        with _connection() as connection:
            frame = connection.execute(f"FROM read_parquet({file}, hive_partitioning=false)").df()
            found = connection.execute(
                f"SELECT value FROM parquet_kv_metadata({file}) WHERE key = {quoted(_KEY)}::BLOB"
            ).fetchone()
    except (OSError, duckdb.Error) as exc:
        raise StoreError(f"{path} cannot be read: {exc}") from exc
    if found is None:
        return frame
    forms = json.loads(bytes(found[0]))["columns"]
    # By place: DuckDB renames columns whose names differ in case only.
    columns = [_inside(frame.iloc[:, place], form) for place, form in enumerate(forms)]
    result = pd.DataFrame(dict(enumerate(columns)), index=pd.RangeIndex(len(frame)))
    result.columns = pd.Index([form["name"] for form in forms])
    return result


def _connection() -> duckdb.DuckDBPyConnection:
    # One thread: with more, the order of row groups is a matter of luck.
    return duckdb.connect(
        config={"threads": 1, "preserve_insertion_order": True, "python_enable_replacements": False}
    )


def _name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _outside(column: pd.Series[Any]) -> tuple[pd.Series[Any], dict[str, str]]:
    """Return a column as it is stored, and how it comes back."""
    import pandas as pd

    kind = column.dtype
    if isinstance(kind, pd.CategoricalDtype):
        values = json.dumps(_texts(list(kind.categories), column.name), ensure_ascii=False)
        codes = column.cat.codes.astype("int32")
        form = {"form": "category", "categories": values, "ordered": str(kind.ordered)}
        return codes, form | {"dtype": str(kind.categories.dtype)}
    if isinstance(kind, pd.DatetimeTZDtype):
        naive = column.dt.tz_convert("UTC").dt.tz_localize(None)
        return naive, {"form": "zone", "zone": str(kind.tz), "dtype": str(naive.dtype)}
    if isinstance(kind, pd.StringDtype):
        texts = column.astype(object).where(column.notna(), None)
        return texts, {"form": "text", "dtype": str(kind)}
    if kind.kind == "m":
        return column.astype("int64").where(column.notna()).astype("Int64"), {
            "form": "span",
            "dtype": str(kind),
        }
    if kind.kind in "biufM":
        return column, {"form": "plain", "dtype": str(kind)}
    if kind.kind == "O":
        present = [value for value in column if not _missing(value)]
        if all(isinstance(value, str) for value in present):
            return column.where(column.notna(), None), {"form": "text", "dtype": "object"}
        texts = pd.Series(_texts(list(column), column.name), dtype=object, index=column.index)
        return texts, {"form": "json", "dtype": "object"}
    raise StoreError(f"Column {column.name!r} has the type {kind}, which cannot be stored.")


def _inside(column: pd.Series[Any], form: dict[str, str]) -> pd.Series[Any]:
    """Return a stored column as it was."""
    import pandas as pd

    how, dtype = form["form"], form["dtype"]
    if how == "category":
        known = pd.Index([json.loads(t) for t in json.loads(form["categories"])])
        made = pd.Categorical.from_codes(
            column.to_numpy(), known.astype(dtype), ordered=form["ordered"] == "True"
        )
        return pd.Series(made, index=column.index)
    if how == "zone":
        moments = column.astype(dtype).dt.tz_localize("UTC")
        return moments.dt.tz_convert(form["zone"])
    if how == "span":
        return column.astype("Int64").astype(dtype)
    if how == "json":
        values = [None if _missing(text) else json.loads(text) for text in column]
        return pd.Series(values, dtype=object, index=column.index)
    if how == "text" and dtype == "object":
        texts = column.astype(object)
        return texts.where(texts.notna(), None)
    return column.astype(dtype)


def _texts(values: list[Any], column: object) -> list[str | None]:
    try:
        return [None if _missing(value) else _json(value) for value in values]
    except (TypeError, ValueError) as exc:
        raise StoreError(
            f"Column {column!r} holds what is no JSON value: {exc}.",
            hint="Use numbers, texts, moments, or lists and mappings of JSON values.",
        ) from exc


def _json(value: Any) -> str:
    if hasattr(value, "item") and not isinstance(value, str):
        value = value.item()
    return json.dumps(value, ensure_ascii=False, sort_keys=True, allow_nan=False)


def _missing(value: Any) -> bool:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return True
    return type(value).__name__ in ("NAType", "NaTType")
