"""Charts of what happened when: the turns of a dialogue, the steps of a plan."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from workbench.metrics.charts.layout import (
    empty_figure,
    figure,
    label,
    need,
    note,
    times,
)
from workbench.palette import BAD, GOOD, MUTED, WARN, model_color

STATUS_COLORS = {"ok": GOOD, "done": GOOD, "running": "#56B4E9", "waiting": WARN, "error": BAD}
STATUS_COLORS |= {"failed": BAD, "cancelled": MUTED, "blocked": MUTED, "lost": BAD}

_MOST = 400


def gantt(frame: pd.DataFrame, *, by: str = "status", title: str = "What ran when") -> go.Figure:
    """Draw spans as bars over time, one line per name, the first at the top.

    Args:
        frame: `name`, `start`, `end` (UTC moments; a missing end is still running) and the column
            `by`.
        by: What the colour tells: `status`, or `model`.
    """
    need(frame, "name", "start", "end", by)
    begun = frame.dropna(subset=["start"])
    if begun.empty:
        return empty_figure(title, "No steps were recorded.")
    rows = begun.sort_values("start").tail(_MOST)
    rows = rows.assign(name=rows["name"].map(label))
    start, end = times(rows["start"]), times(rows["end"])
    last = np.nanmax(np.concatenate([start, end]))
    seconds = (np.where(np.isnan(end), last, end) - start) / 1000.0
    # The shortest span can still be seen, and found with the pointer.
    least = max(1.0, 0.004 * (last - np.nanmin(start)))
    rows["_start"], rows["_seconds"] = start, seconds
    rows["_length"] = np.maximum(seconds * 1000.0, least)
    lines = rows["name"].nunique()
    result = figure(title, x="time (UTC)", height=150 + 26 * min(lines, 60), barmode="overlay")
    for kind, part in rows.groupby(rows[by].fillna("unknown").astype(str), sort=True):
        color = STATUS_COLORS.get(kind, MUTED) if by == "status" else model_color(str(kind))
        result.add_bar(
            base=part["_start"].to_numpy(),
            x=part["_length"].to_numpy(),
            y=part["name"],
            orientation="h",
            name=label(kind),
            marker={"color": color, "line": {"width": 0}},
            customdata=part["_seconds"].to_numpy(),
            hovertemplate=f"%{{y}}: %{{customdata:.3g}} s, {label(kind)}<extra></extra>",
        )
    if len(begun) > _MOST:
        note(result, f"the last {_MOST} of {len(begun):,}")
    result.update_xaxes(type="date")
    order = list(dict.fromkeys(rows["name"]))
    result.update_yaxes(
        type="category", categoryorder="array", categoryarray=order, autorange="reversed"
    )
    return result
