"""Alerts: when they begin, when they end, and what the toml file may say."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.config import AlertRule, load_config
from workbench.errors import ConfigError
from workbench.server.recording.alerts import AlertBoard
from workbench.server.recording.histograms import GROWTH, SlidingHistogram, bucket_end, bucket_of

SLOW = AlertRule("slow", "p95", limit=2.0, window_s=60.0, min_requests=5)
FAILING = AlertRule("failing", "error_share", limit=0.5, window_s=60.0, min_requests=4)


def feed(board: AlertBoard, durations: list[float], *, now: float = 0.0, ok: bool = True) -> list:
    changes = []
    for number, duration in enumerate(durations):
        moment = now + number * 0.01
        changes += board.request_ended(moment, model="m@b", duration_s=duration, ok=ok)
    return changes


def test_slow_requests_raise_an_alert_once() -> None:
    """A p95 over the limit begins one alert, and more slow requests do not begin it again."""
    board = AlertBoard((SLOW,))
    changes = feed(board, [3.0] * 20)
    assert [("began", "m@b")] == [(change.kind, change.subject) for change in changes]
    assert 3.0 == pytest.approx(changes[0].value, rel=0.1)
    assert changes == board.active


def test_few_requests_say_nothing() -> None:
    """Below the least number of requests no alert begins."""
    assert [] == feed(AlertBoard((SLOW,)), [30.0] * 4)


def test_alert_ends_when_its_window_is_empty() -> None:
    """An alert ends when the requests that began it are older than its window."""
    board = AlertBoard((SLOW,))
    feed(board, [3.0] * 5)
    assert [] == board.tick(30.0)
    assert ["ended"] == [change.kind for change in board.tick(70.0)]
    assert [] == board.active


def test_figure_on_the_limit_does_not_flicker() -> None:
    """An alert that holds ends only when its figure is clearly better than the limit."""
    board = AlertBoard((SLOW,))
    feed(board, [2.5] * 5)
    assert [] == feed(board, [1.9] * 200, now=50.0)
    assert [] == board.tick(62.0)
    assert ["ended"] == [change.kind for change in feed(board, [0.5] * 5000, now=63.0)]


def test_failed_requests_count_for_errors_only() -> None:
    """A failed request raises the share of errors and says nothing of the speed."""
    board = AlertBoard((SLOW, FAILING))
    changes = feed(board, [9.0] * 8, ok=False)
    assert ["failing"] == [change.rule.name for change in changes]
    assert 1.0 == changes[0].value


def test_rule_of_one_model_leaves_the_others_alone() -> None:
    """A rule that names a model does not watch another one."""
    board = AlertBoard((AlertRule("slow", "p95", 2.0, 60.0, model="x@b", min_requests=1),))
    assert [] == feed(board, [9.0] * 10)


def test_low_memory_and_its_hysteresis() -> None:
    """Low memory begins below the limit, ends clearly above it, and unknown changes nothing."""
    board = AlertBoard((AlertRule("memory", "low_memory", 0.1),))
    assert ["began"] == [change.kind for change in board.memory("gpu0", 0.08)]
    assert [] == board.memory("gpu0", None)
    assert [] == board.memory("gpu0", 0.105)
    assert ["ended"] == [change.kind for change in board.memory("gpu0", 0.2)]


def test_backend_down_and_back() -> None:
    """A backend that does not answer begins an alert with the reason; its answer ends it."""
    board = AlertBoard((AlertRule("down", "backend_down"),))
    (began,) = board.backend("far", "connection refused")
    assert "connection refused" in began.text
    assert [] == board.backend("far", "connection refused")
    assert ["ended"] == [change.kind for change in board.backend("far", None)]


@settings(deadline=None, max_examples=200)
@given(st.lists(st.floats(0.0, 1e5), min_size=1, max_size=60), st.floats(0.01, 1.0))
def test_quantile_is_close(values: list[float], share: float) -> None:
    """A quantile is at least the true one and at most one bucket above it."""
    histogram = SlidingHistogram(60.0)
    for value in values:
        histogram.add(0.0, duration_s=value, ok=True)
    ordered = sorted(values)
    true = next(v for n, v in enumerate(ordered, 1) if n >= share * len(values))
    found = histogram.quantile(0.0, share)
    assert found is not None
    assert true <= found * (1 + 1e-9)
    assert found <= max(0.001, true) * GROWTH * (1 + 1e-9)


@given(st.floats(0.0, 1e6))
def test_value_lies_in_its_bucket(value: float) -> None:
    """A value is not above the end of its bucket."""
    assert value <= bucket_end(bucket_of(value)) * (1 + 1e-9)


TOML = """
[[alert]]
name = "slow answers"
kind = "p95"
limit = 4
window = "10m"
model = "qwen3:4b@ollama"

[[alert]]
name = "gone"
kind = "backend_down"
"""


def read(folder: Path, text: str) -> tuple[AlertRule, ...]:
    (folder / "workbench.toml").write_text(text)
    return load_config(flags={"data_dir": str(folder)}, env={}).alerts


def test_rules_of_the_file(tmp_path: Path) -> None:
    """The file's entries become rules; without entries there are none."""
    slow = AlertRule("slow answers", "p95", 4.0, 600.0, "qwen3:4b@ollama")
    assert (slow, AlertRule("gone", "backend_down")) == read(tmp_path, TOML)
    assert () == read(tmp_path, "")


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ('[[alert]]\nname = "a"\nkind = "p59"', 3, "unknown alert kind"),
        ('[[alert]]\nkind = "p95"\nlimit = 1', 1, "needs name"),
        ('[[alert]]\nname = "a"\nkind = "p95"', 1, "limit of 'p95' is seconds"),
        ('[[alert]]\nname = "a"\nkind = "error_share"\nlimit = 5', 4, "a share from 0 to 1"),
        ('[[alert]]\nname = "a"\nkind = "p95"\nlimit = 1\nwindow = "soon"', 5, "window is"),
        ('[[alert]]\nname = "a"\nkind = "p95"\nlimit = 1\nmodle = "x"', 5, "unknown key"),
        ('[[alert]]\nname = "a"\nkind = "p95"\nlimit = 1\nmin_requests = 0', 5, "whole number"),
        ("alert = 3", 1, "write each alert"),
        (TOML + '[[alert]]\nname = "gone"\nkind = "backend_down"', 13, "two alerts"),
    ],
)
def test_bad_entry_names_its_line(tmp_path: Path, text: str, line: int, said: str) -> None:
    """An entry that cannot be used is refused with its line."""
    with pytest.raises(ConfigError, match=said) as caught:
        read(tmp_path, text)
    assert line == caught.value.line
