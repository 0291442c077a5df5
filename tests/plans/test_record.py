"""The record of a run: every field has its meaning, and every meaning its field."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.plans import record_reference
from tests.plans.carried import carry_out, write_run
from workbench.client.api import WorkbenchClient
from workbench.client.tape_file import read_tape
from workbench.errors import ModelNotFound, SchemaTooNew
from workbench.plans.folder import RunFolder
from workbench.plans.identity import Identity, ask_server, code_facts, environment_facts, identify
from workbench.plans.parse import parse_plan
from workbench.plans.record import content_hash, notebook_hash, read_record
from workbench.plans.record_fields import FIELDS
from workbench.portal import get_portal
from workbench.testing import RecordedRequest, Reply, ScriptedOllama

PLAN = """\
plan: asked
plan_version: 1
params:
  model: {type: model, default: m}
  data: {type: file, default: data.txt}
  seed: {type: int, default: 7}
steps:
  - id: ask
    kind: prompt
    foreach: {n: [1, 2]}
    model: $params.model
    prompt: "Question ${n}"
    options: {seed: $params.seed, temperature: 0.5}
    retries: {times: 1, backoff_s: 0.01}
  - id: count
    kind: python
    inputs: {table: $ask.table}
    code: |
      def run(table):
          return len(table)
  - id: never
    kind: python
    when: count.result > 5
    code: "def run(): return 0"
"""


@pytest.fixture
def ollama() -> Iterator[ScriptedOllama]:
    """Yield a server whose first answer is an error."""
    asked: list[int] = []

    def reply(request: RecordedRequest) -> Reply:
        asked.append(0)
        return Reply("one two", error_first=(500, "no") if len(asked) == 1 else None)

    with ScriptedOllama(models=["m"], reply=reply) as server:
        yield server


@pytest.fixture
def client(ollama: ScriptedOllama) -> Iterator[WorkbenchClient]:
    made = WorkbenchClient(ollama.url)
    yield made
    get_portal().run(made.aclose())


@pytest.fixture
def run(client: WorkbenchClient, tmp_path: Path) -> RunFolder:
    (tmp_path / "plan").mkdir()
    (tmp_path / "plan" / "data.txt").write_text("x\n", "utf-8")
    return carry_out(PLAN, tmp_path / "plan", client)


def paths_of(value: Any, path: str = "") -> set[str]:
    """Return the paths of a record's leaves, names of steps and models as `*`."""
    if path in FIELDS:
        return {path}
    if isinstance(value, dict) and value:
        free = path in ("steps", "models", "identity.inputs") or path.endswith(".outputs")
        return {
            found
            for name, item in value.items()
            for found in paths_of(item, f"{path}.{'*' if free else name}".lstrip("."))
        }
    if isinstance(value, list) and value:
        return {found for item in value for found in paths_of(item, f"{path}[]")}
    return {path}


def test_every_field_has_a_meaning(run: RunFolder) -> None:
    """No field of a record is without a row in the reference."""
    record = read_record(run)
    unknown = paths_of(record) - set(FIELDS)
    # What is null or empty has no fields of its own.
    hidden = {path for path in unknown if any(known.startswith(path) for known in FIELDS)}
    assert set() == unknown - hidden


def test_reference_page_is_up_to_date() -> None:
    """The table of fields in the docs is the one of the code."""
    text = record_reference.PAGE.read_text(encoding="utf-8")
    assert record_reference.renewed(text) == text


def test_record_of_a_run(run: RunFolder) -> None:
    """Steps have attempts, tokens, options as they were sent, outputs with hashes, and tapes."""
    record = read_record(run)
    ask, count = record["steps"]["ask"], record["steps"]["count"]
    assert ("done", True, 7) == (record["status"], record["replayable"], record["seed"])
    assert {"total": 2, "committed": 2, "errors": 0} == ask["items"]
    failed = [row for row in ask["attempts"] if row["status"] == "failed"]
    assert ["ResponseError"] == [row["error"]["type"] for row in failed]
    assert [{"seed": 7, "temperature": 0.5}] == [row["options"] for row in ask["options_sent"]]
    assert 2 == ask["options_sent"][0]["requests"]
    assert record["tokens"]["output_tokens"] == ask["tokens"]["output_tokens"] > 0
    assert [0, 1] == [row["item"] for row in ask["tapes"]]
    assert ("skipped", "when: count.result > 5") == (
        record["steps"]["never"]["status"],
        record["steps"]["never"]["reason"],
    )
    assert "json" == count["outputs"]["result"]["type"]
    place = run.committed("count") / "outputs" / "result.json"
    assert "2" == place.read_text("utf-8")


def test_files_models_and_code_are_in_the_record(run: RunFolder) -> None:
    """A record knows the hash of each input, the model's digest, and why something is unknown."""
    record = read_record(run)
    assert 2 == record["identity"]["inputs"]["data"]["bytes"]
    assert record["models"]["m"]["digest"]
    assert "git" in record["unknown"]["code"]
    assert "the server does not say" in record["unknown"]["server.gpus"]
    assert record["identity"]["server"]["version"]


def test_requests_of_child_processes_are_in_the_record(
    client: WorkbenchClient, ollama: ScriptedOllama, tmp_path: Path, monkeypatch: Any
) -> None:
    """What a python step asks through the client is on its tape, and so in the record."""
    monkeypatch.setenv("WORKBENCH_URL", ollama.url)
    ollama.set_reply(Reply("one two"))
    text = """\
plan: child
plan_version: 1
steps:
  - id: own
    kind: python
    code: |
      import workbench
      def run():
          return workbench.connect().generate("hi", "m").text
"""
    folder = carry_out(text, tmp_path / "plan", client)
    record = read_record(folder)
    own = record["steps"]["own"]
    assert ["m"] == [row["model"] for row in own["requests"]]
    assert own["tokens"]["output_tokens"] and record["replayable"]
    context = [request.headers for request in ollama.requests if request.path == "/api/generate"]
    assert ("own", "1") == (
        context[0].get("workbench-step"),
        context[0].get("workbench-attempt"),
    )


def test_a_run_without_tapes_is_not_replayable(client: WorkbenchClient, tmp_path: Path) -> None:
    """Where message text is not kept the record says that, and why."""
    (tmp_path / "plan").mkdir()
    (tmp_path / "plan" / "data.txt").write_text("x\n", "utf-8")
    folder = carry_out(PLAN, tmp_path / "plan", client, untaped="message text is not kept")
    record = read_record(folder)
    assert (False, True) == (
        record["replayable"],
        "message text is not kept" in record["not_replayable"],
    )
    assert "there is no tape" == record["unknown"]["steps.ask.options_sent"]


def test_what_came_from_the_cache_asked_nothing(
    client: WorkbenchClient, ollama: ScriptedOllama, tmp_path: Path
) -> None:
    """A cached step names the run that made it, has its tape, and counts no request."""
    ollama.set_reply(Reply("one two"))
    text = """\
plan: kept
plan_version: 1
params: {key: {type: secret, env: A_SECRET}}
steps:
  - {id: ask, kind: prompt, model: m, prompt: Hello, options: {seed: 1}}
"""
    first = read_record(carry_out(text, tmp_path / "plan", client))
    again = read_record(carry_out(text, tmp_path / "plan", client, params=first["params"]))
    ask = again["steps"]["ask"]
    assert ("cached", first["run_id"], 0) == (ask["status"], ask["from_run"], again["requests"])
    assert 1 == len(ask["tapes"]) and {"seed": 1} == ask["options_sent"][0]["options"]
    assert first["content_hash"] == again["content_hash"] and again["replayable"]


def test_equal_results_have_equal_hashes(run: RunFolder) -> None:
    """The content hash is of outputs and decisions: not of times, attempts or keys."""
    steps = read_record(run)["steps"]
    changed = {name: {**row, "seconds": 9.0, "key": "x"} for name, row in steps.items()}
    assert content_hash(steps) == content_hash(changed)
    changed["count"] = {**changed["count"], "decision": {"skipped": {"never": "no"}, "stop": None}}
    assert content_hash(steps) != content_hash(changed)


def test_notebook_hash_leaves_times_out(tmp_path: Path) -> None:
    """Two executions of one notebook hash the same; another output does not."""

    def write(count: int, text: str) -> str | None:
        output = {"output_type": "execute_result", "execution_count": count, "data": text}
        cell = {"cell_type": "code", "source": ["1"], "outputs": [output], "metadata": {"t": count}}
        (tmp_path / "n.ipynb").write_text(json.dumps({"cells": [cell]}), "utf-8")
        return notebook_hash(tmp_path / "n.ipynb")

    assert write(1, "a") == write(2, "a") != write(2, "b")
    assert notebook_hash(tmp_path / "none.ipynb") is None


def test_a_run_that_was_killed_has_a_record(tmp_path: Path) -> None:
    """Without an end the status is lost, as are the attempts that had begun."""
    began = {"ts": "2026-11-20T08:00:00.000000Z", "event": "run_started", "execution": 1}
    step = {"ts": "2026-11-20T08:00:01.000000Z", "event": "step_started", "step": "load"}
    folder = write_run(tmp_path / "r1", began, {**step, "attempt": 1})
    record = read_record(folder)
    assert ("lost", "lost") == (record["status"], record["executions"][0]["status"])
    assert {} == record["steps"]["load"]["outputs"]


def test_a_later_record_is_refused(tmp_path: Path) -> None:
    """A record of a newer version says so."""
    folder = write_run(tmp_path / "r1")
    folder.record.write_text('{"v": 9}', "utf-8")
    with pytest.raises(SchemaTooNew):
        read_record(folder)


# --- identity


def git(folder: Path, *arguments: str) -> None:
    who = ("-c", "user.name=a", "-c", "user.email=a@b.invalid")
    subprocess.run(["git", "-C", str(folder), *who, *arguments], check=True, capture_output=True)


def test_code_is_its_commit_and_what_no_commit_holds(tmp_path: Path) -> None:
    """A change that is not committed gives another hash, and its undoing the old one."""
    assert code_facts(tmp_path)[0]["git_commit"] is None
    file = tmp_path / "a.py"
    file.write_text("1\n", "utf-8")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "a.py")
    git(tmp_path, "commit", "-qm", "x")
    clean, unknown = code_facts(tmp_path)
    file.write_text("2\n", "utf-8")
    dirty, _ = code_facts(tmp_path)
    assert (False, None, True) == (
        clean["git_dirty"],
        clean["git_diff_sha256"],
        dirty["git_dirty"],
    )
    assert dirty["git_diff_sha256"] and clean["git_commit"] == dirty["git_commit"]
    assert "nothing is changed" in unknown["code.git_diff_sha256"]


def test_environment_is_every_package(tmp_path: Path) -> None:
    """The lock is the hash of all installed packages, the same each time."""
    facts = environment_facts()
    assert facts["packages"]["duckdb"]
    assert facts["lock_sha256"] == environment_facts()["lock_sha256"]


def test_run_key_follows_what_a_run_is_made_of(tmp_path: Path) -> None:
    """Another parameter, file, digest, package or change is another key; nothing else is."""
    plan = parse_plan(PLAN)
    params = {"model": "m", "data": "data.txt", "seed": 7}

    def key(content: str = "x", digest: str = "d", **more: Any) -> str:
        (tmp_path / "data.txt").write_text(content, "utf-8")
        work = identify(plan, params, models=[], client=None, folder=tmp_path)
        found: Identity = get_portal().run(work)
        found.models = {"m": {"digest": digest}}
        found.environment |= more.pop("environment", {})
        return found.run_key("h", {**params, **more})

    first = key()
    assert first == key(environment={"host": "elsewhere"})
    others = {
        key("y"),
        key(digest="e"),
        key(seed=8),
        key(environment={"lock_sha256": "other"}),
    }
    assert 4 == len(others - {first})


def test_a_model_that_is_not_there_is_named(client: WorkbenchClient) -> None:
    """Every missing model is named, with the nearest that is there."""
    found = Identity()
    get_portal().run(ask_server(found, ["m", "mm", "zzz"], client))
    assert ["mm", "zzz"] == [error.model for error in found.missing]
    assert isinstance(found.missing[0], ModelNotFound)
    assert ["m"] == list(found.models)


def test_tape_of_a_step_names_its_key(run: RunFolder) -> None:
    """The header of a tape has the key of the step it was recorded for."""
    place = run.committed("ask", 1)
    tape = read_tape(place / "tape.jsonl")
    assert (1, json.loads((place / "step.json").read_text("utf-8"))["key"]) == (
        tape.item,
        tape.step_key,
    )
