"""The server answers with tokens from a real model and from a scripted Ollama."""

from __future__ import annotations

from tests.server.harness import ServerProcess, lines_of


def test_embedded_model_streams_tokens(server: ServerProcess) -> None:
    """A chat with an embedded model arrives as lines that end with done and its figures."""
    body = {"model": "rand", "messages": [{"role": "user", "content": "hi"}]}
    response = server.http.post("/api/chat", json={**body, "options": {"num_predict": 8}})
    lines = lines_of(response)
    assert [200, True, "length", 8] == [
        response.status_code,
        lines[-1]["done"],
        lines[-1]["done_reason"],
        lines[-1]["eval_count"],
    ]


def test_ollama_backend_is_relayed(relay: ServerProcess) -> None:
    """A chat with a model of an Ollama host arrives unchanged."""
    body = {"model": "llama3.2", "messages": [{"role": "user", "content": "hi"}]}
    lines = lines_of(relay.http.post("/api/chat", json=body))
    assert "Hello from Ollama." == "".join(line["message"]["content"] for line in lines)
