"""Names of models: `name:tag@backend`, with the rules of Ollama's types/model/name.go."""

from __future__ import annotations

from dataclasses import dataclass

_DEFAULT_PREFIXES = ("registry.ollama.ai/library/", "registry.ollama.ai/", "library/")


@dataclass(frozen=True, slots=True)
class ModelRef:
    """A model as a request names it; `name` is canonical, `backend` is `None` when not given."""

    name: str
    backend: str | None = None

    def __str__(self) -> str:
        return f"{self.name}@{self.backend}" if self.backend else self.name


def canonical(name: str) -> str:
    """Return the name with its tag and without Ollama's default host and namespace.

    A colon begins the tag only after the last slash: `host:5000/x` has no tag yet.
    """
    text = name.removeprefix("https://").removeprefix("http://")
    for prefix in _DEFAULT_PREFIXES:
        if text.lower().startswith(prefix):
            text = text[len(prefix) :]
            break
    last = text.rsplit("/", 1)[-1]
    return text if ":" in last else f"{text}:latest"


def parse_ref(name: str) -> ModelRef:
    """Split `name:tag@backend`."""
    model, at, backend = name.rpartition("@")
    if not at or "/" in backend:
        return ModelRef(canonical(name))
    return ModelRef(canonical(model), backend or None)


def same_name(one: str, other: str) -> bool:
    """Whether two names mean the same model; names are compared without regard to case."""
    return canonical(one).lower() == canonical(other).lower()
