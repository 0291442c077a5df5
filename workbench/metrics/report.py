"""The metrics as one HTML file: charts, tables and plotly.js inside, and no network.

The page forbids itself every connection by its Content-Security-Policy.
"""

from __future__ import annotations

import contextlib
import html
import math
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench._version import __version__
from workbench.errors import StoreError
from workbench.metrics.figures import CHARTS
from workbench.metrics.overview import FILTERS, Headline, Overview, Selection
from workbench.units import format_bytes, format_seconds, rfc3339, utc_now

if TYPE_CHECKING:
    import pandas as pd

    from workbench.metrics.reader import Metrics

_MOST_ROWS = 200


def report(
    metrics: Metrics, path: str | Path, *, since: Any = None, until: Any = None, **filters: Any
) -> Path:
    """Write the charts and tables of a time as one HTML file that opens without a network.

    Args:
        metrics: An open store.
        path: The file; one that is there is replaced.
        since: Beginning of the time, included: datetime, ISO text, `24h`, or seconds before now.
        until: End of the time, excluded.
        **filters: `model`, `backend`, `run`, `client` and `status` narrow it.

    Returns:
        The file's absolute path.

    Raises:
        StoreError: When the store cannot be read, or the file cannot be written.
    """
    cursor = metrics.cursor()
    try:
        overview = Overview(cursor, metrics.folder, Selection.of(since, until, **filters))
        return write_report(overview, path)
    finally:
        cursor.close()


def write_report(overview: Overview, path: str | Path) -> Path:
    """Write the report of an overview; see `report`."""
    target = Path(path).expanduser().absolute()
    page = "".join(_page(overview)).encode("utf-8", "replace")
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(page)
        temporary.replace(target)
    except OSError as exc:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise StoreError(f"{target} cannot be written: {exc.strerror}.") from exc
    return target


# --- words that the dashboard's saved copy uses too


def headline_rows(
    now: Headline, before: Headline | None
) -> list[tuple[str, str, float | None, float | None]]:
    """Return the four figures: name, text, value, and the value of the time before."""
    former = before or Headline()
    return [
        ("Requests", f"{now.requests:,}", now.requests, former.requests),
        ("p95 latency", _seconds(now.p95_s), now.p95_s, former.p95_s),
        ("Tokens per second", _rate(now.tokens_per_s), now.tokens_per_s, former.tokens_per_s),
        ("Error share", _share(now.error_share), now.error_share, former.error_share),
    ]


def change_text(value: float | None, before: float | None) -> str:
    """Return how a figure differs from that of the time before."""
    if value is None or before is None:
        return "nothing before"
    if value == before:
        return "as before"
    if not before:
        return "none before"
    return f"{(value - before) / before:+.0%} against before"


def _seconds(value: float | None) -> str:
    return "not measured" if value is None else format_seconds(value)


def _rate(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.1f}"


def _share(value: float | None) -> str:
    return "no requests" if value is None else f"{value:.1%}"


# --- the page


def _page(overview: Overview) -> Iterator[str]:
    from workbench.metrics.charts.page import plotly_js

    yield _HEAD
    yield f"<header><h1>Model metrics</h1><p>{_safe(_told(overview.selection))}</p></header>"
    now, before = overview.headline()
    cards = "".join(
        f'<div class="card"><span>{name}</span><strong>{_safe(text)}</strong>'
        f"<em>{_safe(change_text(value, former)) if before else ''}</em></div>"
        for name, text, value, former in headline_rows(now, before)
    )
    yield f'<section class="cards">{cards}</section>'
    if not now.requests:
        yield '<p class="none">No requests were recorded in this time.</p>'
    figures = {name: chart.draw(overview) for name, chart in CHARTS.items()}
    yield '<section class="charts">'
    for name, chart in CHARTS.items():
        if figures[name].data:
            yield f'<figure id="{name}"><figcaption>{chart.title}</figcaption>'
            yield f'<div role="img" aria-label="{chart.title}. {chart.tells}"></div>'
            # Inside a script element only its own end tag is special.
            text = str(figures[name].to_json()).replace("<", "\\u003c")
            yield f'<script type="application/json">{text}</script></figure>'
    yield "</section>"
    yield from _tables(overview)
    written = f"Written {rfc3339(utc_now())} by workbench {__version__}."
    yield f"<footer>{written} Times are UTC.</footer>"
    yield "<script>"
    yield plotly_js().decode("utf-8")
    yield f"</script><script>{_DRAW}</script></body></html>\n"


def _told(selection: Selection) -> str:
    begin = "the beginning" if selection.since is None else f"{selection.since:%Y-%m-%d %H:%M}"
    end = utc_now() if selection.until is None else selection.until
    told = [f"From {begin} to {end:%Y-%m-%d %H:%M} UTC"]
    for name in FILTERS:
        value = getattr(selection, name)
        if value is not None:
            told.append(f"{name} {value}")
    return ", ".join(told) + "."


def _tables(overview: Overview) -> Iterator[str]:
    yield _table(
        "Models",
        "Latencies are of warm requests that ended with ok; tokens per second is a sum over a sum.",
        overview.models(),
        {
            "model": ("Model", str),
            "n": ("Requests", _count),
            "ttft_p50_s": ("First token, p50", _seconds),
            "ttft_p95_s": ("First token, p95", _seconds),
            "duration_p50_s": ("Duration, p50", _seconds),
            "duration_p95_s": ("Duration, p95", _seconds),
            "tokens_per_s": ("Tokens/s", _rate),
            "input_tokens": ("Input tokens", _count),
            "output_tokens": ("Output tokens", _count),
            "error_share": ("Errors", _share),
        },
    )
    yield _table(
        "What failed",
        "The most frequent first.",
        overview.failures(),
        {
            "model": ("Model", str),
            "status": ("Status", str),
            "error_type": ("Error", str),
            "error_stage": ("Stage", str),
            "n": ("Requests", _count),
            "last": ("Last", lambda when: f"{when:%Y-%m-%d %H:%M:%S}"),
            "message": ("What it said", str),
        },
    )
    yield _table(
        "Loads",
        "Every load in this time, per model; cold is a load from the disk.",
        overview.load_summary(),
        {
            "model": ("Model", str),
            "backend": ("Backend", str),
            "cold": ("Cold", lambda cold: "yes" if cold else "no"),
            "n": ("Loads", _count),
            "p50_s": ("p50", _seconds),
            "max_s": ("Longest", _seconds),
            "vram_bytes": ("GPU memory", format_bytes),
        },
    )


def _table(title: str, told: str, frame: pd.DataFrame, columns: dict[str, tuple[str, Any]]) -> str:
    if frame.empty:
        return ""
    head = "".join(f"<th>{name}</th>" for name, _ in columns.values())
    body = "".join(
        "<tr>"
        + "".join(f"<td>{_cell(row[key], shown)}</td>" for key, (_, shown) in columns.items())
        + "</tr>"
        for row in frame.head(_MOST_ROWS).to_dict("records")
    )
    rest = len(frame) - _MOST_ROWS
    more = f"<p>{rest:,} more rows are left out.</p>" if rest > 0 else ""
    return (
        f"<section><h2>{title}</h2><p>{told}</p><div class='wide'><table><thead><tr>{head}</tr>"
        f"</thead><tbody>{body}</tbody></table></div>{more}</section>"
    )


def _cell(value: Any, shown: Any) -> str:
    missing = value is None or (isinstance(value, float) and math.isnan(value)) or value != value
    return "–" if missing else _safe(str(shown(value)))


def _count(value: float) -> str:
    return f"{int(value):,}"


def _safe(text: str) -> str:
    """Return text for HTML; what cannot be seen is shown as a sign."""
    return html.escape("".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text))


_HEAD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:">
<title>Model metrics</title>
<style>
:root{color-scheme:light dark;--bg:#fff;--fg:#1b1c1f;--fg2:#5c6068;--line:#dfe1e5;--card:#f7f8f9}
@media (prefers-color-scheme:dark){:root{--bg:#15171a;--fg:#e4e6ea;--fg2:#a1a7b0;--line:#3a3e45;
  --card:#1f2226}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1240px;padding:28px 20px 40px;background:var(--bg);color:var(--fg);
  font:400 15px/1.5 system-ui,sans-serif}
h1{margin:0;font-size:1.6em}h2{margin:36px 0 2px;font-size:1.15em}
header p,section>p,footer,.none{margin:2px 0 0;color:var(--fg2);font-size:.93em}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(190px,1fr));gap:12px;margin:22px 0}
.card{display:grid;gap:2px;padding:14px 16px;border:1px solid var(--line);border-radius:10px;
  background:var(--card)}
.card span,.card em{color:var(--fg2);font-size:.88em;font-style:normal}
.card em:empty::after{content:"\\00a0"}
.card strong{font-size:1.65em;font-weight:600;line-height:1.25;font-variant-numeric:tabular-nums}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,520px),1fr));gap:14px}
figure{margin:0;padding:6px 12px;border:1px solid var(--line);border-radius:10px;min-width:0;
  overflow:hidden}
figcaption{padding:6px 4px 0;font-weight:600}
.wide{overflow-x:auto;margin-top:10px}
table{border-collapse:collapse;min-width:100%;font-size:.92em;font-variant-numeric:tabular-nums}
th,td{padding:6px 14px 6px 0;border-bottom:1px solid var(--line);text-align:left;
  vertical-align:top;overflow-wrap:anywhere}
th{color:var(--fg2);font-weight:500;white-space:nowrap}
footer{margin-top:40px}
@media print{figure,.card{break-inside:avoid}}
</style>
</head>
<body>
"""  # noqa: E501 - one attribute of one element
_DRAW = """
const dark = matchMedia("(prefers-color-scheme: dark)");
const draw = () => {
  const style = getComputedStyle(document.documentElement);
  const [fg2, line] = ["--fg2", "--line"].map((name) => style.getPropertyValue(name).trim());
  for (const el of document.querySelectorAll("figure")) {
    const { data, layout } = JSON.parse(el.querySelector("script").textContent);
    const seat = el.querySelector("div");
    delete layout.title;
    layout.margin = { ...layout.margin, t: 44 };
    layout.font = { ...layout.font, color: fg2 };
    for (const name of Object.keys(layout))
      if (/^[xy]axis\\d*$/.test(name))
        layout[name] = { ...layout[name], gridcolor: line, linecolor: line, tickcolor: line };
    Plotly.react(seat, data, layout, { responsive: true, displaylogo: false });
  }
};
dark.addEventListener("change", draw);
draw();
document.body.dataset.drawn = "1";
"""
