"""A StepContext for tests: attempts of single steps, with models behind a real client."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from workbench.client.answers import collect
from workbench.client.api import WorkbenchClient
from workbench.client.http import Deadlines
from workbench.messages import GenerateConfig, Generation, Message
from workbench.plans.kinds import load_kinds
from workbench.plans.kinds.base import Answer, Done
from workbench.plans.spec import Step
from workbench.portal import get_portal

PATIENT = Deadlines(first_token_s=60.0, stall_s=60.0)


class Attempt:
    """One attempt of a step, without a run around it."""

    def __init__(
        self,
        step: Step,
        folder: Path,
        *,
        client: WorkbenchClient | None = None,
        inputs: Mapping[str, Any] | None = None,
        variables: Mapping[str, Any] | None = None,
        values: Mapping[str, Any] | None = None,
        answer: Answer | None = None,
        environment: Mapping[str, str] | None = None,
        item: int | None = None,
        attempt: int = 1,
    ) -> None:
        self.step, self.config = step, step.config
        self.inputs = dict(inputs or {})
        self.variables = dict(variables or {})
        self.values = {**(values or {}), **self.variables}
        self.item, self.attempt, self.answer = item, attempt, answer
        self.run_id, self.step_key = "run-of-a-test", "key-of-a-test"
        self.plan_dir, self.work_dir = folder, folder / "attempt"
        self.work_dir.mkdir(exist_ok=True)
        self.client = client
        self.asked: list[tuple[str, list[Message], GenerateConfig | None]] = []
        self.phases: list[tuple[str, str]] = []
        self.reasons: list[str] = []
        self._environment = dict(environment or {})

    async def ask(
        self, model: str, messages: Sequence[Message], *, config: GenerateConfig | None = None
    ) -> Generation:
        assert self.client is not None
        self.asked.append((model, list(messages), config))
        batches = self.client.chat_batches(
            model, messages, config=config or GenerateConfig(), deadlines=PATIENT
        )
        answer = await collect(batches, model=model)
        if answer.error is not None:
            raise answer.error
        return answer

    def phase(self, name: str, detail: str = "") -> None:
        self.phases.append((name, detail))

    def not_replayable(self, reason: str) -> None:
        self.reasons.append(reason)

    def environment(self) -> Mapping[str, str]:
        return self._environment

    def run(self) -> Done:
        """Carry it out on the portal, as a run does."""
        return get_portal().run(load_kinds()[self.step.kind].run(self))

    def start(self) -> Any:
        """Begin it on the portal and return its future."""
        return get_portal().start(load_kinds()[self.step.kind].run(self))


def step_of(kind: str, step_id: str = "s", **fields: Any) -> Step:
    """Return a step; what no step has by itself are the fields of its kind."""
    names = {field.name for field in dataclasses.fields(Step)} - {"config"}
    own = {name: value for name, value in fields.items() if name in names}
    config = {name: value for name, value in fields.items() if name not in names}
    step = Step(step_id, kind, config=config, **own)
    if not step.outputs:
        outputs = load_kinds()[kind].outputs_of(config)
        step = dataclasses.replace(step, outputs=outputs)
    return step


def problems_of(step: Step, plan_dir: Path | None = None) -> list[tuple[int | None, str]]:
    """Return line and text of what a kind says is wrong with a step."""
    found = load_kinds()[step.kind].check(step, plan_dir)
    return [(problem.line, f"{problem.message} {problem.hint or ''}".strip()) for problem in found]
