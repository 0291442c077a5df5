"""The kind `chart`, and the charts of any table."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.plans.kinds.conftest import Begin
from tests.plans.kinds.context import problems_of, step_of
from workbench.errors import ConfigError, StepFailed
from workbench.metrics.charts.plain import FORMS, plain_chart
from workbench.plans.kinds import chart as chart_kind
from workbench.plans.kinds import load_kinds

ROWS = [
    {"model": model, "n": n, "seconds": n * 0.5 + number, "text": "abc"[n % 3]}
    for number, model in enumerate(("toy", "other"))
    for n in range(6)
]
SPANS = [
    {"name": "load", "begin": "2026-01-01T00:00:00Z", "end": "2026-01-01T00:00:02Z"},
    {"name": "ask", "begin": "2026-01-01T00:00:02Z", "end": "2026-01-01T00:00:03Z"},
]
FIELDS: dict[str, dict[str, Any]] = {
    "line": {"x": "n", "y": "seconds", "color": "model"},
    "scatter": {"x": "seconds", "y": ["n", "seconds"]},
    "bar": {"x": "text", "y": "seconds", "color": "model"},
    "histogram": {"x": "seconds"},
    "box": {"x": "model", "y": "seconds"},
    "gantt": {"data": SPANS, "x": ["begin", "end"], "y": "name"},
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_a_figure(begin: Begin, form: str) -> None:
    """Each form draws its table, the same way every time, and is shown as plotly's JSON."""
    fields = {"data": ROWS, "chart": form, "heading": "Seconds", **FIELDS[form]}
    done = begin("chart", **fields).run()
    figure = done.outputs["figure"]
    assert figure["data"]
    assert done == begin("chart", **fields).run()
    shown = load_kinds()["chart"].mimebundle(done.outputs, fields)
    assert {"application/vnd.plotly.v1+json", "text/plain"} == set(shown)
    assert f"{form}: Seconds" == shown["text/plain"]
    assert [] == problems_of(step_of("chart", **fields))


def test_the_forms_of_kind_and_charts_agree() -> None:
    """The plan file names the forms that can be drawn."""
    assert FORMS == chart_kind.FORMS


def traces(**fields: Any) -> list[dict[str, Any]]:
    """Return the traces of a chart as plain data."""
    frame = fields.pop("frame", pd.DataFrame(ROWS))
    return json.loads(plain_chart(frame, **fields).to_json())["data"]


def values(array: Any) -> list[float]:
    """Return the numbers of plotly's binary form."""
    if isinstance(array, list):
        return array
    return np.frombuffer(base64.b64decode(array["bdata"]), dtype=array["dtype"]).tolist()


def test_bars_are_means_where_a_name_repeats() -> None:
    """Rows of one name become their mean, and the axis says so; without `y` they are counted."""
    found = traces(form="bar", x="model", y="seconds")
    assert (["toy", "other"], [1.25, 2.25]) == (found[0]["x"], values(found[0]["y"]))
    figure = plain_chart(pd.DataFrame(ROWS), form="bar", x="model", y="seconds")
    assert "mean of seconds" == figure.layout.yaxis.title.text
    assert [6.0, 6.0] == values(traces(form="bar", x="model")[0]["y"])


def test_a_box_holds_quartiles() -> None:
    """Only quartiles, fences, mean and what lies outside are stored."""
    frame = pd.DataFrame({"v": [*range(1, 10), 100]})
    box = traces(frame=frame, form="box", y="v")[0]
    assert ([3.25], [5.5], [7.75], [9.0], [[100.0]]) == (
        *(values(box[key]) for key in ("q1", "median", "q3", "upperfence")),
        box["y"],
    )


def test_a_histogram_counts_all() -> None:
    """Every value is in one bin; names are counted by name, moments on an axis of time."""
    frame = pd.DataFrame({"v": np.linspace(0, 1, 1000), "w": pd.date_range("2026", periods=1000)})
    assert 1000 == sum(values(traces(frame=frame, form="histogram", x="v")[0]["y"]))
    assert "date" == plain_chart(frame, form="histogram", x="w").layout.xaxis.type
    assert ["a", "b", "c"] == traces(form="histogram", x="text")[0]["x"]


@pytest.mark.parametrize("form", ["line", "scatter", "bar", "histogram", "box"])
def test_figures_stay_small(form: str) -> None:
    """A hundred thousand rows in thirty series make a figure of less than 100 kB."""
    rng = np.random.default_rng(7)
    frame = pd.DataFrame(
        {
            "x": rng.normal(size=100_000),
            "name": [f"{'long name ' * 5}{n % 500}" for n in range(100_000)],
            "y": rng.normal(size=100_000),
            "c": [f"series {n % 30}" for n in range(100_000)],
        }
    )
    across = "name" if form in ("bar", "box") else "x"
    color = None if form in ("bar", "box") else "c"
    figure = plain_chart(frame, form=form, x=across, y="y", color=color)
    assert len(figure.to_json()) < 100_000


def test_texts_of_the_data_are_no_markup() -> None:
    """Names that hold markup are shown as they are, and cut when they are long."""
    frame = pd.DataFrame({"a": ["<a href='javascript:x'>b</a>", "y" * 100], "n": [1, 2]})
    text = plain_chart(frame, form="bar", x="a", y="n", title="<b>t</b>").to_json()
    assert "<" not in json.loads(text)["layout"]["title"]["text"]
    assert "\\u003ca href" not in text and "<a href" not in text
    assert "y" * 61 not in text


def test_what_cannot_be_drawn_says_why(begin: Begin) -> None:
    """Missing columns, what is no table, and a figure of no use are told."""
    with pytest.raises(StepFailed, match=r"no column 'sec'\. It has model, n"):
        begin("chart", data=ROWS, chart="line", x="n", y="sec").run()
    with pytest.raises(StepFailed, match="no table"):
        begin("chart", data={"a": [1], "b": [1, 2]}, chart="line", x="a", y="b").run()
    with pytest.raises(ConfigError, match="needs moments"):
        plain_chart(pd.DataFrame(ROWS), form="gantt", x=["n", "n"], y="model")
    with pytest.raises(ConfigError, match="needs a column for 'y'"):
        plain_chart(pd.DataFrame(ROWS), form="line", x="n")
    empty = plain_chart(pd.DataFrame(ROWS[:0], columns=["n"]), form="histogram", x="n")
    assert "no rows" in empty.layout.annotations[0].text


def test_problems_of_charts() -> None:
    """Columns a form needs are asked for before anything is drawn."""
    lines = {"": 1, "chart": 2, "x": 3}
    assert [2] == [n for n, _ in problems_of(step_of("chart", chart="line", x="a", lines=lines))]
    gantt = step_of("chart", chart="gantt", x="a", y="b", lines=lines)
    assert [3] == [number for number, _ in problems_of(gantt)]
