"""SHA-256 of model files, computed once per content: hashing a large model takes a minute."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import threading
from pathlib import Path
from typing import Final, TypeAlias

_SHA256 = re.compile(r"(?:sha256[:-])?([0-9a-f]{64})", re.IGNORECASE)
CACHE_VERSION: Final = 1

Stamp: TypeAlias = tuple[int, int]
"""Size in bytes and time of change in ns: what tells whether a file is the one known."""


def stamp_of(path: Path) -> Stamp:
    """Return the stamp of a file.

    Raises:
        OSError: When it cannot be looked at.
    """
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def sha256_hex(digest: str) -> str | None:
    """Return the 64 digits of `sha256:<hex>`, `sha256-<hex>` or `<hex>`, else `None`."""
    match = _SHA256.fullmatch(digest)
    return match[1].lower() if match else None


def write_atomically(path: Path, data: bytes) -> None:
    """Replace `path` by a file with `data`: readers see the old one or the new one.

    Raises:
        OSError: When it cannot be written; then nothing has changed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with part.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


class DigestCache:
    """Digests of files by path and stamp, kept in one JSON file.

    The file is a cache: when it is missing, broken, or cannot be written (a read-only folder, a
    full disk), digests are computed again and nothing else changes.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, tuple[int, int, str]] | None = None
        # One hash at a time: two threads over one disk are slower than one.
        self._lock = threading.Lock()

    def digest(self, path: Path) -> str:
        """Return the SHA-256 of the file as 64 hexadecimal digits.

        Raises:
            OSError: When the file cannot be read.
        """
        known = self.peek(path, stamp_of(path))
        if known is not None:
            # Without the lock: a small model must not wait while a large one is read.
            return known
        with self._lock:
            stamp = stamp_of(path)
            known = self.peek(path, stamp)
            if known is not None:
                return known
            with path.open("rb") as file:
                value = hashlib.file_digest(file, "sha256").hexdigest()
            if stamp_of(path) == stamp:
                self._remember(path, stamp, value)
            return value

    def peek(self, path: Path, stamp: Stamp) -> str | None:
        """Return the digest when it is known, without reading the file."""
        if self._known is None:
            self._known = self._load()
        known = self._known.get(str(path))
        return known[2] if known is not None and known[:2] == stamp else None

    def _remember(self, path: Path, stamp: Stamp, value: str) -> None:
        known = {p: v for p, v in (self._known or {}).items() if os.path.exists(p)}
        known[str(path)] = (*stamp, value)
        self._known = known
        text = json.dumps({"version": CACHE_VERSION, "files": known}, indent=1)
        # Without the file the next process computes again; see the class.
        with contextlib.suppress(OSError):
            write_atomically(self._path, text.encode())

    def _load(self) -> dict[str, tuple[int, int, str]]:
        try:
            data = json.loads(self._path.read_bytes())
            if data["version"] != CACHE_VERSION:
                return {}
            return {
                str(path): (int(size), int(changed), hexadecimal)
                for path, (size, changed, digest) in data["files"].items()
                if (hexadecimal := sha256_hex(digest)) is not None
            }
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}
