"""Steps of a run, carried out in this process by a kind of the tests."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.plans.runs.conftest import Here, counted, events, state, until
from tests.plans.runs.work import plan_of, work
from workbench.cli.runs import progress
from workbench.errors import PlanError, StepFailed
from workbench.plans.approvals import Given, answer_question, given_path
from workbench.plans.artifacts import read_step
from workbench.plans.folder import RunFolder
from workbench.plans.spec import Retries
from workbench.portal import get_portal


def test_steps_run_in_the_order_of_their_needs(here: Here) -> None:
    """A step gets what another one gave."""
    plan = plan_of(work("b", value="${a.value} and on"), work("a", value="first"))
    run = here.settled(plan)
    result = get_portal().run(run.step("b"))
    assert "first and on" == result.value == result["value"] == result.outputs["value"]
    assert {"a": "done", "b": "done"} == run.statuses()


def test_steps_that_need_nothing_of_each_other_run_side_by_side(here: Here, tmp_path: Path) -> None:
    """One step waits for the file that another one's log is."""
    log = tmp_path / "sign"
    run = here.settled(plan_of(work("a", until=str(log)), work("b", log=str(log))))
    assert {"a": "done", "b": "done"} == run.statuses()


def test_a_failure_blocks_only_what_needs_it(here: Here) -> None:
    """The steps of another branch are done, and the first failure is the run's."""
    plan = plan_of(
        work("bad", fails=9), work("after", "bad"), work("last", "after"), work("good", value=1)
    )
    run = here.settled(plan)
    expected = {"bad": "failed", "after": "blocked", "last": "blocked", "good": "done"}
    assert expected == run.statuses()
    assert {name: step.status for name, step in state(run).steps.items()} == expected
    with pytest.raises(StepFailed, match="attempt 1 failed"):
        run.finish()


def test_a_failed_step_raises_nothing_in_its_cell(here: Here) -> None:
    """The result says what was wrong, and that there are no outputs."""
    run = here.settled(plan_of(work("bad", fails=9)))
    result = get_portal().run(run.step("bad"))
    assert "failed" == result.status
    assert "bad: failed - StepFailed" in result._repr_mimebundle_()["text/plain"]
    with pytest.raises(AttributeError, match="has no outputs"):
        _ = result.value


def test_attempts_are_made_again_with_growing_pauses(here: Here, log: Path) -> None:
    """The journal tells of each pause, and the attempt that succeeded is committed."""
    retries = Retries(times=3, backoff_s=0.01, factor=3.0, max_s=0.02)
    run = here.settled(plan_of(work("a", retries=retries, fails=2, log=str(log))))
    assert {"a": "done"} == run.statuses()
    assert {"a": 3} == counted(log)
    assert [0.01, 0.02] == [line["retry_in_s"] for line in events(run, "step_failed")]
    committed = read_step(RunFolder(run.folder).committed("a"))
    assert committed is not None and 3 == committed.attempt


def test_an_attempt_has_its_time(here: Here) -> None:
    """A step that takes longer than it may has failed, and says so."""
    run = here.settled(plan_of(work("a", until="/nowhere", timeout_s=0.05)))
    error = state(run).steps["a"].error
    assert error is not None and "longer than 50 ms" in error["message"]


def test_when_is_false(here: Here) -> None:
    """The step is skipped, and so is what takes its output."""
    plan = plan_of(
        work("a", value=1),
        work("b", "a", when="a.value > 1", value=2),
        work("c", value="$b.value"),
        work("d", "a", value=3),
    )
    run = here.settled(plan)
    assert {"a": "done", "b": "skipped", "c": "skipped", "d": "done"} == run.statuses()


def test_a_decision_takes_one_branch(here: Here) -> None:
    """The branch that was not chosen is skipped, and both meet again."""
    plan = plan_of(
        work("choose", chooses={"left": True, "right": False}),
        work("left", value="l"),
        work("right", value="r"),
        work("far", value="$right.value"),
        work("join", inputs={"l": "$left.value", "r": "$right.value"}, value="joined"),
    )
    run = here.settled(plan)
    expected = {"left": "done", "right": "skipped", "far": "skipped", "join": "done"}
    assert {"choose": "done", **expected} == run.statuses()


def test_a_step_can_stop_the_run(here: Here) -> None:
    """What has not begun is skipped, and the run is done."""
    plan = plan_of(work("a", stop="enough"), work("b", "a"), work("c", "b"))
    run = here.settled(plan)
    assert {"a": "done", "b": "skipped", "c": "skipped"} == run.finish()
    assert "enough" == state(run).steps["b"].reason


def test_foreach_gives_lists_and_a_table(here: Here) -> None:
    """Items keep the order of the variables, whatever ends first."""
    plan = plan_of(
        work("a", foreach={"x": [1, 2], "y": ["p", "q"]}, value="${x}${y}"),
        work("b", value="$a.table"),
    )
    run = here.settled(plan)
    a = get_portal().run(run.step("a"))
    assert ["1p", "1q", "2p", "2q"] == a.value
    assert {"x": 1, "y": "q", "value": "1q"} == a.table[1]
    assert 0 == a.errors
    assert a.table == get_portal().run(run.step("b")).value


def test_a_failed_item_fails_the_step_or_is_kept(here: Here) -> None:
    """With `keep` the item counts as an error and its outputs are null."""
    items = [0, 9, 0]
    plan = plan_of(
        work("strict", foreach={"n": items}, fails="$n", value="$n"),
        work("kept", foreach={"n": items}, fails="$n", value="$n", on_error="keep"),
    )
    run = here.settled(plan)
    assert {"strict": "failed", "kept": "done"} == run.statuses()
    kept = get_portal().run(run.step("kept"))
    assert [0, None, 0] == kept.value
    assert 1 == kept.errors
    assert "attempt 1 failed" in kept.table[1]["error"]


def test_no_more_items_run_at_once_than_the_plan_allows(here: Here, log: Path) -> None:
    """With one at a time the second begins when the first has ended."""
    plan = plan_of(work("a", foreach={"n": [0, 1]}, max_parallel=1, log=str(log), until=str(log)))
    run = here.settled(plan)
    order = [(line["event"], line["item"]) for line in _item_lines(run)]
    assert [("step_started", 0), ("step_committed", 0)] == order[:2]


def _item_lines(run: object) -> list[dict[str, object]]:
    lines = [
        json.loads(line)
        for line in RunFolder(run.folder).journal.read_text().splitlines()  # type: ignore[attr-defined]
    ]
    kept = ("step_started", "step_committed")
    return [line for line in lines if "item" in line and line["event"] in kept]


def test_what_is_committed_never_runs_again(here: Here, log: Path) -> None:
    """A run that is opened again keeps what it has and goes on with the rest."""
    plan = plan_of(
        work("a", log=str(log), value=1),
        work("items", foreach={"n": [0, 0, 9]}, fails="$n", value="$n", log=str(log)),
        work("b", value="$a.value", log=str(log)),
    )
    first = here.settled(plan)
    assert {"a": "done", "items": "failed", "b": "done"} == first.statuses()
    second = here.settled(plan, RunFolder(first.folder))
    assert {"a": "kept", "items": "failed", "b": "kept"} == second.statuses()
    assert {"a": 1, "b": 1, "items[0]": 1, "items[1]": 1, "items[2]": 2} == counted(log)


def test_an_artefact_that_was_changed_is_made_again(here: Here, log: Path) -> None:
    """The journal names the file, and the step that takes it runs again only if it must."""
    plan = plan_of(work("a", value=1, log=str(log)), work("b", value="$a.value", log=str(log)))
    first = here.settled(plan)
    folder = RunFolder(first.folder)
    (folder.committed("a") / "outputs" / "value.json").write_text("2")
    second = here.settled(plan, folder)
    assert {"a": "done", "b": "kept"} == second.statuses()
    assert "value.json was changed" in events(second, "step_stale")[0]["reason"]
    assert {"a": 2, "b": 1} == counted(log)


def test_an_artefact_that_changes_under_a_run_is_not_taken(here: Here, tmp_path: Path) -> None:
    """The step that takes it fails and names the file."""
    gate = tmp_path / "gate"
    plan = plan_of(
        work("a", value=1), work("gate", until=str(gate)), work("b", "gate", value="$a.value")
    )
    run = here.open(plan)
    until(lambda: "done" == run.statuses()["a"])
    (RunFolder(run.folder).committed("a") / "outputs" / "value.json").write_text("2")
    gate.touch()
    run.settle()
    error = state(run).steps["b"].error
    assert error is not None and "value.json was changed" in error["message"]


def test_an_expression_makes_a_step_depend_on_what_it_names(here: Here, log: Path) -> None:
    """The key changes with the value that the expression sees, and with nothing else."""
    keys = []
    for value in (1, 1, 2):
        plan = plan_of(work("a", value=value), work("b", "a", check="a.value > 0", value=0))
        keys.append(events(here.settled(plan), "step_committed")[1]["key"])
    assert keys[0] == keys[1] != keys[2]


def test_the_cache_stands_for_what_is_repeatable(here: Here, log: Path) -> None:
    """Another run takes the result; one without a cache, or a step without, does it anew."""
    plan = plan_of(
        work("a", repeatable=True, log=str(log), value=1),
        work("b", log=str(log)),
        work("c", repeatable=True, cache=False, log=str(log)),
        work("d", cache=True, foreach={"n": [1, 2]}, log=str(log)),
    )
    here.settled(plan)
    second = here.settled(plan)
    expected = {"a": "cached", "b": "done", "c": "done", "d": "done"}
    assert expected == second.statuses()
    assert {"a": 1, "b": 2, "c": 2, "d[0]": 1, "d[1]": 1} == counted(log)
    assert "d: 2 of 2, 2 from the cache" == progress(events(second, "step_progress")[-1])
    here.settled(plan, cache=False)
    assert 2 == counted(log)["a"]


def test_a_damaged_entry_of_the_cache_is_not_taken(here: Here, log: Path) -> None:
    """The work is done again, and the entry is replaced."""
    plan = plan_of(work("a", repeatable=True, log=str(log), value=1))
    here.settled(plan)
    entry = next((here.data_dir / "cache" / "steps").iterdir())
    (entry / "outputs" / "value.json").write_text("2")
    second = here.settled(plan)
    assert {"a": "done"} == second.statuses()
    assert "1" == (entry / "outputs" / "value.json").read_text()


def test_an_approval_waits_and_lets_the_rest_go_on(here: Here) -> None:
    """The run settles in `waiting`; an answer to the question lets it go on."""
    plan = plan_of(work("ok", ask="Publish?", value=[1]), work("after", "ok"), work("other"))
    run = here.settled(plan)
    assert {"ok": "waiting", "after": "pending", "other": "done"} == run.statuses()
    assert "waiting" == run.finish()["ok"]
    folder = RunFolder(run.folder)
    answer = answer_question(folder, "ok", yes=True, note="fine", who="ann")
    assert ("ann", "fine") == (answer.who, answer.note)
    again = here.settled(plan, folder)
    assert {"ok": "done", "after": "done", "other": "kept"} == again.statuses()
    told = events(again, "step_answered")[-1]
    stored = json.loads(folder.answer("ok").read_text())
    assert (True, "ann", stored["sha256"]) == (told["yes"], told["who"], told["sha256"])
    third = here.settled(plan, folder)
    assert "kept" == third.statuses()["ok"]


def test_an_answer_that_comes_in_time_is_taken_at_once(here: Here, tmp_path: Path) -> None:
    """While another step runs the answer is seen, with no resume."""
    gate = tmp_path / "gate"
    plan = plan_of(work("ok", ask="Go?"), work("slow", until=str(gate)), work("after", "ok"))
    run = here.open(plan)
    until(lambda: "ok" in state(run).steps and "waiting" == state(run).steps["ok"].status)
    answer_question(RunFolder(run.folder), "ok", yes=True)
    until(lambda: "done" == run.statuses()["after"])
    gate.touch()
    run.settle()
    assert {"ok": "done", "slow": "done", "after": "done"} == run.statuses()


@pytest.mark.parametrize("read", [False, True], ids=["unread", "read"])
def test_the_first_answer_stands(here: Here, read: bool) -> None:
    """An opposite one is refused with who said what and when; the same again changes nothing."""
    plan = plan_of(work("ok", ask="Publish?"))
    folder = RunFolder(here.settled(plan).folder)
    first = answer_question(folder, "ok", yes=True, note="fine", who="ann")
    stored = folder.answer("ok").read_bytes()
    if read:
        here.settled(plan, folder)
    else:
        assert first == answer_question(folder, "ok", yes=True, who="bob")
    said = f"answered already: yes, said ann at {first.when} .fine."
    with pytest.raises(PlanError, match=said) as refused:
        answer_question(folder, "ok", yes=False, who="bob")
    assert "start a new run" in str(refused.value.hint)
    assert stored == folder.answer("ok").read_bytes()
    assert "done" == here.settled(plan, folder).statuses()["ok"].replace("kept", "done")


def test_of_two_who_answer_at_once_one_is_told(here: Here) -> None:
    """Both answers are given in the same moment: one stands, the other person hears of it."""
    plan = plan_of(work("ok", ask="Publish?"))
    folder = RunFolder(here.settled(plan).folder)
    ready = threading.Barrier(8)

    def answer(number: int) -> bool | None:
        ready.wait(60)
        try:
            return answer_question(folder, "ok", yes=number % 2 == 0, who=f"p{number}").yes
        except PlanError:
            return None

    with ThreadPoolExecutor(8) as pool:
        given = list(pool.map(answer, range(8)))
    stands = json.loads(folder.answer("ok").read_text())["yes"]
    assert [stands if (number % 2 == 0) is stands else None for number in range(8)] == given


def test_a_no_fails_the_step(here: Here) -> None:
    """What needs it is blocked."""
    plan = plan_of(work("ok", ask="Publish?"), work("after", "ok"))
    run = here.settled(plan, answers={"ok": Given(False, "not yet")})
    assert {"ok": "failed", "after": "blocked"} == run.statuses()


def test_an_answer_given_in_advance_is_bound_to_its_question(here: Here) -> None:
    """One that names another question's hash is no answer, one without a hash is stored with it."""
    plan = plan_of(work("ok", ask="Publish?"))
    run = here.settled(plan, answers={"ok": Given(True, sha256="0" * 64)})
    assert {"ok": "waiting"} == run.statuses()
    asked = events(run, "step_waiting")[0]["sha256"]
    right = here.settled(plan, answers={"ok": Given(True, sha256=asked)})
    assert {"ok": "done"} == right.statuses()


def test_a_text_is_never_a_yes(here: Here) -> None:
    """An answer that was written by hand, with "no" as a text, lets nothing go on."""
    plan = plan_of(work("ok", ask="Publish?"), work("after", "ok"))
    first = here.settled(plan)
    folder = RunFolder(first.folder)
    asked = events(first, "step_waiting")[0]["sha256"]
    stored = {"yes": "no", "who": "ann", "when": "now", "note": "", "sha256": asked}
    folder.answer("ok").write_text(json.dumps(stored))
    again = here.settled(plan, folder)
    assert {"ok": "failed", "after": "blocked"} == again.statuses()
    assert "yes is not as it is written" in str(state(again).steps["ok"].error)
    folder.answer("ok").unlink()
    given_path(folder).write_text(json.dumps({"steps": {"ok": {"yes": "no", "note": ""}}}))
    assert "failed" == here.settled(plan, folder).statuses()["ok"]
    given_path(folder).unlink()
    assert "waiting" == here.settled(plan, folder).statuses()["ok"]


def test_a_step_may_be_called_given(here: Here) -> None:
    """Its answer does not take the place of those that were given in advance."""
    plan = plan_of(work("given", ask="First?"), work("ok", "given", ask="Second?"))
    answers = {"given": Given(True), "ok": Given(True)}
    run = here.settled(plan, answers=answers)
    assert {"given": "done", "ok": "done"} == run.statuses()


def test_an_answer_to_another_question_is_refused(here: Here) -> None:
    """The hash of what was read must be that of what is asked."""
    run = here.settled(plan_of(work("ok", ask="Publish?", value=1)))
    folder = RunFolder(run.folder)
    with pytest.raises(PlanError, match="asks something else"):
        answer_question(folder, "ok", yes=True, sha256="0" * 64)
    with pytest.raises(PlanError, match="asks nothing"):
        answer_question(folder, "other", yes=True)
    assert not folder.answer("ok").exists()


def test_a_stored_answer_to_a_question_that_changed_does_not_count(here: Here) -> None:
    """What is shown is a part of the question."""
    first = here.settled(plan_of(work("ok", ask="Publish?", value=1)))
    folder = RunFolder(first.folder)
    answer_question(folder, "ok", yes=True)
    changed = here.settled(plan_of(work("ok", ask="Publish?", value=2)), folder)
    assert {"ok": "waiting"} == changed.statuses()


def test_effects_outside_are_not_repeated_without_a_yes(here: Here, log: Path) -> None:
    """A step that began and did not commit asks before it begins again, however often."""
    plan = plan_of(
        work("send", effects="external", fails=2, log=str(log), retries=Retries(times=5)),
        work("after", "send"),
    )
    first = here.settled(plan)
    assert {"send": "failed", "after": "blocked"} == first.statuses()
    assert {"send": 1} == counted(log)
    folder = RunFolder(first.folder)
    second = here.settled(plan, folder)
    assert {"send": "waiting", "after": "pending"} == second.statuses()
    assert "effects" == events(second, "step_waiting")[0]["reason"]
    answer_question(folder, "send", yes=True)
    third = here.settled(plan, folder)
    assert {"send": "failed", "after": "blocked"} == third.statuses()
    assert "waiting" == here.settled(plan, folder).statuses()["send"]
    answer_question(folder, "send", yes=False, who="bob", note="it went out")
    refused = here.settled(plan, folder)
    assert "bob let it not begin again: it went out" in str(state(refused).steps["send"].error)
    assert {"send": 2} == counted(log)


def test_cancelling_ends_what_runs_and_begins_nothing(here: Here) -> None:
    """What is committed stays; the cells of the others come to their end."""
    plan = plan_of(work("a"), work("b", "a", until="/nowhere"), work("c", "b"))
    run = here.open(plan)
    until(lambda: "running" == run.statuses()["b"])
    run.cancel()
    assert "cancelled" == get_portal().run(run.step("b")).status
    assert "pending" == get_portal().run(run.step("c")).status
    assert {"a": "done", "b": "cancelled", "c": "pending"} == run.statuses()
    assert "cancelled" == state(run).steps["b"].status


def test_by_hand_a_step_begins_at_its_cell(here: Here, log: Path) -> None:
    """With what it needs, and no other; a failed one begins anew when its cell runs again."""
    plan = plan_of(
        work("a", log=str(log)),
        work("b", "a", fails=1, log=str(log)),
        work("c", log=str(log)),
    )
    run = here.open(plan, eager=False)
    assert "failed" == get_portal().run(run.step("b")).status
    assert {"a": 1, "b": 1} == counted(log)
    with pytest.raises(PlanError, match="have not run: c"):
        run.finish()
    assert "done" == get_portal().run(run.step("b")).status
    get_portal().run(run.step("c"))
    assert {"a": "done", "b": "done", "c": "done"} == run.finish()
    assert "done" == state(run).status
    assert RunFolder(run.folder).record.exists()


def test_a_step_that_does_not_exist_is_named(here: Here) -> None:
    """The nearest name is proposed."""
    run = here.open(plan_of(work("report")), eager=False)
    with pytest.raises(PlanError, match=r"no step 'reprot'.*'report'"):
        get_portal().run(run.step("reprot"))


def test_cells_show_no_times_and_no_ids(here: Here) -> None:
    """Two runs of a plan show the same."""
    plan = plan_of(work("a", value="<b>"), work("bad", fails=9))
    shown = []
    for _ in range(2):
        run = here.settled(plan)
        cells = [get_portal().run(run.step(name))._repr_mimebundle_() for name in ("a", "bad")]
        shown.append([run._repr_mimebundle_(), *cells])
    assert shown[0] == shown[1]


def test_a_reference_that_leads_nowhere_fails_its_step(here: Here) -> None:
    """What only the values can tell is told with the name that was meant."""
    plan = plan_of(work("a", value={"rows": 1}), work("b", value="$a.value.row"))
    run = here.settled(plan)
    error = state(run).steps["b"].error
    assert error is not None and "rows" in error["hint"]


def test_the_key_of_a_step_is_the_same_for_each_attempt(here: Here, log: Path) -> None:
    """So that the outside world can know a second attempt."""
    retries = Retries(times=1, backoff_s=0.0)
    here.settled(plan_of(work("a", fails=1, retries=retries, log=str(log))))
    keys = {line.split()[2] for line in log.read_text().splitlines()}
    assert 1 == len(keys)


def test_by_hand_an_answer_lets_the_cell_run_again(here: Here) -> None:
    """The run has ended in `waiting`; after the answer the cell, and the last one, end it anew."""
    plan = plan_of(work("ok", ask="Publish?"), work("after", "ok"))
    run = here.open(plan, eager=False)
    shown = get_portal().run(run.step("ok"))._repr_mimebundle_()["text/plain"]
    assert "ok: waiting for an answer - Publish?\nAnswer it" in shown
    run.finish()
    assert ("waiting", False) == (state(run).status, RunFolder(run.folder).alive)
    answer_question(RunFolder(run.folder), "ok", yes=True)
    assert "done" == get_portal().run(run.step("after")).status
    assert {"ok": "done", "after": "done"} == run.finish()
    assert ("done", 2) == (state(run).status, state(run).execution)
