"""The commands about models and memory, on a server that speaks the contract."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cli.harness import Cli, Terminal
from tests.client import contract
from tests.client.contract import GIB, ContractServer, Held, Lines, Refusal
from workbench.cli import main
from workbench.cli.loading import LoadPhases
from workbench.client.memory_values import ServerEvent


@dataclass
class Ran:
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The JSON it printed."""
        return json.loads(self.out)


Run = Callable[..., Ran]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ContractServer]:
    with ContractServer(contract.ANSWERS) as running:
        monkeypatch.setenv("WORKBENCH_URL", running.url)
        monkeypatch.setenv("WORKBENCH_TOKEN", "t")
        yield running


@pytest.fixture
def run(server: ContractServer, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process, against the server."""

    def call(*arguments: str) -> Ran:
        with pytest.raises(SystemExit) as end:
            main(arguments)
        printed = capsys.readouterr()
        assert isinstance(end.value.code, int)
        return Ran(end.value.code, printed.out, printed.err)

    return call


def outcome(verdict: str) -> dict[str, Any]:
    """Return the answer of an unload."""
    return {**contract.UNLOADED, "verdict": verdict}


@pytest.mark.parametrize(
    ("verdict", "flags", "code"),
    [
        ("verified", [], 0),
        ("gone_unverified", [], 0),
        ("still_loaded", [], 1),
        ("resurrected", ["--if-loaded"], 1),
        ("absent", [], 1),
        ("absent", ["--if-loaded"], 0),
    ],
)
def test_the_code_of_unload_is_its_verdict(
    run: Run, server: ContractServer, verdict: str, flags: list[str], code: int
) -> None:
    """A script sees by the exit code whether the memory is free, also with --json."""
    server.answers["POST unload"] = outcome(verdict)
    ran = run("unload", "owl", *flags)
    assert (code, verdict in ran.out) == (ran.code, True)
    assert (code == 1) == bool(ran.err)
    assert code == run("unload", "owl", *flags, "--json").code


def test_unload_as_json(run: Run, server: ContractServer) -> None:
    """The document has model, verdict, seconds and the bytes before and after."""
    document = run("unload", "owl", "--force", "--json").document
    assert {"model": "owl", "force": True} == server.body("POST unload")
    assert ("owl:7b", "verified", 0.4, 4 * GIB, GIB) == tuple(
        document[name] for name in ("model", "verdict", "seconds", "bytes_before", "bytes_after")
    )


def test_load_prints_how_the_model_lies(run: Run, server: ContractServer) -> None:
    """The loaded model is the result; options and consent are sent."""
    ran = run("load", "owl", "-o", "num_ctx=512", "--keep-alive", "-1", "--swap", "--force")
    assert (0, "") == (ran.code, ran.err)
    assert "75 %" in ran.out
    assert {
        "model": "owl",
        "options": {"num_ctx": 512},
        "keep_alive": -1.0,
        "swap": True,
        "force": True,
    } == server.body("POST load")
    assert "owl:7b" == run("load", "owl", "--keep-alive", "5m", "--json").document["name"]
    assert "5m" == server.body("POST load")["keep_alive"]


def test_a_refused_swap_names_what_leaves(run: Run, server: ContractServer) -> None:
    """One line says which model would leave, and how to consent."""
    evict = [{"model": "bat:1b", "backend": "o", "bytes": None, "reload_s": None, "reason": ""}]
    plan = {"model": "owl:7b", "backend": "o", "evict": evict}
    body = {"error": "no", "type": "SwapRequired", "plan": plan}
    server.answers["POST load"] = Refusal(409, body)
    ran = run("load", "owl")
    assert (1, "", 1) == (ran.code, ran.out, ran.err.count("\n"))
    assert "fits only when bat:1b leaves memory" in ran.err
    assert "workbench load --swap" in ran.err


def on_terminal(server: ContractServer, base: Path, *arguments: str) -> Terminal:
    """Return a command that runs in a terminal."""
    env = {"WORKBENCH_URL": server.url, "WORKBENCH_TOKEN": "t"}
    return Terminal(Cli(base, env), *arguments)


def test_a_terminal_shows_the_phases_of_a_load(
    server: ContractServer, private_folders: Path
) -> None:
    """While a load runs its phases are seen, with the time it took before."""
    lines = [
        {"ts": 1.0, "event": "queued", "model": "owl:7b"},
        {"ts": 2.0, "event": "unloading", "model": "bat:1b", "waits_for": 0},
        {"ts": 3.0, "event": "loading", "model": "owl:7b", "estimated_s": 12.4},
    ]
    server.answers["GET events"] = Lines(lines, hold=True)
    server.answers["POST load"] = Held(contract.LOADED)
    terminal = on_terminal(server, private_folders, "load", "owl:7b@ollama")
    seen = terminal.until("s of about 12 s")
    assert "queued" in seen
    assert "unloading bat:1b" in seen
    server.wait_for("POST load").release()
    assert "owl:7b" in terminal.until("foreign" if "foreign" in seen else "ours")
    assert 0 == terminal.close()


def test_an_interrupted_load_says_that_it_goes_on(
    server: ContractServer, private_folders: Path
) -> None:
    """Ctrl-C ends the command with 130 and says how to see the load and how to undo it."""
    server.answers["POST load"] = Held(contract.LOADED)
    server.answers["GET events"] = Lines(contract.EVENTS[:1], hold=True)
    terminal = on_terminal(server, private_folders, "load", "owl:7b")
    terminal.until("s of about")
    os.kill(terminal.process.pid, signal.SIGINT)
    terminal.until("`workbench unload owl:7b` takes it out again")
    assert 130 == terminal.close()


def shown(*events: tuple[str, dict[str, Any]], model: str = "owl:7b") -> str:
    """Return what the phases of a load write for some events."""
    written: list[str] = []
    phases = LoadPhases(model, written.append, clock=lambda: 0.0)
    for name, fields in events:
        phases.feed(ServerEvent(0.0, name, fields))
    return "".join(written)


def test_phases_of_other_loads_are_left_out() -> None:
    """Another model's load is not taken for this one; what leaves for this one is told."""
    assert "" == shown(("loading", {"model": "bat:1b"}), ("queued", {"model": "bat:1b"}))
    waits = ("unloading", {"model": "bat:1b", "waits_for": 2})
    assert "unloading bat:1b, waiting for 2 requests" in shown(waits)
    assert "" == shown(("unloading", {"model": "owl:7b"}))


def test_trouble_of_a_load_stands_on_its_own_line() -> None:
    """A stuck load and a load that is not as asked say so beside the running line."""
    text = shown(
        ("loading", {"model": "owl", "estimated_s": 0.2}),
        ("load_stuck", {"model": "owl", "diagnosis": "nothing moves", "action": "unloading bat"}),
        ("load_warning", {"model": "owl:latest", "text": "half of it is not on the GPU"}),
        model="owl",
    )
    assert "loading 0 s of about 1 s" in text
    assert "nothing moves: unloading bat\n" in text
    assert "half of it is not on the GPU\n" in text


@pytest.mark.parametrize(
    ("arguments", "key", "body"),
    [
        (["pin", "owl"], "POST pin", {}),
        (["pin", "owl", "--force"], "POST pin", {"force": True}),
        (["unpin", "owl"], "POST unpin", {}),
        (
            ["prefer", "owl", "--priority", "9", "--hot", "--keep-alive", "10m"],
            "PATCH models",
            {"priority": 9, "hot": True, "keep_alive": "10m"},
        ),
        (
            ["prefer", "owl", "--priority", "default", "--not-hot", "--max-idle", "60"],
            "PATCH models",
            {"priority": None, "hot": False, "max_idle": 60.0},
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_how_a_model_is_treated(
    run: Run, server: ContractServer, arguments: list[str], key: str, body: dict[str, Any]
) -> None:
    """Pins and preferences are sent, and the model's row is the result."""
    ran = run(*arguments)
    assert (0, True) == (ran.code, "7, pinned, leased" in ran.out)
    assert {"model": "owl", **body} == server.body(key)
    assert run(*arguments, "--json").document["pinned"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["prefer", "owl"], "Nothing to set"),
        (["prefer", "owl", "--priority", "12"], "from 0 to 9"),
        (["fit", "owl", "--num-ctx", "0"], "--num-ctx"),
        (["settings", "--reset"], "--reset"),
        (["rm", "owl"], "give --yes"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_misuse_asks_no_server(
    run: Run, server: ContractServer, arguments: list[str], said: str
) -> None:
    """A command line that cannot be meant is refused before the server is asked."""
    ran = run(*arguments)
    assert (2, "", True) == (ran.code, ran.out, said in ran.err)
    assert [] == server.requests


@pytest.mark.parametrize(
    ("arguments", "text", "document"),
    [
        (["fit", "owl", "--num-ctx", "8192"], "alone      yes", {"verdict": "alongside"}),
        (["gpu"], "warning: Card has 1.0 GiB left.", {"driver_version": "1.2"}),
        (["queue"], "next: owl:7b (2), then bat:1b (3, swap)", {"predicted_swaps": 1}),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_questions_have_a_text_and_a_document(
    run: Run, arguments: list[str], text: str, document: dict[str, Any]
) -> None:
    """The same facts come as text and as one JSON document."""
    assert text in run(*arguments).out
    assert document.items() <= run(*arguments, "--json").document.items()


def test_ps_tells_warnings(run: Run) -> None:
    """A model that is not as it was asked for says so on stderr."""
    ran = run("ps")
    assert "75 %" in ran.out
    assert "owl:7b: 1.0 GiB of it lie in the host's memory\n" == ran.err


def test_pull_tells_its_steps(run: Run, server: ContractServer) -> None:
    """Steps go to stderr; the document says how much was fetched."""
    ran = run("pull", "owl")
    assert (0, "") == (ran.code, ran.out)
    assert "pulling (4.0 GiB)\nsuccess\n" in ran.err
    assert {"model": "owl", "status": "success", "total_bytes": 4 * GIB} == run(
        "pull", "owl", "--json"
    ).document


def test_a_failed_pull_is_one_line(run: Run, server: ContractServer) -> None:
    """The server's reason and hint are told, and the code is 1."""
    line = {"error": "the disk has 1 GiB left of 5 GiB", "type": "X", "hint": "Make room."}
    server.answers["POST pull"] = Lines([line])
    ran = run("pull", "owl")
    assert (1, "error: the disk has 1 GiB left of 5 GiB. Make room.\n") == (ran.code, ran.err)


def test_an_interrupted_pull_is_cancelled(server: ContractServer, private_folders: Path) -> None:
    """Ctrl-C cancels the download, says how to go on, and the code is 130."""
    server.answers["POST pull"] = Lines(contract.PULL[:2], hold=True)
    terminal = on_terminal(server, private_folders, "pull", "owl")
    assert "[######.................." in terminal.until("12.0 s left")
    os.kill(terminal.process.pid, signal.SIGINT)
    terminal.until("`workbench pull owl` goes on where it stopped")
    assert 130 == terminal.close()
    assert server.heard("POST pull")[0].disconnected.wait(30)


def test_rm_asks_a_person(server: ContractServer, private_folders: Path) -> None:
    """In a terminal a deletion is confirmed; a no deletes nothing."""
    terminal = on_terminal(server, private_folders, "rm", "owl")
    terminal.until("Delete owl? [y/N]")
    terminal.type("n")
    terminal.until("\n")
    terminal.close()
    assert [] == server.heard("DELETE models")


def test_rm_says_what_it_did(run: Run, server: ContractServer) -> None:
    """The result names the verdict of the unload and the space that was freed."""
    ran = run("rm", "owl", "--yes")
    assert (0, True, True) == (ran.code, "verified" in ran.out, "5.0 GiB" in ran.out)
    assert 5 * GIB == run("rm", "owl", "-y", "--json").document["freed_bytes"]


def test_add_names_a_file(run: Run, server: ContractServer, tmp_path: Path) -> None:
    """The path of the file is sent whole."""
    run("add", str(tmp_path / "a.gguf"), "--name", "mine")
    assert {"path": str(tmp_path / "a.gguf"), "name": "mine"} == server.body("POST models/add")
    assert "owl:7b" == run("add", "a.gguf", "--json").document["name"]


def test_settings_are_listed(run: Run) -> None:
    """All settings are a table, or an array of named objects; one has its help."""
    assert "queue.batch_wait_s" in run("settings").out
    assert "swap.ollama" in [row["name"] for row in run("settings", "--json").document]
    assert run("settings", "swap.ollama").out.endswith("Who decides.\n")
    assert "auto" == run("settings", "swap.ollama", "--json").document["value"]


@pytest.mark.parametrize(
    ("arguments", "sent"),
    [
        (["swap.ollama", "manual"], {"swap.ollama": "manual"}),
        (["queue.batch_wait_s", "90"], {"queue.batch_wait_s": 90.0}),
        (["server.open_ollama_api", "true"], {"server.open_ollama_api": True}),
        (["swap.ollama", "--reset"], {"swap.ollama": None}),
    ],
    ids=" ".join,
)
def test_a_setting_is_changed(
    run: Run, server: ContractServer, arguments: list[str], sent: dict[str, Any]
) -> None:
    """A value has the type of its setting; --reset takes a change back."""
    assert 0 == run("settings", *arguments).code
    assert sent == server.body("PATCH settings")


def test_a_setting_that_is_refused(run: Run, server: ContractServer) -> None:
    """An unknown name gives the nearest, a wrong value the server's reason; the code is 1."""
    assert "Did you mean 'swap.ollama'?" in run("settings", "swap.olama", "auto").err
    body = {"error": "must be one of auto", "type": "ConfigError", "key": "swap.ollama"}
    server.answers["PATCH settings"] = Refusal(400, body)
    ran = run("settings", "swap.ollama", "maybe")
    assert (1, "error: must be one of auto.\n") == (ran.code, ran.err)


def test_events_are_lines(run: Run, server: ContractServer) -> None:
    """Without --follow the recent events are printed, and the command ends by itself."""
    server.answers["GET events"] = Lines(contract.EVENTS, hold=True)
    ran = run("events")
    assert (0, 2) == (ran.code, ran.out.count("\n"))
    assert "loaded model=owl:7b seconds=3.0s" in ran.out
    lines = run("events", "--json").out.splitlines()
    assert contract.EVENTS == [json.loads(line) for line in lines]


def test_events_are_followed(run: Run, server: ContractServer) -> None:
    """With --follow they are printed until the server ends."""
    assert 2 == run("events", "--follow").out.count("\n")
    assert "recent=1" == server.heard("GET events")[0].query


def test_names_of_others_cannot_steer_the_terminal(run: Run, server: ContractServer) -> None:
    """Control characters in what the server says are left out."""
    server.answers["POST unload"] = {**contract.UNLOADED, "model": "\x1b[2Jowl"}
    server.answers["GET events"] = Lines([{"ts": 1, "event": "x", "model": "\x1b[2Jowl"}])
    server.answers["POST pull"] = Lines([{"status": "\x1b[2Jpulling"}, {"status": "success"}])
    said = run("unload", "owl").out + run("events", "-f").out + run("pull", "owl").err
    assert "\x1b" not in said


def test_settings_complete_from_the_running_server(server: ContractServer, fresh: Cli) -> None:
    """Names of settings and of models are offered for what is typed."""
    env = {
        "WORKBENCH_URL": server.url,
        "WORKBENCH_TOKEN": "t",
        "_WORKBENCH_COMPLETE": "bash_complete",
    }
    words = {"COMP_WORDS": "workbench settings queue", "COMP_CWORD": "2"}
    assert "plain,queue.batch_wait_s\n" == fresh.run(env={**env, **words}).stdout
    words = {"COMP_WORDS": "workbench unload ow", "COMP_CWORD": "2"}
    assert "plain,owl:7b\n" == fresh.run(env={**env, **words}).stdout
