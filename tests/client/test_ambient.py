"""What the running work is part of goes with every request, and into its span."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from workbench.client.ambient import current_context, environment_of, working
from workbench.client.api import WorkbenchClient
from workbench.client.run import begin_run
from workbench.plans.rows import request_context
from workbench.portal import get_portal
from workbench.testing import ScriptedOllama

CONTEXT = request_context(run_id="r1", run_key="k1", step="ask", item=3, attempt=2)


class Rows:
    """Keeps rows in a list."""

    run_id: str | None = None

    def __init__(self) -> None:
        self.rows: list[tuple[str, Any]] = []

    def write(self, table: str, row: Any) -> bool:
        self.rows.append((table, row))
        return True


async def ask(client: WorkbenchClient) -> None:
    async for _ in client.generate_batches("m", "hi"):
        continue


def test_requests_carry_the_context(client: WorkbenchClient, ollama: ScriptedOllama) -> None:
    """Run, key, step, item and attempt are headers, and nobody waits for the answer in person."""
    with working(CONTEXT):
        get_portal().run(ask(client))
    headers = ollama.requests[-1].headers
    named = ("run", "run-key", "step", "item", "attempt", "priority")
    assert ["r1", "k1", "ask", "3", "2", "batch"] == [headers[f"workbench-{n}"] for n in named]
    assert str(CONTEXT["trace_id"]) in headers["traceparent"]
    assert {} == dict(current_context())


def test_spans_are_part_of_the_attempt(client: WorkbenchClient) -> None:
    """The client's span has the attempt's as its parent, in one trace."""
    rows = client.records = Rows()
    with working(CONTEXT):
        get_portal().run(ask(client))
    (table, row) = rows.rows[-1]
    assert ("spans", CONTEXT["parent_span_id"], CONTEXT["trace_id"]) == (
        table,
        row["parent_span_id"],
        row["trace_id"],
    )
    assert ("r1", "ask", "3", 2) == (row["run_id"], row["step"], row["item"], row["attempt"])


def test_a_child_process_has_it_from_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment holds the context, and one that is set in the process is laid over it."""
    for name, value in environment_of(CONTEXT).items():
        monkeypatch.setenv(name, value)
    assert CONTEXT == current_context()
    with working({"item": "4"}):
        assert ("ask", "4") == (current_context()["step"], current_context()["item"])
    monkeypatch.setenv("WORKBENCH_CONTEXT", "no json")
    assert {} == dict(current_context())


def test_a_process_of_a_run_is_no_run_of_its_own(client: WorkbenchClient) -> None:
    """A kernel or child of a plan's run records no run beside it."""
    rows = client.records = Rows()
    with working(CONTEXT):
        get_portal().run(begin_run(client, "papermill"))
    assert [] == rows.rows


def test_tasks_side_by_side_have_their_own(client: WorkbenchClient, ollama: ScriptedOllama) -> None:
    """Concurrent attempts never send each other's context."""

    async def one(number: int) -> None:
        with working({"step": f"s{number}"}):
            await ask(client)

    async def several() -> None:
        await asyncio.gather(*(one(number) for number in range(6)))

    get_portal().run(several())
    sent = [request.headers["workbench-step"] for request in ollama.requests]
    assert {f"s{number}" for number in range(6)} == set(sent)
