"""The scripted reader of GPUs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest

from tests.testing.helpers import get, post
from workbench.testing import FakeGpu, FakeModel, Reply, ScriptedGpu, ScriptedOllama

GB = 10**9


@pytest.fixture
def ollama_server() -> Iterator[ScriptedOllama]:
    model = FakeModel("a", size_bytes=3 * GB)
    with ScriptedOllama(models=[model], memory_bytes=8 * GB, vram_lag_s=math.inf) as found:
        yield found


@pytest.fixture
def gpu(ollama_server: ScriptedOllama) -> Iterator[ScriptedGpu]:
    with ScriptedGpu(follows=ollama_server) as found:
        yield found


def read(gpu: ScriptedGpu) -> dict[str, Any]:
    """Read as the workbench does."""
    answer: dict[str, Any] = get(gpu.environment["WORKBENCH_GPU_SCRIPT"]).json()
    return answer


def device(gpu: ScriptedGpu) -> dict[str, Any]:
    """Read the only device."""
    (found,) = read(gpu)["devices"]
    return dict(found)


def test_device_has_all_figures(gpu: ScriptedGpu) -> None:
    """A device tells every figure of the contract."""
    assert {
        "id": "GPU-0",
        "name": "Scripted GPU",
        "kind": "nvidia",
        "total_bytes": 8 * GB,
        "used_bytes": 0,
        "free_bytes": 8 * GB,
        "utilization_pct": 0.0,
        "temperature_c": 40.0,
        "power_w": 20.0,
        "processes": [],
        "reason": None,
    } == device(gpu)
    assert ("580.00", None) == (read(gpu)["driver_version"], read(gpu)["reason"])


def test_used_memory_follows_the_models(gpu: ScriptedGpu, ollama_server: ScriptedOllama) -> None:
    """Used memory rises with a load, and falls when it is back, not when ps says gone."""
    post(f"{ollama_server.url}/api/generate", {"model": "a"})
    assert (3 * GB, 5 * GB) == (device(gpu)["used_bytes"], device(gpu)["free_bytes"])
    assert [{"pid": 4001, "name": "llama-server", "used_bytes": 3 * GB}] == device(gpu)["processes"]
    post(f"{ollama_server.url}/api/generate", {"model": "a", "keep_alive": 0})
    assert (set(), 3 * GB) == (ollama_server.loaded, device(gpu)["used_bytes"])
    ollama_server.release_vram()
    assert 0 == device(gpu)["used_bytes"]


def test_other_processes_take_memory_from_the_models(
    gpu: ScriptedGpu, ollama_server: ScriptedOllama
) -> None:
    """What others hold is used memory, and the followed server finds it taken."""
    gpu.change(other_bytes=6 * GB, utilization_pct=70.0)
    post(f"{ollama_server.url}/api/generate", {"model": "a"})
    found = device(gpu)
    assert (7 * GB, 70.0) == (found["used_bytes"], found["utilization_pct"])
    assert ["llama-server", "other"] == [item["name"] for item in found["processes"]]


def test_figures_can_be_refused(gpu: ScriptedGpu) -> None:
    """A figure that the driver does not tell is null, and the reason names it."""
    gpu.change(not_supported=("temperature_c", "power_w"), tells_processes=False)
    found = device(gpu)
    assert (None, None, None, "temperature_c: Not Supported; power_w: Not Supported") == (
        found["temperature_c"],
        found["power_w"],
        found["processes"],
        found["reason"],
    )


def test_device_can_be_lost(gpu: ScriptedGpu) -> None:
    """A lost device keeps its name and tells nothing else, with the reason."""
    gpu.change(reason="GPU is lost")
    found = device(gpu)
    assert ("GPU-0", None, None, "GPU is lost") == (
        found["id"],
        found["total_bytes"],
        found["used_bytes"],
        found["reason"],
    )


def test_driver_can_fail_and_come_back(gpu: ScriptedGpu) -> None:
    """A driver that cannot be loaded lists no device and says why, until it is there again."""
    gpu.fail("no NVIDIA driver is installed")
    assert {
        "devices": [],
        "driver_version": None,
        "reason": "no NVIDIA driver is installed",
    } == read(gpu)
    gpu.fail(None)
    assert 1 == len(read(gpu)["devices"])


def test_several_devices_are_listed_in_order() -> None:
    """Each device has its own figures; without one the driver says that there is none."""
    devices = [FakeGpu(4 * GB, other_bytes=GB), FakeGpu(None, id="card1", kind="amd")]
    with ScriptedGpu(*devices) as gpu:
        first, second = read(gpu)["devices"]
    assert ("GPU-0", 3 * GB) == (first["id"], first["free_bytes"])
    assert ("card1", None, None) == (second["id"], second["total_bytes"], second["free_bytes"])
    assert "the driver lists no GPU" == ScriptedGpu().read()["reason"]


def test_reader_can_be_broken(gpu: ScriptedGpu) -> None:
    """The faults of any reply work for the reader too."""
    gpu.enqueue(Reply(error_first=(500, "driver")), Reply(html_instead=502), to="gpu")
    url = f"{gpu.url}/gpu"
    assert [500, 502, 200] == [get(url).status_code for _ in range(3)]


def test_reader_outlives_the_server_it_follows(
    gpu: ScriptedGpu, ollama_server: ScriptedOllama
) -> None:
    """While the followed server is down its memory can still be read."""
    post(f"{ollama_server.url}/api/generate", {"model": "a"})
    ollama_server.close()
    assert 3 * GB == device(gpu)["used_bytes"]
