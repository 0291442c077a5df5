from __future__ import annotations

import shutil
import subprocess

import pytest

from tests.cli.conftest import Home
from tests.cli.harness import Cli


def complete(cli: Cli, *words: str) -> list[str]:
    """Return what bash would be offered for the last of `words`."""
    env = {
        "_WORKBENCH_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(("workbench", *words)),
        "COMP_CWORD": str(len(words)),
    }
    done = cli.run(env=env)
    assert "" == done.stderr
    return [line.partition(",")[2] for line in done.stdout.split()]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_script_is_accepted_by_its_shell(fresh: Cli, shell: str) -> None:
    """The script of each shell is printed, and the shell finds no error in it."""
    script = fresh.ok("completion", shell)
    assert f"_WORKBENCH_COMPLETE={shell}_complete" in script
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed")
    done = subprocess.run(
        [program, "-n"], input=script, capture_output=True, text=True, check=False
    )
    assert (0, "") == (done.returncode, done.stderr)


def test_commands_and_options_complete(fresh: Cli) -> None:
    """Commands complete by their beginning, and so do options."""
    assert ["models"] == complete(fresh, "mo")
    assert ["--option"] == complete(fresh, "chat", "--opt")


def test_models_complete_from_the_running_server(home: Home) -> None:
    """Model names come from the server that runs."""
    home.cli.ok("models")
    assert ["parrot"] == complete(home.cli, "chat", "pa")
    assert {"noise", "owl:7b", "parrot"} <= set(complete(home.cli, "chat", ""))


def test_completion_starts_no_server(fresh: Cli) -> None:
    """Where no server runs, no model is offered, nothing is printed, and none is started."""
    assert [] == complete(fresh, "chat", "to")
    assert 1 == fresh.run("status").returncode
