"""`workbench sql`, `metrics`, `export`, `import` and `clean`: what was measured."""

from __future__ import annotations

import csv
import io
import math
import re
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from workbench.cli.base import json_option, print_json, safe, say

if TYPE_CHECKING:
    import pandas as pd

    from workbench.metrics import Metrics

_WIDEST = 60

_FOLDER_HELP = "Folder of the metrics; that of the data folder unless given."
folder_option = click.option(
    "--folder", type=click.Path(exists=True, file_okay=False, path_type=Path), help=_FOLDER_HELP
)
since_option = click.option(
    "--since", metavar="TIME", help="Only from then on: 24h, 7d, or 2026-11-25T10:00 (UTC)."
)


@click.command(short_help="Ask the metrics in SQL.")
@click.argument("query")
@json_option
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV with a header.")
@click.option("--timeout", metavar="SECONDS", type=float, help="Give the query up after so long.")
@folder_option
def sql(
    query: str, as_json: bool, as_csv: bool, timeout: float | None, folder: Path | None
) -> None:
    """Run QUERY, one SELECT over the metrics, and print its result.

    `SHOW TABLES` and `DESCRIBE requests` tell what there is; `-` reads the query from stdin.
    Times are UTC.
    Nothing can be changed, and no other file read.
    Ctrl-C ends the query.
    """
    if as_json and as_csv:
        raise click.UsageError("--json and --csv exclude each other.")
    text = sys.stdin.read() if query == "-" else query
    with _open(folder) as opened:
        frame = opened.sql(text, timeout_s=timeout)
    if as_json:
        print_json(_records(frame))
    elif as_csv:
        # Not by click, which leaves control sequences out of what a program reads.
        text = _csv(frame)
        sys.stdout.write(safe(text) if sys.stdout.isatty() else text)
    else:
        click.echo(safe_table(frame))


@click.command(short_help="Show what was measured.")
@since_option
@json_option
@folder_option
def metrics(since: str | None, as_json: bool, folder: Path | None) -> None:
    """Show requests, tokens, latency, failures and the size of the store; the last day by default.

    Latency is of warm requests that ended well.
    """
    from workbench.metrics.layout import store_bytes

    moment = _moment(since or "24h")
    with _open(folder) as opened:
        frames = {
            "throughput": opened.throughput(by=None, since=moment),
            "latency": opened.latency(by=None, since=moment),
            "errors": opened.errors(since=moment),
        }
        report: dict[str, Any] = {
            "folder": str(opened.folder),
            "size_bytes": store_bytes(opened.folder),
            "problems": [asdict(problem) for problem in opened.problems()],
        }
    if as_json:
        print_json({**report, **{name: _records(frame) for name, frame in frames.items()}})
        return
    from workbench.units import format_bytes

    click.echo(f"{report['folder']} ({format_bytes(report['size_bytes'])})")
    for name, frame in frames.items():
        click.echo(f"\n{name.capitalize()}")
        click.echo(safe_table(frame) if len(frame) else "  (none)")
    for problem in report["problems"]:
        say(f"left out: {problem['file']}: {problem['reason']}")


@click.command(short_help="Write the metrics for other programs.")
@click.argument("target", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "form",
    type=click.Choice(["parquet", "csv", "jsonl", "duckdb", "otlp-json", "html"]),
    default="parquet",
    show_default=True,
    help="What to write.",
)
@click.option("--table", "tables", multiple=True, help="Only this table; may be given again.")
@since_option
@click.option("--until", metavar="TIME", help="Only until then, as --since.")
@click.option("--overwrite", is_flag=True, help="Replace what is at TARGET.")
@folder_option
def export(
    target: Path,
    form: str,
    tables: tuple[str, ...],
    since: str | None,
    until: str | None,
    overwrite: bool,
    folder: Path | None,
) -> None:
    """Write the metrics to TARGET: a folder with a file for each table, or one file.

    `duckdb` writes a database, `html` a report with charts that opens without a network.
    In CSV a text that a spreadsheet would take for a formula gets an apostrophe in front.
    """
    from workbench.metrics.export import export as write

    if form == "html":
        _write_report(_folder(folder), target, tables, since, until, overwrite=overwrite)
        return

    done = write(
        _folder(folder),
        target,
        format=form,
        tables=tables,
        since=_moment(since),
        until=_moment(until),
        overwrite=overwrite,
    )
    for table, rows in done.rows.items():
        click.echo(f"{table}: {rows} rows")
    say(f"written to {done.path}")


def _write_report(
    folder: Path,
    target: Path,
    tables: tuple[str, ...],
    since: str | None,
    until: str | None,
    *,
    overwrite: bool,
) -> None:
    from workbench.metrics import open as open_metrics
    from workbench.metrics.report import report

    if tables:
        raise click.UsageError("--table does not go with --format html: a report shows them all.")
    if target.exists() and not overwrite:
        raise click.UsageError(f"{target} is there already; name another place, or --overwrite.")
    with open_metrics(folder) as metrics:
        path = report(metrics, target, since=_moment(since), until=_moment(until))
    say(f"written to {path}")


@click.command("import", short_help="Add exported metrics.")
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--folder", type=click.Path(file_okay=False, path_type=Path), help=_FOLDER_HELP)
def import_(source: Path, folder: Path | None) -> None:
    """Add the rows of SOURCE: an exported folder, a DuckDB file, or the folder of another store.

    Rows that are there already are not added again.
    """
    from workbench.metrics.export import import_metrics

    for table, rows in import_metrics(_folder(folder), source).items():
        click.echo(f"{table}: {rows} rows")


@click.command(short_help="Seal, merge and forget metrics; remove old runs.")
@click.option(
    "--runs-older-than",
    "runs_age",
    metavar="TIME",
    help="Also remove the runs of plans to which nothing happened for so long: 30d, 4w, 36h.",
)
@click.option("--dry-run", is_flag=True, help="Only tell which runs would be removed.")
@json_option
@folder_option
def clean(runs_age: str | None, dry_run: bool, as_json: bool, folder: Path | None) -> None:
    """Seal finished files of the metrics, merge small ones, and forget what is older than set.

    `metrics.retention_days` says how long rows are kept.
    Conversations are not touched, and runs of plans only with --runs-older-than.
    A run that goes on or waits for an answer is never removed, and no folder of --out.
    """
    from workbench.config import load_config
    from workbench.metrics.compact import compact
    from workbench.metrics.layout import store_bytes
    from workbench.metrics.retention import parse_retention

    age_s = None if runs_age is None else _age(runs_age)
    if dry_run:
        if age_s is None:
            raise click.UsageError("--dry-run is for --runs-older-than.")
        runs = _clean_runs(age_s, dry_run=True, quiet=as_json)
        if as_json:
            print_json(runs)
        return
    place = _folder(folder)
    days = parse_retention(load_config().metrics_retention_days)
    before = store_bytes(place)
    report = compact(place, retention_days=days, wait=True)
    assert report is not None
    runs = {} if age_s is None else _clean_runs(age_s, dry_run=False, quiet=as_json)
    if as_json:
        print_json({**asdict(report), "size_bytes": store_bytes(place), **runs})
        return
    from workbench.units import format_bytes

    click.echo(
        f"sealed {report.rows} rows of {report.live_files} files, merged {report.merged_files} "
        f"files, removed {report.removed_files} files, forgot {report.expired_rows} rows"
    )
    click.echo(f"{place}: {format_bytes(before)} before, {format_bytes(store_bytes(place))} now")
    for name, reason in report.broken.items():
        say(f"put aside: {name}: {reason}")


def _age(text: str) -> float:
    """Return the seconds of a duration that is not negative."""
    seconds = _moment(text)
    if isinstance(seconds, str) or not 0 <= (seconds or 0.0) < math.inf:
        raise click.UsageError(f"not an age: {text!r}; write 30d, 4w or 36h.")
    return seconds or 0.0


def _clean_runs(age_s: float, *, dry_run: bool, quiet: bool) -> dict[str, Any]:
    """Remove old runs, tell of each, and return what a document has of them."""
    from workbench.config import load_config
    from workbench.plans.clean import clean_runs
    from workbench.units import format_bytes

    found = clean_runs(load_config().data_dir, older_than_s=age_s, dry_run=dry_run)
    gone = [run for run in found if not run.kept]
    freed = sum(run.size_bytes or 0 for run in gone)
    if not quiet:
        done, would = ("would remove", "would free") if dry_run else ("removed", "freed")
        for run in found:
            what = f"kept, {run.kept}" if run.kept else f"{done}, {format_bytes(run.size_bytes)}"
            line = f"run {run.run_id} {run.plan} ({run.status}, {run.last[:10]}): {what}"
            click.echo(safe(line))
        count = "1 run" if len(gone) == 1 else f"{len(gone)} runs"
        click.echo(f"{done} {count}, {would} {format_bytes(freed)}")
    return {"runs": [asdict(run) for run in found], "freed_bytes": freed, "dry_run": dry_run}


def safe_table(frame: pd.DataFrame) -> str:
    """Return a frame as aligned text without control characters."""
    rows = [list(map(str, frame.columns))]
    rows += [[_cell(value) for value in row] for row in frame.itertuples(index=False, name=None)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _cell(value: Any) -> str:
    text = "" if _is_missing(value) else f"{value:.6g}" if isinstance(value, float) else str(value)
    line = " ".join(safe(text).split())
    return line if len(line) <= _WIDEST else line[: _WIDEST - 1] + "…"


def _is_missing(value: Any) -> bool:
    import pandas as pd

    return bool(pd.api.types.is_scalar(value) and pd.isna(value))


def _plain(value: Any) -> Any:
    """Return a value of a frame as JSON has it; a time says UTC."""
    if _is_missing(value):
        return None
    if hasattr(value, "isoformat"):
        return value.isoformat() + "Z"
    if hasattr(value, "tolist"):
        return value.tolist()
    return value


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    names = list(map(str, frame.columns))
    return [
        dict(zip(names, map(_plain, row), strict=True))
        for row in frame.itertuples(index=False, name=None)
    ]


def _csv(frame: pd.DataFrame) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(map(str, frame.columns))
    for row in frame.itertuples(index=False, name=None):
        writer.writerow(map(_csv_cell, map(_plain, row)))
    return out.getvalue()


def _csv_cell(value: Any) -> Any:
    # As in an export: a spreadsheet would take such a text for a formula.
    if isinstance(value, str) and re.match(r"'*[=+@\-\t\r]", value):
        return f"'{value}"
    return value


def _folder(folder: Path | None) -> Path:
    from workbench.config import load_config
    from workbench.metrics.layout import metrics_dir

    return folder or metrics_dir(load_config().data_dir)


def _open(folder: Path | None) -> Metrics:
    from workbench.metrics import open as open_metrics

    return open_metrics(_folder(folder), compact=folder is None)


def _moment(text: str | None) -> float | str | None:
    """Return seconds before now of a duration, or the text of a time."""
    if text is None or re.match(r"\d{4}-", text):
        return text
    from workbench.units import parse_age

    try:
        return parse_age(text)
    except ValueError as exc:
        raise click.UsageError(f"not a time: {text!r}; write 24h, 7d or 2026-11-25T10:00.") from exc
