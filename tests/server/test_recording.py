"""What a server records of the requests it relays, read back from its files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import ollama
import pandas as pd
import pytest

import workbench.metrics
from tests.server.harness import ServerProcess
from workbench.app import connect
from workbench.client.api import WorkbenchClient
from workbench.client.http import Deadlines
from workbench.config import new_token
from workbench.messages import GenerateConfig, Message
from workbench.portal import get_portal
from workbench.testing import FakeModel, Reply, ScriptedOllama

MODEL = "llama3.2:latest"
ASK = [{"role": "user", "content": "hi"}]


@pytest.fixture
def host() -> Iterator[ScriptedOllama]:
    """Yield a scripted Ollama with one model."""
    with ScriptedOllama(models=[FakeModel(MODEL)], reply=Reply("Hello from Ollama.")) as scripted:
        yield scripted


def started(tmp_path: Path, host: ScriptedOllama, toml: str = "") -> ServerProcess:
    """Return a server before that host; `with` starts it."""
    tmp_path.mkdir(exist_ok=True)
    (tmp_path / "workbench.toml").write_text(toml)
    return ServerProcess(tmp_path, env={"OLLAMA_HOST": host.url})


def read(server: ServerProcess, table: str, query: str = "") -> pd.DataFrame:
    """Return the rows of a table in the order they began."""
    with workbench.metrics.open(server.data_dir / "metrics") as metrics:
        return metrics.sql(f"select * from {table} {query} order by ts, seq")


def rows_after_end(server: ServerProcess) -> pd.DataFrame:
    """Return the requests after the server has ended, when every row is written."""
    server.stop()
    return read(server, "requests")


def ask_as_ourselves(server: ServerProcess, *, token: str | None = None, **context: Any) -> None:
    """Ask one question with the workbench's own client."""

    async def ask() -> None:
        shown = token or server.token
        client = WorkbenchClient(server.url, token=shown, deadlines=Deadlines(60, 60))
        try:
            batches = client.chat_batches(
                MODEL,
                [Message("system", "Be brief."), Message("user", "hi")],
                config=GenerateConfig(options={"seed": 3, "temperature": 0.5}),
                context=context or None,
            )
            async for _ in batches:
                continue
        finally:
            await client.aclose()

    get_portal().run(ask())


def test_named_token_is_in_the_rows(tmp_path: Path, host: ScriptedOllama) -> None:
    """Whoever shows a token with a name is named in the request and in the load it asked for."""
    token, digest = new_token()
    toml = f'[[token]]\nname = "ann"\nsha256 = "{digest}"\n'
    with started(tmp_path, host, toml) as server:
        ask_as_ourselves(server, token=token)
        ask_as_ourselves(server)
        rows = rows_after_end(server)
        loads = read(server, "model_events", "where event = 'load'")
        assert token not in server.log()
    assert ["ann", ""] == rows["token_name"].fillna("").tolist()
    assert loads["requested_by"][0].startswith("ann: workbench/")


def test_own_request_is_a_row_with_its_context(tmp_path: Path, host: ScriptedOllama) -> None:
    """A request of our client is one row: who asked, what for, which model, how long, how many."""
    with started(tmp_path, host) as server:
        ask_as_ourselves(server, conversation="c1", turn=4, speaker="Ada", run_id="r1")
        (row,) = rows_after_end(server).to_dict("records")
    expected = {
        "status": "ok",
        "client_name": "workbench",
        "client_kind": "library",
        "conversation": "c1",
        "turn": 4,
        "speaker": "Ada",
        "run_id": "r1",
        "priority": "interactive",
        "backend": "ollama",
        "backend_kind": "ollama",
        "gen_ai_operation_name": "chat",
        "gen_ai_provider_name": "ollama",
        "gen_ai_request_model": MODEL,
        "gen_ai_request_seed": 3,
        "gen_ai_request_temperature": 0.5,
        "gen_ai_request_stream": True,
        "token_source": "server",
        "cold": True,
    }
    assert expected == {name: row[name] for name in expected}
    assert ["stop"] == list(row["gen_ai_response_finish_reasons"])
    assert 0 < row["gen_ai_response_time_to_first_chunk"] <= row["duration"]
    assert row["trace_id"]
    assert row["parent_span_id"]
    assert row["model_digest"]


def test_text_of_own_requests_is_kept_once(tmp_path: Path, host: ScriptedOllama) -> None:
    """Messages are kept by their hash: the same question asked twice is one message."""
    with started(tmp_path, host) as server:
        ask_as_ourselves(server)
        ask_as_ourselves(server)
        requests = rows_after_end(server)
        messages = read(server, "messages")
    assert 2 == len(requests)
    assert ["assistant", "system", "user"] == sorted(messages["role"])
    assert {requests["output_sha"][0]} == set(messages[messages["role"] == "assistant"]["id"])
    assert requests["messages_sha"][0][-1] == requests["prompt_sha"][0]
    with workbench.metrics.open(server.data_dir / "metrics") as metrics:
        (part,) = metrics.parts(requests["output_sha"][0])
    assert {"type": "text", "content": "Hello from Ollama."} == part


@pytest.mark.parametrize(("mode", "own", "foreign"), [("all", 3, 2), ("own", 3, 0), ("none", 0, 0)])
def test_whose_text_is_kept_is_a_setting(
    tmp_path: Path, host: ScriptedOllama, mode: str, own: int, foreign: int
) -> None:
    """`record_text` says whose texts are kept; the rows and their hashes are kept in any case."""
    toml = f'[metrics]\nrecord_text = "{mode}"\n'
    with started(tmp_path / "own", host, toml) as server:
        ask_as_ourselves(server)
        assert 1 == len(rows_after_end(server))
        assert own == len(read(server, "messages"))
    with started(tmp_path / "foreign", host, toml) as server:
        server.http.post("/api/chat", json={"model": MODEL, "messages": ASK})
        rows = rows_after_end(server)
        assert rows["prompt_sha"].notna().all()
        assert foreign == len(read(server, "messages"))


def test_turns_of_a_conversation_count_its_answers(tmp_path: Path, host: ScriptedOllama) -> None:
    """Questions of one conversation have its id and their turn; one asked by a view says so."""
    with started(tmp_path, host) as server, connect(server.url, token=server.token) as wb:
        session = wb.session(MODEL, record=False)
        session.ask("one")
        session.ask("two")
        session.begin("three", kind="widget").future.result(60)
        rows = rows_after_end(server)
    assert [0, 1, 2] == list(rows["turn"])
    assert {session.id} == set(rows["conversation"])
    assert ["library", "library", "widget"] == list(rows["client_kind"])


def test_terminal_is_told_from_the_library(tmp_path: Path, host: ScriptedOllama) -> None:
    """A question asked in the terminal is a row of the kind `cli`."""
    with started(tmp_path, host) as server:
        env = {**os.environ, "WORKBENCH_DATA_DIR": str(server.data_dir)}
        command = [sys.executable, "-P", "-m", "workbench", "chat", MODEL, "hi"]
        subprocess.run(command, env=env, check=True, capture_output=True, stdin=subprocess.DEVNULL)
        rows = rows_after_end(server)
    assert ["cli"] == list(rows["client_kind"])


def test_gaps_between_pieces_are_kept_when_asked_for(tmp_path: Path, host: ScriptedOllama) -> None:
    """With `chunk_gaps` every gap between two reads of an answer is kept, else none."""
    host.set_reply(Reply(["a", "b", "c", "d"], tokens_per_s=50))
    with started(tmp_path / "off", host) as server:
        ask_as_ourselves(server)
        server.stop()
        with workbench.metrics.open(server.data_dir / "metrics") as metrics:
            assert 0 == len(metrics.gaps())
    with started(tmp_path / "on", host, "[metrics]\nchunk_gaps = true\n") as server:
        ask_as_ourselves(server)
        server.stop()
        with workbench.metrics.open(server.data_dir / "metrics") as metrics:
            gaps = metrics.gaps()
    assert 1 <= len(gaps) <= 4
    assert {MODEL} == set(gaps["model"])
    assert gaps["gap_s"].ge(0).all()


def test_official_client_is_recorded_too(tmp_path: Path, host: ScriptedOllama) -> None:
    """A request of the official Ollama client is a row that names that client."""
    with started(tmp_path, host) as server:
        headers = {"Authorization": f"Bearer {server.token}"}
        with ollama.Client(server.url, headers=headers) as client:
            client.chat(MODEL, messages=ASK)
            client.generate(MODEL, prompt="Go on", options={"num_predict": 7})
            client.embed(MODEL, input=["a", "b"])
        rows = rows_after_end(server)
    assert ["chat", "text_completion", "embeddings"] == list(rows["gen_ai_operation_name"])
    assert {"foreign"} == set(rows["client_kind"])
    assert {"ollama-python"} == set(rows["client_name"])
    assert [False, False, False] == list(rows["gen_ai_request_stream"])
    assert 7 == rows["gen_ai_request_max_tokens"][1]
    assert {"ok"} == set(rows["status"])


def test_openai_requests_are_recorded(tmp_path: Path, host: ScriptedOllama) -> None:
    """A request to `/v1` is a row like any other, in native terms."""
    with started(tmp_path, host) as server:
        body = {"model": MODEL, "messages": ASK, "max_tokens": 5, "stream": True}
        server.http.post("/v1/chat/completions", json=body)
        (row,) = rows_after_end(server).to_dict("records")
    assert ("ok", 5, True) == (
        row["status"],
        row["gen_ai_request_max_tokens"],
        row["gen_ai_request_stream"],
    )


@pytest.mark.parametrize(
    ("reply", "error_type", "stage", "tokens"),
    [
        (Reply("one two three", error_after=(2, "model runner has stopped")), "ResponseError",
         "stream", 2),
        (Reply(error_first=(500, "no")), "ResponseError", "connect", None),
    ],
    ids=["mid-stream", "first"],
)  # fmt: skip
def test_failed_request_keeps_what_it_knows(
    tmp_path: Path,
    host: ScriptedOllama,
    reply: Reply,
    error_type: str,
    stage: str,
    tokens: int | None,
) -> None:
    """A failed request is a row with its error, its stage and the pieces that had come."""
    with started(tmp_path, host) as server:
        host.enqueue(reply, to="chat")
        server.http.post("/api/chat", json={"model": MODEL, "messages": ASK})
        (row,) = rows_after_end(server).to_dict("records")
    assert ("error", error_type, stage) == (row["status"], row["error_type"], row["error_stage"])
    assert row["error_message"]
    found = row["gen_ai_usage_output_tokens"]
    assert tokens == (None if pd.isna(found) else found)
    assert pd.isna(found) or "estimated" == row["token_source"]


def test_cancelled_request_is_told_from_a_failed_one(tmp_path: Path, host: ScriptedOllama) -> None:
    """A client that goes in mid-answer leaves a row that says cancelled, without an error."""
    with started(tmp_path, host) as server:
        host.enqueue(Reply("one two three", stall_after=2), to="chat")
        body = {"model": MODEL, "messages": ASK}
        with server.http.stream("POST", "/api/chat", json=body) as response:
            lines = response.iter_lines()  # held: without it the response is closed
            next(lines)
        (row,) = rows_after_end(server).to_dict("records")
    assert "cancelled" == row["status"]
    assert pd.isna(row["error_type"])


def test_killed_server_leaves_a_lost_row(tmp_path: Path, host: ScriptedOllama) -> None:
    """A request that ran when the server was killed reads `lost`, not open for ever."""
    with started(tmp_path, host) as server:
        host.enqueue(Reply("one two three", stall_after=2), to="chat")
        body = {"model": MODEL, "messages": ASK}
        with server.http.stream("POST", "/api/chat", json=body) as response:
            lines = response.iter_lines()  # held: without it the response is closed
            next(lines)
            os.kill(server.process.pid, signal.SIGKILL)
            server.process.wait()
        (row,) = read(server, "requests").to_dict("records")
    assert "lost" == row["status"]


def test_load_is_an_event_of_the_model_not_a_request(tmp_path: Path, host: ScriptedOllama) -> None:
    """Loading and unloading are model events with their seconds; no request is counted."""
    with started(tmp_path, host) as server:
        server.http.post("/workbench/v1/load", json={"model": MODEL}).raise_for_status()
        server.http.post("/workbench/v1/unload", json={"model": MODEL}).raise_for_status()
        assert 0 == len(rows_after_end(server))
        events = read(server, "model_events")
    assert ["load", "unload"] == [name for name in events["event"] if name in ("load", "unload")]
    assert events[events["event"] == "load"]["duration"].gt(0).all()
    assert {MODEL} == set(events["model"])


def test_devices_are_sampled(tmp_path: Path, host: ScriptedOllama) -> None:
    """Readings of the devices are rows with their source, while models are in memory."""
    with started(tmp_path, host) as server:
        server.http.get("/workbench/v1/gpu").raise_for_status()
        server.stop()
        samples = read(server, "gpu_samples")
    assert len(samples)
    assert samples["hw_gpu_memory_limit"].gt(0).all()
    assert samples["source"].notna().all()


def test_samples_name_the_models_on_a_device(tmp_path: Path, host: ScriptedOllama) -> None:
    """A reading of the memory that holds a model has its name and bytes, for the chart of both."""
    with started(tmp_path, host) as server:
        server.http.post("/workbench/v1/load", json={"model": "toy-tiny"}).raise_for_status()
        deadline = time.monotonic() + 60
        held: list[Any] = []
        while not held and time.monotonic() < deadline:
            server.http.get("/workbench/v1/gpu").raise_for_status()
            rows = read(server, "gpu_samples", "where models is not null")
            held = [found for text in rows["models"] for found in json.loads(text)]
    names = {(model["name"], model["backend"]) for model in held}
    assert {("toy-tiny:latest", "embedded")} == names
    assert all(model["bytes"] > 1_000_000 for model in held)


def test_rows_of_another_host_count_once(tmp_path: Path, host: ScriptedOllama) -> None:
    """Rows that a kernel elsewhere sends twice are there once; unknown columns are refused."""
    body = {"table": "votes", "rows": [{"id": "v1", "verdict": "a"}, {"id": "v2", "verdict": "b"}]}
    with started(tmp_path, host) as server:
        post = server.http.post
        assert {"kept": 2, "refused": 0} == post("/workbench/v1/records", json=body).json()
        post("/workbench/v1/records", json=body).raise_for_status()
        odd = post("/workbench/v1/records", json={"table": "votes", "rows": [{"id": "x", "y": 1}]})
        own = post("/workbench/v1/records", json={"table": "requests", "rows": [{"id": "x"}]})
        server.stop()
        votes = read(server, "votes")
    assert ["a", "b"] == list(votes["verdict"])
    assert (400, "y" in odd.json()["error"]) == (odd.status_code, True)
    assert 400 == own.status_code


def test_alert_begins_and_is_told(tmp_path: Path, host: ScriptedOllama) -> None:
    """A rule of the configuration that holds is told as an event and listed."""
    toml = (
        '[[alert]]\nname = "failing"\nkind = "error_share"\nlimit = 0.5\nmin_requests = 2\n'
        "window = 3600\n"
    )
    with started(tmp_path, host, toml) as server:
        host.set_reply(Reply(error_first=(500, "no")), to="chat")
        for _ in range(2):
            server.http.post("/api/chat", json={"model": MODEL, "messages": ASK})
        listed = server.http.get("/workbench/v1/alerts").json()
        assert "alert=failing" in server.log()
    (active,) = listed["active"]
    assert ("failing", f"{MODEL}@ollama", 1.0) == (
        active["alert"],
        active["subject"],
        active["value"],
    )


def test_prometheus_is_off_until_it_is_asked_for(tmp_path: Path, host: ScriptedOllama) -> None:
    """`/metrics` answers 404 with a hint by default, and figures when the setting says so."""
    with started(tmp_path / "off", host) as server:
        refused = server.http.get("/metrics")
    assert 404 == refused.status_code
    assert "metrics.prometheus" in refused.json()["hint"]
    with started(tmp_path / "on", host, "[metrics]\nprometheus = true\n") as server:
        server.http.post("/api/chat", json={"model": MODEL, "messages": ASK})
        text = server.http.get("/metrics").text
        without = httpx.get(f"{server.url}/metrics", trust_env=False)
    assert f'gen_ai_request_model="{MODEL}@ollama"' in text
    assert "workbench_device_memory_total_bytes" in text
    assert 401 == without.status_code


def test_store_that_cannot_be_written_does_not_stop_answers(
    tmp_path: Path, host: ScriptedOllama
) -> None:
    """A store that cannot be written costs the rows, not the answers, and the server says so."""
    (tmp_path / "metrics").write_text("in the way")
    with started(tmp_path, host) as server:
        answer = server.http.post("/api/chat", json={"model": MODEL, "messages": ASK})
        server.stop()
    assert 200 == answer.status_code
    assert "record_refused" in server.log()
