"""What a child process can do: call a function, run tests, run a notebook."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import linecache
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from workbench.errors import PlanError
from workbench.plans import exchange
from workbench.plans.references import is_frame

Job = Mapping[str, Any]


def carry_out(job: Job, folder: Path) -> dict[str, exchange.Entry]:
    """Do a job and return the entries of its outputs.

    Raises:
        Exception: Whatever the code raises.
    """
    sys.path.insert(0, job["plan_dir"])
    inputs = {name: exchange.get(folder / "inputs", e) for name, e in job["inputs"].items()}
    outputs = _TASKS[job["what"]](job, inputs)
    return {
        name: exchange.put(folder / "outputs", str(number), value)
        for number, (name, value) in enumerate(outputs.items())
    }


def _call(job: Job, inputs: Mapping[str, Any]) -> dict[str, Any]:
    arguments = job["arguments"]
    if "code" in arguments:
        function, name = _in_code(arguments["code"], job["step"]), "run"
    else:
        module, _, name = arguments["run"].partition(":")
        function = _attribute(importlib.import_module(module), name)
    given = _arguments(function, name, inputs, job["variables"])
    value = function(**given)
    if inspect.isawaitable(value):
        value = asyncio.run(_awaited(value))
    return _outputs(value, job["outputs"])


async def _awaited(value: Any) -> Any:
    return await value


def _in_code(code: str, step: str) -> Callable[..., Any]:
    """Run the code of a plan file as a module of its own and return its `run`."""
    file = f"<code of {step}>"
    # Tracebacks then show its lines.
    linecache.cache[file] = (len(code), None, code.splitlines(keepends=True), file)
    module = ModuleType("step_code")
    module.__file__ = file
    sys.modules[module.__name__] = module
    exec(compile(code, file, "exec"), module.__dict__)
    return _attribute(module, "run")


def _attribute(module: ModuleType, name: str) -> Callable[..., Any]:
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        raise PlanError(f"{module.__name__} has no function {name!r}.")
    function: Callable[..., Any] = found
    return function


def _arguments(
    function: Callable[..., Any], name: str, inputs: Mapping[str, Any], variables: list[str]
) -> dict[str, Any]:
    """Return the inputs as arguments; variables of `foreach` only where they are asked for."""
    try:
        parameters = inspect.signature(function).parameters
    except ValueError:  # written in C
        return {key: value for key, value in inputs.items() if key not in variables}
    takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    given = {k: v for k, v in inputs.items() if k not in variables or k in parameters}
    unknown = [key for key in given if key not in parameters and not takes_all]
    missing = [
        p.name
        for p in parameters.values()
        if p.default is p.empty
        and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
        and p.name not in given
    ]
    for wrong, what in ((unknown, "takes no"), (missing, "needs the")):
        if wrong:
            hint = f"It is {name}{inspect.signature(function)}."
            raise PlanError(f"{name} {what} input {', '.join(wrong)}.", hint=hint)
    return given


def _outputs(value: Any, forms: Mapping[str, str]) -> dict[str, Any]:
    """Return what a function gave as outputs by name, each in its form."""
    if len(forms) == 1:
        named = {next(iter(forms)): value}
    elif isinstance(value, Mapping) and set(value) == set(forms):
        named = {name: value[name] for name in forms}
    else:
        found = (
            f"the keys {sorted(map(str, value))}" if isinstance(value, Mapping) else "no mapping"
        )
        raise PlanError(
            f"the function has to return a mapping with {', '.join(forms)}, and gave {found}."
        )
    return {name: _in_form(name, item, forms[name]) for name, item in named.items()}


def _in_form(name: str, value: Any, form: str) -> Any:
    if form == "json":
        return exchange.json_value(value, name)
    if is_frame(value):
        return value
    import pandas as pd

    if isinstance(value, list) and all(isinstance(row, Mapping) for row in value):
        return pd.DataFrame(value)
    raise PlanError(
        f"{name} is a {type(value).__name__} and declared as parquet.",
        hint="Return a DataFrame, or a list of mappings.",
    )


def _tests(job: Job, inputs: Mapping[str, Any]) -> dict[str, Any]:
    from workbench.plans.child_tests import run_tests

    arguments = job["arguments"]
    return run_tests(Path(arguments["path"]), inputs, bound=Path(arguments["bound"]))


def _notebook(job: Job, inputs: Mapping[str, Any]) -> dict[str, Any]:
    from workbench.plans.child_notebook import run_step_notebook

    # A parameter is written into the executed copy: of a secret only its name is.
    kept = {name: _named_only(job["inputs"][name], value) for name, value in inputs.items()}
    given = {name: value for name, value in kept.items() if name not in job["variables"]}
    return run_step_notebook(Path(job["arguments"]["path"]), given)


def _named_only(entry: exchange.Entry, value: Any) -> Any:
    return {"env": entry["secret"]} if "secret" in entry else value


_TASKS: Mapping[str, Callable[[Job, Mapping[str, Any]], dict[str, Any]]] = {
    "call": _call,
    "tests": _tests,
    "notebook": _notebook,
}
