"""Charts of any table: a frame, the names of its columns, and a form; pure.

The figures are small enough to be saved: long series are thinned, histograms and boxes hold counts
and quartiles only.  Names and texts of the data are shown as they are, never as markup.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from workbench.errors import ConfigError
from workbench.metrics.charts.layout import (
    MAX_POINTS,
    Array,
    drawn,
    empty_figure,
    figure,
    floats,
    label,
    need,
    note,
    thin,
    times,
)
from workbench.metrics.charts.spans import gantt
from workbench.palette import COLORS, model_color, model_dash

FORMS = ("line", "bar", "scatter", "histogram", "box", "gantt")

_MOST_SERIES = 24
_MOST_CATEGORIES = 200
_MOST_BINS = 60
_MOST_OUTLIERS = 40


def plain_chart(
    frame: pd.DataFrame,
    *,
    form: str,
    x: str | Sequence[str] | None = None,
    y: str | Sequence[str] | None = None,
    color: str | None = None,
    title: str = "",
) -> go.Figure:
    """Draw a table.

    Args:
        frame: Any columns: numbers, moments (drawn in UTC) or texts.
        form: `line`, `scatter`: `x` against each of `y`.  `bar`: each of `y` for each `x`, their
            mean where `x` comes more than once, or the number of rows without `y`.  `histogram`:
            how often the values of `x` come.  `box`: quartiles of each of `y`, for each `x` if
            there is one.  `gantt`: `x` names the columns of begin and end, `y` that of the names.
        x: Name of a column; for `gantt` two.
        y: Name of a column, or several.
        color: Column whose values are series of their own.
        title: Above the chart.

    Raises:
        ConfigError: When the form is unknown, a column is missing, or one has to be named.
    """
    if form not in FORMS:
        raise ConfigError(f"there is no chart {form!r}.", key="chart", hint=f"{', '.join(FORMS)}.")
    xs, ys = _names(x), _names(y)
    need(frame, *xs, *ys, *_names(color))
    _check(form, xs, ys)
    shown = label(title)
    if frame.empty:
        return empty_figure(shown, "There are no rows.")
    if form == "gantt":
        return _gantt(frame, xs, ys[0], color, shown)
    column = xs[0] if xs else None
    draw: Mapping[str, Callable[..., go.Figure]] = {
        "line": _points,
        "scatter": _points,
        "bar": _bars,
        "histogram": _histogram,
        "box": _boxes,
    }
    series = list(_series(frame, ys if form != "histogram" else xs, color))
    result = draw[form](frame, series[:_MOST_SERIES], form=form, x=column, title=shown)
    if len(series) > _MOST_SERIES:
        note(result, f"the first {_MOST_SERIES} of {len(series)} series")
    result.update_layout(showlegend=len(series) > 1)
    return result


@dataclass(frozen=True, slots=True)
class _Line:
    """What is drawn as one: its name, the column of its values, its rows and its colour."""

    name: str
    column: str | None
    rows: pd.DataFrame
    color: str
    dash: str = "solid"


def _names(value: str | Sequence[str] | None) -> list[str]:
    if value is None:
        return []
    return [value] if isinstance(value, str) else list(value)


def _check(form: str, xs: list[str], ys: list[str]) -> None:
    wanted = {"gantt": (2, 1), "histogram": (1, 0), "box": (0, 1), "bar": (1, 0)}.get(form, (1, 1))
    for name, found, least in (("x", xs, wanted[0]), ("y", ys, wanted[1])):
        if len(found) < least:
            what = "two columns: begin and end" if least == 2 else "a column"
            raise ConfigError(f"a {form} chart needs {what} for {name!r}.", key=name)


def _series(frame: pd.DataFrame, columns: list[str], color: str | None) -> Iterator[_Line]:
    """Yield what is drawn apart, by name; a model has its own colour, as in every other chart."""
    values: list[str | None] = [*columns] or [None]
    paint = itertools.cycle(COLORS)
    if color is None:
        for column in values:
            yield _Line(label(column or "rows"), column, frame, next(paint))
        return
    texts = frame[color].astype(object).where(frame[color].notna(), "missing").map(str)
    for name, rows in frame.groupby(texts, sort=True):
        for column in values:
            shown = label(name) if len(values) < 2 else f"{label(name)}, {label(column)}"
            if color == "model":
                yield _Line(shown, column, rows, model_color(str(name)), model_dash(str(name)))
            else:
                yield _Line(shown, column, rows, next(paint))


def _axis(values: pd.Series[Any]) -> tuple[Any, str]:
    """Return values as they are drawn, and the type of their axis."""
    if pd.api.types.is_datetime64_any_dtype(values):
        return times(values), "date"
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        return floats(values), "linear"
    return _labels(values), "category"


def _labels(values: pd.Series[Any]) -> list[str]:
    return [
        label("missing" if missing else value)
        for value, missing in zip(values, values.isna(), strict=True)
    ]


def _titles(frame: pd.DataFrame, x: str | None, series: Sequence[_Line]) -> tuple[str, str]:
    columns = dict.fromkeys(line.column for line in series if line.column is not None)
    across = label(x) if x else ""
    if x and pd.api.types.is_datetime64_any_dtype(frame[x]):
        across += " (UTC)"
    return across, label(next(iter(columns))) if len(columns) == 1 else ""


def _points(
    frame: pd.DataFrame, series: Sequence[_Line], *, form: str, x: str, title: str
) -> go.Figure:
    across, up = _titles(frame, x, series)
    result = figure(title, x=across, y=up)
    each, cut = max(8, MAX_POINTS // len(series)), False
    kind = "linear"
    for line in series:
        column, rows = line.column, line.rows
        assert column is not None
        if form == "line":
            ordered = rows.sort_values(x, kind="stable")
            kept, left = thin(ordered, x=x, y=column, points=each)
        else:
            left = len(rows) > each
            kept = rows.iloc[np.unique(np.linspace(0, len(rows) - 1, each).astype(int))]
            kept = kept if left else rows
        cut = cut or left
        places, kind = _axis(kept[x])
        result.add_scatter(
            x=places,
            y=drawn(floats(kept[column])),
            name=line.name,
            mode="lines" if form == "line" else "markers",
            line={"color": line.color, "dash": line.dash, "width": 2},
            marker={"color": line.color, "size": 7, "opacity": 0.75},
        )
    if cut:
        note(result, f"thinned, of {len(frame):,} rows")
    result.update_xaxes(type=kind)
    return result


def _bars(
    frame: pd.DataFrame, series: Sequence[_Line], *, form: str, x: str, title: str
) -> go.Figure:
    across, up = _titles(frame, x, series)
    means = False
    counted = all(line.column is None for line in series)
    result = figure(title, x=across, y="rows" if counted else up, barmode="group")
    order = list(dict.fromkeys(_labels(frame[x])))
    for line in series:
        column, rows = line.column, line.rows
        groups = pd.Series(_labels(rows[x]), index=rows.index)
        if column is None:
            heights = groups.groupby(groups, sort=False).size().astype("float64")
        else:
            values = pd.Series(floats(rows[column]), index=rows.index)
            heights = values.groupby(groups, sort=False).mean()
            means = means or bool(groups.duplicated().any())
        heights = heights.head(_MOST_CATEGORIES)
        result.add_bar(
            x=list(heights.index),
            y=drawn(heights.to_numpy()),
            name=line.name,
            marker={"color": line.color, "line": {"width": 0}},
        )
    if means:
        result.update_yaxes(title={"text": f"mean of {up}" if up else "mean"})
    if len(order) > _MOST_CATEGORIES:
        note(result, f"the first {_MOST_CATEGORIES} of {len(order):,}")
    shown = order[:_MOST_CATEGORIES]
    result.update_xaxes(type="category", categoryorder="array", categoryarray=shown)
    result.update_yaxes(rangemode="tozero")
    return result


def _histogram(
    frame: pd.DataFrame, series: Sequence[_Line], *, form: str, x: str, title: str
) -> go.Figure:
    places, kind = _axis(frame[x])
    if kind == "category":
        counted = [replace(line, column=None) for line in series]
        return _bars(frame, counted, form="bar", x=x, title=title)
    result = figure(title, x=_titles(frame, x, series)[0], y="rows", barmode="overlay", bargap=0)
    known = places[np.isfinite(places)]
    if not len(known):
        return empty_figure(title, "There are no values.")
    bins = min(_MOST_BINS, len(np.histogram_bin_edges(known, bins="auto")) - 1)
    edges = np.histogram_bin_edges(known, bins=max(1, bins))
    for line in series:
        values: Array = _axis(line.rows[x])[0]
        counts, _ = np.histogram(values[np.isfinite(values)], bins=edges)
        result.add_bar(
            x=(edges[:-1] + edges[1:]) / 2,
            y=counts,
            width=np.diff(edges),
            name=line.name,
            opacity=1.0 if len(series) == 1 else 0.6,
            marker={"color": line.color, "line": {"width": 0}},
        )
    result.update_xaxes(type=kind)
    result.update_yaxes(rangemode="tozero")
    return result


def _boxes(
    frame: pd.DataFrame, series: Sequence[_Line], *, form: str, x: str | None, title: str
) -> go.Figure:
    across, up = _titles(frame, x, series)
    result = figure(title, x=across, y=up, boxmode="group")
    for line in series:
        name, column, rows = line.name, line.column, line.rows
        assert column is not None
        groups = _labels(rows[x]) if x else [name] * len(rows)
        parts = list(pd.Series(floats(rows[column])).groupby(groups, sort=False))
        found = [(str(group), _box(part)) for group, part in parts[:_MOST_CATEGORIES]]
        boxes = [(group, box) for group, box in found if box is not None]
        result.add_box(
            x=[group for group, _ in boxes],
            **{key: [box[key] for _, box in boxes] for key in _BOX},
            y=[box["outliers"] for _, box in boxes],
            name=name,
            boxpoints="outliers",
            marker={"color": line.color, "size": 4},
        )
    result.update_xaxes(type="category")
    return result


_BOX = ("lowerfence", "q1", "median", "q3", "upperfence", "mean")


def _box(values: pd.Series[Any]) -> dict[str, Any] | None:
    """Return quartiles (linear), fences at 1.5 times their distance (Tukey), and what is outside.

    Of many values outside, the farthest are kept.
    """
    known = np.sort(values.dropna().to_numpy(dtype="float64"))
    if not len(known):
        return None
    low, middle, high = np.quantile(known, [0.25, 0.5, 0.75])
    reach = 1.5 * (high - low)
    within = known[(known >= low - reach) & (known <= high + reach)]
    outside = known[(known < low - reach) | (known > high + reach)]
    half = _MOST_OUTLIERS // 2
    if len(outside) > _MOST_OUTLIERS:
        outside = np.concatenate([outside[:half], outside[-half:]])
    return {
        "lowerfence": float(within[0]),
        "q1": float(low),
        "median": float(middle),
        "q3": float(high),
        "upperfence": float(within[-1]),
        "mean": float(known.mean()),
        "outliers": [float(value) for value in outside],
    }


def _gantt(frame: pd.DataFrame, xs: list[str], y: str, color: str | None, title: str) -> go.Figure:
    for name in xs[:2]:
        if pd.api.types.is_numeric_dtype(frame[name]):
            raise ConfigError(
                f"column {name!r} holds numbers; a gantt chart needs moments.", key="x"
            )
    rows = pd.DataFrame(
        {
            "name": _labels(frame[y]),
            "start": pd.to_datetime(frame[xs[0]].to_numpy(), utc=True),
            "end": pd.to_datetime(frame[xs[1]].to_numpy(), utc=True),
            "status": _labels(frame[color]) if color else "done",
        }
    )
    result = (
        gantt(rows, title=title)
        if color in (None, "status")
        else gantt(rows.rename(columns={"status": "model"}), by="model", title=title)
    )
    result.update_layout(showlegend=color is not None)
    return result
