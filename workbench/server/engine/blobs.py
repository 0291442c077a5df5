"""Uploaded files, each under the name of its digest."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from workbench.errors import StoreError
from workbench.server.engine.digests import sha256_hex

CHUNK_BYTES = 2**20


class BadDigest(StoreError):
    """Raised when a digest is not SHA-256, or an uploaded file has another one than it claims."""


class BlobStore:
    """The folder `blobs/` of a models folder: `sha256-<hex>` files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, digest: str) -> Path:
        """Return where the blob is or would be.

        Raises:
            BadDigest: When it is not a SHA-256 digest.
        """
        digits = sha256_hex(digest)
        if digits is None:
            raise BadDigest(
                f"{digest!r} is not a digest", hint="A digest is sha256:<64 hexadecimal digits>."
            )
        return self._folder / f"sha256-{digits}"

    def has(self, digest: str) -> bool:
        """Return whether the blob is there."""
        return self.path(digest).is_file()

    def writer(self, digest: str) -> BlobWriter:
        """Return a context in which the blob is written piece by piece."""
        return BlobWriter(self.path(digest))

    def put(self, digest: str, source: BinaryIO | Iterable[bytes]) -> Path:
        """Store all bytes of `source` and return the path of the blob.

        Raises:
            BadDigest: When the content is not what the digest says; nothing is kept.
            OSError: When it cannot be written; nothing is kept.
        """
        with self.writer(digest) as writer:
            for chunk in _chunks(source):
                writer.write(chunk)
        return writer.path


class BlobWriter:
    """Writes one blob beside its place, and renames it there when its digest is right.

    Leaving the context by an exception keeps nothing.

    Raises:
        BadDigest: On leaving the context, when the content is not what the digest says.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._hash = hashlib.sha256()
        self._part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
        self._file: BinaryIO | None = None

    def __enter__(self) -> BlobWriter:
        self._part.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._part.open("xb")
        return self

    def write(self, data: bytes) -> None:
        """Append bytes; blocking."""
        if self._file is None:
            raise ValueError("the blob is written inside its `with` block only")
        self._hash.update(data)
        self._file.write(data)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        file, self._file = self._file, None
        try:
            if file is not None:
                file.close()
            if error is None:
                self._commit()
        finally:
            self._part.unlink(missing_ok=True)

    def _commit(self) -> None:
        found = f"sha256-{self._hash.hexdigest()}"
        if found != self.path.name:
            raise BadDigest(f"the content has the digest {found}, not {self.path.name}")
        self._part.replace(self.path)


def _chunks(source: BinaryIO | Iterable[bytes]) -> Iterable[bytes]:
    read = getattr(source, "read", None)
    return iter(lambda: read(CHUNK_BYTES), b"") if read is not None else source
