"""The magics with a real server: names of models, and what is wrong with them."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from IPython.core.completer import provisionalcompleter
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

import workbench
from tests.server.harness import ServerProcess


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("magics")) as server:
        yield server


@pytest.fixture(scope="module")
def runtime_dir(server: ServerProcess) -> str:
    """The folder in which the server is found; each test has another one."""
    return os.environ["XDG_RUNTIME_DIR"]


@pytest.fixture
def real_shell(server: ServerProcess) -> Iterator[InteractiveShell]:
    """A shell whose `wb` speaks to the server."""
    shell = InteractiveShell.instance(config=Config({"HistoryManager": {"enabled": False}}))
    shell.run_line_magic("load_ext", "workbench")
    how = {"token": server.token, "data_dir": server.data_dir}
    with workbench.connect(server.url, **how) as wb:
        shell.user_ns["wb"] = wb
        yield shell
    InteractiveShell.clear_instance()


def completed(shell: InteractiveShell, cell: str) -> list[str]:
    """Return what Tab offers at the end of a cell."""
    with provisionalcompleter():
        return sorted(one.text for one in shell.Completer.completions(cell, len(cell)))


@pytest.mark.parametrize(
    "cell",
    [
        "%%chat toy-",
        "%%compare toy-tiny toy-",
        "%%dialogue\nparticipants:\n  Ann: toy-",
        "%%dialogue\nparticipants:\n  - name: Ann\n    model: toy-",
        "%%compare\nmodels:\n  - toy-",
    ],
)
def test_models_are_offered_where_one_is_named(real_shell: InteractiveShell, cell: str) -> None:
    """Tab offers the installed models on the line and in the head."""
    assert ["toy-nano", "toy-tiny"] == completed(real_shell, cell)


def test_a_wrong_model_has_the_nearest_name(real_shell: InteractiveShell) -> None:
    """A model that is not installed is told with its line and what there is, before it begins."""
    cell = "participants:\n  Ann: toy-tiny\n  Bob: toy-nanno\n---\nGo.\n"
    with pytest.raises(UsageError) as caught:
        real_shell.run_cell_magic("dialogue", "--as talk", cell)
    assert "line 4 of the cell: model 'toy-nanno' not found. Did you mean 'toy-nano" in str(
        caught.value
    )
    cell = "models:\n- toy-tiny\n- {model: toy-nanno}\n---\nGo.\n"
    with pytest.raises(UsageError, match="line 4 of the cell: model 'toy-nanno' not found"):
        real_shell.run_cell_magic("compare", "", cell)


def test_without_a_workbench_the_running_server_is_asked(
    runtime_dir: str,
    real_shell: InteractiveShell,
    server: ServerProcess,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before anything is connected, models are those of the configured server."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", runtime_dir)
    monkeypatch.setenv("WORKBENCH_DATA_DIR", str(server.data_dir))
    del real_shell.user_ns["wb"]
    assert ["toy-nano", "toy-tiny"] == completed(real_shell, "%%chat toy-")
    real_shell.run_cell_magic("chat", "toy-tiny --temperature 0 --as answer", "What is 7 plus 8?")
    assert "15" == real_shell.user_ns["answer"].text
