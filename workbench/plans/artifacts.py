"""What steps hand to each other: files of JSON or Parquet, known by their hash, committed at once.

A step is written into a folder of its attempt, which becomes `committed` by one rename after every
file in it has reached the disk.  What has that name is whole, whatever was killed when.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import msgspec

from workbench.errors import SchemaTooNew, StoreError
from workbench.plans.spec import OutputType

STEP_VERSION = 1
STEP_FILE = "step.json"
TAPE_FILE = "tape.jsonl"

OutputFacts = Mapping[str, Any]
"""What is known of an artefact: `{sha256, type, bytes, rows}`; rows is `None` for what has none."""


def canonical(value: Any) -> bytes:
    """Return a JSON value as the bytes that are hashed: UTF-8, sorted keys, no spaces.

    Raises:
        StoreError: When it is no JSON value.
    """
    try:
        text = json.dumps(
            value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=True
        )
        return text.encode()
    except (TypeError, ValueError) as exc:
        raise StoreError(f"This is no JSON value: {exc}.") from exc


def digest(value: Any) -> str:
    """Return the SHA-256 of a JSON value, in hex."""
    return hashlib.sha256(canonical(value)).hexdigest()


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True, slots=True)
class StepFile:
    """What `step.json` of a committed folder says.

    Attributes:
        status: `done`, or `cached` when it came from the cache.
        requests: One mapping for each request to a model.
        skipped: Ids of the steps this one decided against, with the reason.
        stop: Why nothing that was left should run.
        replayable: Whether its tape can stand for the models.
        from_run: The run a cached one was made by.
    """

    step: str
    key: str
    attempt: int
    item: int | None = None
    status: str = "done"
    outputs: Mapping[str, OutputFacts] = field(default_factory=dict)
    requests: tuple[Mapping[str, Any], ...] = ()
    seconds: float | None = None
    started: str = ""
    ended: str = ""
    summary: str = ""
    skipped: Mapping[str, str] = field(default_factory=dict)
    stop: str | None = None
    replayable: bool = True
    from_run: str | None = None

    def to_wire(self) -> dict[str, Any]:
        """Return the JSON object of the file."""
        named = {name: getattr(self, name) for name in self.__slots__}
        return {"v": STEP_VERSION, **named, "requests": list(self.requests)}


def save_outputs(
    folder: Path, types: Mapping[str, OutputType], values: Mapping[str, Any]
) -> dict[str, OutputFacts]:
    """Write the outputs of a step into its folder and return what is known of each.

    Args:
        folder: Of the attempt.
        types: Name to form; a name without one is JSON.

    Raises:
        StoreError: When a value does not have its form.
    """
    place = folder / "outputs"
    place.mkdir(exist_ok=True)
    facts: dict[str, OutputFacts] = {}
    for name, value in values.items():
        kind = types.get(name, "json")
        path = place / f"{name}.{kind}"
        try:
            rows = _write(path, kind, value)
        except StoreError as exc:
            hint = exc.hint
            raise StoreError(
                f"The output {name!r} cannot be kept: {exc.message}", hint=hint
            ) from exc
        facts[name] = {
            "sha256": file_digest(path),
            "type": kind,
            "bytes": path.stat().st_size,
            "rows": rows,
        }
    return facts


def _write(path: Path, kind: OutputType, value: Any) -> int | None:
    """Write an artefact and return how many rows it has."""
    if kind == "json":
        path.write_bytes(canonical(value))
        return len(value) if isinstance(value, list) else None
    from workbench.metrics.parquet import write_parquet

    if not hasattr(value, "columns"):
        raise StoreError(f"Parquet needs a DataFrame, not {type(value).__name__}.")
    write_parquet(value, path)
    return len(value)


def read_output(folder: Path, name: str, facts: OutputFacts) -> Any:
    """Return an output of a committed step: a JSON value, or a DataFrame.

    Raises:
        StoreError: When the file is missing or was changed; names it.
    """
    path = folder / "outputs" / f"{name}.{facts['type']}"
    try:
        same = file_digest(path) == facts["sha256"]
    except OSError as exc:
        raise StoreError(f"The artefact {path} cannot be read: {exc.strerror}.") from exc
    if not same:
        raise StoreError(
            f"The artefact {path} was changed: its hash is not the one that was recorded.",
            hint="`workbench resume` makes it again.",
        )
    if facts["type"] == "json":
        return json.loads(path.read_bytes())
    from workbench.metrics.parquet import read_parquet

    return read_parquet(path)


def write_step(folder: Path, step: StepFile) -> None:
    """Write `step.json` into the folder of an attempt."""
    data = json.dumps(step.to_wire(), ensure_ascii=False, indent=1, sort_keys=True)
    (folder / STEP_FILE).write_text(data, encoding="utf-8")


def read_step(folder: Path) -> StepFile | None:
    """Return what a committed folder says of itself; `None` when there is no such folder.

    Raises:
        StoreError: When its file cannot be read.
        SchemaTooNew: When a newer version wrote it.
    """
    path = folder / STEP_FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(found, dict) and found.get("v", 0) > STEP_VERSION:
            raise SchemaTooNew(str(path), found=found["v"], supported=STEP_VERSION)
        step = msgspec.convert(found, StepFile)
        for name, facts in step.outputs.items():
            _check_facts(name, facts)
        return step
    except FileNotFoundError:
        if not folder.exists():
            return None
        raise StoreError(f"The file {path} is missing.") from None
    except (OSError, ValueError, TypeError) as exc:
        raise StoreError(f"The file {path} cannot be read: {exc}.") from exc


def _check_facts(name: str, facts: OutputFacts) -> None:
    """Refuse what is known of an output when no artefact can be found by it."""
    if facts.get("type") not in get_args(OutputType) or not isinstance(facts.get("sha256"), str):
        raise ValueError(f"the output {name!r} has no type or no hash")


def check_outputs(folder: Path, step: StepFile) -> None:
    """Compare the files of a committed step with the hashes it was committed with.

    Raises:
        StoreError: When one is missing or was changed; names it.
    """
    for name, facts in step.outputs.items():
        path = folder / "outputs" / f"{name}.{facts['type']}"
        try:
            same = file_digest(path) == facts["sha256"]
        except OSError as exc:
            raise StoreError(f"{path} cannot be read: {exc.strerror}") from exc
        if not same:
            raise StoreError(f"{path} was changed on disk")


def commit(attempt: Path, committed: Path) -> None:
    """Make the folder of an attempt the committed one: everything in it, or nothing.

    Raises:
        StoreError: When the disk does not take it.
    """
    try:
        for path in _files_first(attempt):
            _sync(path)
        os.rename(attempt, committed)
        _sync(committed.parent)
    except OSError as exc:
        raise StoreError(f"{committed} cannot be written: {exc.strerror}.") from exc


def _files_first(folder: Path) -> Iterator[Path]:
    for base, folders, files in os.walk(folder, topdown=False):
        yield from (Path(base, name) for name in files if not Path(base, name).is_symlink())
        yield from (Path(base, name) for name in folders if not Path(base, name).is_symlink())
    yield folder


def _sync(path: Path) -> None:
    # Windows has no descriptors of folders, and its renames need none.
    if os.name != "posix" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def attempt_folder(place: Path, attempt: int) -> Path:
    """Make the folder of an attempt, empty, and return it."""
    folder = place / f".attempt-{attempt}"
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    return folder


def last_attempt(place: Path) -> int:
    """Return the number of the last attempt that left a folder; 0 when there is none."""
    numbers = [path.name.removeprefix(".attempt-") for path in place.glob(".attempt-*")]
    return max((int(number) for number in numbers if number.isdigit()), default=0)


def clear_attempts(place: Path) -> None:
    """Remove what attempts that were not committed have left."""
    for path in (*place.glob(".attempt-*"), *place.glob(".replaced-*")):
        shutil.rmtree(path, ignore_errors=True)


def set_aside(committed: Path) -> None:
    """Take a committed folder that no longer counts out of the way of the next one."""
    number = 1 + sum(1 for _ in committed.parent.glob(".replaced-*"))
    os.rename(committed, committed.parent / f".replaced-{number}")


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file by rename, on the disk before it has its name.

    Raises:
        StoreError: When it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        with partial.open("w", encoding="utf-8") as file:
            json.dump(value, file, ensure_ascii=False, indent=1)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as exc:
        raise StoreError(f"{path} cannot be written: {exc.strerror}.") from exc
