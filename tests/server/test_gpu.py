from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil
import pynvml
import pytest

from workbench.server.gpu import GpuProcess, GpuReport, read_gpus
from workbench.server.gpu.amd import AmdReader
from workbench.server.gpu.apple import IOREG, AppleReader
from workbench.server.gpu.declared import DeclaredReader, Held
from workbench.server.gpu.host import HostReader
from workbench.server.gpu.nvml import RETRY_S, NvmlReader
from workbench.server.gpu.scripted import ENVIRONMENT, ScriptedReader
from workbench.testing import FakeGpu, Reply, ScriptedGpu

GIB = 2**30
UNSUPPORTED = pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)


@dataclass(frozen=True)
class Memory:
    """What the driver says of a GPU's memory."""

    total: int = 24 * GIB
    used: int = 1 * GIB
    free: int = 23 * GIB


@dataclass(frozen=True)
class Load:
    """What the driver says of how busy a GPU is."""

    gpu: int = 37


@dataclass(frozen=True)
class Process:
    """What the driver says of one process."""

    pid: int
    usedGpuMemory: int | None


@dataclass(frozen=True)
class Driver:
    """An NVIDIA driver that answers as told; an exception in place of a value is raised.

    A card without `parts` cannot be cut; a handle is its number, a part's is "card/part".
    """

    init: Any = None
    version: Any = "999.1"
    count: Any = 1
    handle: Any = None
    name: Any = "Card"
    uuid: Any = b"GPU-1"
    memory: Any = Memory()
    load: Any = Load()
    temperature: Any = 55
    power: Any = 120_500
    compute: Any = ()
    graphics: Any = ()
    process_name: Any = b"/usr/bin/ollama runner --port 4"
    parts: Sequence[Any] = ()
    calls: list[str] = field(default_factory=list)

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Answer in place of the real driver, which is foreign code and may not be there."""
        answers: Mapping[str, Any] = {
            "nvmlInit": self.init,
            "nvmlShutdown": None,
            "nvmlSystemGetDriverVersion": self.version,
            "nvmlDeviceGetCount": self.count,
            "nvmlDeviceGetHandleByIndex": self.handle or (lambda number: str(number)),
            "nvmlDeviceGetName": self.name,
            "nvmlDeviceGetUUID": self.uuid,
            "nvmlDeviceGetMemoryInfo": self.memory,
            "nvmlDeviceGetUtilizationRates": self.load,
            "nvmlDeviceGetTemperature": self.temperature,
            "nvmlDeviceGetPowerUsage": self.power,
            "nvmlDeviceGetComputeRunningProcesses": self.compute,
            "nvmlDeviceGetGraphicsRunningProcesses": self.graphics,
            "nvmlSystemGetProcessName": self.process_name,
            "nvmlDeviceGetMigMode": (1, 1) if self.parts else UNSUPPORTED,
            "nvmlDeviceGetMaxMigDeviceCount": len(self.parts),
            "nvmlDeviceGetMigDeviceHandleByIndex": lambda _, place: _given(self.parts[place]),
        }
        for function, answer in answers.items():
            monkeypatch.setattr(pynvml, function, self._answering(function, answer))

    def _answering(self, function: str, answer: Any) -> Any:
        def ask(*arguments: Any) -> Any:
            self.calls.append(function)
            return _given(answer(*arguments) if callable(answer) else answer)

        return ask


def _given(answer: Any) -> Any:
    if isinstance(answer, Exception):
        raise answer
    return answer


def test_this_machine_is_read_without_an_error() -> None:
    """On any machine there are devices with figures, or a reason why there are none."""
    report = read_gpus()
    assert report.devices or report.reason
    assert all(d.total_bytes is None or d.total_bytes > 0 for d in report.devices)


def test_devices_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each GPU has an id, a name and its figures with their source; old drivers answer in bytes."""
    Driver(compute=[Process(7, 5 * GIB)]).install(monkeypatch)
    report = read_gpus()
    (device,) = report.devices
    assert ("999.1", None) == (report.driver_version, report.reason)
    assert ("Card", "GPU-1", 24 * GIB, 1 * GIB, 23 * GIB, 37.0, 55.0, 120.5, None) == (
        device.name,
        device.id,
        device.total_bytes,
        device.used_bytes,
        device.free_bytes,
        device.utilization_pct,
        device.temperature_c,
        device.power_w,
        device.reason,
    )
    assert (GpuProcess(7, "ollama", 5 * GIB),) == device.processes
    assert {"NVML"} == set(device.sources.values())


@pytest.mark.parametrize(
    ("error", "reason", "failed"),
    [
        (pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, "no NVIDIA driver is installed", False),
        (pynvml.NVML_ERROR_DRIVER_NOT_LOADED, "the NVIDIA driver is not loaded", False),
        (
            pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH,
            "RM has detected an NVML/RM version mismatch.",
            True,
        ),
    ],
)
def test_missing_driver_is_a_reason(
    monkeypatch: pytest.MonkeyPatch, error: int, reason: str, failed: bool
) -> None:
    """Without a working driver there is no device, and the report says why and whether to doubt."""
    Driver(init=pynvml.NVMLError(error)).install(monkeypatch)
    assert GpuReport(reason=reason, failed=failed) == NvmlReader().read()


def test_driver_that_fails_later_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that begins and then fails gives a reason too."""
    Driver(count=pynvml.NVMLError(pynvml.NVML_ERROR_UNKNOWN)).install(monkeypatch)
    assert GpuReport(reason="Unknown Error", failed=True) == NvmlReader().read()


def test_driver_without_gpus_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """No GPU is told as such, with the driver's version."""
    Driver(count=0).install(monkeypatch)
    assert GpuReport((), "999.1", "the driver lists no GPU") == NvmlReader().read()


@pytest.mark.parametrize(
    ("field", "figures"),
    [
        ("memory", ("total_bytes", "used_bytes", "free_bytes")),
        ("load", ("utilization_pct",)),
        ("temperature", ("temperature_c",)),
        ("power", ("power_w",)),
    ],
)
def test_unknown_figure_is_not_zero(
    monkeypatch: pytest.MonkeyPatch, field: str, figures: tuple[str, ...]
) -> None:
    """What the driver does not tell is unknown, with the reason; the rest is kept."""
    replace(Driver(), **{field: UNSUPPORTED}).install(monkeypatch)
    (device,) = NvmlReader().read().devices
    assert {None} == {getattr(device, name) for name in figures}
    assert "the GPU does not tell" in str(device.reason)
    assert "Card" == device.name
    assert not set(figures) & set(device.sources)


def test_memory_of_a_process_may_be_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process whose memory or name the driver hides is listed without it."""
    gone = pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
    driver = Driver(compute=UNSUPPORTED, graphics=[Process(9, None)], process_name=gone)
    driver.install(monkeypatch)
    (device,) = NvmlReader().read().devices
    assert (GpuProcess(9, None, None),) == device.processes
    replace(driver, graphics=UNSUPPORTED).install(monkeypatch)
    (device,) = NvmlReader().read().devices
    assert (None, "the GPU does not tell") == (device.processes, device.reasons["processes"])


def test_parts_of_a_cut_card_are_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """A card in MIG mode is listed as its parts, which have its temperature; empty places are not.

    The card itself would count their memory a second time.
    """
    empty = pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)

    def uuid(handle: str) -> str:
        return f"MIG-{handle}"

    def load(handle: str) -> Any:
        return UNSUPPORTED if "/" in handle else Load()

    Driver(uuid=uuid, load=load, parts=["0/a", empty, "0/b"]).install(monkeypatch)
    devices = NvmlReader().read().devices
    assert ["MIG-0/a", "MIG-0/b"] == [device.id for device in devices]
    assert [0, 1] == [device.index for device in devices]
    assert {(None, 55.0)} == {(item.utilization_pct, item.temperature_c) for item in devices}


def test_lost_gpu_is_a_reason_and_the_others_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A card that falls off the bus in mid-run is told as lost; the other one has its figures."""
    lost = pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
    Driver(count=2, handle=lambda number: lost if number == 0 else "1").install(monkeypatch)
    first, second = NvmlReader().read().devices
    assert "lost" in str(first.reason)
    assert (None, 24 * GIB) == (first.total_bytes, second.total_bytes)


def test_library_is_opened_once_and_anew_after_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Readings share one initialisation; after an error the library is closed and opened again."""
    driver = Driver()
    driver.install(monkeypatch)
    reader = NvmlReader()
    for _ in range(3):
        reader.read()
    assert 1 == driver.calls.count("nvmlInit")
    reloaded = pynvml.NVMLError(pynvml.NVML_ERROR_UNINITIALIZED)
    replace(driver, count=reloaded).install(monkeypatch)
    assert GpuReport(reason="the driver was reloaded", failed=True) == reader.read()
    driver.install(monkeypatch)
    assert reader.read().devices
    assert (2, 1) == (driver.calls.count("nvmlInit"), driver.calls.count("nvmlShutdown"))
    reader.close()
    reader.close()
    assert 2 == driver.calls.count("nvmlShutdown")


def test_missing_driver_is_looked_for_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a driver is not asked at every sample, and one that comes is found."""
    now = [0.0]
    driver = Driver(init=pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND))
    driver.install(monkeypatch)
    reader = NvmlReader(clock=lambda: now[0])
    reports = {reader.read() for _ in range(5)}
    assert (1, 1) == (len(reports), driver.calls.count("nvmlInit"))
    replace(driver, init=None).install(monkeypatch)
    now[0] = RETRY_S
    assert reader.read().devices


# ---- AMD


def amd_card(root: Path, number: int, files: Mapping[str, str]) -> None:
    """Write the files of one card as the amdgpu driver shows them."""
    for name, text in {"vendor": "0x1002\n", **files}.items():
        path = root / f"card{number}" / "device" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


RX7900 = {
    "device": "0x744c\n",
    "product_name": "Radeon RX 7900 XTX\n",
    "unique_id": "6b2e3c0a1d4f5566\n",
    "mem_info_vram_total": f"{24 * GIB}\n",
    "mem_info_vram_used": f"{3 * GIB}\n",
    "gpu_busy_percent": "12\n",
    "hwmon/hwmon3/temp1_input": "48000\n",
    "hwmon/hwmon3/power1_average": "91000000\n",
}


def test_amd_card_is_read(tmp_path: Path) -> None:
    """Every figure of the driver's files comes in our unit; connectors and other makers do not."""
    amd_card(tmp_path, 1, RX7900)
    amd_card(tmp_path, 0, {"vendor": "0x8086\n"})
    (tmp_path / "card1-DP-1").mkdir()
    (device,) = AmdReader(tmp_path).read().devices
    assert ("amd-6b2e3c0a1d4f5566", "Radeon RX 7900 XTX", "amd") == (
        device.id,
        device.name,
        device.kind,
    )
    assert (24 * GIB, 3 * GIB, 21 * GIB, 12.0, 48.0, 91.0) == (
        device.total_bytes,
        device.used_bytes,
        device.free_bytes,
        device.utilization_pct,
        device.temperature_c,
        device.power_w,
    )


def test_amd_card_that_tells_less(tmp_path: Path) -> None:
    """Files that are missing or hold no number are reasons, never zeros."""
    amd_card(
        tmp_path,
        0,
        {
            "device": "0x15bf\n",
            "uevent": "DRIVER=amdgpu\nPCI_SLOT_NAME=0000:c1:00.0\n",
            "mem_info_vram_total": f"{GIB}\n",
            "mem_info_vram_used": "\n",
            "hwmon/hwmon0/power1_input": "4000000\n",
        },
    )
    (device,) = AmdReader(tmp_path).read().devices
    assert ("amd-0000:c1:00.0", "AMD GPU 0x15bf") == (device.id, device.name)
    assert (GIB, None, None, None, None, 4.0) == (
        device.total_bytes,
        device.used_bytes,
        device.free_bytes,
        device.utilization_pct,
        device.temperature_c,
        device.power_w,
    )
    unknown = {"used_bytes", "free_bytes", "utilization_pct", "temperature_c", "processes"}
    assert unknown == set(device.reasons)


def test_machine_without_amd_has_a_reason(tmp_path: Path) -> None:
    """No folder and no such card are reasons."""
    assert "there is no" in str(AmdReader(tmp_path / "none").read().reason)
    assert "there is no AMD GPU" == AmdReader(tmp_path).read().reason


# ---- Apple

IOREG_TEXT = """\
+-o AGXAcceleratorG14G  <class AGXAcceleratorG14G, id 0x1000004b2, registered, matched>
    {
      "IOClass" = "AGXAcceleratorG14G"
      "model" = "Apple M2"
      "gpu-core-count" = 10
      "PerformanceStatistics" = {"In use system memory (driver)"=0,"Alloc system memory"=41535406,\
"Tiler Utilization %"=4,"recoveryCount"=0,"Renderer Utilization %"=3,"Device Utilization %"=17,\
"In use system memory"=842137600}
    }
"""


def test_apple_gpu_is_read() -> None:
    """A Mac's GPU has the machine's memory, and how busy it is from ioreg."""
    outputs = {IOREG: IOREG_TEXT}
    report = AppleReader(lambda command: outputs[tuple(command)], system="darwin").read()
    (device,) = report.devices
    assert ("Apple M2", 17.0, "apple") == (device.name, device.utilization_pct, device.kind)
    assert psutil.virtual_memory().total == device.total_bytes
    assert {"ioreg", "psutil (unified)"} == set(device.sources.values())


def test_apple_tools_may_fail() -> None:
    """Without ioreg the memory stands, the rest is unknown with the reason."""

    def fail(command: Sequence[str]) -> str:
        raise FileNotFoundError(command[0])

    (device,) = AppleReader(fail, system="darwin").read().devices
    assert (None, None) == (device.name, device.utilization_pct)
    assert "ioreg failed" in device.reasons["utilization_pct"]
    assert device.total_bytes


def test_only_a_mac_has_apple_gpus() -> None:
    """Elsewhere nothing is run."""
    assert GpuReport(reason="this is not a Mac") == AppleReader(system="linux").read()


# ---- host, declared, scripted


def test_host_memory_is_read() -> None:
    """The machine's memory adds up, and its load is a share."""
    (device,) = HostReader().read().devices
    assert device.total_bytes == (device.used_bytes or 0) + (device.free_bytes or 0)
    assert psutil.virtual_memory().total == device.total_bytes
    assert 0 <= (device.utilization_pct or 0) <= 100


@pytest.mark.parametrize(
    ("total", "held", "free", "unknown"),
    [
        (8 * GIB, Held(3 * GIB), 5 * GIB, set()),
        (8 * GIB, Held(9 * GIB), 0, set()),
        (None, Held(3 * GIB), None, {"total_bytes", "free_bytes"}),
        (8 * GIB, Held(None, "it does not answer"), None, {"used_bytes", "free_bytes"}),
    ],
    ids=["known", "more than declared", "not declared", "unreachable"],
)
def test_declared_memory(
    total: int | None, held: Held, free: int | None, unknown: set[str]
) -> None:
    """A remote host's free memory is the declared total minus what `ps` says, or unknown."""
    (device,) = DeclaredReader("den", total, lambda: held).read().devices
    assert ("den", free) == (device.backend, device.free_bytes)
    memory = {"total_bytes", "used_bytes", "free_bytes"}
    assert unknown == memory & set(device.reasons)
    assert memory - unknown == set(device.sources)


def test_scripted_devices_replace_the_real_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """With WORKBENCH_GPU_SCRIPT the devices are those a script tells; what it omits is unknown."""
    told = FakeGpu(8 * GIB, other_bytes=GIB, name="Made up", not_supported=("temperature_c",))
    with ScriptedGpu(told, FakeGpu(reason="GPU is lost")) as script:
        for name, value in script.environment.items():
            monkeypatch.setenv(name, value)
        assert ENVIRONMENT in script.environment
        made_up, lost = read_gpus().devices
    assert ("Made up", 7 * GIB, None) == (made_up.name, made_up.free_bytes, made_up.temperature_c)
    assert {"temperature_c": "Not Supported"} == made_up.reasons
    assert {"script"} == set(made_up.sources.values())
    assert (None, {"GPU is lost"}) == (lost.total_bytes, set(lost.reasons.values()))


@pytest.mark.parametrize("body", [b"[]", b"{", b'{"devices": [{"total_bytes": "many"}]}'])
def test_script_that_makes_no_sense_is_a_reason(body: bytes) -> None:
    """An answer of another form is no device, and says so."""
    with ScriptedGpu(FakeGpu()) as script:
        script.set_reply(Reply(raw=body), to="gpu")
        report = ScriptedReader(script.environment[ENVIRONMENT]).read()
    assert (True, ()) == (report.failed, report.devices)
    assert "the scripted GPU reader gave no answer" in str(report.reason)


def test_script_that_is_gone_is_a_reason() -> None:
    """A script that does not answer leaves the devices unknown."""
    assert ScriptedReader("http://127.0.0.1:9/gpu").read().failed


def test_report_is_json(monkeypatch: pytest.MonkeyPatch) -> None:
    """A report has JSON values, with source and reason of every figure."""
    Driver(power=UNSUPPORTED).install(monkeypatch)
    (device,) = json.loads(json.dumps(read_gpus().as_json()))["devices"]
    assert ("NVML", "power_w: the GPU does not tell") == (device["source"], device["reason"])
