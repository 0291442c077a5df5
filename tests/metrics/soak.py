"""Writers that are killed while they write, compactors that are killed while they seal.

`python -m tests.metrics.soak writer FOLDER` acknowledges each row on stdout after it is kept.
"""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import workbench.metrics
from workbench.metrics.compact import compact
from workbench.metrics.journal import JournalWriter
from workbench.units import sortable_id


@dataclass(slots=True)
class Counts:
    """What a soak found."""

    acknowledged: int = 0
    writer_kills: int = 0
    compactor_kills: int = 0
    queries: int = 0
    lost: int = 0
    doubled: int = 0
    reader_errors: list[str] = field(default_factory=list)
    query_s: list[float] = field(default_factory=list)


class Soak:
    """Runs writers, compactors and a reader on one store."""

    def __init__(self, folder: Path, *, writers: int, compactors: int, seed: int) -> None:
        self.folder = folder
        self.counts = Counts()
        self._random = random.Random(seed)
        self._acknowledged: set[str] = set()
        self._mutex = threading.Lock()
        self._ending = threading.Event()
        self._threads = [
            *(threading.Thread(target=self._write_on) for _ in range(writers)),
            *(threading.Thread(target=self._compact_on) for _ in range(compactors)),
        ]

    def run(self, seconds: float) -> Counts:
        """Run for so long, check with every query, and once more when all is still."""
        for thread in self._threads:
            thread.start()
        deadline = time.monotonic() + seconds
        with workbench.metrics.open(self.folder, threads=1) as metrics:
            # A busy machine may need longer before anything was killed at all.
            while time.monotonic() < deadline or not self._has_killed():
                self._look(metrics)
            self._ending.set()
            for thread in self._threads:
                thread.join()
            self._look(metrics)
        self.counts.acknowledged = len(self._acknowledged)
        return self.counts

    def _has_killed(self) -> bool:
        return min(self.counts.writer_kills, self.counts.compactor_kills) > 0

    def _look(self, metrics: workbench.metrics.Metrics) -> None:
        with self._mutex:
            expected = set(self._acknowledged)
        begun = time.perf_counter()
        try:
            found = metrics.sql(
                "SELECT id, count(*) AS n, bool_or(status = 'open') AS is_open "
                "FROM requests GROUP BY id",
                max_rows=10_000_000,
            )
        except Exception as exc:
            self.counts.reader_errors.append(repr(exc))
            return
        self.counts.query_s.append(time.perf_counter() - begun)
        self.counts.queries += 1
        self.counts.doubled += int((found["n"] > 1).sum())
        # An acknowledged row is an end; where only its beginning is seen, the end is lost.
        ended = set(found["id"][~found["is_open"].fillna(value=False)])
        self.counts.lost += len(expected - ended)

    def _write_on(self) -> None:
        while not self._ending.is_set():
            with self._process("writer") as writer:
                assert writer.stdout is not None
                killer = None
                for line in writer.stdout:
                    # Its life counts from its first row: starting takes longer than writing.
                    killer = killer or self._kill_later(writer, longest_s=1.2)
                    if line.endswith("\n"):
                        with self._mutex:
                            self._acknowledged.add(line.strip())
                if killer is not None:
                    killer.join()
                self.counts.writer_kills += 1

    def _compact_on(self) -> None:
        while not self._ending.is_set():
            with self._process("compactor") as compactor:
                assert compactor.stdout is not None
                # Its first line says that it begins; it is killed or ended in the midst of one.
                if compactor.stdout.readline():
                    self._kill_later(compactor, longest_s=3.0).join()
                    self.counts.compactor_kills += 1

    def _process(self, kind: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tests.metrics.soak", kind, str(self.folder)]
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def _kill_later(self, process: subprocess.Popen[str], *, longest_s: float) -> threading.Thread:
        delay = self._random.uniform(0.3, longest_s)

        def kill() -> None:
            self._ending.wait(delay)
            process.kill()

        thread = threading.Thread(target=kill)
        thread.start()
        return thread


def write_for_ever(folder: Path) -> None:
    """Write requests, each first as open and then as ended, and acknowledge the end."""
    # Small files, so that rotation and sealing happen all the time.
    writer = JournalWriter(folder, max_rows=500)
    out = sys.stdout
    while True:
        key = sortable_id()
        row = {"id": key, "gen_ai_request_model": "model", "options": {"seed": 1}}
        writer.write("requests", {**row, "status": "open"})
        if writer.write("requests", {**row, "status": "ok", "duration": 0.5}):
            out.write(f"{key}\n")
            out.flush()


def compact_for_ever(folder: Path) -> None:
    """Seal again and again."""
    print("begun", flush=True)
    while True:
        compact(folder, grace_s=2.0)


def run_soak(seconds: float, *, writers: int = 4, compactors: int = 2, seed: int = 1) -> Counts:
    """Run a soak in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        soak = Soak(Path(folder) / "metrics", writers=writers, compactors=compactors, seed=seed)
        return soak.run(seconds)


def main(arguments: Sequence[str]) -> None:
    """Be a writer or a compactor, or run a soak of so many seconds."""
    if arguments[0] == "writer":
        write_for_ever(Path(arguments[1]))
    if arguments[0] == "compactor":
        compact_for_ever(Path(arguments[1]))
    print(run_soak(float(arguments[0])))


if __name__ == "__main__":
    main(sys.argv[1:])
