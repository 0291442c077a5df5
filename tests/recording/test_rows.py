"""Rows of requests: who asked, what for, and how it ended."""

from __future__ import annotations

from typing import Any

import pytest

from workbench.errors import ProtocolError
from workbench.messages import Phase
from workbench.server.backends.base import ModelEntry
from workbench.server.recording.rows import (
    Client,
    client_of,
    ending_columns,
    hash_columns,
    message_row,
    message_rows,
    options_columns,
    trace_ids,
)
from workbench.server.recording.tap import Tap

DONE = (
    b'{"model":"m","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop",'
    b'"total_duration":3000000000,"load_duration":500000000,"prompt_eval_count":7,'
    b'"prompt_eval_cached_count":4,"eval_count":2,"eval_duration":250000000}'
)


def piece(text: str, thinking: str = "") -> bytes:
    said = f',"thinking":"{thinking}"' if thinking else ""
    return f'{{"model":"m","message":{{"content":"{text}"{said}}},"done":false}}'.encode()


@pytest.mark.parametrize(
    ("user_agent", "header", "client"),
    [
        ("workbench/0.1 (library; pid 7)", None, Client("workbench", "0.1", "library")),
        ("workbench/0.1 (cli; pid 7)", None, Client("workbench", "0.1", "cli")),
        ("workbench/0.1 (pid 7)", "widget", Client("workbench", "0.1", "widget")),
        ("ollama-python/0.6.3 (x86_64 linux)", None, Client("ollama-python", "0.6.3", "foreign")),
        ("ollama-python/0.6.3", "widget", Client("ollama-python", "0.6.3", "foreign")),
        ("curl", None, Client("curl", None, "foreign")),
        ("", None, Client(None, None, "foreign")),
    ],
)
def test_client_is_known_by_its_user_agent(
    user_agent: str, header: str | None, client: Client
) -> None:
    """Our own clients name themselves; every other program is foreign, whatever it claims."""
    assert client == client_of(user_agent, kind=header)


def test_whole_answer() -> None:
    """A whole answer has its counts, times and reason, in seconds and tokens."""
    tap = Tap()
    tap.admitted()
    tap.connected()
    tap.read([piece("", "hm"), piece("Hi")])
    tap.read([DONE])
    row = ending_columns(tap, outcome="ok", duration_s=3.0)
    expected = {
        "status": "ok",
        "duration": 3.0,
        "gen_ai_usage_input_tokens": 7,
        "gen_ai_usage_output_tokens": 2,
        "gen_ai_usage_cache_read_input_tokens": 4,
        "token_source": "server",
        "ollama_total_duration": 3.0,
        "ollama_load_duration": 0.5,
        "ollama_eval_duration": 0.25,
        "gen_ai_response_finish_reasons": ["stop"],
        "gen_ai_response_model": "m",
        "n_chunks": 2,
        "cold": False,
    }
    assert expected == {name: row[name] for name in expected}
    assert row["gen_ai_response_time_to_first_chunk"] <= row["time_to_first_answer"]
    assert "ollama_prompt_eval_duration" not in row
    assert "error_type" not in row


@pytest.mark.parametrize(
    ("reached", "stage"),
    [(0, "queue"), (1, "load"), (2, "connect"), (3, "prefill"), (4, "stream")],
)
def test_failure_names_its_stage(reached: int, stage: str) -> None:
    """A failure is told with the stage it happened in, and its partial counts are estimates."""
    tap = Tap()
    steps = [
        lambda: tap.phase(Phase("loading")),
        tap.admitted,
        tap.connected,
        lambda: tap.read([piece("Hi"), piece(" you")]),
    ]
    for step in steps[:reached]:
        step()
    tap.failure = ProtocolError("broken")
    row = ending_columns(tap, outcome="error", duration_s=1.0)
    assert (stage, "ProtocolError", "broken") == (
        row["error_stage"],
        row["error_type"],
        row["error_message"],
    )
    assert (2 if reached == 4 else None) == row.get("gen_ai_usage_output_tokens")
    assert ("estimated" if reached == 4 else None) == row.get("token_source")


def test_broken_line_is_a_fault_of_parsing() -> None:
    """A line that is no JSON fails in the stage `parse`; what came before it is passed on."""
    tap = Tap()
    passed, problem = tap.read([piece("Hi"), b"<html>", piece("lost")])
    assert [piece("Hi")] == passed
    assert isinstance(problem, ProtocolError)
    assert "parse" == tap.stage


def test_waiting_is_split_into_queue_and_load() -> None:
    """The wait for a turn and the wait for the load are told apart, and together are the wait."""
    tap = Tap()
    tap.phase(Phase("queued"))
    tap.phase(Phase("loading"))
    tap.admitted()
    assert tap.loads
    assert tap.queue_s is not None
    assert tap.load_s is not None
    assert tap.queue_s >= 0
    assert tap.load_s >= 0


def test_pieces_of_one_read_have_no_gap() -> None:
    """Pieces that came together count as pieces, and only reads have gaps between them."""
    tap = Tap()
    for _ in range(3):
        tap.read([piece("a"), piece("b")])
    assert 6 == tap.n_chunks
    assert 2 == len(tap.gaps_s)
    assert None is Tap().gap_s(0.5)
    tap.gaps_s[0], tap.gaps_s[1] = 0.4, 0.1
    assert [0.1, 0.25, 0.4] == pytest.approx([tap.gap_s(share) for share in (0, 0.5, 1)])


def test_options_by_their_names() -> None:
    """Options stand in columns of their own and as a whole, with a hash that ignores order."""
    row = options_columns(
        {"options": {"temperature": 0, "seed": 3, "stop": "END"}, "keep_alive": "5m", "think": True}
    )
    assert 0.0 == row["gen_ai_request_temperature"]
    assert 3 == row["gen_ai_request_seed"]
    assert ["END"] == row["gen_ai_request_stop_sequences"]
    assert 300.0 == row["keep_alive"]
    assert "true" == row["think"]
    other = options_columns({"options": {"stop": "END", "seed": 3, "temperature": 0}})
    assert row["options_sha"] == other["options_sha"]
    assert options_columns({})["options_sha"] != row["options_sha"]


@pytest.mark.parametrize("value", ["hot", None, [1], float("inf"), 10**30, True])
def test_odd_options_are_unknown(value: Any) -> None:
    """An option of another type is left out of its column, never turned into a number."""
    row = options_columns({"options": {"temperature": value, "seed": value}, "keep_alive": "x"})
    assert "gen_ai_request_seed" not in row
    assert "keep_alive" not in row
    if value != 10**30:
        assert "gen_ai_request_temperature" not in row


def test_equal_messages_are_one() -> None:
    """The same message in two conversations has the same id; another role or image another."""
    said = {"role": "user", "content": "Hi"}
    ids = {
        message_row(said, parent=None)["id"],
        message_row({**said, "content": "Hi"}, parent="x")["id"],
        message_row({**said, "role": "system"}, parent=None)["id"],
        message_row({**said, "images": ["aGk="]}, parent=None)["id"],
    }
    assert 3 == len(ids)


def test_messages_name_those_before_them() -> None:
    """Each message names the one before it, and the request names them all."""
    chat = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "Bye"},
    ]
    rows = message_rows("chat", {"messages": chat})
    assert [None, *(row["id"] for row in rows[:-1])] == [row.get("parent_id") for row in rows]
    columns = hash_columns(rows)
    assert rows[-1]["id"] == columns["prompt_sha"]
    assert rows[0]["id"] == columns["system_sha"]
    assert [row["id"] for row in rows] == columns["messages_sha"]


def test_prompts_and_texts_are_messages_too() -> None:
    """A prompt with its system text, and the texts of embeddings, are kept like messages."""
    rows = message_rows("generate", {"prompt": "Go on", "system": "Short."})
    assert ["system", "user"] == [row["role"] for row in rows]
    assert 2 == len(message_rows("embed", {"input": ["a", "b"]}))
    assert 1 == len(message_rows("embed", {"input": "a"}))


def test_trace_of_the_client() -> None:
    """The client's span is the parent; a header that is none gives nothing."""
    header = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    expected = {
        "trace_id": "0af7651916cd43dd8448eb211c80319c",
        "parent_span_id": "b7ad6b7169203331",
    }
    assert expected == trace_ids(header)
    assert {} == trace_ids("nonsense")
    assert {} == trace_ids(None)


def test_entry_without_digest_is_no_model_row() -> None:
    """A model without an identity has no digest column."""
    from workbench.server.recording.rows import target_columns

    class Far:
        name, kind, url = "far", "openai", "http://10.0.0.7:8000"

    row = target_columns(Far(), ModelEntry("m", ""))  # type: ignore[arg-type]
    assert "model_digest" not in row
    assert ("10.0.0.7", 8000) == (row["server_address"], row["server_port"])
