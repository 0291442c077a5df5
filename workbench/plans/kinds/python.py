"""The kind `python`: a function of the user's, in a process of its own."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from workbench.errors import PlanProblem
from workbench.messages import nearest_names
from workbench.plans import local_code
from workbench.plans.child import ChildTask, run_child
from workbench.plans.kinds.base import Done, Field, StepContext, StepKind, register
from workbench.plans.kinds.common import outputs_bundle, problem
from workbench.plans.spec import OutputType, Step

_RUN = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


@register
class PythonKind(StepKind):
    """Calls a function with the inputs as arguments; what it returns are the outputs."""

    name = "python"
    doc = "Call a Python function in a process of its own; its inputs and outputs are files."
    fields: ClassVar[Mapping[str, Field]] = {
        "run": Field(
            "The function, as `module:function`; the module lies in the plan's folder or is "
            "installed.",
            {"type": "string", "pattern": f"^{_RUN.pattern}$"},
            literal=True,
        ),
        "code": Field(
            "In place of `run`: Python that defines the function `run`.",
            {"type": "string"},
            literal=True,
        ),
    }
    default_outputs: ClassVar[Mapping[str, OutputType]] = {"result": "json"}

    def check(self, step: Step, plan_dir: Path | None) -> Iterator[PlanProblem]:
        run, code = step.config.get("run"), step.config.get("code")
        if (run is None) == (code is None):
            yield problem(
                step,
                "run" if run is not None else "",
                "a python step needs either `run` or `code`.",
                hint="run: module:function, or code: a text that defines run().",
            )
        elif isinstance(code, str):
            yield from _check_code(step, code)
        elif isinstance(run, str) and plan_dir is not None:
            yield from _check_run(step, run, plan_dir)

    def repeatable(self, config: Mapping[str, Any]) -> bool:
        return True

    def code(self, config: Mapping[str, Any], plan_dir: Path) -> Mapping[str, Any]:
        if "code" in config:
            return local_code.hashes_of_code(str(config["code"]), plan_dir)
        return local_code.hashes_of_module(str(config["run"]).partition(":")[0], plan_dir)

    async def run(self, context: StepContext) -> Done:
        step = context.step
        arguments = {name: step.config[name] for name in ("run", "code") if name in step.config}
        context.phase("running")
        forms = step.outputs or self.default_outputs
        outputs = await run_child(context, ChildTask("call", arguments, context.inputs, forms))
        return Done(outputs, _summary(outputs))

    def mimebundle(self, outputs: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
        return outputs_bundle(outputs, main=next(iter(outputs)) if len(outputs) == 1 else "")


def _summary(outputs: Mapping[str, Any]) -> str:
    parts = []
    for name, value in outputs.items():
        if hasattr(value, "columns"):
            parts.append(f"{name}: {len(value):,} rows")
        elif isinstance(value, list | dict):
            parts.append(f"{name}: {len(value):,} entries")
        else:
            parts.append(name)
    return ", ".join(parts)


def _check_code(step: Step, code: str) -> Iterator[PlanProblem]:
    try:
        function = local_code.function_in(code, "run")
    except SyntaxError as exc:
        # A text over several lines begins on the line after the field's name.
        offset = (exc.lineno or 0) if "\n" in code.strip("\n") else 0
        yield problem(step, "code", f"the code is no Python: {exc.msg}.", offset=offset)
        return
    if function is None:
        hint = "Its arguments are the step's inputs, what it returns are the outputs."
        yield problem(step, "code", "the code defines no function `run`.", hint=hint)
    else:
        yield from _check_arguments(step, function, "code")


def _check_run(step: Step, run: str, plan_dir: Path) -> Iterator[PlanProblem]:
    if not _RUN.fullmatch(run):
        yield problem(step, "run", f"{run!r} is not of the form module:function.")
        return
    module, _, name = run.partition(":")
    file = local_code.module_file(module, plan_dir)
    if file is None:
        if not local_code.is_known(module, plan_dir):
            hint = f"Put {module.replace('.', '/')}.py into the plan's folder, or install it."
            yield problem(step, "run", f"there is no module {module!r}.", hint=hint)
        return
    try:
        code = file.read_text("utf-8")
        function = local_code.function_in(code, name)
        known = local_code.names_in(code)
    except (SyntaxError, UnicodeDecodeError) as exc:
        where = f"line {exc.lineno}: {exc.msg}" if isinstance(exc, SyntaxError) else str(exc)
        yield problem(step, "run", f"{file.name} is no Python: {where}.")
        return
    if function is not None:
        yield from _check_arguments(step, function, "run")
    # Only of the plan's own files it is certain that nothing defines more names as it runs.
    elif file.is_relative_to(plan_dir) and name.split(".")[0] not in known:
        near = nearest_names(name, known, count=1)
        hint = f"Did you mean {near[0]!r}?" if near else f"It defines: {', '.join(known)}."
        yield problem(step, "run", f"{file.name} has no function {name!r}.", hint=hint)


def _check_arguments(
    step: Step, function: ast.FunctionDef | ast.AsyncFunctionDef, field: str
) -> Iterator[PlanProblem]:
    given = function.args
    positional = [*given.posonlyargs, *given.args]
    taken = [argument.arg for argument in (*positional, *given.kwonlyargs)]
    optional = {a.arg for a in positional[len(positional) - len(given.defaults) :]}
    if not given.defaults:
        optional = set()
    optional |= {
        argument.arg
        for argument, default in zip(given.kwonlyargs, given.kw_defaults, strict=True)
        if default is not None
    }
    shown = f"It is {function.name}({ast.unparse(given)})."
    if given.kwarg is None:
        for name in step.inputs:
            if name not in taken:
                line = "inputs" if "inputs" in step.lines else field
                message = f"{function.name} takes no input {name!r}."
                yield problem(step, line, message, hint=shown)
    for name in taken:
        if name not in optional and name not in step.inputs and name not in step.foreach:
            yield problem(step, field, f"{function.name} needs an input {name!r}.", hint=shown)
