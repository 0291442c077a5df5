"""Real engine processes: they start, answer, and are gone when they should be."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import httpx
import psutil
import pytest

from tests.engine.http import client, complete
from workbench.errors import EngineExited, LoadFailed
from workbench.server.engine import endpoint
from workbench.server.engine.process import WORKER, EngineProcess
from workbench.server.engine.spec import EngineSpec
from workbench.testing.gguf import make_gguf

LOAD_S = 60.0
ROOT = Path(__file__).parents[2]


@contextlib.asynccontextmanager
async def running(
    spec: EngineSpec, *, socket_folder: Path | None = None
) -> AsyncIterator[EngineProcess]:
    """Run an engine, and stop it whatever happens."""
    engine = await EngineProcess.start(spec, timeout_s=LOAD_S, socket_folder=socket_folder)
    try:
        yield engine
    finally:
        await engine.stop()


@contextlib.asynccontextmanager
async def stream(http: httpx.AsyncClient) -> AsyncIterator[AsyncIterator[str]]:
    """Open a long answer and yield its lines."""
    body = {"prompt": "a", "n_predict": 4000, "stream": True}
    async with http.stream("POST", "/completion", json=body) as answer:
        yield answer.aiter_lines()


def gone(pid: int) -> bool:
    """Wait until a process is gone; return whether it is."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        with contextlib.suppress(psutil.TimeoutExpired):
            process.wait(timeout=30)
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    return True


def test_stop_is_verified(spec: EngineSpec) -> None:
    """A stopped process left by itself, was waited for, and its socket is gone."""

    async def scene() -> None:
        async with running(spec) as engine:
            assert (engine.rss_bytes() or 0) > 10_000_000
            assert engine.load_seconds > 0
            report = await engine.stop()
            assert (True, 0, "stdin") == (report.exited, report.returncode, report.means)
            assert (report.rss_before_bytes or 0) > 10_000_000
            assert not psutil.pid_exists(engine.pid)
            assert engine.socket_path is not None
            assert not engine.socket_path.parent.exists()
            assert engine.rss_bytes() is None

    asyncio.run(scene())


def test_load_can_be_watched(spec: EngineSpec) -> None:
    """The process is shown before its model is loaded, with its memory, and not yet as loaded."""
    seen: list[tuple[int, bool, float]] = []

    def watch(engine: EngineProcess) -> None:
        seen.append((engine.pid, engine.rss_bytes() is not None, engine.load_seconds))

    async def scene() -> None:
        engine = await EngineProcess.start(spec, timeout_s=LOAD_S, on_spawned=watch)
        await engine.stop()
        assert [(engine.pid, True, 0.0)] == seen

    asyncio.run(scene())


def test_template_is_replaced(model: Path) -> None:
    """A chat template of the spec replaces the one in the file."""
    spec = EngineSpec(
        model_path=model,
        alias="a",
        chat_template="{% for m in messages %}[{{ m.content }}]{% endfor %}",
    )

    async def scene() -> None:
        async with running(spec) as engine, client(engine) as http:
            body = {"messages": [{"role": "user", "content": "Hi"}]}
            answer = await http.post("/apply-template", json=body)
            assert answer.json()["prompt"].startswith("[Hi]")

    asyncio.run(scene())


def test_stop_twice_is_one_stop(spec: EngineSpec) -> None:
    """Two callers that stop a process get the same report."""

    async def scene() -> None:
        async with running(spec) as engine:
            first, second = await asyncio.gather(engine.stop(), engine.stop())
            assert first is second
            assert await engine.exited() == 0

    asyncio.run(scene())


def test_stop_in_the_middle_of_an_answer(tmp_path: Path) -> None:
    """A process that is computing an answer is ended all the same, and the answer breaks off."""
    path = make_gguf(tmp_path / "slow.gguf", params=3_000_000, context_length=4096)

    async def scene() -> None:
        spec = EngineSpec(model_path=path, alias="slow")
        async with running(spec) as engine, client(engine) as http, stream(http) as lines:
            await anext(lines)
            report = await engine.stop()
            assert report.exited
            with contextlib.suppress(httpx.TransportError):
                async for _ in lines:
                    pass

    asyncio.run(scene())


def test_death_in_mid_stream_is_noticed(tmp_path: Path) -> None:
    """After kill -9 the stream breaks, `exited` returns, and the error names the signal."""
    path = make_gguf(tmp_path / "slow.gguf", params=3_000_000, context_length=4096)

    async def scene() -> None:
        async with running(EngineSpec(model_path=path, alias="slow")) as engine:
            async with client(engine) as http, stream(http) as lines:
                await anext(lines)
                os.kill(engine.pid, signal.SIGKILL)
                assert await engine.exited() == -signal.SIGKILL
                with pytest.raises(httpx.TransportError):
                    async for _ in lines:
                        pass
            error = engine.exit_error()
            assert isinstance(error, EngineExited)
            assert ("slow", -9) == (error.model, error.returncode)
            assert "SIGKILL" in (error.reason or "")
            report = await engine.stop()
            assert (True, "already") == (report.exited, report.means)

    asyncio.run(scene())


def test_stuck_process_is_killed(spec: EngineSpec) -> None:
    """A process that reacts to nothing is killed when the time to stop is over."""

    async def scene() -> None:
        async with running(spec) as engine:
            os.kill(engine.pid, signal.SIGSTOP)
            while psutil.Process(engine.pid).status() != psutil.STATUS_STOPPED:
                continue
            report = await engine.stop(timeout_s=0.2)
            assert (True, "kill") == (report.exited, report.means)
            assert report.returncode == -signal.SIGKILL

    asyncio.run(scene())


@pytest.mark.parametrize("key", ["-", "wrong"])
def test_key_is_needed(spec: EngineSpec, key: str) -> None:
    """A request without the key of this process is refused, the health question is not."""

    async def scene() -> None:
        async with running(spec) as engine, client(engine, key=key) as http:
            assert (await http.post("/completion", json={"prompt": "a"})).status_code == 401
            assert (await http.get("/health")).status_code == 200

    asyncio.run(scene())


def test_keys_differ(spec: EngineSpec) -> None:
    """Two processes of one model have different keys and sockets."""

    async def scene() -> None:
        one, two = await asyncio.gather(
            EngineProcess.start(spec, timeout_s=LOAD_S), EngineProcess.start(spec, timeout_s=LOAD_S)
        )
        assert one.key != two.key
        assert one.address != two.address
        await asyncio.gather(one.stop(), two.stop())

    asyncio.run(scene())


@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_equal_seeds_give_equal_text(spec: EngineSpec, temperature: float) -> None:
    """A seed gives the same text again: after other prompts too, and in another process."""
    options = {"n_predict": 60, "seed": 7, "temperature": temperature}

    async def scene() -> None:
        texts = []
        for _ in range(2):
            async with running(spec) as engine:
                for prompt in ("Hello", "Hello", "Hello, you", "Hello"):
                    texts.append((prompt, await complete(engine, prompt, **options)))
        assert len({text for prompt, text in texts if prompt == "Hello"}) == 1

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("trained", "asked"), [(2048, 0), (2048, 512), (2048, 300), (2048, 8), (2048, 9999), (100, 50)]
)
def test_context_is_as_promised(trained: int, asked: int, tmp_path: Path) -> None:
    """Each of several slots has exactly the context that the clamped spec says."""
    path = make_gguf(tmp_path / "a.gguf", params=60_000, context_length=trained)

    async def scene() -> None:
        spec = EngineSpec(model_path=path, alias="a", n_ctx=asked, n_parallel=3)
        async with running(spec) as engine, client(engine) as http:
            slots = (await http.get("/slots")).json()
            assert [engine.spec.n_ctx] * 3 == [slot["n_ctx"] for slot in slots]

    asyncio.run(scene())


@pytest.mark.parametrize(
    "numbers",
    [
        {"n_batch": 0, "n_threads": 0, "n_parallel": 0},
        {"n_batch": 1, "n_parallel": 1000},
        {"n_batch": 10**9, "n_threads": 10_000},
        {"n_ctx": 2_000_000_000, "n_gpu_layers": 10**6, "main_gpu": 99},
        {"n_ctx": -1, "n_gpu_layers": -1, "main_gpu": -1, "use_mmap": False},
    ],
    ids=["nothing", "many-slots", "huge", "huge-context", "negative"],
)
def test_no_number_kills_it(numbers: dict[str, int], spec: EngineSpec) -> None:
    """With numbers that would abort or hang the engine, a process starts and answers."""

    async def scene() -> None:
        async with running(replace(spec, **numbers)) as engine:  # type: ignore[arg-type]
            texts = await asyncio.gather(*(complete(engine, "Hi", n_predict=8) for _ in range(5)))
            assert [8] * 5 == [len(text) for text in texts]

    asyncio.run(scene())


def test_vectors(model: Path) -> None:
    """A process for embeddings gives one vector per text, as long as the model is wide."""

    async def scene() -> None:
        async with running(EngineSpec(model_path=model, alias="a", embedding=True)) as engine:
            async with client(engine) as http:
                answer = await http.post("/v1/embeddings", json={"input": ["a" * 200, "b"]})
            vectors = [item["embedding"] for item in answer.json()["data"]]
            assert len(vectors) == 2
            assert len(vectors[0]) == len(vectors[1]) > 8

    asyncio.run(scene())


def test_load_has_a_deadline(tmp_path: Path) -> None:
    """A load that never ends is ended: here a pipe that nobody writes stands for the file."""
    path = tmp_path / "pipe.gguf"
    os.mkfifo(path)

    async def scene() -> None:
        with pytest.raises(LoadFailed, match=r"not ready after 1 s"):
            await EngineProcess.start(EngineSpec(model_path=path, alias="a"), timeout_s=1)

    asyncio.run(scene())


def test_cancelled_load_leaves_no_process(tmp_path: Path) -> None:
    """Cancelling a load ends its process before the cancellation goes on."""
    path = tmp_path / "pipe.gguf"
    os.mkfifo(path)

    async def scene() -> None:
        spec = EngineSpec(model_path=path, alias="a")
        before = set(psutil.Process().children())
        load = asyncio.create_task(EngineProcess.start(spec, timeout_s=LOAD_S))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(load), timeout=0.5)
        children = set(psutil.Process().children()) - before
        load.cancel()
        with pytest.raises(asyncio.CancelledError):
            await load
        assert children
        assert [c for c in children if c.is_running()] == []

    asyncio.run(scene())


def test_sockets_are_private(spec: EngineSpec, private_folders: Path) -> None:
    """A given folder for sockets is made with mode 0700 and stays; the socket in it goes."""
    folder = private_folders / "sockets"

    async def scene() -> None:
        async with running(spec, socket_folder=folder) as engine:
            assert folder == Path(engine.address).parent
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert list(folder.iterdir()) == []

    asyncio.run(scene())


def test_loopback_where_there_are_no_sockets(
    spec: EngineSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without unix sockets a process listens on a loopback port of its own choice."""
    monkeypatch.setattr(endpoint, "UNIX_SOCKETS", False)

    async def scene() -> None:
        async with running(spec) as engine:
            assert engine.socket_path is None
            async with httpx.AsyncClient(base_url=engine.base_url, trust_env=False) as http:
                assert (await http.get("/v1/models")).status_code == 401
                headers = {"Authorization": f"Bearer {engine.key}"}
                models = (await http.get("/v1/models", headers=headers)).json()
            assert models["data"][0]["id"] == "good:latest"

    asyncio.run(scene())


PARENT = """
import asyncio, sys
from pathlib import Path
from workbench.server.engine.process import EngineProcess
from workbench.server.engine.spec import EngineSpec

async def main():
    spec = EngineSpec(model_path=Path(sys.argv[1]), alias="a")
    engine = await EngineProcess.start(spec, timeout_s=60, socket_folder=Path(sys.argv[2]))
    print(engine.pid, flush=True)
    await engine.exited()

asyncio.run(main())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a signal that only Linux has")
def test_process_dies_with_its_parent(model: Path, private_folders: Path) -> None:
    """When the server is killed by SIGKILL, its engines are gone."""
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(model), str(private_folders / "s")],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert psutil.pid_exists(pid)
        parent.kill()
        assert gone(pid)


@pytest.fixture
def settings(spec: EngineSpec, private_folders: Path) -> bytes:
    """Return the settings line of a worker that this test spawns itself."""
    made = spec.clamped(None, file_bytes=1)
    values = made.worker_settings(host=str(private_folders / "w.sock"), port=0, key="k")
    return json.dumps({"parent_pid": os.getpid(), **values}).encode() + b"\n"


def test_worker_leaves_when_stdin_closes(settings: bytes) -> None:
    """A worker says where it listens and how large it is, and leaves when its stdin closes."""
    with subprocess.Popen(
        [sys.executable, "-P", str(WORKER)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as worker:
        assert worker.stdin is not None
        assert worker.stdout is not None
        worker.stdin.write(settings)
        worker.stdin.flush()
        answer = json.loads(worker.stdout.readline())
        assert answer["address"].endswith("w.sock")
        assert answer["rss_bytes"] > 10_000_000
        worker.stdin.close()
        assert worker.wait(timeout=60) == 0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a signal that only Linux has")
def test_worker_of_a_dead_parent_leaves_at_once(settings: bytes) -> None:
    """A worker whose parent ended before it could watch for that does not load anything."""
    orphan = json.dumps({**json.loads(settings), "parent_pid": 1}).encode() + b"\n"
    done = subprocess.run(
        [sys.executable, "-P", str(WORKER)], input=orphan, capture_output=True, timeout=60
    )
    assert (1, b"") == (done.returncode, done.stdout)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="reads /proc")
def test_c_output_cannot_spoil_the_answer(spec: EngineSpec) -> None:
    """What C++ prints to fd 1 goes where its errors go, never to the answer line."""

    async def scene() -> None:
        async with running(spec) as engine:
            one, two = (os.readlink(f"/proc/{engine.pid}/fd/{fd}") for fd in (1, 2))
            assert one == two

    asyncio.run(scene())


def test_flood_of_output_is_drained(
    tmp_path: Path, spec: EngineSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine that prints far more than a pipe holds is not blocked, and 200 lines are kept."""
    flood = "import os; os.write(2, b'noise\\n' * 100_000)\n"
    (tmp_path / "sitecustomize.py").write_text(flood)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    async def scene() -> None:
        async with running(spec) as engine:
            assert len(engine.stderr_tail) == 200

    asyncio.run(scene())
