"""A plan as a notebook that people read and papermill runs; pure.

One cell for each step awaits it by its id; what the step does stands in the plan's text, which the
notebook carries, so that it opens and runs by hand and under stock papermill.
"""

from __future__ import annotations

import builtins
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from workbench.errors import PlanInvalid
from workbench.plans.document import to_data
from workbench.plans.kinds import load_kinds
from workbench.plans.parse import parse_plan, to_yaml
from workbench.plans.spec import PLAN_VERSION, Param, Plan, Step

if TYPE_CHECKING:
    from nbformat import NotebookNode

WIDEST = 88
"""Characters of a line of the parameters cell; longer lists are broken."""

_ANNOTATIONS = {
    "model": "str",
    "file": "str",
    "choice": "str",
    "secret": "str",
    "list[model]": "list[str]",
}


def plan_hash(plan: Plan) -> str:
    """Return the SHA-256 of what a plan says, in hex: not of its comments, lines or place."""
    data = to_data(replace(plan, plan_version=PLAN_VERSION), load_kinds())
    text = json.dumps(data, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def compile_plan(
    plan: Plan, params: Mapping[str, Any] | None = None, *, plan_dir: str | None = None
) -> NotebookNode:
    """Return the notebook of a plan.

    Args:
        params: Values that stand in the parameters cell, as `resolve_params` gives them; the
            plan's defaults unless given.
        plan_dir: Folder the plan's relative paths start from when the notebook is run by hand;
            the notebook's own unless given.
    """
    # Imported here: nbformat takes a while, and only who makes a notebook needs it.
    from nbformat import v4

    digest = plan_hash(plan)
    about = {"plan": plan.name, "plan_hash": digest, "plan_version": PLAN_VERSION}
    cells = [
        _markdown(v4, "goal", _heading(plan, digest)),
        _code(v4, "parameters", _parameters(plan, params or {}), "parameters"),
        _code(v4, "plan", _plan_text(plan), "plan", jupyter={"source_hidden": True}),
        _code(v4, "setup", _setup(plan, plan_dir), "setup"),
        *(cell for step in plan.steps for cell in _step_cells(v4, step)),
        _code(v4, "record", "run.finish()", "record"),
    ]
    kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    metadata = {
        "kernelspec": kernelspec,
        "language_info": {"name": "python"},
        "workbench": about,
    }
    as_any: Any = v4
    notebook: NotebookNode = as_any.new_notebook(cells=cells, metadata=metadata)
    return notebook


def variable(name: str) -> str:
    """Return the notebook's variable for a step: its id, which may not hide a builtin."""
    return f"{name}_" if hasattr(builtins, name) else name


def _markdown(v4: Any, cell_id: str, source: str) -> NotebookNode:
    cell: NotebookNode = v4.new_markdown_cell(source, id=cell_id)
    return cell


def _code(v4: Any, cell_id: str, source: str, tag: str, **metadata: Any) -> NotebookNode:
    # Ids are told by the plan and not drawn, so that the same plan gives the same file.
    cell: NotebookNode = v4.new_code_cell(source, id=cell_id, metadata={"tags": [tag], **metadata})
    return cell


def _step_cells(v4: Any, step: Step) -> list[NotebookNode]:
    name = variable(step.id)
    source = f'{name} = await run.step("{step.id}")\n{name}'
    code = _code(v4, _cell_id("step", step), source, f"step:{step.id}")
    about = [f"**{_escaped(step.title)}**" if step.title else "", _facts(step)]
    text = "\n\n".join(part for part in about if part)
    return [_markdown(v4, _cell_id("about", step), text), code]


def _cell_id(prefix: str, step: Step) -> str:
    """Return an id of at most 64 characters, as nbformat wants it; ids of steps may be as long."""
    whole = f"{prefix}-{step.id}"
    if len(whole) <= 64:
        return whole
    return f"{prefix}-{hashlib.sha256(step.id.encode()).hexdigest()[:32]}"


def _facts(step: Step) -> str:
    """Say in one line what a step is and what it waits for."""
    facts = [f"`{step.id}` · {step.kind}"]
    if step.needs:
        facts.append("after " + ", ".join(f"`{needed}`" for needed in step.needs))
    if step.foreach:
        facts.append("for each " + ", ".join(f"`{name}`" for name in step.foreach))
    if step.when is not None:
        facts.append(f"when {_code_span(step.when)}")
    if step.effects != "none":
        facts.append("with effects outside")
    return " · ".join(facts)


def _heading(plan: Plan, digest: str) -> str:
    parts = [f"# {plan.name}", plan.goal.strip(), f"Plan `{digest[:12]}`."]
    return "\n\n".join(part for part in parts if part)


def _escaped(text: str) -> str:
    return re.sub(r"([\\`*_{}\[\]<>#|])", r"\\\1", " ".join(text.split()))


def _code_span(text: str) -> str:
    line = " ".join(text.split())
    ticks = "`" * (1 + max((len(found) for found in re.findall("`+", line)), default=0))
    return f"{ticks}{line}{ticks}" if len(ticks) == 1 else f"{ticks} {line} {ticks}"


def _parameters(plan: Plan, params: Mapping[str, Any]) -> str:
    """Return the assignments of the parameters, typed and commented, as papermill reads them."""
    if not plan.params:
        return "# This plan has no parameters."
    return "\n".join(_assignment(p, params.get(p.name, p.default)) for p in plan.params)


def _assignment(param: Param, value: Any) -> str:
    if param.type == "secret":
        value = value["env"] if isinstance(value, Mapping) else value or param.env
    target = f"{param.name}: {_ANNOTATIONS.get(param.type, param.type)} = "
    comment = _comment(param, value)
    above = ""
    if "=" in comment:
        # papermill (2.7) leaves out a line with more than one of these.
        above, comment = f"#{comment[3:]}\n", ""
    line = f"{target}{_literal(value)}"
    if len(line) + len(comment) > WIDEST and isinstance(value, list) and value:
        items = "".join(f"    {_literal(item)},\n" for item in value)
        return f"{above}{target}[\n{items}]{comment}"
    return f"{above}{line}{comment}"


def _comment(param: Param, value: Any) -> str:
    words = []
    if param.type in ("model", "list[model]", "file"):
        words.append({"model": "model", "file": "file"}.get(param.type, "models"))
    elif param.type == "choice":
        words.append("one of " + ", ".join(param.choices))
    elif param.type == "secret":
        words.append("environment variable that holds the secret")
    if value is None and param.required:
        words.append("required")
    words += [param.help] if param.help else []
    text = "".join(c if c.isprintable() else " " for c in "; ".join(words))
    return f"  # {' '.join(text.split())}" if text.strip() else ""


def _literal(value: Any) -> str:
    """Return a JSON value as Python that papermill's reader of parameters does not stumble over."""
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, Mapping):
        inner = ", ".join(f"{_quoted(str(key))}: {_literal(item)}" for key, item in value.items())
        return f"{{{inner}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_literal(item) for item in value)}]"
    return repr(value)


def _quoted(text: str) -> str:
    """Return a text as a literal without `=` and `#`, which papermill reads as code."""
    quoted = json.dumps(text, ensure_ascii=False)
    # What JSON leaves as it is and Python does not print.
    quoted = "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in quoted)
    if '\\"' in quoted and "'" not in quoted and "\\\\" not in quoted:
        quoted = "'" + quoted[1:-1].replace('\\"', '"') + "'"
    return quoted.replace("=", "\\u003d").replace("#", "\\u0023")


def _plan_text(plan: Plan) -> str:
    """Return the cell that holds the plan's text."""
    text = plan.source if _is_text_of(plan) else to_yaml(plan)
    escaped = text.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    escaped = "".join(c if c == "\n" or c.isprintable() else f"\\U{ord(c):08x}" for c in escaped)
    if not escaped.endswith("\n"):
        escaped += "\n"
    return f'PLAN = """\\\n{escaped}"""'


def _is_text_of(plan: Plan) -> bool:
    """Whether a plan's source says what the plan says: it may have been changed in Python."""
    if not plan.source:
        return False
    try:
        return parse_plan(plan.source, path=plan.path) == plan
    except PlanInvalid:
        return False


def _setup(plan: Plan, plan_dir: str | None) -> str:
    """Return the call that opens the run, laid out as formatters leave it."""
    names = [f'"{param.name}": {param.name}' for param in plan.params]
    given = f"params={{{', '.join(names)}}}"
    place = [] if plan_dir is None else [f"plan_dir={_quoted(plan_dir)}"]
    call = f"run = open_run({', '.join(['PLAN', given, *place])})"
    if len(call) > WIDEST:
        if len(given) + len("    ,") > WIDEST:
            given = "params={" + "".join(f"\n        {name}," for name in names) + "\n    }"
        lines = "".join(f"    {argument},\n" for argument in ("PLAN", given, *place))
        call = f"run = open_run(\n{lines})"
    return f"from workbench.plans import open_run\n\n{call}"
