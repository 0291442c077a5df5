"""The official `ollama` Python client against embedded models."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import ollama
import pytest

from tests.server.harness import ServerProcess

MODEL = "rand"
ASK = [{"role": "user", "content": "hi there"}]
SHORT = {"num_predict": 8, "seed": 3}
# Every text of this schema is short, so that a model of noise comes to its end too.
SCHEMA = {
    "type": "object",
    "properties": {"fine": {"type": "boolean"}, "kind": {"enum": ["red", "blue"]}},
    "required": ["fine", "kind"],
}
# A text that is no file is taken for a picture in base64.
PICTURE = "aGVsbG8="


def chat(client: ollama.Client, **request: Any) -> ollama.ChatResponse:
    """Ask one short question, with whatever else the request says."""
    return client.chat(**{"model": MODEL, "messages": ASK, "options": SHORT, **request})


def refusal(call: Callable[[], object]) -> tuple[int, str]:
    """Return status and text of the error that a call raises."""
    with pytest.raises(ollama.ResponseError) as caught:
        call()
    return caught.value.status_code, caught.value.error


def loaded(client: ollama.Client) -> dict[str, float]:
    """Return the year in which each loaded model expires."""
    return {m.model or "": m.expires_at.year for m in client.ps().models if m.expires_at}


def test_environment_alone_points_the_client_here(
    server: ServerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OLLAMA_HOST and OLLAMA_API_KEY are all that a program of somebody else needs."""
    monkeypatch.setenv("OLLAMA_HOST", server.url)
    monkeypatch.setenv("OLLAMA_API_KEY", server.token)
    with ollama.Client() as client:
        assert "rand:latest" in {model.model for model in client.list().models}


def test_client_without_a_token_is_told_so(server: ServerProcess) -> None:
    """A request without the token is refused with 401 and how to send it."""
    with ollama.Client(server.url) as stranger:
        status, text = refusal(stranger.list)
    assert 401 == status
    assert "token" in text


def test_list_has_size_digest_and_details(client: ollama.Client) -> None:
    """The list tells size, digest and quantization of a model."""
    model = next(m for m in client.list().models if m.model == "rand:latest")
    assert model.details is not None
    assert ["gguf", "F16", 64] == [
        model.details.format,
        model.details.quantization_level,
        len(model.digest or ""),
    ]
    assert (model.size or 0) > 900_000


def test_show_reads_the_header(client: ollama.Client) -> None:
    """Show gives capabilities, context length and the template of the file."""
    shown = client.show(MODEL)
    assert shown.modelinfo is not None
    assert shown.capabilities is not None
    assert 512 == shown.modelinfo["llama.context_length"]
    assert "completion" in shown.capabilities
    assert "message" in (shown.template or "")


def test_chat_has_text_figures_and_a_reason(client: ollama.Client) -> None:
    """A whole answer has eight tokens of text, its counts and durations, and ends by length."""
    answer = chat(client)
    assert ["rand", True, "length", 8, "assistant"] == [
        answer.model,
        answer.done,
        answer.done_reason,
        answer.eval_count,
        answer.message.role,
    ]
    assert answer.message.content
    parts = (answer.prompt_eval_duration or 0) + (answer.eval_duration or 0)
    assert 0 < parts <= (answer.total_duration or 0)


def test_streamed_chat_is_the_whole_chat_in_pieces(client: ollama.Client) -> None:
    """The pieces of a stream join to the text of the same request unstreamed."""
    pieces = list(chat(client, stream=True))
    text = "".join(piece.message.content or "" for piece in pieces)
    assert chat(client).message.content == text
    assert [False] * (len(pieces) - 1) + [True] == [piece.done for piece in pieces]
    assert len(pieces) > 4


def test_streamed_generate_is_the_whole_one_in_pieces(client: ollama.Client) -> None:
    """Generate streams the text that it gives at once without streaming."""
    whole = client.generate(MODEL, "Once", options=SHORT)
    pieces = list(client.generate(MODEL, "Once", options=SHORT, stream=True))
    assert whole.response == "".join(piece.response for piece in pieces)
    assert "length" == whole.done_reason


def test_equal_seeds_give_equal_text(client: ollama.Client) -> None:
    """A seed repeats its text exactly, also after another request has used the model."""
    options = {"num_predict": 40, "seed": 11, "temperature": 1.5}
    first = chat(client, options=options).message.content
    chat(client, messages=[{"role": "user", "content": "something else"}])
    assert [first, first] == [chat(client, options=options).message.content for _ in range(2)]


def test_other_seeds_give_other_text(client: ollama.Client) -> None:
    """Different seeds sample different texts."""
    texts = {
        chat(client, options={"num_predict": 40, "seed": seed}).message.content for seed in range(4)
    }
    assert len(texts) > 1


def test_raw_prompt_skips_the_template(client: ollama.Client) -> None:
    """A raw prompt is read as it is, so it has fewer tokens than the same one in a template."""
    raw = client.generate(MODEL, "Once", raw=True, options=SHORT)
    templated = client.generate(MODEL, "Once", options=SHORT)
    assert (raw.prompt_eval_count or 0) < (templated.prompt_eval_count or 0)


def test_stop_text_ends_the_answer_before_it(client: ollama.Client) -> None:
    """An answer ends where a stop text would begin, and the reason is stop."""
    options = {"seed": 3, "num_predict": 60}
    text = chat(client, options=options).message.content or ""
    end = text[20]
    answer = chat(client, options={**options, "stop": [end]})
    assert [text[: text.index(end)], "stop"] == [answer.message.content, answer.done_reason]


def test_schema_is_followed_even_by_noise(client: ollama.Client) -> None:
    """A JSON schema as format gives JSON of that schema from random weights."""
    options = {"num_predict": 200, "seed": 1}
    answer = client.generate(MODEL, "Once", format=SCHEMA, options=options)
    value = json.loads(answer.response)
    assert {bool, str} == {type(value["fine"]), type(value["kind"])}
    assert value["kind"] in ("red", "blue")


def test_schema_is_followed_in_a_chat(client: ollama.Client) -> None:
    """A chat whose format is a schema answers with JSON of that schema."""
    answer = chat(client, format=SCHEMA, options={"num_predict": 200, "seed": 2})
    assert {"fine", "kind"} == set(json.loads(answer.message.content or ""))


@pytest.mark.parametrize("top", [0, 3])
def test_logprobs_come_with_each_token(client: ollama.Client, top: int) -> None:
    """Logprobs are asked for per token, with as many alternatives as wanted."""
    answer = chat(client, logprobs=True, top_logprobs=top)
    assert answer.logprobs is not None
    assert 8 == len(answer.logprobs)
    assert {top} == {len(entry.top_logprobs or []) for entry in answer.logprobs}
    assert all(entry.logprob <= 0 for entry in answer.logprobs)


def test_embed_gives_unit_vectors(client: ollama.Client) -> None:
    """Vectors have length one, and equal texts have equal vectors."""
    one, two, again = client.embed(MODEL, ["a b", "c", "a b"]).embeddings
    assert pytest.approx(1.0) == sum(value * value for value in one)
    assert list(one) == pytest.approx(list(again))
    assert list(one) != pytest.approx(list(two))


def test_embed_cuts_to_dimensions(client: ollama.Client) -> None:
    """A vector that is cut to fewer dimensions has length one again."""
    (vector,) = client.embed(MODEL, "a b", dimensions=3).embeddings
    assert 3 == len(vector)
    assert pytest.approx(1.0) == sum(value * value for value in vector)


def test_embed_without_input_only_loads(client: ollama.Client) -> None:
    """An empty input gives no vectors."""
    assert [] == list(client.embed(MODEL, []).embeddings)


def test_long_text_is_cut_to_embed(client: ollama.Client) -> None:
    """A text longer than the context is cut to it, and refused when it must not be cut."""
    answer = client.embed(MODEL, "word " * 2000)
    assert 512 == answer.prompt_eval_count
    refused = refusal(lambda: client.embed(MODEL, "word " * 2000, truncate=False))
    assert (400, "the input length exceeds the context length") == refused


def test_old_embeddings_endpoint_answers(client: ollama.Client) -> None:
    """The older `embeddings` call gives one vector."""
    assert 128 == len(client.embeddings(MODEL, "a b").embedding)


def test_oldest_messages_are_dropped_when_the_context_is_full(client: ollama.Client) -> None:
    """A conversation longer than the context still gets its answer."""
    turns = [{"role": "user", "content": "old one " * 60}] * 5 + ASK
    answer = chat(client, messages=turns)
    assert 8 == answer.eval_count
    assert (answer.prompt_eval_count or 0) <= 512


def test_nothing_is_dropped_without_truncate(server: ServerProcess) -> None:
    """With truncate=false a conversation longer than the context is refused."""
    turns = [{"role": "user", "content": "old one " * 60}] * 5 + ASK
    body = {"model": MODEL, "messages": turns, "truncate": False}
    response = server.http.post("/api/chat", json=body)
    assert 400 == response.status_code
    assert "exceeds the available context size (512 tokens)" in response.json()["error"]


@pytest.mark.parametrize(
    ("keep_alive", "year"), [("10m", None), (300, None), ("1h30m", None), (-1, 2318), ("-1m", 2318)]
)
def test_empty_prompt_loads(
    client: ollama.Client, keep_alive: float | str, year: int | None
) -> None:
    """An empty prompt loads the model for its keep_alive, negative is for ever."""
    answer = client.generate(MODEL, keep_alive=keep_alive)
    assert [True, "load", ""] == [answer.done, answer.done_reason, answer.response]
    expires = loaded(client)["rand:latest"]
    assert expires == year if year else expires < 2200


@pytest.mark.parametrize("keep_alive", [0, "0", "0s"])
def test_keep_alive_of_zero_unloads(client: ollama.Client, keep_alive: float | str) -> None:
    """An empty request with a keep_alive of zero takes the model out of memory."""
    client.chat(MODEL, keep_alive="10m")
    answer = client.chat(MODEL, keep_alive=keep_alive)
    assert [True, "unload"] == [answer.done, answer.done_reason]
    assert "rand:latest" not in loaded(client)


def test_model_in_two_uses_is_listed_once(client: ollama.Client) -> None:
    """A model that runs for text and for vectors is one row, which expires with the later one."""
    client.embed(MODEL, "a", keep_alive="5m")
    client.generate(MODEL, keep_alive=-1)
    rows = [model for model in client.ps().models if model.model == "rand:latest"]
    assert [2318] == [row.expires_at.year for row in rows if row.expires_at]
    client.generate(MODEL, keep_alive=0)
    assert "rand:latest" not in loaded(client)


def test_ps_tells_the_context_it_was_loaded_with(client: ollama.Client) -> None:
    """A model loaded with num_ctx is listed with that context."""
    client.generate(MODEL, keep_alive="10m", options={"num_ctx": 256})
    lengths = {model.model: model.context_length for model in client.ps().models}
    client.generate(MODEL, keep_alive=0)
    assert 256 == lengths["rand:latest"]


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        ({"keep_alive": "-1"}, 'time: missing unit in duration "-1"'),
        ({"keep_alive": "300"}, 'time: missing unit in duration "300"'),
        ({"think": True}, '"rand" does not support thinking'),
        ({"messages": [{**ASK[0], "images": [PICTURE]}]}, '"rand" does not support images'),
        ({"top_logprobs": 21}, "top_logprobs must be between 0 and 20"),
        ({"options": {"num_ctx": "many"}}, "option 'num_ctx' must be an integer, not 'many'."),
    ],
    ids=["no unit", "no unit either", "think", "image", "top_logprobs", "type of an option"],
)
def test_bad_chat_is_refused_as_ollama_does(
    client: ollama.Client, request_: dict[str, Any], text: str
) -> None:
    """What cannot be done is a ResponseError with status 400 and Ollama's words."""
    assert (400, text) == refusal(lambda: chat(client, **request_))


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        ({"images": [PICTURE]}, '"rand" does not support images'),
        ({"suffix": "end"}, '"rand" does not support insert'),
        ({"raw": True, "system": "x"}, "raw mode does not support template, system, or context"),
    ],
    ids=["image", "suffix", "raw with system"],
)
def test_bad_generate_is_refused_as_ollama_does(
    client: ollama.Client, request_: dict[str, Any], text: str
) -> None:
    """What a model cannot do is refused with status 400 and Ollama's words."""
    assert (400, text) == refusal(lambda: client.generate(MODEL, "Once", **request_))


def test_schema_that_is_none_is_refused(client: ollama.Client) -> None:
    """A schema of an unknown type is refused with the engine's reason."""
    status, text = refusal(lambda: chat(client, format={"type": "nonsense"}))
    assert 400 == status
    assert "unrecognized type nonsense" in text


def test_unknown_option_is_passed_with_a_warning(server: ServerProcess) -> None:
    """An option nobody knows does not fail the request; a header names it."""
    body = {"model": MODEL, "messages": ASK, "options": {**SHORT, "temprature": 1}}
    response = server.http.post("/api/chat", json={**body, "stream": False})
    assert 200 == response.status_code
    assert "'temprature'. Did you mean 'temperature'" in response.headers["Workbench-Warning"]


@pytest.mark.parametrize("call", ["chat", "generate", "show", "embed", "delete", "copy"])
def test_unknown_model_is_404(client: ollama.Client, call: str) -> None:
    """Every call with a model that is not there raises a ResponseError with status 404."""
    calls: dict[str, Callable[[], object]] = {
        "chat": lambda: client.chat("rant", ASK),
        "generate": lambda: client.generate("rant", "x"),
        "show": lambda: client.show("rant"),
        "embed": lambda: client.embed("rant", "x"),
        "delete": lambda: client.delete("rant"),
        "copy": lambda: client.copy("rant", "other"),
    }
    assert (404, "model 'rant' not found") == refusal(calls[call])


def test_unknown_model_has_the_nearest_names(server: ServerProcess) -> None:
    """The 404 carries the names that look like the one asked for."""
    body = server.http.post("/api/show", json={"model": "rant"}).json()
    assert "rand" in body["nearest"]


def test_pull_is_explained(client: ollama.Client) -> None:
    """The embedded backend answers a pull with 501 and says what to do."""
    status, text = refusal(lambda: client.pull("llama3.2"))
    assert (501, "The embedded backend cannot pull models.") == (status, text)


def test_push_is_not_there(client: ollama.Client) -> None:
    """An endpoint that is not offered answers 404 as Ollama does."""
    assert (404, "404 page not found") == refusal(lambda: client.push("rand"))


def test_model_is_made_of_an_uploaded_blob(client: ollama.Client, server: ServerProcess) -> None:
    """A blob is uploaded, becomes a model with progress lines, answers, and is deleted."""
    digest = client.create_blob(server.data_dir / "models" / "rand.gguf")
    lines = list(client.create(model="uploaded", files={"rand.gguf": digest}, stream=True))
    assert ["writing manifest", "success"] == [line.status for line in lines]
    assert 8 == chat(client, model="uploaded").eval_count
    client.delete("uploaded")
    assert "uploaded:latest" not in {model.model for model in client.list().models}


def test_blob_must_have_its_digest(client: ollama.Client, server: ServerProcess) -> None:
    """An upload whose content has another digest is refused and not kept."""
    path = f"/api/blobs/sha256:{'0' * 64}"
    assert 400 == server.http.post(path, content=b"x").status_code
    assert 404 == server.http.head(path).status_code
    files = {"x.gguf": f"sha256:{'0' * 64}"}
    status, text = refusal(lambda: client.create(model="none", files=files))
    assert (400, True) == (status, "there is no blob" in text)


def test_model_is_made_of_a_path(client: ollama.Client, server: ServerProcess) -> None:
    """A local file becomes a model with a system prompt and parameters of its own."""
    path = str(server.data_dir / "models" / "rand.gguf")
    made = client.create(
        model="kind", from_=path, system="Be kind.", parameters={"num_predict": 3, "stop": ["zzz"]}
    )
    assert "success" == made.status
    shown = client.show("kind")
    assert 'SYSTEM """Be kind."""' in (shown.modelfile or "")
    assert 3 == chat(client, model="kind", options={"seed": 1}).eval_count
    client.delete("kind")


def test_copy_is_the_same_model(client: ollama.Client) -> None:
    """A copy answers like its source, and deleting it leaves the source."""
    assert "success" == client.copy(MODEL, "twin").status
    assert chat(client).message.content == chat(client, model="twin").message.content
    assert "success" == client.delete("twin").status
    names = {model.model for model in client.list().models}
    assert (True, False) == ("rand:latest" in names, "twin:latest" in names)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"model": "new", "from_": "nothing"}, 404),
        ({"model": "new", "from_": MODEL, "quantize": "q4_0"}, 501),
        ({"model": "../new", "from_": MODEL}, 400),
        ({"model": "new", "from_": MODEL, "parameters": {"num_ctx": "many"}}, 400),
        ({"model": "new"}, 400),
    ],
    ids=["no source", "quantize", "bad name", "bad parameter", "of nothing"],
)
def test_bad_create_is_refused(client: ollama.Client, body: dict[str, Any], status: int) -> None:
    """A model that cannot be made is refused with a status of its own."""
    assert status == refusal(lambda: client.create(**body))[0]


def test_async_client_streams_and_fails_alike(server: ServerProcess) -> None:
    """The asynchronous client chats, streams, embeds, lists and raises the same errors."""

    async def talk() -> tuple[str | None, str, int, int]:
        headers = {"Authorization": f"Bearer {server.token}"}
        async with ollama.AsyncClient(server.url, headers=headers) as client:
            whole = await client.chat(MODEL, ASK, options=SHORT)
            stream = await client.chat(MODEL, ASK, options=SHORT, stream=True)
            text = "".join([piece.message.content or "" async for piece in stream])
            vectors = (await client.embed(MODEL, ["a", "b"])).embeddings
            with pytest.raises(ollama.ResponseError) as caught:
                await client.chat("rant", ASK)
            return whole.message.content, text, len(vectors), caught.value.status_code

    whole, streamed, vectors, status = asyncio.run(talk())
    assert (whole, 2, 404) == (streamed, vectors, status)


CALC = {
    "type": "function",
    "function": {
        "name": "calc",
        "description": "Add two numbers.",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
            "required": ["a", "b"],
        },
    },
}


def test_toy_answers_a_question(client: ollama.Client, toy: str) -> None:
    """The toy model names the capital of France."""
    ask = [{"role": "user", "content": "What is the capital of France?"}]
    answer = client.chat(toy, ask, options={"temperature": 0})
    assert ["The capital of France is Paris.", "stop"] == [
        answer.message.content,
        answer.done_reason,
    ]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_toy_calls_a_tool_and_reads_its_answer(
    client: ollama.Client, toy: str, stream: bool
) -> None:
    """A tool call arrives parsed, and with the tool's answer the model says the result."""
    options = {"temperature": 0}
    talk: list[Any] = [{"role": "user", "content": "What is 84 plus 58?"}]
    request: dict[str, Any] = {"model": toy, "tools": [CALC], "options": options}
    answered: Any = client.chat(**request, messages=talk, stream=stream)
    parts = list(answered) if stream else [answered]
    (call,) = [call for part in parts for call in part.message.tool_calls or []]
    assert ("calc", {"a": 84, "b": 58}) == (call.function.name, dict(call.function.arguments))
    assert "stop" == parts[-1].done_reason
    asked = {"role": "assistant", "content": "", "tool_calls": [call]}
    talk += [asked, {"role": "tool", "tool_name": "calc", "content": "142"}]
    assert "142" in (client.chat(**request, messages=talk).message.content or "")
