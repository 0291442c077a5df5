"""What lies on the disk: artefacts, commits, the cache, answers in advance, what was started."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from workbench.errors import ConfigError, SchemaTooNew, StoreError
from workbench.plans.approvals import Given, question_hash, read_answers
from workbench.plans.artifacts import (
    StepFile,
    attempt_folder,
    canonical,
    check_outputs,
    clear_attempts,
    commit,
    last_attempt,
    read_output,
    read_step,
    save_outputs,
    write_step,
)
from workbench.plans.cache import StepCache
from workbench.plans.folder import RunFolder, find_run
from workbench.plans.info import read_info


def committed(place: Path, values: dict[str, object], key: str = "k") -> tuple[Path, StepFile]:
    """Commit a step with these outputs."""
    folder = attempt_folder(place, 1)
    step = StepFile("a", key, 1, outputs=save_outputs(folder, {}, values))
    write_step(folder, step)
    commit(folder, place / "committed")
    return place / "committed", step


def test_the_same_value_has_the_same_bytes() -> None:
    """Whatever the order of its keys."""
    assert canonical({"b": [1, "é"], "a": None}) == '{"a":null,"b":[1,"é"]}'.encode()
    with pytest.raises(StoreError, match="no JSON value"):
        canonical({"a": object()})


def test_a_commit_is_whole_and_reads_back(tmp_path: Path) -> None:
    """Outputs, their hashes, and nothing of the attempts."""
    folder, step = committed(tmp_path / "a", {"rows": [1, 2], "text": "é"})
    assert step == read_step(folder)
    assert [1, 2] == read_output(folder, "rows", step.outputs["rows"])
    assert (2, None) == (step.outputs["rows"]["rows"], step.outputs["text"]["rows"])
    attempt_folder(tmp_path / "a", 7)
    assert 7 == last_attempt(tmp_path / "a")
    clear_attempts(tmp_path / "a")
    assert 0 == last_attempt(tmp_path / "a")


def test_a_table_keeps_its_hash(tmp_path: Path) -> None:
    """The same frame gives the same file, and it reads back as a frame."""
    pandas = pytest.importorskip("pandas")
    hashes = []
    for name in "ab":
        folder = attempt_folder(tmp_path / name, 1)
        frame = pandas.DataFrame({"n": [1, 2], "t": ["x", None]})
        facts = save_outputs(folder, {"t": "parquet"}, {"t": frame})
        hashes.append(facts["t"]["sha256"])
        assert [1, 2] == read_output(folder, "t", facts["t"])["n"].tolist()
    assert hashes[0] == hashes[1]
    with pytest.raises(StoreError, match=r"output 't' cannot be kept.*DataFrame"):
        save_outputs(attempt_folder(tmp_path / "c", 1), {"t": "parquet"}, {"t": [1]})


def test_what_was_changed_or_is_missing_is_named(tmp_path: Path) -> None:
    """By its path."""
    folder, step = committed(tmp_path / "a", {"rows": [1]})
    path = folder / "outputs" / "rows.json"
    path.write_text("[2]")
    for check in (check_outputs, lambda f, s: read_output(f, "rows", s.outputs["rows"])):
        with pytest.raises(StoreError, match=r"rows\.json was changed"):
            check(folder, step)
    path.unlink()
    with pytest.raises(StoreError, match=r"rows\.json cannot be read"):
        check_outputs(folder, step)
    (folder / "step.json").write_text('{"v": 9}')
    with pytest.raises(SchemaTooNew):
        read_step(folder)
    (folder / "step.json").unlink()
    with pytest.raises(StoreError, match=r"step\.json is missing"):
        read_step(folder)
    assert read_step(tmp_path / "nothing") is None


def test_the_cache_gives_whole_entries_and_forgets_the_oldest(tmp_path: Path) -> None:
    """It is brought back to its size by what was used least recently."""
    cache = StepCache(tmp_path)
    for number, key in enumerate(("old", "new")):
        folder, step = committed(tmp_path / key, {"text": "x" * 1000}, key)
        cache.put(folder, step, run_id=f"r{number}")
        os.utime(cache.folder / key, (number, number))
    attempt = attempt_folder(tmp_path / "next", 1)
    found = cache.take("old", attempt)
    assert found is not None and "r0" == found.from_run
    assert "x" * 1000 == read_output(attempt, "text", found.outputs["text"])
    assert cache.take("none", attempt) is None
    assert 1 == cache.prune(2000)
    assert ["old"] == [entry.name for entry in cache.folder.iterdir()]


def test_answer_files_say_yes_or_no(tmp_path: Path) -> None:
    """In YAML's words, or with a note and the hash of the question."""
    path = tmp_path / "answers.yaml"
    path.write_text('a: yes\nb: "no"\nc: {answer: false, note: later, sha256: "00"}\nd: true\n')
    assert {
        "a": Given(True),
        "b": Given(False),
        "c": Given(False, "later", "00"),
        "d": Given(True),
    } == read_answers(path, ["a", "b", "c", "d"])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: maybe", "neither yes nor no"),
        ("a: {yes: true}", "neither yes nor no"),
        ("a: 1", "neither yes nor no"),
        ("pubish: yes", "no step 'pubish'.*'publish'"),
        ("- a", "maps no step"),
        ("a: [", "no YAML"),
    ],
)
def test_an_answer_file_that_says_something_else_is_refused(
    tmp_path: Path, text: str, reason: str
) -> None:
    """Nothing is taken for a yes."""
    path = tmp_path / "answers.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as refused:
        read_answers(path, ["a", "publish"])
    assert re.search(reason, str(refused.value))


def test_a_question_is_what_is_asked_and_shown_by_a_step_of_a_key() -> None:
    """Each of the three changes its hash."""
    asked = [("k", "?", 1), ("k", "?", 2), ("k", "!", 1), ("l", "?", 1)]
    assert 4 == len({question_hash(*question) for question in asked})


def test_runs_are_found_by_folder_id_and_beginning(tmp_path: Path) -> None:
    """Also one that lies elsewhere; a beginning that two share is refused."""
    runs = tmp_path / "data" / "runs"
    for name in ("01aa", "01ab"):
        (runs / name).mkdir(parents=True)
        (runs / name / "run.json").write_text(json.dumps({"run_id": name}))
    elsewhere = tmp_path / "mine"
    elsewhere.mkdir()
    (elsewhere / "run.json").write_text(json.dumps({"run_id": "01cc"}))
    (runs / "01cc.link").write_text(f"{elsewhere}\n")
    data = tmp_path / "data"
    assert "01aa" == find_run(data, "01aa").run_id
    assert (elsewhere, "01cc") == (find_run(data, "01c").path, find_run(data, "01c").run_id)
    assert "01cc" == find_run(data, elsewhere).run_id
    for wrong in ("01a", "", "zz"):
        with pytest.raises(StoreError):
            find_run(data, wrong)
    with pytest.raises(StoreError, match="cannot be read"):
        read_info(RunFolder(elsewhere))


@pytest.mark.skipif(os.name != "posix", reason="links need a right of their own on Windows")
def test_the_cache_follows_no_links(tmp_path: Path) -> None:
    """A step that linked to a large folder, or to its own, is kept and taken with the links."""
    large = tmp_path / "large"
    large.mkdir()
    (large / "data").write_bytes(b"x")
    folder = attempt_folder(tmp_path / "run", 1)
    (folder / "files").mkdir()
    (folder / "files" / "data").symlink_to(large)
    (folder / "files" / "round").symlink_to(folder / "files")
    (folder / "files" / "nowhere").symlink_to(tmp_path / "nowhere")
    step = StepFile("a", "k", 1, outputs=save_outputs(folder, {}, {"value": 1}))
    write_step(folder, step)
    commit(folder, tmp_path / "run" / "committed")
    cache = StepCache(tmp_path)
    cache.put(tmp_path / "run" / "committed", step, run_id="r")
    taken = attempt_folder(tmp_path / "again", 1)
    assert cache.take("k", taken) is not None
    assert (taken / "files" / "data").is_symlink()
    assert (taken / "files" / "nowhere").is_symlink()
