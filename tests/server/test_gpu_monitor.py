from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any

import pytest

from workbench.server.gpu import GpuDevice
from workbench.server.gpu.declared import DeclaredReader, Held
from workbench.server.gpu.host import HostReader
from workbench.server.gpu.monitor import Activity, GpuMonitor, GpuSnapshot, NextLoad
from workbench.server.gpu.scripted import ENVIRONMENT, ScriptedReader
from workbench.server.gpu.warning import LowMemory, Thresholds
from workbench.testing import FakeGpu, Reply, ScriptedGpu

GIB = 2**30
CARD = FakeGpu(8 * GIB, other_bytes=2 * GIB, id="GPU-1", name="Card")
GARBAGE = Reply(raw=b"{")
PLACES = {"ollama": "gpu", "embedded": "host", "den": "declared"}


class Bench:
    """A monitor over a scripted reader, with its events."""

    def __init__(self, script: ScriptedGpu, *, timeout_s: float = 30.0) -> None:
        self.script = script
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.activity: Activity = "nobody"
        self._timeout_s = timeout_s

    @property
    def reads(self) -> int:
        """How often the devices were read."""
        return len(self.script.requests)

    def make(self) -> GpuMonitor:
        """Return a monitor; inside a running loop."""
        return GpuMonitor(
            ScriptedReader(self.script.environment[ENVIRONMENT]),
            HostReader(),
            declared={"den": DeclaredReader("den", 4 * GIB, lambda: Held(GIB))},
            places=PLACES,
            emit=lambda event, **fields: self.events.append((event, fields)),
            activity=lambda: self.activity,
            timeout_s=self._timeout_s,
        )

    def run(self, body: Callable[[GpuMonitor], Coroutine[Any, Any, None]]) -> None:
        """Run a test with a monitor, and close it."""

        async def main() -> None:
            monitor = self.make()
            try:
                await body(monitor)
            finally:
                await monitor.close()

        asyncio.run(main())


@pytest.fixture
def bench() -> Iterator[Bench]:
    """Yield a monitor's bench with one card."""
    with ScriptedGpu(CARD) as script:
        yield Bench(script)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition with a generous deadline."""
    async with asyncio.timeout(60):
        while True:
            if condition():
                return
            await asyncio.sleep(0.01)


def device(free: int | None, total: int | None) -> GpuDevice:
    """Return a device with this memory."""
    return GpuDevice(id="d", total_bytes=total, free_bytes=free)


@pytest.mark.parametrize(
    ("total", "free", "expected"),
    [
        (100 * GIB, [50, 11, 9, 12, 14.9, 16], [None, None, "memory_low", None, None, "memory_ok"]),
        (8 * GIB, [1.5, 0.9, 1.1, 1.3], [None, "memory_low", None, "memory_ok"]),
        # 15 % of 4 GiB is less than the gigabyte: only the bytes take the warning back.
        (4 * GIB, [0.5, 0.7, 0.9, 1.1], ["memory_low", None, None, "memory_ok"]),
    ],
    ids=["share", "bytes", "small card"],
)
def test_warning_has_hysteresis(
    total: int, free: Sequence[float], expected: Sequence[str | None]
) -> None:
    """It comes below 10 % or 1 GiB, and goes only above 15 % and the bytes."""
    low = LowMemory()
    found = [low.update(device(int(gib * GIB), total), Thresholds()) for gib in free]
    assert list(expected) == found


def test_unknown_memory_changes_no_warning() -> None:
    """A reading without figures neither warns nor takes a warning back."""
    low = LowMemory()
    assert "memory_low" == low.update(device(0, 8 * GIB), Thresholds())
    assert [None, None] == [low.update(device(None, total), Thresholds()) for total in (None, 8)]
    assert low.is_low(device(None, None))


def test_snapshot_has_every_device(bench: Bench) -> None:
    """GPUs, this machine's memory and declared hosts are in one reading, each with its source."""

    async def body(monitor: GpuMonitor) -> None:
        taken = await monitor.snapshot()
        assert ["nvidia", "host", "declared"] == [item.kind for item in taken.devices]
        assert ["script", "psutil", "declared, ps, declared - ps"] == [
            item.source for item in taken.devices
        ]
        assert abs(time.time() - taken.taken_at) < 600

    bench.run(body)


def test_callers_share_a_reading(bench: Bench) -> None:
    """Twenty callers at once cost one reading, and one that goes away takes it from nobody."""

    async def body(monitor: GpuMonitor) -> None:
        asked = [asyncio.create_task(monitor.snapshot()) for _ in range(20)]
        await asyncio.sleep(0)
        asked[0].cancel()
        await asyncio.gather(*asked[1:])

    bench.run(body)
    assert 1 == bench.reads


def test_low_memory_is_told_once(bench: Bench) -> None:
    """A card that fills up is an event with bytes and reason, and another when it is well again."""

    async def body(monitor: GpuMonitor) -> None:
        for used in (2, 7.5, 7.6, 6):
            bench.script.change(other_bytes=int(used * GIB))
            taken = await monitor.snapshot(max_age_s=0)
            assert (used > 7) == ("GPU-1" in [item.id for item in taken.low])

    bench.run(body)
    mine = [(name, fields) for name, fields in bench.events if fields["device"] == "GPU-1"]
    assert ["memory_low", "memory_ok"] == [name for name, _ in mine]
    assert ("512.0 MiB of 8.0 GiB are free", GIB // 2) == (
        mine[0][1]["reason"],
        mine[0][1]["free_bytes"],
    )


def test_load_that_would_offload_is_told_once(bench: Bench) -> None:
    """What the next load would do is judged at every reading and told when it changes."""
    coming = NextLoad("big", "ollama", 9 * GIB, 6 * GIB, 8 * GIB, "too large")
    answers = iter([None, coming, coming, None, coming])

    async def body(monitor: GpuMonitor) -> None:
        monitor.next_load = lambda _: next(answers)
        found = [(await monitor.snapshot(max_age_s=0)).next_load for _ in range(5)]
        assert [None, coming, coming, None, coming] == found

    bench.run(body)
    told = [fields for name, fields in bench.events if name == "next_load_offloads"]
    assert [("big", 9 * GIB), ("big", 9 * GIB)] == [
        (fields["model"], fields["needed_bytes"]) for fields in told
    ]


def test_free_memory_is_the_witness_of_release(bench: Bench) -> None:
    """It is the GPUs' for a local host, the machine's for embedded models, unknown for others."""

    async def body(monitor: GpuMonitor) -> None:
        assert "nothing was read yet" == monitor.why_unknown("ollama")
        assert 6 * GIB == await monitor.free_bytes("ollama")
        assert (await monitor.free_bytes("embedded") or 0) > 0
        assert [None, None] == [await monitor.free_bytes(name) for name in ("den", "nobody")]
        assert "the host is remote" in str(monitor.why_unknown("den"))
        assert None is monitor.why_unknown("ollama")
        bench.script.change(not_supported=("free_bytes",))
        await monitor.snapshot(max_age_s=0)
        assert None is await monitor.free_bytes("ollama")
        assert "Not Supported" == monitor.why_unknown("ollama")

    bench.run(body)


def test_without_a_gpu_models_live_in_the_memory_of_the_machine(bench: Bench) -> None:
    """No GPU means the host's memory; GPUs that could not be read are unknown, not absent."""
    bench.script.fail("no NVIDIA driver is installed")

    async def body(monitor: GpuMonitor) -> None:
        assert (await monitor.free_bytes("ollama") or 0) > 0
        bench.script.set_reply(GARBAGE, to="gpu")
        await monitor.snapshot(max_age_s=0)
        assert None is await monitor.free_bytes("ollama")
        assert "gave no answer" in str(monitor.why_unknown("ollama"))

    bench.run(body)


def test_driver_that_fails_keeps_its_devices_without_figures(bench: Bench) -> None:
    """A card whose driver fails in mid-run stays listed, its figures unknown with the reason."""

    async def body(monitor: GpuMonitor) -> None:
        await monitor.snapshot()
        bench.script.set_reply(GARBAGE, to="gpu")
        card = (await monitor.snapshot(max_age_s=0)).devices[0]
        assert ("Card", None, None) == (card.name, card.total_bytes, card.free_bytes)
        assert "gave no answer" in card.reasons["free_bytes"]
        bench.script.set_reply(Reply(), to="gpu")
        bench.script.fail("the driver lists no GPU")
        lost = (await monitor.snapshot(max_age_s=0)).devices[0]
        assert ("Card", "the driver lists no GPU") == (lost.name, lost.reasons["free_bytes"])

    bench.run(body)


def test_driver_that_hangs_holds_up_nobody() -> None:
    """A reading ends at its deadline with the reason, no second one starts, and it recovers."""
    with ScriptedGpu(CARD) as script:
        bench = Bench(script, timeout_s=0.05)

        async def body(monitor: GpuMonitor) -> None:
            await until_read(monitor)
            script.set_reply(Reply(stall_after=0), to="gpu")
            hung = [await monitor.snapshot(max_age_s=0) for _ in range(3)]
            assert {None} == {item.devices[0].free_bytes for item in hung}
            assert "has not answered for" in hung[0].devices[0].reasons["free_bytes"]
            script.set_reply(Reply(), to="gpu")
            script.release()
            await until_read(monitor)

        async def until_read(monitor: GpuMonitor) -> None:
            async with asyncio.timeout(60):
                while True:
                    gpus = (await monitor.snapshot(max_age_s=0)).gpus
                    if gpus and gpus[0].free_bytes is not None:
                        return

        bench.run(body)


def test_sampler_runs_only_for_somebody(bench: Bench) -> None:
    """Nobody: no reading; idle: one in 30 s; busy or watched: again and again."""

    async def body(monitor: GpuMonitor) -> None:
        monitor.wake()
        for _ in range(20):
            await asyncio.sleep(0.01)
        assert 0 == bench.reads
        bench.activity = "idle"
        monitor.wake()
        await until(lambda: bench.reads == 1 and monitor.latest is not None)
        for _ in range(20):
            monitor.wake()
            await asyncio.sleep(0.01)
        assert 1 == bench.reads
        bench.activity = "busy"
        monitor.wake()
        await until(lambda: bench.reads >= 4)
        bench.activity = "nobody"
        monitor.wake(watched=True)
        seen = bench.reads
        await until(lambda: bench.reads >= seen + 2)

    bench.run(body)


def test_recorder_gets_every_reading(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """A recorder sees each reading until it leaves, and one that fails is logged and no more."""

    async def body(monitor: GpuMonitor) -> None:
        seen: list[GpuSnapshot] = []

        def fail(_: GpuSnapshot) -> None:
            raise RuntimeError("full")

        monitor.subscribe(fail)
        leave = monitor.subscribe(seen.append)
        first = await monitor.snapshot()
        leave()
        await monitor.snapshot(max_age_s=0)
        assert [first] == seen
        samples = [item for item in monitor.history(600) if item.device == "GPU-1"]
        assert [6 * GIB, 6 * GIB] == [item.free_bytes for item in samples]
        assert [] == monitor.history(-1)

    bench.run(body)
    assert "a recorder of device figures failed" in caplog.text
