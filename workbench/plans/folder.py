"""Where the files of a run lie.

```
<runs>/<run_id>/
  run.json                    what was started: see `RunInfo`; written once, by rename
  plan.yaml                   the plan's text
  source.ipynb                the compiled notebook, as it was before anything ran
  notebook.ipynb              the same with outputs; replaced by rename
  journal.jsonl               everything that happened: see `plans.journal`
  cells.jsonl                 what the engine did, cell by cell
  record.json                 written when the run has ended: see `plans.record`
  control/cancel.json         asks the run to stop: {who, when}
  answers/<step>.json         an answer to an approval: see `plans.approvals`
  answers/in-advance.json     answers that were given in advance
  steps/<step>/committed/     a committed step (renamed from `.attempt-<n>`)
  steps/<step>/items/<i>/committed/   a committed item of a `foreach`
      step.json               key, attempt, outputs with hashes, requests, facts
      outputs/<name>.json     artefacts
      outputs/<name>.parquet
      tape.jsonl              what models answered: see `client.tape`
  runner.lock                 held by the process that carries the run out; says which one it is
  kernel.lock                 held by its kernel
  runner.log                  its stderr
```
A run that lies elsewhere (`--out`) has a file `<runs>/<run_id>.link` that holds its path.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from workbench.errors import StoreError
from workbench.locks import is_locked


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The paths of one run; making one touches nothing.

    Attributes:
        id: The run's id, where it is known; a folder that was not chosen is named for it.
    """

    path: Path
    id: str = field(default="", compare=False)

    @property
    def run_id(self) -> str:
        """The id of the run."""
        return self.id or self.path.name

    @property
    def info(self) -> Path:
        """What was started."""
        return self.path / "run.json"

    @property
    def plan(self) -> Path:
        """The plan's text."""
        return self.path / "plan.yaml"

    @property
    def notebook(self) -> Path:
        """The notebook of the run."""
        return self.path / "notebook.ipynb"

    @property
    def journal(self) -> Path:
        """What happened."""
        return self.path / "journal.jsonl"

    @property
    def cells(self) -> Path:
        """What the engine did."""
        return self.path / "cells.jsonl"

    @property
    def record(self) -> Path:
        """What the run was and gave."""
        return self.path / "record.json"

    @property
    def cancel(self) -> Path:
        """Its presence asks the run to stop."""
        return self.path / "control" / "cancel.json"

    @property
    def lock(self) -> Path:
        """Held by the process that carries the run out."""
        return self.path / "runner.lock"

    @property
    def kernel_lock(self) -> Path:
        """Held by the kernel of the run; it may outlive the runner for a moment."""
        return self.path / "kernel.lock"

    @property
    def source(self) -> Path:
        """The notebook as it was before anything ran."""
        return self.path / "source.ipynb"

    @property
    def log(self) -> Path:
        """The stderr of that process."""
        return self.path / "runner.log"

    @property
    def alive(self) -> bool:
        """Whether a process carries the run out now."""
        return is_locked(self.lock)

    def answer(self, step_id: str) -> Path:
        """Return the file of the answer to an approval."""
        return self.path / "answers" / f"{step_id}.json"

    def place(self, step_id: str, item: int | None = None) -> Path:
        """Return the folder of a step, or of an item of its `foreach`."""
        base = self.path / "steps" / step_id
        return base if item is None else base / "items" / str(item)

    def committed(self, step_id: str, item: int | None = None) -> Path:
        """Return the folder a step or item has once it is committed."""
        return self.place(step_id, item) / "committed"


def runs_dir(data_dir: Path) -> Path:
    """Return the folder of all runs of a data folder."""
    return data_dir / "runs"


def find_run(data_dir: Path, run: str | Path) -> RunFolder:
    """Return a run by its folder, its id, or the beginning of its id that no other has.

    Raises:
        StoreError: When there is none, or more than one.
    """
    given = Path(run)
    if (given / "run.json").is_file():
        return RunFolder(given.resolve(), _id_of(given))
    name = str(run)
    found = {f.run_id: f for f in all_runs(data_dir) if f.run_id.startswith(name)} if name else {}
    if len(found) != 1 and name not in found:
        many = f"{len(found)} runs begin with {name!r}" if found else f"there is no run {name!r}"
        raise StoreError(f"{many}.", hint="See `workbench runs`.")
    return found.get(name) or next(iter(found.values()))


def all_runs(data_dir: Path) -> Iterator[RunFolder]:
    """Yield the runs of a data folder, the newest first."""
    folder = runs_dir(data_dir)
    if not folder.is_dir():
        return
    for entry in sorted(folder.iterdir(), key=lambda path: path.name, reverse=True):
        place = entry
        if entry.suffix == ".link" and entry.is_file():
            place = Path(entry.read_text("utf-8").strip())
        if (place / "run.json").is_file():
            yield RunFolder(place, entry.stem)


def _id_of(path: Path) -> str:
    try:
        return str(json.loads((path / "run.json").read_text(encoding="utf-8"))["run_id"])
    except (OSError, ValueError, KeyError, TypeError):
        return path.name
