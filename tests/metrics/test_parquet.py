"""Frames as Parquet files: the same bytes for the same frame, and the same frame back."""

from __future__ import annotations

import datetime as dt
import decimal
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.errors import StoreError
from workbench.metrics.parquet import read_parquet, write_parquet

MOMENTS = ["2026-01-02T03:04:05.123456789", None, "1969-12-31T23:59:59.000000000"]
COLUMNS: dict[str, Any] = {
    **{kind: pd.Series([1, 0, 3], dtype=kind) for kind in ("int8", "int64", "uint8", "uint64")},
    "big": pd.Series([2**64 - 1, 0, 1], dtype="uint64"),
    **{kind: pd.Series([1.5, np.nan, -0.0], dtype=kind) for kind in ("float32", "float64")},
    "infinite": pd.Series([np.inf, -np.inf, 1.0]),
    "bool": pd.Series([True, False, True]),
    **{kind: pd.Series([1, None, 3], dtype=kind) for kind in ("Int64", "UInt8", "Float64")},
    "boolean": pd.Series([True, None, False], dtype="boolean"),
    "str": pd.Series(["a\x00ä", None, "😀\u2028"], dtype="str"),
    "string": pd.Series(["a", None, ""], dtype="string"),
    "object texts": pd.Series(["a", None, "1"], dtype=object),
    "objects": pd.Series([{"b": [1, {"a": None}]}, None, "text"], dtype=object),
    "mixed": pd.Series([1, "1", 1.5], dtype=object),
    "empty": pd.Series([None, None, None], dtype=object),
    **{
        f"datetime {unit}": pd.to_datetime(pd.Series(MOMENTS, dtype="str")).astype(
            f"datetime64[{unit}]"
        )
        for unit in ("ns", "us", "ms", "s")
    },
    "zone": pd.to_datetime(pd.Series(MOMENTS, dtype="str")).dt.tz_localize("Asia/Tokyo"),
    "utc": pd.to_datetime(pd.Series(MOMENTS, dtype="str"), utc=True),
    "span": pd.to_timedelta(pd.Series([1, None, 10**15]), unit="ns"),
    "category": pd.Series(["b", None, "a"], dtype="category"),
    "ordered": pd.Series(pd.Categorical([3, 1, 3], categories=[3, 1], ordered=True)),
    'a "quoted" ; name': pd.Series([1, 2, 3]),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_types_are_kept(name: str, tmp_path: Path) -> None:
    """Each type comes back as it went, what is missing included."""
    frame = pd.DataFrame({name: COLUMNS[name]})
    write_parquet(frame, tmp_path / "a.parquet")
    pd.testing.assert_frame_equal(frame, read_parquet(tmp_path / "a.parquet"))


def test_the_same_frame_gives_the_same_bytes(tmp_path: Path) -> None:
    """Written twice, and written again after it was read, a frame is the same file."""
    frame = pd.DataFrame(COLUMNS)
    write_parquet(frame, tmp_path / "a.parquet")
    write_parquet(frame.copy(), tmp_path / "b.parquet")
    write_parquet(read_parquet(tmp_path / "a.parquet"), tmp_path / "c.parquet")
    first, second, third = ((tmp_path / f"{n}.parquet").read_bytes() for n in "abc")
    assert first == second
    assert first == third


def test_many_rows_give_the_same_bytes(tmp_path: Path) -> None:
    """A frame of several row groups keeps its order and its bytes; a late type is seen."""
    rows = 300_000
    texts = pd.Series([str(number % 977) for number in range(rows)], dtype=object)
    frame = pd.DataFrame({"n": range(rows), "late": texts})
    frame.loc[rows - 1, "late"] = None
    for name in "ab":
        write_parquet(frame, tmp_path / f"{name}.parquet")
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    pd.testing.assert_frame_equal(frame, read_parquet(tmp_path / "a.parquet"))


CELLS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**53), 2**53),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(),
    st.lists(st.text()),
)


@settings(max_examples=25)
@given(st.lists(st.tuples(CELLS, st.text()), max_size=6))
def test_anything_of_json_comes_back(rows: list[tuple[Any, str]]) -> None:
    """Cells of any JSON value, mixed, come back equal, and no rows at all do too."""
    import tempfile

    frame = pd.DataFrame(rows, columns=["a", "b"], dtype=object)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.parquet"
        write_parquet(frame, path)
        pd.testing.assert_frame_equal(frame, read_parquet(path))


def test_other_programs_see_plain_columns(tmp_path: Path) -> None:
    """DuckDB alone reads numbers, texts and moments as such."""
    write_parquet(pd.DataFrame(COLUMNS)[["int8", "str", "utc"]], tmp_path / "a.parquet")
    found = duckdb.execute(f"DESCRIBE FROM '{tmp_path / 'a.parquet'}'").fetchall()
    assert ["TINYINT", "VARCHAR", "TIMESTAMP_NS"] == [row[1] for row in found]


def test_a_file_of_others_is_read(tmp_path: Path) -> None:
    """A Parquet file that something else wrote is read as DuckDB reads it."""
    duckdb.execute(f"COPY (SELECT 1 AS a, 'x' AS b) TO '{tmp_path / 'o.parquet'}' (FORMAT parquet)")
    assert [{"a": 1, "b": "x"}] == read_parquet(tmp_path / "o.parquet").to_dict("records")


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (pd.DataFrame({"a": [1]}, index=["x"]), "reset_index"),
        (pd.DataFrame({1: [1]}), "must be different texts"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "must be different texts"),
        (pd.DataFrame(), "without columns"),
        (pd.DataFrame({"a": [{1, 2}]}), "no JSON value"),
        (pd.DataFrame({"a": [decimal.Decimal(1)]}), "no JSON value"),
        (pd.DataFrame({"a": [dt.date(2026, 1, 1)]}), "no JSON value"),
        (pd.DataFrame({"a": pd.Series([1j])}), "cannot be stored"),
        (pd.DataFrame({"a": pd.period_range("2026", periods=1)}), "no JSON value"),
    ],
)
def test_what_cannot_be_stored_is_refused(frame: pd.DataFrame, said: str, tmp_path: Path) -> None:
    """What would come back changed is refused with its column, and nothing is written."""
    with pytest.raises(StoreError, match=said):
        write_parquet(frame, tmp_path / "a.parquet")
    assert not (tmp_path / "a.parquet").exists()


def test_what_is_no_parquet_says_so(tmp_path: Path) -> None:
    """A missing and a broken file are errors of ours with the path."""
    (tmp_path / "bad.parquet").write_bytes(b"nothing")
    for name in ("bad.parquet", "absent.parquet"):
        with pytest.raises(StoreError, match=name):
            read_parquet(tmp_path / name)
    with pytest.raises(StoreError, match="cannot be written"):
        write_parquet(pd.DataFrame({"a": [1]}), tmp_path / "no" / "a.parquet")
