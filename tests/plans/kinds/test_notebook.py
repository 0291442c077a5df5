"""The kind `notebook`: a kernel of its own in a process of its own."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import nbformat
import psutil
import pytest

from tests.plans.kinds.conftest import Begin
from tests.plans.kinds.context import problems_of, step_of
from tests.test_runtime import until
from workbench.errors import StepFailed
from workbench.plans.kinds import load_kinds


def write_notebook(path: Path, *sources: str, tagged: bool = True) -> None:
    """Write a notebook whose first cell holds the parameters."""
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    if tagged:
        cells[0].metadata["tags"] = ["parameters"]
    kernel = {"name": "python3", "language": "python", "display_name": "Python 3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), path)


def test_a_notebook_runs_with_parameters(begin: Begin, tmp_path: Path) -> None:
    """Parameters and inputs arrive, the step is known, and the executed copy is kept."""
    write_notebook(
        tmp_path / "work.ipynb",
        "n = 0\nrows = []\nkey = None",
        "from workbench.plans import step\nopen('made.txt', 'w').write(step.key)",
        "print(n + len(rows), key)",
    )
    attempt = begin(
        "notebook",
        path="work.ipynb",
        parameters={"n": 40},
        given={"rows": [1, 2], "key": {"env": "SECRET_OF_A_TEST"}},
        environment={"SECRET_OF_A_TEST": "pa55word"},
        variables={"m": "not for it"},
    )
    done = attempt.run()
    assert {"cells", "content_hash"} == set(done.outputs)
    kept = attempt.work_dir / "notebook.ipynb"
    assert "pa55word" not in kept.read_text()
    outputs = json.loads(kept.read_text())["cells"][-1]["outputs"]
    assert "42 {'env': 'SECRET_OF_A_TEST'}\n" == "".join(outputs[0]["text"])
    assert "key-of-a-test" == (attempt.work_dir / "files" / "made.txt").read_text()
    again = begin(
        "notebook",
        path="work.ipynb",
        parameters={"n": 40},
        given={"rows": [1, 2], "key": {"env": "SECRET_OF_A_TEST"}},
        environment={"SECRET_OF_A_TEST": "pa55word"},
    ).run()
    assert done.outputs == again.outputs


def test_connections_of_a_notebook_are_told(begin: Begin, tmp_path: Path) -> None:
    """What a cell connects to by itself makes the run not replayable."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = listening.getsockname()
        source = f"import socket\nsocket.create_connection({address!r}).close()"
        write_notebook(tmp_path / "net.ipynb", source, tagged=False)
        attempt = begin("notebook", path="net.ipynb")
        attempt.run()
    expected = f"step s connected to 127.0.0.1:{address[1]} outside of the workbench"
    assert [expected] == attempt.reasons


def test_a_failing_cell_is_named(begin: Begin, tmp_path: Path) -> None:
    """The failure names the cell by number and first line, and its error."""
    write_notebook(tmp_path / "bad.ipynb", "x = 1", "y = 2\n1 / 0", "print('never')", tagged=False)
    with pytest.raises(StepFailed) as caught:
        begin("notebook", path="bad.ipynb").run()
    expected = "bad.ipynb: cell 2 (y = 2) failed: ZeroDivisionError: division by zero"
    assert caught.value.reason.startswith(expected)


def test_a_cancelled_notebook_leaves_no_kernel(begin: Begin, tmp_path: Path) -> None:
    """A notebook that is cancelled ends with its kernel, which has a session of its own."""
    source = "import os, time\nopen('pid', 'w').write(str(os.getpid()))\ntime.sleep(600)"
    write_notebook(tmp_path / "long.ipynb", source, tagged=False)
    attempt = begin("notebook", path="long.ipynb")
    future = attempt.start()
    note = attempt.work_dir / "files" / "pid"
    kernel = int(until(lambda: note.exists() and note.read_text()))
    future.cancel()
    until(lambda: not psutil.pid_exists(kernel) or _is_zombie(kernel))


def _is_zombie(pid: int) -> Any:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_problems_of_notebooks(tmp_path: Path) -> None:
    """A notebook that is not there, is none, or takes no parameters is told."""
    write_notebook(tmp_path / "work.ipynb", "x = 1", tagged=False)
    (tmp_path / "text.ipynb").write_text("no notebook")
    lines = {"": 1, "path": 2}

    def said(path: str, **fields: Any) -> str:
        found = problems_of(step_of("notebook", path=path, lines=lines, **fields), tmp_path)
        assert [2] == [number for number, _ in found]
        return found[0][1]

    assert "Did you mean 'work.ipynb'?" in said("wrok.ipynb")
    assert "is no notebook" in said("text.ipynb")
    assert "no cell for parameters" in said("work.ipynb", inputs={"x": 1})
    assert [] == problems_of(step_of("notebook", path="work.ipynb"), tmp_path)
    kind = load_kinds()["notebook"]
    assert not kind.repeatable({})
    assert 64 == len(kind.code({"path": "work.ipynb"}, tmp_path)["work.ipynb"])
