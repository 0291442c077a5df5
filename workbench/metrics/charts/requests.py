"""Charts of requests: how long they took, how fast they were, and what failed."""

from __future__ import annotations

from typing import Any

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
from workbench.palette import BAD, GOOD, MUTED, WARN

# The parts of a request in the order they happen, with a colour that means the same everywhere.
PHASES: tuple[tuple[str, str, str], ...] = (
    ("queue_wait", "in the queue", MUTED),
    ("load_s", "loading", WARN),
    ("prompt_s", "reading the prompt", "#56B4E9"),
    ("generation_s", "generating", GOOD),
)

_AROUND_MS = 30 * 60 * 1000


def latency_over_time(frame: pd.DataFrame, *, title: str = "Latency") -> go.Figure:
    """Draw p50, p95 and p99 of the duration of requests over time, a line per model.

    The line is p95, its band reaches from p50 to p99.

    Args:
        frame: `bucket` (UTC moment), `model`, `p50`, `p95`, `p99` (seconds); `model_digest` and
            `requests` (count) are used where they are there.
    """
    need(frame, "bucket", "model", "p50", "p95", "p99")
    if frame.empty:
        return empty_figure(title)
    result = figure(title, y="seconds")
    points = MAX_POINTS // frame["model"].nunique(dropna=False)
    for name, color, dash, rows in by_model(frame.sort_values("bucket")):
        kept, cut = thin(rows, x="bucket", y="p95", points=points)
        if cut:
            note(result, "some moments were left out")
        moments = times(kept["bucket"])
        style = {"line": {"width": 0}, "hoverinfo": "skip", "showlegend": False, "mode": "lines"}
        shade = {"fill": "tonexty", "fillcolor": _faint(color)}
        group = {"legendgroup": name}
        result.add_scatter(x=moments, y=drawn(floats(kept["p50"])), **style, **group)
        result.add_scatter(x=moments, y=drawn(floats(kept["p99"])), **style, **shade, **group)
        result.add_scatter(
            x=moments,
            y=drawn(floats(kept["p95"])),
            hovertemplate=f"p95 %{{y:.3g}} s{_counted(kept)}",
            **_counts(kept),
            name=name,
            mode="lines+markers" if len(kept) < 60 else "lines",
            line={"color": color, "dash": dash, "width": 2},
            marker={"size": 5},
            **group,
        )
    result.update_xaxes(type="date", title={"text": "time (UTC)"})
    whole = times(frame["bucket"].dropna())
    if len(whole) and whole.min() == whole.max():
        # Around one moment alone plotly draws an axis of milliseconds.
        result.update_xaxes(range=[whole[0] - _AROUND_MS, whole[0] + _AROUND_MS])
    result.update_yaxes(rangemode="tozero", title={"text": "seconds (p95; band p50 to p99)"})
    return result


def speed_against_latency(
    frame: pd.DataFrame, *, title: str = "First token and speed"
) -> go.Figure:
    """Draw the time to the first token against tokens per second; the size is memory.

    Args:
        frame: `model`, `ttft_s` (seconds), `tokens_per_s`; `vram_bytes` (bytes) gives the size
            where it is known, `model_digest` the colour.
    """
    need(frame, "model", "ttft_s", "tokens_per_s")
    rows = frame.dropna(subset=["ttft_s", "tokens_per_s"])
    if rows.empty:
        return empty_figure(title, "No request with both a first token and a speed.")
    result = figure(title, x="time to first token (seconds)", y="tokens per second")
    sizes = floats(rows["vram_bytes"]) if "vram_bytes" in rows else np.full(len(rows), np.nan)
    largest = np.nanmax(sizes) if np.isfinite(sizes).any() else 0.0
    shown = rows.assign(_bytes=sizes)
    cut = len(shown) > 2 * MAX_POINTS
    if cut:
        shown = shown.sample(2 * MAX_POINTS, random_state=0)
        note(result, f"a sample of {2 * MAX_POINTS:,} of {len(rows):,} requests")
    for name, color, _, part in by_model(shown):
        memory = floats(part["_bytes"])
        diameters = 8 + 22 * np.sqrt(np.where(np.isnan(memory), 0.0, memory) / (largest or 1.0))
        result.add_scatter(
            x=drawn(floats(part["ttft_s"])),
            y=drawn(floats(part["tokens_per_s"])),
            mode="markers",
            name=name,
            marker={
                "color": color,
                "size": drawn(diameters),
                "opacity": 0.65,
                "line": {"width": 1, "color": color},
            },
            customdata=drawn(memory / 1e9),
            hovertemplate=(
                "%{x:.3g} s to the first token<br>%{y:.4g} tokens/s<br>%{customdata:.3g} GB"
            ),
        )
    result.update_xaxes(rangemode="tozero")
    result.update_yaxes(rangemode="tozero")
    return result


def phases_per_request(frame: pd.DataFrame, *, title: str = "Where the time went") -> go.Figure:
    """Draw each request as one bar of its parts: queue, load, prompt, generation.

    Args:
        frame: `ts` (UTC moment), `model`, `queue_wait`, `load_s`, `prompt_s`, `generation_s`
            (seconds; what is missing is not drawn).  The last 100 rows are shown.
    """
    need(frame, "ts", "model", *(column for column, _, _ in PHASES))
    if frame.empty:
        return empty_figure(title)
    rows = frame.sort_values("ts").tail(100)
    moments = pd.to_datetime(rows["ts"], utc=True).dt.strftime("%H:%M:%S")
    labels = np.column_stack([moments.to_numpy(), rows["model"].fillna("unknown model").map(label)])
    result = figure(title, x="requests, the newest at the right", y="seconds", barmode="stack")
    for column, name, color in PHASES:
        result.add_bar(
            x=np.arange(len(rows)),
            y=floats(rows[column]),
            name=name,
            marker={"color": color},
            customdata=labels,
            hovertemplate=(
                f"%{{customdata[0]}} %{{customdata[1]}}<br>{name} %{{y:.3g}} s<extra></extra>"
            ),
        )
    if len(frame) > 100:
        note(result, f"the last 100 of {len(frame):,}")
    result.update_xaxes(showticklabels=False, showgrid=False)
    return result


def tokens_and_errors(frame: pd.DataFrame, *, title: str = "Tokens and errors") -> go.Figure:
    """Draw the tokens of each run, and beside them the requests that failed.

    Args:
        frame: `run` (its id or name), `input_tokens`, `output_tokens`, `errors` (counts).
    """
    need(frame, "run", "input_tokens", "output_tokens", "errors")
    if frame.empty:
        return empty_figure(title, "No runs were recorded yet.")
    rows = frame.tail(60)
    names = rows["run"].map(label)
    result = figure(title, x="run", y="tokens", barmode="stack")
    for column, name, color in (
        ("input_tokens", "input tokens", "#56B4E9"),
        ("output_tokens", "output tokens", "#0072B2"),
    ):
        result.add_bar(x=names, y=floats(rows[column]), name=name, marker={"color": color})
    failed = floats(rows["errors"])
    some = failed > 0
    result.add_scatter(
        x=names[some],
        y=failed[some],
        yaxis="y2",
        mode="markers",
        name="failed requests",
        marker={"color": BAD, "symbol": "x", "size": 9},
    )
    most = np.nanmax(failed) if np.isfinite(failed).any() else 0.0
    result.update_layout(
        yaxis2={
            "title": {"text": "failed requests"},
            "overlaying": "y",
            "side": "right",
            "range": [0, max(1.0, most * 1.2)],
            "dtick": max(1, round(most / 4)),
            "showgrid": False,
            "automargin": True,
        }
    )
    result.update_xaxes(type="category", showgrid=False)
    return result


def token_gaps(frame: pd.DataFrame, *, title: str = "Gaps between tokens") -> go.Figure:
    """Draw what share of the gaps between tokens is shorter than a time, a line per model.

    Args:
        frame: `model`, `gap_s` (seconds between two pieces of an answer).
    """
    need(frame, "model", "gap_s")
    rows = frame.dropna(subset=["gap_s"])
    if rows.empty:
        return empty_figure(title, "No gaps between tokens were recorded.")
    result = figure(title, x="gap (milliseconds, logarithmic)", y="share of gaps (%)")
    shares = np.linspace(0.0, 1.0, 201)
    for name, color, dash, part in by_model(rows):
        # A gap of 0 has no place on a logarithmic axis; two pieces of one read are that close.
        gaps = np.maximum(np.quantile(floats(part["gap_s"]), shares) * 1000.0, 0.01)
        result.add_scatter(
            x=drawn(gaps),
            y=drawn(shares * 100.0),
            mode="lines",
            name=f"{name} ({len(part):,})",
            line={"color": color, "dash": dash, "width": 2, "shape": "hv"},
            hovertemplate="%{y:.0f} % within %{x:.3g} ms",
        )
    result.update_xaxes(type="log")
    result.update_yaxes(range=[0, 101])
    return result


def _counts(rows: pd.DataFrame) -> dict[str, Any]:
    return {"customdata": drawn(floats(rows["requests"]))} if "requests" in rows else {}


def _counted(rows: pd.DataFrame) -> str:
    return "<br>%{customdata:.0f} requests" if "requests" in rows else ""


def _faint(color: str) -> str:
    red, green, blue = (int(color[at : at + 2], 16) for at in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.16)"
