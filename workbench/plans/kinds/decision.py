"""The kind `decision`: which steps run, by an expression or by a model."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from workbench.errors import PlanProblem, StepFailed
from workbench.messages import Message
from workbench.plans.expressions import evaluate
from workbench.plans.kinds.base import Done, Field, StepContext, register
from workbench.plans.kinds.common import (
    MODEL_FIELDS,
    AskingKind,
    answer_config,
    as_text,
    chosen,
    one_line,
    opening,
    problem,
    text_bundle,
)
from workbench.plans.spec import OutputType, Step

STOP = "stop"
"""In place of steps: nothing that is left shall run."""

_STEPS: Mapping[str, Any] = {
    "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]
}
_NAMED: Mapping[str, Any] = {"type": "object", "additionalProperties": _STEPS, "minProperties": 1}
_TRIES = 2


@register
class DecisionKind(AskingKind):
    """Chooses between branches; the steps of the others are skipped."""

    name = "decision"
    doc = "Choose which steps run, by an expression, or by a model among named choices."
    fields: ClassVar[Mapping[str, Field]] = {
        "expr": Field(
            "The expression that decides. With `then` and `else` it gives true or false, with "
            "`cases` one of their names. With `choices` it gives the name of a choice, or null to "
            "leave it to the model.",
            {"type": "string"},
            expression=True,
        ),
        "then": Field("Steps that run only when it is true.", _STEPS, literal=True),
        "else": Field(
            "Steps that run only when it is false, or no case; `stop` ends the run instead.",
            _STEPS,
            literal=True,
        ),
        "cases": Field(
            "Value of the expression to the steps that run only then. A value that is no case "
            "takes `else`, and without one the step fails.",
            _NAMED,
            literal=True,
        ),
        "choices": Field(
            "What a model may choose: a list of names, or name to the steps that run only then, "
            "or `stop`.",
            {"anyOf": [{"type": "array", "items": {"type": "string"}, "minItems": 2}, _NAMED]},
            literal=True,
        ),
        **{name: Field(about.doc, about.schema) for name, about in MODEL_FIELDS.items()},
        "prompt": Field("What the model decides.", {"type": "string"}),
    }
    default_outputs: ClassVar[Mapping[str, OutputType]] = {"choice": "json", "by": "json"}

    def check(self, step: Step, plan_dir: Path | None) -> Iterator[PlanProblem]:
        yield from super().check(step, plan_dir)
        yield from _check_form(step)
        for field in ("then", "else", "cases", "choices"):
            for name, targets in _named(step.config.get(field), field).items():
                if STOP in targets and len(targets) > 1:
                    where = f"{field}.{name}" if name != field else field
                    yield problem(step, where, "`stop` stands alone: nothing else runs then.")
        if step.foreach and next(self.branches(step), None) is not None:
            message = "a decision with branches runs once, and not for each of a list."
            yield problem(step, "foreach", message, hint="Decide on all items in one expression.")

    def branches(self, step: Step) -> Iterator[str]:
        found: dict[str, None] = {}
        for field in ("then", "else", "cases", "choices"):
            for targets in _named(step.config.get(field), field).values():
                found |= dict.fromkeys(targets)
        yield from (target for target in found if target != STOP)

    def repeatable(self, config: Mapping[str, Any]) -> bool:
        return "model" not in config or super().repeatable(config)

    async def run(self, context: StepContext) -> Done:
        config, step = context.step.config, context.step
        value, by = None, "expression"
        if "expr" in config:
            value = _native(await asyncio.to_thread(evaluate, config["expr"], context.values))
        if value is None and "model" in config:
            value, by = await _ask(context, list(_named(config["choices"], ""))), "model"
        taken, targets = _taken(step, value)
        left = [target for target in self.branches(step) if target not in targets]
        why = f"{step.id} chose {taken}"
        return Done(
            chosen(step, {"choice": value, "by": by}),
            summary=f"{taken}, by the {by}",
            skipped=dict.fromkeys(left, why),
            stop=why if STOP in targets else None,
        )

    def mimebundle(self, outputs: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
        choice = outputs.get("choice")
        by = outputs.get("by")
        if isinstance(choice, list):
            return text_bundle(", ".join(map(_label, choice)))
        return text_bundle(_label(choice) + (f" (by the {by})" if by else ""))


def _label(value: Any) -> str:
    """Return a value as the names of cases are written in a plan file."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _native(value: Any) -> Any:
    """Return a scalar of numpy as Python's own."""
    return value.item() if type(value).__module__ == "numpy" and hasattr(value, "item") else value


def _named(value: Any, field: str) -> dict[str, list[str]]:
    """Return the branches of a field, by name, each as a list of steps."""
    if value is None:
        return {}
    if field in ("then", "else"):
        return {field: [value] if isinstance(value, str) else list(value)}
    if isinstance(value, Mapping):
        return {
            _label(name): [steps] if isinstance(steps, str) else list(steps)
            for name, steps in value.items()
        }
    return {str(name): [] for name in value}


def _check_form(step: Step) -> Iterator[PlanProblem]:
    """Yield which fields do not go together."""
    has = {name for name in DecisionKind.fields if name in step.config}
    if not has & {"expr", "model"}:
        hint = 'expr: "len(load.rows) > 0", or model, prompt and choices.'
        yield problem(step, "", "a decision needs `expr` or `model`.", hint=hint)
    if "model" in has:
        for name in sorted({"prompt", "choices"} - has):
            yield problem(step, "model", f"a model that decides needs `{name}`.")
        for name in sorted({"then", "else", "cases"} & has):
            hint = "Name the steps of each choice: choices: {yes: [report], no: stop}."
            yield problem(step, name, f"`{name}` does not go with a model.", hint=hint)
    else:
        for name in sorted({"prompt", "choices", "system", "options", "think"} & has):
            yield problem(step, name, f"`{name}` is for a model, and none is named.")
    if {"then", "cases"} <= has:
        yield problem(step, "cases", "`then` and `cases` do not go together.")
    if "choices" in has and len(_named(step.config["choices"], "choices")) < 2:
        yield problem(step, "choices", "a model needs two choices at least.")


def _taken(step: Step, value: Any) -> tuple[str, list[str]]:
    """Return the name of the branch that a value takes, and its steps.

    Raises:
        StepFailed: When the value takes none.
    """
    config = step.config
    if "choices" in config:
        known = _named(config["choices"], "choices")
    elif "cases" in config:
        known = _named(config["cases"], "cases")
        if _label(value) not in known and "else" in config:
            return "else", _named(config["else"], "else")["else"]
    else:
        if not isinstance(value, bool):
            found = one_line(_label(value), 200)
            raise StepFailed(
                step.id, f"expected {config['expr']} to be true or false, found {found}"
            )
        field = "then" if value else "else"
        return _label(value), _named(config.get(field), field).get(field, [])
    name = _label(value)
    if name not in known:
        raise StepFailed(
            step.id, f"expected one of {', '.join(known)}, found {one_line(name, 200)}"
        )
    return name, known[name]


async def _ask(context: StepContext, names: list[str]) -> str:
    """Let the model choose; an answer that is no choice is asked about once more.

    Raises:
        StepFailed: When the second answer is no choice either.
    """
    config, listed = context.config, ", ".join(names)
    schema = {
        "type": "object",
        "properties": {"choice": {"enum": names}},
        "required": ["choice"],
        "additionalProperties": False,
    }
    how = answer_config({**config, "format": schema})
    question = f"{as_text(config['prompt'])}\n\nAnswer with one of: {listed}."
    said = [*opening(config), Message("user", question)]
    found: list[str] = []
    for _ in range(_TRIES):
        answer = await context.ask(config["model"], list(said), config=how)
        choice = _choice(answer.text)
        if choice in names:
            return choice
        found.append(one_line(answer.text) or "nothing")
        again = f'That is none of: {listed}. Answer with one of them: {{"choice": ...}}.'
        said += [Message("assistant", answer.text), Message("user", again)]
    raise StepFailed(
        context.step.id,
        f"expected the model to choose one of {listed}, found: {' | '.join(found)}",
        hint="Name the choices in the prompt, or decide by an expression.",
    )


def _choice(text: str) -> str:
    try:
        value = json.loads(text)
    except ValueError:
        return ""
    found = value.get("choice") if isinstance(value, dict) else None
    return found if isinstance(found, str) else ""
