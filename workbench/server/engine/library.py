"""The embedded models of this machine: dropped files, bundled toys, created models.

Names come from three places, the first wins: manifests (`create`, `copy`), GGUF files anywhere in
the models folder, and bundled files.  A path names any file on the machine.

Everything here blocks; a server calls it in threads.  One object may be used by many threads.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from workbench.errors import BadModelFile, ModelNotFound, ResponseError, StoreError
from workbench.server.engine.blobs import BadDigest, BlobStore, BlobWriter
from workbench.server.engine.digests import DigestCache, Stamp, sha256_hex, stamp_of
from workbench.server.engine.gguf import GGUFHeader, merge_shards, read_header
from workbench.server.engine.manifest import Manifest, ManifestStore, merged, texts
from workbench.server.engine.names import DEFAULT_TAG, BadModelName, ModelName, is_path, parse_name
from workbench.server.engine.scan import FoundFile, found_at, scan

EMPTY_HEADER = GGUFHeader(0, {}, (), 0, 0, 0)


class ModelProtected(StoreError):
    """Raised when a model must not be deleted or replaced; the message says why."""


@dataclass(frozen=True, kw_only=True)
class LibraryModel:
    """One model that the embedded engine can load.

    Attributes:
        name: What it is asked for by: "name:tag", or its path.
        path: The GGUF file; the first of a model in several files.
        size_bytes: All its files, with the projector.
        digest: SHA-256 as 64 hexadecimal digits, of the file or of a created model's manifest.
        modified_at: UTC.
        header: What the file says; empty (version 0) when it cannot be read.
        manifest: What `create` stored; `None` for a plain file.
        projector: The image half.
        toy: Whether it is a bundled model, too small to be of use.
        problem: Why it will not load, as far as its header says.
    """

    name: str
    path: Path
    size_bytes: int
    digest: str
    modified_at: datetime
    header: GGUFHeader
    manifest: Manifest | None = None
    projector: Path | None = None
    toy: bool = False
    problem: str | None = None

    @property
    def template(self) -> str | None:
        """The chat template that is used: the created model's, else the file's."""
        own = self.manifest.template if self.manifest is not None else None
        return own or self.header.chat_template

    @property
    def capabilities(self) -> tuple[str, ...]:
        """What it can do, in Ollama's words."""
        return self.header.capabilities(
            has_projector=self.projector is not None, template=self.template
        )


class ModelLibrary:
    """The store of embedded models.

    Args:
        models_dir: The user's folder; it is made when something is written.
        bundled_dirs: Folders of models that come with the package; never written.
        digest_cache: File that remembers digests; `.digests.json` in the models folder by default.
    """

    def __init__(
        self,
        models_dir: Path,
        *,
        bundled_dirs: Sequence[Path] = (),
        digest_cache: Path | None = None,
    ) -> None:
        self.models_dir = models_dir.absolute()
        self.bundled_dirs = tuple(folder.absolute() for folder in bundled_dirs)
        self.blobs = BlobStore(self.models_dir / "blobs")
        self.manifests = ManifestStore(self.models_dir / "manifests")
        self._digests = DigestCache(digest_cache or self.models_dir / ".digests.json")
        self._headers: dict[Path, tuple[Stamp, GGUFHeader]] = {}
        self._lock = threading.RLock()

    def list(self) -> list[LibraryModel]:
        """Return every model, by name.

        The first call reads each file once for its digest, about a second per gigabyte.
        """
        return sorted(
            (self._load(name, source) for name, source in self._sources().items()),
            key=lambda model: model.name,
        )

    def names(self) -> tuple[str, ...]:
        """Return every name, without reading a model file."""
        return tuple(sorted(self._sources()))

    def get(self, name: str) -> LibraryModel:
        """Return the model of that name or path.

        Raises:
            ModelNotFound: When there is none; `nearest` holds similar names.
        """
        found = self._find(name)
        if found is None:
            raise ModelNotFound(name, nearest=self.nearest(name))
        return self._load(*found)

    def nearest(self, name: str) -> tuple[str, ...]:
        """Return up to three names that look like `name`."""
        known = {full.removesuffix(":latest"): full for full in self.names()}
        wanted = name.lower().removesuffix(":latest")
        return tuple(known[k] for k in difflib.get_close_matches(wanted, known, n=3, cutoff=0.5))

    def create(
        self,
        name: str,
        *,
        from_: str | None = None,
        files: Mapping[str, str] | None = None,
        template: str | None = None,
        system: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        license: str | Sequence[str] | None = None,  # noqa: A002  # the API's word
        messages: Sequence[Mapping[str, Any]] | None = None,
    ) -> LibraryModel:
        """Store a model made of another one, of a file, or of uploaded blobs.

        Args:
            from_: A model name or a path.
            files: File name -> digest of a blob, instead of `from_`.

        Raises:
            BadModelName: When `name` is not a model name.
            ModelNotFound: When there is no `from_`.
            BadModelFile: When the file is not a whole GGUF model.
            BadDigest: When a blob is not there.
            OSError: When it cannot be written.
        """
        target = _target(name)
        base = self._base_of_files(files) if files else self._base_of_model(from_ or "")
        changes = {
            "template": template,
            "system": system,
            "parameters": parameters,
            "license": texts(license),
            "messages": tuple(messages) if messages is not None else None,
        }
        manifest = merged(base, changes)
        with self._lock:
            self.manifests.write(target, manifest)
        return self._load(str(target), manifest)

    def add(self, path: str, name: str | None = None) -> LibraryModel:
        """Take in a GGUF file where it lies; without a name it gets that of the file.

        Raises:
            BadModelName: When `name` is not a model name.
            ResponseError: With status 404, when there is no such file.
            BadModelFile: When it is not a whole GGUF model.
        """
        try:
            file = Path(path).expanduser().absolute()
        except RuntimeError:
            # "~name" of nobody on this machine: a folder of that name is not meant either.
            file = Path(path)
        if not file.is_file():
            raise ResponseError(
                f"there is no file {path!r}",
                status=404,
                hint="Give the path of a GGUF file as the server's machine has it.",
            )
        stem = str(ModelName(None, found_at(file).name, DEFAULT_TAG))
        return self.create(name or stem, from_=str(file))

    def copy(self, source: str, destination: str) -> LibraryModel:
        """Give a model a second name; no model file is copied.

        Raises:
            BadModelName: When `destination` is not a model name.
            ModelNotFound: When there is no `source`.
        """
        target = _target(destination)
        base = self._base_of_model(source)
        # A copy of a created model is the same model: it keeps the manifest, and so the digest.
        manifest = self.get(source).manifest or base
        with self._lock:
            self.manifests.write(target, manifest)
        return self._load(str(target), manifest)

    def delete(self, name: str) -> None:
        """Remove a created model with the blobs that only it uses, or a file of the models folder.

        Raises:
            ModelNotFound: When there is no such model.
            ModelProtected: When it is bundled, outside of the models folder, or used by another.
        """
        with self._lock:
            found = self._find(name)
            if found is None:
                raise ModelNotFound(name, nearest=self.nearest(name))
            full, source = found
            if isinstance(source, Manifest):
                self.manifests.delete(parse_name(full))
                self._remove_unused_blobs(source)
            else:
                self._delete_files(full, source)

    def has_blob(self, digest: str) -> bool:
        """Return whether an uploaded file is there; raises `BadDigest`."""
        return self.blobs.has(digest)

    def put_blob(self, digest: str, source: BinaryIO | Iterable[bytes]) -> Path:
        """Store an uploaded file after checking its digest; raises `BadDigest` and `OSError`."""
        return self.blobs.put(digest, source)

    def blob_writer(self, digest: str) -> BlobWriter:
        """Return a context in which an uploaded file is written piece by piece."""
        return self.blobs.writer(digest)

    def _sources(self) -> dict[str, Manifest | FoundFile]:
        sources: dict[str, Manifest | FoundFile] = {
            str(name): manifest for name, manifest in self.manifests.all()
        }
        for folder in (self.models_dir, *self.bundled_dirs):
            for file in scan(folder):
                sources.setdefault(self._free_name(file, sources), file)
        return sources

    def _free_name(self, file: FoundFile, taken: Mapping[str, object]) -> str:
        """Return a name for a file: its stem, else with its folder, else with a number."""
        plain = str(ModelName(None, file.name, "latest"))
        if plain not in taken:
            return plain
        parent = "bundled" if self._is_bundled(file.path) else file.path.parent.name
        try:
            full = parse_name(f"{parent}/{file.name}")
        except BadModelName:
            full = ModelName("models", file.name, "latest")
        number, candidate = 2, str(full)
        while candidate in taken:
            candidate = str(dataclasses.replace(full, name=f"{full.name}-{number}"))
            number += 1
        return candidate

    def _find(self, name: str) -> tuple[str, Manifest | FoundFile] | None:
        sources = self._sources()
        if is_path(name):
            return self._find_path(name.removesuffix(":latest"), sources)
        try:
            full = str(parse_name(name))
        except BadModelName:
            return None
        return (full, sources[full]) if full in sources else None

    def _find_path(
        self, text: str, sources: Mapping[str, Manifest | FoundFile]
    ) -> tuple[str, Manifest | FoundFile] | None:
        path = Path(text).expanduser()
        for candidate in (self.models_dir / path, path.absolute()):
            if candidate.is_file():
                for name, source in sources.items():
                    if isinstance(source, FoundFile) and _is_same(source.path, candidate):
                        return name, source
                return str(candidate), found_at(candidate)
        return None

    def _load(self, name: str, source: Manifest | FoundFile) -> LibraryModel:
        manifest = source if isinstance(source, Manifest) else None
        if isinstance(source, FoundFile):
            file = source
        else:
            file = dataclasses.replace(
                found_at(self.models_dir / source.file),
                projector=self.models_dir / source.projector if source.projector else None,
            )
        header, problem = self._header(file)
        stamps = [s for path in file.files if (s := _stamp(path)) is not None]
        projector = _stamp(file.projector) if file.projector is not None else None
        changed_ns = max((changed for _, changed in stamps), default=0)
        if manifest is not None:
            written = _stamp(self.manifests.path(parse_name(name)))
            changed_ns = written[1] if written is not None else changed_ns
        return LibraryModel(
            name=name,
            path=file.path,
            size_bytes=sum(size for size, _ in stamps) + (projector[0] if projector else 0),
            digest=manifest.digest if manifest is not None else self._digest(file),
            modified_at=datetime.fromtimestamp(changed_ns / 1e9, tz=UTC),
            header=header,
            manifest=manifest,
            projector=file.projector,
            toy=self._is_bundled(file.path),
            problem=problem,
        )

    def _header(self, file: FoundFile) -> tuple[GGUFHeader, str | None]:
        headers: list[GGUFHeader] = []
        for path in file.files:
            try:
                headers.append(self._header_of(path))
            except BadModelFile as exc:
                return headers[0] if headers else EMPTY_HEADER, exc.reason
        header = merge_shards(headers)
        if header.missing_bytes:
            return header, f"it is truncated: {header.missing_bytes} bytes are missing"
        if header.is_projector:
            return header, "it is the image half of a model, not a model"
        return header, None

    def _header_of(self, path: Path) -> GGUFHeader:
        stamp = _stamp(path)
        with self._lock:
            known = self._headers.get(path)
        if known is not None and known[0] == stamp:
            return known[1]
        header = read_header(path)
        if stamp is not None:
            with self._lock:
                self._headers[path] = (stamp, header)
        return header

    def _digest(self, file: FoundFile) -> str:
        """Return the digest of a file; of a split model, of the digests of its files."""
        try:
            digests = [sha256_hex(p.name) or self._digests.digest(p) for p in file.files]
        except OSError:
            digests = []
        if len(digests) == 1:
            return digests[0]
        return hashlib.sha256("\n".join(digests or [str(file.path)]).encode()).hexdigest()

    def _base_of_model(self, from_: str) -> Manifest:
        model = self.get(from_)
        self._require_whole(model.path, model.problem)
        if model.manifest is not None:
            return dataclasses.replace(model.manifest, from_=from_)
        return Manifest(
            from_=from_,
            file=self._relative(model.path),
            projector=self._relative(model.projector) if model.projector else None,
        )

    def _base_of_files(self, files: Mapping[str, str]) -> Manifest:
        models: list[Path] = []
        projectors: list[Path] = []
        for name, digest in files.items():
            path = self.blobs.path(digest)
            if not path.is_file():
                raise BadDigest(
                    f"there is no blob {digest} for {name}",
                    hint="Upload it to /api/blobs/<digest> first.",
                )
            is_half = self._header_of(path).is_projector
            (projectors if is_half else models).append(path)
        if len(models) != 1 or len(projectors) > 1:
            raise BadModelFile(
                ", ".join(files), "one GGUF model file is needed, and at most one projector"
            )
        self._require_whole(models[0], self._header(found_at(models[0]))[1])
        projector = self._relative(projectors[0]) if projectors else None
        return Manifest(
            from_=next(iter(files)), file=self._relative(models[0]), projector=projector
        )

    def _require_whole(self, path: Path, problem: str | None) -> None:
        if problem is not None:
            raise BadModelFile(path.name, problem)

    def _relative(self, path: Path) -> str:
        """Return the path as manifests store it: a models folder may be moved."""
        inside = path.is_relative_to(self.models_dir)
        return path.relative_to(self.models_dir).as_posix() if inside else str(path)

    def _is_bundled(self, path: Path) -> bool:
        return any(path.is_relative_to(folder) for folder in self.bundled_dirs)

    def _delete_files(self, name: str, file: FoundFile) -> None:
        if self._is_bundled(file.path):
            raise ModelProtected(f"model '{name}' comes with the workbench and stays")
        # Only what the folder's scan lists: a path may lead out of it ("../"), or to a blob in it.
        if name not in self._sources() or not file.path.is_relative_to(self.models_dir):
            raise ModelProtected(
                f"model '{name}' is not a model of the models folder",
                hint="Delete the file yourself.",
            )
        users = [str(n) for n, manifest in self.manifests.all() if self._uses(manifest, file.path)]
        if users:
            raise ModelProtected(
                f"model '{name}' is used by {', '.join(users)}", hint="Delete those first."
            )
        for path in file.files:
            path.unlink(missing_ok=True)

    def _remove_unused_blobs(self, manifest: Manifest) -> None:
        for text in (manifest.file, manifest.projector):
            path = self.models_dir / text if text else None
            if path is None or path.parent != self.models_dir / "blobs":
                continue
            if not any(self._uses(other, path) for _, other in self.manifests.all()):
                path.unlink(missing_ok=True)

    def _uses(self, manifest: Manifest, path: Path) -> bool:
        return path in {
            self.models_dir / text for text in (manifest.file, manifest.projector or "")
        }


def _target(name: str) -> ModelName:
    if is_path(name):
        raise BadModelName(name)
    return parse_name(name)


def _stamp(path: Path) -> Stamp | None:
    try:
        return stamp_of(path)
    except OSError:
        return None


def _is_same(left: Path, right: Path) -> bool:
    try:
        return left.samefile(right)
    except OSError:
        return False
