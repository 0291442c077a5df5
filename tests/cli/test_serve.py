from __future__ import annotations

import os
import signal
import socket
import subprocess
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from tests.cli.harness import Cli
from workbench.config import load_config, token_hash
from workbench.runtime import find_server
from workbench.server.serve import listen


def lives(pid: int) -> bool:
    """Whether a process runs; one that has ended and that nobody has asked about does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@contextmanager
def serving(cli: Cli, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run `workbench serve` until the block ends, and yield it when it listens."""
    process = cli.start("serve", *arguments, stdout=subprocess.DEVNULL)
    try:
        assert process.stderr is not None
        while "serves" not in (line := process.stderr.readline()):
            assert line, f"serve ended with {process.wait()}"
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=60)


def test_token_is_printed_with_the_lines_of_the_file(fresh: Cli) -> None:
    """`token` prints a new token and the entry that lets it in, and writes nothing."""
    first, second = (fresh.json("token", "ann") for _ in range(2))
    assert first["token"] != second["token"]
    assert token_hash(first["token"]) == first["sha256"]
    entry = tomllib.loads(fresh.ok("token", "bob").partition("\n")[2])
    assert ["bob"] == [token["name"] for token in entry["token"]]
    assert "letters, digits" in fresh.run("token", "two words").stderr


def test_serve_runs_until_interrupted(fresh: Cli) -> None:
    """`serve` announces itself, is found by `status`, and ends in order at Ctrl-C."""
    with serving(fresh) as process:
        document = fresh.json("status")
        assert (True, process.pid, False) == (
            document["running"],
            document["pid"],
            document["auto_started"],
        )
        process.send_signal(signal.SIGINT)
        assert 0 == process.wait(60)
    assert find_server(fresh.data_dir) is None


def test_backend_token_that_no_header_carries_is_refused(fresh: Cli) -> None:
    """A secret with a line break is one line on stderr that names the variable, not the secret."""
    fresh.data_dir.mkdir(exist_ok=True)
    (fresh.data_dir / "workbench.toml").write_text(
        '[[backend]]\nname = "a"\nkind = "openai"\nurl = "http://127.0.0.1:1"\n'
        'token_env = "A_KEY"\n'
    )
    done = fresh.run("serve", "--port", "0", env={"A_KEY": "s3\ncret ключ"})
    assert (1, 1) == (done.returncode, done.stderr.count("\n"))
    assert done.stderr.startswith("error: environment A_KEY")
    assert "cret" not in done.stderr


def test_two_that_start_at_once_have_a_port_each() -> None:
    """Both may bind the default port; only one can listen on it, and the other takes a free one."""
    config = load_config()
    with listen(config) as first, listen(config) as second:
        assert first.getsockname()[1] != second.getsockname()[1]


def test_taken_port_is_refused(fresh: Cli) -> None:
    """A port that was asked for and is taken is one line on stderr, and exit code 1."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = fresh.run("serve", "--port", port)
    assert 1 == done.returncode
    assert done.stderr.startswith(f"error: cannot listen on 127.0.0.1:{port}")
    assert "--port" in done.stderr


def test_second_server_is_refused(fresh: Cli) -> None:
    """A data folder has one server; the second says where the first is."""
    with serving(fresh):
        url = fresh.json("status")["url"]
        done = fresh.run("serve", "--port", "0")
    assert 1 == done.returncode
    assert url in done.stderr


def test_address_that_others_reach_is_refused(fresh: Cli) -> None:
    """Listening to other machines needs to be asked for."""
    done = fresh.run("serve", "--host", "0.0.0.0", "--port", "0")
    assert 1 == done.returncode
    assert "allow_remote" in done.stderr


def test_flags_are_used(fresh: Cli) -> None:
    """`--data-dir`, `--port` and `--token` are those of the server."""
    folder = fresh.base / "elsewhere"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with serving(fresh, "--data-dir", str(folder), "--port", str(port), "--token", "s3cret"):
        record = find_server(folder)
    assert record is not None
    assert (f"http://127.0.0.1:{port}", "s3cret") == (record.url, record.token)


def test_status_of_no_server(fresh: Cli) -> None:
    """Without a server `status` says so with exit code 1, and starts none."""
    done = fresh.run("status")
    document = fresh.run("status", "--json")
    assert (1, 1) == (done.returncode, document.returncode)
    assert "No workbench server" in done.stderr
    assert '"running": false' in document.stdout
    assert find_server(fresh.data_dir) is None


def test_stop_ends_a_server_that_was_started_by_itself(fresh: Cli) -> None:
    """A command starts a server, it outlives the command, `logs` shows it, and `stop` ends it."""
    fresh.ok("models")
    document = fresh.json("status")
    assert document["auto_started"] is True
    assert f"process    {document['pid']}\n" in fresh.ok("status")
    assert document["url"] in fresh.ok("logs")
    assert document["url"] in fresh.run("stop").stderr
    assert not lives(document["pid"])
    assert 1 == fresh.run("status").returncode
    # The log stays, and a second stop has nothing to do.
    assert "server ended" in fresh.ok("logs", "-n", "3")
    assert (0, True) == ((done := fresh.run("stop")).returncode, "not running" in done.stderr)


def test_stop_ends_a_server_that_does_not_answer(fresh: Cli) -> None:
    """A server that hangs is told by signal, and killed only with `--force`."""
    fresh.ok("models")
    pid = fresh.json("status")["pid"]
    os.kill(pid, signal.SIGSTOP)
    assert 0 == fresh.run("stop", "--force").returncode
    assert not lives(pid)


def test_logs_without_a_log(fresh: Cli) -> None:
    """Where nothing was written yet, `logs` says so, and `--path` still tells the place."""
    done = fresh.run("logs")
    assert (1, "") == (done.returncode, done.stdout)
    assert fresh.ok("logs", "--path").strip() in done.stderr


def test_logs_follow(fresh: Cli) -> None:
    """`logs --follow` prints lines as they are added, without control characters."""
    path = fresh.data_dir / "logs" / "server.log"
    path.parent.mkdir()
    path.write_text("first\n", encoding="utf-8")
    process = fresh.start("logs", "--follow")
    assert process.stdout is not None
    assert "first\n" == process.stdout.readline()
    with path.open("a", encoding="utf-8") as file:
        file.write("se\x1b[31mcond\n")
    assert "second\n" == process.stdout.readline()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert 130 == process.returncode


def test_address_and_token_of_the_environment_win(fresh: Cli) -> None:
    """With WORKBENCH_URL and WORKBENCH_TOKEN another folder's server is used, and none started."""
    with serving(fresh, "--token", "s3cret"):
        url = fresh.json("status")["url"]
        other = fresh.with_env(
            WORKBENCH_URL=url,
            WORKBENCH_TOKEN="s3cret",
            WORKBENCH_DATA_DIR=str(fresh.base / "other"),
        )
        assert url == other.json("status")["url"]
        assert [] == other.json("ps")
        refused = other.with_env(WORKBENCH_TOKEN="wrong").run("models")
    assert 1 == refused.returncode
    assert "s3cret" not in refused.stderr
    assert find_server(fresh.base / "other") is None


def test_address_without_a_server(fresh: Cli) -> None:
    """With WORKBENCH_URL no server is started in place of one that is down."""
    done = fresh.with_env(WORKBENCH_URL="http://127.0.0.1:9").run("models")
    assert 1 == done.returncode
    assert "error: Cannot reach http://127.0.0.1:9" in done.stderr
    assert find_server(fresh.data_dir) is None


@pytest.mark.parametrize("command", ["models", "status", "serve", "chat"])
def test_broken_configuration_is_one_line(fresh: Cli, command: str) -> None:
    """A broken toml file is named with its line and key, whatever the command."""
    (fresh.data_dir / "workbench.toml").write_text("[server]\nprot = 1\n", encoding="utf-8")
    done = fresh.run(command, *(["parrot", "Hi"] if command == "chat" else []))
    assert (1, 1) == (done.returncode, done.stderr.count("\n"))
    assert "workbench.toml:2: unknown key 'server.prot'. Did you mean 'server.port'?" in done.stderr
