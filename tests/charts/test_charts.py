"""The charts: what they draw, in which units and colours, and what they do without data."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from tests.charts import frames
from workbench.errors import ConfigError
from workbench.metrics import charts
from workbench.palette import COLORS, model_color, model_dash

Draw = Callable[[pd.DataFrame], go.Figure]

DRAWN: dict[str, tuple[Draw, Callable[[], pd.DataFrame]]] = {
    "latency": (charts.latency_over_time, frames.latency),
    "speed": (charts.speed_against_latency, frames.requests),
    "phases": (charts.phases_per_request, frames.requests),
    "runs": (charts.tokens_and_errors, frames.runs),
    "memory": (charts.gpu_memory, lambda: frames.samples()[0]),
    "loads": (charts.load_times, frames.loads),
    "gaps": (charts.token_gaps, frames.gaps),
    "gantt": (charts.gantt, frames.spans),
}


@pytest.mark.parametrize("name", DRAWN)
def test_figure_of_nothing_says_so(name: str) -> None:
    """A frame without rows gives a figure with a sentence in its middle and no traces."""
    draw, make = DRAWN[name]
    result = draw(make().iloc[:0])
    assert 0 == len(result.data)
    assert 1 == len(result.layout.annotations)
    assert result.layout.annotations[0].text.endswith(".")


@pytest.mark.parametrize("name", DRAWN)
def test_axes_name_their_units(name: str) -> None:
    """Every axis that measures something has a title with its unit."""
    draw, make = DRAWN[name]
    result = draw(make())
    axes = [
        axis
        for axis in (result.layout.xaxis, result.layout.yaxis)
        if axis.type != "category" and axis.showticklabels is not False
    ]
    assert axes
    units = ("second", "token", "gigabyte", "UTC", "%", "requests")
    for axis in axes:
        assert any(unit in axis.title.text for unit in units), axis.title.text


@pytest.mark.parametrize("name", DRAWN)
def test_figure_in_a_saved_notebook_is_small(name: str) -> None:
    """A figure of a full frame takes under 100 kB as it is saved, and is no widget."""
    draw, make = DRAWN[name]
    frame = make()
    large = pd.concat([frame] * (60_000 // len(frame)), ignore_index=True)
    if name == "latency":
        large = frames.latency(hours=24 * 365)
    bundle = charts.as_bundle(draw(large), description=name)
    size = len(json.dumps(bundle))
    assert "application/vnd.plotly.v1+json" in bundle
    assert size < 100_000


@pytest.mark.parametrize("name", DRAWN)
def test_missing_column_is_named(name: str) -> None:
    """A frame without a column that is needed is refused, with the column and those it has."""
    draw, make = DRAWN[name]
    frame = make()
    with pytest.raises(ConfigError) as caught:
        draw(frame.drop(columns=[frame.columns[1]]))
    assert repr(frame.columns[1]) in caught.value.message
    assert frame.columns[0] in str(caught.value.hint)


def test_model_has_one_color_everywhere() -> None:
    """A model is drawn in the colour its digest gives, in every chart and under every name."""
    frame = frames.requests().assign(model_digest="sha256:1", model="a")
    speed = charts.speed_against_latency(frame)
    loads = charts.load_times(frames.loads().assign(model_digest="sha256:1", model="b"))
    expected = model_color("sha256:1")
    assert expected == speed.data[0].marker.color
    assert {expected} == {trace.marker.color for trace in loads.data}


def test_names_are_texts_not_markup() -> None:
    """Plotly shows `<b>` of a model's, step's or run's name as it was written, in every chart."""
    name = "<b>m</b> <a href='x'>&amp;"
    shown = "&lt;b&gt;m&lt;/b&gt; &lt;a href='x'&gt;&amp;amp;"
    for draw, make in DRAWN.values():
        frame = make().head(40)
        named = [column for column in ("model", "name", "run", "status") if column in frame]
        text = json.dumps(draw(frame.assign(**dict.fromkeys(named, name))).to_dict(), default=list)
        assert "<b>" not in text and "<a " not in text
        assert json.dumps(shown)[1:-1] in text
    samples, events = frames.samples()
    marked = charts.gpu_memory(samples, events.assign(model=name))
    texts = [trace.text for trace in marked.data if trace.text is not None]
    assert {shown} == set(np.concatenate(texts))


def test_what_is_too_great_to_draw_is_drawn_at_the_end() -> None:
    """A duration of 1e308 seconds, of a backend that is wrong, does not spoil the figure."""
    frame = frames.requests(4).assign(tokens_per_s=[1.0, 1e308, -1e308, np.nan])
    result = charts.speed_against_latency(frame.assign(model="a"))
    assert [3, 1] == [np.isfinite(result.data[0].y).sum(), len(result.data)]


def test_what_never_began_has_no_bar() -> None:
    """Spans without a beginning are left out; without any there is nothing to draw."""
    frame = frames.spans()
    frame.loc[frame.index[0], "start"] = pd.NaT
    drawn = sum(len(trace.y) for trace in charts.gantt(frame).data)
    assert len(frame) - 1 == drawn
    assert 0 == len(charts.gantt(frame.assign(start=pd.NaT)).data)


def test_colors_and_lines_tell_models_apart() -> None:
    """Many models share colours, but then their lines differ."""
    looks = {(model_color(f"m{n}"), model_dash(f"m{n}")) for n in range(2000)}
    assert len(COLORS) * 4 == len(looks)


def test_latency_draws_p95_in_seconds() -> None:
    """The line of a model is its p95, as it is in the frame."""
    frame = frames.latency()
    result = charts.latency_over_time(frame)
    line = next(trace for trace in result.data if trace.name == "qwen3:4b")
    expected = frame[frame["model"] == "qwen3:4b"]["p95"].to_numpy()
    np.testing.assert_allclose(np.asarray(line.y), expected, rtol=1e-6)


def test_latency_of_one_moment_has_an_axis_of_an_hour() -> None:
    """A single bucket stands in the middle of an hour, not between milliseconds."""
    frame = frames.latency()
    moment = frame["bucket"].iloc[0]
    axis = charts.latency_over_time(frame[frame["bucket"] == moment]).layout.xaxis
    middle = pd.Timestamp(moment).timestamp() * 1000
    assert (middle - 1_800_000, middle + 1_800_000) == tuple(axis.range)
    assert charts.latency_over_time(frame).layout.xaxis.range is None


def test_missing_values_stay_missing() -> None:
    """What was not measured is not drawn as 0."""
    frame = frames.requests(4).assign(queue_wait=[0.5, np.nan, None, 0.25])
    result = charts.phases_per_request(frame)
    queued = next(trace for trace in result.data if trace.name == "in the queue")
    np.testing.assert_array_equal([0.5, np.nan, np.nan, 0.25], np.asarray(queued.y))


def test_memory_marks_loads_and_the_limit() -> None:
    """Loads, unloads and failed loads are marked, and the device's memory is a line."""
    samples, events = frames.samples()
    result = charts.gpu_memory(samples, events, limit_bytes=12e9)
    names = {trace.name for trace in result.data}
    assert {"loaded", "unloaded", "load failed"} <= names
    assert 12.0 == result.layout.shapes[0].y0


def test_memory_keeps_the_peak_when_thinned() -> None:
    """A short peak is in the figure, however many samples there are."""
    moments = pd.date_range(frames.START, periods=50_000, freq="s")
    samples = pd.DataFrame({"ts": moments, "model": "a", "bytes": 1e9})
    samples.loc[31_234, "bytes"] = 7e9
    result = charts.gpu_memory(samples)
    assert 7.0 == max(result.data[0].y)
    assert len(result.data[0].y) <= 1200


def test_thin_keeps_extremes_and_order() -> None:
    """Thinning keeps first, last, least and greatest rows, in their order."""
    frame = pd.DataFrame({"x": range(100_000), "y": np.sin(np.arange(100_000) / 500.0)})
    frame.loc[777, "y"] = 9.0
    frame.loc[888, "y"] = -9.0
    kept, cut = charts.thin(frame, x="x", y="y")
    assert cut
    assert len(kept) <= 1200
    assert {0, 777, 888, 99_999} <= set(kept["x"])
    assert kept["x"].is_monotonic_increasing


def test_gantt_shows_what_still_runs() -> None:
    """A span without an end reaches to the last moment known, and the shortest can be seen."""
    result = charts.gantt(frames.spans())
    running = next(trace for trace in result.data if trace.name == "running")
    assert ["report"] == list(running.y)
    assert 0.0 == running.customdata[0]
    assert running.x[0] > 0


def test_gantt_begins_with_the_first() -> None:
    """The lines stand in the order in which their spans began."""
    result = charts.gantt(frames.spans())
    assert ("read", "draft", "check", "judge", "report") == result.layout.yaxis.categoryarray


def test_runs_without_errors_have_no_mark() -> None:
    """Only runs with failed requests are marked."""
    result = charts.tokens_and_errors(frames.runs())
    marks = next(trace for trace in result.data if trace.name == "failed requests")
    assert ["run 02", "run 06", "run 11"] == list(marks.x)
    assert [1.0, 4.0, 2.0] == list(marks.y)


def test_gaps_are_shares_of_all() -> None:
    """Half of the gaps are shorter than the median, in milliseconds."""
    result = charts.token_gaps(frames.gaps())
    line = next(trace for trace in result.data if trace.name.startswith("qwen3:4b"))
    median = np.median(frames.gaps().query("model == 'qwen3:4b'")["gap_s"]) * 1000
    assert pytest.approx(median) == line.x[100]
    assert 50.0 == line.y[100]
