"""What all charts share: layout, axes with units, colours of models, and the empty figure."""

from __future__ import annotations

import html
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from workbench.errors import ConfigError
from workbench.palette import MUTED, model_color, model_dash

Figure = go.Figure
"""The name for those that may not import plotly themselves."""

MAX_POINTS = 1200
"""Points of one figure, over all its lines: a saved one then takes under 100 kB."""

_LONGEST_LABEL = 60
_LARGEST_FLOAT32 = float(np.finfo("float32").max)
_GRID = "rgba(122,122,122,0.25)"


def figure(title: str, *, x: str = "", y: str = "", height: int = 320, **layout: Any) -> go.Figure:
    """Return a figure without traces; axis titles carry their units.

    Page and plot are transparent and texts are a grey that reads on white and on black, so that a
    saved figure follows the theme it is opened in.
    """
    axis = {
        "gridcolor": _GRID,
        "zeroline": False,
        "linecolor": _GRID,
        "ticks": "outside",
        "tickcolor": _GRID,
        "automargin": True,
    }
    result = go.Figure()
    result.update_layout(
        template="none",
        title={
            "text": title,
            "x": 0,
            "xref": "paper",
            "y": 1,
            "yanchor": "top",
            "pad": {"t": 12},
            "font": {"size": 15},
        },
        font={"color": MUTED, "size": 12, "family": "system-ui, sans-serif"},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        height=height,
        margin={"l": 56, "r": 16, "t": 76, "b": 48},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        hoverlabel={"namelength": -1},
        xaxis={**axis, "title": {"text": x}},
        yaxis={**axis, "title": {"text": y}},
        **layout,
    )
    return result


def empty_figure(title: str, reason: str = "Nothing was recorded yet.") -> go.Figure:
    """Return a figure that says in its middle why it shows nothing."""
    result = figure(title)
    result.update_xaxes(visible=False)
    result.update_yaxes(visible=False)
    result.add_annotation(
        text=reason, showarrow=False, x=0.5, y=0.5, xref="paper", yref="paper", font={"size": 14}
    )
    return result


def need(frame: pd.DataFrame, *columns: str) -> None:
    """Refuse a frame that lacks columns.

    Raises:
        ConfigError: Names what is missing and what is there.
    """
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise ConfigError(
            f"the frame has no column {', '.join(map(repr, missing))}.",
            key=missing[0],
            hint=f"It has {', '.join(map(str, frame.columns)) or 'none'}.",
        )


def label(value: object) -> str:
    """Return a text as plotly shows it unchanged: it takes some markup for its own."""
    text = " ".join(str(value).split())
    if len(text) > _LONGEST_LABEL:
        text = f"{text[: _LONGEST_LABEL - 1]}…"
    return html.escape(text, quote=False)


def by_model(frame: pd.DataFrame) -> Iterator[tuple[str, str, str, pd.DataFrame]]:
    """Yield name as it is drawn, colour, line style and rows of each model, by name.

    The colour is that of `model_digest` where the frame has it, so that one model under two names
    keeps its colour.
    """
    for name, rows in frame.groupby("model", sort=True, dropna=False):
        shown = "unknown model" if pd.isna(name) else str(name)
        identity = shown
        if "model_digest" in rows.columns:
            known = rows["model_digest"].dropna()
            identity = str(known.iloc[0]) if len(known) else shown
        yield label(shown), model_color(identity), model_dash(identity), rows


Array = np.ndarray[Any, np.dtype[Any]]


def times(values: pd.Series[Any] | Sequence[Any]) -> Array:
    """Return moments as milliseconds since 1970 UTC; on a date axis these cost half of texts."""
    stamps = pd.to_datetime(pd.Series(values), utc=True)
    whole: Array = stamps.astype("datetime64[ms, UTC]").astype("int64").to_numpy(dtype="float64")
    whole[stamps.isna().to_numpy()] = np.nan
    return whole


def floats(values: pd.Series[Any]) -> Array:
    """Return a column as floats; what is missing is NaN, which plotly leaves out."""
    column: Array = pd.to_numeric(values, errors="coerce").to_numpy(
        dtype="float64", na_value=np.nan
    )
    return column


def drawn(values: Array) -> Array:
    """Return values as they are drawn: seven digits are more than a screen shows."""
    return values.clip(-_LARGEST_FLOAT32, _LARGEST_FLOAT32).astype("float32")


def thin(
    frame: pd.DataFrame, *, x: str, y: str, points: int = MAX_POINTS
) -> tuple[pd.DataFrame, bool]:
    """Keep the first, last, least and greatest row of each of `points / 4` stretches (M4).

    The drawn line is the same as that of all the points at this width (Jugel et al., "M4: A
    Visualization-Oriented Time Series Data Aggregation", VLDB 2014).

    Args:
        frame: Sorted by `x`.

    Returns:
        The rows kept, in order, and whether any were left out.
    """
    if len(frame) <= points:
        return frame, False
    values = floats(frame[y])
    edges = np.linspace(0, len(frame), max(1, points // 4) + 1).astype(int)
    kept: set[int] = set()
    for low, high in itertools.pairwise(edges):
        part = values[low:high]
        kept |= {int(low), int(high) - 1}
        if not np.isnan(part).all():
            kept |= {int(low + np.nanargmin(part)), int(low + np.nanargmax(part))}
    return frame.iloc[sorted(kept)], True


def note(result: go.Figure, text: str) -> None:
    """Say something small at the top right, e.g. that points were left out."""
    result.add_annotation(
        text=text,
        showarrow=False,
        x=1,
        y=1,
        yshift=66,
        xref="paper",
        yref="paper",
        xanchor="right",
        yanchor="top",
        font={"size": 11},
    )


def as_bundle(result: go.Figure, *, description: str) -> Mapping[str, Any]:
    """Return a figure for `display(..., raw=True)`: plotly's mime type and a text in its place."""
    return {
        "application/vnd.plotly.v1+json": json.loads(result.to_json()),
        "text/plain": description,
    }
