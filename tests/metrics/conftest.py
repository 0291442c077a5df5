"""A store of metrics in a folder of the test, and rows to put into it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import workbench.metrics
from workbench.metrics import Metrics
from workbench.metrics.journal import JournalWriter

START = datetime(2026, 11, 20, 8, tzinfo=UTC)


def request_row(number: int, **values: Any) -> dict[str, Any]:
    """Return a request that ended well; requests are ten minutes apart."""
    row = {
        "id": f"r{number:04}",
        "ts": START + timedelta(minutes=10 * number),
        "run_id": "run1",
        "client_name": "test",
        "backend": "ollama",
        "gen_ai_operation_name": "chat",
        "gen_ai_request_model": "m1",
        "gen_ai_response_model": "m1",
        "options": {"seed": number},
        "gen_ai_usage_input_tokens": 100,
        "gen_ai_usage_output_tokens": 10 + number,
        "token_source": "server",
        "gen_ai_response_time_to_first_chunk": 0.25,
        "duration": 2.0,
        "ollama_prompt_eval_duration": 0.5,
        "ollama_eval_duration": 1.0,
        "cold": False,
        "status": "ok",
    }
    return row | values


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a store that nobody has written to yet."""
    return tmp_path / "metrics"


@pytest.fixture
def writer(folder: Path) -> Iterator[JournalWriter]:
    """A writer of the store."""
    with JournalWriter(folder) as journal:
        yield journal


@pytest.fixture
def metrics(folder: Path) -> Iterator[Metrics]:
    """The store, open for reading."""
    with workbench.metrics.open(folder) as opened:
        yield opened
