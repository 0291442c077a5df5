"""A server that answers `/workbench/v1` as its contract says, one scripted body per endpoint."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from workbench.testing.http import Exchange, Listener
from workbench.testing.scripts import RecordedRequest

PREFIX = "/workbench/v1/"


@dataclass(frozen=True)
class Refusal:
    """An error answer."""

    status: int
    body: Mapping[str, Any]


@dataclass(frozen=True)
class Lines:
    """An NDJSON answer; with `hold` it stays open until the request is released."""

    lines: Sequence[Mapping[str, Any]]
    hold: bool = False
    cut: bool = False


@dataclass(frozen=True)
class Held:
    """An answer that waits until the request is released."""

    body: Any


class ContractServer:
    """Serves what it was given by `METHOD path`; the path has no prefix and no query.

    A function is called with the request.
    """

    def __init__(self, answers: Mapping[str, Any] | None = None) -> None:
        self.answers: dict[str, Any] = {"GET /api/version": {"version": "0"}, **(answers or {})}
        self.requests: list[RecordedRequest] = []
        self._news = threading.Condition()

    def __enter__(self) -> Self:
        self._listener = Listener(self._handle, name="contract")
        self.url = f"http://127.0.0.1:{self._listener.start('127.0.0.1', 0)}"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._listener.stop()

    def heard(self, key: str) -> list[RecordedRequest]:
        """Return the requests for `METHOD path` so far."""
        with self._news:
            return [request for request in self.requests if key == _key(request)]

    def wait_for(self, key: str, n: int = 1, *, timeout_s: float = 30.0) -> RecordedRequest:
        """Return the n-th request for `METHOD path` as soon as it is there."""
        with self._news:
            came = self._news.wait_for(
                lambda: len([r for r in self.requests if key == _key(r)]) >= n, timeout_s
            )
        assert came, f"{key} was not asked {n} times"
        return self.heard(key)[n - 1]

    def body(self, key: str) -> Any:
        """Return the JSON of the last request for `METHOD path`."""
        return self.heard(key)[-1].json

    async def _handle(self, exchange: Exchange) -> None:
        request = exchange.request
        with self._news:
            self.requests.append(request)
            self._news.notify_all()
        answer = self.answers.get(_key(request), Refusal(404, {"error": "404 page not found"}))
        if isinstance(answer, Callable):  # type: ignore[arg-type]
            answer = answer(request)
        if isinstance(answer, Held):
            await request.stall(None)
            answer = answer.body
        if isinstance(answer, Lines):
            await _stream(exchange, answer)
        elif isinstance(answer, Refusal):
            await exchange.send_json(answer.status, answer.body)
        else:
            await exchange.send_json(200, answer)


async def _stream(exchange: Exchange, answer: Lines) -> None:
    exchange.start(200, "application/x-ndjson")
    for line in answer.lines:
        exchange.chunk(json.dumps(line).encode() + b"\n")
    await exchange.flushed()
    if answer.hold:
        await exchange.request.stall(None)
    if answer.cut:
        await exchange.close()
    else:
        exchange.end()


def _key(request: RecordedRequest) -> str:
    return f"{request.method} {request.path.removeprefix(PREFIX)}"


GIB = 2**30

FIT_SHORT = {
    "verdict": "too_large",
    "needed_bytes": 20 * GIB,
    "free_bytes": 8 * GIB,
    "budget_bytes": 12 * GIB,
    "reason": "it needs 20 GiB of 12 GiB",
    "source": "estimated",
}
MODEL = {
    "name": "owl:7b",
    "backend": "ollama",
    "kind": "ollama",
    "digest": "d1",
    "size_bytes": 5 * GIB,
    "context_length": 8192,
    "parameter_size": "7B",
    "quantization": "Q4_K_M",
    "family": "llama",
    "capabilities": ["completion"],
    "toy": False,
    "state": "idle",
    "load_s": 3.5,
    "evicts": ["bat:1b"],
    "modified_at": None,
    "remote": False,
    "stale": False,
    "owner": "ours",
    "priority": 7,
    "pinned": True,
    "hot": False,
    "keep_alive_s": -1,
    "max_idle_s": None,
    "in_flight": 0,
    "leased": True,
    "vram_bytes": None,
    "loaded_context_length": 4096,
    "expires_at": None,
    "forever": True,
    "fit": FIT_SHORT,
    "routed": True,
    "route_reason": "it is loaded there",
}
LOADED = {
    "name": "owl:7b",
    "backend": "ollama",
    "digest": "d1",
    "state": "idle",
    "size_bytes": 4 * GIB,
    "vram_bytes": 3 * GIB,
    "rss_bytes": None,
    "context_length": 4096,
    "expires_at": None,
    "forever": True,
    "in_flight": 0,
    "load_s": 3.5,
    "owner": "ours",
    "stale": False,
    "as_of": 1.5,
    "offload_bytes": GIB,
    "offload_share": 0.25,
    "priority": 5,
    "pinned": False,
    "hot": False,
    "leased": False,
    "profile": {"num_ctx": 4096},
    "keep_alive_s": None,
    "warnings": ["1.0 GiB of it lie in the host's memory"],
}
FIT = {
    "model": "owl:7b",
    "backend": "ollama",
    "num_ctx": 8192,
    "verdict": "alongside",
    "needed_bytes": 6 * GIB,
    "weights_bytes": 4 * GIB,
    "kv_bytes": GIB,
    "compute_bytes": GIB // 2,
    "overhead_bytes": GIB // 2,
    "low_bytes": 5 * GIB,
    "high_bytes": 7 * GIB,
    "free_bytes": 8 * GIB,
    "total_bytes": 12 * GIB,
    "evicts": [],
    "source": "estimated",
    "confidence": "low",
    "reason": "6 GiB of 8 GiB",
    "alone": {"fits": True, "reason": "6 GiB of 12 GiB"},
    "alongside": {"fits": None, "reason": "another client may load"},
    "offload": {"will": True, "share": 0.5, "reason": "no room"},
}
GPU = {
    "devices": [
        {
            "id": "GPU-0",
            "name": "Card",
            "kind": "nvidia",
            "backend": None,
            "total_bytes": 12 * GIB,
            "used_bytes": 4 * GIB,
            "free_bytes": 8 * GIB,
            "utilization_pct": 40.0,
            "temperature_c": 61,
            "power_w": None,
            "processes": [{"pid": 7, "name": None, "used_bytes": GIB}],
            "models": [{"name": "owl:7b", "backend": "ollama", "bytes": 3 * GIB}],
            "other_bytes": GIB,
            "source": "NVML",
            "reason": "the driver does not tell its power",
        },
        {"id": "lan", "name": "", "kind": "declared", "backend": "lan", "total_bytes": 8 * GIB},
    ],
    "driver_version": "1.2",
    "reason": None,
    "warning": {
        "level": "low",
        "device": "GPU-0",
        "free_bytes": GIB,
        "total_bytes": 12 * GIB,
        "text": "Card has 1.0 GiB left.",
    },
    "as_of": 2.0,
}
QUEUE = {
    "lanes": [
        {
            "backend": "ollama",
            "model": "owl:7b",
            "profile": {"num_ctx": 4096},
            "state": "serving",
            "running": 1,
            "waiting": 2,
            "interactive": 1,
            "batch": 1,
            "oldest_s": 4.0,
            "bound_s": 30.0,
        }
    ],
    "order": [
        {"backend": "ollama", "model": "owl:7b", "requests": 2, "swap": False},
        {"backend": "ollama", "model": "bat:1b", "requests": 3, "swap": True},
    ],
    "predicted_swaps": 1,
    "wait_bound_s": {"interactive": 5.0, "batch": 60.0},
}
SETTINGS = {
    "settings": [
        {
            "name": "swap.ollama",
            "value": "auto",
            "default": "auto",
            "source": "default",
            "changeable": True,
            "kind": "choice",
            "choices": ["auto", "manual", "server"],
            "help": "Who decides.",
        },
        {
            "name": "queue.batch_wait_s",
            "value": 60.0,
            "default": 60.0,
            "source": "workbench.toml",
            "changeable": True,
            "kind": "seconds",
            "choices": None,
            "help": "Seconds.",
        },
        {
            "name": "server.open_ollama_api",
            "value": False,
            "default": False,
            "source": "default",
            "changeable": True,
            "kind": "bool",
            "choices": None,
            "help": "Let others in.",
        },
        {
            "name": "server.allowed_hosts",
            "value": [],
            "default": [],
            "source": "default",
            "changeable": False,
            "kind": "list",
            "choices": None,
            "help": "Hosts.",
        },
    ]
}
LEASE = {"id": "L1", "models": ["owl:7b"], "ttl_s": 30.0, "holder": "me", "expires_at": None}
UNLOADED = {
    "model": "owl:7b",
    "backend": "ollama",
    "verdict": "verified",
    "seconds": 0.4,
    "bytes_before": 4 * GIB,
    "bytes_after": GIB,
    "waited_for": 1,
}
DELETED = {
    "model": "owl:7b",
    "backend": "ollama",
    "unload": {"verdict": "verified", "seconds": 0.4, "bytes_before": None, "bytes_after": None},
    "freed_bytes": 5 * GIB,
}
PULL = [
    {"status": "pulling manifest"},
    {
        "status": "pulling",
        "digest": "sha256:ab",
        "total_bytes": 4 * GIB,
        "completed_bytes": GIB,
        "speed_bytes_per_s": GIB // 4,
        "eta_s": 12.0,
    },
    {"status": "success"},
]
EVENTS = [
    {"ts": 1.0, "event": "loading", "model": "owl:7b", "estimated_s": 3.5},
    {"ts": 2.0, "event": "loaded", "model": "owl:7b", "seconds": 3.0},
]

ANSWERS: Mapping[str, Any] = {
    "GET models": {"models": [MODEL], "errors": [{"backend": "lan", "error": "away"}]},
    "GET models/loaded": {"models": [LOADED], "errors": []},
    "POST load": LOADED,
    "POST unload": UNLOADED,
    "POST pin": MODEL,
    "POST unpin": MODEL,
    "PATCH models": MODEL,
    "DELETE models": DELETED,
    "POST models/add": MODEL,
    "GET fit": FIT,
    "GET gpu": GPU,
    "GET queue": QUEUE,
    "GET settings": SETTINGS,
    "PATCH settings": SETTINGS,
    "GET leases": {"leases": [LEASE]},
    "POST leases": LEASE,
    "POST leases/L1": LEASE,
    "DELETE leases/L1": {},
    "POST pull": Lines(PULL),
    "GET events": Lines(EVENTS),
}
