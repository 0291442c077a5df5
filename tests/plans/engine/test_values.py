"""Parameters and the bytes of notebooks: no kernel."""

from __future__ import annotations

import datetime
import enum
import json
import math
from typing import Any

import nbformat
import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from workbench.errors import ConfigError
from workbench.plans.engine.notebook import snapshot, to_bytes
from workbench.plans.engine.parameters import checked_values

_TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=30)


class _Colour(enum.IntEnum):
    RED = 3


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ((1, (2,)), [1, [2]]),
        (numpy.float64(0.5), 0.5),
        (_Colour.RED, 3),
        ({"a": (True, None)}, {"a": [True, None]}),
        (10**30, 10**30),
    ],
)
def test_values_become_plain(value: Any, expected: Any) -> None:
    """What has an exact form in JSON takes it, with no type of a library left."""
    found = checked_values({"v": value})["v"]
    assert (expected, type(expected)) == (found, type(found))


def test_no_number_stays_one() -> None:
    """NaN is a float that papermill knows to write."""
    assert math.isnan(checked_values({"v": float("nan")})["v"])


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({1, 2}, "v is not a JSON value: set"),
        ([b"ab"], r"v\[0\] is not a JSON value: bytes"),
        ({"at": datetime.date(2026, 1, 1)}, r"v\.at is not a JSON value: date"),
        ({2: "two"}, "its key 2 is no text"),
        (numpy.int64(2), "int64"),
    ],
)
def test_values_without_a_form_are_refused(value: Any, said: str) -> None:
    """A value that papermill would mangle, or fail on when it saves, is named with its place."""
    with pytest.raises(ConfigError, match=said):
        checked_values({"v": value})


@given(source=_TEXTS, stream=_TEXTS, html=_TEXTS, number=st.integers(-(2**60), 2**60))
def test_bytes_are_those_of_nbformat(source: str, stream: str, html: str, number: int) -> None:
    """A notebook is written as nbformat writes it, to the byte."""
    outputs = [
        new_output("stream", name="stdout", text=stream),
        new_output("display_data", data={"text/html": html, "application/json": {"n": [number]}}),
        new_output("error", ename="E", evalue=html, traceback=[stream]),
    ]
    notebook = new_notebook(
        cells=[new_markdown_cell(source), new_code_cell(source, outputs=outputs)],
        metadata={"papermill": {"parameters": {}, "empty": []}, "signature": "x"},
    )
    assert nbformat.writes(notebook) + "\n" == to_bytes(snapshot(notebook)).decode()


@pytest.mark.parametrize("value", [2**80, "\ud800", -(2**70)])
def test_what_the_fast_way_refuses_is_written_all_the_same(value: Any) -> None:
    """Big integers and lone surrogates take the slow way and are read back."""
    output = new_output("display_data", data={"application/json": {"v": value}})
    notebook = new_notebook(cells=[new_code_cell(outputs=[output])])
    found = json.loads(to_bytes(snapshot(notebook)))
    assert value == found["cells"][0]["outputs"][0]["data"]["application/json"]["v"]


def test_a_snapshot_is_not_reached_by_later_changes() -> None:
    """What happens after a snapshot is not in it."""
    output = new_output("stream", name="stdout", text="a")
    cell = new_code_cell("1", outputs=[output], metadata={"papermill": {"status": "running"}})
    notebook = new_notebook(cells=[cell])
    copy = snapshot(notebook)
    cell.metadata.papermill.status = "completed"
    output.text = "b"
    cell.outputs.append(output)
    found = json.loads(to_bytes(copy))["cells"][0]
    assert ("running", [["a"]]) == (
        found["metadata"]["papermill"]["status"],
        [out["text"] for out in found["outputs"]],
    )
