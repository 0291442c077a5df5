"""The dashboard where nobody can click: a table of the figures, and plain plotly figures."""

from __future__ import annotations

import html
from collections.abc import Iterator
from typing import Any

from workbench.errors import WorkbenchError
from workbench.metrics.figures import CHARTS
from workbench.metrics.overview import Headline
from workbench.metrics.report import change_text, headline_rows
from workbench.widgets.dashboard_data import Filters, Reader, is_unwritten
from workbench.widgets.static_html import visible

NAMES = {
    "hour": "the last hour",
    "day": "the last day",
    "week": "the last week",
    "all": "everything that was recorded",
    "custom": "a chosen time",
}
STYLE = """
.wb-metrics{font-family:var(--jp-ui-font-family,system-ui,sans-serif);
  font-size:var(--jp-content-font-size1,14px);line-height:1.5;
  color:var(--jp-content-font-color1,inherit)}
.wb-metrics table{border-collapse:collapse}
.wb-metrics td,.wb-metrics th{text-align:left;padding:.2rem .9rem .2rem 0;
  border-bottom:1px solid var(--jp-border-color2,#bbb)}
.wb-metrics p{margin:.4rem 0}
"""

Figures = tuple[Headline, Headline | None]


def static_bundle(filters: Filters, reader: Reader) -> dict[str, Any]:
    """Return the four figures as a mime bundle: HTML that is safe to keep, and text."""
    try:
        if is_unwritten(reader.folder):
            return _bundle(filters, None, "Nothing was recorded yet.")
        return _bundle(filters, reader.overview(filters.selection()).headline(), "")
    except WorkbenchError as exc:
        return _bundle(filters, None, f"The metrics could not be read: {exc.message}")
    finally:
        reader.close()


def show_static(filters: Filters, reader: Reader) -> None:
    """Display the figures and each chart that has something to show."""
    for bundle in static_bundles(filters, reader):
        show(bundle)


def show(bundle: dict[str, Any], metadata: dict[str, Any] | None = None) -> None:
    """Display a mime bundle."""
    from IPython.display import display

    display(bundle, raw=True, metadata=metadata)  # type: ignore[no-untyped-call]


def static_bundles(filters: Filters, reader: Reader) -> Iterator[dict[str, Any]]:
    """Yield the mime bundles of a run without a person, the four figures first."""
    yield static_bundle(filters, reader)
    if is_unwritten(reader.folder):
        return
    from workbench.metrics.charts import as_bundle

    try:
        overview = reader.overview(filters.selection())
        for chart in CHARTS.values():
            figure = chart.draw(overview)
            if figure.data:
                yield dict(as_bundle(figure, description=f"{chart.title}. {chart.tells}"))
    except WorkbenchError as exc:
        yield _bundle(filters, None, f"The charts could not be drawn: {exc.message}")
    finally:
        reader.close()


def _bundle(filters: Filters, figures: Figures | None, text: str) -> dict[str, Any]:
    title = f"Metrics of {NAMES[filters.range]}"
    rows = [] if figures is None else _rows(figures)
    head = "".join(f"<th>{name}</th>" for name in ("", "Value", "Before"))
    body = "".join(f"<tr>{''.join(f'<td>{_safe(c)}</td>' for c in row)}</tr>" for row in rows)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>" if rows else ""
    line = f"<p>{_safe(text)}</p>" if text else ""
    inner = f"<p><strong>{_safe(title)}</strong></p>{table}{line}"
    lines = [title, *(f"{name}: {value} ({before})" for name, value, before in rows), text]
    return {
        "text/html": f'<style>{STYLE}</style><div class="wb-metrics">{inner}</div>',
        "text/plain": "\n".join(visible(line) for line in lines if line),
    }


def _rows(figures: Figures) -> list[tuple[str, str, str]]:
    now, before = figures
    return [
        (name, shown, "nothing before" if before is None else change_text(value, former))
        for name, shown, value, former in headline_rows(now, before)
    ]


def _safe(text: str) -> str:
    return html.escape(visible(text))
