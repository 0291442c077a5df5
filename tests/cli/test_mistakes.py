"""What a wrong command, variable or file is told: one line, the next step, the exit code."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tests.cli.conftest import Home
from tests.cli.harness import Cli
from tests.cli.test_serve import serving
from workbench.runtime import find_server


def told(cli: Cli, *arguments: str, **env: str) -> str:
    """Return the one line that a refused command prints."""
    done = cli.run(*arguments, env=env)
    assert (1, 1) == (done.returncode, done.stderr.count("\n")), done.stderr
    assert done.stderr.startswith("error: ")
    return done.stderr


@pytest.mark.parametrize("below", ["", "/deeper/still"])
@pytest.mark.parametrize("command", ["models", "serve", "status", "stop", "logs"])
def test_data_folder_that_is_a_file(fresh: Cli, command: str, below: str) -> None:
    """A file in place of the data folder, or above it, is named with the ways to choose another."""
    path = fresh.base / "a-file"
    path.write_text("")
    line = told(fresh, command, WORKBENCH_DATA_DIR=f"{path}{below}")
    assert f"{path} is a file. Choose a folder: --data-dir or WORKBENCH_DATA_DIR." in line


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder nobody can write")
@pytest.mark.parametrize("folder", ["/proc/nope"])
def test_data_folder_that_cannot_be_made(fresh: Cli, folder: str) -> None:
    """Where no folder can be made, another one is asked for."""
    assert "--data-dir or WORKBENCH_DATA_DIR" in told(fresh, "serve", WORKBENCH_DATA_DIR=folder)
    assert "WORKBENCH_DATA_DIR" in told(fresh, "models", WORKBENCH_DATA_DIR=folder)


def test_named_configuration_that_is_not_there(fresh: Cli) -> None:
    """WORKBENCH_CONFIG names a file that must be there; a folder is none."""
    line = told(fresh, "status", WORKBENCH_CONFIG=str(fresh.base / "no.toml"))
    assert "no.toml: there is no such file. Correct WORKBENCH_CONFIG, or clear it." in line
    line = told(fresh, "status", WORKBENCH_CONFIG=str(fresh.base))
    assert "Is a directory. Make it a file that you may read" in line
    assert "Errno" not in line


def test_option_is_named_as_one(fresh: Cli) -> None:
    """A value of the command line that is none is told with where it stood."""
    line = told(fresh, "serve", "--idle-exit", "soon")
    assert line.startswith("error: command line: server.idle_exit_s must be")


def test_models_folder_that_is_a_file(fresh: Cli) -> None:
    """A server that is started for a command tells its own reason, and nothing of older logs."""
    path = fresh.base / "a-file"
    path.write_text("")
    (fresh.data_dir / "logs").mkdir(parents=True)
    (fresh.data_dir / "logs" / "server.log").write_text("error: of yesterday\n")
    expected = f"the models folder {path} is a file. Set engine.models_dir (WORKBENCH_MODELS_DIR)"
    assert expected in told(fresh, "serve", WORKBENCH_MODELS_DIR=str(path))
    line = told(fresh, "models", WORKBENCH_MODELS_DIR=str(path))
    assert f"No workbench server: {expected}" in line
    assert "yesterday" not in line


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("http://127.0.0.1:9", "Start a server there (workbench serve), or correct WORKBENCH_URL"),
        ("http://nobody.invalid:1", "or correct WORKBENCH_URL"),
        ("127.0.0.1:9", "url must be http://name:port"),
        ("http://127.0.0.1:0", "url must be http://name:port"),
        ("http://me:secret@h:1", "a token goes into WORKBENCH_TOKEN"),
    ],
)
def test_address_without_a_server_says_what_to_do(fresh: Cli, url: str, hint: str) -> None:
    """An address that cannot be asked is told with the variable that holds it."""
    line = told(fresh, "models", WORKBENCH_URL=url)
    assert hint in line
    assert "secret" not in line


def test_token_that_is_missing_or_wrong(fresh: Cli) -> None:
    """Both name WORKBENCH_TOKEN and where the right one comes from; http:// is told from https://."""
    with serving(fresh, "--port", "0"):
        found = find_server(fresh.data_dir)
        assert found is not None
        env = {"WORKBENCH_URL": found.url, "WORKBENCH_DATA_DIR": str(fresh.base / "other")}
        assert "Set WORKBENCH_TOKEN to the server's token" in told(fresh, "models", **env)
        for command in (("models",), ("chat", "toy-tiny", "Hi"), ("status",), ("stop",)):
            line = told(fresh, *command, WORKBENCH_TOKEN="wrong", **env)
            assert "the token is wrong. Set WORKBENCH_TOKEN" in line
            assert "workbench serve --token" in line
        env["WORKBENCH_URL"] = found.url.replace("http://", "https://")
        assert "Write http://" in told(fresh, "models", **env)


@contextmanager
def another_program() -> Iterator[str]:
    """Yield the address of a web server that is none of ours."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_address_of_another_program(fresh: Cli) -> None:
    """A page in place of an answer is not printed; the address is what is wrong."""
    with another_program() as url:
        line = told(fresh, "models", WORKBENCH_URL=url)
    assert f"{url}/ answered 404 and nothing that a workbench server says." in line
    assert "Correct WORKBENCH_URL: another program answers there." in line


def test_listening_where_one_cannot(fresh: Cli) -> None:
    """An address of another machine asks for another host, not for another port."""
    (fresh.data_dir).mkdir(exist_ok=True)
    (fresh.data_dir / "workbench.toml").write_text(
        '[server]\nallow_remote = true\nallowed_hosts = ["x"]\n'
    )
    for host in ("192.0.2.1", "nobody.invalid"):
        line = told(fresh, "serve", "--host", host)
        assert "Choose a --host that is an address of this machine." in line
    with socket.create_server(("127.0.0.1", 0)) as taken:
        line = told(fresh, "serve", "--port", str(taken.getsockname()[1]))
    assert "Choose another --port; 0 takes a free one." in line


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (
            ("chat", "zebra", "Hi"),
            "model 'zebra' not found. See which there are: workbench models.",
        ),
        (("load", "zebra"), "See which there are: workbench models."),
        (("chat", "/tmp/zebra.gguf", "Hi"), "Name a GGUF file that is there"),
        (("chat", "owl:7b@nowhere", "Hi"), "unknown backend 'nowhere'. Known: embedded, ollama."),
        (("settings", "zebra", "1"), "there is no setting 'zebra'. See them all"),
        (("settings", "engine.max_loaded", "0"), "a whole number from 1 to 1000, not 0"),
        (("chat", "owl:7b", "Hi", "--option", "temprature=1"), "Did you mean 'temperature'?"),
        (("chat", "owl:7b", "Hi", "--option", "temperature=hot"), "must be a number"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_names_and_values_of_the_server(home: Home, arguments: tuple[str, ...], hint: str) -> None:
    """What the server does not know is told with where to look, or with what it takes."""
    assert hint in told(home.cli, *arguments)


def test_file_that_is_no_model(home: Home, tmp_path: Path) -> None:
    """A file that is no GGUF is told as such, with the next step."""
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(b"garbage")
    line = told(home.cli, "chat", os.fspath(bad), "Hi")
    assert "is not a usable GGUF file" in line
    assert "Download the file again, or name another." in line
