"""What the levels of verification share: the run that is checked, and what is asked of it first."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from workbench.client.tape_file import read_tape
from workbench.errors import CannotVerify, ReplayMismatch
from workbench.plans.artifacts import TAPE_FILE, file_digest
from workbench.plans.folder import RunFolder
from workbench.plans.info import RunInfo, read_info, read_plan
from workbench.plans.journal import read_lines
from workbench.plans.record import read_record
from workbench.plans.spec import Plan
from workbench.plans.state import state_of

if TYPE_CHECKING:
    import pandas as pd

Level = Literal["replay", "models", "seeds"]


class Verification(ABC):
    """What a check of a run found; prints as text for people.

    Attributes:
        run_id: The run that was checked.
        level: `replay`, `models` or `seeds`.
        ok: Whether the run holds at that level.
    """

    run_id: str
    level: Level
    ok: bool

    @abstractmethod
    def lines(self) -> list[str]:
        """Return what is told of it, line by line."""

    @abstractmethod
    def to_frame(self) -> pd.DataFrame:
        """Return a DataFrame: of steps, of answers or of seeds."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def __repr__(self) -> str:
        return str(self)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(str(self))


@dataclass(frozen=True)
class Subject:
    """The run that is checked.

    Attributes:
        record: As it was written when the run ended.
    """

    folder: RunFolder
    info: RunInfo
    record: Mapping[str, Any]

    @classmethod
    def read(cls, folder: RunFolder) -> Subject:
        """Read a run that has ended.

        Raises:
            CannotVerify: When it goes on, or is no run of a plan.
            StoreError: When it cannot be read.
        """
        info = read_info(folder)
        if info.kind != "plan":
            raise CannotVerify(
                info.run_id,
                "it is one of a notebook, and only the runs of plans are recorded step by step",
                hint="Write the notebook as a plan, or compare two runs: workbench diff.",
            )
        lines, _ = read_lines(folder.journal)
        # The kernel of a notebook holds the lock of a run by hand also after its end.
        goes_on = state_of(lines, alive=True).status in ("starting", "running")
        if goes_on and folder.alive:
            raise CannotVerify(
                info.run_id, "it is still being carried out", hint="Wait for its end."
            )
        return cls(folder, info, read_record(folder))

    def plan(self) -> Plan:
        """Return the plan as the run has it; its relative paths start where the run's did.

        Raises:
            PlanInvalid: When it cannot be run any more, as when its code is gone.
        """
        return read_plan(self.folder, self.info)


def changed_tapes(subject: Subject) -> Iterator[str]:
    """Yield the tapes of a run that are not as they were when it ended; reads all of them.

    Raises:
        ReplayMismatch: When one is missing or cannot be read.
        SchemaTooNew: When a newer version of the workbench wrote one.
    """
    for step, row in subject.record["steps"].items():
        for tape in row["tapes"]:
            path = subject.folder.committed(step, tape["item"]) / TAPE_FILE
            if not path.is_file():
                raise ReplayMismatch(
                    f"the tape of step {step} is missing.",
                    tape=str(path),
                    hint="It was there when the run ended; nothing else knows the answers.",
                )
            read_tape(path)
            if file_digest(path) != tape["sha256"]:
                yield f"{path.relative_to(subject.folder.path)}: the tape was changed"
