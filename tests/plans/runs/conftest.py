from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.client.conftest import PATIENT
from workbench.client.api import WorkbenchClient
from workbench.locks import FileLock
from workbench.plans.create import RunOptions, create_run
from workbench.plans.folder import RunFolder
from workbench.plans.info import read_info
from workbench.plans.journal import read_lines
from workbench.plans.opening import OpenRun
from workbench.plans.result import StepResult
from workbench.plans.spec import Plan
from workbench.plans.stage import Stage
from workbench.plans.state import RunState, state_of
from workbench.portal import get_portal
from workbench.testing import ScriptedOllama


@dataclass
class Here:
    """Runs that are carried out in this process, without a kernel.

    Attributes:
        client: For plans that ask models; nothing listens at its address unless a test sets one.
    """

    data_dir: Path
    client: WorkbenchClient
    opened: list[OpenRun] = field(default_factory=list)

    def folder(self, plan: Plan, params: Mapping[str, Any] | None = None, **how: Any) -> RunFolder:
        """Make the folder of a run."""
        return get_portal().run(
            create_run(
                plan,
                params or {},
                data_dir=self.data_dir,
                client=self.client,
                plan_dir=self.data_dir,
                options=RunOptions(**how),
            )
        )

    def open(
        self, plan: Plan, folder: RunFolder | None = None, *, eager: bool = True, **how: Any
    ) -> OpenRun:
        """Open a run, or one again as a resume does."""
        folder = folder or self.folder(plan, **how)
        info = read_info(folder)
        stage = Stage.open(folder, plan, info.params, info, self.client)
        stage.journal.write("run_started", execution=1, pid=0)
        lock = FileLock(folder.lock)
        assert eager or lock.acquire()
        run = OpenRun(stage, eager=eager, stays=info.wait, lock=lock)
        self.opened.append(run)
        return run

    def ended(self, run: OpenRun, step: str) -> StepResult:
        """Return how a step ended."""
        return get_portal().run(run.step(step))

    def settled(self, plan: Plan, folder: RunFolder | None = None, **how: Any) -> OpenRun:
        """Open a run and wait until nothing can go on."""
        run = self.open(plan, folder, **how)
        run.settle()
        return run


def state(run: OpenRun) -> RunState:
    """Return what the journal of a run tells."""
    lines, _ = read_lines(RunFolder(run.folder).journal)
    return state_of(lines, alive=True)


def events(run: OpenRun, event: str) -> list[Mapping[str, Any]]:
    """Return the lines of one kind."""
    lines, _ = read_lines(RunFolder(run.folder).journal)
    return [line for line in lines if line["event"] == event]


@pytest.fixture
def ollama() -> Iterator[ScriptedOllama]:
    with ScriptedOllama(models=["m", "other"]) as server:
        yield server


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Here]:
    """Yield the runs of this process, with no server."""
    yield from _here(tmp_path, "http://127.0.0.1:9")


@pytest.fixture
def served(tmp_path: Path, ollama: ScriptedOllama) -> Iterator[Here]:
    """Yield the runs of this process, with a scripted server."""
    yield from _here(tmp_path, ollama.url)


def _here(tmp_path: Path, url: str) -> Iterator[Here]:
    client = WorkbenchClient(url, deadlines=PATIENT)
    made = Here(tmp_path, client)
    yield made
    for run in made.opened:
        get_portal().run(run.acancel())
        run._stage.journal.close()
    get_portal().run(client.aclose())


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Return a file in which attempts leave a line."""
    path = tmp_path / "log.txt"
    path.touch()
    return path


def until(what: Callable[[], bool]) -> None:
    """Wait for something that happens on another thread."""
    due = time.monotonic() + 30.0
    while not what():
        assert time.monotonic() < due, "it does not happen"
        time.sleep(0.01)


def counted(log: Path) -> dict[str, int]:
    """Return how often each step, or item, was attempted."""
    found: dict[str, int] = {}
    for line in log.read_text().splitlines():
        step, item, _ = line.split()
        name = step if item == "None" else f"{step}[{item}]"
        found[name] = found.get(name, 0) + 1
    return found
