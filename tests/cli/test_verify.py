"""`workbench verify` and `diff`: what they print, and the exit codes that programs read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.harness import Cli
from tests.plans.carried import carry_out
from workbench.client.api import WorkbenchClient
from workbench.plans.folder import RunFolder
from workbench.portal import get_portal
from workbench.testing import Reply, ScriptedOllama

PLAN = """\
plan: said
plan_version: 1
params: {word: {type: str, default: hello}, seed: {type: int, default: 1}}
steps:
  - {id: ask, kind: prompt, model: m, prompt: $params.word}
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunFolder, RunFolder, str]]:
    """Yield two runs of different parameters, and the address of the model's server."""
    place = tmp_path_factory.mktemp("runs")
    with ScriptedOllama(models=["m"], reply=lambda r: Reply(r.json["messages"][0]["content"])) as o:
        client = WorkbenchClient(o.url)
        first = carry_out(PLAN, place / "plan", client, cache=False)
        params = {"word": "help!"}
        other = carry_out(PLAN, place / "plan", client, cache=False, params=params)
        get_portal().run(client.aclose())
        yield first, other, o.url


def test_diff_shows_the_first_difference(
    fresh: Cli, runs: tuple[RunFolder, RunFolder, str]
) -> None:
    """Two runs that gave different results end with 1, and the first value is shown."""
    first, other, _ = runs
    done = fresh.run("diff", str(first.path), str(other.path))
    assert 1 == done.returncode
    assert 'params.word, character 3: "hello" and "help!"' in done.stdout
    assert "First difference in step ask: text, character 3" in done.stdout
    told = json.loads(fresh.run("diff", str(first.path), str(other.path), "--json").stdout)
    assert (False, 3) == (told["same"], told["first"]["first"]["character"])
    assert 0 == fresh.run("diff", str(first.path), str(first.path)).returncode
    assert 3 == fresh.run("diff", str(first.path), "none").returncode


def test_verify_against_the_models(fresh: Cli, runs: tuple[RunFolder, RunFolder, str]) -> None:
    """Answers that are the same end with 0, and the report is one JSON document on demand."""
    first, _, url = runs
    done = fresh.run(
        "verify", str(first.path), "--level", "models", "--json", env={"WORKBENCH_URL": url}
    )
    assert 0 == done.returncode, done.stderr
    told = json.loads(done.stdout)
    assert ("models", True, 1.0) == (told["level"], told["ok"], told["share"])


def test_verify_tells_what_was_changed(
    fresh: Cli, runs: tuple[RunFolder, RunFolder, str], tmp_path: Path
) -> None:
    """An edited artefact ends with 1 and is named; nothing is replayed."""
    copy = tmp_path / "copy"
    shutil.copytree(runs[0].path, copy)
    place = RunFolder(copy).committed("ask") / "outputs" / "text.json"
    place.write_text('"other"', "utf-8")
    done = fresh.run("verify", str(copy))
    assert 1 == done.returncode
    assert "text.json was changed" in done.stdout


def test_what_cannot_be_checked_ends_with_3(
    fresh: Cli, runs: tuple[RunFolder, RunFolder, str], tmp_path: Path
) -> None:
    """A missing tape, a later version and a run that is not there end with 3 and say so."""
    copy = tmp_path / "copy"
    shutil.copytree(runs[0].path, copy)
    tape = RunFolder(copy).committed("ask") / "tape.jsonl"
    tape.write_text(tape.read_text("utf-8").replace('"tape": 1', '"tape": 5'), "utf-8")
    later = fresh.run("verify", str(copy))
    tape.unlink()
    missing = fresh.run("verify", str(copy))
    assert [3, 3, 3] == [
        later.returncode,
        missing.returncode,
        fresh.run("verify", "none").returncode,
    ]
    assert "schema version 5" in later.stderr and "tape of step ask is missing" in missing.stderr


def test_verify_is_told_when_it_is_misused(
    fresh: Cli, runs: tuple[RunFolder, RunFolder, str]
) -> None:
    """Seeds without a metric, and a metric that is no expression, end with 2."""
    run = str(runs[0].path)
    assert 2 == fresh.run("verify", run, "--level", "seeds").returncode
    wrong = fresh.run("verify", run, "--level", "seeds", "--metric", "1 +")
    assert (2, True) == (wrong.returncode, "no expression" in wrong.stderr)
