"""What all steps of a run share in its kernel: folder, plan, journal, client, models, cache."""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workbench.client.api import WorkbenchClient
from workbench.errors import StoreError
from workbench.plans.artifacts import (
    OutputFacts,
    StepFile,
    check_outputs,
    file_digest,
    read_output,
    read_step,
)
from workbench.plans.cache import StepCache
from workbench.plans.folder import RunFolder
from workbench.plans.identity import Identity, ask_server
from workbench.plans.info import RunInfo, replayed
from workbench.plans.journal import RunJournal, read_lines
from workbench.plans.keys import FRAME_HASH, texts_in
from workbench.plans.models import ModelRoom, missing_models
from workbench.plans.spec import Plan

_LOCAL_SLOTS = max(2, os.cpu_count() or 2)

Place = tuple[str, int | None]
"""A step, or an item of its `foreach`."""


class Outputs(Mapping[str, Any]):
    """The outputs of a committed step by name; tables are read when they are asked for."""

    def __init__(
        self,
        folder: Path | None,
        facts: Mapping[str, OutputFacts],
        values: Mapping[str, Any] | None = None,
    ) -> None:
        self._folder = folder
        self.facts = facts
        self._values = dict(values or {})

    def __getitem__(self, name: str) -> Any:
        if name not in self._values:
            if self._folder is None or name not in self.facts:
                raise KeyError(name)
            value = read_output(self._folder, name, self.facts[name])
            if self.facts[name]["type"] == "parquet":
                value.attrs[FRAME_HASH] = self.facts[name]["sha256"]
            self._values[name] = value
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.facts or self._values)

    def __len__(self) -> int:
        return len(self.facts or self._values)

    def load(self) -> None:
        """Read all of them; not for the event loop."""
        for name in self:
            self[name]


class Nulls(Mapping[str, Any]):
    """What stands for the outputs of a step that was skipped: null under every name."""

    def __getitem__(self, name: str) -> None:
        return None

    def __contains__(self, name: object) -> bool:
        return True

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


@dataclass
class Stage:
    """What the steps of a run share; all of it on the portal's event loop.

    Attributes:
        client: The door to the server; in a replay nothing is connected.
        replay: The run whose tapes are played.
        room: `None` in a replay.
        begun: The last attempt that began, of each step and item, by the journal.
        untaped: Why no tape is recorded, if none is.
        files: Hashes of files that were read: path, time of change and size to hash.
    """

    folder: RunFolder
    plan: Plan
    params: Mapping[str, Any]
    info: RunInfo
    journal: RunJournal
    client: WorkbenchClient
    cache: StepCache
    replay: RunFolder | None = None
    room: ModelRoom | None = None
    digests: dict[str, str | None] = field(default_factory=dict)
    begun: dict[Place, int] = field(default_factory=dict)
    untaped: str | None = None
    files: dict[tuple[str, int, int], str] = field(default_factory=dict)
    slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_LOCAL_SLOTS))

    @classmethod
    def open(
        cls,
        folder: RunFolder,
        plan: Plan,
        params: Mapping[str, Any],
        info: RunInfo,
        client: WorkbenchClient,
        *,
        untaped: str | None = None,
    ) -> Stage:
        """Return the stage of a run whose folder is there."""
        replay = replayed(info)
        room = None if replay else ModelRoom(client, f"run {info.plan} {info.run_id}")
        return cls(
            folder=folder,
            plan=plan,
            params=params,
            info=info,
            journal=RunJournal(folder.journal),
            client=client,
            cache=StepCache(Path(info.data_dir)),
            replay=replay,
            room=room,
            digests=info.digests,
            begun=_begun(folder),
            untaped=untaped,
        )

    async def digest(self, model: str) -> str | None:
        """Return the digest of a model; one that only the run itself names is looked up.

        Raises:
            PlanInvalid: When it is not installed.
        """
        if model not in self.digests and self.replay is None:
            found = Identity()
            await ask_server(found, [model], self.client)
            error = missing_models(found, {}, plan=self.plan.name)
            if error is not None:
                raise error
            self.digests[model] = found.models[model]["digest"]
        return self.digests.get(model)

    def kept(self, place: Place, key: str) -> tuple[StepFile | None, str | None]:
        """Return what was committed before under this key and is whole, or why it does not count.

        Reads and hashes files: not for the event loop.
        """
        folder = self.folder.committed(*place)
        try:
            found = read_step(folder)
            if found is None:
                return None, None
            if found.key != key:
                return None, "what it depends on has changed"
            check_outputs(folder, found)
        except StoreError as exc:
            return None, exc.message
        return found, None

    def files_in(self, value: Any) -> dict[str, str | None]:
        """Return the hash of each parameter that is a file and stands in a value; reads files.

        `None` is a file that is gone.
        """
        texts = list(texts_in(value))
        found = {}
        for param in self.plan.params:
            path = self.params.get(param.name)
            if param.type == "file" and path and any(path in text for text in texts):
                found[param.name] = self._file(Path(path))
        return found

    def _file(self, path: Path) -> str | None:
        try:
            facts = path.stat()
            seen = (str(path), facts.st_mtime_ns, facts.st_size)
            if seen not in self.files:
                self.files[seen] = file_digest(path)
        except OSError:
            return None
        return self.files[seen]

    @property
    def uses_cache(self) -> bool:
        """Whether results may be taken from the cache and put into it."""
        return self.info.cache and self.replay is None


def _begun(folder: RunFolder) -> dict[Place, int]:
    lines, _ = read_lines(folder.journal)
    found: defaultdict[Place, int] = defaultdict(int)
    for line in lines:
        if line["event"] == "step_started":
            place = (line["step"], line.get("item"))
            found[place] = max(found[place], line["attempt"])
    return found
