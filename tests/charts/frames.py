"""Frames for charts: a day of three models, made by a fixed seed."""

from __future__ import annotations

import numpy as np
import pandas as pd

MODELS = ("qwen3:4b", "llama3.2:3b", "gemma3:12b")
START = pd.Timestamp("2026-11-01T00:00:00Z")


def latency(hours: int = 24) -> pd.DataFrame:
    """Return `bucket`, `model`, `p50`, `p95`, `p99`, `requests`."""
    random = np.random.default_rng(1)
    rows = []
    for index, model in enumerate(MODELS):
        middle = (index + 1) * 0.8 + 0.2 * random.random(hours)
        rows.append(
            pd.DataFrame(
                {
                    "bucket": pd.date_range(START, periods=hours, freq="h"),
                    "model": model,
                    "p50": middle,
                    "p95": middle * 2,
                    "p99": middle * 3,
                    "requests": random.integers(3, 60, hours),
                }
            )
        )
    return pd.concat(rows, ignore_index=True)


def requests(count: int = 240) -> pd.DataFrame:
    """Return the columns of the charts of single requests."""
    random = np.random.default_rng(2)
    model = random.choice(MODELS, count)
    size = pd.Series(model).map({"qwen3:4b": 3.4e9, "llama3.2:3b": 2.6e9, "gemma3:12b": 9.1e9})
    slow = pd.Series(model).map({"qwen3:4b": 1.0, "llama3.2:3b": 0.7, "gemma3:12b": 2.4}).to_numpy()
    return pd.DataFrame(
        {
            "ts": pd.date_range(START, periods=count, freq="2min"),
            "model": model,
            "ttft_s": slow * random.gamma(2.0, 0.12, count),
            "tokens_per_s": 90 / slow * random.normal(1.0, 0.08, count),
            "vram_bytes": size.to_numpy(),
            "queue_wait": random.gamma(1.0, 0.2, count),
            "load_s": np.where(random.random(count) < 0.1, 2.5, 0.0),
            "prompt_s": slow * random.gamma(2.0, 0.08, count),
            "generation_s": slow * random.gamma(3.0, 0.7, count),
        }
    )


def samples(count: int = 200) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return samples of memory, and the events beside them."""
    moments = pd.date_range(START, periods=count, freq="30s")
    rows = [
        {"ts": moment, "model": model, "bytes": size}
        for number, moment in enumerate(moments)
        for model, size, begin, end in (
            ("qwen3:4b", 3.4e9, 10, 120),
            ("gemma3:12b", 9.1e9, 60, 180),
        )
        if begin <= number < end
    ]
    events = pd.DataFrame(
        {
            "ts": [moments[10], moments[60], moments[120], moments[150]],
            "model": ["qwen3:4b", "gemma3:12b", "qwen3:4b", "llama3.2:3b"],
            "event": ["load", "load", "unload", "load_failed"],
        }
    )
    return pd.DataFrame(rows), events


def loads() -> pd.DataFrame:
    """Return `model`, `seconds`, `cold`."""
    random = np.random.default_rng(3)
    rows = [
        {"model": model, "seconds": base * (4 if cold else 1) * random.normal(1, 0.1), "cold": cold}
        for model, base in zip(MODELS, (0.9, 0.7, 2.2), strict=True)
        for cold in [True] * 4 + [False] * 12
    ]
    return pd.DataFrame(rows)


def runs() -> pd.DataFrame:
    """Return `run`, `input_tokens`, `output_tokens`, `errors`."""
    random = np.random.default_rng(4)
    return pd.DataFrame(
        {
            "run": [f"run {number:02}" for number in range(12)],
            "input_tokens": random.integers(2_000, 9_000, 12),
            "output_tokens": random.integers(1_000, 20_000, 12),
            "errors": [0, 0, 1, 0, 0, 0, 4, 0, 0, 0, 0, 2],
        }
    )


def gaps() -> pd.DataFrame:
    """Return `model`, `gap_s`."""
    random = np.random.default_rng(5)
    parts = [
        pd.DataFrame({"model": model, "gap_s": random.gamma(4.0, mean / 4.0, 3_000)})
        for model, mean in zip(MODELS, (0.011, 0.008, 0.03), strict=True)
    ]
    return pd.concat(parts, ignore_index=True)


def spans() -> pd.DataFrame:
    """Return `name`, `start`, `end`, `status`, `model`."""
    seconds = [(0, 20), (20, 50), (22, 70), (50, 55), (70, None)]
    statuses = ["ok", "ok", "error", "ok", "running"]
    return pd.DataFrame(
        {
            "name": ["read", "draft", "check", "judge", "report"],
            "start": [START + pd.Timedelta(seconds=begin) for begin, _ in seconds],
            "end": [
                pd.NaT if end is None else START + pd.Timedelta(seconds=end) for _, end in seconds
            ],
            "status": statuses,
            "model": ["qwen3:4b", "gemma3:12b", "qwen3:4b", "gemma3:12b", "qwen3:4b"],
        }
    )
