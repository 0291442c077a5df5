from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from workbench.errors import StoreError
from workbench.locks import is_locked
from workbench.metrics import Metrics
from workbench.metrics.blobs import get_blob
from workbench.metrics.journal import LONGEST_LINE_BYTES, JournalWriter
from workbench.metrics.layout import alive, finished, live_files, writer_lock


def lines(folder: Path, table: str) -> list[dict[str, Any]]:
    """Return the rows of the live files of a table, in order."""
    files = [folder / file.name for file in live_files(folder, table)]
    return [json.loads(line) for path in files for line in path.read_bytes().splitlines()]


def test_a_row_is_on_disk_when_write_returns(folder: Path, writer: JournalWriter) -> None:
    """A kept row is a whole line of the file, with id, time, version and writer added."""
    assert writer.write("votes", {"verdict": "a"})
    (row,) = lines(folder, "votes")
    assert {"verdict": "a", "schema_v": 1, "writer_id": writer.writer_id}.items() <= row.items()
    assert 26 == len(row["id"])
    assert row["ts"].endswith("Z")


def test_nothing_is_made_before_the_first_row(folder: Path, writer: JournalWriter) -> None:
    """A writer that writes nothing leaves nothing."""
    assert not folder.exists()


def test_times_are_written_in_utc(folder: Path, writer: JournalWriter) -> None:
    """A time with a zone is converted, one without is UTC already."""
    east = datetime(2026, 1, 1, 10, tzinfo=timezone(timedelta(hours=2)))
    writer.write("requests", {"ts": east, "ended": datetime(2026, 1, 1, 10)})
    (row,) = lines(folder, "requests")
    assert ("2026-01-01T08:00:00Z", "2026-01-01T10:00:00Z") == (row["ts"], row["ended"])


@pytest.mark.parametrize(
    ("table", "row", "name"),
    [("reqests", {}, "reqests"), ("votes", {"verdct": "a"}, "verdct")],
    ids=["table", "column"],
)
def test_unknown_names_are_a_mistake(
    writer: JournalWriter, table: str, row: dict[str, Any], name: str
) -> None:
    """A table or column that does not exist raises and names itself: its data would be lost."""
    with pytest.raises(StoreError, match=name):
        writer.write(table, row)


def test_files_are_rotated(folder: Path) -> None:
    """After so many rows the file is finished, and somebody is told."""
    told: list[str] = []
    with JournalWriter(folder, max_rows=3, on_finished=told.append) as writer:
        for _ in range(7):
            writer.write("votes", {})
        files = live_files(folder, "votes")
        assert 3 == len(files)
        assert ["votes", "votes"] == told
        assert files[:2] == finished(files, alive(folder, {writer.writer_id}))


def test_all_files_are_finished_when_the_writer_closes(folder: Path) -> None:
    """Closing frees the lock; a later row begins a new life under a new name."""
    writer = JournalWriter(folder)
    writer.write("votes", {})
    first = writer.writer_id
    assert is_locked(writer_lock(folder, first))
    writer.close()
    assert not is_locked(writer_lock(folder, first))
    writer.write("votes", {})
    assert first != writer.writer_id
    writer.close()
    assert 2 == len(lines(folder, "votes"))


def test_threads_share_a_writer(folder: Path, writer: JournalWriter) -> None:
    """Rows of several threads are whole and all there."""

    def work() -> None:
        for _ in range(300):
            writer.write("votes", {"verdict": "x" * 500})

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rows = lines(folder, "votes")
    assert 1200 == len({row["id"] for row in rows}) == len({row["seq"] for row in rows})


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_writes_its_own_file(folder: Path, writer: JournalWriter) -> None:
    """After a fork both go on, each in its own file, and the child frees no lock of the parent."""
    code = (
        "import os, sys\n"
        "from workbench.metrics.journal import JournalWriter\n"
        "w = JournalWriter(sys.argv[1])\n"
        "w.write('votes', {'verdict': 'before'})\n"
        "name = w.writer_id\n"
        "if os.fork() == 0:\n"
        "    w.write('votes', {'verdict': 'child'})\n"
        "    os._exit(0)\n"
        "os.wait()\n"
        "from workbench.locks import is_locked\n"
        "from workbench.metrics.layout import writer_lock\n"
        "assert is_locked(writer_lock(w.folder, name))\n"
        "w.write('votes', {'verdict': 'parent'})\n"
        "assert name == w.writer_id\n"
    )
    subprocess.run([sys.executable, "-c", code, folder], check=True)
    rows = lines(folder, "votes")
    by_writer: dict[str, list[str]] = {}
    for row in rows:
        by_writer.setdefault(row["writer_id"], []).append(row["verdict"])
    assert [["before", "parent"], ["child"]] == sorted(by_writer.values())


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on file sizes")
def test_a_full_disk_is_reported_and_survived(folder: Path) -> None:
    """A row that does not fit is reported, leaves no half line, and the next one is kept."""
    code = (
        "import resource, signal, sys\n"
        "from workbench.metrics.journal import JournalWriter\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "told = []\n"
        "w = JournalWriter(sys.argv[1], on_refused=lambda table, error: told.append(error))\n"
        "assert w.write('votes', {'verdict': 'a'})\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))\n"
        "assert not w.write('votes', {'verdict': 'x' * 5000})\n"
        "assert (1, 1) == (w.refused, len(told)) and 'not kept' in w.error.message\n"
        "assert w.write('votes', {'verdict': 'b'}) and w.error is None\n"
    )
    subprocess.run([sys.executable, "-c", code, folder], check=True)
    assert ["a", "b"] == [row["verdict"] for row in lines(folder, "votes")]


def test_a_folder_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    """Where the store cannot be, rows are not kept and nothing is raised."""
    (tmp_path / "metrics").write_text("a file", encoding="utf-8")
    writer = JournalWriter(tmp_path / "metrics")
    assert not writer.write("votes", {})
    assert 1 == writer.refused


def test_long_texts_stand_in_files(folder: Path, writer: JournalWriter, metrics: Metrics) -> None:
    """A text over 64 kB goes to a file named by its hash, and comes back with the message."""
    text = "ж" * 70_000
    parts = [{"type": "text", "text": text}, {"type": "text", "text": "short"}]
    assert writer.write("messages", {"id": "sha", "role": "user", "parts": parts})
    (row,) = lines(folder, "messages")
    assert "short" == row["parts"][1]["text"]
    assert text == get_blob(folder, row["parts"][0]["text"]["$blob"])
    assert parts == metrics.parts("sha")


def test_many_texts_of_one_row_stand_in_files(writer: JournalWriter, metrics: Metrics) -> None:
    """Texts that are each short enough leave the line when it would be too long with them."""
    parts = [{"type": "text", "text": f"{n}" * 30_000} for n in range(10, 60)]
    assert writer.write("messages", {"id": "sha", "role": "user", "parts": parts})
    assert parts == metrics.parts("sha")


def test_a_line_that_stays_too_long_is_not_kept(writer: JournalWriter) -> None:
    """A row of too many small values is reported as not kept."""
    assert not writer.write("votes", {"id": "x", "verdict": ["y"] * (LONGEST_LINE_BYTES // 3)})
    assert writer.error is not None
    assert "too long" in writer.error.message


def test_a_value_that_json_lacks_is_not_kept(writer: JournalWriter) -> None:
    """A value that cannot be written is reported, and raises nothing in the midst of a chat."""
    assert not writer.write("requests", {"options": {"a": object()}})


def test_half_a_surrogate_pair_is_replaced(folder: Path, writer: JournalWriter) -> None:
    """Text that UTF-8 cannot hold is kept with a question mark in its place."""
    assert writer.write("votes", {"verdict": "a\ud800b"})
    assert ["a?b"] == [row["verdict"] for row in lines(folder, "votes")]


def test_fsync_keeps_rows(folder: Path) -> None:
    """With `fsync` a row is kept as without."""
    with JournalWriter(folder, fsync=True) as writer:
        assert writer.write("votes", {})
    assert 1 == len(lines(folder, "votes"))


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_killing_a_writer_loses_no_kept_row(folder: Path, metrics: Metrics) -> None:
    """What was acknowledged before a kill -9 is read back, and its lock is free."""
    code = (
        "import sys, time\n"
        "from workbench.metrics.journal import JournalWriter\n"
        "w = JournalWriter(sys.argv[1])\n"
        "for n in range(50):\n"
        "    w.write('votes', {'id': str(n)})\n"
        "print(w.writer_id, flush=True)\n"
        "time.sleep(600)\n"
    )
    command = [sys.executable, "-c", code, folder]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        writer_id = process.stdout.readline().strip()
        process.send_signal(signal.SIGKILL)
    assert not is_locked(writer_lock(folder, writer_id))
    assert 50 == metrics.sql("SELECT count(*) AS n FROM votes")["n"][0]


def test_writing_needs_no_duckdb() -> None:
    """The server writes rows and begins a compaction without loading DuckDB or pandas."""
    code = (
        "import sys, workbench.metrics.journal, workbench.metrics.spawn, workbench.metrics\n"
        "assert not {'duckdb', 'pandas', 'numpy'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
