"""Runs that ask models: found before anything runs, kept in memory, waited for, replayed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.client.conftest import PATIENT
from tests.plans.runs.conftest import Here, events, state, until
from tests.plans.runs.work import plan_of, work
from tests.server.harness import ServerProcess
from workbench.client.api import WorkbenchClient
from workbench.errors import PlanInvalid
from workbench.plans.folder import RunFolder, all_runs
from workbench.plans.spec import Param, Plan
from workbench.portal import get_portal
from workbench.testing import Reply, ScriptedOllama


def asking(model: str = "m", **fields: object) -> Plan:
    """Return a plan with one question."""
    return plan_of(work("ask", model=model, value="Hi", **fields))  # type: ignore[arg-type]


def test_all_missing_models_are_named_before_anything_runs(served: Here) -> None:
    """Each with its line and the nearest name; no folder is made."""
    params = (Param("who", "model", default="othr", line=3),)
    plan = plan_of(
        work("a", model="$params.who"), work("b", model="nothing-like-it"), params=params
    )
    with pytest.raises(PlanInvalid) as refused:
        served.folder(plan, {"who": "othr"})
    first, second = refused.value.problems
    assert ("there is no model 'othr'.", 3) == (first.message, first.line)
    assert "other" in (first.hint or "")
    assert "'nothing-like-it'" in second.message
    assert [] == list(all_runs(served.data_dir))


def test_a_model_that_only_the_run_names_is_looked_up_then(served: Here) -> None:
    """The step that would ask it fails; the others go on."""
    plan = plan_of(
        work("a", value="m"),
        work("good", model="$a.value", value="Hi"),
        work("b", value="gone"),
        work("bad", model="$b.value"),
    )
    run = served.settled(plan)
    assert {"a": "done", "good": "done", "b": "done", "bad": "failed"} == run.statuses()
    assert "'gone'" in str(state(run).steps["bad"].error)


def test_requests_say_what_they_are_part_of(served: Here, ollama: ScriptedOllama) -> None:
    """Run, step, attempt, and that nobody waits for them; the journal has what they took."""
    run = served.settled(asking())
    heard = ollama.wait_for_request(to="chat")
    assert run.run_id == heard.headers["workbench-run"]
    assert ("1", "batch") == (
        heard.headers["workbench-attempt"],
        heard.headers["workbench-priority"],
    )
    told = events(run, "request")[0]
    assert ("ask", "m", "stop") == (told["step"], told["model"], told["stop_reason"])
    assert told["digest"] == events(run, "step_committed")[0]["requests"][0]["digest"]


def test_a_server_that_comes_back_is_asked_again(served: Here, ollama: ScriptedOllama) -> None:
    """The answer that broke off is asked for anew within the attempt."""
    ollama.enqueue(Reply("one two three", stall_after=1))
    run = served.open(asking())
    ollama.wait_for_request(to="chat").stalled.wait(10)
    ollama.close()
    until(lambda: any("server" in line["phase"] for line in events(run, "step_phase")))
    ollama.set_reply(Reply("whole"))
    ollama.start()
    run.settle()
    assert "done" == run.statuses()["ask"]
    assert "whole" == get_portal().run(run.step("ask")).value
    assert 1 == state(run).steps["ask"].attempt


def test_a_server_that_stays_away_fails_the_step_and_the_run_can_go_on(
    served: Here, ollama: ScriptedOllama
) -> None:
    """It is waited for as long as the run says; a resume asks again."""
    folder = served.folder(asking(), server_wait_s=0.2)
    ollama.close()
    run = served.settled(asking(), folder)
    error = state(run).steps["ask"].error
    assert error is not None and "did not come back within 200 ms" in error["message"]
    assert f"workbench resume {run.run_id}" in error["hint"]
    ollama.start()
    assert "done" == served.settled(asking(), folder).statuses()["ask"]


def test_a_replay_connects_to_nothing(served: Here, ollama: ScriptedOllama) -> None:
    """It gives what was recorded, and asks a person nothing anew."""
    ollama.set_reply(Reply("recorded"))
    plan = plan_of(work("ask", model="m", value="Hi"), work("ok", ask="Fine?", value="$ask.value"))
    first = served.settled(plan)
    from workbench.plans.approvals import answer_question

    answer_question(RunFolder(first.folder), "ok", yes=True)
    first = served.settled(plan, RunFolder(first.folder))
    assert {"ask": "kept", "ok": "done"} == first.statuses()
    ollama.close()
    again = served.settled(plan, mode="replay", tape_of=RunFolder(first.folder))
    assert {"ask": "done", "ok": "done"} == again.statuses()
    assert "recorded" == get_portal().run(again.step("ask")).value


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("runs-server")) as process:
        yield process


def test_the_models_that_are_asked_are_leased(server: ServerProcess, tmp_path: Path) -> None:
    """While the step works they are kept in memory for the run, and not after it."""
    client = WorkbenchClient(server.url, token=server.token, deadlines=PATIENT)
    here, gate = Here(tmp_path, client), tmp_path / "gate"
    run = here.open(
        plan_of(
            work("ask", model="toy-nano", value="Hi", until=str(gate)),
            work("too", model="toy-tiny", value="Hi", until=str(gate)),
        )
    )

    def leased() -> set[str]:
        rows = get_portal().run(client.leases())
        return {
            model.partition(":")[0]
            for row in rows
            for model in row.models
            if run.run_id in (row.holder or "")
        }

    until(lambda: {"toy-nano", "toy-tiny"} == leased())
    gate.touch()
    run.settle()
    assert {"ask": "done", "too": "done"} == run.statuses()
    until(lambda: set() == leased())
    run._stage.journal.close()
    get_portal().run(client.aclose())
