"""Random bytes and random JSON at every endpoint that reads a body."""

from __future__ import annotations

import json
import re
from contextlib import closing
from http.client import HTTPConnection
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from tests.fuzz.conftest import surprises
from tests.server.harness import ServerProcess
from workbench.server.app import ENDPOINTS

READERS = [row for row in ENDPOINTS if row.body is not None]
DELETES = {"/api/delete", "/workbench/v1/models"}
TALKERS = ["/api/chat", "/api/generate", "/v1/chat/completions", "/v1/completions"]
BOUNDED = settings(max_examples=15, suppress_health_check=list(HealthCheck))

numbers = st.one_of(
    st.integers(-(2**70), 2**70),
    st.sampled_from([0, -1, 2**31, 2**63, 2**64]),
    st.floats(allow_nan=False, allow_infinity=False),
)
scalars = st.one_of(st.none(), st.booleans(), numbers, st.text(max_size=20))
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)
options = st.dictionaries(
    st.sampled_from(
        [
            "num_ctx",
            "num_batch",
            "num_thread",
            "num_gpu",
            "num_keep",
            "seed",
            "top_k",
            "top_p",
            "min_p",
            "typical_p",
            "temperature",
            "repeat_penalty",
            "repeat_last_n",
            "stop",
            "unheard_of",
        ]
    ),
    scalars,
    max_size=5,
)
fields = st.fixed_dictionaries(
    {},
    optional={
        "tools": values,
        "format": values,
        "think": values,
        "images": values,
        "suffix": values,
        "system": values,
        "context": values,
        "keep_alive": scalars,
        "logprobs": scalars,
        "top_logprobs": scalars,
        "stop": values,
        "response_format": values,
        "truncate": scalars,
        "stream": scalars,
    },
)
message = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "tool", "system", "", "odd"])},
    optional={"content": values, "tool_calls": values, "images": values, "tool_name": values},
)


def explained(response: httpx.Response) -> bool:
    """Whether an answer is a success, a refusal, or a failure whose body says its reason."""
    if response.status_code < 500:
        return True
    return "internal error" not in response.text and bool(response.json()["error"])


@pytest.mark.parametrize("row", READERS, ids=lambda row: f"{row.method} {row.path}")
@BOUNDED
@given(body=st.binary(max_size=200))
@example(body=b"")
@example(body=b"null")
@example(body=b"[]")
@example(body=b'{"model": "\xff"}')
@example(body=b'{"model": "\\ud800"}')
@example(body=b"[" * 100_000)
@example(body=b'{"a":' * 50_000)
@example(body=b'{"model": 1e999}')
def test_bytes_that_are_no_request_are_refused(
    fuzzed: ServerProcess, row: Any, body: bytes
) -> None:
    """Bytes that are not a request are a 400 with a reason at every endpoint."""
    # An empty object is a request where nothing has to be named.
    assume(not re.fullmatch(rb"\s*\{\s*\}\s*", body))
    response = fuzzed.http.request(row.method, row.path, content=body)
    assert 400 == response.status_code
    assert response.json()["error"]


@pytest.mark.parametrize("row", READERS, ids=lambda row: f"{row.method} {row.path}")
@BOUNDED
@given(body=values)
def test_json_of_any_shape_is_answered(fuzzed: ServerProcess, row: Any, body: Any) -> None:
    """JSON of any shape is refused or answered at every endpoint, never an internal error."""
    if isinstance(body, dict) and not (row.method == "DELETE" and row.path in DELETES):
        body = {"model": "rand", **body}
    response = fuzzed.http.request(row.method, row.path, content=json.dumps(body).encode())
    assert explained(response), response.text


@pytest.mark.parametrize("path", TALKERS)
@settings(BOUNDED, max_examples=40)
@given(messages=st.lists(message, min_size=1, max_size=3), more=fields, chosen=options)
def test_requests_that_are_nearly_right_are_answered(
    fuzzed: ServerProcess, path: str, messages: Any, more: Any, chosen: Any
) -> None:
    """Requests with wrong values in known fields reach the engine or are refused, with a reason."""
    body = {
        "model": "rand",
        "messages": messages,
        "prompt": "hi",
        "max_tokens": 2,
        **more,
        "options": {**chosen, "num_predict": 2},
    }
    response = fuzzed.http.post(path, content=json.dumps(body).encode())
    assert explained(response), response.text


@pytest.mark.parametrize(
    "name", ["/" + "a" * 5000, "~nobody/x.gguf", "/x\0y.gguf", "a" * 9000, "@"]
)
@pytest.mark.parametrize("path", ["/api/show", "/api/chat", "/api/create", "/workbench/v1/load"])
def test_odd_names_are_refused(fuzzed: ServerProcess, path: str, name: str) -> None:
    """A name that no file can have is a 400 or 404, as a model and as a source."""
    body = {"model": name, "from": name, "messages": [{"role": "user", "content": "hi"}]}
    assert fuzzed.http.post(path, json=body).status_code in (400, 404)
    if path == "/api/create":
        assert fuzzed.http.post(path, json={**body, "model": "new"}).status_code in (400, 404)


@pytest.mark.parametrize("row", READERS, ids=lambda row: f"{row.method} {row.path}")
def test_body_that_is_too_large_is_413(fuzzed: ServerProcess, row: Any) -> None:
    """A body announced as larger than the limit is refused before a byte of it is sent."""
    connection = HTTPConnection(fuzzed.url.removeprefix("http://"), timeout=60)
    connection.putrequest(row.method, row.path)
    connection.putheader("Authorization", f"Bearer {fuzzed.token}")
    connection.putheader("Content-Length", str(10**12))
    connection.endheaders()
    with closing(connection), connection.getresponse() as response:
        assert 413 == response.status


def test_server_lives_and_was_not_surprised(fuzzed: ServerProcess) -> None:
    """After all that the server answers with tokens, and its log tells of no surprise."""
    body = {"model": "rand", "prompt": "hi", "stream": False, "options": {"num_predict": 4}}
    answer = fuzzed.http.post("/api/generate", json=body)
    assert (200, 4) == (answer.status_code, answer.json().get("eval_count")), answer.text
    assert [] == surprises(fuzzed)
