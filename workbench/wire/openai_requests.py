"""Native requests as an OpenAI-compatible server takes them: llama.cpp's, vLLM, LM Studio.

Only what a request says is sent: such a server has sampling defaults of its own, and may refuse
fields it does not know.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workbench.errors import UnsupportedOperation
from workbench.wire.ollama import Kind
from workbench.wire.openai import llama_messages, response_format

# Ollama option to field; the last four are no fields of OpenAI's, but all three servers read them.
_FIELDS: Mapping[str, str] = {
    "temperature": "temperature",
    "top_p": "top_p",
    "seed": "seed",
    "stop": "stop",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "top_k": "top_k",
    "min_p": "min_p",
    "typical_p": "typical_p",
    "repeat_penalty": "repeat_penalty",
}


def openai_request(kind: Kind, body: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return path and body of an OpenAI request for a native chat or generate request.

    A prompt becomes a conversation of one message, so that the model's template is used; with
    `raw` it goes to the model as it is.

    Raises:
        UnsupportedOperation: When the request asks for what these servers cannot do.
    """
    payload: dict[str, Any] = {
        "model": body["model"],
        "stream": True,
        "stream_options": {"include_usage": True},
        **_sampling(body.get("options") or {}),
        **response_format(body.get("format")),
        **_logprobs(body),
    }
    if kind == "generate" and body.get("suffix"):
        raise UnsupportedOperation(
            "An OpenAI-compatible backend does not insert text before a suffix.",
            hint="Leave suffix out.",
        )
    if kind == "generate" and body.get("raw"):
        return "/v1/completions", {**payload, "prompt": body.get("prompt") or ""}
    payload |= _thinking(body.get("think"))
    payload["messages"] = llama_messages(_messages(kind, body))
    if kind == "chat" and body.get("tools"):
        payload["tools"] = [{"type": "function", **tool} for tool in body["tools"]]
    return "/v1/chat/completions", payload


def _messages(kind: Kind, body: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    if kind == "chat":
        return list(body.get("messages") or ())
    user: dict[str, Any] = {"role": "user", "content": body.get("prompt") or ""}
    if body.get("images"):
        user["images"] = body["images"]
    system = body.get("system")
    return [{"role": "system", "content": system}, user] if system else [user]


def _sampling(options: Mapping[str, Any]) -> dict[str, Any]:
    fields = {field: options[name] for name, field in _FIELDS.items() if name in options}
    predict = options.get("num_predict")
    # Ollama's -1 is "without a limit", which is what nothing means here.
    if isinstance(predict, int) and predict >= 0:
        fields["max_tokens"] = predict
    return fields


def _thinking(think: object) -> dict[str, Any]:
    if isinstance(think, bool):
        return {"chat_template_kwargs": {"enable_thinking": think}}
    return {"reasoning_effort": think} if isinstance(think, str) and think else {}


def _logprobs(body: Mapping[str, Any]) -> dict[str, Any]:
    if not body.get("logprobs"):
        return {}
    return {"logprobs": True, "top_logprobs": body.get("top_logprobs") or 0}
