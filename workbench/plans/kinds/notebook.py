"""The kind `notebook`: a notebook of the plan's folder, run with parameters."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from workbench.errors import PlanProblem
from workbench.messages import nearest_names
from workbench.plans import local_code
from workbench.plans.child import ChildTask, run_child
from workbench.plans.kinds.base import Done, Field, StepContext, StepKind, register
from workbench.plans.kinds.common import (
    check_fixed_outputs,
    chosen,
    has_reference,
    plain,
    problem,
    text_bundle,
)
from workbench.plans.spec import OutputType, Step


@register
class NotebookKind(StepKind):
    """Runs a notebook in a process and a kernel of its own; what it shows is kept."""

    name = "notebook"
    doc = "Run a notebook with parameters, in a kernel of its own; the executed copy is kept."
    fields: ClassVar[Mapping[str, Field]] = {
        "path": Field(
            "The notebook, relative to the plan's folder.", {"type": "string"}, required=True
        ),
        "parameters": Field(
            "Values for its cell tagged `parameters`; inputs of the step are parameters too.",
            {"type": "object"},
        ),
    }
    default_outputs: ClassVar[Mapping[str, OutputType]] = {"cells": "json", "content_hash": "json"}
    cacheable = False

    def check(self, step: Step, plan_dir: Path | None) -> Iterator[PlanProblem]:
        yield from check_fixed_outputs(step, self)
        path = step.config.get("path")
        if not isinstance(path, str) or has_reference(path) or plan_dir is None:
            return
        file = plan_dir / path
        if not file.is_file():
            others = [other.name for other in plan_dir.glob("*.ipynb")]
            near = nearest_names(path, others, count=1)
            hint = f"Did you mean {near[0]!r}?" if near else None
            yield problem(step, "path", f"there is no notebook {path!r}.", hint=hint)
            return
        try:
            cells = json.loads(file.read_text("utf-8"))["cells"]
        except (ValueError, KeyError, TypeError, UnicodeDecodeError) as exc:
            yield problem(step, "path", f"{path} is no notebook: {exc}.")
            return
        given = {**step.inputs, **(step.config.get("parameters") or {})}
        if given and not any("parameters" in cell["metadata"].get("tags", ()) for cell in cells):
            hint = "Tag the cell with the defaults `parameters`."
            yield problem(step, "path", f"{path} has no cell for parameters.", hint=hint)

    def code(self, config: Mapping[str, Any], plan_dir: Path) -> Mapping[str, Any]:
        path = str(config["path"])
        return {path: local_code.hash_of_file(plan_dir / path)}

    async def run(self, context: StepContext) -> Done:
        path = context.plan_dir / str(context.config["path"])
        given = {**context.inputs, **plain(context.config.get("parameters") or {})}
        context.phase("running", path.name)
        task = ChildTask("notebook", {"path": str(path)}, given, self.default_outputs)
        outputs = await run_child(context, task)
        return Done(chosen(context.step, outputs), f"{path.name}: {outputs['cells']} cells")

    def mimebundle(self, outputs: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
        told = [f"{config.get('path', 'notebook')}"]
        told += [f"{name}: {value}" for name, value in outputs.items()]
        return text_bundle("\n".join(told))
