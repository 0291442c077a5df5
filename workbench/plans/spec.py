"""A plan as data: what a plan file says, as frozen values with no I/O.

References are texts: `$params.n`, `$load.rows`, `$m.question` (a variable of `foreach`).  A text
that is one reference stands for the value itself; `${load.rows}` within a longer text is filled
in; `$$` is a dollar.  Expressions (`when`, `expr`, `assert`) name the same things without `$`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

PLAN_VERSION = 1
"""Version of the plan file this program writes, and the newest it reads."""

ParamType = Literal[
    "model",
    "list[model]",
    "file",
    "int",
    "float",
    "str",
    "bool",
    "choice",
    "list[int]",
    "list[float]",
    "list[str]",
    "secret",
]
OutputType = Literal["json", "parquet"]
Effects = Literal["none", "external"]
OnError = Literal["fail", "keep"]


@dataclass(frozen=True, slots=True)
class Param:
    """One parameter of a plan.

    Attributes:
        default: A JSON value; `None` with `required` means that it must be given.
        choices: For `choice`.
        env: For `secret`: name of the environment variable; the value is never stored.
        line: Where it stands in the file, from 1; `None` when it was built in Python.
    """

    name: str
    type: ParamType
    default: Any = None
    required: bool = True
    help: str = ""
    choices: tuple[str, ...] = ()
    env: str | None = None
    line: int | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Retries:
    """How often a failed attempt is made again, and after how many seconds.

    The wait before attempt n+1 is `backoff_s * factor ** (n - 1)`, at most `max_s`.
    """

    times: int = 0
    backoff_s: float = 1.0
    factor: float = 2.0
    max_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a plan.

    Attributes:
        needs: Ids of all steps that must be done before: those the file names, those it refers to,
            and the decisions that may choose it.
        inputs: Name to value or reference; what the kind's own fields refer to needs not be here.
        outputs: Name to the form of its artefact; the kind's defaults where the file names none.
        foreach: Variable to a list or a reference to one; the step runs for each combination, in
            the order of the variables.  Each output is then a list in that order, and `table`
            (rows of variables and outputs), `errors` (count) are outputs too.
        when: Expression; the step is skipped when it is false.
        timeout_s: For one attempt; `None` is no limit.
        cache: `None` leaves it to the kind: only what is repeatable is taken from the cache.
        max_parallel: Items of `foreach` at once; `None` leaves it to the kind.
        effects: `external` when an attempt that began must not begin again by itself.
        on_error: What a failed item of `foreach` does: `fail` the step, or be kept and counted.
        config: The fields of its kind (`prompt`, `model`, `run` ...), JSON values with references.
        lines: Field name to its line in the file, from 1; `""` is the step itself.
    """

    id: str
    kind: str
    needs: tuple[str, ...] = ()
    inputs: Mapping[str, Any] = field(default_factory=dict)
    outputs: Mapping[str, OutputType] = field(default_factory=dict)
    foreach: Mapping[str, Any] = field(default_factory=dict)
    when: str | None = None
    retries: Retries = Retries()
    timeout_s: float | None = None
    cache: bool | None = None
    max_parallel: int | None = None
    effects: Effects = "none"
    on_error: OnError = "fail"
    title: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    lines: Mapping[str, int] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan: parameters and steps, the steps in an order in which they can run.

    Attributes:
        name: Its id: lower-case letters, digits and hyphens.
        goal: What it is for, in Markdown.
        source: The text of its file; `to_yaml` makes one for a plan built in Python.
        path: The file, when it has one; relative paths in the plan are relative to its folder.
    """

    name: str
    steps: tuple[Step, ...]
    goal: str = ""
    params: tuple[Param, ...] = ()
    plan_version: int = PLAN_VERSION
    source: str = field(default="", compare=False)
    path: str | None = field(default=None, compare=False)

    def step(self, step_id: str) -> Step:
        """Return a step by its id.

        Raises:
            KeyError: When there is none.
        """
        return {step.id: step for step in self.steps}[step_id]

    def param(self, name: str) -> Param:
        """Return a parameter by its name.

        Raises:
            KeyError: When there is none.
        """
        return {param.name: param for param in self.params}[name]
