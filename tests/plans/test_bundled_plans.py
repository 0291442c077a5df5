from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest

from tests.plans.reference import bundled_kinds
from tests.server.harness import ServerProcess
from workbench import resources
from workbench.plans.approvals import Given
from workbench.plans.create import RunOptions
from workbench.plans.handle import RunHandle
from workbench.plans.parse import load_plan
from workbench.plans.start import start_run

PLANS = {path.stem: path for path in sorted(resources.plans_dir().glob("*.yaml"))}
LIMIT_S = 150.0

Ended = Callable[[str], RunHandle]

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder that the plan with an effect outside writes to."""
    return tmp_path_factory.mktemp("outbox")


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Iterator[Ended]:
    """Start every plan on one server, and return what waits for the end of one."""
    given: dict[str, dict[str, Any]] = {"publish-answer": {"outbox": str(folder / "texts")}}
    answers = {"publish-answer": {"release": Given(yes=True, note="good")}}
    started: dict[str, RunHandle] = {}

    def wait(name: str) -> RunHandle:
        state = started[name].wait(LIMIT_S)
        told = {step.id: step.error for step in state.steps.values() if step.error}
        assert "done" == state.status, (state.error, told)
        return started[name]

    with ServerProcess(tmp_path_factory.mktemp("plans")) as server:
        for name, path in PLANS.items():
            started[name] = start_run(
                path,
                given.get(name),
                data_dir=server.data_dir,
                options=RunOptions(answers=answers.get(name)),
            )
        try:
            yield wait
        finally:
            for run in started.values():
                if run.alive:
                    run.cancel()
                run.wait(LIMIT_S)


@pytest.mark.parametrize("name", PLANS)
def test_every_plan_runs(ended: Ended, name: str) -> None:
    """Each bundled plan runs to its end with the embedded models, and its notebook shows it."""
    run = ended(name)
    cells = nbformat.read(run.notebook, as_version=4).cells
    failed = [o for cell in cells for o in cell.get("outputs", ()) if o.output_type == "error"]
    assert [] == failed
    assert run.record()["content_hash"]


def test_models_are_compared(ended: Ended) -> None:
    """The larger toy answers all questions, the smaller one not all; each has an interval."""
    run = ended("compare-models")
    nano, tiny = run.outputs("accuracy")["rows"]
    assert ("toy-nano", "toy-tiny") == (nano["model"], tiny["model"])
    assert nano["accuracy"] < tiny["accuracy"] == 1.0
    assert tiny["low"] < 1.0
    scores = run.outputs("scores")["table"]
    assert 2 * 8 == len(scores)
    assert run.outputs("picture")["figure"]["data"]


def test_json_is_extracted(ended: Ended) -> None:
    """Every note becomes a row of the table, as the file has it."""
    people = ended("extract-json").outputs("table")["people"]
    assert [("Anna", 31), ("Boris", 42), ("Clara", 27)] == list(
        people[["name", "age"]].itertuples(index=False, name=None)
    )


def test_a_decision_takes_one_branch(ended: Ended) -> None:
    """The small model knows the capital: its answer is kept, the large one is not asked."""
    run = ended("route-question")
    steps = run.state().steps
    assert ("done", "skipped") == (steps["keep"].status, steps["second"].status)
    assert "Rome" in run.outputs("keep")["answer"]["text"]
    assert run.outputs("topic") in (
        {"choice": "city", "by": "model"},
        {"choice": "number", "by": "model"},
    )


def test_nothing_is_published_without_a_yes(ended: Ended, folder: Path) -> None:
    """The text is written once, after the answer that is stored with its note."""
    run = ended("publish-answer")
    assert {"approved": True, "note": "good"} == run.outputs("release")
    [written] = (folder / "texts").iterdir()
    assert written.name == run.outputs("publish")["file"]
    assert written.read_text(encoding="utf-8").startswith("1. ")


def test_a_sweep_has_a_statistic(ended: Ended) -> None:
    """At temperature 0 every seed gives the same answer; a hot model gives several."""
    rows = ended("sweep-temperature").outputs("agreement")["table"]
    assert [0.0, 0.7, 1.5] == list(rows["temperature"])
    assert [4, 4, 4] == list(rows["answers"])
    assert 1 == rows["different"][0] < rows["different"][2]


def test_a_table_is_cleaned_and_tested(ended: Ended) -> None:
    """The row with a gap is left out, and the means are those of the rest."""
    outputs = ended("clean-measurements").outputs("clean")
    assert (1, 8) == (outputs["left_out"], len(outputs["whole"]))
    assert {"east": 7.5, "north": 3.75, "south": pytest.approx(33.5 / 3)} == dict(
        zip(outputs["means"]["station"], outputs["means"]["degrees"], strict=True)
    )


def test_a_notebook_reports(ended: Ended) -> None:
    """The executed copy of the notebook holds the answers."""
    run = ended("report-notebook")
    [copy] = run.path.glob("steps/report/committed/**/*.ipynb")
    text = copy.read_text(encoding="utf-8")
    assert "Questions and answers" in text
    assert "2 answers" in text


def test_plans_show_every_kind() -> None:
    """The bundled plans together use every kind of step, and there are at least six."""
    used = {step.kind for path in PLANS.values() for step in load_plan(path).steps}
    assert set(bundled_kinds()) == used
    assert len(PLANS) >= 6


def test_plans_say_what_they_are_for() -> None:
    """Each plan has the name of its file, a goal, and a title for each step."""
    for name, path in PLANS.items():
        plan = load_plan(path)
        assert name == plan.name
        assert plan.goal
        assert [] == [step.id for step in plan.steps if not step.title]


def test_no_parameter_is_without_use() -> None:
    """Every parameter of a bundled plan is referred to in it."""
    for name, path in PLANS.items():
        text = path.read_text(encoding="utf-8")
        unused = [p.name for p in load_plan(path).params if f"params.{p.name}" not in text]
        assert [] == unused, name
