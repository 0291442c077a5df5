"""Ollama's scheduler as the scripted server plays it, read by Ollama's own client."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import ollama
import pytest

from tests.testing.bench import GB, QUESTION, SMALL, Bench
from tests.testing.helpers import kill, post, raw_request
from workbench.testing import FakeModel, Reply


@pytest.fixture
def bench() -> Iterator[Bench]:
    with Bench() as found:
        yield found


@pytest.mark.parametrize(
    "options",
    [
        {"num_ctx": 2048},
        {"num_batch": 64},
        {"num_gpu": 3},
        {"main_gpu": 1},
        {"use_mmap": False},
        {"num_thread": 2},
        {"draft_num_predict": 4},
    ],
    ids=lambda options: next(iter(options)),
)
def test_another_runner_option_reloads(bench: Bench, options: dict[str, Any]) -> None:
    """Each runner option that differs from the loaded one unloads the model and loads it again."""
    bench.load("a")
    bench.load("a", **options)
    bench.load("a", **options)
    assert (1, 1, ["a:latest"] * 2) == (
        bench.server.reloads,
        bench.server.unloads,
        bench.server.loads,
    )
    assert [("unloaded", "a", f"reload {next(iter(options))}")] == bench.events("unloaded")


def test_another_shift_reloads(bench: Bench) -> None:
    """A request without context shift reloads a model that was loaded with it."""
    body = {"model": "a", "prompt": "?", "stream": False}
    for shift in (None, True, False):
        post(f"{bench.server.url}/api/generate", body | {"shift": shift})
    assert 1 == bench.server.reloads


def test_touch_without_the_options_reloads(bench: Bench) -> None:
    """A request that leaves out the num_ctx of the loaded model takes the default one."""
    bench.load("a", num_ctx=2048)
    bench.load("a")
    assert (1, 4096) == (bench.server.reloads, bench.ps()["a:latest"].context_length)


@pytest.mark.parametrize("options", [{"temperature": 0.1}, {"num_gpu": -1}, {"num_ctx": 4096}])
def test_options_that_change_no_runner_do_not_reload(bench: Bench, options: dict[str, Any]) -> None:
    """Runtime options, a num_gpu below zero and the context it has anyway reload nothing."""
    bench.load("a")
    bench.load("a", **options)
    assert 0 == bench.server.reloads


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [("num_gpu", "1", "integer"), ("use_mmap", 1, "boolean"), ("num_thread", True, "integer")],
)
def test_runner_options_of_the_wrong_type(bench: Bench, name: str, value: Any, kind: str) -> None:
    """A runner option of the wrong type is a 500 with its name."""
    answer = post(f"{bench.server.url}/api/generate", {"model": "a", "options": {name: value}})
    expected = {"error": f'option "{name}" must be of type {kind}'}
    assert (500, expected) == (answer.status_code, answer.json())


def test_models_that_fit_stay_together(bench: Bench) -> None:
    """A model that is predicted to take at most 80 % of the free memory evicts nobody."""
    bench.load("a")
    bench.load("b")
    assert (["a", "b"], 0, 6 * GB) == (
        bench.names(),
        bench.server.evictions,
        bench.server.used_bytes,
    )


def test_fit_check_keeps_a_fifth_free() -> None:
    """A model that would fit, but into more than 80 % of the free memory, evicts."""
    with Bench(SMALL[0], FakeModel("x", size_bytes=4_100_000_000)) as bench:
        bench.load("a")
        bench.load("x")
        assert (["x"], 1) == (bench.names(), bench.server.evictions)


def test_prediction_that_is_too_high_evicts_needlessly() -> None:
    """The fit check goes by the predicted memory, not by what the model will take."""
    with Bench(SMALL[0], FakeModel("x", size_bytes=GB, predicted_bytes=6 * GB)) as bench:
        bench.load("a")
        bench.load("x")
        assert ["x"] == bench.names()


def test_context_takes_memory() -> None:
    """The KV cache of the asked context counts in the fit and in ps."""
    with Bench(SMALL[0], FakeModel("x", size_bytes=GB, kv_bytes_per_token=500_000)) as bench:
        bench.load("a")
        bench.load("x", num_ctx=2048)
        assert (["a", "x"], 2_024_000_000) == (bench.names(), bench.ps()["x:latest"].size)
        bench.load("x", num_ctx=8192)
        assert (["x"], 1, 1) == (bench.names(), bench.server.reloads, bench.server.evictions)


def test_victim_is_the_shortest_keep_alive(bench: Bench) -> None:
    """The idle model with the shortest keep_alive leaves, be it the one used last."""
    bench.load("a", keep_alive="10m")
    bench.load("b", keep_alive="5m")
    bench.load("c")
    assert [("unloaded", "b", "evicted")] == bench.events("unloaded")


def test_ties_of_keep_alive_go_by_blob(bench: Bench) -> None:
    """Of two models with one keep_alive the one whose blob sorts first leaves."""
    bench.load("a")
    bench.load("b")
    bench.load("c")
    assert [("unloaded", "b", "evicted")] == bench.events("unloaded")


def test_forever_is_no_pin(bench: Bench) -> None:
    """A model that was loaded for ever is evicted last, but it is evicted."""
    bench.load("a", keep_alive=-1)
    bench.load("b")
    bench.load("c")
    bench.load("b", keep_alive=-1)
    bench.load("c")
    assert ["b", "c", "b"] == [name for _, name, _ in bench.events("unloaded")]
    bench.load("c", keep_alive=-1)
    bench.load("b")
    assert ("unloaded", "c", "evicted") == bench.events("unloaded")[-1]


def test_busy_model_is_evicted_last_and_after_its_answer(bench: Bench) -> None:
    """A busy model outlives idle ones of a longer keep_alive; alone, it drains first."""
    with bench.busy("a", keep_alive="1m"):
        bench.load("b", keep_alive="1h")
        bench.load("c")
        assert [("unloaded", "b", "evicted")] == bench.events("unloaded")
    with Bench(max_loaded=1) as single:
        with single.busy("a"):
            loading = single.begin("b")
            single.server.wait_for_event("draining", "a")
            assert (["a"], False) == (single.names(), loading.done())
        loading.result(10)
        assert ["b"] == single.names()


def test_number_of_loaded_models_is_limited() -> None:
    """With as many models as may be loaded, one is evicted however much memory is free."""
    with Bench(memory_bytes=100 * GB, max_loaded=2) as bench:
        for name in ("a", "b", "c"):
            bench.load(name)
        assert (2, 1) == (len(bench.names()), bench.server.evictions)


def test_loading_model_is_not_in_ps(bench: Bench) -> None:
    """A model is listed only when its load is over; its memory is taken before."""
    bench.server.enqueue(Reply(stall_load=True), to="load")
    loading = bench.begin("a")
    bench.server.wait_for_event("loading", "a")
    assert ({}, 3 * GB) == (bench.ps(), bench.server.used_bytes)
    bench.server.release()
    bench.server.wait_until_loaded("a")
    assert (["a"], "load") == (bench.names(), loading.result(10).done_reason)


def test_eviction_waits_for_its_memory() -> None:
    """A load that evicted waits for the memory, and is then wholly on the GPU."""
    with Bench(max_loaded=1, vram_lag_s=0.5, recovery_s=60.0) as bench:
        bench.load("a")
        bench.load("b")
        assert ["unloaded", "released", "loading"] == [
            kind for kind, *_ in bench.events("unloaded", "released", "loading")[-3:]
        ]
        assert 3 * GB == bench.ps()["b:latest"].size_vram


def test_eviction_waits_only_so_long() -> None:
    """When the memory does not come back the load starts all the same, with less of it."""
    models = [FakeModel(name, size_bytes=5 * GB) for name in ("a", "b")]
    with Bench(*models, vram_lag_s=math.inf, recovery_s=0.05, margin_bytes=0) as bench:
        bench.load("a")
        bench.load("b")
        assert (["b"], 3 * GB, 5 * GB) == (
            bench.names(),
            bench.ps()["b:latest"].size_vram,
            bench.ps()["b:latest"].size,
        )


def test_load_right_after_an_unload_is_offloaded() -> None:
    """After an explicit unload the next load does not wait for the memory: part goes to the CPU."""
    models = [FakeModel(name, size_bytes=5 * GB) for name in ("a", "b")]
    with Bench(*models, vram_lag_s=4.0, margin_bytes=GB) as bench:
        bench.load("a")
        bench.unload("a")
        bench.load("b")
        assert (2 * GB, 5 * GB) == (bench.ps()["b:latest"].size_vram, bench.ps()["b:latest"].size)


def test_model_larger_than_the_memory_is_offloaded() -> None:
    """The first model is loaded unchecked; what does not fit goes to the CPU without a word."""
    with Bench(FakeModel("x", size_bytes=20 * GB)) as bench:
        answer = bench.load("x")
        found = bench.ps()["x:latest"]
        assert ("load", 20 * GB, 7 * GB) == (answer.done_reason, found.size, found.size_vram)


def test_memory_of_others_makes_loads_partial(bench: Bench) -> None:
    """What other processes hold is not there for a load."""
    bench.server.other_bytes = 6 * GB
    bench.load("a")
    assert GB == bench.ps()["a:latest"].size_vram


def test_lost_eviction_holds_every_load_up(bench: Bench) -> None:
    """With the deadlock a load that needs room never starts, and loads behind it neither."""
    bench.load("a")
    bench.load("b")
    bench.server.deadlock = True
    stuck, behind = bench.begin("c"), None
    assert "evicted" == bench.server.wait_for_event("stuck", "c").reason
    behind = bench.begin("a", options={"num_ctx": 64})
    bench.server.wait_for_event("queued", "a", n=2)
    assert (["a", "b"], True) == (bench.names(), len(bench.client.list().models) == 3)
    assert "stop" == bench.client.chat("b", QUESTION).done_reason
    assert (False, False) == (stuck.done(), behind.done())
    bench.server.deadlock = False
    bench.unload("b")
    assert ["load", "load"] == [item.result(10).done_reason for item in (stuck, behind)]


def test_unload_of_the_idle_victim_ends_the_deadlock(bench: Bench) -> None:
    """Any unload wakes the load that waits, though evictions are still lost."""
    bench.load("a")
    bench.load("b")
    bench.server.deadlock = True
    stuck = bench.begin("c")
    bench.server.wait_for_event("stuck", "c")
    assert "unload" == bench.unload("a")
    assert "load" == stuck.result(10).done_reason
    assert (["b", "c"], 0) == (bench.names(), bench.server.evictions)


def test_victim_that_is_brought_back_is_sent_away_again() -> None:
    """Without the deadlock a resurrected victim leaves as soon as it is idle again."""
    with Bench(max_loaded=1) as bench:
        with bench.busy("a"):
            loading = bench.begin("b")
            bench.server.wait_for_event("draining", "a")
            bench.load("a", keep_alive="10m")
        assert "load" == loading.result(10).done_reason
        assert [("resurrected", "a", "evicted"), ("unloaded", "a", "evicted")] == bench.events(
            "resurrected", "unloaded"
        )


def test_full_queue_is_busy() -> None:
    """A load beyond the queue is a 503 with Ollama's words and no Retry-After."""
    with Bench(max_queue=1) as bench:
        bench.server.enqueue(Reply(stall_load=True), to="load")
        waiting = [bench.begin("a")]
        bench.server.wait_for_event("loading", "a")
        waiting.append(bench.begin("b"))
        bench.server.wait_for_event("queued", "b")
        answer = post(f"{bench.server.url}/api/generate", {"model": "c"})
        text = "server busy, please try again.  maximum pending requests exceeded"
        assert (503, {"error": text}, False) == (
            answer.status_code,
            answer.json(),
            "retry-after" in answer.headers,
        )
        bench.server.release()
        assert ["load"] * 2 == [item.result(10).done_reason for item in waiting]


def test_loaded_model_needs_no_queue() -> None:
    """A request for a loaded model is answered however full the queue is."""
    with Bench(max_queue=0) as bench:
        bench.load("b")
        bench.server.enqueue(Reply(stall_load=True), to="load")
        waiting = bench.begin("a")
        bench.server.wait_for_event("loading", "a")
        assert "stop" == bench.client.chat("b", QUESTION).done_reason
        bench.server.release()
        waiting.result(10)


def test_client_that_leaves_aborts_its_load(bench: Bench) -> None:
    """A client that disconnects during the load ends it, and its memory comes back."""
    bench.server.enqueue(Reply(stall_load=True), to="load")
    kill(raw_request(bench.server.url, "/api/generate", {"model": "a"}))
    bench.server.wait_for_event("load_aborted", "a")
    assert ([], 0, ["a:latest"]) == (
        bench.names(),
        bench.server.used_bytes,
        bench.server.loads,
    )


def test_client_that_leaves_does_not_stop_an_eviction() -> None:
    """The victim of a load still goes when the client that wanted room has left."""
    with Bench(max_loaded=1) as bench:
        with bench.busy("a"):
            sock = raw_request(bench.server.url, "/api/generate", {"model": "b"})
            bench.server.wait_for_event("draining", "a")
            kill(sock)
            assert bench.server.wait_for_request(1, to="load").disconnected.wait(10)
        bench.server.wait_until_unloaded("a")
        assert [] == bench.events("loading")[1:]


def test_aliases_of_other_context_reload_each_other() -> None:
    """Two Modelfiles on one blob with different num_ctx are never loaded side by side."""
    twin = FakeModel("wide", blob="c" * 64, parameters="num_ctx                        8192")
    with Bench(SMALL[0], twin) as bench:
        for name in ("a", "wide", "a"):
            bench.load(name, keep_alive=-1)
        assert (2, ["a"]) == (bench.server.reloads, bench.names())


@pytest.mark.parametrize(
    ("memory_bytes", "context"), [(8 * GB, 4096), (25 * GB, 32768), (60 * GB, 100_000)]
)
def test_default_context_goes_by_the_memory(memory_bytes: int, context: int) -> None:
    """A request without num_ctx gets a context by the memory, at most what the model has."""
    with Bench(FakeModel("a", context_length=100_000), memory_bytes=memory_bytes) as bench:
        bench.load("a")
        assert context == bench.ps()["a:latest"].context_length


def test_default_context_can_be_set() -> None:
    """The server's own default context stands in ps."""
    with Bench(default_num_ctx=1000) as bench:
        bench.load("a")
        assert 1000 == bench.ps()["a:latest"].context_length


def test_automatic_context_is_reduced_when_memory_runs_out() -> None:
    """A load that runs out of memory is tried once more, with less context if none was asked."""
    models = [
        FakeModel("a", context_length=300_000, oom_context=40_000),
        FakeModel("b", context_length=300_000, oom_context=4096),
    ]
    with Bench(*models, memory_bytes=60 * GB) as bench:
        bench.load("a")
        assert (32768, ["a:latest"] * 2) == (
            bench.ps()["a:latest"].context_length,
            bench.server.loads,
        )
        with pytest.raises(ollama.ResponseError, match="out of memory"):
            bench.load("b")
        assert ["b:latest"] * 2 == bench.server.loads[2:]


def test_num_gpu_zero_stays_off_the_gpu(bench: Bench) -> None:
    """A model loaded with no layer on the GPU takes none of its memory and evicts nobody."""
    bench.load("a")
    bench.load("b")
    bench.load("c", num_gpu=0)
    assert (["a", "b", "c"], 0) == (bench.names(), bench.ps()["c:latest"].size_vram)


def test_shift_is_off_for_one_family() -> None:
    """A request that leaves shift out gets it, but for deepseek2 models."""
    with Bench(FakeModel("a"), FakeModel("b", family="deepseek2")) as bench:
        for name in ("a", "b"):
            body = {"model": name, "prompt": "?", "stream": False}
            post(f"{bench.server.url}/api/generate", body)
            post(f"{bench.server.url}/api/generate", body | {"shift": True})
        assert [("unloaded", "b", "reload shift")] == bench.events("unloaded")


def test_load_that_runs_out_of_memory_unloads_the_others() -> None:
    """An asked context that runs out of memory costs every other model, and then fails."""
    with Bench(SMALL[0], FakeModel("x", size_bytes=GB, oom_context=2048)) as bench:
        bench.load("a", keep_alive=-1)
        with pytest.raises(ollama.ResponseError, match="out of memory") as caught:
            bench.load("x", num_ctx=8192)
        assert (500, [], 2) == (
            caught.value.status_code,
            bench.names(),
            len(bench.events("load_failed")),
        )
        assert [("unloaded", "a", "oom")] == bench.events("unloaded")


def test_answers_take_turns() -> None:
    """With one answer at a time the second request waits for the first, and says so nowhere."""
    with Bench(parallel=1) as bench:
        with bench.busy("a"):
            asking = bench.ask("a", QUESTION)
            assert bench.server.wait_for_request(2, to="chat").first_byte_at is None
        answer = asking.result(10)
        named = (answer.load_duration, answer.prompt_eval_duration, answer.eval_duration)
        assert sum(item or 0 for item in named) < (answer.total_duration or 0)


def test_load_in_progress_holds_others_up(bench: Bench) -> None:
    """Models are loaded one at a time, in the order of the requests."""
    bench.server.enqueue(Reply(stall_load=True), to="load")
    first = bench.begin("a")
    bench.server.wait_for_event("loading", "a")
    second = bench.begin("b")
    bench.server.wait_for_event("queued", "b")
    assert ["a:latest"] == bench.server.loads
    bench.server.release()
    assert ["load"] * 2 == [item.result(10).done_reason for item in (first, second)]
    assert ["a:latest", "b:latest"] == bench.server.loads


def test_embeddings_load_too(bench: Bench) -> None:
    """A request for embeddings loads its model, and reloads it for other options."""
    bench.load("a")
    bench.client.embed("a", "text", options={"num_ctx": 512})
    assert (1, 512) == (bench.server.reloads, bench.ps()["a:latest"].context_length)


@pytest.mark.parametrize("seed", range(3))
def test_many_clients_at_random(seed: int) -> None:
    """Whatever clients ask for in whatever order, all are answered and the memory holds."""
    choose = random.Random(seed)
    keep_alive = [None, None, 0, 0.01, "5m", -1]

    def body() -> dict[str, Any]:
        prompt = choose.choice(["", "?", "?"])
        options = {"num_ctx": choose.choice([512, 512, 1024])}
        asked = {"model": choose.choice("abc"), "prompt": prompt, "stream": False}
        return asked | {"options": options, "keep_alive": choose.choice(keep_alive)}

    with (
        Bench(vram_lag_s=0.01, recovery_s=0.05, parallel=1) as bench,
        ThreadPoolExecutor(6) as pool,
    ):
        bodies = [body() for _ in range(90)]
        leaving = [raw_request(bench.server.url, "/api/generate", body()) for _ in range(9)]
        url = f"{bench.server.url}/api/generate"
        asking = [pool.submit(post, url, asked) for asked in bodies]
        for sock in leaving:
            kill(sock)
        answers = [item.result(60) for item in asking]
        assert {(200, True)} == {(item.status_code, item.json()["done"]) for item in answers}
        for request in bench.server.requests:
            assert request.finished.wait(10)
        assert max(item.used_bytes for item in bench.server.history) <= 8 * GB
        bench.server.run_out_of_memory()
        for name in "abc":
            bench.server.wait_until_unloaded(name)
        bench.server.wait_until_released()
        assert 0 == bench.server.used_bytes
