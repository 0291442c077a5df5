"""What the parts of a plan say about each other: names, references, cycles, order; pure."""

from __future__ import annotations

import heapq
import keyword
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from workbench.errors import PlanError, PlanInvalid, PlanProblem
from workbench.messages import nearest_names
from workbench.plans.document import Document, Draft, Findings, read_document, to_data
from workbench.plans.expressions import paths_in
from workbench.plans.kinds import load_kinds
from workbench.plans.kinds.base import StepKind
from workbench.plans.references import Place, malformed_in, references_in
from workbench.plans.spec import PLAN_VERSION, Param, Plan, Step

RESERVED = frozenset({"params", "run", "open_run"})
"""Names that mean something else where a step's id is a name."""
FOREACH_OUTPUTS = ("table", "errors")
"""What a step with `foreach` gives beside its outputs."""


def check_plan(plan: Plan) -> list[PlanProblem]:
    """Return everything that is wrong with a plan that was built in Python or read."""
    return _read_again(plan)[1]


def completed(plan: Plan) -> Plan:
    """Return a plan that was built in Python as one that was read: needs complete, steps in order.

    Raises:
        PlanInvalid: When something is wrong with it.
    """
    read, problems = _read_again(plan)
    if problems or read is None:
        raise PlanInvalid(plan.name, problems)
    return read


def _read_again(plan: Plan) -> tuple[Plan | None, list[PlanProblem]]:
    lines: dict[Place, int] = {}
    for param in plan.params:
        if param.line is not None:
            lines["params", param.name] = param.line
    for index, step in enumerate(plan.steps):
        for name, line in step.lines.items():
            lines["steps", index, *(part for part in name.split(".") if part)] = line
    found = Findings(plan.path, lines)
    again = build_plan(to_data(plan, load_kinds()), found, source=plan.source)
    doubles = {p.name for p in plan.params if [q.name for q in plan.params].count(p.name) > 1}
    for name in sorted(doubles):
        found.add(("params", name), f"The parameter {name!r} is there twice.")
    if again is not None:
        # A dotted name of a line cannot tell an index from a key: keep those it had.
        kept = {step.id: step.lines for step in plan.steps}
        steps = tuple(replace(step, lines=kept[step.id]) for step in again.steps)
        again = replace(again, steps=steps)
    return again, found.problems


def build_plan(data: Any, found: Findings, *, source: str = "") -> Plan | None:
    """Return the plan that plain data describes; problems go to `found`.

    `None` when no plan can be made of it; a plan is only good when there are no problems.
    """
    kinds = load_kinds()
    document = read_document(data, found, kinds)
    if document is None:
        return None
    _Checker(document, found).check()
    if found.problems:
        return None
    return Plan(
        name=document.name,
        goal=document.goal,
        params=tuple(param for param in document.params.values() if param is not None),
        steps=_ordered(document.drafts),
        plan_version=PLAN_VERSION,
        source=source,
        path=found.file,
    )


class _Checker:
    """Compares the steps of a document with each other and with its parameters."""

    def __init__(self, document: Document, found: Findings) -> None:
        self._params: Mapping[str, Param | None] = document.params
        self._drafts = document.drafts
        self._found = found
        self._by_id: dict[str, Draft] = {}
        self._plan_dir = Path(found.file).parent if found.file else None

    def check(self) -> None:
        """Add every problem."""
        for draft in self._drafts:
            self._name(draft)
        for draft in self._drafts:
            self._needs(draft)
            self._settings(draft)
            self._values(draft)
            self._kind(draft)
        cycle = _cycle(self._edges())
        if cycle:
            place = self._by_id[cycle[0]].place
            loop = " -> ".join([*cycle, cycle[0]])
            self._found.add(place, f"The steps need each other in a circle: {loop}.")

    def _name(self, draft: Draft) -> None:
        step_id, place = draft.step.id, (*draft.place, "id")
        if step_id in self._by_id:
            first = self._found.line((*self._by_id[step_id].place, "id"))
            where = f"; the first is in line {first}" if first else ""
            self._found.add(place, f"Two steps have the id {step_id!r}{where}.")
            return
        self._by_id[step_id] = draft
        if step_id in RESERVED or keyword.iskeyword(step_id):
            self._found.add(place, f"A step cannot be called {step_id!r}.", "The name is taken.")
        if step_id in self._params:
            hint = "Both become names in the notebook: rename one."
            self._found.add(place, f"A step and a parameter are called {step_id!r}.", hint)

    def _needs(self, draft: Draft) -> None:
        for index, needed in enumerate(draft.step.needs):
            place = (*draft.place, "needs", index)
            if needed == draft.step.id:
                self._found.add(place, f"{draft.step.id} needs itself.")
            elif needed not in self._by_id:
                self._missing_step(draft, place, needed, "needs")

    def _missing_step(self, draft: Draft, place: Place, name: str, verb: str) -> None:
        known = [step_id for step_id in self._by_id if step_id != draft.step.id]
        hint = _nearest(name, known, "Steps")
        message = f"{draft.step.id} {verb} {name!r}, and there is no such step."
        self._found.add(place, message, hint)

    def _settings(self, draft: Draft) -> None:
        step = draft.step
        for variable in step.foreach:
            place = (*draft.place, "foreach", variable)
            if variable in RESERVED or keyword.iskeyword(variable) or variable in self._by_id:
                hint = "Choose another name."
                self._found.add(place, f"{step.id}: {variable!r} is taken.", hint)
        self._lists(draft)
        if step.foreach or "foreach" in draft.bad:
            for name in FOREACH_OUTPUTS:
                if name in step.outputs:
                    message = f"{step.id}: with `foreach`, {name!r} is an output of its own."
                    self._found.add((*draft.place, "outputs"), message, "Choose another name.")
            return
        for name, usual in (("max_parallel", None), ("on_error", "fail")):
            if getattr(step, name) != usual:
                message = f"{step.id}: {name} is for the items of a `foreach`, and there is none."
                self._found.add((*draft.place, name), message)

    def _lists(self, draft: Draft) -> None:
        """Check that `foreach` goes over lists, where that is known: of parameters."""
        for variable, value in draft.step.foreach.items():
            for reference in references_in(value):
                param = self._params.get(reference.path[1]) if len(reference.path) == 2 else None
                whole = reference.root == "params" and not reference.place
                if whole and param is not None and not param.type.startswith("list["):
                    place = (*draft.place, "foreach", variable)
                    message = f"{draft.step.id}: {reference} is {param.type}, not a list."
                    self._found.add(place, message, f"Write a list of one: [{reference}].")

    def _values(self, draft: Draft) -> None:
        step = draft.step
        self._references(draft, ("foreach",), step.foreach, variables=())
        self._references(draft, ("inputs",), step.inputs, variables=step.foreach)
        if step.when is not None:
            self._expression(draft, ("when",), step.when, variables=())
        for name, value in step.config.items():
            about = draft.kind.fields.get(name) if draft.kind else None
            if about is None or about.literal:
                continue
            if about.expression:
                for place, text in _texts(value, (name,)):
                    self._expression(draft, place, text, variables=step.foreach)
            else:
                self._references(draft, (name,), value, variables=step.foreach)

    def _references(self, draft: Draft, place: Place, value: Any, variables: Iterable[str]) -> None:
        for inner, text in malformed_in(value):
            hint = "Write $step.output, ${step.output} within a text, and $$ for a dollar."
            message = f"{draft.step.id}: {text!r} is not a reference."
            self._found.add((*draft.place, *place, *inner), message, hint)
        for reference in references_in(value):
            where = (*draft.place, *place, *reference.place)
            handed = place[0] == "inputs" and reference.whole and len(reference.place) == 1
            self._path(draft, where, reference.path, variables, str(reference), handed=handed)

    def _expression(self, draft: Draft, place: Place, text: str, variables: Iterable[str]) -> None:
        where = (*draft.place, *place)
        try:
            paths = paths_in(text)
        except PlanError as exc:
            self._found.add(where, f"{draft.step.id}: {exc.message}", exc.hint)
            return
        for path in paths:
            self._path(draft, where, path, variables, ".".join(path), handed=False)

    def _path(
        self,
        draft: Draft,
        place: Place,
        path: tuple[str, ...],
        variables: Iterable[str],
        shown: str,
        *,
        handed: bool,
    ) -> None:
        """Check that a path leads somewhere; `handed`: as a whole input, as secrets may be."""
        name, root = draft.step.id, path[0]
        unknown = "foreach" in draft.bad
        if root in variables or (unknown and root not in self._by_id and root != "params"):
            return
        if root == "params":
            self._param_path(name, place, path, shown, handed=handed)
        elif root == name:
            self._found.add(place, f"{name} refers to itself: {shown}.")
        elif root in self._by_id:
            self._output_path(name, place, path, shown)
        else:
            known = [*variables, *(step_id for step_id in self._by_id if step_id != name), "params"]
            hint = _nearest(root, known, "Known")
            if root in self._params:
                hint = f"A parameter is params.{root}."
            if root in draft.step.foreach:
                hint = "The variables of `foreach` are not known here."
            message = f"{name}: {shown} names {root!r}, and there is no such step or variable."
            self._found.add(place, message, hint)

    def _param_path(
        self, name: str, place: Place, path: tuple[str, ...], shown: str, *, handed: bool
    ) -> None:
        wanted = path[1:2] or tuple(self._params)
        for key in wanted:
            if key not in self._params:
                hint = _nearest(key, self._params, "Parameters")
                self._found.add(place, f"{name}: {shown}: there is no parameter {key!r}.", hint)
                continue
            param = self._params[key]
            if param is not None and param.type == "secret" and not (handed and path[1:]):
                hint = f"Hand it on whole, as an input: inputs: {{{key}: $params.{key}}}."
                self._found.add(place, f"{name}: {shown} would show the secret {key!r}.", hint)

    def _output_path(self, name: str, place: Place, path: tuple[str, ...], shown: str) -> None:
        source = self._by_id[path[0]]
        if len(path) < 2 or "foreach" in source.bad or not source.sure:
            return
        known = [*source.step.outputs, *(FOREACH_OUTPUTS if source.step.foreach else ())]
        if path[1] not in known:
            hint = _nearest(path[1], known, "Outputs")
            message = f"{name}: {shown}: {path[0]} has no output {path[1]!r}."
            self._found.add(place, message, hint)

    def _kind(self, draft: Draft) -> None:
        """Let the kind look at a step whose fields are sound."""
        if draft.kind is None or draft.bad:
            return
        for problem in draft.kind.check(draft.step, self._plan_dir):
            line = problem.line or self._found.line(draft.place)
            placed = replace(problem, line=line, file=problem.file or self._found.file)
            self._found.problems.append(placed)
        for chosen in draft.kind.branches(draft.step):
            if chosen == draft.step.id:
                self._found.add(draft.place, f"{draft.step.id} chooses itself.")
            elif chosen not in self._by_id:
                self._missing_step(draft, draft.place, chosen, "chooses")

    def _edges(self) -> dict[str, list[str]]:
        return _needs_of(self._by_id.values())


def _needs_of(drafts: Iterable[Draft]) -> dict[str, list[str]]:
    """Return the steps each step needs, by name, without what does not exist."""
    found: dict[str, set[str]] = {}
    drafts = list(drafts)
    for draft in drafts:
        found.setdefault(draft.step.id, set()).update(_needed(draft.step, draft.kind))
    for draft in drafts:
        if draft.kind is not None and not draft.bad:
            for chosen in draft.kind.branches(draft.step):
                found.setdefault(chosen, set()).add(draft.step.id)
    return {
        step_id: [other for other in needs if other in found and other != step_id]
        for step_id, needs in ((i, sorted(named)) for i, named in found.items())
    }


def _needed(step: Step, kind: StepKind | None) -> Iterator[str]:
    """Yield every name a step refers to; those that are no steps as well."""
    yield from step.needs
    fields = kind.fields if kind else {}
    expressions = [("when", step.when)] if step.when is not None else []
    values: list[Any] = [step.foreach, step.inputs]
    for name, value in step.config.items():
        about = fields.get(name)
        if about is not None and about.expression:
            expressions += [(name, text) for _, text in _texts(value, ())]
        elif about is not None and not about.literal:
            values.append(value)
    for value in values:
        yield from (r.root for r in references_in(value) if r.root not in step.foreach)
    for _, text in expressions:
        try:
            yield from (path[0] for path in paths_in(text) if path[0] not in step.foreach)
        except PlanError:
            continue


def _ordered(drafts: list[Draft]) -> tuple[Step, ...]:
    """Return the steps with all their needs, each after what it needs, else as in the file."""
    needs = _needs_of(drafts)
    steps = [draft.step for draft in drafts]
    place = {step.id: index for index, step in enumerate(steps)}
    waits = {step_id: len(needed) for step_id, needed in needs.items()}
    after: dict[str, list[str]] = {step_id: [] for step_id in needs}
    for step_id, needed in needs.items():
        for other in needed:
            after[other].append(step_id)
    ready = [place[step_id] for step_id, count in waits.items() if not count]
    heapq.heapify(ready)
    done: list[Step] = []
    while ready:
        done.append(steps[heapq.heappop(ready)])
        for step_id in after[done[-1].id]:
            waits[step_id] -= 1
            if not waits[step_id]:
                heapq.heappush(ready, place[step_id])
    order = {step.id: index for index, step in enumerate(done)}
    return tuple(
        replace(step, needs=tuple(sorted(needs[step.id], key=order.__getitem__))) for step in done
    )


def _cycle(edges: Mapping[str, list[str]]) -> list[str] | None:
    """Return the steps of a circle, each needed by the one before, or `None`."""
    state: dict[str, int] = {}
    for start in edges:
        trail: list[str] = []
        stack: list[tuple[str, Iterator[str]]] = []
        if start not in state:
            state[start] = 1
            trail.append(start)
            stack.append((start, iter(edges[start])))
        while stack:
            node, rest = stack[-1]
            following = next(rest, None)
            if following is None:
                state[node] = 2
                stack.pop()
                trail.pop()
            elif state.get(following) == 1:
                return trail[trail.index(following) :]
            elif following in edges and following not in state:
                state[following] = 1
                trail.append(following)
                stack.append((following, iter(edges[following])))
    return None


def _texts(value: Any, place: Place) -> Iterator[tuple[Place, str]]:
    """Yield the expressions in a field: a text, or texts in lists and mappings."""
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _texts(item, (*place, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _texts(item, (*place, index))


def _nearest(name: str, known: Iterable[str], label: str) -> str:
    known = list(known)
    # One or two letters lie in almost any name.
    near = nearest_names(name, [item for item in known if len(item) > 2], count=1)
    return f"Did you mean {near[0]!r}?" if near else f"{label}: {', '.join(known) or 'none'}."
