from __future__ import annotations

import json
import re
from pathlib import Path

import nbformat
import pytest
from jsonschema import Draft202012Validator

from tests.cli.harness import Cli

PLAN = """
plan: two-questions
params:
  model: {type: model, default: toy-tiny}
steps:
  - {id: ask, kind: prompt, model: $params.model, prompt: What is a plan}
  - {id: again, kind: prompt, model: $params.model, prompt: "Shorter: ${ask.text}"}
"""
BROKEN = PLAN.replace("params.model, prompt: What", "params.modle, prompt: What").replace(
    "ask.text", "ask.txt"
)


@pytest.fixture
def here(fresh: Cli) -> Cli:
    """Write a good plan and a broken one where the command runs."""
    (fresh.base / "good.yaml").write_text(PLAN, encoding="utf-8")
    (fresh.base / "broken.yaml").write_text(BROKEN, encoding="utf-8")
    return fresh


def test_a_good_plan_is_told_so(here: Cli) -> None:
    """`plan check` counts what a good plan has; as JSON it names it all."""
    assert "two-questions is well-formed: 2 steps, 1 parameters" in here.ok(
        "plan", "check", "good.yaml"
    )
    told = json.loads(here.ok("plan", "check", "good.yaml", "--json"))
    assert told["ok"] is True
    assert re.fullmatch("[0-9a-f]{64}", told["plan_hash"])
    assert [("ask", []), ("again", ["ask"])] == [(s["id"], s["needs"]) for s in told["steps"]]
    assert [("model", False)] == [(p["name"], p["required"]) for p in told["params"]]


def test_every_problem_is_a_line(here: Cli) -> None:
    """`plan check` prints each problem with file, line and hint, and exits with 2."""
    done = here.run("plan", "check", "broken.yaml")
    assert 2 == done.returncode
    first, second = done.stdout.splitlines()
    assert first.startswith("broken.yaml:6: ask: $params.modle: there is no parameter 'modle'.")
    assert "Did you mean 'model'?" in first
    assert second.startswith("broken.yaml:7: ")
    assert "2 problems" in done.stderr


def test_problems_as_json(here: Cli) -> None:
    """With `--json` the problems are data."""
    done = here.run("plan", "check", "broken.yaml", "--json")
    assert 2 == done.returncode
    told = json.loads(done.stdout)
    assert [6, 7] == [problem["line"] for problem in told["problems"]]
    assert told["ok"] is False


def test_a_missing_file_is_told(here: Cli) -> None:
    """A file that is not there is a problem of its own."""
    done = here.run("plan", "check", "nil.yaml")
    assert 2 == done.returncode
    assert "nil.yaml: cannot be read" in done.stdout


def test_other_commands_tell_problems_too(here: Cli) -> None:
    """A command that needs a good plan prints each problem on stderr and exits with 2."""
    done = here.run("plan", "notebook", "broken.yaml")
    assert 2 == done.returncode
    assert 2 == done.stderr.count("error: broken.yaml:")


def test_schema_is_a_schema(here: Cli) -> None:
    """`plan schema` prints a JSON schema that knows the kinds."""
    schema = json.loads(here.ok("plan", "schema"))
    Draft202012Validator.check_schema(schema)
    kinds = schema["properties"]["steps"]["items"]["properties"]["kind"]["enum"]
    assert {"prompt", "python", "decision"} <= set(kinds)


def test_notebook_is_written_once(here: Cli) -> None:
    """`plan notebook` writes a notebook, and replaces none unasked."""
    assert "two-questions.ipynb\n" == here.ok("plan", "notebook", "good.yaml")
    path = here.base / "two-questions.ipynb"
    nbformat.validate(nbformat.read(path, as_version=4))
    assert 'plan_dir="' in path.read_text(encoding="utf-8").replace("\\", "")
    again = here.run("plan", "notebook", "good.yaml")
    assert 2 == again.returncode
    assert "--overwrite" in again.stderr
    here.ok("plan", "notebook", "good.yaml", "--overwrite", "-o", "two-questions.ipynb")


def test_a_folder_that_cannot_be_written_is_told(here: Cli) -> None:
    """A place that cannot be written is told without a trace."""
    done = here.run("plan", "notebook", "good.yaml", "-o", "good.yaml/x.ipynb")
    assert 2 == done.returncode
    assert "cannot be written" in done.stderr
    assert [] == list(Path(here.base).glob(".*.ipynb*"))
