"""What a client asks about models and memory, on a server that speaks the contract."""

from __future__ import annotations

import _thread
import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from IPython.lib.pretty import pretty

import workbench
from tests.client import contract
from tests.client.contract import GIB, ContractServer, Held, Lines, Refusal
from workbench.client.memory_api import setting_value
from workbench.client.memory_values import (
    GpuStatus,
    PullProgress,
    QueueStatus,
    ServerEvent,
    SettingValue,
)
from workbench.client.progress import PullPrinter
from workbench.client.values import ModelInfo, RunningModel
from workbench.errors import (
    ConfigError,
    InsufficientMemory,
    ProtocolError,
    ResponseError,
    StreamBroken,
    SwapRequired,
    UnloadFailed,
    WorkbenchError,
)

PLAN = {
    "model": "owl:7b",
    "backend": "ollama",
    "evict": [
        {"model": "bat:1b", "backend": "ollama", "bytes": 3, "reload_s": 2.0, "reason": "idle"}
    ],
    "needed_bytes": 5,
    "free_bytes": 2,
    "estimated_s": 4.0,
}


@pytest.fixture
def server() -> Iterator[ContractServer]:
    with ContractServer(contract.ANSWERS) as running:
        yield running


@pytest.fixture
def wb(server: ContractServer) -> Iterator[workbench.Workbench]:
    with workbench.connect(server.url, token="t") as found:
        yield found


def interrupt_when(server: ContractServer, key: str) -> threading.Thread:
    """Interrupt the main thread, as Ctrl-C does, once the server has heard a request."""

    def strike() -> None:
        request = server.wait_for(key)
        assert request.stalled.wait(30)
        _thread.interrupt_main()

    thread = threading.Thread(target=strike)
    thread.start()
    return thread


def test_models_say_how_they_are_kept(wb: workbench.Workbench) -> None:
    """A model's row has what the contract says, and the table shows fit and priority."""
    models = wb.models()
    assert (7, True, True, "it is loaded there") == (
        models[0].priority,
        models[0].pinned,
        models[0].forever,
        models[0].route_reason,
    )
    assert ("too_large", 20 * GIB) == (models[0].fit.verdict, models[0].fit.needed_bytes)
    assert "too large  7, pinned, leased" in repr(models)
    frame = models.to_frame()
    assert ["too_large"] == list(frame["fit_verdict"])
    assert ["bat:1b"] == list(frame["evicts"])


def test_a_stale_row_says_so() -> None:
    """What was last known of a backend that does not answer is marked."""
    assert "idle (stale)" == ModelInfo("m", state="idle", stale=True).cells()["STATE"]
    assert "idle (stale)" == RunningModel("m", state="idle", stale=True).cells()["STATE"]


def test_what_is_unknown_is_told() -> None:
    """Figures nobody measured print as unknown, never as 0."""
    cells = RunningModel("m").cells()
    assert {"unknown"} == {
        cells[title] for title in ("SIZE", "VRAM", "ON GPU", "CONTEXT", "IN FLIGHT", "OWNER")
    }
    assert "unknown" == ModelInfo("m").cells()["FITS"]


def test_a_loaded_model_shows_its_offload(wb: workbench.Workbench) -> None:
    """The part on the GPU stands in the table, and a warning below the model."""
    model = wb.loaded()[0]
    assert ("75 %", {"num_ctx": 4096}) == (model.cells()["ON GPU"], model.profile)
    assert str(model).endswith("warning: 1.0 GiB of it lie in the host's memory")
    assert ["num_ctx=4096"] == list(model.to_frame()["profile"])


def test_load_sends_what_was_given(wb: workbench.Workbench, server: ContractServer) -> None:
    """Options, keep_alive and consent are sent; what was not given is not."""
    assert "owl:7b" == wb.load("owl").name
    assert {"model": "owl"} == server.body("POST load")
    wb.load("owl", keep_alive="5m", swap=True, force=True, num_ctx=256)
    assert {
        "model": "owl",
        "options": {"num_ctx": 256},
        "keep_alive": "5m",
        "swap": True,
        "force": True,
    } == server.body("POST load")
    wb.swap("owl", num_ctx=256)
    assert {"model": "owl", "options": {"num_ctx": 256}, "swap": True} == server.body("POST load")


def test_load_can_be_awaited(wb: workbench.Workbench, server: ContractServer) -> None:
    """The forms to await send the same, on any loop."""

    async def both() -> list[str]:
        first, second = await asyncio.gather(wb.aload("owl", num_ctx=256), wb.aswap("owl"))
        await wb.aunload("owl")
        return [first.name, second.name]

    assert ["owl:7b", "owl:7b"] == asyncio.run(both())
    assert {"model": "owl"} == server.body("POST unload")


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (409, {"type": "SwapRequired", "plan": PLAN}, SwapRequired),
        (409, {"type": "UnloadFailed", "model": "bat", "verdict": "x"}, UnloadFailed),
        (507, {"type": "InsufficientMemory", "model": "owl", "needed_bytes": 9,
               "available_bytes": 5, "would_fit": ["bat:1b"]}, InsufficientMemory),
    ],
    ids=["swap", "unload", "memory"],
)  # fmt: skip
def test_a_load_that_is_refused_says_why(
    wb: workbench.Workbench,
    server: ContractServer,
    status: int,
    body: dict[str, Any],
    kind: type[WorkbenchError],
) -> None:
    """A refusal is an error of its class, with its fields."""
    server.answers["POST load"] = Refusal(status, {"error": "no", **body})
    with pytest.raises(kind) as caught:
        wb.load("owl")
    for name in ("plan", "verdict", "would_fit"):
        if name in body:
            assert body[name] == caught.value.fields[name]


def test_an_interrupted_load_goes_on(
    wb: workbench.Workbench, server: ContractServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C ends the waiting and says that the server goes on."""
    server.answers["POST load"] = Held(contract.LOADED)
    thread = interrupt_when(server, "POST load")
    with pytest.raises(KeyboardInterrupt):
        wb.load("owl")
    thread.join()
    assert "The server goes on loading owl" in capsys.readouterr().err


def test_unload_gives_the_verdict(wb: workbench.Workbench, server: ContractServer) -> None:
    """The verdict comes with seconds and bytes before and after."""
    result = wb.unload("owl", force=True)
    assert ("verified", 0.4, 3 * GIB, 1) == (
        result.verdict,
        result.seconds,
        result.freed_bytes,
        result.waited_for,
    )
    assert {"model": "owl", "force": True} == server.body("POST unload")
    assert "verified  400 ms  4.0 GiB  1.0 GiB" in str(result)


def test_pins_and_preferences(wb: workbench.Workbench, server: ContractServer) -> None:
    """Only what is given is changed, and None goes back to the default."""
    assert wb.pin("owl", force=True).pinned
    assert {"model": "owl", "force": True} == server.body("POST pin")
    wb.unpin("owl")
    assert {"model": "owl"} == server.body("POST unpin")
    wb.prefer("owl", priority=9, keep_alive=None)
    assert {"model": "owl", "priority": 9, "keep_alive": None} == server.body("PATCH models")


def test_fit_is_explained(wb: workbench.Workbench, server: ContractServer) -> None:
    """The advisor's answer prints with its bytes, its reasons and what it does not know."""
    fit = wb.fits("hf.co/a/b:Q4", num_ctx=8192)
    assert "model=hf.co%2Fa%2Fb%3AQ4&num_ctx=8192" == server.heard("GET fit")[-1].query
    text = str(fit)
    assert "owl:7b, context 8192: alongside: 6 GiB of 8 GiB" in text
    assert "needed     6.0 GiB (estimated, 5.0 GiB to 7.0 GiB, low confidence): weights" in text
    assert "alone      yes: 6 GiB of 12 GiB" in text
    assert "alongside  unknown: another client may load" in text
    assert "offload    yes, 50 % of it: no room" in text
    assert [True] == list(fit.to_frame()["alone_fits"])
    assert text == pretty(fit)


def test_devices_print_with_their_sources(wb: workbench.Workbench) -> None:
    """Each device has a line; what is unknown and why, and the warning, are told."""
    gpu = wb.gpu()
    title, card, lan, reason, warning = str(gpu).splitlines()
    assert title.startswith("DEVICE  KIND")
    assert "61 °C" in card
    assert "owl:7b 3.0 GiB" in card
    assert ["lan", "declared", "8.0", "GiB", "unknown"] == lan.split()[:5]
    assert "Card: the driver does not tell its power" == reason
    assert "warning: Card has 1.0 GiB left." == warning
    assert ["GPU-0", "lan"] == list(gpu.to_frame()["id"])


def test_no_device_says_why() -> None:
    """Where nothing can be measured the reason is printed."""
    assert "no driver" == str(GpuStatus(reason="no driver"))
    assert "(no devices)" == str(GpuStatus())


def test_the_queue_prints_its_plan(wb: workbench.Workbench) -> None:
    """Lanes, order, swaps and bounds are told."""
    title, lane, order, swaps, bound = str(wb.queue()).splitlines()
    assert title.startswith("MODEL")
    assert "serving  1        2" in lane
    assert "next: owl:7b (2), then bat:1b (3, swap)" == order
    assert "predicted swaps: 1" == swaps
    assert "longest wait for a turn: 5.0 s interactive, 60.0 s batch" == bound
    assert [2] == list(wb.queue().to_frame()["waiting"])
    assert str(QueueStatus()).startswith("(no requests)")


def test_settings_are_listed_and_changed(wb: workbench.Workbench, server: ContractServer) -> None:
    """A setting shows value and source; a change is sent by name, None takes it back."""
    assert "workbench.toml" in repr(wb.settings())
    assert "swap.ollama" == wb.set("swap.ollama", "manual").name
    assert {"swap.ollama": "manual"} == server.body("PATCH settings")
    wb.set("swap.ollama", None)
    assert {"swap.ollama": None} == server.body("PATCH settings")


def test_an_unknown_setting_names_the_nearest(
    wb: workbench.Workbench, server: ContractServer
) -> None:
    """A misspelt setting is refused before anything is sent."""
    with pytest.raises(ConfigError, match=r"Did you mean 'swap\.ollama'") as caught:
        wb.set("swap.olama", "auto")
    assert "swap.olama" == caught.value.key
    assert [] == server.heard("PATCH settings")


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("bool", "yes", True),
        ("bool", "false", False),
        ("int", "3", 3),
        ("int", "many", "many"),
        ("bytes", "8GB", "8GB"),
        ("bytes", "1024", 1024),
        ("float", "2.5", 2.5),
        ("seconds", "1.5", 1.5),
        ("seconds", "10m", "10m"),
        ("list", "a, b,", ["a", "b"]),
        ("choice", "auto", "auto"),
    ],
)
def test_a_typed_setting_has_its_kind(kind: str, text: str, value: object) -> None:
    """A value from a command line becomes what the server takes; what is wrong it refuses."""
    assert value == setting_value(SettingValue("x", kind=kind), text)


def test_a_typed_bool_must_be_one() -> None:
    """A word that is neither true nor false is refused here."""
    with pytest.raises(ConfigError):
        setting_value(SettingValue("x", kind="bool"), "perhaps")


def test_a_lease_is_kept_alive(wb: workbench.Workbench, server: ContractServer) -> None:
    """A lease is acquired, renewed while the block runs, and released."""
    server.answers["POST leases"] = {**contract.LEASE, "ttl_s": 0.15}
    with wb.lease("owl", ttl="30s", holder="me") as lease:
        assert {"models": ["owl"], "ttl_s": 30.0, "holder": "me"} == server.body("POST leases")
        server.wait_for("POST leases/L1", 3)
        assert "L1" == lease.id
        assert lease.lost is None
    assert 1 == len(server.heard("DELETE leases/L1"))
    assert "<Lease of owl (closed)>" == repr(lease)


def test_a_lease_can_be_awaited(wb: workbench.Workbench, server: ContractServer) -> None:
    """A lease of several models works with `async with`."""

    async def hold() -> str | None:
        async with wb.lease(["owl", "bat"]) as lease:
            return lease.id

    assert "L1" == asyncio.run(hold())
    assert ["owl", "bat"] == server.body("POST leases")["models"]
    assert 1 == len(server.heard("DELETE leases/L1"))


def test_a_lost_lease_says_so(wb: workbench.Workbench, server: ContractServer) -> None:
    """When the server says that a lease has expired it is seen, and not renewed or released."""
    server.answers["POST leases"] = {**contract.LEASE, "ttl_s": 0.15}
    server.answers["POST leases/L1"] = Refusal(404, {"error": "the lease has expired"})
    with wb.lease("owl") as lease:
        beating = lease._beating
        assert beating is not None
        beating.result(timeout=30)
        assert "the lease has expired" == lease.lost
        assert "lost: the lease has expired" in repr(lease)
    assert 1 == len(server.heard("POST leases/L1"))
    assert [] == server.heard("DELETE leases/L1")


def test_a_lease_is_opened_once(wb: workbench.Workbench) -> None:
    """Opening an open lease is refused; closing a closed one does nothing."""
    lease = wb.lease("owl").open()
    with pytest.raises(WorkbenchError, match="open already"):
        lease.open()
    lease.close()
    lease.close()


@pytest.mark.parametrize(("models", "ttl"), [([], 5), (["owl"], 0)])
def test_an_empty_lease_is_refused(wb: workbench.Workbench, models: list[str], ttl: int) -> None:
    """A lease of nothing, or for no time, is an error."""
    with pytest.raises(ConfigError):
        wb.lease(models, ttl=ttl)


def test_leases_are_listed(wb: workbench.Workbench) -> None:
    """Who holds what is a table."""
    assert "L1     owl:7b  me      30.0 s" in repr(wb.leases())


def test_pull_yields_its_progress(wb: workbench.Workbench, server: ContractServer) -> None:
    """Each line is a value with sizes, speed and time left."""
    steps = list(wb.pull("owl", stream=True))
    assert {"model": "owl"} == server.body("POST pull")
    assert [None, 0.25, None] == [step.share for step in steps]
    assert "pulling:  25 % (1.0 GiB of 4.0 GiB, 256.0 MiB/s, 12.0 s left)" == str(steps[1])


def test_pull_can_be_awaited(wb: workbench.Workbench) -> None:
    """The progress comes on any loop."""

    async def fetch() -> list[str]:
        return [step.status async for step in wb.apull("owl")]

    assert "success" == asyncio.run(fetch())[-1]


def test_pull_prints_its_steps(wb: workbench.Workbench, capsys: pytest.CaptureFixture[str]) -> None:
    """Where a line cannot be written over there is one line per step."""
    wb.pull("owl")
    printed = capsys.readouterr().out.splitlines()
    assert ["pulling manifest", "pulling (4.0 GiB)", "success"] == printed


def test_a_bar_is_written_over() -> None:
    """On a terminal the bar grows in its line, and a shorter text leaves nothing behind."""
    written: list[str] = []
    printer = PullPrinter(written.append, live=True)
    printer.feed(PullProgress("pulling", "a", 100, 50))
    printer.feed(PullProgress("pulling", "a", 100, 100))
    printer.feed(PullProgress("success"))
    printer.close()
    text = "".join(written)
    assert text.startswith("\r[############............] pulling:  50 % (50 B of 100 B)")
    assert text.endswith("\n\rsuccess\n")
    assert 2 == text.count("\n")


@pytest.mark.parametrize(
    ("lines", "kind"),
    [
        (Lines([{"error": "disk full", "type": "InsufficientDisk", "hint": "x"}]), ResponseError),
        (Lines([{"status": "pulling"}]), StreamBroken),
        (Lines([{"status": "pulling"}], cut=True), StreamBroken),
        (Lines([{"total_bytes": 1}]), ProtocolError),
    ],
    ids=["error", "end", "cut", "form"],
)
def test_a_pull_that_fails_raises(
    wb: workbench.Workbench, server: ContractServer, lines: Lines, kind: type[WorkbenchError]
) -> None:
    """A download that did not reach its last line is an error, whatever ended it."""
    server.answers["POST pull"] = lines
    with pytest.raises(kind):
        list(wb.pull("owl", stream=True))


def test_an_interrupted_pull_is_cancelled(
    wb: workbench.Workbench, server: ContractServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C closes the request, which cancels the download, and says how to go on."""
    server.answers["POST pull"] = Lines(contract.PULL[:2], hold=True)
    thread = interrupt_when(server, "POST pull")
    with pytest.raises(KeyboardInterrupt):
        wb.pull("owl")
    thread.join()
    assert server.heard("POST pull")[0].disconnected.wait(30)
    assert "wb.pull('owl') goes on where it stopped" in capsys.readouterr().err


def test_delete_and_add(wb: workbench.Workbench, server: ContractServer, tmp_path: Path) -> None:
    """A deletion says what was unloaded and freed; a file is named by its whole path."""
    deleted = wb.delete("owl")
    assert {"model": "owl"} == server.body("DELETE models")
    assert deleted.unload is not None
    assert ("verified", 5 * GIB) == (deleted.unload.verdict, deleted.freed_bytes)
    wb.add_model("some.gguf", name="mine")
    assert {"path": str(Path.cwd() / "some.gguf"), "name": "mine"} == server.body("POST models/add")
    wb.add_model(tmp_path / "other.gguf")
    assert {"path": str(tmp_path / "other.gguf")} == server.body("POST models/add")


def test_events_come_as_they_happen(wb: workbench.Workbench, server: ContractServer) -> None:
    """Events are values; leaving the loop ends the request."""
    server.answers["GET events"] = Lines(contract.EVENTS, hold=True)
    events = wb.events(recent=True)
    first = next(events)
    assert ServerEvent(1.0, "loading", {"model": "owl:7b", "estimated_s": 3.5}) == first
    assert contract.EVENTS[0] == first.to_wire()
    assert str(first).endswith(" loading model=owl:7b estimated_s=3.5s")
    assert "recent=1" == server.heard("GET events")[0].query
    events.close()  # type: ignore[attr-defined]
    assert server.heard("GET events")[0].disconnected.wait(30)


def test_an_event_is_one_line_for_people() -> None:
    """Sizes and times have units, texts have quotes, digests are short, the unknown is left out."""
    fields = {
        "digest": "ab" * 32,
        "bytes_before": 3 * GIB,
        "gone_s": 0.00486,
        "reason": "asked for",
        "actor": "",
        "bytes_after": None,
        "models": ["a", "b"],
        "swap": True,
    }
    said = str(ServerEvent(0.0, "x", fields))
    assert said.endswith(
        ' x digest=abababababab bytes_before=3.0GiB gone_s=5ms reason="asked for"'
        " models=a,b swap=True"
    )


def test_events_can_be_awaited(wb: workbench.Workbench, server: ContractServer) -> None:
    """Events end when the server ends them, on any loop."""

    async def follow() -> list[str]:
        return [event.event async for event in wb.aevents()]

    assert ["loading", "loaded"] == asyncio.run(follow())
    assert "recent=0" == server.heard("GET events")[0].query


def test_events_of_a_lost_server_are_an_error(
    wb: workbench.Workbench, server: ContractServer
) -> None:
    """A connection that breaks is told, not taken for the end."""
    server.answers["GET events"] = Lines(contract.EVENTS, cut=True)
    with pytest.raises(StreamBroken):
        list(wb.events())
