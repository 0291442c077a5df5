"""The kind `check`: a run goes on only when what it made is as expected."""

from __future__ import annotations

import ast
import asyncio
import importlib.util
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from workbench.errors import PlanError, PlanProblem, StepFailed
from workbench.messages import Message
from workbench.plans import local_code
from workbench.plans.child import ChildTask, run_child
from workbench.plans.expressions import evaluate
from workbench.plans.kinds.base import Done, Field, StepContext, StepKind, register
from workbench.plans.kinds.common import (
    OPTIONS_SCHEMA,
    answer_config,
    as_text,
    check_fixed_outputs,
    check_request,
    chosen,
    fixed_sampling,
    has_reference,
    one_line,
    plain,
    problem,
    read_value,
    records,
    schema_problem,
    text_bundle,
    violations,
)
from workbench.plans.patterns import problem_of, search
from workbench.plans.references import is_frame
from workbench.plans.spec import OutputType, Step

_CHECKS = ("assert", "schema", "regex", "tests", "judge")
_NEED_VALUE = ("schema", "regex", "judge")
_MOST_ERRORS = 5
_VERDICT: Mapping[str, Any] = {
    "type": "object",
    "properties": {"verdict": {"enum": ["pass", "fail"]}, "reason": {"type": "string"}},
    "required": ["verdict", "reason"],
    "additionalProperties": False,
}


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found.

    Attributes:
        check: `assert`, `schema`, `regex`, `tests` or `judge`.
        what: What was checked: the expression, the pattern, the test, the question.
        by: Who says so: `rule`, or for a judge `model` and its name.
    """

    check: str
    what: str
    passed: bool
    expected: str = ""
    found: str = ""
    by: str = "rule"

    def __str__(self) -> str:
        who = f"{self.check} ({self.by})" if self.by != "rule" else self.check
        return f"{who} {self.what}: expected {self.expected}, found {self.found}"


@register
class CheckKind(StepKind):
    """Checks by rules, and by a model only where the plan says so; all of them are told."""

    name = "check"
    doc = "Go on only when assertions, a JSON schema, a pattern, tests or a judge are satisfied."
    fields: ClassVar[Mapping[str, Field]] = {
        "value": Field("What `schema`, `regex` and `judge` look at.", {}),
        "assert": Field(
            "An expression, or a list of them; each has to be true.",
            {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]},
            expression=True,
        ),
        "schema": Field(
            "JSON schema that the value has to follow.", {"type": ["object"]}, literal=True
        ),
        "regex": Field(
            "Pattern of Python's `re` that has to be found in the value as text, within 10 s.",
            {"type": "string"},
        ),
        "tests": Field(
            "File of tests in the plan's folder, for pytest; each input is a fixture of its name. "
            "A `conftest.py` above the plan's folder takes no part.",
            {"type": "string"},
            literal=True,
        ),
        "judge": Field(
            "A model that is asked whether the value is right. Its verdict is marked as the "
            "opinion of a model.",
            {
                "type": "object",
                "properties": {
                    "model": {"type": "string"},
                    "question": {"type": "string"},
                    "options": OPTIONS_SCHEMA,
                },
                "required": ["model", "question"],
                "additionalProperties": False,
            },
        ),
    }
    default_outputs: ClassVar[Mapping[str, OutputType]] = {"passed": "json", "checks": "json"}

    def check(self, step: Step, plan_dir: Path | None) -> Iterator[PlanProblem]:
        yield from check_fixed_outputs(step, self)
        config = step.config
        if not any(name in config for name in _CHECKS):
            yield problem(step, "", f"a check needs one of: {', '.join(_CHECKS)}.")
        for name in _NEED_VALUE:
            if name in config and "value" not in config:
                hint = "value: $ask.text"
                yield problem(step, name, f"`{name}` needs a `value` to look at.", hint=hint)
        if isinstance(schema := config.get("schema"), Mapping) and (why := schema_problem(schema)):
            yield problem(step, "schema", f"this is no JSON schema: {why}.")
        pattern = config.get("regex")
        fixed = isinstance(pattern, str) and not has_reference(pattern)
        if fixed and (why := problem_of(str(pattern))):
            yield problem(step, "regex", f"this is no pattern: {why}.")
        if isinstance(judge := config.get("judge"), Mapping):
            yield from check_request(step, judge, "judge")
        if isinstance(tests := config.get("tests"), str):
            yield from _check_tests(step, tests, plan_dir)

    def models(self, config: Mapping[str, Any]) -> Iterator[str]:
        judge = config.get("judge")
        if isinstance(judge, Mapping) and isinstance(judge.get("model"), str):
            yield judge["model"]

    def repeatable(self, config: Mapping[str, Any]) -> bool:
        return "judge" not in config or fixed_sampling(config["judge"])

    def code(self, config: Mapping[str, Any], plan_dir: Path) -> Mapping[str, Any]:
        if "tests" not in config:
            return {}
        file, bound = _tests_file(str(config["tests"]), plan_dir)
        found = local_code.hashes_of_file(file, plan_dir)
        for folder in file.parents:
            settings = folder / "conftest.py"
            if settings.is_file():
                found |= local_code.hashes_of_file(settings, plan_dir)
            if folder == bound:
                break
        return found

    async def run(self, context: StepContext) -> Done:
        config, step = context.config, context.step
        findings = await asyncio.to_thread(lambda: [*_assertions(context), *_rules(config)])
        if "tests" in config:
            context.phase("running tests")
            findings += await _tests(context)
        if "judge" in config:
            findings.append(await _judge(context))
        failed = [finding for finding in findings if not finding.passed]
        if failed:
            counted = f"{len(failed)} of {len(findings)} checks failed"
            told = [f"- {finding}" for finding in failed]
            raise StepFailed(step.id, "\n".join([counted, *told]))
        outputs = {"passed": True, "checks": [asdict(finding) for finding in findings]}
        counted = "1 check" if len(findings) == 1 else f"{len(findings)} checks"
        return Done(chosen(step, outputs), f"{counted} passed")

    def mimebundle(self, outputs: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
        checks = outputs.get("checks")
        if not isinstance(checks, list) or "table" in outputs:
            return text_bundle(f"passed: {json.dumps(outputs.get('passed'))}")
        lines = []
        for entry in checks:
            by = "" if entry["by"] == "rule" else f" - says {entry['by']}"
            lines.append(f"passed: {entry['check']} {one_line(entry['what'], 200)}{by}")
        return text_bundle("\n".join(lines))


def _tests_file(tests: str, plan_dir: Path) -> tuple[Path, Path]:
    """Return the file of tests, and the highest folder whose `conftest.py` takes part."""
    base = Path(os.path.abspath(plan_dir))
    file = Path(os.path.abspath(base / tests))
    return file, base if file.is_relative_to(base) else file.parent


def _check_tests(step: Step, tests: str, plan_dir: Path | None) -> Iterator[PlanProblem]:
    if importlib.util.find_spec("pytest") is None:
        yield problem(step, "tests", "pytest is not installed.", hint="pip install pytest")
    if plan_dir is not None and not (plan_dir / tests).is_file():
        yield problem(step, "tests", f"there is no file {tests!r} beside the plan.")


def _assertions(context: StepContext) -> Iterator[Finding]:
    given = context.step.config.get("assert", ())
    for text in [given] if isinstance(given, str) else given:
        value = evaluate(text, context.values)
        passed = _truth(context.step, text, value)
        shown = one_line(text, 200)
        yield Finding("assert", shown, passed, "it to be true", _found(text, value, context.values))


def _truth(step: Step, text: str, value: Any) -> bool:
    if type(value).__module__ == "numpy" and hasattr(value, "item"):
        value = value.item()
    if not isinstance(value, bool):
        raise StepFailed(
            step.id,
            f"assert {one_line(text, 200)}: expected true or false, found {_short(value)}",
            hint="Compare it with something: len(x) > 0.",
        )
    return value


def _found(text: str, value: Any, values: Mapping[str, Any]) -> str:
    """Return what an assertion was about: both sides of a comparison, else its value."""
    tree = ast.parse(text.strip(), mode="eval").body
    if isinstance(tree, ast.Compare):
        parts = []
        for side in (tree.left, *tree.comparators):
            if isinstance(side, ast.Constant):
                continue
            source = ast.unparse(side)
            try:
                parts.append(f"{source} = {_short(evaluate(source, values))}")
            except PlanError:
                continue
        if parts:
            return ", ".join(parts)
    return _short(value)


def _short(value: Any) -> str:
    if is_frame(value):
        return f"a frame of {len(value)} rows"
    return one_line(json.dumps(plain(value), ensure_ascii=False, default=str), 200)


def _rules(config: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield what the schema and the pattern find in the value."""
    value = records(config.get("value"))
    if "schema" in config:
        errors = violations(value, config["schema"])
        for place, expected, found in errors[:_MOST_ERRORS]:
            yield Finding("schema", f"at {place}", False, expected, found)
        if not errors:
            yield Finding("schema", "of the value", True, "it to follow", "it does")
    if "regex" in config:
        pattern, text = str(config["regex"]), as_text(value)
        passed = search(pattern, text)
        yield Finding("regex", pattern, passed, "a match", one_line(text, 200) or "nothing")


async def _tests(context: StepContext) -> list[Finding]:
    path, bound = _tests_file(str(context.step.config["tests"]), context.plan_dir)
    task = ChildTask(
        "tests", {"path": str(path), "bound": str(bound)}, context.inputs, {"tests": "json"}
    )
    done = await run_child(context, task)
    findings = []
    for test in done["tests"]:
        passed = test["outcome"] != "failed"
        found = test["outcome"] if passed else f"it failed:\n{test['message']}"
        findings.append(Finding("tests", test["name"], passed, "it to pass", found))
    return findings


async def _judge(context: StepContext) -> Finding:
    """Ask a model; what it says is marked as its opinion."""
    judge = context.config["judge"]
    question = (
        f"{as_text(judge['question'])}\n\n{as_text(records(context.config.get('value')))}\n\n"
        'Answer with a verdict, "pass" or "fail", and the reason for it.'
    )
    how = answer_config({"options": judge.get("options"), "format": _VERDICT})
    answer = await context.ask(judge["model"], [Message("user", question)], config=how)
    said = read_value(context.step.id, answer, _VERDICT)
    found = f"{said['verdict']}: {one_line(said['reason'], 200)}"
    passed = said["verdict"] == "pass"
    asked = one_line(as_text(judge["question"]), 200)
    return Finding("judge", asked, passed, "pass", found, by=f"model {judge['model']}")
