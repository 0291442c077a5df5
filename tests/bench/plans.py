"""Runs of plans that are killed at random: what comes back, and what is done twice."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.report import Figure
from workbench.plans.create import RunOptions
from workbench.plans.folder import RunFolder
from workbench.plans.handle import RunHandle
from workbench.plans.start import resume_run, start_run
from workbench.runtime import ensure_server, find_server

KILLS = 50
_SEED = 7
# A run takes about this long from its start, so that kills fall into every part of it.
_WITHIN_S = 6.0
_LIMIT_S = 120.0
NOTES = (
    f"{KILLS} times at a random moment (seed {_SEED}) the process of the run, its kernel or the "
    "model server is killed with SIGKILL, and the run resumed; one that ends begins anew, with no "
    "cache.",
    "The plan has 12 steps: Python in child processes, a foreach, two questions to a bundled "
    "model; each step leaves a line in a file of its own when it begins.",
)

_CODE = """\
import time
from pathlib import Path

from workbench.plans import step

def mark(word):
    name = step.id if step.item is None else f"{step.id}-{step.item}"
    with open(Path(__file__).parent / "counts" / f"{step.run_id}-{name}", "a") as file:
        file.write("x")
    time.sleep(0.1)
    return f"{word}>{name}"
"""

_PLAN = """\
plan_version: 1
plan: killed
steps:
  - {id: s01, kind: python, run: "work:mark", inputs: {word: begin}, outputs: {w: json}}
  - {id: s02, kind: python, run: "work:mark", inputs: {word: $s01.w}, outputs: {w: json}}
  - {id: s03, kind: python, run: "work:mark", inputs: {word: $s01.w}, outputs: {w: json}}
  - {id: ask, kind: prompt, model: toy-nano, prompt: "Say ${s02.w}", options: {seed: 1, temperature: 0, num_predict: 8}}
  - {id: s05, kind: python, run: "work:mark", inputs: {word: $ask.text}, outputs: {w: json}}
  - id: s06
    kind: python
    run: "work:mark"
    foreach: {n: [one, two, three, four]}
    inputs: {word: $n}
    needs: [s03]
    outputs: {w: json}
  - {id: s07, kind: python, run: "work:mark", inputs: {word: $s06.w}, outputs: {w: json}}
  - {id: pick, kind: decision, expr: "len(s06.w) > 3", then: [s09], else: [s10]}
  - {id: s09, kind: python, run: "work:mark", inputs: {word: $s07.w}, outputs: {w: json}}
  - {id: s10, kind: python, run: "work:mark", inputs: {word: $s07.w}, outputs: {w: json}}
  - {id: again, kind: prompt, model: toy-nano, prompt: "And ${s05.w}", options: {seed: 1, temperature: 0, num_predict: 8}}
  - {id: s12, kind: python, run: "work:mark", inputs: {word: "${again.text}${s09.w}"}, outputs: {w: json}}
"""  # noqa: E501 - one step a line reads best


def measure(kills: int = KILLS) -> list[Figure]:
    """Return what the kills did."""
    with tempfile.TemporaryDirectory(prefix="wb-bench-") as folder:
        test = _KillTest(Path(folder))
        try:
            return test.run(kills)
        finally:
            test.close()


@dataclass
class _KillTest:
    base: Path
    hashes: set[str] = field(default_factory=set)
    victims: list[str] = field(default_factory=list)
    ended: int = 0
    failed: int = 0
    repeated: int = 0
    resumed_s: list[float] = field(default_factory=list)
    seen: dict[str, int] = field(default_factory=dict)

    def run(self, kills: int) -> list[Figure]:
        """Kill so often, let the last run end, and return the figures."""
        chance = random.Random(_SEED)
        (self.base / "counts").mkdir()
        (self.base / "work.py").write_text(_CODE)
        (self.base / "plan.yaml").write_text(_PLAN)
        ensure_server(self.data_dir)
        handle = self._start()
        while len(self.victims) < kills:
            due = time.monotonic() + chance.uniform(0.0, _WITHIN_S)
            while time.monotonic() < due and handle.alive:
                time.sleep(0.01)
            if handle.alive and not self._kill(
                handle, chance.choice(("runner", "kernel", "server"))
            ):
                continue
            handle = self._go_on(handle)
        while (state := handle.wait(_LIMIT_S)).status != "done":
            handle = self._resume(handle)
        self._end(handle)
        return self._figures(state.execution)

    @property
    def data_dir(self) -> Path:
        """The data folder of all runs."""
        return self.base / "data"

    def close(self) -> None:
        """End the server."""
        record = find_server(self.data_dir)
        if record is not None:
            os.kill(record.pid, signal.SIGTERM)
            while find_server(self.data_dir) is not None:
                time.sleep(0.05)

    def _start(self) -> RunHandle:
        options = RunOptions(cache=False)
        return start_run(self.base / "plan.yaml", data_dir=self.data_dir, options=options)

    def _go_on(self, handle: RunHandle) -> RunHandle:
        """Return the run, resumed where it was killed, or another one where it has ended."""
        if self.victims and self.victims[-1] == "server" and handle.alive:
            return handle
        state = handle.wait(_LIMIT_S)
        if state.status == "done":
            self._end(handle)
            return self._start()
        return self._resume(handle)

    def _resume(self, handle: RunHandle) -> RunHandle:
        began = time.monotonic()
        resumed = resume_run(handle.folder)
        self.resumed_s.append(time.monotonic() - began)
        return resumed

    def _kill(self, handle: RunHandle, victim: str) -> bool:
        """Kill a process; whether there was one."""
        pid: int | None = None
        with contextlib.suppress(OSError, ValueError):
            if victim == "runner":
                pid = handle.state().pid
            elif victim == "kernel":
                pid = int(handle.folder.kernel_lock.read_text())
            else:
                record = find_server(self.data_dir)
                pid = None if record is None else record.pid
        if pid is None:
            return False
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return False
        self.victims.append(victim)
        self._look(handle.folder)
        return True

    def _look(self, folder: RunFolder) -> None:
        """Remember how often each committed step had begun by now, and compare with before."""
        for committed in folder.path.glob("steps/**/committed"):
            parts = committed.relative_to(folder.path / "steps").parts
            name = parts[0] if len(parts) == 2 else f"{parts[0]}-{parts[2]}"
            path = self.base / "counts" / f"{folder.run_id}-{name}"
            if path.exists():
                count = path.stat().st_size
                if count != self.seen.setdefault(path.name, count):
                    self.repeated += 1

    def _end(self, handle: RunHandle) -> None:
        self.ended += 1
        self._look(handle.folder)
        record = handle.record()
        self.failed += record["status"] != "done"
        self.hashes.add(str(record["content_hash"]))

    def _figures(self, executions: int) -> list[Figure]:
        counts = {name: self.victims.count(name) for name in ("runner", "kernel", "server")}
        told = ", ".join(f"{count} {name}" for name, count in counts.items())
        same = len(self.hashes) == 1 and self.failed == 0
        return [
            Figure(
                "kills: runs that came to the same content",
                self.ended if same else 0,
                "runs",
                f"{self.ended} runs, {len(self.victims)} kills ({told})",
                "all of them",
                same,
            ),
            Figure(
                "kills: committed steps that ran again",
                self.repeated,
                "steps",
                f"{len(self.seen)} committed",
                "none",
                self.repeated == 0,
            ),
        ]
