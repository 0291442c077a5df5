"""Charts of the metrics: pure functions from a DataFrame to a plotly Figure.

Each takes a frame whose columns its docstring names, with units, and asks nobody for more.
A frame without rows gives a figure that says so.  Figures are plain (`go.Figure`), hold about a
thousand points and stay under 100 kB in a saved notebook; what has more points is reduced in SQL
first (`Metrics` does), or here by `thin`.
"""

from workbench.metrics.charts.layout import as_bundle, empty_figure, thin
from workbench.metrics.charts.memory import gpu_memory, load_times
from workbench.metrics.charts.requests import (
    latency_over_time,
    phases_per_request,
    speed_against_latency,
    token_gaps,
    tokens_and_errors,
)
from workbench.metrics.charts.spans import gantt

__all__ = [
    "as_bundle",
    "empty_figure",
    "gantt",
    "gpu_memory",
    "latency_over_time",
    "load_times",
    "phases_per_request",
    "speed_against_latency",
    "thin",
    "token_gaps",
    "tokens_and_errors",
]
