"""What a new user sees on a terminal of 80 columns."""

from __future__ import annotations

import fcntl
import re
import struct
import termios

import pytest

from tests.cli.harness import Cli, Terminal
from tests.cli.test_serve import serving

COLUMNS = 80


def lines_on_terminal(cli: Cli, *arguments: str) -> list[str]:
    """Run a command on a terminal of 80 columns, and return the lines it prints."""
    with Terminal(cli.with_env(COLUMNS=str(COLUMNS), LINES="24"), *arguments) as terminal:
        fcntl.ioctl(terminal.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
        text = terminal.rest()
        assert 0 == terminal.process.returncode
    return text.replace("\r\n", "\n").splitlines()


@pytest.mark.parametrize("command", ["models", "ps", "gpu", "queue"])
def test_table_that_is_too_wide_becomes_paragraphs(fresh: Cli, command: str) -> None:
    """Where a table would wrap, each row is a paragraph; elsewhere it stays a table."""
    fresh.ok("load", "toy-tiny")
    lines = lines_on_terminal(fresh, command)
    # Sentences may wrap, columns may not.
    assert COLUMNS >= max(len(line) for line in lines if ": " not in line), lines
    if command in ("models", "ps"):
        start = next(i for i, line in enumerate(lines) if line.startswith("toy-tiny:latest"))
        assert re.match(r"  backend embedded, (size|state) ", lines[start + 1])
        assert fresh.ok(command).startswith("NAME ")


def test_status_is_short_and_says_what_is_missing(fresh: Cli) -> None:
    """Every line fits; the Ollama that is only looked for is no error; times are for people."""
    with serving(fresh.with_env(OLLAMA_HOST="127.0.0.1:9"), "--port", "0"):
        text = fresh.ok("status")
        backend = fresh.json("status")["backends"][1]
    assert re.search(r"^started +\d{4}-\d\d-\d\d \d\d:\d\d UTC$", text, re.MULTILINE)
    assert "ollama, none at http://127.0.0.1:9 (embedded models need none)" in text
    assert ("found", False) == (backend["source"], backend["reachable"])
    assert "Cannot reach http://127.0.0.1:9" in backend["error"]


def test_server_started_by_itself_is_told(fresh: Cli) -> None:
    """A server that a command started says so."""
    fresh.ok("models")
    assert re.search(r"^started .* UTC, by itself$", fresh.ok("status"), re.MULTILINE)
