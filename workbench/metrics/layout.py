"""Where the files of a store lie, and what their names say.

    live/<table>/<writer>-<number>.v<schema>.jsonl   rows as they come
    live/<writer>.lock                               held for the life of the writer
    seg/<table>/<id>.parquet                         sealed rows, sorted by time
    day/<table>/dt=YYYY-MM-DD/<id>.parquet           those of one day, merged
    open/<table>/<id>.parquet                        rows without their end, of living writers
    blobs/<sha256>                                   long texts
    broken/<table>/...                               files without one readable row
    MANIFEST.json  compact.lock

A live file is finished when its writer has begun the next one, or is gone: its lock is free.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from workbench.locks import is_locked

LIVE, SEGMENTS, DAYS, OPEN, BLOBS, BROKEN = "live", "seg", "day", "open", "blobs", "broken"
MANIFEST = "MANIFEST.json"
COMPACT_LOCK = "compact.lock"

_LIVE_NAME = re.compile(r"(?P<writer>[A-Za-z0-9_.-]+)-(?P<number>\d{6})\.v(?P<schema>\d+)\.jsonl")
_SEALED_NAME = re.compile(r"[0-9a-z]{26}\.parquet")
_OURS = re.compile(r"[0-9a-z]{26}\.parquet(\.tmp)?")


@dataclass(frozen=True, slots=True)
class LiveFile:
    """A live file, with what its name says.

    Attributes:
        name: Path below the store's folder, with `/`.
    """

    name: str
    table: str
    writer: str
    number: int
    schema_v: int
    size_bytes: int


def metrics_dir(data_dir: Path) -> Path:
    """Return the folder of the metrics of a data folder."""
    return data_dir / "metrics"


def live_name(table: str, writer: str, number: int, schema_v: int) -> str:
    """Return the path of a live file below the store's folder."""
    return f"{LIVE}/{table}/{writer}-{number:06}.v{schema_v}.jsonl"


def writer_lock(folder: Path, writer: str) -> Path:
    """Return the lock a writer holds for its life."""
    return folder / LIVE / f"{writer}.lock"


def live_files(folder: Path, table: str) -> list[LiveFile]:
    """Return the live files of a table, oldest name first; foreign names are left out."""
    found = []
    for entry in _entries(folder / LIVE / table):
        match = _LIVE_NAME.fullmatch(entry.name)
        if match is None:
            continue
        try:
            size = entry.stat().st_size
        except FileNotFoundError:
            continue
        name = f"{LIVE}/{table}/{entry.name}"
        number, schema_v = int(match["number"]), int(match["schema"])
        found.append(LiveFile(name, table, match["writer"], number, schema_v, size))
    return sorted(found, key=lambda file: file.name)


def alive(folder: Path, writers: Iterable[str]) -> frozenset[str]:
    """Return those writers that still hold their lock."""
    return frozenset(w for w in set(writers) if is_locked(writer_lock(folder, w)))


def finished(files: Iterable[LiveFile], living: frozenset[str]) -> list[LiveFile]:
    """Return the files nobody will write to any more."""
    listed = list(files)
    newest: dict[str, int] = {}
    for file in listed:
        newest[file.writer] = max(file.number, newest.get(file.writer, -1))
    return [f for f in listed if f.writer not in living or f.number < newest[f.writer]]


def sealed_paths(folder: Path, table: str) -> Iterator[Path]:
    """Yield the Parquet files of a table that have names of ours, listed or not."""
    for top in (SEGMENTS, DAYS, OPEN):
        for path in (folder / top / table).rglob("*.parquet"):
            if _SEALED_NAME.fullmatch(path.name):
                yield path


def foreign_files(folder: Path, tables: Iterable[str]) -> list[str]:
    """Return the files whose names are not ours; they are never read, moved or removed."""
    found = []
    for table in tables:
        found += [
            folder / LIVE / table / entry.name
            for entry in _entries(folder / LIVE / table)
            if _LIVE_NAME.fullmatch(entry.name) is None
        ]
        for top in (SEGMENTS, DAYS, OPEN):
            files = (path for path in (folder / top / table).rglob("*") if path.is_file())
            found += [p for p in files if not _OURS.fullmatch(p.name)]
    return [path.relative_to(folder).as_posix() for path in found]


def store_bytes(folder: Path) -> int:
    """Return the size of all files of a store."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:
            continue
    return total


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return
