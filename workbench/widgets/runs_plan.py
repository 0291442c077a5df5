"""What the panel draws of a plan: its steps, what each needs, and what it was given to do."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import yaml

from workbench.errors import WorkbenchError
from workbench.plans.parse import parse_plan
from workbench.plans.spec import Plan

_PLANS_KEPT = 64
_EXPRESSIONS = ("when", "expr", "assert")


@dataclass(frozen=True, slots=True)
class PlanStep:
    """One step as it was written."""

    id: str
    kind: str = ""
    title: str = ""
    needs: tuple[str, ...] = ()
    foreach: bool = False
    inputs: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PlanView:
    """A plan as far as it can be read.

    Attributes:
        trouble: Why not everything can be; a run of an older plan is shown all the same.
    """

    name: str = ""
    goal: str = ""
    steps: tuple[PlanStep, ...] = ()
    trouble: str = ""

    def of(self, listed: Sequence[Mapping[str, Any]]) -> PlanView:
        """Return it with the steps that were started, as `run.json` has them."""
        if not listed:
            return self
        known = {step.id: step for step in self.steps}
        steps = tuple(_started(row, known.get(str(row.get("id")))) for row in listed)
        return replace(self, steps=steps, trouble="")

    def step(self, step_id: str) -> PlanStep:
        """Return a step; one the plan does not name has only its id."""
        return next((step for step in self.steps if step.id == step_id), PlanStep(step_id))


def _started(row: Mapping[str, Any], written: PlanStep | None) -> PlanStep:
    needs = tuple(str(name) for name in row.get("needs") or ())
    name, kind, title = (str(row.get(key) or "") for key in ("id", "kind", "title"))
    step = written or PlanStep(name)
    foreach = bool(row.get("foreach"))
    return replace(step, id=name, kind=kind, title=title, needs=needs, foreach=foreach)


@lru_cache(maxsize=_PLANS_KEPT)
def plan_view(text: str) -> PlanView:
    """Read the text of a plan file; never raises for what is in it."""
    try:
        return _viewed(parse_plan(text))
    except WorkbenchError as exc:
        # What is wrong stands line by line in the message; here it only explains what is missing.
        return _bare(text, exc.message.partition("\n")[0].rstrip(":"))


def _viewed(plan: Plan) -> PlanView:
    steps = tuple(
        PlanStep(
            step.id,
            step.kind,
            step.title,
            tuple(step.needs),
            bool(step.foreach),
            dict(step.inputs),
            _written(step),
        )
        for step in plan.steps
    )
    return PlanView(plan.name, plan.goal, steps)


def _written(step: Any) -> dict[str, Any]:
    rules = {
        "foreach": "\n".join(_each(name, of) for name, of in step.foreach.items()) or None,
        "when": step.when,
        "timeout": step.timeout_s,
        "effects": None if step.effects == "none" else step.effects,
    }
    return dict(step.config) | {name: value for name, value in rules.items() if value is not None}


def _each(name: str, values: Any) -> str:
    return f"{name} in {values if isinstance(values, str) else json.dumps(values)}"


def _bare(text: str, trouble: str) -> PlanView:
    """Take from a plan that this program does not understand what any plan has."""
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError:
        return PlanView(trouble=trouble)
    if not isinstance(found, dict):
        return PlanView(trouble=trouble)
    listed = found.get("steps")
    rows = [row for row in listed if isinstance(row, dict)] if isinstance(listed, list) else []
    rows = [row for row in rows if isinstance(row.get("id"), str)]
    ids = {row["id"] for row in rows}
    steps = tuple(_bare_step(row, ids) for row in rows)
    return PlanView(str(found.get("plan", "")), str(found.get("goal", "")), steps, trouble)


def _bare_step(row: Mapping[str, Any], ids: set[str]) -> PlanStep:
    named = row.get("needs")
    needs = [str(name) for name in named] if isinstance(named, list) else []
    needs += [name for name in _named(row) if name in ids and name not in (row["id"], *needs)]
    known = ("id", "kind", "title", "needs", "inputs", "outputs")
    return PlanStep(
        row["id"],
        str(row.get("kind", "")),
        str(row.get("title", "")),
        tuple(needs),
        bool(row.get("foreach")),
        row["inputs"] if isinstance(row.get("inputs"), dict) else {},
        {str(name): value for name, value in row.items() if name not in known},
    )


def _named(row: Mapping[str, Any]) -> list[str]:
    """Return what the texts of a step refer to, the first first."""
    found = re.findall(r"\$\{?([a-z]\w*)", json.dumps(row, default=str))
    for name in _EXPRESSIONS:
        found += re.findall(r"[a-z]\w*", str(row.get(name) or ""))
    return list(dict.fromkeys(found))
