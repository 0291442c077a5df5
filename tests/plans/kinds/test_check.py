"""The kind `check`: what is expected and what was found."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.plans.kinds.conftest import Begin
from tests.plans.kinds.context import Attempt, problems_of, step_of
from workbench.client.api import WorkbenchClient
from workbench.errors import StepFailed
from workbench.plans.kinds import load_kinds
from workbench.testing import Reply, ScriptedOllama

SCHEMA = {"type": "array", "items": {"type": "object", "required": ["n"]}}


def reason(begin: Begin, **fields: Any) -> str:
    """Return why a check fails."""
    with pytest.raises(StepFailed) as caught:
        begin("check", **fields).run()
    return caught.value.reason


def test_all_checks_pass(begin: Begin) -> None:
    """A check that is satisfied gives what it looked at."""
    done = begin(
        "check",
        values={"ask": {"errors": 0, "table": [{"n": 1}]}},
        value=[{"n": 1}],
        schema=SCHEMA,
        regex=r'"n": \d',
        **{"assert": ["ask.errors == 0", "len(ask.table) >= 1"]},
    ).run()
    assert True is done.outputs["passed"]
    kinds = [entry["check"] for entry in done.outputs["checks"]]
    assert ["assert", "assert", "schema", "regex"] == kinds
    assert "4 checks passed" == done.summary


def test_a_failed_assertion_shows_both_sides(begin: Begin) -> None:
    """Each side of a comparison is told, and every assertion that fails."""
    found = reason(
        begin,
        values={"score": {"mean": 0.31}, "ok": False},
        **{"assert": ["score.mean >= 0.5", "ok", "1 < 2"]},
    )
    assert [
        "2 of 3 checks failed",
        "- assert score.mean >= 0.5: expected it to be true, found score.mean = 0.31",
        "- assert ok: expected it to be true, found false",
    ] == found.splitlines()


def test_an_assertion_has_to_be_true_or_false(begin: Begin) -> None:
    """A number is no assertion: what was meant is asked for."""
    assert "expected true or false, found 3" in reason(begin, values={"n": 3}, **{"assert": "n"})


def test_a_schema_names_the_place(begin: Begin) -> None:
    """Every place that breaks a schema is told; a frame is looked at as its rows."""
    found = reason(begin, value=[{"n": 1}, {}, 3], schema=SCHEMA)
    assert 'at $[1]: expected required ["n"], found {}' in found
    assert 'at $[2]: expected type "object", found 3' in found
    assert "m" in reason(begin, value=pd.DataFrame({"m": [1]}), schema=SCHEMA)


def test_a_pattern_shows_the_text(begin: Begin) -> None:
    """A pattern that is not found is told with the beginning of the text."""
    expected = r"regex ^\d+$: expected a match, found forty\ntwo".replace(r"\n", " ")
    assert expected in reason(begin, value="forty\ntwo", regex=r"^\d+$")


def test_a_schema_has_patterns(begin: Begin) -> None:
    """`pattern` of a JSON schema is looked for in texts, and passes by what is none."""
    schema = {"items": {"pattern": "^a+$"}}
    found = reason(begin, value=["aa", 3, "b"], schema=schema)
    assert 'at $[2]: expected pattern "^a+$", found "b"' in found
    assert "$[0]" not in found
    assert "$[1]" not in found


def test_tests_run_with_inputs(begin: Begin, tmp_path: Path) -> None:
    """Tests of the plan's folder get the inputs as fixtures; frames and imports work."""
    (tmp_path / "helper.py").write_text("LIMIT = 2\n")
    (tmp_path / "test_rows.py").write_text(
        textwrap.dedent("""
            import pytest
            from helper import LIMIT

            def test_enough(rows, inputs):
                assert len(rows) >= LIMIT
                assert set(inputs) == {"rows", "name"}

            @pytest.mark.parametrize("wanted", ["a", "b"])
            def test_name(name, wanted):
                assert name == wanted

            @pytest.mark.skip(reason="not today")
            def test_later(): ...
        """)
    )
    given = {"rows": pd.DataFrame({"a": [1, 2]}), "name": "b"}
    found = reason(begin, tests="test_rows.py", given=given)
    assert "1 of 4 checks failed" in found
    assert "test_name[a]" in found
    assert ("- b" in found and "+ b" in found) or "'b' == 'a'" in found
    passed = begin(
        "check", tests="test_rows.py", given={**given, "name": "a"}, outputs={"checks": "json"}
    )
    with pytest.raises(StepFailed, match=r"test_name\[b\]"):
        passed.run()


def test_a_file_without_tests_fails(begin: Begin, tmp_path: Path) -> None:
    """No test at all is no passed check, and neither is a file that cannot be imported."""
    (tmp_path / "test_none.py").write_text("x = 1\n")
    assert "no tests were found" in reason(begin, tests="test_none.py")
    (tmp_path / "test_broken.py").write_text("import absent_module\n")
    assert "absent_module" in reason(begin, tests="test_broken.py")


def test_a_judge_is_marked(begin: Begin, client: WorkbenchClient, ollama: ScriptedOllama) -> None:
    """What a judge says is told as the opinion of a model, passed or failed."""
    fields = {
        "client": client,
        "value": "forty-two",
        "judge": {"model": "m", "question": "Is it polite?"},
    }
    ollama.set_reply(Reply('{"verdict": "pass", "reason": "it is"}'))
    done = begin("check", **fields).run()
    assert ["model m"] == [entry["by"] for entry in done.outputs["checks"]]
    shown = load_kinds()["check"].mimebundle(done.outputs, {})["text/plain"]
    assert "passed: judge Is it polite? - says model m" == shown
    ollama.set_reply(Reply('{"verdict": "fail", "reason": "it is rude"}'))
    expected = "judge (model m) Is it polite?: expected pass, found fail: it is rude"
    assert expected in reason(begin, **fields)
    ollama.set_reply(Reply("I think it passes"))
    assert "no JSON" in reason(begin, **fields)


def test_problems_of_checks(tmp_path: Path) -> None:
    """What cannot be checked is told before anything runs."""
    lines = {"": 1, "schema": 2, "regex": 3, "tests": 4, "judge": 5, "judge.options.seeed": 6}
    step = step_of(
        "check",
        schema={"type": "text"},
        regex="(",
        tests="missing.py",
        judge={"model": "m", "question": "?", "options": {"seeed": 1}},
        lines=lines,
    )
    found = problems_of(step, tmp_path)
    assert [2, 3, 5, 2, 3, 5, 4] == [line for line, _ in found]
    assert "Did you mean 'seed'?" in found[5][1]
    assert "needs one of" in problems_of(step_of("check"))[0][1]


def test_models_cache_and_code(tmp_path: Path) -> None:
    """A judge is a model of the step; tests and their settings are part of its key."""
    kind = load_kinds()["check"]
    judged = {"judge": {"model": "m", "question": "?"}}
    assert ["m"] == list(kind.models(judged))
    assert not kind.repeatable(judged)
    assert kind.repeatable({"assert": "true"})
    for name in ("test_a.py", "conftest.py", "helper.py"):
        (tmp_path / name).write_text("import helper\n")
    expected = {"test_a.py", "conftest.py", "helper.py"}
    assert expected == set(kind.code({"tests": "test_a.py"}, tmp_path))


def test_tests_in_a_folder_depend_on_all_settings_above_them(begin: Begin, tmp_path: Path) -> None:
    """The settings of the plan's folder are used by tests below it, so they are in the key."""
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_a.py").write_text("def test_one(one):\n    assert one == 1\n")
    gives = "import pytest\n\n\n@pytest.fixture\ndef one():\n    return {}\n"
    (tmp_path / "conftest.py").write_text(gives.format(1))
    check = load_kinds()["check"]
    config = {"tests": "tests/test_a.py"}
    before = check.code(config, tmp_path)
    assert {"tests/test_a.py", "conftest.py"} == set(before)
    (tmp_path / "conftest.py").write_text(gives.format(2))
    assert before != check.code(config, tmp_path)
    assert "test_one" in reason(begin, tests="tests/test_a.py")


def test_settings_above_the_plan_take_no_part(tmp_path: Path) -> None:
    """What is in no key decides nothing: neither above the plan, nor above tests outside of it."""
    plan_dir, beside = tmp_path / "plan", tmp_path / "beside" / "tests"
    for folder in (plan_dir / "tests", beside):
        folder.mkdir(parents=True)
        (folder / "test_a.py").write_text("def test_one(one):\n    assert one == 1\n")
    gives = "import pytest\n\n\n@pytest.fixture\ndef one():\n    return 1\n"
    for folder in (tmp_path, beside.parent):
        (folder / "conftest.py").write_text(gives)
    kind = load_kinds()["check"]
    for tests, own in (("tests/test_a.py", plan_dir), ("../beside/tests/test_a.py", beside)):
        step = step_of("check", tests=tests)
        with pytest.raises(StepFailed, match="fixture 'one' not found"):
            Attempt(step, plan_dir).run()
        before = kind.code(step.config, plan_dir)
        assert 1 == len(before)
        (own / "conftest.py").write_text(gives)
        assert "1 check passed" == Attempt(step, plan_dir).run().summary
        assert 2 == len(kind.code(step.config, plan_dir))
