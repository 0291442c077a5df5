from __future__ import annotations

import subprocess
import sys

import pytest

from tests.cli.conftest import Home
from tests.cli.harness import Cli
from workbench._version import __version__
from workbench.cli import cli as root
from workbench.cli import main

LISTS = [("models",), ("ps",)]


def test_version(fresh: Cli) -> None:
    """`--version` prints the name and the version."""
    assert f"workbench {__version__}\n" == fresh.ok("--version")


def test_version_loads_nothing_heavy() -> None:
    """What `--version` and `--help` import holds no HTTP client, server or notebook library."""
    code = (
        "import sys, workbench.cli\n"
        "heavy = {'httpx', 'uvicorn', 'pandas', 'papermill', 'nbformat', 'jupyterlab', 'pynvml'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "[]\n" == done.stdout


def test_help_lists_every_command(fresh: Cli) -> None:
    """`--help` names every command."""
    text = fresh.ok("--help")
    assert [] == [name for name in root.commands if f"\n  {name} " not in text]


@pytest.mark.parametrize("name", root.commands)
def test_every_command_and_option_has_help(name: str) -> None:
    """Every command says what it does, and so does each of its visible options."""
    command = root.commands[name]
    options = [p for p in command.params if p.param_type_name == "option"]
    assert command.help
    assert [] == [o.name for o in options if not getattr(o, "hidden", False) and not o.help]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["modles"], "Did you mean 'models'?"),
        (["ps", "--jsn"], "--json"),
        (["chat", "parrot", "hi", "-o", "seed"], "NAME=VALUE"),
        (["chat", "parrot", "hi", "--think", "hard"], "--think must be one of"),
        (["serve", "--port", "70000"], "70000"),
        (["completion", "cmd"], "bash"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_misuse_is_refused(
    capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    """A command line that cannot be meant ends with code 2 and names what was wrong."""
    with pytest.raises(SystemExit) as end:
        main(arguments)
    printed = capsys.readouterr()
    assert (2, "") == (end.value.code, printed.out)
    assert said in printed.err


def test_misuse_starts_no_server(fresh: Cli) -> None:
    """Nothing was started by the refusal of an option."""
    assert 2 == fresh.run("chat", "parrot", "hi", "-o", "seed").returncode
    assert 1 == fresh.run("chat", "parrot", "hi", "-o", "tempature=0").returncode
    assert 1 == fresh.run("status").returncode


@pytest.mark.parametrize("command", LISTS, ids=" ".join)
def test_lists_are_arrays_of_named_objects(home: Home, command: tuple[str, ...]) -> None:
    """`--json` of a list is an array of objects that have a name."""
    home.cli.ok("chat", "parrot", "hi")
    document = home.cli.json(*command)
    assert "parrot:latest" in [row["name"] for row in document]


def test_models_of_every_backend_are_listed(home: Home) -> None:
    """`models` lists embedded models and those of an Ollama host."""
    found = {(row["name"], row["backend"]) for row in home.cli.json("models")}
    assert {("noise:latest", "embedded"), ("owl:7b", "ollama")} <= found


def test_tables_align(home: Home) -> None:
    """Every column of a table begins at the same place in every line."""
    lines = home.cli.ok("models").splitlines()
    start = lines[0].index("BACKEND")
    assert len(lines) > 2
    assert {True} == {line[start - 2 : start] == "  " and line[start] != " " for line in lines}


def test_toys_are_labelled(home: Home) -> None:
    """The bundled models are marked as toys in the table and in the document."""
    toys = {row["name"] for row in home.cli.json("models") if row["toy"]}
    assert {"toy-nano:latest", "toy-tiny:latest"} == toys
    assert "toy-tiny:latest (toy)" in home.cli.ok("models")


def test_a_backend_that_is_down_is_told_on_stderr(fresh: Cli) -> None:
    """The list of the others is complete and is one document, and stderr names the missing one."""
    toml = '[[backend]]\nname = "den"\nkind = "ollama"\nurl = "http://127.0.0.1:9"\n'
    (fresh.data_dir / "workbench.toml").write_text(toml, encoding="utf-8")
    done = fresh.run("models", "--json")
    assert 0 == done.returncode
    assert done.stdout.startswith("[")
    assert "den" in done.stderr
