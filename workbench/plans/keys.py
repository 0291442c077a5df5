"""The key of a step: a hash of everything its result depends on."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from workbench.plans.artifacts import digest, file_digest
from workbench.plans.spec import Step

KEY_VERSION = 1
"""Raised when the same step would no longer give the same result, so that no old one is taken."""

FRAME_HASH = "workbench_sha256"
"""Where a DataFrame that was read from an artefact carries the hash of its file."""


def step_key(
    step: Step,
    *,
    config: Mapping[str, Any],
    inputs: Mapping[str, Any],
    names: Mapping[str, Any],
    code: Mapping[str, Any],
    files: Mapping[str, str | None],
    models: Mapping[str, str | None],
) -> str:
    """Return the key of a step or of an item of its `foreach`.

    The id of the step, its place in the plan and how often or how long it is tried are no part of
    it: they do not change the result.

    Args:
        config: The fields of its kind, resolved.
        inputs: Likewise.
        names: Every name its expressions use, with its value.
        code: What the kind says its result depends on besides, such as hashes of files.
        files: Parameter to the hash of each file that it is given.
        models: Name to digest of each model it asks.
    """
    return digest(
        {
            "v": KEY_VERSION,
            "kind": step.kind,
            "config": plain(config),
            "inputs": plain(inputs),
            "names": plain(names),
            "outputs": dict(step.outputs),
            "code": plain(code),
            "files": dict(files),
            "models": dict(models),
        }
    )


def foreach_key(step: Step, items: list[str]) -> str:
    """Return the key of a step with `foreach`: that of its items, in order."""
    form = {"v": KEY_VERSION, "items": items, "variables": list(step.foreach)}
    return digest({**form, "on_error": step.on_error, "outputs": dict(step.outputs)})


def texts_in(value: Any) -> Iterator[str]:
    """Yield every text in a value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from texts_in(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from texts_in(item)


def plain(value: Any) -> Any:
    """Return a value as JSON holds it, a DataFrame as the hash of its artefact."""
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "columns") and hasattr(value, "attrs"):
        return {"parquet": value.attrs.get(FRAME_HASH) or _frame_hash(value)}
    return value


def _frame_hash(frame: Any) -> str:
    """Return the hash of a frame that came from no artefact."""
    from workbench.metrics.parquet import write_parquet

    with tempfile.TemporaryDirectory(prefix="workbench-key-") as folder:
        path = Path(folder) / "frame.parquet"
        write_parquet(frame, path)
        return file_digest(path)
