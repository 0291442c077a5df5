from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.plans import tiny
from tests.plans.plans import plans
from workbench.errors import PlanInvalid, PlanProblem
from workbench.plans.parse import MOST_VALUES, check_plan, completed, load_plan, parse_plan, to_yaml
from workbench.plans.spec import Param, Plan, Retries, Step

ASK = "kind: tiny_ask, model: m, prompt: p"
HEAD = "plan: p\nsteps:\n"


def problems(text: str) -> list[PlanProblem]:
    """Return everything that is told of a text."""
    with pytest.raises(PlanInvalid) as caught:
        parse_plan(text, path="p.yaml")
    return list(caught.value.problems)


def only(text: str) -> PlanProblem:
    """Return the one problem of a text."""
    found = problems(text)
    assert 1 == len(found), "\n".join(map(str, found))
    return found[0]


def with_step(extra: str) -> str:
    """Return a plan of one step with a further field; the field stands in line 4."""
    return f"{HEAD}  - {{id: one, {ASK},\n    {extra}}}\n"


WHOLE = """\
plan: compare
plan_version: 1
goal: |
  Compare *models*.
params:
  models: {type: "list[model]", default: [a, b], help: which}
  seed: {type: int, default: 7}
  mood: {type: choice, choices: [no, on]}
  key: {type: secret, env: KEY}
steps:
  - id: ask
    kind: tiny_ask
    title: Ask
    foreach: {m: $params.models, n: [1, 2]}
    when: params.seed > 1
    model: $m
    prompt: >-
      one ${n}
      two
    options: {seed: $params.seed}
    inputs: {key: $params.key}
    outputs: {text: json, frame: parquet}
    retries: {times: 2, backoff_s: 0.5}
    timeout_s: 30
    cache: false
    max_parallel: 4
    effects: external
    on_error: keep
"""


def test_a_plan_is_read_whole() -> None:
    """Every field of the file is in the values, and every line is kept."""
    plan = parse_plan(WHOLE)
    assert "Compare *models*.\n" == plan.goal
    assert Param("mood", "choice", choices=("no", "on")) == plan.param("mood")
    assert [6, 7, 8, 9] == [param.line for param in plan.params]
    assert plan.step("ask") == Step(
        "ask",
        "tiny_ask",
        inputs={"key": "$params.key"},
        outputs={"text": "json", "frame": "parquet"},
        foreach={"m": "$params.models", "n": [1, 2]},
        when="params.seed > 1",
        retries=Retries(2, backoff_s=0.5),
        timeout_s=30.0,
        cache=False,
        max_parallel=4,
        effects="external",
        on_error="keep",
        title="Ask",
        config={
            "model": "$m",
            "prompt": "one ${n} two",
            "options": {"seed": "$params.seed"},
        },
    )
    lines = plan.step("ask").lines
    assert (11, 16, 20) == (lines[""], lines["model"], lines["options.seed"])


def test_order_and_needs_are_complete() -> None:
    """Steps come after what they name, refer to, compute with, or are chosen by."""
    plan = parse_plan(
        f"""{HEAD}
  - {{id: last, {ASK}, needs: [left]}}
  - {{id: left, {ASK}}}
  - {{id: pick, kind: tiny_pick, cases: {{left: "first.text == 'a'"}}}}
  - {{id: second, {ASK}, foreach: {{r: $first.text}}, when: len(zero.text) > 0}}
  - {{id: third, kind: tiny_ask, model: m, prompt: "x ${{second.table}} $$ ${{first.text}}"}}
  - {{id: first, {ASK}}}
  - {{id: zero, {ASK}}}
"""
    )
    assert {
        "first": (),
        "zero": (),
        "pick": ("first",),
        "left": ("pick",),
        "last": ("left",),
        "second": ("first", "zero"),
        "third": ("first", "second"),
    } == {step.id: step.needs for step in plan.steps}
    order = [step.id for step in plan.steps]
    assert all(order.index(n) < order.index(s.id) for s in plan.steps for n in s.needs)


def test_everything_is_told_at_once_in_order() -> None:
    """Problems of all parts of a file come together, sorted by line."""
    found = problems(
        dedent(
            """\
            plan: Bad Name
            parms: {}
            params:
              class: {type: str}
              n: {type: int, default: x}
              d: {type: str, default: 2026-01-02}
            steps:
              - {id: a, kind: tiny_ask, model: m, prompt: $b.txt, optins: {}}
              - {id: b, kind: tiny_ask, model: m, prompt: $a.text}
              - {id: c, kind: tiny_aks}
              - {id: a, kind: tiny_ask, model: m, prompt: $params.m}
            """
        )
    )
    assert [1, 2, 4, 5, 6, 8, 8, 8, 10, 11, 11] == [problem.line for problem in found]
    assert {"p.yaml"} == {problem.file for problem in found}


@pytest.mark.parametrize(
    ("text", "line", "message", "hint"),
    [
        (with_step("timeout: 5"), 4, "has no field 'timeout'", "timeout_s"),
        (with_step("when: 1"), 4, "one.when must be an expression", ""),
        (with_step("when: one.text == 1"), 4, "refers to itself", ""),
        (with_step("when: zero.text == 1"), 4, "no such step", "Known"),
        (with_step("when: a b"), 4, "not an expression", ""),
        (with_step("options: {temperature: hot}"), 4, "must be a number", ""),
        (with_step("options: {temperature: -1}"), 4, "must be at least 0", ""),
        (with_step("options: {mode: fasst}"), 4, 'one of "fast", "slow"', "'fast'"),
        (with_step("options: {seeed: 1}"), 4, "unknown field 'seeed'", "'seed'"),
        (with_step("options: {stop: [a, b, c]}"), 4, "more than 2 items", ""),
        (with_step("outputs: 5"), 4, "a list of names, or a mapping", ""),
        (with_step("outputs: [A b]"), 4, "outputs.0 must be a name", ""),
        (with_step("outputs: {a: csv}"), 4, 'one of "json", "parquet"', ""),
        (with_step("retries: -1"), 4, "retries must be at least 0", ""),
        (with_step("retries: {times: 1, backof_s: 2}"), 4, "'backof_s'", "'backoff_s'"),
        (with_step("timeout_s: 0"), 4, "must be more than 0", ""),
        (with_step("cache: on"), 4, 'true or false, not "on"', ""),
        (with_step("needs: [nil]"), 4, "no such step", ""),
        (with_step("needs: [one]"), 4, "needs itself", ""),
        (with_step("max_parallel: 2"), 4, "there is none", ""),
        (with_step("on_error: keep"), 4, "there is none", ""),
        (with_step("foreach: {one: [1]}"), 4, "is taken", ""),
        (with_step("foreach: {x: 5}"), 4, "a list, or a reference", ""),
        (with_step("foreach: {}"), 4, "must not be empty", ""),
        (with_step("foreach: {x: [1]}, outputs: [table]"), 4, "output of its own", ""),
        (with_step("data: $nothing.x"), 4, "no such step or variable", ""),
        (with_step("data: $params.x"), 4, "no parameter 'x'", "none"),
        (with_step("data: 'x ${params} ${y z}'"), 4, "not a reference", "$$"),
        (with_step("data: 2026-01-02"), 4, "date or time", '"2026-01-02"'),
        (with_step("data: 0777"), 4, "differently", '"0777"'),
        (with_step("data: .inf"), 4, "no number of JSON", ""),
        (with_step("data: !!binary aGk="), 4, "!!binary", ""),
        (with_step("data: !!set {a}"), 4, "!!set is not allowed", ""),
        (with_step("data: !!python/name:os.system x"), 4, "!!python/name:os.system", ""),
        (with_step("data: {1: x}"), 4, "key 1 is not a text", "quotes"),
        (with_step("data: &a [*a]"), 4, "holds itself", ""),
        (with_step("data: {a: 1, a: 2}"), 4, "'a' is there twice", ""),
        (with_step("data: {<<: {a: 1}}"), 4, "Merge keys", ""),
        (HEAD + f"  - {{id: run, {ASK}}}", 3, "cannot be called 'run'", ""),
        (HEAD + f"  - {{id: Two, {ASK}}}", 3, "a name of lower-case letters", ""),
        (HEAD + f"  - {{{ASK}}}", 3, "'id' is missing", ""),
        (HEAD + "  - {id: a, kind: tiny_ask, model: m}", 3, "needs 'prompt'", "What is asked"),
        (HEAD + "  - just text", 3, "A step is a mapping", ""),
        (HEAD + "  - {id: a, kind: tiny_pick, cases: {}}", 3, "a has no case", ""),
        (HEAD + "  - {id: a, kind: tiny_pick, cases: {b: '1'}}", 3, "chooses 'b'", ""),
        (HEAD + "  - {id: a, kind: tiny_pick, cases: {a: '1'}}", 3, "chooses itself", ""),
        ("plan: p\nsteps: []", 2, "steps must not be empty", ""),
        ("plan: p", 1, "'steps' is missing", ""),
        ("plan_version: 99\nplan: 5", 1, "newer than", "Upgrade"),
        ("- a", 1, "A plan is a mapping", ""),
        ("", None, "empty", ""),
        ("plan: p\n\tx: 1", 2, "not YAML", "spaces"),
        ("plan: p\ngoal: a: b", 2, "not YAML", "quotes"),
        ("plan: p\nparams:\n  m: {type: list[str]}", 3, "not YAML", '"list[str]"'),
        ("plan: p\nsteps: [{prompt: Why?}]", 2, "not YAML", "in quotes"),
        ("plan: p\ngoal: x\x07y", 2, "U+0007", ""),
        ("[" * 3000, None, "nested too deep", ""),
        ("a: 1\n--- \nb: 2", 2, "not YAML", ""),
    ],
)
def test_each_problem_has_line_and_hint(
    text: str, line: int | None, message: str, hint: str
) -> None:
    """Whatever is wrong is told once, at its line, with what to do."""
    found = only(text)
    assert message in found.message
    assert hint in (found.hint or "")
    assert line == found.line


@pytest.mark.parametrize(
    ("param", "message"),
    [
        ("x: {type: lst}", "must be one of"),
        ("x: {type: int, defualt: 1}", "unknown field 'defualt'"),
        ("x: {default: 1}", "'type' is missing"),
        ("x: {type: choice}", "belong together"),
        ("x: {type: int, choices: [a]}", "belong together"),
        ("x: {type: choice, choices: [a, 1]}", "must be text, not 1"),
        ("x: {type: choice, choices: [a], default: b}", "must be one of a"),
        ("x: {type: secret}", "belong together"),
        ("x: {type: secret, env: a b}", "environment variable"),
        ("x: {type: secret, env: A, default: hunter2}", "a secret has no default"),
        ("X: {type: int}", "must be a name"),
        ("for: {type: int}", "word of Python"),
        ("'q; import os': {type: int}", "must be a name"),
        ("x: {type: list, default: []}", "must be one of"),
        ("x: {type: int, default: [1]}", "a whole number, not [1]"),
        ("x: 5", "must be a mapping"),
    ],
)
def test_each_problem_of_a_parameter_is_told(param: str, message: str) -> None:
    """A parameter that papermill or a run could not take is refused, at its line."""
    found = only(f"plan: p\nparams:\n  {param}\nsteps:\n  - {{id: one, {ASK}}}")
    assert message in found.message
    assert 3 == found.line


def test_secrets_are_only_handed_on_as_inputs() -> None:
    """A secret in a prompt, a text, an expression or a list would be shown: it is refused."""
    head = f"plan: p\nparams: {{key: {{type: secret, env: K}}}}\nsteps:\n  - {{id: one, {ASK}, "
    for wrong in (
        "data: $params.key",
        "inputs: {a: 'x ${params.key}'}",
        "inputs: {a: [$params.key]}",
        "inputs: {a: $params}",
        "when: params.key == 'x'",
        "foreach: {x: [$params.key]}",
    ):
        assert "would show the secret 'key'" in only(f"{head}{wrong}}}").message
    parse_plan(f"{head}inputs: {{a: $params.key}}}}")


def test_foreach_goes_over_lists() -> None:
    """A parameter that is no list is told of, with how to make one of it."""
    head = f"plan: p\nparams: {{n: {{type: int, default: 1}}}}\nsteps:\n  - {{id: one, {ASK}, "
    found = only(f"{head}foreach: {{x: $params.n}}}}")
    assert "$params.n is int, not a list." in found.message
    assert found.hint == "Write a list of one: [$params.n]."
    parse_plan(f"{head}foreach: {{x: [$params.n, 2]}}}}")


def test_a_circle_is_named() -> None:
    """Steps that need each other in a circle are named in the order of their need."""
    found = only(
        f"""{HEAD}
  - {{id: a, {ASK}, needs: [b]}}
  - {{id: b, {ASK}, needs: [c]}}
  - {{id: c, kind: tiny_pick, cases: {{d: "1"}}, when: a.text == 1}}
  - {{id: d, {ASK}}}
"""
    )
    assert "circle: a -> b -> c -> a." in found.message
    assert 4 == found.line


def test_a_choice_that_depends_on_what_it_chooses_is_a_circle() -> None:
    """A decision cannot choose a step it waits for."""
    text = f"{HEAD}  - {{id: a, kind: tiny_pick, cases: {{b: b.text}}}}\n  - {{id: b, {ASK}}}"
    assert "circle" in only(text).message


def test_a_name_that_steps_and_parameters_share_is_refused() -> None:
    """Both would be variables of the notebook."""
    text = f"plan: p\nparams: {{one: {{type: int, default: 1}}}}\nsteps:\n  - {{id: one, {ASK}}}"
    assert "A step and a parameter are called 'one'." == only(text).message


def test_follow_up_problems_are_not_told() -> None:
    """What follows from another problem is not a problem of its own."""
    text = f"{HEAD}  - {{id: a, kind: nil, x: 1}}\n  - {{id: b, {ASK}, data: $a.anything}}"
    assert "there is no kind 'nil'" in only(text).message
    bad = f"{HEAD}  - {{id: a, {ASK}, foreach: 5, data: $x.y}}"
    assert "foreach must be a mapping" in only(bad).message


def test_aliases_are_written_out_up_to_a_limit() -> None:
    """An alias is a copy; a file that would explode is refused at once."""
    copied = parse_plan(f"{HEAD}  - {{id: a, {ASK}, data: [&x {{k: 1}}, *x]}}")
    assert [{"k": 1}, {"k": 1}] == copied.step("a").config["data"]
    levels = "".join(f"x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 10)}]\n" for n in range(1, 10))
    assert str(MOST_VALUES) in only(f"x0: &x0 [1]\n{levels}").message


def test_words_of_old_yaml_are_texts() -> None:
    """`no`, `on` and `1:30` mean what they say; numbers and truth are those of YAML 1.2."""
    text = f"{HEAD}  - {{id: a, {ASK}, data: [no, on, 1:30, 1e3, 0o17, true, ~, 1_000]}}"
    expected = ["no", "on", "1:30", 1000.0, 15, True, None, "1_000"]
    assert expected == parse_plan(text).step("a").config["data"]


def test_files_are_read_and_named(tmp_path: Path) -> None:
    """A file with a byte order mark and Windows lines is read; a broken one is named."""
    path = tmp_path / "p.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + with_step("data: 1").replace("\n", "\r\n").encode())
    assert (str(path), "p") == (load_plan(path).path, load_plan(path).name)
    path.write_bytes(b"plan: p\ngoal: \xff")
    with pytest.raises(PlanInvalid, match="UTF-8"):
        load_plan(path)
    with pytest.raises(PlanInvalid, match=r"nil\.yaml: cannot be read"):
        load_plan(tmp_path / "nil.yaml")


def test_plans_built_in_python_are_checked() -> None:
    """A plan of values is judged as a file is, and what JSON does not hold is named."""
    good = Plan(
        "p",
        (
            Step("b", "tiny_ask", config={"model": "m", "prompt": "$a.text"}),
            Step("a", "tiny_ask", config={"model": "m", "prompt": "x"}),
        ),
    )
    assert [] == check_plan(good)
    done = completed(good)
    assert [("a", ()), ("b", ("a",))] == [(step.id, step.needs) for step in done.steps]
    assert {"text": "json"} == done.step("a").outputs
    bad = Plan(
        "p",
        (
            Step("a", "tiny_ask", config={"model": "m", "prompt": "x", "data": (1, 2)}),
            Step("a", "tiny_ask", config={"model": "m", "prompt": "x", "data": {1: b""}}),
        ),
        params=(Param("x", "int", 1), Param("x", "int", 1)),
    )
    told = [problem.message for problem in check_plan(bad)]
    assert ["tuple" in told[0], "key 1" in told[1]] == [True, True]
    assert any("Two steps have the id 'a'" in message for message in told)
    assert any("'x' is there twice" in message for message in told)
    with pytest.raises(PlanInvalid):
        completed(bad)


@settings(max_examples=50)
@given(plans())
def test_plans_survive_yaml(plan: Plan) -> None:
    """A plan written to YAML and read again is the same plan."""
    whole = completed(plan)
    assert whole == parse_plan(to_yaml(whole))
    assert whole == completed(whole)


@given(st.text(alphabet=st.sampled_from("ab :-{}[]\n'\"&*!|>#%@`$,?1.~\t"), max_size=80))
def test_any_text_is_a_plan_or_invalid(text: str) -> None:
    """Nothing but `PlanInvalid` comes out of a text."""
    with pytest.raises(PlanInvalid) as caught:
        parse_plan(text)
    assert caught.value.problems


def test_tiny_kinds_are_known_without_a_list() -> None:
    """A kind defined in a test is a kind of plans from then on."""
    assert tiny.TinyAsk.name in {s.kind for s in parse_plan(with_step("data: 1")).steps}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('plan: p\nsteps:\n  - {id: "a\\n", kind: python, code: "def run(): 1"}\n', "id must be"),
        ('plan: "p\\n"\nsteps:\n  - {id: a, kind: python, code: "def run(): 1"}\n', "plan must be"),
        (f"plan: p\nsteps:\n  - {{id: a, kind: python, code: '{'-' * 90_000}1'}}\n", "too deep"),
        (f"plan: p\nsteps:\n  - {{id: a, kind: python, code: '0{'+1' * 30_000}'}}\n", "too deep"),
    ],
    ids=["step", "plan", "signs", "sums"],
)
def test_names_have_no_line_breaks_and_code_an_end(text: str, said: str) -> None:
    """A line break after a name is a part of it, and code the parser gives up on is told of."""
    with pytest.raises(PlanInvalid, match=said):
        parse_plan(text)
