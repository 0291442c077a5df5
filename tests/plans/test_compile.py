from __future__ import annotations

import ast
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import nbformat
import papermill
import pytest
from hypothesis import given, settings
from nbformat import NotebookNode

from tests.house.files import run_module
from tests.plans import tiny
from tests.plans.plans import plans
from workbench import plans as plans_package
from workbench.plans.compile import compile_plan, plan_hash, variable
from workbench.plans.parse import completed, parse_plan, to_yaml
from workbench.plans.spec import Plan

assert tiny

TEXT = (
    r"""# A comment that stays.
plan: compare
goal: Compare *models* on "questions".
params:
  models: {type: "list[model]", default: [toy-tiny, toy-nano], help: which models}
  long:
    type: list[str]
    default: [aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa, bbbbbbbbbbbbbbbbbbbbbbbbbbbbbb, ccccccccccccccc]
  seed: {type: int, default: 7, help: "the same = every time"}
  level: {type: float, default: 0}
  odd: {type: str, default: "a = \"b\" # c \\ """
    + "'''"
    + r""" \n\0 é"}
  question: {type: str, help: what is asked}
  mood: {type: choice, choices: [calm, gay], default: gay}
  flag: {type: bool, default: false}
  key: {type: secret, env: API_KEY}
steps:
  - id: list
    kind: tiny_ask
    title: Ask `all` of *them*
    foreach: {m: $params.models}
    model: $m
    prompt: "a \"\"\" b \\ c"
    when: params.seed > 1
  - {id: show, kind: tiny_ask, model: m, prompt: "${list.text}"}
"""
)


@pytest.fixture(scope="module")
def plan() -> Plan:
    """Return a plan with everything that is hard to write down."""
    return parse_plan(TEXT)


@pytest.fixture(scope="module")
def notebook(plan: Plan) -> NotebookNode:
    """Return its notebook."""
    return compile_plan(plan)


@pytest.fixture(scope="module")
def path(notebook: NotebookNode, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of its notebook."""
    place = tmp_path_factory.mktemp("notebook") / "compare.ipynb"
    nbformat.write(notebook, place)
    return place


def tagged(notebook: NotebookNode, tag: str) -> NotebookNode:
    """Return the cell with a tag."""
    [cell] = [c for c in notebook.cells if tag in c.metadata.get("tags", ())]
    return cell


def parameters(notebook: NotebookNode) -> dict[str, Any]:
    """Return what the parameters cell and the plan's cell assign."""
    namespace: dict[str, Any] = {}
    for tag in ("parameters", "plan"):
        exec(tagged(notebook, tag).source, namespace)
    return namespace


def test_notebook_is_valid_and_has_its_cells(notebook: NotebookNode, plan: Plan) -> None:
    """A goal, parameters, the plan, a set-up, one cell per step, a record; the hash is told."""
    nbformat.validate(notebook)
    tags = [tag for cell in notebook.cells for tag in cell.metadata.get("tags", ())]
    assert ["parameters", "plan", "setup", "step:list", "step:show", "record"] == tags
    assert notebook.cells[0].source.startswith('# compare\n\nCompare *models* on "questions".')
    about = {"plan": "compare", "plan_hash": plan_hash(plan), "plan_version": 1}
    assert about == dict(notebook.metadata.workbench)


def test_step_cells_are_readable(notebook: NotebookNode) -> None:
    """A step's cell awaits it by its id and shows it; its text says what it is."""
    assert 'show = await run.step("show")\nshow' == tagged(notebook, "step:show").source
    assert 'list_ = await run.step("list")\nlist_' == tagged(notebook, "step:list").source
    about = next(c.source for c in notebook.cells if "`list`" in c.source)
    assert r"**Ask \`all\` of \*them\***" in about
    assert "`list` · tiny_ask · for each `m` · when `params.seed > 1`" in about


def test_parameters_are_typed_values(notebook: NotebookNode, plan: Plan) -> None:
    """The parameters cell holds the defaults, whatever characters they have."""
    found = parameters(notebook)
    for param in plan.params:
        assert found[param.name] == ("API_KEY" if param.type == "secret" else param.default)
    source = tagged(notebook, "parameters").source
    assert 'models: list[str] = ["toy-tiny", "toy-nano"]  # models; which models' in source
    assert "question: str = None  # required; what is asked" in source


def test_given_values_stand_in_the_cell(plan: Plan) -> None:
    """Values of a run replace the defaults; a secret stays a name."""
    made = compile_plan(plan, {"seed": 3, "key": {"env": "OTHER"}})
    found = parameters(made)
    assert (3, "OTHER", 0.0) == (found["seed"], found["key"], found["level"])


def test_the_plan_is_within(notebook: NotebookNode, plan: Plan) -> None:
    """The notebook carries the plan's own text, comments and all."""
    text = parameters(notebook)["PLAN"]
    assert TEXT == text
    assert plan == parse_plan(text)


def test_a_changed_plan_carries_what_it_says_now(plan: Plan) -> None:
    """A source that no longer says what the plan says is not used."""
    changed = replace(plan, goal="Another.")
    text = parameters(compile_plan(changed))["PLAN"]
    assert changed == parse_plan(text)


def test_setup_names_every_parameter(plan: Plan) -> None:
    """The set-up opens the run with the variables of the parameters cell, as a call shows."""
    source = tagged(compile_plan(plan, plan_dir="/a=b"), "setup").source
    calls: list[tuple[Any, ...]] = []
    body = source.split("\n\n", 1)[1]
    namespace = {**parameters(compile_plan(plan)), "open_run": lambda *a, **k: calls.append((a, k))}
    exec(body, namespace)
    [((text,), named)] = calls
    assert (TEXT, "/a=b") == (text, named["plan_dir"])
    assert [param.name for param in plan.params] == list(named["params"])


def test_papermill_sees_every_parameter(path: Path, plan: Plan) -> None:
    """The reader of papermill finds all parameters, with their types."""
    found = papermill.inspect_notebook(str(path))
    assert [param.name for param in plan.params] == list(found)
    assert "list[str]" == found["models"]["inferred_type_name"]
    assert "which models" in found["models"]["help"]
    shown = run_module("papermill", "--help-notebook", str(path))
    assert 0 == shown.returncode, shown.stdout
    assert "seed: int (default 7)" in shown.stdout


def test_cells_are_clean(path: Path) -> None:
    """The linter finds nothing in the cells, and the formatter leaves them as they are."""
    for command in (["check"], ["format", "--diff"]):
        checked = run_module("ruff", *command, "--isolated", "--no-cache", str(path))
        assert 0 == checked.returncode, checked.stdout


def test_the_same_plan_gives_the_same_notebook(plan: Plan, notebook: NotebookNode) -> None:
    """Nothing in the notebook is drawn or dated."""
    assert json.dumps(notebook, sort_keys=True) == json.dumps(compile_plan(plan), sort_keys=True)


def test_hash_is_of_what_a_plan_says(plan: Plan) -> None:
    """Comments, lines and places do not count; anything that is done does."""
    same = parse_plan(to_yaml(plan), path="/elsewhere/plan.yaml")
    assert plan_hash(plan) == plan_hash(same)
    assert plan_hash(plan) != plan_hash(replace(plan, goal="Another."))
    assert plan_hash(plan) != plan_hash(replace(plan, params=plan.params[1:]))
    step = replace(plan.steps[0], retries=replace(plan.steps[0].retries, factor=3.0))
    assert plan_hash(plan) != plan_hash(replace(plan, steps=(step, *plan.steps[1:])))


def test_variables_hide_no_builtin() -> None:
    """A step called as a builtin gets another variable."""
    assert ["filter_", "rows"] == [variable("filter"), variable("rows")]


@settings(max_examples=25)
@given(plans())
def test_any_plan_compiles(plan: Plan) -> None:
    """Every good plan gives a valid notebook whose cells are Python and hold what the plan says."""
    whole = completed(plan)
    made = compile_plan(whole)
    nbformat.validate(made)
    found = parameters(made)
    assert whole == parse_plan(found["PLAN"])
    for param in whole.params:
        assert found[param.name] == (param.env if param.type == "secret" else param.default)
    for cell in made.cells:
        if cell.cell_type == "code":
            compile(cell.source, "cell", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def test_public_names_are_where_they_are_said_to_be() -> None:
    """Every public name of the package can be had, and importing it loads nothing heavy."""
    assert sorted(plans_package.__all__) == plans_package.__all__
    assert [] == [name for name in plans_package.__all__ if not hasattr(plans_package, name)]
    code = "import sys, workbench.plans; print({'yaml', 'nbformat', 'httpx'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "set()\n" == done.stdout
