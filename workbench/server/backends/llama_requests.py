"""How native requests are asked of a llama.cpp engine: pure functions."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from workbench.errors import ConfigError, ResponseError, StoreError, UnsupportedOperation
from workbench.messages import check_option
from workbench.server.engine.blobs import BadDigest
from workbench.server.engine.gguf import ArraySummary, read_header
from workbench.server.engine.library import LibraryModel, ModelProtected
from workbench.server.engine.names import BadModelName
from workbench.server.engine.spec import EngineKind, EngineSpec
from workbench.units import rfc3339
from workbench.wire.ollama import NS
from workbench.wire.openai import llama_messages, response_format, sampling_fields

Count = Callable[[list[Mapping[str, Any]]], Awaitable[int]]


def checked_options(model: LibraryModel, body: Mapping[str, Any]) -> dict[str, Any]:
    """Return a request's options over those of a created model; unknown names are left out.

    Raises:
        ResponseError: With status 400, when an option is of another type.
    """
    own = dict(model.manifest.parameters) if model.manifest else {}
    options: dict[str, Any] = {}
    for name, value in {**own, **(body.get("options") or {})}.items():
        if value is None:
            continue
        try:
            options[name] = check_option(name, value)
        except ConfigError as exc:
            if "unknown option" in exc.message:
                continue
            raise ResponseError(exc.message, status=400) from exc
    return options


def engine_spec(
    model: LibraryModel,
    options: Mapping[str, Any],
    *,
    embed: bool,
    engine: EngineKind,
    llama_server: Path | None,
) -> EngineSpec:
    """Return what to run for a model with these runner options."""
    known = checked_options(model, {"options": options})
    return EngineSpec(
        model_path=model.path,
        alias=model.name,
        n_ctx=max(0, known.get("num_ctx", 0)),
        n_batch=known.get("num_batch", 512),
        n_threads=known.get("num_thread", 0),
        embedding=embed,
        mmproj_path=model.projector,
        use_mmap=known.get("use_mmap", True),
        n_gpu_layers=known.get("num_gpu"),
        main_gpu=known.get("main_gpu", 0),
        chat_template=model.manifest.template if model.manifest else None,
        engine=engine,
        llama_server_path=llama_server,
    )


def with_manifest(
    model: LibraryModel, messages: Sequence[Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    """Return the messages with the system prompt and the first messages of a created model."""
    out = list(messages)
    if model.manifest is None:
        return out
    out = [*model.manifest.messages, *out]
    if model.manifest.system and not any(message.get("role") == "system" for message in out):
        out.insert(0, {"role": "system", "content": model.manifest.system})
    return out


def _require(model: LibraryModel, capability: str) -> None:
    if capability not in model.capabilities:
        words = {"tools": "tools", "thinking": "thinking", "vision": "images"}
        short = model.name.removesuffix(":latest")
        raise ResponseError(
            f'"{short}" does not support {words.get(capability, capability)}', status=400
        )


def thinking_fields(model: LibraryModel, think: object) -> dict[str, Any]:
    """Return the fields that turn thinking on or off.

    Raises:
        ResponseError: With status 400, when the model cannot think.
    """
    if think is None or think is False or think == "":
        if "thinking" not in model.capabilities:
            return {}
        enable = think is None
        return {"reasoning_format": "deepseek", "chat_template_kwargs": {"enable_thinking": enable}}
    _require(model, "thinking")
    kwargs: dict[str, Any] = {"enable_thinking": True}
    if isinstance(think, str):
        kwargs["reasoning_effort"] = think
    return {"reasoning_format": "deepseek", "chat_template_kwargs": kwargs}


def _check_format(wanted: object) -> None:
    if wanted not in (None, "", "json") and not isinstance(wanted, Mapping):
        raise ResponseError(
            f'invalid format: {wanted!r}; expected "json" or a valid JSON Schema object',
            status=400,
        )


def _logprobs(body: Mapping[str, Any]) -> dict[str, Any]:
    top = body.get("top_logprobs") or 0
    if not 0 <= top <= 20:
        raise ResponseError("top_logprobs must be between 0 and 20", status=400)
    if not body.get("logprobs") and not top:
        return {}
    # llama.cpp gives none at all when it is asked for no alternatives.
    return {"logprobs": True, "top_logprobs": max(1, top)}


def chat_request(
    model: LibraryModel, body: Mapping[str, Any], messages: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return the body of llama.cpp's /v1/chat/completions for a native chat request."""
    if any(message.get("images") for message in messages):
        _require(model, "vision")
    _check_format(body.get("format"))
    payload: dict[str, Any] = {
        "messages": llama_messages(messages),
        "stream": True,
        **sampling_fields(checked_options(model, body)),
        **thinking_fields(model, body.get("think")),
        **response_format(body.get("format")),
        **_logprobs(body),
    }
    if body.get("tools"):
        _require(model, "tools")
        # llama.cpp insists on the type that Ollama's clients may leave out.
        payload["tools"] = [{"type": "function", **tool} for tool in body["tools"]]
        payload["parse_tool_calls"] = True
    return payload


def generate_request(model: LibraryModel, body: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return path and body of llama.cpp's request for a native generate request.

    Without `raw` the prompt becomes a conversation of one message, so that the model's template
    is used; with it the prompt goes to the model as it is.
    """
    if body.get("suffix"):
        _require(model, "insert")
        raise UnsupportedOperation(
            "The embedded backend does not insert text before a suffix.", hint="Leave suffix out."
        )
    if body.get("raw"):
        if body.get("template") or body.get("system") or body.get("context"):
            raise ResponseError(
                "raw mode does not support template, system, or context", status=400
            )
        payload = {
            "prompt": body.get("prompt") or "",
            "stream": True,
            **sampling_fields(checked_options(model, body)),
        }
        _check_format(body.get("format"))
        payload["n_probs"] = _logprobs(body).get("top_logprobs", 0)
        if isinstance(body.get("format"), Mapping):
            payload["json_schema"] = body["format"]
        elif body.get("format") == "json":
            payload["json_schema"] = {"type": "object"}
        return "/completion", payload
    messages: list[Mapping[str, Any]] = []
    if body.get("system"):
        messages.append({"role": "system", "content": body["system"]})
    user: dict[str, Any] = {"role": "user", "content": body.get("prompt") or ""}
    if body.get("images"):
        user["images"] = body["images"]
    messages.append(user)
    full = with_manifest(model, messages)
    # Generate has no tools, whatever a body says.
    return "/v1/chat/completions", chat_request(model, {**body, "tools": None}, full)


async def fitting(
    messages: Sequence[Mapping[str, Any]], room: int, count: Count
) -> list[Mapping[str, Any]]:
    """Return the messages without the oldest turns that do not fit into `room` tokens.

    System messages and the last message always stay, as in Ollama.  Nothing is counted when the
    text is so short that it must fit: no token is shorter than a byte.
    """
    kept = list(messages)
    most = sum(len(str(message.get("content") or "").encode()) + 32 for message in kept)
    if room <= 0 or most <= room or any(message.get("images") for message in kept):
        return kept
    while True:
        tokens = await count(kept)
        old = [i for i, message in enumerate(kept[:-1]) if message.get("role") != "system"]
        if tokens <= room or not old:
            return kept
        drop = max(1, math.floor(len(old) * (1 - room / tokens)))
        gone = set(old[:drop])
        kept = [message for i, message in enumerate(kept) if i not in gone]


def check_parameters(parameters: Mapping[str, Any] | None) -> None:
    """Refuse parameters of a new model that no request could use.

    Raises:
        ResponseError: With status 400, when one is unknown or of another type.
    """
    for name, value in (parameters or {}).items():
        try:
            check_option(name, value)
        except ConfigError as exc:
            raise ResponseError(exc.message, status=400, hint=exc.hint) from exc


def embed_body(
    body: Mapping[str, Any], answer: Mapping[str, Any], *, load_s: float | None
) -> dict[str, Any]:
    """Return Ollama's `embed` body; vectors have length 1, cut to `dimensions` when asked."""
    vectors = [_unit(item["embedding"], body.get("dimensions")) for item in answer["data"]]
    out: dict[str, Any] = {"model": body.get("asked") or body["model"], "embeddings": vectors}
    tokens = (answer.get("usage") or {}).get("prompt_tokens")
    if tokens:
        out["prompt_eval_count"] = tokens
    if load_s:
        out["load_duration"] = round(load_s * NS)
    return out


def _unit(vector: list[float], dimensions: int | None) -> list[float]:
    cut = vector[:dimensions] if dimensions else vector
    length = math.sqrt(sum(value * value for value in cut))
    return [value / length for value in cut] if length else cut


def details(model: LibraryModel) -> dict[str, Any]:
    """Return Ollama's `details` of a model."""
    family = model.header.architecture
    return {
        "parent_model": model.manifest.from_ if model.manifest else "",
        "format": "gguf",
        "family": family,
        "families": [family] if family else [],
        "parameter_size": model.header.parameter_size,
        "quantization_level": model.header.file_type,
    }


def show_body(model: LibraryModel, *, verbose: bool) -> dict[str, Any]:
    """Return Ollama's `show` body; blocking, because `verbose` reads the file again."""
    header = read_header(model.path, verbose=True) if verbose else model.header
    manifest = model.manifest
    info = {
        key: None
        if isinstance(value, ArraySummary) or (_is_array(value) and not verbose)
        else value
        for key, value in header.metadata.items()
        if key != "tokenizer.chat_template"
    }
    info["general.parameter_count"] = header.parameter_count
    parameters = manifest.parameters if manifest else {}
    licenses = manifest.license if manifest and manifest.license else None
    body: dict[str, Any] = {
        "license": "\n".join(licenses) if licenses else header.text("general.license") or "",
        "modelfile": modelfile(model),
        "parameters": "\n".join(f"{name:<30} {value}" for name, value in parameters.items()),
        "template": model.template or "",
        "details": details(model),
        "model_info": info,
        "capabilities": list(model.capabilities),
        "modified_at": rfc3339(model.modified_at.astimezone(dt.UTC)),
    }
    if manifest and manifest.system:
        body["system"] = manifest.system
    if manifest and manifest.messages:
        body["messages"] = list(manifest.messages)
    if verbose:
        body["tensors"] = [
            {"name": tensor.name, "type": str(tensor.type), "shape": list(tensor.shape)}
            for tensor in header.tensors
        ]
    return body


def _is_array(value: object) -> bool:
    return isinstance(value, list | tuple)


def modelfile(model: LibraryModel) -> str:
    """Return an Ollama Modelfile that describes the model; the first line is its blob."""
    lines = [f"FROM {model.path.name}"]
    if model.manifest:
        for name, value in model.manifest.parameters.items():
            values = value if isinstance(value, list | tuple) else [value]
            lines += [f"PARAMETER {name} {item}" for item in values]
        if model.manifest.system:
            lines.append(f'SYSTEM """{model.manifest.system}"""')
    return "\n".join(lines) + "\n"


@contextmanager
def store_errors() -> Iterator[None]:
    """Turn the store's errors into responses with the status Ollama gives."""
    try:
        yield
    except (BadDigest, BadModelName) as exc:
        raise ResponseError(exc.message, status=400, hint=exc.hint) from exc
    except ModelProtected as exc:
        raise ResponseError(exc.message, status=403, hint=exc.hint) from exc
    except OSError as exc:
        raise StoreError(
            f"The models folder cannot be written: {exc.strerror}.",
            hint="Free some space or choose another folder with engine.models_dir.",
        ) from exc
