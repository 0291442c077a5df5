"""The embedded backend through the server: keep_alive, eviction, context, crashes, and settings."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.server.harness import ServerProcess, lines_of
from tests.test_runtime import until
from workbench.config import SETTINGS
from workbench.testing.gguf import make_gguf

PROMPT = {"prompt": "a", "options": {"num_predict": 3, "seed": 1}}
Start = Callable[..., ServerProcess]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with three models."""
    folder = tmp_path_factory.mktemp("three")
    for number, name in enumerate(["one", "two", "three"]):
        make_gguf(
            folder / f"{name}.gguf", params=200_000 + number, context_length=8192, seed=number
        )
    return folder


@pytest.fixture
def start(tmp_path: Path, models: Path) -> Iterator[Start]:
    """Yield a function that starts a server with a toml file."""
    started: list[ServerProcess] = []

    def begin(toml: str = "", **options: Any) -> ServerProcess:
        folder = tmp_path / f"data{len(started)}"
        folder.mkdir()
        (folder / "workbench.toml").write_text(toml, encoding="utf-8")
        env = {"WORKBENCH_MODELS_DIR": str(models), **options.pop("env", {})}
        started.append(ServerProcess(folder, env=env, **options).start())
        return started[-1]

    yield begin
    for server in started:
        server.stop()


def say(server: ServerProcess, model: str, **changes: Any) -> httpx.Response:
    """Generate a few tokens."""
    return server.http.post("/api/generate", json={**PROMPT, "model": model, **changes})


def loaded(server: ServerProcess) -> dict[str, dict[str, Any]]:
    """Return what is in memory, by name."""
    rows = server.http.get("/workbench/v1/models/loaded").json()["models"]
    return {row["name"].removesuffix(":latest"): row for row in rows}


def below(server: ServerProcess) -> list[psutil.Process]:
    """Return the engine processes of a server."""
    return list(psutil.Process(server.process.pid).children(recursive=True))


def test_keep_alive_in_every_form(start: Start) -> None:
    """Zero ends the process, seconds and durations expire, negative is for ever, none is sticky."""
    server = start()
    say(server, "one", keep_alive=-1)
    assert (True, None) == (loaded(server)["one"]["forever"], loaded(server)["one"]["expires_at"])
    say(server, "one")
    assert loaded(server)["one"]["forever"]
    for keep_alive, seconds in ((600, 600), ("10m", 600), ("1h", 3600)):
        say(server, "one", keep_alive=keep_alive)
        row = loaded(server)["one"]
        left = datetime.fromisoformat(row["expires_at"]).timestamp() - time.time()
        assert (False, True) == (row["forever"], seconds - 60 < left <= seconds)
    assert 400 == say(server, "one", keep_alive="10").status_code
    processes = below(server)
    say(server, "one", keep_alive=0)
    until(lambda: not loaded(server))
    assert not psutil.wait_procs(processes, timeout=15)[1]
    say(server, "two", keep_alive="200ms")
    until(lambda: not loaded(server))


def test_empty_request_loads_and_unloads(start: Start) -> None:
    """Without a prompt the model is loaded, with keep_alive zero it leaves, as with Ollama."""
    server = start()
    body = {"model": "one", "stream": False}
    first = server.http.post("/api/generate", json=body).json()
    assert ("load", {"one"}) == (first["done_reason"], set(loaded(server)))
    last = server.http.post("/api/generate", json={**body, "keep_alive": 0}).json()
    assert ("unload", {}) == (last["done_reason"], loaded(server))


def test_unload_is_verified(start: Start) -> None:
    """The verdict comes when the process is gone, with its memory; a second one says absent."""
    server = start()
    say(server, "one")
    processes = below(server)
    report = server.http.post("/workbench/v1/unload", json={"model": "one"}).json()
    assert ("verified", 0) == (report["verdict"], report["bytes_after"])
    assert report["bytes_before"] > 0
    assert not psutil.wait_procs(processes, timeout=1)[1]
    again = server.http.post("/workbench/v1/unload", json={"model": "one"}).json()
    assert "absent" == again["verdict"]


def test_unload_waits_for_the_running_chat(start: Start) -> None:
    """A busy model leaves after its answer, which is whole."""
    server = start()
    long = {**PROMPT, "model": "one", "options": {"num_predict": 900, "num_ctx": 8192}}
    with (
        ThreadPoolExecutor(1) as pool,
        server.http.stream("POST", "/api/generate", json=long) as answer,
    ):
        lines = answer.iter_lines()
        next(lines)
        unload = pool.submit(server.http.post, "/workbench/v1/unload", json={"model": "one"})
        last = json.loads(list(lines)[-1])
        assert (True, 900) == (last["done"], last["eval_count"])
        assert "verified" == unload.result(30).json()["verdict"]


def test_two_chats_share_a_model(start: Start) -> None:
    """Two answers at once use one process, and equal seeds give equal text."""
    server = start()
    with ThreadPoolExecutor(2) as pool:
        answers = [pool.submit(say, server, "one", stream=False) for _ in range(2)]
        texts = [future.result(60).json()["response"] for future in answers]
    assert (1, 1) == (len(set(texts)), len(loaded(server)))


def test_max_loaded_is_a_limit(start: Start) -> None:
    """engine.max_loaded = 2: one of two idle models leaves for the third."""
    server = start("[engine]\nmax_loaded = 2\n")
    for name in ("one", "two", "one", "three"):
        assert 200 == say(server, name).status_code
    assert (2, True) == (len(loaded(server)), "three" in loaded(server))


def test_memory_is_a_budget(start: Start) -> None:
    """engine.memory_bytes: two models take turns in room for one; a larger one gets a 507.

    The advisor and the engine count alike: what fits by the one is loaded by the other.
    """
    one = start().http.get("/workbench/v1/fit", params={"model": "one"}).json()["needed_bytes"]
    server = start(f"[engine]\nmemory_bytes = {one * 3 // 2}\n")
    fit = server.http.get("/workbench/v1/fit", params={"model": "one"}).json()
    assert ("alongside", one) == (fit["verdict"], fit["needed_bytes"])
    for name in ("one", "two"):
        assert 200 == say(server, name).status_code
    assert {"two"} == set(loaded(server))
    small = start("[engine]\nmemory_bytes = 1000\n")
    answer = say(small, "one")
    assert (507, "InsufficientMemory", 1000) == (
        answer.status_code,
        answer.json()["type"],
        answer.json()["available_bytes"],
    )


def test_context_is_kept_until_another_is_named(start: Start) -> None:
    """num_ctx loads with it, its absence takes the loaded one, another one reloads."""
    server = start()
    found = []
    for options in ({"num_ctx": 256}, {}, {"num_ctx": 512}):
        say(server, "one", options={"num_predict": 1, **options})
        found.append((loaded(server)["one"]["context_length"], below(server)[0].pid))
    assert [256, 256, 512] == [length for length, _ in found]
    assert found[0][1] == found[1][1] != found[2][1]


def test_engine_killed_in_mid_stream(start: Start) -> None:
    """The text so far is kept, the error says what died, and the next request works."""
    server = start()
    body = {**PROMPT, "model": "one", "options": {"num_predict": 100_000, "num_ctx": 8192}}
    with server.http.stream("POST", "/api/generate", json=body) as answer:
        arriving = answer.iter_lines()
        first = json.loads(next(arriving))
        below(server)[0].kill()
        lines = [first, *(json.loads(line) for line in arriving)]
    assert all("response" in line for line in lines[:-1])
    details = lines[-1]["workbench"]
    assert ("EngineExited", -9, "one:latest") == (
        details["type"],
        details["returncode"],
        details["model"],
    )
    assert "model runner has unexpectedly stopped" in lines[-1]["error"]
    assert 3 == lines_of(say(server, "one"))[-1]["eval_count"]


def test_load_that_fails_has_the_reason(start: Start, tmp_path: Path) -> None:
    """A file that is no model is refused with why, and the server goes on."""
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + b"\x00" * 100)
    server = start()
    answer = say(server, str(broken))
    assert 400 <= answer.status_code < 600
    assert answer.json()["error"]
    assert 200 == say(server, "one").status_code


def test_client_that_leaves_frees_the_engine(start: Start) -> None:
    """When the client goes in mid-stream the model is idle again, and its process stays."""
    server = start()
    body = {**PROMPT, "model": "one", "options": {"num_predict": 100_000, "num_ctx": 8192}}
    with server.http.stream("POST", "/api/generate", json=body) as answer:
        arriving = answer.iter_raw()
        next(arriving)
        assert "busy" == loaded(server)["one"]["state"]
        process = below(server)[0].pid
    until(lambda: loaded(server)["one"]["state"] == "idle")
    assert process == below(server)[0].pid


def test_settings_of_the_server_have_their_effect(start: Start, tmp_path: Path) -> None:
    """Folder, keep_alive, load time, default model and token do what their descriptions say."""
    server = start(
        "[engine]\nkeep_alive_s = 0\n[client]\ndefault_model = 'two'\n",
        env={"WORKBENCH_TOKEN": "chosen"},
    )
    assert "chosen" == server.token
    info = server.http.get("/workbench/v1/info").json()
    assert (str(server.data_dir), server.url) == (info["data_dir"], info["url"])
    choice = server.http.get("/workbench/v1/models/default").json()
    assert ("two:latest", "setting") == (choice["model"], choice["reason"])
    say(server, "one")
    until(lambda: not loaded(server))


def test_load_timeout_gives_up(start: Start) -> None:
    """engine.load_timeout_s ends a load that takes longer, with the reason."""
    server = start("[engine]\nload_timeout_s = 0.001\n")
    answer = say(server, "one")
    assert 500 <= answer.status_code < 600
    assert "LoadFailed" == answer.json()["type"]
    assert not below(server)


# Where the effect of each setting is seen.
SEEN_IN = {
    "data_dir": "tests/server/test_embedded.py",
    "url": "tests/client",
    "token": "tests/server/test_embedded.py",
    "server.host": "tests/server/test_auth.py",
    "server.port": "tests/server/test_lifecycle.py",
    "server.idle_exit_s": "tests/server/test_lifecycle.py",
    "server.allow_remote": "tests/server/test_auth.py",
    "server.allowed_hosts": "tests/server/test_auth.py",
    "server.allowed_origins": "tests/server/test_auth.py",
    "server.open_ollama_api": "tests/server/test_auth.py",
    "server.max_body_bytes": "tests/server/test_auth.py",
    "server.max_header_bytes": "tests/server/test_slow_clients.py",
    "server.slow_client_s": "tests/server/test_slow_clients.py",
    "engine.kind": "tests/engine",
    "engine.llama_server": "tests/engine",
    "engine.models_dir": "tests/server/test_embedded.py",
    "engine.load_timeout_s": "tests/server/test_embedded.py",
    "engine.keep_alive_s": "tests/server/test_embedded.py",
    "engine.max_loaded": "tests/server/test_embedded.py",
    "engine.memory_bytes": "tests/server/test_embedded.py",
    "queue.interactive_wait_s": "tests/server/test_settings.py",
    "queue.batch_wait_s": "tests/server/test_settings.py",
    "queue.concurrency": "tests/server/test_settings.py",
    "gpu.warn_pct": "tests/server/test_gpu_monitor.py",
    "gpu.warn_bytes": "tests/server/test_gpu_monitor.py",
    "gpu.warn_clear_pct": "tests/server/test_gpu_monitor.py",
    "metrics.record_text": "tests/server/test_recording.py",
    "metrics.fsync": "tests/metrics/test_journal.py",
    "metrics.retention_days": "tests/metrics/test_compact.py",
    "metrics.chunk_gaps": "tests/server/test_recording.py",
    "metrics.prometheus": "tests/server/test_recording.py",
    "client.first_token_s": "tests/client",
    "client.stall_s": "tests/client",
    "client.default_model": "tests/server/test_embedded.py",
}


def test_every_setting_has_a_test_of_its_effect() -> None:
    """A setting that is added says where its effect is seen, and that place is there."""
    root = Path(__file__).parents[2]
    missing = [place for place in SEEN_IN.values() if not (root / place).exists()]
    assert ({setting.key for setting in SETTINGS}, []) == (set(SEEN_IN), missing)


def test_list_tells_what_a_choice_would_evict(tmp_path: Path, random_gguf: Path) -> None:
    """With room for one model, the list says which leaves for another, and how long it loaded."""
    models = tmp_path / "data" / "models"
    models.mkdir(parents=True)
    for name in ("one", "two"):
        (models / f"{name}.gguf").symlink_to(random_gguf)
    (tmp_path / "data" / "workbench.toml").write_text("[engine]\nmax_loaded = 1\n")
    with ServerProcess(tmp_path / "data") as server:
        server.http.post("/workbench/v1/load", json={"model": "one"}).raise_for_status()
        rows = server.http.get("/workbench/v1/models").json()["models"]
    told = {row["name"]: row for row in rows}
    assert [[], ["one:latest"]] == [told[f"{name}:latest"]["evicts"] for name in ("one", "two")]
    assert told["one:latest"]["load_s"] > 0
