"""What two runs have in common and where they differ: `workbench diff A B`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from workbench.client.compare import ABSENT, Difference, differences
from workbench.client.values import aligned, frame_of
from workbench.errors import StoreError
from workbench.plans.artifacts import read_output
from workbench.plans.folder import RunFolder
from workbench.plans.record import read_record
from workbench.units import format_seconds

if TYPE_CHECKING:
    import pandas as pd

_SHOWN = 12

_ENVIRONMENT = ("python", "platform", "machine", "host", "workbench", "packages")
_CODE = ("git_commit", "git_diff_sha256")
_SERVER = ("version", "backend_versions", "gpu_driver", "gpus")
_MODEL = ("digest", "quantization", "context_length")


@dataclass(frozen=True, slots=True)
class StepDiff:
    """One step of two runs; `None` where a run does not have it.

    Attributes:
        outputs: Names of the outputs whose hashes differ, or that one run lacks.
        first: The first value that differs; `None` when none does or it cannot be told.
    """

    step: str
    status_a: str | None
    status_b: str | None
    seconds_a: float | None
    seconds_b: float | None
    outputs: tuple[str, ...] = ()
    decided: bool = False
    first: Difference | None = None
    reason: str = ""

    @property
    def same(self) -> bool:
        """Whether both gave the same."""
        return not self.outputs and not self.decided and self.given_a is self.given_b

    @property
    def given_a(self) -> bool:
        """Whether the first run has outputs of it."""
        return self.status_a in _GAVE

    @property
    def given_b(self) -> bool:
        """Whether the second run has outputs of it."""
        return self.status_b in _GAVE

    def cells(self) -> dict[str, str]:
        """Return column title to printed value."""
        seconds = [
            "-" if value is None else format_seconds(value)
            for value in (self.seconds_a, self.seconds_b)
        ]
        return {
            "STEP": self.step,
            "A": self.status_a or "absent",
            "B": self.status_b or "absent",
            "RESULT": "same" if self.same else "differs",
            "TIME A": seconds[0],
            "TIME B": seconds[1],
        }


_GAVE = ("done", "cached", "kept")


@dataclass(frozen=True)
class RunDiff:
    """Two runs side by side.

    Attributes:
        a: Id of the first run.
        b: Id of the second.
        same: Whether both gave the same: equal content hashes.
        what: Differences of what the runs were made of: plan, parameters, files, models,
            environment, code, server; by their path in the record.
        steps: In the order of the first run's plan.
    """

    a: str
    b: str
    same: bool
    what: tuple[Difference, ...] = ()
    steps: tuple[StepDiff, ...] = field(default=())

    @property
    def first(self) -> StepDiff | None:
        """The first step that gave something else; `None` when all gave the same."""
        return next((step for step in self.steps if not step.same), None)

    def __str__(self) -> str:
        result = "gave the same" if self.same else "gave different results"
        lines = [f"A {self.a} and B {self.b} {result}."]
        if self.what:
            lines += ["", "Made of (A and B):", *(f"  {item}" for item in self.what[:_SHOWN])]
            if len(self.what) > _SHOWN:
                lines.append(f"  and {len(self.what) - _SHOWN} more")
        if self.steps:
            lines += ["", *aligned([step.cells() for step in self.steps])]
        if (first := self.first) is not None:
            lines += ["", describe(first)]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return str(self)

    def to_frame(self) -> pd.DataFrame:
        """Return a DataFrame with one row per step.

        Columns: step, status_a, status_b (text), seconds_a, seconds_b (s), outputs (names of those
        that differ), decided (whether it decided otherwise), first (the first value that differs),
        reason (text).
        """
        return frame_of(self.steps)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "a": self.a,
            "b": self.b,
            "same": self.same,
            "what": [difference_json(item) for item in self.what],
            "steps": [step_json(step) for step in self.steps],
            "first": None if self.first is None else step_json(self.first),
        }


def describe(step: StepDiff) -> str:
    """Return where a step differs first, in words."""
    if step.first is not None:
        return f"First difference in step {step.step}: {step.first}."
    if step.reason:
        return f"First difference in step {step.step}: {step.reason}."
    if step.given_a is not step.given_b:
        a, b = step.status_a or "absent", step.status_b or "absent"
        return f"First difference in step {step.step}: it is {a} in A and {b} in B."
    return f"First difference in step {step.step}: it decided otherwise."


def step_json(step: StepDiff) -> dict[str, Any]:
    """Return a step as JSON values."""
    first = None if step.first is None else difference_json(step.first)
    named = ("step", "status_a", "status_b", "seconds_a", "seconds_b", "decided", "reason", "same")
    row = {name: getattr(step, name) for name in named}
    return {**row, "outputs": list(step.outputs), "first": first}


def difference_json(item: Difference) -> dict[str, Any]:
    """Return a difference as JSON values; what is absent is null and has no side."""
    row: dict[str, Any] = {"path": item.path, "character": item.index}
    for side, value in (("a", item.a), ("b", item.b)):
        if value is not ABSENT:
            row[side] = value
    return row


def diff_runs(a: RunFolder, b: RunFolder) -> RunDiff:
    """Compare two runs: what they were made of, and what each step gave.

    Raises:
        StoreError: When a run cannot be read.
    """
    one, other = read_record(a), read_record(b)
    return diff_records(one, other, a, b)


def diff_records(
    one: Mapping[str, Any], other: Mapping[str, Any], a: RunFolder, b: RunFolder
) -> RunDiff:
    """Compare two runs by their records; the folders are read where hashes differ."""
    names = [*one["steps"], *(name for name in other["steps"] if name not in one["steps"])]
    steps = [_step(name, one["steps"].get(name), other["steps"].get(name), a, b) for name in names]
    return RunDiff(
        str(one["run_id"]),
        str(other["run_id"]),
        one["content_hash"] == other["content_hash"],
        tuple(_what(one, other)),
        tuple(steps),
    )


def _what(a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[Difference]:
    """Yield the differences of what two runs were made of, without sizes, times and places."""
    for name in ("plan", "plan_hash", "params", "kind"):
        yield from differences(a.get(name), b.get(name), name)
    yield from differences(_files(a), _files(b), "inputs")
    yield from differences(_models(a), _models(b), "models")
    for part, names in (("environment", _ENVIRONMENT), ("code", _CODE), ("server", _SERVER)):
        mine, theirs = ((run.get("identity") or {}).get(part) or {} for run in (a, b))
        for name in names:
            yield from differences(mine.get(name), theirs.get(name), f"{part}.{name}")


def _models(run: Mapping[str, Any]) -> dict[str, Any]:
    models = run["models"].items()
    return {name: {key: facts.get(key) for key in _MODEL} for name, facts in models}


def _files(run: Mapping[str, Any]) -> dict[str, Any]:
    inputs = (run.get("identity") or {}).get("inputs") or {}
    return {name: facts["sha256"] for name, facts in inputs.items()}


def _step(
    name: str,
    one: Mapping[str, Any] | None,
    other: Mapping[str, Any] | None,
    a: RunFolder,
    b: RunFolder,
) -> StepDiff:
    mine, theirs = (row or {} for row in (one, other))
    found = StepDiff(
        name,
        mine.get("status"),
        theirs.get("status"),
        mine.get("seconds"),
        theirs.get("seconds"),
        decided=bool(one and other) and mine.get("decision") != theirs.get("decision"),
    )
    if not (found.given_a and found.given_b):
        error = (theirs if found.given_a else mine).get("error") or {}
        return _with(found, reason=str(error.get("message") or ""))
    outputs = mine["outputs"], theirs["outputs"]
    differing = [
        output
        for output in [*outputs[0], *(o for o in outputs[1] if o not in outputs[0])]
        if _hash(outputs[0].get(output)) != _hash(outputs[1].get(output))
    ]
    if not differing:
        return found
    first, reason = _first(name, differing, outputs, a, b)
    return _with(found, outputs=tuple(differing), first=first, reason=reason)


def _with(found: StepDiff, **changes: Any) -> StepDiff:
    return replace(found, **changes)


def _hash(facts: Mapping[str, Any] | None) -> str | None:
    return None if facts is None else str(facts["sha256"])


def _first(
    step: str,
    names: Sequence[str],
    outputs: tuple[Mapping[str, Any], Mapping[str, Any]],
    a: RunFolder,
    b: RunFolder,
) -> tuple[Difference | None, str]:
    """Return the first value in which the outputs of a step differ, or why it cannot be told."""
    reason = ""
    for name in names:
        if name not in outputs[0] or name not in outputs[1]:
            reason = reason or f"only one run has the output {name}"
            continue
        try:
            one = read_output(a.committed(step), name, outputs[0][name])
            other = read_output(b.committed(step), name, outputs[1][name])
        except StoreError as exc:
            reason = reason or exc.message.rstrip(".")
            continue
        found = next(differences(_plain(one), _plain(other), name), None)
        if found is not None:
            return found, ""
        reason = reason or f"the bytes of {name} differ, and its values do not"
    return None, reason


def _plain(value: Any) -> Any:
    """Return an output as JSON values; a table as its columns and rows."""
    if not hasattr(value, "columns"):
        return value
    columns = [str(column) for column in value.columns]
    rows = [dict(zip(columns, row, strict=True)) for row in value.itertuples(index=False)]
    return {"columns": columns, "rows": rows}
