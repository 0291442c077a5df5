"""Model names: `[namespace/]name[:tag]`, without regard to case, the tag "latest" by default."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from workbench.errors import EngineError

DEFAULT_TAG: Final = "latest"
# Ollama's own models are in this namespace, which it never prints.
DEFAULT_NAMESPACE: Final = "library"
MAX_PART: Final = 80

# It starts with a letter or digit, so that no part can be "..": parts become folder names.
_PART = re.compile(rf"[a-z0-9][a-z0-9_.\-]{{0,{MAX_PART - 1}}}")
_UNSAFE = re.compile(r"[^a-z0-9_.\-]+")
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")


class BadModelName(EngineError):
    """Raised when a text cannot be the name of a model."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name!r} is not a model name",
            hint="A name is [namespace/]name[:tag] of letters, digits, '_', '-' and '.'.",
        )
        self.name = name


@dataclass(frozen=True, slots=True, order=True)
class ModelName:
    """A model name in its parts, all in lower case."""

    namespace: str | None
    name: str
    tag: str

    def __str__(self) -> str:
        prefix = f"{self.namespace}/" if self.namespace else ""
        return f"{prefix}{self.name}:{self.tag}"

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts that are there, as folders and file of a manifest."""
        return tuple(part for part in (self.namespace, self.name, self.tag) if part)


def parse_name(text: str) -> ModelName:
    """Return the parts of a model name.

    Raises:
        BadModelName: When it does not follow the grammar.
    """
    path, _, tag = text.strip().lower().partition(":")
    *rest, name = path.split("/")
    namespace = rest[0] if rest else None
    tag = tag or DEFAULT_TAG
    if len(rest) > 1 or not all(_PART.fullmatch(p) for p in (name, tag, namespace or "x")):
        raise BadModelName(text)
    return ModelName(None if namespace == DEFAULT_NAMESPACE else namespace, name, tag)


def name_of_stem(stem: str) -> str:
    """Return a legal name part for the stem of a file name, whatever is in it."""
    safe = _UNSAFE.sub("-", stem.lower()).strip("-._")
    return safe[:MAX_PART].rstrip("-._") or "model"


def is_path(text: str) -> bool:
    """Return whether a model is named by the path of its file."""
    return (
        text.startswith(("/", "./", "../", "~", "\\"))
        or text.lower().endswith(".gguf")
        or _DRIVE.match(text) is not None
    )
