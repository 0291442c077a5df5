"""How long `import workbench` takes."""

from __future__ import annotations

import statistics
import subprocess
import sys

from tests.bench.report import Figure

_PROGRAM = "import time; t = time.perf_counter(); import {name}; print(time.perf_counter() - t)"


def _seconds(name: str) -> float:
    times = []
    for _ in range(7):
        command = [sys.executable, "-c", _PROGRAM.format(name=name)]
        times.append(float(subprocess.run(command, capture_output=True, check=True).stdout))
    return statistics.median(times)


def measure() -> list[Figure]:
    """Return the seconds of importing the package, beside a library everybody knows."""
    ours = _seconds("workbench")
    return [
        Figure(
            "import workbench",
            ours,
            "s",
            f"import httpx: {_seconds('httpx'):.2f} s",
            "under 0.35 s",
            ours < 0.35,
        )
    ]
