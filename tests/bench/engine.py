"""The engine of plans beside stock papermill: many cells, large outputs, first cell, many runs."""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import nbformat
import papermill

from tests.bench.report import Figure
from workbench.plans.engine import KernelKind, aexecute, execute
from workbench.plans.engine.forking import close_servers, fork_server

_IMPORTS = "import pandas, duckdb, plotly.express, httpx, ipywidgets"
_WAITS = 8
_WAIT_S = 2.0
_FIRST_ROUNDS = 3
NOTES = (
    "Stock papermill and our engine run the same notebooks in the same process, one after the "
    "other; both are imported before, and both save as they do by default.",
    "The output of papermill can be torn by a kill at any moment; that of the engine cannot.",
    "The first useful cell has imported pandas, duckdb, plotly, httpx and ipywidgets; the time "
    "runs from the call.",
    "The fork server has been started before, as the process of a run does while it reads its "
    "plan; the time with its start stands beside.",
)


def measure() -> list[Figure]:
    """Return the figures of the engine, each beside papermill's."""
    logging.getLogger("papermill").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="wb-bench-") as folder:
        base = Path(folder)
        try:
            return [*_many_cells(base), *_large_outputs(base), *_first_cell(base), *_waits(base)]
        finally:
            close_servers()


def _write(path: Path, cells: list[str]) -> Path:
    spec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    made = [nbformat.v4.new_code_cell(cell) for cell in cells]
    nbformat.write(nbformat.v4.new_notebook(cells=made, metadata={"kernelspec": spec}), path)
    return path


def _stock(path: Path) -> None:
    # ipykernel writes a warning of TCP for each kernel.
    output = path.with_name(f"{path.stem}-papermill.ipynb")
    with contextlib.redirect_stderr(io.StringIO()):
        papermill.execute_notebook(
            str(path),
            str(output),
            progress_bar=False,
            cwd=str(path.parent),
            extra_arguments=["--IPKernelApp.log_level=40"],
        )


def _ours(path: Path, kernel: KernelKind = "spawn") -> None:
    output = path.with_name(f"{path.stem}-ours.ipynb")
    result = execute(path, output, kernel=kernel)
    if result.status != "done":
        raise RuntimeError(f"{path.name} did not run: {result.error}")


def _seconds(run: Callable[[], None]) -> float:
    began = time.monotonic()
    run()
    return time.monotonic() - began


def _figure(name: str, ours: float, stock: float, target: float, more: str = "") -> Figure:
    return Figure(
        name,
        stock / ours,
        "x",
        f"ours {ours:.2f} s, papermill {stock:.2f} s{more}",
        f"at least {target:.0f}x",
        stock / ours >= target,
    )


def _many_cells(base: Path) -> list[Figure]:
    path = _write(base / "many.ipynb", [f"x = {number}" for number in range(201)])
    ours, stock = _seconds(lambda: _ours(path)), _seconds(lambda: _stock(path))
    return [_figure("engine: 201 cells, faster than papermill", ours, stock, 4)]


def _large_outputs(base: Path) -> list[Figure]:
    cell = "print(*(f'{n} of an output of two hundred kilobytes' for n in range(4700)), sep='\\n')"
    path = _write(base / "large.ipynb", [cell] * 100)
    ours, stock = _seconds(lambda: _ours(path)), _seconds(lambda: _stock(path))
    return [_figure("engine: 100 cells of 200 kB output, faster than papermill", ours, stock, 8)]


def _first_cell(base: Path) -> list[Figure]:
    told = base / "told"
    tell = f"import time\nopen({str(told)!r}, 'w').write(str(time.time()))"
    path = _write(base / "first.ipynb", [_IMPORTS, tell])

    def until_first(run: Callable[[], None]) -> float:
        began = time.time()
        run()
        return float(told.read_text("utf-8")) - began

    close_servers()
    cold = until_first(lambda: _ours(path, "fork"))
    rounds = range(_FIRST_ROUNDS)
    warm = statistics.median(until_first(lambda: _ours(path, "fork")) for _ in rounds)
    spawned = statistics.median(until_first(lambda: _ours(path)) for _ in rounds)
    stock = statistics.median(until_first(lambda: _stock(path)) for _ in rounds)
    more = f"; ours spawned {spawned:.2f} s, with the server's start {cold:.2f} s"
    name = "engine: first useful cell of a forked kernel, sooner than papermill"
    return [_figure(name, warm, stock, 3, more)]


def _waits(base: Path) -> list[Figure]:
    cell = f"import time\ntime.sleep({_WAIT_S})"
    paths = [_write(base / f"wait-{number}.ipynb", [cell]) for number in range(_WAITS)]

    async def at_once(kernel: KernelKind) -> None:
        runs = [
            aexecute(path, path.with_name(f"{path.stem}-ours.ipynb"), kernel=kernel)
            for path in paths
        ]
        await asyncio.gather(*runs)

    fork_server(os.environ).ready.result()
    forked = _seconds(lambda: asyncio.run(at_once("fork")))
    spawned = _seconds(lambda: asyncio.run(at_once("spawn")))

    def in_sequence() -> None:
        for path in paths:
            _stock(path)

    stock = _seconds(in_sequence)
    name = f"engine: {_WAITS} notebooks that wait {_WAIT_S:.0f} s, at once, faster than papermill"
    return [_figure(name, forked, stock, 4, f" in sequence; ours spawned {spawned:.2f} s")]
