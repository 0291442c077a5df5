"""Two small kinds of steps for the tests of plans: nothing else has to know them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from workbench.errors import PlanProblem
from workbench.plans.kinds.base import Done, Field, StepContext, StepKind, register
from workbench.plans.spec import OutputType, Step


@register
class TinyAsk(StepKind):
    """Gives its question back, in the place of a model."""

    name = "tiny_ask"
    doc = "Give the question back."
    fields: ClassVar[Mapping[str, Field]] = {
        "model": Field("Who is asked.", {"type": "string", "minLength": 1}, required=True),
        "prompt": Field("What is asked.", {"type": "string", "minLength": 1}, required=True),
        "options": Field(
            "How it is asked.",
            {
                "type": "object",
                "properties": {
                    "temperature": {"type": "number", "minimum": 0},
                    "seed": {"type": "integer"},
                    "mode": {"enum": ["fast", "slow"]},
                    "stop": {"type": "array", "items": {"type": "string"}, "maxItems": 2},
                },
                "additionalProperties": False,
            },
        ),
        "pattern": Field("A text as it stands.", {"type": "string"}, literal=True),
        "data": Field("Any value."),
    }
    default_outputs: ClassVar[Mapping[str, OutputType]] = {"text": "json"}

    async def run(self, context: StepContext) -> Done:
        return Done({"text": context.config["prompt"]})


@register
class TinyPick(StepKind):
    """Chooses steps by expressions."""

    name = "tiny_pick"
    doc = "Choose what runs next."
    fields: ClassVar[Mapping[str, Field]] = {
        "cases": Field("Step to condition.", {"type": "object"}, required=True, expression=True),
    }
    default_outputs: ClassVar[Mapping[str, OutputType]] = {"chosen": "json"}

    def check(self, step: Step, plan_dir: Path | None) -> Iterator[PlanProblem]:
        if not step.config["cases"]:
            yield PlanProblem(f"{step.id} has no case.", step.lines.get("cases"))

    def branches(self, step: Step) -> Iterator[str]:
        yield from step.config["cases"]

    def code(self, config: Mapping[str, Any], plan_dir: Path) -> Mapping[str, Any]:
        return {}

    async def run(self, context: StepContext) -> Done:
        return Done({"chosen": next(iter(context.config["cases"]))})
