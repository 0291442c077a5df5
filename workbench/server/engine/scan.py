"""Find the GGUF files of a models folder: whole models, split models, projectors."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from workbench.server.engine.gguf import shard_paths
from workbench.server.engine.names import name_of_stem

# The library's own folders; blobs are models only through a manifest.
RESERVED = frozenset({"blobs", "manifests"})

_SHARD = re.compile(r"-(\d{5})-of-(\d{5})$")
_PROJECTOR = re.compile(r"(^|[-_.])mmproj([-_.]|$)", re.IGNORECASE)
_QUANT = re.compile(r"[-_.](?:i?q\d\w*|f16|f32|bf16|mxfp4)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A model file in a folder.

    Attributes:
        path: The file, or the first of a model in several files.
        name: A name part made of the file name.
        projector: The image half that lies beside it.
    """

    path: Path
    name: str
    projector: Path | None

    @property
    def files(self) -> tuple[Path, ...]:
        """All files of the model, without the projector."""
        return shard_paths(self.path)


def scan(folder: Path) -> list[FoundFile]:
    """Return the models under `folder`, those nearest to it first; a missing folder has none."""
    found: list[FoundFile] = []
    for files in _folders(folder):
        projectors = [path for path in files if _PROJECTOR.search(path.stem)]
        models = [path for path in files if path not in projectors and _is_first(path)]
        for path in models:
            found.append(FoundFile(path, _name(path), _projector_of(path, models, projectors)))
    found.sort(key=lambda item: (len(item.path.parts), str(item.path)))
    return found


def found_at(path: Path) -> FoundFile:
    """Return the model whose file is `path`, wherever that is."""
    try:
        beside = [entry for entry in path.parent.iterdir() if _is_gguf(entry.name)]
    except OSError:
        beside = []
    projectors = [entry for entry in beside if _PROJECTOR.search(entry.stem) and entry != path]
    models = [entry for entry in beside if entry not in projectors and _is_first(entry)]
    return FoundFile(path, _name(path), _projector_of(path, models, projectors))


def _folders(top: Path) -> Iterator[list[Path]]:
    seen: set[tuple[int, int]] = set()
    for folder, names, files in os.walk(top, followlinks=True):
        here = _identity(folder)
        if here is None or here in seen:
            # It was removed meanwhile, or a link led back to a folder above it.
            names.clear()
            continue
        seen.add(here)
        skip = RESERVED if Path(folder) == top else frozenset()
        names[:] = sorted(n for n in names if n not in skip and not n.startswith("."))
        yield sorted(Path(folder, name) for name in files if _is_gguf(name))


def _identity(folder: str) -> tuple[int, int] | None:
    try:
        found = os.stat(folder)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _is_gguf(name: str) -> bool:
    return name.lower().endswith(".gguf") and not name.startswith(".")


def _is_first(path: Path) -> bool:
    match = _SHARD.search(path.stem)
    return match is None or int(match[1]) == 1


def _name(path: Path) -> str:
    return name_of_stem(_SHARD.sub("", path.stem))


def _projector_of(path: Path, models: Sequence[Path], projectors: Sequence[Path]) -> Path | None:
    """Return the projector of `path`: the one named for it, or the only one of the only model."""
    stem = path.stem.lower()
    for projector in projectors:
        base = _QUANT.sub("", _PROJECTOR.sub("-", projector.stem.lower()).strip("-_."))
        if base and stem.startswith(base):
            return projector
    return projectors[0] if len(models) == 1 and len(projectors) == 1 else None
