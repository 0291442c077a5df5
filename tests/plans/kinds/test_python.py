"""The kind `python`: real child processes, their limits and what they say when they fail."""

from __future__ import annotations

import site
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest

from tests.plans.kinds.conftest import Begin
from tests.plans.kinds.context import problems_of, step_of
from tests.server.harness import ServerProcess
from tests.test_runtime import until
from workbench.errors import PlanError, StepFailed
from workbench.plans import step as current
from workbench.plans.kinds import load_kinds
from workbench.runtime import find_server


def code(text: str) -> str:
    return textwrap.dedent(text).strip() + "\n"


def test_inputs_become_arguments(begin: Begin) -> None:
    """Inputs of every JSON form arrive as they are, and the one output is what is returned."""
    given = {"rows": [{"n": 1, "t": "ä\u2028😀"}], "limit": 2.5, "flag": None}
    done = begin(
        "python",
        given=given,
        code="def run(rows, limit, flag=1):\n    return {'rows': rows, 'rest': [limit, flag]}",
    ).run()
    assert {"result": {"rows": given["rows"], "rest": [2.5, None]}} == done.outputs
    assert "result: 2 entries" == done.summary


def test_frames_go_in_and_come_out(begin: Begin, tmp_path: Path) -> None:
    """A DataFrame travels as Parquet both ways, a list of them too, with its types."""
    (tmp_path / "work.py").write_text(
        code("""
            def double(frame, parts):
                assert [len(part) for part in parts] == [2, 2]
                frame["n"] *= 2
                return {"frame": frame, "rows": [{"a": 1}], "count": len(frame)}
        """),
        encoding="utf-8",
    )
    frame = pd.DataFrame({"n": [1, 2], "when": pd.to_datetime(["2026-01-01", None], utc=True)})
    done = begin(
        "python",
        given={"frame": frame, "parts": [frame, frame]},
        run="work:double",
        outputs={"frame": "parquet", "rows": "parquet", "count": "json"},
    ).run()
    expected = frame.assign(n=[2, 4])
    pd.testing.assert_frame_equal(expected, done.outputs["frame"])
    assert [{"a": 1}] == done.outputs["rows"].to_dict("records")
    assert "frame: 2 rows, rows: 1 rows, count" == done.summary


def test_variables_come_only_where_they_are_asked_for(begin: Begin) -> None:
    """The variables of a `foreach` are arguments of a function that names them."""
    taken = begin("python", variables={"m": "a", "r": 1}, code="def run(r):\n    return r").run()
    assert {"result": 1} == taken.outputs


def test_async_functions_and_numpy(begin: Begin) -> None:
    """A coroutine function is awaited; numbers and arrays of numpy become JSON."""
    done = begin(
        "python",
        code=code("""
            import numpy as np
            async def run():
                return [np.float32(0.5), np.arange(2), (1,)]
        """),
    ).run()
    assert {"result": [0.5, [0, 1], [1]]} == done.outputs


def test_the_code_knows_its_step(begin: Begin, tmp_path: Path) -> None:
    """Key, attempt, item and run of the step are known to its code, and nowhere else."""
    attempt = begin(
        "python",
        code=code("""
            from workbench.plans import step
            def run():
                return [step.key, step.attempt, step.item, step.run_id, step.id, str(step.plan_dir)]
        """),
    )
    attempt.attempt, attempt.item = 3, 7
    expected = ["key-of-a-test", 3, 7, "run-of-a-test", "s", str(tmp_path)]
    assert expected == attempt.run().outputs["result"]
    with pytest.raises(PlanError, match="carries out no step"):
        _ = current.key


def test_files_of_the_code_stay_with_the_step(begin: Begin) -> None:
    """The code runs in a folder of the attempt; what it writes and prints stays, and no more."""
    attempt = begin(
        "python",
        given={"x": 1},
        code=code("""
            import os, sys
            def run(x):
                print("out"); print("err", file=sys.stderr)
                open("made.txt", "w").write("here")
                return os.getcwd()
        """),
    )
    assert str(attempt.work_dir / "files") == attempt.run().outputs["result"]
    files = sorted(str(p.relative_to(attempt.work_dir)) for p in attempt.work_dir.rglob("*.*"))
    assert ["files/made.txt", "stderr.txt", "stdout.txt"] == files
    assert "out\n" == (attempt.work_dir / "stdout.txt").read_text()


def test_a_silent_step_leaves_nothing(begin: Begin) -> None:
    """Where nothing is written and printed the folder of the attempt stays empty."""
    attempt = begin("python", code="def run():\n    return 1")
    attempt.run()
    assert [] == list(attempt.work_dir.iterdir())


def test_a_file_of_the_folder_of_work_is_not_imported(begin: Begin, tmp_path: Path) -> None:
    """Modules come from the plan's folder, never from the folder the code works in."""
    attempt = begin("python", code="import json\ndef run():\n    return json.dumps([1])")
    files = attempt.work_dir / "files"
    files.mkdir()
    (files / "json.py").write_text("raise SystemExit('taken')")
    assert "[1]" == attempt.run().outputs["result"]


def test_the_environment_is_clean(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens of the surroundings stay outside; what the run gives comes in."""
    monkeypatch.setenv("HF_TOKEN", "outside")
    monkeypatch.setenv("WORKBENCH_TOKEN", "outside")
    attempt = begin(
        "python",
        environment={"WORKBENCH_URL": "http://given"},
        code="import os\ndef run():\n    return dict(os.environ)",
    )
    found = attempt.run().outputs["result"]
    assert "outside" not in found.values()
    assert ("http://given", "0") == (found["WORKBENCH_URL"], found["PYTHONHASHSEED"])


def test_a_secret_is_read_at_use_and_hidden(begin: Begin) -> None:
    """A secret reaches the function as its text; logs and errors show stars in its place."""
    attempt = begin(
        "python",
        given={"key": {"env": "SECRET_OF_A_TEST"}, "other": {"env": "NOT_GIVEN"}},
        environment={"SECRET_OF_A_TEST": "pa55word"},
        code=code("""
            def run(key, other):
                print("the key is", key)
                assert other == {"env": "NOT_GIVEN"}
                raise ValueError(f"wrong key {key}")
        """),
    )
    with pytest.raises(StepFailed) as caught:
        attempt.run()
    assert "wrong key ***" in str(caught.value)
    assert "the key is ***\n" == (attempt.work_dir / "stdout.txt").read_text()


def test_an_exception_has_the_users_traceback(begin: Begin, tmp_path: Path) -> None:
    """The failure tells class, message and the user's own frames, causes included."""
    (tmp_path / "helper.py").write_text("def half(x):\n    return 1 / x\n")
    attempt = begin(
        "python",
        code=code("""
            from helper import half
            def run():
                try:
                    half(0)
                except ZeroDivisionError as error:
                    raise ValueError("no half") from error
        """),
    )
    with pytest.raises(StepFailed) as caught:
        attempt.run()
    expected = [
        "ValueError: no half",
        '  File "<code of s>", line 6, in run',
        '    raise ValueError("no half") from error',
        "caused by ZeroDivisionError: division by zero",
        '  File "<code of s>", line 4, in run',
        "    half(0)",
        '  File "helper.py", line 2, in half',
        "    return 1 / x",
    ]
    assert expected == [line for line in caught.value.reason.splitlines() if "^" not in line]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return float('nan')", "result is nan, which JSON does not have"),
        ("return [{1: 2}]", "result[0] has the key 1"),
        ("return {'a': {1, 2}}", "result.a is a set"),
        ("import pandas as pd; return pd.DataFrame({'a': [1]})", "Declare it as Parquet"),
        ("import sys; sys.exit(3)", "ended its process by sys.exit(3)"),
        ("import os; os._exit(4)", "ended itself (exit 4) and gave no result"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "was killed by SIGKILL"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    ],
)
def test_bad_ends_are_told(begin: Begin, body: str, said: str) -> None:
    """What cannot be an output, and every way to end without one, is a failure that says so."""
    with pytest.raises(StepFailed) as caught:
        begin("python", code=f"def run():\n    {body}").run()
    assert said in str(caught.value)


def test_wrong_inputs_and_outputs_are_told(begin: Begin) -> None:
    """Arguments that do not fit and outputs that were not declared are named, with the form."""
    with pytest.raises(StepFailed, match=r"run takes no input x\. It is run\(y=1\)"):
        begin("python", given={"x": 1}, code="def run(y=1):\n    return y").run()
    with pytest.raises(StepFailed, match="run needs the input y"):
        begin("python", code="def run(y):\n    return y").run()
    with pytest.raises(StepFailed, match=r"mapping with a, b, and gave the keys \['a'\]"):
        begin(
            "python",
            code="def run():\n    return {'a': 1}",
            outputs={"a": "json", "b": "json"},
        ).run()


# --- limits


def marked(name: str) -> list[psutil.Process]:
    """Return the processes whose command line has a mark."""
    found = []
    for process in psutil.process_iter():
        try:
            if name in " ".join(process.cmdline()) and process.status() != "zombie":
                found.append(process)
        except psutil.Error:
            continue
    return found


SLEEP = "import time; time.sleep(600)"
ESCAPES = {
    "sleep": SLEEP,
    "spin": "while True: pass",
    "deaf": "import signal, time\n    signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "    signal.signal(signal.SIGINT, signal.SIG_IGN)\n    time.sleep(600)",
}


@pytest.mark.parametrize("body", ESCAPES.values(), ids=ESCAPES)
def test_time_ends(begin: Begin, body: str) -> None:
    """Code that sleeps, spins or ignores signals is ended when its time is over."""
    attempt = begin("python", timeout_s=1.0, code=f"def run():\n    {body}")
    began = time.monotonic()
    with pytest.raises(StepFailed, match="longer than 1 s and was ended"):
        attempt.run()
    assert time.monotonic() - began < 30


def test_the_end_of_time_says_where(begin: Begin) -> None:
    """The failure names the line of the plan's code in which the time was over."""
    # A machine under load may need longer to come to the code at all.
    for seconds in (0.6, 3.0, 30.0):
        attempt = begin("python", timeout_s=seconds, code="def run():\n    while True: pass")
        with pytest.raises(StepFailed) as caught:
            attempt.run()
        if "it was in" in caught.value.reason:
            break
    assert caught.value.reason.endswith("was ended; it was in run (<code of s>, line 2)")


def test_children_end_with_the_step(begin: Begin, tmp_path: Path) -> None:
    """Processes the code started are killed too, in a session of their own or orphaned."""
    mark = f"mark-{tmp_path.name}"
    starts = code(f"""
        import subprocess, sys, time
        sleep = [sys.executable, "-c", "{SLEEP}", "{mark}"]
        orphan = (
            "import os, subprocess, sys\\n"
            "if os.fork() == 0:\\n"
            "    os.setsid()\\n"
            "    subprocess.Popen([sys.executable, '-c', '{SLEEP}', '{mark}'])\\n"
        )
        def run(end):
            subprocess.Popen(sleep)
            subprocess.Popen(sleep, start_new_session=True)
            subprocess.run([sys.executable, "-c", orphan])
            open("begun", "w").close()
            time.sleep(0 if end else 600)
    """)
    for end in (True, False):
        attempt = begin("python", given={"end": end}, code=starts)
        future = attempt.start()
        until((attempt.work_dir / "files" / "begun").exists)
        if end:
            future.result(60)
        else:
            assert len(marked(mark)) >= 3
            future.cancel()
        until(lambda: not marked(mark))
        (attempt.work_dir / "files" / "begun").unlink()


def test_a_flood_of_output_is_cut(begin: Begin) -> None:
    """Endless output fills neither memory nor disk: beginning and end are kept."""
    attempt = begin(
        "python",
        code=code("""
            def run():
                for number in range(20_000):
                    print("line", number, "x" * 100)
                return 1
        """),
    )
    attempt.run()
    text = (attempt.work_dir / "stdout.txt").read_text()
    assert len(text) < 700_000
    assert text.startswith("line 0 xxx")
    assert text.splitlines()[-1].startswith("line 19999 xxx")
    assert "bytes left out" in text


def test_a_child_ends_with_its_runner(begin: Begin, tmp_path: Path) -> None:
    """A child whose runner is killed ends too, so that a resumed run does not meet it."""
    mark = f"mark-{tmp_path.name}"
    script = tmp_path / "runner.py"
    script.write_text(
        code(f"""
            from pathlib import Path
            from tests.plans.kinds.context import Attempt, step_of
            if __name__ == "__main__":
                body = (
                    "import subprocess, sys, time\\n"
                    "def run():\\n"
                    "    subprocess.Popen([sys.executable, '-c', '{SLEEP}', '{mark}'])\\n"
                    "    time.sleep(600)\\n"
                )
                Attempt(step_of("python", code=body), Path({str(tmp_path)!r})).run()
        """)
    )
    runner = subprocess.Popen([sys.executable, str(script)])
    until(lambda: marked(mark))
    child = psutil.Process(runner.pid).children()
    runner.kill()
    runner.wait()
    until(lambda: not marked(mark))
    assert not psutil.wait_procs(child, timeout=20)[1]


def test_a_server_that_a_step_started_stays(begin: Begin, tmp_path: Path) -> None:
    """The server serves others too: it outlives the step whose code was the first to ask."""
    data_dir = tmp_path / "data"
    attempt = begin(
        "python",
        environment={"WORKBENCH_DATA_DIR": str(data_dir)},
        code="import workbench\ndef run():\n    return workbench.connect().info().pid",
    )
    pid = attempt.run().outputs["result"]
    record = find_server(data_dir)
    assert record is not None
    assert pid == record.pid
    server = psutil.Process(pid)
    server.terminate()
    assert not psutil.wait_procs([server], timeout=30)[1]


# --- the network


def test_connections_of_its_own_are_told(begin: Begin, embedded: ServerProcess) -> None:
    """HTTP outside of our client makes the run not replayable; our client's does not."""
    port = embedded.url.rpartition(":")[2]
    environment = {"WORKBENCH_URL": embedded.url, "WORKBENCH_TOKEN": embedded.token}
    own = begin(
        "python",
        environment=environment,
        code=code(f"""
            import http.client, socket
            def run():
                socket.create_connection(("127.0.0.1", {port})).close()
                connection = http.client.HTTPConnection("127.0.0.1", {port})
                connection.request("GET", "/api/version")
                connection.close()
        """),
    )
    own.run()
    assert [f"step s connected to 127.0.0.1:{port} outside of the workbench"] == own.reasons
    ours = begin(
        "python",
        environment=environment,
        code=code("""
            import workbench
            def run():
                with workbench.connect() as wb:
                    return wb.generate("What is 2 plus 2?", "toy-tiny", num_predict=2).text
        """),
    )
    assert ours.run().outputs["result"]
    assert [] == ours.reasons


# --- what is seen before


def test_problems_of_the_code(tmp_path: Path) -> None:
    """Code that is no Python, lacks `run` or takes other inputs is told at its own line."""
    lines = {"": 2, "code": 4, "inputs": 9}
    broken = step_of("python", code="def run(:\n    pass\n", lines=lines)
    assert [(5, "s: the code is no Python: invalid syntax.")] == problems_of(broken)
    assert [4] == [line for line, _ in problems_of(step_of("python", code="x = 1", lines=lines))]
    found = problems_of(
        step_of("python", code="def run(a, *, b=1, c): ...", inputs={"d": 1, "a": 2}, lines=lines)
    )
    assert [
        (9, "s: run takes no input 'd'. It is run(a, *, b=1, c)."),
        (4, "s: run needs an input 'c'. It is run(a, *, b=1, c)."),
    ] == found
    assert [(2, True)] == [
        (line, "either `run` or `code`" in text)
        for line, text in problems_of(step_of("python", lines=lines))
    ]


def test_problems_of_run(tmp_path: Path) -> None:
    """A module or function that is not there is named, with what is near."""
    (tmp_path / "work.py").write_text("def score(a): ...\n")
    (tmp_path / "bad.py").write_text("def f(:\n")

    def said(run: str, **fields: object) -> list[str]:
        return [text for _, text in problems_of(step_of("python", run=run, **fields), tmp_path)]

    assert ["Did you mean 'score'?"] == [text[-21:] for text in said("work:scores")]
    assert [] == said("work:score", foreach={"a": [1]})
    assert ["s: there is no module 'absent_module'."] == [
        text.split(" Put")[0] for text in said("absent_module:f")
    ]
    assert "bad.py is no Python: line 1" in said("bad:f")[0]
    assert "not of the form" in said("work.py")[0]
    assert [] == said("json:dumps", inputs={"obj": 1})


def test_the_code_hash_follows_local_imports(tmp_path: Path) -> None:
    """The key of a step depends on its module and on what that imports of the plan's folder."""
    kind = load_kinds()["python"]
    (tmp_path / "pack").mkdir()
    for name, text in {
        "work.py": "import json\nfrom pack.inner import x\n",
        "pack/__init__.py": "",
        "pack/inner.py": "from . import deep\nx = 1\n",
        "pack/deep.py": "y = 1\n",
        "other.py": "z = 1\n",
    }.items():
        (tmp_path / name).write_text(text)
    first = kind.code({"run": "work:f"}, tmp_path)
    assert ["pack/__init__.py", "pack/deep.py", "pack/inner.py", "work.py"] == list(first)
    (tmp_path / "other.py").write_text("z = 2\n")
    assert first == kind.code({"run": "work:f"}, tmp_path)
    (tmp_path / "pack/deep.py").write_text("y = 2\n")
    assert first != kind.code({"run": "work:f"}, tmp_path)
    assert ["other.py"] == list(kind.code({"code": "import other"}, tmp_path))
    known = list(kind.code({"run": "json.decoder:JSONDecoder"}, tmp_path))
    assert ["json.decoder", "json/**/*.py"] == known
    assert kind.repeatable({"run": "work:f"})


@pytest.mark.parametrize("installed", [True, False], ids=["installed", "worked on"])
def test_the_code_hash_follows_a_package_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, installed: bool
) -> None:
    """A changed helper changes the key; of a folder somebody works in only what is imported."""
    plan_dir, place = tmp_path / "plan", tmp_path / "site"
    for folder in (plan_dir, place / "hashed_pack" / "deep"):
        folder.mkdir(parents=True)
    for name, text in {
        "hashed_pack/__init__.py": "",
        "hashed_pack/work.py": "from .deep import help\nimport hashed_beside\n",
        "hashed_pack/deep/__init__.py": "",
        "hashed_pack/deep/help.py": "x = 1\n",
        "hashed_pack/other.py": "x = 1\n",
        "hashed_beside.py": "x = 1\n",
    }.items():
        (place / name).write_text(text)
    monkeypatch.syspath_prepend(place)
    if installed:
        monkeypatch.setattr(site, "USER_SITE", str(place))
    kind = load_kinds()["python"]

    def key() -> dict[str, str]:
        return dict(kind.code({"run": "hashed_pack.work:f"}, plan_dir))

    def changes(name: str) -> bool:
        before = key()
        (place / name).write_text("x = 22\n")
        return before != key()

    assert key()
    assert key() == key()
    assert changes("hashed_pack/deep/help.py")
    assert changes("hashed_pack/other.py") is installed
    assert changes("hashed_beside.py") is not installed
    alone = list(kind.code({"run": "hashed_beside:f"}, plan_dir))
    assert ["hashed_beside" if installed else "hashed_beside.py"] == alone
