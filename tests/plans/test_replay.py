"""Every kind of step in a replay: decisions, approvals, failed items, broken answers, children."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.plans.carried import carry_out
from workbench.client.api import WorkbenchClient
from workbench.plans.approvals import Given
from workbench.plans.diff import diff_runs
from workbench.plans.folder import RunFolder
from workbench.plans.journal import read_lines
from workbench.plans.record import read_record
from workbench.plans.verify.replay import recorded_answers
from workbench.portal import get_portal
from workbench.testing import RecordedRequest, Reply, ScriptedOllama

PLAN = """\
plan: everything
plan_version: 1
params: {model: {type: model, default: m}}
steps:
  - id: ask
    kind: prompt
    foreach: {word: [good, bad, broken]}
    on_error: keep
    model: $params.model
    prompt: "Say ${word}"
  - id: talk
    kind: chat
    model: $params.model
    messages: [Hello, "And then?"]
  - id: enough
    kind: decision
    expr: ask.errors <= 1
    then: [shown]
    else: [asked]
  - {id: shown, kind: chart, data: $ask.table, chart: bar, x: word}
  - {id: asked, kind: python, code: "def run(): return 1"}
  - {id: fine, kind: check, needs: [shown], assert: len(ask.table) == 3}
  - {id: agreed, kind: approval, needs: [fine], ask: "Is ${talk.text} right?"}
  - id: own
    kind: python
    needs: [agreed]
    code: |
      import workbench
      def run():
          return [workbench.connect().generate("once", "m").text for _ in range(2)]
"""


@pytest.fixture
def ollama() -> Iterator[ScriptedOllama]:
    """Yield a server that never says the same, fails at `bad` and breaks off once at `broken`."""
    asked: list[str] = []

    def reply(request: RecordedRequest) -> Reply:
        text = str(request.json)
        asked.append(text)
        if "Say bad" in text:
            return Reply(error_first=(500, f"no, {len(asked)} times no"))
        first = sum("Say broken" in earlier for earlier in asked) == 1
        return Reply(f"word {len(asked)}", no_done="Say broken" in text and first)

    with ScriptedOllama(models=["m"], reply=reply) as host:
        yield host


@pytest.fixture
def run(ollama: ScriptedOllama, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """A run of every kind that ended well, answered by a person."""
    monkeypatch.setenv("WORKBENCH_URL", ollama.url)
    client = WorkbenchClient(ollama.url)
    given = {"agreed": Given(True, "as I thought")}
    folder = carry_out(PLAN, tmp_path / "plan", client, cache=False, answers=given)
    get_portal().run(client.aclose())
    monkeypatch.setenv("WORKBENCH_URL", "http://127.0.0.1:9")
    assert "done" == read_record(folder)["status"], read_record(folder)["error"]
    return folder


def replay(run: RunFolder, tmp_path: Path) -> RunFolder:
    """Replay a run with the recorded answers of the person."""
    answers = recorded_answers(read_record(run))
    client = WorkbenchClient("http://127.0.0.1:9")
    how = {"mode": "replay", "tape_of": run, "cache": False, "answers": answers}
    return carry_out(PLAN, tmp_path / "plan", client, **how)


def test_every_kind_is_replayed(run: RunFolder, tmp_path: Path) -> None:
    """The replay of a run with failed items, decisions, answers and children is the same."""
    again = replay(run, tmp_path)
    found = diff_runs(run, again)
    assert found.same, str(found)
    lines, _ = read_lines(again.journal)
    assert [] == [line for line in lines if line["event"] == "tape_warning"]
    assert read_record(run)["replayable"]


def test_an_item_kept_after_its_time_is_no_replay(
    ollama: ScriptedOllama, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a clock decided and the plan kept as a result is told: no tape can repeat it."""
    monkeypatch.setenv("WORKBENCH_URL", ollama.url)
    text = """\
plan: slow
plan_version: 1
steps:
  - id: nap
    kind: python
    foreach: {seconds: [0, 60]}
    on_error: keep
    timeout_s: 5
    code: |
      import time
      def run(seconds):
          time.sleep(seconds)
          return seconds
"""
    client = WorkbenchClient(ollama.url)
    folder = carry_out(text, tmp_path / "plan", client, cache=False)
    get_portal().run(client.aclose())
    record = read_record(folder)
    assert ("done", False, ["item 1 of nap is kept as it ran out of time"]) == (
        record["status"],
        record["replayable"],
        record["not_replayable"],
    )


def test_the_record_knows_who_answered_and_what_was_decided(run: RunFolder) -> None:
    """Approvals stand in the record with who, when, note and the hash of the question."""
    record = read_record(run)
    (approval,) = record["approvals"]
    assert ("agreed", True, "as I thought") == (
        approval["step"],
        approval["yes"],
        approval["note"],
    )
    assert approval["who"] and approval["when"] and 64 == len(approval["sha256"])
    assert ["asked"] == list(record["steps"]["enough"]["decision"]["skipped"])
    assert "skipped" == record["steps"]["asked"]["status"]
    assert {"total": 3, "committed": 2, "errors": 1} == record["steps"]["ask"]["items"]


def test_another_question_is_not_answered_by_the_recording(run: RunFolder, tmp_path: Path) -> None:
    """A person's yes counts for the question it was given to, so a changed one waits."""
    answers = recorded_answers(read_record(run))
    client = WorkbenchClient("http://127.0.0.1:9")
    how = {"mode": "replay", "tape_of": run, "cache": False, "answers": answers}
    text = PLAN.replace("right?", "wrong?")
    again = carry_out(text, tmp_path / "plan", client, **how)
    assert "waiting" == read_record(again)["status"]
    first = diff_runs(run, again).first
    assert first is not None and ("agreed", "waiting") == (first.step, first.status_b)
