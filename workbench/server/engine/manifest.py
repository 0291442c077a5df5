"""Created models: one small JSON file that names a GGUF file and what goes with it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from workbench.server.engine.digests import write_atomically
from workbench.server.engine.names import BadModelName, ModelName, parse_name

SCHEMA: Final = 1


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A created model.

    Attributes:
        from_: The name or path that it was made of, as the user gave it.
        file: The GGUF file: relative to the models folder, or absolute outside of it.
        projector: The image half, in the same form.
        template: Replaces the chat template in the file.
        system: System prompt of a conversation that has none.
        parameters: Options of a request that does not set them.
        license: Texts.
        messages: Messages before the first of each conversation.
    """

    from_: str
    file: str
    projector: str | None = None
    template: str | None = None
    system: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    license: tuple[str, ...] = ()
    messages: tuple[Mapping[str, Any], ...] = ()

    def to_json(self) -> bytes:
        """Return the bytes of its file; equal manifests give equal bytes."""
        data = {"schema": SCHEMA, **asdict(self)}
        return json.dumps(data, ensure_ascii=False, indent=1, sort_keys=True).encode() + b"\n"

    @property
    def digest(self) -> str:
        """SHA-256 of the manifest as 64 hexadecimal digits."""
        return hashlib.sha256(self.to_json()).hexdigest()


def manifest_of_json(data: bytes) -> Manifest:
    """Return the manifest in the bytes of a file.

    Raises:
        ValueError: When they are not one.
    """
    values = json.loads(data)
    if not isinstance(values, dict) or values.pop("schema", None) != SCHEMA:
        raise ValueError("not a model manifest of this version")
    try:
        values["license"] = tuple(values.get("license") or ())
        values["messages"] = tuple(values.get("messages") or ())
        return Manifest(**values)
    except TypeError as exc:
        raise ValueError(f"not a model manifest: {exc}") from exc


class ManifestStore:
    """The folder `manifests/[<namespace>/]<name>/<tag>.json` of a models folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, name: ModelName) -> Path:
        """Return where the manifest of `name` is or would be."""
        *parents, tag = name.parts
        return self._folder.joinpath(*parents, f"{tag}.json")

    def read(self, name: ModelName) -> Manifest | None:
        """Return the manifest of `name`; `None` when there is none that can be read."""
        try:
            return manifest_of_json(self.path(name).read_bytes())
        except (OSError, ValueError):
            return None

    def write(self, name: ModelName, manifest: Manifest) -> None:
        """Store a manifest, replacing the one of that name.

        Raises:
            OSError: When it cannot be written.
        """
        write_atomically(self.path(name), manifest.to_json())

    def delete(self, name: ModelName) -> bool:
        """Remove the manifest of `name`; return whether there was one."""
        path = self.path(name)
        try:
            path.unlink()
        except FileNotFoundError:
            return False
        for folder in path.relative_to(self._folder).parents:
            # Folders that still hold another tag or model stay.
            with contextlib.suppress(OSError):
                (self._folder / folder).rmdir()
        return True

    def all(self) -> Iterator[tuple[ModelName, Manifest]]:
        """Return each manifest that can be read, with its name."""
        # os.walk, because Path.rglob raises when another thread removes a folder meanwhile.
        found = (Path(top, name) for top, _, names in os.walk(self._folder) for name in names)
        for path in sorted(path for path in found if path.suffix == ".json"):
            name = self._name_at(path)
            manifest = self.read(name) if name is not None else None
            if name is not None and manifest is not None:
                yield name, manifest

    def _name_at(self, path: Path) -> ModelName | None:
        *parents, tag = path.relative_to(self._folder).with_suffix("").parts
        try:
            return parse_name("/".join(parents) + ":" + tag)
        except BadModelName:
            return None


def merged(base: Manifest, changes: Mapping[str, Any]) -> Manifest:
    """Return `base` with the values of `changes` that are not `None`; parameters are merged."""
    values = {f: getattr(base, f) for f in base.__dataclass_fields__}
    for key, value in changes.items():
        if value is None:
            continue
        if key == "parameters":
            value = {**base.parameters, **value}
        values[key] = value
    return Manifest(**values)


def texts(value: str | Sequence[str] | None) -> tuple[str, ...] | None:
    """Return licences, given as one text or several, as a tuple."""
    if value is None:
        return None
    return (value,) if isinstance(value, str) else tuple(value)
