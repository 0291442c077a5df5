"""A kind of step for the tests of runs: it works, fails, waits and asks as it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from workbench.errors import StepFailed
from workbench.messages import GenerateConfig, Message
from workbench.plans.kinds.base import Done, Field, StepContext, StepKind, Waiting, register
from workbench.plans.spec import Effects, OnError, OutputType, Plan, Retries, Step
from workbench.plans.validate import completed


@register
class TinyWork(StepKind):
    """Gives a value, after what its fields say."""

    name = "tiny_work"
    doc = "Do what a test says."
    fields: ClassVar[Mapping[str, Field]] = {
        "value": Field("What it gives."),
        "log": Field("A file that gets a line for each attempt.", {"type": "string"}),
        "fails": Field("How many attempts fail.", {"type": "integer"}),
        "until": Field("A file it waits for.", {"type": "string"}),
        "ask": Field("A question to a person.", {"type": "string"}),
        "model": Field("A model it asks for its value.", {"type": "string"}),
        "check": Field("An expression it depends on.", {"type": "string"}, expression=True),
        "chooses": Field("Steps that run only when it says so, to whether.", literal=True),
        "stop": Field("Why nothing more shall run.", {"type": "string"}),
        "repeatable": Field("Whether the cache may stand for it.", {"type": "boolean"}),
    }
    default_outputs: ClassVar[Mapping[str, OutputType]] = {"value": "json"}
    model_bound = True

    def branches(self, step: Step) -> Iterator[str]:
        yield from step.config.get("chooses", {})

    def repeatable(self, config: Mapping[str, Any]) -> bool:
        return bool(config.get("repeatable"))

    async def run(self, context: StepContext) -> Done:
        config = context.config
        if "ask" in config:
            if context.answer is None:
                raise Waiting(config["ask"], config.get("value"))
            if not context.answer.yes:
                raise StepFailed(context.step.id, f"refused by {context.answer.who}")
        if "log" in config:
            _note(config["log"], f"{context.step.id} {context.item} {context.step_key}\n")
        while "until" in config and not _exists(config["until"]):  # noqa: ASYNC110 - it is a file
            await asyncio.sleep(0.01)
        if context.attempt <= config.get("fails", 0):
            raise StepFailed(context.step.id, f"attempt {context.attempt} failed")
        value = config.get("value")
        if "model" in config:
            question = [Message("user", str(value))]
            value = (await context.ask(config["model"], question, config=SEEDED)).text
        chosen = config.get("chooses", {})
        return Done(
            {"value": value},
            summary="worked",
            skipped={name: "not chosen" for name, wanted in chosen.items() if not wanted},
            stop=config.get("stop"),
        )


def _note(path: str, line: str) -> None:
    with Path(path).open("a") as file:
        file.write(line)


def _exists(path: str) -> bool:
    return Path(path).exists()


ONCE = Retries()
SEEDED = GenerateConfig(options={"temperature": 0, "seed": 1, "num_predict": 8})


def work(
    name: str,
    *needs: str,
    retries: Retries = ONCE,
    when: str | None = None,
    foreach: Mapping[str, Any] | None = None,
    on_error: OnError = "fail",
    effects: Effects = "none",
    timeout_s: float | None = None,
    cache: bool | None = None,
    inputs: Mapping[str, Any] | None = None,
    max_parallel: int | None = None,
    **config: Any,
) -> Step:
    """Return a step of the kind."""
    return Step(
        name,
        "tiny_work",
        needs=needs,
        retries=retries,
        when=when,
        foreach=foreach or {},
        on_error=on_error,
        effects=effects,
        timeout_s=timeout_s,
        cache=cache,
        inputs=inputs or {},
        max_parallel=max_parallel,
        config=config,
    )


def plan_of(*steps: Step, **fields: Any) -> Plan:
    """Return a plan of steps, with the order and the needs that their references make."""
    return completed(Plan("tried", steps, **fields))
