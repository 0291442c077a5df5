from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest

from workbench.errors import ConfigError, RunFailed
from workbench.plans.engine import run_notebook


def write(path: Path, *sources: str, parameters: str = "n = 1") -> Path:
    """Write a notebook with a parameters cell and these cells."""
    first = nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})
    cells = [first, *map(nbformat.v4.new_code_cell, sources)]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
    nbformat.write(notebook, path)
    return path


def read(path: Path) -> Any:
    """Read a notebook that was run."""
    return nbformat.read(path, as_version=4)


def statuses(path: Path) -> list[str]:
    """Return what each cell of a run notebook says of itself."""
    cells = read(path).cells
    return [c.metadata.papermill.status for c in cells if "papermill" in c.metadata]


def test_run_with_parameters(tmp_path: Path) -> None:
    """The cells run with the parameters in the output's folder, which holds only the output."""
    path = write(tmp_path / "in.ipynb", "import os\nprint(n, os.path.basename(os.getcwd()))")
    result = run_notebook(path, tmp_path / "out" / "out.ipynb", {"n": [2, "two"]})
    assert "[2, 'two'] out\n" == read(result.path).cells[-1].outputs[0].text
    assert ["out.ipynb"] == [p.name for p in result.path.parent.iterdir()]
    assert (3, True) == (result.cells, result.elapsed_s > 0)


def test_failing_cell_is_kept(tmp_path: Path) -> None:
    """A cell that fails raises, and the notebook shows the error and what never ran."""
    path = write(tmp_path / "in.ipynb", "print('before')", "1 / 0", "print('after')")
    output = tmp_path / "out.ipynb"
    with pytest.raises(RunFailed, match="ZeroDivisionError") as failure:
        run_notebook(path, output)
    assert str(output) == failure.value.path
    assert ["completed", "failed", "pending"] == statuses(output)[-3:]


def test_killed_kernel_is_no_success(tmp_path: Path) -> None:
    """A kernel that was killed raises, and the notebook does not read as a success."""
    kill = "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"
    path = write(tmp_path / "in.ipynb", "print('before')", kill, "print('after')")
    output = tmp_path / "out.ipynb"
    with pytest.raises(RunFailed, match="the kernel died"):
        run_notebook(path, output)
    notebook = read(output)
    assert notebook.metadata.papermill.exception is True
    assert ["completed", "completed", "failed", "pending"] == statuses(output)
    assert "the kernel died (SIGKILL)" == notebook.cells[2].outputs[-1].evalue


def test_cell_that_takes_too_long_is_no_success(tmp_path: Path) -> None:
    """A cell past its time raises and is marked."""
    path = write(tmp_path / "in.ipynb", "import time\ntime.sleep(600)")
    output = tmp_path / "out.ipynb"
    with pytest.raises(RunFailed, match="longer than it may"):
        run_notebook(path, output, timeout_s=1)
    assert ["completed", "failed"] == statuses(output)


def test_older_output_is_replaced_at_the_end_only(tmp_path: Path) -> None:
    """While a notebook runs, the output of the last run is still whole."""
    output = tmp_path / "out.ipynb"
    output.write_text("old", encoding="utf-8")
    path = write(tmp_path / "in.ipynb", "print(open('out.ipynb').read())")
    run_notebook(path, output)
    assert "old\n" == read(output).cells[-1].outputs[0].text


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"m": 1}, "no parameter 'm'"),
        ({"n": {1, 2}}, "not a JSON value"),
        ({"n; import os": 1}, "no parameter"),
    ],
)
def test_bad_parameters_are_refused(tmp_path: Path, parameters: dict[str, Any], said: str) -> None:
    """A parameter the notebook does not take, or that is no JSON value, runs nothing."""
    path = write(tmp_path / "in.ipynb")
    with pytest.raises(ConfigError, match=said):
        run_notebook(path, tmp_path / "out.ipynb", parameters)
    assert not (tmp_path / "out.ipynb").exists()


def test_tuple_is_a_list(tmp_path: Path) -> None:
    """A tuple arrives as a list; papermill alone would make it a text."""
    path = write(tmp_path / "in.ipynb", "print(n)")
    result = run_notebook(path, tmp_path / "out.ipynb", {"n": (1, 2)})
    assert "[1, 2]\n" == read(result.path).cells[-1].outputs[0].text


def test_missing_notebook_is_refused(tmp_path: Path) -> None:
    """A notebook that is not there is named."""
    with pytest.raises(ConfigError, match=r"no notebook .*gone\.ipynb"):
        run_notebook(tmp_path / "gone.ipynb", tmp_path / "out.ipynb")
