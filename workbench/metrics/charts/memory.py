"""Charts of memory: what the models hold on each GPU, and how long loads take."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from workbench.metrics.charts.layout import (
    MAX_POINTS,
    by_model,
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
from workbench.palette import BAD, MUTED

_MARKS: tuple[tuple[str, str, str], ...] = (
    ("load", "loaded", "triangle-up"),
    ("unload", "unloaded", "triangle-down"),
    ("load_failed", "load failed", "x"),
)
_KINDS = (("cold", "circle"), ("warm", "circle-open"), ("not known", "x"))


def gpu_memory(
    samples: pd.DataFrame,
    events: pd.DataFrame | None = None,
    *,
    limit_bytes: float | None = None,
    title: str = "Memory of the models",
) -> go.Figure:
    """Draw the memory of each model as stacked areas over time, with marks of loads and unloads.

    Args:
        samples: `ts` (UTC moment), `model`, `bytes`; one row per moment and model.
            `model_digest` gives the colour where it is there.
        events: `ts`, `model`, `event` (`load`, `unload`, `load_failed`).
        limit_bytes: Memory of the device, drawn as a line.
    """
    need(samples, "ts", "model", "bytes")
    if samples.empty:
        return empty_figure(title, "No memory was sampled yet.")
    result = figure(title, y="gigabytes")
    wide = samples.pivot_table(index="ts", columns="model", values="bytes", aggfunc="max")
    wide = wide.sort_index()
    step = max(1, int(np.ceil(len(wide) * max(1, len(wide.columns)) / MAX_POINTS)))
    if step > 1:
        # The greatest of each stretch: a peak is what memory is watched for.
        wide = wide.groupby(np.arange(len(wide)) // step).max().set_index(wide.index[::step])
        note(result, f"the peak of every {step} samples")
    moments = times(pd.Series(wide.index))
    for name, color, _, rows in by_model(samples.dropna(subset=["model"])):
        result.add_scatter(
            x=moments,
            y=drawn(np.nan_to_num(floats(wide[rows["model"].iloc[0]])) / 1e9),
            name=name,
            stackgroup="memory",
            mode="lines",
            line={"width": 1, "color": color, "shape": "hv"},
            hovertemplate="%{y:.3g} GB",
        )
    if limit_bytes is not None:
        result.add_hline(
            y=limit_bytes / 1e9,
            line={"color": BAD, "dash": "dash", "width": 1},
            annotation={"text": "memory of the device", "font": {"size": 11}},
        )
    if events is not None and not events.empty:
        _mark(result, events)
    result.update_xaxes(type="date", title={"text": "time (UTC)"})
    result.update_yaxes(rangemode="tozero")
    result.update_layout(hovermode="x unified")
    return result


def _mark(result: go.Figure, events: pd.DataFrame) -> None:
    need(events, "ts", "model", "event")
    for event, name, symbol in _MARKS:
        rows = events[events["event"] == event].tail(200)
        if rows.empty:
            continue
        result.add_scatter(
            x=times(rows["ts"]),
            y=np.zeros(len(rows)),
            mode="markers",
            name=name,
            text=rows["model"].fillna("unknown model").map(label),
            hovertemplate=f"{name}: %{{text}}<extra></extra>",
            marker={
                "symbol": symbol,
                "size": 9,
                "color": BAD if event == "load_failed" else MUTED,
                "line": {"width": 1, "color": MUTED},
            },
        )


def load_times(frame: pd.DataFrame, *, title: str = "Load times") -> go.Figure:
    """Draw every load of each model, cold and warm apart.

    Cold is the first load since the file was in the memory of the machine; a warm one reads it from
    there.

    Args:
        frame: `model`, `seconds`, `cold` (true, false, or missing when it is not known).
    """
    need(frame, "model", "seconds", "cold")
    rows = frame.dropna(subset=["seconds"])
    if rows.empty:
        return empty_figure(title, "No model was loaded yet.")
    result = figure(title, x="seconds", y="", height=150 + 48 * rows["model"].nunique())
    told: set[str] = set()
    for name, color, _, part in by_model(rows):
        kinds = part["cold"].map({True: "cold", False: "warm"}).fillna("not known")
        for kind, symbol in _KINDS:
            chosen = part[kinds == kind]
            if not chosen.empty:
                _add_loads(result, chosen, name, color, kind, symbol, legend=kind not in told)
                told.add(kind)
    result.update_xaxes(rangemode="tozero")
    result.update_yaxes(type="category")
    return result


def _add_loads(
    result: go.Figure,
    rows: pd.DataFrame,
    name: str,
    color: str,
    kind: str,
    symbol: str,
    *,
    legend: bool,
) -> None:
    kept, _ = thin(rows.sort_values("seconds"), x="seconds", y="seconds", points=200)
    result.add_scatter(
        x=floats(kept["seconds"]),
        y=[name] * len(kept),
        mode="markers",
        name=kind,
        legendgroup=kind,
        showlegend=legend,
        marker={"color": color, "symbol": symbol, "size": 10, "opacity": 0.75},
        hovertemplate=f"{name}, {kind}: %{{x:.3g}} s<extra></extra>",
    )
    result.add_scatter(
        x=[float(np.median(floats(rows["seconds"])))],
        y=[name],
        mode="markers",
        legendgroup=kind,
        showlegend=False,
        marker={"color": color, "symbol": "line-ns-open", "size": 22},
        hovertemplate=f"{name}, median, {kind}: %{{x:.3g}} s<extra></extra>",
    )
