"""What every server that speaks Ollama's API does alike, and where Ollama itself stands alone.

These tests keep the scripted server honest: they run against a real Ollama as well.
"""

from __future__ import annotations

import re
import time
from typing import Any

import ollama
import pytest

from tests.contract.conftest import LONG, SHORT, Target, lines

PROMPT = "Count to three."


def test_root_and_version(target: Target) -> None:
    """The root says that Ollama is running, and the version is a number of three parts."""
    assert "Ollama is running" == target.http.get("/").text
    assert re.match(r"\d+\.\d+\.\d+", target.http.get("/api/version").json()["version"])


def test_list_names_models_in_full(target: Target) -> None:
    """A listed model has its name with tag, its size, a digest of 64 digits and details."""
    row = next(item for item in target.client.list().models if item.model == target.full_name)
    assert re.fullmatch(r"[0-9a-f]{64}", row.digest or "")
    assert (row.size or 0) > 0
    assert row.details is not None
    assert row.details.family
    assert row.modified_at is not None


def test_show_has_capabilities_and_context(target: Target) -> None:
    """A described model says what it can do and how long its context is."""
    found = target.client.show(target.model)
    assert "completion" in (found.capabilities or [])
    info = dict(found.modelinfo or {})
    assert info[f"{info['general.architecture']}.context_length"] > 0


def test_empty_prompt_loads(target: Target) -> None:
    """A request without a prompt loads, says so, and reports no durations."""
    answer = target.generate(options={"num_ctx": 256}).json()
    assert (True, "load", "") == (answer["done"], answer["done_reason"], answer["response"])
    assert target.model == answer["model"]
    assert set() == {key for key in answer if key.endswith(("_duration", "_count"))}
    assert target.listed() is not None


def test_chat_without_messages_loads(target: Target) -> None:
    """A chat without messages loads too."""
    answer = target.client.chat(target.model, [], options={"num_ctx": 256})
    assert ("load", "assistant") == (answer.done_reason, answer.message.role)
    assert target.listed() is not None


def test_ps_shows_what_was_loaded(target: Target) -> None:
    """A loaded model is listed with the digest of the list, its memory, context and end."""
    target.generate(options={"num_ctx": 256}, keep_alive="5m")
    found = target.listed()
    assert found is not None
    row = next(item for item in target.client.list().models if item.model == target.full_name)
    assert (row.digest, 256) == (found.digest, found.context_length)
    assert 0 <= (found.size_vram or 0) <= (found.size or 0)
    assert (found.size or 0) > 0
    assert found.expires_at is not None
    assert 0 < found.expires_at.timestamp() - time.time() < 310


def test_unload_says_so_and_the_model_goes(target: Target) -> None:
    """A keep_alive of zero without a prompt is answered with "unload", and ps loses the model."""
    target.generate()
    answer = target.generate(keep_alive=0).json()
    assert (True, "unload") == (answer["done"], answer["done_reason"])
    target.until(lambda: target.listed() is None, "the model is still listed")


def test_unload_of_what_is_not_loaded_says_the_same(target: Target) -> None:
    """An unload of an absent model is answered like any other."""
    answer = target.generate(keep_alive=0)
    assert (200, "unload") == (answer.status_code, answer.json()["done_reason"])


def test_answer_with_keep_alive_zero_unloads_after_it(target: Target) -> None:
    """A prompt with a keep_alive of zero is answered, and then the model goes."""
    answer = target.generate(PROMPT, keep_alive=0, options=SHORT).json()
    assert answer["done"]
    target.until(lambda: target.listed() is None, "the model is still listed")


def test_unload_does_not_cut_a_running_answer(target: Target) -> None:
    """A model asked to unload while it answers ends its answer first."""
    stream = target.client.generate(target.model, PROMPT, options=SHORT, stream=True)
    first = next(stream)
    target.http.post("/api/generate", json={"model": target.model, "keep_alive": 0})
    parts = [first, *stream]
    assert (True, "unload") != (parts[-1].done, parts[-1].done_reason)
    assert parts[-1].done
    target.until(lambda: target.listed() is None, "the model is still listed")


def test_busy_model_is_listed_until_its_answer_is_over(target: Target) -> None:
    """In Ollama an unload of a busy model is answered at once, and ps still has the model."""
    if not target.is_ollama:
        pytest.skip("a rule of Ollama's own scheduler")
    stream = target.client.generate(target.model, PROMPT, options=LONG, stream=True)
    next(stream)
    assert "unload" == target.generate(keep_alive=0).json()["done_reason"]
    assert target.listed() is not None
    stream.close()
    target.until(lambda: target.listed() is None, "the model is still listed")


def test_memory_is_back_after_an_unload(target: Target) -> None:
    """What a model held of the memory is there again once it is gone, seen past the API."""
    if target.held_bytes is None:
        pytest.skip("nobody tells what a real Ollama holds")
    held_bytes = target.held_bytes
    before = held_bytes()
    target.generate()
    assert held_bytes() > before
    target.unload()
    target.until(lambda: held_bytes() <= before, "the memory is not back")


@pytest.mark.parametrize(
    ("keep_alive", "least_s", "most_s"),
    [(90, 60, 91), (90.5, 60, 91), ("90s", 60, 91), ("1m30s", 60, 91), ("1h", 3000, 3601)],
)
def test_keep_alive_forms(target: Target, keep_alive: Any, least_s: float, most_s: float) -> None:
    """Numbers are seconds and strings are Go durations."""
    target.generate(keep_alive=keep_alive)
    found = target.listed()
    assert found is not None
    assert found.expires_at is not None
    assert least_s < found.expires_at.timestamp() - time.time() < most_s


@pytest.mark.parametrize("keep_alive", [-1, "-1m"])
def test_negative_keep_alive_is_for_ever(target: Target, keep_alive: Any) -> None:
    """A negative keep_alive is an end centuries away."""
    target.generate(keep_alive=keep_alive)
    found = target.listed()
    assert found is not None
    assert found.expires_at is not None
    assert 2200 < found.expires_at.year


@pytest.mark.parametrize("keep_alive", ["-1", "300", "ten", True, {}])
def test_keep_alive_refusals(target: Target, keep_alive: Any) -> None:
    """A string without unit, and what is neither number nor string, is a 400."""
    answer = target.generate(keep_alive=keep_alive)
    assert (400, True) == (answer.status_code, bool(answer.json()["error"]))


def test_keep_alive_is_sticky(target: Target) -> None:
    """A request without keep_alive keeps the one before it."""
    target.generate(keep_alive=-1)
    target.generate(PROMPT, options=SHORT)
    found = target.listed()
    assert found is not None
    assert found.expires_at is not None
    assert 2200 < found.expires_at.year


def test_other_context_loads_again(target: Target) -> None:
    """A request for another num_ctx leaves the model loaded with that one."""
    for num_ctx in (512, 256, 512):
        target.generate(options={"num_ctx": num_ctx})
        found = target.listed()
        assert found is not None
        assert num_ctx == found.context_length


def test_touch_without_options(target: Target) -> None:
    """Left out, num_ctx is the default one in Ollama, which reloads; with us the loaded one."""
    target.generate(options={"num_ctx": 256})
    target.generate()
    found = target.listed()
    assert found is not None
    assert target.is_ollama == (found.context_length != 256)


@pytest.mark.parametrize("path", ["generate", "chat"])
def test_stream_is_lines_of_json(target: Target, path: str) -> None:
    """A stream is NDJSON: pieces that are not done, then one line that is, with the counters."""
    body = {"model": target.model, "prompt": PROMPT, "options": SHORT}
    body["messages"] = [{"role": "user", "content": PROMPT}]
    answer = target.http.post(f"/api/{path}", json=body)
    found = lines(answer)
    assert (200, True) == (
        answer.status_code,
        answer.headers["content-type"].startswith("application/x-ndjson"),
    )
    assert [False] * (len(found) - 1) + [True] == [line["done"] for line in found]
    assert {target.model} == {line["model"] for line in found}
    last = found[-1]
    assert last["done_reason"] in ("stop", "length")
    assert min(last[name] for name in ("total_duration", "eval_count", "prompt_eval_count")) > 0


@pytest.mark.parametrize("path", ["generate", "chat"])
def test_unstreamed_answer_is_one_object(target: Target, path: str) -> None:
    """With `stream: false` the answer is one JSON object with text and counters."""
    body = {"model": target.model, "prompt": PROMPT, "options": SHORT, "stream": False}
    body["messages"] = [{"role": "user", "content": PROMPT}]
    answer = target.http.post(f"/api/{path}", json=body)
    assert answer.headers["content-type"].startswith("application/json")
    found = answer.json()
    text = found["response"] if path == "generate" else found["message"]["content"]
    assert (True, True) == (found["done"], isinstance(text, str))
    assert found["eval_count"] > 0


def test_client_that_leaves_frees_the_model(target: Target) -> None:
    """After a client left in the middle of a stream the model can be unloaded."""
    body = {"model": target.model, "prompt": PROMPT, "options": LONG}
    with target.http.stream("POST", "/api/generate", json=body) as answer:
        next(answer.iter_raw())
    target.generate(keep_alive=0)
    target.until(lambda: target.listed() is None, "the model is still listed")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("chat", {"messages": [{"role": "user", "content": "?"}]}),
        ("generate", {"prompt": "?"}),
        ("generate", {"keep_alive": 0}),
        ("show", {}),
        ("embed", {"input": "?"}),
    ],
)
def test_unknown_model_is_not_found(target: Target, path: str, body: dict[str, Any]) -> None:
    """A model that is not there is a 404 whose error names it."""
    answer = target.http.post(f"/api/{path}", json={"model": "no-such-model", **body})
    assert 404 == answer.status_code
    assert "no-such-model" in answer.json()["error"]
    assert "not found" in answer.json()["error"]


def test_official_client_raises_for_an_unknown_model(target: Target) -> None:
    """Ollama's own client makes a ResponseError of the 404."""
    with pytest.raises(ollama.ResponseError) as caught:
        target.client.generate("no-such-model", "?")
    assert 404 == caught.value.status_code


@pytest.mark.parametrize("content", [b"", b"{", b"[1]"])
def test_broken_bodies_are_refused(target: Target, content: bytes) -> None:
    """No body, or one that is no JSON object, is a 400 with an error."""
    answer = target.http.post("/api/generate", content=content)
    assert (400, True) == (answer.status_code, bool(answer.json()["error"]))


def test_option_of_the_wrong_type_is_refused(target: Target) -> None:
    """A num_ctx that is no number is refused with its name: a 500 in Ollama, a 400 with us."""
    answer = target.generate(options={"num_ctx": "many"})
    assert (500 if target.is_ollama else 400) == answer.status_code
    assert "num_ctx" in answer.json()["error"]


def test_thinking_needs_the_capability(target: Target) -> None:
    """Thinking asked of a model that cannot is a 400 that says so."""
    if "thinking" in (target.client.show(target.model).capabilities or []):
        pytest.skip("the model can think")
    answer = target.generate(PROMPT, think=True)
    assert (400, True) == (
        answer.status_code,
        "does not support thinking" in answer.json()["error"],
    )


def test_unknown_path_is_not_found(target: Target) -> None:
    """A path that is not there is a 404."""
    assert 404 == target.http.get("/api/no-such-path").status_code
