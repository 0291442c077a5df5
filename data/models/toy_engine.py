"""Run one GGUF file in a llama.cpp subprocess and ask it, greedily; needs no torch.

Only the evaluation of the toy models and their tests use this; the product has its own server.
"""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import corpus

Message = dict[str, Any]

_WORKER = """
import sys
import xllamacpp
params = xllamacpp.CommonParams()
params.model.path = sys.argv[1]
params.n_ctx = int(sys.argv[2])
params.n_parallel = 1
params.cpuparams.n_threads = 1
params.cpuparams_batch.n_threads = 1
params.cache_ram_mib = 0
params.port = 0
params.ui = False
server = xllamacpp.Server(params)
print("\\nADDRESS", server.listening_address, flush=True)
sys.stdin.read()
"""


class Engine:
    """Speak to one running llama.cpp server; greedy unless a request says otherwise."""

    def __init__(self, address: str) -> None:
        self.address = address
        # A proxy in the environment must not see requests to this machine.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def post(self, path: str, **body: Any) -> dict[str, Any]:
        """Send one JSON request and return the JSON answer."""
        # With the prompt cache a repeated greedy answer can differ from the first.
        settings = {"temperature": 0.0, "cache_prompt": False, "stream": False}
        request = urllib.request.Request(
            self.address + path,
            data=json.dumps({**settings, **body}).encode(),
            headers={"Content-Type": "application/json", "Connection": "close"},
        )
        with self._opener.open(request, timeout=120) as answer:
            return dict(json.load(answer))

    def chat(
        self, messages: Sequence[Message], tools: Sequence[dict[str, Any]] = ()
    ) -> dict[str, Any]:
        """Return the assistant's message for one greedy chat request."""
        extra = {"tools": list(tools)} if tools else {}
        answer = self.post("/v1/chat/completions", messages=list(messages), max_tokens=300, **extra)
        return dict(answer["choices"][0]["message"])

    def text(self, messages: Sequence[Message]) -> str:
        """Return the assistant's text for one greedy chat request."""
        return str(self.chat(messages)["content"])

    def complete(self, prompt: Sequence[int], *, max_tokens: int = 240) -> str:
        """Continue raw tokens greedily and return the text."""
        answer = self.post("/completion", prompt=list(prompt), n_predict=max_tokens)
        return str(answer["content"])


@contextmanager
def running_engine(model: Path, *, context_length: int = 1024) -> Iterator[Engine]:
    """Run the model in a subprocess until the block ends.

    Raises:
        RuntimeError: llama.cpp did not load the file.
    """
    process = subprocess.Popen(
        [sys.executable, "-c", _WORKER, str(model), str(context_length)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        address = next((line for line in process.stdout if line.startswith("ADDRESS")), "")
        if not address:
            raise RuntimeError(f"llama.cpp did not load {model.name}")
        yield Engine(address.split()[1])
    finally:
        process.stdin.close()
        process.wait(timeout=30)
        process.stdout.close()


def as_messages(turns: Sequence[corpus.Turn]) -> list[Message]:
    """Turn (role, text) pairs into chat messages; tool calls become `tool_calls`."""
    messages: list[Message] = []
    for role, text in turns:
        if role == "assistant" and text.startswith("<tool_call>"):
            call = json.loads(text.removeprefix("<tool_call>").removesuffix("</tool_call>"))
            function = {"name": call["name"], "arguments": json.dumps(call["arguments"])}
            calls = [{"id": "call_1", "type": "function", "function": function}]
            messages.append({"role": role, "content": "", "tool_calls": calls})
        elif role == "tool":
            messages.append({"role": role, "tool_call_id": "call_1", "content": text})
        else:
            messages.append({"role": role, "content": text})
    return messages


def as_tools(tools: Sequence[tuple[str, tuple[str, ...]]]) -> list[dict[str, Any]]:
    """Turn (name, argument names) pairs into OpenAI tool definitions."""
    definitions = []
    for name, arguments in tools:
        kind = "string" if arguments == ("city",) else "integer"
        properties = {key: {"type": kind} for key in arguments}
        parameters = {"type": "object", "properties": properties, "required": list(arguments)}
        function = {"name": name, "description": name, "parameters": parameters}
        definitions.append({"type": "function", "function": function})
    return definitions


def as_text(message: dict[str, Any]) -> str:
    """Write an answer as the corpus does: a tool call as tagged JSON, else the content."""
    calls = message.get("tool_calls")
    if not calls:
        return str(message["content"])
    function = calls[0]["function"]
    try:
        return corpus.call_text(function["name"], json.loads(function["arguments"]))
    except json.JSONDecodeError:
        # A weak model's call may break off; it is an answer like any other wrong one.
        return f"<tool_call>{function['name']} {function['arguments']}"
