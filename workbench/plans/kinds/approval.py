"""The kind `approval`: a person says yes before what comes next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from workbench.errors import PlanProblem, StepFailed
from workbench.plans.kinds.base import Done, Field, StepContext, StepKind, Waiting, register
from workbench.plans.kinds.common import (
    as_text,
    check_fixed_outputs,
    chosen,
    one_line,
    plain,
    problem,
    records,
    text_bundle,
)
from workbench.plans.references import is_frame
from workbench.plans.spec import OutputType, Step

_MOST_ROWS = 50


@register
class ApprovalKind(StepKind):
    """Waits for the answer of a person; a no fails the step."""

    name = "approval"
    doc = "Wait until a person has said yes; a no fails the step, and what needs it does not run."
    fields: ClassVar[Mapping[str, Field]] = {
        "ask": Field("The question.", {"type": "string", "minLength": 1}, required=True),
        "show": Field("What the person sees beside the question; a value, or a list of them.", {}),
    }
    # Who and when stand with the answer: in the outputs they would make every run another one.
    default_outputs: ClassVar[Mapping[str, OutputType]] = {"approved": "json", "note": "json"}
    cacheable = False

    def check(self, step: Step, plan_dir: Path | None) -> Iterator[PlanProblem]:
        yield from check_fixed_outputs(step, self)
        if step.foreach:
            message = "an approval asks once, and not for each of a list."
            yield problem(step, "foreach", message, hint="Show the list: show: $load.rows.")

    async def run(self, context: StepContext) -> Done:
        config, answer = context.config, context.answer
        if answer is None:
            raise Waiting(as_text(config["ask"]), _shown(config.get("show")))
        note = f": {answer.note}" if answer.note else ""
        if not answer.yes:
            raise StepFailed(
                context.step.id,
                f"refused by {answer.who}{note}",
                hint="The answer is kept. Start a new run to be asked again.",
            )
        outputs = {"approved": True, "note": answer.note}
        return Done(chosen(context.step, outputs), one_line(f"approved{note}"))

    def mimebundle(self, outputs: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
        note = outputs.get("note")
        return text_bundle(f"approved: {note}" if note else "approved")


def _shown(value: Any) -> Any:
    """Return what is shown as a JSON value; of a frame the first rows, and how many there are."""
    if is_frame(value):
        head = records(value.head(_MOST_ROWS))
        return {"rows": head, "total": len(value)} if len(value) > _MOST_ROWS else head
    if isinstance(value, Mapping):
        return {key: _shown(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_shown(item) for item in value]
    return plain(value)
