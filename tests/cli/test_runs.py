"""`workbench run`, `runs`, `resume`, `cancel` and `approve`, each in a process of its own."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

from tests.cli.harness import Cli
from tests.plans.runs.processes import offer_kinds
from workbench.runtime import find_server

PLAN = """\
plan_version: 1
plan: tried
params:
  word: {type: str, default: hello}
steps:
  - {id: first, kind: tiny_work, value: $params.word, until: gate}
  - {id: publish, kind: tiny_work, needs: [first], ask: "Publish it?", value: $first.value}
  - {id: last, kind: tiny_work, needs: [publish], value: "${first.value}!", fails: 0}
"""


@pytest.fixture
def home(private_folders: Path) -> Iterator[Cli]:
    """Yield a command line whose kernels know the kind of the tests, with a plan in its folder."""
    (private_folders / "plan.yaml").write_text(PLAN.replace("until: gate", "fails: 0"))
    (private_folders / "waits.yaml").write_text(
        PLAN.replace("until: gate", f"until: {private_folders / 'gate'}")
    )
    path = offer_kinds(private_folders / "site")
    cli = Cli(private_folders, {"PYTHONPATH": path})
    yield cli
    if find_server(cli.data_dir) is not None:
        cli.run("stop", "--force")


def test_a_run_asks_is_answered_and_goes_on(home: Cli) -> None:
    """Unanswered it ends with 75; the answer is stored, and a resume ends with 0."""
    done = home.run("run", "plan.yaml", "-p", "word=ahoy", "--out", "mine", "--name", "trial")
    assert 75 == done.returncode
    run_id = done.stderr.split()[1]
    assert f"workbench approve {run_id} publish --yes" in done.stderr
    assert "publish: asks\n  Publish it?\n  ahoy\n" in done.stderr
    listed = home.json("runs")
    assert [("trial", "waiting", ["publish"])] == [
        (row["name"], row["status"], row["waits"]) for row in listed
    ]
    asked = home.run("approve", run_id, "publish")
    assert (2, "  Publish it?\n  ahoy\n") == (asked.returncode, asked.stdout)
    home.ok("approve", run_id[:20], "publish", "--yes", "--note", "fine", "--no-resume")
    stored = json.loads((home.base / "mine" / "answers" / "publish.json").read_text())
    assert (True, "fine") == (stored["yes"], stored["note"])
    resumed = home.run("resume", "mine", "--json")
    document = json.loads(resumed.stdout)
    assert (0, "done", 2) == (resumed.returncode, document["status"], document["execution"])
    assert "first: done before" in resumed.stderr
    shown = home.ok("runs", run_id)
    assert "last     done" in shown


def test_answers_given_in_advance_and_a_failure(home: Cli) -> None:
    """A no in the answer file fails the step; the exit code is 1."""
    (home.base / "answers.yaml").write_text("publish: {answer: no, note: not today}\n")
    done = home.run("run", "plan.yaml", "--answers", "answers.yaml", "--no-cache")
    assert 1 == done.returncode
    assert "publish: no, said" in done.stderr
    assert "last: blocked by publish" in done.stderr
    assert "workbench resume" in done.stderr


def test_a_command_is_told_how_it_went(home: Cli) -> None:
    """Split as a shell would, run by none; its failure is said and changes no exit code."""
    script = home.base / "tell.py"
    script.write_text("import sys; sys.exit('|'.join(sys.argv[1:]))")
    command = f"{sys.executable} {script} '{{plan}} $HOME' {{status}}"
    done = home.run("run", "plan.yaml", "--on-finish", command)
    assert 75 == done.returncode
    assert "on_finish ended with code 1: tried $HOME|waiting" in done.stderr


def test_old_runs_are_cleaned(home: Cli) -> None:
    """`clean` removes them only when it is told to, and tells what was freed."""
    (home.base / "quick.yaml").write_text(
        "plan_version: 1\nplan: quick\nsteps:\n  - {id: a, kind: tiny_work, value: 1}\n"
    )
    home.ok("run", "quick.yaml")
    run_id = home.json("runs")[0]["run_id"]
    home.ok("clean")
    assert "removed 0 runs, freed 0 B" in home.ok("clean", "--runs-older-than", "1w")
    told = home.ok("clean", "--runs-older-than", "0s", "--dry-run")
    assert f"run {run_id} quick (done, " in told
    assert "would remove 1 run, would free " in told
    document = home.json("clean", "--runs-older-than", "0s")
    assert ([run_id], False) == ([run["run_id"] for run in document["runs"]], document["dry_run"])
    assert document["freed_bytes"] == document["runs"][0]["size_bytes"] > 1000
    assert [] == home.json("runs")
    for wrong in (("--dry-run",), ("--runs-older-than", "-3d"), ("--runs-older-than", "soon")):
        assert 2 == home.run("clean", *wrong).returncode


def test_an_interrupt_cancels_the_run(home: Cli) -> None:
    """It ends with 130, and says how to go on; what is detached can be cancelled by name."""
    process = home.start("run", "waits.yaml")
    assert process.stderr is not None
    while "first: attempt" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert 130 == process.returncode, said
    assert "first: cancelled" in said
    run_id = home.ok("run", "waits.yaml", "--detach").strip()
    assert "cancelled" in home.run("cancel", run_id).stderr
    refused = home.run("cancel", run_id)
    assert (1, True) == (refused.returncode, "is not being carried out" in refused.stderr)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("plan.yaml", "-p", "wrod=x"), "no parameter 'wrod'. Did you mean 'word'?"),
        (("plan.yaml", "-p", "word"), "needs NAME=VALUE"),
        (("plan.yaml", "--on-finish", "no-such-x {text}"), "there is no program 'no-such-x'"),
        (("plan.yaml", "--on-finish", "echo 'half"), "--on-finish: No closing quotation"),
        (("plan.yaml", "--out", "full"), "is not empty"),
        (("plan.yaml", "--answers", "bad.yaml"), "there is no step 'publsh'"),
        (("bad.yaml",), "error: The plan bad.yaml has"),
        (("none.yaml",), "none.yaml"),
        (("none.ipynb",), "There is no notebook none.ipynb"),
        (("some.ipynb", "-p", "dayz=1"), "no parameter 'dayz'. Did you mean 'days'?"),
    ],
    ids=[
        "parameter",
        "pair",
        "program",
        "quotes",
        "folder",
        "answers",
        "plan",
        "file",
        "notebook",
        "its parameter",
    ],
)
def test_what_cannot_be_run_ends_with_2(home: Cli, arguments: tuple[str, ...], reason: str) -> None:
    """Nothing ran, and the message says what to change."""
    (home.base / "full").mkdir()
    (home.base / "full" / "mine.txt").touch()
    (home.base / "bad.yaml").write_text("publsh: yes\n")
    cell = nbformat.v4.new_code_cell("days = 7", metadata={"tags": ["parameters"]})  # type: ignore[no-untyped-call]
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), home.base / "some.ipynb")  # type: ignore[no-untyped-call]
    done = home.run("run", *arguments)
    assert (2, True) == (done.returncode, reason in done.stderr), done.stderr
    assert [] == list(home.data_dir.glob("runs/*"))


def test_a_notebook_runs_with_a_server_of_its_own(home: Cli) -> None:
    """The server asks a bundled model, and is gone when the run has ended."""
    cells = [
        nbformat.v4.new_code_cell('model = "none"', metadata={"tags": ["parameters"]}),  # type: ignore[no-untyped-call]
        nbformat.v4.new_code_cell(  # type: ignore[no-untyped-call]
            "import workbench\nprint(workbench.connect(spawn=False).generate('Hi', model).text)"
        ),
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), home.base / "ask.ipynb")  # type: ignore[no-untyped-call]
    done = home.run("run", "ask.ipynb", "-p", "model=toy-nano", "--own-server", "--json")
    assert 0 == done.returncode, done.stderr
    document = json.loads(done.stdout)
    assert {"model": "toy-nano"} == document["params"]
    assert find_server(home.data_dir) is None


def test_a_thousand_items_are_no_thousand_lines(home: Cli) -> None:
    """Of the counts that came since the last look only the newest is told, and the last one is."""
    items = ", ".join(map(str, range(1000)))
    (home.base / "many.yaml").write_text(
        "plan_version: 1\nplan: many\nsteps:\n"
        f"  - {{id: each, kind: tiny_work, foreach: {{n: [{items}]}}, value: $n}}\n"
    )
    done = home.run("run", "many.yaml", "--no-cache", "--json")
    assert 0 == done.returncode, done.stderr
    counts = [line for line in done.stderr.splitlines() if " of 1000" in line]
    assert "each: 1000 of 1000" == counts[-1]
    assert len(counts) < 500
    assert "each: done" in done.stderr
