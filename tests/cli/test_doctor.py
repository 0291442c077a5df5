from __future__ import annotations

import json

from tests.cli.conftest import Home
from tests.cli.harness import Cli
from workbench.config import SETTINGS


def test_doctor_of_a_good_installation(fresh: Cli) -> None:
    """Nothing is wrong after an installation, and every setting is shown with its source."""
    report = fresh.json("doctor")
    assert [] == report["problems"]
    modes = ["swap.embedded", "swap.ollama"]
    named = [row["name"] for row in report["config"]]
    assert [*(setting.key for setting in SETTINGS), *modes] == named
    sources = {row["name"]: row["source"] for row in report["config"]}
    assert "environment WORKBENCH_DATA_DIR" == sources["data_dir"]
    assert "default" == sources["server.host"]
    assert {"toy-nano:latest", "toy-tiny:latest"} <= {row["name"] for row in report["models"]}
    assert all(row["version"] for row in report["packages"])


def test_doctor_starts_nothing(fresh: Cli) -> None:
    """After `doctor` no server runs."""
    assert "Nothing is wrong." in fresh.ok("doctor")
    assert 1 == fresh.run("status").returncode


def test_doctor_finds_server_and_ollama(home: Home) -> None:
    """The running server and a reachable Ollama are shown with their versions."""
    home.cli.ok("models")
    report = home.cli.json("doctor")
    assert report["server"]["running"] is True
    (ollama,) = report["backends"]
    assert (True, home.ollama.url) == (ollama["reachable"], ollama["url"])
    assert ollama["version"]


def test_doctor_shows_a_broken_toml(fresh: Cli) -> None:
    """A broken toml file is a problem that stops the work, and the rest is still shown."""
    (fresh.data_dir / "workbench.toml").write_text("[server\n", encoding="utf-8")
    done = fresh.run("doctor", "--json")
    report = json.loads(done.stdout)
    (problem,) = report["problems"]
    assert (1, "configuration", True) == (done.returncode, problem["name"], problem["stops_work"])
    assert "workbench.toml:1" in problem["message"]
    assert report["packages"]
    assert "configuration (stops the work)" in fresh.run("doctor").stdout


def test_doctor_shows_no_secret(fresh: Cli) -> None:
    """Neither a token nor a password in an address is printed."""
    cli = fresh.with_env(WORKBENCH_TOKEN="s3cret", OLLAMA_HOST="http://me:s3cret@127.0.0.1:9")
    for arguments in (["doctor"], ["doctor", "--json"]):
        done = cli.run(*arguments)
        assert "s3cret" not in done.stdout + done.stderr
        assert "127.0.0.1:9" in done.stdout


def test_password_in_the_configuration_is_refused(fresh: Cli) -> None:
    """A backend's address with a password is a problem that says where the token belongs."""
    toml = '[[backend]]\nname = "den"\nkind = "ollama"\nurl = "http://me:s3cret@127.0.0.1:9"\n'
    (fresh.data_dir / "workbench.toml").write_text(toml, encoding="utf-8")
    done = fresh.run("doctor")
    assert 1 == done.returncode
    assert "token_env" in done.stdout
    assert "s3cret" not in done.stdout + done.stderr


def test_configured_backend_that_is_down_is_a_warning(fresh: Cli) -> None:
    """An Ollama host that was configured and does not answer is told, and stops nothing."""
    toml = '[[backend]]\nname = "den"\nkind = "ollama"\nurl = "http://127.0.0.1:9"\n'
    (fresh.data_dir / "workbench.toml").write_text(toml, encoding="utf-8")
    (problem,) = fresh.json("doctor")["problems"]
    assert ("backend", False) == (problem["name"], problem["stops_work"])
    assert "den" in problem["message"]


def test_address_that_is_none_is_told(fresh: Cli) -> None:
    """An OLLAMA_HOST that no client can read does not end doctor."""
    (ollama,) = fresh.with_env(OLLAMA_HOST="http://[::1").json("doctor")["backends"]
    assert ollama["error"]


def test_missing_engine_is_a_problem(fresh: Cli) -> None:
    """An engine that is configured and not there stops the work."""
    cli = fresh.with_env(WORKBENCH_ENGINE="llama-server", WORKBENCH_LLAMA_SERVER="no-such-program")
    done = cli.run("doctor")
    assert 1 == done.returncode
    assert "no program 'no-such-program'" in done.stdout


def test_address_without_a_server_is_a_problem(fresh: Cli) -> None:
    """A WORKBENCH_URL where nothing listens stops the work."""
    done = fresh.with_env(WORKBENCH_URL="http://127.0.0.1:9").run("doctor")
    assert 1 == done.returncode
    assert "Cannot reach http://127.0.0.1:9" in done.stdout
