from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import UTC
from pathlib import Path

import pytest

from tests.client.raw import raw_server
from workbench.client.api import WorkbenchClient, encode_images
from workbench.client.values import ModelInfo, RunningModel, Table
from workbench.errors import ConfigError, ModelNotFound, ProtocolError, RequestTimeout
from workbench.portal import get_portal
from workbench.testing import Reply, ScriptedOllama

NewClient = Callable[..., WorkbenchClient]


def json_server(body: bytes, status: str = "200 OK") -> list[bytes]:
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return [head.encode() + body]


def test_version_and_embeddings(client: WorkbenchClient) -> None:
    """Plain calls of the Ollama API give their values."""
    assert "0.33.0" == get_portal().run(client.version())
    vectors = get_portal().run(client.embed(["a", "b"], "m"))
    assert [64, 64] == [len(vector) for vector in vectors]


def test_an_unknown_model_cannot_embed(client: WorkbenchClient) -> None:
    """An error body becomes the error it tells of."""
    with pytest.raises(ModelNotFound):
        get_portal().run(client.embed("a", "other"))


def test_a_call_has_a_total_deadline(new_client: NewClient) -> None:
    """A short call that gets no answer is given up with the phase total."""
    with ScriptedOllama(models=["m"]) as ollama:
        ollama.set_reply(Reply(stall_after=0), to="version")
        client = new_client(ollama.url)
        with pytest.raises(RequestTimeout) as caught:
            get_portal().run(client.request_json("GET", "/api/version", timeout_s=0.2))
        assert "total" == caught.value.phase


MODELS = b"""{"models": [{"name": "toy-tiny:latest", "backend": "embedded", "kind": "llamacpp",
"digest": "d1", "size_bytes": 500000, "context_length": 1024, "capabilities": ["completion"],
"toy": true, "state": "idle", "new_field": 1}], "errors": [{"backend": "lan", "error": "away"}]}"""


def test_models_print_as_a_table(new_client: NewClient) -> None:
    """Models come as values, print as a table with what could not be asked, and make a frame."""
    with raw_server(json_server(MODELS)) as server:
        models = get_portal().run(new_client(server.url).models())
    assert ("toy-tiny:latest", 1024, True) == (
        models[0].name,
        models[0].context_length,
        models[0].toy,
    )
    title, row, error = repr(models).splitlines()
    assert title.startswith("NAME")
    assert row.startswith("toy-tiny:latest (toy)  embedded")
    assert "unknown" in row
    assert "lan: away" == error
    frame = models.to_frame()
    assert [500000] == list(frame["size_bytes"])


def test_an_empty_table_says_so() -> None:
    """A list without rows prints a word, and makes an empty frame."""
    table: Table[ModelInfo] = Table(empty="no models")
    assert "(no models)" == repr(table)
    assert 0 == len(table.to_frame())


def test_forever_is_no_moment() -> None:
    """A model that is never unloaded has no time of unloading, and prints never."""
    model = RunningModel("m", expires_at="2318-01-01T00:00:00Z", forever=True)
    assert (None, "never") == (model.expires, model.cells()["UNLOADS"])
    soon = RunningModel("m", expires_at="2199-01-01T00:00:00Z")
    assert soon.expires is not None
    assert UTC == soon.expires.tzinfo


@pytest.mark.parametrize(
    "body",
    [b"[]", b'{"models": 3}', b'{"models": [{"size_bytes": 1}]}', b"<html>", b'{"models": [1]}'],
    ids=["list", "number", "nameless", "page", "row"],
)
def test_an_answer_of_another_form_is_a_protocol_error(new_client: NewClient, body: bytes) -> None:
    """What the contract does not allow is ProtocolError, never a half-filled value."""
    with (
        raw_server(json_server(body)) as server,
        pytest.raises(ProtocolError),
    ):
        get_portal().run(new_client(server.url).models())


def test_images_are_bytes_paths_or_base64(tmp_path: Path) -> None:
    """Each way of giving an image ends as the same base64 text."""
    data = bytes(range(256))
    path = tmp_path / "image.png"
    path.write_bytes(data)
    text = base64.b64encode(data).decode()
    assert (text,) * 4 == encode_images([data, path, str(path), text])


@pytest.mark.parametrize("image", ["nowhere.png", "", "abc=d", "abcde"])
def test_a_text_that_is_no_image_is_refused(image: str) -> None:
    """A text that is neither a file nor base64 is an error that names it."""
    with pytest.raises(ConfigError):
        encode_images([image])
