"""What the buttons of the dashboard take out: the filtered requests, and the report."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from workbench.units import utc_now
from workbench.widgets.dashboard_data import Filters, Reader

FORMATS = ("csv", "parquet", "jsonl")
REPORT = "report"
_REPORT_S = 300.0


class Taker(Protocol):
    """What is needed of a dashboard."""

    export_dir: Path

    @property
    def folder(self) -> Path:
        """The store."""

    @property
    def filters(self) -> Filters:
        """What a person has chosen."""

    def say(self, said: Mapping[str, Any] | None) -> None:
        """Show a line above everything."""


async def take_out(dashboard: Taker, what: str) -> None:
    """Write the selected requests, or the report, beside the notebook, and tell where.

    Raises:
        StoreError: When it cannot be written, or `what` is unknown.
        ValueError: When there is no such thing to take.
    """
    if what not in (*FORMATS, REPORT):
        raise ValueError(what)
    named = "the report" if what == REPORT else f"the requests as {what}"
    dashboard.say({"level": "busy", "text": f"Writing {named} …"})
    work = _write_report if what == REPORT else _write_requests
    text, path = await asyncio.to_thread(work, dashboard, what)
    dashboard.say({"level": "ok", "text": text, "path": str(path)})


def _write_requests(dashboard: Taker, form: str) -> tuple[str, Path]:
    from workbench.metrics.export import export

    target = dashboard.export_dir / f"requests-{_stamp()}-{form}"
    where = dashboard.filters.selection().condition()
    done = export(dashboard.folder, target, format=form, tables=("requests",), where=where)
    count = done.rows["requests"]
    return f"{count:,} request{'' if count == 1 else 's'} written to", done.path


def _write_report(dashboard: Taker, _: str) -> tuple[str, Path]:
    from workbench.metrics.report import write_report

    reader = Reader(dashboard.folder, timeout_s=_REPORT_S)
    try:
        overview = reader.overview(dashboard.filters.selection())
        path = write_report(overview, dashboard.export_dir / f"report-{_stamp()}.html")
    finally:
        reader.close()
    return "The report was written to", path


def _stamp() -> str:
    return f"{utc_now():%Y%m%d-%H%M%S}"
