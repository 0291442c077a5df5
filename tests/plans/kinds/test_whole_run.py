"""All kinds in one real run: carried out on the bundled model, approved, replayed without it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

import workbench
from tests.plans.kinds.test_notebook import write_notebook
from tests.server.harness import ServerProcess
from workbench.plans.handle import RunHandle
from workbench.plans.verify.replay import verify_replay
from workbench.portal import get_portal

PLAN = """\
plan: every-kind
params:
  model: {type: model, default: toy-tiny}
  key: {type: secret, env: SECRET_OF_A_TEST}
steps:
  - id: ask
    kind: prompt
    foreach: {a: [2, 3, 4]}
    model: $params.model
    prompt: What is ${a} plus 1?
    options: {temperature: 0, num_predict: 8}
  - id: talk
    kind: chat
    model: $params.model
    messages: ["Hello!", "What is my name?"]
    options: {temperature: 0, num_predict: 12}
  - id: score
    kind: python
    run: scoring:score
    inputs: {table: $ask.table, key: $params.key}
    outputs: {rows: parquet, mean: json, more: json}
  - id: enough
    kind: decision
    expr: score.mean > 0 and ask.errors == 0
    then: [checked, ok]
    else: [never]
  - id: never
    kind: python
    code: |
      def run():
          raise SystemExit("this branch is not taken")
  - id: checked
    kind: check
    value: $talk.messages
    assert: ["len(score.rows) == 3", "score.mean >= 1"]
    schema: {type: array, minItems: 4}
    tests: test_scores.py
    inputs: {rows: $score.rows}
  - id: choice
    kind: decision
    needs: [checked]
    model: $params.model
    prompt: Is 9 larger than 2?
    choices: ["yes", "no"]
    options: {temperature: 0}
  - id: picture
    kind: chart
    data: $score.rows
    chart: bar
    x: a
    y: length
    heading: Lengths
  - id: book
    kind: notebook
    path: work.ipynb
    parameters: {mean: $score.mean}
  - id: ok
    kind: approval
    needs: [checked]
    ask: Publish?
    show: $score.rows
"""
SCORING = """\
import pandas as pd
import workbench


def score(table, key):
    assert key == "pa55word"
    rows = pd.DataFrame([{"a": row["a"], "length": len(row["text"])} for row in table])
    with workbench.connect() as wb:
        more = wb.generate("What is 7 plus 1?", "toy-tiny", temperature=0, num_predict=4).text
    return {"rows": rows, "mean": float(rows["length"].mean()), "more": more}
"""
TESTS = """\
def test_lengths(rows):
    assert (rows["length"] > 0).all()
"""


@pytest.fixture(scope="module")
def run(embedded: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunHandle]:
    """Yield a run of the plan, approved beforehand, that has ended."""
    place = tmp_path_factory.mktemp("every-kind")
    (place / "plan.yaml").write_text(PLAN, "utf-8")
    (place / "scoring.py").write_text(SCORING, "utf-8")
    (place / "test_scores.py").write_text(TESTS, "utf-8")
    write_notebook(place / "work.ipynb", "mean = 0", "print(mean > 0)")
    with (
        pytest.MonkeyPatch.context() as patch,
        workbench.connect(embedded.url, token=embedded.token, data_dir=embedded.data_dir) as wb,
    ):
        patch.setenv("WORKBENCH_URL", embedded.url)
        patch.setenv("WORKBENCH_TOKEN", embedded.token)
        patch.setenv("SECRET_OF_A_TEST", "pa55word")
        handle = wb.run(place / "plan.yaml", answers={"ok": {"answer": True, "note": "fine"}})
        ended = handle.wait(90)
        told = {name: step.error for name, step in ended.steps.items() if step.error}
        assert ("done", {}) == (ended.status, told), handle.folder.log.read_text("utf-8")
        yield handle


def test_every_kind_in_one_run(run: RunHandle) -> None:
    """Every kind does its part in a run; only the branch that was not chosen is left out."""
    state = run.state()
    assert ("done", []) == (state.status, state.not_replayable)
    left = {name for name, step in state.steps.items() if step.status == "skipped"}
    assert {"never"} == left


def test_secrets_are_in_no_file(run: RunHandle) -> None:
    """The text of a secret is in no file of the run."""
    files = [path for path in run.path.rglob("*") if path.is_file()]
    assert len(files) > 20
    assert [] == [path for path in files if b"pa55word" in path.read_bytes()]


def test_every_kind_is_replayed(run: RunHandle, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the tapes alone, with no server, the run gives the same content again."""
    monkeypatch.setenv("WORKBENCH_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("SECRET_OF_A_TEST", "pa55word")
    report = get_portal().run(verify_replay(run.folder))
    assert report.ok, str(report)
    assert () == report.warnings


def test_the_notebook_shows_every_step(run: RunHandle) -> None:
    """The cells of the run show texts and a plotly figure, and nothing that could be markup."""
    shown: dict[str, set[str]] = {}
    for cell in json.loads(run.notebook.read_text("utf-8"))["cells"]:
        for output in cell.get("outputs", ()):
            for tag in cell["metadata"].get("tags", ()):
                shown.setdefault(tag, set()).update(output.get("data", {}))
    assert {"application/vnd.plotly.v1+json", "text/plain"} == shown["step:picture"]
    assert {"text/plain"} == shown["step:talk"] | shown["step:checked"] | shown["step:ok"]
