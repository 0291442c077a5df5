"""A panel as a table that is safe to keep: for papermill and saved notebooks."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from workbench.widgets.static_html import visible

_STYLE = """
.wb-table{font-family:var(--jp-ui-font-family,system-ui,sans-serif);
  font-size:var(--jp-content-font-size1,14px);line-height:1.5;
  color:var(--jp-content-font-color1,inherit)}
.wb-table table{border-collapse:collapse}
.wb-table td,.wb-table th{text-align:left;padding:.2rem .9rem .2rem 0;
  border-bottom:1px solid var(--jp-border-color2,#bbb)}
.wb-table p{margin:.4rem 0}
"""

Cells = Sequence[Sequence[str]]


def table_html(label: str, titles: Sequence[str], cells: Cells, lines: Iterable[str]) -> str:
    """Return one HTML fragment: a table, and a paragraph for each line."""
    head = "".join(f"<th>{title}</th>" for title in titles)
    body = "".join(f"<tr>{''.join(f'<td>{_safe(c)}</td>' for c in row)}</tr>" for row in cells)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>" if body else ""
    told = "".join(f"<p>{_safe(line)}</p>" for line in lines)
    return f'<style>{_STYLE}</style><div class="wb-table" aria-label="{label}">{table}{told}</div>'


def table_text(titles: Sequence[str], cells: Cells, lines: Iterable[str]) -> str:
    """Return the same as text."""
    rows = [titles, *cells]
    widths = [max(len(row[index]) for row in rows) for index in range(len(titles))]
    table = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    return "\n".join([*(table if cells else []), *map(visible, lines)])


def _safe(text: str) -> str:
    return html.escape(visible(text))
