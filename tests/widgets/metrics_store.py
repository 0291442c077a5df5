"""A store of metrics as a week of work with three models leaves it; made by a fixed seed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from workbench.metrics.journal import JournalWriter
from workbench.units import rfc3339
from workbench.widgets import dashboard_data as data
from workbench.widgets.dashboard_data import Filters, Order, Reader

GB = 1_000_000_000
MODELS = (
    # Name, seconds to the first token, tokens per second, bytes, seconds of a cold load.
    ("qwen3:4b", 0.28, 92.0, 3.4 * GB, 3.1),
    ("llama3.2:3b", 0.19, 118.0, 2.6 * GB, 2.2),
    ("gemma3:12b", 0.74, 36.0, 9.1 * GB, 8.4),
)
CARD_BYTES = 16 * GB
QUESTION = "Why does a soap bubble shine in colours?"
ANSWER = (
    "Light is reflected at the outer and at the inner side of the thin film.\n\n"
    "1. The two reflections meet.\n2. Some colours add up, others cancel.\n\n"
    "Which ones depends on the thickness, so the colours move as the film drains."
)
NASTY = '<img src=x onerror="window.hacked=1"> \u202eevil <script>window.hacked=1</script>'


def fill(folder: Path, *, now: datetime | None = None, requests: int = 600) -> Path:
    """Write the rows and return the folder."""
    made = _Week(folder, now or datetime.now(UTC), random.Random(7))
    with JournalWriter(folder, session_id="kernel-1") as writer:
        for table, row in made.rows(requests):
            assert writer.write(table, row)
    return folder


class _Week:
    def __init__(self, folder: Path, now: datetime, chance: random.Random) -> None:
        self.folder, self.now, self.chance = folder, now, chance
        self.number = 0

    def rows(self, requests: int) -> Iterator[tuple[str, dict[str, Any]]]:
        yield from self._texts()
        for index in range(requests):
            # More of the work is recent.
            ago_s = 6.5 * 86400 * (1 - (index + 1) / requests) ** 2 + 40
            yield "requests", self._request(index, ago_s, last=index == requests - 1)
        yield from self._memory()
        yield from self._steps()

    def _id(self) -> str:
        self.number += 1
        return f"{self.number:08}-metrics-of-a-week"

    def _at(self, ago_s: float) -> str:
        return rfc3339(self.now - timedelta(seconds=ago_s))

    def _texts(self) -> Iterator[tuple[str, dict[str, Any]]]:
        for sha, role, text in (
            ("q" * 64, "user", QUESTION),
            ("a" * 64, "assistant", ANSWER),
            ("n" * 64, "assistant", NASTY),
        ):
            parts = [{"type": "text", "content": text}]
            row = {"id": sha, "role": role, "parts": parts, "n_chars": len(text)}
            yield "messages", {**row, "ts": self._at(7 * 86400)}

    def _request(self, index: int, ago_s: float, *, last: bool) -> dict[str, Any]:
        name, ttft, rate, size, load = MODELS[index % 7 % 3]
        chance = self.chance
        cold = chance.random() < 0.05
        queue = chance.expovariate(6)
        loading = load * chance.uniform(0.9, 1.3) if cold else 0.0
        first = queue + loading + ttft * chance.gammavariate(6, 1 / 6)
        tokens = int(chance.gammavariate(3, 70)) + 8
        generation = tokens / (rate * chance.uniform(0.85, 1.1))
        row = {
            "id": self._id(),
            "ts": self._at(ago_s),
            "status": "ok",
            "run_id": f"01k9x{index // 120:021}" if index % 3 == 0 else None,
            "client_name": ("workbench", "open-webui", "aider")[index % 5 % 3],
            "client_kind": ("library", "foreign", "foreign")[index % 5 % 3],
            "priority": "interactive",
            "backend": "local" if index % 4 else "desk",
            "backend_version": "0.12.3",
            "backend_kind": "ollama",
            "gen_ai_operation_name": "chat",
            "gen_ai_request_model": name,
            # Some servers answer with the name as it was asked for, without its tag.
            "gen_ai_response_model": name.split(":")[0],
            "quantization": "Q4_K_M",
            "num_ctx": 8192,
            "options": {"temperature": 0.7, "top_p": 0.9, "seed": 4},
            "gen_ai_usage_input_tokens": int(chance.gammavariate(2, 300)) + 20,
            "gen_ai_usage_output_tokens": tokens,
            "token_source": "server",
            "queue_wait": queue,
            "load_wait": loading,
            "gen_ai_response_time_to_first_chunk": first,
            "duration": first + generation,
            "ollama_prompt_eval_duration": max(0.01, first - queue - loading),
            "ollama_eval_duration": generation,
            "time_per_output_chunk_p50": 1 / rate * chance.uniform(0.8, 1.2),
            "time_per_output_chunk_p99": 3 / rate,
            "n_chunks": tokens,
            "cold": cold,
            "vram_bytes": int(size),
            "gen_ai_response_finish_reasons": ["stop"],
        }
        row |= self._ending(index, last=last)
        return {key: value for key, value in row.items() if value is not None}

    def _ending(self, index: int, *, last: bool) -> dict[str, Any]:
        """Return the end of a request: the last one has its text, some fail."""
        if last:
            return {"messages_sha": ["q" * 64], "prompt_sha": "q" * 64, "output_sha": "a" * 64}
        if index % 41 == 0:
            return {
                "status": "error",
                "error_type": "StreamBroken",
                "error_stage": "stream",
                "error_message": "llama runner process has terminated: CUDA error",
                "messages_sha": ["q" * 64],
                "output_sha": "n" * 64,
            }
        return {"status": "cancelled"} if index % 67 == 0 else {}

    def _memory(self) -> Iterator[tuple[str, dict[str, Any]]]:
        for index in range(480):
            ago_s = 86400 * (1 - index / 480)
            held = [m for number, m in enumerate(MODELS) if (index // 60 + number) % 4 < 2]
            models = [{"name": m[0], "backend": "local", "bytes": int(m[3])} for m in held]
            used = sum(m[3] for m in held) + 0.4 * GB
            yield (
                "gpu_samples",
                {
                    "id": self._id(),
                    "ts": self._at(ago_s),
                    "host": "desk",
                    "hw_id": "GPU-0",
                    "hw_name": "Test card",
                    "hw_gpu_memory_usage": int(used),
                    "hw_gpu_memory_limit": CARD_BYTES,
                    "hw_gpu_memory_free": int(CARD_BYTES - used),
                    "models": models,
                    "source": "nvml",
                },
            )
            if index % 60 == 0:
                for name, _, _, size, load in held:
                    yield self._loaded(ago_s, name, size, load, cold=index % 120 == 0)

    def _loaded(
        self, ago_s: float, name: str, size: float, load: float, *, cold: bool
    ) -> tuple[str, dict[str, Any]]:
        return (
            "model_events",
            {
                "id": self._id(),
                "ts": self._at(ago_s),
                "backend": "local",
                "model": name,
                "event": "load",
                "ok": True,
                "duration": load * self.chance.uniform(0.9, 1.2) * (1 if cold else 0.4),
                "cold": cold,
                "size_bytes": int(size),
                "vram_bytes": int(size),
            },
        )

    def _steps(self) -> Iterator[tuple[str, dict[str, Any]]]:
        for index, name in enumerate(("read", "summarise", "judge", "write")):
            yield (
                "spans",
                {
                    "id": self._id(),
                    "ts": self._at(3600 - 300 * index),
                    "ended": self._at(3600 - 300 * index - 280),
                    "name": name,
                    "kind": "step",
                    "status": "ok" if index < 3 else "error",
                },
            )


def picture(folder: Path, *, range_name: str = "day") -> dict[str, Any]:
    """Return what a view is told of a store, with the details of its requests by id."""
    reader = Reader(folder)
    filters = Filters(range=range_name)
    overview = reader.overview(filters.selection())
    try:
        table = data.table_values(overview, Order())
        charts = {name: data.figure_values(overview, name) for name in data.CHARTS}
        failed = next(row["id"] for row in table["rows"] if row["status"] == "error")
        shown = [table["rows"][0]["id"], table["rows"][1]["id"], failed]
        return {
            "store": {"state": "ok", "folder": "~/workbench/metrics", "text": "", "hint": None},
            "headline": data.headline_values(overview),
            "choices": overview.choices(),
            "table": table,
            "detail": None,
            "busy": False,
            "filters": {field: getattr(filters, field) for field in filters.__slots__},
            "rows": {name: chart for name, chart in charts.items() if chart is not None},
            "alerts": {"state": "ok", "text": "", "active": [], "rules": 2},
            "said": None,
            "details": {item: data.detail_values(overview, item) for item in shown},
        }
    finally:
        reader.close()
