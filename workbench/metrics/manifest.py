"""The list of the sealed files: replaced as a whole, by a rename, by whoever holds the lock."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import msgspec

from workbench.errors import SchemaTooNew, StoreError
from workbench.metrics.layout import MANIFEST

FORMAT = 1
"""Version of the manifest's own form."""


class Sealed(msgspec.Struct, frozen=True, kw_only=True):
    """One Parquet file of the store.

    Attributes:
        name: Path below the store's folder, with `/`.
        is_open: Whether its rows have no end yet; else each id is in one file only.
        columns: The columns it has.
        min_ts: Earliest `ts`, `YYYY-MM-DD hh:mm:ss.ffffff` in UTC; `None` when no row has one.
    """

    name: str
    table: str
    rows: int
    schema_v: int
    columns: tuple[str, ...]
    min_id: str
    max_id: str
    min_ts: str | None
    max_ts: str | None
    size_bytes: int
    is_open: bool = False


class Manifest(msgspec.Struct, kw_only=True):
    """What is sealed.

    Attributes:
        gen: Counts the replacements.
        retired: Files that are replaced and will be removed, with the time (Unix, s) since when.
        broken: Files that were put aside because no row could be read, with the reason.
        broken_lines: Lines of live files that could not be read, ever.
        known: Whether there was a manifest; without one, sealed files are unknown.
    """

    format: int = FORMAT
    gen: int = 0
    files: list[Sealed] = []
    retired: dict[str, float] = {}
    broken: dict[str, str] = {}
    broken_lines: int = 0
    known: bool = True

    def files_of(self, table: str) -> list[Sealed]:
        """Return every file of a table."""
        return [file for file in self.files if file.table == table]

    def of(self, table: str, *, is_open: bool = False) -> list[Sealed]:
        """Return the files of a table."""
        return [f for f in self.files if f.table == table and f.is_open == is_open]

    def newest_since(self, table: str, n: int) -> str | None:
        """Return a time since which the sealed files of a table have `n` rows or more.

        `None` when they have fewer, or a file does not know its times.
        """
        rows, since = 0, None
        for file in sorted(self.of(table), key=lambda file: file.min_ts or "~", reverse=True):
            if rows >= n or file.min_ts is None:
                break
            rows, since = rows + file.rows, file.min_ts
        return since if rows >= n else None


_decode = msgspec.json.Decoder(Manifest).decode


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest; an empty one when there is none.

    Raises:
        SchemaTooNew: When a newer version of the workbench wrote it.
        StoreError: When it cannot be read.
    """
    path = folder / MANIFEST
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return Manifest(known=False)
    except OSError as exc:
        raise StoreError(f"{path} cannot be read: {exc.strerror}.") from exc
    try:
        form = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
        found = int(msgspec.json.decode(form["format"], type=int))
        if found > FORMAT:
            raise SchemaTooNew(str(path), found=found, supported=FORMAT)
        return _decode(data)
    except (msgspec.MsgspecError, KeyError, ValueError) as exc:
        raise StoreError(
            f"{path} is broken: {exc}.", hint="Make it anew from the files: workbench clean."
        ) from exc


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Replace the manifest; only the holder of the compaction's lock may.

    Raises:
        OSError: When the disk refuses.
    """
    manifest.gen += 1
    manifest.known = True
    path = folder / MANIFEST
    temporary = path.with_name(f"{MANIFEST}.{secrets.token_hex(4)}.tmp")
    with temporary.open("wb") as file:
        file.write(msgspec.json.encode(manifest))
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """Wait until the disk has the names in a folder."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
