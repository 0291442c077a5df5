"""What a kind of step is: its fields, its outputs, and how one attempt is carried out.

A kind is one class in one file; `register` makes it known, and nothing else names it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

from workbench.errors import PlanProblem
from workbench.messages import GenerateConfig, Generation, Message
from workbench.plans.spec import OutputType, Step


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a kind in the plan file.

    Attributes:
        schema: JSON schema of the value as it is written; a reference is always allowed too,
            unless `literal`.
        expression: Whether it is an expression and its names are references.
    """

    doc: str
    schema: Mapping[str, Any] = field(default_factory=dict)
    required: bool = False
    literal: bool = False
    expression: bool = False


@dataclass(frozen=True, slots=True)
class Done:
    """What an attempt gave.

    Attributes:
        outputs: Name to a JSON value, or a DataFrame for `parquet`.
        summary: One line for lists and the graph; no times in it, it belongs to the content.
        skipped: Ids of the steps that are not to run, each with the reason.
        stop: The reason why nothing that is left shall run; the run is then done.
    """

    outputs: Mapping[str, Any]
    summary: str = ""
    skipped: Mapping[str, str] = field(default_factory=dict)
    stop: str | None = None


class Waiting(Exception):
    """Raised by a kind when a person has to answer first; `show` is a JSON value."""

    def __init__(self, ask: str, show: Any = None) -> None:
        super().__init__(ask)
        self.ask, self.show = ask, show


@dataclass(frozen=True, slots=True)
class Answer:
    """The stored answer of a person to an approval."""

    yes: bool
    who: str
    when: str
    note: str = ""


class StepContext(Protocol):
    """What an attempt has at hand; all of it on the portal's event loop.

    Attributes:
        step: The step as it was written.
        config: Its fields with every reference replaced by its value.
        inputs: Its inputs likewise; a Parquet artefact is a DataFrame.
        variables: The variables of `foreach` of this item; empty outside of one.
        values: Every name an expression may use: `params`, step ids, variables.
        item: Index of the item, or `None`.
        attempt: From 1.
        run_id: The run.
        step_key: Hash of everything the result depends on: idempotency key for the outside world.
        plan_dir: Folder of the plan file; relative paths start there.
        work_dir: Folder of this attempt; what is written into it is committed with the step.
        answer: The answer to this step's question, when there is one.
    """

    step: Step
    config: Mapping[str, Any]
    inputs: Mapping[str, Any]
    variables: Mapping[str, Any]
    values: Mapping[str, Any]
    item: int | None
    attempt: int
    run_id: str
    step_key: str
    plan_dir: Path
    work_dir: Path
    answer: Answer | None

    async def ask(
        self,
        model: str,
        messages: Sequence[Message],
        *,
        config: GenerateConfig | None = None,
    ) -> Generation:
        """Ask a model through the client's door: taped, recorded, with the run in its headers.

        Raises:
            ModelError: When the answer could not be had or broke off.
        """

    def phase(self, name: str, detail: str = "") -> None:
        """Tell what the attempt does now."""

    def not_replayable(self, reason: str) -> None:
        """Tell that this run did what a replay cannot repeat."""

    def environment(self) -> Mapping[str, str]:
        """Return the environment of a child process: server, run, tape.

        Secrets are in it only where the step's inputs name them.
        """


class StepKind(ABC):
    """A kind of step.

    Attributes:
        name: What `kind:` says.
        doc: One sentence for the reference and the editor.
        fields: Its own fields in the plan file, by name.
        default_outputs: Its outputs where the file names none.
        model_bound: Whether it mostly waits for models: then its items run side by side.
        cacheable: Whether the cache may ever stand for it, also where the file says `cache: true`.
    """

    name: ClassVar[str]
    doc: ClassVar[str]
    fields: ClassVar[Mapping[str, Field]] = {}
    default_outputs: ClassVar[Mapping[str, OutputType]] = {}
    model_bound: ClassVar[bool] = False
    cacheable: ClassVar[bool] = True

    def outputs_of(self, config: Mapping[str, Any]) -> Mapping[str, OutputType]:
        """Return the outputs of a step with these fields, where the file names none."""
        return self.default_outputs

    def check(self, step: Step, plan_dir: Path | None) -> Iterator[PlanProblem]:
        """Yield what is wrong with a step beyond the schemas of its fields.

        Args:
            plan_dir: Folder of the plan; `None` for a plan that has no file.
        """
        return iter(())

    def branches(self, step: Step) -> Iterator[str]:
        """Yield the ids of steps that run only when this one chooses them."""
        return iter(())

    def models(self, config: Mapping[str, Any]) -> Iterator[str]:
        """Yield the models an attempt with these fields asks."""
        if isinstance(config.get("model"), str):
            yield config["model"]

    def repeatable(self, config: Mapping[str, Any]) -> bool:
        """Whether the same key gives the same result, so that the cache may stand for it."""
        return False

    def code(self, config: Mapping[str, Any], plan_dir: Path) -> Mapping[str, Any]:
        """Return what else the result depends on, such as hashes of the code; JSON values."""
        return {}

    @abstractmethod
    async def run(self, context: StepContext) -> Done:
        """Carry out one attempt.

        Raises:
            Waiting: When a person has to answer first.
            WorkbenchError: When it failed; `StepFailed` when there is no better class.
        """

    def mimebundle(self, outputs: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the step's cell shows of its outputs, as plain and safe data.

        No times and no ids in it: the same outputs give the same bundle.
        """
        return {}


_KINDS: dict[str, StepKind] = {}


def register(kind: type[StepKind]) -> type[StepKind]:
    """Make a kind known under its name; use it as a decorator."""
    _KINDS[kind.name] = kind()
    return kind


def registered() -> Mapping[str, StepKind]:
    """Return the kinds that were registered in this process, by name."""
    return dict(_KINDS)
