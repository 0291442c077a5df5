"""The charts of an overview, by name, in the order they are shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workbench.metrics.overview import Overview

if TYPE_CHECKING:
    from workbench.metrics.charts.layout import Figure


_CROWD = 150
"""More points than these are drawn smaller, so that they do not hide each other."""


@dataclass(frozen=True, slots=True)
class Chart:
    """One chart.

    Attributes:
        title: What stands above it.
        tells: One sentence about what it shows, for those who cannot see it.
        tables: The tables it is drawn from.
        optional: Whether it is left out when there is nothing to draw.
    """

    title: str
    tells: str
    tables: tuple[str, ...]
    draw: Callable[[Overview], Figure]
    optional: bool = False


def _latency(overview: Overview) -> Figure:
    from workbench.metrics import charts

    return charts.latency_over_time(overview.latency())


def _speed(overview: Overview) -> Figure:
    from workbench.metrics import charts

    frame = overview.speed()
    figure = charts.speed_against_latency(frame)
    if len(frame) > _CROWD:
        figure.update_traces(marker={"sizeref": 2.2, "opacity": 0.5})
    return figure


def _phases(overview: Overview) -> Figure:
    from workbench.metrics import charts

    return charts.phases_per_request(overview.phases())


def _gaps(overview: Overview) -> Figure:
    from workbench.metrics import charts

    frame, medians = overview.gaps()
    figure = charts.token_gaps(frame)
    if figure.data and medians:
        figure.update_yaxes(title={"text": "share of requests (%)"})
        figure.update_xaxes(title={"text": "median gap (milliseconds, logarithmic)"})
    return figure


def _memory(overview: Overview) -> Figure:
    from workbench.metrics import charts

    held, events, limit_bytes = overview.memory()
    return charts.gpu_memory(held, events, limit_bytes=limit_bytes)


def _loads(overview: Overview) -> Figure:
    from workbench.metrics import charts

    return charts.load_times(overview.loads())


def _runs(overview: Overview) -> Figure:
    from workbench.metrics import charts

    return charts.tokens_and_errors(overview.runs())


def _steps(overview: Overview) -> Figure:
    from workbench.metrics import charts

    return charts.gantt(overview.spans())


CHARTS: Mapping[str, Chart] = {
    "latency": Chart(
        "Latency",
        "How long warm requests took over time: p95 as a line, p50 to p99 as a band, per model.",
        ("requests",),
        _latency,
    ),
    "phases": Chart(
        "Where the time went",
        "The last hundred requests as bars: queue, load, prompt, generation.",
        ("requests",),
        _phases,
    ),
    "speed": Chart(
        "First token and speed",
        "Time to the first token against tokens per second; the size of a point is memory.",
        ("requests",),
        _speed,
    ),
    "memory": Chart(
        "Memory of the models",
        "The memory each model held over time, with its loads and unloads.",
        ("gpu_samples", "model_events"),
        _memory,
    ),
    "gaps": Chart(
        "Gaps between tokens",
        "What share of the gaps between tokens, or of their medians, is shorter than a time.",
        ("requests",),
        _gaps,
    ),
    "loads": Chart(
        "Load times", "How long each load took, cold and warm.", ("model_events",), _loads
    ),
    "runs": Chart(
        "Tokens and errors of runs",
        "The tokens of each run, and its failed requests.",
        ("requests",),
        _runs,
        optional=True,
    ),
    "steps": Chart(
        "What ran when",
        "The steps, tools and cells of runs over time.",
        ("spans",),
        _steps,
        optional=True,
    ),
}
"""Name to chart."""
