from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench import resources
from workbench.errors import PlanInvalid, PlanProblem
from workbench.plans import Plan, compile_plan, parse_plan, to_yaml

SOURCES = sorted(resources.plans_dir().glob("*.yaml"))
DATA = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in SOURCES]
FOLDER = resources.plans_dir() / "plan.yaml"

_ODD = st.sampled_from(
    [None, True, 0, -1, 1.5, "", "x", "$", "$x", "$params", "$params.seed", "${", "${a.b}",
     "$ask.table", [], {}, [[]], [None], {"": ""}, {"a": [1]}, "a:b", "tools:nil", "1 +", "((", "*",
     "stop", ["stop"], "\u2028", "x" * 3000, {"type": "nil"}, {"$ref": "#/nil"}, 10**30, "..", "/",
     "a\nb"]
)  # fmt: skip


def places(value: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield where something stands in a document."""
    if before:
        yield before
    if isinstance(value, dict):
        for key, item in value.items():
            yield from places(item, (*before, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from places(item, (*before, index))


@st.composite
def mutants(draw: st.DrawFn) -> Any:
    """Return a bundled plan with some of its parts replaced, removed, renamed or doubled."""
    data = copy.deepcopy(draw(st.sampled_from(DATA)))
    for _ in range(draw(st.integers(1, 3))):
        *path, last = draw(st.sampled_from(list(places(data))))
        holder = data
        for part in path:
            holder = holder[part]
        how = draw(st.sampled_from(["replace", "replace", "remove", "rename", "double"]))
        if how == "remove":
            del holder[last]
        elif how == "rename" and isinstance(holder, dict):
            holder[draw(st.sampled_from(["id", "nil", "x y", "needs", "foreach"]))] = holder[last]
        elif how == "double" and isinstance(holder, list):
            holder.append(holder[last])
        else:
            holder[last] = copy.deepcopy(draw(_ODD))
        if not data:
            break
    return data


def parsed(text: str) -> tuple[Plan | None, Sequence[PlanProblem]]:
    """Return a plan, or what is wrong with it."""
    try:
        return parse_plan(text, path=FOLDER), ()
    except PlanInvalid as exc:
        return None, exc.problems


@settings(max_examples=150)
@given(mutants())
def test_a_broken_plan_is_told_of_and_breaks_nothing(data: Any) -> None:
    """Whatever is done to a good plan, it is a plan that compiles, or invalid with reasons."""
    text = yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
    plan, problems = parsed(text)
    if plan is None:
        assert problems
        assert all(problem.message and problem.file for problem in problems)
        return
    assert plan == parse_plan(to_yaml(plan), path=FOLDER)
    assert compile_plan(plan).cells
