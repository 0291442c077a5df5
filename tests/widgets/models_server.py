"""A scripted workbench server for the models panel: it keeps state and can be lost."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Self

from workbench.testing.http import Exchange, Listener, dumps
from workbench.testing.scripts import RecordedRequest

PREFIX = "/workbench/v1/"
GIB = 2**30
SWAP = {
    "kind": "choice",
    "choices": ["auto", "manual", "server"],
    "changeable": True,
    "help": "What happens when a model needs the room of another.",
}


def model(name: str, **more: Any) -> dict[str, Any]:
    """Return a row of `GET /models`: a model that is not loaded, unless told otherwise."""
    return {
        "name": name,
        "backend": "ollama",
        "kind": "ollama",
        "digest": f"sha256:{name}",
        "size_bytes": 4 * GIB,
        "context_length": 8192,
        "parameter_size": "7B",
        "quantization": "Q4_K_M",
        "family": "llama",
        "capabilities": ["completion"],
        "toy": False,
        "state": "absent",
        "load_s": 3.9,
        "evicts": [],
        "priority": 5,
        "pinned": False,
        "hot": False,
        "remote": False,
        "stale": False,
        "owner": None,
        "in_flight": 0,
        "fit": {
            "verdict": "alongside",
            "needed_bytes": 5 * GIB,
            "free_bytes": 8 * GIB,
            "budget_bytes": 24 * GIB,
            "reason": "5.0 GiB of 8.0 GiB",
            "source": "estimated",
        },
        **more,
    }


class ModelsServer:
    """Answers what the contract of `/workbench/v1` says about models.

    Attributes:
        models: Rows of `GET /models`, by name.
        held: `METHOD path` of requests that wait until `release`.
        refused: `METHOD path` to (status, body) of an error.
        device: Laid over what it tells about its card.
    """

    def __init__(self, models: Iterable[Mapping[str, Any]] = ()) -> None:
        self.models: dict[str, dict[str, Any]] = {row["name"]: dict(row) for row in models}
        self.errors: list[dict[str, Any]] = []
        self.alerts: dict[str, Any] = {"rules": [], "active": []}
        self.queue: dict[str, Any] = {"lanes": [], "order": [], "predicted_swaps": 0}
        self.warning: dict[str, Any] | None = None
        self.settings: dict[str, dict[str, Any]] = {
            "swap.ollama": {"value": "auto", "default": "auto", "source": "default", **SWAP},
            "server.open_ollama_api": {
                "value": False,
                "default": False,
                "source": "flag",
                "kind": "bool",
                "changeable": True,
            },
        }
        self.device: dict[str, Any] = {}
        self.held: set[str] = set()
        self.refused: dict[str, tuple[int, dict[str, Any]]] = {}
        self.requests: list[RecordedRequest] = []
        self.pull_lines: list[dict[str, Any]] = []
        self._news = threading.Condition()
        self._streams: set[asyncio.Queue[dict[str, Any]]] = set()
        self._events: list[dict[str, Any]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._port = 0
        self._listener: Listener | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Its address; the same after it was lost and started again."""
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Listen."""
        self._listener = Listener(self._handle, name="models")
        self._port = self._listener.start("127.0.0.1", self._port)

    def stop(self) -> None:
        """Be gone."""
        if self._listener is not None:
            self.release()
            self._listener.stop()
            self._listener = None
            self._streams.clear()

    def release(self) -> None:
        """Let held requests go on."""
        for request in list(self.requests):
            request.release()

    def heard(self, key: str) -> list[RecordedRequest]:
        """Return the requests for `METHOD path` so far."""
        with self._news:
            return [request for request in self.requests if key == _key(request)]

    def wait_for(self, key: str, n: int = 1, *, timeout_s: float = 60.0) -> RecordedRequest:
        """Return the n-th request for `METHOD path` as soon as it is there."""
        with self._news:
            came = self._news.wait_for(
                lambda: len([item for item in self.requests if key == _key(item)]) >= n, timeout_s
            )
        assert came, f"{key} was not asked {n} times"
        return self.heard(key)[n - 1]

    @property
    def subscribers(self) -> int:
        """How many follow the events now."""
        return len(self._streams)

    def emit(self, event: str, **fields: Any) -> None:
        """Tell an event to all who follow."""
        record = {"ts": 1_700_000_000.0 + len(self._events), "event": event, **fields}
        self._events.append(record)
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._tell, record)

    def _tell(self, record: dict[str, Any]) -> None:
        for stream in self._streams:
            stream.put_nowait(record)

    # --- answers

    async def _handle(self, exchange: Exchange) -> None:
        request = exchange.request
        self._loop = asyncio.get_running_loop()
        key = _key(request)
        with self._news:
            self.requests.append(request)
            self._news.notify_all()
        if key in self.held:
            await request.stall(None)
        if key in self.refused:
            await exchange.send_json(*self.refused[key])
        elif key in ("GET events", "POST pull"):
            await (self._follow if key == "GET events" else self._pull)(exchange)
        else:
            await self._answer(exchange, key)

    async def _answer(self, exchange: Exchange, key: str) -> None:
        answers: dict[str, Callable[[Any], Any]] = {
            "GET /api/version": lambda _: {"version": "0"},
            "GET info": lambda _: self._info(),
            "GET models": lambda _: {"models": [*self.models.values()], "errors": self.errors},
            "GET models/loaded": lambda _: {"models": self._loaded(), "errors": []},
            "GET gpu": lambda _: self._gpu(),
            "GET queue": lambda _: self.queue,
            "GET alerts": lambda _: self.alerts,
            "GET settings": lambda _: self._settings(),
            "PATCH settings": self._set,
            "PATCH models": self._prefer,
            "POST load": self._load,
            "POST unload": self._unload,
            "POST pin": lambda body: self._prefer({**body, "pinned": True}),
            "POST unpin": lambda body: self._prefer({**body, "pinned": False}),
            "POST models/add": self._add,
            "DELETE models": self._delete,
        }
        if key not in answers:
            await exchange.send_json(404, {"error": f"404 page not found: {key}"})
            return
        answer = answers[key](exchange.request.json)
        status, body = answer if isinstance(answer, tuple) else (200, answer)
        await exchange.send_json(status, body)

    def _info(self) -> dict[str, Any]:
        names = sorted({row["backend"] for row in self.models.values()} | {"ollama"})
        return {
            "name": "workbench",
            "backends": [
                {"name": name, "kind": "ollama", "url": "http://127.0.0.1:11434", "reachable": True}
                for name in names
            ],
        }

    def _loaded(self) -> list[dict[str, Any]]:
        return [
            {
                "name": row["name"],
                "backend": row["backend"],
                "digest": row["digest"],
                "state": row["state"],
                "size_bytes": 5 * GIB,
                "vram_bytes": 5 * GIB,
                "context_length": 4096,
                "expires_at": row.get("expires_at"),
                "forever": False,
                "warnings": [],
                **row.get("loaded", {}),
            }
            for row in self.models.values()
            if row["state"] != "absent"
        ]

    def _gpu(self) -> dict[str, Any]:
        held = [
            {"name": row["name"], "backend": row["backend"], "bytes": row["vram_bytes"]}
            for row in self._loaded()
        ]
        used = sum(item["bytes"] for item in held) + GIB
        # The figures of a card are never quite the same twice.
        jitter = len(self.requests) % 3
        device = {
            "id": "GPU-0",
            "name": "Test card",
            "kind": "nvidia",
            "total_bytes": 24 * GIB,
            "used_bytes": used + jitter,
            "free_bytes": 24 * GIB - used - jitter,
            "utilization_pct": 12.0 + jitter / 10,
            "temperature_c": 51,
            "power_w": 88.0 + jitter / 10,
            "models": held,
            "other_bytes": GIB + jitter,
            "source": "nvml",
            "reason": None,
            **self.device,
        }
        return {"devices": [device], "warning": self.warning, "as_of": len(self.requests)}

    def _settings(self) -> dict[str, Any]:
        return {"settings": [{"name": name, **row} for name, row in self.settings.items()]}

    def _set(self, body: dict[str, Any]) -> Any:
        for name, value in body.items():
            row = self.settings[name]
            if row.get("choices") and value not in row["choices"]:
                return 400, {"error": f"{name} cannot be {value}.", "type": "ConfigError"}
            source = "default" if value is None else "state"
            row.update(value=row["default"] if value is None else value, source=source)
        return self._settings()

    def _named(self, body: dict[str, Any]) -> dict[str, Any]:
        return self.models[body["model"].partition("@")[0]]

    def _prefer(self, body: dict[str, Any]) -> Any:
        row = self._named(body)
        row.update({name: value for name, value in body.items() if name != "model"})
        return row

    def _load(self, body: dict[str, Any]) -> Any:
        row = self._named(body)
        if row["evicts"] and self.settings["swap.ollama"]["value"] == "manual":
            if not body.get("swap"):
                return 409, self._swap_required(row)
            for name in row["evicts"]:
                self.models[name]["state"] = "absent"
            row["evicts"] = []
        row["state"] = "idle"
        self.emit("loaded", model=row["name"], backend=row["backend"], seconds=3.9)
        return {**next(item for item in self._loaded() if item["name"] == row["name"]), "load_s": 4}

    def _swap_required(self, row: dict[str, Any]) -> dict[str, Any]:
        loaded = {item["name"]: item for item in self._loaded()}
        leaving = [
            {
                "model": name,
                "backend": "ollama",
                "bytes": loaded[name]["size_bytes"],
                "reload_s": self.models[name]["load_s"],
                "reason": "idle",
            }
            for name in row["evicts"]
        ]
        plan = {"model": row["name"], "backend": "ollama", "evict": leaving}
        plan |= {"needed_bytes": row["fit"]["needed_bytes"], "estimated_s": row["load_s"]}
        plan["free_bytes"] = self._gpu()["devices"][0]["free_bytes"]
        return {"error": "it fits only when others leave", "type": "SwapRequired", "plan": plan}

    def _unload(self, body: dict[str, Any]) -> Any:
        row = self._named(body)
        row["state"] = "absent"
        result = {"model": row["name"], "backend": row["backend"], "verdict": "verified"}
        result |= {"seconds": 0.6, "bytes_before": 6 * GIB, "bytes_after": 2 * GIB}
        self.emit("unloaded", **result)
        return result

    def _add(self, body: dict[str, Any]) -> Any:
        name = body.get("name") or body["path"].rpartition("/")[2].removesuffix(".gguf")
        self.models[name] = model(name)
        return self.models[name]

    def _delete(self, body: dict[str, Any]) -> Any:
        row = self.models.pop(self._named(body)["name"])
        return {"model": row["name"], "backend": row["backend"], "freed_bytes": row["size_bytes"]}

    async def _follow(self, exchange: Exchange) -> None:
        exchange.start(200, "application/x-ndjson")
        stream: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        for record in self._events:
            stream.put_nowait(record)
        self._streams.add(stream)
        try:
            await self._relay(exchange, stream)
        finally:
            self._streams.discard(stream)

    async def _relay(self, exchange: Exchange, stream: asyncio.Queue[dict[str, Any]]) -> None:
        while True:
            exchange.chunk(dumps(await stream.get()) + b"\n")

    async def _pull(self, exchange: Exchange) -> None:
        exchange.start(200, "application/x-ndjson")
        for line in self.pull_lines:
            if "stall" in line:
                await exchange.request.stall(None)
            else:
                exchange.chunk(dumps(line) + b"\n")
        exchange.end()


def _key(request: RecordedRequest) -> str:
    return f"{request.method} {request.path.removeprefix(PREFIX)}"
