"""Life in the memory of the scripted Ollama: unloading, ending, names, restarts, history."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator

import httpx
import ollama
import pytest

from tests.testing.bench import GB, QUESTION, Bench
from tests.testing.helpers import PLAIN, get, post
from workbench.testing import FakeModel, Reply, ScriptedOllama


@pytest.fixture
def bench() -> Iterator[Bench]:
    with Bench() as found:
        yield found


def test_unload_while_loading_does_nothing(bench: Bench) -> None:
    """An unload of a loading model says "unload", and the model stays."""
    bench.server.enqueue(Reply(stall_load=True), to="load")
    loading = bench.begin("a")
    bench.server.wait_for_event("loading", "a")
    assert "unload" == bench.unload("a")
    bench.server.release()
    loading.result(10)
    assert (["a"], 0) == (bench.names(), bench.server.unloads)


def test_unload_of_nothing_says_the_same(bench: Bench) -> None:
    """An unload of a model that is not loaded is answered like any other."""
    assert ("unload", 0) == (bench.unload("a"), bench.server.unloads)


def test_unload_of_a_busy_model_drains(bench: Bench) -> None:
    """A busy model is unloaded when its answer is over; until then it is listed, its end past."""
    with bench.busy("a"):
        assert "unload" == bench.unload("a")
        listed = bench.ps()["a:latest"].expires_at
        event = bench.server.wait_for_event("draining", "a")
        assert listed is not None
        assert (True, "asked") == (listed.timestamp() <= time.time(), event.reason)
    bench.server.wait_until_unloaded("a")
    assert [] == bench.names()


def test_concurrent_request_resurrects(bench: Bench) -> None:
    """A request with a keep_alive, to a model that drains, brings it back for everybody."""
    with bench.busy("a"):
        bench.unload("a")
        bench.load("a", keep_alive="10m")
    assert (["a"], [("resurrected", "a", "asked")]) == (
        bench.names(),
        bench.events("resurrected", "unloaded"),
    )


def test_later_servers_do_not_resurrect() -> None:
    """In later sources of Ollama a draining model leaves, whatever keep_alive comes meanwhile."""
    with Bench(resurrects=False) as bench:
        with bench.busy("a"):
            bench.unload("a")
            bench.load("a", keep_alive="10m")
        bench.server.wait_until_unloaded("a")


def test_unloads_wait_for_the_memory_of_the_one_before() -> None:
    """While the memory of a model comes back, no other model leaves and no request is counted."""
    with Bench(vram_lag_s=math.inf, recovery_s=60.0) as bench:
        bench.load("a")
        bench.load("b")
        with bench.busy("b"):
            assert "unload" == bench.unload("a")
        assert "unload" == bench.unload("b")
        assert ["b"] == bench.names()
        bench.server.release_vram()
        bench.server.wait_until_unloaded("b")


def test_model_used_while_its_unload_waits_drains() -> None:
    """A model whose unload waits its turn is still served, and leaves after the answer."""
    with Bench(vram_lag_s=math.inf, recovery_s=60.0) as bench:
        bench.load("a")
        bench.load("b")
        bench.unload("a")
        bench.unload("b")
        with bench.busy("b"):
            bench.server.release_vram()
            assert "asked" == bench.server.wait_for_event("draining", "b").reason
        bench.server.wait_until_unloaded("b")


def test_request_without_keep_alive_does_not_resurrect(bench: Bench) -> None:
    """A request that leaves keep_alive out does not hold a model that drains."""
    with bench.busy("a"):
        bench.unload("a")
        bench.load("a")
        assert ["a"] == bench.names()
    bench.server.wait_until_unloaded("a")


@pytest.mark.parametrize("lag_s", [0.0, 0.5, 4.0, math.inf])
def test_gone_from_ps_comes_before_the_memory(lag_s: float) -> None:
    """An unloaded model is out of ps at once, and its memory is back after the lag."""
    with Bench(vram_lag_s=lag_s) as bench:
        bench.load("a")
        bench.unload("a")
        assert [] == bench.names()
        if lag_s > 1:
            assert 3 * GB == bench.server.used_bytes
            bench.server.release_vram()
        bench.server.wait_until_released()
        gone, back = bench.server.history[-2:]
        assert ("unloaded", "released", 0) == (gone.event, back.event, back.used_bytes)
        assert back.at - gone.at >= min(lag_s, 0.5) or lag_s > 1


def test_ps_can_be_blocked(bench: Bench) -> None:
    """A ps that hangs holds up nothing else."""
    bench.server.enqueue(Reply(stall_after=0), to="ps")
    with httpx.Client(**PLAIN, timeout=0.2) as client, pytest.raises(httpx.ReadTimeout):
        client.get(f"{bench.server.url}/api/ps")
    assert ("load", ["a"]) == (bench.load("a").done_reason, bench.names())


@pytest.mark.parametrize(
    ("reply", "status", "text"),
    [
        (Reply(error_first=(500, "no ps")), 500, '{"error":"no ps"}'),
        (Reply(html_instead=502), 502, "<!DOCTYPE html>"),
    ],
)
def test_ps_can_fail(bench: Bench, reply: Reply, status: int, text: str) -> None:
    """A ps that fails, or answers with a page of HTML, leaves the models as they are."""
    bench.load("a")
    bench.server.enqueue(reply, to="ps")
    answer = get(f"{bench.server.url}/api/ps")
    assert (status, True) == (answer.status_code, answer.text.startswith(text))
    assert ["a"] == bench.names()


def test_restart_loses_everything(bench: Bench) -> None:
    """After a restart nothing is loaded, no memory is held, and the version is another."""
    bench.load("a")
    bench.server.restart(version="0.34.0")
    assert ([], 0, "0.34.0", ["a:latest"]) == (
        bench.names(),
        bench.server.used_bytes,
        get(f"{bench.server.url}/api/version").json()["version"],
        bench.server.loads,
    )
    assert "load" == bench.load("a").done_reason


def test_restart_ends_a_deadlock(bench: Bench) -> None:
    """A restart breaks the connection of a load that hung, and later loads go through."""
    bench.load("a")
    bench.load("b")
    bench.server.deadlock = True
    stuck = bench.begin("c")
    bench.server.wait_for_event("stuck", "c")
    bench.server.restart()
    assert isinstance(stuck.exception(10), httpx.TransportError)
    assert "load" == bench.load("c").done_reason


def test_model_deleted_while_loaded_cannot_be_unloaded(bench: Bench) -> None:
    """A deleted model stays in ps, and its unload by name is a 404."""
    bench.load("a")
    bench.client.delete("a")
    with pytest.raises(ollama.ResponseError, match="model 'a' not found") as caught:
        bench.unload("a")
    assert (404, ["a"]) == (caught.value.status_code, bench.names())


def test_aliases_share_a_runner(bench: Bench) -> None:
    """Names of one blob are one runner, listed under the first; any of them unloads it."""
    bench.client.copy("a", "copied")
    bench.client.create("derived", from_="a", system="Be brief.")
    for name in ("a", "copied", "derived"):
        bench.load(name)
    assert (["a"], ["a:latest"]) == (bench.names(), bench.server.loads)
    assert "FROM /models/blobs/sha256-" + "c" * 64 in (bench.client.show("derived").modelfile or "")
    bench.unload("derived")
    assert [] == bench.names()


def test_cloud_models_are_in_no_memory() -> None:
    """A model of the cloud says where it runs, answers, and is never in ps."""
    with Bench(FakeModel("gpt-oss:120b-cloud"), FakeModel("glm:cloud")) as bench:
        listed = get(f"{bench.server.url}/api/tags").json()["models"]
        assert ["gpt-oss:120b", "glm"] == [item["remote_model"] for item in listed]
        assert "Hello from a script." == bench.client.chat("glm:cloud", QUESTION).message.content
        assert ("load", "unload") == (
            bench.load("glm:cloud").done_reason,
            bench.unload("glm:cloud"),
        )
        assert ([], []) == (bench.names(), bench.server.loads)


def test_keep_alive_is_sticky(bench: Bench) -> None:
    """A request without keep_alive keeps the last one given, and each one given overwrites."""
    bench.load("a", keep_alive=-1)
    bench.client.chat("a", QUESTION)
    forever = bench.ps()["a:latest"].expires_at
    bench.client.chat("a", QUESTION, keep_alive="1m")
    minute = bench.ps()["a:latest"].expires_at
    assert forever is not None
    assert minute is not None
    assert 2300 < forever.year
    assert minute.timestamp() < time.time() + 61


def test_model_expires_by_itself(bench: Bench) -> None:
    """A keep_alive that is over unloads the model, with nobody asking."""
    bench.load("a", keep_alive="10ms")
    assert "expired" == bench.server.wait_for_event("unloaded", "a").reason


def test_listed_end_is_not_moved_by_a_running_request(bench: Bench) -> None:
    """While a model answers, ps shows the end that it had when it was last idle."""
    bench.load("a", keep_alive="1m")
    idle = bench.ps()["a:latest"].expires_at
    with bench.busy("a", keep_alive="1h"):
        assert idle == bench.ps()["a:latest"].expires_at


def test_first_request_shows_an_end_that_moves(bench: Bench) -> None:
    """During its first request a model's end is the time of asking plus its keep_alive."""
    with bench.busy("a", keep_alive="1h"):
        first, second = (bench.ps()["a:latest"].expires_at for _ in range(2))
        assert first is not None
        assert second is not None
        assert time.time() + 3000 < first.timestamp() < second.timestamp()


@pytest.mark.parametrize(
    "reply",
    [
        Reply("a b c", error_after=(1, "model runner has unexpectedly stopped")),
        Reply("a b c", no_done=True),
        Reply("a b c", truncate_at_byte=40, cut="close"),
        Reply("a b c", reset_after=1),
    ],
    ids=["error", "no done", "cut", "reset"],
)
def test_broken_answers_leave_the_model_idle(bench: Bench, reply: Reply) -> None:
    """An answer that breaks ends the request, so that the model can be unloaded at once."""
    bench.server.enqueue(reply)
    with contextlib.suppress(httpx.TransportError):
        post(f"{bench.server.url}/api/chat", {"model": "a", "messages": QUESTION})
    assert bench.server.wait_for_request(to="chat").finished.wait(10)
    assert ("unload", []) == (bench.unload("a"), bench.names())


def test_runner_out_of_memory_unloads_everything(bench: Bench) -> None:
    """When a runner runs out of memory every model goes, those loaded for ever too."""
    bench.load("a", keep_alive=-1)
    bench.load("b")
    bench.server.run_out_of_memory()
    assert ([], 2) == (bench.names(), bench.server.unloads)


def test_history_has_times_and_bytes(bench: Bench) -> None:
    """The history tells in order what happened, with the memory of each and of all."""
    bench.load("a")
    bench.unload("a")
    found = bench.server.history
    assert ["queued", "loading", "loaded", "unloaded", "released"] == [item.event for item in found]
    assert [0, 3 * GB, 3 * GB, 3 * GB, 0] == [item.used_bytes for item in found]
    assert sorted(item.at for item in found) == [item.at for item in found]


def test_waiting_has_an_end(bench: Bench) -> None:
    """Waiting for what does not happen raises TimeoutError with what did."""
    bench.load("a")
    with pytest.raises(TimeoutError, match=r"b not loaded after 0\.01 s; last: .*loaded a"):
        bench.server.wait_until_loaded("b", timeout_s=0.01)


def test_server_without_a_memory_has_no_history() -> None:
    """A server that plays no scheduler says so when asked about one."""
    server = ScriptedOllama()
    assert server.memory_bytes is None
    with pytest.raises(RuntimeError, match="make it with memory_bytes="):
        _ = server.history
