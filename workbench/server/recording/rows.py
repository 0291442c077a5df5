"""Rows of the metrics from requests and events: values in, values out.

A column that is not known is left out, which reads as null.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from workbench.metrics.content import content_sha, message_parts, message_role, message_sha
from workbench.server.backends.base import Backend, ModelEntry
from workbench.server.recording.tap import Tap
from workbench.units import parse_keep_alive
from workbench.wire.ollama import NS, Kind, error_text

Row = dict[str, Any]

OPERATIONS = {"chat": "chat", "generate": "text_completion", "embed": "embeddings"}
_PROVIDERS = {"ollama": "ollama", "llamacpp": "llama.cpp", "openai": "openai"}
_PRODUCT = re.compile(r"([^/\s]+)(?:/(\S+))?(?:\s+\((\w+))?")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")
ClientKind = Literal["library", "cli", "widget", "foreign"]
_OWN_KINDS: tuple[ClientKind, ...] = ("library", "cli", "widget")


@dataclass(frozen=True, slots=True)
class Client:
    """Who asks.

    Attributes:
        kind: `library`, `cli` and `widget` are ours; every other program is `foreign`.
    """

    name: str | None
    version: str | None
    kind: ClientKind

    @property
    def own(self) -> bool:
        """Whether the request came from the workbench's own client."""
        return self.kind != "foreign"


def client_of(user_agent: str, *, kind: str | None = None) -> Client:
    """Return who a User-Agent is, e.g. `workbench/1.0 (cli; pid 7)` or `ollama-python/0.6`.

    Args:
        kind: What the request's own header says; it counts for our own client only.
    """
    found = _PRODUCT.match(user_agent)
    if found is None:
        return Client(None, None, "foreign")
    name, version, said = found.groups()
    if name != "workbench":
        return Client(name, version, "foreign")
    for own in _OWN_KINDS:
        if own == (kind or said):
            return Client(name, version, own)
    return Client(name, version, "library")


def known(row: Mapping[str, Any]) -> Row:
    """Return a row without what is not known."""
    return {name: value for name, value in row.items() if value is not None}


def trace_ids(traceparent: str | None) -> Row:
    """Return trace and parent of a W3C traceparent; nothing when there is none."""
    found = _TRACEPARENT.fullmatch(traceparent or "")
    return {"trace_id": found[1], "parent_span_id": found[2]} if found else {}


def target_columns(backend: Backend, entry: ModelEntry) -> Row:
    """Return the columns that say which model of which backend answers."""
    url = urlsplit(str(getattr(backend, "url", None) or ""))
    return known(
        {
            "backend": backend.name,
            "backend_kind": backend.kind,
            "gen_ai_provider_name": _PROVIDERS.get(backend.kind, backend.kind),
            "server_address": url.hostname,
            "server_port": url.port,
            "gen_ai_request_model": entry.name,
            "model_digest": entry.digest or None,
            "quantization": entry.details.get("quantization_level") or None,
            "parameter_size": entry.details.get("parameter_size") or None,
        }
    )


def options_columns(body: Mapping[str, Any]) -> Row:
    """Return the columns of a native request's options."""
    options = body.get("options")
    options = options if isinstance(options, Mapping) else {}
    stop = options.get("stop")
    think = body.get("think")
    row = {
        "gen_ai_request_temperature": _number(options.get("temperature")),
        "gen_ai_request_top_p": _number(options.get("top_p")),
        "gen_ai_request_top_k": _number(options.get("top_k")),
        "gen_ai_request_seed": _integer(options.get("seed")),
        "gen_ai_request_max_tokens": _integer(options.get("num_predict")),
        "gen_ai_request_stop_sequences": [stop] if isinstance(stop, str) else stop or None,
        "num_ctx": _integer(options.get("num_ctx")),
        "keep_alive": _keep_alive(body.get("keep_alive")),
        "think": None if think is None else str(think).lower(),
        "options": dict(options) if options else None,
        "options_sha": content_sha(options),
    }
    return known(row)


def _number(value: object) -> float | None:
    good = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if good and math.isfinite(value) else None  # type: ignore[arg-type]


def _integer(value: object) -> int | None:
    number = _number(value)
    return None if number is None or abs(number) >= 2**63 else int(number)


def _keep_alive(value: object) -> float | None:
    try:
        return parse_keep_alive(value)
    except ValueError:
        return None


def message_row(message: Mapping[str, Any], *, parent: str | None) -> Row:
    """Return the row of a native message; its id is the hash of role and parts."""
    role, parts = message_role(message), message_parts(message)
    return known(
        {
            "id": message_sha(message),
            "role": role,
            "parts": parts,
            "parent_id": parent,
            "n_chars": sum(len(part.get("content") or "") for part in parts),
        }
    )


def message_rows(kind: Kind | Literal["embed"], body: Mapping[str, Any]) -> list[Row]:
    """Return the messages of a native request in order, each with the one before it."""
    rows: list[Row] = []
    for message in _messages(kind, body):
        rows.append(message_row(message, parent=rows[-1]["id"] if rows else None))
    return rows


def _messages(
    kind: Kind | Literal["embed"], body: Mapping[str, Any]
) -> Iterable[Mapping[str, Any]]:
    if kind == "chat":
        listed = body.get("messages") or ()
        return [message for message in listed if isinstance(message, Mapping)]
    if kind == "embed":
        texts = body.get("input") or ()
        listed = [texts] if isinstance(texts, str) else texts
        return [{"role": "user", "content": text} for text in listed]
    prompt = {"role": "user", "content": body.get("prompt"), "images": body.get("images")}
    system = body.get("system")
    return [{"role": "system", "content": system}, prompt] if system else [prompt]


def hash_columns(messages: Sequence[Row]) -> Row:
    """Return the columns that name a request's messages by their hashes."""

    def last(role: str) -> str | None:
        return next((row["id"] for row in reversed(messages) if row["role"] == role), None)

    return known(
        {
            "prompt_sha": last("user"),
            "system_sha": last("system"),
            "messages_sha": [row["id"] for row in messages] or None,
        }
    )


def answer_message(tap: Tap) -> Row:
    """Return the native message of an answer as far as it came."""
    return {
        "role": "assistant",
        "content": "".join(tap.text),
        "thinking": "".join(tap.thinking),
        "tool_calls": tap.calls,
    }


def ending_columns(tap: Tap, *, outcome: str, duration_s: float) -> Row:
    """Return the columns that are known when a request has ended.

    Args:
        outcome: `ok`, `cancelled` or `error`.
    """
    final = tap.final
    failure, said = tap.failure, tap.error
    row: Row = {
        "status": outcome,
        "duration": round(duration_s, 6),
        "queue_wait": tap.queue_s,
        "load_wait": tap.load_s,
        "gen_ai_response_model": tap.model,
        "gen_ai_response_time_to_first_chunk": tap.ttft_s,
        "time_to_first_answer": tap.ttft_answer_s,
        "time_per_output_chunk_p50": tap.gap_s(0.5),
        "time_per_output_chunk_p99": tap.gap_s(0.99),
        "n_chunks": tap.n_chunks,
        "cold": tap.loads,
        "from_cache": False,
    }
    if outcome == "error":
        row["error_stage"] = tap.stage
        row["error_type"] = "ResponseError" if failure is None else type(failure).__name__
        row["error_message"] = error_text(said) if failure is None else failure.message
    if final is not None:
        row |= {
            "gen_ai_usage_input_tokens": final.prompt_eval_count,
            "gen_ai_usage_output_tokens": final.eval_count,
            "gen_ai_usage_cache_read_input_tokens": final.prompt_eval_cached_count,
            "token_source": None if final.eval_count is None else "server",
            "ollama_total_duration": _seconds(final.total_duration),
            "ollama_load_duration": _seconds(final.load_duration),
            "ollama_prompt_eval_duration": _seconds(final.prompt_eval_duration),
            "ollama_eval_duration": _seconds(final.eval_duration),
            "gen_ai_response_finish_reasons": [final.done_reason] if final.done_reason else None,
        }
    elif tap.n_chunks:
        # A piece is about a token: better than nothing for an answer that was cut.
        row |= {"gen_ai_usage_output_tokens": tap.n_chunks, "token_source": "estimated"}
    return known(row)


def _seconds(duration_ns: int | None) -> float | None:
    return None if duration_ns is None else duration_ns / NS
