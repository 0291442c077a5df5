"""The calls about models and memory on a real server, with the engine and a scripted Ollama."""

from __future__ import annotations

import _thread
import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import workbench
from tests.server.harness import ServerProcess
from workbench.client.memory_values import ServerEvent
from workbench.errors import ConfigError, ModelNotFound, ResponseError, SwapRequired
from workbench.testing import FakeModel, Reply, ScriptedOllama
from workbench.testing.gguf import make_gguf

GIB = 2**30
CONTEXT = 512
PATIENCE_S = 60.0
OWL, BAT = "owl:latest", "bat:latest"
TOML = """
[[backend]]
name = "ollama"
kind = "ollama"
url = "{url}"
vram = "4GiB"
"""
HOLD = """
import sys, time, workbench
wb = workbench.connect(sys.argv[1], token=sys.argv[2], data_dir=sys.argv[3])
wb.lease("rand", ttl=2, holder="a kernel").open()
print("held", flush=True)
time.sleep(600)
"""


@dataclass
class House:
    """A server, the scripted Ollama behind it, and a client."""

    server: ServerProcess
    ollama: ScriptedOllama
    wb: workbench.Workbench


@pytest.fixture(scope="module")
def running(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[ServerProcess, ScriptedOllama]]:
    data_dir = tmp_path_factory.mktemp("memory")
    (data_dir / "models").mkdir()
    make_gguf(data_dir / "models" / "rand.gguf", params=300_000, context_length=CONTEXT)
    models = [FakeModel("owl", size_bytes=3 * GIB), FakeModel("bat", size_bytes=2 * GIB)]
    pullable = [FakeModel("newt", size_bytes=1000)]
    with ScriptedOllama(models=models, pullable=pullable) as ollama:
        (data_dir / "workbench.toml").write_text(TOML.format(url=ollama.url), encoding="utf-8")
        with ServerProcess(data_dir) as server:
            yield server, ollama


@pytest.fixture
def house(running: tuple[ServerProcess, ScriptedOllama]) -> Iterator[House]:
    """Yield the house with nothing loaded and nothing preferred."""
    server, ollama = running
    how = {"token": server.token, "data_dir": server.data_dir}
    with workbench.connect(server.url, **how) as wb:
        yield House(server, ollama, wb)
        ollama.release()
        ollama.set_reply(Reply(), to="load")
        wb.set("swap.ollama", None)
        for name in ("rand", OWL, BAT):
            wb.unpin(name)
            wb.prefer(name, priority=None, hot=False, keep_alive=None, max_idle=None)
            wb.unload(name, force=True)


@pytest.fixture
def wb(house: House) -> workbench.Workbench:
    return house.wb


def until(true: Callable[[], bool]) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.05)


def names(wb: workbench.Workbench) -> set[str]:
    """Return what is in memory."""
    return {model.name for model in wb.loaded()}


@contextlib.contextmanager
def interrupted(house: House, operation: str, n: int) -> Iterator[None]:
    """Press Ctrl-C when the host stalls in its n-th request, and expect to be interrupted."""

    def strike() -> None:
        request = house.ollama.wait_for_request(n, to=operation, timeout_s=PATIENCE_S)
        assert request.stalled.wait(PATIENCE_S)
        _thread.interrupt_main()

    thread = threading.Thread(target=strike)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        yield
    thread.join()


def row(wb: workbench.Workbench, name: str) -> workbench.client.values.ModelInfo:
    """Return the row of a model."""
    return next(model for model in wb.models() if model.name == name)


def last_event(wb: workbench.Workbench, kind: str, model: str) -> ServerEvent:
    """Return the last event of a kind that there was, or comes, for a model."""
    found = None
    for event in wb.events(recent=True):
        if (event.event, event.fields.get("model")) == (kind, model):
            found = event
            break
    assert found is not None
    return found


def test_every_model_has_its_facts(wb: workbench.Workbench) -> None:
    """The rows of both backends say what is known, and print."""
    models = wb.models()
    assert {("rand:latest", "embedded"), (OWL, "ollama"), (BAT, "ollama")} <= {
        (model.name, model.backend) for model in models
    }
    owl = row(wb, OWL)
    assert ("absent", 5, False, False, None) == (
        owl.state,
        owl.priority,
        owl.pinned,
        owl.hot,
        owl.keep_alive_s,
    )
    assert owl.routed
    assert owl.route_reason
    # It is looked at beside the answer.
    until(lambda: row(wb, OWL).fit.verdict != "unknown")
    assert row(wb, OWL).fit.needed_bytes
    assert "PRIORITY" in repr(models)
    assert len(models) == len(models.to_frame())


def test_load_and_unload_of_the_engine(wb: workbench.Workbench) -> None:
    """A process that ended is the proof that the memory came back."""
    loaded = wb.load("rand", num_ctx=256)
    assert ("rand:latest", 256, "ours") == (loaded.name, loaded.context_length, loaded.owner)
    result = wb.unload("rand")
    assert "verified" == result.verdict
    assert result.bytes_before
    assert "absent" == wb.unload("rand").verdict


def test_load_and_unload_of_a_host(house: House) -> None:
    """A host is asked, and what it lists afterwards is the verdict."""
    loaded = house.wb.load("owl", keep_alive="10m", num_ctx=2048)
    assert 2048 == loaded.context_length
    assert loaded.expires is not None
    assert {OWL} == house.ollama.loaded
    assert house.wb.unload("owl").verdict in ("verified", "gone_unverified")
    assert set() == house.ollama.loaded


def test_an_interrupted_load_goes_on(house: House, capsys: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C ends the waiting; the host is still asked, and the model comes."""
    house.ollama.set_reply(Reply(stall_load=True), to="load")
    before = len([r for r in house.ollama.requests if r.operation == "load"])

    with interrupted(house, "load", before + 1):
        house.wb.load("owl")
    assert "goes on loading owl" in capsys.readouterr().err
    assert row(house.wb, OWL).state in ("loading", "queued")
    house.ollama.release()
    until(lambda: OWL in names(house.wb))
    loads = [request for request in house.ollama.requests if request.operation == "load"]
    assert before + 1 == len(loads)
    assert not loads[-1].disconnected.is_set()


def test_a_swap_needs_consent_in_manual_mode(house: House) -> None:
    """In manual mode a load that needs room is refused with its plan, and done with consent."""
    wb = house.wb
    assert ("manual", "state") == (
        (changed := wb.set("swap.ollama", "manual")).value,
        changed.source,
    )
    wb.load("owl")
    with pytest.raises(SwapRequired) as caught:
        wb.load("bat")
    assert [OWL] == [item["model"] for item in caught.value.plan["evict"]]
    assert {OWL} == house.ollama.loaded
    assert BAT == wb.swap("bat").name
    assert {BAT} == house.ollama.loaded


def test_room_is_made_in_auto_mode(house: House) -> None:
    """In auto mode the idle model leaves by itself, and the events say why."""
    house.wb.load("owl")
    house.wb.load("bat")
    assert {BAT} == house.ollama.loaded
    assert last_event(house.wb, "unloaded", OWL).fields["reason"]


def test_a_pinned_model_stays(house: House) -> None:
    """A load that would need the room of a pinned model fails, and force gets around it."""
    wb = house.wb
    wb.load("owl")
    assert wb.pin("owl").pinned
    with pytest.raises(workbench.WorkbenchError):
        wb.load("bat")
    assert {OWL} == house.ollama.loaded
    wb.load("bat", force=True)
    assert {BAT} == house.ollama.loaded
    assert not wb.unpin("owl").pinned


def test_preferences_are_kept(wb: workbench.Workbench) -> None:
    """What was preferred is in the model's row, and goes back to the default."""
    changed = wb.prefer("rand", priority=8, hot=True, keep_alive="10m", max_idle=3600)
    assert (8, True, 600.0, 3600.0) == (
        changed.priority,
        changed.hot,
        changed.keep_alive_s,
        changed.max_idle_s,
    )
    changed = wb.prefer("rand", priority=None, hot=False, keep_alive=None, max_idle=None)
    assert (5, False, None, None) == (
        changed.priority,
        changed.hot,
        changed.keep_alive_s,
        changed.max_idle_s,
    )


def test_fit_is_explained(wb: workbench.Workbench) -> None:
    """A small model fits alone; a longer context needs more."""
    short, long = wb.fits("rand", num_ctx=64), wb.fits("rand", num_ctx=CONTEXT)
    assert short.alone.fits
    assert short.needed_bytes is not None
    assert long.needed_bytes is not None
    assert short.needed_bytes <= long.needed_bytes
    assert "rand:latest, context 64: " in str(short)


def test_devices_and_queue_print(wb: workbench.Workbench) -> None:
    """The device that models lie in is listed with its source, and an idle queue is empty."""
    gpu = wb.gpu()
    assert gpu.devices
    assert [] == [device.id for device in gpu.devices if device.source is None]
    assert "SOURCE" in str(gpu)
    queue = wb.queue()
    assert (5.0, 60.0) == (queue.wait_bound_s.interactive, queue.wait_bound_s.batch)
    assert "longest wait" in str(queue)


def test_a_lease_is_seen_and_ends(wb: workbench.Workbench) -> None:
    """Everybody sees who holds what, and the model's row says so."""
    with wb.lease(["rand"], ttl=30, holder="a test") as lease:
        assert [("a test", ("rand:latest@embedded",))] == [
            (item.holder, item.models) for item in wb.leases()
        ]
        assert row(wb, "rand:latest").leased
        assert lease.lost is None
    assert [] == wb.leases()
    assert not row(wb, "rand:latest").leased


def test_the_lease_of_a_dead_kernel_expires(house: House) -> None:
    """A process that dies leaves a lease that nobody renews, and the server ends it."""
    arguments = [house.server.url, house.server.token, str(house.server.data_dir)]
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, *arguments], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert "held\n" == process.stdout.readline()
        assert ["a kernel"] == [item.holder for item in house.wb.leases()]
    finally:
        process.kill()
        process.communicate()
    until(lambda: not house.wb.leases())


def test_an_ended_lease_is_lost(wb: workbench.Workbench) -> None:
    """A lease that the server no longer has is seen as lost at the next sign of life."""
    with wb.lease("rand", ttl=1.5) as lease:
        assert lease.id is not None
        wb._run(wb.client.release_lease(lease.id))
        until(lambda: lease.lost is not None)


def test_settings_are_changed_and_taken_back(house: House) -> None:
    """A change is in force, has its source, and goes back; what is wrong is refused."""
    wb = house.wb
    changed = wb.set("queue.batch_wait_s", 90)
    assert (90.0, "state") == (changed.value, changed.source)
    assert 90.0 == wb.queue().wait_bound_s.batch
    assert 60.0 == wb.set("queue.batch_wait_s", None).value
    with pytest.raises((ConfigError, ResponseError)):
        wb.set("queue.batch_wait_s", "soon")
    with pytest.raises((ConfigError, ResponseError)):
        wb.set("server.port", 1)


def test_a_model_is_pulled_and_deleted(house: House) -> None:
    """A download ends with success and its model is there; deleting unloads it first."""
    wb = house.wb
    steps = list(wb.pull("newt@ollama", stream=True))
    assert "success" == steps[-1].status
    assert "newt:latest" in house.ollama.models
    wb.load("newt")
    deleted = wb.delete("newt")
    assert deleted.unload is not None
    assert deleted.unload.verdict in ("verified", "gone_unverified")
    assert "newt:latest" not in house.ollama.models


def test_an_interrupted_pull_is_cancelled(house: House) -> None:
    """Ctrl-C cancels the download at the host too, and the next one goes on to its end."""
    house.ollama.set_reply(Reply(stall_after=2), to="pull")
    before = len([r for r in house.ollama.requests if r.operation == "pull"])
    with interrupted(house, "pull", before + 1):
        house.wb.pull("newt@ollama")
    request = house.ollama.wait_for_request(before + 1, to="pull")
    assert request.disconnected.wait(PATIENCE_S)
    house.ollama.set_reply(Reply(), to="pull")
    assert "success" == list(house.wb.pull("newt@ollama", stream=True))[-1].status
    house.wb.delete("newt")


def test_a_pull_of_nothing_fails(wb: workbench.Workbench) -> None:
    """A model that nobody offers is an error with the host's own words."""
    with pytest.raises(workbench.WorkbenchError, match=r"not exist|not found"):
        list(wb.pull("griffin@ollama", stream=True))


def test_a_file_becomes_a_model(wb: workbench.Workbench, tmp_path: Path) -> None:
    """A GGUF file is a model by its path; deleting the model leaves the file."""
    path = make_gguf(tmp_path / "mine.gguf", params=100_000, context_length=64)
    assert "mine:latest" == wb.add_model(path).name
    assert wb.generate("x", "mine", num_predict=1).text
    wb.delete("mine")
    assert path.is_file()
    assert "mine:latest" not in [model.name for model in wb.models()]


@pytest.mark.parametrize("ask", ["load", "unload", "pin", "fits", "delete"])
def test_an_unknown_model_names_the_nearest(wb: workbench.Workbench, ask: str) -> None:
    """Every call that names a model that is not there says which there are."""
    with pytest.raises(ModelNotFound) as caught:
        getattr(wb, ask)("rnad")
    assert "rand" in " ".join(caught.value.nearest)


def test_events_tell_of_a_load(wb: workbench.Workbench) -> None:
    """A load and an unload are told with their seconds, their bytes and who asked."""
    wb.load("rand")
    wb.unload("rand")
    loaded = last_event(wb, "loaded", "rand:latest")
    unloaded = last_event(wb, "unloaded", "rand:latest")
    assert loaded.fields["seconds"] > 0
    assert "verified" == unloaded.fields["verdict"]
    assert unloaded.fields["actor"]
