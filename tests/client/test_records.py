"""What a kernel records itself: spans beside the server's requests, and its run."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

import workbench.metrics
from tests.server.harness import ServerProcess
from workbench.client.door import open_client
from workbench.client.records import Spool, close_records, settle_records, spool_folder
from workbench.client.run import run_row
from workbench.config import load_config
from workbench.errors import WorkbenchError
from workbench.messages import Message
from workbench.portal import get_portal
from workbench.testing import FakeModel, Reply, ScriptedOllama

MODEL = "llama3.2:latest"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    """Yield a server before a scripted Ollama that fails at the word `fail`."""

    def reply(request: object) -> Reply:
        failed = "fail" in json.dumps(getattr(request, "json", None))
        return Reply("one two", error_after=(1, "broken")) if failed else Reply("one two")

    with (
        ScriptedOllama(models=[FakeModel(MODEL)], reply=reply) as host,
        ServerProcess(tmp_path / "data", env={"OLLAMA_HOST": host.url}) as running,
    ):
        yield running


def ask(server: ServerProcess, *questions: str, remote: Path | None = None) -> None:
    """Ask questions as a process of the server's own machine, or as one of another host."""
    flags = (
        {"data_dir": str(server.data_dir)}
        if remote is None
        else {"data_dir": str(remote), "url": server.url, "token": server.token}
    )
    client = open_client(load_config(flags=flags, env={}), spawn=False)

    async def one(question: str) -> None:
        batches = client.chat_batches(
            MODEL, [Message("user", question)], context={"conversation": "c1"}
        )
        async for _ in batches:
            continue

    for question in questions:
        get_portal().run(one(question))
    close_records(client.records)
    get_portal().run(client.aclose())


def read(folder: Path, query: str) -> pd.DataFrame:
    """Return what a query finds in a store."""
    with workbench.metrics.open(folder) as metrics:
        return metrics.sql(query)


def test_span_is_the_parent_of_the_request(server: ServerProcess) -> None:
    """Each request of ours is one span of the client and one row of the server, joined."""
    ask(server, "hi", "fail now")
    server.stop()
    store = server.data_dir / "metrics"
    joined = read(
        store,
        "select s.status as span_status, r.status, s.conversation, s.duration, r.duration as inner "
        "from spans s join requests r on r.parent_span_id = s.span_id and r.trace_id = s.trace_id "
        "order by s.ts",
    )
    assert [("ok", "ok"), ("error", "error")] == list(
        zip(joined["span_status"], joined["status"], strict=True)
    )
    assert {"c1"} == set(joined["conversation"])
    assert (joined["duration"] >= joined["inner"]).all()


def test_span_says_how_it_ended(server: ServerProcess) -> None:
    """A span has the name of its operation and model, its error and its time to first token."""
    ask(server, "hi", "fail now")
    spans = read(server.data_dir / "metrics", "select * from spans order by ts")
    assert {f"chat {MODEL}"} == set(spans["name"])
    assert {"client"} == set(spans["kind"])
    assert [False, True] == list(spans["error_type"].notna())
    attributes = json.loads(spans["attributes"][0])
    assert "stop" == attributes["stop_reason"]
    assert attributes["ttft_s"] > 0


def test_kernel_on_another_host_posts_its_rows(server: ServerProcess, tmp_path: Path) -> None:
    """Rows of a kernel elsewhere end up in the server's store, and its spool is empty again."""
    far = tmp_path / "far"
    ask(server, "hi", remote=far)
    server.stop()
    assert 1 == len(read(server.data_dir / "metrics", "select * from spans"))
    assert [] == list(spool_folder(far, server.url).glob("*.jsonl"))


def test_rows_wait_for_a_server_that_is_away(tmp_path: Path) -> None:
    """Rows that cannot be sent stay in the spool; the next process sends them, and counts once."""
    taken: list[str] = []
    away = True

    async def post(table: str, rows: list[dict[str, object]]) -> None:
        if away:
            raise WorkbenchError("nobody is there")
        taken.extend(str(row["id"]) for row in rows)

    async def write(spool: Spool, name: str) -> None:
        assert spool.write("spans", {"id": name})
        await spool.flush()

    folder = tmp_path / "spool"
    first = Spool(folder, post, session="s1")
    get_portal().run(write(first, "a"))
    assert 1 == len(list(folder.glob("*.jsonl")))
    first.close()
    away = False
    second = Spool(folder, post, session="s2")
    get_portal().run(write(second, "b"))
    assert ["a", "b"] == sorted(taken)
    assert [] == list(folder.glob("*.jsonl"))


def test_who_asks_waits_for_rows_on_their_way(tmp_path: Path) -> None:
    """`settle_records` returns when the server has the rows; with nothing on its way, at once."""
    taken: list[str] = []

    async def post(table: str, rows: list[dict[str, object]]) -> None:
        taken.extend(str(row["id"]) for row in rows)

    async def write(name: str) -> bool:
        return spool.write("votes", {"id": name})

    spool = Spool(tmp_path / "spool", post, session="s1")
    for number in range(20):
        assert get_portal().run(write(f"{number}"))
        settle_records(spool)
        assert number + 1 == len(taken)
    assert not spool.is_sending
    settle_records(None)
    spool.close()


def test_run_of_a_kernel(tmp_path: Path) -> None:
    """A run names its notebook, versions and machine, and never the password of a repository."""
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.invalid"]
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "x"], check=True)
    origin = "https://me:secret@example.invalid/repo.git"
    subprocess.run([*git, "remote", "add", "origin", origin], check=True)
    code = (
        "import json; from workbench.client.run import run_row; "
        "print(json.dumps(run_row('r', 'papermill'), default=str))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    row = json.loads(done.stdout)
    assert "https://example.invalid/repo.git" == row["git_origin"]
    assert False is row["git_dirty"]
    assert ("open", "papermill", "r") == (row["status"], row["kind"], row["run_id"])
    assert row["packages"]["httpx"]
    assert "secret" not in done.stdout


def test_outside_of_a_repository_nothing_is_said_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a repository the columns of git are not there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert not {"git_commit", "git_dirty", "git_origin"} & set(run_row("r", "interactive"))
