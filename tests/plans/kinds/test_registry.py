"""The registry: kinds are found by themselves, and one more needs no change elsewhere."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.plans.kinds.context import Attempt, problems_of
from workbench.errors import PlanInvalid, PlanProblem
from workbench.plans.compile import compile_plan
from workbench.plans.kinds import GROUP, base, load_kinds
from workbench.plans.kinds.base import Done, Field, StepContext, StepKind, register
from workbench.plans.kinds.common import problem
from workbench.plans.parse import parse_plan
from workbench.plans.schema import plan_schema
from workbench.plans.spec import OutputType, Step

OURS = {"approval", "chart", "chat", "check", "decision", "notebook", "prompt", "python"}
PLAN = """
plan: shouting
steps:
  - id: loud
    kind: shout
    text: hello
    times: 3
  - id: louder
    kind: shout
    text: ${loud.cry} again
"""


@pytest.fixture
def shout() -> Iterator[type[StepKind]]:
    """Yield a kind of this test, known while the test runs."""

    @register
    class ShoutKind(StepKind):
        """Says a text in capitals."""

        name = "shout"
        doc = "Say a text in capitals."
        fields: ClassVar[Mapping[str, Field]] = {
            "text": Field("What is said.", {"type": "string"}, required=True),
            "times": Field("How often.", {"type": "integer", "minimum": 1}),
        }
        default_outputs: ClassVar[Mapping[str, OutputType]] = {"cry": "json"}

        def check(self, step: Step, plan_dir: Path | None) -> Iterator[PlanProblem]:
            if step.config.get("text") == "":
                yield problem(step, "text", "there is nothing to shout.")

        async def run(self, context: StepContext) -> Done:
            times = context.config.get("times", 1)
            return Done({"cry": context.config["text"].upper() * times}, "shouted")

        def mimebundle(
            self, outputs: Mapping[str, Any], config: Mapping[str, Any]
        ) -> dict[str, Any]:
            return {"text/plain": outputs["cry"]}

    yield ShoutKind
    base._KINDS.pop("shout")


def test_all_kinds_are_found() -> None:
    """Every kind of the package is known without being listed, with docs and sound schemas."""
    kinds = load_kinds()
    assert set(kinds) >= OURS
    for kind in kinds.values():
        assert kind.doc.endswith(".")
        assert all(field.doc.rstrip().endswith((".", ")")) for field in kind.fields.values())


def test_a_kind_of_ones_own_is_whole(shout: type[StepKind], tmp_path: Path) -> None:
    """A registered kind is parsed, checked, part of the schema, compiled and run."""
    plan = parse_plan(PLAN)
    assert ("loud",) == plan.step("louder").needs
    assert {"cry": "json"} == plan.step("loud").outputs
    assert "shout" in json.dumps(plan_schema(load_kinds()))
    assert any("step:loud" in cell.metadata.get("tags", ()) for cell in compile_plan(plan).cells)
    with pytest.raises(PlanInvalid) as caught:
        parse_plan(PLAN.replace("times: 3", "times: many").replace("text: hello", 'text: ""'))
    assert [7] == [found.line for found in caught.value.problems]
    done = Attempt(plan.step("loud"), tmp_path).run()
    assert {"cry": "HELLOHELLOHELLO"} == done.outputs
    silent = Step("s", "shout", config={"text": ""}, lines={"": 1, "text": 4})
    assert [(4, "s: there is nothing to shout.")] == problems_of(silent)


def test_an_installed_package_brings_a_kind(tmp_path: Path) -> None:
    """A module that an entry point names is imported with ours, in any process."""
    (tmp_path / "whisper.py").write_text(
        textwrap.dedent("""
            from workbench.plans.kinds.base import Done, StepKind, register

            @register
            class Whisper(StepKind):
                name = "whisper"
                doc = "Say nothing loudly."

                async def run(self, context):
                    return Done({})
        """)
    )
    info = tmp_path / "whisper-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: whisper\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{GROUP}]\nwhisper = whisper\n")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from workbench.plans.kinds import load_kinds; print(*load_kinds())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"whisper", *OURS} <= set(done.stdout.split())


def test_kinds_load_nothing_heavy() -> None:
    """Knowing the kinds costs no pandas, plotly, papermill or duckdb."""
    code = (
        "import sys; from workbench.plans.kinds import load_kinds; load_kinds()\n"
        "print(*{'pandas', 'plotly', 'papermill', 'duckdb', 'ipywidgets'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "" == done.stdout.strip()
