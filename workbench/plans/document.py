"""A plan as plain data and back: what YAML and Python-built plans have in common; pure.

`read_plan` takes data and where each part of it stands, and gives the plan with every problem it
has; `to_data` and `to_yaml` are the other way.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from workbench.errors import PlanProblem
from workbench.messages import nearest_names
from workbench.plans.conform import violations
from workbench.plans.kinds.base import StepKind
from workbench.plans.params import DEEPEST, Wrong, json_problems, name_problem, typed_value
from workbench.plans.references import Place
from workbench.plans.schema import PARAM, PLAN, STEP_FIELDS, field_schema
from workbench.plans.spec import PLAN_VERSION, Param, Plan, Retries, Step


class _Bad:
    """Stands where a value was that cannot be used and has been told of."""

    def __repr__(self) -> str:
        return "..."


BAD: Any = _Bad()


@dataclass(slots=True)
class Findings:
    """Collects problems; places become lines.

    Attributes:
        lines: Place in the document to its line, from 1.
    """

    file: str | None = None
    lines: Mapping[Place, int] = field(default_factory=dict)
    problems: list[PlanProblem] = field(default_factory=list)
    _steps: dict[Place, dict[str, int]] | None = None

    def add(self, place: Place, message: str, hint: str | None = None) -> None:
        """Add a problem at the nearest line that is known."""
        self.problems.append(PlanProblem(message, self.line(place), hint or None, self.file))

    def line(self, place: Place) -> int | None:
        """Return the line of a place, or of what it lies in."""
        for end in range(len(place), -1, -1):
            if place[:end] in self.lines:
                return self.lines[place[:end]]
        return None

    def below(self, place: Place) -> dict[str, int]:
        """Return the lines of everything at and below a step, by dotted name."""
        if self._steps is None:
            self._steps = {}
            for where, line in self.lines.items():
                if len(where) >= 2:
                    name = ".".join(str(part) for part in where[2:])
                    self._steps.setdefault(where[:2], {})[name] = line
        return self._steps.get(place, {})


@dataclass(slots=True)
class Draft:
    """A step as far as it could be read.

    Attributes:
        bad: Fields that cannot be used; what follows from them is not told again.
        sure: Whether its outputs are known.
    """

    step: Step
    place: Place
    bad: set[str]
    kind: StepKind | None
    sure: bool


@dataclass(slots=True)
class Document:
    """A plan as far as it could be read, before its parts are compared with each other."""

    name: str
    goal: str
    params: dict[str, Param | None]
    drafts: list[Draft]


def read_document(data: Any, found: Findings, kinds: Mapping[str, StepKind]) -> Document | None:
    """Read plain data; problems go to `found`.  `None` when nothing can be made of it."""
    data = _cleaned(data, (), found)
    if not isinstance(data, Mapping):
        if data is not BAD:
            found.add((), "A plan is a mapping with `plan` and `steps`.")
        return None
    version = data.get("plan_version", 1)
    if isinstance(version, int) and version > PLAN_VERSION:
        message = f"plan_version {version} is newer than {PLAN_VERSION}, the newest known here."
        found.add(("plan_version",), message, "Upgrade local-model-workbench.")
        return None
    top = _without_bad(data)
    bad = _tell(violations(PLAN, top), found, ()) | _bad_fields(data)
    steps = data.get("steps") if "steps" not in bad else []
    params = data.get("params", {}) if "params" not in bad else {}
    return Document(
        name=str(data.get("plan")),
        goal=data.get("goal", "") if "goal" not in bad else "",
        params={name: _param(name, spec, ("params", name), found) for name, spec in params.items()},
        drafts=[
            draft
            for index, item in enumerate(steps or ())
            if (draft := _step(item, ("steps", index), found, kinds))
        ],
    )


def _cleaned(value: Any, place: Place, found: Findings) -> Any:
    """Return a value with `BAD` in place of what JSON does not hold."""
    if value is BAD:
        return BAD
    if isinstance(value, Mapping) and len(place) <= DEEPEST:
        kept = {key: item for key, item in value.items() if isinstance(key, str)}
        for key in value:
            if key not in kept:
                message = f"The key {key!r} is not a text."
                found.add((*place, str(key)), message, "Put it in quotes.")
        return {key: _cleaned(item, (*place, key), found) for key, item in kept.items()}
    if isinstance(value, list) and len(place) <= DEEPEST:
        return [_cleaned(item, (*place, index), found) for index, item in enumerate(value)]
    problems = list(json_problems(value, place))
    for where, message, hint in problems[:1]:
        name = ".".join(str(part) for part in where)
        found.add(where, f"{name}: {message}.", hint)
    return BAD if problems else value


def _holds_bad(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(_holds_bad(item) for item in value.values())
    if isinstance(value, list):
        return any(_holds_bad(item) for item in value)
    return value is BAD


def _bad_fields(data: Mapping[str, Any]) -> set[str]:
    return {name for name, value in data.items() if value is BAD}


def _without_bad(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return a document whose parts can be checked for their type."""
    stand_ins: dict[str, Any] = {"plan": "x", "steps": [None]}
    return {
        name: stand_ins[name] if value is BAD and name in stand_ins else value
        for name, value in data.items()
        if value is not BAD or name in stand_ins
    }


def _tell(found_violations: Iterator[Any], found: Findings, place: Place) -> set[str]:
    """Add violations as problems; return the fields they are about."""
    fields = set()
    for violation in found_violations:
        found.add((*place, *violation.place), _upper(violation.message), violation.hint)
        fields |= {str(part) for part in violation.place[:1]}
    return fields


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:] if text.startswith("unknown field") else text


def _param(name: str, spec: Any, place: Place, found: Findings) -> Param | None:
    reason = name_problem(name)
    if reason:
        found.add(place, f"The parameter {name!r} {reason}.")
    if _holds_bad(spec):
        return None
    label = f"params.{name}"
    if _tell_field(violations(PARAM, spec, name=label), found, place):
        return None
    param = Param(
        name=name,
        type=spec["type"],
        default=spec.get("default"),
        required=spec.get("required", True),
        help=spec.get("help", ""),
        choices=tuple(spec.get("choices", ())),
        env=spec.get("env"),
        line=found.line(place),
    )
    wrong = list(_param_problems(param, label))
    for part, message, hint in wrong:
        found.add((*place, part), message, hint)
    if wrong or reason or param.default is None:
        return param
    try:
        default = typed_value(param, param.default)
    except Wrong as exc:
        found.add((*place, "default"), f"{label}.default must be {exc}.")
        return param
    return cast(Param, _replaced(param, default=default))


def _replaced(item: Any, **changes: Any) -> Any:
    from dataclasses import replace

    return replace(item, **changes)


def _param_problems(param: Param, label: str) -> Iterator[tuple[str, str, str | None]]:
    if (param.type == "choice") != bool(param.choices):
        message = f"{label}: `choices` and the type `choice` belong together."
        yield "choices", message, None
    if (param.type == "secret") != (param.env is not None):
        message = f"{label}: `env` and the type `secret` belong together."
        yield "env", message, None
    if param.type == "secret" and param.default is not None:
        hint = "Name the environment variable in `env`."
        yield "default", f"{label}: a secret has no default.", hint


def _step(item: Any, place: Place, found: Findings, kinds: Mapping[str, StepKind]) -> Draft | None:
    if not isinstance(item, Mapping):
        if item is not BAD:
            found.add(place, "A step is a mapping with `id` and `kind`.")
        return None
    name = str(item["id"]) if isinstance(item.get("id"), str) else f"step {int(place[-1]) + 1}"
    bad = {field for field, value in item.items() if _holds_bad(value)}
    kind = kinds.get(item["kind"]) if isinstance(item.get("kind"), str) else None
    common = {key: value for key, value in item.items() if key in STEP_FIELDS and key not in bad}
    wanted = [key for key in ("id", "kind") if key not in bad]
    schema = {"type": "object", "properties": STEP_FIELDS, "required": wanted}
    bad |= _tell(violations(schema, common, name=name), found, place)
    if isinstance(item.get("kind"), str) and kind is None:
        near = nearest_names(item["kind"], kinds, count=1)
        hint = f"Did you mean {near[0]!r}?" if near else f"Kinds: {', '.join(sorted(kinds))}."
        found.add((*place, "kind"), f"{name}: there is no kind {item['kind']!r}.", hint)
        bad.add("kind")
    if kind is not None:
        bad |= _kind_fields(item, kind, name, place, found, bad)
    if not isinstance(item.get("id"), str) or "id" in bad:
        return None
    step = _built(item, kind, bad, found.below(place))
    return Draft(step, place, bad, kind, _sure(item, bad))


def _kind_fields(
    item: Mapping[str, Any],
    kind: StepKind,
    name: str,
    place: Place,
    found: Findings,
    bad: set[str],
) -> set[str]:
    """Check the fields of a kind; return those that cannot be used."""
    wrong = set()
    for key, value in item.items():
        if key in STEP_FIELDS or key in bad:
            continue
        if key not in kind.fields:
            known = [*kind.fields, *STEP_FIELDS]
            near = nearest_names(key, known, count=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(known)}."
            found.add((*place, key), f"{name}: a {kind.name} step has no field {key!r}.", hint)
            wrong.add(key)
            continue
        about = kind.fields[key]
        told = violations(
            field_schema(about),
            value,
            name=f"{name}.{key}",
            references=not (about.literal or about.expression),
        )
        if _tell_field(told, found, (*place, key)):
            wrong.add(key)
    for key, about in kind.fields.items():
        if about.required and key not in item:
            found.add(place, f"{name}: a {kind.name} step needs {key!r}.", about.doc)
            wrong.add(key)
    return wrong


def _tell_field(told: Iterator[Any], found: Findings, place: Place) -> bool:
    wrong = False
    for violation in told:
        found.add((*place, *violation.place), violation.message, violation.hint)
        wrong = True
    return wrong


def _built(
    item: Mapping[str, Any], kind: StepKind | None, bad: set[str], lines: Mapping[str, int]
) -> Step:
    """Build a step of the fields that can be used."""
    good = {key: value for key, value in item.items() if key not in bad}
    # Also those of a wrong form: what they refer to can still be checked.
    config = {
        key: value
        for key, value in item.items()
        if key not in STEP_FIELDS and not _holds_bad(value)
    }
    outputs = good.get("outputs")
    if not outputs:
        outputs = kind.outputs_of(config) if kind and _sure(item, bad) else {}
    elif isinstance(outputs, list):
        outputs = dict.fromkeys(outputs, "json")
    retries = good.get("retries", 0)
    return Step(
        id=str(item["id"]),
        kind=str(item.get("kind", "")),
        needs=tuple(good.get("needs", ())),
        inputs=good.get("inputs", {}),
        outputs=dict(outputs),
        foreach=good.get("foreach", {}),
        when=good.get("when"),
        retries=Retries(**retries) if isinstance(retries, Mapping) else Retries(int(retries)),
        timeout_s=None if good.get("timeout_s") is None else float(good["timeout_s"]),
        cache=good.get("cache"),
        max_parallel=good.get("max_parallel"),
        effects=good.get("effects", "none"),
        on_error=good.get("on_error", "fail"),
        title=good.get("title", ""),
        config=config,
        lines=lines,
    )


def _sure(item: Mapping[str, Any], bad: set[str]) -> bool:
    """Whether it is known which outputs a step has."""
    if "outputs" in item:
        return "outputs" not in bad
    return not (bad - set(STEP_FIELDS)) and not bad & {"kind", "outputs"}


def to_data(plan: Plan, kinds: Mapping[str, StepKind]) -> dict[str, Any]:
    """Return a plan as the plain data of its file, without what goes without saying."""
    data: dict[str, Any] = {"plan": plan.name, "plan_version": plan.plan_version}
    if plan.goal:
        data["goal"] = plan.goal
    if plan.params:
        data["params"] = {param.name: _param_data(param) for param in plan.params}
    data["steps"] = [_step_data(step, kinds.get(step.kind)) for step in plan.steps]
    return data


def _param_data(param: Param) -> dict[str, Any]:
    data: dict[str, Any] = {"type": param.type}
    if param.default is not None:
        data["default"] = param.default
    if not param.required:
        data["required"] = False
    if param.help:
        data["help"] = param.help
    if param.choices:
        data["choices"] = list(param.choices)
    if param.env is not None:
        data["env"] = param.env
    return data


def _step_data(step: Step, kind: StepKind | None) -> dict[str, Any]:
    data: dict[str, Any] = {"id": step.id, "kind": step.kind}
    optional: list[tuple[str, Any, Any]] = [
        ("title", step.title, ""),
        ("needs", list(step.needs), []),
        ("foreach", dict(step.foreach), {}),
        ("when", step.when, None),
    ]
    outputs: Any = dict(step.outputs)
    usual = dict(kind.outputs_of(step.config)) if kind else {}
    if outputs and set(outputs.values()) == {"json"} and outputs != usual:
        outputs = list(outputs)
    late: list[tuple[str, Any, Any]] = [
        ("inputs", dict(step.inputs), {}),
        ("outputs", outputs or usual, usual),
        ("retries", _retries_data(step.retries), 0),
        ("timeout_s", step.timeout_s, None),
        ("cache", step.cache, None),
        ("max_parallel", step.max_parallel, None),
        ("effects", step.effects, "none"),
        ("on_error", step.on_error, "fail"),
    ]
    data |= {name: value for name, value, default in optional if value != default}
    data |= dict(step.config)
    return data | {name: value for name, value, default in late if value != default}


def _retries_data(retries: Retries) -> Any:
    if retries == Retries(retries.times):
        return retries.times
    return {
        "times": retries.times,
        "backoff_s": retries.backoff_s,
        "factor": retries.factor,
        "max_s": retries.max_s,
    }
