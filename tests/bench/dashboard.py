"""How long the dashboard takes over a million requests: to its first figures, and to all of it."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.bench.metrics_rows import make_store
from tests.bench.report import Figure
from workbench.portal import get_portal
from workbench.widgets.dashboard_live import Live

ROWS = 1_000_000
PATIENCE_S = 300.0
NOTE = (
    "The dashboard's figures are seconds from the first message of a view, the opening of the "
    "store and the imports of DuckDB and plotly included; drawing in the page comes on top."
)

Holds = Callable[[dict[str, Any]], Any]
MOMENTS: tuple[tuple[str, float, Holds], ...] = (
    ("four figures", 5.0, lambda p: p["headline"]),
    ("first 100 requests", 5.0, lambda p: p["table"]),
    ("first chart", 10.0, lambda p: p["rows"]),
    ("everything", 15.0, lambda p: p["choices"] and not p["busy"]),
)


def measure() -> list[Figure]:
    """Open a dashboard on a made-up store, over all of the time, then narrow it to one model."""
    with tempfile.TemporaryDirectory(prefix="wb-bench-") as folder:
        store = Path(folder) / "metrics"
        make_store(store, ROWS)
        return get_portal().run(_measured(store))


async def _measured(store: Path) -> list[Figure]:
    changed = asyncio.Event()
    live = Live(store, None, changed=changed.set, say=lambda said: None)
    live.narrow({"range": "all"})
    began = time.monotonic()
    live.start()

    async def seconds(holds: Holds) -> float:
        async with asyncio.timeout(PATIENCE_S):
            while not holds(live.picture):
                changed.clear()
                await changed.wait()
        return time.monotonic() - began

    where = f"{ROWS:,} requests"
    figures = [
        _figure(name, await seconds(holds), "s", target, where) for name, target, holds in MOMENTS
    ]
    whole_bytes = len(json.dumps(live.picture))
    began = time.monotonic()
    live.narrow({"model": "model3"})
    narrowed = await seconds(
        lambda p: not p["busy"] and p["headline"]["now"]["requests"] < ROWS / 4
    )
    live.stop()
    return [
        *figures,
        _figure("everything of one model", narrowed, "s", 5.0, where),
        _figure("whole picture", whole_bytes / 1000, "kB", 500.0, where),
    ]


def _figure(name: str, value: float, unit: str, target: float, beside: str) -> Figure:
    return Figure(
        f"dashboard: {name}", value, unit, beside, f"under {target:g} {unit}", value < target
    )
