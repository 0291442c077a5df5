"""A recorded run is replayed with no model, asked again, run with other seeds, and compared."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import workbench
from tests.plans.carried import carry_out
from tests.server.harness import ServerProcess
from workbench.client.api import WorkbenchClient
from workbench.errors import CannotVerify, ConfigError, ReplayMismatch, SchemaTooNew
from workbench.locks import FileLock
from workbench.plans.approvals import Given
from workbench.plans.diff import RunDiff, diff_runs
from workbench.plans.folder import RunFolder
from workbench.plans.info import read_info
from workbench.plans.record import read_record
from workbench.plans.verify.base import Subject
from workbench.plans.verify.models import ModelsReport, verify_models
from workbench.plans.verify.replay import changed_files, verify_replay
from workbench.plans.verify.seeds import SeedsReport, value_of
from workbench.portal import get_portal
from workbench.testing import RecordedRequest, Reply, ScriptedOllama

NOBODY = "http://127.0.0.1:9"

PLAN = """\
plan: lengths
plan_version: 1
params:
  model: {type: model, default: toy-nano}
  seed: {type: int, default: 7}
steps:
  - id: ask
    kind: prompt
    foreach: {word: [cat, dog, sun]}
    model: $params.model
    prompt: "Say something about ${word}"
    options: {temperature: 0.8, seed: $params.seed, num_predict: 8}
  - id: count
    kind: python
    inputs: {table: $ask.table}
    run: counting:count
    outputs: {lengths: json, total: json}
"""
CODE = """\
def count(table):
    lengths = [len(row["text"]) for row in table]
    return {"lengths": lengths, "total": sum(lengths)}
"""


# --- a run of the embedded model, in a process of its own


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("verify") / "data") as running:
        yield running


@pytest.fixture(scope="module")
def recorded(server: ServerProcess) -> RunFolder:
    """A run that ended well, in the data folder of the server."""
    place = server.data_dir.parent / "plan"
    place.mkdir()
    (place / "plan.yaml").write_text(PLAN, "utf-8")
    (place / "counting.py").write_text(CODE, "utf-8")
    with (
        pytest.MonkeyPatch.context() as patch,
        workbench.connect(server.url, token=server.token, data_dir=server.data_dir) as wb,
    ):
        # The run's processes find the server by these.
        patch.setenv("WORKBENCH_URL", server.url)
        patch.setenv("WORKBENCH_TOKEN", server.token or "")
        handle = wb.run(place / "plan.yaml")
        assert "done" == handle.wait(60).status, handle.folder.log.read_text("utf-8")
        return handle.folder


@pytest.fixture
def wb(server: ServerProcess, monkeypatch: pytest.MonkeyPatch) -> Iterator[workbench.Workbench]:
    monkeypatch.setenv("WORKBENCH_URL", server.url)
    monkeypatch.setenv("WORKBENCH_TOKEN", server.token or "")
    with workbench.connect(server.url, token=server.token, data_dir=server.data_dir) as found:
        yield found


@pytest.fixture
def copy(recorded: RunFolder, tmp_path: Path) -> RunFolder:
    """A copy of the run that a test may change."""
    shutil.copytree(recorded.path, tmp_path / "copy")
    return RunFolder(tmp_path / "copy", recorded.run_id)


def test_a_run_is_replayed_without_a_server(
    recorded: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """V1: the same content hash from the tapes alone; the replay leaves nothing behind."""
    monkeypatch.setenv("WORKBENCH_URL", NOBODY)
    runs = sorted(path.name for path in recorded.path.parent.iterdir())
    report = get_portal().run(verify_replay(recorded))
    assert report.ok, str(report)
    assert read_record(recorded)["content_hash"] == report.replayed
    assert () == report.warnings
    assert "holds: replayed without a model" in str(report)
    assert ["ask", "count"] == list(report.to_frame()["step"])
    assert runs == sorted(path.name for path in recorded.path.parent.iterdir())


def test_models_give_the_same_answers(recorded: RunFolder, wb: workbench.Workbench) -> None:
    """V2: with the same digest and seed the embedded model says the same again."""
    report = wb.verify(recorded.run_id, "models")
    assert isinstance(report, ModelsReport)
    assert (True, 1.0, 3) == (report.ok, report.share, len(report.answers))
    assert "3 of 3 answers are identical" in str(report)


def test_other_seeds_give_an_interval(recorded: RunFolder, wb: workbench.Workbench) -> None:
    """V3: the figure lies in the interval of runs with other seeds, which differ from the run."""
    report = wb.verify(recorded.path, "seeds", metric="count.total", seeds=2)
    assert isinstance(report, SeedsReport)
    assert [8, 9] == list(report.to_frame()["seed"])
    assert report.ok is report.interval.holds(report.recorded)
    assert "Student's t prediction interval" in str(report)
    difference = wb.diff(recorded.run_id, report.runs[0].run_id)
    assert ["params.seed"] == [item.path for item in difference.what]
    assert difference.first is None or "ask" == difference.first.step


def edit(path: Path, before: str, after: str) -> None:
    text = path.read_text("utf-8")
    assert before in text
    path.write_text(text.replace(before, after), "utf-8")


def tape_of(run: RunFolder) -> Path:
    return run.committed("ask", 0) / "tape.jsonl"


CHANGES: dict[str, tuple[Callable[[RunFolder], None], str]] = {
    "tape": (
        lambda run: edit(tape_of(run), '"text"', '"thinking"'),
        "tape.jsonl: the tape was changed",
    ),
    "artefact": (
        lambda run: edit(run.committed("count") / "outputs" / "lengths.json", ",", ", "),
        "lengths.json was changed on disk",
    ),
    "plan": (
        lambda run: edit(run.plan, "Say something", "Tell me something"),
        "the plan is not the one that was run",
    ),
    "notebook": (
        lambda run: edit_notebook(run),
        "its cells or outputs were edited",
    ),
    "step": (
        lambda run: (run.committed("count") / "step.json").unlink(),
        "step.json is missing",
    ),
}


def edit_notebook(run: RunFolder) -> None:
    notebook = json.loads(run.notebook.read_text("utf-8"))
    notebook["cells"][-1]["source"] = "1"
    run.notebook.write_text(json.dumps(notebook), "utf-8")


@pytest.mark.parametrize("what", CHANGES)
def test_what_was_changed_is_named(copy: RunFolder, what: str) -> None:
    """A file that was edited since is named, and nothing is replayed."""
    change, told = CHANGES[what]
    change(copy)
    report = get_portal().run(verify_replay(copy))
    assert (False, None) == (report.ok, report.replayed)
    assert told in str(report)


def test_an_unchanged_run_has_no_changed_files(copy: RunFolder) -> None:
    """A copy of a run is as good as the run."""
    assert [] == list(changed_files(Subject.read(copy)))


def test_a_missing_tape_is_named(copy: RunFolder) -> None:
    """Without the tape of a step nothing can be replayed, and the step is named."""
    tape_of(copy).unlink()
    with pytest.raises(ReplayMismatch, match="the tape of step ask is missing"):
        get_portal().run(verify_replay(copy))


def test_a_tape_of_a_later_version_is_refused(copy: RunFolder) -> None:
    """A tape that a newer version wrote says which version that is."""
    edit(tape_of(copy), '"tape": 1', '"tape": 7')
    with pytest.raises(SchemaTooNew, match="schema version 7"):
        get_portal().run(verify_replay(copy))


def test_another_model_of_that_name_is_refused(
    copy: RunFolder, server: ServerProcess, wb: workbench.Workbench
) -> None:
    """Asking a model of another digest would compare nothing; the digests are told."""
    record = read_record(copy)
    record["models"]["toy-nano"]["digest"] = "0" * 64
    copy.record.write_text(json.dumps(record), "utf-8")
    with pytest.raises(CannotVerify, match="toy-nano is another model now"):
        get_portal().run(verify_models(copy, client=wb.client))


def test_first_different_answer_is_shown(copy: RunFolder, wb: workbench.Workbench) -> None:
    """The place of the first difference is told by character and by token, with both texts."""
    tape = tape_of(copy)
    lines = tape.read_text("utf-8").splitlines()
    entry = json.loads(lines[1])
    texts = [event for batch in entry["batches"] for event in batch if event[0] == "text"]
    texts[2][1] = "#" + texts[2][1][1:]
    tape.write_text("\n".join([lines[0], json.dumps(entry)]) + "\n", "utf-8")
    report = get_portal().run(verify_models(copy, client=wb.client))
    assert report.first is not None and report.first.difference is not None
    where = sum(len(text[1]) for text in texts[:2])
    assert (False, where, 2) == (report.ok, report.first.difference.index, report.first.token)
    assert 2 / 3 == pytest.approx(report.share)
    assert "tape was changed" in report.warnings[0]
    assert get_portal().run(verify_models(copy, client=wb.client, least=0.6)).ok


def test_a_metric_is_a_number(recorded: RunFolder, wb: workbench.Workbench) -> None:
    """A metric that gives no number, or does not exist, is refused before anything runs."""
    record = read_record(recorded)
    assert record["steps"]["count"]["outputs"]
    assert value_of("count.total / len(count.lengths)", recorded, record) > 0
    for metric, told in (("count.lengths", "not a number"), ("none.x", "none"), ("1 +", "metric")):
        with pytest.raises(ConfigError, match=told):
            wb.verify(recorded.path, "seeds", metric=metric)
    with pytest.raises(ConfigError, match="none is named"):
        wb.verify(recorded.path, "seeds")


# --- replays in this process


@pytest.fixture
def ollama() -> Iterator[ScriptedOllama]:
    """Yield a server that says something else each time."""
    asked: list[int] = []

    def reply(request: RecordedRequest) -> Reply:
        asked.append(0)
        return Reply(f"word {'x' * len(asked)}", no_done=len(asked) == 1)

    with ScriptedOllama(models=["m"], reply=reply) as host:
        yield host


@pytest.fixture
def client(ollama: ScriptedOllama) -> Iterator[WorkbenchClient]:
    made = WorkbenchClient(ollama.url)
    yield made
    get_portal().run(made.aclose())


@pytest.fixture
def away() -> WorkbenchClient:
    return WorkbenchClient(NOBODY)


SMALL = """\
plan: small
plan_version: 1
params: {model: {type: model, default: m}}
steps:
  - {id: ask, kind: prompt, model: $params.model, prompt: Hello}
  - id: send
    kind: python
    effects: external
    inputs: {text: $ask.text}
    run: acting:send
  - {id: shout, kind: python, inputs: {text: $ask.text}, run: acting:shout}
"""
ACTING = """\
from pathlib import Path

def send(text):
    with (Path(__file__).parent / "sent.txt").open("a") as file:
        file.write(text + "\\n")
    return "sent"

def shout(text):
    return text.upper()
"""


@pytest.fixture
def plan_dir(tmp_path: Path) -> Path:
    (tmp_path / "plan").mkdir()
    (tmp_path / "plan" / "acting.py").write_text(ACTING, "utf-8")
    return tmp_path / "plan"


def replay(run: RunFolder, plan_dir: Path, away: WorkbenchClient, text: str = SMALL) -> RunDiff:
    again = carry_out(text, plan_dir, away, mode="replay", tape_of=run, cache=False)
    return diff_runs(run, again)


def test_a_replay_acts_on_nothing_outside(
    client: WorkbenchClient, away: WorkbenchClient, plan_dir: Path
) -> None:
    """A step with effects outside is taken from the recording; an answer sent anew stays so."""
    run = carry_out(SMALL, plan_dir, client)
    assert "done" == read_record(run)["status"]
    found = replay(run, plan_dir, away)
    assert found.same, str(found)
    assert 1 == len((plan_dir / "sent.txt").read_text("utf-8").splitlines())
    assert "cached" == next(step for step in found.steps if step.step == "send").status_b


def test_changed_code_is_the_first_difference(
    client: WorkbenchClient, away: WorkbenchClient, plan_dir: Path
) -> None:
    """Code that gives something else on the recorded answers is named, with the place."""
    run = carry_out(SMALL, plan_dir, client)
    edit(plan_dir / "acting.py", "return text.upper()", "return text.upper() + '!'")
    found = replay(run, plan_dir, away)
    assert not found.same and found.first is not None
    # The module is one file, so the step that acts outside is no longer what it was either.
    assert "send" == found.first.step and "acts on the world outside" in found.first.reason
    shout = next(step for step in found.steps if step.step == "shout")
    assert shout.first is not None and shout.first.b == f"{shout.first.a}!"


def test_an_unknown_request_is_an_error(
    client: WorkbenchClient, away: WorkbenchClient, plan_dir: Path
) -> None:
    """A prompt that was changed finds no answer on the tape, and the step says what differs."""
    run = carry_out(SMALL, plan_dir, client)
    found = replay(run, plan_dir, away, SMALL.replace("Hello", "Hullo"))
    assert found.first is not None and "ask" == found.first.step
    assert "messages[0].content, character 1" in found.first.reason


def test_a_run_of_text_that_is_not_kept_is_refused(client: WorkbenchClient, plan_dir: Path) -> None:
    """A run without tapes says why it cannot be replayed, and cannot be asked again."""
    run = carry_out(SMALL, plan_dir, client, untaped="message text is not kept")
    with pytest.raises(CannotVerify, match="not replayable: message text is not kept"):
        get_portal().run(verify_replay(run))
    with pytest.raises(CannotVerify, match="on a tape"):
        get_portal().run(verify_models(run, client=client))


def test_seeds_need_a_plan_that_can_vary(
    client: WorkbenchClient, plan_dir: Path, tmp_path: Path
) -> None:
    """Without a `seed`, with effects outside or questions there is no run with another seed."""
    run = carry_out(SMALL, plan_dir, client)
    with workbench.connect(client.url, data_dir=read_info(run).data_dir) as wb:
        with pytest.raises(CannotVerify, match="no parameter `seed`"):
            wb.verify(run.path, "seeds", metric="len(ask.text)")
        seeded = SMALL.replace("{model:", "{seed: {type: int, default: 1}, model:")
        other = carry_out(seeded, plan_dir, client)
        with pytest.raises(CannotVerify, match="send act on the world outside"):
            wb.verify(other.path, "seeds", metric="len(ask.text)")
        asking = seeded.split("  - id: send")[0] + "  - {id: ok, kind: approval, ask: Well}\n"
        yes = {"ok": Given(True)}
        third = carry_out(asking, plan_dir, client, answers=yes)
        with pytest.raises(CannotVerify, match="ok ask a person"):
            wb.verify(third.path, "seeds", metric="len(ask.text)")


def test_a_run_that_goes_on_is_refused(client: WorkbenchClient, plan_dir: Path) -> None:
    """Nothing is checked while a process works on it; one that has ended may keep its lock."""
    run = carry_out(SMALL, plan_dir, client)
    lock = FileLock(run.lock)
    lock.acquire()
    assert "done" == Subject.read(run).record["status"]
    ended = run.journal.read_text("utf-8").splitlines()[:-1]
    run.journal.write_text("\n".join(ended) + "\n", "utf-8")
    with pytest.raises(CannotVerify, match="still being carried out"):
        Subject.read(run)
    lock.release()


def test_diff_tells_what_runs_were_made_of(client: WorkbenchClient, plan_dir: Path) -> None:
    """Two runs differ in their steps' first value, and in what they were made of."""
    one = carry_out(SMALL, plan_dir, client, cache=False)
    other = carry_out(SMALL.replace("Hello", "Hi"), plan_dir, client, cache=False)
    found = diff_runs(one, other)
    assert ["plan_hash"] == [item.path for item in found.what]
    assert found.first is not None and ("ask", "text") == (
        found.first.step,
        found.first.first.path if found.first.first else "",
    )
    frame: Any = found.to_frame()
    assert {"seconds_a", "seconds_b", "status_a", "status_b"} < set(frame.columns)
    assert diff_runs(one, one).same and "gave the same" in str(diff_runs(one, one))
    (one.committed("ask") / "outputs" / "text.json").write_text('"edited"', "utf-8")
    assert "was changed" in diff_runs(one, other).steps[0].reason
